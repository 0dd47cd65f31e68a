"""Whatever is typed or lies in a file: an exit code, one line, no traceback, and no lost row.

Over 1,000 cases, in this process, drawn by hypothesis.
"""

import io
import json
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import redirect_stderr, redirect_stdout, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import duckdb
import pytest
import typer.main
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from attrib.cli import app
from attrib.data.library import store_questions
from attrib.data.questions import Split, load_worldfacts
from attrib.errors import StoreError
from attrib.store import Store

QUESTION = next(q for q in load_worldfacts() if q.split is Split.TRAIN)
FAULT = "This is a fault of attrib"
GROUP: Any = typer.main.get_command(app)  # made once: that takes longer than most commands


def fuzz(cases: int) -> settings:
    """Return how many cases are drawn; none is too slow."""
    return settings(max_examples=cases, deadline=None, suppress_health_check=[HealthCheck.too_slow])


Attrib = Callable[..., int]


@pytest.fixture(scope="module")
def folder(
    tmp_path_factory: pytest.TempPathFactory, graded_study: Path, continent_model: Path
) -> Iterator[Path]:
    """Make a folder with a good study and everything that is none; it is the working folder."""
    folder = tmp_path_factory.mktemp("fuzz")
    shutil.copy(graded_study, folder / "good.duckdb")
    small = Store(folder / "small.duckdb")
    with small.writing("attrib test"):
        store_questions(small, "small", "small.csv", "hash", [QUESTION])
    (folder / "truncated.duckdb").write_bytes(graded_study.read_bytes()[:5000])
    (folder / "text.duckdb").write_text("not a database")
    (folder / "empty.duckdb").write_bytes(b"")
    (folder / "folder").mkdir()
    (folder / "model").symlink_to(continent_model)
    (folder / "latin.toml").write_bytes(b'db = "\xe9"')
    (folder / "bom.csv").write_bytes(b"\xff\xfeq\x00")
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.chdir(folder)
        yield folder


@pytest.fixture(scope="module")
def attrib(folder: Path) -> Attrib:
    """Return `attrib(*arguments)`, which runs a command and checks how it ended."""
    assert folder.is_dir()

    def run(*arguments: object) -> int:
        stderr = io.StringIO()
        with redirect_stdout(io.StringIO()), redirect_stderr(stderr):
            try:
                GROUP.main([str(argument) for argument in arguments], prog_name="attrib")
            except SystemExit as end:
                code = end.code or 0
        said = stderr.getvalue()
        assert code in (0, 1, 2), arguments
        assert "Traceback" not in said
        assert FAULT not in said, (arguments, said)
        errors = [line for line in said.split("\n") if line.startswith("Error: ")]
        assert len(errors) == (code != 0), (arguments, said)
        if errors:
            assert said.endswith(errors[0] + "\n"), "the error comes last, in one line"
        return int(code)

    return run


@pytest.fixture(scope="module", autouse=True)
def nothing_is_lost(folder: Path) -> Iterator[None]:
    """Check after all cases that the rows which were there are there."""
    store = Store(folder / "good.duckdb")
    sql = "SELECT * FROM rollouts WHERE sample_set_id = $id ORDER BY ALL"
    sample_set_id = store.read("SELECT sample_set_id FROM sample_sets").item()
    before = store.read(sql, id=sample_set_id)
    assert len(before) == 192
    yield
    assert store.read(sql, id=sample_set_id).equals(before)


numbers = st.sampled_from(["-1", "0", "1", "3", "16", "17", "1e9", "nan", "-inf", str(2**31)]) | (
    st.integers(-(10**30), 10**30).map(str)
)
words = st.text(max_size=12) | st.sampled_from(
    ["match", "exact", "psychic", "hard", "never-correct"]
)
databases = st.sampled_from(
    ["good.duckdb"] * 4
    + ["truncated.duckdb", "text.duckdb", "empty.duckdb", "folder", "none/at/all.duckdb"]
    + ["/proc/attrib.duckdb", "bom.csv", "x" * 300, "good.duckdb/inner"]
)
paths = st.sampled_from(["folder", "none.csv", "bom.csv", "good.duckdb", "/proc/x.csv", "", "\0"])
conditions = words | st.sampled_from(
    ["1 = 1", "relation = 'capital'", ") OR (1 = 1", "text", "; --"]
)
VALUES = {
    "--k": numbers,
    "--limit": numbers,
    "--seed": numbers,
    "--held-out": numbers,
    "--cut-rarely": numbers,
    "--cut-sometimes": numbers,
    "--for-labelling": numbers,
    "--max-new-tokens": numbers,
    "--grader": words,
    "--sample-set": words,
    "--bucketing": words,
    "--experiment": words,
    "--format": words | st.sampled_from(["csv", "json", "parquet", "inspect", "lm-eval"]),
    "--where": conditions,
    "--labels": paths,
    "--output": paths,
    "--compare": words,
}
TAKES = {
    ("status",): (),
    ("bucket",): ("--k", "--grader", "--cut-rarely", "--cut-sometimes", "--sample-set"),
    ("grade",): ("--k", "--grader", "--limit", "--labels", "--sample-set"),
    ("grade", "suspects"): ("--bucketing",),
    ("grade", "export"): ("--output", "--for-labelling", "--k", "--seed"),
    ("analyze",): ("--experiment", "--bucketing"),
    ("export",): ("--output", "--format", "--where", "--grader", "--sample-set"),
    ("data", "list"): (),
    ("data", "show", "worldfacts"): ("--limit",),
    ("data", "split"): ("--held-out", "--seed"),
    ("query", "FROM buckets"): ("--format", "--output"),
}


