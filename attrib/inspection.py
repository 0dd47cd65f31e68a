"""What is in a study."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from attrib.store import Holder, Store

_TABLES = {
    "Questions": (
        "SELECT dataset, split, count(*) AS questions FROM questions GROUP BY ALL ORDER BY ALL"
    ),
    "Sample sets": (
        "SELECT sample_set_id, model, engine, seed, count(DISTINCT question_id) AS questions, "
        "count(rollout) AS rollouts FROM sample_sets LEFT JOIN rollouts USING (sample_set_id) "
        "GROUP BY ALL ORDER BY ALL"
    ),
    "Bucketings": (
        "SELECT bucketing_id, sample_set_id, grader, k, count(*) AS questions, "
        "count(*) FILTER (bucket = 'never-correct') AS \"never-correct\" "
        "FROM bucketings JOIN buckets USING (bucketing_id) GROUP BY ALL ORDER BY ALL"
    ),
    "Arms": (
        "SELECT experiment_id, role, subset, seed, arm_id, status, questions, updates, rollouts, "
        "round(wall_seconds) AS seconds FROM arms ORDER BY experiment_id, role, subset, seed"
    ),
}


@dataclass(frozen=True, slots=True)
class StudyStatus:
    """What a study holds."""

    path: Path
    megabytes: float
    writer: Holder | None
    tables: Mapping[str, pl.DataFrame]


def study_status(store: Store) -> StudyStatus:
    """Return counts of questions, rollouts, buckets and arms, and who is writing."""
    tables = {title: store.read(sql) for title, sql in _TABLES.items()}
    return StudyStatus(store.path, store.path.stat().st_size / 1e6, store.holder(), tables)
