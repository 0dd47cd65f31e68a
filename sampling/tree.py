"""Exact tree sampling: n independent rollouts, one model row per distinct prefix.

Rollouts of one prompt share prefixes. This sampler keeps one node per distinct prefix, routes each
node's rollouts to child tokens drawn from p(·|prefix), and runs the model once per new node; the
keys and values of prompts and prefixes are held once. The completions are exactly n independent
draws from the model: merging saves work, it does not couple rollouts.

A draw walks down a binary tree over the vocabulary: at every halving the two halves' probability
sums decide, with a fresh uniform. Rounding of the logits then moves a boundary by its relative
error once per halving; an inverse CDF in vocabulary order would add up the errors of thousands of
tokens.

Refuses models for which a packed forward with an ancestor mask differs from a plain one (recurrent
layers, position biases that ignore position ids): `check_exact` compares the two on the model at
hand. A sliding window is not implemented; `check_reach` refuses sequences that would outgrow it.
"""

import inspect
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import DynamicCache

from attrib.errors import ConfigError, ModelError
from attrib.sampling.prefix_tree import PrefixTree, build_prefix_tree
from attrib.sampling.randomness import UniformStream

if TYPE_CHECKING:
    from transformers import PreTrainedModel

DEFAULT_LIVE_ROLLOUTS = 128  # rollouts in flight: bounds the rows, and the logits, of a step
MAX_PACKED_PROMPT_TOKENS = 4096  # bounds the ancestor mask of a forest's prompts
EXACTNESS_TOLERANCE = 1e-3  # largest difference of log-probabilities between packed and plain
WINDOW_SETTINGS = ("sliding_window", "sliding_window_size", "attention_chunk_size")
WINDOWED_BY_SLOT = frozenset({"gpt_neo"})  # masks inside the model by place in the cache


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


def check_exact(module: "PreTrainedModel", prompt: Sequence[int]) -> None:
    """Compare packed forwards, cached and not, with a plain one on two branches of `prompt`.

    Attention windows are longer than this probe; `check_reach` sees to them.

    Raises:
        ModelError: they differ, so that tree sampling would not be exact for this model.
    """
    kind = module.config.model_type
    if kind in WINDOWED_BY_SLOT:
        raise ModelError(
            f"The tree engine cannot serve {kind} exactly: its attention window counts slots, not "
            "positions. Choose another --model."
        )
    check_reach(module, len(prompt) + 2)
    other = (prompt[0] + 1) % module.config.get_text_config().vocab_size
    branches = [[*prompt, prompt[0], prompt[0]], [*prompt, other, prompt[0]]]
    try:
        difference = _largest_difference(module, branches, len(prompt))
    except Exception as error:  # a model may fail in any way on inputs it was not written for
        reason = (str(error).splitlines() or [""])[0]
        raise ModelError(
            f"The tree engine cannot serve {kind}: its forward refuses a packed tree "
            f"({type(error).__name__}: {reason}). Choose another --model."
        ) from error
    if not difference < EXACTNESS_TOLERANCE:
        raise ModelError(
            f"The tree engine cannot serve {kind} exactly: a packed forward differs from a plain "
            f"one by {difference:.2g} in log-probability. Choose another --model."
        )


@torch.inference_mode()
def _largest_difference(
    module: "PreTrainedModel", branches: Sequence[Sequence[int]], shared: int
) -> float:
    """Return how far packed log-probabilities after `branches` are from plain ones.

    The first `shared` tokens are the prompt's; the cached forward takes them as a first step.
    """
    tree = build_prefix_tree(branches)
    visible_NN, leaf_Q, cache = tree.visible_NN(), tree.leaf_Q, DynamicCache()
    token_N, depth_N = tree.token_N, tree.depth_N
    root_NN = visible_NN[:shared, :shared]
    _forward(module, token_N[:shared], depth_N[:shared], root_NN, np.array([shared - 1]), cache)
    packed = (
        forward_tree(module, tree, leaf_Q),
        _forward(
            module, token_N[shared:], depth_N[shared:], visible_NN[shared:], leaf_Q - shared, cache
        ),
    )
    plain = module(torch.tensor(branches, device=module.device)).logits[:, -1].float()
    differences = [(p.log_softmax(-1) - plain.log_softmax(-1)).abs().max() for p in packed]
    return float(torch.stack(differences).max())


