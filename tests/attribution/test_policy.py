"""What is trained: adapters, recomputed activations, dropout, the reference, what is saved."""

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import torch
from transformers import GPT2Config, GPT2LMHeadModel, LlamaForCausalLM, PreTrainedTokenizerFast

from attrib.attribution.forest import plant
from attrib.attribution.groups import Group
from attrib.attribution.objective import Likelihood, PolicyGradient, group_advantages
from attrib.attribution.policy import Policy
from attrib.errors import ConfigError
from attrib.sampling.models import Dtype, LanguageModel, load_model

RANK = 3

MakePolicy = Callable[..., Policy]
TinyLlama = Callable[..., LlamaForCausalLM]


@pytest.fixture
def groups(make_group: Callable[..., Group]) -> list[Group]:
    return [
        make_group((4, 5, 6), ((7, 8, 3), True), ((7, 9, 3), False), ((7, 9, 3), False)),
        make_group((4, 5, 9), ((8, 3), False), ((10, 11), True)),
    ]


@pytest.fixture
def with_adapters(
    tiny_llama: TinyLlama, make_policy: MakePolicy, move: Callable[..., None]
) -> Policy:
    """Return a policy whose adapters have moved away from doing nothing."""
    pytest.importorskip("peft")
    policy = make_policy(tiny_llama(), lora=RANK, has_reference=True)
    generator = torch.Generator().manual_seed(8)
    with torch.no_grad():
        for parameter in policy.trained.values():
            parameter += 0.1 * torch.randn(parameter.shape, generator=generator)
    return policy


def gradients(policy: Policy) -> dict[str, torch.Tensor]:
    return {name: p.grad.clone() for name, p in policy.trained.items() if p.grad is not None}


def assert_same(found: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]) -> None:
    assert found.keys() == expected.keys()
    found_P = torch.cat([found[name].flatten() for name in expected])
    expected_P = torch.cat([gradient.flatten() for gradient in expected.values()])
    assert (found_P - expected_P).norm() / expected_P.norm() <= 1e-4


def plain_gradients(
    module: LlamaForCausalLM, trained: Sequence[str], groups: Sequence[Group]
) -> dict[str, torch.Tensor]:
    """Return the gradients of the on-policy loss, one completion at a time."""
    module.zero_grad()
    for group in groups:
        advantage_G = group_advantages(group.correct_G.astype(float))
        for completion, advantage in zip(group.completions, advantage_G, strict=True):
            logprob_TV = module(torch.tensor([[*group.prompt, *completion]])).logits[0]
            start, stop = len(group.prompt) - 1, len(group.prompt) + len(completion) - 1
            chosen_T = logprob_TV.log_softmax(-1)[range(start, stop), completion]
            count = len(groups) * len(group.completions)
            (-float(advantage) * chosen_T.mean() / count).backward()
    parameters = dict(module.named_parameters())
    return {name: parameters[name].grad.clone() for name in trained}


def test_adapters_get_the_plain_gradient(with_adapters: Policy, groups: list[Group]) -> None:
    expected = plain_gradients(with_adapters.module, list(with_adapters.trained), groups)
    with_adapters.module.zero_grad()
    PolicyGradient(with_adapters, groups).backward()
    assert_same(gradients(with_adapters), expected)


def test_only_adapters_are_trained(with_adapters: Policy, tiny_llama: TinyLlama) -> None:
    module = tiny_llama()
    names = set(with_adapters.trained)
    assert all("lora_" in name for name in names)
    linear = [part for part in module.model.modules() if isinstance(part, torch.nn.Linear)]
    assert len(names) == 2 * len(linear)
    numbers = sum(RANK * (part.in_features + part.out_features) for part in linear)
    assert sum(p.numel() for p in with_adapters.trained.values()) == numbers


def test_new_adapters_do_nothing_and_are_always_the_same(
    tiny_llama: TinyLlama, make_policy: MakePolicy
) -> None:
    pytest.importorskip("peft")
    module = tiny_llama()
    torch.manual_seed(1)
    first = make_policy(module, lora=RANK)
    drawn = torch.rand(1)
    torch.manual_seed(2)
    second = make_policy(module, lora=RANK)
    for name, parameter in first.trained.items():
        assert torch.equal(parameter, second.trained[name])
    torch.manual_seed(1)
    assert torch.equal(drawn, torch.rand(1))  # the user's generator goes on as it was
    tokens = torch.tensor([[4, 5, 6, 7]])
    torch.testing.assert_close(first.module(tokens).logits, module(tokens).logits)


