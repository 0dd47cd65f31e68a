"""Packed forwards: a whole prefix tree through the model as one row.

A node sees itself, its ancestors and nothing else, and its position is its depth, so one forward
over distinct prefixes equals one forward per sequence. This uses what transformers offers every
decoder: a four-dimensional attention mask, position ids and a key-value cache; no model code is
copied or changed.

Refuses models for which that does not hold (recurrent layers, position biases that ignore position
ids): `check_exact` compares packed and plain on the model at hand. A sliding window is not
implemented; `check_reach` refuses sequences that would outgrow it.
"""

import inspect
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import DynamicCache

from attrib.errors import ModelError
from attrib.sampling.prefix_tree import PrefixTree, build_prefix_tree

if TYPE_CHECKING:
    from transformers import PreTrainedModel

EXACTNESS_TOLERANCE = 1e-3  # largest difference of log-probabilities between packed and plain
WINDOW_SETTINGS = ("sliding_window", "sliding_window_size", "attention_chunk_size")
WINDOWED_BY_SLOT = frozenset({"gpt_neo"})  # masks inside the model by place in the cache


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
    forward_nodes(
        module, token_N[:shared], depth_N[:shared], root_NN, np.array([shared - 1]), cache
    )
    packed = (
        forward_tree(module, tree, leaf_Q),
        forward_nodes(
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
