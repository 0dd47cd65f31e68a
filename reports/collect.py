"""Read a study: everything the page shows about questions, rollouts and buckets.

Owns the choice of what is reported (the latest bucketing and its latest experiment, unless one is
named) and the queries about what there is before training; `collect_experiment` reads the rest.
Only reads. Refuses studies without a bucketing. Queries run one after another on short connections,
so a report made during a run shows every table at a slightly different moment; nothing is counted
twice.
"""

import numpy as np
import polars as pl

from attrib.analysis.buckets import bucket_table
from attrib.analysis.passk import PassCurve, mean_pass_at_k
from attrib.errors import DataError
from attrib.reports.collect_attribution import collect_attribution
from attrib.reports.collect_examples import collect_held_out_shifts, collect_training_shifts
from attrib.reports.collect_experiment import collect_experiment
from attrib.reports.collect_grading import collect_grading
from attrib.reports.collect_provenance import collect_provenance
from attrib.reports.records import (
    Bucketing,
    BucketSummary,
    Dataset,
    FrequentAnswer,
    SampledQuestion,
    SampleSet,
    Study,
)
from attrib.reports.settings import read_settings
from attrib.reports.text import moment
from attrib.store import Store

SAMPLED_PER_BUCKET = 3
BOOTSTRAP_SEED = 0  # the resamples of the pass@k band: fixed, so that a report can be made again


def collect_study(store: Store, experiment_id: str | None = None) -> Study:
    """Return what the report shows.

    Args:
        store: The study.
        experiment_id: Beginning of the id of the experiment to report; None takes the latest of the
            latest bucketing.

    Raises:
        DataError: nothing has been bucketed, or no single experiment matches.
        StoreError: the study cannot be read.
    """
    bucketing_id, chosen, others = _choose(store, experiment_id)
    bucketing, sample_set_id = _collect_bucketing(store, bucketing_id)
    counts = store.read(BUCKET_COUNTS, bucketing_id=bucketing_id)
    if counts.is_empty():
        raise DataError(
            f"Bucketing {bucketing_id} holds no question. Type: attrib bucket --k {bucketing.k}"
        )
    sampled = _collect_sampled(store, bucketing, sample_set_id)
    experiment = None if chosen is None else collect_experiment(store, chosen, bucketing_id)
    full = experiment.full if experiment else None
    return Study(
        datasets=_collect_datasets(store),
        shared_facts=int(store.read(SHARED_FACTS).item()),
        sample_set=_collect_sample_set(store, sample_set_id),
        bucketing=bucketing,
        buckets=_summarise_buckets(counts),
        pass_curve=_estimate_pass_curve(counts),
        sampled=sampled,
        grading=collect_grading(store, bucketing, sample_set_id),
        training_shifts=collect_training_shifts(store, sampled, full) if full else (),
        held_out_shifts=collect_held_out_shifts(store, experiment, bucketing_id)
        if experiment
        else (),
        experiment=experiment,
        attribution=collect_attribution(store, chosen, bucketing_id) if chosen else None,
        provenance=collect_provenance(store, bucketing_id, chosen),
        others=others,
    )


EXPERIMENTS = """
SELECT experiment_id, bucketing_id FROM experiments ORDER BY used_at DESC, experiment_id
"""
LATEST_BUCKETING = """
SELECT bucketing_id FROM bucketings ORDER BY used_at DESC, bucketing_id LIMIT 1
"""


