"""Arms as a cluster runs them, with a Ray of this process that does each task when it is asked for.

`make test-scale` has the real one.
"""

import json
import os
import platform
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import duckdb
import polars as pl
import pytest
import torch

from attrib.attribution import arm_task, cluster_arms, running, runs, trainer
from attrib.attribution.ablate import AblationSummary
from attrib.attribution.arm_rows import load_rows, put_rows, save_rows, take_rows
from attrib.attribution.arm_task import sweeping_scratch
from attrib.attribution.arms import Arm
from attrib.attribution.cluster_arms import find_storage
from attrib.attribution.experiment import set_up
from attrib.attribution.settings import AblateSettings
from attrib.cluster import Cluster, ClusterSettings
from attrib.errors import ConfigError, ModelError, TrainingError
from attrib.roles import Role
from attrib.store import Store

Ablate = Callable[..., AblationSummary]
ReadTables = Callable[[Store], dict[str, pl.DataFrame]]


class Lost(BaseException):
    """Stands for the end of a process."""


class RayError(Exception):
    """As Ray's: what a task raised is its cause."""

    def __init__(self, cause: BaseException) -> None:
        super().__init__(f"the task failed: {cause}")
        self.cause = cause


class Reference:
    def __init__(self, run: Callable[[], object], losses: int) -> None:
        self.value: object = None
        self.error: BaseException | None = None
        for _ in range(losses + 1):
            try:
                self.value, self.error = run(), None
                return
            except Lost as lost:
                self.error = RayError(lost)
            except Exception as error:
                self.error = RayError(error)
                return


class Remote:
    def __init__(self, call: Callable[..., object], losses: int = 0) -> None:
        self._call, self._losses = call, losses

    def remote(self, *arguments: object) -> Reference:
        return Reference(lambda: self._call(*arguments), self._losses)


class Actor:
    def __init__(self, kind: Callable[[], object]) -> None:
        self._kind = kind

    def remote(self) -> Any:
        inner = self._kind()
        made = type("Handle", (), {})()
        for name in ("tell", "read"):
            setattr(made, name, Remote(getattr(inner, name)))
        return made


class InlineRay:
    """What the arms need of the module `ray`."""

    class exceptions:
        RayError = RayError

    @staticmethod
    def remote(**options: Any) -> Callable[[Any], Any]:
        losses = options.get("max_retries", 0)
        return lambda what: Actor(what) if isinstance(what, type) else Remote(what, losses)

    @staticmethod
    def wait(tasks: list[Reference], timeout: float) -> tuple[list[Reference], list[Reference]]:
        return tasks[:1], tasks[1:]

    @staticmethod
    def get(task: Reference, timeout: float | None = None) -> object:
        if task.error is not None:
            raise task.error
        return task.value

    @staticmethod
    def get_runtime_context() -> Any:
        return type("Context", (), {"get_node_id": lambda self: "0123456789abcdef"})()


@pytest.fixture(autouse=True)
def inline(monkeypatch: pytest.MonkeyPatch) -> None:
    """Put the Ray of this process in the place of the real one."""

    @contextmanager
    def connected(settings: ClusterSettings) -> Iterator[Cluster]:
        yield Cluster(nodes=1, cpus=1.0, gpus=0.0, fitting=1, limit=1)

    monkeypatch.setattr(cluster_arms, "connected", connected)
    monkeypatch.setattr(cluster_arms, "import_ray", lambda: InlineRay)
    monkeypatch.setattr(cluster_arms, "SECONDS_BETWEEN_NOTES", 0.0)
    monkeypatch.setattr(arm_task, "SECONDS_BETWEEN_REPORTS", 0.0)
    monkeypatch.setattr("attrib.attribution.plan.probe_base", lambda *_: None)


@pytest.fixture
def study(tmp_path: Path, bucketed: Path) -> Store:
    """Return a study with buckets that nobody has open."""
    (tmp_path / "there").mkdir()
    return Store(Path(shutil.copy(bucketed, tmp_path / "there" / "study.duckdb")))


MORE: dict[str, object] = {"eval_samples": 2, "keep": "last", "evaluate_at": (0.5, 1.0)}


