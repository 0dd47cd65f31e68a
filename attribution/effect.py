"""One row of the table `effects`: a statistic of an arm, with its interval."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np
import polars as pl

from attrib.analysis.intervals import Interval, wilson_interval
from attrib.analysis.seeds import gain_over_seeds
from attrib.attribution.outcomes import Outcomes, Place
from attrib.roles import Role
from attrib.store import Store

HELD_OUT = "held-out"


@dataclass(frozen=True, slots=True)
class Effect:
    """One statistic of one arm; None means undefined, and `detail` says why."""

    subset: str
    role: Role
    statistic: str
    evaluated_on: str
    fraction: float
    value: float | None
    low: float | None
    high: float | None
    seeds: int
    questions: int
    detail: str = ""


def make_effect(
    place: Place,
    statistic: str,
    evaluated_on: str,
    fraction: float,
    interval: Interval,
    seeds: int,
    questions: int,
) -> Effect:
    """Return the row of an interval."""
    return Effect(
        place.subset,
        place.role,
        statistic,
        evaluated_on,
        fraction,
        interval.value,
        interval.low,
        interval.high,
        seeds,
        questions,
    )


def rate_interval(flag_SQ: Outcomes) -> Interval:
    """Return how often something holds, with an interval over questions and, if several, seeds."""
    if len(flag_SQ) == 1:
        return wilson_interval(int(flag_SQ.sum()), flag_SQ.shape[1])
    found = gain_over_seeds(np.zeros(flag_SQ.shape[1], dtype=np.bool_), flag_SQ)
    return Interval(found.value, max(0.0, found.low), found.high)


def store_effects(store: Store, experiment_id: str, effects: Sequence[Effect]) -> None:
    """Replace the effects of an experiment. Only inside `store.writing`."""
    rows = [
        {"experiment_id": experiment_id, **asdict(effect), "role": str(effect.role)}
        for effect in effects
    ]
    with store.transaction() as transaction:
        transaction.execute(
            "DELETE FROM effects WHERE experiment_id = $experiment_id", experiment_id=experiment_id
        )
        transaction.append("effects", pl.DataFrame(rows, infer_schema_length=None))
