"""The documentation says what the code does."""

import importlib.util
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import duckdb
import pytest
import typer.main
from typer.testing import CliRunner

from attrib.cli import app
from attrib.data.questions import load_worldfacts
from attrib.errors import StoreError
from attrib.store import Store

ROOT = Path(__file__).parents[1]
GROUP: Any = typer.main.get_command(app)
PAGES = (
    "README.md",
    "CONTRIBUTING.md",
    *sorted(f"docs/{page.name}" for page in ROOT.glob("docs/*.md")),
)


def read(page: str) -> str:
    return (ROOT / page).read_text(encoding="utf-8")


def test_the_command_reference_is_up_to_date() -> None:
    spec = importlib.util.spec_from_file_location("generate_cli", ROOT / "docs/generate_cli.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert module.render_reference() == read("docs/cli.md")


@pytest.mark.parametrize("page", PAGES)
def test_commands_in_the_pages_exist(page: str) -> None:
    for line in re.findall(r"(?:^|`)(attrib (?![\[-])[^#\n`]+)", read(page), flags=re.MULTILINE):
        arguments = shlex.split(line)[1:]
        command = GROUP
        while arguments and arguments[0] in getattr(command, "commands", {}):
            command = command.commands[arguments.pop(0)]
        assert command is not GROUP, line
        known = {flag for p in command.params for flag in (*p.opts, *p.secondary_opts)}
        assert {a for a in arguments if a.startswith("--")} <= known, line


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_somewhere(page: str) -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", read(page)):
        if not target.startswith("https://"):
            assert ((ROOT / page).parent / target).exists(), target


def test_every_table_of_the_store_is_described(tmp_path: Path) -> None:
    store = Store(tmp_path / "study.duckdb")
    with store.writing("attrib test"):
        pass
    columns = store.read(
        "SELECT table_name, list(column_name ORDER BY column_name) AS columns "
        "FROM duckdb_columns() WHERE NOT internal AND table_name <> 'schema_migrations' "
        "AND table_name <> 'arms' GROUP BY table_name ORDER BY table_name"
    )
    rows = dict(
        re.findall(
            r"^\| (\w+)(?: \(view\))? \| [^|]+ \| ([^|]+) \|$", read("docs/store.md"), re.MULTILINE
        )
    )
    for table, names in columns.iter_rows():
        described = re.findall(r"\w+", re.sub(r"\([^)]*\)", "", rows[table]))
        assert sorted(described) == names, table


def test_the_example_query_runs(tmp_path: Path) -> None:
    store = Store(tmp_path / "study.duckdb")
    with store.writing("attrib test"):
        pass
    [sql] = re.findall(r"```sql\n(.*?)```", read("docs/store.md"), re.DOTALL)
    assert store.read(sql).is_empty()


def test_the_exported_columns_are_listed(graded_study: Path, tmp_path: Path) -> None:
    written = tmp_path / "rollouts.csv"
    arguments = ["export", "--db", str(graded_study), "--output", str(written)]
    assert CliRunner().invoke(app, arguments).exit_code == 0
    [listed] = re.findall(r"```\n(sample_set_id, .*?)\n```", read("docs/store.md"), re.DOTALL)
    assert re.split(r",\s", listed) == written.read_text().splitlines()[0].split(",")


def test_the_readme_counts_the_facts() -> None:
    assert f"{len(load_worldfacts()):,} one-hop facts" in read("README.md")


def test_the_tree_in_the_readme_is_the_repository() -> None:
    [tree] = re.findall(r"```\n(attrib/ .*?)```", read("README.md"), re.DOTALL)
    for folder in re.findall(r"^(\w+)/", tree, re.MULTILINE):
        assert (ROOT / folder).is_dir(), folder


def test_the_tables_of_costs_are_what_the_model_prints() -> None:
    printed = subprocess.run(
        [sys.executable, ROOT / "benchmarks/cost_model.py"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert printed.strip() in read("docs/scale.md")


def test_rollouts_in_parquet_stay_readable(graded_study: Path, tmp_path: Path) -> None:
    path = Path(shutil.copy(graded_study, tmp_path / "study.duckdb"))
    before = Store(path).read("SELECT * FROM graded_rollouts ORDER BY ALL")
    [sql] = re.findall(r"```sql\n(COPY .*?)```", read("docs/scale.md"), re.DOTALL)
    with duckdb.connect(path) as connection:
        connection.execute(sql.replace("/data/", f"{tmp_path}/"))
    assert list(tmp_path.glob("study.duckdb.parquet/dataset=worldfacts/*.parquet"))
    assert Store(path).read("SELECT * FROM graded_rollouts ORDER BY ALL").equals(before)
    result = CliRunner().invoke(app, ["bucket", "--k", "16", "--db", str(path)])
    assert result.exit_code == 0, result.output
    with pytest.raises(StoreError, match="disabled"):
        Store(path).read(f"SELECT * FROM read_csv('{ROOT / 'README.md'}')")
