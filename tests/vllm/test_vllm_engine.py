import json
import multiprocessing
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import stats
from transformers import PreTrainedModel

from attrib.errors import ConfigError, ModelError
from attrib.sampling.engine import (
    Engine,
    FinishReason,
    Prompt,
    Request,
    Rollout,
    SamplingParams,
    cut_at_stop,
)
from attrib.sampling.models import LanguageModel
from attrib.sampling.prompts import choose_prompt_style
from attrib.sampling.vllm_engine import VllmEngine, VllmSettings

Forced = Callable[[PreTrainedModel, Sequence[int], Sequence[int]], torch.Tensor]

QUESTIONS = ("Who?", "Where is it?", "When was that, and how often?", "Why?", "What for?")
IN_FLIGHT = 3  # fewer than there are questions


@pytest.fixture(scope="module")
def engine(letters_model: LanguageModel) -> Iterator[VllmEngine]:
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setenv("VLLM_CPU_KVCACHE_SPACE", "1")
        engine = VllmEngine(
            VllmSettings(
                letters_model.folder,
                "float32",
                max_model_len=160,
                enforce_eager=True,
                in_flight=IN_FLIGHT,
            )
        )
        yield engine
        engine.close()


@pytest.fixture(scope="module")
def prompts(letters_model: LanguageModel) -> list[Prompt]:
    return [Prompt(None, text, tuple(letters_model.tokenizer.encode(text))) for text in QUESTIONS]


def draw(
    engine: Engine, requests: Sequence[Request], params: SamplingParams, seed: int = 0
) -> list[list[Rollout]]:
    """Return the rollouts in the order of the requests, each answered exactly once."""
    answered = list(engine.respond(requests, params, seed))
    assert sorted(one.position for one in answered) == list(range(len(requests)))
    return [one.rollouts for one in sorted(answered, key=lambda one: one.position)]


def ask(prompts: Sequence[Prompt], first: int, stop: int) -> list[Request]:
    return [Request(f"q{place}", prompt, first, stop) for place, prompt in enumerate(prompts)]


def check_sound(
    model: LanguageModel,
    requests: Sequence[Request],
    drawn: Sequence[Sequence[Rollout]],
    params: SamplingParams,
    forced: Forced,
) -> None:
    """Check indices, ends, texts and log-probabilities of rollouts against a plain forward."""
    for request, rollouts in zip(requests, drawn, strict=True):
        assert [one.index for one in rollouts] == list(range(request.first, request.stop))
        for one in rollouts:
            *body, last = one.token_ids
            text = model.decode(one.token_ids)
            assert one.tokens == len(one.token_ids) <= params.max_new_tokens
            assert not params.end_token_ids.intersection(body)
            is_stopped = last in params.end_token_ids or any(stop in text for stop in params.stop)
            if not is_stopped:
                assert one.tokens == params.max_new_tokens
            reason = FinishReason.STOP if is_stopped else FinishReason.LENGTH
            assert one.finish_reason == reason
            assert one.text == cut_at_stop(text, params.stop)
            assert not any(stop in model.decode(body) for stop in params.stop)
            plain = forced(model.module, request.prompt.token_ids, one.token_ids)
            assert one.logprob == pytest.approx(float(plain.sum()), abs=1e-3)


@pytest.mark.parametrize(
    "shape",
    [
        {},
        {"temperature": 0.7},
        {"top_k": 5},
        {"top_p": 0.6},
        {"stop": ("e", "no")},
        {"stop": ("\n",), "temperature": 1.5, "top_p": 0.9, "top_k": 40},
    ],
)
def test_rollouts_are_sound(
    engine: VllmEngine,
    letters_model: LanguageModel,
    prompts: list[Prompt],
    forced_logprobs: Forced,
    shape: dict[str, object],
) -> None:
    params = SamplingParams(
        **{"max_new_tokens": 12, "end_token_ids": letters_model.end_token_ids, **shape}
    )
    requests = ask(prompts, 3, 19)
    drawn = draw(engine, requests, params)
    check_sound(letters_model, requests, drawn, params, forced_logprobs)
    reasons = {one.finish_reason for rollouts in drawn for one in rollouts}
    assert reasons == {FinishReason.STOP, FinishReason.LENGTH}


