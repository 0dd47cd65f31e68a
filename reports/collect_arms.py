"""Read an experiment: arms, effects, the visit ledger, held-out answers before and after.

Owns the queries behind sections 5 to 9. The headline numbers come from `effects` and are never
computed again here; what is counted here are descriptions (ledger, curves, transitions). An arm's
"after" is its last greedy evaluation, its "before" that of the base with the same seed, or of the
only base there is. Only reads.
"""

from collections import Counter
from collections.abc import Iterable

import polars as pl

from attrib.analysis.buckets import Bucket
from attrib.reports.records import (
    Arm,
    Change,
    CurvePoint,
    Estimate,
    Experiment,
    LedgerRow,
    Run,
    TrainingCurve,
    Transitions,
)
from attrib.reports.settings import read_settings
from attrib.reports.text import moment
from attrib.roles import Role
from attrib.store import Store

EXAMPLES = 8
WINDOWS = 20  # points of a training curve: steps are taken together beyond that
NOT_BUCKETED = "not bucketed"

EXPERIMENT = """
SELECT params, epoch_us(created_at) AS created_at
FROM experiments WHERE experiment_id = $experiment_id
"""


def collect_experiment(store: Store, experiment_id: str, bucketing_id: str) -> Experiment:
    """Return what one experiment left behind.

    Raises:
        StoreError: the study cannot be read.
    """
    row = store.read(EXPERIMENT, experiment_id=experiment_id).row(0, named=True)
    everything = _collect_arms(store, experiment_id)
    arms = tuple(arm for arm in everything if arm.role is not Role.BASE)
    base = next((arm for arm in everything if arm.role is Role.BASE), None)
    return Experiment(
        experiment_id=experiment_id,
        settings=read_settings(row["params"]),
        created_at=moment(row["created_at"]),
        base=base,
        arms=arms,
        ledger=_collect_ledger(store, arms, bucketing_id),
        curves=_collect_curves(store, arms),
        transitions=_collect_transitions(store, arms, base),
    )


RUNS = """
WITH spent AS (
    SELECT arm_id, sum(informative_groups)::BIGINT AS informative_groups,
           sum(gradient_tokens)::BIGINT AS gradient_tokens
    FROM updates GROUP BY arm_id
), drawn AS (
    SELECT arm_id, count(*) AS groups FROM visits GROUP BY arm_id
)
SELECT role, subset, arm_id, method, seed, params, status, detail, questions, updates, rollouts,
       wall_seconds, groups, informative_groups, gradient_tokens
FROM arm_roles LEFT JOIN training_runs USING (arm_id)
LEFT JOIN spent USING (arm_id) LEFT JOIN drawn USING (arm_id)
WHERE experiment_id = $experiment_id ORDER BY role, subset, seed, arm_id
"""
EFFECTS = """
SELECT role, subset, statistic, value, low, high, seeds, questions
FROM effects WHERE experiment_id = $experiment_id ORDER BY role, subset, statistic
"""


def _collect_arms(store: Store, experiment_id: str) -> tuple[Arm, ...]:
    """Return base, full, every bucket alone and every bucket left out, hardest first."""
    runs: dict[tuple[str, str], list[Run]] = {}
    for row in store.read(RUNS, experiment_id=experiment_id).iter_rows(named=True):
        key = (row.pop("role"), row.pop("subset"))
        found = runs.setdefault(key, [])
        if row["status"] is None:  # planned, and not begun
            continue
        settings = read_settings(row.pop("params"))
        found.append(Run(settings=settings, **row))
    effects = {
        (role, subset, statistic): Estimate(*numbers)
        for role, subset, statistic, *numbers in store.read(
            EFFECTS, experiment_id=experiment_id
        ).iter_rows()
    }
    arms = [
        Arm(
            role=Role(role),
            subset=subset,
            runs=tuple(found),
            accuracy=effects.get((role, subset, "accuracy")),
            gain=effects.get((role, subset, "gain")),
            share=effects.get((role, subset, "share")),
            mcnemar_p=effects.get((role, subset, "mcnemar_p")),
        )
        for (role, subset), found in runs.items()
        if role in set(Role)
    ]
    roles = list(Role)
    return tuple(sorted(arms, key=lambda arm: (roles.index(arm.role), bucket_order(arm.subset))))


def bucket_order(name: str) -> tuple[int, str]:
    """Return the sort key of a bucket: hardest first, names of other groupings after them."""
    known = [bucket.value for bucket in Bucket]
    return (known.index(name), "") if name in known else (len(known), name)


# The order in which threads add doubles varies, and the report must not: hence `fsum`.
LEDGER = """
SELECT arm_id, coalesce(bucket, $not_bucketed) AS bucket, count(*) AS visits,
       count(*) FILTER (visits.correct > 0) AS with_correct,
       count(*) FILTER (informative) AS informative, fsum(gradient_weight) AS gradient_weight
FROM visits LEFT JOIN buckets
     ON buckets.question_id = visits.question_id AND buckets.bucketing_id = $bucketing_id
WHERE arm_id IN (SELECT unnest($arm_ids)) GROUP BY ALL ORDER BY arm_id, bucket
"""


