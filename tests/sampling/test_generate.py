"""The reference engine draws from the model and nothing else, and measures what it drew."""

from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import GenerationConfig, PreTrainedModel

from attrib.errors import ModelError
from attrib.sampling import generate as generate_module
from attrib.sampling.engine import FinishReason, Prompt, Request, Rollout, SamplingParams, in_order
from attrib.sampling.generate import TransformersEngine
from attrib.sampling.models import LanguageModel, load_model
from attrib.sampling.tree import TreeEngine

ENDS = frozenset({0, 5})
PROMPT = (1, 4, 2, 6)


@pytest.fixture
def model(tiny_model_folder: Path) -> LanguageModel:
    return load_model(str(tiny_model_folder), "cpu")


def ask(stream: str, first: int, stop: int, prompt: Sequence[int] = PROMPT) -> Request:
    return Request(stream, Prompt(None, "", tuple(prompt)), first, stop)


def draw(
    engine: TransformersEngine | TreeEngine,
    requests: Sequence[Request],
    seed: int = 0,
    **params: object,
) -> list[list[Rollout]]:
    settings = SamplingParams(**{"end_token_ids": ENDS, "max_new_tokens": 6, **params})
    return list(in_order(engine.respond(requests, settings, seed)))


def test_log_probabilities_are_those_at_temperature_one(
    model: LanguageModel, plain_logprobs: Callable[..., torch.Tensor]
) -> None:
    [rollouts] = draw(
        TransformersEngine(model), [ask("q", 3, 60)], temperature=0.6, top_k=20, top_p=0.9
    )
    assert [rollout.index for rollout in rollouts] == list(range(3, 60))
    assert {rollout.finish_reason for rollout in rollouts} == {"stop", "length"}
    for rollout in rollouts:
        stopped = rollout.token_ids[-1] in ENDS
        assert (rollout.finish_reason == FinishReason.STOP) == stopped
        assert not ENDS.intersection(rollout.token_ids[:-1])
        assert stopped or rollout.tokens == 6
        logprobs = plain_logprobs(model.module, [[*PROMPT, *rollout.token_ids]])[0]
        places = torch.arange(rollout.tokens) + len(PROMPT) - 1
        expected = float(logprobs[places, torch.tensor(rollout.token_ids)].sum())
        assert rollout.logprob == pytest.approx(expected, abs=1e-4)


def test_first_tokens_follow_the_model_and_none_of_its_defaults(
    model: LanguageModel,
    plain_logprobs: Callable[..., torch.Tensor],
    chi_square: Callable[..., float],
) -> None:
    """Files of models may carry a top-k, a penalty, tokens to suppress: not what was asked for."""
    defaults = GenerationConfig(
        top_k=2, min_p=0.5, repetition_penalty=50.0, suppress_tokens=[3, 7], max_length=5
    )
    model.module.generation_config = defaults
    n = 4_000
    [rollouts] = draw(TransformersEngine(model), [ask("q", 0, n)], max_new_tokens=1)
    p = plain_logprobs(model.module, [PROMPT])[0, -1].exp().numpy()
    counts = Counter(rollout.token_ids[0] for rollout in rollouts)
    observed = np.array([counts[token] for token in range(len(p))], dtype=float)
    assert chi_square(observed, n * p) > 1e-4
    assert model.module.generation_config is defaults


def test_greedy_and_stop_strings_agree_with_the_tree(model: LanguageModel) -> None:
    requests = [ask("a", 0, 2), ask("b", 0, 2, (7, 8, 9)), ask("c", 0, 2, (11,))]
    engines = (TransformersEngine(model), TreeEngine(model))
    free = draw(engines[1], requests, temperature=0.0)
    stop = tuple(model.decode(rollouts[0].token_ids[1:2]) for rollouts in free)
    for params in ({}, {"stop": tuple(s for s in stop if s)}):
        ours, theirs = (draw(engine, requests, temperature=0.0, **params) for engine in engines)
        for one, other in zip(ours, theirs, strict=True):
            assert [r.token_ids for r in one] == [r.token_ids for r in other]
            assert [(r.text, r.finish_reason) for r in one] == [
                (r.text, r.finish_reason) for r in other
            ]
    assert any(r.finish_reason == FinishReason.STOP for rollouts in ours for r in rollouts)


def test_draws_in_blocks_differ_and_other_ranges_are_new(
    model: LanguageModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = TransformersEngine(model)
    assert not engine.is_reproducible
    monkeypatch.setattr(generate_module, "ROWS_AT_ONCE", 16)
    [whole] = draw(engine, [ask("q", 0, 40)])
    texts = [rollout.token_ids for rollout in whole]
    assert [rollout.index for rollout in whole] == list(range(40))
    assert texts[:16] != texts[16:32]
    [again] = draw(engine, [ask("q", 0, 40)])
    assert [rollout.token_ids for rollout in again] == texts
    [later], [other], [reseeded] = (
        draw(engine, [ask("q", 40, 56)]),
        draw(engine, [ask("p", 0, 16)]),
        draw(engine, [ask("q", 0, 16)], seed=1),
    )
    for rollouts in (later, other, reseeded):
        assert [rollout.token_ids for rollout in rollouts] != texts[:16]


def test_the_global_generator_is_left_alone(model: LanguageModel) -> None:
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    draw(TransformersEngine(model), [ask("q", 0, 4)])
    assert torch.equal(torch.rand(3), expected)


def test_encoder_decoders_are_refused(model: LanguageModel) -> None:
    module: PreTrainedModel = model.module
    module.config.is_encoder_decoder = True
    for engine in (TransformersEngine, TreeEngine):
        with pytest.raises(ModelError, match="encode"):
            engine(model)