def test_only_the_tokens_named_end_a_response(
    engine: VllmEngine, letters_model: LanguageModel, prompts: list[Prompt], forced_logprobs: Forced
) -> None:
    own_end = letters_model.tokenizer.eos_token_id
    params = SamplingParams(max_new_tokens=40, end_token_ids=frozenset({20, 30}))
    requests = ask(prompts, 0, 16)
    drawn = draw(engine, requests, params)
    check_sound(letters_model, requests, drawn, params, forced_logprobs)
    assert any(own_end in one.token_ids[:-1] for rollouts in drawn for one in rollouts)
    assert {one.token_ids[-1] for rollouts in drawn for one in rollouts} >= {20, 30}


@pytest.mark.parametrize(
    "shape", [{}, {"temperature": 0.6}, {"top_k": 4}, {"top_p": 0.7}, {"top_k": 9, "top_p": 0.8}]
)
def test_first_tokens_follow_the_model(
    engine: VllmEngine,
    letters_model: LanguageModel,
    prompts: list[Prompt],
    shape: dict[str, object],
) -> None:
    n = 3000
    params = SamplingParams(**{"max_new_tokens": 1, **shape})
    requests = [Request("q", prompts[2], 0, n)]
    with torch.inference_mode():
        logits = letters_model.module(torch.tensor([prompts[2].token_ids])).logits[0, -1].double()
    expected = truncate((logits / params.temperature).softmax(-1).numpy(), params)
    counts = np.bincount(
        [one.token_ids[0] for one in draw(engine, requests, params)[0]], minlength=len(expected)
    )
    assert counts[expected == 0].sum() == 0
    is_frequent = n * expected >= 5
    observed = [*counts[is_frequent], counts[~is_frequent].sum()]
    hoped = [*(n * expected[is_frequent]), n * expected[~is_frequent].sum()]
    filled = [pair for pair in zip(observed, hoped, strict=True) if pair[1] > 0]
    assert stats.chisquare(*zip(*filled, strict=True)).pvalue > 1e-3


def truncate(probabilities: np.ndarray, params: SamplingParams) -> np.ndarray:
    """Apply top-k, then top-p to what is left, and scale to a sum of 1."""
    order = np.argsort(-probabilities)
    if params.top_k:
        order = order[: params.top_k]
    kept = probabilities[order] / probabilities[order].sum()
    order = order[: int(np.searchsorted(np.cumsum(kept), params.top_p)) + 1]
    result = np.zeros_like(probabilities)
    result[order] = probabilities[order] / probabilities[order].sum()
    return result


def test_greedy_is_greedy(
    engine: VllmEngine, letters_model: LanguageModel, prompts: list[Prompt], forced_logprobs: Forced
) -> None:
    params = SamplingParams(
        temperature=0.0, top_p=0.5, max_new_tokens=20, end_token_ids=letters_model.end_token_ids
    )
    requests = ask(prompts, 5, 8)
    drawn = draw(engine, requests, params)
    check_sound(letters_model, requests, drawn, params, forced_logprobs)
    for request, rollouts in zip(requests, drawn, strict=True):
        prompt = request.prompt.token_ids
        sequence = letters_model.module.generate(
            torch.tensor([prompt]), do_sample=False, max_new_tokens=20
        )
        assert {one.token_ids for one in rollouts} == {tuple(sequence[0, len(prompt) :].tolist())}


def test_a_top_up_draws_what_one_draw_would_have(engine: VllmEngine, prompts: list[Prompt]) -> None:
    assert engine.is_reproducible
    params = SamplingParams(max_new_tokens=8)
    whole = draw(engine, ask(prompts, 0, 64), params)
    start = draw(engine, ask(prompts, 0, 24), params)
    rest = draw(engine, ask(prompts, 24, 64)[::-1], params)[::-1]
    assert [[one.token_ids for one in [*a, *b]] for a, b in zip(start, rest, strict=True)] == [
        [one.token_ids for one in rollouts] for rollouts in whole
    ]
    # n = 1 is another path in vLLM.
    single = draw(engine, ask(prompts, 40, 41), params)
    assert [one[0].token_ids for one in single] == [one[40].token_ids for one in whole]


def test_streams_and_seeds_differ(engine: VllmEngine, prompts: list[Prompt]) -> None:
    params = SamplingParams(max_new_tokens=12)
    same_prompt = [Request(f"q{place}", prompts[0], 0, 16) for place in range(4)]
    drawn = [*draw(engine, same_prompt, params), *draw(engine, same_prompt[:1], params, seed=1)]
    texts = [one.token_ids for rollouts in drawn for one in rollouts]
    assert len(set(texts)) > 0.9 * len(texts)


