"""The tables about questions, rollouts, buckets and settings.

Owns which columns are shown and how their cells read.
"""

from collections.abc import Sequence

from attrib.analysis.passk import PassCurve
from attrib.reports.records import BucketSummary, Dataset, SampledQuestion, Setting, Study
from attrib.reports.settings import find_setting
from attrib.reports.tables import Column, Kind, Table, join_answers, make_table, span
from attrib.reports.text import count, percent, plural, show


def tabulate_buckets(buckets: Sequence[BucketSummary], k: int) -> Table:
    """Return the bucket table."""
    return make_table(
        f"Training questions by how many of their {k} rollouts were correct before RL",
        ["Bucket", "Questions", "Share", "Mean correct rate", f"Correct of {k}, observed"],
        [
            (
                summary.row.bucket.value,
                count(summary.row.questions),
                percent(summary.row.share_of_questions),
                percent(summary.row.mean_correct_rate, 1),
                span(summary.fewest_correct, summary.most_correct),
            )
            for summary in buckets
        ],
    )


def tabulate_pass_curve(curve: PassCurve) -> Table:
    """Return pass@k with its band."""
    numbers = zip(curve.k_K, curve.mean_K, curve.low_K, curve.high_K, strict=True)
    return make_table(
        f"Mean pass@k over {plural(curve.questions, 'question')}",
        ["k", "pass@k", "low", "high"],
        [
            (
                count(int(k)),
                percent(float(mean), 1),
                percent(float(low), 1),
                percent(float(high), 1),
            )
            for k, mean, low, high in numbers
        ],
    )


def tabulate_sampled(questions: Sequence[SampledQuestion]) -> Table:
    """Return a few questions of each bucket with their most frequent answers."""
    return make_table(
        "A few questions of each bucket and their most frequent answers before RL",
        [
            Column("Question", Kind.QUOTE),
            Column("Accepted", Kind.QUOTE),
            Column("Bucket", Kind.LABEL),
            "Correct",
            Column("Most frequent answers (times drawn, verdict)", Kind.QUOTE),
        ],
        [
            (
                show(one.question),
                join_answers(one.answers),
                show(one.bucket),
                f"{one.correct} of {one.n}",
                " · ".join(
                    f"“{show(answer.text, 60)}” ({answer.count}, {answer.verdict})"
                    for answer in one.frequent
                ),
            )
            for one in questions
        ],
    )


def tabulate_datasets(datasets: Sequence[Dataset]) -> Table:
    """Return the datasets and the files they came from."""
    return make_table(
        "Questions by dataset",
        ["Dataset", "Training", "Held-out", "Facts", Column("File", Kind.CODE), "Rows", "Dropped"],
        [
            (
                show(one.dataset),
                count(one.train),
                count(one.held_out),
                count(one.facts),
                f"{show(one.path)} ({one.file_hash})" if one.path else "built in",
                count(one.rows),
                count(one.dropped),
            )
            for one in datasets
        ],
    )


def tabulate_settings(caption: str, settings: Sequence[Setting]) -> Table:
    """Return settings as they were recorded."""
    return make_table(
        caption,
        [Column("Setting", Kind.CODE), Column("Value", Kind.CODE)],
        [(show(setting.key), show(setting.value, 500)) for setting in settings],
    )


def tabulate_choices(study: Study) -> Table:
    """Return what the paper leaves open and what was chosen here."""
    experiment = study.experiment
    shared = experiment.settings if experiment else ()
    runs = [run for arm in experiment.arms for run in arm.runs] if experiment else []
    settings = (*shared, *(runs[0].settings if runs else ()))
    unknown = "not recorded" if experiment else "nothing trained yet"
    seeds = plural(experiment.seeds, "seed") if experiment else unknown

    def chosen(*names: str) -> str:
        return show(find_setting(settings, *names) or unknown)

    return make_table(
        "What the paper leaves open, and what was chosen here",
        [Column("Open in arXiv 2605.07153"), Column("Here")],
        [
            ("Temperature of the rollouts before RL", _sampling_temperature(study)),
            ("Rollouts per group in training", chosen("group_size")),
            ("Learning rate", chosen("learning_rate")),
            ("Temperature in training", chosen("temperature")),
            (
                "How arms of different size are matched",
                "by updates and informative groups, as under Held equal" if experiment else unknown,
            ),
            ("Seeds per arm", seeds),
        ],
    )


def _sampling_temperature(study: Study) -> str:
    return show(find_setting(study.sample_set.settings, "temperature") or "not recorded")
