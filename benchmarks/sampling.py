"""Side-by-side speed of the sampling engines: `python benchmarks/sampling.py`.

The same 16 questions, n = 128, temperature 1, at most 16 new tokens, float32, all cores; engines
run one after another, each in a process of its own, on the model before and after RL. Loading,
compiling and a first small run are not timed. Beside the tree engine the model's plain forward is
timed in the same process, as the limit to come close to. Prints JSON.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from importlib import metadata
from pathlib import Path

import psutil

MAX_NEW_TOKENS = 16
PLAIN_TOKENS = (64, 128, 256, 512)  # rows of a plain forward; the best rate counts
PLAIN_REPEATS = 3
ROOT = Path(__file__).resolve().parent.parent
VLLM_PYTHON = ROOT / ".venv-vllm" / "bin" / "python"
# What vLLM needs to use both cores of a small machine, and to keep its cache small.
VLLM_ENVIRONMENT = {"VLLM_CPU_NUM_OF_RESERVED_CPU": "0", "VLLM_CPU_KVCACHE_SPACE": "4"}


@dataclass(frozen=True, slots=True)
class Timing:
    """One engine's run."""

    engine: str
    model: str
    questions: int
    rollouts: int
    tokens: int
    distinct_prefixes: int
    """Nodes of the prefix trees: rows the tree engine runs, prompts aside."""
    seconds: float
    rollouts_per_second: float
    tokens_per_second: float
    prefixes_per_second: float
    plain_tokens_per_second: float | None
    megabytes_over_model: float


def main() -> None:
    """Run the engines named on the command line, each in its own process."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--engines", default="tree,transformers,vllm")
    parser.add_argument("--models", default="before,after")
    parser.add_argument("--questions", type=int, default=16)
    parser.add_argument("--n", type=int, default=128)
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--only", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.only:
        print(json.dumps(asdict(_time(arguments))))
        return

    from trained_model import trained_folder

    folders = {"before": "smollm2-135m", "after": None}
    timings = []
    for model in arguments.models.split(","):
        folder = folders[model] or str(trained_folder())
        for engine in arguments.engines.split(","):
            timing = _run(engine, folder, arguments)
            timings.append({**timing, "model": f"{model} RL"})
            print(json.dumps(timings[-1]), file=sys.stderr)
    report = {
        "machine": _describe_machine(),
        "settings": {"n": arguments.n, "max_new_tokens": MAX_NEW_TOKENS, "dtype": arguments.dtype},
        "timings": timings,
        "ratios": _ratios(timings),
    }
    print(json.dumps(report, indent=1))


def _run(engine: str, folder: str, arguments: argparse.Namespace) -> dict[str, object]:
    python = str(VLLM_PYTHON) if engine == "vllm" else sys.executable
    command = [python, __file__, "--only", f"{engine}:{folder}", "--dtype", arguments.dtype]
    command += ["--questions", str(arguments.questions), "--n", str(arguments.n)]
    done = subprocess.run(
        command,
        env={**VLLM_ENVIRONMENT, **os.environ},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    timing: dict[str, object] = json.loads(done.stdout.splitlines()[-1])
    return timing


def _time(arguments: argparse.Namespace) -> Timing:
    """Time one engine in this process."""
    sys.path.insert(0, str(Path(__file__).parent))
    from trained_model import training_questions

    from attrib.sampling.engine import Request
    from attrib.sampling.engines import EngineSettings, find_source
    from attrib.sampling.models import Dtype

    engine, folder = arguments.only.split(":", 1)
    settings = EngineSettings(
        model=folder, engine=engine, dtype=Dtype(arguments.dtype), max_new_tokens=MAX_NEW_TOKENS
    )
    source = find_source(settings)
    responder = source.open()
    questions = training_questions(arguments.questions)
    requests = [Request(q.question_id, responder.prompt(q), 0, arguments.n) for q in questions]

    for _ in responder.respond([replace(r, stop=8) for r in requests[:4]], seed=1):
        pass
    plain = None if engine != "tree" else _time_plain(responder.engine.language_model.module)
    with _watch_memory() as memory:
        started = time.perf_counter()
        answers = list(responder.respond(requests, seed=0))
        seconds = time.perf_counter() - started
    if engine == "tree":  # once more: another program may have taken a core in the meantime
        plain = max(plain, _time_plain(responder.engine.language_model.module))

    rollouts = [rollout for answered in answers for rollout in answered.rollouts]
    tokens = sum(rollout.tokens for rollout in rollouts)
    nodes = sum(_count_prefixes([r.token_ids for r in a.rollouts]) for a in answers)
    return Timing(
        engine=engine,
        model=folder,
        questions=len(questions),
        rollouts=len(rollouts),
        tokens=tokens,
        distinct_prefixes=nodes,
        seconds=seconds,
        rollouts_per_second=len(rollouts) / seconds,
        tokens_per_second=tokens / seconds,
        prefixes_per_second=nodes / seconds,
        plain_tokens_per_second=plain,
        megabytes_over_model=(max(memory) - memory[0]) / 1e6,
    )


def _count_prefixes(completions: Sequence[Sequence[int]]) -> int:
    """Return how many distinct prefixes a model has to read to draw these, prompts aside."""
    return len({tuple(c[:length]) for c in completions for length in range(len(c))})


def _time_plain(module: object) -> float:
    """Return the tokens per second of plain forwards, at the number of rows that suits best."""
    import torch

    best = 0.0
    for rows in PLAIN_TOKENS:
        ids = torch.randint(0, 1000, (1, rows), device=module.device)
        with torch.inference_mode():
            module(ids)
            for _ in range(PLAIN_REPEATS):
                started = time.perf_counter()
                module(ids)
                if module.device.type == "cuda":
                    torch.cuda.synchronize()
                best = max(best, rows / (time.perf_counter() - started))
    return best


@contextmanager
def _watch_memory() -> Iterator[list[int]]:
    """Yield a list that gets the memory in bytes, children included: now, and each 50 ms."""
    process, done = psutil.Process(), threading.Event()

    def measure() -> int:
        everyone = [process, *process.children(recursive=True)]
        return sum(one.memory_info().rss for one in everyone)

    seen = [measure()]

    def watch() -> None:
        while not done.wait(0.05):
            seen.append(measure())

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield seen
    finally:
        done.set()
        watcher.join()


def _describe_machine() -> dict[str, object]:
    names = ("torch", "transformers", "attrib")
    return {
        "processor": platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "memory_gb": round(psutil.virtual_memory().total / 1e9),
        **{name: metadata.version(name) for name in names},
    }


def _ratios(timings: Sequence[dict[str, object]]) -> dict[str, float]:
    """Return the tree engine's rollouts per second over each peer's, and its share of the limit."""
    found = {}
    for tree in (t for t in timings if t["engine"] == "tree"):
        model = tree["model"]
        share = tree["prefixes_per_second"] / tree["plain_tokens_per_second"]
        found[f"{model}: share of the plain forward"] = round(share, 3)
        for peer in timings:
            if peer["model"] == model and peer is not tree:
                ratio = tree["rollouts_per_second"] / peer["rollouts_per_second"]
                found[f"{model}: tree / {peer['engine']}"] = round(ratio, 2)
    return found


if __name__ == "__main__":
    main()
