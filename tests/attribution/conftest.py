"""Fixtures of the attribution tests: a small study with buckets, short ablations, tiny policies."""

import copy
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import duckdb
import numpy as np
import polars as pl
import pytest
import torch

from attrib.attribution.ablate import AblationSummary, ablate
from attrib.attribution.groups import Group
from attrib.attribution.plan import TrainingPlan
from attrib.attribution.policy import Policy
from attrib.attribution.settings import AblateSettings
from attrib.data.library import store_questions
from attrib.data.questions import Split, load_worldfacts
from attrib.roles import Role
from attrib.sampling.bucketing import BucketSettings, bucket_questions
from attrib.sampling.models import LanguageModel
from attrib.sampling.rollouts import SampleSettings, draw_rollouts
from attrib.store import Store, confine

TRAINING, HELD_OUT, N = 30, 12, 24
WORDS = ("Africa", "Asia", "Europe", "Oceania")
"""What the model says now and then, each a question's answer in some of a hundred rollouts."""

SHORT: dict[str, object] = {
    "subset": ("never-correct",),
    "role": (Role.ONLY,),
    "seeds": 1,
    "budget": "updates=4",
    "evaluate_at": (1.0,),
    "groups": 2,
    "group_size": 16,
    "max_rollouts": 1600,
    "learning_rate": 0.003,
    "eval_samples": 0,
    "cot_tokens": 0,
    "device": "cpu",
}
TABLES = {
    "updates": "SELECT * EXCLUDE (seconds) FROM updates ORDER BY arm_id, step",
    "visits": "SELECT * FROM visits ORDER BY arm_id, visit",
    "visit_rollouts": "SELECT * FROM visit_rollouts ORDER BY arm_id, visit, rowid",
    "evaluations": "SELECT * FROM evaluations ORDER BY ALL",
    "milestones": "SELECT * EXCLUDE (seconds) FROM milestones ORDER BY arm_id, fraction",
    "masses": "SELECT * FROM masses ORDER BY arm_id, question_id",
    "effects": "SELECT * FROM effects ORDER BY ALL",
    "arms": "SELECT arm_id, role, subset, seed, status, detail, questions, updates, rollouts "
    "FROM arms ORDER BY ALL",
}


class OpenStore(Store):
    """A study that stays connected, since connecting takes most of the time of a short test.

    Nobody else may have it open meanwhile.
    """

    _connection: duckdb.DuckDBPyConnection | None = None

    @contextmanager
    def _connected(
        self, *, read_only: bool, path: Path | None = None
    ) -> Iterator[duckdb.DuckDBPyConnection]:
        if path is not None:  # a study that is being made
            with super()._connected(read_only=read_only, path=path) as connection:
                yield connection
            return
        if self._connection is None:
            self._connection = duckdb.connect(str(self.path))
            confine(self._connection, self.path)
        cursor = self._connection.cursor()
        try:
            yield cursor
        finally:
            cursor.close()  # what was not committed is gone, as it is with a connection

    def close(self) -> None:
        """Let others have the file."""
        if self._connection is not None:
            self._connection.execute("CHECKPOINT")  # what is copied is one file
            self._connection.close()
            self._connection = None


@pytest.fixture(scope="session")
def connect() -> Callable[[Path], OpenStore]:
    """Return `connect(path)`: a study that stays connected until it is closed."""
    return OpenStore


@pytest.fixture(scope="session")
def empty_study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make a study without a row."""
    store = Store(tmp_path_factory.mktemp("empty") / "study.duckdb")
    with store.writing("attrib test"):
        pass
    return store.path


@pytest.fixture
def open_store(tmp_path: Path, empty_study: Path) -> Callable[..., Store]:
    """Return `open_store(name, original)`: a study of the test's own, empty or a copy."""
    stores: dict[str, OpenStore] = {}

    def open_it(name: str = "study.duckdb", original: Path = empty_study) -> Store:
        if name not in stores:
            stores[name] = OpenStore(Path(shutil.copy(original, tmp_path / name)))
        return stores[name]

    return open_it


@pytest.fixture(scope="session")
def make_study() -> Callable[..., OpenStore]:
    """Return `make_study(path, model, questions)`: rollouts and buckets on continents."""

    def make(path: Path, model: Path, questions: int = TRAINING) -> OpenStore:
        continents = [
            replace(question, dataset="continents")
            for question in load_worldfacts()
            if question.relation == "continent" and question.answers[0] in WORDS
        ]
        training = [q for q in continents if q.split is Split.TRAIN][:questions]
        held_out = [q for q in continents if q.split is Split.HELD_OUT][:HELD_OUT]
        store = OpenStore(path)
        with store.writing("attrib test"):
            store_questions(store, "continents", "continents.csv", "hash", training + held_out)
        draw_rollouts(
            store,
            SampleSettings(
                model=str(model), dataset="continents", n=N, max_new_tokens=4, device="cpu"
            ),
        )
        bucket_questions(store, BucketSettings(k=N))
        return store

    return make


@pytest.fixture(scope="session")
def bucketed(
    tmp_path_factory: pytest.TempPathFactory,
    continent_model: Path,
    make_study: Callable[..., OpenStore],
) -> Path:
    """Make a study with buckets; copy it before changing anything."""
    store = make_study(tmp_path_factory.mktemp("bucketed") / "study.duckdb", continent_model)
    store.close()
    return store.path


@pytest.fixture
def store(bucketed: Path, open_store: Callable[..., Store]) -> Store:
    """Return a study with buckets that a test may change."""
    return open_store(original=bucketed)


@pytest.fixture(scope="session")
def ablate_shortly() -> Callable[..., AblationSummary]:
    """Return `ablate_shortly(store, **settings)`: full arm and never-correct, four updates each."""

    def run(
        store: Store,
        announce: Callable[[TrainingPlan], object] = lambda plan: None,
        **changes: object,
    ) -> AblationSummary:
        return ablate(store, AblateSettings(**{**SHORT, **changes}), lambda plan: announce(plan))

    return run


@pytest.fixture(scope="session")
def read_tables() -> Callable[[Store], dict[str, pl.DataFrame]]:
    """Return `read_tables(store)`: all that training left in a study, but for times."""
    return lambda store: {name: store.read(sql) for name, sql in TABLES.items()}


@pytest.fixture(scope="session")
def make_group() -> Callable[..., Group]:
    """Return `make_group(prompt, (completion, is right), …, name)`."""

    def make(
        prompt: tuple[int, ...],
        *completions: tuple[tuple[int, ...], bool],
        name: str = "question",
    ) -> Group:
        return Group(
            name,
            prompt,
            tuple(tokens for tokens, _ in completions),
            np.array([correct for _, correct in completions], dtype=np.bool_),
        )

    return make


@pytest.fixture(scope="session")
def make_policy() -> Callable[..., Policy]:
    """Return `make_policy(module, **settings)`, which leaves the module as it is and trains a copy.

    It has no tokenizer, so it cannot be saved.
    """

    def make(module: torch.nn.Module, **settings: object) -> Policy:
        own = copy.deepcopy(module)
        language_model = LanguageModel("tiny", Path(), "", None, frozenset({3}), own)
        return Policy(language_model, **settings)

    return make


@pytest.fixture(scope="session")
def move() -> Callable[..., None]:
    """Return `move(module, seed, scale)`, which moves all weights as some training would."""

    @torch.no_grad()
    def shift(module: torch.nn.Module, seed: int, scale: float = 0.02) -> None:
        generator = torch.Generator().manual_seed(seed)
        for parameter in module.parameters():
            parameter += scale * torch.randn(parameter.shape, generator=generator)

    return shift
