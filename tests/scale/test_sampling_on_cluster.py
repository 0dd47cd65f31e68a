"""Sampling on two nodes: the rollouts of one process, whoever dies meanwhile."""

import os
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from attrib.errors import ConfigError, ModelError
from attrib.sampling import cluster_sampling
from attrib.sampling.rollouts import SampleSettings, SampleSummary, draw_rollouts
from attrib.store import Store

pytestmark = pytest.mark.timeout(120)

QUESTIONS, N = 40, 16
TABLES = {
    "rollouts": "SELECT * EXCLUDE (logprob) FROM rollouts ORDER BY question_id, rollout",
    "sample_sets": "SELECT * EXCLUDE (command, created_at, used_at) FROM sample_sets",
    "selections": "SELECT * FROM selections ORDER BY ALL",
    "questions": "SELECT * FROM questions ORDER BY question_id",
}
LOGPROBS = "SELECT logprob FROM rollouts ORDER BY question_id, rollout"

Draw = Callable[..., SampleSummary]


@pytest.fixture(autouse=True)
def small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let there be several tasks, of several batches each."""
    monkeypatch.setattr(cluster_sampling, "ROLLOUTS_PER_TASK", 8 * N)


@pytest.fixture(scope="module")
def draw(continent_model: Path) -> Draw:
    def run(path: Path, **changes: object) -> SampleSummary:
        settings: dict[str, object] = {
            "model": str(continent_model),
            "engine": "slow",
            "n": N,
            "where": "relation = 'continent'",
            "limit": QUESTIONS,
            "max_new_tokens": 4,
            "device": "cpu",
            **changes,
        }
        return draw_rollouts(Store(path), SampleSettings(**settings))

    return run


@pytest.fixture(scope="module")
def quiet(tmp_path_factory: pytest.TempPathFactory, draw: Draw) -> Store:
    """Return a study drawn in this process, undisturbed."""
    path = tmp_path_factory.mktemp("quiet") / "study.duckdb"
    draw(path)
    return Store(path)


def check_equal(ours: Store, theirs: Store) -> None:
    for table, sql in TABLES.items():
        assert ours.read(sql).equals(theirs.read(sql)), table
    difference = ours.read(LOGPROBS)["logprob"] - theirs.read(LOGPROBS)["logprob"]
    assert float(str(difference.abs().max())) < 1e-4


def pids(workers: Path) -> set[int]:
    return {int(file.name) for file in workers.iterdir()}


def kill_one(workers: Path, before: set[int], killed: list[int]) -> None:
    """Kill a worker that has begun to draw, once two have."""
    while len(new := pids(workers) - before) < 2:
        time.sleep(0.05)
    killed.append(min(new))
    os.kill(killed[0], signal.SIGKILL)


def test_a_worker_killed_while_it_draws(
    tmp_path: Path, cluster: Any, workers: Path, draw: Draw, quiet: Store
) -> None:
    before, killed = pids(workers), []
    killer = threading.Thread(target=kill_one, args=(workers, before, killed), daemon=True)
    killer.start()
    summary = draw(tmp_path / "study.duckdb", cluster=cluster.address)
    killer.join(timeout=10)
    assert killed
    assert len(pids(workers) - before) == 3, "two workers, and one in place of the dead one"
    assert (summary.drawn, summary.already_stored) == (QUESTIONS * N, 0)
    store = Store(tmp_path / "study.duckdb")
    check_equal(store, quiet)
    assert store.read("SELECT sum(tokens) FROM rollouts").item() == summary.tokens


def test_begun_here_and_finished_on_the_cluster_and_here_again(
    tmp_path: Path, cluster: Any, draw: Draw, quiet: Store
) -> None:
    path = tmp_path / "study.duckdb"
    draw(path, limit=10, n=6)
    there = draw(path, limit=20, cluster=cluster.address, workers=1)
    assert there.already_stored == 10 * 6
    here = draw(path)
    assert here.already_stored == 20 * N
    check_equal(Store(path), quiet)


def test_what_a_worker_refuses_is_said_and_nothing_is_stored(
    tmp_path: Path, cluster: Any, draw: Draw, continent_model: Path
) -> None:
    path = tmp_path / "study.duckdb"
    with pytest.raises(ModelError, match=rf"^There is no room for {continent_model}\.$"):
        draw(path, engine="broken", cluster=cluster.address)
    assert Store(path).read("SELECT * FROM sample_sets").is_empty()


def test_a_cluster_that_is_not_there(tmp_path: Path, draw: Draw) -> None:
    with pytest.raises(ConfigError, match=r"--cluster 127.0.0.1:1: there is no such cluster"):
        draw(tmp_path / "study.duckdb", cluster="127.0.0.1:1")
