"""Ways of taking GRPO's step, to be timed, and the plainest of them: padded batches in PyTorch.

The step is the same in all: advantages normalised by group, the mean over the tokens of a
completion, then over completions; no penalty; one step on every batch of rollouts, so that ratios
are 1. Each draws its rollouts in its own way.
"""

import time
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from transformers import GenerationConfig

from attrib.attribution.groups import Group
from attrib.attribution.objective import group_advantages
from attrib.data.questions import Question
from attrib.sampling.engine import Prompt, SamplingParams
from attrib.sampling.grading import Grader, Verdict, grade_one
from attrib.sampling.models import LanguageModel
from attrib.sampling.responder import Responder
from attrib.sampling.tree import TreeEngine

LEARNING_RATE = 1e-7  # so small that the model, and the length of its answers, stay as they are
BETAS = (0.9, 0.95)
MAX_GRADIENT_NORM = 1.0


@dataclass(frozen=True, slots=True)
class Workload:
    """A model to train, and a batch of questions with rollouts of each.

    Attributes:
        group_size: rollouts of each question.
        groups: the given rollouts of each question, once they are drawn.
    """

    responder: Responder[TreeEngine]
    grader: Grader
    questions: tuple[Question, ...]
    group_size: int
    groups: tuple[Group, ...] = ()

    @property
    def language_model(self) -> LanguageModel:
        """Return the model, which is trained in place."""
        return self.responder.engine.language_model

    @property
    def sampling(self) -> SamplingParams:
        """Return how rollouts are drawn."""
        return self.responder.sampling

    @property
    def prompts(self) -> list[Prompt]:
        """Return the prompt of each question."""
        return [self.responder.prompt(question) for question in self.questions]

    def grade(self, place: int, completions: Sequence[Sequence[int]]) -> Group:
        """Return the group that these completions of question number `place` make."""
        question = self.questions[place]
        correct = []
        for tokens in completions:
            truncated = tokens[-1] not in self.sampling.end_token_ids
            text = self.language_model.decode(tokens)
            correct.append(
                grade_one(self.grader, question, text, truncated).verdict == Verdict.CORRECT
            )
        return Group(
            question.question_id,
            self.responder.prompt(question).token_ids,
            tuple(tuple(tokens) for tokens in completions),
            np.array(correct),
        )


@dataclass(frozen=True, slots=True)
class Lap:
    """A whole update: its seconds, and how many of its groups held right and wrong rollouts."""

    seconds: float
    informative: int


class Engine(ABC):
    """A way of training the workload's model."""

    def __init__(self, workload: Workload) -> None:
        """Train the model of `workload` in place."""
        self.workload = workload
        self.module = workload.language_model.module

    @abstractmethod
    def backward(self) -> None:
        """Add the gradient on the workload's rollouts to the parameters' `.grad`."""

    @abstractmethod
    def updates(self, count: int) -> list[Lap]:
        """Take optimiser steps, each on rollouts of its own."""


class Plain(Engine):
    """Every completion is a row of its own, in padded batches, as in most trainers.

    Rows are sorted by length; only what predicts a completion's token goes through the output
    layer. Rollouts are drawn by `generate`, all in one call.
    """

    def __init__(self, workload: Workload, at_once: int) -> None:
        """Train on `at_once` rows in one forward."""
        super().__init__(workload)
        self._at_once = at_once

    def backward(self) -> None:
        """Add the gradient on the workload's rollouts to the parameters' `.grad`."""
        self._accumulate(self.workload.groups)

    def updates(self, count: int) -> list[Lap]:
        """Take optimiser steps, each on rollouts of its own."""
        optimizer = torch.optim.AdamW(
            self.module.parameters(), lr=LEARNING_RATE, betas=BETAS, weight_decay=0.0, fused=True
        )
        laps = []
        for seed in range(count):
            started = time.perf_counter()
            groups = self._sample(seed)
            optimizer.zero_grad(set_to_none=True)
            self._accumulate(groups)
            torch.nn.utils.clip_grad_norm_(self.module.parameters(), MAX_GRADIENT_NORM)
            optimizer.step()
            seconds = time.perf_counter() - started
            laps.append(Lap(seconds, sum(group.has_both for group in groups)))
        return laps

    @torch.no_grad()
    def _sample(self, seed: int) -> list[Group]:
        torch.manual_seed(seed)
        size, sampling = self.workload.group_size, self.workload.sampling
        rows = [prompt.token_ids for prompt in self.workload.prompts for _ in range(size)]
        longest = max(map(len, rows))
        drawn_RT = self.module.generate(
            torch.tensor([[0] * (longest - len(row)) + list(row) for row in rows]),
            attention_mask=torch.tensor(
                [[0] * (longest - len(row)) + [1] * len(row) for row in rows]
            ),
            generation_config=GenerationConfig(
                do_sample=True,
                top_k=0,
                max_new_tokens=sampling.max_new_tokens,
                eos_token_id=sorted(sampling.end_token_ids),
                pad_token_id=0,
            ),
        )
        completions = [self._until_end(row) for row in drawn_RT[:, longest:].tolist()]
        return [
            self.workload.grade(place, completions[place * size : (place + 1) * size])
            for place in range(len(self.workload.questions))
        ]

    def _until_end(self, tokens: list[int]) -> list[int]:
        ends = self.workload.sampling.end_token_ids
        stop = next((i for i, token in enumerate(tokens, start=1) if token in ends), len(tokens))
        return tokens[:stop]

    def _accumulate(self, groups: Sequence[Group]) -> None:
        rows = []
        for group in groups:
            advantage_G = group_advantages(group.correct_G.astype(np.float64))
            weight_G = advantage_G / group.length_G / len(group.completions) / len(groups)
            rows += [
                ([*group.prompt, *completion], len(completion), weight)
                for completion, weight in zip(group.completions, weight_G, strict=True)
            ]
        rows.sort(key=lambda row: len(row[0]))
        for first in range(0, len(rows), self._at_once):
            self._loss(rows[first : first + self._at_once]).backward()

    def _loss(self, rows: Sequence[tuple[list[int], int, float]]) -> torch.Tensor:
        """Return the loss of some rows: their tokens, tokens of the completion, and its weight."""
        longest = max(len(tokens) for tokens, _, _ in rows)
        token_RT = torch.tensor([tokens + [0] * (longest - len(tokens)) for tokens, _, _ in rows])
        place_K = torch.tensor([
            (row, place)
            for row, (tokens, length, _) in enumerate(rows)
            for place in range(len(tokens) - length, len(tokens))
        ]).T  # fmt: skip
        weight_R = torch.tensor([weight for _, _, weight in rows], dtype=torch.float32)
        # Padding comes last, so that causal attention hides it.
        hidden_RT = self.module.base_model(token_RT, use_cache=False).last_hidden_state
        logits_KV = self.module.get_output_embeddings()(hidden_RT[place_K[0], place_K[1] - 1])
        target_K = token_RT[place_K[0], place_K[1]]
        logprob_K = logits_KV.log_softmax(-1).gather(1, target_K[:, None])[:, 0]
        ratio_K = (logprob_K - logprob_K.detach()).exp()
        return -(weight_R[place_K[0]] * ratio_K).sum()
