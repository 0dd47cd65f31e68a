"""The tree gradient against a plain, rollout-by-rollout one."""

import numpy as np
import pytest
import torch
from transformers import (
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedModel,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
)

from attrib.attribution.grpo import (
    Group,
    accumulate_gradient,
    group_advantages,
    group_loss,
    rollout_weights,
)
from attrib.sampling.engine import FinishReason, Rollout

VOCABULARY = 30
END = 0
SIZES = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "intermediate_size": 48,
    "max_position_embeddings": 64,
}


def make_model(family: str) -> PreTrainedModel:
    torch.manual_seed(5)
    model: PreTrainedModel
    if family == "llama":
        model = LlamaForCausalLM(LlamaConfig(**SIZES))
    elif family == "qwen2":
        model = Qwen2ForCausalLM(Qwen2Config(**SIZES))
    elif family == "qwen3":
        model = Qwen3ForCausalLM(Qwen3Config(**SIZES, head_dim=8))
    else:
        model = GPT2LMHeadModel(
            GPT2Config(vocab_size=VOCABULARY, n_embd=32, n_layer=2, n_head=4, n_positions=64)
        )
    return model.eval()


def make_group(*completions: tuple[tuple[int, ...], bool]) -> Group:
    rollouts = tuple(
        Rollout(i, "", tokens, len(tokens), 0.0, FinishReason.STOP)
        for i, (tokens, _) in enumerate(completions)
    )
    correct_G = np.array([correct for _, correct in completions])
    return Group("question", (3, 4, 5), rollouts, correct_G)


GROUPS = {
    "shared prefixes": make_group(
        ((7, 8, 9, END), True), ((7, 8, 2, END), False), ((7, 1, END), False), ((6, END), True)
    ),
    "duplicates": make_group(
        ((7, 8, END), True), ((7, 8, END), True), ((7, 9, END), False), ((7, 9, END), False)
    ),
    "one token answers": make_group(((7,), True), ((8,), False), ((7,), True)),
    "empty completion": make_group(((END,), False), ((7, END), True)),
    "one is the prefix of another": make_group(((7, 8), False), ((7, 8, 9), True)),
}


def plain_gradient(
    model: PreTrainedModel, group: Group, groups: int, temperature: float
) -> list[torch.Tensor]:
    """GRPO as written in the paper: every rollout on its own, ratio 1, advantage per group."""
    model.zero_grad()
    reward_G = torch.tensor(group.correct_G, dtype=torch.float32)
    advantage_G = (reward_G - reward_G.mean()) / (reward_G.std() + 1e-4)
    total = torch.zeros(())
    for rollout, advantage in zip(group.rollouts, advantage_G, strict=True):
        tokens = torch.tensor([[*group.prompt, *rollout.token_ids]])
        logprob = (model(tokens).logits[0] / temperature).log_softmax(-1)
        length = len(rollout.token_ids)
        positions = torch.arange(len(group.prompt) - 1, len(group.prompt) - 1 + length)
        chosen = logprob[positions, tokens[0, positions + 1]]
        ratio = torch.exp(chosen - chosen.detach())
        total = total - (ratio * advantage).sum() / length
    (total / len(group.rollouts) / groups).backward()
    return [p.grad.clone() for p in model.parameters() if p.grad is not None]


@pytest.mark.parametrize("family", ["llama", "qwen2", "qwen3", "gpt2"])
@pytest.mark.parametrize("name", GROUPS)
@pytest.mark.parametrize("temperature", [1.0, 0.7])
def test_tree_gradient_equals_the_per_sequence_one(
    family: str, name: str, temperature: float
) -> None:
    model, group = make_model(family), GROUPS[name]
    expected = plain_gradient(model, group, groups=3, temperature=temperature)
    model.zero_grad()
    accumulate_gradient(model, group, groups=3, temperature=temperature)
    found = [p.grad for p in model.parameters() if p.grad is not None]
    expected_P = torch.cat([g.flatten() for g in expected])
    found_P = torch.cat([g.flatten() for g in found])
    error = (expected_P - found_P).norm() / expected_P.norm()
    assert error <= 1e-4
    assert torch.cosine_similarity(expected_P, found_P, dim=0) >= 0.9999


def test_gradients_of_several_groups_add_up() -> None:
    model = make_model("llama")
    groups = [GROUPS["shared prefixes"], GROUPS["duplicates"]]
    separate = [plain_gradient(model, group, 2, 1.0) for group in groups]
    model.zero_grad()
    for group in groups:
        accumulate_gradient(model, group, 2, 1.0)
    for first, second, parameter in zip(*separate, model.parameters(), strict=True):
        torch.testing.assert_close(first + second, parameter.grad, rtol=1e-3, atol=1e-6)


def test_loss_is_the_weighted_log_likelihood() -> None:
    model = make_model("llama")
    weight_G = np.array([0.5, -0.25])
    completions = [(7, 8), (7, 9)]
    loss, tokens = group_loss(model, (3, 4), completions, weight_G)
    expected = 0.0
    for completion, weight in zip(completions, weight_G, strict=True):
        logprob = model(torch.tensor([[3, 4, *completion]])).logits[0].log_softmax(-1)
        expected -= weight * (logprob[1, completion[0]] + logprob[2, completion[1]]).item()
    assert float(loss.detach()) == pytest.approx(expected, abs=1e-5)
    assert tokens == 3  # 7 is shared


def test_advantages_by_hand() -> None:
    # mean 1/4, deviations 3/4, -1/4 ×3, sample variance (9/16 + 3/16)/3 = 1/4
    found = group_advantages(np.array([1.0, 0.0, 0.0, 0.0]))
    np.testing.assert_allclose(found, np.array([0.75, -0.25, -0.25, -0.25]) / 0.5001)


@pytest.mark.parametrize("rewards", [[1.0, 1.0, 1.0], [0.0, 0.0], [1.0], []])
def test_groups_that_agree_have_no_advantage(rewards: list[float]) -> None:
    assert not group_advantages(np.array(rewards)).any()


def test_rollout_weights_divide_by_length_and_group() -> None:
    group = make_group(((7, 8, 9, END), True), ((6, END), False))
    advantage = 0.5 / (np.sqrt(0.5) + 1e-4)
    np.testing.assert_allclose(rollout_weights(group), [advantage / 8, -advantage / 4])


def test_informative_needs_right_and_wrong() -> None:
    assert make_group(((7,), True), ((8,), False)).is_informative
    assert not make_group(((7,), True), ((8,), True)).is_informative
    assert not make_group(((7,), False)).is_informative
    assert not make_group().is_informative
