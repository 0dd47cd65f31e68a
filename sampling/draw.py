"""Drawing tokens from logits, so that rounding hardly ever changes a draw.

A draw walks down a binary tree over the vocabulary: at every halving the two halves' probability
sums decide, with a fresh uniform. Rounding of the logits then moves a boundary by its relative
error once per halving; an inverse CDF in vocabulary order would add up the errors of thousands of
tokens.

Temperature, top-k and top-p are applied in this order, as transformers and vLLM do; tokens as
probable as the last one kept are kept too.
"""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from attrib.errors import ModelError
from attrib.sampling.engine import SamplingParams

ROWS_AT_ONCE = 32  # what is computed of so many distributions stays in the processor's cache
FIRST_LOOK = 256  # most nuclei are smaller; larger ones cost a sort of the vocabulary


@dataclass(frozen=True, slots=True)
class Draws:
    """One token for each of R rollouts, and its log-probability at temperature 1."""

    token_R: NDArray[np.int64]
    logprob_R: NDArray[np.float64]


def draw_tokens(
    logits_NV: torch.Tensor,
    node_R: NDArray[np.int64],
    uniform_RL: NDArray[np.float64],
    params: SamplingParams,
) -> Draws:
    """Draw one token for each rollout from the distribution of its node.

    Args:
        logits_NV: of N nodes; any float type.
        node_R: the node of every rollout, ascending.
        uniform_RL: in [0, 1), one for every halving of the vocabulary.
        params: temperature, top-k and top-p.

    Raises:
        ModelError: a node has no distribution.
    """
    draws = []
    for first in range(0, len(logits_NV), ROWS_AT_ONCE):
        rows = slice(*np.searchsorted(node_R, [first, first + ROWS_AT_ONCE]))
        draws.append(
            _draw_from(
                logits_NV[first : first + ROWS_AT_ONCE].float(),
                torch.from_numpy(node_R[rows] - first).to(logits_NV.device),
                torch.from_numpy(uniform_RL[rows]).to(logits_NV.device),
                params,
            )
        )
    return Draws(
        np.concatenate([token.cpu().numpy() for token, _ in draws]),
        np.concatenate([logprob.cpu().numpy() for _, logprob in draws]),
    )


def _draw_from(
    logits_NV: torch.Tensor, node_R: torch.Tensor, uniform_RL: torch.Tensor, params: SamplingParams
) -> tuple[torch.Tensor, torch.Tensor]:
    best = logits_NV.max(-1, keepdim=True)
    shifted_NV = logits_NV - best.values
    if params.temperature == 0.0:
        token_R = best.indices[node_R, 0]
        total_N = shifted_NV.exp().sum(-1)
    elif params.is_plain:
        levels = _halvings(shifted_NV.exp())
        token_R = _descend(levels, node_R, uniform_RL)
        total_N = levels[-1][:, 0]
    else:
        weight_NV = (shifted_NV / params.temperature).exp_()
        levels = _halvings(_keep_top(weight_NV, params))
        token_R = _descend(levels, node_R, uniform_RL)
        total_N = shifted_NV.exp().sum(-1)
    if not bool(total_N.isfinite().all()):
        raise ModelError(
            "The model's probabilities are not finite: its weights are damaged, or their precision "
            "is too low."
        )
    return token_R, (shifted_NV[node_R, token_R] - total_N.log()[node_R]).double()


def _keep_top(weight_NV: torch.Tensor, params: SamplingParams) -> torch.Tensor:
    """Set the weights outside the top-k tokens, then outside the nucleus, to zero in place."""
    vocabulary = weight_NV.shape[1]
    if 0 < params.top_k < vocabulary:
        least = weight_NV.topk(params.top_k, dim=-1).values[:, -1:]
        weight_NV.masked_fill_(weight_NV < least, 0.0)
    if params.top_p < 1.0:
        mass = params.top_p * weight_NV.sum(-1, keepdim=True)
        top = weight_NV.topk(min(FIRST_LOOK, vocabulary), dim=-1).values
        if bool((top.sum(-1, keepdim=True) < mass).any()):
            top = weight_NV.sort(dim=-1, descending=True).values
        before = top.cumsum(-1) - top  # a token is kept while those before it fall short
        kept = (before < mass).sum(-1, keepdim=True)
        weight_NV.masked_fill_(weight_NV < top.gather(-1, kept - 1), 0.0)
    return weight_NV


def _halvings(weight_NV: torch.Tensor) -> list[torch.Tensor]:
    """Return the binary tree's levels: entry i of the next level sums entries i and i + half."""
    levels = [weight_NV]
    while (size := levels[-1].shape[1]) > 1:
        half = (size + 1) // 2
        last = levels[-1]
        sums = last[:, :half].clone() if size % 2 else last[:, :half] + last[:, half:]
        if size % 2:
            sums[:, : half - 1] += last[:, half:]
        levels.append(sums)
    return levels


def _descend(
    levels: list[torch.Tensor], node_R: torch.Tensor, uniform_RL: torch.Tensor
) -> torch.Tensor:
    """Walk from the total to a token, one uniform for each level."""
    place_R = torch.zeros_like(node_R)
    for step, level in enumerate(reversed(levels[:-1])):
        size = level.shape[1]
        other_R = place_R + (size + 1) // 2
        left_R = level[node_R, place_R].double()
        right_R = level[node_R, other_R.clamp(max=size - 1)].double() * (other_R < size)
        goes_right = (uniform_RL[:, step] * (left_R + right_R) >= left_R) & (right_R > 0)
        place_R = torch.where(goes_right, other_R, place_R)
    return place_R
