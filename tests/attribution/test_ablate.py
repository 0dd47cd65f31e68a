"""The ablation on a tiny model: what it stores, reuses and refuses, and what a kill costs."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest

from attrib.attribution import ablate as ablation
from attrib.attribution import trainer
from attrib.attribution.ablate import AblateSettings, AblationSummary, ablate
from attrib.attribution.arms import Arm
from attrib.attribution.trainer import Batch
from attrib.errors import ConfigError, DataError, ModelError, StoreError
from attrib.sampling.bucketing import BucketSettings, bucket_questions
from attrib.sampling.rollouts import SampleSettings, draw_rollouts
from attrib.store import Store

UPDATES = 4
GROUPS = 2
GROUP_SIZE = 16

Ablate = Callable[..., AblationSummary]


def make_study(store: Store, model: Path, questions: int = 40) -> None:
    settings = SampleSettings(
        model=str(model),
        n=32,
        where="relation = 'continent'",
        limit=questions,
        max_new_tokens=4,
        device="cpu",
    )
    draw_rollouts(store, settings)
    bucket_questions(store, BucketSettings(k=32))


@pytest.fixture(scope="module")
def bucketed(tmp_path_factory: pytest.TempPathFactory, continent_model: Path) -> Path:
    """Make a study with buckets; copy it before changing anything."""
    store = Store(tmp_path_factory.mktemp("bucketed") / "study.duckdb")
    make_study(store, continent_model)
    return store.path


@pytest.fixture
def store(bucketed: Path, tmp_path: Path) -> Store:
    return Store(Path(shutil.copy(bucketed, tmp_path / "study.duckdb")))


@pytest.fixture
def run(store: Store) -> Ablate:
    """Return `run(into, **settings)`: a short ablation of the questions that were never right."""

    def run_ablation(into: Store = store, **changes: object) -> AblationSummary:
        settings: dict[str, object] = {
            "subset": ("never-correct",),
            "updates": UPDATES,
            "groups": GROUPS,
            "group_size": GROUP_SIZE,
            "learning_rate": 0.003,
            "device": "cpu",
            **changes,
        }
        return ablate(into, AblateSettings(**settings))

    return run_ablation


def trained(store: Store) -> dict[str, pl.DataFrame]:
    """Return everything that training left in the store, but for times."""
    return {
        "updates": store.read("SELECT * EXCLUDE (seconds) FROM updates ORDER BY arm_id, step"),
        "visits": store.read("SELECT * FROM visits ORDER BY ALL"),
        "evaluations": store.read("SELECT * FROM evaluations ORDER BY ALL"),
        "effects": store.read("SELECT * FROM effects ORDER BY ALL"),
        "arms": store.read(
            "SELECT arm_id, role, subset, status, questions, updates, rollouts FROM arms "
            "ORDER BY ALL"
        ),
    }


@pytest.fixture(scope="module")
def uninterrupted(
    bucketed: Path, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, pl.DataFrame]:
    """Run the ablation that the tests below interrupt."""
    store = Store(Path(shutil.copy(bucketed, tmp_path_factory.mktemp("whole") / "study.duckdb")))
    settings = AblateSettings(
        subset=("never-correct",),
        updates=UPDATES,
        groups=GROUPS,
        group_size=GROUP_SIZE,
        learning_rate=0.003,
        device="cpu",
    )
    summary = ablate(store, settings)
    assert (summary.trained, summary.reused, summary.failed) == (4, 0, ())
    return trained(store)


def test_the_arms_are_stored_with_what_they_trained_on(
    uninterrupted: dict[str, pl.DataFrame], store: Store
) -> None:
    arms = uninterrupted["arms"]
    never = store.read("SELECT count(*) FROM buckets WHERE bucket = 'never-correct'").item()
    questions = {
        (role, subset): n for role, subset, n in arms["role", "subset", "questions"].rows()
    }
    assert questions == {
        ("base", "none"): 0,
        ("full", "full"): 40,
        ("only", "never-correct"): never,
        ("all-but", "never-correct"): 40 - never,
    }
    assert set(arms["status"]) == {"done"}
    assert arms["arm_id"].n_unique() == 4


def test_updates_and_visits_agree(uninterrupted: dict[str, pl.DataFrame]) -> None:
    updates, visits = uninterrupted["updates"], uninterrupted["visits"]
    assert set(
        updates.group_by("arm_id")
        .agg(pl.col("step").sort())["step"]
        .map_elements(tuple, return_dtype=pl.Object)
    ) == {(1, 2, 3, 4)}
    assert (updates["informative_groups"] == GROUPS).all()
    assert (updates["gradient_norm"] > 0).all()

    assert ((visits["correct"] > 0) & (visits["correct"] < visits["rollouts"])).equals(
        visits["informative"]
    )
    counted = visits.group_by("arm_id", "step", maintain_order=True).agg(
        pl.col("rollouts").sum(),
        pl.col("informative").sum(),
        (pl.col("gradient_weight") > 0).sum().alias("weighted"),
        pl.col("informative").filter(pl.col("gradient_weight") > 0).all().alias("only_informative"),
    )
    assert counted["arm_id"].equals(updates["arm_id"])
    assert (counted["rollouts"] == updates["rollouts"]).all()
    assert (counted["informative"] >= updates["informative_groups"]).all()
    assert (counted["weighted"] == updates["informative_groups"]).all()
    assert counted["only_informative"].all()
    spent = updates.group_by("arm_id").agg(pl.col("rollouts").sum()).sort("arm_id")
    arms = uninterrupted["arms"].filter(pl.col("role") != "base")
    assert arms.select("arm_id", "rollouts").equals(spent.cast({"rollouts": pl.Int64}))


def test_visits_stay_inside_the_subset(
    uninterrupted: dict[str, pl.DataFrame], store: Store
) -> None:
    buckets = store.read("SELECT question_id, bucket FROM buckets")
    visited = (
        uninterrupted["visits"]
        .join(uninterrupted["arms"], on="arm_id")
        .join(buckets, on="question_id", how="left")
    )
    assert set(visited.filter(role="only")["bucket"]) == {"never-correct"}
    assert "never-correct" not in set(visited.filter(role="all-but")["bucket"])
    assert visited["bucket"].null_count() == 0


def test_every_arm_answers_the_same_held_out_questions(
    uninterrupted: dict[str, pl.DataFrame], store: Store
) -> None:
    evaluations = uninterrupted["evaluations"]
    answered = evaluations.group_by("arm_id").agg(pl.col("question_id").sort())["question_id"]
    assert len({tuple(ids) for ids in answered}) == 1
    assert len(evaluations) == 4 * 46
    splits = store.read("SELECT question_id, split, relation FROM questions")
    joined = evaluations.join(splits, on="question_id")
    assert set(joined["split"]) == {"held-out"}
    assert set(joined["relation"]) == {"continent"}
    steps = (
        evaluations.group_by("arm_id")
        .agg(pl.col("step").max())
        .join(uninterrupted["arms"], on="arm_id")
    )
    assert (steps["step"] == steps["updates"]).all()


def test_the_effects_follow_from_the_evaluations(uninterrupted: dict[str, pl.DataFrame]) -> None:
    right = (
        uninterrupted["evaluations"]
        .join(uninterrupted["arms"], on="arm_id")
        .group_by("role")
        .agg((pl.col("verdict") == "correct").sum())
    )
    correct = dict(right.iter_rows())
    effects = {
        (role, statistic): value
        for role, statistic, value in uninterrupted["effects"]["role", "statistic", "value"].rows()
    }
    for role in ("full", "only", "all-but"):
        assert effects[role, "accuracy"] == pytest.approx(correct[role] / 46)
        assert effects[role, "gain"] == pytest.approx((correct[role] - correct["base"]) / 46)
    assert set(effects) == {
        ("base", "accuracy"),
        *((role, name) for role in ("full", "only", "all-but") for name in ("accuracy", "gain")),
        *((role, "mcnemar_p") for role in ("full", "only", "all-but")),
        *((role, "share") for role in ("only", "all-but")),
    }
    assert set(uninterrupted["effects"]["seeds"]) == {1}
    assert set(uninterrupted["effects"]["questions"]) == {46}


def test_finished_arms_are_reused(
    store: Store, run: Ablate, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = run(updates=1)
    before = trained(store)
    with monkeypatch.context() as patch:
        patch.setattr(ablation, "load_model", None)  # nothing is even loaded
        again = run(updates=1)
    assert (again.trained, again.reused) == (0, 4)
    assert again.effects == first.effects
    assert all(frame.equals(before[name]) for name, frame in trained(store).items())

    more = run(updates=1, subset=("never-correct", "rarely-correct"))
    assert (more.trained, more.reused) == (2, 4)
    assert more.experiment_id == first.experiment_id


def test_a_subset_named_twice_is_one_subset(run: Ablate) -> None:
    assert run(updates=1, subset=("never-correct",) * 2, all_but=False).trained == 3


def test_other_settings_are_another_experiment(store: Store, run: Ablate) -> None:
    first = run(updates=1, all_but=False)
    second = run(updates=1, all_but=False, seed=1)
    assert second.experiment_id != first.experiment_id
    assert (second.trained, second.reused) == (2, 1)  # the base serves both
    with_other_name = run(updates=1, all_but=False, bucketing=bucketing_id(store)[:6])
    assert with_other_name.experiment_id == first.experiment_id


def bucketing_id(store: Store) -> str:
    return str(store.read("SELECT bucketing_id FROM bucketings").item())


@pytest.fixture
def interrupt(monkeypatch: pytest.MonkeyPatch) -> Callable[[str, int, int | None], None]:
    """Return `interrupt(role, step, checkpoint)`.

    It lets the arm of that role be interrupted inside update `step`, its only checkpoint being the
    one after update `checkpoint`.
    """
    real_update, real_save = trainer._update, trainer.save_checkpoint

    def arrange(role: str, step: int, checkpoint: int | None) -> None:
        def update(*arguments: object) -> object:
            arm, at = arguments[4:]
            assert isinstance(arm, Arm)
            if (arm.role, at) == (role, step):
                raise KeyboardInterrupt
            return real_update(*arguments)  # type: ignore[arg-type]

        def save(path: Path, module: object, optimizer: object, position: trainer.Position) -> None:
            if position.step == checkpoint:
                real_save(path, module, optimizer, position)  # type: ignore[arg-type]

        monkeypatch.setattr(trainer, "_update", update)
        monkeypatch.setattr(trainer, "save_checkpoint", save)
        monkeypatch.setattr(trainer, "SECONDS_BETWEEN_CHECKPOINTS", -1.0)

    return arrange


@pytest.mark.parametrize(
    ("role", "step", "checkpoint"),
    [
        pytest.param("full", 1, None, id="before-the-first-update"),
        pytest.param("full", 4, None, id="without-a-checkpoint"),
        pytest.param("full", 4, 1, id="long-after-a-checkpoint"),
        pytest.param("full", 4, 3, id="right-after-a-checkpoint"),
        pytest.param("only", 3, 2, id="another-arm"),
    ],
)
def test_an_interrupted_arm_ends_as_if_nothing_had_happened(
    store: Store,
    run: Ablate,
    interrupt: Callable[[str, int, int | None], None],
    monkeypatch: pytest.MonkeyPatch,
    uninterrupted: dict[str, pl.DataFrame],
    role: str,
    step: int,
    checkpoint: int | None,
) -> None:
    interrupt(role, step, checkpoint)
    with pytest.raises(KeyboardInterrupt):
        run()
    [(arm_id, status)] = store.read(
        "SELECT arm_id, status FROM arms WHERE role = $role", role=role
    ).rows()
    assert status == "running"
    done = store.read("SELECT max(step) FROM updates WHERE arm_id = $id", id=arm_id).item()
    assert done == (step - 1 or None)
    file = Path(f"{store.path}.checkpoints") / f"{arm_id}.safetensors"
    assert file.exists() == (checkpoint is not None)
    assert store.holder() is None

    monkeypatch.undo()
    finished = 1 if role == "full" else 2  # the base, and what came before
    summary = run()
    assert (summary.trained, summary.reused) == (4 - finished, finished)
    for name, frame in trained(store).items():
        assert frame.equals(uninterrupted[name]), name
    assert not file.exists()


def test_a_checkpoint_is_gone_on_from(
    store: Store,
    run: Ablate,
    interrupt: Callable[[str, int, int | None], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    interrupt("full", 4, 2)
    with pytest.raises(KeyboardInterrupt):
        run(all_but=False)
    monkeypatch.undo()
    steps = []
    real = trainer._update

    def note(*arguments: object) -> object:
        steps.append((arguments[4].role, arguments[5]))  # type: ignore[attr-defined]
        return real(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(trainer, "_update", note)
    run(all_but=False)
    assert [step for role, step in steps if role == "full"] == [3, 4]
    assert [step for role, step in steps if role == "only"] == [1, 2, 3, 4]


def test_a_subset_smaller_than_a_batch_is_visited_again(
    store: Store, run: Ablate, capsys: pytest.CaptureFixture[str]
) -> None:
    with store.writing("attrib test"), store.transaction() as transaction:
        transaction.execute(
            "UPDATE buckets SET bucket = 'mostly-correct' WHERE question_id IN (SELECT question_id "
            "FROM buckets WHERE bucket = 'sometimes-correct' ORDER BY correct DESC LIMIT 2)"
        )
    summary = run(subset=("mostly-correct",), all_but=False, groups=4, updates=1)
    assert summary.failed == ()
    visits = store.read(
        "SELECT question_id, count(*) AS visits FROM visits "
        "WHERE arm_id IN (SELECT arm_id FROM arms WHERE role = 'only') GROUP BY ALL"
    )
    assert len(visits) == 2
    assert visits["visits"].min() >= 2
    assert "few questions" in capsys.readouterr().err


def test_one_bucket_that_is_everything_has_no_complement(
    tmp_path: Path, save_answering_model: Callable[..., Path], run: Ablate
) -> None:
    """A model that cannot be right: every question is never-correct, and every arm exhausted."""
    (tmp_path / "mute").mkdir()
    mute = save_answering_model(tmp_path / "mute", ["Perhaps", "Maybe"])
    store = Store(tmp_path / "mute.duckdb")
    make_study(store, mute, questions=12)
    assert set(store.read("SELECT bucket FROM buckets")["bucket"]) == {"never-correct"}

    summary = run(store, max_rollouts=100)
    assert (summary.trained, summary.reused, summary.failed) == (2, 0, ())
    arms = store.read("SELECT role, status, detail, updates, rollouts FROM arms ORDER BY role")
    assert arms["role"].to_list() == ["base", "full", "only"]
    assert arms["status"].to_list() == ["done", "exhausted", "exhausted"]
    assert arms["detail"].to_list()[1] == (
        "0 of 4 updates within 96 rollouts; the last batch held 0 of 2 informative groups after "
        "6 visits"
    )
    assert arms["rollouts"].to_list() == [0, 96, 96]  # never above the budget
    assert store.read("SELECT count(*) FROM updates").item() == 0
    visits = store.read(
        "SELECT sum(rollouts) AS r, max(correct) AS c, bool_or(informative) FROM visits"
    )
    assert visits.row(0) == (96, 0, False)
    gains = {e.role: e.value for e in summary.effects if e.statistic == "gain"}
    assert gains == {"full": 0.0, "only": 0.0}
    assert [e.value for e in summary.effects if e.statistic == "share"] == [None]
    assert run(store, max_rollouts=100).trained == 0  # exhausted is an end, not a failure


def test_an_arm_that_fails_does_not_stop_the_others(
    store: Store, run: Ablate, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    real = trainer._update

    def diverge(*arguments: object) -> object:
        responder, arm = arguments[0], arguments[4]
        if arm.role == "full":  # type: ignore[attr-defined]
            for parameter in responder.engine.language_model.module.parameters():  # type: ignore[attr-defined]
                parameter.data.fill_(float("nan"))
        return real(*arguments)  # type: ignore[arg-type]

    with monkeypatch.context() as patch:
        patch.setattr(trainer, "_update", diverge)
        summary = run(updates=2)
    assert summary.failed == ("full",)
    assert (summary.trained, summary.reused) == (3, 0)
    assert "--learning-rate" in capsys.readouterr().err.replace("\n", " ")
    statuses = dict(store.read("SELECT role, status FROM arms").iter_rows())
    assert statuses == {"base": "done", "full": "failed", "only": "done", "all-but": "done"}
    assert {e.role for e in summary.effects} == {"base", "only", "all-but"}
    assert {e.value for e in summary.effects if e.statistic == "share"} == {None}

    again = run(updates=2)  # the cause is gone
    assert (again.trained, again.reused, again.failed) == (1, 3, ())
    assert any(e.statistic == "share" for e in again.effects)


def test_weights_that_diverge_are_a_failed_arm(store: Store, run: Ablate) -> None:
    summary = run(updates=3, learning_rate=1e30)
    assert summary.failed == ("full", "only never-correct", "all-but never-correct")
    detail = store.read("SELECT DISTINCT detail FROM arms WHERE status = 'failed'")
    assert "not finite" in detail.item()


@pytest.mark.parametrize(
    ("changes", "error", "complaint"),
    [
        ({"subset": ("hard",)}, ConfigError, "--subset hard is not a bucket. Buckets: never-"),
        (
            {"subset": ("always-correct",)},
            DataError,
            "--subset always-correct holds no question.* Buckets with questions: never-correct \\(",
        ),
        ({"bucketing": "zzz"}, DataError, "no bucketing whose id begins with 'zzz'"),
        ({"group_size": 1}, ConfigError, "--group-size 1 must be at least 2"),
        ({"updates": 0}, ConfigError, "--updates 0"),
        ({"groups": 0}, ConfigError, "--groups 0"),
        ({"max_rollouts": 31}, ConfigError, "--max-rollouts 31 cannot fill one batch of 2 groups"),
        ({"eval_limit": 0}, ConfigError, "limit of 0 held-out questions"),
        ({"eval_where": "relation ="}, ConfigError, 'condition "relation =" cannot be used'),
        ({"eval_where": "FALSE"}, DataError, 'No held-out question satisfies "FALSE"'),
    ],
)
def test_what_cannot_work_is_refused_before_anything_runs(
    store: Store, run: Ablate, changes: dict[str, object], error: type[Exception], complaint: str
) -> None:
    with pytest.raises(error, match=complaint):
        run(**changes)
    assert store.read("SELECT * FROM training_runs").is_empty()


def test_no_bucketing_names_the_command(tmp_path: Path, run: Ablate) -> None:
    store = Store(tmp_path / "new.duckdb")
    with pytest.raises(StoreError, match=r"There is no study .* Type: attrib sample"):
        run(store)
    assert not store.exists()
    with store.writing("attrib test"):
        pass
    with pytest.raises(DataError, match=r"holds no bucketing\. Type: attrib bucket"):
        run(store)


def test_a_model_that_changed_is_refused(
    tmp_path: Path, run: Ablate, save_answering_model: Callable[..., Path]
) -> None:
    (tmp_path / "model").mkdir()
    model = save_answering_model(tmp_path / "model", ["Africa", "Asia"])
    store = Store(tmp_path / "other.duckdb")
    make_study(store, model, questions=8)
    save_answering_model(model, ["Europe"])
    with pytest.raises(ModelError, match="not the model the rollouts were drawn from"):
        run(store)


def test_surplus_informative_groups_carry_no_gradient(
    uninterrupted: dict[str, pl.DataFrame],
) -> None:
    visits = uninterrupted["visits"]
    surplus = visits.filter(pl.col("informative") & (pl.col("gradient_weight") == 0))
    assert len(surplus) > 0
    assert Batch((), 0).informative == []


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"max_gradient_norm": -1.0}, "--max-gradient-norm -1.0: Input should be greater than 0"),
        ({"max_gradient_norm": 0.0}, "--max-gradient-norm"),
        ({"learning_rate": -1.0}, "--learning-rate"),
        ({"learning_rate": float("nan")}, "--learning-rate"),
        ({"beta1": 1.5}, "--beta1"),
        ({"beta2": 1.0}, "--beta2"),
    ],
)
def test_values_that_would_train_backwards_are_refused(
    run: Ablate, changes: dict[str, float], complaint: str
) -> None:
    with pytest.raises(ConfigError, match=complaint):
        run(**changes)


def test_a_checkpoint_of_another_database_is_not_believed(
    store: Store, run: Ablate, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trainer, "SECONDS_BETWEEN_CHECKPOINTS", 0.0)
    real = trainer._update

    def stop_at_2(*arguments: object) -> object:
        if arguments[-1] == 2:
            raise KeyboardInterrupt
        return real(*arguments)  # type: ignore[arg-type]

    with monkeypatch.context() as patch:
        patch.setattr(trainer, "_update", stop_at_2)
        with pytest.raises(KeyboardInterrupt):
            run(updates=2)
    [left] = store.path.parent.glob("*.checkpoints/*.safetensors")
    assert store.read("SELECT updates FROM training_runs WHERE method = 'grpo'").item() == 1
    with store.writing("attrib test"), store.transaction() as transaction:
        transaction.execute("DELETE FROM updates")  # as if the database were an older copy
        transaction.execute("DELETE FROM visits")
    run(updates=2)
    steps = store.read("SELECT arm_id, list(step ORDER BY step) AS s FROM updates GROUP BY arm_id")
    assert steps["s"].to_list() == [[1, 2]] * 3
    assert not left.exists()


def test_a_running_arm_shows_what_it_has_cost(
    store: Store, run: Ablate, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = trainer._update

    def stop_at_3(*arguments: object) -> object:
        if arguments[-1] == 3:
            raise KeyboardInterrupt
        return real(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(trainer, "_update", stop_at_3)
    with pytest.raises(KeyboardInterrupt):
        run(updates=3)
    [run_row] = store.read(
        "SELECT status, updates, rollouts, wall_seconds FROM training_runs WHERE method = 'grpo'"
    ).iter_rows(named=True)
    drawn = store.read("SELECT sum(rollouts)::BIGINT AS drawn FROM visits").item()
    assert (run_row["status"], run_row["updates"]) == ("running", 2)
    assert run_row["rollouts"] == drawn
    assert run_row["wall_seconds"] > 0


def test_the_command_is_stored_with_the_experiment(store: Store, run: Ablate) -> None:
    run(updates=1, all_but=False)
    params = json.loads(store.read("SELECT params FROM experiments").item())
    assert params["command"].startswith("attrib ablate --db ")
    assert "--subset never-correct" in params["command"]
    assert "--no-all-but" in params["command"]
    assert params["torch"]
