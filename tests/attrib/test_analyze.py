"""`attrib analyze` and `attrib.open`, on a small study with buckets and arms."""

import ast
import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from typer.testing import CliRunner

import attrib
from attrib.analyses import analyze
from attrib.analysis.buckets import assign_buckets
from attrib.analysis.intervals import exact_interval
from attrib.analysis.passk import pass_at_k
from attrib.attribution.effect import store_effects
from attrib.attribution.effects import estimate_effects
from attrib.cli import app
from attrib.data.library import store_questions
from attrib.data.questions import AnswerType, Question, Split
from attrib.errors import ConfigError, DataError, StoreError
from attrib.store import Store

N = 32
QUESTIONS = 60


def write_buckets(store: Store) -> np.ndarray:
    generator = np.random.default_rng(0)
    correct_Q = generator.binomial(N, generator.beta(0.5, 1.5, QUESTIONS))
    questions = [
        Question(f"{letter}{i:02}", "d", split, f"Which {i}?", ("a",), AnswerType.NAME, None,
                 f"r{i % 2}", f"{i}", None)
        for letter, split in (("h", Split.HELD_OUT), ("t", Split.TRAIN)) for i in range(QUESTIONS)
    ]  # fmt: skip
    buckets = pl.DataFrame(
        {
            "bucketing_id": "b",
            "question_id": [f"t{i:02}" for i in range(QUESTIONS)],
            "n": N,
            "correct": correct_Q,
            "bucket": [str(one) for one in assign_buckets(np.full(QUESTIONS, N), correct_Q)],
            "p_low": 0.0,
            "p_high": 1.0,
        }
    )
    cuts = '{"rarely": 0.0625, "sometimes": 0.5}'
    bucketing = {"bucketing_id": "b", "sample_set_id": "s", "grader": "match-0", "k": N}
    sample_set = {"sample_set_id": "s", "model": "m", "engine": "tree", "prompt": "", "seed": 0}
    rollouts = pl.DataFrame(
        {
            "sample_set_id": "s",
            "question_id": ["t00", "t00", "t01"],
            "rollout": [0, 1, 0],
            "text": ["a", "b", "a"],
            "token_ids": [[1]] * 3,
            "tokens": 1,
            "finish_reason": "stop",
        }
    )
    store_questions(store, "d", "d", "hash", questions)
    answers = store.read("SELECT answers_hash FROM questions LIMIT 1").item()
    verdict = {"question_id": "t00", "answers_hash": answers, "text": "a", "truncated": False,
               "grader": "match-0", "verdict": "correct", "detail": "accepted: a"}  # fmt: skip
    with store.transaction() as batch:
        batch.append("buckets", buckets)
        batch.append("bucketings", pl.DataFrame([bucketing | {"cuts": cuts}]))
        batch.append("sample_sets", pl.DataFrame([sample_set | {"params": "{}"}]))
        batch.append("rollouts", rollouts)
        batch.append("verdicts", pl.DataFrame([verdict]))
    return correct_Q


