"""The engine for servers against a real HTTP server that misbehaves in every way we know of."""

import asyncio
import gc
import hashlib
import itertools
import logging
import math
import signal
import socket
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from attrib.errors import ConfigError, ModelError
from attrib.sampling.engine import (
    Answered,
    EngineName,
    FinishReason,
    Prompt,
    Request,
    Rollout,
    SamplingParams,
)
from attrib.sampling.server import ServerEngine, ServerSettings
from tests.local_server import (
    DROP,
    HANG,
    Call,
    LocalServer,
    Reply,
    answer_well,
    chat_choice,
    choice,
    refuse,
    said,
)

PLAIN = SamplingParams()
KEY_VARIABLE = "ATTRIB_TEST_KEY"
KEY = "sk-very-secret-0123456789"

WITHOUT_DEFAULTS = {"top_k": -1, "min_p": 0.0, "repetition_penalty": 1.0}


def engine_for(server: LocalServer | str, **settings: Any) -> ServerEngine:
    """Return an engine that waits for milliseconds where a user's waits for seconds."""
    url = server if isinstance(server, str) else server.url
    defaults: dict[str, Any] = {
        "model": "tiny",
        "api_key_env": KEY_VARIABLE,
        "concurrency": 4,
        "timeout_seconds": 5.0,
        "attempts": 3,
        "first_wait_seconds": 0.001,
        "longest_wait_seconds": 0.01,
    }
    return ServerEngine(ServerSettings(url, **{**defaults, **settings}))


def ask(
    stream: str = "q", first: int = 0, stop: int = 1, text: str = "Q?", system: str | None = None
) -> Request:
    return Request(stream, Prompt(system, text, ()), first, stop)


def draw(
    engine: ServerEngine, *requests: Request, params: SamplingParams = PLAIN, seed: int = 0
) -> list[list[Rollout]]:
    """Return the rollouts of every request, having checked that they are those asked for."""
    answers = {a.position: a.rollouts for a in engine.respond(requests, params, seed)}
    assert sorted(answers) == list(range(len(requests)))
    for position, request in enumerate(requests):
        indices = [rollout.index for rollout in answers[position]]
        assert indices == list(range(request.first, request.stop))
    return [answers[position] for position in range(len(requests))]


def draw_one(engine: ServerEngine, params: SamplingParams = PLAIN) -> Rollout:
    return draw(engine, ask(), params=params)[0][0]


def drawn_before(
    engine: ServerEngine, requests: Sequence[Request]
) -> tuple[list[Answered], ModelError]:
    """Return what an engine yields and the error with which it then ends."""
    answers: list[Answered] = []
    with pytest.raises(ModelError) as caught:
        answers.extend(engine.respond(requests, PLAIN, 0))
    assert "\n" not in str(caught.value)
    return answers, caught.value


def refusal(engine: ServerEngine) -> str:
    """Return the line with which an engine ends before it has drawn anything."""
    answers, error = drawn_before(engine, [ask()])
    assert answers == []
    return str(error)


