"""Ours, to be timed: attrib's own trainer, which samples and trains on prefix trees."""

import math
import time
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from training_engines import BETAS, LEARNING_RATE, MAX_GRADIENT_NORM, Engine, Lap, Workload

from attrib.attribution import trainer
from attrib.attribution.arms import Arm
from attrib.attribution.ledger import Visit
from attrib.attribution.objective import PolicyGradient
from attrib.attribution.policy import Policy
from attrib.attribution.settings import Fill, TrainSettings
from attrib.attribution.visits import FreshRollouts
from attrib.data.questions import Question
from attrib.roles import Role
from attrib.sampling.verdicts import Verdicts
from attrib.store import Store


class Tree(Engine):
    """The trainer as a study runs it, its ledger included; only checkpoints are left out."""

    def __init__(self, workload: Workload, at_once: int) -> None:
        """Train on about `at_once` distinct tokens in one forward."""
        super().__init__(workload)
        self._policy = Policy(workload.language_model)
        self._at_once = at_once

    def backward(self) -> None:
        """Add the gradient on the workload's rollouts to the parameters' `.grad`."""
        PolicyGradient(self._policy, self.workload.groups, at_once=self._at_once).backward()

    def updates(self, count: int) -> list[Lap]:
        """Take optimiser steps, each on rollouts of its own."""
        trainer.SECONDS_BETWEEN_CHECKPOINTS = math.inf  # its peers keep none either
        workload = self.workload
        settings = TrainSettings(
            budget=f"updates={count}",
            fill=Fill.NONE,
            groups=len(workload.questions),
            group_size=workload.group_size,
            learning_rate=LEARNING_RATE,
            beta1=BETAS[0],
            beta2=BETAS[1],
            max_gradient_norm=MAX_GRADIENT_NORM,
        )
        arm = Arm("all", Role.FULL, workload.questions, {"method": "grpo"}, seed=0)
        with TemporaryDirectory() as folder:
            store = Store(Path(folder) / "study.duckdb")
            verdicts = Verdicts(store, workload.grader)
            source = _Watched(self._policy, workload, verdicts)
            with store.writing("benchmark"):
                run = trainer.Run(
                    store=store,
                    arm=arm,
                    policy=self._policy,
                    source=source,
                    verdicts=verdicts,
                    settings=settings,
                    longest=workload.sampling.max_new_tokens,
                    temperature=workload.sampling.temperature,
                    tokens_at_once=self._at_once,
                    checkpoint=Path(folder) / "checkpoint.safetensors",
                    evaluate_at=(),
                )
                trainer.Trainer(run, lambda *_: None).train()
            ended = [*source.started[1:], time.perf_counter()]
            informative = store.read("SELECT informative_groups FROM updates ORDER BY step")
        return [
            Lap(end - start, groups)
            for start, end, groups in zip(
                source.started, ended, informative["informative_groups"], strict=True
            )
        ]


class _Watched(FreshRollouts):
    """Keeps the time of every visit to the batch, with which an update starts."""

    def __init__(self, policy: Policy, workload: Workload, verdicts: Verdicts) -> None:
        super().__init__(policy, workload.responder, verdicts, workload.group_size, seed=0)
        self.started: list[float] = []

    def visit(self, first: int, questions: Sequence[Question]) -> list[Visit]:
        """Draw and grade."""
        self.started.append(time.perf_counter())
        return super().visit(first, questions)
