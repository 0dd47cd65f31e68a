"""The tree's policy gradient against that of TRL's GRPOTrainer.

TRL does everything that it does in training save the sampling: it is handed fixed rollouts in the
place of its own, scores them, makes advantages of the rewards, computes log-probabilities under the
weights that sampled and under the reference, and the loss under weights that have moved since. A
plain implementation, one completion at a time, vouches for TRL being asked the right thing.
"""

import copy
import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from datasets import Dataset
from numpy.typing import NDArray
from transformers import LlamaForCausalLM, PreTrainedTokenizerFast
from trl import GRPOConfig, GRPOTrainer

from attrib.attribution.groups import Group
from attrib.attribution.objective import Advantage, Normalisation, PolicyGradient
from attrib.attribution.policy import Policy
from attrib.sampling.models import LanguageModel

END = 3
LONGEST = 7  # limit on new tokens
CLIP_LOW, CLIP_HIGH = 0.2, 0.28
LOSS_TYPES = {
    Normalisation.PER_SEQUENCE: "grpo",
    Normalisation.PER_TOKEN: "dapo",
    Normalisation.CONSTANT: "dr_grpo",
}
SCALE_REWARDS = {
    Advantage.GROUP_NORMALISED: "group",
    Advantage.MEAN_ONLY: "none",
    Advantage.LEAVE_ONE_OUT: "none",
}

# What TRL itself does; nothing that a setting here would change.
pytestmark = pytest.mark.filterwarnings("ignore:.*gradient_checkpointing:FutureWarning")

Tokenizers = Callable[..., PreTrainedTokenizerFast]


def make_group(prompt: Sequence[int], *completions: tuple[tuple[int, ...], bool]) -> Group:
    return Group(
        "question",
        tuple(prompt),
        tuple(tokens for tokens, _ in completions),
        np.array([correct for _, correct in completions]),
    )


GROUPS = (
    make_group(  # duplicates on both sides, shared prefixes, one that continues another, no end
        (4, 8, 9, 11, 20),
        ((21, 22, 23, END), True),
        ((21, 22, 23, END), True),
        ((21, 22, 24, END), False),
        ((21, 22, 24, END), False),
        ((21, 22, 24, END, 9, END), False),
        ((30, 31, 32, 33, 34, 35), True),
    ),
    make_group(  # one-token answers, an empty completion, a prompt of another length
        (4, 8, 12),
        ((25,), True),
        ((25,), True),
        ((26,), False),
        ((END,), False),
        ((27, END), False),
        ((26, 28, END), False),
    ),
    make_group(  # nothing to learn, but it counts in the denominators, and carries a penalty
        (4, 8, 9, 13),
        *[((21 + i, 22, END), False) for i in range(6)],
    ),
)


@dataclass(frozen=True, slots=True)
class Settings:
    """What of the objective the tests vary."""

    normalisation: Normalisation = Normalisation.PER_SEQUENCE
    advantage: Advantage = Advantage.GROUP_NORMALISED
    kl: float = 0.0
    temperature: float = 1.0

    def __str__(self) -> str:
        return f"{self.normalisation} {self.advantage} kl={self.kl} T={self.temperature}"


EVERY_SETTING = [
    Settings(*values) for values in itertools.product(LOSS_TYPES, Advantage, (0.0, 0.1), (1.0, 0.7))
]


@dataclass(frozen=True, slots=True)
class Weights:
    """The model at the three times that count."""

    reference: LlamaForCausalLM
    """Before training."""
    sampler: LlamaForCausalLM
    """When the rollouts were drawn."""
    current: LlamaForCausalLM
    """When the gradient is taken; the same module where it is the first on these rollouts."""

    @property
    def is_on_policy(self) -> bool:
        return self.current is self.sampler


@dataclass(frozen=True, slots=True)
class Gradient:
    loss: float
    vector: torch.Tensor


@pytest.fixture(autouse=True)
def no_warning_about_handing_out_rollouts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRL_EXPERIMENTAL_SILENCE", "1")


@pytest.fixture(scope="module")
def weights(tiny_llama: Callable[..., LlamaForCausalLM]) -> Weights:
    reference = tiny_llama(seed=0, scale=0.2)
    sampler = move(reference, seed=1)
    return Weights(reference, sampler, move(sampler, seed=2))


