"""The command line: help, exit codes, one line per error, JSON that parses, Ctrl-C."""

import json
import os
import re
import shutil
import subprocess
import sys
import webbrowser
from collections.abc import Callable
from pathlib import Path

import pytest
import typer
from click.testing import Result
from typer.testing import CliRunner

from attrib import __version__
from attrib.cli import app
from attrib.data.library import import_dataset
from attrib.store import Store

COMMANDS = ("sample", "bucket", "ablate", "report", "run", "status", "query", "export", "env")
HEAVY = (
    *("torch", "transformers", "matplotlib", "pandas", "scipy", "jinja2"),
    *("numpy", "polars", "duckdb", "pyarrow", "pydantic", "filelock", "httpx2"),
)
"""What `attrib --help` does without: importing it takes longer than all the rest."""


def attrib(*arguments: object) -> Result:
    """Run the command line in this process."""
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


@pytest.fixture
def study(tmp_path: Path) -> Path:
    """Make a study that holds the questions and nothing else."""
    store = Store(tmp_path / "study.duckdb")
    with store.writing("attrib test"):
        import_dataset(store, "worldfacts")
    return store.path


def test_the_list_of_commands_is_complete() -> None:
    assert set(typer.main.get_command(app).commands) >= set(COMMANDS)  # type: ignore[attr-defined]


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help_with_an_example(command: str) -> None:
    result = attrib(command, "--help")
    assert result.exit_code == 0
    assert "Example:" in result.stdout
    assert f"attrib {command}" in result.stdout
    assert attrib(command, "-h").stdout == result.stdout


