"""A model after RL, for benchmarks: the embedded model trained with GRPO on short facts."""

import tempfile
from pathlib import Path

from attrib.attribution.arms import Arm
from attrib.attribution.policy import Policy
from attrib.attribution.settings import TrainSettings
from attrib.attribution.trainer import Run, Trainer
from attrib.attribution.visits import FreshRollouts
from attrib.config import cache_folder, content_hash
from attrib.data.library import import_dataset, load_dataset, select_questions
from attrib.data.questions import WORLDFACTS, Question, Split
from attrib.roles import Role
from attrib.sampling.engines import EngineSettings, find_source
from attrib.sampling.graders import make_grader
from attrib.sampling.models import load_model
from attrib.sampling.responder import Responder
from attrib.sampling.tree import TreeEngine
from attrib.sampling.verdicts import Verdicts
from attrib.store import Store

WHERE = "relation IN ('capital', 'continent', 'currency', 'element_symbol')"
TRAINING_QUESTIONS = 64
SETTINGS = TrainSettings(budget="updates=10", groups=4, group_size=32, max_rollouts=30_000)


def training_questions(limit: int) -> list[Question]:
    """Return questions of the relations that the model after RL was trained on."""
    with tempfile.TemporaryDirectory() as folder:
        return _select(Store(Path(folder) / "study.duckdb"), limit)


def _select(store: Store, limit: int) -> list[Question]:
    with store.writing("benchmark"):
        import_dataset(store, WORLDFACTS)
    return select_questions(
        store, load_dataset(store, WORLDFACTS), Split.TRAIN, where=WHERE, limit=limit
    )


def trained_folder() -> Path:
    """Return the folder of the trained model, training it first (minutes) where it is not there."""
    engine_settings = EngineSettings(max_new_tokens=12)
    sample_set = find_source(engine_settings).sample_set
    name = content_hash([SETTINGS.model_dump(), sample_set.params, WHERE, TRAINING_QUESTIONS])
    folder = cache_folder() / "benchmarks" / f"trained-{name}"
    if (folder / "config.json").is_file():
        return folder
    policy = Policy(load_model(engine_settings.model, "cpu"))
    language_model = policy.language_model
    responder = Responder(TreeEngine(language_model), sample_set, language_model.tokenizer)
    with tempfile.TemporaryDirectory() as place:
        store = Store(Path(place) / "study.duckdb")
        questions = _select(store, TRAINING_QUESTIONS)
        verdicts = Verdicts(store, make_grader("match", load_dataset(store, WORLDFACTS)))
        run = Run(
            store=store,
            arm=Arm("full", Role.FULL, tuple(questions), {"benchmark": name}, seed=0),
            policy=policy,
            source=FreshRollouts(policy, responder, verdicts, SETTINGS.group_size, seed=0),
            verdicts=verdicts,
            settings=SETTINGS,
            longest=engine_settings.max_new_tokens,
            temperature=1.0,
            tokens_at_once=1024,
            checkpoint=Path(place) / "checkpoint.safetensors",
            evaluate_at=(),
        )
        with store.writing("benchmark"):
            Trainer(run, lambda position, fraction: None).train()
    language_model.tokenizer.save_pretrained(folder)
    language_model.module.save_pretrained(folder)
    return folder
