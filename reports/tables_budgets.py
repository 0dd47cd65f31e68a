"""The tables about what was held equal: the gain along the budget, and under other budgets.

Owns which columns are shown and how their cells read.
"""

from attrib.reports.budgets import list_experiments, place_arms
from attrib.reports.design import (
    asks_same_questions,
    describe_differences,
    describe_seeds,
    method_of,
)
from attrib.reports.records_arms import Arm, BudgetPoint, Trained
from attrib.reports.records_training import Experiment
from attrib.reports.settings import find_setting
from attrib.reports.tables import (
    Column,
    Kind,
    Table,
    describe_common_questions,
    make_table,
)
from attrib.reports.tables_arms import show_fraction, show_share
from attrib.reports.text import (
    UNKNOWN,
    count,
    mean_count,
    percent,
    points_interval,
    show,
)
from attrib.roles import Role


def tabulate_points(experiment: Trained) -> Table:
    """Return the gain of every arm at every fraction of the budget, and what it took."""
    points = _each_point(experiment)
    over, varying = describe_common_questions([point.gain for _, point in points])
    return make_table(
        f"Gain against budget used: means over the runs of an arm{over}",
        [
            "Arm",
            "Budget",
            "Runs",
            "Updates",
            "Rollouts",
            "Informative groups",
            "Gradient tokens",
            "Gain, points",
            *varying,
        ],
        [
            (
                show(arm.marked_label),
                percent(point.gain.fraction) + ("" if point.planned else " (end)"),
                count(point.runs),
                mean_count(point.updates),
                mean_count(point.rollouts),
                mean_count(point.informative_groups),
                mean_count(point.gradient_tokens),
                points_interval(point.gain),
                *([count(point.gain.questions)] if varying else []),
            )
            for arm, point in points
        ],
    )


def _each_point(experiment: Trained) -> list[tuple[Arm, BudgetPoint]]:
    return [(arm, point) for arm in experiment.arms for point in arm.points]


def tabulate_experiments(experiment: Experiment) -> Table:
    """Return this experiment and its siblings, with what tells them apart."""
    named = list_experiments(experiment)
    everything = [one for _, one in named]
    return make_table(
        "Experiments on these buckets, the newest first",
        [
            "Held equal (batches)",
            Column("Fill", Kind.LABEL),
            Column("Method", Kind.LABEL),
            Column("Held-out questions"),
            Column("Runs of an arm"),
            Column("Other settings that differ", Kind.CODE),
            Column("Id", Kind.CODE),
        ],
        [
            (
                show(name) + (" (this report)" if one is experiment else ""),
                _setting(one, "fill"),
                show(method_of(one)),
                _held_out(experiment, one),
                describe_seeds(one.arms),
                describe_differences(one, everything) or UNKNOWN,
                show(one.experiment_id),
            )
            for name, one in named
        ],
    )


def _setting(experiment: Trained, name: str) -> str:
    return show(find_setting(experiment.settings, name) or UNKNOWN)


def _held_out(experiment: Trained, other: Trained) -> str:
    number = _setting(other, "held_out_questions")
    return number if asks_same_questions(experiment, other) else f"{number}, others"


def tabulate_siblings(experiment: Experiment) -> Table:
    """Return every arm that a sibling has, under every budget, the same arm's rows together."""
    shared = [
        one
        for placed in place_arms(experiment)
        if any(one.experiment is not experiment for one in placed)
        for one in placed
    ]
    over, varying = describe_common_questions([one.arm.gain for one in shared])
    return make_table(
        f"The same arm under each budget; rollouts and groups are means over its runs{over}",
        [
            "Arm",
            Column("Experiment"),
            Column("Status", Kind.STATUS),
            "Budget",
            "Gain, points",
            "Share of full gain",
            *varying,
            "Seeds",
            "Rollouts",
            "Groups used",
        ],
        [
            (
                show(one.arm.label),
                show(one.name),
                one.arm.status,
                show_fraction(one.arm),
                points_interval(one.arm.gain),
                UNKNOWN if one.arm.role is Role.FULL else show_share(one.experiment, one.arm),
                *([count(one.arm.gain.questions if one.arm.gain else None)] if varying else []),
                count(one.arm.gain.seeds if one.arm.gain else None),
                _mean([run.rollouts for run in one.arm.runs]),
                _mean([run.informative_groups for run in one.arm.runs]),
            )
            for one in shared
        ],
    )


def _mean(counts: list[int] | list[int | None]) -> str:
    known = [one for one in counts if one is not None]
    return mean_count(sum(known) / len(known)) if known else UNKNOWN