def test_help_imports_nothing_heavy() -> None:
    program = (
        "import sys\nfrom attrib.__main__ import main\nsys.argv = ['attrib', '--help']\n"
        f"try:\n    main()\nfinally:\n    print([m for m in {HEAVY} if m in sys.modules], "
        "file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert "Which training questions produced the gain?" in done.stdout
    assert done.stderr.strip() == "[]"


def test_version() -> None:
    result = attrib("--version")
    assert (result.exit_code, result.stdout) == (0, f"{__version__}\n")


@pytest.mark.parametrize(
    "arguments",
    [
        ("--nonsense",),
        ("nonsense",),
        ("sample", "--nonsense"),
        ("sample", "--n", "many"),
        ("query",),
        ("run",),
    ],
)
def test_misuse_exits_with_2(arguments: tuple[str, ...]) -> None:
    result = attrib(*arguments)
    assert result.exit_code == 2
    assert result.stdout == ""
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        ("status",),
        ("status", "--json"),
        ("query", "SELECT 1"),
        ("report",),
        ("bucket",),
        ("bucket", "--k", "0"),
        ("bucket", "--grader", "psychic"),
        ("ablate",),
        ("ablate", "--subset", "never-correct"),
        ("ablate", "--budget", "steps=3"),
        ("ablate", "--group-by", "continent"),
        ("ablate", "--role", "nothing"),
        ("ablate", "--role", "coalition"),
        ("ablate", "--method", "magic", "--advantage", "none", "--kl", "-1"),
        ("ablate", "--evaluate-at", "2"),
        ("ablate", "--method", "sft", "--budget", "rollouts=9"),
        ("ablate", "--seeds", "0"),
        ("ablate", "--subset", "never-correct", "--budget", "steps=3"),
        ("ablate", "--subset", "never-correct", "--method", "ppo"),
        ("sample", "--n", "0"),
        ("sample", "--where", "nothing =\n1"),
        ("sample", "--where", "relation = 'nothing'"),
        ("sample", "--limit", "0"),
        ("sample", "--model", "no/such/model/here", "--limit", "1"),
        ("sample", "--dataset", "nothing"),
        ("run", "nothing.toml"),
        ("--study", "nothing.toml", "env"),
    ],
)
def test_an_error_is_one_line_and_exits_with_1(
    arguments: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    result = attrib(*arguments)
    assert result.exit_code == 1
    assert result.stdout == ""
    lines = [line for line in result.stderr.splitlines() if not line.startswith("Loading ")]
    assert len(lines) == 1, result.stderr
    assert lines[0].startswith("Error: ")


def test_a_process_exits_like_the_runner(
    start_attrib: Callable[..., subprocess.Popen[str]],
) -> None:
    process = start_attrib("status", "--db", "nothing.duckdb")
    stdout, stderr = process.communicate(timeout=60)
    assert process.returncode == 1
    assert stdout == ""
    assert stderr == (
        "Error: There is no study at nothing.duckdb. Type: attrib sample --db nothing.duckdb\n"
    )


def test_status_shows_and_parses(study: Path) -> None:
    shown = attrib("status", "--db", study).stdout
    assert "4935" in shown
    assert "writer: none" in shown
    parsed = json.loads(attrib("status", "--db", study, "--json").stdout)
    assert parsed["path"] == str(study)
    assert parsed["writer"] is None
    splits = {row["split"]: row["questions"] for row in parsed["tables"]["Questions"]}
    assert splits == {"train": 4935, "held-out": 1605}
    with Store(study).writing("attrib test"):
        holder = json.loads(attrib("status", "--db", study, "--json").stdout)["writer"]
    assert holder == {"host": os.uname().nodename, "pid": os.getpid(), "command": "attrib test"}


def test_env_shows_and_parses() -> None:
    parsed = json.loads(attrib("env", "--json").stdout)
    assert parsed["attrib"] == __version__
    assert {"python", "torch", "duckdb", "cores", "gpus", "commit", "cache"} <= set(parsed)
    assert attrib("env").stdout.splitlines()[0].split() == ["attrib", __version__]


def test_query_prints_tables_json_and_csv(study: Path) -> None:
    sql = "SELECT relation, count(*) AS n FROM questions GROUP BY ALL ORDER BY n DESC LIMIT 2"
    table = attrib("query", "--db", study, sql)
    assert table.exit_code == 0
    assert "country" in table.stdout
    assert "5182" in table.stdout
    assert json.loads(attrib("query", "--db", study, "--json", sql).stdout)[0] == {
        "relation": "country",
        "n": 5182,
    }
    csv = attrib("query", "--db", study, "--format", "csv", sql).stdout
    assert csv.splitlines()[:2] == ["relation,n", "country,5182"]


@pytest.mark.parametrize(
    ("sql", "value"),
    [
        ("SELECT sum(i) AS x FROM range(4) AS t(i)", 6),
        ("SELECT 'nan'::DOUBLE AS x", None),
        ("SELECT NULL AS x", None),
        ("SELECT [1, 2] AS x", [1, 2]),
        ("SELECT {'a': [1.5]} AS x", {"a": [1.5]}),
        ("SELECT DATE '2026-01-02' AS x", "2026-01-02"),
        ("SELECT 1.25::DECIMAL(4, 2) AS x", 1.25),
        ("SELECT 'é[bold]' AS x", "é[bold]"),
    ],
)
def test_every_kind_of_value_can_be_printed(study: Path, sql: str, value: object) -> None:
    assert json.loads(attrib("query", "--db", study, "--json", sql).stdout) == [{"x": value}]
    for how in ([], ["--format", "csv"]):
        result = attrib("query", "--db", study, *how, sql)
        assert result.exit_code == 0, result.output
    if isinstance(value, str):
        assert value in attrib("query", "--db", study, sql).stdout


def test_a_whole_table_with_lists_can_be_printed_as_csv(study: Path) -> None:
    csv = attrib(
        "query", "--db", study, "--format", "csv", "FROM questions WHERE subject = 'Peru'"
    ).stdout
    assert '"[""Lima""]"' in csv


@pytest.mark.parametrize(
    "sql",
    [
        "DROP TABLE questions",
        "DELETE FROM questions",
        "UPDATE questions SET text = ''",
        "INSERT INTO questions SELECT * FROM questions",
        "SELECT 1; DROP TABLE questions",
        "CREATE TABLE mine AS SELECT 1",
    ],
)
def test_query_refuses_to_write(study: Path, sql: str) -> None:
    result = attrib("query", "--db", study, sql)
    assert result.exit_code == 1
    assert "read-only" in result.stderr or "One statement at a time" in result.stderr
    assert Store(study).read("SELECT count(*) FROM questions WHERE text <> ''").item() == 6540


def test_a_dry_run_says_what_it_would_take(tmp_path: Path, continent_model: Path) -> None:
    database = tmp_path / "new.duckdb"
    common = ("--db", database, "--model", continent_model, "--n", 8, "--max-new-tokens", 4)
    chosen = ("--where", "relation = 'continent'", "--limit", 3, "--dry-run")
    result = attrib("sample", *common, *chosen)
    assert result.exit_code == 0, result.stderr
    assert "To draw     24 rollouts" in result.stdout
    assert "Time        about 0:00:" in result.stdout
    plan = json.loads(attrib("sample", *common, *chosen, "--json").stdout)
    assert (plan["engine"], plan["rollouts"], plan["probed_rollouts"]) == ("tree", 24, 24)
    assert list(tmp_path.iterdir()) == []


def test_stop_strings_and_engines_reach_the_store(tmp_path: Path, continent_model: Path) -> None:
    database = tmp_path / "new.duckdb"
    arguments = ("--db", database, "--model", continent_model, "--n", 6, "--limit", 2)
    arguments += ("--where", "relation = 'continent'", "--max-new-tokens", 6, "--top-k", 5)
    stops = ("--stop", "Asia", "--stop", "Africa", "--engine", "transformers")
    result = attrib("sample", *arguments, *stops)
    assert result.exit_code == 0, result.stderr
    rows = Store(database).read(
        "SELECT text, engine, params, command FROM rollouts JOIN sample_sets USING (sample_set_id)"
    )
    assert len(rows) == 12
    assert not any("Asia" in text or "Africa" in text for text in rows["text"])
    assert set(rows["engine"]) == {"transformers"}
    params = json.loads(rows["params"][0])
    assert (params["prompt"]["stop"], params["top_k"]) == (["\n", "Africa", "Asia"], 5)
    assert "--stop Asia --stop Africa" in rows["command"][0]
    [command] = Store(database).read("SELECT command FROM provenance")["command"]
    assert "--n 6" in command
    assert "--stop Asia --stop Africa" in command


def test_the_help_of_ablate_is_in_panels() -> None:
    shown = attrib("ablate", "--help").stdout
    panels = ("Which arms", "What is held equal", "Training", "Evaluation", "Precision, memory")
    places = [shown.index(panel) for panel in panels]
    assert places == sorted(places) or len(set(places)) == len(panels)
    for option in ("--subset-where", "--budget", "--advantage", "--eval-samples", "--keep"):
        assert option in shown


@pytest.fixture(scope="module")
def bucketed(tmp_path_factory: pytest.TempPathFactory, continent_model: Path) -> Path:
    """Make a small study with buckets."""
    database = tmp_path_factory.mktemp("bucketed") / "study.duckdb"
    chosen = ("--where", "relation = 'continent'", "--limit", 30, "--max-new-tokens", 4)
    model = ("--model", continent_model, "--device", "cpu")
    assert attrib("sample", "--db", database, *model, "--n", 16, *chosen).exit_code == 0
    assert attrib("bucket", "--db", database, "--k", 16).exit_code == 0
    return database


ABLATE = ("--seeds", 2, "--budget", "informative-groups=6", "--groups", 2, "--eval-samples", 0)


def test_a_dry_run_of_ablate_says_what_it_would_take(bucketed: Path) -> None:
    before = sorted(path.name for path in bucketed.parent.iterdir())
    arguments = ("ablate", "--db", bucketed, "--subset", "never-correct", *ABLATE, "--dry-run")
    result = attrib(*arguments)
    assert result.exit_code == 0, result.stderr
    shown = result.stdout
    assert "held equal informative-groups=6, batches filled: informative." in shown
    assert re.search(r"^base .* to do$", shown, re.MULTILINE)
    for name in ("full", "only never-correct", "matched-random never-correct"):
        line = rf"^{name}, seed 1\b.*\b\d+% .* \d+ \w+ +to do$"
        assert re.search(line, shown, re.MULTILINE), shown
    assert re.search(
        r"^(\d+) of \1 runs to do, about \d+ \w+ one after another\.$", shown, re.MULTILINE
    )
    assert "Disk: up to 0.0 GB while it runs" in shown
    assert "Warning: With 2 seeds the spread" in shown

    plan = json.loads(attrib(*arguments, "--json").stdout)
    assert (plan["budget"], plan["fill"]) == ("informative-groups=6", "informative")
    assert {run["status"] for run in plan["runs"]} == {"to do"}
    full = plan["runs"][1]
    assert full["names"] == ["full, seed 0"]
    assert full["questions"] == 30
    assert 0 < full["forecast"]["informative_share"] < 1
    assert full["forecast"]["gradients"] == pytest.approx(6)
    assert Store(bucketed).read("SELECT * FROM training_runs").is_empty()
    assert Store(bucketed).read("SELECT * FROM experiments").is_empty()
    after = sorted(path.name for path in bucketed.parent.iterdir())
    assert set(after) - set(before) <= {"study.duckdb.lock"}  # no checkpoints, no weights


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ((), "Say what to train on: --subset never-correct"),
        (("--subset", "hard"), "--subset hard is not a bucket"),
        (("--subset-where", "nothing > 3"), 'The condition "nothing > 3" cannot be used'),
        (("--subset-where", "popularity < 0"), "holds none of the bucketed questions"),
        (("--design", "shapley", "--all-buckets"), "--design shapley takes all buckets"),
        (("--all-buckets", "--eval-where", "popularity < 0"), "No held-out question satisfies"),
        (("--all-buckets", "--bucketing", "zzz"), "no bucketing whose id begins with 'zzz'"),
        (("--all-buckets", "--import-arm", "."), "--import-arm FOLDER and --trained-on FILE.csv"),
        (("--all-buckets", "--eval-dataset", "nothing"), "There is no data set 'nothing'"),
        (("--all-buckets", "--model", "no/such/model/here"), "There is no model 'no/such/model"),
        (("--all-buckets", "--max-rollouts", "10"), "--max-rollouts 10 cannot fill one batch"),
    ],
)
def test_what_ablate_cannot_do_is_one_line(
    bucketed: Path, arguments: tuple[str, ...], complaint: str
) -> None:
    for more in ((), ("--dry-run",)):
        result = attrib("ablate", "--db", bucketed, *arguments, *more)
        assert result.exit_code == 1
        assert result.stdout == ""
        said = [line for line in result.stderr.splitlines() if line.startswith("Error: ")]
        assert len(said) == 1, result.stderr
        assert complaint in said[0]
        assert "Traceback" not in result.stderr


