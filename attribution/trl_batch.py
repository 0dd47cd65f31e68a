"""A batch that TRL drew: its rewards, and what it is in the ledger.

TRL's denominators count every completion of a batch, ungraded ones included; ours leave those out.
Weights and loss here are TRL's.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from attrib.attribution.groups import Group
from attrib.attribution.ledger import Batch, Update, Visit
from attrib.attribution.objective import (
    NO_GRADIENT,
    Advantage,
    GroupGradient,
    Normalisation,
    group_advantages,
)
from attrib.attribution.settings import TrainSettings
from attrib.attribution.trl_line import Rewarded, Stepped
from attrib.sampling.engine import Rollout
from attrib.sampling.grading import Verdict

REWARDS = {Verdict.CORRECT: 1.0, Verdict.INCORRECT: 0.0}


@dataclass(frozen=True, slots=True)
class DrawnBatch:
    """The visits of one batch, graded.

    Attributes:
        visits: in order.
        verdicts: on all rollouts of each.
        lengths: tokens of all of them.
    """

    visits: tuple[Visit, ...]
    verdicts: Sequence[Sequence[Verdict]]
    lengths: Sequence[Sequence[int]]

    @classmethod
    def of(
        cls,
        visits: Sequence[Visit],
        verdicts: Sequence[Sequence[Verdict]],
        drawn: Sequence[Sequence[Rollout]],
    ) -> "DrawnBatch":
        """Return the batch that graded rollouts make."""
        lengths = [[rollout.tokens for rollout in rollouts] for rollouts in drawn]
        return cls(tuple(visits), verdicts, lengths)

    @property
    def informative(self) -> int:
        """Return how many groups hold right and wrong rollouts."""
        return sum(visit.is_informative for visit in self.visits)

    @property
    def for_ledger(self) -> Batch:
        """Return the batch as the ledger takes it: all visits form the loss."""
        return Batch(self.visits, self.visits)

    def rewarded(self, advantage: Advantage) -> Rewarded:
        """Return the rewards of all rollouts, group after group."""
        rewards = [reward for judged in self.verdicts for reward in _reward(judged, advantage)]
        return Rewarded(rewards, self.informative > 0)

    def update(self, stepped: Stepped, settings: TrainSettings, longest: int) -> Update:
        """Return what TRL's first step on the batch used; without a signal it took none."""
        if not self.informative:
            return Update(tuple(NO_GRADIENT for _ in self.visits))
        return Update(
            gradients=tuple(
                self._gradient(visit.group, settings, longest) for visit in self.visits
            ),
            norm=stepped.norm,
            informative_groups=self.informative,
            whole_loss=stepped.loss,
        )

    def _gradient(self, group: Group, settings: TrainSettings, longest: int) -> GroupGradient:
        """Return a group's part; the loss is that of the rewards, at a ratio of 1."""
        if not (group.has_both or (settings.kl > 0 and group.completions)):
            return NO_GRADIENT
        advantage_G = group_advantages(group.correct_G.astype(np.float64), settings.advantage)
        pull_G = advantage_G * self._share(group, settings.normalisation, longest)
        return GroupGradient(
            loss=-float(pull_G.sum()),
            tokens=len({c[: i + 1] for c in group.completions for i in range(len(c))}),
            weight=float(np.abs(pull_G).sum()),
        )

    def _share(
        self, group: Group, normalisation: Normalisation, longest: int
    ) -> NDArray[np.float64]:
        """Return what all tokens of each completion together weigh in the loss, shape (G,)."""
        if normalisation is Normalisation.PER_TOKEN:
            return group.length_G / sum(sum(lengths) for lengths in self.lengths)
        count = sum(len(lengths) for lengths in self.lengths)
        if normalisation is Normalisation.CONSTANT:
            return group.length_G / (longest * count)
        return np.full(len(group.completions), 1.0 / count)


def _reward(judged: Sequence[Verdict], advantage: Advantage) -> list[float | None]:
    """Return the rewards of one group.

    TRL has no leave-one-out advantages; the mean-only ones of rewards stretched by n/(n-1) are.
    """
    graded = sum(verdict in REWARDS for verdict in judged)
    stretch = 1.0
    if advantage is Advantage.LEAVE_ONE_OUT and graded > 1:
        stretch = graded / (graded - 1)
    return [stretch * REWARDS[verdict] if verdict in REWARDS else None for verdict in judged]
