"""A whole study, struck by signals again and again while it runs, beside one that nobody disturbs.

The undisturbed run tells when each phase begins, and how long everything takes. On its clock lie
the moments at which another run of the same study is struck: it is started, waited for until it
reaches the phase of the moment, left alone for as long as the undisturbed run took from where this
one had come to, struck, and started again for the next moment. At last it is left to end, and
everything that it holds is compared.
"""

import csv
import operator
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from attrib.data.questions import load_worldfacts
from attrib.interruption import EXIT_INTERRUPTED, INTERRUPTED
from attrib.store import Store

STUDY = """
db = "study.duckdb"

[data.import]
source = "continents.csv"
question_column = "question"
answers_column = "answer"
subject_column = "subject"
relation_column = "relation"

[sample]
dataset = "continents"
model = "model"
n = 1024
limit = 48
max_new_tokens = 4
device = "cpu"

[grade]
k = 16
grader = "exact"

[bucket]
k = 16

[ablate]
subset_where = "subject < 'M'"
role = "only"
seeds = {seeds}
budget = "updates=6"
groups = 2
group_size = 8
learning_rate = 0.003
eval_limit = 12
eval_samples = 4
cot_tokens = 4
keep = "last"
device = "cpu"

[analyze]

[attribute]
single = 2
checkpoints = 2

[attribute.validate]
subsets = 5

[report]
output = "report.html"
"""
PHASES = {
    "start-up": "",
    "data import": "── attrib data import",
    "loading": "── attrib sample",
    "drawing": "to draw.",
    "grading": "── attrib grade",
    "bucketing": "── attrib bucket",
    "planning": "── attrib ablate",
    "training": "Experiment ",
    "analysis": "── attrib analyze",
    "scoring": "── attrib attribute",
    "retraining": "── attrib attribute validate",
    "report": "── attrib report",
}
"""What a run says as each phase of it begins; `training` is that of all arms, evaluated too."""
RESUMED = ("drawing", "training", "scoring", "retraining")
"""Phases that go on where the last run had come to; the others are begun anew."""

TIMES = {
    "schema_migrations": ("applied_at",),
    "imports": ("imported_at",),
    "sample_sets": ("created_at", "used_at"),
    "bucketings": ("created_at", "used_at"),
    "experiments": ("created_at", "used_at"),
    "training_runs": ("created_at", "wall_seconds"),
    "provenance": ("began_at",),
    "attributions": ("created_at", "seconds"),
    "updates": ("seconds",),
    "milestones": ("seconds",),
}
"""All columns that are not compared: when something happened, and how long it took."""
ROUNDED = {"rollouts": ("logprob",)}
"""Which batch a rollout was drawn in after a kill changes shapes, and so the last digits."""
LARGEST_ROUNDING = 1e-4

TIME_SHOWN = re.compile(
    r"\d{4}-\d\d-\d\d \d\d:\d\d UTC|\b(\d+\sh\s\d\d\smin|\d+\smin\s\d\d\ss|\d+\ss)\b"
)
"""How the report writes both."""
COUNTS = """
    SELECT (SELECT count(*) FROM rollouts), (SELECT count(*) FROM verdicts),
           (SELECT count(*) FROM training_runs WHERE status = 'done'),
           (SELECT count(*) FROM updates JOIN training_runs USING (arm_id)
            WHERE status = 'running')
"""
TALK = "talk.txt"
SECONDS_BETWEEN_LOOKS = 0.01


@dataclass(frozen=True, slots=True)
class Phase:
    """A part of a run, by the undisturbed run's clock."""

    name: str
    begins: float
    ends: float


@dataclass(frozen=True, slots=True, order=True)
class Moment:
    """When to strike, by the undisturbed run's clock, and by which signal."""

    seconds: float
    by: signal.Signals = signal.SIGKILL


@dataclass(frozen=True, slots=True)
class Strike:
    """What a signal met.

    Attributes:
        moment: that was meant.
        phase: the last that the run had begun.
        kept: rollouts, verdicts and finished training runs stored by then.
        updates: of the run that was going on; those after its last checkpoint are made again.
    """

    moment: Moment
    phase: str
    kept: tuple[int, int, int]
    updates: int


@dataclass(frozen=True, slots=True)
class Remains:
    """All that a finished study holds.

    Attributes:
        tables: by name, rows in one order, without times.
        rounded: the columns of `ROUNDED`, in the same order.
        files: beside the study, by path; of weights the bytes, of others nothing.
        report: the page, without the times that it shows.
    """

    tables: Mapping[str, pl.DataFrame]
    rounded: Mapping[str, pl.Series]
    files: Mapping[str, bytes]
    report: str


def prepare(folder: Path, model: Path, seeds: int) -> None:
    """Make a folder in which `attrib run study.toml` runs a study of a model of continents."""
    folder.mkdir()
    (folder / "model").symlink_to(model)
    (folder / "study.toml").write_text(STUDY.format(seeds=seeds), encoding="utf-8")
    questions = [one for one in load_worldfacts() if one.relation == "continent"]
    with (folder / "continents.csv").open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["question", "answer", "subject", "relation"])
        writer.writerows([q.text, q.answers[0], q.subject, q.relation] for q in questions)


