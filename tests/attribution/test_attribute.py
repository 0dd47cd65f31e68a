"""Scoring finished arms, and checking scores by retraining, end to end on a tiny model."""

import json
import shutil
from collections.abc import Callable
from html import escape
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from scipy.stats import spearmanr
from typer.testing import CliRunner

from attrib.attribution import retraining
from attrib.attribution.ablate import AblationSummary
from attrib.attribution.attribute import AttributeSettings, AttributionSummary, attribute
from attrib.attribution.bergson_export import BergsonSettings, export_for_bergson
from attrib.attribution.curves import CurvesSettings, draw_curves, plan_curves
from attrib.attribution.effects import estimate_effects
from attrib.attribution.finished_arms import find_arms
from attrib.attribution.influence import ScoringTrainer
from attrib.attribution.plan import TrainingPlan
from attrib.attribution.score_methods import GRADIENT_METHODS, ScoreMethod
from attrib.attribution.scores import mean_pair_scores
from attrib.attribution.validation import ValidateSettings, plan_validation, validate
from attrib.cli import app
from attrib.errors import ConfigError, DataError, TrainingError
from attrib.reports.render import write_report
from attrib.reports.text import show
from attrib.sampling.responder import Responder
from attrib.store import Store

Connect = Callable[[Path], Store]
CPU = {"device": "cpu"}
TRAINING, HELD_OUT, SEEDS = 30, 12, 2
SCORING = {**CPU, "single": HELD_OUT}
SHOWN_ROLLOUT = """
    SELECT step, trim(text) AS text, visit_rollouts.correct, sum(draws)::INTEGER AS draws
    FROM visit_rollouts
    JOIN visits USING (arm_id, visit)
    JOIN (
        SELECT min(arm_id) AS arm_id, question_id FROM question_scores
        WHERE method = 'tracin' AND evaluated_on = 'held-out'
        GROUP BY question_id ORDER BY avg(score) DESC, question_id LIMIT 1
    ) USING (arm_id, question_id)
    GROUP BY visit, step, trim(text), visit_rollouts.correct
    ORDER BY visit DESC, sum(draws) DESC, trim(text) LIMIT 1
"""
"""What the question with the highest score drew most at its last visit."""


@pytest.fixture(scope="module")
def trained(
    tmp_path_factory: pytest.TempPathFactory,
    bucketed: Path,
    connect: Connect,
    ablate_shortly: Callable[..., AblationSummary],
) -> Path:
    """Train full arms of two seeds; copy the study before changing it."""
    path = tmp_path_factory.mktemp("trained") / "study.duckdb"
    store = connect(Path(shutil.copy(bucketed, path)))
    ablate_shortly(store, seeds=SEEDS)
    store.close()  # type: ignore[attr-defined]
    return path


@pytest.fixture(scope="module")
def scored(
    tmp_path_factory: pytest.TempPathFactory, trained: Path, connect: Connect
) -> tuple[Path, AttributionSummary]:
    """Score them by all methods."""
    path = tmp_path_factory.mktemp("scored") / "study.duckdb"
    store = connect(Path(shutil.copy(trained, path)))
    summary = attribute(store, AttributeSettings(**SCORING))
    store.close()  # type: ignore[attr-defined]
    return path, summary


@pytest.fixture
def store(scored: tuple[Path, AttributionSummary], open_store: Callable[..., Store]) -> Store:
    """Return a copy of the scored study."""
    return open_store(original=scored[0])


@pytest.fixture
def no_training(monkeypatch: pytest.MonkeyPatch) -> None:
    """Refuse to repeat a run."""

    def refuse(self: ScoringTrainer) -> None:
        raise AssertionError("a run is repeated")

    monkeypatch.setattr(ScoringTrainer, "train", refuse)


def test_every_question_has_a_score_by_every_method(store: Store) -> None:
    counted = store.read(
        "SELECT method, count(*) AS rows, count(DISTINCT arm_id) AS arms FROM question_scores "
        "WHERE evaluated_on = 'held-out' GROUP BY method ORDER BY method"
    )
    assert counted.rows() == [(m, SEEDS * TRAINING, SEEDS) for m in sorted(map(str, ScoreMethod))]


