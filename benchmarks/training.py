"""Side-by-side speed of training: `python benchmarks/training.py`.

Seconds per GRPO update of the tree, of plain PyTorch and of TRL's GRPOTrainer: 8 questions × 16
rollouts, at most 16 new tokens, float32, all cores. Timed are loss and backward on the same
rollouts, whose gradients are compared, and whole updates with each one's own sampling. Questions
are taken as they come (*natural*), or those whose rollouts are most evenly right and wrong
(*informative*): the tree skips groups that carry no gradient, which is a saving of its own. Every
engine runs in a process of its own, at the size of a forward that suits it best. Prints JSON.
"""

import argparse
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import psutil

if TYPE_CHECKING:
    from training_engines import Engine, Workload

    from attrib.attribution.groups import Group

RELATIONS = ("capital", "continent", "currency", "element_symbol")  # as in the other benchmarks
POOL = 32  # questions that the informative ones are taken from
# Sizes of a forward to choose from: distinct tokens of the tree, rows of the others.
AT_ONCE = {
    "tree": (512, 1024, 2048),
    "plain": (8, 16, 32),
    "trl": (8, 16, 32),
    "trl-completions": (8, 16, 32),
}
STUDIES_TAKE = "tree=512"  # larger forwards were no faster
ENGINES = tuple(AT_ONCE)
CHOICES = ("natural", "informative")
TUNING_QUESTIONS = 4
TUNING_REPEATS = 2
COMPARED_AT_ONCE = 1 << 24  # elements of a gradient


