"""What an arm can be expected to take, before it starts: signal, rollouts, time and disk.

The chance that a group of G rollouts holds both right and wrong ones is 1 - (1-p)^G - p^G; it is
averaged over what c right of n rollouts leave open about p (Jeffreys' prior). It is the chance at
the start: training changes it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import betaln  # type: ignore[import-untyped, unused-ignore]

from attrib.attribution.arms import Arm
from attrib.attribution.budget import Budget, BudgetKind
from attrib.attribution.settings import Fill, Method, TrainSettings

WEAK_SIGNAL = 0.1  # share of informative groups below which plain batches hardly learn
JEFFREYS = 0.5


@dataclass(frozen=True, slots=True)
class Counts:
    """Right rollouts of a question before training."""

    n: int
    correct: int


@dataclass(frozen=True, slots=True)
class Forecast:
    """What a run is expected to take.

    Attributes:
        informative_share: chance that a visit gives a gradient, at the start; None where the method
            draws no rollouts.
        visits: expected until the budget is used, at that rate.
        rollouts: the same.
        updates: the same.
        gradients: visits that a gradient is taken from.
        exhausts: whether the limit on rollouts is expected to come first.
    """

    informative_share: float | None
    visits: float
    rollouts: float
    updates: float
    gradients: float
    exhausts: bool


def informative_chance(counts: Sequence[Counts], group_size: int) -> NDArray[np.float64]:
    """Return for each question the chance that a group holds right and wrong rollouts, shape (Q,).

    Source: the mean of 1 - (1-p)^G - p^G under Beta(c + 1/2, n - c + 1/2).
    """
    a_Q = np.array([c.correct for c in counts]) + JEFFREYS
    b_Q = np.array([c.n - c.correct for c in counts]) + JEFFREYS
    none_Q = np.exp(betaln(a_Q, b_Q + group_size) - betaln(a_Q, b_Q))
    all_Q = np.exp(betaln(a_Q + group_size, b_Q) - betaln(a_Q, b_Q))
    return np.asarray(1.0 - none_Q - all_Q, dtype=np.float64)


def forecast(arm: Arm, counts: Mapping[str, Counts], settings: TrainSettings) -> Forecast:
    """Return what a run of `arm` is expected to take."""
    draws = settings.method is Method.GRPO
    share = 1.0
    if draws:
        chances = informative_chance(
            [counts[q.question_id] for q in arm.questions], settings.group_size
        )
        share = max(float(chances.mean()), 1e-9)
    budget = Budget.parse(settings.budget)
    total = budget.total(len(arm.questions))
    per_visit = settings.group_size if draws else 0
    per_update = settings.groups / share if settings.fill is Fill.INFORMATIVE else settings.groups
    visits = {
        BudgetKind.UPDATES: total * per_update,
        BudgetKind.EPOCHS: float(total),
        BudgetKind.INFORMATIVE_GROUPS: total / share,
        BudgetKind.ROLLOUTS: total / per_visit if per_visit else 0.0,
    }[budget.kind]
    most = settings.max_rollouts / per_visit if per_visit else visits
    exhausts = visits > most
    visits = min(visits, most)
    return Forecast(
        informative_share=share if draws else None,
        visits=visits,
        rollouts=visits * per_visit,
        updates=visits / per_update,
        gradients=visits * share,
        exhausts=exhausts,
    )
