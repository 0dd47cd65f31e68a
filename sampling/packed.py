"""Packed forwards: a whole prefix tree through the model as one row.

A node sees itself, its ancestors and nothing else, and its position is its depth, so one forward
over distinct prefixes equals one forward per sequence. This uses what transformers offers every
decoder: a four-dimensional attention mask, position ids and a key-value cache; no model code is
copied or changed.

Models for which that does not hold (recurrent layers, position biases that ignore position ids) are
found out by `attrib.sampling.exactness`. A sliding window is not implemented; `check_reach` refuses
sequences that would outgrow it.
"""

import inspect
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import DynamicCache

from attrib.errors import ModelError
from attrib.sampling.prefix_tree import PrefixTree

if TYPE_CHECKING:
    from transformers import PreTrainedModel

WINDOW_SETTINGS = ("sliding_window", "sliding_window_size", "attention_chunk_size")
OTHER_ENGINES = "use --engine transformers or --engine vllm"


def check_reach(module: "PreTrainedModel", longest: int) -> None:
    """Refuse sequences of `longest` tokens if the model reads fewer, or looks back less far.

    A packed forward shows a token all its ancestors, as a model without an attention window does;
    within the window both are the same.

    Raises:
        ModelError: the attention window would be active, or the positions run out.
    """
    positions = getattr(module.config.get_text_config(), "max_position_embeddings", None)
    window = _attention_window(module)
    remedy = "Shorten the prompt, lower --max-new-tokens, or choose another --model"
    if positions is not None and longest > positions:
        raise ModelError(
            f"This {module.config.model_type} model reads at most {positions} tokens; the prompt "
            f"and its response may take {longest}. {remedy}."
        )
    if window is not None and longest > window:
        raise ModelError(
            f"The tree engine cannot serve {module.config.model_type} exactly on {longest} tokens: "
            f"its attention window of {window} is not implemented. To sample, {OTHER_ENGINES}; "
            f"to train, {remedy[0].lower()}{remedy[1:]}."
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
    return forward_nodes(module, tree.token_N, tree.depth_N, tree.visible_NN(), keep_K, None)


def forward_nodes(
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
    logits: torch.Tensor
    if "logits_to_keep" in inspect.signature(module.forward).parameters:
        logits = module(**arguments, logits_to_keep=keep).logits[0]
    else:
        logits = module(**arguments).logits[0, keep]
    return logits.float()
