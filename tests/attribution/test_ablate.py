"""The ablation on a tiny model: what it stores, reuses and refuses."""

import csv
import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import polars as pl
import pytest
import torch
from safetensors.torch import load_file

from attrib.analyses import analyze
from attrib.attribution import ablate as ablation
from attrib.attribution import runs, trainer
from attrib.attribution.ablate import AblationSummary, plan_ablation
from attrib.attribution.arms import Arm
from attrib.attribution.plan import TrainingPlan
from attrib.attribution.policy import Policy
from attrib.attribution.runs import Runner
from attrib.attribution.settings import AblateSettings, Design
from attrib.data.library import store_questions
from attrib.data.questions import AnswerType, Question, Split
from attrib.errors import ConfigError, DataError, ModelError, StoreError
from attrib.reports.render import write_report
from attrib.roles import PLANNED, Role
from attrib.store import Store
from tests.local_server import LocalServer, chat_choice, said

TRAINING, HELD_OUT = 30, 12
UPDATES, GROUPS = 3, 2
SEEDS = (0, 1)
WHOLE = {"role": PLANNED, "seeds": 2, "budget": f"updates={UPDATES}", "evaluate_at": (0.4, 1.0)}

Ablate = Callable[..., AblationSummary]
Connect = Callable[[Path], Store]


@dataclass(frozen=True)
class Finished:
    """An ablation in all roles that nothing disturbed."""

    path: Path
    summary: AblationSummary
    tables: dict[str, pl.DataFrame]
    never: int
    """Questions that were never right."""


@pytest.fixture(scope="module")
def finished(
    tmp_path_factory: pytest.TempPathFactory,
    bucketed: Path,
    connect: Connect,
    ablate_shortly: Ablate,
    read_tables: Callable[[Store], dict[str, pl.DataFrame]],
) -> Finished:
    path = tmp_path_factory.mktemp("finished") / "study.duckdb"
    store = connect(Path(shutil.copy(bucketed, path)))
    summary = ablate_shortly(store, **WHOLE)
    never = store.read("SELECT count(*) FROM buckets WHERE bucket = 'never-correct'").item()
    found = Finished(path, summary, read_tables(store), never)
    store.close()  # type: ignore[attr-defined]
    return found


@pytest.fixture
def again(finished: Finished, open_store: Callable[..., Store]) -> Store:
    """Return a copy of the finished study."""
    return open_store(original=finished.path)


def test_the_arms_are_stored_with_what_they_trained_on(finished: Finished) -> None:
    arms, never = finished.tables["arms"], finished.never
    assert 8 <= never < TRAINING / 2
    questions = {
        (role, subset, seed): n
        for role, subset, seed, n in arms["role", "subset", "seed", "questions"].rows()
    }
    assert questions == {
        ("base", "none", 0): 0,
        **{("full", "full", seed): TRAINING for seed in SEEDS},
        **{("only", "never-correct", seed): never for seed in SEEDS},
        **{("all-but", "never-correct", seed): TRAINING - never for seed in SEEDS},
        **{("matched-random", "never-correct", seed): never for seed in SEEDS},
        **{("matched-complement", "never-correct", seed): never for seed in SEEDS},
    }
    assert set(arms["status"]) == {"done"}
    assert arms["arm_id"].n_unique() == len(arms) == 11
    assert (finished.summary.trained, finished.summary.reused) == (11, 0)
    assert finished.summary.failed == finished.summary.exhausted == ()


def test_updates_and_visits_agree(finished: Finished) -> None:
    updates, visits = finished.tables["updates"], finished.tables["visits"]
    steps = updates.group_by("arm_id").agg(pl.col("step").sort())["step"].to_list()
    assert steps == [[1, 2, 3]] * 10
    assert (updates["informative_groups"] == GROUPS).all()
    assert (updates["gradient_norm"] > 0).all()
    numbers = visits.group_by("arm_id").agg(pl.col("visit").sort(), pl.len())
    assert all(row["visit"] == list(range(row["len"])) for row in numbers.iter_rows(named=True))

    assert ((visits["correct"] > 0) & (visits["correct"] < visits["rollouts"])).equals(
        visits["informative"]
    )
    counted = (
        visits.group_by("arm_id", "step")
        .agg(
            pl.col("rollouts").sum(),
            pl.col("informative").sum(),
            (pl.col("gradient_weight") > 0).sum().alias("weighted"),
            pl.col("informative")
            .filter(pl.col("gradient_weight") > 0)
            .all()
            .alias("all_informative"),
        )
        .sort("arm_id", "step")
    )
    assert counted["arm_id"].equals(updates["arm_id"])
    assert (counted["rollouts"] == updates["rollouts"]).all()
    assert (counted["informative"] >= updates["informative_groups"]).all()
    assert (counted["weighted"] == updates["informative_groups"]).all()
    assert counted["all_informative"].all()
    spent = updates.group_by("arm_id").agg(pl.col("rollouts").sum()).sort("arm_id")
    arms = finished.tables["arms"].filter(pl.col("role") != "base").sort("arm_id")
    assert arms.select("arm_id", "rollouts").equals(spent.cast({"rollouts": pl.Int64}))


def test_surplus_informative_groups_carry_no_gradient(finished: Finished) -> None:
    visits = finished.tables["visits"]
    assert len(visits.filter(pl.col("informative") & (pl.col("gradient_weight") == 0))) > 0