def main() -> None:
    """Time the engines named on the command line, each in its own process."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--engines", default=",".join(ENGINES))
    parser.add_argument("--choices", default=",".join(CHOICES))
    parser.add_argument("--model", default="smollm2-135m")
    parser.add_argument("--questions", type=int, default=8)
    parser.add_argument("--group-size", type=int, default=16)
    parser.add_argument("--max-new-tokens", type=int, default=16)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--at-once", default=STUDIES_TAKE, help="sizes that are not to be tuned")
    parser.add_argument("--task", help=argparse.SUPPRESS)
    parser.add_argument("--folder", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.task:
        task, *rest = arguments.task.split(":")
        print(json.dumps(TASKS[task](arguments, *rest)))
        return
    with tempfile.TemporaryDirectory() as folder:
        arguments.folder = folder
        print(json.dumps(_report(arguments), indent=1))


def _report(arguments: argparse.Namespace) -> dict[str, object]:
    """Draw the rollouts, tune the engines, time them, compare them."""
    engines = arguments.engines.split(",")
    rollouts = _run(arguments, "draw")
    at_once = dict(pair.split("=") for pair in arguments.at_once.split(",") if pair)
    tuning = {e: _run(arguments, f"tune:{e}") for e in engines if e not in at_once}
    at_once |= {engine: min(found, key=found.__getitem__) for engine, found in tuning.items()}
    timings = [
        {"engine": engine, "questions": choice}
        | _run(arguments, f"time:{engine}:{choice}:{at_once[engine]}")
        for choice in arguments.choices.split(",")
        for engine in engines
    ]
    return {
        "machine": _describe_machine(),
        "settings": {
            "model": arguments.model,
            "questions": arguments.questions,
            "group_size": arguments.group_size,
            "max_new_tokens": arguments.max_new_tokens,
            "repeats": arguments.repeats,
        },
        "rollouts": rollouts,
        "seconds_of_a_backward_by_size": tuning,
        "timings": timings,
        "ratios": _ratios(timings),
        "gradients": _compare_gradients(arguments),
    }


def _run(arguments: argparse.Namespace, task: str) -> dict[str, object]:
    """Do a task in a process of its own."""
    command = [sys.executable, __file__, "--task", task]
    for name in ("model", "questions", "group_size", "max_new_tokens", "repeats", "folder"):
        command += [f"--{name.replace('_', '-')}", str(getattr(arguments, name))]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    found: dict[str, object] = json.loads(done.stdout.splitlines()[-1])
    print(json.dumps({task: found}), file=sys.stderr)
    return found


def _load(
    arguments: argparse.Namespace, choice: str | None = None, questions: int | None = None
) -> "Workload":
    """Load the model with the pool of questions, or with some of a choice and their rollouts."""
    from training_engines import Workload

    from attrib.config import content_hash
    from attrib.data.questions import Split, load_worldfacts
    from attrib.sampling.engines import EngineSettings, find_source
    from attrib.sampling.graders import make_grader

    settings = EngineSettings(
        model=arguments.model,
        engine="tree",
        device="cpu",
        max_new_tokens=arguments.max_new_tokens,
    )
    facts = load_worldfacts()
    candidates = [q for q in facts if q.split is Split.TRAIN and q.relation in RELATIONS]
    candidates.sort(key=lambda question: content_hash(question.question_id))  # as in a study
    pool = candidates[: max(POOL, arguments.questions)]
    rows = json.loads(_rollouts_of(arguments, choice).read_text())[:questions] if choice else []
    places = [row["place"] for row in rows] or range(len(pool))
    workload = Workload(
        responder=find_source(settings).open(),
        grader=make_grader("match", facts),
        questions=tuple(pool[place] for place in places),
        group_size=arguments.group_size,
    )
    groups = tuple(workload.grade(i, row["completions"]) for i, row in enumerate(rows))
    return replace(workload, groups=groups)


def _rollouts_of(arguments: argparse.Namespace, choice: str) -> Path:
    return Path(arguments.folder) / f"{choice}.json"


def _gradient_of(arguments: argparse.Namespace, choice: str, engine: str) -> Path:
    return Path(arguments.folder) / f"{choice}-{engine}.float32"


def _draw(arguments: argparse.Namespace) -> dict[str, object]:
    """Draw rollouts of the pool, and write down those of each choice of questions."""
    from attrib.sampling.engine import Request, in_order

    workload = _load(arguments)
    requests = [
        Request(question.question_id, prompt, 0, workload.group_size)
        for question, prompt in zip(workload.questions, workload.prompts, strict=True)
    ]
    numbered = [
        (place, workload.grade(place, [rollout.token_ids for rollout in rollouts]))
        for place, rollouts in enumerate(in_order(workload.responder.respond(requests, seed=0)))
    ]
    chosen = {
        "natural": numbered[: arguments.questions],
        "informative": sorted(numbered, key=lambda pair: _distance_to_half(pair[1]))[
            : arguments.questions
        ],
    }
    for choice, kept in chosen.items():
        if not any(group.has_both for _, group in kept):
            sys.exit(f"No {choice} group holds right and wrong rollouts: raise --questions.")
        rows = [{"place": place, "completions": group.completions} for place, group in kept]
        _rollouts_of(arguments, choice).write_text(json.dumps(rows))
    return {choice: _describe([group for _, group in kept]) for choice, kept in chosen.items()}


def _distance_to_half(group: "Group") -> float:
    """Return how far a group is from as many right as wrong, which fresh ones then hold too."""
    return abs(float(group.correct_G.mean()) - 0.5)


def _describe(groups: Sequence["Group"]) -> dict[str, int]:
    """Count what there is to read."""
    sequences = [(*group.prompt, *c) for group in groups for c in group.completions]
    return {
        "questions": len(groups),
        "informative": sum(group.has_both for group in groups),
        "right": sum(int(group.correct_G.sum()) for group in groups),
        "tokens": sum(map(len, sequences)),
        "completion_tokens": sum(int(group.length_G.sum()) for group in groups),
        "distinct_prefixes": len({s[:length] for s in sequences for length in range(1, len(s))}),
    }


def _open(engine: str, workload: "Workload", at_once: int) -> "Engine":
    """Return an engine, loading nothing of the others: their memory is compared."""
    if engine == "plain":
        from training_engines import Plain

        return Plain(workload, at_once)
    if engine == "tree":
        from training_tree import Tree

        return Tree(workload, at_once)
    from training_trl import Trl, TrlOnCompletions

    return {"trl": Trl, "trl-completions": TrlOnCompletions}[engine](workload, at_once)


def _tune(arguments: argparse.Namespace, engine: str) -> dict[str, object]:
    """Return the seconds of a backward pass on some questions, at each size of a forward."""
    workload = _load(arguments, "informative", TUNING_QUESTIONS)
    rows = len(workload.groups) * workload.group_size
    found: dict[str, object] = {}
    for at_once in AT_ONCE[engine]:
        if engine == "tree" or rows % at_once == 0:
            ready = _open(engine, workload, at_once)
            found[str(at_once)] = min(_time_backward(ready) for _ in range(TUNING_REPEATS))
    return found


def _time(
    arguments: argparse.Namespace, engine: str, choice: str, at_once: str
) -> dict[str, object]:
    """Time one engine in this process."""
    ready = _open(engine, _load(arguments, choice), int(at_once))
    seconds = [_time_backward(ready) for _ in range(arguments.repeats)]
    peak_of_backward = _peak_gigabytes()
    with _gradient_of(arguments, choice, engine).open("wb") as file:
        for parameter in ready.module.parameters():
            parameter.grad.numpy().tofile(file)
    laps = ready.updates(arguments.repeats)
    return {
        "at_once": int(at_once),
        "backward_seconds": _summarise(seconds),
        "update_seconds": _summarise([lap.seconds for lap in laps]),
        "informative": [lap.informative for lap in laps],
        "peak_gb_of_backward": peak_of_backward,
        "peak_gb": _peak_gigabytes(),
    }


def _time_backward(engine: "Engine") -> float:
    engine.module.zero_grad(set_to_none=True)
    started = time.perf_counter()
    engine.backward()
    return time.perf_counter() - started


def _peak_gigabytes() -> float:
    """Return the most memory that this process has held so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9


