"""One training run: batches of visits, optimiser steps, evaluations at fractions of the budget.

A batch is a number of visits, in shuffled epochs. With `fill=informative` visits go on until enough
of them carry a gradient (dynamic sampling, as in DAPO, arXiv 2503.14476); the others are stored in
the ledger and cost no backward pass. A batch without any takes no optimiser step: Adam would make
a full-sized step of whatever moments it holds. A subset smaller than a batch is visited again: a
batch may hold several groups of one question.

Every update and visit is stored as it is made, and a run goes on from its last checkpoint with the
same remaining visits, schedule and randomness.
"""

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import NoReturn

import numpy as np
import torch

from attrib.attribution.arms import Arm
from attrib.attribution.budget import UNITS, Budget, BudgetKind
from attrib.attribution.checkpoint import (
    Position,
    load_checkpoint,
    read_position,
    save_checkpoint,
)
from attrib.attribution.ledger import (
    Batch,
    Update,
    Visit,
    forget_after,
    reached_milestones,
    record_batch,
    recorded_steps,
)
from attrib.attribution.objective import (
    NO_GRADIENT,
    GroupGradient,
    Likelihood,
    PolicyGradient,
    Preference,
    TreeLoss,
    add_gradient,
)
from attrib.attribution.policy import Policy
from attrib.attribution.settings import Fill, Method, TrainSettings
from attrib.attribution.visits import Source, StoredGroups, visits_from
from attrib.errors import TrainingError
from attrib.progress import track
from attrib.sampling.verdicts import Verdicts
from attrib.store import Store, Transaction

SECONDS_BETWEEN_CHECKPOINTS = 60.0
ROLLOUTS_AT_ONCE = 128  # of one call of the engine: enough nodes to fill its steps

