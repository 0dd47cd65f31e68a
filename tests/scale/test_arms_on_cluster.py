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
from tests.scale.studies import TRAINING, UPDATES, check_trained_equal, read_seconds, to_flags

pytestmark = pytest.mark.timeout(180)


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
    check_trained_equal(study, trained)
    assert read_seconds(study, arm_id)[: UPDATES // 2] == saved, "made again"
    assert list(storage.iterdir()) == []
