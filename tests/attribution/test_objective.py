"""The gradients of trees against plain ones, completion by completion, written from the papers."""

import functools
import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass

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

from attrib.attribution.forest import plant
from attrib.attribution.groups import Group
from attrib.attribution.objective import (
    Advantage,
    GroupGradient,
    Likelihood,
    Normalisation,
    PolicyGradient,
    Preference,
    TreeLoss,
    group_advantages,
)
from attrib.attribution.policy import Policy
from attrib.sampling.models import LanguageModel

VOCABULARY = 30
END = 0
LONGEST = 6
CLIP_LOW, CLIP_HIGH = 0.1, 0.25
BETA = 0.5
SIZES = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "intermediate_size": 48,
    "max_position_embeddings": 64,
}
FAMILIES: dict[str, Callable[[], PreTrainedModel]] = {
    "llama": lambda: LlamaForCausalLM(LlamaConfig(**SIZES)),
    "qwen2": lambda: Qwen2ForCausalLM(Qwen2Config(**SIZES)),
    "qwen3": lambda: Qwen3ForCausalLM(Qwen3Config(**SIZES, head_dim=8)),
    "gpt2": lambda: GPT2LMHeadModel(
        GPT2Config(vocab_size=VOCABULARY, n_embd=32, n_layer=2, n_head=4, n_positions=64)
    ),
}

MakeGroup = Callable[..., Group]
MakePolicy = Callable[..., Policy]
Move = Callable[..., None]


@dataclass(frozen=True, slots=True)
class Settings:
    """What of the objective the tests vary."""

    advantage: Advantage = Advantage.GROUP_NORMALISED
    normalisation: Normalisation = Normalisation.PER_SEQUENCE
    kl: float = 0.0
    temperature: float = 1.0

    def __str__(self) -> str:
        return f"{self.advantage} {self.normalisation} kl={self.kl} T={self.temperature}"


EVERY_SETTING = [
    Settings(*values)
    for values in itertools.product(Advantage, Normalisation, (0.0, 0.1), (1, 0.7))
]


@dataclass(frozen=True, slots=True)
class Weights:
    """A model before training, when its rollouts were drawn, and when the gradient is taken."""

    reference: PreTrainedModel
    sampler: PreTrainedModel
    current: PreTrainedModel


@pytest.fixture(scope="module")
def make_weights(
    randomize: Callable[..., PreTrainedModel], make_policy: MakePolicy, move: Move
) -> Callable[[str], Weights]:
    made: dict[str, Weights] = {}

    def make(family: str) -> Weights:
        if family not in made:
            reference = randomize(FAMILIES[family](), seed=5, scale=0.2)
            sampler = make_policy(reference).module
            move(sampler, seed=1)
            current = make_policy(sampler).module
            move(current, seed=2)
            made[family] = Weights(reference, sampler, current)
        return made[family]

    return make


@pytest.fixture(scope="module")
def batch(make_group: MakeGroup) -> list[Group]:
    """Return a batch with every peculiarity that a batch may have.

    All prompts share a beginning; the second is the first one continued by what a completion of the
    first begins with; the fourth asks the first's question again.
    """
    return [
        make_group(
            (3, 4, 5),
            *[((7, 8, 9, END), True)] * 2,  # duplicates on both sides
            *[((7, 8, 2, END), False)] * 2,
            ((7, 8, 2, END, 4, END), False),  # continues another one
            ((6, 11, 12, 13, 14, 15), True),  # cut off by the limit
        ),
        make_group(
            (3, 4, 5, 7),
            ((8,), True),  # one-token answers
            ((9,), False),
            ((END,), False),  # an empty completion
            ((8, END), True),
        ),
        make_group((3, 4, 6), ((21, END), False), ((22, END), False), ((21, 7, END), False)),
        make_group((3, 4, 5), ((7, 8, END), False), ((7, 16, END), True)),
        make_group((3, 4, 6, 6)),  # none of its rollouts could be graded
        make_group((3, 9), ((7, END), True), ((7, END), True)),
    ]


