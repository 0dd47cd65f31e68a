"""The server engine against vLLM's own server, over HTTP."""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import httpx2
import pytest
import torch

from attrib.errors import ModelError
from attrib.sampling.engine import FinishReason, Request, Rollout, SamplingParams, in_order
from attrib.sampling.models import LanguageModel
from attrib.sampling.prompts import PromptStyle
from attrib.sampling.server import ServerEngine, ServerSettings

CHAT = PromptStyle("Be short.", "{question}")
PLAIN = PromptStyle(None, "Q: {question}\nA:")
STARTING_SECONDS = 180

Forced = Callable[..., torch.Tensor]


@pytest.fixture(scope="module")
def url(letters_model: LanguageModel, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Serve the letters model, and yield where."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    log = Path(tmp_path_factory.mktemp("server") / "log.txt")
    command = [sys.executable, "-m", "vllm.entrypoints.openai.api_server"]
    command += ["--model", str(letters_model.folder), "--served-model-name", "letters"]
    command += ["--host", "127.0.0.1", "--port", str(port), "--dtype", "float32", "--enforce-eager"]
    environment = {"VLLM_CPU_KVCACHE_SPACE": "1", "TORCHDYNAMO_DISABLE": "1", **os.environ}
    with log.open("wb") as stream:
        server = subprocess.Popen(command, stdout=stream, stderr=stream, env=environment)
    try:
        deadline = time.monotonic() + STARTING_SECONDS
        while True:
            try:
                if httpx2.get(f"http://127.0.0.1:{port}/health", timeout=2.0).is_success:
                    break
            except httpx2.HTTPError:
                pass
            said = log.read_text(errors="replace")[-2000:]
            assert server.poll() is None, said
            assert time.monotonic() < deadline, said
            time.sleep(0.5)
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        server.terminate()
        server.wait(30)


def draw(
    url: str,
    model: LanguageModel,
    style: PromptStyle,
    questions: Sequence[str],
    first: int = 0,
    stop: int = 16,
    **params: object,
) -> list[list[Rollout]]:
    engine = ServerEngine(ServerSettings(url))
    requests = [Request(q, style.ask(q, model.tokenizer), first, stop) for q in questions]
    settings = SamplingParams(**{"max_new_tokens": 12, **params})
    return list(in_order(engine.respond(requests, settings, 0)))


@pytest.mark.timeout(STARTING_SECONDS + 60)
@pytest.mark.parametrize("style", [CHAT, PLAIN], ids=["chat", "plain"])
def test_rollouts_and_their_logprobs(
    url: str, letters_model: LanguageModel, style: PromptStyle, forced_logprobs: Forced
) -> None:
    questions = ["Who?", 'Where "exactly"?']
    drawn = draw(url, letters_model, style, questions)
    tokenizer, checked = letters_model.tokenizer, 0
    for question, rollouts in zip(questions, drawn, strict=True):
        assert [rollout.index for rollout in rollouts] == list(range(16))
        assert len({rollout.text for rollout in rollouts}) > 8
        prompt = style.render(question, tokenizer)
        for rollout in rollouts:
            ended = rollout.finish_reason == FinishReason.STOP
            assert ended or rollout.tokens == 12
            response = tokenizer.encode(rollout.text, add_special_tokens=False)
            response += [tokenizer.eos_token_id] * ended
            if len(response) != rollout.tokens or rollout.logprob is None:
                continue  # a special token was drawn, which the text does not show
            checked += 1
            forced = float(forced_logprobs(letters_model.module, prompt, response).sum())
            assert rollout.logprob == pytest.approx(forced, abs=2e-3)
    assert checked >= 16


def test_stop_strings_cut(url: str, letters_model: LanguageModel) -> None:
    [free] = draw(url, letters_model, PLAIN, ["Who?"])
    stop = next(rollout.text[1] for rollout in free if len(rollout.text) > 2)
    request = Request("Who?", PLAIN.ask("Who?", letters_model.tokenizer), 0, 64)
    params = SamplingParams(max_new_tokens=12, stop=(stop,))
    [rollouts] = in_order(ServerEngine(ServerSettings(url)).respond([request], params, 0))
    assert len(rollouts) == 64
    assert all(stop not in rollout.text for rollout in rollouts)
    assert any(r.finish_reason == FinishReason.STOP and r.tokens < 12 for r in rollouts)


def test_topping_up_draws_something_new(url: str, letters_model: LanguageModel) -> None:
    [first] = draw(url, letters_model, CHAT, ["Who?"], 0, 16)
    [later] = draw(url, letters_model, CHAT, ["Who?"], 16, 32)
    assert [rollout.index for rollout in later] == list(range(16, 32))
    assert [rollout.text for rollout in first] != [rollout.text for rollout in later]


def test_what_the_server_refuses_is_told(url: str, letters_model: LanguageModel) -> None:
    with pytest.raises(ModelError, match="refuses with status 4"):
        draw(url, letters_model, CHAT, ["Who?"], max_new_tokens=100_000)