@pytest.mark.parametrize("lora", [0, RANK])
def test_the_reference_stays_what_was_loaded(
    tiny_llama: TinyLlama, make_policy: MakePolicy, groups: list[Group], lora: int
) -> None:
    if lora:
        pytest.importorskip("peft")
    untouched = make_policy(tiny_llama())
    policy = make_policy(tiny_llama(), lora=lora, has_reference=True)
    optimizer = torch.optim.AdamW(policy.trained.values(), lr=0.05)
    for _ in range(3):
        optimizer.zero_grad()
        Likelihood(policy, groups).backward()
        optimizer.step()
    [forest] = plant(groups, 1000)
    with torch.no_grad():
        now_K = policy.logprobs(forest, 0.7)
        before_K = untouched.logprobs(forest, 0.7)
    assert (now_K - before_K).abs().max() > 0.1
    torch.testing.assert_close(policy.reference_logprobs(forest, 0.7), before_K)
    with torch.no_grad():  # the adapters are back in place
        assert torch.equal(policy.logprobs(forest, 0.7), now_K)


@pytest.mark.parametrize("lora", [0, RANK])
def test_what_is_saved_is_the_model_that_was_trained(
    tmp_path: Path,
    tiny_llama: TinyLlama,
    word_tokenizer: Callable[..., PreTrainedTokenizerFast],
    move: Callable[..., None],
    lora: int,
) -> None:
    if lora:
        pytest.importorskip("peft")
    module = tiny_llama()
    model = LanguageModel("tiny", Path(), "", word_tokenizer(), frozenset({3}), module)
    policy = Policy(model, lora=lora)
    move(policy.module, seed=4, scale=0.1)
    tokens = torch.tensor([[4, 5, 6, 7, 20]])
    expected = policy.module(tokens).logits
    policy.save(tmp_path / "kept")
    torch.testing.assert_close(policy.module(tokens).logits, expected)  # it can be trained on
    assert policy.trained
    assert all(p.requires_grad for p in policy.trained.values())
    loaded = load_model(str(tmp_path / "kept"), "cpu")
    torch.testing.assert_close(loaded.module(tokens).logits, expected, rtol=1e-4, atol=1e-4)
    assert not any("lora" in name for name, _ in loaded.module.named_parameters())
    assert loaded.tokenizer.encode("Paris?") == model.tokenizer.encode("Paris?")


@pytest.mark.parametrize("lora", [0, RANK])
def test_recomputed_activations_give_the_same_gradient(
    tiny_llama: TinyLlama, make_policy: MakePolicy, groups: list[Group], lora: int
) -> None:
    if lora:
        pytest.importorskip("peft")
    found, runs = [], []
    for gradient_checkpointing in (False, True):
        policy = make_policy(tiny_llama(), lora=lora, gradient_checkpointing=gradient_checkpointing)
        counted: list[int] = []
        part = policy.module.model.layers[0].input_layernorm
        part.register_forward_hook(lambda *_, counted=counted: counted.append(1))
        PolicyGradient(policy, groups).backward()
        found.append(gradients(policy))
        runs.append(len(counted))
        assert not policy.module.training
    assert runs == [1, 2]  # once more in the backward pass
    assert_same(found[1], found[0])


def tiny_gpt2(dropout: float) -> GPT2LMHeadModel:
    torch.manual_seed(3)
    config = GPT2Config(
        vocab_size=30,
        n_embd=32,
        n_layer=2,
        n_head=4,
        n_positions=64,
        attn_pdrop=dropout,
        embd_pdrop=dropout,
        resid_pdrop=dropout,
    )
    return GPT2LMHeadModel(config)


@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_dropout_is_off(
    tiny_llama: TinyLlama, make_policy: MakePolicy, groups: list[Group], family: str
) -> None:
    """Activations are recomputed in training mode, in which dropout would act."""
    found = []
    for dropout in (0.0, 0.5):
        module = tiny_llama(attention_dropout=dropout) if family == "llama" else tiny_gpt2(dropout)
        policy = make_policy(module, gradient_checkpointing=True)
        PolicyGradient(policy, groups).backward()
        found.append(gradients(policy))
    for name, gradient in found[0].items():
        assert torch.equal(gradient, found[1][name])
    tokens = torch.tensor([[4, 5, 6, 7]])
    module.train()  # the control: the model that was given drops
    assert not torch.equal(module(tokens).logits, module(tokens).logits)


def test_bfloat16_is_refused_without_cuda(tiny_llama: TinyLlama, make_policy: MakePolicy) -> None:
    with pytest.raises(ConfigError, match="--dtype bfloat16 trains on CUDA only"):
        make_policy(tiny_llama(), dtype=Dtype.BFLOAT16)


def test_models_that_cannot_recompute_are_refused(
    tiny_llama: TinyLlama, make_policy: MakePolicy
) -> None:
    module = tiny_llama()
    module.supports_gradient_checkpointing = False
    with pytest.raises(ConfigError, match="--gradient-checkpointing: llama models"):
        make_policy(module, gradient_checkpointing=True)


def test_weights_that_are_no_numbers_are_seen(
    tiny_llama: TinyLlama, make_policy: MakePolicy
) -> None:
    policy = make_policy(tiny_llama())
    assert policy.is_finite()
    with torch.no_grad():
        next(iter(policy.trained.values()))[0] = float("inf")
    assert not policy.is_finite()
