"""The tables about arms: what they are, their effects, their controls, their runs.

Owns which columns are shown and how their cells read. An arm that did not end as planned keeps its
row and is marked.
"""

from collections.abc import Iterable, Sequence

from attrib.reports.claims import PAPER_SHARES, share_of_data
from attrib.reports.design import describe_seeds
from attrib.reports.findings import ALONE, describe_finding, explain_missing_share
from attrib.reports.records import Study
from attrib.reports.records_arms import Arm, Comparison, Run, Trained
from attrib.reports.records_training import Experiment
from attrib.reports.tables import Column, Kind, Table, describe_common_questions, make_table
from attrib.reports.text import (
    UNKNOWN,
    count,
    duration,
    p_value,
    percent,
    percent_interval,
    plural,
    points_interval,
    show,
)
from attrib.reports.values import is_defined
from attrib.roles import Role

_MEANINGS = {
    Role.FULL: "trained on all bucketed questions",
    Role.ONLY: "trained on the subset alone",
    Role.ALL_BUT: "trained on everything but the subset",
    Role.MATCHED_RANDOM: "as many questions as the subset has, drawn from all of them, anew for "
    "every seed",
    Role.MATCHED_COMPLEMENT: "as many questions as the subset has, or all there are, from outside "
    "it, drawn anew for every seed",
    Role.MATCHED_SUBSET: "questions of the subset, as many as there are outside it, where these "
    "are fewer; drawn anew for every seed",
    Role.COALITION: "trained on several buckets together, for Shapley values",
    Role.IMPORTED: "trained elsewhere, evaluated here",
}


def tabulate_roles(experiment: Trained) -> Table:
    """Return what kinds of arms there are, with their subsets and seeds."""
    everything = [*experiment.arms, *experiment.coalitions]
    rows = []
    for role in Role:
        mine = [arm for arm in everything if arm.role is role]
        if not mine:
            continue
        subsets = ", ".join(show(arm.subset) for arm in mine)
        subsets = UNKNOWN if role is Role.FULL else subsets
        if role is Role.COALITION:
            subsets = f"{plural(len(mine), 'union')} of buckets"
        seeds = "1 model" if role is Role.IMPORTED else describe_seeds(mine)
        rows.append((role.value, _MEANINGS[role], subsets, seeds))
    return make_table("Arms", ["Role", Column("Meaning"), Column("Subsets"), Column("Runs")], rows)


def tabulate_effects(experiment: Experiment) -> Table:
    """Return accuracy, gain, share and test of every arm, the base first.

    How many questions they rest on is said once in the caption where it is the same for all.
    """
    arms = [*([experiment.base] if experiment.base else []), *experiment.arms]
    grounds = {arm.accuracy.questions for arm in arms if arm.accuracy}
    caption = "Held-out accuracy, gain, and share of the full arm's gain, with 95\u00a0% intervals"
    varying: list[str] = ["Held-out questions"]
    if len(grounds) == 1:
        caption += f"; {plural(grounds.pop(), 'held-out question')}"
        varying = []
    return make_table(
        caption,
        [
            "Arm",
            Column("Status", Kind.STATUS),
            "Training questions",
            "Seeds",
            *varying,
            "Budget",
            "Accuracy",
            "Gain, points",
            "Share of full gain",
            "p against base (Holm)",
        ],
        [_effect_cells(experiment, arm, bool(varying)) for arm in arms],
    )


def _effect_cells(experiment: Experiment, arm: Arm, with_questions: bool) -> tuple[str, ...]:
    is_base = arm is experiment.base
    is_full = arm.role is Role.FULL
    share = UNKNOWN if is_base or is_full else show_share(experiment, arm)
    seeds = arm.accuracy.seeds if arm.accuracy else None
    return (
        show(arm.label),
        arm.status,
        count(arm.questions if arm.runs and not is_base else None),
        count(seeds),
        *((count(arm.accuracy.questions if arm.accuracy else None),) if with_questions else ()),
        UNKNOWN if is_base else show_fraction(arm),
        percent_interval(arm.accuracy, 1),
        UNKNOWN if is_base else points_interval(arm.gain),
        share,
        p_value(arm.gain_p),
    )


