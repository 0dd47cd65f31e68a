"""The whole study as a user runs it: four commands, one after another, on a tiny model."""

import json
import re
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from attrib.store import Store

QUESTIONS = 40
N = 32
UPDATES = 2
GROUPS = 2
HELD_OUT = 20
SAMPLES = 2
ARMS = 5


@dataclass(frozen=True)
class Study:
    """A finished study, and what its commands printed."""

    store: Store
    report: Path
    printed: dict[str, str]
    start: Callable[..., subprocess.Popen[str]]
    ablate: tuple[object, ...]

    def rows(self, sql: str) -> list[tuple[object, ...]]:
        return self.store.read(sql).rows()


@pytest.fixture
def study(
    tmp_path: Path, continent_model: Path, start_attrib: Callable[..., subprocess.Popen[str]]
) -> Study:
    """Run sample, bucket, ablate and report as processes of their own."""
    ablate = (
        *("ablate", "--subset", "never-correct", "--budget", f"updates={UPDATES}"),
        *("--groups", GROUPS, "--group-size", 16, "--learning-rate", 0.003, "--seeds", 1),
        *("--role", "only", "--role", "all-but", "--role", "matched-random"),
        *("--eval-limit", HELD_OUT, "--eval-samples", SAMPLES, "--cot-tokens", 4),
        *("--device", "cpu", "--json"),
    )
    commands = {
        "sample": (
            *("sample", "--model", continent_model, "--n", N, "--limit", QUESTIONS),
            *("--where", "relation = 'continent'", "--max-new-tokens", 4, "--device", "cpu"),
        ),
        "bucket": ("bucket", "--k", N),
        "ablate": ablate,
        "report": ("report", "--output", "report.html"),
    }
    printed = {}
    for name, command in commands.items():
        process = start_attrib(*command)
        stdout, stderr = process.communicate(timeout=120)
        assert process.returncode == 0, f"{name}: {stderr}"
        assert "Traceback" not in stderr
        printed[name] = stdout
    store = Store(tmp_path / "attrib.duckdb")
    return Study(store, tmp_path / "report.html", printed, start_attrib, ablate)


def test_a_whole_study(study: Study) -> None:
    check_rollouts(study)
    check_buckets(study)
    check_arms(study)
    check_effects(study)
    check_report(study)
    check_reuse(study)


def check_rollouts(study: Study) -> None:
    assert f"{QUESTIONS} questions × {N} rollouts" in study.printed["sample"]
    per_question = study.rows(
        "SELECT count(*), count(DISTINCT rollout), min(rollout), max(rollout) FROM rollouts "
        "GROUP BY question_id"
    )
    assert per_question == [(N, N, 0, N - 1)] * QUESTIONS
    [(relations, splits)] = study.rows(
        "SELECT list(DISTINCT relation), list(DISTINCT split) FROM rollouts "
        "JOIN questions USING (question_id)"
    )
    assert (relations, splits) == (["continent"], ["train"])


def check_buckets(study: Study) -> None:
    recounted = study.rows(
        "SELECT question_id, count(*) FILTER (verdict = 'correct') AS correct "
        "FROM rollouts JOIN verdicts USING (question_id, text) "
        "WHERE truncated = (finish_reason = 'length') GROUP BY ALL ORDER BY ALL"
    )
    assert study.rows("SELECT question_id, correct FROM buckets ORDER BY ALL") == recounted
    sizes = dict(study.rows("SELECT bucket, count(*) FROM buckets GROUP BY ALL"))
    assert sum(sizes.values()) == QUESTIONS  # type: ignore[arg-type]
    assert sizes["never-correct"] >= 8  # type: ignore[operator]
    assert len(sizes) > 1  # random answers are right now and then
    assert re.search(rf"never-correct\W+{sizes['never-correct']}\b", study.printed["bucket"])