def wait_for(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 5
    while not condition():
        assert time.monotonic() < end, "it never happened"
        time.sleep(0.005)


# --- what is asked ------------------------------------------------------------------------------


def test_a_text_completion(serve: Callable[..., LocalServer]) -> None:
    server = serve()
    params = SamplingParams(temperature=0.5, top_p=0.9, max_new_tokens=7, stop=("\n", "."))
    engine = engine_for(server.url + "/")
    rollouts = draw(engine, ask("q1", 2, 5), params=params, seed=9)[0]
    seed = int.from_bytes(hashlib.sha256(b"9\nq1\n2").digest()[:4], "big") // 2
    assert [rollout.text for rollout in rollouts] == [f"Q?/{seed}/{i}" for i in range(3)]
    assert {rollout.finish_reason for rollout in rollouts} == {FinishReason.STOP}
    (call,) = server.calls
    assert call.path == "/v1/completions"
    assert call.fields == {
        "model": "tiny",
        "prompt": "Q?",
        "n": 3,
        "temperature": 0.5,
        "top_p": 0.9,
        "max_tokens": 7,
        "stop": ["\n", "."],
        "seed": seed,
        "logprobs": 1,
        **WITHOUT_DEFAULTS,
    }
    assert engine.name is EngineName.SERVER
    assert not engine.is_reproducible


def test_a_chat(serve: Callable[..., LocalServer]) -> None:
    server = serve()
    rollouts = draw(engine_for(server), ask(system="Be short.", stop=2))[0]
    (call,) = server.calls
    assert call.path == "/v1/chat/completions"
    assert call.fields == {
        "model": "tiny",
        "messages": [
            {"role": "system", "content": "Be short."},
            {"role": "user", "content": "Q?"},
        ],
        "n": 2,
        "temperature": 1.0,
        "top_p": 1.0,
        "max_tokens": 16,
        "seed": call.fields["seed"],
        "logprobs": True,
        **WITHOUT_DEFAULTS,
        "chat_template_kwargs": {"enable_thinking": False},
    }
    assert [rollout.text for rollout in rollouts] == [
        f"Q?/{call.fields['seed']}/{i}" for i in (0, 1)
    ]


def test_top_k_is_sent_when_it_is_one(serve: Callable[..., LocalServer]) -> None:
    server = serve()
    draw(engine_for(server), ask(), params=SamplingParams(top_k=5))
    assert server.calls[0].fields["top_k"] == 5


def test_a_servers_own_defaults_are_switched_off(serve: Callable[..., LocalServer]) -> None:
    server = serve()
    draw(engine_for(server), ask())
    fields = server.calls[0].fields
    assert (fields["top_k"], fields["min_p"], fields["repetition_penalty"]) == (-1, 0.0, 1.0)
    draw(engine_for(server), ask(), params=SamplingParams(top_k=5))
    assert server.calls[1].fields["top_k"] == 5


@pytest.mark.parametrize(
    "text",
    ["Œuvre «d'art» \"\\\n\t 東京 🗼", "\0 \x1b[31m", "\ud83d alone", "a" * 100_000, "{n}%s"],
)
def test_prompts_arrive_unchanged(text: str, serve: Callable[..., LocalServer]) -> None:
    server = serve(lambda call: said(choice()))
    draw(engine_for(server), ask(text=text))
    assert server.calls[0].fields["prompt"] == text
    server.behave = lambda call: said(chat_choice())
    draw(engine_for(server), ask(text=text, system=text))
    assert [message["content"] for message in server.calls[1].fields["messages"]] == [text, text]


def test_seeds_differ_between_questions_ranges_and_runs(
    serve: Callable[..., LocalServer],
) -> None:
    server = serve()
    requests = [ask("a", 0, 64), ask("a", 64, 128), ask("b", 0, 64), ask("b", 64, 128)]
    draw(engine_for(server), *requests, seed=0)
    draw(engine_for(server), *requests, seed=1)
    seeds = [call.fields["seed"] for call in server.calls]
    assert len(set(seeds)) == 8
    assert all(0 <= seed < 2**31 for seed in seeds)
    draw(engine_for(server), *requests, seed=1)
    assert sorted(seeds[4:]) == sorted(call.fields["seed"] for call in server.calls[8:])


def test_many_rollouts_are_asked_in_parts(serve: Callable[..., LocalServer]) -> None:
    server = serve()
    (rollouts,) = draw(engine_for(server), ask(first=64, stop=364))
    assert sorted(call.fields["n"] for call in server.calls) == [44, 128, 128]
    assert len({rollout.text for rollout in rollouts}) == 300


def test_greedy_decoding_asks_one_by_one(serve: Callable[..., LocalServer]) -> None:
    server = serve()
    draw(engine_for(server), ask(stop=3), params=SamplingParams(temperature=0.0))
    assert [call.fields["n"] for call in server.calls] == [1, 1, 1]


# --- what is read -------------------------------------------------------------------------------


@pytest.mark.parametrize("one", [choice, chat_choice])
def test_log_probabilities(one: Callable[..., object], serve: Callable[..., LocalServer]) -> None:
    server = serve(lambda call: said(one(logprobs=[-0.5, -0.25]), one("Lima", logprobs=[-2.0])))
    (rollouts,) = draw(engine_for(server), ask(stop=2))
    assert [(r.tokens, r.logprob, r.token_ids) for r in rollouts] == [(2, -0.75, ()), (1, -2.0, ())]


@pytest.mark.parametrize(
    "changed",
    [SamplingParams(temperature=0.5), SamplingParams(top_p=0.9), SamplingParams(top_k=3)],
)
def test_log_probabilities_of_another_distribution_are_unknown(
    changed: SamplingParams, serve: Callable[..., LocalServer]
) -> None:
    engine = engine_for(serve(lambda call: said(choice(logprobs=[-0.5]))))
    assert draw_one(engine).logprob == -0.5
    assert draw_one(engine, changed).logprob is None


@pytest.mark.parametrize(
    "logprobs",
    [[math.nan], [-0.5, math.nan], [-math.inf], [math.inf], [-0.5, None], [-9999.0], [0.5], []],
)
def test_impossible_log_probabilities_are_unknown(
    logprobs: list[float | None], serve: Callable[..., LocalServer]
) -> None:
    rollout = draw_one(engine_for(serve(lambda call: said(choice(logprobs=logprobs)))))
    assert (rollout.text, rollout.logprob, rollout.tokens) == ("Paris", None, len(logprobs))


def test_log_probabilities_without_the_end_token_are_unknown(
    serve: Callable[..., LocalServer],
) -> None:
    server = serve(lambda call: said(choice(logprobs=[-0.5, -0.25]), used=3))
    rollout = draw_one(engine_for(server))
    assert (rollout.tokens, rollout.logprob) == (2, None)
    server.behave = lambda call: said(choice(logprobs=[-0.5, -0.25]), used=2)
    assert draw_one(engine_for(server)).logprob == -0.75


def test_token_counts_without_log_probabilities(serve: Callable[..., LocalServer]) -> None:
    server = serve(lambda call: said(*[choice()] * call.fields["n"], used=6))
    engine = engine_for(server)
    alone, both = draw(engine, ask()), draw(engine, ask(stop=2))
    assert [rollout.tokens for rollout in alone[0]] == [6]
    assert [rollout.tokens for rollout in both[0]] == [0, 0]  # the server tells the sum only


@pytest.mark.parametrize("used", [-1, "6", None, [], 1.5])
def test_a_usage_that_makes_no_sense_is_ignored(
    used: object, serve: Callable[..., LocalServer]
) -> None:
    rollout = draw_one(engine_for(serve(lambda call: said(choice(logprobs=[-0.5]), used=used))))
    assert (rollout.tokens, rollout.logprob) == (1, -0.5)


@pytest.mark.parametrize(
    "failed",
    [
        choice(end="content_filter"),
        choice(end=None),
        choice(end=["stop"]),
        choice(text=None),
        choice(text=7),
        chat_choice(text=None),
        chat_choice(end="tool_calls"),
        {"message": None, "finish_reason": "stop"},
        {"message": {"content": None, "refusal": "No."}, "finish_reason": "stop"},
    ],
)
def test_a_choice_without_a_response_is_a_failed_rollout(
    failed: object, serve: Callable[..., LocalServer]
) -> None:
    server = serve(lambda call: said(choice(), failed, choice(end="length")))
    (rollouts,) = draw(engine_for(server), ask(first=5, stop=8))
    assert rollouts[0].text == "Paris"
    assert rollouts[1] == Rollout.failed(6)
    assert rollouts[2].finish_reason is FinishReason.LENGTH
    assert len(server.calls) == 1


def test_texts_are_cut_at_stop_strings(serve: Callable[..., LocalServer]) -> None:
    server = serve(lambda call: said(choice("Paris.\nQ: and", end="length")))
    rollout = draw_one(engine_for(server), SamplingParams(stop=("\n",)))
    assert (rollout.text, rollout.finish_reason) == ("Paris.", FinishReason.STOP)


def test_lone_surrogates_are_replaced(serve: Callable[..., LocalServer]) -> None:
    body = (
        rb'{"choices": [{"text": "a\ud83d b\udc00 \ud83d\ude00\u0000", "finish_reason": "stop"}]}'
    )
    rollout = draw_one(engine_for(serve(lambda call: Reply(content=body))))
    assert rollout.text == "a\ufffd b\ufffd 😀\0"
    rollout.text.encode()


def test_an_empty_response_is_a_response(serve: Callable[..., LocalServer]) -> None:
    rollout = draw_one(engine_for(serve(lambda call: said(choice("")))))
    assert (rollout.text, rollout.finish_reason) == ("", FinishReason.STOP)


def test_choices_beyond_those_asked_are_dropped(serve: Callable[..., LocalServer]) -> None:
    server = serve(lambda call: said(*(choice(str(i)) for i in range(9))))
    (rollouts,) = draw(engine_for(server), ask(stop=2))
    assert [rollout.text for rollout in rollouts] == ["0", "1"]


# --- failures that pass -------------------------------------------------------------------------


@pytest.mark.parametrize(
    "trouble",
    [
        *(refuse(status, "not now") for status in (408, 409, 429, 500, 502, 503, 529)),
        DROP,
        Reply(content=b""),
        Reply(content=b'{"choices": [{"text": "Par'),
        Reply(content=b"\xff\xfe\xfd"),
        Reply(content=b"[" * 100_000),
        Reply(content=b"<html>502 Bad Gateway</html>"),
        Reply(content=[]),
        Reply(content={"object": "completion"}),
        Reply(content={"choices": None}),
        Reply(content={"choices": []}),
        Reply(content={"choices": ["Paris"]}),
        Reply(content={"choices": [{"finish_reason": "stop"}]}),
        Reply(content=b"ab", headers={"Content-Encoding": "gzip"}),
    ],
    ids=str,
)
def test_what_may_pass_is_tried_again(trouble: Reply, serve: Callable[..., LocalServer]) -> None:
    server = serve(lambda call: trouble if call.again < 2 else said(choice()))
    assert draw_one(engine_for(server)).text == "Paris"
    assert len(server.calls) == 3
    assert server.calls[0].fields == server.calls[2].fields


def test_slow_answers_are_tried_again(serve: Callable[..., LocalServer]) -> None:
    server = serve(lambda call: HANG if call.again == 0 else said(choice()))
    assert draw_one(engine_for(server, timeout_seconds=0.2)).text == "Paris"
    wait_for(lambda: server.abandoned == 1)
    assert len(server.calls) == 2


@pytest.mark.parametrize(
    ("asked", "longest", "at_least", "at_most"),
    [("1", 10.0, 1.0, 1.6), ("3600", 0.3, 0.3, 0.8), ("soon", 10.0, 0.0, 0.5)],
)
def test_the_wait_that_a_server_asks_for(
    asked: str,
    longest: float,
    at_least: float,
    at_most: float,
    serve: Callable[..., LocalServer],
) -> None:
    at = []

    def behave(call: Call) -> Reply:
        at.append(time.monotonic())
        return (
            refuse(429, "slow down", **{"Retry-After": asked}) if len(at) == 1 else said(choice())
        )

    engine = engine_for(serve(behave), longest_wait_seconds=longest)
    assert draw_one(engine).text == "Paris"
    assert at_least <= at[1] - at[0] < at_most


def test_waits_grow(serve: Callable[..., LocalServer]) -> None:
    at = []

    def behave(call: Call) -> Reply:
        at.append(time.monotonic())
        return refuse(500, "no")

    draw(
        engine_for(serve(behave), first_wait_seconds=0.05, longest_wait_seconds=9.0, attempts=4),
        ask(),
    )
    waits = [after - before for before, after in itertools.pairwise(at)]
    assert all(wait >= least for wait, least in zip(waits, (0.05, 0.1, 0.2), strict=True))
    assert sum(waits) < 1.5


def test_what_never_passes_is_a_failed_rollout(serve: Callable[..., LocalServer]) -> None:
    server = serve(lambda call: refuse(500, "out of memory"))
    engine = engine_for(server)
    assert draw(engine, ask(first=3, stop=5)) == [[Rollout.failed(3), Rollout.failed(4)]]
    assert len(server.calls) == 3
    server.behave = answer_well
    assert [r.finish_reason for r in draw(engine, ask(first=3, stop=5))[0]] == [
        FinishReason.STOP
    ] * 2


def test_a_failed_question_leaves_the_others_alone(serve: Callable[..., LocalServer]) -> None:
    server = serve(lambda call: DROP if call.fields["prompt"] == "poison" else answer_well(call))
    requests = [ask(str(i), stop=2, text="poison" if i == 3 else f"Q{i}") for i in range(9)]
    answers = draw(engine_for(server), *requests)
    for i, rollouts in enumerate(answers):
        assert [r.finish_reason is FinishReason.ERROR for r in rollouts] == [i == 3] * 2


# --- servers that understand less ---------------------------------------------------------------


@pytest.mark.parametrize("most", [1, 3])
def test_a_server_that_returns_fewer_choices(most: int, serve: Callable[..., LocalServer]) -> None:
    together = threading.Barrier(4, timeout=5)

    def behave(call: Call) -> Reply:
        if call.number > 0:
            together.wait()
        n, seed = min(most, call.fields["n"]), call.fields["seed"]
        return said(*(choice(f"{seed}/{i}") for i in range(n)))

    server = serve(behave)
    engine = engine_for(server)
    (rollouts,) = draw(engine, ask(first=64, stop=64 + 17 * most))
    assert len({rollout.text for rollout in rollouts}) == 17 * most
    assert [call.fields["n"] for call in server.calls] == [17 * most] + [most] * 16
    draw(engine, ask("another", stop=16 * most))
    assert [call.fields["n"] for call in server.calls[17:]] == [most] * 16
    assert server.most_in_flight == 4


@pytest.mark.parametrize(
    ("status", "message"),
    [
        (400, "n must be 1 for this model, got 16."),
        (400, "Only one completion choice is allowed"),
        (422, "n: must be less than or equal to 1"),
        (500, "Only one completion choice is allowed"),
        (500, "n_cmpl cannot be greater than the number of slots, please increase -np"),
    ],
)
def test_a_server_that_refuses_several_choices(
    status: int, message: str, serve: Callable[..., LocalServer]
) -> None:
    together = threading.Barrier(4, timeout=5)

    def behave(call: Call) -> Reply:
        if call.fields["n"] > 1:
            return refuse(status, message)
        together.wait()
        return answer_well(call)

    server = serve(behave)
    engine = engine_for(server)
    (rollouts,) = draw(engine, ask(stop=16))
    assert len({rollout.text for rollout in rollouts}) == 16  # each with a seed of its own
    assert [call.fields["n"] for call in server.calls] == [16] + [1] * 16
    draw(engine, ask(stop=16))
    assert len(server.calls) == 17 + 16
    assert server.most_in_flight == 4


def test_a_complaint_about_n_where_one_is_asked(serve: Callable[..., LocalServer]) -> None:
    server = serve(lambda call: refuse(400, "n is wrong, whatever it is"))
    assert "n is wrong" in refusal(engine_for(server))
    assert len(server.calls) == 1


@pytest.mark.parametrize("field", ["logprobs", "seed"])
@pytest.mark.parametrize(
    "shape",
    [
        lambda field: Reply(400, {"error": {"message": f"'{field}' is not supported"}}),
        lambda field: Reply(400, {"error": {"message": "Unknown field", "param": field}}),
        lambda field: Reply(400, {"error": f"unknown field {field}"}),
        lambda field: Reply(400, {"message": f"extra field {field}", "object": "error"}),
        lambda field: Reply(422, {"detail": [{"loc": ["body", field], "msg": "forbidden"}]}),
        lambda field: Reply(400, f"Bad Request\n{field}: unknown".encode()),
    ],
)
def test_a_field_that_is_not_understood_is_left_out(
    field: str, shape: Callable[[str], Reply], serve: Callable[..., LocalServer]
) -> None:
    server = serve(lambda call: shape(field) if field in call.fields else answer_well(call))
    engine = engine_for(server)
    requests = [ask(str(i), stop=3) for i in range(8)]
    for rollouts in draw(engine, *requests):
        assert {(r.finish_reason, r.logprob) for r in rollouts} == {(FinishReason.STOP, None)}
    assert sum(field in call.fields for call in server.calls) <= 4  # those sent before the first
    draw(engine, ask())
    assert field not in server.calls[-1].fields
    assert "n" in server.calls[-1].fields


def test_every_field_that_may_be_missing_at_once(serve: Callable[..., LocalServer]) -> None:
    needless = ("logprobs", "seed", "top_k", "min_p", "repetition_penalty", "max_tokens")

    def behave(call: Call) -> Reply:
        for name in needless:
            if name in call.fields:
                instead = " Use 'max_completion_tokens'." if name == "max_tokens" else ""
                return refuse(400, f"Unsupported parameter: '{name}'.{instead}")
        return refuse(400, "n is not supported") if call.fields["n"] > 1 else answer_well(call)

    server = serve(behave)
    engine = engine_for(server)
    assert [r.finish_reason for r in draw(engine, ask(stop=2))[0]] == [FinishReason.STOP] * 2
    assert set(server.calls[-1].fields) == {
        *("model", "prompt", "n", "temperature", "top_p", "max_completion_tokens")
    }
    assert server.calls[-1].fields["max_completion_tokens"] == 16


def test_a_parameter_that_shapes_the_distribution_is_never_left_out(
    serve: Callable[..., LocalServer],
) -> None:
    server = serve(lambda call: refuse(400, "Unrecognized request argument: top_k"))
    engine = engine_for(server)
    with pytest.raises(ModelError, match="top_k"):
        draw(engine, ask(), params=SamplingParams(top_k=5))
    assert len(server.calls) == 1


def test_a_seed_that_repeats_one_choice_is_left_out(serve: Callable[..., LocalServer]) -> None:
    def behave(call: Call) -> Reply:
        texts = ["same"] * 16 if "seed" in call.fields else [str(i) for i in range(16)]
        return said(*(choice(text, logprobs=[-3.0]) for text in texts))

    (rollouts,) = draw(engine_for(serve(behave)), ask(stop=16))
    assert len({rollout.text for rollout in rollouts}) == 16


def test_a_likely_response_may_repeat(serve: Callable[..., LocalServer]) -> None:
    server = serve(lambda call: said(*[choice(logprobs=[-0.1])] * 16))
    draw(engine_for(server), ask(stop=16))
    assert len(server.calls) == 1


# --- what the user must mend --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "remedy"),
    [
        (401, f"Set the environment variable {KEY_VARIABLE} to a key that it takes."),
        (403, f"Set the environment variable {KEY_VARIABLE} to a key that it takes."),
        (404, "Check its URL, which usually ends in /v1, and the model's name."),
        (405, "Check its URL, which usually ends in /v1, and the model's name."),
        (302, "Check its URL, which usually ends in /v1, and the model's name."),
        (400, "Change the setting or the question that it names."),
    ],
)
def test_refusals_are_not_tried_again(
    status: int, remedy: str, serve: Callable[..., LocalServer]
) -> None:
    server = serve(lambda call: refuse(status, "It is\u001b[31m wrong.\nIn every way."))
    assert refusal(engine_for(server)) == (
        f"The server at {server.url} refuses with status {status}: It is [31m wrong. {remedy}"
    )
    assert len(server.calls) == 1


