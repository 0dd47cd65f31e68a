"""The figures that hold arms against each other: accuracy, and shares of the gain.

The mark of an arm says its role, its colour the subset; hollow marks stand for arms that did not
end as planned.
"""

from matplotlib.axes import Axes

from attrib.reports.claims import PAPER_SHARES, share_of_data
from attrib.reports.drawing import (
    PERCENT,
    WIDTH_INCHES,
    Drawing,
    arm_colour,
    axis_limits,
    finish,
    make_plot,
    name_rows,
    styled,
)
from attrib.reports.records import Study
from attrib.reports.records_arms import Arm
from attrib.reports.records_training import Experiment
from attrib.reports.svg import GRID, INK, MUTED, PAPER
from attrib.reports.text import percent, percent_interval, show
from attrib.reports.values import Estimate
from attrib.roles import Role

_SHARE_LIMITS = (-1.0, 2.0)  # an axis is never longer than this: a wide interval ends in an arrow
MARKS = {
    Role.ONLY: "o",
    Role.MATCHED_SUBSET: "o",
    Role.ALL_BUT: "s",
    Role.MATCHED_RANDOM: "^",
    Role.MATCHED_COMPLEMENT: "D",
    Role.IMPORTED: "P",
}


def draw_accuracy(experiment: Experiment) -> Drawing:
    """Return held-out accuracy of every arm against the model before RL."""
    arms = [arm for arm in experiment.arms if arm.accuracy and arm.accuracy.value is not None]
    before = experiment.base.accuracy if experiment.base else None
    with styled():
        figure, axes = make_plot(0.33 * len(arms) + 0.8)
        if before is not None and before.value is not None:
            if before.low is not None and before.high is not None:
                axes.axvspan(before.low, before.high, color=MUTED, alpha=0.14, linewidth=0)
            axes.axvline(before.value, color=INK, linewidth=1.2, linestyle=(0, (4, 3)))
            axes.annotate(
                f"before RL {percent(before.value, 1)}",
                (before.value, 1),
                (4, 4),
                xycoords=("data", "axes fraction"),
                textcoords="offset points",
            )
        for row, arm in enumerate(arms):
            assert arm.accuracy is not None
            _draw_seeds(axes, row, arm)
            _draw_estimate(axes, row, arm.accuracy, arm)
        name_rows(axes, [show(arm.compared_label, 52) for arm in arms])
        axes.set_xlim(left=0)
        right = min(1.0, axes.get_xlim()[1] * 1.05)
        axes.set_xlim(-0.012 * right, right)  # so that a mark at zero is whole
        axes.xaxis.set_major_formatter(PERCENT)
        axes.set_xlabel("held-out accuracy after training, 95\u00a0% interval · small: each seed")
        told = "; ".join(
            f"{arm.label} {percent(arm.accuracy.value, 1)}" for arm in arms if arm.accuracy
        )
        return finish(figure, "figure-accuracy", "Held-out accuracy by arm", f"{show(told, 2000)}.")


def draw_claim(study: Study, experiment: Experiment, *, narrow: bool = False) -> Drawing:
    """Return for each subset alone its share of the data and of the gain, the paper's beside it.

    On the page's width names and numbers stand beside the rows; `narrow`, for phones, above them.
    """
    arms = list_claimed(experiment)
    names = [
        (show(arm.subset, 40) if arm.role is Role.ONLY else "… as many random")
        + (f", at {percent(arm.compared_at)}" if arm.compared_at != 1 else "")
        for arm in arms
    ]
    numbers = []
    row_inches, rest_inches, width_inches = (
        (0.54, 0.75, 3.4) if narrow else (0.4, 0.9, WIDTH_INCHES)
    )
    with styled():
        figure, axes = make_plot(row_inches * (len(arms) + 1) + rest_inches, width_inches)
        low = min([0.0, *(arm.share.low for arm in arms if arm.share and arm.share.low)])
        high = max([1.0, *(arm.share.high for arm in arms if arm.share and arm.share.high)])
        low, high = max(low, _SHARE_LIMITS[0]), min(high, _SHARE_LIMITS[1])
        axes.set_xlim(low - 0.03, high + 0.03)
        for row, arm in enumerate(arms):
            part = share_of_data(study, arm) or 0.0
            value = arm.share.value if arm.share else None
            if arm.share is not None and value is not None:
                axes.plot([part, value], [row, row], color=GRID, linewidth=7, zorder=1,
                          solid_capstyle="butt")  # fmt: skip
                _draw_estimate(axes, row, arm.share, arm)
            axes.plot(part, row, "|", color=INK, markersize=15, markeredgewidth=2.5)
            told = "undefined" if value is None else percent_interval(arm.share)
            numbers.append(f"{percent(part)} → {told}")
        row = len(arms)
        axes.plot(PAPER_SHARES, [row, row], color=GRID, linewidth=7, zorder=1,
                  solid_capstyle="butt")  # fmt: skip
        axes.plot(PAPER_SHARES[0], row, "|", color=MUTED, markersize=15, markeredgewidth=2.5)
        axes.plot(PAPER_SHARES[1], row, "*", color=MUTED, markersize=9, markerfacecolor=PAPER)
        axes.axvline(1, color=INK, linewidth=1, linestyle=(0, (4, 3)))
        axes.annotate("full arm", (1, 1), (4, 2), xycoords=("data", "axes fraction"),
                      textcoords="offset points")  # fmt: skip
        names.append("the paper, never-correct")
        numbers.append(f"{percent(PAPER_SHARES[0])} → {percent(PAPER_SHARES[1])}")
        name_rows(axes, names)
        for row, (name, text) in enumerate(zip(names, numbers, strict=True)):
            colour = INK if row < len(arms) else MUTED
            if narrow:
                _annotate(axes, row, 0, (0, 14), show(name, 28), colour)
                _annotate(axes, row, 1, (0, 14), text, colour, ha="right")
            else:
                _annotate(axes, row, 1, (8, 0), text, colour)
        axes.xaxis.set_major_formatter(PERCENT)
        explained = ["stroke: share of training questions", "mark: share of the full arm's gain"]
        axes.set_xlabel(("\n" if narrow else " → ").join(explained))
        if narrow:
            axes.tick_params("y", labelleft=False)
            axes.set_ylim(len(names) - 0.6, -0.8)
        told = "; ".join(
            f"{arm.label}: {percent(share_of_data(study, arm))} of the data, "
            f"{percent(arm.share.value) if arm.share else 'no'} of the gain"
            for arm in arms
        )
        name = "figure-claim-narrow" if narrow else "figure-claim"
        return finish(figure, name, "Share of data against share of gain", f"{show(told, 2000)}.")


