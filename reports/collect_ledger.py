"""Read the ledger of visits: what training drew, by arm and bucket, and along its steps.

Owns the counts behind the paper's mechanism (did questions that were never right get a right
rollout during training, and when?) and its rival (were they rewarded, and not learned?). Counts are
descriptions of the runs at hand, not estimates. Only reads.
"""

from collections.abc import Iterable

import polars as pl

from attrib.reports.collect_arms import bucket_order
from attrib.reports.records_arms import Arm
from attrib.reports.records_training import CurvePoint, LedgerRow, TrainingCurve
from attrib.store import Store

WINDOWS = 20  # points of a training curve: steps are taken together beyond that
NOT_BUCKETED = "not bucketed"

TRAINED_ON = """
SELECT arm_id, coalesce(bucket, $not_bucketed) AS bucket, count(*) AS questions
FROM arm_questions LEFT JOIN (FROM buckets WHERE bucketing_id = $bucketing_id) USING (question_id)
WHERE arm_id IN (SELECT unnest($arm_ids)) GROUP BY ALL
"""
# The order in which threads add doubles varies, and the report must not: hence `fsum`.
QUESTIONS = """
WITH spent AS (
    SELECT arm_id, question_id, fsum(gradient_weight) AS weight
    FROM visits WHERE arm_id IN (SELECT unnest($arm_ids)) GROUP BY ALL
), until AS (
    SELECT arm_id, question_id, count(*) AS visits_until
    FROM visits JOIN first_rewards USING (arm_id, question_id)
    WHERE arm_id IN (SELECT unnest($arm_ids)) AND visit <= first_rewarded_visit GROUP BY ALL
), final AS (
    SELECT arm_id, question_id, verdict FROM evaluations JOIN questions USING (question_id)
    WHERE arm_id IN (SELECT unnest($arm_ids)) AND split = 'train'
      AND decoding = 'greedy' AND rollout = 0
    QUALIFY step = max(step) OVER (PARTITION BY arm_id)
)
SELECT arm_id, coalesce(bucket, $not_bucketed) AS bucket, question_id, first.visits,
       rewarded_visits, informative_visits, first_rewarded_step AS step, visits_until, weight,
       if(verdict IN ('correct', 'incorrect'), verdict = 'correct', NULL) AS final
FROM first_rewards AS first JOIN spent USING (arm_id, question_id)
LEFT JOIN until USING (arm_id, question_id) LEFT JOIN final USING (arm_id, question_id)
LEFT JOIN buckets ON buckets.question_id = first.question_id
     AND buckets.bucketing_id = $bucketing_id
ORDER BY arm_id, question_id
"""


def collect_ledger(store: Store, arms: Iterable[Arm], bucketing_id: str) -> tuple[LedgerRow, ...]:
    """Return a row per arm and bucket it visited, hardest bucket first."""
    arms = tuple(arms)
    which = {"bucketing_id": bucketing_id, "not_bucketed": NOT_BUCKETED, "arm_ids": _arm_ids(arms)}
    questions = store.read(QUESTIONS, **which)
    sizes = {(run, bucket): n for run, bucket, n in store.read(TRAINED_ON, **which).iter_rows()}
    rows = []
    for arm in arms:
        mine = _of_arm(questions, arm)
        whole = float(mine["weight"].sum())
        for bucket in sorted(set(mine["bucket"]), key=bucket_order):
            part = mine.filter(pl.col("bucket") == bucket)
            share = float(part["weight"].sum()) / whole if whole > 0 else None
            trained_on_S = tuple(sizes.get((run.arm_id, bucket), 0) for run in arm.runs)
            rows.append(_make_row(arm, bucket, part, share, trained_on_S))
    return tuple(rows)


def _make_row(
    arm: Arm, bucket: str, part: pl.DataFrame, share: float | None, trained_on_S: tuple[int, ...]
) -> LedgerRow:
    rewarded = part.filter(pl.col("step").is_not_null())
    by_seed = [part.filter(pl.col("arm_id") == run.arm_id) for run in arm.runs]
    got_S = [one.filter(pl.col("step").is_not_null()) for one in by_seed]
    not_S = [one.filter(pl.col("step").is_null()) for one in by_seed]
    first = rewarded["step"].min()
    return LedgerRow(
        arm=arm,
        bucket=bucket,
        trained_on_S=trained_on_S,
        visited_S=tuple(one.height for one in by_seed),
        rewarded_S=tuple(one.height for one in got_S),
        still_wrong_S=tuple(_count_final(one, correct=False) for one in got_S),
        unrewarded_right_S=tuple(_count_final(one, correct=True) for one in not_S),
        first_step=first if isinstance(first, int) else None,
        median_step=_median(rewarded["step"]),
        median_visits=_median(rewarded["visits_until"]),
        visits=int(part["visits"].sum()),
        rewarded_visits=int(part["rewarded_visits"].sum()),
        informative_visits=int(part["informative_visits"].sum()),
        gradient_share=share,
    )


def _count_final(questions: pl.DataFrame, *, correct: bool) -> int | None:
    """Return how many were (not) answered correctly at the end, None if one was not graded."""
    final = questions["final"]
    return None if final.null_count() else int((final == correct).sum())


def _median(values: pl.Series) -> float | None:
    found = values.drop_nulls().median()
    return float(found) if isinstance(found, int | float) else None


CURVES = """
SELECT arm_id, step, sum(rollouts)::BIGINT AS rollouts, sum(correct)::BIGINT AS correct,
       count(*) AS groups, count(*) FILTER (informative) AS informative
FROM visits WHERE arm_id IN (SELECT unnest($arm_ids)) GROUP BY arm_id, step ORDER BY arm_id, step
"""


def collect_curves(store: Store, arms: Iterable[Arm]) -> tuple[TrainingCurve, ...]:
    """Return per arm at most `WINDOWS` points, its seeds taken together."""
    arms = tuple(arms)
    visits = store.read(CURVES, arm_ids=_arm_ids(arms))
    curves = []
    for arm in arms:
        mine = _of_arm(visits, arm)
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


def _of_arm(frame: pl.DataFrame, arm: Arm) -> pl.DataFrame:
    return frame.filter(pl.col("arm_id").is_in([run.arm_id for run in arm.runs]))


def _arm_ids(arms: Iterable[Arm]) -> list[str]:
    return sorted({run.arm_id for arm in arms for run in arm.runs})
