"""Starting `accelerate launch`, and the line to what it starts.

Owns the launch command, its environment and the socket. Nothing is sent to the hub, telemetry
included. The processes end with this one, however it ends.
"""

import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from attrib.attribution.trl_checks import Launch
from attrib.attribution.trl_job import LOG, Job
from attrib.attribution.trl_line import Line
from attrib.errors import TrainingError
from attrib.sampling.child_processes import ChildProcesses

WORKER = "attrib.attribution.trl_worker"
SECONDS_BETWEEN_LOOKS = 0.2
ALONE = "accelerate.json"
VARIABLES = {
    "PYTHONSAFEPATH": "1",  # a folder called attrib where the command is typed is not ours
    "HF_HUB_OFFLINE": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "TOKENIZERS_PARALLELISM": "false",
}


@dataclass(frozen=True, slots=True)
class Place:
    """Where a run is made.

    Attributes:
        folder: of the run.
        launch: what accelerate is told.
        device: that one process trains on; with a configuration file, accelerate decides.
    """

    folder: Path
    launch: Launch
    device: torch.device


class TrlProcess:
    """A running `accelerate launch`."""

    def __init__(
        self, process: "subprocess.Popen[bytes]", output: ChildProcesses, log: Path, line: Line
    ) -> None:
        """Look after a process that has called on `line`."""
        self._process, self._output, self._log = process, output, log
        self.line = line

    def finish(self) -> None:
        """Wait for the end of a process that has hung up.

        Raises:
            TrainingError: it did not end well.
        """
        if self._process.wait() != 0:
            raise _failure(self._process, self._output, self._log)


@contextmanager
def start_trl(place: Place, job: Job) -> Iterator[TrlProcess]:
    """Start training, and yield once the process that trains has called.

    Raises:
        TrainingError: it ended before it called.
    """
    log = place.folder / LOG
    with _listening() as (listener, address):
        replace(job, address=address).write(place.folder)
        output = ChildProcesses(is_quiet=True, log=log)
        with output.starting():
            process = subprocess.Popen(
                launch_command(place),
                env=launch_environment(place),
                stdin=subprocess.DEVNULL,
                start_new_session=True,  # Ctrl-C reaches it through this process only
            )
        line = None
        try:
            line = _wait_for_call(listener, process)
            if line is None:
                raise _failure(process, output, log)
            yield TrlProcess(process, output, log, line)
        finally:
            if line is not None:
                line.close()
            if process.poll() is None:
                output.end()
                process.kill()
                process.wait()
            else:
                output.forget()


def launch_command(place: Place) -> list[str]:
    """Return the command line; the configuration of one process is written first."""
    config = place.launch.config
    if config is None:  # never the one that `accelerate config` left in the user's home
        config = place.folder / ALONE
        config.write_text(json.dumps(_alone(place)), encoding="utf-8")
    return [
        *(sys.executable, "-m", "accelerate.commands.accelerate_cli", "launch"),
        *("--config_file", str(config), "--mixed_precision", place.launch.precision),
        *("--num_cpu_threads_per_process", str(torch.get_num_threads())),
        *("--module", WORKER, str(place.folder)),
    ]


def launch_environment(place: Place) -> dict[str, str]:
    """Return the variables of the processes: offline, and on the device of this run."""
    environment = {**os.environ, **VARIABLES}
    if place.launch.config is None and place.device.type == "cuda":
        index = place.device.index or 0
        visible = [one for one in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if one]
        environment["CUDA_VISIBLE_DEVICES"] = visible[index] if visible else str(index)
    return environment


def _alone(place: Place) -> dict[str, object]:
    return {
        "compute_environment": "LOCAL_MACHINE",
        "distributed_type": "NO",
        "num_machines": 1,
        "num_processes": 1,
        "mixed_precision": place.launch.precision,
        "use_cpu": place.device.type == "cpu",
        "debug": False,
    }


@contextmanager
def _listening() -> Iterator[tuple[socket.socket, str]]:
    """Yield a socket to listen on, and its address, which only this user reaches."""
    folder = tempfile.mkdtemp(prefix="attrib-")  # short: an address has about a hundred letters
    address = os.path.join(folder, "line")
    try:
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(address)
            listener.listen(1)
            yield listener, address
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _wait_for_call(listener: socket.socket, process: "subprocess.Popen[bytes]") -> Line | None:
    """Return the line once the process calls; None if it ends before."""
    listener.settimeout(SECONDS_BETWEEN_LOOKS)
    while process.poll() is None:
        try:
            connection, _ = listener.accept()
        except TimeoutError:
            continue
        connection.settimeout(None)
        return Line(connection)
    return None


def _failure(
    process: "subprocess.Popen[bytes]", output: ChildProcesses, log: Path
) -> TrainingError:
    reason = output.first_error() or f"exit code {process.returncode}"
    return TrainingError(
        f"The process that trains with TRL failed: {reason}. All it wrote is in {log}. The same "
        "command goes on at the last checkpoint."
    )
