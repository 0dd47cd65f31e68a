"""Attention of tree nodes over a pool of slots: how transformers' models run one step of a tree.

Every node that was run, of prompts and of responses, has one slot in a pool of keys and values; a
new node sees the slots of its prompt, which all nodes of the question share, and those on its own
path. This uses what transformers offers every decoder: a `Cache` subclass that writes new nodes
into the pool, and a function in the registry of attention implementations. No model code is copied
or changed.

Refuses the attention variants that it does not implement: soft-capped scores, attention sinks,
position biases. Sliding windows are refused in `attrib.sampling.packed`.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import AttentionInterface, Cache, DynamicCache

from attrib.errors import ModelError

if TYPE_CHECKING:
    from transformers import PreTrainedModel

IMPLEMENTATION = "attrib_tree"
NOT_IMPLEMENTED = ("softcap", "s_aux", "position_bias", "alibi", "head_mask")


class SlotCache(Cache):
    """Keys and values of nodes, each (slots, heads, width) per layer; grows, never shrinks."""

    def __init__(self) -> None:
        """Start without a slot; the first forward shows how many layers there are."""
        super().__init__(layers=[])
        self.capacity = 0
        self._pools: list[tuple[torch.Tensor, torch.Tensor]] = []
        self._slot_N = torch.zeros(0, dtype=torch.int64)

    def reserve(self, capacity: int) -> None:
        """Make room for `capacity` slots; what is stored stays where it is."""
        more = capacity - self.capacity
        if more > 0:
            for layer, pair in enumerate(self._pools):
                self._pools[layer] = (_lengthen(pair[0], more), _lengthen(pair[1], more))
            self.capacity = capacity

    def write_next_to(self, slot_N: torch.Tensor) -> None:
        """Say where the nodes of the next forward go."""
        self._slot_N = slot_N

    def update(
        self,
        key_states: torch.Tensor,
        value_states: torch.Tensor,
        layer_idx: int,
        *args: Any,
        **kwargs: Any,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Write new nodes, each (1, heads, N, width), and return the layer's whole pools."""
        while len(self._pools) <= layer_idx:
            self._pools.append((self._empty_pool(key_states), self._empty_pool(value_states)))
        keys, values = self._pools[layer_idx]
        keys.index_copy_(0, self._slot_N, key_states[0].transpose(0, 1))
        values.index_copy_(0, self._slot_N, value_states[0].transpose(0, 1))
        return keys.transpose(0, 1)[None], values.transpose(0, 1)[None]

    def write_prompts(self, cache: DynamicCache, slot_N: torch.Tensor) -> None:
        """Copy the keys and values of a packed prompt forward to the slots `slot_N`."""
        self.write_next_to(slot_N)
        held: Any
        for layer, held in enumerate(cache.layers):
            self.update(held.keys, held.values, layer)

    def _empty_pool(self, states: torch.Tensor) -> torch.Tensor:
        return states.new_zeros((self.capacity, states.shape[1], states.shape[3]))

    def get_seq_length(self, layer_idx: int = 0) -> int:
        """Return 0: positions are always given, never counted from the cache."""
        return 0


@dataclass(frozen=True, slots=True, eq=False)
class TreeStep:
    """Which slots the N new nodes of a step see.

    Nodes of one question are a group, G groups in all; `place_N` is a node's place in a table of G
    rows of `widest` nodes. The masks are true where a padded table holds a slot.
    """

    place_N: torch.Tensor
    widest: int
    prompt_GP: torch.Tensor
    prompt_mask_GP: torch.Tensor
    path_NA: torch.Tensor
    mask_NS: torch.Tensor
    """Of the prompt's P and the path's A places of each node, side by side."""


def plan_step(
    group_N: NDArray[np.int64],
    prompts: Sequence[NDArray[np.int64]],
    path_NA: NDArray[np.int64],
    length_N: NDArray[np.int64],
    device: torch.device,
) -> TreeStep:
    """Lay out a step.

    Args:
        group_N: the group of every node, ascending from 0 without gaps.
        prompts: the slots of each group's prompt, possibly none.
        path_NA: slots of a node's own path, itself included, in the first `length_N` columns.
        length_N: how many.
        device: where the model is.
    """
    first_G = np.searchsorted(group_N, np.arange(len(prompts)))
    sizes = np.diff([*first_G, len(group_N)])
    widest = int(sizes.max())
    place_N = group_N * widest + np.arange(len(group_N)) - first_G[group_N]
    prompt_mask_GP = np.arange(max(map(len, prompts))) < np.array([[len(p)] for p in prompts])
    prompt_GP = np.zeros(prompt_mask_GP.shape, dtype=np.int64)
    prompt_GP[prompt_mask_GP] = np.concatenate(prompts)
    path_mask_NA = np.arange(path_NA.shape[1]) < length_N[:, None]
    mask_NS = np.concatenate([prompt_mask_GP[group_N], path_mask_NA], axis=1)

    def send(array: NDArray[Any]) -> torch.Tensor:
        return torch.from_numpy(array).to(device)

    return TreeStep(
        place_N=send(place_N),
        widest=widest,
        prompt_GP=send(prompt_GP),
        prompt_mask_GP=send(prompt_mask_GP),
        path_NA=send(np.where(path_mask_NA, path_NA, 0)),
        mask_NS=send(mask_NS),
    )