def move(module: LlamaForCausalLM, seed: int) -> LlamaForCausalLM:
    """Return a copy some optimiser steps further."""
    generator = torch.Generator().manual_seed(seed)
    moved = copy.deepcopy(module)
    with torch.no_grad():
        for parameter in moved.parameters():
            parameter += 0.02 * torch.randn(parameter.shape, generator=generator)
    return moved


def gradient_of(loss: float, module: torch.nn.Module) -> Gradient:
    parts = [p.grad.flatten() for p in module.parameters() if p.grad is not None]
    return Gradient(loss, torch.cat(parts).clone())


def plain_logprobs(
    module: LlamaForCausalLM, group: Group, completion: tuple[int, ...], temperature: float
) -> torch.Tensor:
    """Return log p of each token of a completion, read on its own."""
    token_T = torch.tensor([*group.prompt, *completion])
    logprob_TV = (module(token_T[None]).logits[0] / temperature).log_softmax(-1)
    place_T = torch.arange(len(group.prompt), len(token_T))
    return logprob_TV[place_T - 1, token_T[place_T]]


def plain_advantages(group: Group, advantage: Advantage) -> torch.Tensor:
    reward_G = torch.tensor(group.correct_G, dtype=torch.float32)
    if advantage is Advantage.LEAVE_ONE_OUT:
        return reward_G - (reward_G.sum() - reward_G) / (len(reward_G) - 1)
    centred_G = reward_G - reward_G.mean()
    if advantage is Advantage.MEAN_ONLY:
        return centred_G
    return centred_G / (reward_G.std() + 1e-4)


def plain_gradient(weights: Weights, groups: Sequence[Group], settings: Settings) -> Gradient:
    """Return what the papers write, one completion at a time."""
    temperature = settings.temperature
    losses = []
    for group in groups:
        advantage_G = plain_advantages(group, settings.advantage)
        for completion, advantage in zip(group.completions, advantage_G, strict=True):
            now_T = plain_logprobs(weights.current, group, completion, temperature)
            with torch.no_grad():
                then_T = plain_logprobs(weights.sampler, group, completion, temperature)
                before_T = plain_logprobs(weights.reference, group, completion, temperature)
            ratio_T = (now_T - then_T).exp()
            clipped_T = ratio_T.clamp(1 - CLIP_LOW, 1 + CLIP_HIGH)
            away_T = before_T - now_T
            gain_T = torch.minimum(ratio_T * advantage, clipped_T * advantage)
            losses.append(settings.kl * (away_T.exp() - away_T - 1) - gain_T)
    if settings.normalisation is Normalisation.PER_SEQUENCE:
        loss = torch.stack([loss_T.mean() for loss_T in losses]).mean()
    elif settings.normalisation is Normalisation.PER_TOKEN:
        loss = torch.cat(losses).mean()
    else:
        loss = torch.stack([loss_T.sum() / LONGEST for loss_T in losses]).mean()
    weights.current.zero_grad()
    loss.backward()
    return gradient_of(loss.item(), weights.current)


def rows_of(groups: Sequence[Group]) -> list[dict[str, object]]:
    """Return a row of TRL's data set for each completion; its prompt is the group's number."""
    return [
        {"prompt": str(place), "correct": bool(correct)}
        for place, group in enumerate(groups)
        for correct in group.correct_G
    ]


def build_trainer(
    module: LlamaForCausalLM,
    tokenizer: PreTrainedTokenizerFast,
    groups: Sequence[Group],
    settings: Settings,
    folder: Path,
    iterations: int,
) -> GRPOTrainer:
    """Return TRL's trainer, which is handed the groups' completions where it would sample."""
    completions = [list(completion) for group in groups for completion in group.completions]
    size = len(completions) // len(groups)
    # TRL's GRPO has no leave-one-out advantages; mean-only ones of such rewards are.
    worth = size / (size - 1) if settings.advantage is Advantage.LEAVE_ONE_OUT else 1.0

    def hand_out(prompts: list[str], trainer: GRPOTrainer) -> dict[str, object]:
        ids = [list(groups[int(prompt)].prompt) for prompt in prompts]
        return {"prompt_ids": ids, "completion_ids": completions, "logprobs": None}

    def reward(correct: list[bool], **_: object) -> list[float]:
        return [worth * value for value in correct]

    config = GRPOConfig(
        output_dir=str(folder),
        report_to="none",
        use_cpu=True,
        bf16=False,
        gradient_checkpointing=False,
        per_device_train_batch_size=len(completions),
        num_generations=size,
        num_iterations=iterations,
        max_completion_length=LONGEST,
        loss_type=LOSS_TYPES[settings.normalisation],
        scale_rewards=SCALE_REWARDS[settings.advantage],
        beta=settings.kl,
        use_bias_correction_kl=False,  # would multiply the penalty by the ratio; the paper does not
        epsilon=CLIP_LOW,
        epsilon_high=CLIP_HIGH,
        temperature=settings.temperature,
    )
    return GRPOTrainer(
        module,
        reward_funcs=reward,
        args=config,
        train_dataset=Dataset.from_list(rows_of(groups)),
        processing_class=tokenizer,
        rollout_func=hand_out,
    )