def write_arms(store: Store) -> None:
    generator = np.random.default_rng(1)
    costs = ("visits", "rollouts", "informative_groups", "gradient_tokens", "seconds")
    experiment = {"experiment_id": "e", "bucketing_id": "b", "params": "{}"}
    with store.transaction() as batch:
        batch.append("experiments", pl.DataFrame([experiment]))
        for role, subset, seed, chance in (
            ("base", "none", 0, 0.2), ("full", "full", 0, 0.7), ("full", "full", 1, 0.6),
        ):  # fmt: skip
            arm = {"arm_id": f"{role}{seed}"}
            run = arm | {"method": "grpo", "seed": seed, "params": "{}", "questions": 1}
            place = arm | {"experiment_id": "e", "subset": subset, "role": role}
            step = int(role != "base")
            reached = arm | {"fraction": float(step), "step": step} | dict.fromkeys(costs, 0)
            batch.append("training_runs", pl.DataFrame([run | {"status": "done"}]))
            batch.append("arm_roles", pl.DataFrame([place]))
            batch.append("milestones", pl.DataFrame([reached]))
            for decoding, rollouts in (("greedy", 1), ("sample", 4)):
                right = generator.random(QUESTIONS * rollouts) < chance
                rows = pl.DataFrame(
                    {
                        "question_id": np.repeat([f"h{i:02}" for i in range(QUESTIONS)], rollouts),
                        "rollout": np.tile(np.arange(rollouts), QUESTIONS),
                        "verdict": np.where(right, "correct", "incorrect"),
                        "detail": np.where(right, "accepted: a", "another answer: b"),
                    }
                )
                batch.append(
                    "evaluations",
                    rows.with_columns(
                        arm_id=pl.lit(arm["arm_id"]),
                        step=step,
                        decoding=pl.lit(decoding),
                        text=pl.lit("x"),
                        eval_grader=pl.lit("match-0"),
                    ),
                )
    store_effects(store, "e", estimate_effects(store, "e"))


@pytest.fixture
def bucketed(tmp_path: Path) -> tuple[Store, np.ndarray]:
    store = Store(tmp_path / "study.duckdb")
    with store.writing("test"):
        correct_Q = write_buckets(store)
    return store, correct_Q


@pytest.fixture
def trained(bucketed: tuple[Store, np.ndarray]) -> Store:
    store, _ = bucketed
    with store.writing("test"):
        write_arms(store)
    return store


def run(*arguments: object) -> str:
    result = CliRunner().invoke(app, ["analyze", *map(str, arguments)])
    assert result.exit_code == 0, result.output
    return result.stdout


def test_every_section_is_printed(trained: Store) -> None:
    shown = run("--db", trained.path)
    for text in (
        "60 questions, 32 rollouts each", "a device of the fit", "If never-correct were",
        "p = 0 cannot be told from a small p", "What the base answered", "Relation",
        "name one answer", "attempts of the base for one", "full, seed 1", "with 80 % power",
        "How answers changed", "length in characters", "maj@4", "by right samples of the base",
    ):  # fmt: skip
        assert text in shown, text


def test_json_has_the_same_numbers(trained: Store) -> None:
    found = json.loads(run("--db", trained.path, "--json"))
    record = analyze(trained)
    assert record.membership is not None
    assert found["membership"]["prior"]["a"] == record.membership.prior.a
    assert len(found["effects"]) == len(record.effects)
    parts = record.effects.filter(
        (pl.col("statistic") == "gain_part") & pl.col("evaluated_on").str.contains("relation=")
    )
    with_seeds = trained.read(
        "SELECT value FROM effects WHERE statistic = 'gain' AND evaluated_on = 'held-out'"
    ).item()
    assert parts["value"].sum() == pytest.approx(with_seeds)
    assert [(one.role, one.seed) for one in record.passes] == [("full", 0), ("full", 1)]


def test_single_questions_add_up_to_their_buckets(trained: Store) -> None:
    found = analyze(trained).membership
    assert found is not None
    counts = trained.read(
        "SELECT bucket, correct, n, count(*) AS questions FROM buckets "
        "GROUP BY ALL ORDER BY correct"
    ).rows()
    assert [(str(one.bucket), one.correct, one.n, one.questions) for one in found.counts] == counts
    for one in found.counts:
        exact = exact_interval([one.correct], [one.n])
        assert (one.low, one.high) == (exact.low_Q[0], exact.high_Q[0])
        assert one.posterior_low <= one.mean <= one.posterior_high
    for bucket in found.stability:
        rows = [one for one in found.counts if one.bucket == bucket.bucket]
        assert sum(one.questions for one in rows) == bucket.questions
        if bucket.stays is not None and bucket.fresh_rate is not None:
            stays, mean = (
                sum(one.questions * value for one, value in zip(rows, values, strict=True))
                / bucket.questions
                for values in ([one.stays for one in rows], [one.mean for one in rows])
            )
            assert bucket.stays.value == pytest.approx(stays)
            assert bucket.fresh_rate.value == pytest.approx(mean)


