"""The figures about training: gain against budget, pass@k after it, curves of the ledger."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, MaxNLocator, NullLocator

from attrib.reports.drawing import (
    PERCENT,
    Drawing,
    arm_colour,
    bucket_colour,
    finish,
    make_panels,
    make_plot,
    styled,
)
from attrib.reports.figures_arms import MARKS
from attrib.reports.records_arms import Arm, BudgetPoint
from attrib.reports.records_training import Experiment, TrainingCurve
from attrib.reports.svg import BLUE, INK, MUTED, PAPER, VERMILLION
from attrib.reports.text import count, percent, points, show
from attrib.roles import Role

PASS_ROLES = (Role.BASE, Role.FULL, Role.ONLY)
MOST_SUBSETS = 6  # rows of the figure of budgets; the table has all
_DASHES: dict[Role, Any] = {
    Role.FULL: "solid",
    Role.ONLY: "solid",
    Role.MATCHED_SUBSET: "solid",
    Role.ALL_BUT: (0, (4, 2)),
    Role.MATCHED_RANDOM: (0, (1, 1.5)),
    Role.MATCHED_COMPLEMENT: (0, (4, 1.5, 1, 1.5)),
}
_NAMES = {
    Role.FULL: "full",
    Role.ONLY: "only",
    Role.ALL_BUT: "all but",
    Role.MATCHED_RANDOM: "as many random",
    Role.MATCHED_COMPLEMENT: "as many others",
    Role.MATCHED_SUBSET: "subset, as many as others",
}
_POINTS = FuncFormatter(lambda value, _: points(value, 0))
_THOUSANDS = FuncFormatter(lambda value, _: f"{value / 1000:g}k" if value >= 1000 else f"{value:g}")
_SPENT: tuple[tuple[str, Callable[[BudgetPoint], float]], ...] = (
    ("share of the budget", lambda point: point.gain.fraction),
    ("rollouts", lambda point: point.rollouts),
    ("informative groups", lambda point: point.informative_groups),
    ("gradient tokens", lambda point: point.gradient_tokens),
)


def draw_budgets(experiment: Experiment) -> Drawing:
    """Return gain against what was spent: a row a subset, a column a quantity, a line an arm."""
    subsets = list_budget_subsets(experiment)
    shown = subsets[:MOST_SUBSETS] or [""]
    full = experiment.full
    with styled():
        figure, panels = make_panels(
            len(shown),
            len(_SPENT),
            1.35,
            left_inches=0.75,
            gap_inches=0.4,
            sharey=True,
            sharex="col",
        )
        drawn: dict[Role, None] = {}
        for row, subset in enumerate(shown):
            arms = [full] if full is not None else []
            arms += [arm for arm in experiment.arms if arm.subset == subset and arm is not full]
            for column, (name, spent) in enumerate(_SPENT):
                axes = panels[row, column]
                axes.axhline(0, color=MUTED, linewidth=0.8)
                for arm in arms:
                    if arm.points and arm.role in _DASHES:
                        drawn[arm.role] = None
                        _draw_line(axes, arm, spent)
                axes.yaxis.set_major_formatter(_POINTS)
                axes.xaxis.set_major_formatter(PERCENT if column == 0 else _THOUSANDS)
                axes.xaxis.set_major_locator(MaxNLocator(3))
                if row == len(shown) - 1:
                    axes.set_xlabel(name)
            panels[row, 0].set_title(show(subset, 24))
        panels[0, 0].set_ylabel("gain, points")
        figure.legend(
            handles=[_make_handle(role, shown[0]) for role in _DASHES if role in drawn],
            loc="upper left",
            ncols=5,
            handlelength=2.8,
            columnspacing=1.2,
        )
        told = "; ".join(
            f"{arm.label} " + ", ".join(points(point.gain.value) for point in arm.points)
            for arm in experiment.arms
            if arm.points
        )
        return finish(figure, "figure-budgets", "Gain against budget used", f"{show(told, 2000)}.")


def list_budget_subsets(experiment: Experiment) -> list[str]:
    """Return the subsets whose arms have a gain somewhere along the budget."""
    return list(
        dict.fromkeys(
            arm.subset
            for arm in experiment.arms
            if arm.points and arm.role in _DASHES and arm.role is not Role.FULL
        )
    )


def _draw_line(axes: Axes, arm: Arm, spent: Callable[[BudgetPoint], float]) -> None:
    """Draw an arm's gains, from nothing spent and nothing gained; its end hollow if it ran out."""
    colour = arm_colour(arm)
    shown = [(point, value) for point in arm.points if (value := point.gain.value) is not None]
    along = [0.0, *(spent(point) for point, _ in shown)]
    gains = [0.0, *(value for _, value in shown)]
    axes.plot(along, gains, color=colour, linestyle=_DASHES[arm.role], linewidth=1.4)
    for point, value in shown:
        if point.gain.low is not None and point.gain.high is not None:
            where = [spent(point)] * 2
            bounds = [point.gain.low, point.gain.high]
            axes.plot(where, bounds, color=colour, linewidth=1, alpha=0.45)
        axes.plot(
            spent(point),
            value,
            marker=MARKS.get(arm.role, "o"),
            markersize=4,
            color=colour,
            markerfacecolor=colour if point.planned else PAPER,
        )


