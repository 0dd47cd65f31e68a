"""What `--json` prints has the shape that docs/json.md writes down."""

import importlib.util
import json
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import fields, is_dataclass
from enum import Enum
from pathlib import Path
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

import numpy as np
import polars as pl
import pytest
import typer.main
from typer.testing import CliRunner

from attrib.cli import app
from attrib.store import Store

ROOT = Path(__file__).parents[2]
SCALARS = {
    str: str, Path: str, int: int, float: (int, float), bool: bool, type(None): type(None),
    object: object,
}  # fmt: skip
CHOSEN = "relation = 'continent'"
STUDY = """
db = "{db}"
device = "cpu"

[sample]
model = "{model}"
n = 16
limit = 40
where = "{where}"
max_new_tokens = 4

[bucket]
k = 16

[ablate]
subset = "never-correct"
role = "only"
seeds = 1
budget = "updates=1"
groups = 2
eval_limit = 12
eval_samples = 2
cot_tokens = 4

[analyze]

[report]
output = "{report}"
"""


def load_shapes() -> Any:
    spec = importlib.util.spec_from_file_location("generate_json", ROOT / "docs/generate_json.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


SHAPES = load_shapes()


def check(value: Any, kind: Any, place: str) -> None:
    """Assert that a JSON value is what the type promises, with no key more or fewer."""
    origin, arguments = get_origin(kind), get_args(kind)
    if kind in SCALARS:
        assert isinstance(value, SCALARS[kind]), f"{place} is {value!r}, not {kind}"
        assert kind in (bool, object) or not isinstance(value, bool), place
    elif isinstance(kind, str):
        check(value, pl.DataFrame, place)
        assert value, f"{place}: no row shows its shape"
        assert all(list(row) == list(SHAPES.ROWS[kind]) for row in value), place
    elif origin in (Union, UnionType):
        check_union(value, arguments, place)
    elif origin is Literal:
        assert value in arguments, place
    elif isinstance(kind, type) and issubclass(kind, Enum):
        assert value in {one.value for one in kind}, place
    elif is_dataclass(kind):
        assert isinstance(value, dict), place
        assert list(value) == [field.name for field in fields(kind)], place
        hints = get_type_hints(kind)
        for name, one in value.items():
            check(one, hints[name], f"{place}.{name}")
    elif origin is Mapping:
        assert isinstance(value, dict), place
        for name, one in value.items():
            check(one, arguments[1], f"{place}.{name}")
    elif origin is np.ndarray:
        check_numbers(value, place)
    elif kind is pl.DataFrame:
        check(value, list[Mapping[str, object]], place)
    elif origin is tuple and Ellipsis not in arguments:
        for at, (one, expected) in enumerate(zip(value, arguments, strict=True)):
            check(one, expected, f"{place}[{at}]")
    else:
        assert origin in (tuple, list, Sequence), f"{place}: {kind}"
        assert isinstance(value, list), place
        for at, one in enumerate(value):
            check(one, arguments[0], f"{place}[{at}]")


def check_numbers(value: Any, place: str) -> None:
    assert isinstance(value, list), place
    for one in value:
        if isinstance(one, list):
            check_numbers(one, place)
        else:
            check(one, float | None, place)


def check_union(value: Any, kinds: Sequence[Any], place: str) -> None:
    if value is None:
        assert type(None) in kinds, place
        return None
    kinds = [kind for kind in kinds if kind is not type(None)]
    if len(kinds) == 1:
        return check(value, kinds[0], place)
    assert any(kind in SCALARS and isinstance(value, SCALARS[kind]) for kind in kinds), place


def suspect_one(store: Store) -> None:
    """Let a question be suspect: this model names nothing beside what it is asked for."""
    with store.writing("test"), store.transaction() as transaction:
        transaction.execute(
            "INSERT INTO suspects SELECT bucketing_id, min(question_id), 'short', 'of a letter' "
            "FROM buckets GROUP BY ALL"
        )


def invoke(*arguments: object) -> str:
    result = CliRunner().invoke(app, [str(one) for one in arguments])
    assert result.exit_code == 0, (arguments, result.output, result.exception)
    return result.stdout


@pytest.fixture(scope="module")
def run_lines(
    tmp_path_factory: pytest.TempPathFactory, continent_model: Path
) -> tuple[Path, list[dict[str, Any]]]:
    """Return a study's folder and what `attrib run --json` printed of it."""
    folder = tmp_path_factory.mktemp("json")
    study = folder / "study.toml"
    study.write_text(
        STUDY.format(
            db=folder / "study.duckdb",
            model=continent_model,
            where=CHOSEN,
            report=folder / "report.html",
        )
    )
    return folder, [json.loads(line) for line in invoke("run", study, "--json").splitlines()]


def test_the_page_is_up_to_date() -> None:
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


def test_a_whole_study_prints_a_line_per_step(
    run_lines: tuple[Path, list[dict[str, Any]]],
) -> None:
    _, lines = run_lines
    assert [line["step"] for line in lines] == ["sample", "bucket", "ablate", "analyze", "report"]
    for line in lines:
        check(line["result"], SHAPES.PRINTED[line["step"]], line["step"])
    analysis = lines[3]["result"]
    assert analysis["membership"] is not None
    assert analysis["passes"]


def test_single_commands(
    run_lines: tuple[Path, list[dict[str, Any]]], continent_model: Path, tmp_path: Path
) -> None:
    folder, _ = run_lines
    db = folder / "study.duckdb"
    more = tmp_path / "more.csv"
    more.write_text("question,answer\nWhich river flows through Paris?,Seine\n,nothing\n")
    dump, labels = tmp_path / "dump.jsonl", tmp_path / "labels.csv"
    row = {"question": "Which river flows through Paris?", "responses": ["Seine", "Loire"]}
    dump.write_text(json.dumps(row) + "\n")
    model = shlex.quote(str(continent_model))
    where = shlex.quote(CHOSEN)
    sample = f"sample --model {model} --limit 42 --n 16 --max-new-tokens 4 --device cpu"
    for line in (
        f"data import {more} --held-out 0",
        "data split --held-out 0 --seed 1",
        f"data import-rollouts {dump} --model m --max-new-tokens 8",
        "data list",
        "data show more",
        "data audit",
        f"{sample} --where {where} --dry-run",
        "grade",
        "grade --compare match exact",
        f"grade export --for-labelling 4 -o {labels}",
        f"grade --labels {labels}",
        "grade suspects",
        f"export -o {tmp_path / 'rollouts.parquet'}",
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