def test_without_arms_there_are_buckets(bucketed: tuple[Store, np.ndarray]) -> None:
    shown = run("--db", bucketed[0].path)
    assert "60 questions" in shown
    assert "Nothing was trained yet" in shown


def test_too_few_questions_say_so(bucketed: tuple[Store, np.ndarray]) -> None:
    store, _ = bucketed
    with store.writing("test"), store.transaction() as batch:
        batch.execute("DELETE FROM buckets WHERE question_id > 't05'")
    assert "Who is in which bucket: not known." in run("--db", store.path)


def test_unknown_ids_are_refused(trained: Store) -> None:
    with pytest.raises(DataError, match="no experiment whose id begins with 'x'"):
        analyze(trained, experiment="x")
    with pytest.raises(DataError, match="no bucketing whose id begins with 'x'"):
        analyze(trained, bucketing="x")


def test_a_study_from_python(trained: Store, bucketed: tuple[Store, np.ndarray]) -> None:
    study, correct_Q = attrib.open(trained.path), bucketed[1]
    assert study.buckets()["correct"].to_list() == correct_Q.tolist()
    never = study.buckets("bucket = 'never-correct' AND relation = 'r1'")
    assert set(never["correct"]) <= {0}
    curve = study.pass_at_k([1, 8])
    want = pass_at_k(np.full(QUESTIONS, N), correct_Q, [1, 8]).mean(axis=0)
    assert curve["pass_at_k"].to_list() == pytest.approx(want)
    assert study.pass_at_k()["k"].to_list() == [1, 2, 4, 8, 16, 32]
    odd = study.pass_at_k([1], where="relation = 'r1'")
    assert odd["questions"].item() == QUESTIONS // 2
    rollouts = study.rollouts()
    assert rollouts.select("question_id", "rollout", "verdict").rows() == [
        ("t00", 0, "correct"), ("t00", 1, None), ("t01", 0, None),
    ]  # fmt: skip
    assert len(study.rollouts("verdict = 'correct' AND relation = 'r0'")) == 1
    assert set(study.effects("statistic = 'gain'", experiment="e")["role"]) == {"full"}
    assert study.query("SELECT count(*) AS n FROM buckets WHERE n = $n", n=N).item() == QUESTIONS
    assert repr(study) == f"attrib.open({str(trained.path)!r})"


def test_python_errors_say_what_to_do(trained: Store, tmp_path: Path) -> None:
    study = attrib.open(trained.path)
    for where in ("nonsense = 1", "TRUE) -- ", "1; DROP TABLE buckets"):
        with pytest.raises(ConfigError, match="cannot be used"):
            study.buckets(where)
    with pytest.raises(DataError, match="No bucketed question satisfies"):
        study.pass_at_k(where="FALSE")
    with pytest.raises(DataError, match="k=64 exceeds n=32"):
        study.pass_at_k([64])
    with pytest.raises(DataError, match="no experiment whose id begins with 'x'"):
        study.effects(experiment="x")
    with pytest.raises(StoreError, match="There is no study"):
        attrib.open(tmp_path / "none.duckdb")


def test_the_notebook_runs(trained: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Cell by cell, as it is in docs/, beside a study; what a cell shows can be shown."""
    path = Path(__file__).parents[2] / "docs" / "python.ipynb"
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    trained.path.rename(trained.path.parent / "attrib.duckdb")
    monkeypatch.chdir(trained.path.parent)
    names: dict[str, object] = {}
    for cell in cells:
        if cell["cell_type"] == "code":
            *statements, last = ast.parse("".join(cell["source"])).body
            exec(compile(ast.Module(statements, []), path.name, "exec"), names)
            assert isinstance(last, ast.Expr)
            assert str(eval(compile(ast.Expression(last.value), path.name, "eval"), names))
    assert names["relation"] == "r0"
