"""Killed at any place, again and again, a run ends with the weights and tables of a quiet one."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import torch

from attrib.attribution import runs, trainer
from attrib.attribution.ablate import AblationSummary
from attrib.attribution.policy import Policy
from attrib.attribution.trainer import Trainer
from attrib.roles import Role
from attrib.store import Store

Ablate = Callable[..., AblationSummary]
ReadTables = Callable[[Store], dict[str, pl.DataFrame]]


class Killed(BaseException):
    """Stands for a signal that ends the process."""


@dataclass(frozen=True)
class Place:
    """A function in which a run is killed, before it or after it, at its call number `call`."""

    owner: Any
    name: str
    call: int = 1
    before: bool = True

    def arrange(self, patch: pytest.MonkeyPatch) -> None:
        real, calls = getattr(self.owner, self.name), iter(range(1, 10**6))

        def killed(*arguments: object, **named: object) -> object:
            is_it = next(calls) == self.call
            if is_it and self.before:
                raise Killed
            result = real(*arguments, **named)
            if is_it:
                raise Killed
            return result

        patch.setattr(self.owner, self.name, killed)


INSIDE_UPDATE = Place(torch.optim.AdamW, "step", call=2)
INSIDE_RECORD = Place(trainer, "record_batch", before=False)
BEFORE_CHECKPOINT = Place(Trainer, "_save")
DURING_EVALUATION = Place(runs, "record_milestone", before=False)
DURING_FINAL_MEASURES = Place(runs, "measure_masses")
INSIDE_THE_END = Place(runs, "end_run", before=False)
AFTER_THE_END = Place(runs.Runner, "clean_up")
AFTER_EXHAUSTION = Place(runs.Runner, "_evaluate_exhausted")


@pytest.fixture(autouse=True)
def no_probe(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave the estimate of times out: it is made anew at every start."""
    monkeypatch.setattr("attrib.attribution.plan.probe_base", lambda *_: None)


@pytest.fixture(scope="module")
def with_base(
    tmp_path_factory: pytest.TempPathFactory,
    bucketed: Path,
    connect: Callable[[Path], Store],
    ablate_shortly: Ablate,
) -> Path:
    """Make a study in which the base has been measured and nothing else."""
    path = tmp_path_factory.mktemp("with-base") / "study.duckdb"
    path.write_bytes(bucketed.read_bytes())
    store = connect(path)
    with pytest.MonkeyPatch.context() as patch:
        Place(Trainer, "train").arrange(patch)
        with pytest.raises(Killed):
            ablate_shortly(store)
    with store.writing("attrib test"), store.transaction() as transaction:
        for table in ("training_runs", "arm_roles"):
            transaction.execute(
                f"DELETE FROM {table} WHERE arm_id NOT IN (SELECT arm_id FROM evaluations)"
            )
        transaction.execute("DELETE FROM experiments")
        transaction.execute("DELETE FROM arm_roles")
    store.close()  # type: ignore[attr-defined]
    return path


def weights(store: Store) -> dict[str, bytes]:
    folder = Path(f"{store.path}.models")
    return {
        str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*.safetensors")
    }


def check_ledger(store: Store) -> None:
    """Check that nothing was visited twice or left out, and no update made twice."""
    for table, column, first in (("visits", "visit", 0), ("updates", "step", 1)):
        numbers = store.read(
            f"SELECT arm_id, list({column} ORDER BY {column}) FROM {table} GROUP BY 1"
        )
        for _, found in numbers.iter_rows():
            assert found == list(range(first, first + len(found))), table
    doubles = store.read(
        "SELECT arm_id, step, question_id, decoding, rollout FROM evaluations "
        "GROUP BY ALL HAVING count(*) > 1"
    )
    assert doubles.is_empty()