def trl_batch(
    weights: Weights,
    tokenizer: PreTrainedTokenizerFast,
    groups: Sequence[Group],
    settings: Settings,
    folder: Path,
) -> tuple[GRPOTrainer, dict[str, torch.Tensor]]:
    """Return TRL's trainer on the weights that sampled, and the batch that it made of rollouts."""
    module = copy.deepcopy(weights.sampler)
    if settings.kl > 0:  # TRL loads its reference from where it believes the model came from
        weights.reference.save_pretrained(folder / "reference")
        module.config._name_or_path = str(folder / "reference")
    iterations = 1 if weights.is_on_policy else 2  # with one, TRL takes the ratio to be 1
    trainer = build_trainer(module, tokenizer, groups, settings, folder, iterations)
    trainer.current_gradient_accumulation_steps = 1  # set by the training loop otherwise
    module.train()
    return trainer, trainer._generate_and_score_completions(rows_of(groups))


def trl_gradient(
    weights: Weights,
    tokenizer: PreTrainedTokenizerFast,
    groups: Sequence[Group],
    settings: Settings,
    folder: Path,
) -> Gradient:
    trainer, batch = trl_batch(weights, tokenizer, groups, settings, folder)
    trainer.model.load_state_dict(weights.current.state_dict())
    loss = trainer.compute_loss(trainer.model, batch)
    loss.backward()
    return gradient_of(loss.item(), trainer.model)