def _make_handle(role: Role, subset: str) -> Line2D:
    """Return the sample of a line in the legend, in the colour that it has for `subset`."""
    colours = {
        Role.FULL: INK,
        Role.ONLY: bucket_colour(subset),
        Role.ALL_BUT: bucket_colour(subset),
    }
    return Line2D(
        [],
        [],
        color=colours.get(role, MUTED),
        linestyle=_DASHES[role],
        marker=MARKS.get(role, "o"),
        markersize=4,
        label=_NAMES[role],
        linewidth=1.4,
    )


def draw_passes(experiment: Experiment) -> Drawing:
    """Return pass@k of sampled answers before RL, after the full arm, and after each alone."""
    base = [experiment.base] if experiment.base else []
    arms = [arm for arm in [*base, *experiment.arms] if arm.passes and arm.role in PASS_ROLES]
    k_K = sorted({one.k for arm in arms for one in arm.passes})
    with styled():
        figure, axes = make_plot(3.3)
        for place, arm in enumerate(arms):
            aside = 2 ** (0.05 * (place - (len(arms) - 1) / 2))  # so that intervals do not overlap
            is_subset = arm.role is Role.ONLY
            colour = bucket_colour(arm.subset) if is_subset else INK
            known = [
                (one.k * aside, value, one.estimate)
                for one in arm.passes
                if (value := one.estimate.value) is not None
            ]
            axes.plot(
                [where for where, _, _ in known],
                [value for _, value, _ in known],
                color=colour,
                linewidth=1.6,
                linestyle=(0, (4, 2)) if arm is experiment.base else "solid",
                marker="o",
                markersize=4,
                label=show(arm.marked_label, 40),
            )
            for where, _, estimate in known:
                if estimate.low is not None and estimate.high is not None:
                    bounds = [estimate.low, estimate.high]
                    axes.plot([where] * 2, bounds, color=colour, linewidth=1, alpha=0.45)
        axes.set_xscale("log", base=2)
        axes.set_xticks(k_K, [count(k) for k in k_K])
        axes.xaxis.set_minor_locator(NullLocator())
        axes.set_ylim(bottom=0)
        axes.yaxis.set_major_formatter(PERCENT)
        axes.set_xlabel("k, attempts per held-out question")
        axes.set_title("mean pass@k", color=MUTED)
        figure.legend(loc="outside right upper", handlelength=2.4)
        told = "; ".join(
            f"{arm.label}: "
            + ", ".join(f"pass@{one.k} {percent(one.estimate.value, 1)}" for one in arm.passes)
            for arm in arms
        )
        return finish(figure, "figure-passes", "Pass@k before and after", f"{show(told, 2000)}.")


def draw_curves(curves: Sequence[TrainingCurve]) -> Drawing:
    """Return a small panel an arm: correct rate and share of informative groups by step."""
    across = min(3, len(curves))
    down = -(-len(curves) // across)
    with styled():
        figure, panels = make_panels(
            down, across, 1.0, left_inches=0.55, gap_inches=0.5, sharey=True
        )
        for axes in panels.flat[len(curves) :]:
            axes.set_visible(False)
        for axes, curve in zip(panels.flat, curves, strict=False):
            middle = [(point.first_step + point.last_step) / 2 for point in curve.points]
            rate = [
                point.correct / point.rollouts if point.rollouts else np.nan
                for point in curve.points
            ]
            informative = [point.informative / point.groups for point in curve.points]
            marker = {"marker": "o" if len(curve.points) == 1 else "", "markersize": 4}
            (solid,) = axes.plot(middle, rate, color=BLUE, linewidth=1.6, **marker)
            (dashed,) = axes.plot(
                middle,
                informative,
                color=VERMILLION,
                linewidth=1.4,
                linestyle=(0, (3, 1.5)),
                **marker,
            )
            axes.set_title(show(curve.arm, 34))
            axes.set_ylim(-0.03, 1.03)
            axes.set_yticks([0, 0.5, 1.0])
            axes.yaxis.set_major_formatter(PERCENT)
            last = curve.points[-1].last_step
            axes.set_xlim(0.5, last + 0.5)
            if last <= 4:
                axes.set_xticks(range(1, last + 1))
            else:
                axes.xaxis.set_major_locator(MaxNLocator(4, integer=True))
        figure.legend(
            [solid, dashed],
            ["rollouts that are correct", "groups that are informative"],
            loc="upper left",
            ncols=2,
            handlelength=2.6,
        )
        panels[-1, 0].set_xlabel("optimiser step")
        told = f"{len(curves)} panels, one an arm; the numbers are in the tables below the figure."
        return finish(figure, "figure-curves", "Training by arm", told)
