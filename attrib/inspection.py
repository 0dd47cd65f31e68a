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


_SUSPECTS = """
    SELECT reason, question.text AS question, answers[1] AS answer,
           len(answers) - 1 AS "other answers", detail, question_id
    FROM suspects JOIN questions AS question USING (question_id)
    WHERE bucketing_id = (SELECT bucketing_id FROM bucketings
                          WHERE starts_with(bucketing_id, $prefix) ORDER BY used_at DESC LIMIT 1)
    ORDER BY reason, question, question_id
"""


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


def list_suspects(store: Store, prefix: str) -> pl.DataFrame:
    """Return the suspect questions of the newest bucketing whose id begins with `prefix`."""
    return store.read(_SUSPECTS, prefix=prefix)