def tree_gradient(
    weights: Weights,
    tokenizer: PreTrainedTokenizerFast,
    groups: Sequence[Group],
    settings: Settings,
    at_once: int = 1024,
) -> Gradient:
    module = copy.deepcopy(weights.reference)
    language_model = LanguageModel("tiny", Path(), "", tokenizer, frozenset({END}), module)
    objective = PolicyGradient(
        Policy(language_model, has_reference=settings.kl > 0),
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
    module.load_state_dict(weights.sampler.state_dict())
    parts = objective.backward()  # takes these weights for those that sampled
    if not weights.is_on_policy:
        module.zero_grad()
        module.load_state_dict(weights.current.state_dict())
        parts = objective.backward()
    return gradient_of(sum(part.loss for part in parts), module)


def assert_same(found: Gradient, expected: Gradient) -> None:
    assert found.loss == pytest.approx(expected.loss, rel=1e-4, abs=1e-6)
    error = (found.vector - expected.vector).norm() / expected.vector.norm()
    assert error <= 1e-4
    assert torch.cosine_similarity(found.vector, expected.vector, dim=0) >= 0.9999


@pytest.mark.parametrize("settings", EVERY_SETTING, ids=str)
def test_trees_trl_and_the_papers_agree(
    weights: Weights, word_tokenizer: Tokenizers, settings: Settings, tmp_path: Path
) -> None:
    tokenizer = word_tokenizer()
    expected = trl_gradient(weights, tokenizer, GROUPS, settings, tmp_path)
    assert_same(plain_gradient(weights, GROUPS, settings), expected)
    assert_same(tree_gradient(weights, tokenizer, GROUPS, settings), expected)


@pytest.mark.parametrize("normalisation", LOSS_TYPES)
@pytest.mark.parametrize("kl", [0.0, 0.1])
def test_the_first_step_on_a_batch_agrees(
    weights: Weights,
    word_tokenizer: Tokenizers,
    normalisation: Normalisation,
    kl: float,
    tmp_path: Path,
) -> None:
    tokenizer, settings = word_tokenizer(), Settings(normalisation, kl=kl)
    on_policy = replace(weights, current=weights.sampler)
    expected = trl_gradient(on_policy, tokenizer, GROUPS, settings, tmp_path)
    assert_same(tree_gradient(on_policy, tokenizer, GROUPS, settings), expected)


@pytest.mark.parametrize("at_once", [1, 40])
def test_groups_of_several_forwards_add_up_to_the_batch_of_trl(
    weights: Weights, word_tokenizer: Tokenizers, at_once: int, tmp_path: Path
) -> None:
    tokenizer, settings = word_tokenizer(), Settings(Normalisation.PER_TOKEN, kl=0.1)
    expected = trl_gradient(weights, tokenizer, GROUPS, settings, tmp_path)
    assert_same(tree_gradient(weights, tokenizer, GROUPS, settings, at_once), expected)


def random_group(generator: np.random.Generator, size: int) -> Group:
    """Return completions over three words, so that many share prefixes or are equal."""
    lengths = generator.integers(0, LONGEST, size)
    drawn = [(*generator.integers(20, 23, length).tolist(), END) for length in lengths]
    correct = [bool(value) for value in generator.random(size) < 0.5]
    prompt = generator.integers(4, 40, generator.integers(1, 6)).tolist()
    return make_group(prompt, *zip(drawn, correct, strict=True))


@pytest.mark.parametrize("seed", range(5))
def test_random_groups_agree(
    weights: Weights, word_tokenizer: Tokenizers, seed: int, tmp_path: Path
) -> None:
    generator = np.random.default_rng(seed)
    groups = [random_group(generator, size=16) for _ in range(3)]
    settings = EVERY_SETTING[int(generator.integers(len(EVERY_SETTING)))]
    tokenizer = word_tokenizer()
    expected = trl_gradient(weights, tokenizer, groups, settings, tmp_path)
    assert_same(tree_gradient(weights, tokenizer, groups, settings), expected)


@pytest.mark.parametrize(
    ("advantage", "expected_G"),
    [
        # 2 right of 6: the mean is 1/3, the sample variance (2·4/9 + 4·1/9)/5 = 4/15
        (Advantage.GROUP_NORMALISED, np.array([2, 2, -1, -1, -1, -1]) / (3 * (0.51639778 + 1e-4))),
        (Advantage.MEAN_ONLY, np.array([2, 2, -1, -1, -1, -1]) / 3),
        (Advantage.LEAVE_ONE_OUT, np.array([4, 4, -2, -2, -2, -2]) / 5),
    ],
)
def test_trl_reads_every_token_and_makes_the_advantages(
    weights: Weights,
    word_tokenizer: Tokenizers,
    advantage: Advantage,
    expected_G: NDArray[np.float64],
    tmp_path: Path,
) -> None:
    settings = Settings(advantage=advantage, kl=0.1)
    _, batch = trl_batch(weights, word_tokenizer(), GROUPS, settings, tmp_path)
    lengths = np.concatenate([group.length_G for group in GROUPS])
    np.testing.assert_array_equal(batch["completion_mask"].sum(1), lengths)
    assert batch["prompt_mask"].sum(1).tolist() == [5] * 6 + [3] * 6 + [4] * 6
    np.testing.assert_allclose(batch["advantages"][6:12], expected_G, rtol=1e-5)
    for name, module in [
        ("old_per_token_logps", weights.sampler),
        ("ref_per_token_logps", weights.reference),
    ]:
        with torch.no_grad():
            expected_T = plain_logprobs(module, GROUPS[0], GROUPS[0].completions[4], 1.0)
        torch.testing.assert_close(batch[name][4, :6], expected_T, rtol=1e-4, atol=1e-5)


def test_the_rollouts_meet_both_clips(weights: Weights) -> None:
    ratios = {True: [], False: []}
    for group in GROUPS[:2]:
        for completion, correct in zip(group.completions, group.correct_G, strict=True):
            with torch.no_grad():
                now_T = plain_logprobs(weights.current, group, completion, 1.0)
                then_T = plain_logprobs(weights.sampler, group, completion, 1.0)
            ratios[bool(correct)].append((now_T - then_T).exp())
    right_T, wrong_T = torch.cat(ratios[True]), torch.cat(ratios[False])
    assert 0 < (right_T > 1 + CLIP_HIGH).sum() < len(right_T)
    assert 0 < (wrong_T < 1 - CLIP_LOW).sum() < len(wrong_T)
