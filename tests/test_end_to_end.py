"""The whole study as a user runs it, on a tiny model; what it printed and what it left."""

import json
import shlex
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import typer.main
from typer.testing import CliRunner

from attrib.cli import app
from attrib.store import Store
from tests.json_shapes import ROOT, SHAPES, check

QUESTIONS = 40
N = 32
UPDATES = 2
GROUPS = 2
HELD_OUT = 20
SAMPLES = 2
ARMS = 5
STUDY = f"""
db = "study.duckdb"
device = "cpu"

[sample]
model = "MODEL"
n = {N}
limit = {QUESTIONS}
where = "relation = 'continent'"
max_new_tokens = 4

[bucket]
k = {N}

[ablate]
subset = "never-correct"
role = ["only", "all-but", "matched-random"]
seeds = 1
budget = "updates={UPDATES}"
groups = {GROUPS}
group_size = 16
learning_rate = 0.003
eval_limit = {HELD_OUT}
eval_samples = {SAMPLES}
cot_tokens = 4

[analyze]

[attribute.validate]
subsets = 5

[report]
output = "report.html"
"""
STEPS = ("sample", "bucket", "ablate", "analyze", "attribute", "attribute validate", "report")


@dataclass(frozen=True)
class Study:
    """A finished study, and what its steps printed."""

    store: Store
    report: Path
    printed: Mapping[str, Any]

    def rows(self, sql: str) -> list[tuple[object, ...]]:
        return self.store.read(sql).rows()


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory, continent_model: Path) -> Study:
    """Run `attrib run study.toml --json` as a process of its own."""
    folder = tmp_path_factory.mktemp("study")
    (folder / "study.toml").write_text(STUDY.replace("MODEL", str(continent_model)))
    done = subprocess.run(
        [sys.executable, "-m", "attrib", "run", "study.toml", "--json"],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
        timeout=220,
    )
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert tuple(line["step"] for line in lines) == STEPS
    printed = {line["step"]: line["result"] for line in lines}
    return Study(Store(folder / "study.duckdb"), folder / "report.html", printed)


def invoke(*arguments: object) -> str:
    result = CliRunner().invoke(app, [str(one) for one in arguments])
    assert result.exit_code == 0, (arguments, result.output, result.exception)
    return result.stdout


def test_a_whole_study(study: Study) -> None:
    check_rollouts(study)
    check_buckets(study)
    check_arms(study)
    check_effects(study)
    check_report(study)


