"""Arms on a cluster: each is one task of Ray, and this process alone writes to the study.

Owns which arms are given to Ray, how the study learns of them, and what becomes of one whose node
is lost: Ray runs its task again elsewhere, where it goes on from storage. The base comes first,
since every arm is measured on the phrasings that it used. An arm that cannot be run is marked
failed and leaves the others alone.
"""

import platform
import tempfile
import time
from collections.abc import Generator, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from attrib.attribution.arm_rows import ArmRows, load_rows, put_rows, put_verdicts
from attrib.attribution.arm_task import (
    MODELS,
    ROWS,
    SNAPSHOT,
    Job,
    Report,
    run_job,
    sweeping_scratch,
)
from attrib.attribution.arms import Arm
from attrib.attribution.experiment import Experiment
from attrib.attribution.ledger import end_run, mark_running
from attrib.attribution.runs import models_of
from attrib.attribution.settings import AblateSettings, Vllm
from attrib.attribution.storage import Storage
from attrib.attribution.trainers import TRL
from attrib.attribution.trl_checks import read_launch
from attrib.cluster import (
    LOCAL,
    Cluster,
    connected,
    describe_loss,
    find_own_error,
    import_ray,
)
from attrib.config import content_hash
from attrib.errors import AttribError, ConfigError, StoreError, TrainingError, first_line
from attrib.progress import say, track
from attrib.roles import Role
from attrib.sampling.judge import JudgeError
from attrib.store import Store

MOST_LOSSES = 20  # of nodes or processes under one arm
SECONDS_BETWEEN_LOOKS = 1.0
SECONDS_TO_ANSWER = 5.0  # the board, while its node may be lost
SECONDS_BETWEEN_NOTES = 2.0  # of how far arms have come

_ROLLOUTS_LIE_HERE = "SELECT count(*) FROM duckdb_tables() WHERE table_name = 'rollouts'"
_MADE = "SELECT epoch_us(created_at) FROM bucketings WHERE bucketing_id = $bucketing_id"


@dataclass(frozen=True, slots=True)
class Ended:
    """An arm that was run, and whether it succeeded."""

    arm: Arm
    is_done: bool
    said: tuple[str, ...]
    """What its graders took."""


def find_storage(settings: AblateSettings, store: Store) -> Storage:
    """Return where arms keep what they could go on from.

    Raises:
        ConfigError: none is named, and there is more than this machine; or there is no such kind.
        MissingExtraError: the package for it is not installed.
    """
    if settings.storage is not None:
        found = Storage.of(settings.storage)
        found.check()
        return found
    if settings.cluster != LOCAL:
        raise ConfigError(
            f"--cluster {settings.cluster} needs --storage: a folder that every node sees, by path "
            "or by a URL such as s3://bucket/study."
        )
    return Storage.of(f"{store.path}.arms")


def run_on_cluster(
    store: Store,
    experiment: Experiment,
    settings: AblateSettings,
    arms: Sequence[Arm],
    command: str,
) -> Generator[Ended]:
    """Run arms on the cluster that the settings name; yield each as it ends, stored already.

    Only inside `store.writing`. The `command` that asked is recorded with each.

    Raises:
        ConfigError: there is no such cluster, or no storage.
        AttribError: the base could not be measured.
    """
    _refuse_what_nodes_cannot_do(store, settings)
    storage = find_storage(settings, store).below(_name_in_storage(store, experiment))
    base = [arm for arm in arms if arm.role is Role.BASE]
    others = [arm for arm in arms if arm.role is not Role.BASE]
    with (
        sweeping_scratch(),  # of workers that end with the cluster
        connected(settings) as cluster,
        track("Arms", len(arms), "arms") as advance,
    ):
        _refuse_too_few_gpus(cluster, settings)
        say(f"{len(arms)} arms on {cluster} …")
        driver = _Driver(store, experiment, settings, storage, cluster, command)
        for part in filter(None, (base, others)):
            storage.push(store.path, SNAPSHOT)  # the second holds the phrasings of the base
            try:
                for ended in driver.run(part):
                    advance(1)
                    yield ended
            except ConnectionError as error:
                raise TrainingError(
                    f"The connection to the cluster is lost: {first_line(error)}. Arms that ended "
                    "are stored; the same command continues."
                ) from error
    if not driver.has_failures:  # what failed may go on from its state
        _try_to_remove(storage)


