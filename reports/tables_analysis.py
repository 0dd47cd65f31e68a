"""The tables of what a referee would ask: parts of gains, answers, crossings, probability moved.

Owns which columns are shown and how their cells read, and the sentences that read them.
"""

from collections.abc import Sequence

import numpy as np

from attrib.reports.kinds import MEANINGS, TITLES, list_kinds, order_parts
from attrib.reports.records_arms import Arm
from attrib.reports.records_training import BucketTransitions, MassMove, PassRun
from attrib.reports.tables import Column, Kind, Table, make_table
from attrib.reports.text import (
    UNKNOWN,
    count,
    number_interval,
    percent,
    percent_interval,
    plural,
    points,
    points_interval,
    show,
)

GREEDY_ANSWERS = {
    "one_answer": "Name one answer",
    "accuracy_of_one_answer": "… of these right",
    "several_answers": "Several answers",
    "no_answer": "None of the relation",
    "cut_off": "Cut off",
}
SAMPLED_ANSWERS = {
    "top_answer_share": "Share of the most frequent answer",
    "answer_entropy": "Entropy, nats",
    "brier": "Brier score",
    "overconfidence": "Given more often than right, points",
    "calibration_error": "Calibration error (of one that is calibrated)",
}
MASS_EDGES = (1e-4, 1e-3, 1e-2, 1e-1, 0.5)
_MASS_CLASSES = ("< 0.01 %", "0.01–0.1 %", "0.1–1 %", "1–10 %", "10–50 %", "≥ 50 %")


def tabulate_part_overview(arms: Sequence[Arm], kind: str) -> Table:
    """Return what each group adds to the gain of each of these arms."""
    split = [arm for arm in arms if any(part.kind == kind for part in arm.parts)]
    sizes: dict[str, int] = {}
    for arm in split:
        for part in order_parts(arm.parts, kind):
            sizes[part.label] = max(sizes.get(part.label, 0), part.gain.questions)
    found = [{part.label: part for part in order_parts(arm.parts, kind)} for arm in split]
    meaning = [Column("Meaning")] if any((kind, label) in MEANINGS for label in sizes) else []
    return make_table(
        f"{TITLES[kind]}: points that each group of held-out questions adds to the gain",
        [
            Column("Group", Kind.LABEL),
            *meaning,
            "Questions",
            *(show(arm.compared_label, 60) for arm in split),
        ],
        [
            (
                show(label, 60),
                *([MEANINGS.get((kind, label), "")] if meaning else []),
                count(questions),
                *(
                    points_interval(parts[label].gain if label in parts else None)
                    for parts in found
                ),
            )
            for label, questions in sizes.items()
        ],
    )


def tabulate_parts(arm: Arm) -> Table:
    """Return all groups of one arm: their part of the gain, and their own gain."""
    seeds = max((part.gain.seeds for part in arm.parts), default=0)
    return make_table(
        f"“{show(arm.compared_label)}” by group of held-out questions, in points; "
        f"{plural(seeds, 'seed')}; 95\u00a0% intervals",
        [
            "Grouped by",
            Column("Group"),
            "Questions",
            "Part of the gain",
            "learned",
            "lost",
            "Gain of the group itself",
        ],
        [
            (
                TITLES[kind],
                show(part.label, 60),
                count(part.gain.questions),
                points_interval(part.gain),
                points_interval(part.learned),
                points_interval(part.lost),
                points_interval(part.within),
            )
            for kind in list_kinds([arm])
            for part in order_parts(arm.parts, kind)
        ],
    )


def tabulate_bucket_transitions(rows: Sequence[BucketTransitions]) -> Table:
    """Return how many training questions of each bucket were learned and lost."""
    return make_table(
        "Training questions by bucket, greedy answers before and after; summed over seeds",
        [
            "Arm",
            Column("Bucket", Kind.LABEL),
            "Learned",
            "Lost",
            "Kept",
            "Still wrong",
            "Ungraded",
        ],
        [
            (
                show(row.arm.marked_label),
                show(row.bucket),
                count(row.learned),
                count(row.lost),
                count(row.kept),
                count(row.still_wrong),
                count(row.ungraded),
            )
            for row in rows
        ],
    )


def tabulate_answers(base: Arm | None, arms: Sequence[Arm], names: dict[str, str]) -> Table:
    """Return rates of answers before RL and after each arm."""
    shown = [arm for arm in (base, *arms) if arm is not None and set(names) & set(arm.answers)]
    rows = []
    for arm in shown:
        first = next(arm.answers[name] for name in names if name in arm.answers)
        cells = [_answer_cell(arm, name) for name in names]
        rows.append((show(arm.compared_label), count(first.questions), count(first.seeds), *cells))
    what = "Greedy" if names is GREEDY_ANSWERS else "Sampled"
    return make_table(
        f"{what} answers to held-out questions; 95\u00a0% intervals",
        ["Arm", "Questions", "Seeds", *names.values()],
        rows,
    )


def _answer_cell(arm: Arm, name: str) -> str:
    found = arm.answers.get(name)
    if name in ("answer_entropy", "brier"):
        return number_interval(found, 2)
    if name == "overconfidence":
        return points_interval(found)
    if name == "calibration_error" and found is not None:
        return f"{percent(found.value, 1)} ({_read_chance(found.detail)})"
    return percent_interval(found)