Evaluate = Callable[[Position, float], None]


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a training run ended: `done`, or `exhausted` before its budget was used."""

    status: str
    detail: str
    position: Position


@dataclass(frozen=True, slots=True)
class Run:
    """What a training run works with.

    Attributes:
        store: where everything is recorded.
        arm: what is trained on.
        policy: what is trained, in place.
        source: where groups come from.
        verdicts: new ones are stored with the batch they came up in.
        settings: of the trainer.
        longest: the limit on new tokens.
        temperature: that rollouts are drawn at.
        tokens_at_once: distinct tokens of one forward; changes nothing but memory and speed.
        checkpoint: where the run goes on after a kill.
        evaluate_at: ascending fractions of the budget.
    """

    store: Store
    arm: Arm
    policy: Policy
    source: Source
    verdicts: Verdicts
    settings: TrainSettings
    longest: int
    temperature: float
    tokens_at_once: int
    checkpoint: Path
    evaluate_at: tuple[float, ...]


class Trainer:
    """Trains one arm."""

    def __init__(self, run: Run, evaluate: Evaluate) -> None:
        """Set up the optimiser and go to the last checkpoint.

        Args:
            run: what to train.
            evaluate: called with the position and the fraction of the budget it stands for, at
                every fraction to evaluate at; it stores what it finds.
        """
        self._run = run
        self._evaluate = evaluate
        self._settings = settings = run.settings
        self._budget = Budget.parse(settings.budget)
        self._questions = len(run.arm.questions)
        self._trained = run.policy.trained
        self._optimizer = torch.optim.AdamW(
            self._trained.values(),
            lr=settings.learning_rate,
            betas=(settings.beta1, settings.beta2),
            weight_decay=0.0,
            fused=True,
        )
        if read_position(run.checkpoint).step > recorded_steps(run.store, run.arm):
            run.checkpoint.unlink()  # left over from another database
        self._position = load_checkpoint(run.checkpoint, self._trained, self._optimizer)
        self._saved_at = time.monotonic()

    def train(self) -> Outcome:
        """Train until the budget is used, or the arm is exhausted. Only inside `store.writing`.

        Raises:
            TrainingError: the loss or the gradient is not finite; nothing is stored of that update,
                and the state before it is kept.
        """
        run, budget = self._run, self._budget
        forget_after(run.store, run.arm, self._position)
        if isinstance(run.source, StoredGroups) and not run.source.has_signal:
            return self._exhausted("no question of the subset has what this method learns from")
        total = budget.total(self._questions)
        unit = UNITS[budget.kind]
        with track("Training", total, unit, budget.used(self._position)) as advance:
            self._evaluate_due()
            while budget.used(self._position) < total:
                before = budget.used(self._position)
                batch = self._make_one_batch()
                advance(min(budget.used(self._position), total) - before)
                self._evaluate_due()
                if batch.used is None:
                    if self._is_spent():
                        break
                    return self._exhausted(self._describe_exhaustion())
        self._evaluate_due(at_end=True)
        return Outcome("done", "", self._position)

    def _exhausted(self, detail: str) -> Outcome:
        self._save()
        return Outcome("exhausted", detail, self._position)

    def _is_spent(self, visits: Sequence[Visit] = ()) -> bool:
        """Tell whether the budget itself, not the limit on rollouts, ends after these visits."""
        budget, position = self._budget, self._position
        visits_left = budget.left(BudgetKind.EPOCHS, position, self._questions) - len(visits)
        drawn = sum(visit.rollouts for visit in visits)
        rollouts_left = budget.left(BudgetKind.ROLLOUTS, position, self._questions) - drawn
        return visits_left < 1 or rollouts_left < self._run.source.rollouts_per_visit

    def _make_one_batch(self) -> Batch:
        """Visit, take an optimiser step where there is a gradient, and store both."""
        run, before = self._run, self._position
        started = time.monotonic()
        batch = self._fill()
        visited = replace(
            before,
            visit=before.visit + len(batch.visits),
            rollouts=before.rollouts + batch.rollouts,
        )
        update = Update()
        if batch.used is not None:
            visited = replace(visited, step=before.step + 1)
            update = self._update(batch.used, visited)
        seconds = time.monotonic() - started
        self._position = replace(
            visited,
            informative_groups=before.informative_groups + update.informative_groups,
            gradient_tokens=before.gradient_tokens + update.tokens,
            seconds=before.seconds + seconds,
        )
        with run.store.transaction() as transaction:
            self._record(transaction, batch, update, seconds)
        if time.monotonic() - self._saved_at > SECONDS_BETWEEN_CHECKPOINTS:
            self._save()
        return batch

    def _record(
        self, transaction: Transaction, batch: Batch, update: Update, seconds: float
    ) -> None:
        """Store a batch with what it gave and cost."""
        record_batch(transaction, self._run.arm, batch, update, self._position, seconds)
        self._run.verdicts.write(transaction)

    def _fill(self) -> Batch:
        """Visit questions, some at a time, until the batch is filled or nothing is left to spend.

        What is left over of the last wave stands in the ledger and takes no part.
        """
        settings, position = self._settings, self._position
        left = self._budget.left(BudgetKind.INFORMATIVE_GROUPS, position, self._questions)
        informative_wanted = int(min(settings.groups, left))
        questions = visits_from(self._run.arm, position.visit)
        visits: list[Visit] = []
        while True:
            informative = sum(visit.is_informative for visit in visits)
            if settings.fill is Fill.INFORMATIVE:
                missing = informative_wanted - informative
                rate = (informative + 1) / (len(visits) + 1)
                wave = min(math.ceil(missing / rate), self._at_once())
            else:
                wave = missing = settings.groups - len(visits)
            if missing <= 0:
                return Batch(tuple(visits), _first_used(visits, settings.fill, informative_wanted))
            wave = min(wave, self._affordable(visits))
            if wave < 1:
                break
            first = position.visit + len(visits)
            visits += self._run.source.visit(first, list(islice(questions, wave)))
        is_last = self._is_spent(visits) and any(visit.is_informative for visit in visits)
        if visits and (settings.fill is Fill.NONE or is_last):  # what is left may be a small batch
            return Batch(tuple(visits), _first_used(visits, settings.fill, informative_wanted))
        return Batch(tuple(visits), None)

    def _at_once(self) -> int:
        """Return how many visits a wave may hold."""
        each = self._run.source.rollouts_per_visit
        return max(1, ROLLOUTS_AT_ONCE // each) if each else self._settings.groups

    def _affordable(self, visits: Sequence[Visit]) -> int:
        """Return how many more visits the budget and the limit on rollouts allow."""
        position, each = self._position, self._run.source.rollouts_per_visit
        allowed = self._budget.left(BudgetKind.EPOCHS, position, self._questions) - len(visits)
        if each:
            drawn = sum(visit.rollouts for visit in visits)
            left = self._budget.left(BudgetKind.ROLLOUTS, position, self._questions)
            left = min(left, self._settings.max_rollouts - position.rollouts) - drawn
            allowed = min(allowed, left // each)
        elif self._settings.fill is Fill.INFORMATIVE and len(visits) >= self._questions:
            has_some = any(visit.is_informative for visit in visits)
            allowed = allowed if has_some else 0  # a whole epoch without: it will not change
        return int(min(allowed, 2**31))

    def _update(self, used: Sequence[Visit], position: Position) -> Update:
        """Take the optimiser steps of one batch; without a gradient, none."""
        informative = sum(visit.is_informative for visit in used)
        first = Update(tuple(NO_GRADIENT for _ in used))
        if not informative:
            return first
        loss = self._make_loss(used, self._run.tokens_at_once)
        parameters = list(self._trained.values())
        self._set_learning_rate(position)
        for inner in range(self._settings.inner_epochs):
            self._optimizer.zero_grad(set_to_none=True)
            gradients = self._run_backward(loss, position.step)
            self._refuse_non_finite(used, gradients, position.step, inner)
            largest = self._settings.max_gradient_norm
            norm = float(torch.nn.utils.clip_grad_norm_(parameters, largest))
            if not np.isfinite(norm):
                self._stop(position.step, f"the gradient norm is {norm}", inner)
            self._before_step(used, norm)
            self._optimizer.step()
            if inner == 0:
                first = Update(tuple(gradients), norm, informative)
        if not self._run.policy.is_finite():  # such weights are neither kept nor evaluated
            self._stop(position.step, "the weights after it are not finite", inner)
        return first

    def _differentiate(self, places: Sequence[int], loss: torch.Tensor) -> None:
        """Add the gradient of a forward's loss, of the visits at these places of the batch."""
        add_gradient(places, loss)

    def _before_step(self, used: Sequence[Visit], norm: float) -> None:
        """Look at the clipped gradient of a batch, of this norm before; here there is no need."""

    def _make_loss(self, used: Sequence[Visit], at_once: int) -> TreeLoss:
        """Return the loss of a batch, in forwards of about `at_once` distinct tokens."""
        settings, run = self._settings, self._run
        groups = [visit.group for visit in used]
        if settings.method is Method.GRPO:
            return PolicyGradient(
                run.policy,
                groups,
                advantage=settings.advantage,
                normalisation=settings.normalisation,
                longest=run.longest,
                clip_low=settings.clip_low,
                clip_high=settings.clip_high,
                kl=settings.kl,
                temperature=run.temperature,
                at_once=at_once,
            )
        if settings.method is Method.DPO:
            return Preference(run.policy, groups, beta=settings.preference_beta, at_once=at_once)
        return Likelihood(
            run.policy,
            groups,
            normalisation=settings.normalisation,
            longest=run.longest,
            at_once=at_once,
        )

    def _run_backward(self, loss: TreeLoss, step: int) -> list[GroupGradient]:
        try:
            return loss.backward(self._differentiate)
        except torch.OutOfMemoryError as error:
            raise TrainingError(
                f"The device ran out of memory at update {step}. Lower --tokens-at-once (now "
                f"{self._run.tokens_at_once}) or --group-size, or use --gradient-checkpointing or "
                "--lora."
            ) from error

    def _refuse_non_finite(
        self, used: Sequence[Visit], gradients: Sequence[GroupGradient], step: int, inner: int
    ) -> None:
        for visit, gradient in zip(used, gradients, strict=True):
            if not np.isfinite(gradient.loss):
                which = f"question {visit.question.question_id} ({visit.question.text!r})"
                self._stop(step, f"the loss of {which} is {gradient.loss}", inner)

    def _stop(self, step: int, reason: str, inner: int) -> NoReturn:
        if inner == 0 and self._run.policy.is_finite():  # later, weights have begun to move
            self._save()
        raise TrainingError(
            f"Stopped at update {step}: {reason}. The last good state is kept. Lower "
            f"--learning-rate (now {self._settings.learning_rate})."
        )

    def _set_learning_rate(self, position: Position) -> None:
        """Set the rate for the middle of the part of the budget that this update uses."""
        total = self._budget.total(self._questions)
        start = self._budget.used(self._position)
        end = self._budget.used(position)
        if self._budget.kind is BudgetKind.INFORMATIVE_GROUPS:  # known only afterwards
            end = min(start + self._settings.groups, total)
        factor = self._settings.rate_factor((start + end) / (2 * total))
        for group in self._optimizer.param_groups:
            group["lr"] = self._settings.learning_rate * factor

    def _evaluate_due(self, *, at_end: bool = False) -> None:
        """Evaluate at the largest fraction that has newly been reached."""
        run = self._run
        if self._position.step == 0 and not at_end:
            return
        used = self._budget.used(self._position) / self._budget.total(self._questions)
        last = max(reached_milestones(run.store, run.arm), default=0.0)
        due = [f for f in run.evaluate_at if f > last and (at_end or used >= f - 1e-9)]
        if due:
            self._save()
            self._evaluate(self._position, due[-1])

    def _save(self) -> None:
        save_checkpoint(self._run.checkpoint, self._trained, self._optimizer, self._position)
        self._saved_at = time.monotonic()

    def _describe_exhaustion(self) -> str:
        position, budget = self._position, self._budget
        spent = f"{position.rollouts} rollouts" if position.rollouts else "a whole epoch"
        return (
            f"{budget.used(position)} of {budget.total(self._questions)} {UNITS[budget.kind]} "
            f"within {spent}: {position.step} updates, {position.visit} visits"
        )


def _first_used(visits: Sequence[Visit], fill: Fill, informative: int) -> tuple[Visit, ...]:
    """Return the visits that form the batch of the loss.

    With filled batches these are the informative ones alone; otherwise all of them, up to the one
    with which the budget's last informative group is used.
    """
    if fill is Fill.INFORMATIVE:
        return tuple(visit for visit in visits if visit.is_informative)[:informative]
    used = []
    for visit in visits:
        if visit.is_informative and informative == 0:
            break
        informative -= visit.is_informative
        used.append(visit)
    return tuple(used)
