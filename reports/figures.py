"""The figures about questions and rollouts before training."""

from collections.abc import Sequence

import numpy as np
from matplotlib.ticker import MaxNLocator, NullLocator

from attrib.analysis.passk import PassCurve
from attrib.reports.drawing import (
    PERCENT,
    Drawing,
    bucket_colour,
    finish,
    make_plot,
    name_rows,
    styled,
)
from attrib.reports.records import BucketSummary
from attrib.reports.svg import BLUE, MUTED
from attrib.reports.text import count, percent


def draw_buckets(buckets: Sequence[BucketSummary]) -> Drawing:
    """Return bars of the number of questions in each bucket."""
    questions = [summary.row.questions for summary in buckets]
    names = [summary.row.bucket.value for summary in buckets]
    with styled():
        figure, axes = make_plot(0.36 * len(buckets) + 0.45)
        axes.barh(
            range(len(buckets)),
            questions,
            height=0.66,
            color=[bucket_colour(name) for name in names],
        )
        for row, summary in enumerate(buckets):
            label = f"{count(summary.row.questions)}  ({percent(summary.row.share_of_questions)})"
            axes.annotate(
                label, (questions[row], row), (5, 0), textcoords="offset points", va="center"
            )
        name_rows(axes, names)
        axes.set_xlim(0, max(questions) * 1.16)
        axes.set_xlabel("training questions")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        told = ", ".join(f"{name} {value}" for name, value in zip(names, questions, strict=True))
        return finish(figure, "figure-buckets", "Training questions per bucket", f"Bars: {told}.")


def draw_pass_curve(curve: PassCurve) -> Drawing:
    """Return mean pass@k over k, doubling, with its band."""
    with styled():
        figure, axes = make_plot(3.0)
        axes.fill_between(curve.k_K, curve.low_K, curve.high_K, color=BLUE, alpha=0.18, linewidth=0)
        axes.plot(curve.k_K, curve.mean_K, color=BLUE, linewidth=2, marker="o", markersize=4.5)
        axes.set_xscale("log", base=2)
        axes.set_xticks([int(k) for k in curve.k_K], [count(int(k)) for k in curve.k_K])
        axes.xaxis.set_minor_locator(NullLocator())
        axes.set_ylim(0, min(1.0, 1.12 * float(np.max(curve.high_K)) + 0.01))
        axes.yaxis.set_major_formatter(PERCENT)
        axes.set_xlabel("k, attempts per question")
        axes.set_title("mean pass@k", color=MUTED)
        first, last = curve.mean_K[0], curve.mean_K[-1]
        told = (
            f"Mean pass@k rises from {percent(float(first), 1)} at k = {curve.k_K[0]} to "
            f"{percent(float(last), 1)} at k = {curve.k_K[-1]}."
        )
        return finish(figure, "figure-pass", "Pass@k before RL", told)