def _collect_ledger(store: Store, arms: Iterable[Arm], bucketing_id: str) -> tuple[LedgerRow, ...]:
    arms = tuple(arms)
    visits = store.read(
        LEDGER, bucketing_id=bucketing_id, not_bucketed=NOT_BUCKETED, arm_ids=_arm_ids(arms)
    )
    rows = []
    for arm in arms:
        mine = (
            visits.filter(pl.col("arm_id").is_in([run.arm_id for run in arm.runs]))
            .group_by("bucket", maintain_order=True)
            .agg(pl.col("visits", "with_correct", "informative", "gradient_weight").sum())
        )
        whole = mine["gradient_weight"].sum()
        for row in sorted(mine.iter_rows(named=True), key=lambda row: bucket_order(row["bucket"])):
            share = row.pop("gradient_weight") / whole if whole > 0 else None
            rows.append(LedgerRow(arm=arm.marked_label, gradient_share=share, **row))
    return tuple(rows)


CURVES = """
SELECT arm_id, step, sum(rollouts)::BIGINT AS rollouts, sum(correct)::BIGINT AS correct,
       count(*) AS groups, count(*) FILTER (informative) AS informative
FROM visits WHERE arm_id IN (SELECT unnest($arm_ids)) GROUP BY arm_id, step ORDER BY arm_id, step
"""


def _collect_curves(store: Store, arms: Iterable[Arm]) -> tuple[TrainingCurve, ...]:
    """Return per arm at most `WINDOWS` points, its seeds taken together."""
    arms = tuple(arms)
    visits = store.read(CURVES, arm_ids=_arm_ids(arms))
    curves = []
    for arm in arms:
        mine = visits.filter(pl.col("arm_id").is_in([run.arm_id for run in arm.runs]))
        if mine.is_empty():
            continue
        last = int(mine.select(pl.col("step").max()).item())
        width = -(-last // WINDOWS)
        windows = (
            mine.with_columns(window=(pl.col("step") - 1) // width)
            .group_by("window")
            .agg(
                first_step=pl.col("step").min(),
                last_step=pl.col("step").max(),
                rollouts=pl.col("rollouts").sum(),
                correct=pl.col("correct").sum(),
                groups=pl.col("groups").sum(),
                informative=pl.col("informative").sum(),
            )
            .sort("window")
            .drop("window")
        )
        points = tuple(CurvePoint(**row) for row in windows.iter_rows(named=True))
        curves.append(TrainingCurve(arm.marked_label, points))
    return tuple(curves)


# Both evaluations must come from the same grader; `pairs` says which base a run is compared with.
OUTCOMES = """
WITH pairs AS (SELECT unnest($arm_ids) AS arm_id, unnest($base_ids) AS base_id),
final AS (
    SELECT * FROM evaluations WHERE decoding = 'greedy' AND rollout = 0
    QUALIFY step = max(step) OVER (PARTITION BY arm_id)
)
SELECT pairs.arm_id, before.question_id, questions.text AS question, answers,
       before.text AS before, after.text AS after,
       CASE WHEN before.verdict NOT IN ('correct', 'incorrect')
              OR after.verdict NOT IN ('correct', 'incorrect')
            THEN 'ungraded'
            WHEN after.verdict = 'correct' THEN if(before.verdict = 'correct', 'kept', 'learned')
            ELSE if(before.verdict = 'correct', 'lost', 'still wrong') END AS change
FROM pairs JOIN final AS before ON before.arm_id = pairs.base_id
JOIN final AS after ON after.arm_id = pairs.arm_id AND after.question_id = before.question_id
     AND after.eval_grader = before.eval_grader
JOIN questions ON questions.question_id = before.question_id
WHERE questions.split = 'held-out'
"""
TALLY = f"SELECT arm_id, change, count(*) AS questions FROM ({OUTCOMES}) GROUP BY ALL ORDER BY ALL"
CHANGED = f"""
SELECT arm_id, change, question, answers, before, after
FROM ({OUTCOMES}) WHERE change IN ('learned', 'lost')
QUALIFY row_number() OVER (PARTITION BY arm_id, change ORDER BY question_id) <= $limit
ORDER BY arm_id, change, question_id
"""


def _collect_transitions(
    store: Store, arms: Iterable[Arm], base: Arm | None
) -> tuple[Transitions, ...]:
    """Return the tally per arm over all seeds; examples come from the run with the lowest seed."""
    arms = tuple(arms)
    if base is None or not base.runs or not any(arm.runs for arm in arms):
        return ()
    base_of_seed = {run.seed: run.arm_id for run in base.runs}
    pairs = {
        run.arm_id: base_of_seed.get(run.seed, base.runs[0].arm_id)
        for arm in arms
        for run in arm.runs
    }
    bound = {"arm_ids": list(pairs), "base_ids": list(pairs.values())}
    tally = store.read(TALLY, **bound)
    changed = store.read(CHANGED, limit=EXAMPLES, **bound)
    examples: dict[tuple[str, str], list[Change]] = {}
    for arm_id, change, question, answers, before, after in changed.iter_rows():
        record = Change(question, tuple(answers), before, after)
        examples.setdefault((arm_id, change), []).append(record)
    transitions = []
    for arm in arms:
        arm_ids = [run.arm_id for run in arm.runs]
        counts: Counter[str] = Counter()
        for _, change, questions in tally.filter(pl.col("arm_id").is_in(arm_ids)).iter_rows():
            counts[change] += questions
        if not counts:
            continue
        transitions.append(
            Transitions(
                arm=arm.marked_label,
                kept=counts["kept"],
                learned=counts["learned"],
                lost=counts["lost"],
                still_wrong=counts["still wrong"],
                ungraded=counts["ungraded"],
                learned_examples=tuple(examples.get((arm_ids[0], "learned"), ())),
                lost_examples=tuple(examples.get((arm_ids[0], "lost"), ())),
            )
        )
    return tuple(transitions)


def _arm_ids(arms: Iterable[Arm]) -> list[str]:
    return sorted({run.arm_id for arm in arms for run in arm.runs})