def test_long_refusals_are_shortened(serve: Callable[..., LocalServer]) -> None:
    message = refusal(engine_for(serve(lambda call: Reply(400, b"\n\n" + b"no" * 5_000))))
    assert 300 < len(message) < 500


def test_a_refusal_comes_after_what_was_drawn(serve: Callable[..., LocalServer]) -> None:
    def behave(call: Call) -> Reply:
        if call.fields["prompt"] == "last":
            wait_for(lambda: len(server.calls) >= 4)
            time.sleep(0.05)  # the others' answers arrive
            return refuse(404, "no such model")
        return HANG if call.fields["prompt"] == "slow" else answer_well(call)

    server = serve(behave)
    texts = ["Q0", "slow", "last", "Q3", *["unasked"] * 9]
    start = time.monotonic()
    answers, _ = drawn_before(engine_for(server), [ask(t, text=t) for t in texts])
    assert {0, 3} <= {answered.position for answered in answers}
    assert not {1, 2} & {answered.position for answered in answers}
    assert time.monotonic() - start < 3  # the slow one is given up
    wait_for(lambda: server.abandoned == 1)


def test_what_is_drawn_of_a_question_outlives_a_refusal(
    serve: Callable[..., LocalServer],
) -> None:
    def behave(call: Call) -> Reply:
        return said(choice()) if call.number < 5 else refuse(401, "the key has expired")

    answers, error = drawn_before(engine_for(serve(behave), concurrency=1), [ask(stop=9)])
    (answered,) = answers
    assert [rollout.index for rollout in answered.rollouts] == list(range(9))
    failed = [rollout.finish_reason is FinishReason.ERROR for rollout in answered.rollouts]
    assert failed == [False] * 5 + [True] * 4
    assert "the key has expired" in str(error)


