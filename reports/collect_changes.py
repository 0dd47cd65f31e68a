"""Read what changed in the answers: greedy verdicts before and after every arm, and masses.

An arm's "after" is its last greedy evaluation, its "before" that of the base with the same seed, or
of the only base there is; both must come from the same grader. Only reads.
"""

from collections import Counter
from collections.abc import Iterable

import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy import special  # type: ignore[import-untyped, unused-ignore]

from attrib.analysis.intervals import mean_interval
from attrib.reports.collect_arms import bucket_order
from attrib.reports.records_arms import Arm
from attrib.reports.records_training import (
    BucketTransitions,
    Change,
    Masses,
    MassMove,
    Transitions,
)
from attrib.reports.values import Estimate
from attrib.roles import Role
from attrib.store import Store

EXAMPLES = 8
SHOWN = (Role.FULL, Role.ONLY, Role.ALL_BUT, Role.IMPORTED)  # controls are only tallied

# `pairs` says which base a run is compared with; other data sets have a table of their own.
OUTCOMES = """
WITH pairs AS (SELECT unnest($arm_ids) AS arm_id, unnest($base_ids) AS base_id),
asked AS (
    SELECT question_id, text, answers FROM questions WHERE split = $split AND dataset IN (
        SELECT DISTINCT dataset FROM buckets JOIN questions USING (question_id)
        WHERE bucketing_id = $bucketing_id)
),
final AS (
    SELECT * FROM evaluations
    WHERE decoding = 'greedy' AND rollout = 0 AND question_id IN (SELECT question_id FROM asked)
    QUALIFY step = max(step) OVER (PARTITION BY arm_id)
)
SELECT pairs.arm_id, before.question_id, asked.text AS question, answers,
       before.text AS before, after.text AS after,
       CASE WHEN before.verdict NOT IN ('correct', 'incorrect')
              OR after.verdict NOT IN ('correct', 'incorrect')
            THEN 'ungraded'
            WHEN after.verdict = 'correct' THEN if(before.verdict = 'correct', 'kept', 'learned')
            ELSE if(before.verdict = 'correct', 'lost', 'still wrong') END AS change
FROM pairs JOIN final AS before ON before.arm_id = pairs.base_id
JOIN final AS after ON after.arm_id = pairs.arm_id AND after.question_id = before.question_id
     AND after.eval_grader = before.eval_grader
JOIN asked ON asked.question_id = before.question_id
"""
TALLY = f"SELECT arm_id, change, count(*) AS questions FROM ({OUTCOMES}) GROUP BY ALL ORDER BY ALL"
BUCKET_TALLY = f"""
SELECT arm_id, bucket, change, count(*) AS questions FROM ({OUTCOMES})
JOIN (SELECT question_id, bucket FROM buckets WHERE bucketing_id = $bucketing_id)
USING (question_id) GROUP BY ALL ORDER BY ALL
"""
CHANGED = f"""
SELECT arm_id, change, question, answers, before, after
FROM ({OUTCOMES}) WHERE change IN ('learned', 'lost')
QUALIFY row_number() OVER (PARTITION BY arm_id, change ORDER BY question_id) <= $limit
ORDER BY arm_id, change, question_id
"""


def collect_transitions(
    store: Store, arms: Iterable[Arm], base: Arm | None, bucketing_id: str, split: str
) -> tuple[Transitions, ...]:
    """Return the tally per arm over all seeds; examples come from the run with the lowest seed."""
    arms = tuple(arm for arm in arms if arm.runs)
    if base is None or not base.runs or not arms:
        return ()
    pairs = {run.arm_id: _base_of(base, run.seed) for arm in arms for run in arm.runs}
    bound = {
        "arm_ids": list(pairs),
        "base_ids": list(pairs.values()),
        "split": split,
        "bucketing_id": bucketing_id,
    }
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
        shown = arm_ids[0] if arm.role in SHOWN else ""
        transitions.append(
            Transitions(
                arm=arm,
                kept=counts["kept"],
                learned=counts["learned"],
                lost=counts["lost"],
                still_wrong=counts["still wrong"],
                ungraded=counts["ungraded"],
                learned_examples=tuple(examples.get((shown, "learned"), ())),
                lost_examples=tuple(examples.get((shown, "lost"), ())),
            )
        )
    return tuple(transitions)