def test_scores_of_questions_are_sums_over_their_visits(store: Store) -> None:
    for method in GRADIENT_METHODS:
        both = store.read(
            "SELECT score, coalesce(summed, 0) AS summed, visits FROM question_scores "
            "LEFT JOIN (SELECT arm_id, question_id, evaluated_on, sum(score) AS summed, "
            "count(*) AS visits FROM visit_scores WHERE method = $method GROUP BY ALL) "
            "USING (arm_id, question_id, evaluated_on) WHERE method = $method",
            method=str(method),
        )
        assert both["score"].to_list() == pytest.approx(both["summed"].to_list())
        assert both["visits"].drop_nulls().max() >= 1
    used = store.read(
        "SELECT count(*) FROM visits JOIN arms USING (arm_id) "
        "WHERE role = 'full' AND gradient_weight > 0"
    ).item()
    rows = store.read(
        "SELECT count(*) FROM visit_scores WHERE method = 'tracin' AND evaluated_on = 'held-out'"
    )
    assert rows.item() == used > 0


def test_scores_towards_single_questions_are_kept(store: Store) -> None:
    pairs = store.read("SELECT * FROM pair_scores WHERE method = 'tracin'")
    assert pairs["held_out_id"].n_unique() == HELD_OUT
    means = pairs.group_by("arm_id", "question_id").agg(pl.col("score").mean().alias("mean"))
    overall = store.read(
        "SELECT arm_id, question_id, score FROM question_scores "
        "WHERE method = 'tracin' AND evaluated_on = 'held-out:relation=continent'"
    )
    both = overall.join(means, on=["arm_id", "question_id"])
    assert both["score"].to_list() == pytest.approx(both["mean"].to_list(), rel=1e-3, abs=1e-7)


def test_the_error_of_the_projection_is_known(
    store: Store, scored: tuple[Path, AttributionSummary]
) -> None:
    for one in scored[1].methods:
        if one.method in GRADIENT_METHODS:
            assert one.projection_r is not None
            assert 0.5 < one.projection_r <= 1.0
        else:
            assert one.projection_r is None
    whole = attribute(store, AttributeSettings(**SCORING, method=("tracin",), rank=0, arm=""))
    [method] = whole.methods
    assert method.projection_r is None, "nothing is projected"
    before = next(one for one in scored[1].methods if one.method is ScoreMethod.TRACIN)
    assert [q.score for q in method.top] == pytest.approx([q.score for q in before.top])


def test_baselines_count_what_they_say(store: Store) -> None:
    rows = store.read(
        """
        SELECT question_id, arm_id,
               max(score) FILTER (method = 'visits') AS visits,
               max(score) FILTER (method = 'rewarded') AS rewarded,
               max(score) FILTER (method = 'difficulty') AS difficulty,
               max(score) FILTER (method = 'similarity') AS similarity,
               max(score) FILTER (method = 'random') AS random
        FROM question_scores WHERE evaluated_on = 'held-out' GROUP BY ALL
        """
    )
    ledger = store.read(
        "SELECT arm_id, question_id, sum(correct) AS correct, "
        "count(*) FILTER (gradient_weight > 0) AS used FROM visits GROUP BY ALL"
    )
    both = rows.join(ledger, on=["arm_id", "question_id"], how="left").fill_null(0)
    assert both["visits"].to_list() == both["used"].to_list()
    assert both["rewarded"].to_list() == both["correct"].cast(float).to_list()
    buckets = store.read("SELECT question_id, 1 - correct / n AS wrong FROM buckets")
    with_buckets = rows.join(buckets, on="question_id")
    assert with_buckets["difficulty"].to_list() == pytest.approx(with_buckets["wrong"].to_list())
    assert rows["similarity"].is_between(-1, 1).all()
    assert rows["random"].n_unique() == len(rows)


