"""Arms on two nodes: the study of one process, though a node is lost meanwhile."""

import shutil
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from attrib.attribution.arm_task import ROWS
from attrib.inspection import study_status
from attrib.store import Store
from tests.scale.studies import (
    TRAINED,
    TRAINING,
    UPDATES,
    check_trained_equal,
    read_seconds,
    to_flags,
)

pytestmark = pytest.mark.timeout(180)

RETRAINED = ("retrainings", "validations")
Start = Callable[..., subprocess.Popen[str]]


def find_arm_on(study: Store, node_id: str) -> str | None:
    """Return which arm is being trained on a node."""
    arms = study_status(study).tables["Arms"]
    here = pl.col("where").str.contains(node_id[:8], literal=True) & (pl.col("role") != "base")
    found = arms.filter((pl.col("status") == "running") & here)
    assert found["where"].str.contains(r"^on \S+ \(\w{8}\)$").all()
    return None if found.is_empty() else str(found["arm_id"][0])


def test_a_node_removed_under_an_arm(
    study: Store, trained: Store, cluster: Any, hold: Any, tmp_path: Path, start_attrib: Start
) -> None:
    storage = tmp_path / "storage"
    [node] = cluster.worker_nodes
    process = start_attrib(
        *("ablate", "--db", study.path, *to_flags(TRAINING)),
        *("--cluster", cluster.address, "--storage", f"file://{storage}"),
    )
    arm_id = None
    while arm_id is None or len(hold.held("training")) < 2:
        assert process.poll() is None, process.communicate()
        time.sleep(0.5)
        arm_id = find_arm_on(study, node.node_id)
    [rows] = storage.glob(f"*/{arm_id}/{ROWS}")
    saved = read_seconds(Store(Path(shutil.copy(rows, tmp_path / "saved.duckdb"))), arm_id)
    assert len(saved) == UPDATES // 2, "there is a checkpoint"
    cluster.remove_node(node, allow_graceful=False)
    hold.release()
    stdout, stderr = process.communicate(timeout=150)
    cluster.add_node(num_cpus=1)
    assert process.returncode == 0, stderr
    assert "raylet" not in stdout + stderr, "Ray's own talk"
    assert "leaked" not in stderr, "DuckDB's own talk"
    check_trained_equal(study, trained)
    assert read_seconds(study, arm_id)[: UPDATES // 2] == saved, "made again"
    assert list(storage.iterdir()) == []


def test_a_bank_of_retrained_arms_is_that_of_one_process(
    trained: Store, cluster: Any, tmp_path: Path, start_attrib: Start
) -> None:
    def run(store: Store, *arguments: object) -> Store:
        process = start_attrib("attribute", *arguments, "--db", store.path, "--device", "cpu")
        _, stderr = process.communicate(timeout=150)
        assert process.returncode == 0, stderr
        return store

    here = Store(Path(shutil.copy(trained.path, tmp_path / "here.duckdb")))
    run(here, "--method", "difficulty")
    there = Store(Path(shutil.copy(here.path, tmp_path / "there.duckdb")))
    run(here, "validate", "--subsets", 5)
    on_ray = ("--cluster", cluster.address, "--storage", tmp_path / "storage")
    run(there, "validate", "--subsets", 5, *on_ray)
    queries = {**TRAINED, **{name: f"FROM {name} ORDER BY ALL" for name in RETRAINED}}
    for table, sql in queries.items():
        assert there.read(sql).equals(here.read(sql)), table
    assert there.read("SELECT count(*) FROM retrainings").item() == 5
    commands = there.read(
        "SELECT command FROM provenance SEMI JOIN retrainings ON made_id = arm_id"
    )
    assert commands["command"].str.contains("attrib attribute validate .*--subsets 5").all()
