"""Scores of visits: what each step's pull from one question did to held-out performance.

The score of visit v, used in update t, towards held-out question q is

    -η_t · c_t · ⟨∇L_v(θ_t), D_t ∇f_q(θ_c)⟩,

the first-order change of f_q that the visit's part of the update brings about. L_v is the visit's
part of the batch's GRPO loss with the advantages and weights it was trained with, η_t the learning
rate, c_t the factor by which the batch's gradient was clipped, f_q the performance on q, θ_c the
weights at the last checkpoint at or before t. D is the identity (`tracin`), or Adam's
1 / (sqrt(v̂_t) + ε) with the second moment as the optimiser uses it in this very update
(`tracin-adam`). A question's score is the sum over its visits.

Source: TracIn, Pruthi et al. 2020, arXiv 2002.08484, section 3. What differs: the loss of an
example is the on-policy gradient of a reward, whose rollouts are drawn anew at every visit, so that
a score is one draw of a random quantity; training gradients are taken at every update, those of
held-out questions at checkpoints only; η_t carries the clipping; momentum is ignored, which moves
an effect to later updates but hardly changes its size.

Visits go through the model one by one, so that one pass gives the batch's gradient and the parts of
it; parts that have no room in memory until Adam's second moment is known are computed again.

The score towards the mean of all held-out questions is exact; those towards relations and single
questions use projected gradients. That towards the mean is kept in both ways, so that the error of
the projection is known.
"""

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import polars as pl
import torch

from attrib.attribution.checkpoint import Position
from attrib.attribution.effect import HELD_OUT
from attrib.attribution.held_out_gradients import (
    HeldOut,
    HeldOutGradients,
    Target,
    find_gradients,
    load_gradients,
    save_gradients,
)
from attrib.attribution.ledger import Batch, Update, Visit, record_milestone
from attrib.attribution.objective import TreeLoss
from attrib.attribution.projection import Projection
from attrib.attribution.score_methods import ScoreMethod
from attrib.attribution.trainer import Outcome, Run, Trainer
from attrib.errors import StoreError, TrainingError
from attrib.sampling.tree import free_memory
from attrib.store import Transaction

PROJECTED = "held-out, projected"
"""What the score towards all held-out questions is stored under, from projected gradients."""
LARGEST_DIFFERENCE = 0.05
"""Of two norms of the same gradient, relative: what rounding makes of them stays far below."""
CLIP_OFFSET = 1e-6  # torch's clip_grad_norm_ divides by the norm and this

SHARE_OF_FREE_MEMORY = 0.5  # that the parts of a batch's gradient may take

Gradient = tuple[torch.Tensor, ...]


def has_room(run: Run) -> bool:
    """Tell whether the parts of a batch's gradient find room in memory together."""
    needed = run.settings.groups * sum(weight.nbytes for weight in run.policy.trained.values())
    return needed <= SHARE_OF_FREE_MEMORY * free_memory(run.policy.module.device)


class DivergenceError(TrainingError):
    """A run that does not go as it went the first time."""


@dataclass(frozen=True, slots=True)
class Scoring:
    """What visits are scored towards, and how.

    Attributes:
        methods: `tracin` and `tracin-adam`, or one of them.
        held_out: the held-out questions.
        target: what is differentiated of them.
        projection: of gradients.
        gradients_at: the file in which held-out gradients wait.
        norms: of the batches' gradients the first time, by update.
        keeps_parts: whether the visits' parts of a batch's gradient stay in memory together.
    """

    methods: tuple[ScoreMethod, ...]
    held_out: HeldOut
    target: Target
    projection: Projection
    gradients_at: Path
    norms: Mapping[int, float]
    keeps_parts: bool