def check_reach(module: "PreTrainedModel", longest: int) -> None:
    """Refuse sequences of `longest` tokens if the model reads fewer, or looks back less far.

    A packed forward shows a token all its ancestors, as a model without an attention window does;
    within the window both are the same.

    Raises:
        ModelError: the attention window would be active, or the positions run out.
    """
    positions = getattr(module.config.get_text_config(), "max_position_embeddings", None)
    window = _attention_window(module)
    remedy = "Shorten the prompt, lower --max-new-tokens, or choose another --model."
    if positions is not None and longest > positions:
        raise ModelError(
            f"This {module.config.model_type} model reads at most {positions} tokens; the prompt "
            f"and its response may take {longest}. {remedy}"
        )
    if window is not None and longest > window:
        raise ModelError(
            f"The tree engine cannot serve {module.config.model_type} exactly on {longest} tokens: "
            f"its attention window of {window} is not implemented. {remedy}"
        )


def _attention_window(module: "PreTrainedModel") -> int | None:
    """Return the narrowest attention window that the configuration may use, None without one."""
    config = module.config.get_text_config()
    if set(getattr(config, "layer_types", None) or ["unknown"]) == {"full_attention"}:
        return None
    windows = [getattr(config, name, None) for name in WINDOW_SETTINGS]
    return min((window for window in windows if window is not None), default=None)


def forward_tree(
    module: "PreTrainedModel", tree: PrefixTree, keep_K: NDArray[np.int64]
) -> torch.Tensor:
    """Run one packed forward over a prefix tree.

    Returns:
        float32 logits at the nodes `keep_K`, shape (K, vocabulary).

    Raises:
        ModelError: a path is longer than the model's attention window.
    """
    check_reach(module, int(tree.depth_N.max()) + 1)
    return _forward(module, tree.token_N, tree.depth_N, tree.visible_NN(), keep_K, None)


def _forward(
    module: "PreTrainedModel",
    token_N: NDArray[np.int64],
    depth_N: NDArray[np.int64],
    visible_NS: NDArray[np.bool_],
    keep_K: NDArray[np.int64],
    cache: DynamicCache | None,
) -> torch.Tensor:
    """Run new nodes as one packed row that sees cached slots and itself as `visible_NS` says."""
    hidden = torch.finfo(module.dtype).min
    mask_NS = torch.zeros(visible_NS.shape, dtype=module.dtype)
    mask_NS.masked_fill_(torch.from_numpy(~visible_NS), hidden)
    keep = torch.from_numpy(keep_K).to(module.device)
    arguments: dict[str, Any] = {
        "input_ids": torch.from_numpy(token_N)[None].to(module.device),
        "position_ids": torch.from_numpy(depth_N)[None].to(module.device),
        "attention_mask": mask_NS[None, None].to(module.device),
        "past_key_values": cache,
        "use_cache": cache is not None,
    }
    if "logits_to_keep" in inspect.signature(module.forward).parameters:
        logits = module(**arguments, logits_to_keep=keep).logits[0]
    else:
        logits = module(**arguments).logits[0, keep]
    return logits.float()


@torch.inference_mode()
def _sample_forest(
    module: "PreTrainedModel", requests: Sequence[Request], params: SamplingParams, seed: int
) -> list[list[Rollout]]:
    """Draw all rollouts of `requests` in one forest, level by level.

    Array axes: N live nodes, R rollouts still growing, S slots of the key-value cache.
    """
    cache = DynamicCache()
    tree = build_prefix_tree([request.prompt for request in requests])
    logits_NV = _forward(module, tree.token_N, tree.depth_N, tree.visible_NN(), tree.leaf_Q, cache)
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
        logits_NV = _forward(module, child_token_N, depth_N, visible_NS, np.arange(nodes), cache)

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