@pytest.fixture(scope="module")
def quiet(
    tmp_path_factory: pytest.TempPathFactory, bucketed: Path, ablate_shortly: Ablate
) -> Store:
    """Return a study whose arms were run one after another in this process."""
    store = Store(Path(shutil.copy(bucketed, tmp_path_factory.mktemp("quiet") / "study.duckdb")))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("attrib.attribution.plan.probe_base", lambda *_: None)
        ablate_shortly(store, cluster="none", **MORE)
    return store


def weights(store: Store) -> dict[str, bytes]:
    folder = Path(f"{store.path}.models")
    return {
        str(file.relative_to(folder)): file.read_bytes()
        for file in folder.rglob("*")
        if file.is_file()
    }


def check_equal(ours: Store, theirs: Store, read_tables: ReadTables) -> None:
    for (name, one), other in zip(
        read_tables(ours).items(), read_tables(theirs).values(), strict=True
    ):
        assert one.equals(other), name
    for table in ("phrasings", "verdicts"):
        sql = f"SELECT * FROM {table} ORDER BY ALL"
        assert ours.read(sql).equals(theirs.read(sql)), table
    assert weights(ours) == weights(theirs)
    assert weights(ours)


def test_arms_run_elsewhere_are_those_run_here(
    study: Store, quiet: Store, ablate_shortly: Ablate, read_tables: ReadTables
) -> None:
    summary = ablate_shortly(study, cluster="local", **MORE)
    assert (summary.trained, summary.reused, summary.failed) == (3, 0, ())
    check_equal(study, quiet, read_tables)
    assert not any(Path(f"{study.path}.arms").iterdir())
    assert ablate_shortly(study, cluster="local", **MORE).reused == 3


@pytest.mark.parametrize(
    ("owner", "name", "call"),
    [
        (torch.optim.AdamW, "step", 4),  # after a checkpoint
        (trainer, "record_batch", 1),  # before any
        (arm_task, "save_rows", 2),  # the checkpoint is there, storage is not told
    ],
)
def test_an_arm_whose_process_is_lost_goes_on_elsewhere(
    study: Store,
    quiet: Store,
    ablate_shortly: Ablate,
    read_tables: ReadTables,
    monkeypatch: pytest.MonkeyPatch,
    owner: Any,
    name: str,
    call: int,
) -> None:
    real, calls = getattr(owner, name), iter(range(1, 10**6))

    def lost(*arguments: object, **named: object) -> object:
        if next(calls) == call:
            raise Lost
        return real(*arguments, **named)

    monkeypatch.setattr(owner, name, lost)
    assert ablate_shortly(study, cluster="local", **MORE).failed == ()
    assert next(calls) > call
    check_equal(study, quiet, read_tables)


