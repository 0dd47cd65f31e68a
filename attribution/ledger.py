"""The ledger: what every training run did, written as it happens.

Owns the rows of `training_runs`, `updates` and `visits`. A batch and what it cost become visible
together, so that a run killed at any instant shows its true cost, and a run that goes on from a
checkpoint makes again exactly what is forgotten here.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import polars as pl

from attrib.attribution.arms import Arm
from attrib.attribution.checkpoint import Position
from attrib.attribution.grpo import Group, GroupGradient
from attrib.config import canonical_json
from attrib.data.questions import Question
from attrib.store import Store, Transaction

_BEGIN = """
    INSERT INTO training_runs (arm_id, method, seed, params, questions, status)
    VALUES ($arm_id, $method, $seed, $params, $questions, 'running')
    ON CONFLICT (arm_id) DO UPDATE SET status = excluded.status, detail = ''
"""
_ADVANCE = """
    UPDATE training_runs
    SET updates = $updates, rollouts = $rollouts, wall_seconds = $wall_seconds
    WHERE arm_id = $arm_id
"""
_END = "UPDATE training_runs SET status = $status, detail = $detail WHERE arm_id = $arm_id"


@dataclass(frozen=True, slots=True)
class Visit:
    """A question, visited once: the group it gave."""

    question: Question
    group: Group


@dataclass(frozen=True, slots=True)
class Batch:
    """The visits of one update, and how many rollouts they took."""

    visits: tuple[Visit, ...]
    rollouts: int

    @property
    def informative(self) -> list[Visit]:
        """Return the visits that carry a gradient, in the order of visiting."""
        return [visit for visit in self.visits if visit.group.is_informative]


@dataclass(frozen=True, slots=True)
class Update:
    """What an optimiser step used, in the order of the informative visits; none for no step."""

    gradients: tuple[GroupGradient, ...] = ()
    norm: float = 0.0


def begin_run(store: Store, arm: Arm) -> None:
    """Mark a run as running; what an earlier attempt had done stays."""
    with store.transaction() as transaction:
        transaction.execute(
            _BEGIN,
            arm_id=arm.arm_id,
            method=arm.params["method"],
            seed=arm.seed,
            params=canonical_json(dict(arm.params)),
            questions=len(arm.questions),
        )


def end_run(transaction: Transaction, arm: Arm, status: str, detail: str = "") -> None:
    """Mark how a run ended: `done`, `exhausted` or `failed`."""
    transaction.execute(_END, arm_id=arm.arm_id, status=status, detail=detail)


def set_cost(transaction: Transaction, arm: Arm, position: Position) -> None:
    """Store how far a run has come and what it has cost."""
    transaction.execute(
        _ADVANCE,
        arm_id=arm.arm_id,
        updates=position.step,
        rollouts=position.rollouts,
        wall_seconds=position.seconds,
    )


def record_batch(
    store: Store, arm: Arm, batch: Batch, update: Update, position: Position, seconds: float
) -> None:
    """Store a batch's visits, its update if there was one, and the run's cost so far.

    Args:
        store: the study.
        arm: whose run it is.
        batch: the visits.
        update: what the optimiser step used; without gradients there was no step.
        position: of the run after the batch.
        seconds: the batch took.
    """
    step = position.step if update.gradients else position.step + 1  # an unfilled batch has no step
    weights = iter(update.gradients)
    visits = [
        {
            "arm_id": arm.arm_id,
            "step": step,
            "question_id": visit.question.question_id,
            "rollouts": len(visit.group.rollouts),
            "correct": int(visit.group.correct_G.sum()),
            "informative": visit.group.is_informative,
            "gradient_weight": _weight_of(visit, weights),
        }
        for visit in batch.visits
    ]
    row = {
        "arm_id": arm.arm_id,
        "step": step,
        "loss": sum(gradient.loss for gradient in update.gradients),
        "rollouts": batch.rollouts,
        "informative_groups": len(update.gradients),
        "gradient_tokens": sum(gradient.tokens for gradient in update.gradients),
        "gradient_norm": update.norm,
        "seconds": seconds,
    }
    with store.transaction() as transaction:
        if visits:
            transaction.append("visits", pl.DataFrame(visits))
        if update.gradients:
            transaction.append("updates", pl.DataFrame([row]))
        set_cost(transaction, arm, position)


def recorded_steps(store: Store, arm: Arm) -> int:
    """Return how many updates of a run the ledger holds."""
    rows = store.read(
        "SELECT coalesce(max(step), 0) AS steps FROM updates WHERE arm_id = $arm_id",
        arm_id=arm.arm_id,
    )
    return int(rows.item())


def forget_after(store: Store, arm: Arm, position: Position) -> None:
    """Drop what was stored after `position`, a checkpoint's: it is made again."""
    with store.transaction() as transaction:
        for table in ("updates", "visits"):
            transaction.execute(
                f"DELETE FROM {table} WHERE arm_id = $arm_id AND step > $step",
                arm_id=arm.arm_id,
                step=position.step,
            )
        set_cost(transaction, arm, position)


def _weight_of(visit: Visit, weights: Iterator[GroupGradient]) -> float:
    """Return a visit's gradient weight: informative ones take them in order, surplus ones get 0."""
    if not visit.group.is_informative:
        return 0.0
    gradient = next(weights, None)
    return gradient.weight if gradient else 0.0
