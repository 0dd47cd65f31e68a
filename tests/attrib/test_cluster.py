"""The connection to Ray, as far as it needs no cluster; `make test-scale` has one."""

import sys
from pathlib import Path

import pytest

from attrib import cluster
from attrib.cluster import ClusterSettings, connected, find_own_error
from attrib.errors import ConfigError, MissingExtraError, ModelError


class WrappedError(Exception):
    """As Ray wraps what a task raised."""

    def __init__(self, cause: Exception) -> None:
        super().__init__("a long traceback")
        self.cause = cause


class WrappedModelError(WrappedError, ModelError):
    """As Ray gives it the class of its cause too."""


def test_ray_is_asked_for_by_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with (
        pytest.raises(MissingExtraError, match=r"--cluster needs .*'attrib\[ray\]'"),
        connected(ClusterSettings(cluster="local")),
    ):
        pass


@pytest.mark.parametrize(
    "settings",
    [
        {"workers": 0},
        {"gpus_per_worker": -1},
        {"gpus_per_worker": 1.5},
        {"cpus_per_worker": 0},
    ],
)
def test_settings_without_a_meaning(settings: dict[str, float]) -> None:
    [name] = settings
    with pytest.raises(ConfigError, match=f"--{name.replace('_', '-')}"):
        ClusterSettings(**settings)


@pytest.mark.parametrize(
    ("node", "cpus", "gpus", "expected"),
    [
        ({"CPU": 8.0}, 1.0, 0.0, 8),
        ({"CPU": 8.0}, 3.0, 0.0, 2),
        ({"CPU": 8.0}, 1.0, 1.0, 0),
        ({"CPU": 8.0, "GPU": 4.0}, 1.0, 1.0, 4),
        ({"CPU": 8.0, "GPU": 4.0}, 4.0, 1.0, 2),
        ({"CPU": 8.0, "GPU": 4.0}, 1.0, 0.5, 8),
        ({"GPU": 4.0}, 1.0, 1.0, 0),
    ],
)
def test_room_of_a_node(node: dict[str, float], cpus: float, gpus: float, expected: int) -> None:
    assert cluster._room(node, cpus, gpus) == expected


def test_our_own_error_is_found_in_what_ray_makes_of_it() -> None:
    own = ModelError("no room")
    outer = RuntimeError("the data set failed")
    outer.__cause__ = WrappedModelError(own)
    assert find_own_error(outer) is own
    assert find_own_error(WrappedError(WrappedError(own))) is own
    assert find_own_error(own) is own
    assert find_own_error(WrappedError(OSError("disk"))) is None


def test_nobody_is_waited_for_where_nobody_listens(tmp_path: Path) -> None:
    with pytest.raises(OSError):  # noqa: PT011 -- the system's own words
        cluster._knock("ray://127.0.0.1:1")
    cluster._knock("auto")
