"""The figures: the only module that imports matplotlib.

Owns what is drawn and how it looks: one colour a bucket throughout (Okabe–Ito, with grey for the
last), text in the
page's colour, no frame. Figures are `Figure` objects without pyplot's state, under matplotlib's own
defaults whatever the user's settings are, and their ids follow from their names, so that equal
records give equal drawings.
"""

import io
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator, NullLocator

from attrib.analysis.passk import PassCurve
from attrib.reports.claims import share_of_data
from attrib.reports.records import (
    Arm,
    BucketSummary,
    Estimate,
    Experiment,
    Study,
    TrainingCurve,
)
from attrib.reports.svg import (
    BLUE,
    GREEN,
    GREY,
    GRID,
    INK,
    MUTED,
    PAPER,
    PURPLE,
    VERMILLION,
    inline_svg,
)
from attrib.reports.text import count, percent, show
from attrib.roles import Role

WIDTH_INCHES = 7.6
_COLOURS = {
    "never-correct": VERMILLION,
    "rarely-correct": PURPLE,
    "sometimes-correct": GREEN,
    "mostly-correct": BLUE,
    "always-correct": GREY,
}
# Keys are literals in the stubs of newer matplotlib and strings in older ones.
_STYLE: dict[Any, Any] = {
    "text.parse_math": False,  # a dollar sign is a dollar sign
    "svg.fonttype": "none",
    "font.family": "DejaVu Sans",
    "font.size": 9.5,
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": GRID,
    "axes.labelsize": 9.5,
    "axes.titlesize": 9.5,
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.spines.left": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": GRID,
    "grid.linewidth": 0.7,
    "xtick.color": GRID,
    "ytick.color": GRID,
    "xtick.labelcolor": MUTED,
    "ytick.labelcolor": INK,
    "ytick.major.size": 0,
    "legend.frameon": False,
    "savefig.transparent": True,
}
_SHARE_LIMITS = (-1.0, 2.0)  # an axis is never longer than this: a wide interval ends in an arrow
_PERCENT = FuncFormatter(lambda value, _: percent(value))


@dataclass(frozen=True, slots=True)
class Drawing:
    """A figure as markup for the page; its text has been escaped."""

    name: str
    svg: str


def draw_buckets(buckets: Sequence[BucketSummary]) -> Drawing:
    """Return bars of the number of questions in each bucket."""
    questions = [summary.row.questions for summary in buckets]
    names = [summary.row.bucket.value for summary in buckets]
    with _styled():
        figure, axes = _plot(0.36 * len(buckets) + 0.45)
        axes.barh(
            range(len(buckets)), questions, height=0.66, color=[_colour(name) for name in names]
        )
        for row, summary in enumerate(buckets):
            label = f"{count(summary.row.questions)}  ({percent(summary.row.share_of_questions)})"
            axes.annotate(
                label, (questions[row], row), (5, 0), textcoords="offset points", va="center"
            )
        _name_rows(axes, names)
        axes.set_xlim(0, max(questions) * 1.16)
        axes.set_xlabel("training questions")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        told = ", ".join(f"{name} {value}" for name, value in zip(names, questions, strict=True))
        return _finish(figure, "figure-buckets", "Training questions per bucket", f"Bars: {told}.")


def draw_pass_curve(curve: PassCurve) -> Drawing:
    """Return mean pass@k over k, doubling, with its band."""
    with _styled():
        figure, axes = _plot(3.0)
        axes.fill_between(curve.k_K, curve.low_K, curve.high_K, color=BLUE, alpha=0.18, linewidth=0)
        axes.plot(curve.k_K, curve.mean_K, color=BLUE, linewidth=2, marker="o", markersize=4.5)
        axes.set_xscale("log", base=2)
        axes.set_xticks([int(k) for k in curve.k_K], [count(int(k)) for k in curve.k_K])
        axes.xaxis.set_minor_locator(NullLocator())
        axes.set_ylim(0, min(1.0, 1.12 * float(np.max(curve.high_K)) + 0.01))
        axes.yaxis.set_major_formatter(_PERCENT)
        axes.set_xlabel("k, attempts per question")
        axes.set_title("mean pass@k", color=MUTED)
        first, last = curve.mean_K[0], curve.mean_K[-1]
        told = (
            f"Mean pass@k rises from {percent(float(first), 1)} at k = {curve.k_K[0]} to "
            f"{percent(float(last), 1)} at k = {curve.k_K[-1]}."
        )
        return _finish(figure, "figure-pass", "Pass@k before RL", told)