def _summarise(seconds: Sequence[float]) -> dict[str, float | int]:
    return {
        "median": statistics.median(seconds),
        "low": min(seconds),
        "high": max(seconds),
        "n": len(seconds),
    }


def _compare_gradients(arguments: argparse.Namespace) -> dict[str, dict[str, float]]:
    """Return how every engine's gradient lies to that of the first one named."""
    first, *others = arguments.engines.split(",")
    found = {}
    for choice in arguments.choices.split(","):
        expected = np.memmap(_gradient_of(arguments, choice, first), np.float32, "r")
        for engine in others:
            other = np.memmap(_gradient_of(arguments, choice, engine), np.float32, "r")
            found[f"{choice}: {engine} to {first}"] = _compare(other, expected)
    return found


def _compare(one: np.ndarray, other: np.ndarray) -> dict[str, float]:
    """Return cosine and relative error, without holding more than a part in float64."""
    sums = np.zeros(4)
    for first in range(0, len(one), COMPARED_AT_ONCE):
        a = one[first : first + COMPARED_AT_ONCE].astype(np.float64)
        b = other[first : first + COMPARED_AT_ONCE].astype(np.float64)
        sums += (a @ b, a @ a, b @ b, (a - b) @ (a - b))
    dot, one_squared, other_squared, error = sums
    return {
        "cosine": float(dot / np.sqrt(one_squared * other_squared)),
        "relative_error": float(np.sqrt(error / other_squared)),
    }


def _ratios(timings: Sequence[dict[str, object]]) -> dict[str, float]:
    """Return every peer's seconds and memory over the tree's."""
    found = {}
    for tree in (timing for timing in timings if timing["engine"] == "tree"):
        for peer in timings:
            if peer["questions"] == tree["questions"] and peer is not tree:
                name = f"{tree['questions']}: {peer['engine']} / tree"
                for figure in ("backward_seconds", "update_seconds"):
                    ratio = peer[figure]["median"] / tree[figure]["median"]
                    found[f"{name}, {figure}"] = round(ratio, 2)
                found[f"{name}, peak_gb"] = round(peer["peak_gb"] / tree["peak_gb"], 2)
    return found


def _describe_machine() -> dict[str, object]:
    names = ("torch", "transformers", "trl", "attrib")
    return {
        "processor": platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "memory_gb": round(psutil.virtual_memory().total / 1e9),
        **{name: metadata.version(name) for name in names},
    }


TASKS = {"draw": _draw, "tune": _tune, "time": _time}

if __name__ == "__main__":
    main()
