"""The ledger: what every training run did, written as it happens.

Owns the rows of `training_runs`, `updates`, `visits` and `visit_rollouts`. A batch and what it cost
become visible together, so that a run killed at any instant shows its true cost, and a run that
goes on from a checkpoint makes again exactly what is forgotten here.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import polars as pl

from attrib.attribution.arms import Arm
from attrib.attribution.checkpoint import Position
from attrib.attribution.groups import Group
from attrib.attribution.objective import GroupGradient
from attrib.config import canonical_json
from attrib.data.questions import Question
from attrib.environment import record_work
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
_MILESTONE = """
    INSERT INTO milestones VALUES ($arm_id, $fraction, $step, $visits, $rollouts,
                                   $informative_groups, $gradient_tokens, $seconds)
"""
_POSITION = """
    SELECT coalesce(sum(rollouts), 0)::BIGINT AS rollouts,
           coalesce(sum(informative_groups), 0)::BIGINT AS informative_groups,
           coalesce(sum(gradient_tokens), 0)::BIGINT AS gradient_tokens,
           coalesce(sum(seconds), 0.0) AS seconds,
           (SELECT count(*) FROM visits WHERE arm_id = $arm_id AND step <= $step) AS visit
    FROM updates WHERE arm_id = $arm_id AND step <= $step