# --- servers that are gone ----------------------------------------------------------------------


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@pytest.mark.parametrize("model", ["tiny", ""])
def test_a_server_that_is_not_there(model: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "*")
    url = f"http://127.0.0.1:{free_port()}/v1"
    start = time.monotonic()
    message = refusal(engine_for(url, model=model, attempts=1_000))
    assert time.monotonic() - start < 5  # who mistyped the URL need not wait for all attempts
    assert message.startswith(f"The server at {url} does not answer (")
    assert "what was drawn is stored, and the same command continues" in message


def test_a_server_that_goes_away(serve: Callable[..., LocalServer]) -> None:
    server = serve(lambda call: DROP if int(call.fields["prompt"]) >= 10 else answer_well(call))
    engine = engine_for(server, attempts=2)
    answers, error = drawn_before(engine, [ask(str(i), text=str(i)) for i in range(1_000)])
    assert f"The server at {server.url} does not answer (" in str(error)
    states = {a.position: a.rollouts[0].finish_reason for a in answers}
    assert all(states[i] is FinishReason.STOP for i in range(10))
    failed = [i for i, state in states.items() if state is FinishReason.ERROR]
    assert set(failed) == set(states) - set(range(10))
    assert 20 <= len(failed) < 24  # up to three of them before the last success
    assert len(server.calls) < 80