class _Board:
    """An actor that knows how far each arm has come."""

    def __init__(self) -> None:
        self._reports: dict[str, Report] = {}

    def tell(self, report: Report) -> None:
        self._reports[report.arm_id] = report

    def read(self) -> list[Report]:
        return list(self._reports.values())


class _Driver:
    """Gives arms to Ray and writes down what comes of them."""

    def __init__(
        self,
        store: Store,
        experiment: Experiment,
        settings: AblateSettings,
        storage: Storage,
        cluster: Cluster,
        command: str,
    ) -> None:
        self._ray = import_ray()
        self._store, self._storage, self._cluster = store, storage, cluster
        self._experiment_id = experiment.experiment_id
        self._settings = _for_nodes(settings, experiment)
        self._command = command
        self._board: Any = self._ray.remote(num_cpus=0, max_restarts=-1)(_Board).remote()
        self._run: Any = self._ray.remote(
            num_cpus=cluster.cpus,
            num_gpus=cluster.gpus,
            max_retries=MOST_LOSSES,
        )(_run_job)
        self._running: dict[Any, Arm] = {}
        self._known: dict[str, Report] = {}
        self._note_at = 0.0
        self.has_failures = False

    def run(self, arms: Sequence[Arm]) -> Iterator[Ended]:
        """Run the arms, at most as many at once as there may be workers."""
        waiting = list(arms)
        while waiting or self._running:
            while waiting and len(self._running) < (self._cluster.limit or len(arms)):
                self._submit(waiting.pop(0))
            ended, _ = self._ray.wait(list(self._running), timeout=SECONDS_BETWEEN_LOOKS)
            self._note()
            for task in ended:
                yield self._end(self._running.pop(task), task)

    def _submit(self, arm: Arm) -> None:
        job = Job.of(arm, self._experiment_id, self._settings, self._storage, self._command)
        self._running[self._run.remote(job, self._board)] = arm

    def _note(self) -> None:
        """Store how far arms have come, and where they are."""
        if time.monotonic() < self._note_at:
            return
        running = {arm.arm_id: arm for arm in self._running.values()}
        new = [one for one in self._ask() if one.arm_id in running and one not in self._told]
        for report in new:
            before = self._known.get(report.arm_id)
            if before is None:
                with self._store.transaction() as transaction:
                    mark_running(transaction, running[report.arm_id])
            if before is None or before.node != report.node:
                at = f", at update {report.updates}" if report.updates else ""
                say(f"{running[report.arm_id].name}: on {report.node}{at}.")
            self._known[report.arm_id] = report
        if new:
            with self._store.transaction() as transaction:
                transaction.update("training_runs", "arm_id", _to_rows(new))
        self._note_at = time.monotonic() + SECONDS_BETWEEN_NOTES

    @property
    def _told(self) -> list[Report]:
        return list(self._known.values())

    def _ask(self) -> list[Report]:
        """Return what arms have told; nothing where the board's node was lost: they tell again."""
        try:
            reports: list[Report] = self._ray.get(
                self._board.read.remote(), timeout=SECONDS_TO_ANSWER
            )
        except self._ray.exceptions.RayError:
            return []
        return reports

    def _end(self, arm: Arm, task: Any) -> Ended:
        try:
            said = tuple(self._ray.get(task))
            rows = self._fetch_rows(arm)
            self._fetch_weights(arm)
        except self._ray.exceptions.RayError as error:
            return self._fail(arm, find_own_error(error) or TrainingError(describe_loss(error)))
        except AttribError as error:
            return self._fail(arm, error)
        with self._store.transaction() as transaction:
            put_rows(transaction, rows)
        if rows.status == "failed":
            say(f"{arm.name} failed: {rows.detail}")
            self.has_failures = True
            return Ended(arm, False, said)
        if rows.status == "exhausted":
            say(f"{arm.name} is exhausted: {rows.detail}.")
        _try_to_remove(self._storage.below(arm.arm_id))
        return Ended(arm, True, said)

    def _fail(self, arm: Arm, error: AttribError) -> Ended:
        self._keep_verdicts(arm)
        if arm.role is Role.BASE or isinstance(error, JudgeError):  # no arm would fare better
            raise error
        say(f"{arm.name} failed: {error}")
        self.has_failures = True
        with self._store.transaction() as transaction:
            mark_running(transaction, arm)
            end_run(transaction, arm, "failed", str(error))
        return Ended(arm, False, ())

    def _keep_verdicts(self, arm: Arm) -> None:
        """Store what a run that failed has had graded: a judge may have been paid for it."""
        with suppress(AttribError):
            verdicts = self._fetch_rows(arm).verdicts
            with self._store.transaction() as transaction:
                put_verdicts(transaction, verdicts)

    def _fetch_rows(self, arm: Arm) -> ArmRows:
        """Return an arm's rows out of storage.

        Raises:
            StoreError: storage does not hold them.
        """
        storage = self._storage.below(arm.arm_id)
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / ROWS
            if not storage.pull(ROWS, file):
                raise StoreError(f"{storage.url} holds no {ROWS}. Is it there on every node?")
            return load_rows(file, arm.arm_id)

    def _fetch_weights(self, arm: Arm) -> None:
        """Put the weights that are kept of an arm in place."""
        storage = self._storage.below(arm.arm_id)
        for name in storage.names():
            kind, _, rest = name.partition("/")
            if kind == MODELS:
                storage.pull(name, models_of(self._store) / rest)


