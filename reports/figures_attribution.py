"""The figures about scores of single training questions: by bucket, and against retraining."""

from collections.abc import Sequence
from statistics import fmean

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from attrib.analysis.buckets import Bucket
from attrib.reports.drawing import (
    WIDTH_INCHES,
    Drawing,
    bucket_colour,
    finish,
    make_plot,
    name_rows,
    styled,
)
from attrib.reports.records_attribution import Attribution, MethodValidation
from attrib.reports.svg import BLUE, INK, MUTED
from attrib.reports.tables_attribution import MEASURES
from attrib.reports.text import count, significant


def draw_bucket_scores(found: Attribution) -> Drawing:
    """Return every question's score in the row of its bucket, with the bucket's mean."""
    rows = {
        str(bucket): [one.score for one in found.questions if one.bucket == bucket]
        for bucket in Bucket
    }
    rows = {bucket: scores for bucket, scores in rows.items() if scores}
    with styled():
        figure, axes = make_plot(0.42 * len(rows) + 0.65)
        for row, (bucket, scores) in enumerate(rows.items()):
            # Spread over the height of the row in the order of the questions: equal ones show.
            aside = 0.5 * (np.arange(len(scores)) % 7 - 3) / 7
            axes.plot(scores, row + aside, "o", color=bucket_colour(bucket), markersize=4,
                      alpha=0.6, markeredgewidth=0)  # fmt: skip
            axes.plot(np.mean(scores), row, "|", color=INK, markersize=18, markeredgewidth=2)
        axes.axvline(0, color=MUTED, linewidth=1)
        name_rows(axes, [f"{bucket} ({count(len(scores))})" for bucket, scores in rows.items()])
        axes.set_xlabel(f"score by {found.method}")
        told = "; ".join(
            f"{bucket} {significant(fmean(scores))}" for bucket, scores in rows.items()
        )
        return finish(figure, "figure-scores", "Scores by bucket", f"Means: {told}.")


def draw_validations(validations: Sequence[MethodValidation]) -> Drawing:
    """Return every method's linear datamodel score with its interval, a panel a measure."""
    methods = list(dict.fromkeys(one.method for one in validations))
    with styled():
        height = 0.32 * len(methods) + 0.85
        figure = Figure(figsize=(WIDTH_INCHES, height), layout="constrained")
        panels = figure.subplots(1, len(MEASURES), sharey=True)
        for axes, (measure, name) in zip(panels, MEASURES.items(), strict=True):
            _draw_measure(axes, [one for one in validations if one.measure == measure], methods)
            axes.set_title(name, color=MUTED, fontsize=8.5)
        name_rows(panels[0], methods)
        told = "; ".join(
            f"{one.method}, {MEASURES[one.measure]} {one.score.value:.2f}"
            for one in validations
            if one.score.value is not None
        )
        return finish(
            figure, "figure-validation", "Scores against retraining", f"Correlations: {told}."
        )


def _draw_measure(
    axes: Axes, validations: Sequence[MethodValidation], methods: Sequence[str]
) -> None:
    axes.axvline(0, color=MUTED, linewidth=1)
    for one in validations:
        score, row = one.score, methods.index(one.method)
        if score.value is None or score.low is None or score.high is None:
            continue
        axes.plot([score.low, score.high], [row, row], color=BLUE, linewidth=1.6)
        axes.plot(score.value, row, "o", color=BLUE, markersize=6)
    axes.set_xlim(-1.05, 1.05)
    axes.set_xticks([-1, 0, 1])
