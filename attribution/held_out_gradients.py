"""Gradients of held-out performance: what a step would have to move to answer other questions.

Performance on a held-out question is the summed probability of its accepted answers under teacher
forcing (`attribution.mass`), or the logarithm of it. Its gradient is taken of the mean over every
part of the questions, a relation, in forwards that share what prompts share; of single questions it
takes a pass each, so that only some of them are asked for one by one. Owns the file in which
gradients wait while the run they belong to goes on.
"""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from attrib.attribution.forest import Forest, plant
from attrib.attribution.groups import Group
from attrib.attribution.mass import accepted_targets
from attrib.attribution.policy import Policy
from attrib.attribution.projection import Projection
from attrib.data.questions import Question
from attrib.errors import StoreError, first_line
from attrib.progress import track
from attrib.sampling.engine import Engine
from attrib.sampling.responder import Responder

WHOLE_GRADIENTS = 3  # alive at once at most: the mean, a part's sum, and a forest's


class Target(StrEnum):
    """What is differentiated, of every held-out question."""

    LOG_PROBABILITY = "log-probability"
    """The logarithm of the summed probability of the accepted answers."""
    REWARD = "reward"
    """The sum itself: the expected reward of an answer, bounded from below."""


@dataclass(frozen=True, slots=True)
class HeldOut:
    """What gradients are taken of; a group holds the accepted answers of a question.

    Attributes:
        parts: all questions by relation, each once; no part is empty.
        single: those of which the gradient is taken one by one.
    """

    parts: Mapping[str, tuple[Group, ...]]
    single: Mapping[str, Group]

    @property
    def names(self) -> list[str]:
        """Return the names of the parts and of the single questions: the rows of gradients."""
        return [*self.parts, *self.single]

    @property
    def questions(self) -> int:
        """Return the number of questions."""
        return sum(len(groups) for groups in self.parts.values())


@dataclass(frozen=True, slots=True, eq=False)
class HeldOutGradients:
    """Gradients at one point of a run.

    Attributes:
        step: updates made before.
        projected_MD: of the M parts and single questions, in the order of `HeldOut.names`.
        mean: of the mean over all questions, of every trained weight, not projected.
    """

    step: int
    projected_MD: torch.Tensor
    mean: tuple[torch.Tensor, ...]


def as_group(responder: Responder[Engine], question: Question) -> Group:
    """Return a question's accepted answers, with every end, as completions."""
    targets = tuple(accepted_targets(responder, question))
    right = np.ones(len(targets), dtype=np.bool_)
    return Group(question.question_id, responder.prompt(question).token_ids, targets, right)


def performance(policy: Policy, forest: Forest, target: Target) -> torch.Tensor:
    """Return the performance on each question of a forest, with gradients, shape (groups,)."""
    logprob_K = policy.logprobs(forest, 1.0)
    found = []
    for targets in forest.targets:
        sums = [logprob_K[torch.from_numpy(target_T)].sum() for target_T in targets]
        found.append(torch.stack(sums).logsumexp(0))
    logprob_F = torch.stack(found)
    return logprob_F.exp() if target is Target.REWARD else logprob_F


def find_gradients(
    policy: Policy,
    held_out: HeldOut,
    target: Target,
    projection: Projection,
    step: int,
    at_once: int,
) -> HeldOutGradients:
    """Return the gradients under the policy as it is; it stays so.

    Args:
        policy: the model.
        held_out: what they are taken of.
        target: what is differentiated.
        projection: of what is kept of each part and question.
        step: updates made before.
        at_once: distinct tokens of one forward.
    """
    weights = list(policy.trained.values())
    mean = [torch.zeros_like(weight) for weight in weights]
    alone: dict[str, torch.Tensor] = {}  # projected gradients of single questions
    rows: list[torch.Tensor] = []
    with track("Taking held-out gradients", held_out.questions, "questions") as advance:

        def gradient_of(groups: Sequence[Group]) -> torch.Tensor:
            """Return the projected gradient of summed performance; add the whole to the mean."""
            whole: tuple[torch.Tensor, ...] = ()
            for forest in plant(sorted(groups, key=lambda group: group.prompt), at_once):
                total = performance(policy, forest, target).sum()
                gradient = torch.autograd.grad(total, weights, materialize_grads=True)
                if whole:
                    torch._foreach_add_(whole, gradient)
                else:
                    whole = gradient
                del gradient  # while the next one is made, there are two
                advance(len(forest.groups))
            torch._foreach_add_(mean, whole, alpha=1 / held_out.questions)
            return projection.project(whole)

        for group in held_out.single.values():
            alone[group.question_id] = gradient_of([group])
        for groups in held_out.parts.values():
            known = [alone[one.question_id] for one in groups if one.question_id in alone]
            others = [group for group in groups if group.question_id not in alone]
            found = [*known, gradient_of(others)] if others else known
            rows.append(torch.stack(found).sum(0) / len(groups))
    return HeldOutGradients(step, torch.stack([*rows, *alone.values()]), tuple(mean))


def save_gradients(path: Path, gradients: HeldOutGradients) -> None:
    """Write the gradients, replacing the file at `path` at once.

    Raises:
        StoreError: they cannot be written.
    """
    tensors = {f"mean.{place}": mean for place, mean in enumerate(gradients.mean)}
    partial = path.with_suffix(".partial")
    about = {"step": str(gradients.step)}
    try:
        save_file({"projected": gradients.projected_MD, **tensors}, partial, about)
        os.replace(partial, path)
    except (OSError, SafetensorError) as error:
        raise StoreError(
            f"The held-out gradients {path} cannot be written: {first_line(error)}. Free some "
            "space, then type the same command again."
        ) from error


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
