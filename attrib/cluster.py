"""Ray: where work is done that one process does not get done.

Owns the settings of a cluster, the connection to it, and what it has. Ray is imported here when a
cluster is asked for, and by the two modules that give it work, never before. It is kept quiet: its
own progress, warnings and dashboard stay away, and it reports to nobody.
"""

import atexit
import logging
import os
import signal
import socket
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, redirect_stdout
from dataclasses import dataclass
from typing import Any

from pydantic import Field, field_validator

from attrib.errors import AttribError, ConfigError, first_line, missing_extra
from attrib.progress import say, silenced
from attrib.settings import Settings

LOCAL = "local"
"""A cluster of this machine alone, started for the command and ended with it."""
AUTO = "auto"
"""The cluster that `RAY_ADDRESS` names, or that this machine is part of."""
NONE = "none"
"""No cluster, even where there is one by default."""
SECONDS_TO_ANSWER = 10.0
SERVICE = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_BACKEND_LOG_LEVEL": "fatal",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
}
"""What the environment says to Ray where the user has not said otherwise."""


class ClusterSettings(Settings):
    """Where the work of a command is done, and what each worker takes."""

    cluster: str | None = None
    """`local`, `auto`, an address such as ray://head:10001, or `none`."""
    workers: int | None = Field(default=None, ge=1)
    """Workers at most; None takes as many as fit."""
    gpus_per_worker: float | None = Field(default=None, ge=0.0)
    """None takes one where the cluster has any."""
    cpus_per_worker: float = Field(default=1.0, gt=0.0)

    @field_validator("gpus_per_worker")
    @classmethod
    def _refuse_parts_of_several(cls, value: float | None) -> float | None:
        if value is not None and value > 1 and not value.is_integer():
            raise ValueError("above 1 it has to be a whole number, since parts of GPUs do not add")
        return value


class ArmClusterSettings(ClusterSettings):
    """Where arms are run."""

    storage: str | None = None
    """Path or URL of a folder that every node sees."""


@dataclass(frozen=True, slots=True)
class Cluster:
    """A cluster as it is now; Ray may add nodes and lose some.

    Attributes:
        nodes: machines.
        cpus: that one worker takes.
        gpus: that one worker takes.
        fitting: workers that the nodes have room for, and no more than were asked for.
        limit: workers at most; None where Ray may add as many as find room.
    """

    nodes: int
    cpus: float
    gpus: float
    fitting: int
    limit: int | None

    def __str__(self) -> str:
        """Return a phrase for people."""
        each = f"{self.gpus:g} GPU" if self.gpus else f"{self.cpus:g} CPU"
        nodes = f"{self.nodes} node{'s' * (self.nodes != 1)}"
        return f"{self.fitting} workers of {each} on {nodes}"


@contextmanager
def connected(settings: ClusterSettings) -> Iterator[Cluster]:
    """Start or join the cluster that the settings name; afterwards it is left, a local one ended.

    A program that is connected to Ray already stays so.

    Raises:
        MissingExtraError: Ray is not installed.
        ConfigError: there is no such cluster, or this machine cannot hold one worker.
    """
    assert settings.cluster is not None
    ray = import_ray()
    atexit.unregister(_end_silently)
    atexit.register(_end_silently)
    with ExitStack() as stack:
        if not ray.is_initialized():
            # Ray tells of lost nodes there, whatever it is asked; commands print when all is done.
            nothing = stack.enter_context(open(os.devnull, "w"))
            stack.enter_context(redirect_stdout(nothing))
            stack.callback(ray.shutdown)
            _start(ray, settings.cluster)
        cluster = _describe(ray, settings)
        if cluster.fitting == 0:
            say(
                f"No node has room for a worker of {cluster.cpus:g} CPU and {cluster.gpus:g} GPU "
                "now; waiting for one that has. Else: --gpus-per-worker, --cpus-per-worker"
            )
        yield cluster


def import_ray() -> Any:
    """Return the module `ray`.

    Raises:
        MissingExtraError: it is not installed.
    """
    for variable, value in SERVICE.items():
        os.environ.setdefault(variable, value)
    try:
        import ray
    except ImportError as error:
        raise missing_extra("--cluster", "ray", error) from error
    return ray


