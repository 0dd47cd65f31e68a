"""Scores of visits against torch.autograd written out plainly, sequence by sequence."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import polars as pl
import pytest
import torch
from scipy.stats import pearsonr

from attrib.attribution.arms import Arm
from attrib.attribution.attribute import AttributeSettings, attribute, find_arms_of
from attrib.attribution.held_out_gradients import Target, find_gradients, performance
from attrib.attribution.policy import Policy
from attrib.attribution.projection import Projection
from attrib.attribution.score_methods import ScoreMethod
from attrib.errors import ConfigError, DataError, TrainingError
from attrib.store import Store

if TYPE_CHECKING:
    from attrib.attribution.groups import Group

PROMPT = (4, 7, 9)
ANSWERS = ((11, 3), (12, 13, 3))


def plain_logprob(module: torch.nn.Module, prompt: tuple[int, ...], answer: tuple[int, ...]):
    """Return log π of an answer, in one plain forward of its own."""
    logits = module(input_ids=torch.tensor([[*prompt, *answer]])).logits[0].log_softmax(-1)
    return sum(logits[len(prompt) - 1 + i, token] for i, token in enumerate(answer))


@pytest.mark.parametrize("target", list(Target))
def test_held_out_performance_is_that_of_plain_passes(
    target: Target,
    tiny_llama: Callable[..., torch.nn.Module],
    make_policy: Callable[..., Policy],
    make_group: Callable[..., "Group"],
) -> None:
    policy = make_policy(tiny_llama(seed=3))
    group = make_group(PROMPT, *((answer, True) for answer in ANSWERS), name="held-out")
    weights = list(policy.trained.values())
    probability = sum(plain_logprob(policy.module, PROMPT, answer).exp() for answer in ANSWERS)
    expected = probability if target is Target.REWARD else probability.log()
    assert float(performance(policy, group, target)) == pytest.approx(float(expected), rel=1e-5)
    plain = torch.autograd.grad(expected, weights, materialize_grads=True)
    found = find_gradients(policy, [group, group], target, Projection(policy.trained, 0), 0)
    largest = max(float(gradient.abs().max()) for gradient in plain)
    flat = torch.cat([gradient.reshape(-1) for gradient in plain])
    for place in range(2):
        assert torch.allclose(found.projected_QD[place], flat, atol=1e-4 * largest)
    for mean, gradient in zip(found.mean, plain, strict=True):
        assert torch.allclose(mean, gradient, atol=1e-4 * largest)