def check_rollouts(study: Study) -> None:
    printed = study.printed["sample"]
    assert (printed["questions"], printed["n"], printed["drawn"]) == (QUESTIONS, N, QUESTIONS * N)
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
    rows = study.printed["bucket"]["rows"]
    assert {row["bucket"]: row["questions"] for row in rows if row["questions"]} == sizes


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
        "SELECT arm_id, step, rollouts, informative_groups FROM updates "
        "SEMI JOIN arms USING (arm_id) ORDER BY ALL"
    )
    visits = study.rows(
        "SELECT arm_id, step, sum(rollouts)::INT, (count(*) FILTER (gradient_weight > 0))::INT "
        "FROM visits SEMI JOIN arms USING (arm_id) GROUP BY ALL ORDER BY ALL"
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
    assert study.rows("SELECT count(*) FROM masses JOIN arms USING (arm_id)") == [
        (ARMS * HELD_OUT,)
    ]


def check_effects(study: Study) -> None:
    printed = study.printed["ablate"]
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
    assert study.printed["report"]["path"] == "report.html"
    assert study.printed["report"]["bytes"] == study.report.stat().st_size
    assert [file.name for file in study.report.parent.glob("*.html*")] == ["report.html"]


def test_json_of_every_step_has_the_shape_that_is_written_down(study: Study) -> None:
    for step, printed in study.printed.items():
        check(printed, SHAPES.PRINTED[step], step)
    assert study.printed["analyze"]["membership"] is not None
    assert len(study.printed["attribute validate"]["methods"]) == 7
    assert study.printed["analyze"]["passes"]


def test_again_changes_nothing(study: Study) -> None:
    before = study.rows("SELECT * FROM evaluations ORDER BY ALL")
    folder = study.report.parent
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        result = CliRunner().invoke(app, ["run", "study.toml", "--json"])
    assert result.exit_code == 0, result.output
    again = {line["step"]: line["result"] for line in map(json.loads, result.stdout.splitlines())}
    assert again["sample"]["drawn"] == 0
    assert (again["ablate"]["trained"], again["ablate"]["reused"]) == (0, ARMS)
    for step in ("bucket", "attribute", "attribute validate"):
        assert again[step] == study.printed[step], step
    assert again["report"]["claim"] == study.printed["report"]["claim"]
    assert again["analyze"]["effects"] == study.printed["analyze"]["effects"]
    assert again["ablate"]["effects"] == study.printed["ablate"]["effects"]
    assert f"0 of {ARMS} runs to do" in result.stderr
    assert "Training" not in result.stderr
    assert study.rows("SELECT * FROM evaluations ORDER BY ALL") == before


def test_the_page_about_json_is_up_to_date() -> None:
    assert SHAPES.render_shapes() == (ROOT / "docs/json.md").read_text(encoding="utf-8")


def test_every_command_with_json_is_written_down() -> None:
    def walk(group: Any, prefix: str) -> list[str]:
        found = []
        for name, command in group.commands.items():
            if hasattr(command, "commands"):
                found += walk(command, f"{prefix}{name} ")
            if any(parameter.name == "as_json" for parameter in command.params):
                found.append(f"{prefix}{name}")
        return found

    commands = set(walk(typer.main.get_command(app), ""))
    assert commands - {"run"} == {name.split(" --")[0] for name in SHAPES.PRINTED}


def suspect_one(store: Store) -> None:
    """Let a question be suspect: this model names nothing beside what it is asked for."""
    with store.writing("test"), store.transaction() as transaction:
        transaction.execute(
            "INSERT INTO suspects SELECT bucketing_id, min(question_id), 'short', 'of a letter' "
            "FROM buckets GROUP BY ALL"
        )


def test_json_of_other_commands(study: Study, continent_model: Path, tmp_path: Path) -> None:
    db = shutil.copy(study.store.path, tmp_path / "study.duckdb")
    more = tmp_path / "more.csv"
    more.write_text("question,answer\nWhich river flows through Paris?,Seine\n,nothing\n")
    dump, labels = tmp_path / "dump.jsonl", tmp_path / "labels.csv"
    row = {"question": "Which river flows through Paris?", "responses": ["Seine", "Loire"]}
    dump.write_text(json.dumps(row) + "\n")
    model = shlex.quote(str(continent_model))
    sample = f"sample --model {model} --limit 42 --n {N} --max-new-tokens 4 --device cpu"
    for line in (
        f"data import {more} --held-out 0",
        "data split --held-out 0 --seed 1",
        f"data import-rollouts {dump} --model m --max-new-tokens 8",
        "data list",
        "data show more",
        "data audit",
        f"{sample} --where \"relation = 'continent'\" --dry-run",
        "grade",
        "grade --compare match exact",
        f"grade export --for-labelling 4 -o {labels}",
        f"grade --labels {labels}",
        "grade suspects",
        f"export -o {tmp_path / 'rollouts.parquet'}",
        "attribute curves --fraction 0.2 --seeds 1 --no-remove --method visits --device cpu",
        f"attribute export -o {tmp_path / 'rollouts.jsonl'} --device cpu",
        'query "SELECT bucket, avg(p_low) AS low FROM buckets GROUP BY ALL"',
        "status",
        "env",
        "ablate --subset never-correct --seeds 2 --budget updates=1 --groups 2 --dry-run "
        "--device cpu --eval-limit 12 --eval-samples 2 --cot-tokens 4",
    ):
        arguments = shlex.split(line)
        if arguments[:2] == ["grade", "suspects"]:
            suspect_one(Store(db))
        if arguments[:2] == ["grade", "--labels"]:
            sheet = pl.read_csv(labels).with_columns(verdict=pl.lit("correct"))
            sheet.write_csv(labels)
        name = max(
            (one for one in SHAPES.PRINTED if set(one.split()) <= set(arguments)), key=len
        )  # the longest, so that flags which change the shape count
        place = () if arguments[0] == "env" else ("--db", db)
        check(json.loads(invoke(*arguments, *place, "--json")), SHAPES.PRINTED[name], name)