@pytest.fixture
def run_killed_and_quiet(
    with_base: Path,
    open_store: Callable[..., Store],
    ablate_shortly: Ablate,
    read_tables: ReadTables,
    monkeypatch: pytest.MonkeyPatch,
) -> Callable[..., Store]:
    """Return `run(places, **settings)`, which compares one killed at these places with a quiet one.

    Its answer is the study that was killed.
    """

    def run(places: list[Place], seconds: float, **settings: object) -> Store:
        monkeypatch.setattr(trainer, "SECONDS_BETWEEN_CHECKPOINTS", seconds)
        quiet = open_store("quiet.duckdb", with_base)
        expected = ablate_shortly(quiet, **settings)
        killed = open_store("killed.duckdb", with_base)
        for place in places:
            with monkeypatch.context() as patch:
                place.arrange(patch)
                with pytest.raises(Killed):
                    ablate_shortly(killed, **settings)
            assert killed.holder() is None
        found = ablate_shortly(killed, **settings)
        assert found.failed == ()
        assert found.exhausted == expected.exhausted
        assert found.effects == expected.effects
        check_ledger(killed)
        for name, frame in read_tables(killed).items():
            assert frame.equals(read_tables(quiet)[name]), name
        assert weights(killed) == weights(quiet) != {}
        assert list(Path(f"{killed.path}.checkpoints").iterdir()) == []
        return killed

    return run


@pytest.mark.parametrize(
    ("changes", "seconds"),
    [
        ({"fill": "informative", "inner_epochs": 2, "kl": 0.05}, -1.0),
        ({"fill": "none", "groups": 6}, 60.0),
        ({"method": "dpo"}, -1.0),
    ],
    ids=["grpo filled, many checkpoints", "grpo plain, few checkpoints", "dpo"],
)
def test_a_run_is_as_if_nothing_had_happened(
    run_killed_and_quiet: Callable[..., Store], changes: dict[str, object], seconds: float
) -> None:
    places = [
        INSIDE_UPDATE,
        INSIDE_RECORD,
        BEFORE_CHECKPOINT,
        DURING_EVALUATION,  # at half of the budget
        INSIDE_UPDATE,
        DURING_EVALUATION,  # at its end
        DURING_FINAL_MEASURES,
        INSIDE_THE_END,
        AFTER_THE_END,
    ]
    run_killed_and_quiet(places, seconds, role=(), keep="last", evaluate_at=(0.5, 1.0), **changes)


def test_an_exhausted_run_is_as_if_nothing_had_happened(
    run_killed_and_quiet: Callable[..., Store],
) -> None:
    places = [INSIDE_UPDATE, AFTER_EXHAUSTION, DURING_EVALUATION, DURING_FINAL_MEASURES]
    settings = {"budget": "updates=90", "max_rollouts": 200, "groups": 1}
    killed = run_killed_and_quiet(places, 60.0, role=(), keep="last", **settings)
    status = killed.read("SELECT status FROM arms WHERE role = 'full'").item()
    assert status == "exhausted"


def test_weights_of_every_fraction_are_kept_whatever_comes_between(
    run_killed_and_quiet: Callable[..., Store],
) -> None:
    """The weights are there before the milestone says so."""
    places = [
        Place(Policy, "save"),
        Place(Policy, "save", before=False),
        DURING_EVALUATION,
        Place(Policy, "save"),
    ]
    settings = {"method": "sft", "budget": "updates=2"}
    killed = run_killed_and_quiet(
        places, 60.0, role=(), keep="all", evaluate_at=(0.5, 1.0), **settings
    )
    folders = {file.name for file in Path(f"{killed.path}.models").glob("*/*")}
    assert folders == {"0.5", "1"}


def test_the_next_arm_goes_on_where_the_first_has_ended(
    run_killed_and_quiet: Callable[..., Store], monkeypatch: pytest.MonkeyPatch
) -> None:
    trained = []
    real = Trainer.train

    def train(self: Trainer) -> object:
        trained.append(self._run.arm.role)
        return real(self)

    monkeypatch.setattr(Trainer, "train", train)
    places = [Place(torch.optim.AdamW, "step", call=4)]  # the second update of the second arm
    settings = {"method": "sft", "budget": "updates=2"}
    run_killed_and_quiet(places, 60.0, role=(Role.ONLY,), keep="last", **settings)
    quiet, killed, resumed = trained[:2], trained[2:4], trained[4:]
    assert quiet == killed == [Role.FULL, Role.ONLY]
    assert resumed == [Role.ONLY]