def test_a_driver_that_is_lost_goes_on_with_what_storage_has(
    study: Store,
    quiet: Store,
    ablate_shortly: Ablate,
    read_tables: ReadTables,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(cluster_arms, "load_rows", lambda *_: (_ for _ in ()).throw(Lost()))
        with pytest.raises(Lost):
            ablate_shortly(study, cluster="local", **MORE)
    assert study.read("SELECT * FROM evaluations").is_empty()
    with monkeypatch.context() as patch:
        patch.setattr(runs.Runner, "_measure_base", lambda *_: pytest.fail("measured again"))
        assert ablate_shortly(study, cluster="local", **MORE).failed == ()
    check_equal(study, quiet, read_tables)


def test_arms_that_fail_leave_the_others_alone(
    study: Store,
    ablate_shortly: Ablate,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    real = trainer.Trainer._update

    def diverge(self: trainer.Trainer, *arguments: object) -> object:
        if self._run.arm.role is Role.FULL:
            for parameter in self._run.policy.trained.values():
                parameter.data.fill_(float("nan"))
        return real(self, *arguments)  # type: ignore[arg-type]

    with monkeypatch.context() as patch:
        patch.setattr(trainer.Trainer, "_update", diverge)
        summary = ablate_shortly(study, cluster="local")
    assert summary.failed == ("full, seed 0",)
    statuses = dict(study.read("SELECT role, status FROM arms").iter_rows())
    assert statuses == {"base": "done", "full": "failed", "only": "done"}
    said = f"On {platform.node()} (01234567): Stopped at update 1: the loss"
    assert f"full, seed 0 failed: {said}" in capsys.readouterr().err
    [detail] = study.read("SELECT detail FROM arms WHERE status = 'failed'")["detail"]
    assert detail.startswith(said)
    repaired = ablate_shortly(study, cluster="local")  # the cause is gone
    assert (repaired.trained, repaired.reused, repaired.failed) == (1, 2, ())
    assert not any(Path(f"{study.path}.arms").iterdir())


def test_what_a_node_cannot_do_is_said_of_its_arm(
    study: Store, ablate_shortly: Ablate, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(self: runs.Runner, arm: object) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr(runs.Runner, "_train_and_measure", refuse)
    summary = ablate_shortly(study, cluster="local")
    assert summary.failed == ("full, seed 0", "only never-correct, seed 0")
    details = set(study.read("SELECT detail FROM arms WHERE status = 'failed'")["detail"])
    assert details == {f"On {platform.node()} (01234567), OSError: no space left on device"}


def test_what_a_node_says_of_its_files_names_where_they_can_be_found(
    study: Store, ablate_shortly: Ablate, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(self: runs.Runner, arm: Arm) -> None:
        log = self._checkpoint_of(arm).with_suffix(".trl") / "log.txt"
        log.parent.mkdir(parents=True)
        log.write_text("all of it", encoding="utf-8")
        raise TrainingError(f"All it wrote is in {log}. Look there.")

    monkeypatch.setattr(runs.Runner, "_train_and_measure", fail)
    ablate_shortly(study, cluster="local")
    for detail in study.read("SELECT detail FROM arms WHERE status = 'failed'")["detail"]:
        log = Path(detail.partition("All it wrote is in ")[2].removesuffix(". Look there."))
        assert log.read_text(encoding="utf-8") == "all of it"


def test_an_arm_is_not_given_fewer_gpus_than_its_processes_train_on(tmp_path: Path) -> None:
    file = tmp_path / "four.json"
    kind = {"compute_environment": "LOCAL_MACHINE", "distributed_type": "MULTI_GPU"}
    file.write_text(json.dumps({**kind, "num_processes": 4, "mixed_precision": "no"}))
    settings = AblateSettings(trainer="trl", accelerate_config=file)
    with pytest.raises(ConfigError, match=r"4 processes, .* 1 GPU\. .*: --gpus-per-worker 4"):
        cluster_arms._refuse_too_few_gpus(Cluster(1, 1.0, 1.0, 1, 1), settings)
    for gpus in (0.0, 4.0):
        cluster_arms._refuse_too_few_gpus(Cluster(1, 1.0, gpus, 1, 1), settings)


def test_a_base_that_cannot_be_measured_ends_everything(
    study: Store, ablate_shortly: Ablate, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(self: runs.Runner, arm: object) -> None:
        raise ModelError("There is no such model on this node.")

    monkeypatch.setattr(runs.Runner, "_measure_base", refuse)
    with pytest.raises(ModelError, match="no such model on this node"):
        ablate_shortly(study, cluster="local")


def test_a_node_with_another_attrib_is_refused(
    study: Store, ablate_shortly: Ablate, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = arm_task.set_up

    def differently(store: Store, settings: AblateSettings) -> object:
        return real(store, settings.model_copy(update={"learning_rate": 1.0}))

    monkeypatch.setattr(arm_task, "set_up", differently)
    with pytest.raises(ConfigError, match="the same version of attrib on all nodes"):
        ablate_shortly(study, cluster="local")


def test_an_arm_begun_here_is_finished_there(
    study: Store,
    quiet: Store,
    ablate_shortly: Ablate,
    read_tables: ReadTables,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    real, calls = runs.measure_masses, iter(range(10**6))

    def lost(*arguments: object) -> object:
        if next(calls):  # the base is measured
            raise Lost
        return real(*arguments)  # type: ignore[arg-type]

    with monkeypatch.context() as patch:
        patch.setattr(runs, "measure_masses", lost)
        with pytest.raises(Lost):
            ablate_shortly(study, cluster="none", **MORE)
    assert list(Path(f"{study.path}.checkpoints").iterdir())
    ablate_shortly(study, cluster="local", **MORE)
    check_equal(study, quiet, read_tables)
    assert not list(Path(f"{study.path}.checkpoints").iterdir())


def test_rows_are_put_once_however_often(quiet: Store, study: Store, tmp_path: Path) -> None:
    arm_id = quiet.read("SELECT arm_id FROM arms WHERE role = 'full'").item()
    rows = take_rows(quiet, arm_id)
    assert rows is not None
    save_rows(rows, tmp_path / "rows.duckdb")
    loaded = load_rows(tmp_path / "rows.duckdb", arm_id)
    with study.writing("attrib test"):
        for _ in range(2):
            with study.transaction() as transaction:
                put_rows(transaction, loaded)
    again = take_rows(study, arm_id)
    assert again is not None
    assert again.run.equals(rows.run)
    for table, frame in rows.tables.items():
        assert again.tables[table].sort(frame.columns).equals(frame.sort(frame.columns)), table
    assert take_rows(study, "no such arm") is None
    [doubles] = study.read("SELECT count(*) - count(DISTINCT verdicts) AS n FROM verdicts")["n"]
    assert doubles == 0


def test_storage_is_named_where_there_is_more_than_this_machine(tmp_path: Path) -> None:
    store = Store(tmp_path / "study.duckdb")
    assert find_storage(AblateSettings(cluster="local"), store).url == f"{store.path}.arms"
    with pytest.raises(ConfigError, match="--cluster auto needs --storage"):
        find_storage(AblateSettings(cluster="auto"), store)
    named = AblateSettings(cluster="auto", storage="memory://bucket/study")
    assert find_storage(named, store).url == "memory://bucket/study"


def test_what_cannot_be_kept_on_nodes_is_refused(study: Store, ablate_shortly: Ablate) -> None:
    with pytest.raises(ConfigError, match=r"--max-judge-calls cannot be kept .* --cluster none"):
        ablate_shortly(study, cluster="local", max_judge_calls=5)
    with duckdb.connect(study.path) as connection:
        connection.execute("ALTER TABLE rollouts RENAME TO kept")
        connection.execute("CREATE VIEW rollouts AS FROM kept")
    with pytest.raises(ConfigError, match=r"Parquet files .* nodes do not see.* --cluster none"):
        ablate_shortly(study, cluster="local")


def test_storage_belongs_to_one_study(study: Store) -> None:
    """Two studies of the same settings have the same ids."""
    with study.writing("test"):
        experiment = set_up(study, AblateSettings(device="cpu", eval_limit=4))
        own = cluster_arms._name_in_storage(study, experiment)
        assert cluster_arms._name_in_storage(study, experiment) == own
        with study.transaction() as transaction:
            transaction.execute("UPDATE bucketings SET created_at = created_at + INTERVAL 1 SECOND")
        assert cluster_arms._name_in_storage(study, experiment) != own


@pytest.mark.parametrize(
    ("gpus", "settings", "expected"),
    [
        (0, {}, None),
        (1, {}, None),
        (2, {}, "local"),
        (8, {"cluster": "none"}, None),
        (8, {"cluster": "auto"}, "auto"),
        (8, {"device": "cuda:1"}, None),
        (8, {"trainer": "mine"}, None),
    ],
)
def test_several_gpus_get_an_arm_each(
    monkeypatch: pytest.MonkeyPatch, gpus: int, settings: dict[str, str], expected: str | None
) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
    assert running.choose_cluster(AblateSettings(**settings)) == expected


def test_without_ray_one_gpu_is_used(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(running.importlib.util, "find_spec", lambda name: None)
    assert running.choose_cluster(AblateSettings()) is None
    assert "pip install 'attrib[ray]'" in capsys.readouterr().err


@pytest.mark.parametrize("place", ["", "foo://bar"])
def test_storage_that_there_is_not_is_refused_before_anything_is_done(place: str) -> None:
    store = Store(Path("attrib.duckdb"))
    with pytest.raises(ConfigError, match=r"--storage.*such as s3://bucket/study"):
        find_storage(AblateSettings(cluster="local", storage=place), store)


def test_what_killed_processes_left_is_swept_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    ended = subprocess.Popen(["true"])
    ended.wait()
    here = platform.node()
    kept = [f"attrib-arm-{here}-a-{os.getpid()}", f"attrib-arm-{here}x-a-{ended.pid}", "attrib-xy"]
    for name in (f"attrib-arm-{here}-a-{ended.pid}", *kept):
        (tmp_path / name).mkdir()
    with sweeping_scratch():
        assert sorted(one.name for one in tmp_path.iterdir()) == sorted(kept)