@st.composite
def command_lines(draw: st.DrawFn) -> list[str]:
    """Draw a command with options that it knows and values that it may not."""
    command = draw(st.sampled_from(list(TAKES)))
    line = [*command, "--db", draw(databases)]
    for option in draw(st.lists(st.sampled_from(TAKES[command] or ("--json",)), max_size=3)):
        line += [option, *([draw(VALUES[option])] if option in VALUES else [])]
    return line


@fuzz(60)
@given(command_lines())
def test_any_value_of_any_option(attrib: Attrib, line: list[str]) -> None:
    attrib(*line)


@fuzz(100)
@given(
    st.lists(words | numbers | st.sampled_from(["sample", "data", "--db", "-h", "--"]), max_size=4)
)
def test_any_words(attrib: Attrib, line: list[str]) -> None:
    attrib("query", "--db", "good.duckdb", *line)


SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8)
KEYS = ("db", "n", "k", "limit", "where", "model", "stop", "subset", "role", "evaluate_at", "cuts")
TABLES = ("sample", "bucket", "ablate", "report", "grade", "analyze", "data", "smaple")


def to_toml(value: object) -> str:
    """Return a value as TOML; JSON is TOML but for null and some numbers."""
    if isinstance(value, list):
        return f"[{', '.join(map(to_toml, value))}]"
    if isinstance(value, float):
        return repr(value)
    return '"none"' if value is None else json.dumps(value)


@st.composite
def study_files(draw: st.DrawFn) -> bytes:
    """Draw TOML with tables and keys that exist and values of any type, or anything at all."""
    if draw(st.integers(0, 3)) == 0:
        return draw(st.binary(max_size=40) | st.text(max_size=40).map(str.encode))
    lines = []
    for table in draw(st.lists(st.sampled_from(("", *TABLES)), unique=True, max_size=3)):
        lines.append(f"[{table}]" if table else "")
        for key in draw(st.lists(st.sampled_from(KEYS), unique=True, max_size=3)):
            value = draw(SCALARS | st.lists(SCALARS, max_size=2) | st.lists(st.lists(SCALARS)))
            lines.append(f"{key} = {to_toml(value)}")
    return "\n".join(lines).encode(errors="replace")


@fuzz(600)
@given(study_files())
def test_any_study_file(attrib: Attrib, folder: Path, content: bytes) -> None:
    (folder / "study.toml").write_bytes(content)
    attrib("run", "study.toml", "--print-config")


@pytest.mark.parametrize("name", ["folder", "latin.toml", "none.toml", "none", "\0", "", "x" * 300])
def test_no_study_file(attrib: Attrib, name: str) -> None:
    assert attrib("run", name) == 1


JSON = st.recursive(SCALARS, lambda inner: st.lists(inner, max_size=3), max_leaves=6)
NAMES = ("question", "prompt", "input", "output", "responses", "completion", "score", "scores")
NAMES += ("question_id", "doc", "resps", "samples", "eval", "epoch", "answer", "finish_reason")
ROWS = st.dictionaries(
    st.sampled_from(NAMES),
    JSON | st.just(QUESTION.text) | st.dictionaries(st.sampled_from(NAMES), JSON),
)


@st.composite
def data_files(draw: st.DrawFn) -> bytes:
    """Draw JSON lines with columns that are known, or anything at all."""
    if draw(st.integers(0, 3)) == 0:
        return draw(st.binary(max_size=60))
    rows = draw(st.lists(ROWS, max_size=3))
    if draw(st.booleans()):
        rows = [{"question": QUESTION.text, **row} for row in rows]
    return "\n".join(json.dumps(row) for row in rows).encode()


SUFFIXES = st.sampled_from(["jsonl", "json", "csv", "tsv", "parquet", "jsonl.gz", "exe"])
ROLLOUTS = ("--model", "m", "--max-new-tokens", 4, "--db", "small.duckdb")


@fuzz(150)
@given(data_files(), SUFFIXES)
def test_any_file_of_rollouts(attrib: Attrib, folder: Path, content: bytes, suffix: str) -> None:
    file = folder / f"rollouts.{suffix}"
    file.write_bytes(content)
    attrib("data", "import-rollouts", file, *ROLLOUTS)