def test_the_summary_lists_both_ends_and_the_buckets(
    scored: tuple[Path, AttributionSummary],
) -> None:
    _, summary = scored
    assert (summary.held_out, summary.questions, len(summary.arms)) == (HELD_OUT, TRAINING, SEEDS)
    for one in summary.methods:
        assert len(one.top) == len(one.bottom) == 5
        assert [q.score for q in one.top] == sorted((q.score for q in one.top), reverse=True)
        assert one.top[0].score >= one.bottom[0].score
        assert sum(bucket.questions for bucket in one.buckets) == TRAINING
        shares = [bucket.share for bucket in one.buckets]
        assert None in shares or sum(shares) == pytest.approx(1.0)


def test_scores_that_are_there_are_not_made_again(store: Store, no_training: None) -> None:
    before = store.read("SELECT * FROM attributions ORDER BY ALL")
    attribute(store, AttributeSettings(**SCORING))
    assert store.read("SELECT * FROM attributions ORDER BY ALL").equals(before)
    with pytest.raises(AssertionError, match="a run is repeated"):
        attribute(store, AttributeSettings(**SCORING, checkpoints=1))


def test_a_replay_leaves_the_ledger_as_it_was(store: Store, trained: Path) -> None:
    first = Store(trained)
    for table in ("visits", "updates", "evaluations", "training_runs", "arms", "milestones"):
        sql = f"FROM {table} ORDER BY ALL"
        assert store.read(sql).equals(first.read(sql)), table
    assert not Path(f"{store.path}.replays").exists()


def test_a_killed_replay_goes_on(
    trained: Path, store: Store, open_store: Callable[..., Store], monkeypatch: pytest.MonkeyPatch
) -> None:
    killed = open_store("killed.duckdb", trained)
    record, left = ScoringTrainer._record, iter(range(3))

    def stop(self: ScoringTrainer, *arguments: object) -> None:
        record(self, *arguments)  # type: ignore[arg-type]
        if next(left, None) is None:
            raise KeyboardInterrupt

    settings = AttributeSettings(**SCORING, method=GRADIENT_METHODS)
    with monkeypatch.context() as patched:
        patched.setattr(ScoringTrainer, "_record", stop)
        with pytest.raises(KeyboardInterrupt):
            attribute(killed, settings)
    assert killed.read("SELECT count(*) FROM visit_scores").item() == 0
    begun = sorted(Path(f"{killed.path}.replays").iterdir())
    attribute(killed, AttributeSettings(**SCORING, method=("difficulty",)))
    assert sorted(Path(f"{killed.path}.replays").iterdir()) == begun, "it can still go on"
    attribute(killed, settings)
    for table in ("visit_scores", "question_scores", "pair_scores"):
        sql = f"FROM {table} WHERE method LIKE 'tracin%' ORDER BY ALL"
        assert killed.read(sql).equals(store.read(sql)), table


def test_a_run_that_cannot_be_repeated_is_refused(
    trained: Path, open_store: Callable[..., Store]
) -> None:
    other = open_store("other.duckdb", trained)
    with other.writing("attrib test"), other.transaction() as transaction:
        transaction.execute("UPDATE updates SET gradient_norm = 2 * gradient_norm WHERE step = 3")
    with pytest.raises(TrainingError, match=r"cannot be repeated here: the gradient of update 3"):
        attribute(other, AttributeSettings(**SCORING, method=("tracin",)))
    assert other.read("SELECT count(*) FROM attributions").item() == 0
    assert not Path(f"{other.path}.replays").exists()


def test_a_run_whose_rollouts_are_not_kept_is_not_scored(
    trained: Path, open_store: Callable[..., Store]
) -> None:
    other = open_store("other.duckdb", trained)
    with other.writing("attrib test"), other.transaction() as transaction:
        transaction.execute("DELETE FROM visit_rollouts WHERE visit = 5 AND NOT correct")
    with pytest.raises(DataError, match=r"does not hold what the arm \w+ drew.*--method visits"):
        attribute(other, AttributeSettings(**SCORING, method=("tracin",)))


