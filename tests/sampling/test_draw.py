"""One draw follows the distribution, and never takes what has no probability."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import stats
from transformers import (
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from attrib.errors import ModelError
from attrib.sampling import draw as draw_module
from attrib.sampling.draw import draw_tokens
from attrib.sampling.engine import SamplingParams
from attrib.sampling.randomness import UNIFORMS_PER_DRAW, UniformStream

LARGEST_UNIFORM = 1 - 2.0**-53

ChiSquare = Callable[..., float]


def draw(logits: NDArray[np.float64], n: int, **params: float) -> NDArray[np.int64]:
    uniform_RL = UniformStream(8, f"{len(logits)}").draw(0, 0, n)
    logits_NV = torch.tensor(logits[None], dtype=torch.float32)
    node_R = np.zeros(n, dtype=np.int64)
    return draw_tokens(logits_NV, node_R, uniform_RL, SamplingParams(**params)).token_R


def warp(logits: NDArray[np.float64], temperature: float, top_k: int, top_p: float) -> NDArray:
    """Return the distribution that transformers would draw from."""
    scores = torch.tensor(logits[None], dtype=torch.float64)
    scores = TemperatureLogitsWarper(temperature)(None, scores)
    if top_k:
        scores = TopKLogitsWarper(top_k)(None, scores)
    if top_p < 1:
        scores = TopPLogitsWarper(top_p)(None, scores)
    return scores.softmax(-1)[0].numpy()


@pytest.mark.parametrize("temperature", [1.0, 0.5, 2.0])
@pytest.mark.parametrize("vocabulary", [1, 2, 3, 4, 5, 7, 1000])
def test_draws_follow_the_softmax(
    vocabulary: int, temperature: float, chi_square: ChiSquare
) -> None:
    logits = np.random.default_rng(vocabulary).normal(0, 1.5, vocabulary)
    n = 40_000
    tokens = draw(logits, n, temperature=temperature)
    p = np.exp(logits / temperature) / np.exp(logits / temperature).sum()
    assert tokens.min() >= 0
    assert chi_square(np.bincount(tokens, minlength=vocabulary).astype(float), n * p) > 1e-4


@pytest.mark.parametrize("top_k", [0, 1, 5, 40, 5000])
@pytest.mark.parametrize("top_p", [1.0, 0.95, 0.6, 1e-6])
@pytest.mark.parametrize("temperature", [1.0, 0.6])
def test_truncated_draws_follow_transformers(
    temperature: float, top_p: float, top_k: int, chi_square: ChiSquare
) -> None:
    logits = np.random.default_rng(3).normal(0, 1.5, 1000)
    n = 20_000
    tokens = draw(logits, n, temperature=temperature, top_p=top_p, top_k=top_k)
    wanted = warp(logits, temperature, top_k, top_p)
    assert chi_square(np.bincount(tokens, minlength=1000).astype(float), n * wanted) > 1e-4


def test_a_nucleus_wider_than_the_first_look() -> None:
    """A flat distribution: the smallest set with 90 % of 1,000 tokens holds 900."""
    logits = np.linspace(0.0, 1e-3, 1000)
    tokens = draw(logits, 60_000, top_p=0.9)
    assert tokens.min() == 1000 - len(set(tokens))
    assert 899 <= len(set(tokens)) <= 901


def test_rows_are_drawn_in_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    logits_NV = torch.tensor(rng.normal(size=(9, 50)), dtype=torch.float32)
    node_R = np.sort(rng.integers(0, 9, 200))
    uniform_RL = UniformStream(0, "q").draw(0, 0, 200)
    whole = draw_tokens(logits_NV, node_R, uniform_RL, SamplingParams())
    monkeypatch.setattr(draw_module, "ROWS_AT_ONCE", 2)
    blocks = draw_tokens(logits_NV, node_R, uniform_RL, SamplingParams())
    assert whole.token_R.tolist() == blocks.token_R.tolist()
    assert np.allclose(whole.logprob_R, blocks.logprob_R)
    expected = logits_NV.log_softmax(-1)[node_R, whole.token_R].numpy()
    assert np.allclose(whole.logprob_R, expected, atol=1e-5)


def test_each_rollout_draws_from_its_own_node() -> None:
    logits_NV = torch.full((3, 5), -torch.inf)
    logits_NV[[0, 1, 2], [4, 0, 3]] = 0.0
    node_R = np.array([0, 0, 1, 1, 2])
    uniform_RL = UniformStream(0, "q").draw(0, 0, 5)
    for temperature in (0.0, 0.3, 1.0):
        draws = draw_tokens(logits_NV, node_R, uniform_RL, SamplingParams(temperature))
        assert draws.token_R.tolist() == [4, 4, 0, 0, 3]
        assert np.allclose(draws.logprob_R, 0.0)


@pytest.mark.parametrize("params", [{"temperature": 0.5}, {"top_k": 2}, {"top_p": 0.5}])
def test_the_logprob_is_that_of_the_whole_distribution(params: dict[str, float]) -> None:
    logits = np.array([1.0, 2.0, 0.5, -1.0])
    uniform_RL = UniformStream(0, "q").draw(0, 0, 100)
    node_R = np.zeros(100, dtype=np.int64)
    logits_NV = torch.tensor(logits[None], dtype=torch.float32)
    draws = draw_tokens(logits_NV, node_R, uniform_RL, SamplingParams(**params))
    expected = logits - np.log(np.exp(logits).sum())
    assert np.allclose(draws.logprob_R, expected[draws.token_R], atol=1e-6)


@given(
    logits=st.lists(
        st.one_of(st.floats(-200, 200, width=32), st.just(-np.inf), st.just(1e4), st.just(-1e4)),
        min_size=1,
        max_size=40,
    ).filter(lambda values: max(values) > -np.inf),
    edges=st.lists(
        st.sampled_from([0.0, 0.5, LARGEST_UNIFORM, 0.25]),
        min_size=UNIFORMS_PER_DRAW,
        max_size=UNIFORMS_PER_DRAW,
    ),
    temperature=st.sampled_from([1.0, 0.01, 1e-30, 3.0]),
)
def test_tokens_without_probability_are_never_drawn(
    logits: list[float], edges: list[float], temperature: float
) -> None:
    logits_NV = torch.tensor([logits], dtype=torch.float32)
    uniform_RL = np.concatenate([[edges], UniformStream(0, "q").draw(0, 0, 63)])
    node_R = np.zeros(64, dtype=np.int64)
    params = SamplingParams(temperature)
    tokens = draw_tokens(logits_NV, node_R, uniform_RL, params).token_R
    assert tokens.max() < len(logits)
    drawn = np.array(logits)[tokens]
    assert (drawn > -np.inf).all()
    assert ((max(logits) - drawn) / temperature < 120).all(), "e^-120 is no float32 above zero"


@pytest.mark.parametrize("temperature", [0.0, 1.0])
@pytest.mark.parametrize("logits", [[0.0, np.nan], [-np.inf, -np.inf], [np.inf, 0.0]])
def test_logits_that_are_no_distribution_are_refused(
    logits: list[float], temperature: float
) -> None:
    with pytest.raises(ModelError, match="not finite"):
        draw(np.array(logits), 4, temperature=temperature)


def test_the_smallest_temperature_is_greedy() -> None:
    assert set(draw(np.array([-20.0, 20.0, 19.0]), 100, temperature=1e-38)) == {1}


def test_extreme_logits() -> None:
    assert set(draw(np.array([0.0, 1e4, -np.inf, -1e4]), 500)) == {1}
    balanced = draw(np.array([1e4, -np.inf, 1e4]), 4000)
    assert set(balanced) == {0, 2}
    assert stats.binomtest(int((balanced == 0).sum()), 4000).pvalue > 1e-3
