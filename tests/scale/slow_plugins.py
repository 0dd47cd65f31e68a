"""An engine and a trainer of another package that stop half-way until a test lets them go on.

They stop where the environment names a folder and it holds a file called `hold`; otherwise they are
attrib's own.
"""

import os
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from attrib.attribution.ledger import Batch
from attrib.attribution.trainer import Evaluate, Outcome, Run, Trainer
from attrib.errors import ModelError
from attrib.sampling.engine import Answered, Engine, Request, SamplingParams
from attrib.sampling.engines import EngineSettings
from attrib.sampling.models import ModelFiles, load_model
from attrib.sampling.tree import TreeEngine

FOLDER = "SLOW_PLUGINS"
HOLD = "hold"
HELD_AT_QUESTION = 15
HELD_AT_UPDATE = 5


def stop_here(doing: str) -> None:
    """Leave a file `DOING-PID` and wait as long as there is one called `hold`."""
    folder = Path(os.environ.get(FOLDER, "/nowhere"))
    if (folder / HOLD).exists():
        (folder / f"{doing}-{os.getpid()}").touch()
    while (folder / HOLD).exists():
        time.sleep(0.05)


class SlowTree:
    name = "slow"
    is_reproducible = True

    def __init__(self, tree: TreeEngine) -> None:
        self._tree = tree
        self._answered = 0

    def respond(
        self, requests: Sequence[Request], params: SamplingParams, seed: int
    ) -> Iterator[Answered]:
        for answered in self._tree.respond(requests, params, seed):
            self._answered += 1
            if self._answered == HELD_AT_QUESTION:
                stop_here("sampling")
            yield answered


def make_slow(settings: EngineSettings, files: ModelFiles) -> Engine:
    return SlowTree(TreeEngine(load_model(settings.model, settings.device, settings.dtype)))


def make_broken(settings: EngineSettings, files: ModelFiles) -> Engine:
    raise ModelError(f"There is no room for {settings.model}.")


class SlowTrainer(Trainer):
    def _make_one_batch(self) -> Batch:
        if self._position.step + 1 == HELD_AT_UPDATE:
            stop_here("training")
        return super()._make_one_batch()


def train_slowly(run: Run, evaluate: Evaluate) -> Outcome:
    return SlowTrainer(run, evaluate).train()
