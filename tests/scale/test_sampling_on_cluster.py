"""Sampling on two nodes: the rollouts of one process, whoever dies meanwhile."""

import os
import re
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from attrib.cluster import import_ray
from attrib.errors import ConfigError, ModelError
from attrib.sampling import cluster_sampling
from attrib.sampling.rollouts import SampleSettings, SampleSummary, draw_rollouts
from attrib.store import Store
from tests.scale.studies import QUESTIONS, SAMPLING, N, check_sampled_equal

pytestmark = pytest.mark.timeout(120)

Draw = Callable[..., SampleSummary]


@pytest.fixture(autouse=True)
def small_tasks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let there be several tasks, of several batches each."""
    monkeypatch.setattr(cluster_sampling, "ROLLOUTS_PER_TASK", 8 * N)


@pytest.fixture
def draw(tmp_path: Path, continent_model: Path) -> Draw:
    """Return `draw(**settings)`, which draws into `study.duckdb`."""

    def run(**changes: object) -> SampleSummary:
        settings = {**SAMPLING, "model": str(continent_model), **changes}
        return draw_rollouts(Store(tmp_path / "study.duckdb"), SampleSettings(**settings))

    return run


def kill_one(hold: Any, killed: list[int]) -> None:
    """Kill a worker half-way through a task, then let all go on."""
    while not hold.held("sampling"):
        time.sleep(0.05)
    killed += hold.held("sampling")[:1]
    os.kill(killed[0], signal.SIGKILL)
    hold.release()


def test_a_worker_killed_while_it_draws(
    tmp_path: Path, cluster: Any, hold: Any, draw: Draw, sampled: Store
) -> None:
    killed: list[int] = []
    killer = threading.Thread(target=kill_one, args=(hold, killed), daemon=True)
    killer.start()
    summary = draw(cluster=cluster.address)
    killer.join(timeout=10)
    assert killed
    assert (summary.drawn, summary.already_stored) == (QUESTIONS * N, 0)
    store = Store(tmp_path / "study.duckdb")
    check_sampled_equal(store, sampled)
    assert store.read("SELECT sum(tokens) FROM rollouts").item() == summary.tokens


def test_begun_here_and_finished_on_the_cluster_and_here_again(
    tmp_path: Path, cluster: Any, draw: Draw, sampled: Store
) -> None:
    draw(limit=10, n=6)
    there = draw(limit=20, cluster=cluster.address, workers=1)
    assert there.already_stored == 10 * 6
    here = draw()
    assert here.already_stored == 20 * N
    check_sampled_equal(Store(tmp_path / "study.duckdb"), sampled)


def test_what_a_worker_refuses_is_said_and_nothing_is_stored(
    tmp_path: Path, cluster: Any, draw: Draw, continent_model: Path
) -> None:
    with pytest.raises(ModelError, match=rf"^There is no room for {continent_model}\.$"):
        draw(engine="broken", cluster=cluster.address)
    assert Store(tmp_path / "study.duckdb").read("SELECT * FROM sample_sets").is_empty()


@pytest.fixture(scope="module")
def gpus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """Start a node that declares two GPUs, which nobody looks for, and lets clients in."""
    import_ray()
    from ray.cluster_utils import Cluster

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ATTRIB_HOME", str(tmp_path_factory.mktemp("home-of-gpus")))
        head = {"num_cpus": 2, "num_gpus": 2, "ray_client_server_port": port}
        started = Cluster(initialize_head=True, head_node_args=head)
    started.client = f"ray://127.0.0.1:{port}"
    yield started
    started.shutdown()


@pytest.mark.parametrize("each", [None, 0.5, 2])
def test_workers_take_gpus(
    tmp_path: Path, gpus: Any, draw: Draw, sampled: Store, each: float | None
) -> None:
    draw(cluster=gpus.address, gpus_per_worker=each)
    check_sampled_equal(Store(tmp_path / "study.duckdb"), sampled)


def test_a_client_draws_the_same(tmp_path: Path, gpus: Any, draw: Draw, sampled: Store) -> None:
    draw(cluster=gpus.client)
    check_sampled_equal(Store(tmp_path / "study.duckdb"), sampled)


def test_a_client_is_told_what_a_worker_refuses(
    gpus: Any, draw: Draw, continent_model: Path
) -> None:
    with pytest.raises(ModelError, match=rf"^There is no room for {continent_model}\.$"):
        draw(engine="broken", cluster=gpus.client)


def test_a_stale_address_in_the_environment(draw: Draw, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:1")
    with pytest.raises(ConfigError, match=r"--cluster auto at RAY_ADDRESS=127.0.0.1:1: there is"):
        draw(cluster="auto")


def test_a_cluster_that_is_not_there(draw: Draw) -> None:
    with pytest.raises(ConfigError, match=r"--cluster 127.0.0.1:1: there is no such cluster"):
        draw(cluster="127.0.0.1:1")


def test_the_cluster_file_of_the_docs_is_one() -> None:
    from ray.autoscaler._private.util import prepare_config, validate_config

    page = (Path(__file__).parents[2] / "docs/scale.md").read_text(encoding="utf-8")
    [file] = re.findall(r"```yaml\n(.*?)```", page, re.DOTALL)
    validate_config(prepare_config(yaml.safe_load(file)))
