"""Exact tree sampling: n independent rollouts, one model row per distinct prefix.

Rollouts of one prompt share prefixes. This sampler keeps one node per distinct prefix, routes each
node's rollouts to child tokens drawn from p(·|prefix), and runs the model once per node; the keys
and values of prompts and prefixes are held once. The completions are exactly n independent draws
from the model: merging saves work, it does not couple rollouts.

Nodes that wait to be run form the frontier. Each step runs the `max_live_nodes` most urgent ones,
of whatever questions and depths: the oldest question first, and in it the deepest node, so that
the keys and values held stay few however many rollouts are asked for. New questions enter when the
frontier no longer fills a step.

Which models this is exact for is checked in `attrib.sampling.packed`.
"""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import DynamicCache

from attrib.errors import ModelError
from attrib.sampling.draw import draw_tokens
from attrib.sampling.engine import (
    Answered,
    EngineName,
    FinishReason,
    Request,
    Rollout,
    SamplingParams,
    cut_at_stop,
)
from attrib.sampling.exactness import check_exact
from attrib.sampling.models import LanguageModel
from attrib.sampling.packed import check_reach, forward_nodes
from attrib.sampling.prefix_tree import build_prefix_tree
from attrib.sampling.randomness import UniformStream
from attrib.sampling.tree_attention import SlotCache, forward_step, plan_step

if TYPE_CHECKING:
    from transformers import PreTrainedModel

Decode = Callable[[Sequence[int]], str]

MAX_PACKED_PROMPT_TOKENS = 4096  # bounds the ancestor mask of the prompts that enter together
MOST_LIVE_NODES = {"cpu": 256, "cuda": 4096}  # more rows make a step no more efficient
MEMORY_SHARE = 0.25  # of what is free, for logits and live keys and values
LOGITS_COPIES = 4  # in the model's type, and what drawing computes from them


class TreeEngine:
    """The tree sampler behind the engines' protocol."""

    name = EngineName.TREE
    is_reproducible = True

    def __init__(self, language_model: LanguageModel, max_live_nodes: int | None = None) -> None:
        """Check that the model is served exactly.

        Args:
            language_model: the model; its weights may change between calls.
            max_live_nodes: rows of one forward; None derives it from the free memory.

        Raises:
            ModelError: tree sampling would not be exact for this model.
        """
        self.language_model = language_model
        self._max_live_nodes = max_live_nodes
        check_exact(language_model.module, language_model.tokenizer.encode("Which fact is it?"))

    def respond(
        self, requests: Sequence[Request], params: SamplingParams, seed: int
    ) -> Iterator[Answered]:
        """Yield the rollouts of every request as it completes; see `Engine`."""
        module = self.language_model.module
        return sample(
            module,
            requests,
            params,
            seed,
            self.language_model.decode,
            self._max_live_nodes or default_live_nodes(module, params.max_new_tokens),
        )