def test_a_success_in_between_keeps_a_server_alive(serve: Callable[..., LocalServer]) -> None:
    server = serve(
        lambda call: said(choice()) if int(call.fields["prompt"]) % 10 == 0 else refuse(500, "no")
    )
    engine = engine_for(server, concurrency=1, attempts=1)
    answers = draw(engine, *(ask(str(i), text=str(i)) for i in range(60)))
    assert sum(rollouts[0].text == "Paris" for rollouts in answers) == 6


def test_one_question_that_a_server_cannot_bear_does_not_end_the_run(
    serve: Callable[..., LocalServer],
) -> None:
    def behave(call: Call) -> Reply:
        if call.fields["prompt"] == "poison":
            return refuse(500, "crash")
        return said(choice())

    engine = engine_for(serve(behave), attempts=1)
    draw(engine, ask("warm up", stop=2))  # one choice comes back: from now on one by one
    answers = draw(engine, ask("poison", text="poison", stop=64), ask("fine", stop=2))
    assert all(rollout.finish_reason is FinishReason.ERROR for rollout in answers[0])
    assert [rollout.text for rollout in answers[1]] == ["Paris", "Paris"]


# --- the model's name ---------------------------------------------------------------------------


def offer(*names: str) -> Callable[[Call], Reply]:
    def behave(call: Call) -> Reply:
        if call.path == "/v1/models":
            return Reply(content={"data": [{"id": name} for name in names]})
        return answer_well(call)

    return behave