def test_requests_are_taken_as_others_complete(engine: VllmEngine, prompts: list[Prompt]) -> None:
    vllm = engine._llm.llm_engine
    params = SamplingParams(max_new_tokens=40, end_token_ids=frozenset(range(4, 30)))
    answers = engine.respond(ask(prompts * 4, 0, 2), params, 0)
    next(answers)
    assert 0 < vllm.get_num_unfinished_requests() <= 2 * IN_FLIGHT
    answers.close()
    assert not vllm.has_unfinished_requests()
    assert draw(engine, ask(prompts, 0, 2), params, 1)


def test_what_vllm_would_change_is_refused(engine: VllmEngine, prompts: list[Prompt]) -> None:
    requests = ask(prompts, 0, 1)
    longest = max(len(prompt.token_ids) for prompt in prompts)
    assert draw(engine, requests, SamplingParams(max_new_tokens=160 - longest))
    with pytest.raises(ModelError, match=r"at most 160 tokens.* may take 161\..*--max-model-len"):
        draw(engine, requests, SamplingParams(max_new_tokens=161 - longest))
    with pytest.raises(ConfigError, match=r"at 0\.01 where temperature 0\.005 is"):
        draw(engine, requests, SamplingParams(temperature=0.005))
    with pytest.raises(ModelError, match=r"refuses a request.*out-of-vocab"):
        draw(engine, requests, SamplingParams(end_token_ids=frozenset({10**6})))


def test_a_failure_to_start_is_one_line(
    letters_model: LanguageModel,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("VLLM_CPU_KVCACHE_SPACE", "1000000")
    settings = VllmSettings(letters_model.folder, "float32", max_model_len=160, enforce_eager=True)
    with pytest.raises(ModelError, match=r"vLLM cannot run .*[mM]emory.*--max-model-len") as caught:
        VllmEngine(settings)
    assert "\n" not in str(caught.value)
    assert capfd.readouterr() == ("", "")


def test_a_killed_process_ends_the_run(
    letters_model: LanguageModel, prompts: list[Prompt], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VLLM_CPU_KVCACHE_SPACE", "1")
    others = set(multiprocessing.active_children())
    engine = VllmEngine(
        VllmSettings(letters_model.folder, "float32", max_model_len=160, enforce_eager=True)
    )
    params = SamplingParams(max_new_tokens=100, end_token_ids=frozenset(range(4, 20)))
    answers = engine.respond(ask(prompts * 20, 0, 8), params, 0)
    next(answers)
    for process in set(multiprocessing.active_children()) - others:
        process.kill()
    with pytest.raises(ModelError, match=r"stopped running the model in .*: one of its processes"):
        list(answers)
    engine.close()


def test_an_unknown_architecture_is_named(letters_model: LanguageModel, tmp_path: Path) -> None:
    config = json.loads((letters_model.folder / "config.json").read_text())
    config |= {"architectures": ["NoSuchForCausalLM"], "model_type": "llama"}
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(ModelError, match=r"NoSuchForCausalLM.*--engine") as caught:
        VllmEngine(VllmSettings(tmp_path, "float32"))
    assert len(str(caught.value)) < 800


def test_the_embedded_model_answers_soundly(
    embedded_model: LanguageModel,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    forced_logprobs: Forced,
) -> None:
    monkeypatch.setenv("VLLM_CPU_KVCACHE_SPACE", "1")
    engine = VllmEngine(
        VllmSettings(embedded_model.folder, "float32", max_model_len=512, enforce_eager=True)
    )
    try:
        style = choose_prompt_style(is_chat=True)
        prompts = [
            style.ask(f"What is the capital of {country}?", embedded_model.tokenizer)
            for country in ("Peru", "Norway", "Kenya")
        ]
        params = SamplingParams(max_new_tokens=10, end_token_ids=embedded_model.end_token_ids)
        requests = ask(prompts, 0, 16)
        whole = draw(engine, requests, params)
        check_sound(embedded_model, requests, whole, params, forced_logprobs)

        rest = draw(engine, ask(prompts, 8, 16), params)
        assert [one.token_ids for rollouts in rest for one in rollouts] == [
            one.token_ids for rollouts in whole for one in rollouts[8:]
        ]
        stopped = replace(params, stop=(".", " is"), temperature=0.8, top_p=0.9)
        check_sound(
            embedded_model, requests, draw(engine, requests, stopped), stopped, forced_logprobs
        )
    finally:
        engine.close()
    assert capfd.readouterr() == ("", "")
