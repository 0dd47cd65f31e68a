"""What is in a study."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from attrib.store import Failure, Holder, Store

_TABLES = {
    "Questions": (
        "SELECT dataset, split, count(*) AS questions FROM questions GROUP BY ALL ORDER BY ALL"
    ),
    "Sample sets": """
        WITH counted AS (
            SELECT sample_set_id, question_id,
                   count(*) FILTER (finish_reason <> 'error') AS drawn,
                   count(*) FILTER (finish_reason = 'error') AS failed
            FROM rollouts GROUP BY ALL),
        asked AS (
            SELECT sample_set_id, question_id, coalesce(drawn, 0) AS drawn,
                   coalesce(failed, 0) AS failed
            FROM (SELECT DISTINCT sample_set_id, question_id FROM selections)
            FULL JOIN counted USING (sample_set_id, question_id))
        SELECT sample_set_id, model, engine, seed, count(question_id) AS questions,
               coalesce(max(drawn), 0) AS n, coalesce(sum(drawn), 0)::BIGINT AS rollouts,
               coalesce(count(question_id) * max(drawn) - sum(drawn), 0)::BIGINT AS owed,
               coalesce(sum(failed), 0)::BIGINT AS failed
        FROM sample_sets LEFT JOIN asked USING (sample_set_id) GROUP BY ALL ORDER BY ALL
    """,
    "Verdicts": """
        SELECT sample_set_id, grader, count(*) AS rollouts,
               count(*) FILTER (verdict = 'correct') AS correct,
               count(*) FILTER (verdict = 'incorrect') AS incorrect,
               count(*) FILTER (verdict NOT IN ('correct', 'incorrect')) AS ungraded
        FROM graded_rollouts GROUP BY ALL ORDER BY ALL
    """,
    "Bucketings": (
        "SELECT bucketing_id, sample_set_id, grader, k, count(*) AS questions, "
        "count(*) FILTER (bucket = 'never-correct') AS \"never-correct\" "
        "FROM bucketings JOIN buckets USING (bucketing_id) GROUP BY ALL ORDER BY ALL"
    ),
    "Arms": """
        SELECT experiment_id, role, subset, seed, arm_id, coalesce(status, 'to do') AS status,
               CASE status WHEN 'running' THEN detail ELSE '' END AS "where", questions, updates,
               rollouts, round(wall_seconds) AS seconds
        FROM arm_roles LEFT JOIN training_runs USING (arm_id)
        ORDER BY experiment_id, role, subset, seed, arm_id
    """,
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
    megabytes_beside: float
    """Of checkpoints and kept weights."""
    writer: Holder | None
    last_error: Failure | None
    """How the last command that wrote ended, if it failed or was interrupted."""
    tables: Mapping[str, pl.DataFrame]


def study_status(store: Store) -> StudyStatus:
    """Return what is done and owed, sizes, who is writing, and how the last writer failed.

    Rollouts are owed up to the number that the set's best-served question has.
    """
    tables = {title: store.read(sql) for title, sql in _TABLES.items()}
    beside = [
        file.stat().st_size
        for folder in ("checkpoints", "models", "arms")
        for file in Path(f"{store.path}.{folder}").rglob("*")
        if file.is_file()
    ]
    return StudyStatus(
        path=store.path,
        megabytes=store.path.stat().st_size / 1e6,
        megabytes_beside=sum(beside) / 1e6,
        writer=store.holder(),
        last_error=store.last_failure(),
        tables=tables,
    )


def list_suspects(store: Store, prefix: str) -> pl.DataFrame:
    """Return the suspect questions of the newest bucketing whose id begins with `prefix`."""
    return store.read(_SUSPECTS, prefix=prefix)