def test_the_only_model_is_taken(serve: Callable[..., LocalServer]) -> None:
    server = serve(offer("org/tiny-1b"))
    engine = engine_for(server, model="")
    assert engine.served_model() == "org/tiny-1b"
    draw(engine, ask())
    assert [call.path for call in server.calls] == ["/v1/models", "/v1/completions"]
    assert server.calls[1].fields["model"] == "org/tiny-1b"


def test_a_named_model_is_not_asked_for(serve: Callable[..., LocalServer]) -> None:
    server = serve(offer("a", "b"))
    assert engine_for(server, model="b").served_model() == "b"
    assert server.calls == []


@pytest.mark.parametrize(
    ("behave", "message"),
    [
        (offer("beta", "alpha"), r"offers 2 models \(alpha, beta\), so .* Give the name of one\."),
        (offer(), "offers no model"),
        (lambda call: Reply(content={"data": "x"}), r"does not answer \(.*no list of models\)"),
        (lambda call: refuse(401, "who are you?"), "status 401: who are you"),
        (lambda call: refuse(503, "loading"), r"does not answer \(status 503: loading\)"),
    ],
)
def test_a_model_that_cannot_be_told(
    behave: Callable[[Call], Reply], message: str, serve: Callable[..., LocalServer]
) -> None:
    engine = engine_for(serve(behave), model="")
    with pytest.raises(ModelError, match=message):
        engine.served_model()