def logprobs(
    module: PreTrainedModel,
    prompt: tuple[int, ...],
    completion: tuple[int, ...],
    temperature: float = 1.0,
) -> torch.Tensor:
    """Return log p of each token of a completion, read on its own."""
    token_T = torch.tensor([*prompt, *completion])
    logprob_TV = (module(token_T[None]).logits[0] / temperature).log_softmax(-1)
    place_T = torch.arange(len(prompt), len(token_T))
    return logprob_TV[place_T - 1, token_T[place_T]]


@functools.cache
@torch.no_grad()
def frozen_logprobs(
    module: PreTrainedModel,
    prompt: tuple[int, ...],
    completion: tuple[int, ...],
    temperature: float = 1.0,
) -> torch.Tensor:
    """Return the same of a model that no test changes."""
    return logprobs(module, prompt, completion, temperature)


def plain_advantages(group: Group, advantage: Advantage) -> torch.Tensor:
    reward_G = torch.tensor(group.correct_G, dtype=torch.float32)
    if advantage is Advantage.LEAVE_ONE_OUT:
        return reward_G - (reward_G.sum() - reward_G) / (len(reward_G) - 1)
    if advantage is Advantage.MEAN_ONLY:
        return reward_G - reward_G.mean()
    return (reward_G - reward_G.mean()) / (reward_G.std() + 1e-4)


def divided(
    losses: Sequence[torch.Tensor], kept: int, batch_tokens: int, normalisation: Normalisation
) -> torch.Tensor:
    """Return a group's part of the loss from its completions' terms by token."""
    if normalisation is Normalisation.PER_TOKEN:
        return torch.cat(list(losses)).sum() / batch_tokens
    if normalisation is Normalisation.PER_SEQUENCE:
        return torch.stack([loss_T.mean() for loss_T in losses]).mean() / kept
    return torch.stack([loss_T.sum() / LONGEST for loss_T in losses]).mean() / kept


@dataclass(frozen=True, slots=True)
class Gradient:
    """A gradient, and each group's part of the loss."""

    vector: torch.Tensor
    losses: list[float]


def gradient_of(module: torch.nn.Module, losses: Sequence[float]) -> Gradient:
    parts = [p.grad.flatten() for p in module.parameters() if p.grad is not None]
    return Gradient(torch.cat(parts).clone(), list(losses))


def plain_gradient(weights: Weights, groups: Sequence[Group], settings: Settings) -> Gradient:
    """Return the clipped policy gradient with its penalty, one completion at a time."""
    batch_tokens = sum(len(c) for group in groups for c in group.completions)
    kept = sum(bool(group.completions) for group in groups)
    parts = []
    for group in groups:
        losses = []
        advantage_G = plain_advantages(group, settings.advantage) if group.completions else []
        for completion, advantage in zip(group.completions, advantage_G, strict=True):
            asked = (group.prompt, completion, settings.temperature)
            now_T = logprobs(weights.current, *asked)
            then_T = frozen_logprobs(weights.sampler, *asked)
            before_T = frozen_logprobs(weights.reference, *asked)
            ratio_T = (now_T - then_T).exp()
            clipped_T = ratio_T.clamp(1 - CLIP_LOW, 1 + CLIP_HIGH)
            away_T = before_T - now_T
            gain_T = torch.minimum(ratio_T * advantage, clipped_T * advantage)
            losses.append(settings.kl * (away_T.exp() - away_T - 1) - gain_T)
        if losses:
            parts.append(divided(losses, kept, batch_tokens, settings.normalisation))
        else:
            parts.append(torch.zeros(()))
    weights.current.zero_grad()
    torch.stack(parts).sum().backward()
    return gradient_of(weights.current, [part.item() for part in parts])