def is_client() -> bool:
    """Tell whether this process reaches its cluster through Ray Client (`ray://`)."""
    return bool(import_ray().util.client.ray.is_connected())


def find_own_error(error: BaseException) -> AttribError | None:
    """Return the error of ours that a worker raised, out of what Ray made of it."""
    seen: BaseException | None = error
    while seen is not None:
        cause = getattr(seen, "cause", None)  # Ray's own error takes the class of its cause
        if isinstance(seen, AttribError) and cause is None:
            return seen
        seen = cause if isinstance(cause, BaseException) else seen.__cause__
    return None


def describe_loss(error: BaseException) -> str:
    """Return what became of a task that ended with an error of Ray's, in a sentence's words."""
    cause = getattr(error, "cause", None)
    if isinstance(cause, BaseException):
        return f"on its node, {type(cause).__name__}: {first_line(cause)}"
    return f"its process died: {first_line(error)}"


def _end_silently() -> None:
    """Close stderr: Ray holds objects of DuckDB beyond the interpreter's end, which says so."""
    sys.stderr.flush()
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)


def _start(ray: Any, address: str) -> None:
    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
    if address == LOCAL:
        quiet["include_dashboard"] = False
    at_the_end = signal.getsignal(signal.SIGTERM)
    try:
        _knock(address)
        with silenced():  # what is wrong is raised
            ray.init(address=address, **quiet)
        signal.siginterrupt(signal.SIGINT, True)  # Ray leaves waits going on after a Ctrl-C
        if threading.current_thread() is threading.main_thread():
            is_ours = at_the_end == signal.SIG_DFL  # Ray would print its own stack
            signal.signal(signal.SIGTERM, _leave if is_ours else at_the_end)
            signal.siginterrupt(signal.SIGTERM, True)
    except ImportError as error:
        raise missing_extra(f"--cluster {address}", "ray", error) from error
    except (ConnectionError, ValueError, RuntimeError, OSError) as error:
        at = f" at RAY_ADDRESS={named}" if address == AUTO and (named := _named()) else ""
        raise ConfigError(
            f"--cluster {address}{at}: there is no such cluster to join ({first_line(error)}). On "
            "this machine alone: --cluster local; to start one: ray start --head"
        ) from error


def _leave(number: int, _: object) -> None:
    """End as the signal says, but leave what was begun in order: a local cluster ends too."""
    sys.exit(128 + number)


def _named() -> str:
    return os.environ.get("RAY_ADDRESS", "")


def _knock(address: str) -> None:
    """Connect to a host and port at once, for which Ray would try for minutes.

    Raises:
        OSError: nobody answers.
    """
    if address == AUTO:
        address = _named()
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if host and port.isdigit():
        socket.create_connection((host, int(port)), SECONDS_TO_ANSWER).close()


def _describe(ray: Any, settings: ClusterSettings) -> Cluster:
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    gpus, cpus = settings.gpus_per_worker, settings.cpus_per_worker
    if gpus is None:
        gpus = 1.0 if any(node.get("GPU") for node in nodes) else 0.0
    fitting = sum(_room(node, cpus, gpus) for node in nodes)
    if fitting == 0 and settings.cluster == LOCAL:
        [node] = nodes or [{}]
        raise ConfigError(
            f"A worker of {cpus:g} CPU and {gpus:g} GPU does not fit this machine, which has "
            f"{node.get('CPU', 0):g} and {node.get('GPU', 0):g}. Lower --cpus-per-worker or "
            "--gpus-per-worker."
        )
    limit = settings.workers
    return Cluster(len(nodes), cpus, gpus, min(fitting, limit or fitting), limit)


def _room(node: dict[str, float], cpus: float, gpus: float) -> int:
    """Return how many workers a node has room for."""
    rooms = [node.get("CPU", 0.0) // cpus]
    if gpus:
        rooms.append(node.get("GPU", 0.0) // gpus)
    return int(min(rooms))
