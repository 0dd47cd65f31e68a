"""Engines of another package, for workers that tests kill; `conftest.py` installs them."""

import os
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from attrib.errors import ModelError
from attrib.sampling.engine import Answered, Engine, Request, SamplingParams
from attrib.sampling.engines import EngineSettings
from attrib.sampling.models import ModelFiles, load_model
from attrib.sampling.tree import TreeEngine

FOLDER = "SLOW_ENGINES"
"""Environment variable: a folder in which workers leave their process ids."""
SECONDS_PER_QUESTION = 0.25


class SlowTree:
    """The tree engine, slow where the environment names a folder, and otherwise as it is."""

    name = "slow"
    is_reproducible = True

    def __init__(self, tree: TreeEngine) -> None:
        self._tree = tree

    def respond(
        self, requests: Sequence[Request], params: SamplingParams, seed: int
    ) -> Iterator[Answered]:
        for answered in self._tree.respond(requests, params, seed):
            if FOLDER in os.environ:
                (Path(os.environ[FOLDER]) / str(os.getpid())).touch()
                time.sleep(SECONDS_PER_QUESTION)
            yield answered


def make_slow(settings: EngineSettings, files: ModelFiles) -> Engine:
    return SlowTree(TreeEngine(load_model(settings.model, settings.device, settings.dtype)))


def make_broken(settings: EngineSettings, files: ModelFiles) -> Engine:
    raise ModelError(f"There is no room for {settings.model}.")