def tree_gradient(
    make_policy: MakePolicy,
    weights: Weights,
    groups: Sequence[Group],
    settings: Settings,
    at_once: int = 1024,
) -> tuple[Gradient, list[GroupGradient]]:
    """Return the gradient of the second pass over a batch, the weights having moved in between."""
    policy = make_policy(weights.reference, has_reference=settings.kl > 0)
    loss = PolicyGradient(
        policy,
        groups,
        advantage=settings.advantage,
        normalisation=settings.normalisation,
        longest=LONGEST,
        clip_low=CLIP_LOW,
        clip_high=CLIP_HIGH,
        kl=settings.kl,
        temperature=settings.temperature,
        at_once=at_once,
    )
    policy.module.load_state_dict(weights.sampler.state_dict())
    loss.backward()
    policy.module.load_state_dict(weights.current.state_dict())
    policy.module.zero_grad()
    parts = loss.backward()
    return gradient_of(policy.module, [part.loss for part in parts]), parts


def assert_same(found: Gradient, expected: Gradient, error: float = 1e-4) -> None:
    assert found.losses == pytest.approx(expected.losses, rel=1e-3, abs=1e-6)
    difference = (found.vector - expected.vector).norm() / expected.vector.norm()
    assert difference <= error
    assert torch.cosine_similarity(found.vector, expected.vector, dim=0) >= 0.9999


@pytest.mark.parametrize("settings", EVERY_SETTING, ids=str)
def test_every_variant_equals_the_plain_gradient(
    make_weights: Callable[[str], Weights],
    make_policy: MakePolicy,
    batch: list[Group],
    settings: Settings,
) -> None:
    weights = make_weights("llama")
    expected = plain_gradient(weights, batch, settings)
    assert_same(tree_gradient(make_policy, weights, batch, settings)[0], expected)


@pytest.mark.parametrize("family", ["qwen2", "qwen3", "gpt2"])
@pytest.mark.parametrize("settings", [EVERY_SETTING[0], EVERY_SETTING[7]], ids=str)
def test_every_architecture_equals_the_plain_gradient(
    make_weights: Callable[[str], Weights],
    make_policy: MakePolicy,
    batch: list[Group],
    family: str,
    settings: Settings,
) -> None:
    weights = make_weights(family)
    expected = plain_gradient(weights, batch, settings)
    assert_same(tree_gradient(make_policy, weights, batch, settings)[0], expected)


def test_the_batch_meets_both_clips(
    make_weights: Callable[[str], Weights], batch: list[Group]
) -> None:
    """Without clipped terms the tests above would prove nothing of clipping."""
    weights = make_weights("llama")
    ratios: dict[bool, list[torch.Tensor]] = {True: [], False: []}
    for group in [group for group in batch if group.has_both]:
        for completion, correct in zip(group.completions, group.correct_G, strict=True):
            now_T = frozen_logprobs(weights.current, group.prompt, completion)
            then_T = frozen_logprobs(weights.sampler, group.prompt, completion)
            ratios[bool(correct)].append((now_T - then_T).exp())
    right_T, wrong_T = torch.cat(ratios[True]), torch.cat(ratios[False])
    assert 0 < (right_T > 1 + CLIP_HIGH).sum() < len(right_T)
    assert 0 < (wrong_T < 1 - CLIP_LOW).sum() < len(wrong_T)
    assert ((right_T > 1 + CLIP_LOW) & (right_T < 1 + CLIP_HIGH)).any()  # tells ε apart
    assert (right_T < 1 - CLIP_LOW).any()  # … and which side is clipped for whom
    assert (wrong_T > 1 + CLIP_HIGH).any()