def tabulate_findings(experiment: Experiment) -> Table:
    """Return what each arm shows, in words."""
    return make_table(
        "What each arm shows",
        ["Arm", Column("What this shows")],
        [
            (show(arm.label), show(describe_finding(experiment, arm), 500))
            for arm in experiment.arms
        ],
    )


def show_fraction(arm: Arm) -> str:
    """Return at which part of its budget an arm's numbers hold."""
    if arm.role is Role.IMPORTED or arm.gain is None:
        return UNKNOWN
    if arm.compared_at is None:
        return f"end, {percent(arm.gain.fraction)}"
    return percent(arm.compared_at)


def show_share(experiment: Trained, arm: Arm) -> str:
    """Return the share of the full arm's gain, or that it is undefined."""
    if is_defined(arm.share) or not explain_missing_share(experiment, arm):
        return percent_interval(arm.share)
    return "undefined" if arm.share is not None else UNKNOWN


def tabulate_controls(experiment: Trained) -> Table:
    """Return each subset alone against as many random, and as many other, questions."""
    rows = []
    for arm in experiment.arms:
        if arm.role not in ALONE:
            continue
        random = experiment.find(Role.MATCHED_RANDOM, arm.subset)
        others = experiment.find(Role.MATCHED_COMPLEMENT, arm.subset)
        rows.append(
            (
                show(arm.label),
                points_interval(arm.gain),
                *_comparison_cells(arm.random, arm, random),
                *_comparison_cells(arm.complement, arm, others),
                _common_fraction(arm),
                _grounds(arm),
            )
        )
    return make_table(
        "Gain of each subset alone, and minus that of as many questions drawn at random, from all "
        "of them or from outside it; in points",
        [
            "Arm",
            "Gain",
            "Minus random",
            "p (Holm)",
            "Minus others",
            "p (Holm)",
            "Budget",
            "Questions, seeds",
        ],
        rows,
    )


def tabulate_pairs(experiment: Trained) -> Table:
    """Return each pair of subsets alone: how much more the first gained."""
    rows = [
        (
            show(arm.label),
            show(other),
            points_interval(difference),
            percent(difference.fraction),
            f"{count(difference.questions)}, {count(difference.seeds)}",
        )
        for arm in experiment.arms
        for other, difference in arm.others.items()
    ]
    return make_table(
        "Two subsets alone: the gain of the first minus that of the second, in points, with "
        "95\u00a0% intervals",
        ["Arm", Column("Minus only", Kind.LABEL), "Difference", "Budget", "Questions, seeds"],
        rows,
    )


def _comparison_cells(
    comparison: Comparison | None, arm: Arm, control: Arm | None
) -> tuple[str, str]:
    if comparison is not None:
        return points_interval(comparison.difference), p_value(comparison.p)
    if control is None:
        return "no such arm", UNKNOWN
    status = control.status if arm.is_compared else arm.status
    return f"not comparable ({status})", UNKNOWN


def _grounds(arm: Arm) -> str:
    found = [one.difference for one in (arm.random, arm.complement) if one is not None]
    pairs = dict.fromkeys((one.questions, one.seeds) for one in found)
    return (
        " / ".join(f"{count(questions)}, {count(seeds)}" for questions, seeds in pairs) or UNKNOWN
    )


def _common_fraction(arm: Arm) -> str:
    found = [one.difference.fraction for one in (arm.random, arm.complement) if one is not None]
    return " / ".join(dict.fromkeys(percent(one) for one in found)) or UNKNOWN


