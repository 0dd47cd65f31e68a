"""Choosing an engine: what `auto` means, what contradicts, and what makes a sample set."""

import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch

from attrib.errors import ConfigError, MissingExtraError
from attrib.sampling.engine import Answered, EngineName, Rollout, cut_at_stop, in_order
from attrib.sampling.engines import EngineSettings, choose_engine, find_source
from attrib.sampling.generate import TransformersEngine
from attrib.sampling.tree import TreeEngine


@pytest.fixture
def vllm(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make it look as if vllm were installed."""
    import importlib.machinery

    module = ModuleType("vllm")
    module.__spec__ = importlib.machinery.ModuleSpec("vllm", None)
    monkeypatch.setitem(sys.modules, "vllm", module)


@pytest.mark.usefixtures("vllm")
def test_auto_takes_vllm_where_it_and_cuda_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert choose_engine(EngineSettings()) == EngineName.TREE
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert choose_engine(EngineSettings()) == EngineName.VLLM
    assert choose_engine(EngineSettings(device="cpu")) == EngineName.TREE
    assert choose_engine(EngineSettings(engine="tree")) == EngineName.TREE


def test_without_vllm_auto_takes_the_tree(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "vllm", None)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert choose_engine(EngineSettings()) == EngineName.TREE
    with pytest.raises(MissingExtraError, match=r"attrib\[vllm\]"):
        choose_engine(EngineSettings(engine="vllm"))


def test_an_url_means_the_server() -> None:
    url = "http://localhost:1/v1"
    assert choose_engine(EngineSettings(url=url)) == EngineName.SERVER
    assert choose_engine(EngineSettings(engine="server", url=url)) == EngineName.SERVER
    with pytest.raises(ConfigError, match=r"needs the server's --url"):
        choose_engine(EngineSettings(engine="server"))
    with pytest.raises(ConfigError, match=r"--engine tree takes no --url"):
        choose_engine(EngineSettings(engine="tree", url=url))


def test_unknown_engines_are_named() -> None:
    with pytest.raises(ConfigError, match=r"no engine 'fast'.*tree"):
        choose_engine(EngineSettings(engine="fast"))
    with pytest.raises(ConfigError, match=r"no engine 'imported'"):
        choose_engine(EngineSettings(engine="imported"))


def test_the_source_names_what_changes_the_distribution(tiny_model_folder: Path) -> None:
    plain = find_source(EngineSettings(model=str(tiny_model_folder))).sample_set
    assert plain.engine == EngineName.TREE
    assert plain.model == str(tiny_model_folder)
    changes: list[dict[str, object]] = [
        {"engine": "transformers"},
        {"temperature": 0.5},
        {"top_p": 0.5},
        {"top_k": 5},
        {"max_new_tokens": 5},
        {"stop": ("x",)},
        {"seed": 1},
        {"dtype": "bfloat16"},
        {"chat": False},
    ]
    ids = {
        find_source(
            EngineSettings(**{"model": str(tiny_model_folder), **c})
        ).sample_set.sample_set_id
        for c in changes
    }
    assert len(ids | {plain.sample_set_id}) == len(changes) + 1
    for c in ({"max_live_nodes": 3}, {"concurrency": 3}, {"device": "cpu"}):
        same = find_source(EngineSettings(**{"model": str(tiny_model_folder), **c})).sample_set
        assert same.sample_set_id == plain.sample_set_id


def test_a_sample_set_survives_the_store(tiny_model_folder: Path) -> None:
    import json

    from attrib.config import canonical_json
    from attrib.sampling.responder import SampleSet

    sample_set = find_source(
        EngineSettings(model=str(tiny_model_folder), stop=("b", "a"), chat=False, top_p=0.9)
    ).sample_set
    row = {"model": sample_set.model, "params": json.loads(canonical_json(sample_set.params))}
    assert SampleSet.from_row(row) == sample_set
    assert sample_set.sampling.stop == ("\n", "a", "b")


def test_opening_loads_the_engine(tiny_model_folder: Path) -> None:
    for name, kind in (("tree", TreeEngine), ("transformers", TransformersEngine)):
        source = find_source(
            EngineSettings(model=str(tiny_model_folder), engine=name, dtype="bfloat16")
        )
        engine = source.open().engine
        assert isinstance(engine, kind)
        assert engine.language_model.module.dtype == torch.bfloat16


def test_a_chat_without_template_is_refused(continent_model: Path) -> None:
    with pytest.raises(ConfigError, match="has no chat template"):
        find_source(EngineSettings(model=str(continent_model), chat=True))


def test_answers_come_in_order() -> None:
    answers = [Answered(i, [Rollout.failed(i)]) for i in (2, 0, 1, 4, 3)]
    assert [rollouts[0].index for rollouts in in_order(answers)] == [0, 1, 2, 3, 4]


def test_texts_are_cut_at_the_earliest_stop_string() -> None:
    assert cut_at_stop("one two three", ["three", "two", "four"]) == "one "
    assert cut_at_stop("one", ["two"]) == "one"
    assert cut_at_stop("one", []) == "one"
