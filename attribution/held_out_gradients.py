"""Gradients of held-out performance: what a step would have to move to answer other questions.

Performance on a held-out question is the summed probability of its accepted answers under teacher
forcing (`attribution.mass`), or the logarithm of it. Owns one backward pass per question, and the
file in which they wait while the run they belong to goes on.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from attrib.attribution.forest import plant
from attrib.attribution.groups import Group
from attrib.attribution.mass import accepted_targets
from attrib.attribution.policy import Policy
from attrib.attribution.projection import Projection
from attrib.data.questions import Question
from attrib.progress import track
from attrib.sampling.engine import Engine
from attrib.sampling.responder import Responder


class Target(StrEnum):
    """What is differentiated, of every held-out question."""

    LOG_PROBABILITY = "log-probability"
    """The logarithm of the summed probability of the accepted answers."""
    REWARD = "reward"
    """The sum itself: the expected reward of an answer, bounded from below."""


@dataclass(frozen=True, slots=True, eq=False)
class HeldOutGradients:
    """Gradients at one point of a run.

    Attributes:
        step: updates made before.
        projected_QD: of every question, projected.
        mean: of the mean over questions, of every trained weight, not projected.
    """

    step: int
    projected_QD: torch.Tensor
    mean: tuple[torch.Tensor, ...]


def held_out_groups(responder: Responder[Engine], questions: Sequence[Question]) -> list[Group]:
    """Return for each question its accepted answers, with every end, as completions."""
    groups = []
    for question in questions:
        targets = tuple(accepted_targets(responder, question))
        right = np.ones(len(targets), dtype=np.bool_)
        prompt = responder.prompt(question).token_ids
        groups.append(Group(question.question_id, prompt, targets, right))
    return groups


def performance(policy: Policy, group: Group, target: Target) -> torch.Tensor:
    """Return the performance on one held-out question, a number with gradients."""
    [forest] = plant([group], 1)
    logprob_K = policy.logprobs(forest, 1.0)
    [targets] = forest.targets
    logprob_G = torch.stack([logprob_K[torch.from_numpy(target_T)].sum() for target_T in targets])
    found = logprob_G.logsumexp(0)
    return found.exp() if target is Target.REWARD else found


def find_gradients(
    policy: Policy, groups: Sequence[Group], target: Target, projection: Projection, step: int
) -> HeldOutGradients:
    """Return the gradients of all questions under the policy as it is; it stays so."""
    weights = list(policy.trained.values())
    mean = [torch.zeros_like(weight) for weight in weights]
    projected_QD = torch.empty(len(groups), projection.size, device=weights[0].device)
    with track("Held-out gradients", len(groups), "questions") as advance:
        for place, group in enumerate(groups):
            found = performance(policy, group, target)
            gradients = torch.autograd.grad(found, weights, materialize_grads=True)
            torch._foreach_add_(mean, gradients, alpha=1 / len(groups))
            projected_QD[place] = projection.project(gradients)
            advance(1)
    return HeldOutGradients(step, projected_QD, tuple(mean))


def save_gradients(path: Path, gradients: HeldOutGradients) -> None:
    """Write the gradients, replacing the file at `path` at once."""
    tensors = {f"mean.{place}": mean for place, mean in enumerate(gradients.mean)}
    partial = path.with_suffix(".partial")
    save_file(
        {"projected": gradients.projected_QD, **tensors}, partial, {"step": str(gradients.step)}
    )
    os.replace(partial, path)


def load_gradients(path: Path, weights: Sequence[torch.Tensor]) -> HeldOutGradients | None:
    """Return the gradients that lie at `path`, onto the weights' device; None without them."""
    try:
        with safe_open(path, framework="pt", device=str(weights[0].device)) as file:
            return HeldOutGradients(
                int(file.metadata()["step"]),
                file.get_tensor("projected"),
                tuple(file.get_tensor(f"mean.{place}") for place in range(len(weights))),
            )
    except (OSError, SafetensorError, KeyError, ValueError, TypeError):
        return None