class ScoringTrainer(Trainer):
    """Trains an arm once more, step for step as the first time, and scores its visits.

    The fractions at which a run is evaluated are its checkpoints here; the first is the base.
    """

    def __init__(self, run: Run, scoring: Scoring) -> None:
        """Set up as for training; `run.store` is the replay's own."""
        super().__init__(run, self._refresh)
        self._scoring = scoring
        self._gradients: HeldOutGradients | None = None
        self._scores: list[pl.DataFrame] = []
        self._parts: dict[int, Gradient] = {}  # of the batch's gradient, by place

    def train(self) -> Outcome:
        """Repeat the run; `Trainer.train` says more.

        Raises:
            DivergenceError: it does not go as it went the first time.
            StoreError: the file of held-out gradients is gone or damaged.
        """
        found = load_gradients(self._scoring.gradients_at, list(self._trained.values()))
        if found is not None and found.step <= self._position.step:
            self._gradients = found
        elif self._position.step == 0:
            self._find_gradients()
        else:
            raise StoreError(
                f"The held-out gradients {self._scoring.gradients_at} are gone or damaged. Delete "
                f"{self._run.checkpoint} to start the replay again."
            )
        return super().train()

    def _find_gradients(self) -> None:
        started, scoring = time.monotonic(), self._scoring
        self._gradients = find_gradients(
            self._run.policy,
            scoring.held_out,
            scoring.target,
            scoring.projection,
            self._position.step,
            self._run.tokens_at_once,
        )
        save_gradients(scoring.gradients_at, self._gradients)
        seconds = self._position.seconds + time.monotonic() - started
        self._position = replace(self._position, seconds=seconds)

    def _refresh(self, position: Position, fraction: float) -> None:
        """Take the held-out gradients anew, unless nothing is left to be scored with them."""
        if self._budget.used(position) < self._budget.total(self._questions):
            self._find_gradients()
        with self._run.store.transaction() as transaction:
            record_milestone(transaction, self._run.arm, fraction, position)

    def _before_step(self, used: Sequence[Visit], norm: float) -> None:
        """Score the visits of a batch, at the weights that the step starts from."""
        scoring, held_out = self._scoring, self._gradients
        assert held_out is not None
        clipping = min(1.0, self._settings.max_gradient_norm / (norm + CLIP_OFFSET))
        [group] = self._optimizer.param_groups
        rate = -float(group["lr"]) * clipping
        has_adam = ScoreMethod.TRACIN_ADAM in scoring.methods
        scale = self._second_moment_scale() if has_adam else ()
        for place, gradient in self._visit_gradients(used):
            for method in sorted(scoring.methods):  # tracin first
                if method is ScoreMethod.TRACIN_ADAM:
                    torch._foreach_mul_(gradient, scale)
                exact = sum(
                    torch.dot(a.reshape(-1), b.reshape(-1))
                    for a, b in zip(gradient, held_out.mean, strict=True)
                )
                score_M = held_out.projected_MD @ scoring.projection.project(gradient)
                scores = (rate * score_M).tolist()
                self._scores.append(self._to_rows(method, used[place], rate * float(exact), scores))

    def _make_loss(self, used: Sequence[Visit], at_once: int) -> TreeLoss:
        """Return the loss of a batch, in a forward for each visit."""
        return super()._make_loss(used, at_once=0)

    def _differentiate(self, places: Sequence[int], loss: torch.Tensor) -> None:
        if not self._scoring.keeps_parts:
            super()._differentiate(places, loss)
            return
        [place] = places
        self._parts[place] = self._gradient_of(loss)
        for weight, part in zip(self._trained.values(), self._parts[place], strict=True):
            weight.grad = part.clone() if weight.grad is None else weight.grad.add_(part)

    def _visit_gradients(self, used: Sequence[Visit]) -> Iterator[tuple[int, Gradient]]:
        """Yield the place of each visit that takes part, and its part of the batch's gradient.

        A part may be changed by whoever takes it.
        """
        for place in list(self._parts):
            yield place, self._parts.pop(place)
        if not self._scoring.keeps_parts:
            for [place], loss_F in self._make_loss(used, at_once=0).losses():
                yield place, self._gradient_of(loss_F.sum())

    def _gradient_of(self, loss: torch.Tensor) -> Gradient:
        weights = list(self._trained.values())
        return torch.autograd.grad(loss, weights, materialize_grads=True)

    def _second_moment_scale(self) -> Gradient:
        """Return 1 / (sqrt(v̂) + ε) of every weight, with v̂ as the coming step will use it."""
        [group] = self._optimizer.param_groups
        beta2, scales = group["betas"][1], []
        for weight in self._trained.values():
            assert weight.grad is not None
            state = self._optimizer.state[weight]
            steps = int(state["step"]) + 1 if state else 1
            moment = beta2 * state["exp_avg_sq"] if state else torch.zeros_like(weight)
            moment.addcmul_(weight.grad, weight.grad, value=1 - beta2).div_(1 - beta2**steps)
            scales.append(moment.sqrt_().add_(group["eps"]).reciprocal_())
        return tuple(scales)

    def _to_rows(
        self, method: ScoreMethod, visit: Visit, exact: float, scores: list[float]
    ) -> pl.DataFrame:
        """Return a visit's scores: exact and projected ones towards all, and towards each row."""
        held_out = self._scoring.held_out
        sizes = [len(groups) for groups in held_out.parts.values()]
        projected = sum(n * score for n, score in zip(sizes, scores, strict=False))
        return pl.DataFrame(
            {
                "evaluated_on": [HELD_OUT, PROJECTED, *held_out.names],
                "score": [exact, projected / held_out.questions, *scores],
            }
        ).with_columns(
            arm_id=pl.lit(self._run.arm.arm_id),
            method=pl.lit(str(method)),
            visit=pl.lit(visit.number),
            question_id=pl.lit(visit.question.question_id),
        )

    def _record(
        self, transaction: Transaction, batch: Batch, update: Update, seconds: float
    ) -> None:
        """Store a batch with its scores, if its gradient is that of the first time."""
        step, norm = self._position.step, update.norm
        first = self._scoring.norms.get(step, 0.0) if batch.used is not None else norm
        if abs(norm - first) > LARGEST_DIFFERENCE * max(norm, first):
            raise DivergenceError(
                f"The run cannot be repeated here: the gradient of update {step} has the norm "
                f"{norm:.4g}, and had {first:.4g}. Another --device or precision may round so "
                "differently. Choose an arm that was trained here: --arm"
            )
        super()._record(transaction, batch, update, seconds)
        if self._scores:
            transaction.append("visit_scores", pl.concat(self._scores))
            self._scores = []