def tabulate_runs(experiment: Experiment) -> Table:
    """Return what every training run spent, and where it came out."""
    runs = list(_each_run([*experiment.arms, *experiment.coalitions]))
    over, varying = describe_common_questions([run.accuracy for _, run in runs])
    return make_table(
        f"Every training run: what it spent, and where it came out{over}",
        [
            "Arm",
            "Seed",
            Column("Status", Kind.STATUS),
            "Updates",
            "Rollouts",
            "Visits",
            "Groups used",
            "Gradient tokens",
            "Time",
            *varying,
            "Accuracy",
            "McNemar p",
        ],
        [
            (
                _name_at(arm, run),
                str(run.seed),
                run.status,
                count(run.updates),
                count(run.rollouts),
                count(run.visits),
                count(run.informative_groups),
                count(run.gradient_tokens),
                duration(run.wall_seconds),
                *([count(run.accuracy.questions if run.accuracy else None)] if varying else []),
                percent_interval(run.accuracy, 1),
                p_value(run.mcnemar_p),
            )
            for arm, run in runs
        ],
    )


def _name_at(arm: Arm, run: Run) -> str:
    """Return an arm's name, and at which part of the budget the run's accuracy was measured."""
    fraction = run.accuracy.fraction if run.accuracy else 1.0
    return show(arm.label) + (f" (at {percent(fraction)})" if fraction != 1 else "")


def _each_run(arms: Iterable[Arm]) -> Iterable[tuple[Arm, Run]]:
    """Yield every run once, under the first arm it serves."""
    seen = set()
    for arm in arms:
        for run in arm.runs:
            if run.arm_id not in seen:
                seen.add(run.arm_id)
                yield arm, run


def tabulate_shares(study: Study, experiment: Experiment) -> Table:
    """Return share of data against share of gain."""
    return make_table(
        "Share of the training questions and share of the full arm's gain",
        ["Arm", "Share of data", "Share of gain", "Budget", Column("Remark")],
        [
            (
                show(arm.label),
                percent(share_of_data(study, arm)),
                percent_interval(arm.share),
                show_fraction(arm),
                show("; ".join(filter(None, [_status_remark(arm), missing])), 500),
            )
            for arm in experiment.arms
            if arm is not experiment.full
            for missing in [explain_missing_share(experiment, arm)]
        ],
    )


def tabulate_claim(study: Study, arms: Sequence[Arm]) -> Table:
    """Return share of data against share of gain of these arms, and what the paper reports."""
    rows = [
        (
            show(arm.compared_label),
            percent(share_of_data(study, arm)),
            percent_interval(arm.share),
            *((count(one.questions), count(one.seeds)) if one else (UNKNOWN, UNKNOWN)),
        )
        for arm in arms
        for one in [arm.share or arm.gain]
    ]
    data, gain = (percent(one) for one in PAPER_SHARES)
    return make_table(
        "Share of the training questions and of the full arm's gain, with 95\u00a0% intervals",
        ["Trained on", "Share of data", "Share of gain", "Held-out questions", "Seeds"],
        [*rows, ("never-correct, in the paper", data, gain, "other models", UNKNOWN)],
    )


def tabulate_run_ids(experiment: Experiment) -> Table:
    """Return the identities of the runs, the base included."""
    base = [experiment.base] if experiment.base else []
    return make_table(
        "Training runs",
        [
            "Arm",
            "Seed",
            Column("Id", Kind.CODE),
            Column("Method", Kind.CODE),
            Column("Remark", Kind.QUOTE),
        ],
        [
            (show(arm.label), str(run.seed), run.arm_id, show(run.method), show(run.detail))
            for arm, run in _each_run([*base, *experiment.arms, *experiment.coalitions])
        ],
    )


def _status_remark(arm: Arm) -> str:
    if arm.finished or arm.status == "planned":
        return "" if arm.finished else "planned"
    return arm.status if arm.is_compared else f"{arm.status}: not comparable"