def free_memory(device: torch.device) -> int:
    """Return the free bytes of a device."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    import psutil  # type: ignore[import-untyped]

    return int(psutil.virtual_memory().available)


def default_live_nodes(module: "PreTrainedModel", max_new_tokens: int) -> int:
    """Return how many nodes a step may run, so that a share of the free memory suffices."""
    free = free_memory(module.device)
    config = module.config.get_text_config()
    heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
    width = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    numbers = 2 * config.num_hidden_layers * heads * width * (max_new_tokens + 1)
    node_bytes = module.dtype.itemsize * numbers + 4 * LOGITS_COPIES * config.vocab_size
    ceiling = MOST_LIVE_NODES.get(module.device.type, MOST_LIVE_NODES["cpu"])
    return int(np.clip(free * MEMORY_SHARE // node_bytes, 1, ceiling))


@torch.inference_mode()
def sample(
    module: "PreTrainedModel",
    requests: Sequence[Request],
    params: SamplingParams,
    seed: int,
    decode: Decode,
    max_live_nodes: int,
) -> Iterator[Answered]:
    """Yield the rollouts of each request as it completes; `max_live_nodes` changes none of them.

    Raises:
        ModelError: a sequence could outgrow the model's attention window (nothing was drawn), or
            the device has too little memory.
    """
    longest = max((len(request.prompt.token_ids) for request in requests), default=0)
    check_reach(module, longest + params.max_new_tokens - 1)  # the last token is not fed back
    forest = _Forest(module, params, decode)
    waiting = deque(enumerate(requests))
    try:
        while waiting or forest.nodes:
            if waiting and forest.nodes < max_live_nodes:
                forest.plant(_next_block(waiting, max_live_nodes), seed)
            yield from forest.grow(max_live_nodes)
    except torch.OutOfMemoryError as error:
        raise ModelError(
            "The device ran out of memory while sampling. Lower --max-live-nodes (now "
            f"{max_live_nodes})."
        ) from error


def _next_block(
    waiting: deque[tuple[int, Request]], max_requests: int
) -> list[tuple[int, Request]]:
    """Take the requests that enter together, at least one, in order."""
    block = [waiting.popleft()]
    tokens = len(block[0][1].prompt.token_ids)
    while waiting and len(block) < max_requests:
        tokens += len(waiting[0][1].prompt.token_ids)
        if tokens > MAX_PACKED_PROMPT_TOKENS:
            break
        block.append(waiting.popleft())
    return block


class _Growing:
    """A request whose rollouts are being drawn. R its rollouts, T the limit on tokens."""

    def __init__(self, position: int, request: Request, max_new_tokens: int, seed: int) -> None:
        self.position = position
        self.request = request
        self.stream = UniformStream(seed, request.stream)
        self.prompt_slots = np.zeros(0, dtype=np.int64)
        self.token_RT = np.zeros((request.count, max_new_tokens), dtype=np.int64)
        self.length_R = np.zeros(request.count, dtype=np.int64)
        self.logprob_R = np.zeros(request.count)
        self.stopped_R = np.zeros(request.count, dtype=np.bool_)
        self.open = request.count

    def draw(self, depth: int, row_R: NDArray[np.int64]) -> NDArray[np.float64]:
        """Return the uniforms of the rollouts `row_R` at `depth`."""
        first, last = int(row_R.min()), int(row_R.max())
        start = self.request.first
        return self.stream.draw(depth, start + first, start + last + 1)[row_R - first]

    def answer(self, stop: Sequence[str], decode: Decode) -> Answered:
        """Return the finished rollouts."""
        texts: dict[tuple[int, ...], str] = {}
        rollouts = []
        for row in range(self.request.count):
            token_ids = tuple(self.token_RT[row, : self.length_R[row]].tolist())
            if token_ids not in texts:
                texts[token_ids] = cut_at_stop(decode(token_ids), stop)
            rollouts.append(
                Rollout(
                    index=self.request.first + row,
                    text=texts[token_ids],
                    token_ids=token_ids,
                    tokens=len(token_ids),
                    logprob=float(self.logprob_R[row]),
                    finish_reason=(
                        FinishReason.STOP if self.stopped_R[row] else FinishReason.LENGTH
                    ),
                )
            )
        return Answered(self.position, rollouts)


@dataclass(frozen=True, slots=True, eq=False)
class _Nodes:
    """Nodes that wait to be run, N of them, and the R rollouts that go through them.

    `path_NT` holds the slots of a node's ancestors in the response, the prompt's last token being
    the first; a node of depth d has d of them.
    """

    owner_N: NDArray[np.int64]
    depth_N: NDArray[np.int64]
    token_N: NDArray[np.int64]
    path_NT: NDArray[np.int64]
    node_R: NDArray[np.int64]
    row_R: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.token_N)

    def take(self, order_N: NDArray[np.int64]) -> "_Nodes":
        """Return the nodes `order_N` with their rollouts, both in that order."""
        place_N = np.full(len(self), -1, dtype=np.int64)
        place_N[order_N] = np.arange(len(order_N))
        node_R = place_N[self.node_R]
        kept = np.flatnonzero(node_R >= 0)
        kept = kept[np.argsort(node_R[kept], kind="stable")]
        return _Nodes(
            self.owner_N[order_N],
            self.depth_N[order_N],
            self.token_N[order_N],
            self.path_NT[order_N],
            node_R[kept],
            self.row_R[kept],
        )

    def join(self, other: "_Nodes") -> "_Nodes":
        """Return both."""
        return _Nodes(
            np.concatenate([self.owner_N, other.owner_N]),
            np.concatenate([self.depth_N, other.depth_N]),
            np.concatenate([self.token_N, other.token_N]),
            np.concatenate([self.path_NT, other.path_NT]),
            np.concatenate([self.node_R, other.node_R + len(self)]),
            np.concatenate([self.row_R, other.row_R]),
        )


class _Forest:
    """The trees of the questions in flight."""

    def __init__(self, module: "PreTrainedModel", params: SamplingParams, decode: Decode) -> None:
        self._module = module
        self._params = params
        self._decode = decode
        self._ends = np.array(sorted(params.end_token_ids), dtype=np.int64)
        self._cache = SlotCache()
        self._free = np.zeros(0, dtype=np.int64)
        self._growing: dict[int, _Growing] = {}
        none = np.zeros(0, dtype=np.int64)
        paths = np.zeros((0, params.max_new_tokens), dtype=np.int64)
        self._frontier = _Nodes(none, none, none, paths, none, none)

    @property
    def nodes(self) -> int:
        """Return how many nodes wait to be run."""
        return len(self._frontier)

    def plant(self, block: Sequence[tuple[int, Request]], seed: int) -> None:
        """Run the prompts of new requests but for their last tokens, which become the roots."""
        new = [_Growing(at, one, self._params.max_new_tokens, seed) for at, one in block]
        bodies = [growing.request.prompt.token_ids[:-1] for growing in new]
        tree = build_prefix_tree([body for body in bodies if body])
        if len(tree.token_N):
            held, last = DynamicCache(), tree.leaf_Q[-1:]
            visible_NN = tree.visible_NN()
            forward_nodes(self._module, tree.token_N, tree.depth_N, visible_NN, last, held)
            slots = self._allocate(len(tree.token_N))
            self._cache.write_prompts(held, self._send(slots))
            paths = iter(tree.paths)
            for growing, body in zip(new, bodies, strict=True):
                if body:
                    growing.prompt_slots = slots[next(paths)]
        counts = [growing.request.count for growing in new]
        self._growing |= {growing.position: growing for growing in new}
        self._frontier = self._frontier.join(
            _Nodes(
                owner_N=np.array([growing.position for growing in new]),
                depth_N=np.zeros(len(new), dtype=np.int64),
                token_N=np.array([growing.request.prompt.token_ids[-1] for growing in new]),
                path_NT=np.zeros((len(new), self._params.max_new_tokens), dtype=np.int64),
                node_R=np.repeat(np.arange(len(new)), counts),
                row_R=np.concatenate([np.arange(count) for count in counts]),
            )
        )

    def grow(self, max_live_nodes: int) -> Iterator[Answered]:
        """Run the most urgent nodes, draw their children, yield the requests this completes."""
        urgent = np.lexsort((-self._frontier.depth_N, self._frontier.owner_N))
        nodes = self._frontier.take(urgent[:max_live_nodes])
        self._frontier = self._frontier.take(urgent[max_live_nodes:])
        logits_NV = self._run(nodes)

        owner_R, depth_R = nodes.owner_N[nodes.node_R], nodes.depth_N[nodes.node_R]
        changes = np.flatnonzero((np.diff(owner_R) != 0) | (np.diff(depth_R) != 0)) + 1
        runs = [  # rollouts of one owner at one depth stand together
            (self._growing[int(owner_R[first])], int(depth_R[first]), slice(first, last))
            for first, last in zip([0, *changes], [*changes, len(owner_R)], strict=True)
        ]
        uniform_RL = np.concatenate([g.draw(depth, nodes.row_R[at]) for g, depth, at in runs])
        draws = draw_tokens(logits_NV, nodes.node_R, uniform_RL, self._params)
        for growing, depth, at in runs:
            growing.token_RT[nodes.row_R[at], depth] = draws.token_R[at]
            growing.length_R[nodes.row_R[at]] = depth + 1
            growing.logprob_R[nodes.row_R[at]] += draws.logprob_R[at]

        stopped_R = np.isin(draws.token_R, self._ends)
        stopped_R |= self._wrote_stop_string(nodes, draws.token_R, ~stopped_R)
        ended_R = stopped_R | (depth_R + 1 == self._params.max_new_tokens)
        self._frontier = self._frontier.join(_children(nodes, draws.token_R, ~ended_R))
        for growing, _, at in runs:
            growing.stopped_R[nodes.row_R[at]] = stopped_R[at]
            growing.open -= int(ended_R[at].sum())
            if growing.open == 0:
                del self._growing[growing.position]
                yield growing.answer(self._params.stop, self._decode)

    def _run(self, nodes: _Nodes) -> torch.Tensor:
        """Run nodes, sorted by owner, and note their slots on their paths."""
        slots = self._allocate(len(nodes), nodes)
        nodes.path_NT[np.arange(len(nodes)), nodes.depth_N] = slots
        owners, group_N = np.unique(nodes.owner_N, return_inverse=True)
        growing = [self._growing[int(owner)] for owner in owners]
        length_G = np.array([len(one.prompt_slots) for one in growing])
        step = plan_step(
            group_N,
            [one.prompt_slots for one in growing],
            nodes.path_NT[:, : nodes.depth_N.max() + 1],
            nodes.depth_N + 1,
            self._module.device,
        )
        return forward_step(
            self._module,
            self._send(nodes.token_N),
            self._send(length_G[group_N] + nodes.depth_N),
            self._send(slots),
            step,
            self._cache,
        )

    def _wrote_stop_string(
        self, nodes: _Nodes, token_R: NDArray[np.int64], candidate_R: NDArray[np.bool_]
    ) -> NDArray[np.bool_]:
        """Tell which of the candidates' responses hold a stop string; each is decoded once."""
        found_R = np.zeros(len(token_R), dtype=np.bool_)
        if not self._params.stop:
            return found_R
        seen: dict[tuple[int, int], bool] = {}
        for at in np.flatnonzero(candidate_R):
            node, token = int(nodes.node_R[at]), int(token_R[at])
            if (node, token) not in seen:
                growing = self._growing[int(nodes.owner_N[node])]
                response = growing.token_RT[nodes.row_R[at], : nodes.depth_N[node] + 1]
                text = self._decode(response.tolist())
                seen[node, token] = any(one in text for one in self._params.stop)
            found_R[at] = seen[node, token]
        return found_R

    def _allocate(self, count: int, running: _Nodes | None = None) -> NDArray[np.int64]:
        """Take `count` free slots, first collecting those that no waiting node can see."""
        if len(self._free) < count:
            held = [growing.prompt_slots for growing in self._growing.values()]
            for nodes in (self._frontier, running):
                if nodes is not None:
                    seen = np.arange(nodes.path_NT.shape[1]) < nodes.depth_N[:, None]
                    held.append(nodes.path_NT[seen])
            capacity = self._cache.capacity
            used = np.zeros(capacity, dtype=np.bool_)
            used[np.concatenate([np.zeros(0, dtype=np.int64), *held])] = True
            if 2 * (capacity - used.sum()) < capacity + 2 * count:  # seldom collect again
                self._cache.reserve(2 * (int(used.sum()) + count))
            self._free = np.concatenate(
                [np.flatnonzero(~used), np.arange(capacity, self._cache.capacity)]
            )
        taken, self._free = self._free[:count], self._free[count:]
        return taken

    def _send(self, array: NDArray[np.int64]) -> torch.Tensor:
        return torch.from_numpy(array).to(self._module.device)


def _children(nodes: _Nodes, token_R: NDArray[np.int64], alive_R: NDArray[np.bool_]) -> _Nodes:
    """Return the distinct (node, token) of the rollouts that go on."""
    width = int(token_R.max(initial=0)) + 1
    pairs, node_R = np.unique(nodes.node_R[alive_R] * width + token_R[alive_R], return_inverse=True)
    parent_N, token_N = np.divmod(pairs, width)
    return _Nodes(
        nodes.owner_N[parent_N],
        nodes.depth_N[parent_N] + 1,
        token_N,
        nodes.path_NT[parent_N],
        node_R,
        nodes.row_R[alive_R],
    )