# --- the key ------------------------------------------------------------------------------------


def test_the_key_is_sent_and_shown_nowhere(
    serve: Callable[..., LocalServer],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setenv(KEY_VARIABLE, f"{KEY}\n")
    caplog.set_level(logging.DEBUG)
    server = serve(lambda call: refuse(401, f"The key {KEY} is not known"))
    engine = engine_for(server)
    _, error = drawn_before(engine, [ask()])
    assert server.calls[0].headers["Authorization"] == f"Bearer {KEY}"
    shown = [repr(engine), repr(engine.settings), repr(vars(engine)), caplog.text]
    shown += traceback.format_exception(error)
    assert "The key *** is not known" in str(error)
    assert not any(KEY in text for text in shown)
    server.behave = lambda call: refuse(500, f"{KEY} made me fall over")
    answers, error = drawn_before(engine, [ask(str(i)) for i in range(99)])
    assert "*** made me fall over" in str(error)
    assert not any(KEY in text for text in (str(error), str(answers)))


@pytest.mark.parametrize("key", [None, "", " "])
def test_no_key_is_needed(
    key: str | None, serve: Callable[..., LocalServer], monkeypatch: pytest.MonkeyPatch
) -> None:
    if key is not None:
        monkeypatch.setenv(KEY_VARIABLE, key)
    server = serve()
    draw(engine_for(server), ask())
    assert "Authorization" not in server.calls[0].headers


@pytest.mark.parametrize("key", ["sk-sécret", "sk-one\nsk-two"])
def test_a_key_that_cannot_be_sent(key: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(KEY_VARIABLE, key)
    with pytest.raises(ConfigError, match=KEY_VARIABLE) as caught:
        draw(engine_for("http://127.0.0.1:9/v1"), ask())
    assert "sk-" not in "".join(traceback.format_exception(caught.value)[-1:])


@pytest.mark.parametrize(
    "url",
    [
        *("", "localhost:8000/v1", "ftp://host/v1", "http://", "http://host:port/v1", "/v1"),
        *("http://user:secret@host/v1", "http://host/v1?key=secret", "http://host/v1#secret"),
    ],
)
def test_urls_that_cannot_work(url: str) -> None:
    with pytest.raises(ConfigError) as caught:
        ServerSettings(url)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("name", ["concurrency", "timeout_seconds", "attempts"])
def test_settings_that_cannot_work(name: str) -> None:
    with pytest.raises(ConfigError, match=f"{name} 0 must be positive"):
        engine_for("http://localhost:8000/v1", **{name: 0})


# --- many requests at once ----------------------------------------------------------------------


def test_the_concurrency_is_used_and_kept(serve: Callable[..., LocalServer]) -> None:
    together = threading.Barrier(8, timeout=5)  # opens when eight requests are in flight

    def behave(call: Call) -> Reply:
        together.wait()
        time.sleep(0.02)  # a ninth would be seen
        return answer_well(call)

    server = serve(behave)
    draw(engine_for(server, concurrency=8), *(ask(str(i)) for i in range(32)))
    assert server.most_in_flight == 8


def test_one_question_alone_uses_the_concurrency(serve: Callable[..., LocalServer]) -> None:
    together = threading.Barrier(8, timeout=5)

    def behave(call: Call) -> Reply:
        together.wait()
        time.sleep(0.02)
        return said(choice())

    server = serve(behave)
    one_by_one = SamplingParams(temperature=0.0)
    draw(engine_for(server, concurrency=8), ask(stop=32), params=one_by_one)
    assert server.most_in_flight == 8
    assert len(server.calls) == 32


class ManyRequests(Sequence[Request]):
    """A million requests, made when they are looked at."""

    def __init__(self) -> None:
        self.seen = 0

    def __len__(self) -> int:
        return 1_000_000

    def __getitem__(self, index: Any) -> Any:
        self.seen = max(self.seen, index + 1)
        return ask(str(index), text=str(index))


def test_a_million_requests_are_looked_at_as_they_are_sent(
    serve: Callable[..., LocalServer],
) -> None:
    server, requests = serve(), ManyRequests()
    answers = engine_for(server).respond(requests, PLAIN, 0)
    assert next(answers).rollouts
    assert len(server.calls) <= 8
    assert requests.seen == 8
    positions = [answered.position for answered in itertools.islice(answers, 200)]
    assert len(set(positions)) == 200
    assert len(server.calls) <= requests.seen <= 201 + 8
    answers.close()


def test_answers_are_yielded_as_they_come(serve: Callable[..., LocalServer]) -> None:
    server = serve(lambda call: HANG if call.fields["prompt"] == "slow" else answer_well(call))
    requests = [ask("slow", text="slow"), *(ask(str(i)) for i in range(50))]
    answers = engine_for(server).respond(requests, PLAIN, 0)
    assert {answered.position for answered in itertools.islice(answers, 50)} == set(range(1, 51))
    answers.close()


def unfinished_tasks() -> list[object]:
    gc.collect()
    tasks = [o for o in gc.get_objects() if issubclass(type(o), asyncio.Task)]
    return [task for task in tasks if not task.done()]


@pytest.mark.parametrize("way", ["close", "delete", "throw"])
def test_ending_early_leaves_nothing_behind(
    way: str, serve: Callable[..., LocalServer], caplog: pytest.LogCaptureFixture
) -> None:
    server = serve(lambda call: HANG if call.number > 0 else answer_well(call))
    engine = engine_for(server)
    answers = engine.respond([ask(str(i)) for i in range(100)], PLAIN, 0)
    next(answers)
    wait_for(lambda: server.in_flight >= 3)
    if way == "close":
        answers.close()
    elif way == "throw":
        with pytest.raises(KeyboardInterrupt):
            answers.throw(KeyboardInterrupt())
    del answers
    assert unfinished_tasks() == []
    wait_for(lambda: server.in_flight == 0)  # the connections are closed
    assert server.abandoned == len(server.calls) - 1
    assert caplog.text == ""
    server.behave = answer_well
    draw(engine, ask())


@pytest.mark.filterwarnings("error::ResourceWarning")
def test_connections_are_kept_for_a_run_and_closed_then(
    serve: Callable[..., LocalServer],
) -> None:
    server = serve()
    engine = engine_for(server)
    answers = engine.respond([ask(str(i)) for i in range(40)], PLAIN, 0)
    for _ in range(40):
        next(answers)
    assert 1 <= server.connections <= 4
    assert list(answers) == []
    wait_for(lambda: server.connections == 0)
    gc.collect()


def test_a_generator_never_begun(serve: Callable[..., LocalServer]) -> None:
    server = serve()
    engine_for(server).respond([ask()], PLAIN, 0).close()
    assert server.calls == []
    assert list(engine_for(server).respond([], PLAIN, 0)) == []


def test_in_a_notebook(serve: Callable[..., LocalServer]) -> None:
    server = serve(offer("tiny"))

    async def cell() -> list[list[Rollout]]:
        return draw(engine_for(server, model=""), ask(stop=3))

    assert len(asyncio.run(cell())[0]) == 3


def test_answers_come_in_while_the_caller_works(serve: Callable[..., LocalServer]) -> None:
    server = serve()
    answers = engine_for(server).respond([ask(str(i)) for i in range(8)], PLAIN, 0)
    next(answers)
    wait_for(lambda: len(server.calls) == 8)
    assert len(list(answers)) == 7


BEGINNING = """
import signal
import sys
from attrib.sampling.engine import Prompt, Request, SamplingParams
from attrib.sampling.server import ServerEngine, ServerSettings

signal.signal(signal.SIGINT, signal.default_int_handler)  # background jobs begin without it
engine = ServerEngine(ServerSettings(sys.argv[1], "tiny", concurrency=4))
requests = [Request(str(i), Prompt(None, "Q", ()), 0, 2) for i in range(99)]
answers = engine.respond(requests, SamplingParams(), 0)
"""
INTERRUPTED = """
try:
    for answered in answers:
        print(len(answered.rollouts), flush=True)
except KeyboardInterrupt:
    print("interrupted")
"""
LEFT_OPEN = """
print(len(next(answers).rollouts), flush=True)
"""


@pytest.mark.parametrize(("end", "printed"), [(INTERRUPTED, "interrupted\n"), (LEFT_OPEN, "")])
def test_a_process_ends_cleanly(
    end: str, printed: str, serve: Callable[..., LocalServer], tmp_path: Path
) -> None:
    server = serve(lambda call: HANG if call.number > 0 else answer_well(call))
    script = tmp_path / "script.py"
    script.write_text(BEGINNING + end)
    process = subprocess.Popen(
        [sys.executable, "-W", "always::ResourceWarning", script, server.url],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "2\n"
        if end is INTERRUPTED:
            wait_for(lambda: server.in_flight == 4)
            process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=10)
    finally:
        process.kill()
        process.wait()
    assert (out, err, process.returncode) == (printed, "", 0)
    wait_for(lambda: server.in_flight == 0)
    assert server.abandoned == len(server.calls) - 1