def draw_accuracy(experiment: Experiment) -> Drawing:
    """Return held-out accuracy of every arm against the model before RL."""
    arms = [arm for arm in experiment.arms if arm.accuracy and arm.accuracy.value is not None]
    before = experiment.base.accuracy if experiment.base else None
    with _styled():
        figure, axes = _plot(0.33 * len(arms) + 0.8)
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
            _draw_estimate(axes, row, arm.accuracy, arm)
        _name_rows(axes, [show(arm.marked_label, 44) for arm in arms])
        axes.set_xlim(left=0)
        axes.set_xlim(0, min(1.0, axes.get_xlim()[1] * 1.05))
        axes.xaxis.set_major_formatter(_PERCENT)
        axes.set_xlabel("held-out accuracy after training, 95\u00a0% interval")
        told = "; ".join(
            f"{arm.label} {percent(arm.accuracy.value, 1)}" for arm in arms if arm.accuracy
        )
        return _finish(
            figure, "figure-accuracy", "Held-out accuracy by arm", f"{show(told, 2000)}."
        )


def draw_shares(study: Study, experiment: Experiment) -> Drawing:
    """Return the share of the data (bar) against the share of the gain (dot and interval)."""
    arms = [arm for arm in experiment.arms if arm is not experiment.full]
    with _styled():
        figure, axes = _plot(0.36 * len(arms) + 0.95)
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
        _name_rows(axes, [show(arm.marked_label, 44) for arm in arms])
        axes.xaxis.set_major_formatter(_PERCENT)
        axes.set_xlabel(
            "bar: share of training questions · mark: share of the full gain, 95\u00a0% interval"
        )
        told = "; ".join(
            f"{arm.label}: {percent(share_of_data(study, arm))} of the data, "
            f"{percent(arm.share.value) if arm.share else 'no'} of the gain"
            for arm in arms
        )
        return _finish(
            figure, "figure-shares", "Share of data and share of gain", f"{show(told, 2000)}."
        )


def draw_curves(curves: Sequence[TrainingCurve]) -> Drawing:
    """Return a small panel an arm: correct rate and share of informative groups by step."""
    across = min(3, len(curves))
    down = -(-len(curves) // across)
    with _styled():
        figure = Figure(figsize=(WIDTH_INCHES, 1.55 * down + 0.5), layout="constrained")
        panels = figure.subplots(down, across, sharey=True, squeeze=False)
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
            axes.set_title(show(curve.arm, 40))
            axes.set_ylim(-0.03, 1.03)
            axes.set_yticks([0, 0.5, 1.0])
            axes.yaxis.set_major_formatter(_PERCENT)
            axes.xaxis.set_major_locator(MaxNLocator(4, integer=True))
        figure.legend(
            [solid, dashed],
            ["rollouts that are correct", "groups that are informative"],
            loc="outside upper left",
            ncols=2,
            handlelength=2.6,
        )
        figure.supxlabel("optimiser step", fontsize=9.5)
        told = f"{len(curves)} panels, one an arm; the numbers are in the tables below the figure."
        return _finish(figure, "figure-curves", "Training by arm", told)


def _draw_estimate(axes: Axes, row: int, estimate: Estimate, arm: Arm) -> None:
    """Draw a mark with its interval.

    The mark is hollow where the arm may not be compared; arrows stand where the axis ends first.
    """
    assert estimate.value is not None
    colour = INK if arm.role is Role.FULL else _colour(arm.subset)
    left, right = _limits(axes)
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
            marker="s" if arm.role is Role.ALL_BUT else "o",
            markersize=7,
            markerfacecolor=colour if arm.finished else PAPER,
            markeredgecolor=colour,
            markeredgewidth=1.5,
            linestyle="none",
        )


def _limits(axes: Axes) -> tuple[float, float]:
    """Return where the axis ends if it has been fixed, else no ends."""
    if axes.get_autoscalex_on():
        return -np.inf, np.inf
    low, high = axes.get_xlim()
    return float(low), float(high)


def _colour(bucket: str) -> str:
    return _COLOURS.get(bucket, INK)


def _name_rows(axes: Axes, names: Sequence[str]) -> None:
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(len(names) - 0.5, -0.5)
    axes.grid(visible=False, axis="y")


def _plot(height_inches: float) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(WIDTH_INCHES, height_inches), layout="constrained")
    return figure, figure.subplots()


@contextmanager
def _styled() -> Iterator[None]:
    """Draw under matplotlib's defaults and ours, whatever the user's settings are."""
    with mpl.rc_context():
        mpl.rcdefaults()
        mpl.rcParams.update(_STYLE)
        yield


def _finish(figure: Figure, name: str, title: str, description: str) -> Drawing:
    """Write the figure as SVG whose ids follow from its name alone."""
    written = io.StringIO()
    with mpl.rc_context({"svg.hashsalt": name}):
        figure.savefig(written, format="svg", metadata={"Date": None, "Creator": None})
    return Drawing(name, inline_svg(written.getvalue(), name, title, description))
