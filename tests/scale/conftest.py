"""A real cluster of two nodes on this machine, plugins that wait to be killed, quiet runs."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from attrib.attribution.ablate import ablate
from attrib.attribution.settings import AblateSettings
from attrib.cluster import import_ray
from attrib.sampling.bucketing import BucketSettings, bucket_questions
from attrib.sampling.rollouts import SampleSettings, draw_rollouts
from attrib.store import Store
from tests.scale.slow_plugins import FOLDER, HOLD
from tests.scale.studies import SAMPLING, TRAINING

NOTICE_SOON = {"health_check_period_ms": 500, "health_check_failure_threshold": 4}
"""Settings of Ray by which a node that was killed is missed after seconds."""

ENTRY_POINTS = """
[attrib.engines]
slow = slow_plugins:make_slow
broken = slow_plugins:make_broken

[attrib.trainers]
slow = slow_plugins:train_slowly
"""


class Hold:
    """Work of the slow plugins that stands still until it is let go."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def set(self) -> None:
        """Let what begins from now on stop half-way."""
        self.release()
        (self.folder / HOLD).touch()

    def release(self) -> None:
        """Let everything go on."""
        for file in self.folder.iterdir():
            file.unlink()

    def held(self, doing: str) -> list[int]:
        """Return the processes that have stopped while `sampling` or `training`."""
        return [int(file.name.split("-")[1]) for file in self.folder.glob(f"{doing}-*")]


@pytest.fixture(scope="session")
def hold_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder that slow plugins look into."""
    return tmp_path_factory.mktemp("hold")


@pytest.fixture
def hold(hold_folder: Path) -> Iterator[Hold]:
    """Return what stops workers half-way; they are released in the end."""
    hold = Hold(hold_folder)
    hold.set()
    yield hold
    hold.release()


@pytest.fixture(scope="session", autouse=True)
def environment(tmp_path_factory: pytest.TempPathFactory, hold_folder: Path) -> Iterator[None]:
    """Install the plugins for this process and for all that it starts, nodes included."""
    site = tmp_path_factory.mktemp("site")
    metadata = site / "slow_plugins-0.1.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: slow-plugins\nVersion: 0.1\n")
    (metadata / "entry_points.txt").write_text(ENTRY_POINTS)
    (site / "slow_plugins.py").symlink_to(Path(__file__).with_name("slow_plugins.py"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(site), prepend=os.pathsep)
        patch.syspath_prepend(str(site))
        patch.setenv(FOLDER, str(hold_folder))
        yield


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """Start a head and a second node, with a core each."""
    import_ray()
    from ray.cluster_utils import Cluster

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ATTRIB_HOME", str(tmp_path_factory.mktemp("home-of-nodes")))
        head = {"num_cpus": 1, "_system_config": NOTICE_SOON}
        started = Cluster(initialize_head=True, head_node_args=head)
        started.add_node(num_cpus=1)
    yield started
    started.shutdown()


@pytest.fixture(scope="session")
def sampled(tmp_path_factory: pytest.TempPathFactory, continent_model: Path) -> Store:
    """Return a study drawn in this process, undisturbed."""
    store = Store(tmp_path_factory.mktemp("sampled") / "study.duckdb")
    draw_rollouts(store, SampleSettings(**{**SAMPLING, "model": str(continent_model)}))
    return store


@pytest.fixture(scope="session")
def bucketed(tmp_path_factory: pytest.TempPathFactory, sampled: Store) -> Path:
    """Return a study with buckets; copy it before changing anything."""
    path = Path(shutil.copy(sampled.path, tmp_path_factory.mktemp("bucketed") / "study.duckdb"))
    bucket_questions(Store(path), BucketSettings(k=16))
    return path


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory, bucketed: Path) -> Store:
    """Return a study whose arms were run in this process, undisturbed."""
    store = Store(Path(shutil.copy(bucketed, tmp_path_factory.mktemp("trained") / "study.duckdb")))
    ablate(store, AblateSettings(**{**TRAINING, "cluster": "none"}), lambda plan: None)
    return store


@pytest.fixture
def study(tmp_path: Path, bucketed: Path) -> Store:
    """Return a study with buckets that a test may change."""
    return Store(Path(shutil.copy(bucketed, tmp_path / "study.duckdb")))
