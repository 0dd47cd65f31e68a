"""One training run: GRPO whose batches are filled with informative groups.

A batch is filled by visiting questions, in shuffled epochs, until enough groups hold both a right
and a wrong rollout; the others are stored in the ledger and cost no backward pass (dynamic
sampling, as in DAPO, arXiv 2503.14476). Arms are therefore equal in optimiser steps and informative
groups, and differ in how many rollouts that took; this is recorded. A subset smaller than a batch
is simply visited again: a batch may hold several groups of one question.

The paper does not say what it held equal between its subsets. Strictly on-policy: every batch is
drawn from the weights it updates.
"""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from pydantic import Field

from attrib.attribution.arms import Arm, visit_order
from attrib.attribution.checkpoint import (
    Position,
    load_checkpoint,
    read_position,
    save_checkpoint,
)
from attrib.attribution.grpo import Group, accumulate_gradient
from attrib.attribution.ledger import (
    Batch,
    Update,
    Visit,
    forget_after,
    record_batch,
    recorded_steps,
)
from attrib.config import Settings
from attrib.data.questions import Question
from attrib.errors import TrainingError
from attrib.progress import Advance, track
from attrib.sampling.engine import FinishReason, Request, Rollout, in_order
from attrib.sampling.grading import Grader, Verdict
from attrib.sampling.responder import Responder
from attrib.sampling.tree import TreeEngine
from attrib.store import Store

SECONDS_BETWEEN_CHECKPOINTS = 60.0
ROLLOUTS_AT_ONCE = 128  # how far a batch may look ahead for informative groups