def forward_step(
    module: "PreTrainedModel",
    token_N: torch.Tensor,
    position_N: torch.Tensor,
    slot_N: torch.Tensor,
    step: TreeStep,
    cache: SlotCache,
) -> torch.Tensor:
    """Run new nodes as one packed row; returns their logits in the model's dtype, (N, V)."""
    cache.write_next_to(slot_N)
    with _tree_attention(module):
        logits: torch.Tensor = module(
            input_ids=token_N[None],
            position_ids=position_N[None],
            past_key_values=cache,
            use_cache=True,
            tree_step=step,
        ).logits[0]
    return logits


def attend(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float,
    dropout: float = 0.0,
    tree_step: TreeStep | None = None,
    **variant: Any,
) -> tuple[torch.Tensor, None]:
    """Attend from new nodes, (1, H, N, D), to the pools that `SlotCache.update` returned.

    Array axes: K key heads, R query heads of each, D width, P prompt slots, A path slots.

    Returns:
        shape (1, N, H, D), as the registry of transformers wants it.
    """
    used = [name for name in NOT_IMPLEMENTED if variant.get(name) is not None]
    if used or tree_step is None:
        raise ModelError(f"tree attention does not implement {(used or ['this call'])[0]}")
    step, nodes = tree_step, query.shape[2]
    keys, values = key[0].transpose(0, 1), value[0].transpose(0, 1)
    heads, each = keys.shape[1], query.shape[1] // keys.shape[1]
    query_NKRD = query[0].transpose(0, 1).reshape(nodes, heads, each, -1)
    groups, prompt = step.prompt_GP.shape

    def by_group(tensor_N: torch.Tensor) -> torch.Tensor:
        """Turn (N, K, R, X) into (G, K, widest · R, X)."""
        table = tensor_N.new_zeros((groups * step.widest, *tensor_N.shape[1:]))
        table[step.place_N] = tensor_N
        table = table.reshape(groups, step.widest, *tensor_N.shape[1:])
        return table.transpose(1, 2).flatten(2, 3)

    def by_node(tensor_G: torch.Tensor) -> torch.Tensor:
        """Turn (G, K, widest · R, X) into (N, K, R, X)."""
        table = tensor_G.reshape(groups, heads, step.widest, each, tensor_G.shape[3])
        return table.transpose(1, 2).flatten(0, 1)[step.place_N]

    to_prompt = by_node(by_group(query_NKRD) @ keys[step.prompt_GP].permute(0, 2, 3, 1))
    to_path = query_NKRD @ keys[step.path_NA].permute(0, 2, 3, 1)
    scores = torch.cat([to_prompt, to_path], dim=-1).float() * scaling
    scores.masked_fill_(~step.mask_NS[:, None, None], float("-inf"))
    weights = scores.softmax(-1).to(values.dtype)
    from_prompt = by_group(weights[..., :prompt]) @ values[step.prompt_GP].transpose(1, 2)
    from_path = weights[..., prompt:] @ values[step.path_NA].transpose(1, 2)
    return (by_node(from_prompt) + from_path).reshape(1, nodes, query.shape[1], -1), None


AttentionInterface.register(IMPLEMENTATION, attend)


@contextmanager
def _tree_attention(module: "PreTrainedModel") -> Iterator[None]:
    """Let the model's attention layers call `attend`."""
    configs = {id(c): c for c in (module.config, module.config.get_text_config())}.values()
    usual = [config._attn_implementation for config in configs]
    for config in configs:
        config._attn_implementation = IMPLEMENTATION
    try:
        yield
    finally:
        for config, implementation in zip(configs, usual, strict=True):
            config._attn_implementation = implementation


def _lengthen(pool: torch.Tensor, more: int) -> torch.Tensor:
    return torch.cat([pool, pool.new_zeros((more, *pool.shape[1:]))])