def _read_chance(detail: str) -> str:
    """Return `2.4 %` of `0.0239 on average if perfectly calibrated`."""
    number = detail.partition(" ")[0]
    return percent(float(number), 1) if number.replace(".", "", 1).isdecimal() else show(detail)


def describe_answers(base: Arm | None, full: Arm | None) -> str:
    """Return how often greedy answers name one answer, and how often it is right then."""
    pairs: list[str] = []
    for name, words in (
        ("one_answer", "name one answer of the relation"),
        ("accuracy_of_one_answer", "and are right when they do"),
    ):
        ends = [arm.answers.get(name) if arm else None for arm in (base, full)]
        if ends[0] is None or ends[1] is None:
            return ""
        pairs.append(
            f"{percent_interval(ends[0])} of them {words} before RL, {percent_interval(ends[1])} "
            "after training on everything"
            if not pairs
            else f"{words} {percent_interval(ends[0])} and {percent_interval(ends[1])} of the time"
        )
    questions = full.answers["one_answer"].questions if full else 0
    return f"Of greedy answers to {plural(questions, 'held-out question')}, {pairs[0]}; {pairs[1]}."


def tabulate_crossings(runs: Sequence[PassRun]) -> Table:
    """Return pass@k gained by every run, what one attempt is worth, and whether curves cross."""
    ends: tuple[int, ...] = ()
    if runs:
        k_K = runs[0].crossing.comparison.k_K
        ends = (int(k_K[0]), int(k_K[-1]))
    rows = []
    for run in runs:
        compared = run.crossing.comparison
        gained = [
            f"{points(float(compared.difference_K[at]))} "
            f"[{points(float(compared.band_low_K[at]))}, {points(float(compared.band_high_K[at]))}]"
            for at in (0, -1)
        ]
        rows.append(
            (
                show(run.arm.marked_label),
                count(run.seed),
                count(compared.questions),
                *gained,
                describe_equivalent(run),
                str(run.crossing.verdict),
            )
        )
    return make_table(
        "Pass@k after minus before, in points, with 95\u00a0% bands that hold at all k together; "
        "one run each, intervals over questions",
        [
            "Arm",
            "Seed",
            "Questions",
            *(f"pass@{k}" for k in ends),
            "Attempts of the base that one is worth",
            Column("Curves"),
        ],
        rows,
    )


def describe_equivalent(run: PassRun) -> str:
    """Return how many attempts of the base one of the run is worth, with its interval."""
    found = run.equivalent
    low = "under 1" if found.low is None else f"{found.low:.1f}"
    high = f"over {found.largest_k}" if found.high is None else f"{found.high:.1f}"
    if found.value is not None:
        value = f"{found.value:.1f}"
    elif (found.low is None) == (found.high is None):
        value = UNKNOWN
    else:  # so far outside that one bound is, too
        value = high if found.high is None else low
    return f"{value} [{low}, {high}]"


def describe_crossings(runs: Sequence[PassRun]) -> str:
    """Return what one attempt of the full arm is worth, and what is said of crossings."""
    full = [run for run in runs if run.arm.subset == "full"] or list(runs)[:1]
    if not full:
        return ""
    worth = "; ".join(f"{describe_equivalent(run)} (seed {run.seed})" for run in full)
    verdicts = "; ".join(dict.fromkeys(str(run.crossing.verdict) for run in full)).capitalize()
    return (
        f"One attempt of “{show(full[0].arm.label)}” is worth so many of the base, with 95\u00a0% "
        f"intervals: {worth}. {_describe_power(full[0])} Do the curves cross? {verdicts}."
    )


def _describe_power(run: PassRun) -> str:
    """Return what difference between two curves this study could see."""
    found, compared = run.crossing.detectable_difference, run.crossing.comparison
    some = "no difference" if found is None else f"a difference of {100 * found:.0f} points or more"
    return (
        f"With {plural(compared.questions, 'question')} {some} at "
        f"k\u00a0=\u00a0{int(compared.k_K.max())} would be seen with 80\u00a0% power."
    )


def tabulate_mass_move(move: MassMove) -> Table:
    """Return questions by the probability of a right answer before (rows) and after (columns)."""
    before_Q, after_Q = (np.digitize(one, MASS_EDGES) for one in (move.before_Q, move.after_Q))
    counts = np.zeros((len(_MASS_CLASSES),) * 2, dtype=np.int64)
    np.add.at(counts, (before_Q, after_Q), 1)
    return make_table(
        f"“{show(move.arm.marked_label)}”: questions by probability of an accepted answer, before "
        "(rows) and after (columns)",
        [Column("Before", Kind.LABEL), *_MASS_CLASSES, "All"],
        [
            (name, *(count(int(one)) for one in row), count(int(row.sum())))
            for name, row in zip(_MASS_CLASSES, counts, strict=True)
        ],
    )


def describe_mass_move(move: MassMove) -> str:
    """Return for how many questions the probability rose, and how many became likely."""
    before_Q, after_Q = np.array(move.before_Q), np.array(move.after_Q)
    rose, total = int((after_Q > before_Q).sum()), before_Q.size
    unlikely_Q = before_Q < 0.01
    surfaced = int((unlikely_Q & (after_Q >= 0.1)).sum())
    return (
        f"“{show(move.arm.label)}”: the probability rose for {count(rose)} of "
        f"{plural(total, 'question')}; of {count(int(unlikely_Q.sum()))} under 1\u00a0% before, "
        f"{count(surfaced)} reached 10\u00a0% or more."
    )