@pytest.mark.parametrize("kl", [0.0, 0.1])
@pytest.mark.parametrize("normalisation", Normalisation)
def test_how_much_goes_through_the_model_at_once_changes_nothing(
    make_weights: Callable[[str], Weights],
    make_policy: MakePolicy,
    batch: list[Group],
    normalisation: Normalisation,
    kl: float,
) -> None:
    settings = Settings(normalisation=normalisation, kl=kl)
    weights = make_weights("llama")
    (whole, parts), *others = (
        tree_gradient(make_policy, weights, batch, settings, at_once) for at_once in (10_000, 1, 30)
    )
    for gradient, its_parts in others:
        assert_same(gradient, whole, error=1e-5)
        assert [p.tokens for p in its_parts] == [p.tokens for p in parts]
        assert [p.weight for p in its_parts] == [p.weight for p in parts]


@pytest.mark.parametrize("normalisation", Normalisation)
def test_groups_without_signal_count_in_the_denominators(
    make_weights: Callable[[str], Weights],
    make_policy: MakePolicy,
    batch: list[Group],
    normalisation: Normalisation,
) -> None:
    settings, weights = Settings(normalisation=normalisation), make_weights("llama")
    whole, _ = tree_gradient(make_policy, weights, batch, settings)
    informative = [group for group in batch if group.has_both]
    alone, _ = tree_gradient(make_policy, weights, informative, settings)
    kept = [group for group in batch if group.completions]
    share = len(informative) / len(kept)
    if normalisation is Normalisation.PER_TOKEN:
        share = sum(g.length_G.sum() for g in informative) / sum(g.length_G.sum() for g in kept)
    torch.testing.assert_close(whole.vector, share * alone.vector, rtol=1e-3, atol=1e-6)
    of_kept, _ = tree_gradient(make_policy, weights, kept, settings)
    torch.testing.assert_close(whole.vector, of_kept.vector, rtol=1e-4, atol=1e-7)


@pytest.fixture
def count_nodes() -> Callable[[torch.nn.Module], list[int]]:
    """Return `count_nodes(module)`: a list that grows by the tokens of every forward."""

    def watch(module: torch.nn.Module) -> list[int]:
        counts: list[int] = []
        module.get_input_embeddings().register_forward_hook(
            lambda _, inputs, __: counts.append(inputs[0].numel())
        )
        return counts

    return watch


def test_only_what_predicts_something_is_run(
    make_weights: Callable[[str], Weights],
    make_policy: MakePolicy,
    make_group: MakeGroup,
    count_nodes: Callable[[torch.nn.Module], list[int]],
) -> None:
    policy = make_policy(make_weights("llama").reference)
    counts = count_nodes(policy.module)
    group = make_group((3, 4, 5), ((7, 8, END), True), ((7, 8, END), True), ((7, 9), False))
    [part] = PolicyGradient(policy, [group]).backward()
    assert counts == [3 + 2]  # the prompt, 7 and 7 8; the two ends and 9 predict nothing
    assert part.tokens == 4  # 7, 8, END and 9, each once


def test_groups_without_signal_are_run_for_the_penalty_only(
    make_weights: Callable[[str], Weights],
    make_policy: MakePolicy,
    make_group: MakeGroup,
    count_nodes: Callable[[torch.nn.Module], list[int]],
) -> None:
    wrong = make_group((3, 4, 5), ((7, 8, END), False), ((9, 8, END), False))
    mixed = make_group((6,), ((7, END), True), ((8, END), False))
    reference = make_weights("llama").reference
    policy = make_policy(reference)
    counts = count_nodes(policy.module)
    nothing, something = PolicyGradient(policy, [wrong, mixed]).backward()
    assert counts == [1 + 2]
    assert nothing == GroupGradient(0.0, 0, 0.0)
    assert something.weight > 0

    nothing, _ = Likelihood(policy, [wrong, mixed]).backward()
    assert nothing == GroupGradient(0.0, 0, 0.0)

    penalised = make_policy(reference, has_reference=True)
    counts = count_nodes(penalised.module)
    part, _ = PolicyGradient(penalised, [wrong, mixed], kl=0.1).backward()
    assert counts == [3 + 4 + 1 + 2]
    assert (part.tokens, part.weight) == (6, 0.0)


