"""A real cluster of two nodes on this machine, and engines that give tests time to kill."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from attrib.cluster import import_ray

ENGINES = {"slow": "slow_engines:make_slow", "broken": "slow_engines:make_broken"}


@pytest.fixture(scope="session")
def workers(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder in which slow engines of workers leave their process ids."""
    return tmp_path_factory.mktemp("workers")


@pytest.fixture(scope="session", autouse=True)
def environment(tmp_path_factory: pytest.TempPathFactory, workers: Path) -> Iterator[None]:
    """Install the engines for this process and for all that it starts, nodes included."""
    site = tmp_path_factory.mktemp("site")
    metadata = site / "slow_engines-0.1.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: slow-engines\nVersion: 0.1\n")
    lines = ["[attrib.engines]", *(f"{name} = {target}" for name, target in ENGINES.items())]
    (metadata / "entry_points.txt").write_text("\n".join(lines))
    (site / "slow_engines.py").symlink_to(Path(__file__).with_name("slow_engines.py"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(site), prepend=os.pathsep)
        patch.syspath_prepend(str(site))
        yield


@pytest.fixture(scope="module")
def cluster(workers: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """Start a head and a second node, with a core each."""
    import_ray()
    from ray.cluster_utils import Cluster

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SLOW_ENGINES", str(workers))
        patch.setenv("ATTRIB_HOME", str(tmp_path_factory.mktemp("home-of-nodes")))
        started = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
        started.add_node(num_cpus=1)
    yield started
    started.shutdown()
