"""The tables about questions, rollouts, buckets and settings.

Owns which columns are shown and how their cells read.
"""

from collections.abc import Sequence

from attrib.analysis.passk import PassCurve
from attrib.reports.design import describe_seeds
from attrib.reports.records import BucketSummary, Dataset, SampledQuestion, Study
from attrib.reports.settings import find_setting
from attrib.reports.tables import Column, Kind, Table, join_answers, make_table, span
from attrib.reports.text import count, percent, percent_range, plural, show
from attrib.reports.values import Setting
from attrib.roles import Role

HASH_SHOWN = 16  # digits of a file's hash
FREQUENT_ANSWERS = 4  # of a question, in the table


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
            "p, 95\u00a0%",
            Column("Most frequent answers (times drawn, verdict)", Kind.QUOTE),
        ],
        [
            (
                show(one.question),
                join_answers(one.answers),
                show(one.bucket),
                f"{one.correct} of {one.n}",
                percent_range(one.p_low, one.p_high),
                " · ".join(
                    f"“{show(answer.text, 60)}” ({answer.count}, {answer.verdict})"
                    for answer in one.frequent[:FREQUENT_ANSWERS]
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
                f"{show(one.path)} ({show((one.file_hash or '')[:HASH_SHOWN])})"
                if one.path
                else "built in",
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
    """Return what the paper does not state, and what was chosen here."""
    experiment = study.experiment
    shared = experiment.settings if experiment else ()
    runs = [run for arm in experiment.arms for run in arm.runs] if experiment else []
    settings = (*shared, *(runs[0].settings if runs else ()))
    unknown = "not recorded"

    def chosen(*names: str) -> str:
        return show(find_setting(settings, *names) or unknown)

    def listed(*names: str) -> str:
        found = [(name, find_setting(settings, name)) for name in names]
        return ", ".join(f"{name} {show(value)}" for name, value in found if value) or unknown

    rank = find_setting(settings, "lora")
    weights = unknown if rank is None else f"LoRA adapters of rank {show(rank)}"
    rows = [
        ("Temperature of the rollouts before RL", _sampling_temperature(study)),
        ("What is held equal between arms", listed("budget", "fill")),
        ("How arms of different size are matched", _describe_controls(study) or unknown),
        ("Seeds per arm", describe_seeds(experiment.arms) if experiment else unknown),
        ("Rollouts per group in training", chosen("group_size")),
        ("Groups per update", chosen("groups")),
        ("Learning rate", listed("learning_rate", "schedule", "warmup")),
        ("Temperature in training", chosen("temperature")),
        ("Advantage and normalisation of the loss", listed("advantage", "normalisation")),
        ("Clipping, steps on each batch", listed("clip_low", "clip_high", "inner_epochs")),
        ("Weight of the KL penalty", chosen("kl")),
        ("Weights that are trained", "all" if rank == "0" else weights),
        ("Limit on rollouts of a run", chosen("max_rollouts")),
        ("When arms are evaluated, of the budget", chosen("evaluate_at")),
    ]
    return make_table(
        "What the paper does not state, and what was chosen here",
        [Column("Not stated in arXiv 2605.07153"), Column("Here")],
        rows if experiment else [row for row in rows if row[1] != unknown],
    )


def _describe_controls(study: Study) -> str:
    """Return which controls have as many questions as a subset, '' without an experiment."""
    if study.experiment is None:
        return ""
    controls = {
        Role.MATCHED_RANDOM: "as many questions drawn at random",
        Role.MATCHED_COMPLEMENT: "as many questions from outside the subset",
    }
    trained = {arm.role for arm in study.experiment.arms}
    found = [words for role, words in controls.items() if role in trained]
    return (
        f"by controls trained on {', and on '.join(found)}" if found else "not at all: no control"
    )


def _sampling_temperature(study: Study) -> str:
    return show(find_setting(study.sample_set.settings, "temperature") or "not recorded")
