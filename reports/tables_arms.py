"""The tables about training: effects, spending, shares, ledger, curves, transitions.

Owns which columns are shown and how their cells read. An arm that did not end as planned keeps its
row and is marked.
"""

from collections.abc import Sequence

from attrib.reports.claims import explain_missing_share, share_of_data
from attrib.reports.records import (
    Arm,
    Change,
    Experiment,
    LedgerRow,
    Study,
    TrainingCurve,
    Transitions,
)
from attrib.reports.tables import Column, Kind, Table, join_answers, make_table, span
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


def tabulate_effects(study: Study, experiment: Experiment) -> Table:
    """Return accuracy, gain, share and test of every arm, the base first.

    How many questions and seeds they rest on is said once in the caption where it is the same for
    all.
    """
    arms = [*([experiment.base] if experiment.base else []), *experiment.arms]
    grounds = {(arm.accuracy.questions, arm.accuracy.seeds) for arm in arms if arm.accuracy}
    caption = "Held-out accuracy, gain, and share of the full arm's gain, with 95\u00a0% intervals"
    varying: list[str] = ["Held-out questions", "Seeds"]
    if len(grounds) == 1:
        [(questions, seeds)] = grounds
        caption += f"; {plural(questions, 'held-out question')}, {plural(seeds, 'seed')}"
        varying = []
    return make_table(
        caption,
        [
            "Arm",
            Column("Status", Kind.STATUS),
            "Training questions",
            "Accuracy",
            "Gain, points",
            "Share of full gain",
            "McNemar p",
            *varying,
        ],
        [_effect_cells(study, experiment, arm, bool(varying)) for arm in arms],
    )


def _effect_cells(
    study: Study, experiment: Experiment, arm: Arm, with_grounds: bool
) -> tuple[str, ...]:
    is_base = arm is experiment.base
    questions = UNKNOWN
    if arm.runs and not is_base:
        questions = f"{count(arm.questions)} ({percent(share_of_data(study, arm))})"
    share = percent_interval(arm.share)
    if arm is experiment.full and arm.status == "done":
        share = "100\u00a0%, by definition"
    elif not is_base and explain_missing_share(experiment, arm):
        share = "undefined"
    grounds = (
        count(arm.accuracy.questions if arm.accuracy else None),
        count(arm.accuracy.seeds if arm.accuracy else None),
    )
    return (
        show(arm.label),
        arm.status,
        questions,
        percent_interval(arm.accuracy, 1),
        UNKNOWN if is_base else points_interval(arm.gain),
        UNKNOWN if is_base else share,
        p_value(arm.mcnemar_p),
        *(grounds if with_grounds else ()),
    )


def tabulate_runs(experiment: Experiment) -> Table:
    """Return what every training run spent."""
    return make_table(
        "What each training run spent",
        [
            "Arm",
            "Seed",
            Column("Status", Kind.STATUS),
            "Updates",
            "Rollouts drawn",
            "Groups drawn",
            "Informative groups used",
            "Gradient tokens",
            "Wall time",
        ],
        [
            (
                show(arm.label),
                str(run.seed),
                run.status,
                count(run.updates),
                count(run.rollouts),
                count(run.groups),
                count(run.informative_groups),
                count(run.gradient_tokens),
                duration(run.wall_seconds),
            )
            for arm in experiment.arms
            for run in arm.runs
        ],
    )


def tabulate_shares(study: Study, experiment: Experiment) -> Table:
    """Return share of data against share of gain."""
    return make_table(
        "Share of the training questions and share of the full arm's gain",
        ["Arm", "Share of data", "Share of gain", Column("Remark")],
        [
            (
                show(arm.label),
                percent(share_of_data(study, arm)),
                percent_interval(arm.share),
                "; ".join(
                    filter(None, [_status_remark(arm), explain_missing_share(experiment, arm)])
                ),
            )
            for arm in experiment.arms
            if arm is not experiment.full
        ],
    )


def tabulate_ledger(rows: Sequence[LedgerRow]) -> Table:
    """Return visits and gradient weight by arm and bucket."""
    return make_table(
        "Visits of training questions by arm and bucket",
        [
            "Arm",
            Column("Bucket", Kind.LABEL),
            "Visits",
            "with a correct rollout",
            "informative",
            "informative share",
            "Gradient weight",
        ],
        [
            (
                show(row.arm),
                show(row.bucket),
                count(row.visits),
                count(row.with_correct),
                count(row.informative),
                percent(row.informative / row.visits),
                percent(row.gradient_share),
            )
            for row in rows
        ],
    )


def tabulate_curve(curve: TrainingCurve) -> Table:
    """Return one arm's training curve."""
    return make_table(
        f"Training of the arm “{show(curve.arm)}”",
        [
            "Updates",
            "Rollouts",
            "Correct",
            "Correct rate",
            "Groups",
            "Informative",
            "Informative share",
        ],
        [
            (
                span(point.first_step, point.last_step),
                count(point.rollouts),
                count(point.correct),
                percent(point.correct / point.rollouts if point.rollouts else None, 1),
                count(point.groups),
                count(point.informative),
                percent(point.informative / point.groups if point.groups else None, 1),
            )
            for point in curve.points
        ],
    )


def tabulate_transitions(transitions: Sequence[Transitions]) -> Table:
    """Return right and wrong before and after, by arm."""
    return make_table(
        "Held-out questions by verdict before and after training (greedy, summed over seeds)",
        ["Arm", "right → right", "wrong → right", "right → wrong", "wrong → wrong", "not gradable"],
        [
            (
                show(row.arm),
                count(row.kept),
                count(row.learned),
                count(row.lost),
                count(row.still_wrong),
                count(row.ungraded),
            )
            for row in transitions
        ],
    )


def tabulate_changes(caption: str, changes: Sequence[Change]) -> Table:
    """Return questions whose verdict changed, with both answers."""
    quotes = [
        Column(title, Kind.QUOTE)
        for title in ("Question", "Accepted", "Answer before", "Answer after")
    ]
    return make_table(
        caption,
        quotes,
        [
            (show(one.question), join_answers(one.answers), show(one.before), show(one.after))
            for one in changes
        ],
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
            for arm in [*base, *experiment.arms]
            for run in arm.runs
        ],
    )


def _status_remark(arm: Arm) -> str:
    return "" if arm.finished else f"{arm.status}: not comparable"