def collect_bucket_transitions(
    store: Store, arms: Iterable[Arm], base: Arm | None, bucketing_id: str
) -> tuple[BucketTransitions, ...]:
    """Return the tally of training questions per arm and bucket, hardest bucket first."""
    arms = tuple(arm for arm in arms if arm.runs)
    if base is None or not base.runs or not arms:
        return ()
    pairs = {run.arm_id: _base_of(base, run.seed) for arm in arms for run in arm.runs}
    tally = store.read(
        BUCKET_TALLY,
        arm_ids=list(pairs),
        base_ids=list(pairs.values()),
        split="train",
        bucketing_id=bucketing_id,
    )
    found = []
    for arm in arms:
        mine = tally.filter(_is_run_of(arm))
        for bucket in sorted(mine["bucket"].unique(), key=bucket_order):
            counts: Counter[str] = Counter()
            of_bucket = mine.filter(pl.col("bucket") == bucket)
            for change, questions in of_bucket.select("change", "questions").iter_rows():
                counts[change.replace(" ", "_")] += questions
            names = ("kept", "learned", "lost", "still_wrong", "ungraded")
            found.append(BucketTransitions(arm, bucket, *(counts[name] for name in names)))
    return tuple(found)


def _base_of(base: Arm, seed: int) -> str:
    same = (run.arm_id for run in base.runs if run.seed == seed)
    return next(same, base.runs[0].arm_id)


MASSES = """
SELECT arm_id, question_id, logprob, mass_low, (greedy_rank = 1)::DOUBLE AS greedy FROM masses
WHERE arm_id IN (SELECT unnest($arm_ids)) ORDER BY arm_id, question_id
"""


def collect_masses(store: Store, arms: Iterable[Arm], base: Arm | None) -> tuple[Masses, ...]:
    """Return the base's row and one per arm, over the questions that all of its runs measured."""
    everything = [*([base] if base else []), *arms]
    arm_ids = sorted({run.arm_id for arm in everything for run in arm.runs})
    masses = store.read(MASSES, arm_ids=arm_ids)
    before = None if base is None else _mean_over_seeds(masses, base)
    rows = []
    for arm in everything:
        mine = _mean_over_seeds(masses, arm)
        if mine.is_empty():
            continue
        seeds = masses.filter(_is_run_of(arm))["arm_id"].n_unique()
        change = None
        if before is not None and arm is not base:
            both = mine.join(before, on="question_id", suffix="_before").sort("question_id")
            if not both.is_empty():
                change = _student((both["logprob"] - both["logprob_before"]).to_numpy(), seeds)
        rows.append(
            Masses(
                arm=arm,
                logprob=_student(mine["logprob"].to_numpy(), seeds),
                logprob_change=change,
                mass_low=_bounded(mine["mass_low"].to_numpy(), seeds),
                greedy=_bounded(mine["greedy"].to_numpy(), seeds),
            )
        )
    return tuple(rows)


def collect_mass_moves(store: Store, arms: Iterable[Arm], base: Arm | None) -> tuple[MassMove, ...]:
    """Return each arm's masses beside the base's, by question, where both were measured."""
    if base is None:
        return ()
    everything = [base, *arms]
    arm_ids = sorted({run.arm_id for arm in everything for run in arm.runs})
    masses = store.read(MASSES, arm_ids=arm_ids)
    before = _mean_over_seeds(masses, base)
    moves = []
    for arm in everything[1:]:
        both = before.join(_mean_over_seeds(masses, arm), on="question_id", suffix="_after")
        both = both.sort("question_id")
        if not both.is_empty():
            before_Q, after_Q = both["mass_low"], both["mass_low_after"]
            moves.append(MassMove(arm, tuple(before_Q), tuple(after_Q)))
    return tuple(moves)


def _is_run_of(arm: Arm) -> pl.Expr:
    return pl.col("arm_id").is_in([run.arm_id for run in arm.runs])


def _mean_over_seeds(masses: pl.DataFrame, arm: Arm) -> pl.DataFrame:
    mine = masses.filter(_is_run_of(arm))
    measured = mine["arm_id"].n_unique()
    return (
        mine.group_by("question_id", maintain_order=True)
        .agg(pl.col("logprob", "mass_low", "greedy").mean(), pl.len().alias("runs"))
        .filter(pl.col("runs") == measured)
    )


def _bounded(value_Q: NDArray[np.float64], seeds: int) -> Estimate:
    found = mean_interval(value_Q)
    return Estimate(found.value, found.low, found.high, seeds, value_Q.size)


def _student(value_Q: NDArray[np.float64], seeds: int) -> Estimate:
    """Return a mean with Student's 95 % interval over questions; none of fewer than two."""
    mean = float(value_Q.mean())
    if value_Q.size < 2:
        return Estimate(mean, None, None, seeds, value_Q.size)
    spread = float(value_Q.std(ddof=1)) / value_Q.size**0.5
    half = float(special.stdtrit(value_Q.size - 1, 0.975)) * spread
    return Estimate(mean, mean - half, mean + half, seeds, value_Q.size)
