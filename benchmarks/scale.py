"""Sampling on a cluster of this machine: `python benchmarks/scale.py` prints JSON.

Three parts, each in a process of its own (`--parts throughput,overhead,memory`):

throughput: rollouts a second of SmolLM2-135M in this process and through Ray with one and with two
workers, each on one thread. Starting, loading and each worker's first batch are not timed; that
workers do not end at the same instant is.

overhead: what this process and Ray's own take for 100,000 rollouts that cost nothing to draw, as a
share of what drawing them with the 135M model takes one core.

memory: of this process while workers draw for a million questions, with an engine that draws
nothing. Before the first rollout it holds the questions; what it holds more at the end is what
would grow.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import polars as pl
import psutil

from attrib.sampling import rollouts
from attrib.sampling.rollout_rows import RolloutWriter
from attrib.store import Store

HERE = Path(__file__).resolve().parent
ENTRY_POINTS = "[attrib.engines]\nmade-up = made_up_engine:make\n"
MODES = ("one process", "1 worker", "2 workers")
MAX_NEW_TOKENS = 16
HUNDRED_THOUSAND = 100_000


def main() -> None:
    """Run the parts that are asked for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--parts", default="throughput,overhead,memory")
    parser.add_argument("--questions", type=int, default=24, help="of the throughput")
    parser.add_argument("--n", type=int, default=128)
    parser.add_argument("--million", type=int, default=1_000_000, help="questions of the memory")
    parser.add_argument("--each", type=int, default=8, help="rollouts of each of these")
    parser.add_argument("--rate", type=float, help="rollouts/s of one core, where not measured")
    parser.add_argument("--only", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.only:
        print(json.dumps(run_part(arguments)))
        return
    found: dict[str, object] = {"cores": os.cpu_count(), "load": os.getloadavg()}
    parts = arguments.parts.split(",")
    if "throughput" in parts:
        rates = {mode: run_alone(mode)["rollouts_per_second"] for mode in MODES}
        found["rollouts_per_second"] = rates
        found["over_one_process"] = {m: round(rates[m] / rates[MODES[0]], 2) for m in MODES}
    if "overhead" in parts:
        overhead = run_alone("overhead")
        rate = arguments.rate or found.get("rollouts_per_second", {}).get(MODES[0])
        if rate:
            overhead["share_of_the_work"] = overhead["cpu_seconds_per_100000"] * rate / 1e5
        found["overhead"] = overhead
    if "memory" in parts:
        found["memory"] = run_alone("memory")
    print(json.dumps(found, indent=1))


def run_alone(part: str) -> dict[str, float]:
    """Run a part in a process of its own, with one thread and the made-up engine at hand."""
    with tempfile.TemporaryDirectory() as folder:
        metadata = Path(folder) / "made_up_engine-0.1.dist-info"
        metadata.mkdir()
        (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: made-up\nVersion: 0.1\n")
        (metadata / "entry_points.txt").write_text(ENTRY_POINTS)
        (Path(folder) / "made_up_engine.py").symlink_to(HERE / "made_up_engine.py")
        paths = [folder, *filter(None, [os.environ.get("PYTHONPATH")])]
        done = subprocess.run(
            [sys.executable, __file__, *sys.argv[1:], "--only", part],
            env={**os.environ, "PYTHONPATH": os.pathsep.join(paths), "OMP_NUM_THREADS": "1"},
            cwd=folder,
            stdout=subprocess.PIPE,
            text=True,
            check=True,
        )
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    print(part, found, file=sys.stderr)
    return found


def run_part(arguments: argparse.Namespace) -> dict[str, float]:
    """Return the figures of one part."""
    with tempfile.TemporaryDirectory() as folder:
        store = Store(Path(folder) / "study.duckdb")
        if arguments.only == "overhead":
            return measure_overhead(store, arguments.n)
        if arguments.only == "memory":
            return measure_memory(store, arguments.million, arguments.each)
        return measure_rate(store, arguments.only, arguments.questions, arguments.n)


def measure_rate(store: Store, mode: str, questions: int, n: int) -> dict[str, float]:
    """Return rollouts a second between the first batches of all workers and the last batch."""
    workers = int(mode[0]) if mode[0].isdigit() else 1
    settings = {"model": "smollm2-135m", "device": "cpu", "n": n, "limit": questions}
    if mode[0].isdigit():
        settings |= {"cluster": "local", "workers": workers}
    arrivals = draw(store, max_new_tokens=MAX_NEW_TOKENS, **settings)
    timed = arrivals[workers:]
    rollouts = sum(arrival.rollouts for arrival in timed)
    seconds = timed[-1].at - arrivals[workers - 1].at
    return {"rollouts_per_second": rollouts / seconds, "rollouts": rollouts, "seconds": seconds}


def measure_overhead(store: Store, n: int) -> dict[str, float]:
    """Return what 100,000 rollouts take that cost nothing to draw, workers aside."""
    questions = HUNDRED_THOUSAND // n
    make_questions(store, questions)
    made_up = {"dataset": "made-up", "engine": "made-up", "cluster": "local", "workers": 1}
    arrivals = draw(store, n=n, **made_up)
    share = HUNDRED_THOUSAND / sum(arrival.rollouts for arrival in arrivals[1:])
    return {
        "batches": len(arrivals),
        "cpu_seconds_per_100000": (arrivals[-1].cpu_seconds - arrivals[0].cpu_seconds) * share,
        "seconds_per_100000": (arrivals[-1].at - arrivals[0].at) * share,
    }


def measure_memory(store: Store, questions: int, each: int) -> dict[str, float]:
    """Return the megabytes that this process holds, shared pages aside, as rollouts come in."""
    make_questions(store, questions)
    made_up = {"dataset": "made-up", "engine": "made-up", "cluster": "local", "workers": 1}
    arrivals = draw(store, n=each, **made_up)
    rollouts = sum(arrival.rollouts for arrival in arrivals)
    seconds = arrivals[-1].at - arrivals[0].at
    held = [arrival.megabytes for arrival in arrivals]
    tenth = max(1, len(held) // 10)
    return {
        "questions": questions,
        "rollouts": rollouts,
        "rollouts_per_second": rollouts / seconds,
        "megabytes_at_first": held[0],
        "megabytes_second_tenth": max(held[tenth : 2 * tenth]),
        "megabytes_last_tenth": max(held[-tenth:]),
        "megabytes_at_most": max(held),
        "megabytes_of_the_study": store.path.stat().st_size / 1e6,
    }


@dataclass(frozen=True, slots=True)
class Arrival:
    """Rollouts that this process has got, and what it has taken until then."""

    at: float
    rollouts: int
    cpu_seconds: float
    megabytes: float


def draw(store: Store, **settings: object) -> list[Arrival]:
    """Draw rollouts and return how they arrived."""
    arrivals: list[Arrival] = []

    class Watched(RolloutWriter):
        def add(self, rows: pl.DataFrame) -> None:
            super().add(rows)
            held = psutil.Process().memory_full_info().uss / 1e6
            arrivals.append(Arrival(time.perf_counter(), len(rows), cpu_seconds(), held))

    rollouts.RolloutWriter = Watched  # type: ignore[misc]
    rollouts.draw_rollouts(store, rollouts.SampleSettings(**settings))
    return arrivals


def cpu_seconds() -> float:
    """Return what this process and Ray's own on this machine have taken, workers aside."""
    total = 0.0
    for process in [psutil.Process(), *psutil.Process().children(recursive=True)]:
        try:
            if "MapWorker" not in process.name() and "MapWorker" not in str(process.cmdline()):
                spent = process.cpu_times()
                total += spent.user + spent.system
        except psutil.NoSuchProcess:
            continue
    return total


def make_questions(store: Store, count: int) -> None:
    """Put questions into the study that need no file."""
    with store.writing("benchmark"), store.transaction() as transaction:
        transaction.execute(
            "INSERT INTO imports (dataset, path, file_hash, rows, dropped) "
            "VALUES ('made-up', 'made-up', '', $count, '[]')",
            count=count,
        )
        transaction.execute(
            """
            INSERT INTO questions BY NAME
            SELECT substr(sha256(n::VARCHAR), 1, 16) AS question_id, 'made-up' AS dataset,
                   'train' AS split, 'Which thing has the number ' || n || '?' AS text,
                   ['thing ' || n] AS answers, 'name' AS answer_type, n::VARCHAR AS subject,
                   'number' AS relation, substr(sha256(n::VARCHAR), 1, 16) AS fact_id,
                   NULL AS popularity, [] AS flags, 'of thing ' || n AS answers_hash
            FROM range($count) AS made(n)
            """,
            count=count,
        )


if __name__ == "__main__":
    main()
