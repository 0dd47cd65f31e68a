"""Effects: what each arm gained on held-out facts, and its share of the full arm's gain.

Paired on questions: every arm answers the same held-out questions as the base. A question that the
grader could not grade for some arm is left out for all, and the count of questions says so. With
one seed the intervals cover the choice of questions, not the spread between seeds.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from attrib.analysis.intervals import gain_share, mcnemar_exact, paired_gain, wilson_interval
from attrib.errors import DataError
from attrib.roles import Role
from attrib.store import Store

_OUTCOMES = """
    SELECT role.role, role.subset, run.status, evaluation.question_id,
           evaluation.verdict = 'correct' AS correct,
           evaluation.verdict IN ('correct', 'incorrect') AS gradable
    FROM arm_roles AS role
    JOIN training_runs AS run USING (arm_id)
    JOIN evaluations AS evaluation USING (arm_id)
    WHERE role.experiment_id = $experiment_id AND evaluation.decoding = 'greedy'
    ORDER BY role.role, role.subset, evaluation.question_id
"""


@dataclass(frozen=True, slots=True)
class Effect:
    """One statistic of one arm; None means undefined."""

    subset: str
    role: Role
    statistic: str
    value: float | None
    low: float | None
    high: float | None
    seeds: int
    questions: int


@dataclass(frozen=True, slots=True)
class _Place:
    """An arm's place in the experiment."""

    role: Role
    subset: str


def estimate_effects(store: Store, experiment_id: str) -> list[Effect]:
    """Return accuracy, gain, McNemar p and share of every evaluated arm of an experiment.

    Shares are undefined unless the full arm came to its planned end.

    Raises:
        DataError: the base has not been evaluated.
    """
    rows = store.read(_OUTCOMES, experiment_id=experiment_id)
    outcomes = _outcomes_by_place(rows)
    base = next((o for place, o in outcomes.items() if place.role == Role.BASE), None)
    if base is None:
        raise DataError(f"The base of experiment {experiment_id} has not been evaluated.")
    unfinished = rows.filter((pl.col("role") == Role.FULL) & (pl.col("status") != "done"))
    full = None  # the gain of an arm that did not finish is no whole to take shares of
    if unfinished.is_empty():
        full = next((o for place, o in outcomes.items() if place.role == Role.FULL), None)
    return [
        effect
        for place, after_Q in outcomes.items()
        for effect in _effects_of(place, base, after_Q, full)
    ]


def store_effects(store: Store, experiment_id: str, effects: list[Effect]) -> None:
    """Replace the effects of an experiment. Only inside `store.writing`."""
    rows = [
        {
            "experiment_id": experiment_id,
            "subset": effect.subset,
            "role": str(effect.role),
            "statistic": effect.statistic,
            "value": effect.value,
            "low": effect.low,
            "high": effect.high,
            "seeds": effect.seeds,
            "questions": effect.questions,
        }
        for effect in effects
    ]
    with store.transaction() as transaction:
        transaction.execute(
            "DELETE FROM effects WHERE experiment_id = $experiment_id", experiment_id=experiment_id
        )
        transaction.append("effects", pl.DataFrame(rows, infer_schema_length=None))


def _outcomes_by_place(frame: pl.DataFrame) -> Mapping[_Place, NDArray[np.bool_]]:
    """Return each arm's outcomes on the questions gradable for all, ordered by question id."""
    gradable = frame.group_by("question_id").agg(pl.col("gradable").all()).filter("gradable")
    kept = frame.join(gradable, on="question_id", how="semi")
    return {
        _Place(Role(str(role)), str(subset)): rows.sort("question_id")["correct"].to_numpy()
        for (role, subset), rows in kept.group_by(["role", "subset"], maintain_order=True)
    }


def _effects_of(
    place: _Place,
    base_Q: NDArray[np.bool_],
    after_Q: NDArray[np.bool_],
    full_Q: NDArray[np.bool_] | None,
) -> list[Effect]:
    def effect(
        statistic: str, value: float | None, low: float | None, high: float | None
    ) -> Effect:
        return Effect(place.subset, place.role, statistic, value, low, high, 1, len(after_Q))

    accuracy = wilson_interval(int(after_Q.sum()), len(after_Q))
    effects = [effect("accuracy", accuracy.value, accuracy.low, accuracy.high)]
    if place.role == Role.BASE:
        return effects
    gain = paired_gain(base_Q, after_Q)
    effects.append(effect("gain", gain.value, gain.low, gain.high))
    effects.append(effect("mcnemar_p", mcnemar_exact(base_Q, after_Q), None, None))
    if full_Q is None and place.role != Role.FULL:
        effects.append(effect("share", None, None, None))
    elif full_Q is not None and place.role != Role.FULL:
        share = gain_share(base_Q, after_Q, full_Q)
        effects.append(effect("share", share.value, share.low, share.high))
    return effects