def run(folder: Path) -> tuple[Phase, ...]:
    """Run the study to its end and return its phases."""
    begun, seen = time.monotonic(), {}
    with _started(folder) as process:
        while process.poll() is None:
            for name in _phases_begun(folder):
                seen.setdefault(name, time.monotonic() - begun)
            time.sleep(SECONDS_BETWEEN_LOOKS)
        assert process.returncode == 0, _talk(folder)
    ends = time.monotonic() - begun
    begins = [seen.get(name, ends) for name in PHASES]
    return tuple(map(Phase, PHASES, begins, [*begins[1:], ends]))


def strike_often(folder: Path, phases: Sequence[Phase], moments: Sequence[Moment]) -> list[Strike]:
    """Start the study for each moment, in their order, and strike; leave it unfinished.

    A run that has ended before its moment came is passed over.
    """
    strikes: list[Strike] = []
    come_to = 0.0
    for moment in sorted(moments):
        phase = next(p for p in reversed(phases) if p.begins <= moment.seconds)
        wait = moment.seconds - phase.begins
        if phase.name in RESUMED:
            wait = moment.seconds - max(phase.begins, come_to)
        found = _strike(folder, phase, wait, moment)
        if found is not None:
            for before in strikes[-1:]:
                assert all(map(operator.le, before.kept, found.kept)), (before, found)
            strikes.append(found)
            come_to = moment.seconds
    return strikes


def _strike(folder: Path, phase: Phase, wait_seconds: float, moment: Moment) -> Strike | None:
    """Start the study, wait until it has been in a phase for so long, and strike."""
    awaited = set(list(PHASES)[list(PHASES).index(phase.name) :])
    with _started(folder) as process:
        while process.poll() is None and awaited.isdisjoint(_phases_begun(folder)):
            time.sleep(SECONDS_BETWEEN_LOOKS)
        with suppress(subprocess.TimeoutExpired):
            process.wait(wait_seconds)
        if process.poll() is not None:
            assert process.returncode == 0, _talk(folder)
            return None
        os.killpg(process.pid, moment.by)
        code = process.wait(60)
    if moment.by == signal.SIGINT:
        _check_interruption(folder, code)
    else:
        assert code == -moment.by, _talk(folder)
    return Strike(moment, list(_phases_begun(folder))[-1], *_count_rows(folder))


def _check_interruption(folder: Path, code: int) -> None:
    """Check the exit code, and that one line is all that is said."""
    talk = _talk(folder)
    assert not re.search("Traceback|Error|Exception|KeyboardInterrupt", talk), talk
    if (folder / "report.html").exists() and code == -signal.SIGINT:
        return  # all was done, and the interpreter about to end: it dies of the signal
    assert code == EXIT_INTERRUPTED, talk
    assert talk.splitlines()[-1] == INTERRUPTED
    assert talk.count(INTERRUPTED) == 1


def gather(folder: Path) -> Remains:
    """Read everything that a finished study holds."""
    store = Store(folder / "study.duckdb")
    tables, rounded = {}, {}
    for name in store.read("SELECT table_name FROM duckdb_tables() ORDER BY ALL")["table_name"]:
        table = store.read(f"FROM {name}").drop(TIMES.get(name, ()))
        last = ROUNDED.get(name, ())
        table = table.sort([column for column in table.columns if column not in last])
        tables[name] = table.drop(last)
        rounded |= {f"{name}.{column}": table[column] for column in last}
    files = {
        str(file.relative_to(folder)): file.read_bytes() if file.suffix == ".safetensors" else b""
        for file in folder.rglob("*")
        if file.is_file()
    }
    page = (folder / "report.html").read_text(encoding="utf-8")
    return Remains(tables, rounded, files, TIME_SHOWN.sub("", page))


def check_remains(found: Remains, expected: Remains) -> None:
    """Check that a study holds what another one holds."""
    assert found.tables.keys() == expected.tables.keys()
    for name, table in expected.tables.items():
        assert found.tables[name].equals(table), name
    for name, column in expected.rounded.items():
        difference = (found.rounded[name] - column).abs().max()
        assert isinstance(difference, float)
        assert difference < LARGEST_ROUNDING, name
    assert found.files == expected.files
    assert found.report == expected.report


@contextmanager
def _started(folder: Path) -> Iterator["subprocess.Popen[bytes]"]:
    """Start the study in a process group of its own; what it says is written to a file."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # background jobs lack it
    with (folder / TALK).open("wb") as talk:
        process = subprocess.Popen(
            [sys.executable, "-m", "attrib", "run", "study.toml"],
            cwd=folder,
            env={**os.environ, "OMP_NUM_THREADS": "1", "NO_COLOR": "1", "COLUMNS": "200"},
            stdout=subprocess.DEVNULL,
            stderr=talk,
            start_new_session=True,
        )
    signal.signal(signal.SIGINT, before)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def _talk(folder: Path) -> str:
    return (folder / TALK).read_text(encoding="utf-8")


def _phases_begun(folder: Path) -> Iterator[str]:
    """Yield the phases that the run of a folder has come to, in order."""
    talk = _talk(folder)
    return (name for name, said in PHASES.items() if said in talk)


def _count_rows(folder: Path) -> tuple[tuple[int, int, int], int]:
    """Return the rollouts, verdicts and finished runs, and the updates of unfinished ones."""
    store = Store(folder / "study.duckdb")
    if not store.exists():
        return (0, 0, 0), 0
    *kept, updates = store.read(COUNTS).row(0)
    return tuple(kept), updates
