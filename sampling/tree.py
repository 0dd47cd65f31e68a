"""Exact tree sampling: n independent rollouts, one model row per distinct prefix.

Rollouts of one prompt share prefixes. This sampler keeps one node per distinct prefix, routes each
node's rollouts to child tokens drawn from p(·|prefix), and runs the model once per new node; the
keys and values of prompts and prefixes are held once. The completions are exactly n independent
draws from the model: merging saves work, it does not couple rollouts.

A draw walks down a binary tree over the vocabulary: at every halving the two halves' probability
sums decide, with a fresh uniform. Rounding of the logits then moves a boundary by its relative
error once per halving; an inverse CDF in vocabulary order would add up the errors of thousands of
tokens.

Which models this is exact for is checked in `attrib.sampling.packed`.
"""

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import DynamicCache

from attrib.errors import ConfigError, ModelError
from attrib.sampling.packed import check_reach, forward_nodes
from attrib.sampling.prefix_tree import build_prefix_tree
from attrib.sampling.randomness import UniformStream

if TYPE_CHECKING:
    from transformers import PreTrainedModel

DEFAULT_LIVE_ROLLOUTS = 128  # rollouts in flight: bounds the rows, and the logits, of a step
MAX_PACKED_PROMPT_TOKENS = 4096  # bounds the ancestor mask of a forest's prompts


class FinishReason(StrEnum):
    """Why a rollout ended."""

    STOP = "stop"
    """The model ended its response."""
    LENGTH = "length"
    """The limit on new tokens cut it off."""
    ERROR = "error"
    """The engine failed; there is no text to grade."""


@dataclass(frozen=True, slots=True)
class Request:
    """Rollouts `first` … `stop`-1 of one prompt.

    `stream` names the randomness: the same seed, stream and rollout index give the same rollout.
    """

    stream: str
    prompt: tuple[int, ...]
    first: int
    stop: int

    def __post_init__(self) -> None:
        """Every request has a prompt and asks for something, so that each gives rollouts."""
        assert self.prompt
        assert 0 <= self.first < self.stop

    @property
    def count(self) -> int:
        """Return how many rollouts are asked for."""
        return self.stop - self.first


@dataclass(frozen=True, slots=True)
class Rollout:
    """One completion: its tokens, end token included; log-probability at temperature 1."""

    index: int
    token_ids: tuple[int, ...]
    logprob: float
    finish_reason: FinishReason


@dataclass(frozen=True, slots=True)
class SamplingParams:
    """What changes the distribution. Temperature 0 is greedy decoding."""

    temperature: float = 1.0
    max_new_tokens: int = 12
    end_token_ids: frozenset[int] = frozenset()

    def __post_init__(self) -> None:
        """Refuse values without a meaning."""
        if not 0.0 <= self.temperature < float("inf"):
            raise ConfigError(f"temperature {self.temperature} must be 0 (greedy) or positive.")
        if self.max_new_tokens < 1:
            raise ConfigError(f"max_new_tokens {self.max_new_tokens} must be at least 1.")


@dataclass(frozen=True, slots=True)
class _Piece:
    """A request, or a part of one that fits the limit on rollouts in flight."""

    owner: int
    request: Request


def sample(
    module: "PreTrainedModel",
    requests: Sequence[Request],
    params: SamplingParams,
    seed: int,
    max_live_rollouts: int = DEFAULT_LIVE_ROLLOUTS,
) -> Iterator[list[Rollout]]:
    """Yield the rollouts of each request, in the order of the requests.

    Requests are packed into one forest while at most `max_live_rollouts` rollouts are in flight; a
    larger request is split. Neither changes a rollout.

    Raises:
        ModelError: a sequence could outgrow the model's attention window; nothing was drawn.
    """
    longest = max((len(request.prompt) for request in requests), default=0)
    check_reach(module, longest + params.max_new_tokens - 1)  # the last token is not fed back
    batches = _pack(requests, max_live_rollouts)
    owed = Counter(piece.owner for batch in batches for piece in batch)
    drawn: dict[int, list[Rollout]] = defaultdict(list)
    for batch in batches:
        forest = _sample_forest(module, [piece.request for piece in batch], params, seed)
        for piece, rollouts in zip(batch, forest, strict=True):
            drawn[piece.owner] += rollouts
            owed[piece.owner] -= 1
            if not owed[piece.owner]:
                yield drawn.pop(piece.owner)