@fuzz(40)
@given(data_files(), SUFFIXES)
def test_any_file_of_questions(attrib: Attrib, folder: Path, content: bytes, suffix: str) -> None:
    file = folder / f"questions.{suffix}"
    file.write_bytes(content)
    attrib("data", "import", file, "--db", "imports.duckdb")


@pytest.mark.parametrize("n", [-1, 0, 2**31, 2**63, 10**30, "x"])
@pytest.mark.parametrize("option", ["--n", "--limit", "--max-new-tokens", "--seed"])
def test_numbers_of_sample(attrib: Attrib, option: str, n: object) -> None:
    attrib("sample", "--model", "no/such/model", "--db", "none.duckdb", option, n, "--where", "x y")


READ_ONLY = {
    "status": (),
    "query": ("FROM rollouts",),
    "export": ("--output", "rows.csv"),
    "analyze": (),
    "report": ("--output", "report.html"),
}
WRITE = {
    "grade": ("--grader", "exact"),
    "bucket": ("--k", 12, "--cut-rarely", 0.1),
    "sample": (
        *("--n", 16, "--limit", 12, "--where", "relation = 'continent'", "--max-new-tokens", 4),
        *("--model", "model", "--device", "cpu"),
    ),
    "ablate": ("--subset", "never-correct", "--model", "no/such/model", "--dry-run"),
}


@dataclass(frozen=True, repr=False)
class Files:
    """A database, and the writes that were not yet moved into it when its writer was killed."""

    database: bytes
    log: bytes

    def put(self, path: Path) -> None:
        path.write_bytes(self.database)
        Path(f"{path}.wal").write_bytes(self.log)

    def lie_at(self, path: Path) -> bool:
        """Tell whether nothing has changed; an empty log may be gone."""
        log = Path(f"{path}.wal")
        left = log.read_bytes() if log.is_file() else b""
        return path.read_bytes() == self.database and left == self.log


@pytest.fixture(scope="module")
def whole(folder: Path) -> Files:
    """Copy a study while a writer is connected, as a kill leaves it."""
    path = Path(shutil.copy(folder / "good.duckdb", folder / "killed.duckdb"))
    with duckdb.connect(str(path)) as connection:
        connection.execute("INSERT INTO selections SELECT 'later', 'q' || i FROM range(3000) t(i)")
        return Files(path.read_bytes(), Path(f"{path}.wal").read_bytes())


@st.composite
def damages(draw: st.DrawFn) -> tuple[str, Callable[[bytes], bytes]]:
    """Draw which of the two files is damaged, and how."""
    part = draw(st.sampled_from(["database", "log"]))
    place = draw(st.floats(0.0, 1.0) | st.floats(0.0, 0.01))
    amount = draw(st.sampled_from([1, 8, 512, 4096]))
    kind = draw(st.sampled_from(["cut", "flipped", "zero"]))

    def damage(content: bytes) -> bytes:
        first = min(int(place * len(content)), len(content) - 1)
        stop = min(first + amount, len(content))
        if kind == "cut":
            return content[:first]
        middle = (
            bytes(stop - first) if kind == "zero" else bytes(255 - b for b in content[first:stop])
        )
        return content[:first] + middle + content[stop:]

    return part, damage


@fuzz(60)
@given(damages(), st.sampled_from([*READ_ONLY, *WRITE]))
def test_any_damage_to_a_study(
    attrib: Attrib,
    folder: Path,
    whole: Files,
    damage: tuple[str, Callable[[bytes], bytes]],
    command: str,
) -> None:
    """A command that fails leaves both files as they were; one that writes loses no row."""
    part, change = damage
    files = replace(whole, **{part: change(getattr(whole, part))})
    path = folder / "damaged.duckdb"
    files.put(path)
    arguments = READ_ONLY.get(command) or WRITE.get(command) or ()
    before = readable_rows(path) if command in WRITE else {}
    code = attrib(command, "--db", path.name, *arguments)
    assert files.lie_at(path) or (code == 0 and command in WRITE)
    after = readable_rows(path) if before else {}
    assert all(after[table] >= rows for table, rows in before.items())


def readable_rows(path: Path) -> dict[str, set[tuple[object, ...]]]:
    """Return the rows of the tables that can be read, if any."""
    found = {}
    for table in ("rollouts", "verdicts", "buckets", "selections"):
        with suppress(StoreError):
            found[table] = set(Store(path).read(f"SELECT to_json(t) FROM {table} AS t").rows())
    return found


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_read_only_folder(attrib: Attrib, folder: Path) -> None:
    closed = folder / "closed"
    closed.mkdir(mode=0o500)
    assert attrib("data", "import", "bom.csv", "--db", "closed/s.duckdb") == 1
    output = ("--output", "closed/rows.csv")
    assert attrib("query", "--db", "good.duckdb", "FROM buckets", *output) == 1