class GrpoSettings(Settings):
    """The trainer's settings; the defaults are those of the trial runs on SmolLM2-135M."""

    trainer: Literal[1] = 1
    """Version of the trainer: raised when the same settings would train otherwise."""
    updates: int = 10
    """Optimiser steps."""
    groups: int = 8
    """Informative groups per update."""
    group_size: int = 16
    """Rollouts per visit of a question."""
    max_rollouts: int = 50_000
    """Training rollouts after which an arm that cannot fill its batches ends as exhausted."""
    learning_rate: float = Field(default=2e-5, gt=0.0, allow_inf_nan=False)
    beta1: float = Field(default=0.9, ge=0.0, lt=1.0)
    beta2: float = Field(default=0.95, ge=0.0, lt=1.0)
    max_gradient_norm: float = Field(default=1.0, gt=0.0)


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a training run ended: `done`, or `exhausted` before its last update."""

    status: str
    detail: str
    position: Position


def train(
    store: Store,
    responder: Responder[TreeEngine],
    grader: Grader,
    arm: Arm,
    settings: GrpoSettings,
    checkpoint: Path,
) -> Outcome:
    """Train the responder's model in place on the arm's questions; go on from a checkpoint.

    Every update and visit is stored as it is made. Only inside `store.writing`.

    Raises:
        TrainingError: the loss or the gradient is not finite; nothing is stored of that update.
    """
    module = responder.engine.language_model.module
    optimizer = torch.optim.AdamW(
        module.parameters(),
        lr=settings.learning_rate,
        betas=(settings.beta1, settings.beta2),
        weight_decay=0.0,
        fused=True,
    )
    if read_position(checkpoint).step > recorded_steps(store, arm):
        checkpoint.unlink()  # left over from another database: its updates are not in this ledger
    position = load_checkpoint(checkpoint, module, optimizer)
    forget_after(store, arm, position)
    saved_at = time.monotonic()

    wanted = settings.updates * settings.groups
    done = position.step * settings.groups
    with track(f"Training {arm.name}", wanted, "informative groups", done) as advance:
        while position.step < settings.updates:
            started = time.monotonic()
            batch = _fill_batch(responder, grader, arm, settings, position, advance)
            filled = len(batch.informative) >= settings.groups
            update = Update()
            if filled:
                update = _update(responder, optimizer, batch, settings, arm, position.step + 1)
            seconds = time.monotonic() - started
            position = Position(
                step=position.step + int(filled),
                visit=position.visit + len(batch.visits),
                rollouts=position.rollouts + batch.rollouts,
                seconds=position.seconds + seconds,
            )
            record_batch(store, arm, batch, update, position, seconds)
            if not filled:
                detail = _describe_exhaustion(batch, settings, position)
                return Outcome("exhausted", detail, position)
            if time.monotonic() - saved_at > SECONDS_BETWEEN_CHECKPOINTS:
                save_checkpoint(checkpoint, module, optimizer, position)
                saved_at = time.monotonic()
    return Outcome("done", "", position)


def _fill_batch(
    responder: Responder[TreeEngine],
    grader: Grader,
    arm: Arm,
    settings: GrpoSettings,
    position: Position,
    advance: Advance,
) -> Batch:
    """Visit questions, a forest at a time, until the batch is filled or the budget is spent."""
    questions = _visits_from(arm, position.visit)
    forest = max(1, ROLLOUTS_AT_ONCE // settings.group_size)
    visits: list[Visit] = []
    rollouts, informative = 0, 0
    while (
        informative < settings.groups
        and position.rollouts + rollouts + settings.group_size <= settings.max_rollouts
    ):
        affordable = (settings.max_rollouts - position.rollouts - rollouts) // settings.group_size
        wave = [next(questions) for _ in range(min(forest, affordable))]
        first_visit = position.visit + len(visits)
        requests = [
            Request(
                f"{q.question_id}/{first_visit + i}", responder.prompt(q), 0, settings.group_size
            )
            for i, q in enumerate(wave)
        ]
        drawn = in_order(responder.respond(requests, arm.seed))
        for question, request, group_rollouts in zip(wave, requests, drawn, strict=True):
            group = _grade(grader, question, request.prompt.token_ids, group_rollouts)
            visits.append(Visit(question, group))
            rollouts += len(group_rollouts)
            informative += group.is_informative
            advance(int(group.is_informative and informative <= settings.groups))
    return Batch(tuple(visits), rollouts)


def _visits_from(arm: Arm, visit: int) -> Iterator[Question]:
    """Yield the questions of shuffled epochs, from visit number `visit` on, without end."""
    epoch, skip = divmod(visit, len(arm.questions))
    while True:
        yield from visit_order(arm.questions, arm.seed, epoch)[skip:]
        epoch, skip = epoch + 1, 0


def _grade(
    grader: Grader,
    question: Question,
    prompt: tuple[int, ...],
    rollouts: Sequence[Rollout],
) -> Group:
    """Return the group of the rollouts that could be graded."""
    kept, correct = [], []
    for rollout in rollouts:
        truncated = rollout.finish_reason == FinishReason.LENGTH
        verdict = grader.grade(question, rollout.text, truncated).verdict
        if verdict in (Verdict.CORRECT, Verdict.INCORRECT):
            kept.append(rollout)
            correct.append(verdict == Verdict.CORRECT)
    return Group(question.question_id, prompt, tuple(kept), np.array(correct, dtype=np.bool_))


def _update(
    responder: Responder[TreeEngine],
    optimizer: torch.optim.Optimizer,
    batch: Batch,
    settings: GrpoSettings,
    arm: Arm,
    step: int,
) -> Update:
    """Take one optimiser step on the first informative groups of the batch."""
    module = responder.engine.language_model.module
    optimizer.zero_grad(set_to_none=True)
    used = batch.informative[: settings.groups]
    gradients = []
    for visit in used:
        try:
            gradient = accumulate_gradient(
                module, visit.group, len(used), responder.sampling.temperature
            )
        except torch.OutOfMemoryError as error:
            raise TrainingError(
                f"The device ran out of memory at update {step}. Lower --group-size (now "
                f"{settings.group_size}) or use a smaller model."
            ) from error
        if not np.isfinite(gradient.loss):
            raise TrainingError(
                f"Stopped at update {step}: the loss of question "
                f"{visit.question.question_id} ({visit.question.text!r}) is {gradient.loss}. "
                f"Lower --learning-rate (now {settings.learning_rate})."
            )
        gradients.append(gradient)
    norm = float(torch.nn.utils.clip_grad_norm_(module.parameters(), settings.max_gradient_norm))
    if not np.isfinite(norm):
        raise TrainingError(
            f"Stopped at update {step}: the gradient norm is {norm}. "
            f"Lower --learning-rate (now {settings.learning_rate})."
        )
    optimizer.step()
    return Update(tuple(gradients), norm)


def _describe_exhaustion(batch: Batch, settings: GrpoSettings, position: Position) -> str:
    return (
        f"{position.step} of {settings.updates} updates within {position.rollouts} rollouts; the "
        f"last batch held {len(batch.informative)} of {settings.groups} informative groups after "
        f"{len(batch.visits)} visits"
    )