def check_arms(study: Study) -> None:
    arms = study.rows("SELECT role, subset, method, status, updates FROM arms ORDER BY role")
    assert arms == [
        ("all-but", "never-correct", "grpo", "done", UPDATES),
        ("base", "none", "base", "done", 0),
        ("full", "full", "grpo", "done", UPDATES),
        ("matched-random", "never-correct", "grpo", "done", UPDATES),
        ("only", "never-correct", "grpo", "done", UPDATES),
    ]
    updates = study.rows(
        "SELECT arm_id, step, rollouts, informative_groups FROM updates ORDER BY ALL"
    )
    visits = study.rows(
        "SELECT arm_id, step, sum(rollouts)::INT, (count(*) FILTER (gradient_weight > 0))::INT "
        "FROM visits GROUP BY ALL ORDER BY ALL"
    )
    assert updates == visits
    assert {row[3] for row in updates} == {GROUPS}
    assert len(updates) == (ARMS - 1) * UPDATES
    strangers = study.rows(
        "SELECT * FROM visits JOIN arms USING (arm_id) JOIN buckets USING (question_id) "
        "WHERE (role = 'only') <> (bucket = 'never-correct') AND role IN ('only', 'all-but')"
    )
    assert strangers == []
    sizes = dict(study.rows("SELECT role, questions FROM arms WHERE role <> 'base'"))
    assert sizes["matched-random"] == sizes["only"]
    assert sizes["full"] == QUESTIONS
    check_evaluations(study)


def check_evaluations(study: Study) -> None:
    evaluated = study.rows(
        "SELECT role, step, split, decoding, count(DISTINCT question_id), count(*) "
        "FROM evaluations JOIN arms USING (arm_id) JOIN questions USING (question_id) GROUP BY ALL"
    )
    expected = []
    for role in ("base", "full", "only", "all-but", "matched-random"):
        last = 0 if role == "base" else UPDATES
        expected += [
            (role, last, "train", "greedy", QUESTIONS, QUESTIONS),
            (role, last, "held-out", "sample", HELD_OUT, SAMPLES * HELD_OUT),
            (role, last, "held-out", "majority", HELD_OUT, HELD_OUT),
        ]
        steps = [0] if role == "base" else range(1, UPDATES + 1)  # half of the budget, and its end
        expected += [(role, step, "held-out", "greedy", HELD_OUT, HELD_OUT) for step in steps]
    expected.append(("base", 0, "held-out", "chain-of-thought", HELD_OUT, HELD_OUT))
    assert sorted(evaluated) == sorted(expected)
    assert study.rows("SELECT count(*) FROM masses") == [(ARMS * HELD_OUT,)]


def check_effects(study: Study) -> None:
    printed = json.loads(study.printed["ablate"])
    assert (printed["trained"], printed["reused"]) == (ARMS, 0)
    assert (printed["failed"], printed["exhausted"]) == ([], [])
    keys = ("subset", "role", "statistic", "evaluated_on", "fraction")
    keys += ("value", "low", "high", "seeds", "questions", "detail")
    stored = study.rows(f"SELECT {', '.join(keys)} FROM effects ORDER BY ALL")
    assert len(stored) == len(printed["effects"])
    by_name = {tuple(effect[key] for key in keys[:5]): effect for effect in printed["effects"]}
    for row in stored:
        assert tuple(by_name[row[:5]][key] for key in keys) == row
    recomputed = study.rows(
        "SELECT role, avg((verdict = 'correct')::INT) FROM evaluations JOIN arms USING (arm_id) "
        "JOIN questions USING (question_id) WHERE decoding = 'greedy' AND split = 'held-out' "
        "AND step = updates GROUP BY role ORDER BY role"
    )
    accuracy = study.rows(
        "SELECT role, value FROM effects WHERE statistic = 'accuracy' "
        "AND evaluated_on = 'held-out' AND fraction IN (0, 1) ORDER BY role"
    )
    assert accuracy == [(role, pytest.approx(value)) for role, value in recomputed]


def check_report(study: Study) -> None:
    page = study.report.read_text(encoding="utf-8")
    assert page.startswith("<!doctype html>")
    assert page.rstrip().endswith("</html>")
    assert "never-correct" in page
    assert "http-equiv" in page or "<svg" in page
    assert "src=" not in page.replace('src="data:', "")  # self-contained
    assert str(study.report) in study.printed["report"]
    assert [file.name for file in study.report.parent.glob("*.html*")] == ["report.html"]


def check_reuse(study: Study) -> None:
    before = study.rows("SELECT * FROM evaluations ORDER BY ALL")
    process = study.start(*study.ablate)
    stdout, stderr = process.communicate(timeout=120)
    assert process.returncode == 0, stderr
    summary, first = json.loads(stdout), json.loads(study.printed["ablate"])
    assert (summary["trained"], summary["reused"]) == (0, ARMS)
    assert summary["effects"] == first["effects"]
    assert f"0 of {ARMS} runs to do" in stderr
    assert "Training" not in stderr
    assert study.rows("SELECT * FROM evaluations ORDER BY ALL") == before
