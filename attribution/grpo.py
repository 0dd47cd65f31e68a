"""The GRPO gradient of one question, on a prefix tree.

All rollouts of a question share its prompt, and many share prefixes or whole texts. Each distinct
token goes through the model once, and its log-probability is weighted by the sum of the weights of
the rollouts that pass through it: the gradient equals the one computed rollout by rollout.

Follows Shao et al. 2024 (arXiv 2402.03300): advantages normalised by group, token means per
rollout, then the mean over rollouts and groups. Strictly on-policy, one step per batch, so the
ratio is 1 and clipping does not act; no KL term. Completions merge by token ids, end token
included, never by text.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray

from attrib.sampling.engine import Rollout
from attrib.sampling.packed import forward_tree
from attrib.sampling.prefix_tree import build_prefix_tree

if TYPE_CHECKING:
    from transformers import PreTrainedModel

STD_OFFSET = 1e-4  # keeps the normalisation finite, as in TRL


@dataclass(frozen=True, slots=True)
class Group:
    """The graded rollouts of one visit to a question."""

    question_id: str
    prompt: tuple[int, ...]
    rollouts: tuple[Rollout, ...]
    correct_G: NDArray[np.bool_]

    @property
    def is_informative(self) -> bool:
        """Tell whether the group holds both a right and a wrong rollout, hence a gradient."""
        return bool(self.correct_G.any() and not self.correct_G.all())


@dataclass(frozen=True, slots=True)
class GroupGradient:
    """What one backward pass used."""

    loss: float
    tokens: int
    weight: float


def group_advantages(reward_G: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return (reward - mean) / (std + 1e-4), with the sample standard deviation (ddof 1).

    Source: arXiv 2402.03300, section 4.1.2; a single rollout or equal rewards give zeros.
    """
    if len(reward_G) < 2:
        return np.zeros(len(reward_G))
    spread = float(reward_G.std(ddof=1)) + STD_OFFSET
    return np.asarray((reward_G - reward_G.mean()) / spread, dtype=np.float64)


def rollout_weights(group: Group) -> NDArray[np.float64]:
    """Return each rollout's weight on its token log-probabilities: advantage / (G · length)."""
    length_G = np.array([len(rollout.token_ids) for rollout in group.rollouts])
    advantage_G = group_advantages(group.correct_G.astype(np.float64))
    return np.asarray(advantage_G / (len(length_G) * length_G), dtype=np.float64)


def group_loss(
    module: "PreTrainedModel",
    prompt: Sequence[int],
    completions: Sequence[Sequence[int]],
    weight_G: NDArray[np.float64],
    temperature: float = 1.0,
) -> tuple[torch.Tensor, int]:
    """Return -Σ_g weight_g Σ_t log π(token) over all completions of one prompt.

    Args:
        module: the policy; gradients flow into its parameters.
        prompt: token ids, at least one.
        completions: G sequences of token ids, end token included.
        weight_G: weight of every token of a completion, shape (G,).
        temperature: of the policy the completions were drawn from.

    Returns:
        the loss (scalar tensor), and the number of distinct tokens that carry it.
    """
    tree = build_prefix_tree([[*prompt, *completion] for completion in completions])
    weight_N = np.zeros(len(tree.token_N))
    for path, weight in zip(tree.paths, weight_G, strict=True):
        weight_N[path[len(prompt) :]] += weight
    node_K = np.flatnonzero(weight_N)
    predictor_P, predictor_K = np.unique(tree.parent_N[node_K], return_inverse=True)
    logits_PV = forward_tree(module, tree, predictor_P) / temperature

    row_K = torch.from_numpy(predictor_K.reshape(-1)).to(logits_PV.device)
    token_K = torch.from_numpy(tree.token_N[node_K]).to(logits_PV.device)
    logprob_K = logits_PV[row_K, token_K] - logits_PV.logsumexp(-1)[row_K]
    weight_K = torch.from_numpy(weight_N[node_K]).to(logprob_K)
    return -(weight_K * logprob_K).sum(), len(node_K)


def accumulate_gradient(
    module: "PreTrainedModel", group: Group, groups: int, temperature: float
) -> GroupGradient:
    """Add the gradient of one informative group out of `groups` to the parameters' `.grad`."""
    weight_G = rollout_weights(group) / groups
    completions = [rollout.token_ids for rollout in group.rollouts]
    loss, tokens = group_loss(module, group.prompt, completions, weight_G, temperature)
    loss.backward()  # type: ignore[no-untyped-call]
    length_G = np.array([len(completion) for completion in completions])
    return GroupGradient(float(loss.detach()), tokens, float((np.abs(weight_G) * length_G).sum()))