def _refuse_what_nodes_cannot_do(store: Store, settings: AblateSettings) -> None:
    """Refuse what would fail, or go wrong, on a node only.

    Raises:
        ConfigError: with what to do instead.
    """
    if store.read(_ROLLOUTS_LIE_HERE).item() == 0:
        raise ConfigError(
            f"The rollouts of {store.path} lie in Parquet files beside it, which nodes do not see. "
            "Run its arms in this process: --cluster none"
        )
    if settings.max_judge_calls is not None:
        raise ConfigError(
            "--max-judge-calls cannot be kept on a cluster, where every arm has a judge of its "
            "own. Leave it out, or run the arms in this process: --cluster none"
        )
    if settings.trainer == TRL and settings.trl_vllm is Vllm.SERVER and settings.workers != 1:
        raise ConfigError(
            "--trl-vllm server draws for one arm at a time, whose weights it holds. Give "
            "--workers 1, or --trl-vllm colocate."
        )


def _refuse_too_few_gpus(cluster: Cluster, settings: AblateSettings) -> None:
    """Refuse to give an arm fewer GPUs than its processes train on.

    Raises:
        ConfigError: with the number that it needs.
    """
    if settings.trainer != TRL or not cluster.gpus or settings.device == "cpu":
        return
    processes = read_launch(settings).processes
    if processes > max(1.0, cluster.gpus):
        raise ConfigError(
            f"{settings.accelerate_config} trains with {processes} processes, and an arm is given "
            f"{cluster.gpus:g} GPU. Give it as many: --gpus-per-worker {processes}"
        )


def _name_in_storage(store: Store, experiment: Experiment) -> str:
    """Return a name that no other study gives to its own, though it had the same settings."""
    made = store.read(_MADE, bucketing_id=experiment.bucketing.bucketing_id).item()
    return f"{experiment.experiment_id}-{content_hash(made)}"


def _try_to_remove(storage: Storage) -> None:
    """Remove what nothing needs any more."""
    try:
        storage.remove()
    except StoreError as error:
        say(f"Warning: {error}")


def _run_job(job: Job, board: Any) -> list[str]:
    """Run a job on the node where Ray calls this."""
    node = import_ray().get_runtime_context().get_node_id()
    return run_job(job, f"{platform.node()} ({node[:8]})", board.tell.remote)


def _for_nodes(settings: AblateSettings, experiment: Experiment) -> AblateSettings:
    """Return the settings of a run on a node, where other paths lead nowhere."""
    model, imported = settings.model, settings.import_arm
    accelerate = settings.accelerate_config
    if model is not None and Path(model).is_dir():
        model = str(Path(model).resolve())
    return settings.model_copy(
        update={
            "cluster": None,
            "storage": None,
            "bucketing": experiment.bucketing.bucketing_id,
            "model": model,
            "import_arm": imported and imported.resolve(),
            "accelerate_config": accelerate and accelerate.resolve(),
        }
    )


def _to_rows(reports: Sequence[Report]) -> pl.DataFrame:
    return pl.DataFrame(
        [
            {
                "arm_id": report.arm_id,
                "detail": f"on {report.node}",
                "updates": report.updates,
                "rollouts": report.rollouts,
                "wall_seconds": report.seconds,
            }
            for report in reports
        ]
    )