def _choose(store: Store, prefix: str | None) -> tuple[str, str | None, tuple[str, ...]]:
    """Return the bucketing, the experiment (None: nothing trained), and those on other buckets."""
    known = store.read(EXPERIMENTS)
    if prefix is not None:
        matching = known.filter(pl.col("experiment_id").str.starts_with(prefix))
        if matching.height != 1:
            listed = ", ".join(known["experiment_id"]) or "none yet"
            problem = "No experiment" if matching.is_empty() else "More than one experiment"
            raise DataError(f"{problem} begins with '{prefix}'. There are: {listed}.")
        experiment_id, bucketing_id = matching.row(0)
    else:
        latest = store.read(LATEST_BUCKETING)
        if latest.is_empty():
            raise DataError(
                f"Nothing in {store.path} has been sorted into buckets, so there is nothing to "
                "report yet. Type: attrib bucket --k N, with N rollouts per question."
            )
        bucketing_id = latest.item()
        matching = known.filter(pl.col("bucketing_id") == bucketing_id)
        experiment_id = None if matching.is_empty() else matching.row(0)[0]
    others = tuple(known.filter(pl.col("bucketing_id") != bucketing_id)["experiment_id"])
    return bucketing_id, experiment_id, others


# A training question that was to be sampled but is in no bucket has fewer than k gradable rollouts.
BUCKETING = """
SELECT sample_set_id, grader, k, cuts, epoch_us(created_at) AS created_at,
       (SELECT count(DISTINCT question_id)
        FROM (SELECT sample_set_id, question_id FROM rollouts
              UNION ALL SELECT sample_set_id, question_id FROM selections) AS asked
        JOIN questions USING (question_id)
        WHERE asked.sample_set_id = bucketings.sample_set_id AND split = 'train'
          AND question_id NOT IN (
              SELECT question_id FROM buckets WHERE bucketing_id = $bucketing_id)
       ) AS left_out
FROM bucketings WHERE bucketing_id = $bucketing_id
"""


def _collect_bucketing(store: Store, bucketing_id: str) -> tuple[Bucketing, str]:
    row = store.read(BUCKETING, bucketing_id=bucketing_id).row(0, named=True)
    bucketing = Bucketing(
        bucketing_id=bucketing_id,
        grader=row["grader"],
        k=row["k"],
        cuts=read_settings(row["cuts"]),
        created_at=moment(row["created_at"]),
        left_out=row["left_out"],
    )
    return bucketing, row["sample_set_id"]


SAMPLE_SET = """
SELECT model, engine, prompt, params, seed, epoch_us(created_at) AS created_at
FROM sample_sets WHERE sample_set_id = $sample_set_id
"""
ROLLOUT_COUNTS = """
SELECT count(*) AS rollouts, count(DISTINCT question_id) AS questions,
       count(*) FILTER (finish_reason = 'length') AS truncated,
       count(*) FILTER (finish_reason = 'error') AS failed
FROM rollouts WHERE sample_set_id = $sample_set_id
"""


def _collect_sample_set(store: Store, sample_set_id: str) -> SampleSet:
    found = store.read(SAMPLE_SET, sample_set_id=sample_set_id)
    if found.is_empty():
        raise DataError(
            f"Sample set {sample_set_id}, which the buckets rest on, is not in {store.path}. "
            "Type: attrib sample, then attrib bucket"
        )
    row = found.row(0, named=True)
    drawn = store.read(ROLLOUT_COUNTS, sample_set_id=sample_set_id).row(0, named=True)
    return SampleSet(
        sample_set_id=sample_set_id,
        model=row["model"],
        engine=row["engine"],
        prompt=row["prompt"],
        settings=read_settings(row["params"]),
        seed=row["seed"],
        created_at=moment(row["created_at"]),
        rollouts=drawn["rollouts"],
        questions=drawn["questions"],
        truncated=drawn["truncated"],
        failed=drawn["failed"],
    )


DATASETS = """
SELECT dataset, count(*) FILTER (split = 'train') AS train,
       count(*) FILTER (split = 'held-out') AS held_out,
       count(DISTINCT fact_id) AS facts, any_value(path) AS path, any_value(file_hash) AS file_hash,
       any_value(rows) AS rows, any_value(json_array_length(dropped))::BIGINT AS dropped
FROM questions LEFT JOIN imports USING (dataset) GROUP BY dataset ORDER BY dataset
"""
SHARED_FACTS = """
SELECT count(*) FROM (
    SELECT fact_id FROM questions GROUP BY fact_id HAVING count(DISTINCT split) > 1
)
"""