def test_ablate_prints_the_plan_beside_and_the_effects_as_its_answer(
    bucketed: Path, tmp_path: Path
) -> None:
    database = Path(shutil.copy(bucketed, tmp_path / "study.duckdb"))
    short = ("--seeds", 1, "--budget", "updates=1", "--method", "sft", "--eval-limit", 6)
    short += ("--eval-samples", 2, "--cot-tokens", 3, "--role", "only", "--device", "cpu")
    arguments = ("ablate", "--db", database, "--subset", "never-correct", *short)
    result = attrib(*arguments)
    assert result.exit_code == 0, result.stderr
    assert "3 of 3 runs to do" in result.stderr
    assert "held equal updates=1" not in result.stdout
    assert "6 held-out questions, up to 1 seed, 95 % intervals" in result.stdout
    for line in ("base", "base, majority", "base, chain of thought", "full", "only never-correct"):
        assert re.search(rf"^{line} .*\d+\.\d% \[", result.stdout, re.MULTILINE), line
    assert "One seed: intervals and p cover the choice of questions" in result.stdout
    summary = json.loads(attrib(*arguments, "--json").stdout)
    assert (summary["trained"], summary["reused"]) == (0, 3)
    assert {e["role"] for e in summary["effects"]} == {"base", "full", "only"}


