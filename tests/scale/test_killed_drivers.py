"""The command itself killed or interrupted, and typed again, with a cluster of this machine."""

import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from attrib.attribution.arm_task import ROWS
from attrib.errors import StoreError
from attrib.sampling.rollouts import SampleSettings, draw_rollouts
from attrib.store import Store
from tests.scale.studies import (
    QUESTIONS,
    SAMPLING,
    TRAINING,
    UPDATES,
    N,
    check_sampled_equal,
    check_trained_equal,
    read_seconds,
    to_flags,
)

pytestmark = pytest.mark.timeout(180)

Start = Callable[..., subprocess.Popen[str]]


def wait_for(process: subprocess.Popen[str], condition: Callable[[], bool]) -> None:
    while not condition():
        assert process.poll() is None, process.communicate()
        time.sleep(0.2)


def count_rollouts(store: Store) -> int:
    try:
        return int(store.read("SELECT count(*) FROM rollouts").item())
    except StoreError:  # not made yet
        return 0


def count_processes_of_ray() -> int:
    count = 0
    for process in psutil.process_iter(["cmdline", "status"]):
        words = " ".join(process.info["cmdline"] or ())
        is_ray = "raylet" in words or "gcs_server" in words or words.startswith("ray::")
        count += is_ray and process.info["status"] != psutil.STATUS_ZOMBIE
    return count


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_sampling_killed_and_interrupted(
    number: signal.Signals,
    code: int,
    tmp_path: Path,
    start_attrib: Start,
    continent_model: Path,
    sampled: Store,
    hold: Any,
) -> None:
    store = Store(tmp_path / "study.duckdb")
    settings = {**SAMPLING, "model": str(continent_model)}
    command = ["sample", "--db", store.path, *to_flags(settings)]
    command += ["--cluster", "local", "--workers", 1]
    process = start_attrib(*command)
    wait_for(process, lambda: count_rollouts(store) > 0)
    process.kill()
    process.wait()
    left = count_rollouts(store)
    assert 0 < left < QUESTIONS * N

    before = count_processes_of_ray()
    hold.set()
    process = start_attrib(*command)
    wait_for(process, lambda: count_rollouts(store) > left)
    process.send_signal(number)
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == code, stderr
    assert (number == signal.SIGINT) == stderr.splitlines()[-1].startswith("Interrupted.")
    assert "***" not in stderr, "a stack of Ray's"
    assert left < count_rollouts(store) < QUESTIONS * N
    assert count_processes_of_ray() <= before

    hold.release()
    draw_rollouts(store, SampleSettings(**settings))
    check_sampled_equal(store, sampled)


def test_arms_killed_and_finished(
    tmp_path: Path,
    start_attrib: Start,
    study: Store,
    trained: Store,
    hold: Any,
) -> None:
    storage = Path(f"{study.path}.arms")
    command = ["ablate", "--db", study.path, *to_flags(TRAINING)]
    command += ["--cluster", "local", "--workers", 1]
    process = start_attrib(*command)
    wait_for(process, lambda: bool(hold.held("training")))
    process.kill()
    process.wait()
    [rows] = storage.glob(f"*/*/{ROWS}")
    arm_id = rows.parent.name
    saved = read_seconds(Store(Path(shutil.copy(rows, tmp_path / "saved.duckdb"))), arm_id)
    assert len(saved) == UPDATES // 2, "there is a checkpoint"

    hold.release()
    process = start_attrib(*command)
    _, stderr = process.communicate(timeout=150)
    assert process.returncode == 0, stderr
    assert "2 of 3 runs to do" in stderr
    check_trained_equal(study, trained)
    assert read_seconds(study, arm_id)[: UPDATES // 2] == saved, "made again"
    assert list(storage.iterdir()) == []
