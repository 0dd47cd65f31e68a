"""How much leakage the rules on facts leave over, estimated from pairs labelled by hand.

A held-out question may still ask for a fact that is trained on. For each, the train question that
it is most like is looked up among those that were not taken for the same fact; how often such pairs
are the same was counted, by how alike they are, on labelled pairs of real questions. Says nothing
of questions that share no accepted answer or no word, nor of two known subjects that are one.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import polars as pl
from scipy import stats  # type: ignore[import-untyped, unused-ignore]

from attrib.data.facts import fold_answers
from attrib.data.questions import Question, Split
from attrib.data.similar import LEAST_ALIKE, Pair, find_similar


@dataclass(frozen=True, slots=True)
class Band:
    """Labelled pairs that are alike up to a bound, and how many of them are one fact."""

    low: float
    high: float
    labelled: int
    same: int


BANDS = (
    Band(0.0, 0.05, 55, 0),
    Band(0.05, 0.2, 30, 4),
    Band(0.2, LEAST_ALIKE, 26, 7),
)
"""Pairs of `tests/data/fact_pairs.csv` that were not taken for one fact; a test counts them."""


@dataclass(frozen=True, slots=True)
class Nearest:
    """A held-out question and the train question that it is most like."""

    held_out: Question
    train: Question
    alike: float


def find_nearest(questions: Sequence[Question]) -> list[Nearest]:
    """Return each held-out question that is near to a train question of another fact.

    The nearest come first.
    """
    answers = [fold_answers(question) for question in questions]
    nearest: dict[str, Nearest] = {}
    for pair in find_similar(questions, answers, BANDS[0].low):
        found = _look_across(questions[pair.first], questions[pair.second], pair)
        if found is not None:
            nearest.setdefault(found.held_out.question_id, found)
    return list(nearest.values())


def estimate_leakage(nearest: Sequence[Nearest], held_out: int) -> pl.DataFrame:
    """Return the held-out questions expected to leak, with 95 % intervals, by band and in all.

    The bounds of all bands are added up, so that those of the sum cover at least 95 %.

    Args:
        nearest: what `find_nearest` found.
        held_out: all held-out questions.
    """
    rows = []
    for band in BANDS:
        count = sum(band.low <= one.alike < band.high for one in nearest)
        rate = band.same / band.labelled
        bounds = stats.binomtest(band.same, band.labelled).proportion_ci(method="wilson")
        rows.append(
            {
                "alike": f"{band.low:g} to {band.high:g}",
                "held-out": count,
                "labelled pairs": band.labelled,
                "one fact": band.same,
                "leaking": count * rate,
                "low": count * float(bounds.low),
                "high": count * float(bounds.high),
            }
        )
    names = ("held-out", "labelled pairs", "one fact", "leaking", "low", "high")
    frame = pl.DataFrame(rows)
    total = pl.DataFrame([{"alike": "in all", **{name: frame[name].sum() for name in names}}])
    share = pl.format("{} %", (100 * pl.col("leaking") / max(held_out, 1)).round(2))
    return pl.concat([frame, total]).with_columns(
        pl.col("leaking", "low", "high").round(1), share.alias(f"of {held_out} held-out questions")
    )


def _look_across(one: Question, other: Question, pair: Pair) -> Nearest | None:
    if one.fact_id == other.fact_id or one.split is other.split:
        return None
    if one.split is Split.HELD_OUT:
        return Nearest(one, other, pair.alike)
    return Nearest(other, one, pair.alike)
