"""A vote among many samples before training against one greedy answer after it.

Owns the comparison of maj@n of the base, n being all its samples of a question, with each arm's
greedy answers to the same questions, in groups of these. Answers that tie for most votes share the
win, so that a question counts between 0 and 1. Questions with fewer samples than the others are
left out.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl

from attrib.analysis.checks import BoolArray, FloatArray
from attrib.analysis.intervals import Interval
from attrib.analysis.majority import majority_at_k
from attrib.analysis.passk import mean_at_k
from attrib.analysis.values import change_over_seeds
from attrib.attribution.ballots import list_votes, spread
from attrib.attribution.effect import Effect, make_effect
from attrib.attribution.outcomes import Outcomes, Place

Groups = Mapping[str, BoolArray]
"""Where effects are said to be evaluated, and which of the questions that is, shape (Q,)."""


@dataclass(frozen=True, slots=True, eq=False)
class Before:
    """What a vote of the base gives; questions in the order of those that it was made for.

    Attributes:
        n: samples of each question.
        counted: the votes of those that have so many.
        has_votes_Q: which these are, shape (Q,).
        win_Q: how far the vote is right, shape (Q,), 0 where there is none.
    """

    n: int
    counted: pl.DataFrame
    has_votes_Q: BoolArray
    win_Q: FloatArray


def hold_vote(counted: pl.DataFrame, question_ids: Sequence[str]) -> Before | None:
    """Return the vote on each question from the base's counts, None where nobody voted."""
    found = spread(counted.filter(pl.col("question_id").is_in(list(question_ids))))
    if found.is_empty():
        return None
    n = int(found["n"].max())  # type: ignore[arg-type]
    full = found.filter(pl.col("n") == n)
    win = dict(full.select("question_id", "win").iter_rows())
    return Before(
        n,
        counted.filter(pl.col("question_id").is_in(full["question_id"].implode())),
        np.array([question_id in win for question_id in question_ids]),
        np.array([win.get(question_id, 0.0) for question_id in question_ids], np.float64),
    )


def describe_curve(before: Before, base: Place, on: str) -> Iterator[Effect]:
    """Yield maj@k of the base for k = 1, 2, 4, … n, over all questions."""
    k_K = np.unique([*(2**i for i in range(before.n.bit_length())), before.n])
    found = majority_at_k(list_votes(before.counted), k_K, np.random.default_rng(0))
    curve = mean_at_k(found.value_QK, k_K, np.random.default_rng(0))
    for k, value, low, high in zip(k_K, curve.mean_K, curve.low_K, curve.high_K, strict=True):
        interval = Interval(float(value), float(low), float(high))
        yield make_effect(base, f"maj@{k}", on, 0.0, interval, 1, curve.questions)


def describe_votes(before: Before, base: Place, groups: Groups) -> Iterator[Effect]:
    """Yield maj@n of the base in each group of questions."""
    for on, member_Q in groups.items():
        chosen_Q = member_Q & before.has_votes_Q
        if chosen_Q.any():
            win_QK = before.win_Q[chosen_Q][:, None]
            curve = mean_at_k(win_QK, [before.n], np.random.default_rng(0))
            interval = Interval(*(float(x[0]) for x in (curve.mean_K, curve.low_K, curve.high_K)))
            size = (1, int(chosen_Q.sum()))
            yield make_effect(base, f"maj@{before.n}", on, 0.0, interval, *size)


def compare_votes(
    before: Before, place: Place, at: float, after_SQ: Outcomes, groups: Groups
) -> Iterator[Effect]:
    """Yield greedy accuracy after training minus maj@n before it, in each group of questions."""
    for on, member_Q in groups.items():
        chosen_Q = member_Q & before.has_votes_Q
        if chosen_Q.any():
            change = change_over_seeds(before.win_Q[chosen_Q], after_SQ[:, chosen_Q])
            size = (len(after_SQ), int(chosen_Q.sum()))
            yield make_effect(place, "gain_over_majority", on, at, change, *size)