def _collect_datasets(store: Store) -> tuple[Dataset, ...]:
    return tuple(Dataset(**row) for row in store.read(DATASETS).iter_rows(named=True))


BUCKET_COUNTS = """
SELECT bucket, n, correct FROM buckets WHERE bucketing_id = $bucketing_id ORDER BY question_id
"""


def _summarise_buckets(counts: pl.DataFrame) -> tuple[BucketSummary, ...]:
    rows = bucket_table(
        counts["bucket"].to_numpy(), counts["n"].to_numpy(), counts["correct"].to_numpy()
    )
    summaries = []
    for row in rows:
        correct = counts.filter(pl.col("bucket") == row.bucket.value)["correct"].to_list()
        summaries.append(BucketSummary(row, min(correct, default=None), max(correct, default=None)))
    return tuple(summaries)


def _estimate_pass_curve(counts: pl.DataFrame) -> PassCurve:
    """Return pass@k at the powers of two up to the smallest n, and at that n."""
    n_Q = counts["n"].to_numpy()
    fewest = int(n_Q.min())
    k_K = sorted({2**power for power in range(fewest.bit_length())} | {fewest})
    generator = np.random.default_rng(BOOTSTRAP_SEED)
    return mean_pass_at_k(n_Q, counts["correct"].to_numpy(), k_K, generator)


# Ids are content hashes, so the first few by id are a fair and repeatable choice.
SAMPLED_QUESTIONS = """
SELECT bucket, question_id, questions.text, answers, n, correct, p_low, p_high
FROM buckets JOIN questions USING (question_id) WHERE bucketing_id = $bucketing_id
QUALIFY row_number() OVER (PARTITION BY bucket ORDER BY question_id) <= $limit
ORDER BY bucket, question_id
"""
FREQUENT = """
WITH drawn AS (
    SELECT question_id, text, finish_reason = 'length' AS truncated,
           finish_reason = 'error' AS failed
    FROM rollouts
    WHERE sample_set_id = $sample_set_id AND rollout < $k
      AND question_id IN (SELECT unnest($question_ids))
), judged AS (
    SELECT question_id, trim(drawn.text, e' \\n\\t') AS text,
           CASE WHEN failed THEN 'failed' ELSE coalesce(verdict, 'ungraded') END AS judgement
    FROM drawn JOIN questions USING (question_id)
    LEFT JOIN verdicts ON verdicts.question_id = drawn.question_id AND verdicts.text = drawn.text
         AND verdicts.truncated = drawn.truncated AND verdicts.answers_hash = questions.answers_hash
         AND verdicts.grader = $grader
)
SELECT question_id, text, count(*) AS count, judgement
FROM judged GROUP BY question_id, text, judgement
ORDER BY question_id, count DESC, text, judgement
"""


def _collect_sampled(
    store: Store, bucketing: Bucketing, sample_set_id: str
) -> tuple[SampledQuestion, ...]:
    """Return a few questions of each bucket, hardest bucket first."""
    questions = store.read(
        SAMPLED_QUESTIONS, bucketing_id=bucketing.bucketing_id, limit=SAMPLED_PER_BUCKET
    )
    frequent = store.read(
        FREQUENT,
        sample_set_id=sample_set_id,
        grader=bucketing.grader,
        k=bucketing.k,
        question_ids=questions["question_id"].to_list(),
    )
    drawn: dict[str, list[FrequentAnswer]] = {}
    for question_id, text, count, verdict in frequent.iter_rows():
        drawn.setdefault(question_id, []).append(FrequentAnswer(text, count, verdict))
    sampled = [
        SampledQuestion(
            question_id=row["question_id"],
            bucket=row["bucket"],
            question=row["text"],
            answers=tuple(row["answers"]),
            n=row["n"],
            correct=row["correct"],
            p_low=row["p_low"],
            p_high=row["p_high"],
            frequent=tuple(drawn.get(row["question_id"], ())),
        )
        for row in questions.iter_rows(named=True)
    ]
    return tuple(sorted(sampled, key=lambda question: question.correct / question.n))