def _annotate(axes: Axes, row: int, at: float, offset: tuple[float, float], text: str,
              colour: str, ha: str = "left") -> None:  # fmt: skip
    """Write in a row, from a fraction of the axes' width and so many points away."""
    axes.annotate(text, (at, row), offset, xycoords=("axes fraction", "data"),
                  textcoords="offset points", ha=ha, va="center", color=colour,
                  bbox={"facecolor": PAPER, "edgecolor": "none", "pad": 1})  # fmt: skip


def list_claimed(experiment: Experiment) -> list[Arm]:
    """Return the subsets trained on alone that are compared, each before its random control."""
    arms = []
    for arm in experiment.arms:
        if arm.role is Role.ONLY and arm.is_compared:
            control = experiment.find(Role.MATCHED_RANDOM, arm.subset)
            arms += [arm, control] if control is not None and control.is_compared else [arm]
    return arms


def draw_shares(study: Study, experiment: Experiment) -> Drawing:
    """Return the share of the data (bar) against the share of the gain (dot and interval)."""
    arms = [arm for arm in experiment.arms if arm is not experiment.full]
    with styled():
        figure, axes = make_plot(0.36 * len(arms) + 0.95)
        ends = [0.0, 1.0]
        for row, arm in enumerate(arms):
            axes.barh(row, share_of_data(study, arm) or 0.0, height=0.6, color=MUTED, alpha=0.22)
            if arm.share is None or arm.share.value is None:
                axes.annotate("share undefined", (0, row), (6, 0), textcoords="offset points",
                              va="center", color=MUTED)  # fmt: skip
            else:
                ends += [
                    one
                    for one in (arm.share.value, arm.share.low, arm.share.high)
                    if one is not None
                ]
        low, high = max(min(ends), _SHARE_LIMITS[0]), min(max(ends), _SHARE_LIMITS[1])
        room = 0.04 * (high - low)
        axes.set_xlim(low - room, high + room)
        for row, arm in enumerate(arms):
            if arm.share is not None and arm.share.value is not None:
                _draw_estimate(axes, row, arm.share, arm)
        axes.axvline(0, color=MUTED, linewidth=1)
        axes.axvline(1, color=INK, linewidth=1.2, linestyle=(0, (4, 3)))
        axes.annotate("full arm", (1, 1), (4, 4), xycoords=("data", "axes fraction"),
                      textcoords="offset points")  # fmt: skip
        name_rows(axes, [show(arm.compared_label, 52) for arm in arms])
        axes.xaxis.set_major_formatter(PERCENT)
        axes.set_xlabel("bar: share of training questions · mark: share of the full gain")
        told = "; ".join(
            f"{arm.label}: {percent(share_of_data(study, arm))} of the data, "
            f"{percent(arm.share.value) if arm.share else 'no'} of the gain"
            for arm in arms
        )
        return finish(
            figure, "figure-shares", "Share of data and share of gain", f"{show(told, 2000)}."
        )


def _draw_seeds(axes: Axes, row: int, arm: Arm) -> None:
    """Draw the accuracy of every seed above the mark of the arm; one seed is the mark itself."""
    values = [
        run.accuracy.value
        for run in arm.runs
        if run.accuracy is not None and run.accuracy.value is not None
    ]
    if len(values) > 1:
        colour = arm_colour(arm)
        heights = [row - 0.3] * len(values)
        axes.plot(values, heights, ".", color=colour, markersize=5, markeredgewidth=0, alpha=0.75)


def _draw_estimate(axes: Axes, row: int, estimate: Estimate, arm: Arm) -> None:
    """Draw a mark with its interval.

    The mark is hollow where the arm may not be compared; arrows stand where the axis ends first.
    """
    assert estimate.value is not None
    colour = arm_colour(arm)
    left, right = axis_limits(axes)
    if estimate.low is not None and estimate.high is not None:
        low, high = max(estimate.low, left), min(estimate.high, right)
        axes.plot([low, high], [row, row], color=colour, linewidth=2, solid_capstyle="butt")
        if estimate.low < left:
            axes.plot(left, row, marker="<", color=colour, markersize=6)
        if estimate.high > right:
            axes.plot(right, row, marker=">", color=colour, markersize=6)
    if left <= estimate.value <= right:
        axes.plot(
            estimate.value,
            row,
            marker=MARKS.get(arm.role, "o"),
            markersize=6.5,
            markerfacecolor=colour if arm.finished else PAPER,
            markeredgecolor=colour,
            markeredgewidth=1.5,
            linestyle="none",
        )