def test_visits_stay_inside_the_subset(finished: Finished, again: Store) -> None:
    buckets = again.read("SELECT question_id, bucket FROM buckets")
    visited = (
        finished.tables["visits"]
        .join(finished.tables["arms"], on="arm_id")
        .join(buckets, on="question_id", how="left")
    )
    assert visited["bucket"].null_count() == 0
    never = {
        role: set(part["bucket"] == "never-correct") for (role,), part in visited.group_by("role")
    }
    assert never["only"] == {True}
    assert never["all-but"] == never["matched-complement"] == {False}
    assert never["full"] == never["matched-random"] == {True, False}


def test_every_arm_answers_the_same_questions_at_every_fraction(
    finished: Finished, again: Store
) -> None:
    splits = again.read("SELECT question_id, split, dataset FROM questions")
    evaluations = finished.tables["evaluations"].join(splits, on="question_id")
    assert set(evaluations["dataset"]) == {"continents"}
    for split, count in (("held-out", HELD_OUT), ("train", TRAINING)):
        mine = evaluations.filter(split=split)
        asked = mine.group_by("arm_id", "step").agg(pl.col("question_id").sort())["question_id"]
        assert len({tuple(ids) for ids in asked}) == 1
        assert {len(ids) for ids in asked} == {count}
    steps = evaluations.group_by("arm_id", "split").agg(pl.col("step").unique().sort())
    by_split = steps.join(finished.tables["arms"].filter(pl.col("role") != "base"), on="arm_id")
    assert set(map(tuple, by_split.filter(split="held-out")["step"])) == {(2, 3)}
    assert set(map(tuple, by_split.filter(split="train")["step"])) == {(3,)}
    milestones = finished.tables["milestones"]
    assert set(milestones["fraction"]) == {0.0, 0.4, 1.0}
    assert len(milestones) == 1 + 2 * 10


def test_the_effects_follow_from_the_evaluations(finished: Finished, again: Store) -> None:
    held_out = again.read("SELECT question_id FROM questions WHERE split = 'held-out'")
    right = (
        finished.tables["evaluations"]
        .join(finished.tables["arms"], on="arm_id")
        .join(
            finished.tables["milestones"].select("arm_id", "step", "fraction"),
            on=["arm_id", "step"],
        )
        .filter(pl.col("fraction").is_in([0.0, 1.0]))
        .join(held_out, on="question_id")
        .group_by("role")
        .agg((pl.col("verdict") == "correct").mean())
    )
    accuracy = dict(right.iter_rows())
    found = finished.tables["effects"].filter(evaluated_on="held-out")
    last = found.filter((pl.col("fraction") == 1.0) | (pl.col("role") == "base"))
    values = {
        (role, name): value for role, name, value in last["role", "statistic", "value"].rows()
    }
    for role in ("full", *map(str, PLANNED)):
        assert values[role, "accuracy"] == pytest.approx(accuracy[role])
        assert values[role, "gain"] == pytest.approx(accuracy[role] - accuracy["base"])
    expected = accuracy["only"] - accuracy["matched-random"]
    assert values["only", "difference_random"] == pytest.approx(expected)
    assert set(last.filter(statistic="gain")["seeds"]) == {2}
    assert set(found["questions"]) == {HELD_OUT}
    assert set(found.filter(statistic="share")["role"]) == set(map(str, PLANNED))
    elsewhere = set(finished.tables["effects"]["evaluated_on"]) - {"held-out"}
    assert "train:never-correct" in elsewhere
    assert all(name.partition(":")[0] in ("train", "held-out") for name in elsewhere)


def test_what_the_summary_says_is_what_is_stored(finished: Finished) -> None:
    stored = finished.tables["effects"]
    assert len(stored) == len(finished.summary.effects)
    assert set(stored["experiment_id"]) == {finished.summary.experiment_id}
    values = {
        (e.subset, str(e.role), e.statistic, e.evaluated_on, e.fraction): e.value
        for e in finished.summary.effects
    }
    for row in stored.iter_rows(named=True):
        key = (row["subset"], row["role"], row["statistic"], row["evaluated_on"], row["fraction"])
        assert values[key] == row["value"]