def plain_likelihood(
    module: PreTrainedModel, groups: Sequence[Group], normalisation: Normalisation
) -> Gradient:
    right = [
        [c for c, correct in zip(group.completions, group.correct_G, strict=True) if correct]
        for group in groups
    ]
    tokens, kept = sum(len(c) for one in right for c in one), sum(map(bool, right))
    parts = [
        divided([-logprobs(module, group.prompt, c) for c in one], kept, tokens, normalisation)
        if one
        else torch.zeros(())
        for group, one in zip(groups, right, strict=True)
    ]
    module.zero_grad()
    torch.stack(parts).sum().backward()
    return gradient_of(module, [part.item() for part in parts])


def plain_preference(weights: Weights, groups: Sequence[Group]) -> Gradient:
    kept = sum(group.has_both for group in groups)
    parts = []
    for group in groups:
        ratios: dict[bool, list[torch.Tensor]] = {True: [], False: []}
        for completion, correct in zip(group.completions, group.correct_G, strict=True):
            now_T = logprobs(weights.current, group.prompt, completion)
            before_T = frozen_logprobs(weights.reference, group.prompt, completion)
            ratios[bool(correct)].append((now_T - before_T).sum())
        pairs = [
            -torch.nn.functional.logsigmoid(BETA * (right - wrong))
            for right in ratios[True]
            for wrong in ratios[False]
        ]
        parts.append(torch.stack(pairs).mean() / kept if pairs else torch.zeros(()))
    weights.current.zero_grad()
    torch.stack(parts).sum().backward()
    return gradient_of(weights.current, [part.item() for part in parts])


def run_backward(policy: Policy, loss: TreeLoss, current: PreTrainedModel) -> Gradient:
    policy.module.load_state_dict(current.state_dict())
    policy.module.zero_grad()
    return gradient_of(policy.module, [part.loss for part in loss.backward()])


@pytest.mark.parametrize("at_once", [1, 10_000])
@pytest.mark.parametrize("normalisation", Normalisation)
def test_the_likelihood_equals_the_plain_one(
    make_weights: Callable[[str], Weights],
    make_policy: MakePolicy,
    batch: list[Group],
    normalisation: Normalisation,
    at_once: int,
) -> None:
    weights = make_weights("llama")
    policy = make_policy(weights.reference)
    loss = Likelihood(policy, batch, normalisation=normalisation, longest=LONGEST, at_once=at_once)
    expected = plain_likelihood(weights.current, batch, normalisation)
    assert_same(run_backward(policy, loss, weights.current), expected)


@pytest.mark.parametrize("family", ["llama", "gpt2"])
@pytest.mark.parametrize("at_once", [1, 10_000])
def test_preferences_equal_those_over_all_pairs(
    make_weights: Callable[[str], Weights],
    make_policy: MakePolicy,
    batch: list[Group],
    family: str,
    at_once: int,
) -> None:
    weights = make_weights(family)
    policy = make_policy(weights.reference, has_reference=True)
    loss = Preference(policy, batch, beta=BETA, at_once=at_once)
    expected = plain_preference(weights, batch)
    found = run_backward(policy, loss, weights.current)
    assert_same(found, expected)
    assert expected.losses[2] == expected.losses[4] == 0.0  # without a pair
    # once more, as a second inner epoch would
    assert_same(run_backward(policy, loss, weights.current), expected)


def test_preferences_begin_at_an_even_chance(
    make_weights: Callable[[str], Weights], make_policy: MakePolicy, make_group: MakeGroup
) -> None:
    policy = make_policy(make_weights("llama").reference, has_reference=True)
    group = make_group((3, 4), ((7, END), True), ((8, END), False), ((9, END), False))
    [part] = Preference(policy, [group], beta=BETA).backward()
    assert part.loss == pytest.approx(np.log(2))  # nothing has moved yet
    assert part.weight == pytest.approx(BETA / 2)