def test_runs_that_fail_are_named_after_the_effects(bucketed: Path, tmp_path: Path) -> None:
    database = Path(shutil.copy(bucketed, tmp_path / "study.duckdb"))
    short = ("--seeds", 1, "--budget", "updates=3", "--method", "sft", "--eval-limit", 6)
    short += ("--eval-samples", 0, "--cot-tokens", 0, "--role", "only", "--learning-rate", 1e38)
    result = attrib("ablate", "--db", database, "--subset", "never-correct", *short)
    assert result.exit_code == 1
    assert re.search(r"^base .*\d+\.\d% \[", result.stdout, re.MULTILINE)
    assert result.stderr.splitlines()[-1] == (
        "Error: These runs failed: full, seed 0, only never-correct, seed 0. See the lines above."
    )


def test_a_report_is_opened_in_the_browser_where_there_is_one(
    graded_study: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = tmp_path / "who gained?.html"
    command = ("report", "--db", graded_study, "--output", page, "--open", "--json")
    opened = []
    monkeypatch.setattr(webbrowser, "open", lambda address: opened.append(address) or True)
    result = attrib(*command)
    assert (result.exit_code, result.stderr) == (0, "")
    assert opened == [f"file://{tmp_path}/who%20gained%3F.html"]

    page.unlink()
    monkeypatch.setattr(webbrowser, "open", lambda address: False)
    result = attrib(*command)
    assert result.exit_code == 0
    assert result.stderr == "There is no browser here to open it with.\n"
    assert json.loads(result.stdout)["path"] == str(page)
    assert page.is_file()


def test_a_report_takes_no_studys_place(graded_study: Path, tmp_path: Path) -> None:
    other = Path(shutil.copy(graded_study, tmp_path / "other.duckdb"))
    before = other.read_bytes()
    for arguments in (("--db", other), ("--db", graded_study, "--compare", other)):
        result = attrib("report", *arguments, "--output", other)
        assert result.exit_code == 1
        assert f"{other} is the study itself" in result.stderr
    assert other.read_bytes() == before


def test_a_dash_prints_what_would_be_written(
    graded_study: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    there = ("--db", graded_study, "--output", "-")
    rows = attrib("query", "SELECT 1 AS one", *there, "--format", "csv")
    assert (rows.stdout, rows.stderr) == ("one\n1\n", "")
    lines = attrib("export", *there, "--where", "rollout = 0")
    assert {json.loads(line)["rollout"] for line in lines.stdout.splitlines()} == {0}
    assert "rollouts of" in lines.stderr
    numbers = attrib("report", *there, "--format", "csv", "--quiet")
    assert numbers.stdout.startswith("role,subset,")
    assert numbers.stderr == ""
    assert "</html>" in attrib("report", *there).stdout
    for refused in (
        ("export", *there, "--json"),
        ("export", *there, "--format", "parquet"),
        ("query", "SELECT 1", *there, "--format", "parquet"),
        ("report", *there, "--json"),
        ("report", *there, "--open"),
    ):
        assert attrib(*refused).exit_code == 1
    assert [file.name for file in tmp_path.iterdir()] == []


def test_a_reports_format_follows_from_its_name(graded_study: Path, tmp_path: Path) -> None:
    for name in ("report.json", "report.csv", "report.html", "report"):
        assert attrib("report", "--db", graded_study, "-o", tmp_path / name).exit_code == 0
    assert json.loads((tmp_path / "report.json").read_text())["numbers"]
    assert (tmp_path / "report.csv").read_text().startswith("role,subset,")
    for name in ("report.html", "report"):
        assert (tmp_path / name).read_text().startswith("<!doctype html>")


def test_a_misspelt_grader_is_refused(graded_study: Path, tmp_path: Path) -> None:
    output = tmp_path / "rows.csv"
    refused = attrib("export", "--db", graded_study, "--grader", "exat", "-o", output)
    assert refused.exit_code == 1
    assert "No verdicts by 'exat'. There are some by match-" in refused.stderr
    assert not output.exists()


def test_an_interval_has_a_remedy(graded_study: Path) -> None:
    refused = attrib("query", "SELECT INTERVAL 3 DAY", "--db", graded_study)
    assert refused.exit_code == 1
    assert "Cast it: (…)::VARCHAR" in refused.stderr
    shown = attrib("query", "SELECT (INTERVAL 3 DAY)::VARCHAR AS d", "--db", graded_study)
    assert "3 days" in shown.stdout