def test_finished_arms_are_reused(
    finished: Finished,
    again: Store,
    ablate_shortly: Ablate,
    read_tables: Callable[[Store], dict[str, pl.DataFrame]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(runs, "load_model", None)  # nothing is even loaded
        plans: list[TrainingPlan] = []
        summary = ablate_shortly(again, plans.append, **WHOLE)
    assert (summary.trained, summary.reused) == (0, 11)
    assert summary.experiment_id == finished.summary.experiment_id
    assert summary.effects == finished.summary.effects
    for name, frame in read_tables(again).items():
        assert frame.equals(finished.tables[name]), name
    [plan] = plans
    assert plan.owed == []
    assert {run.status for run in plan.runs} == {"done"}
    assert (plan.seconds, plan.disk_bytes) == (None, None)


def test_a_further_seed_trains_the_new_runs_only_and_joins_the_experiment(
    finished: Finished, again: Store, ablate_shortly: Ablate
) -> None:
    more = ablate_shortly(again, **{**WHOLE, "seeds": 3, "role": (Role.ONLY,)})
    assert (more.trained, more.reused) == (2, 5)  # full and only; the base and two seeds of each
    assert more.experiment_id == finished.summary.experiment_id
    seeds = {
        (e.role, e.statistic): e.seeds
        for e in more.effects
        if e.evaluated_on == "held-out" and e.statistic == "gain"
    }
    assert seeds[Role.ONLY, "gain"] == seeds[Role.FULL, "gain"] == 3
    assert seeds[Role.MATCHED_RANDOM, "gain"] == 2  # what was there stays, in all roles
    later = ablate_shortly(again, **{**WHOLE, "seeds": 1, "seed": 2, "role": (Role.ONLY,)})
    assert (later.trained, later.reused) == (0, 3)


def test_another_subset_and_other_words_for_it_share_runs(
    again: Store, ablate_shortly: Ablate
) -> None:
    """Everything but never-correct, said in SQL, is a run that is there."""
    ids = again.read("SELECT question_id FROM buckets WHERE bucket <> 'never-correct'")
    listed = ", ".join(f"'{one}'" for one in ids["question_id"])
    changes = {
        **WHOLE,
        "role": (Role.ONLY, Role.ALL_BUT),
        "subset": (),
        "subset_where": (f"question_id IN ({listed})",),
    }
    plans: list[TrainingPlan] = []
    summary = ablate_shortly(again, plans.append, **changes)
    assert (summary.trained, summary.reused) == (0, 7)
    gains = {
        (e.role, e.subset == "never-correct"): e.value
        for e in summary.effects
        if (e.statistic, e.evaluated_on, e.fraction) == ("gain", "held-out", 1.0)
    }
    assert gains[Role.ONLY, False] == gains[Role.ALL_BUT, True]
    assert gains[Role.ALL_BUT, False] == gains[Role.ONLY, True]


def test_other_settings_are_another_experiment_on_the_same_base(
    finished: Finished, again: Store, ablate_shortly: Ablate
) -> None:
    changes = {**WHOLE, "seeds": 1, "role": ()}
    other = ablate_shortly(again, **changes, groups=1)
    assert other.experiment_id != finished.summary.experiment_id
    assert (other.trained, other.reused) == (1, 1)
    prefix = str(again.read("SELECT bucketing_id FROM bucketings").item())[:6]
    named = ablate_shortly(again, **changes, bucketing=prefix, tokens_at_once=10)
    assert named.experiment_id == finished.summary.experiment_id  # neither changes what is trained
    assert named.trained == 0


def test_coalitions_share_runs_and_give_shapley_values(
    store: Store, ablate_shortly: Ablate
) -> None:
    with store.writing("attrib test"), store.transaction() as transaction:
        transaction.execute(  # two parts
            "UPDATE buckets SET bucket = 'rarely-correct' WHERE bucket <> 'never-correct'"
        )
    plans: list[TrainingPlan] = []
    summary = ablate_shortly(
        store, plans.append, subset=(), design=Design.SHAPLEY, budget="updates=1"
    )
    assert summary.trained == 4  # base, full and the two parts, each in several roles
    names = {run.names for run in plans[0].runs if run.role is not Role.BASE}
    assert names == {
        ("full, seed 0", "coalition never-correct+rarely-correct, seed 0"),
        (
            "only never-correct, seed 0",
            "all-but rarely-correct, seed 0",
            "coalition never-correct, seed 0",
        ),
        (
            "all-but never-correct, seed 0",
            "only rarely-correct, seed 0",
            "coalition rarely-correct, seed 0",
        ),
    }
    values = {e.subset: e.value for e in summary.effects if e.statistic == "shapley"}
    assert set(values) == {"never-correct", "rarely-correct"}
    [whole] = [
        e.value
        for e in summary.effects
        if (e.role, e.statistic, e.evaluated_on) == (Role.FULL, "gain", "held-out")
    ]
    assert sum(values.values()) == pytest.approx(whole)


def test_a_subset_smaller_than_a_batch_is_visited_again(
    store: Store, ablate_shortly: Ablate
) -> None:
    with store.writing("attrib test"), store.transaction() as transaction:
        transaction.execute(
            "UPDATE buckets SET bucket = 'mostly-correct' WHERE question_id IN (SELECT question_id "
            "FROM buckets WHERE bucket = 'sometimes-correct' ORDER BY correct DESC LIMIT 2)"
        )
    summary = ablate_shortly(store, subset=("mostly-correct",), groups=4, budget="updates=1")
    assert summary.failed == ()
    visits = store.read(
        "SELECT question_id, count(*) AS visits FROM visits "
        "WHERE arm_id IN (SELECT arm_id FROM arms WHERE role = 'only') GROUP BY ALL"
    )
    assert len(visits) == 2
    assert visits["visits"].min() >= 2


def test_one_bucket_that_is_everything_has_no_complement(
    tmp_path: Path,
    save_answering_model: Callable[..., Path],
    make_study: Callable[..., Store],
    ablate_shortly: Ablate,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A model that cannot be right: every question is never-correct, and every arm exhausted."""
    (tmp_path / "mute").mkdir()
    mute = save_answering_model(tmp_path / "mute", ["Perhaps", "Maybe"])
    store = make_study(tmp_path / "mute.duckdb", mute, questions=6)
    assert set(store.read("SELECT bucket FROM buckets")["bucket"]) == {"never-correct"}

    summary = ablate_shortly(store, role=PLANNED, max_rollouts=100)
    assert (summary.trained, summary.reused, summary.failed) == (2, 0, ())
    assert summary.exhausted == ("full, seed 0",)
    arms = store.read(
        "SELECT role, status, detail, updates, rollouts FROM arms ORDER BY role, subset"
    )
    assert arms["role"].to_list() == ["base", "full", "matched-random", "only"]
    assert arms["status"].to_list() == ["done", *["exhausted"] * 3]
    assert set(arms["detail"]) == {
        "",
        "0 of 4 updates within 96 rollouts: 0 updates, 6 visits",
    }
    assert arms["rollouts"].to_list() == [0, 96, 96, 96]  # never above the limit
    assert "full, seed 0 is exhausted: 0 of 4" in " ".join(capsys.readouterr().err.split())
    assert store.read("SELECT count(*) FROM updates").item() == 0
    visits = store.read(
        "SELECT sum(rollouts) AS r, max(correct) AS c, bool_or(informative) FROM visits"
    )
    assert visits.row(0) == (96, 0, False)
    held_out = [e for e in summary.effects if e.evaluated_on == "held-out"]
    ends = {e.role: (e.value, e.fraction) for e in held_out if e.statistic == "final_gain"}
    assert ends == dict.fromkeys((Role.FULL, Role.ONLY, Role.MATCHED_RANDOM), (0.0, 0.0))
    assert {e.value for e in held_out if e.statistic == "share"} == {None}
    # exhausted is an end, not a failure
    assert ablate_shortly(store, role=PLANNED, max_rollouts=100).trained == 0


def test_an_exhausted_arm_is_evaluated_where_it_ended(store: Store, ablate_shortly: Ablate) -> None:
    summary = ablate_shortly(
        store,
        role=(),
        budget="updates=40",
        evaluate_at=(0.025, 0.5, 1.0),
        groups=1,
        max_rollouts=160,
        keep="all",
        eval_samples=2,
    )
    assert summary.exhausted == ("full, seed 0",)
    [arm] = store.read("SELECT * FROM arms WHERE role = 'full'").iter_rows(named=True)
    updates = arm["updates"]
    assert 1 < updates < 20
    assert arm["detail"].startswith(f"{updates} of 40 updates within 160 rollouts: {updates} upd")
    milestones = store.read(
        "SELECT fraction, step, visits FROM milestones WHERE arm_id = $id ORDER BY step, fraction",
        id=arm["arm_id"],
    )
    end = round(updates / 40, 4)
    assert milestones.rows()[0][:2] == (0.025, 1)
    assert milestones.rows()[-1] == (end, updates, 10)
    evaluated = store.read(
        "SELECT step, count(*) FROM evaluations JOIN questions USING (question_id) "
        "WHERE arm_id = $id AND decoding = 'greedy' GROUP BY step ORDER BY step",
        id=arm["arm_id"],
    )
    assert evaluated.rows() == [(1, HELD_OUT), (updates, HELD_OUT + TRAINING)]
    kept = sorted(file.name for file in Path(f"{store.path}.models").glob("*/*"))
    assert kept == ["0.025", f"{end:g}"]
    [final] = [
        e
        for e in summary.effects
        if (e.role, e.statistic, e.evaluated_on) == (Role.FULL, "final_gain", "held-out")
    ]
    assert final.fraction == end
    assert {e.statistic for e in summary.effects if "pass@" in e.statistic} == {"pass@1", "pass@2"}


def test_an_arm_that_fails_does_not_stop_the_others(
    store: Store,
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

    settings = {"budget": "updates=1", "keep": "last"}
    with monkeypatch.context() as patch:
        patch.setattr(trainer.Trainer, "_update", diverge)
        summary = ablate_shortly(store, **settings)
    assert summary.failed == ("full, seed 0",)
    assert (summary.trained, summary.reused) == (2, 0)
    [said] = [line for line in capsys.readouterr().err.splitlines() if "failed" in line]
    assert said.startswith("full, seed 0 failed: Stopped at update 1: the loss of question ")
    assert "--learning-rate" in said
    statuses = dict(store.read("SELECT role, status FROM arms").iter_rows())
    assert statuses == {"base": "done", "full": "failed", "only": "done"}
    detail = store.read("SELECT detail FROM arms WHERE role = 'full'").item()
    [text] = store.read(
        "SELECT text FROM questions WHERE contains($detail, question_id)", detail=detail
    )["text"]
    assert text in detail
    assert {e.role for e in summary.effects} == {Role.BASE, Role.ONLY}
    assert len(list(Path(f"{store.path}.models").iterdir())) == 1  # nothing of the failed one

    repaired = ablate_shortly(store, **settings)  # the cause is gone
    assert (repaired.trained, repaired.reused, repaired.failed) == (1, 2, ())
    assert any(e.statistic == "share" for e in repaired.effects)


def test_a_base_that_cannot_be_evaluated_stops_everything(
    store: Store, ablate_shortly: Ablate, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise ModelError("no answer")

    monkeypatch.setattr(runs.Runner, "_measure_base", fail)
    with pytest.raises(ModelError, match="no answer"):
        ablate_shortly(store)


def test_weights_that_diverge_are_a_failed_arm(store: Store, ablate_shortly: Ablate) -> None:
    summary = ablate_shortly(store, learning_rate=1e38)
    assert summary.failed == ("full, seed 0", "only never-correct, seed 0")
    detail = store.read("SELECT detail FROM arms WHERE status = 'failed'")["detail"]
    assert all("not finite" in one for one in detail)


@pytest.mark.parametrize(("keep", "files"), [("none", []), ("last", ["."]), ("all", ["0.4", "1"])])
def test_weights_stay_as_they_are_asked_to(
    store: Store, ablate_shortly: Ablate, keep: str, files: list[str]
) -> None:
    plans: list[TrainingPlan] = []
    ablate_shortly(
        store,
        plans.append,
        role=(),
        budget="updates=3",
        evaluate_at=(0.4, 1.0),
        keep=keep,
        method="sft",
    )
    arm_id = store.read("SELECT arm_id FROM arms WHERE role = 'full'").item()
    folder = Path(f"{store.path}.models")
    found = sorted(str(file.parent.relative_to(folder)) for file in folder.rglob("config.json"))
    assert found == sorted(str(Path(arm_id) / name) for name in files)
    left = {path.name for path in store.path.parent.iterdir()}
    assert left - {"study.duckdb", "study.duckdb.wal", "study.duckdb.lock"} == (
        {"study.duckdb.checkpoints"} | ({"study.duckdb.models"} if files else set())
    )
    assert list(Path(f"{store.path}.checkpoints").iterdir()) == []
    weights = [file.stat().st_size for file in folder.rglob("*.safetensors")]
    [plan] = plans
    assert plan.kept_bytes is not None
    assert plan.disk_bytes is not None
    rows = 2 * (HELD_OUT + TRAINING + HELD_OUT) + HELD_OUT
    drawn = sum(run.forecast.rollouts for run in plan.runs if run.forecast)
    expected = 200 * rows + 29 * drawn
    assert plan.kept_bytes - sum(weights) == pytest.approx(expected, abs=20_000)
    model = Path(store.read("SELECT model FROM sample_sets").item()) / "model.safetensors"
    assert plan.disk_bytes - plan.kept_bytes == pytest.approx(2 * 3 * model.stat().st_size, rel=0.1)


def test_what_is_done_when_a_run_is_interrupted_is_estimated(
    store: Store, ablate_shortly: Ablate, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_one = Runner.run

    def run(self: Runner, arm: Arm) -> bool:
        if arm.role is Role.ONLY:
            raise KeyboardInterrupt
        return run_one(self, arm)

    monkeypatch.setattr(Runner, "run", run)
    with pytest.raises(KeyboardInterrupt):
        ablate_shortly(store, role=("only",), budget="updates=1", method="sft")
    assert set(store.read("SELECT role FROM effects")["role"]) == {"base", "full"}


def test_weights_of_arms_that_are_done_cannot_be_kept(
    store: Store, ablate_shortly: Ablate, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = {"role": (), "budget": "updates=1", "method": "sft"}
    ablate_shortly(store, **settings)
    assert "too late" not in capsys.readouterr().err
    assert ablate_shortly(store, **settings, keep="last").trained == 0
    warning = "--keep last comes too late for arms that are done; their weights were dropped: full"
    assert warning in capsys.readouterr().err


def test_kept_weights_are_those_at_each_fraction(store: Store, ablate_shortly: Ablate) -> None:
    ablate_shortly(
        store, role=(), budget="updates=2", evaluate_at=(0.5, 1.0), keep="all", method="sft"
    )
    folders = {
        folder.name: load_file(folder / "model.safetensors")
        for folder in Path(f"{store.path}.models").glob("*/*")
    }
    name = "model.norm.weight"
    assert not torch.equal(folders["0.5"][name], folders["1"][name])


def test_too_little_disk_is_refused_before_anything_is_trained(
    store: Store, ablate_shortly: Ablate, monkeypatch: pytest.MonkeyPatch
) -> None:
    plans: list[TrainingPlan] = []
    monkeypatch.setattr(ablation, "free_disk", lambda store: 100_000)
    with pytest.raises(StoreError, match=r"0\.0 GB are free. Free some, use another --db, or --ke"):
        ablate_shortly(store, plans.append)
    assert len(plans) == 1  # it was shown
    assert store.read("SELECT * FROM training_runs").is_empty()
    assert runs.free_disk(store) > 0


def test_an_imported_model_is_evaluated_beside_the_others(
    store: Store, ablate_shortly: Ablate, tmp_path: Path
) -> None:
    first = ablate_shortly(store, role=(), budget="updates=2", keep="last", method="sft")
    [folder] = Path(f"{store.path}.models").iterdir()
    elsewhere = tmp_path / "theirs"
    shutil.copytree(folder, elsewhere)
    ids = store.read("SELECT question_id FROM buckets LIMIT 5")["question_id"].to_list()
    with (tmp_path / "ids.csv").open("w", newline="") as stream:
        csv.writer(stream).writerows([["question_id"], *([one] for one in ids)])
    theirs = {"import_arm": elsewhere, "trained_on": tmp_path / "ids.csv"}
    plans: list[TrainingPlan] = []
    settings = {"role": (), "budget": "updates=2", "method": "sft", **theirs}
    summary = ablate_shortly(store, plans.append, **{**settings, "subset": ()})
    assert summary.experiment_id == first.experiment_id
    assert (summary.trained, summary.reused) == (1, 1)  # nothing else was asked for
    [arm] = store.read("SELECT * FROM arms WHERE role = 'imported'").iter_rows(named=True)
    assert (arm["subset"][:7], arm["questions"], arm["status"]) == ("theirs-", 5, "done")
    assert plans[0].owed[0].names == (f"imported {arm['subset']}, seed 0",)
    gains = {
        e.role: e.value
        for e in summary.effects
        if (e.statistic, e.evaluated_on) == ("gain", "held-out")
    }
    assert gains[Role.IMPORTED] == gains[Role.FULL]  # the same weights
    assert len(store.read("SELECT * FROM masses WHERE arm_id = $id", id=arm["arm_id"])) == HELD_OUT
    assert ablate_shortly(store, **{**settings, "subset": ()}).trained == 0


def test_an_imported_model_may_come_with_every_bucket(store: Store, tmp_path: Path) -> None:
    base = Path(store.read("SELECT model FROM sample_sets").item())
    ids = store.read("SELECT question_id FROM buckets LIMIT 1").item()
    (tmp_path / "ids.csv").write_text(f"question_id\n{ids}\n")
    settings = AblateSettings(
        import_arm=base, trained_on=tmp_path / "ids.csv", all_buckets=True, seeds=1, device="cpu"
    )
    roles = {run.role for run in plan_ablation(store, settings).runs}
    assert {Role.IMPORTED, Role.ONLY, Role.ALL_BUT, Role.FULL} <= roles


def test_another_model_cannot_be_imported(
    store: Store, ablate_shortly: Ablate, tiny_model_folder: Path, tmp_path: Path
) -> None:
    ids = store.read("SELECT question_id FROM buckets LIMIT 1").item()
    (tmp_path / "ids.csv").write_text(f"question_id\n{ids}\n")
    with pytest.raises(ModelError, match="not the model the rollouts were drawn from"):
        ablate_shortly(
            store,
            role=(),
            import_arm=tiny_model_folder,
            trained_on=tmp_path / "ids.csv",
            budget="updates=1",
            method="sft",
        )


def test_other_data_sets_are_evaluated_with_their_own_grader(
    store: Store, ablate_shortly: Ablate
) -> None:
    def ask(number: int, split: Split) -> Question:
        return Question(
            f"c{number}",
            "quiz",
            split,
            f"{number}?",
            ("Africa", "Asia", "Europe"),
            AnswerType.NAME,
            None,
            None,
            f"{number}",
            None,
        )

    quiz = [ask(i, Split.HELD_OUT if i < 5 else Split.TRAIN) for i in range(7)]
    with store.writing("attrib test"):
        store_questions(store, "quiz", "quiz", "hash", quiz)
    summary = ablate_shortly(
        store,
        role=(),
        budget="updates=2",
        evaluate_at=(0.5, 1.0),
        method="sft",
        eval_dataset=("quiz",),
        eval_grader="exact",
    )
    rows = store.read(
        "SELECT role, step, count(*) AS n, list(DISTINCT left(eval_grader, 5)) AS graders "
        "FROM evaluations JOIN arms USING (arm_id) JOIN questions USING (question_id) "
        "WHERE dataset = 'quiz' GROUP BY ALL ORDER BY ALL"
    )
    assert rows.rows() == [
        ("base", 0, 5, ["exact"]),
        ("full", 1, 5, ["exact"]),
        ("full", 2, 5, ["exact"]),
    ]
    gains = {
        e.fraction: e.questions
        for e in summary.effects
        if (e.statistic, e.evaluated_on) == ("gain", "quiz")
    }
    assert gains == {0.5: 5, 1.0: 5}
    with pytest.raises(ConfigError, match="no data set 'nothing'"):
        ablate_shortly(store, eval_dataset=("nothing",))


def test_rewards_and_evaluation_may_have_graders_of_their_own(
    store: Store, ablate_shortly: Ablate, serve: Callable[..., LocalServer]
) -> None:
    """A judge that accepts everything evaluates; the grader of the buckets rewards."""
    server = serve(lambda _: said(chat_choice("CORRECT")))
    shortly = {"role": (), "budget": "updates=1", "seeds": 1, "eval_samples": 0, "cot_tokens": 0}
    judge = {"eval_grader": "judge", "judge_model": ("kind",), "judge_url": server.url}
    summary = ablate_shortly(store, **shortly, **judge)
    [fingerprint] = store.read("SELECT DISTINCT eval_grader FROM evaluations")["eval_grader"]
    assert fingerprint.startswith("judge-")
    verdicts = store.read(
        "SELECT DISTINCT verdict, left(grader, 5) AS grader FROM verdicts ORDER BY ALL"
    ).rows()
    assert ("correct", "judge") in verdicts
    assert ("incorrect", "judge") not in verdicts
    accuracy = [e.value for e in summary.effects if e.statistic == "accuracy"]
    assert accuracy
    assert set(accuracy) == {1.0}
    assert store.read("SELECT sum(correct) < sum(rollouts) FROM visits").item()
    calls = len(server.calls)
    again = ablate_shortly(store, **shortly, **judge)
    assert again.trained == 0
    assert len(server.calls) == calls
    other = ablate_shortly(store, **shortly)
    assert other.experiment_id != summary.experiment_id


def test_methods_on_stored_rollouts_learn_from_the_verdicts_of_their_own_grader(
    store: Store, ablate_shortly: Ablate
) -> None:
    ablate_shortly(store, role=(), budget="updates=1", seeds=1, method="rft", reward_grader="exact")
    rollouts = "SELECT count(*) FROM graded_rollouts WHERE grader LIKE 'exact-%'"
    assert store.read(rollouts).item() > 0


def test_the_plan_is_what_is_then_done(store: Store, ablate_shortly: Ablate) -> None:
    settings = AblateSettings(
        subset=("never-correct",),
        role=(Role.ONLY, Role.MATCHED_RANDOM),
        seeds=1,
        budget="updates=1",
        groups=2,
        eval_samples=0,
        cot_tokens=0,
        device="cpu",
    )
    plan = plan_ablation(store, settings)
    assert store.read("SELECT * FROM training_runs").is_empty()  # nothing is stored
    assert store.read("SELECT * FROM experiments").is_empty()
    assert not Path(f"{store.path}.checkpoints").exists()
    assert [run.names[0] for run in plan.runs] == [
        "base",
        "full, seed 0",
        "only never-correct, seed 0",
        "matched-random never-correct, seed 0",
    ]
    assert {run.status for run in plan.runs} == {"to do"}
    assert plan.seconds is not None
    assert plan.seconds == pytest.approx(sum(run.seconds or 0 for run in plan.runs))
    assert all(run.seconds is not None and run.seconds > 0 for run in plan.runs)
    forecasts = [run.forecast for run in plan.runs]
    assert forecasts[0] is None
    full, only = forecasts[1:3]
    assert full is not None
    assert only is not None
    assert full.informative_share is not None
    assert only.informative_share is not None
    assert only.informative_share < full.informative_share < 1  # the harder, the less signal
    assert only.visits > full.visits
    assert plan.warnings == (
        "With 1 seed the spread between training runs is hardly measured; --seeds 3 is the least "
        "to rely on.",
    )


def test_every_bucket_of_enough_questions_and_other_parts_are_planned(
    store: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    with store.writing("attrib test"), store.transaction() as transaction:
        transaction.execute(
            "UPDATE buckets SET bucket = 'mostly-correct' WHERE question_id IN (SELECT question_id "
            "FROM buckets WHERE bucket = 'sometimes-correct' ORDER BY question_id LIMIT 2)"
        )
    sizes = dict(store.read("SELECT bucket, count(*) FROM buckets GROUP BY ALL").rows())
    settings = AblateSettings(
        all_buckets=True,
        group_by="relation",
        subset_where=("popularity > 10000000",),
        role=(Role.ONLY,),
        seeds=1,
        device="cpu",
    )
    plan = plan_ablation(store, settings)
    names = {run.names[0]: run.questions for run in plan.runs if run.questions}
    [popular] = [name for name in names if "popularity" in name]
    assert 0 < names.pop(popular) < TRAINING
    assert popular == "only popularity > 10000000, seed 0"
    assert names.pop("full, seed 0") == TRAINING
    assert names == {f"only {bucket}, seed 0": size for bucket, size in sizes.items() if size >= 8}
    [full] = [run for run in plan.runs if run.names[0] == "full, seed 0"]
    assert full.names == ("full, seed 0", "only continent, seed 0")  # the only relation
    small = sorted(f"{bucket} ({size})" for bucket, size in sizes.items() if size < 8)
    said = " ".join(capsys.readouterr().err.split())
    assert "Not trained on, with fewer than 8 questions (name one to do so):" in said
    assert all(one in said for one in small)
    assert "mostly-correct (2)" in small


def test_weak_signal_is_warned_of(store: Store) -> None:
    with store.writing("attrib test"), store.transaction() as transaction:
        transaction.execute(
            "UPDATE buckets SET n = 4096, correct = 0 WHERE bucket = 'never-correct'"
        )
    common = {"subset": ("never-correct",), "role": (Role.ONLY,), "device": "cpu"}
    warnings = plan_ablation(store, AblateSettings(**common, fill="none")).warnings
    assert len(warnings) == 3  # one for each seed
    assert warnings[0].startswith("only never-correct, seed 0: about 0.2% of its groups will hold")
    assert "--fill informative" in warnings[0]
    filled = plan_ablation(store, AblateSettings(**common, max_rollouts=20_000)).warnings
    assert [warning.split(":")[0] for warning in filled] == [
        f"only never-correct, seed {seed}" for seed in range(3)
    ]
    assert "expected to reach --max-rollouts 20,000 with budget left" in filled[0]
    assert plan_ablation(store, AblateSettings(**common, method="sft")).warnings == ()


@pytest.mark.parametrize(
    ("changes", "error", "complaint"),
    [
        ({"subset": ("hard",)}, ConfigError, "--subset hard is not a bucket. Buckets: never-"),
        (
            {"subset": ("always-correct",)},
            DataError,
            "--subset always-correct holds no question.* Buckets with questions: never-correct \\(",
        ),
        ({"subset": ()}, ConfigError, "Say what to train on: --subset never-correct"),
        ({"bucketing": "zzz"}, DataError, "no bucketing whose id begins with 'zzz'"),
        ({"group_size": 1}, ConfigError, "--group-size 1: Input should be greater than"),
        ({"budget": "updates=0"}, ConfigError, "--budget updates=0 is not a budget. Give one of"),
        ({"budget": "steps=3"}, ConfigError, "--budget steps=3 is not a budget"),
        ({"groups": 0}, ConfigError, "--groups 0"),
        ({"seeds": 0}, ConfigError, "--seeds 0"),
        ({"max_rollouts": 31}, ConfigError, "--max-rollouts 31 cannot fill one batch of 2 groups"),
        ({"budget": "rollouts=31"}, ConfigError, "--budget rollouts=31 cannot fill one batch"),
        ({"eval_limit": 0}, ConfigError, "limit of 0 held-out questions"),
        ({"eval_where": "relation ="}, ConfigError, 'condition "relation =" cannot be used'),
        ({"eval_where": "FALSE"}, DataError, 'No held-out question satisfies "FALSE"'),
        ({"evaluate_at": (0.5, 1.5)}, ConfigError, "--evaluate-at 1.5 must be above 0"),
        ({"evaluate_at": (0.0,)}, ConfigError, "--evaluate-at 0.0 must be above 0"),
        ({"eval_dataset": ("continents",)}, ConfigError, "continents is what is trained on: its"),
        ({"role": ("full",)}, ConfigError, "--role full is no choice. Give only, all-but"),
        ({"role": ("matched-subset",)}, ConfigError, "--role matched-subset is no choice"),
        ({"design": "shapley"}, ConfigError, "--design shapley takes all buckets"),
        ({"import_arm": Path("x")}, ConfigError, "--import-arm FOLDER and --trained-on FILE.csv"),
        ({"max_gradient_norm": -1.0}, ConfigError, "--max-gradient-norm -1.0: Input should be"),
        ({"max_gradient_norm": 0.0}, ConfigError, "--max-gradient-norm"),
        ({"learning_rate": -1.0}, ConfigError, "--learning-rate"),
        ({"learning_rate": float("nan")}, ConfigError, "--learning-rate"),
        ({"beta1": 1.5}, ConfigError, "--beta1"),
        ({"beta2": 1.0}, ConfigError, "--beta2"),
        ({"kl": -0.1}, ConfigError, "--kl"),
        ({"clip_low": 1.1}, ConfigError, "--clip-low"),
        ({"warmup": 1.0}, ConfigError, "--warmup"),
        ({"method": "magic"}, ConfigError, "--method magic"),
        ({"dtype": "bfloat16"}, ConfigError, "--dtype bfloat16 trains on CUDA only"),
    ],
)
def test_what_cannot_work_is_refused_before_anything_runs(
    store: Store,
    ablate_shortly: Ablate,
    changes: dict[str, object],
    error: type[Exception],
    complaint: str,
) -> None:
    with pytest.raises(error, match=complaint):
        ablate_shortly(store, **changes)
    assert store.read("SELECT * FROM training_runs").is_empty()


@pytest.mark.parametrize(
    ("params", "complaint"),
    [
        ({"temperature": 0.0}, "drawn greedily; GRPO needs a temperature above 0"),
        ({"top_p": 0.9}, "drawn with top-p or top-k.*--new-set"),
        ({"top_k": 40}, "drawn with top-p or top-k"),
        ({"engine": "server"}, "come from a server that calls its model .* --model"),
    ],
)
def test_sample_sets_that_cannot_be_trained_on_are_refused(
    store: Store, ablate_shortly: Ablate, params: dict[str, object], complaint: str
) -> None:
    stored = json.loads(store.read("SELECT params FROM sample_sets").item())
    with store.writing("attrib test"), store.transaction() as transaction:
        transaction.execute(
            "UPDATE sample_sets SET params = $params", params=json.dumps({**stored, **params})
        )
    with pytest.raises(ConfigError, match=complaint):
        ablate_shortly(store)


def test_no_bucketing_names_the_command(
    tmp_path: Path, open_store: Callable[..., Store], ablate_shortly: Ablate
) -> None:
    missing = Store(tmp_path / "new.duckdb")
    with pytest.raises(StoreError, match=r"There is no study .* Type: attrib sample"):
        ablate_shortly(missing)
    assert not missing.exists()
    with pytest.raises(DataError, match=r"holds no bucketing\. Type: attrib bucket"):
        ablate_shortly(open_store("empty.duckdb"))


def test_a_model_that_changed_is_refused(
    store: Store,
    tmp_path: Path,
    ablate_shortly: Ablate,
    save_answering_model: Callable[..., Path],
) -> None:
    other = save_answering_model(tmp_path, ["Africa", "Asia"])
    with pytest.raises(ModelError, match="not the model the rollouts were drawn from"):
        ablate_shortly(store, model=str(other))


def test_a_running_arm_shows_what_it_has_cost(
    store: Store, ablate_shortly: Ablate, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = trainer.Trainer._update

    def stop_at_3(self: trainer.Trainer, *arguments: object) -> object:
        if arguments[-1].step == 3:  # type: ignore[attr-defined]
            raise KeyboardInterrupt
        return real(self, *arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(trainer.Trainer, "_update", stop_at_3)
    with pytest.raises(KeyboardInterrupt):
        ablate_shortly(store, role=())
    [row] = store.read(
        "SELECT status, updates, rollouts, wall_seconds FROM training_runs WHERE method = 'grpo'"
    ).iter_rows(named=True)
    drawn = store.read("SELECT sum(rollouts)::BIGINT AS drawn FROM visits").item()
    assert (row["status"], row["updates"]) == ("running", 2)
    assert row["rollouts"] == drawn
    assert row["wall_seconds"] > 0
    assert store.holder() is None


def test_the_command_is_stored_with_the_experiment(finished: Finished, again: Store) -> None:
    rows = again.read(
        "SELECT command, environment, experiments.params FROM provenance "
        "JOIN experiments ON made_id = experiment_id"
    )
    [(command, environment, params)] = rows.rows()
    assert command.startswith("attrib ablate --db ")
    for words in ("--subset never-correct", "--budget updates=3", "--seeds 2", "--evaluate-at 0.4"):
        assert words in command
    assert "--role" not in command  # the default
    assert json.loads(environment)["torch"]
    assert json.loads(params)["training_questions"] == TRAINING
    runs = again.read("SELECT count(*) FROM training_runs ANTI JOIN provenance ON arm_id = made_id")
    assert runs.item() == 0


def test_adapters_and_a_penalty_go_through_the_whole_run(
    store: Store, ablate_shortly: Ablate
) -> None:
    pytest.importorskip("peft")
    settings = {"role": (), "budget": "updates=2", "kl": 0.05, "inner_epochs": 2}
    summary = ablate_shortly(store, **settings, lora=2, keep="last", gradient_checkpointing=True)
    assert summary.failed == ()
    [folder] = Path(f"{store.path}.models").iterdir()
    model = runs.load_model(str(folder), "cpu")
    base = runs.load_model(store.read("SELECT model FROM sample_sets").item(), "cpu")
    changed = {
        name
        for name, parameter in Policy(model).trained.items()
        if not torch.equal(parameter, base.module.get_parameter(name))
    }
    assert changed
    assert all("proj" in name for name in changed)  # linear layers alone


def test_training_questions_need_not_be_asked(
    bucketed: Path,
    open_store: Callable[..., Store],
    ablate_shortly: Callable[..., AblationSummary],
    tmp_path: Path,
) -> None:
    store = open_store(original=bucketed)
    summary = ablate_shortly(store, eval_training=False, eval_samples=0)
    splits = store.read(
        "SELECT DISTINCT split FROM evaluations JOIN questions USING (question_id)"
    )["split"]
    assert splits.to_list() == ["held-out"]
    assert summary.failed == ()
    learned = [one for one in summary.effects if one.evaluated_on.startswith("train")]
    assert {one.statistic for one in learned} <= {"cut_gradient_share", "cut_rewarded"}
    analyze(store)
    write_report(store, tmp_path / "report.html")
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "Training questions have not been asked" in page
    assert "There are no answers before and after to show" in page