def test_the_real_model_equals_the_plain_gradient(
    embedded_model: LanguageModel, make_group: MakeGroup
) -> None:
    def ask(question: str, *answers: tuple[str, bool]) -> Group:
        encode = embedded_model.tokenizer.encode
        ended = [
            ((*encode(text), *sorted(embedded_model.end_token_ids)[:1]), c) for text, c in answers
        ]
        return make_group(tuple(encode(question)), *ended)

    groups = [
        ask("Capital of France:", (" Paris", True), (" Paris", True), (" Paris is", False)),
        ask("Capital of Peru:", (" Lima", True), ("", False)),
    ]
    module = embedded_model.module
    weights = Weights(module, module, module)
    settings = Settings()
    expected = plain_gradient(weights, groups, settings)
    module.zero_grad(set_to_none=True)
    parts = PolicyGradient(Policy(embedded_model), groups).backward()
    found = gradient_of(module, [part.loss for part in parts])
    module.zero_grad(set_to_none=True)
    assert_same(found, expected)


def test_advantages_by_hand() -> None:
    reward_G = np.array([1.0, 0.0, 0.0, 0.0])
    # mean 1/4, deviations 3/4, -1/4 ×3, sample variance (9/16 + 3/16)/3 = 1/4
    centred_G = np.array([0.75, -0.25, -0.25, -0.25])
    np.testing.assert_allclose(group_advantages(reward_G), centred_G / 0.5001)
    np.testing.assert_allclose(group_advantages(reward_G, Advantage.MEAN_ONLY), centred_G)
    np.testing.assert_allclose(
        group_advantages(reward_G, Advantage.LEAVE_ONE_OUT), [1, -1 / 3, -1 / 3, -1 / 3]
    )


@pytest.mark.parametrize("advantage", Advantage)
@pytest.mark.parametrize("rewards", [[1.0, 1.0, 1.0], [0.0, 0.0], [1.0], []])
def test_groups_that_agree_have_no_advantage(rewards: list[float], advantage: Advantage) -> None:
    assert not group_advantages(np.array(rewards), advantage).any()


def test_gradient_weights_by_hand(
    make_weights: Callable[[str], Weights], make_policy: MakePolicy, make_group: MakeGroup
) -> None:
    policy = make_policy(make_weights("llama").reference)
    groups = [
        make_group((3, 4), ((7, 8, 9, END), True), ((6, END), False)),
        make_group((3, 5), ((7,), False), ((8, END), False)),
    ]
    first, second = PolicyGradient(
        policy, groups, advantage=Advantage.MEAN_ONLY, normalisation=Normalisation.PER_TOKEN
    ).backward()
    assert first.weight == pytest.approx(0.5 * 4 / 9 + 0.5 * 2 / 9)
    assert second.weight == 0.0
    first, _ = PolicyGradient(policy, groups, advantage=Advantage.MEAN_ONLY).backward()
    assert first.weight == pytest.approx(2 * 0.5 / 4)  # each is one of four, over its own tokens
    right, nothing = Likelihood(policy, groups).backward()
    assert (right.weight, nothing.weight) == (1.0, 0.0)


def test_forests_are_filled_with_distinct_tokens() -> None:
    """What prompts have in common is run once; a limit holds for what is run."""
    right_G = np.ones(2, dtype=np.bool_)
    groups = [Group(f"q{n}", (1, 2, 3, 4, 10 + n), ((5, 6, 7), (5, 8)), right_G) for n in range(9)]
    forests = list(plant(groups, 16))
    sizes = [len(forest.tree.token_N) for forest in forests]
    # Four shared tokens, and for each group its own last one, `5` and `5 6`.
    assert sizes == [4 + 4 * 3, 4 + 4 * 3, 4 + 3]
    assert [len(forest.groups) for forest in forests] == [4, 4, 1]
    assert [group for forest in forests for group in forest.groups] == groups
    assert [len(forest.groups) for forest in plant(groups, 1)] == [1] * 9
