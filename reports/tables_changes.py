"""The tables of how answers changed, of a vote before training, and of what hangs on the cut.

Owns which columns are shown and how their cells read. All numbers are rows of the table `effects`.
"""

from collections.abc import Mapping, Sequence

import polars as pl

from attrib.analyses import CHANGED, CUTS, LENGTHS, MASSES, VOTES
from attrib.reports.collect_arms import bucket_order
from attrib.reports.records_arms import Arm
from attrib.reports.tables import Column, Table, make_table
from attrib.reports.text import (
    count,
    number_interval,
    percent_interval,
    plural,
    points_interval,
    show,
)
from attrib.reports.values import Estimate
from attrib.roles import Role

_NAMES = {
    "one_answer": "Name one answer, %",
    "several_answers": "Several answers, %",
    "no_answer": "None of the relation, %",
    "cut_off": "Cut off, %",
    "answer_tokens": "Length in tokens",
    "answer_characters": "Length in characters",
    "mass_of_answers": "Probability of the accepted answers, %",
    "mass_of_phrasings": "… and of the base's right phrasings, %",
    "mass_of_samples": "… of its own right samples, %",
}
_CUT_NAMES = {
    "cut_gain_share": "Share of the gain on them",
    "cut_gradient_share": "Share of the gradient",
    "cut_rewarded": "Ever with a right rollout",
}
_Cells = Mapping[tuple[str, str, str, str], Estimate]


def tabulate_changes(base: Arm | None, arms: Sequence[Arm]) -> Table:
    """Return what greedy answers were like before RL, and each arm's change, paired."""
    shown = [arm for arm in arms if any(f"{name}_change" in arm.answers for name in CHANGED)]
    names = [name for name in CHANGED if base is not None and name in base.answers]
    first = next((arm.answers[f"{name}_change"] for arm in shown for name in names
                  if f"{name}_change" in arm.answers), None)  # fmt: skip
    over = f"; {plural(first.questions, 'held-out question')}" if first else ""
    before = base.answers if base is not None else {}
    return make_table(
        f"Greedy answers before RL, and each arm less these, in points{over}; 95\u00a0% intervals",
        [Column("Answers"), "before RL", *(f"{show(arm.label, 60)} (seeds: {_seeds(arm)})"
                                           for arm in shown)],
        [
            (
                _NAMES[name],
                _show(name, before.get(name)),
                *(_show(f"{name}_change", arm.answers.get(f"{name}_change")) for arm in shown),
            )
            for name in names
            if shown
        ],
    )  # fmt: skip


def tabulate_levels(base: Arm | None, arms: Sequence[Arm]) -> Table:
    """Return lengths of greedy answers and probabilities of right ones, before RL and after."""
    everything = [arm for arm in (base, *arms) if arm is not None]
    names = [name for name in (*LENGTHS, *MASSES) if any(name in arm.answers for arm in everything)]
    return make_table(
        "Length of greedy answers, and probability of right ones, by arm; 95\u00a0% intervals",
        ["Arm", "Seeds", *(_NAMES[name] for name in names)],
        [
            (
                show(arm.compared_label),
                _seeds(arm),
                *(_show(name, arm.answers.get(name)) for name in names),
            )
            for arm in everything
            if set(names) & set(arm.answers)
        ],
    )


def tabulate_votes(effects: pl.DataFrame, arms: Sequence[Arm]) -> Table:
    """Return the vote of the base by place, and what one greedy answer of each arm gains on it."""
    cells = _read(effects)
    votes = sorted(
        {(on, int(name.removeprefix("maj@"))) for role, _, name, on in cells
         if role == Role.BASE and name.startswith("maj@")},
        key=lambda vote: (_order_place(vote[0]), vote[1]),
    )  # fmt: skip
    most = {on: max(k for place, k in votes if place == on) for on, _ in votes}
    base = {(name, on): one for (role, _, name, on), one in cells.items() if role == Role.BASE}
    shown = [arm for arm in arms if any((arm.role, arm.subset, VOTES, on) in cells for on in most)]
    return make_table(
        "A vote before training, and points that one greedy answer after it gains on the largest "
        "vote; 95\u00a0% intervals",
        ["Questions", "Number", "Votes", "Vote is right", *(show(arm.label, 60) for arm in shown)],
        [
            (
                _name_place(on),
                count(base[f"maj@{k}", on].questions),
                count(k),
                percent_interval(base[f"maj@{k}", on]),
                *(
                    points_interval(cells.get((arm.role, arm.subset, VOTES, on)))
                    if k == most[on]
                    else ""
                    for arm in shown
                ),
            )
            for on, k in votes
        ],
    )


def tabulate_cuts(effects: pl.DataFrame, place: str) -> Table:
    """Return what of the full arm falls to questions under each cut of never-correct.

    `place` is `train` or `held-out`.
    """
    cells = {(on, name): one for (_, _, name, on), one in _read(effects).items()
             if name in CUTS and on.startswith(f"{place}:cut=")}  # fmt: skip
    cuts = sorted({int(on.rpartition("=")[2]) for on, _ in cells})
    names = [name for name in CUTS if any(found == name for _, found in cells)]
    what = "training questions" if place == "train" else "held-out questions, by the base's samples"
    return make_table(
        f"The full arm on its {what}: what falls to those with at most so many right",
        [
            "Right, at most",
            "Questions",
            *(_CUT_NAMES[name] for name in names),
        ],
        [
            (
                count(cut),
                count(max(one.questions for (on, _), one in cells.items()
                          if on == f"{place}:cut={cut}")),
                *(percent_interval(cells.get((f"{place}:cut={cut}", name))) for name in names),
            )
            for cut in cuts
        ],
    )  # fmt: skip


def _read(effects: pl.DataFrame) -> _Cells:
    """Return estimates by role, subset, statistic and place, at the largest fraction."""
    columns = ("role", "subset", "statistic", "evaluated_on")
    numbers = ("value", "low", "high", "seeds", "questions", "fraction", "detail")
    rows = effects.sort("fraction").select(*columns, *numbers).iter_rows()
    return {(row[0], row[1], row[2], row[3]): Estimate(*row[4:]) for row in rows}


def _order_place(on: str) -> tuple[str, tuple[int, str]]:
    """Return the key that puts buckets in their order, and all other places by name."""
    place, _, bucket = on.partition(":")
    return place, bucket_order(bucket) if place == "train" and bucket else (-1, on)


def _name_place(on: str) -> str:
    words = on.replace("train:", "training, ").replace("held-out:", "held-out, ")
    return "training" if on == "train" else show(words.replace("=", " "), 60)


def _seeds(arm: Arm) -> str:
    return count(max((one.seeds for one in arm.answers.values()), default=None))


def _show(statistic: str, found: Estimate | None) -> str:
    name, is_change = statistic.removesuffix("_change"), statistic.endswith("_change")
    if name in LENGTHS:
        return number_interval(found, 1, signed=is_change)
    digits = 2 if name in MASSES else 1
    return points_interval(found, digits) if is_change else percent_interval(found, digits)
