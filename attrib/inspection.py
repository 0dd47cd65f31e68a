"""What is in a study, and what this machine runs."""

import os
import platform
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

import polars as pl

from attrib.config import cache_folder
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
        "SELECT experiment_id, role, subset, arm_id, status, questions, updates, rollouts, "
        "round(wall_seconds) AS seconds FROM arms ORDER BY experiment_id, role, subset"
    ),
}
_PACKAGES = ("torch", "transformers", "duckdb", "polars", "numpy", "scipy", "typer", "pydantic")


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


def environment() -> dict[str, str]:
    """Return versions and places."""
    found = {
        "attrib": metadata.version("attrib"),
        "python": sys.version.split()[0],
        "platform": platform.platform(),
        "cores": str(os.cpu_count()),
        "cache": str(cache_folder()),
    }
    for package in _PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            found[package] = "not installed"
    return found
