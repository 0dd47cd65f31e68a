"""Whether tree sampling and tree training are exact for the model at hand.

Log-probabilities of a small tree are computed in the ways the project runs trees, and compared with
plain forwards, one sequence at a time. This finds what no list of names would: recurrent layers,
position biases that ignore position ids, attention variants that the tree attention does not know.
Attention windows are longer than this probe; `attrib.sampling.packed.check_reach` sees to them.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from transformers import DynamicCache

from attrib.errors import ModelError, first_line
from attrib.sampling.packed import OTHER_ENGINES, check_reach, forward_nodes, forward_tree
from attrib.sampling.prefix_tree import build_prefix_tree
from attrib.sampling.tree_attention import SlotCache, forward_step, plan_step

if TYPE_CHECKING:
    from transformers import PreTrainedModel

TOLERANCE = {torch.float32: 1e-3, torch.float16: 0.1, torch.bfloat16: 0.5}  # log-probability
WINDOWED_BY_SLOT = frozenset({"gpt_neo"})  # masks inside the model by place in the cache
REMEDY = f"To sample, {OTHER_ENGINES}; to train, choose another --model."


def check_exact(module: "PreTrainedModel", prompt: Sequence[int]) -> None:
    """Compare the tree forwards with plain ones on two branches of `prompt`.

    Raises:
        ModelError: they differ, so that working on trees would not be exact for this model.
    """
    kind = module.config.model_type
    if module.config.is_encoder_decoder:
        raise ModelError(f"The tree engine serves decoders; {kind} also encodes. {REMEDY}")
    if kind in WINDOWED_BY_SLOT:
        raise ModelError(
            f"The tree engine cannot serve {kind} exactly: its attention window counts slots, not "
            f"positions. {REMEDY}"
        )
    check_reach(module, len(prompt) + 2)
    other = (prompt[0] + 1) % module.config.get_text_config().vocab_size
    branches = [[*prompt, prompt[0], prompt[0]], [*prompt, other, prompt[0]]]
    try:
        difference = _largest_difference(module, branches, len(prompt))
    except Exception as error:  # a model may fail in any way on inputs it was not written for
        raise ModelError(
            f"The tree engine cannot serve {kind}: its forward refuses a tree "
            f"({type(error).__name__}: {first_line(error)}). {REMEDY}"
        ) from error
    if not difference < TOLERANCE.get(module.dtype, 0.0):
        raise ModelError(
            f"The tree engine cannot serve {kind} exactly: a forward on a tree differs from a "
            f"plain one by {difference:.2g} in log-probability. {REMEDY}"
        )


@torch.inference_mode()
def _largest_difference(
    module: "PreTrainedModel", branches: Sequence[Sequence[int]], shared: int
) -> float:
    """Return how far log-probabilities after `branches` on a tree are from plain ones.

    The first `shared` tokens are the prompt's.
    """
    tree = build_prefix_tree(branches)
    packed = forward_tree(module, tree, tree.leaf_Q)
    stepped = _step_through(module, branches, shared)
    plain = module(torch.tensor(branches, device=module.device)).logits[:, -1].float()
    differences = [
        (logits.float().log_softmax(-1) - plain.log_softmax(-1)).abs().max()
        for logits in (packed, stepped)
    ]
    return float(torch.stack(differences).max())


def _step_through(
    module: "PreTrainedModel", branches: Sequence[Sequence[int]], shared: int
) -> torch.Tensor:
    """Run the branches as the tree sampler does: the prompt, then a level a step."""
    device, held, cache = module.device, DynamicCache(), SlotCache()
    cache.reserve(shared + 2 * len(branches))
    prompt = np.arange(shared - 1)
    if shared > 1:
        tree = build_prefix_tree([branches[0][: shared - 1]])
        forward_nodes(module, tree.token_N, tree.depth_N, tree.visible_NN(), tree.leaf_Q, held)
        cache.write_prompts(held, torch.from_numpy(prompt).to(device))
    slots = np.arange(shared - 1, shared + 2 * len(branches)).astype(np.int64)
    root, first, second = slots[:1], *np.split(slots[1:], 2)
    levels = [root[:, None]]  # paths of slots, level by level
    levels.append(np.stack([root.repeat(len(first)), first], axis=1))
    levels.append(np.concatenate([levels[1], second[:, None]], axis=1))
    for depth, path_NA in enumerate(levels):
        nodes = len(path_NA)
        step = plan_step(
            np.zeros(nodes, dtype=np.int64), [prompt], path_NA, np.full(nodes, depth + 1), device
        )
        logits = forward_step(
            module,
            torch.tensor([branch[shared - 1 + depth] for branch in branches[:nodes]]).to(device),
            torch.full((nodes,), shared - 1 + depth, device=device),
            torch.from_numpy(path_NA[:, -1].copy()).to(device),
            step,
            cache,
        )
    return logits
