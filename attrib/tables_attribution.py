"""What `attrib attribute` prints."""

from typing import TYPE_CHECKING

import polars as pl

from attrib.tables import print_lines, print_titled

if TYPE_CHECKING:
    from attrib.attribution.attribute import AttributionSummary, MethodSummary, ScoredQuestion


def print_attribution(summary: "AttributionSummary") -> None:
    """Print, method by method, the questions at either end and the sums by bucket."""
    print_lines(
        f"Experiment {summary.experiment_id}: {summary.questions} training questions scored in "
        f"{len(summary.arms)} arms towards {summary.held_out} held-out questions"
    )
    for method in summary.methods:
        _print_method(method, summary.arm_seconds)
    print_lines("\nWhether scores foretell what retraining gives: attrib attribute validate")


def _print_method(method: "MethodSummary", arm_seconds: float) -> None:
    about = ""
    if method.projection_r is not None:
        ratio = f", {method.seconds / arm_seconds:.2f} × the training" if arm_seconds else ""
        about = (
            f" ({method.seconds:,.0f} s{ratio}; projected and exact scores of visits correlate "
            f"with r = {method.projection_r:.3f})"
        )
    buckets = pl.DataFrame(
        {
            "bucket": [one.bucket for one in method.buckets],
            "questions": [one.questions for one in method.buckets],
            "mean score": [f"{one.mean:.3g}" for one in method.buckets],
            "share of all": [
                "" if one.share is None else f"{one.share:.0%}" for one in method.buckets
            ],
        }
    )
    print_lines("")
    print_titled(
        {
            f"{method.method}{about}": buckets,
            "highest": _list_questions(method.top),
            "lowest": _list_questions(method.bottom),
        }
    )


def _list_questions(questions: "tuple[ScoredQuestion, ...]") -> pl.DataFrame:
    return pl.DataFrame(
        {
            "score": [f"{one.score:.3g}" for one in questions],
            "question": [one.text for one in questions],
            "bucket": [one.bucket for one in questions],
            "visits with signal": [f"{one.visits:.1f}" for one in questions],
            "right before": [f"{one.correct_before:.0%}" for one in questions],
        }
    )
