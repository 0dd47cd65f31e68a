"""One run on some node of a cluster: with a copy of the study, kept in storage as it goes.

Owns what a node does: it copies the study from storage to its own disk, runs the arm there exactly
as `attrib ablate` does in one process, and after each checkpoint puts the run's rows and then the
checkpoint into storage. Whoever runs the arm after this node was lost goes on from there, as a
process that was killed does from its own disk. Rows go first: they may be ahead of the checkpoint,
never behind it.
"""

import os
import platform
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path

import psutil  # type: ignore[import-untyped]

from attrib.attribution.arm_rows import (
    count_verdicts,
    load_rows,
    put_rows,
    save_rows,
    take_rows,
)
from attrib.attribution.arms import Arm
from attrib.attribution.experiment import set_up
from attrib.attribution.plan import FINISHED
from attrib.attribution.runs import Runner, checkpoints_of, models_of
from attrib.attribution.settings import AblateSettings
from attrib.attribution.storage import Storage
from attrib.errors import AttribError, ConfigError, StoreError, TrainingError, first_line
from attrib.roles import Role
from attrib.store import Store, Transaction

SNAPSHOT = "study.duckdb"
ROWS = "rows.duckdb"
CHECKPOINTS = "checkpoints"
MODELS = "models"
_SCRATCH = "attrib-arm"  # begins the name of a folder on a node's own disk
SHARE_OF_SAVING = 0.1  # of the time, at most, goes into storage
SECONDS_BETWEEN_REPORTS = 1.0


@dataclass(frozen=True, slots=True)
class Job:
    """What a node is given.

    Attributes:
        arm_id: of the arm.
        arm: what is to be run, without its questions.
        question_ids: of these.
        experiment_id: which a node must arrive at, too.
        settings: of the ablation, with whole paths.
        storage: of the experiment.
        command: that asked for it.
    """

    arm_id: str
    arm: Arm
    question_ids: tuple[str, ...]
    experiment_id: str
    settings: AblateSettings
    storage: Storage
    command: str

    @classmethod
    def of(
        cls,
        arm: Arm,
        experiment_id: str,
        settings: AblateSettings,
        storage: Storage,
        command: str,
    ) -> "Job":
        """Return the job of running an arm."""
        ids = tuple(question.question_id for question in arm.questions)
        bare = replace(arm, questions=())
        return cls(arm.arm_id, bare, ids, experiment_id, settings, storage, command)


@dataclass(frozen=True, slots=True)
class Report:
    """How far a run has come."""

    arm_id: str
    node: str
    updates: int
    rollouts: int
    seconds: float


Tell = Callable[[Report], None]


def run_job(job: Job, node: str, tell: Tell) -> list[str]:
    """Run an arm, or what is left of it, until storage holds all its rows.

    Args:
        job: what is to be done.
        node: a name for this one.
        tell: called with how far it has come, about every second.

    Returns:
        what its graders took, in sentences.

    Raises:
        AttribError: the run cannot be made here. A run that failed leaves a row that says so.
    """
    try:
        with _scratch(job.arm_id) as folder:
            return _run(job, folder, node, tell)
    except AttribError as error:  # the node is named: it may be the one that fails every arm
        error.args = (f"On {node}: {error}",)
        raise
    except Exception as error:
        said = f"{type(error).__name__}: {first_line(error)}"
        raise TrainingError(f"On {node}, {said}") from error


def _run(job: Job, folder: Path, node: str, tell: Tell) -> list[str]:
    if not job.storage.pull(SNAPSHOT, folder / SNAPSHOT):
        raise StoreError(f"{job.storage.url} holds no {SNAPSHOT}. Is it there on every node?")
    kept = job.storage.below(job.arm_id)
    working = _WorkingStore(folder / SNAPSHOT, job.arm_id, kept, node, tell)
    if working.restore() in FINISHED:
        return []
    with working.writing("attrib ablate", create=False):
        experiment = set_up(working, job.settings)
        if experiment.experiment_id != job.experiment_id:
            raise ConfigError(
                f"this experiment is another one there ({experiment.experiment_id}, not "
                f"{job.experiment_id}). Install the same version of attrib on all nodes."
            )
        by_id = {question.question_id: question for question in experiment.bucketing.dataset}
        arm = replace(job.arm, questions=tuple(by_id[one] for one in job.question_ids))
        runner = Runner(working, experiment, job.settings, job.command)
        with working.watched():
            if arm.role is Role.IMPORTED:
                assert job.settings.import_arm is not None
                runner.measure_imported(arm, job.settings.import_arm)
            else:
                runner.run(arm)
    return runner.grading_summaries


