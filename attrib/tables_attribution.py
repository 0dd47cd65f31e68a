"""What `attrib attribute` prints."""

from typing import TYPE_CHECKING

import polars as pl

from attrib.tables import print_frame, print_lines, print_titled

if TYPE_CHECKING:
    from attrib.analysis.datamodel import DatamodelScore
    from attrib.analysis.intervals import Interval
    from attrib.attribution.attribute import AttributionSummary, MethodSummary, ScoredQuestion
    from attrib.attribution.curves import CurvesSummary
    from attrib.attribution.validation import ValidationSummary


def print_attribution(summary: "AttributionSummary") -> None:
    """Print, method by method, the questions at either end and the sums by bucket."""
    print_lines(
        f"Experiment {summary.experiment_id}: {summary.questions} training questions scored in "
        f"{len(summary.arms)} {'arm' if len(summary.arms) == 1 else 'arms'} towards "
        f"{summary.held_out} held-out questions"
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
    tables = {f"{method.method}{about}": buckets, "highest": _list_questions(method.top)}
    if method.bottom:
        tables["lowest"] = _list_questions(method.bottom)
    print_titled(tables)


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


def print_validation(summary: "ValidationSummary") -> None:
    """Print every method's linear datamodel score, by each measure."""
    failed = f"; not trained: {', '.join(summary.failed)}" if summary.failed else ""
    if summary.exhausted:
        failed += f"; exhausted before the end of the budget: {', '.join(summary.exhausted)}"
    print_lines(
        f"Experiment {summary.experiment_id}: {summary.subsets} arms, each on {summary.questions} "
        f"questions drawn at random{failed}. They gain {summary.gain_mean:+.1%} on "
        f"{summary.held_out} held-out questions, with a standard deviation of "
        f"{summary.gain_deviation:.1%}.\n\n"
        "Spearman's correlation of summed scores with what retraining gave, 95 % intervals over "
        "the arms"
    )
    print_frame(
        pl.DataFrame(
            {
                "method": [str(one.method) for one in summary.methods],
                "gain": [_correlation(one.gain) for one in summary.methods],
                "log-probability": [_correlation(one.log_probability) for one in summary.methods],
                "of each question": [
                    _correlation(one.log_probability_by_question) for one in summary.methods
                ],
            }
        )
    )


def _correlation(score: "DatamodelScore") -> str:
    if score.value is None:
        return "undefined"
    return f"{score.value:+.2f} ({score.low:+.2f} – {score.high:+.2f})"


def print_curves(summary: "CurvesSummary") -> None:
    """Print what arms gained with only, or without, the highest scores."""
    points = summary.points
    seeds = min((one.seeds for one in points), default=1)
    over = "held-out questions and seeds" if seeds > 1 else "held-out questions only: one seed"
    print_lines(f"Experiment {summary.experiment_id}, held-out gain, 95 % intervals over {over}")
    print_frame(
        pl.DataFrame(
            {
                "": [str(one.role) for one in points],
                "questions": [f"{one.fraction:.0%}" for one in points],
                "by": [str(one.method) for one in points],
                "trained on": [one.trained_on for one in points],
                "gain": [_gain(one.gain) for one in points],
                "less random": [
                    "" if one.difference is None else _gain(one.difference) for one in points
                ],
                "seeds": [one.seeds for one in points],
            }
        )
    )
    if summary.failed:
        print_lines(f"Not trained: {', '.join(summary.failed)}")
    if summary.exhausted:
        print_lines(f"Exhausted before the end of the budget: {', '.join(summary.exhausted)}")


def _gain(interval: "Interval") -> str:
    return f"{interval.value:+.1%} ({interval.low:+.1%} – {interval.high:+.1%})"