"""
_DRAWN = pl.Schema(
    [
        ("arm_id", pl.String()),
        ("visit", pl.Int64()),
        ("text", pl.String()),
        ("token_ids", pl.List(pl.Int32)),
        ("correct", pl.Boolean()),
        ("draws", pl.Int32()),
    ]
)
_WITH_STEPS = ("updates", "milestones", "evaluations")
_WITH_VISITS = ("visits", "visit_rollouts", "visit_scores")


@dataclass(frozen=True, slots=True)
class Visit:
    """A question, visited once.

    Attributes:
        number: of the visit in the run, from 0.
        question: what was visited.
        group: what it gave.
        rollouts: how many were drawn for it, ungraded ones included; 0 for stored ones.
        is_informative: whether a gradient can be taken from it.
        texts: of the group's completions, where they were drawn for this visit.
    """

    number: int
    question: Question
    group: Group
    rollouts: int
    is_informative: bool
    texts: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Batch:
    """The visits made for one update.

    Attributes:
        visits: all of them, in order.
        used: those that form the batch of the loss; None if it was not filled, so that there is no
            update.
    """

    visits: tuple[Visit, ...]
    used: tuple[Visit, ...] | None

    @property
    def rollouts(self) -> int:
        """Return how many rollouts it took."""
        return sum(visit.rollouts for visit in self.visits)


@dataclass(frozen=True, slots=True)
class Update:
    """What an update used: a gradient for each visit used, and the norm before clipping."""

    gradients: tuple[GroupGradient, ...] = ()
    norm: float = 0.0
    informative_groups: int = 0
    """Visits that carried a gradient of the rewards; 0 where no optimiser step was taken."""
    whole_loss: float | None = None
    """Of the batch, where more goes into it than what is known of its groups."""

    @property
    def loss(self) -> float:
        """Return the loss of the batch."""
        if self.whole_loss is not None:
            return self.whole_loss
        return sum(gradient.loss for gradient in self.gradients)

    @property
    def tokens(self) -> int:
        """Return how many distinct tokens carried it."""
        return sum(gradient.tokens for gradient in self.gradients)


def begin_run(store: Store, arm: Arm, command: str) -> None:
    """Mark a run as running, by `command`, here; what an earlier attempt had done stays."""
    with store.transaction() as transaction:
        mark_running(transaction, arm)
        record_work(transaction, arm.arm_id, command)


def mark_running(transaction: Transaction, arm: Arm) -> None:
    """Mark a run as running, wherever."""
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
    transaction: Transaction,
    arm: Arm,
    batch: Batch,
    update: Update,
    position: Position,
    seconds: float,
) -> None:
    """Store a batch's visits, its update if there was one, and the run's cost so far.

    Args:
        transaction: takes it all together.
        arm: whose run it is.
        batch: the visits.
        update: what the update used.
        position: of the run after the batch.
        seconds: the batch took.
    """
    step = position.step if batch.used is not None else position.step + 1
    weights = {
        visit.number: gradient.weight
        for visit, gradient in zip(batch.used or (), update.gradients, strict=True)
    }
    visits = [
        {
            "arm_id": arm.arm_id,
            "step": step,
            "visit": visit.number,
            "question_id": visit.question.question_id,
            "rollouts": len(visit.group.completions),
            "correct": int(visit.group.correct_G.sum()),
            "informative": visit.is_informative,
            "gradient_weight": weights.get(visit.number, 0.0),
        }
        for visit in batch.visits
    ]
    row = {
        "arm_id": arm.arm_id,
        "step": step,
        "loss": update.loss,
        "rollouts": batch.rollouts,
        "informative_groups": update.informative_groups,
        "gradient_tokens": update.tokens,
        "gradient_norm": update.norm,
        "seconds": seconds,
    }
    if visits:
        transaction.append("visits", pl.DataFrame(visits))
    drawn = [row for visit in batch.visits for row in _drawn_rows(arm, visit)]
    if drawn:
        transaction.append("visit_rollouts", pl.DataFrame(drawn, _DRAWN, orient="row"))
    if batch.used is not None:
        transaction.append("updates", pl.DataFrame([row]))
    set_cost(transaction, arm, position)


def _drawn_rows(arm: Arm, visit: Visit) -> list[tuple[object, ...]]:
    """Return the distinct rollouts of a visit, in the order in which they were first drawn."""
    group = visit.group
    if not visit.texts:
        return []
    drawn = zip(visit.texts, group.completions, group.correct_G.tolist(), strict=True)
    return [
        (arm.arm_id, visit.number, *rollout, draws) for rollout, draws in Counter(drawn).items()
    ]


def record_milestone(
    transaction: Transaction, arm: Arm, fraction: float, position: Position
) -> None:
    """Store how far a run had come when it was evaluated."""
    transaction.execute(
        _MILESTONE,
        arm_id=arm.arm_id,
        fraction=fraction,
        step=position.step,
        visits=position.visit,
        rollouts=position.rollouts,
        informative_groups=position.informative_groups,
        gradient_tokens=position.gradient_tokens,
        seconds=position.seconds,
    )


def reached_milestones(store: Store, arm: Arm) -> Sequence[float]:
    """Return the fractions of the budget at which the run has been evaluated."""
    sql = "SELECT fraction FROM milestones WHERE arm_id = $arm_id ORDER BY fraction"
    return [float(fraction) for fraction in store.read(sql, arm_id=arm.arm_id)["fraction"]]


def recorded_steps(store: Store, arm: Arm) -> int:
    """Return how many updates of a run the ledger holds."""
    rows = store.read(
        "SELECT coalesce(max(step), 0) AS steps FROM updates WHERE arm_id = $arm_id",
        arm_id=arm.arm_id,
    )
    return int(rows.item())


def position_at(store: Store, arm: Arm, step: int) -> Position:
    """Return how far a run had come after update number `step`, as the ledger holds it."""
    row = store.read(_POSITION, arm_id=arm.arm_id, step=step).row(0, named=True)
    return Position(step=step, **row)


def forget_after(store: Store, arm: Arm, position: Position) -> None:
    """Drop what was stored after `position`, a checkpoint's: it is made again."""
    with store.transaction() as transaction:
        for table in _WITH_STEPS:
            transaction.execute(
                f"DELETE FROM {table} WHERE arm_id = $arm_id AND step > $step",
                arm_id=arm.arm_id,
                step=position.step,
            )
        for table in _WITH_VISITS:
            transaction.execute(
                f"DELETE FROM {table} WHERE arm_id = $arm_id AND visit >= $visit",
                arm_id=arm.arm_id,
                visit=position.visit,
            )
        transaction.execute("DELETE FROM masses WHERE arm_id = $arm_id", arm_id=arm.arm_id)
        set_cost(transaction, arm, position)