def test_the_ledger_holds_what_every_visit_drew(trained: Path) -> None:
    rows = Store(trained).read(
        "SELECT arm_id, visit, rollouts, visits.correct, sum(draws)::BIGINT AS drawn, "
        "sum(draws) FILTER (visit_rollouts.correct)::BIGINT AS right_ones, "
        "count(*) = count(DISTINCT token_ids) AS are_distinct "
        "FROM visits JOIN visit_rollouts USING (arm_id, visit) GROUP BY ALL"
    )
    assert len(rows)
    assert rows["drawn"].to_list() == rows["rollouts"].to_list()
    assert rows["right_ones"].fill_null(0).to_list() == rows["correct"].to_list()
    assert rows["are_distinct"].all()


def test_a_replay_draws_nothing(
    trained: Path, open_store: Callable[..., Store], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("rollouts are drawn")

    monkeypatch.setattr(Responder, "respond", refuse)
    other = open_store("other.duckdb", trained)
    attribute(other, AttributeSettings(**SCORING, method=("tracin",)))
    assert other.read("SELECT count(*) FROM attributions").item() == SEEDS


def test_without_an_arm_there_is_nothing_to_score(
    bucketed: Path, open_store: Callable[..., Store], store: Store
) -> None:
    empty = open_store("empty.duckdb", bucketed)
    with pytest.raises(DataError, match=r"no full arm. Type: attrib ablate"):
        attribute(empty, AttributeSettings(**SCORING))
    with pytest.raises(DataError, match="no finished arm whose id begins with 'zz'"):
        attribute(store, AttributeSettings(**SCORING, arm="zz"))


def test_other_ways_of_training_are_not_scored(
    bucketed: Path,
    open_store: Callable[..., Store],
    ablate_shortly: Callable[..., AblationSummary],
) -> None:
    other = open_store("sft.duckdb", bucketed)
    ablate_shortly(other, method="sft", budget="updates=1")
    with pytest.raises(ConfigError, match=r"was trained with --method sft; .* with grpo only"):
        attribute(other, AttributeSettings(**SCORING))
    attribute(other, AttributeSettings(**SCORING, method=("visits", "difficulty")))


def test_pairs_without_a_row_count_as_zero(store: Store) -> None:
    arms = store.read("SELECT DISTINCT arm_id FROM pair_scores ORDER BY ALL")["arm_id"].to_list()
    means = mean_pair_scores(store, arms, ScoreMethod.TRACIN)
    rows = store.read("SELECT * FROM pair_scores WHERE method = 'tracin'")
    summed = rows.group_by("question_id", "held_out_id").agg(pl.col("score").sum(), n=pl.len())
    assert summed["n"].n_unique() == SEEDS, "some questions took part in one arm only"
    both = means.join(summed, on=["question_id", "held_out_id"], suffix="_sum")
    assert len(both) == len(means)
    assert both["score"].to_list() == pytest.approx((both["score_sum"] / SEEDS).to_list())


def test_arms_scored_with_other_settings_are_not_averaged(store: Store) -> None:
    [first, *_] = store.read("SELECT DISTINCT arm_id FROM attributions ORDER BY ALL")["arm_id"]
    settings = {"method": ("tracin",), "checkpoints": 1, "arm": first}
    attribute(store, AttributeSettings(**SCORING, **settings))
    with pytest.raises(DataError, match="not all with the same settings"):
        validate(store, ValidateSettings(**CPU, method=("tracin",)))


def test_validation_trains_a_bank_once(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    effects = store.read("FROM effects ORDER BY ALL")
    arms = store.read("FROM arms ORDER BY ALL")
    before = estimate_effects(store, arms["experiment_id"][0])
    planned = plan_validation(store, ValidateSettings(**CPU, subsets=6))
    assert [run.status for run in planned.runs] == ["to do"] * 6
    assert planned.seconds is not None
    assert planned.seconds > 0
    assert planned.experiment_id == arms["experiment_id"][0]
    assert store.read("FROM retrainings").is_empty()
    announced: list[TrainingPlan] = []
    summary = validate(store, ValidateSettings(**CPU, subsets=6), announced.append)
    assert [len(plan.owed) for plan in announced] == [6]
    assert estimate_effects(store, summary.experiment_id) == before
    assert (summary.subsets, summary.questions, summary.failed) == (6, 15, ())
    assert [one.method for one in summary.methods] == list(ScoreMethod)
    bank = store.read("FROM retrainings ORDER BY seed")
    assert bank["role"].to_list() == ["random-subset"] * 6
    assert store.read("FROM effects ORDER BY ALL").equals(effects)
    assert store.read("FROM arms ORDER BY ALL").equals(arms)
    check_against_scipy(store, summary, bank)

    monkeypatch.setattr(retraining.Runner, "run", lambda self, arm: pytest.fail("trained again"))
    assert validate(store, ValidateSettings(**CPU, subsets=6)) == summary
    assert len(store.read("FROM validations")) == 3 * len(ScoreMethod)
    one = validate(store, ValidateSettings(**CPU, subsets=6, method=("visits",)))
    assert one.methods == tuple(m for m in summary.methods if m.method is ScoreMethod.VISITS)


def test_a_bank_is_trained_where_it_is_asked_for(store: Store) -> None:
    with store.writing("attrib test"):
        found = find_arms(store, ValidateSettings(**CPU, cluster="local", workers=2, storage="/s"))
    settings = found.settings
    assert (settings.cluster, settings.workers, settings.storage) == ("local", 2, "/s")


def check_against_scipy(store: Store, summary: object, bank: pl.DataFrame) -> None:
    members = store.read("FROM arm_questions")
    accuracy, mass = [], []
    for arm_id in bank["arm_id"]:
        accuracy.append(
            store.read(
                "SELECT avg((verdict = 'correct')::INT) FROM evaluations WHERE arm_id = $id",
                id=arm_id,
            ).item()
        )
        mass.append(
            store.read("SELECT avg(ln(mass_low)) FROM masses WHERE arm_id = $id", id=arm_id).item()
        )
    assert summary.gain_deviation == pytest.approx(np.std(accuracy, ddof=1))  # type: ignore[attr-defined]
    for one in summary.methods:  # type: ignore[attr-defined]
        scores = store.read(
            "SELECT question_id, avg(score) AS score FROM question_scores "
            "WHERE method = $method AND evaluated_on = 'held-out' GROUP BY question_id",
            method=str(one.method),
        )
        sums = members.join(scores, on="question_id").group_by("arm_id").agg(pl.col("score").sum())
        predicted = bank.join(sums, on="arm_id", maintain_order="left")["score"].round(9)
        for found, truth in ((one.gain, accuracy), (one.log_probability, mass)):
            if found.value is not None:
                expected = spearmanr(predicted.to_numpy(), truth).statistic
                assert found.value == pytest.approx(expected), one.method
                assert found.low <= found.value <= found.high


def test_validation_needs_scores(trained: Path, open_store: Callable[..., Store]) -> None:
    unscored = open_store("unscored.duckdb", trained)
    with pytest.raises(DataError, match=r"same settings. Type: attrib attribute --method tracin"):
        validate(unscored, ValidateSettings(**CPU, method=("tracin",)))
    with pytest.raises(ConfigError, match="--subsets 4"):
        ValidateSettings(subsets=4)


def test_curves_hold_the_highest_scores_against_random_ones(store: Store) -> None:
    settings = CurvesSettings(**CPU, method=("difficulty",), fraction=(0.4,), seeds=2)
    assert len(plan_curves(store, settings).owed) == 2 * 2 * 2
    summary = draw_curves(store, settings)
    assert not plan_curves(store, settings).owed
    assert [(p.role, p.method, p.trained_on, p.seeds) for p in summary.points] == [
        ("keep", "difficulty", 12, 2),
        ("keep", "random", 12, 2),
        ("remove", "difficulty", 18, 2),
        ("remove", "random", 18, 2),
    ]
    assert [p.difference is None for p in summary.points] == [False, True, False, True]
    for point in summary.points:
        assert point.gain.low <= point.gain.value <= point.gain.high
    kept = store.read(
        "SELECT arm_id, role, seed, list(question_id ORDER BY question_id) AS questions "
        "FROM retrainings JOIN arm_questions USING (arm_id) WHERE method = 'difficulty' "
        "GROUP BY ALL ORDER BY role, seed"
    )
    hardest = store.read(
        "SELECT question_id FROM buckets ORDER BY 1 - correct / n DESC, question_id"
    )["question_id"].to_list()
    for role, questions in kept.select("role", "questions").iter_rows():
        wanted = hardest[:12] if role == "keep" else hardest[12:]
        assert questions == sorted(wanted)
    random = store.read(
        "SELECT seed, list(question_id ORDER BY question_id) AS questions FROM retrainings "
        "JOIN arm_questions USING (arm_id) WHERE method = 'random' AND role = 'keep' GROUP BY ALL"
    )
    assert random["questions"].n_unique() == 2
    assert len(store.read("FROM curves")) == 6
    with pytest.raises(ConfigError, match=r"--fraction 0.001 takes 0 of 30"):
        draw_curves(store, CurvesSettings(**CPU, fraction=(0.001,)))


def test_rollouts_are_written_as_bergson_reads_them(store: Store, tmp_path: Path) -> None:
    output, queries = tmp_path / "rollouts.jsonl", tmp_path / "held-out.parquet"
    settings = BergsonSettings(**CPU, output=output, queries=queries, rollouts=8)
    summary = export_for_bergson(store, settings)
    rows = [json.loads(line) for line in output.read_text().splitlines()]
    assert len(rows) == summary.rollouts == TRAINING * 8
    frame = pl.DataFrame(rows)
    assert frame["prompt"].n_unique() == TRAINING == summary.questions
    # What bergson makes of --reward_column: the reward less the mean over rows of the same prompt.
    centred = frame.with_columns(again=pl.col("reward") - pl.col("reward").mean().over("prompt"))
    assert centred["advantage"].to_list() == pytest.approx(centred["again"].to_list())
    for row in rows[:20]:
        completion = [label for label in row["labels"] if label != -100]
        assert row["input_ids"][-len(completion) :] == completion
        assert len(row["labels"]) == len(row["input_ids"]) == row["length"]
    held_out = pl.read_parquet(queries)
    assert len(held_out) == summary.held_out == HELD_OUT
    answers = store.read("SELECT question_id, answers[1] AS answer FROM questions")
    joined = held_out.join(answers, on="question_id")
    assert joined["completion"].str.strip_chars().to_list() == joined["answer"].to_list()
    with pytest.raises(ConfigError, match=r"neither .jsonl nor .parquet"):
        export_for_bergson(store, BergsonSettings(**CPU, output=tmp_path / "rollouts.csv"))


def test_the_report_shows_scores_and_what_retraining_says(store: Store, tmp_path: Path) -> None:
    write_report(store, tmp_path / "before.html")
    assert "has not been checked" in (tmp_path / "before.html").read_text()
    validate(store, ValidateSettings(**CPU, subsets=6))
    draw_curves(store, CurvesSettings(**CPU, method=("visits",), fraction=(0.4,), seeds=1))
    write_report(store, tmp_path / "after.html")
    page = (tmp_path / "after.html").read_text()
    assert 'id="attribution"' in page
    assert "The 8 highest scores" in page
    [(step, text, is_right, draws)] = store.read(SHOWN_ROLLOUT).iter_rows()
    shown = f"update {step}: \u2068“{show(text, 40)}”\u2069{' ✓' * is_right} {draws}"
    assert escape(shown) in page
    assert "Linear datamodel scores, 95" in page
    attribute(store, AttributeSettings(**SCORING, method=("difficulty",), held_out=5))
    write_report(store, tmp_path / "again.html")
    assert "Linear datamodel scores, 95" in (tmp_path / "again.html").read_text()
    attribute(store, AttributeSettings(**SCORING, method=("tracin",), target="reward"))
    write_report(store, tmp_path / "anew.html")
    assert "has not been checked" in (tmp_path / "anew.html").read_text(), "of these scores"
    assert "With only, and without, the highest scores" in page
    for method in ScoreMethod:
        assert page.count(str(method)) >= 1


def test_options_in_front_of_a_command_are_refused() -> None:
    result = CliRunner().invoke(app, ["attribute", "--show", "3", "validate"])
    assert result.exit_code == 2
    assert "goes behind `validate`" in result.stderr
