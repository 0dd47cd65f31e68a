"""The mass of phrasings: against every response there can be, and which of them are kept."""

from collections.abc import Callable
from itertools import product
from types import SimpleNamespace

import numpy as np
import polars as pl
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import LlamaForCausalLM

from attrib.attribution.mass import measure_masses
from attrib.attribution.phrasings import COMMON, disjoint, find_phrasings, read_phrasings
from attrib.attribution.policy import Policy
from attrib.data.questions import AnswerType, Question, Split
from attrib.sampling.engine import SamplingParams
from attrib.store import Store

END, VOCABULARY, LIMIT = 3, 7, 4
PROMPT = (4, 5)
QUESTION = Question("q", "d", Split.HELD_OUT, "?", ("a", "b"), AnswerType.NAME, None, None, "f",
                    None)  # fmt: skip
# Accepted answers as they are written down; the second cannot be said within the limit.
ANSWERS = {"a": (5, END), "b": (6, 5, 6, 5, END)}
RESPONDER = SimpleNamespace(
    targets=lambda answer: [ANSWERS[answer]],
    prompt=lambda question: SimpleNamespace(token_ids=PROMPT),
    sampling=SamplingParams(max_new_tokens=LIMIT, end_token_ids=frozenset({END})),
)


def list_responses() -> list[tuple[int, ...]]:
    """Return every response there can be: ended by the end token, or cut off at the limit."""
    others = [token for token in range(VOCABULARY) if token != END]
    ended = [(*body, END) for n in range(LIMIT) for body in product(others, repeat=n)]
    return [*ended, *product(others, repeat=LIMIT)]


@torch.no_grad()
def chances(module: LlamaForCausalLM) -> dict[tuple[int, ...], float]:
    """Return the probability of every response, one at a time."""
    found = {}
    for response in list_responses():
        logits = module(torch.tensor([[*PROMPT, *response]])).logits[0, len(PROMPT) - 1 : -1]
        logprob_T = logits.double().log_softmax(1)[range(len(response)), list(response)]
        found[response] = float(logprob_T.sum().exp())
    return found


@pytest.fixture(scope="module")
def model(tiny_llama: Callable[..., LlamaForCausalLM]) -> LlamaForCausalLM:
    return tiny_llama(1, VOCABULARY)


@pytest.fixture(scope="module")
def chance_of(model: LlamaForCausalLM) -> dict[tuple[int, ...], float]:
    return chances(model)


def measure(
    model: LlamaForCausalLM,
    make_policy: Callable[..., Policy],
    heard: list[tuple[int, ...]] | None,
) -> dict[str, float]:
    phrasings = None if heard is None else {"q": heard}
    frame = measure_masses(make_policy(model), RESPONDER, [QUESTION], "arm", None, phrasings)  # type: ignore[arg-type]
    return frame.row(0, named=True)


def test_the_mass_is_that_of_the_responses_it_names(
    model: LlamaForCausalLM,
    chance_of: dict[tuple[int, ...], float],
    make_policy: Callable[..., Policy],
) -> None:
    """Every response is listed, so that right ones can be chosen at will and summed."""
    assert sum(chance_of.values()) == pytest.approx(1.0)
    generator = np.random.default_rng(0)
    order = generator.permutation(len(chance_of))
    responses = list(chance_of)
    heard = [responses[place] for place in order[:60]]
    right = {*heard, ANSWERS["a"]}
    row = measure(model, make_policy, heard)
    assert row["mass_found"] == pytest.approx(sum(chance_of[one] for one in right), rel=1e-4)
    assert measure(model, make_policy, [])["mass_found"] == pytest.approx(chance_of[ANSWERS["a"]])
    assert measure(model, make_policy, responses)["mass_found"] == pytest.approx(1.0, abs=1e-5)


def test_what_begins_another_is_counted_once(
    model: LlamaForCausalLM,
    chance_of: dict[tuple[int, ...], float],
    make_policy: Callable[..., Policy],
) -> None:
    """The answer `b` goes on where a response was cut off: the latter's mass holds both."""
    cut = ANSWERS["b"][:LIMIT]
    row = measure(model, make_policy, [cut, cut, ANSWERS["a"]])
    assert row["mass_found"] == pytest.approx(chance_of[cut] + chance_of[ANSWERS["a"]], rel=1e-4)


def test_nothing_was_listened_for(
    model: LlamaForCausalLM, make_policy: Callable[..., Policy]
) -> None:
    silent, heard = measure(model, make_policy, None), measure(model, make_policy, [(6, END)])
    assert silent["mass_found"] is None
    for name in ("mass_low", "logprob", "greedy_rank"):
        assert silent[name] == pytest.approx(heard[name], rel=1e-5)


TOKENS = st.lists(st.integers(0, 2), min_size=1, max_size=5).map(tuple)


@given(st.lists(TOKENS, max_size=12), st.integers(1, 5))
def test_kept_sequences_exclude_each_other_and_leave_nothing_out(
    sequences: list[tuple[int, ...]], limit: int
) -> None:
    kept = [sequences[place] for place in disjoint(sequences, limit)]
    assert len(kept) == len(set(kept))
    for one in kept:
        assert not any(one != other and one[: len(other)] == other for other in kept)
    for one in sequences:
        if len(one) <= limit:
            assert any(one[: len(other)] == other for other in kept)
    # As events: the share of all continuations that begin with one of them.
    every = list(product(range(3), repeat=5))
    within = [one for one in sequences if len(one) <= limit]
    want = sum(any(e[: len(one)] == one for one in within) for e in every)
    assert sum(3 ** (5 - len(one)) for one in kept) == want


def test_the_most_frequent_right_ones_are_read_back(open_store: Callable[..., Store]) -> None:
    store = open_store()
    said = [((1, 3), "correct", 2), ((1, 2, 3), "correct", 5), ((2, 3), "incorrect", 9)]
    many = [((5, place), "correct", 1) for place in range(COMMON)]
    rows = [
        {"question_id": "q", "decoding": "sample", "verdict": verdict, "token_ids": list(tokens)}
        for tokens, verdict, times in [*said, *many]
        for _ in range(times)
    ]
    vote = {"question_id": "q", "decoding": "majority", "verdict": "correct", "token_ids": None}
    heard = find_phrasings(pl.DataFrame([*rows, vote]))
    assert heard["times"].sum() == 7 + COMMON
    place = {"experiment_id": "e", "arm_id": "base", "subset": "none", "role": "base"}
    with store.writing("test"), store.transaction() as batch:
        batch.append("phrasings", heard.with_columns(arm_id=pl.lit("base")))
        batch.append("arm_roles", pl.DataFrame([place]))
    found = read_phrasings(store, "e", "s", "match-0", ["q"])["q"]
    assert list(found[:3]) == [(1, 2, 3), (1, 3), (5, 0)]
    assert len(found) == COMMON
    assert read_phrasings(store, "other", "s", "match-0", ["q"]) == {}