@torch.inference_mode()
def _sample_forest(
    module: "PreTrainedModel", requests: Sequence[Request], params: SamplingParams, seed: int
) -> list[list[Rollout]]:
    """Draw all rollouts of `requests` in one forest, level by level.

    Array axes: N live nodes, R rollouts still growing, S slots of the key-value cache.
    """
    cache = DynamicCache()
    tree = build_prefix_tree([request.prompt for request in requests])
    logits_NV = forward_nodes(
        module, tree.token_N, tree.depth_N, tree.visible_NN(), tree.leaf_Q, cache
    )
    visible_NS = tree.visible_NN()[tree.leaf_Q]
    length_N = np.array([len(request.prompt) for request in requests])

    streams = [UniformStream(seed, request.stream) for request in requests]
    counts = [request.count for request in requests]
    node_R = np.repeat(np.arange(len(requests)), counts)  # at depth 0 the node is the prompt
    slot_R = np.arange(sum(counts))  # where a rollout's tokens are collected
    tokens: list[list[int]] = [[] for _ in slot_R]
    logprob_R = np.zeros(len(slot_R))
    reasons = [FinishReason.LENGTH] * len(slot_R)
    ends = np.array(sorted(params.end_token_ids), dtype=np.int64)

    for depth in range(params.max_new_tokens):
        uniform_RL = np.concatenate(
            [s.draw(depth, r.first, r.stop) for s, r in zip(streams, requests, strict=True)]
        )[slot_R]
        token_R = _draw_tokens(logits_NV, node_R, uniform_RL, params.temperature)
        logprob_R[slot_R] += _logprobs(logits_NV, node_R, token_R)
        for slot, token in zip(slot_R, token_R, strict=True):
            tokens[slot].append(int(token))

        ended_R = np.isin(token_R, ends)
        for slot in slot_R[ended_R]:
            reasons[slot] = FinishReason.STOP
        node_R, slot_R, token_R = node_R[~ended_R], slot_R[~ended_R], token_R[~ended_R]
        if depth + 1 == params.max_new_tokens or len(slot_R) == 0:
            break

        children, node_R = np.unique(
            np.stack([node_R, token_R], axis=1), axis=0, return_inverse=True
        )
        node_R = node_R.reshape(-1)
        parent_N, child_token_N = children[:, 0], children[:, 1]
        nodes = len(children)
        visible_NS = np.concatenate([visible_NS[parent_N], np.eye(nodes, dtype=np.bool_)], axis=1)
        # A level's slots are seen only by descendants, so older rows are never widened: each row of
        # `visible_NS` belongs to a live node, and live nodes are always the newest level.
        depth_N = length_N[parent_N]
        length_N = depth_N + 1
        logits_NV = forward_nodes(
            module, child_token_N, depth_N, visible_NS, np.arange(nodes), cache
        )

    slots = iter(range(sum(counts)))
    return [
        [
            Rollout(index, tuple(tokens[slot]), float(logprob_R[slot]), reasons[slot])
            for index, slot in zip(range(request.first, request.stop), slots, strict=False)
        ]
        for request in requests
    ]


def _draw_tokens(
    logits_NV: torch.Tensor,
    node_R: NDArray[np.int64],
    uniform_RL: NDArray[np.float64],
    temperature: float,
) -> NDArray[np.int64]:
    """Draw one token for each rollout from its node's distribution, shape (R,).

    Each level of the binary tree pairs entry i with entry i + half; the sums of the pairs are the
    next level. The walk starts at the single total and takes one uniform per level.

    Raises:
        ModelError: a node has no distribution.
    """
    if temperature == 0.0:
        best = logits_NV.max(-1)
        _require_finite(best.values, temperature)
        greedy: NDArray[np.int64] = best.indices.cpu().numpy()
        return greedy[node_R]
    levels = [(logits_NV / temperature).softmax(-1)]
    while (size := levels[-1].shape[1]) > 1:
        half = (size + 1) // 2
        sums = levels[-1][:, :half].clone()
        sums[:, : size - half] += levels[-1][:, half:]
        levels.append(sums)
    _require_finite(levels[-1], temperature)

    node = torch.from_numpy(node_R).to(logits_NV.device)
    uniform = torch.from_numpy(uniform_RL).to(logits_NV.device)
    place = torch.zeros_like(node)
    for step, level in enumerate(reversed(levels[:-1])):
        size = level.shape[1]
        other = place + (size + 1) // 2
        left = level[node, place].double()
        right = level[node, other.clamp(max=size - 1)].double() * (other < size)
        go_right = (uniform[:, step] * (left + right) >= left) & (right > 0)
        place = torch.where(go_right, other, place)
    return place.cpu().numpy()


def _require_finite(values: torch.Tensor, temperature: float) -> None:
    """Refuse to draw from what is no distribution: the draw would be a token all the same."""
    if not bool(values.isfinite().all()):
        raise ModelError(
            f"The model's probabilities are not finite at temperature {temperature}: its weights "
            "are damaged, or the temperature is too low."
        )


def _logprobs(
    logits_NV: torch.Tensor, node_R: NDArray[np.int64], token_R: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Return log p(token | prefix) at temperature 1 of each rollout's token, shape (R,)."""
    node = torch.from_numpy(node_R).to(logits_NV.device)
    token = torch.from_numpy(token_R).to(logits_NV.device)
    logprob = logits_NV[node, token] - logits_NV.logsumexp(-1)[node]
    return logprob.double().cpu().numpy()


def _pack(requests: Sequence[Request], max_live_rollouts: int) -> list[list[_Piece]]:
    """Split large requests and group small ones, keeping their order."""
    pieces = [
        _Piece(
            owner, replace(request, first=first, stop=min(first + max_live_rollouts, request.stop))
        )
        for owner, request in enumerate(requests)
        for first in range(request.first, request.stop, max_live_rollouts)
    ]
    batches: list[list[_Piece]] = []
    live, prompt_tokens = 0, 0
    for piece in pieces:
        live += piece.request.count
        prompt_tokens += len(piece.request.prompt)
        if not batches or live > max_live_rollouts or prompt_tokens > MAX_PACKED_PROMPT_TOKENS:
            batches.append([])
            live, prompt_tokens = piece.request.count, len(piece.request.prompt)
        batches[-1].append(piece)
    return batches
