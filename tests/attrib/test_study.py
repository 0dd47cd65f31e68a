"""Study files: whose value wins, what is refused, and that `attrib run` runs the steps."""

from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import Result
from typer.testing import CliRunner

from attrib.attribution.settings import AblateSettings
from attrib.cli import app
from attrib.data.questions import load_worldfacts
from attrib.errors import ConfigError
from attrib.store import Store
from attrib.study import read_study

KNOWN = {"sample": {"db", "n", "limit", "max_new_tokens"}, "bucket": {"db", "k"}}

STUDY = """
db = "shared.duckdb"

[sample]
n = 40
limit = 7
temperature = 0.5

[bucket]
k = 20
"""


@pytest.fixture
def study(tmp_path: Path) -> Path:
    path = tmp_path / "study.toml"
    path.write_text(STUDY)
    return path


@pytest.fixture
def attrib(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    """Return `attrib(*arguments, **environment)`, the command line in this process."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments: object, **environment: str) -> Result:
        return CliRunner().invoke(app, [str(argument) for argument in arguments], env=environment)

    return run


def settings_in(result: Result) -> dict[str, tuple[str, str]]:
    """Return name → (value, source) from the output of --print-config."""
    assert result.exit_code == 0, result.stderr
    found = {}
    for line in result.stdout.splitlines():
        name, rest = line.split(maxsplit=1)
        for source in ("flag", "environment", "study file", "default"):
            if rest.endswith(source):
                found[name] = (rest.removesuffix(source).strip(), source)
    return found


def test_flag_beats_environment_beats_study_beats_default(
    attrib: Callable[..., Result], study: Path
) -> None:
    result = attrib(
        *("--study", study, "sample", "--limit", 3, "--print-config"),
        ATTRIB_SAMPLE_LIMIT="5",
        ATTRIB_SAMPLE_N="50",
    )
    found = settings_in(result)
    assert found["limit"] == ("3", "flag")
    assert found["n"] == ("50", "environment")
    assert found["temperature"] == ("0.5", "study file")
    assert found["db"] == ("shared.duckdb", "study file")
    assert found["seed"] == ("0", "default")
    assert not Path("shared.duckdb").exists()  # --print-config does nothing else


def test_the_study_and_the_database_can_come_from_the_environment(
    attrib: Callable[..., Result], study: Path
) -> None:
    result = attrib("bucket", "--print-config", ATTRIB_STUDY=str(study), ATTRIB_DB="other.duckdb")
    found = settings_in(result)
    assert found["k"] == ("20", "study file")
    assert found["db"] == ("other.duckdb", "environment")
    assert settings_in(attrib("bucket", "--db", "flag.duckdb", "--print-config", ATTRIB_DB="b"))[
        "db"
    ] == ("flag.duckdb", "flag")


def test_defaults_hold_without_a_study(attrib: Callable[..., Result]) -> None:
    found = settings_in(attrib("sample", "--print-config"))
    assert found["n"] == ("128", "default")
    assert {source for _, source in found.values()} == {"default"}


def test_shared_keys_reach_the_commands_that_know_them(study: Path) -> None:
    study.write_text('db = "a"\nlimit = 3\n[bucket]\nk = 4\ndb = "b"\n')
    assert read_study(str(study), KNOWN).defaults == {
        "bucket": [{"db": "b", "k": 4}],
        "sample": [{"db": "a", "limit": 3}],
    }


def test_a_command_may_have_several_tables(study: Path) -> None:
    study.write_text('db = "a"\n[[bucket]]\nk = 4\n[[bucket]]\nk = 8\ndb = "b"\n')
    assert read_study(str(study), KNOWN).defaults["bucket"] == [
        {"db": "a", "k": 4},
        {"db": "b", "k": 8},
    ]


def test_several_tables_are_run_not_chosen_from(attrib: Callable[..., Result], study: Path) -> None:
    study.write_text("[[bucket]]\nk = 4\n[[bucket]]\nk = 8\n")
    result = attrib("--study", study, "bucket")
    assert result.exit_code == 1
    assert "has 2 tables for `attrib bucket`" in result.stderr
    assert "type: attrib run" in result.stderr


def test_every_mistake_is_named_with_a_suggestion(study: Path) -> None:
    study.write_text("limits = 3\n[sample]\nmax-new-tokens = 1\nzzz = 2\n[sampel]\nn = 1\n")
    with pytest.raises(ConfigError) as refusal:
        read_study(str(study), KNOWN)
    message = str(refusal.value)
    assert "unknown key 'limits' (did you mean 'limit'?)" in message
    assert "unknown key in [sample] 'max-new-tokens' (did you mean 'max_new_tokens'?)" in message
    assert "unknown key in [sample] 'zzz'" in message
    assert "unknown table 'sampel' (did you mean 'sample'?)" in message


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (b"[sample\nn = 1", "is not valid TOML"),
        (b"\xff\xfe", "is not valid TOML"),
        (None, "cannot be read: No such file"),
    ],
)
def test_an_unreadable_study_is_one_clear_error(
    attrib: Callable[..., Result], study: Path, content: bytes | None, complaint: str
) -> None:
    study.unlink() if content is None else study.write_bytes(content)
    for arguments in (["--study", study, "status"], ["run", study]):
        result = attrib(*arguments)
        assert result.exit_code == 1
        assert complaint in result.stderr
        assert str(study) in result.stderr
        assert len(result.stderr.splitlines()) == 1


def test_run_runs_the_steps_that_have_tables(
    attrib: Callable[..., Result], tmp_path: Path, continent_model: Path
) -> None:
    study = tmp_path / "study.toml"
    study.write_text(
        f"""
db = "runs/study.duckdb"
seed = 3

[report]
output = "report.html"

[bucket]
k = 16

[sample]
model = "{continent_model}"
n = 32
limit = 12
where = "relation = 'continent' -- an SQL comment"
max_new_tokens = 4
device = "cpu"

[[ablate]]
subset_where = "popularity > 1000"
role = "only"
seeds = 1
method = "sft"
budget = "updates=1"
evaluate_at = 1.0
eval_limit = 5
eval_samples = 0
cot_tokens = 0
device = "cpu"

[[ablate]]
subset_where = ["popularity > 1000"]
role = ["only"]
seeds = 1
method = "sft"
budget = "updates=2"
evaluate_at = [0.5, 1.0]
eval_limit = 5
eval_samples = 0
cot_tokens = 0
device = "cpu"
"""
    )
    result = attrib("run", study, ATTRIB_SAMPLE_N="16")
    assert result.exit_code == 0, result.stderr
    steps = [line for line in result.stderr.splitlines() if line.startswith("── ")]
    commands = ("sample", "bucket", "ablate", "ablate", "report")
    assert steps == [f"── attrib {command}" for command in commands]
    store = Store(tmp_path / "runs/study.duckdb")
    counted = store.read("SELECT count(*) AS rows, max(rollout) + 1 AS n FROM rollouts").row(0)
    assert counted == (12 * 16, 16)  # the environment beats the study file here too
    assert store.read("SELECT seed FROM sample_sets").item() == 3
    assert store.read("SELECT count(*) FROM buckets").item() == 12
    arms = store.read("SELECT DISTINCT role, updates, seed FROM arms ORDER BY ALL").rows()
    assert arms == [
        ("base", 0, 0),
        *((role, updates, 3) for role in ("full", "only") for updates in (1, 2)),
    ]
    assert (tmp_path / "report.html").read_text().startswith("<!doctype html>")

    again = attrib("run", study, ATTRIB_SAMPLE_N="16")
    assert again.exit_code == 0
    assert "192 stored, 0 to draw" in again.stderr


def test_run_stops_at_the_first_step_that_fails(
    attrib: Callable[..., Result], tmp_path: Path
) -> None:
    study = tmp_path / "study.toml"
    study.write_text('db = "s.duckdb"\n[bucket]\nk = 16\n[report]\noutput = "r.html"\n')
    result = attrib("run", study)
    assert result.exit_code == 1
    assert result.stderr.splitlines()[-1].startswith("Error: There is no study at s.duckdb")
    assert not (tmp_path / "r.html").exists()


def test_run_needs_what_the_step_needs(attrib: Callable[..., Result], tmp_path: Path) -> None:
    study = tmp_path / "study.toml"
    study.write_text('db = "s.duckdb"\n[ablate]\nbudget = "updates=1"\n')
    result = attrib("run", study)
    assert result.exit_code == 1
    assert "There is no study" in result.stderr


def test_tables_of_grouped_commands_are_nested(study: Path) -> None:
    known = {"data import": {"db", "source"}, "grade": {"db", "k"}, "grade export": {"db", "seed"}}
    study.write_text(
        'db = "a"\n[[data.import]]\nsource = "x"\n[[data.import]]\nsource = "y"\n'
        "[grade]\nk = 3\n[grade.export]\nseed = 4\n"
    )
    found = read_study(str(study), known)
    assert found.defaults == {
        "data import": [{"db": "a", "source": "x"}, {"db": "a", "source": "y"}],
        "grade": [{"db": "a", "k": 3}],
        "grade export": [{"db": "a", "seed": 4}],
    }
    assert set(found.tables) == set(known)
    study.write_text("[data.imprt]\nsource = 1\n[data]\nname = 2\n[grade.export]\nsed = 3\n")
    with pytest.raises(ConfigError) as refusal:
        read_study(str(study), known)
    message = str(refusal.value)
    assert "unknown table 'data.imprt' (did you mean 'data.import'?)" in message
    assert "unknown table 'data'" in message
    assert "unknown key in [grade.export] 'sed' (did you mean 'seed'?)" in message


PRESETS = ("demo", "paper-llama-3.1-8b", "paper-olmo-2-7b", "paper-qwen2.5-7b", "smollm2")


def test_presets_are_listed(attrib: Callable[..., Result]) -> None:
    result = attrib("run", "--list")
    assert result.exit_code == 0
    assert [line.split()[0] for line in result.stdout.splitlines()] == list(PRESETS)
    for line in result.stdout.splitlines():
        assert ("untested at this scale" in line) == line.startswith("paper-")


@pytest.mark.parametrize("name", PRESETS)
def test_every_setting_of_a_preset_is_valid(attrib: Callable[..., Result], name: str) -> None:
    result = attrib("run", name, "--print-config")
    assert result.exit_code == 0, result.stderr
    steps = [line for line in result.stdout.splitlines() if line.startswith("── ")]
    imports = ["── attrib data import"] * 4 if name.startswith("paper-") else []
    assert steps[: len(imports)] == imports
    for step in ("sample", "bucket", "ablate", "analyze", "report"):
        assert f"── attrib {step}" in steps
    for step in ("bucket", "report"):
        found = settings_in(attrib("--study", name, step, "--print-config"))
        assert "study file" in {source for _, source in found.values()}
    assert list(Path().iterdir()) == []


def test_a_preset_of_the_paper_asks_what_the_paper_asked(attrib: Callable[..., Result]) -> None:
    result = attrib("run", "paper-qwen2.5-7b", "--print-config")
    lines = [line.split() for line in result.stdout.splitlines()]
    assert {line[1] for line in lines if line[0] == "model"} >= {"Qwen/Qwen2.5-7B-Instruct"}
    assert {line[1] for line in lines if line[0] == "n"} == {"128"}
    datasets = {line[1] for line in lines if line[0] == "dataset"}
    assert datasets == {"nq", "triviaqa", "popqa", "simpleqa"}
    assert {line[1] for line in lines if line[0] == "grader"} == {"judge"}
    judges = {line[1] for line in lines if line[0] == "judge_model"}
    assert judges == {"Qwen/Qwen2.5-72B-Instruct"}


def test_run_runs_every_step_and_again_changes_nothing(
    attrib: Callable[..., Result], tmp_path: Path, continent_model: Path
) -> None:
    """From a file of questions to the report; the second time finds everything done."""
    questions = [q for q in load_worldfacts() if q.relation == "continent"][:60]
    rows = "".join(f"{q.text},{q.answers[0]},{q.relation},{q.subject}\n" for q in questions)
    (tmp_path / "mine.csv").write_text("question,answer,relation,subject\n" + rows)
    study = tmp_path / "study.toml"
    study.write_text(
        f"""
db = "study.duckdb"
device = "cpu"

[data.import]
source = "mine.csv"
question_column = "question"
answers_column = "answer"
relation_column = "relation"
subject_column = "subject"

[sample]
dataset = "mine"
model = "{continent_model}"
n = 16
limit = 20
max_new_tokens = 4

[grade]
grader = "exact"

[bucket]
k = 16

[ablate]
subset_where = "text < 'X'"
role = "only"
seeds = 1
method = "sft"
budget = "updates=1"
evaluate_at = 1.0
eval_limit = 5
eval_samples = 0
cot_tokens = 0

[analyze]

[report]
output = "report.html"
"""
    )
    result = attrib("run", study)
    assert result.exit_code == 0, result.stderr
    steps = [line for line in result.stderr.splitlines() if line.startswith("── ")]
    commands = ("data import", "sample", "grade", "bucket", "ablate", "analyze", "report")
    assert steps == [f"── attrib {command}" for command in commands]
    assert "mine imported: 60 questions" in result.stdout
    store = Store(tmp_path / "study.duckdb")
    tables = ("questions", "rollouts", "verdicts", "buckets", "evaluations", "effects")
    before = [store.read(f"FROM {table} ORDER BY ALL") for table in tables]
    again = attrib("run", study, "--quiet")
    assert (again.exit_code, again.stderr) == (0, "")
    assert "mine was imported before" in again.stdout
    after = [store.read(f"FROM {table} ORDER BY ALL") for table in tables]
    assert all(one.equals(other) for one, other in zip(before, after, strict=True))


def test_print_config_shows_every_setting(attrib: Callable[..., Result]) -> None:
    arguments = ("--subset", "never-correct", "--evaluate-at", 0.25, "--seeds", 5)
    result = attrib("ablate", *arguments, "--print-config", ATTRIB_ABLATE_BUDGET="epochs=2")
    found = settings_in(result)
    assert set(found) >= set(AblateSettings.model_fields) - {"trainer_version"}
    assert found["subset"] == ("never-correct", "flag")
    assert found["evaluate_at"] == ("0.25", "flag")
    assert found["seeds"] == ("5", "flag")
    assert found["budget"] == ("epochs=2", "environment")
    assert found["fill"] == ("informative", "default")


def test_the_command_line_and_the_library_have_the_same_defaults(
    attrib: Callable[..., Result],
) -> None:
    found = settings_in(attrib("ablate", "--print-config"))
    for name, value in AblateSettings():
        if name == "trainer_version":
            continue
        several = value if isinstance(value, tuple) else (value,)
        expected = ", ".join(str(one) for one in several if one not in (None, ""))
        assert found[name][0] == (expected or "(none)"), name


def test_a_study_does_not_print_a_report_among_json(
    attrib: Callable[..., Result], study: Path
) -> None:
    study.write_text(STUDY + '\n[report]\noutput = "-"\n')
    refused = attrib("run", study, "--json")
    assert refused.exit_code == 1
    assert "--json and --output - would both print" in refused.stderr
    assert not Path("shared.duckdb").exists()


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("", "has a table for no step"),
        ("[sample]\nn = true\n", "has n = true, which is no value for it"),
    ],
)
def test_what_a_study_cannot_mean(
    attrib: Callable[..., Result], study: Path, content: str, said: str
) -> None:
    study.write_text(content)
    refused = attrib("run", study)
    assert refused.exit_code == 1
    assert said in refused.stderr