class _WorkingStore(Store):
    """A node's copy of the study, which keeps what a run could go on from in storage.

    It looks after every transaction: then its rows stand, and nobody has it open.
    """

    def __init__(self, path: Path, arm_id: str, storage: Storage, node: str, tell: Tell) -> None:
        super().__init__(path)
        self._arm_id, self._storage = arm_id, storage
        self._node, self._tell = node, tell
        self._known_verdicts = count_verdicts(self)
        self._saved: dict[Path, tuple[int, int]] = {}
        self._save_at = self._report_at = 0.0
        self._is_watched = False

    def restore(self) -> str | None:
        """Take over what storage has of the run; return its status, None if it has nothing."""
        rows_file = self.path.with_name(ROWS)
        if not self._storage.pull(ROWS, rows_file):
            return None
        rows = load_rows(rows_file, self._arm_id)
        with self.writing("attrib ablate"), self.transaction() as transaction:
            put_rows(transaction, rows)
        for name in self._storage.names():
            kind, _, rest = name.partition("/")
            if kind == CHECKPOINTS:
                self._storage.pull(name, checkpoints_of(self) / rest)
        self._saved = self._changed(checkpoints_of(self))
        return rows.status

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Report and save during the block, and everything at its end, also when it fails."""
        self._is_watched = True
        try:
            yield
        except AttribError:
            with suppress(AttribError):  # what failed is to be told, not this
                self._save()
            raise
        self._is_watched = False
        self._save()

    @contextmanager
    def transaction(self) -> Iterator[Transaction]:
        """Write a batch; see `Store`."""
        with super().transaction() as transaction:
            yield transaction
        now = time.monotonic()
        if self._is_watched and now >= self._report_at:
            self._report()
            self._report_at = now + SECONDS_BETWEEN_REPORTS
        if self._is_watched and now >= self._save_at and self._changed(checkpoints_of(self)):
            self._save()
            ended = time.monotonic()
            self._save_at = ended + (ended - now) / SHARE_OF_SAVING

    def _report(self) -> None:
        rows = self.read(
            "SELECT updates, rollouts, wall_seconds FROM training_runs WHERE arm_id = $arm_id",
            arm_id=self._arm_id,
        )
        for updates, rollouts, seconds in rows.iter_rows():
            self._tell(Report(self._arm_id, self._node, updates, rollouts, seconds))

    def _save(self) -> None:
        """Put weights that are kept, rows and checkpoint into storage, in this order."""
        self._push(models_of(self), MODELS)
        rows = take_rows(self, self._arm_id, self._known_verdicts)
        if rows is not None:
            if rows.status == "failed":
                here, there = str(checkpoints_of(self)), self._storage.below(CHECKPOINTS).url
                rows = rows.with_detail(f"On {self._node}: {rows.detail.replace(here, there)}")
            rows_file = self.path.with_name(ROWS)
            save_rows(rows, rows_file)
            self._storage.push(rows_file, ROWS)
        self._push(checkpoints_of(self), CHECKPOINTS)
        for name in self._storage.names():  # checkpoints that newer ones have replaced
            kind, _, rest = name.partition("/")
            if kind == CHECKPOINTS and not (checkpoints_of(self) / rest).is_file():
                self._storage.remove(name)

    def _push(self, folder: Path, name: str) -> None:
        for file, state in self._changed(folder).items():
            self._storage.push(file, f"{name}/{file.relative_to(folder).as_posix()}")
            self._saved[file] = state

    def _changed(self, folder: Path) -> dict[Path, tuple[int, int]]:
        """Return the files that storage does not have as they are, with time and size."""
        found = {}
        for file in sorted(folder.rglob("*")):
            if file.is_file() and file.suffix != ".partial":
                about = file.stat()
                found[file] = (about.st_mtime_ns, about.st_size)
        return {file: state for file, state in found.items() if self._saved.get(file) != state}


@contextmanager
def sweeping_scratch() -> Iterator[None]:
    """Remove the folders that killed processes of this machine left, before and afterwards."""
    _sweep()
    try:
        yield
    finally:
        _sweep()


def _sweep() -> None:
    for left in Path(tempfile.gettempdir()).glob(f"{_SCRATCH}-{platform.node()}-*"):
        pid = left.name.rpartition("-")[2]
        if pid.isdigit() and not psutil.pid_exists(int(pid)):
            shutil.rmtree(left, ignore_errors=True)


@contextmanager
def _scratch(arm_id: str) -> Iterator[Path]:
    """Yield a folder on the node's own disk."""
    _sweep()
    name = f"{_SCRATCH}-{platform.node()}-{arm_id}-{os.getpid()}"  # the disk may be shared
    folder = Path(tempfile.gettempdir()) / name
    shutil.rmtree(folder, ignore_errors=True)  # of a container in which this number came again
    folder.mkdir()
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
