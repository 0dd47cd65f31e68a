"""What a report knows of training itself: the ledger, the curves, and what changed in the answers.

Owns the shape of these records. Tuples that end in _S hold one entry a seed, ascending; an entry is
None where it was not recorded.
"""

from dataclasses import dataclass

from attrib.analysis.passk_crossing import Crossing
from attrib.analysis.passk_equivalent import EquivalentAttempts
from attrib.reports.records_arms import Arm, Trained
from attrib.reports.values import Estimate


@dataclass(frozen=True, slots=True)
class LedgerRow:
    """What one arm did with one bucket.

    Counts of questions are by seed, counts of visits are summed over seeds.
    """

    arm: Arm
    bucket: str
    trained_on_S: tuple[int, ...]
    visited_S: tuple[int, ...]
    rewarded_S: tuple[int, ...]
    """Questions that ever got a right rollout."""
    still_wrong_S: tuple[int | None, ...]
    """Of these, not answered correctly by greedy decoding at the end."""
    unrewarded_right_S: tuple[int | None, ...]
    """Visited, never with a right rollout, and answered correctly by greedy decoding at the end."""
    first_step: int | None
    """Update of the first right rollout, the earliest of all seeds."""
    median_step: float | None
    """Of a question's first right rollout, over the questions that got one and the seeds."""
    median_visits: float | None
    """Of visits to a question until its first right rollout, the same way."""
    visits: int
    rewarded_visits: int
    informative_visits: int
    gradient_share: float | None
    """The bucket's part of the arm's absolute gradient weight, None where the arm has none."""


@dataclass(frozen=True, slots=True)
class CurvePoint:
    """Consecutive optimiser steps of an arm taken together."""

    first_step: int
    last_step: int
    rollouts: int
    correct: int
    groups: int
    informative: int


@dataclass(frozen=True, slots=True)
class TrainingCurve:
    """An arm's training, in windows of steps."""

    arm: str
    points: tuple[CurvePoint, ...]


@dataclass(frozen=True, slots=True)
class Change:
    """A held-out question whose verdict changed."""

    question: str
    answers: tuple[str, ...]
    before: str
    after: str


@dataclass(frozen=True, slots=True)
class AnswerShift:
    """A question with its answers before and after the full arm.

    `answers` are text, verdict, how often it was given before, and how often after; those that are
    rare on both sides are left out.
    """

    group: str
    question: str
    accepted: tuple[str, ...]
    answers: tuple[tuple[str, str, int, int], ...]
    before_drawn: int
    after_drawn: int


@dataclass(frozen=True, slots=True)
class Transitions:
    """Questions by greedy verdict before and after an arm, summed over seeds."""

    arm: Arm
    kept: int
    learned: int
    lost: int
    still_wrong: int
    ungraded: int
    learned_examples: tuple[Change, ...] = ()
    lost_examples: tuple[Change, ...] = ()

    @property
    def gradable(self) -> int:
        """Return how many pairs of answers have a verdict on both sides."""
        return self.kept + self.learned + self.lost + self.still_wrong


@dataclass(frozen=True, slots=True)
class BucketTransitions:
    """Training questions of one bucket by greedy verdict before and after an arm, over seeds."""

    arm: Arm
    bucket: str
    kept: int
    learned: int
    lost: int
    still_wrong: int
    ungraded: int

    @property
    def gradable(self) -> int:
        """Return how many pairs of answers have a verdict on both sides."""
        return self.kept + self.learned + self.lost + self.still_wrong


@dataclass(frozen=True, slots=True)
class PassRun:
    """One run's pass@k against the base's: the differences, the crossing, and what one is worth."""

    arm: Arm
    seed: int
    crossing: Crossing
    equivalent: EquivalentAttempts


@dataclass(frozen=True, slots=True)
class MassMove:
    """The probability of all accepted answers to each held-out question, before and after an arm.

    Shape (Q,) each, means over seeds, of their plain forms only.
    """

    arm: Arm
    before_Q: tuple[float, ...]
    after_Q: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Masses:
    """Where an arm's probability lies on held-out questions, averaged over seeds.

    `logprob` is of the best accepted answer, `logprob_change` the same against the base, `mass_low`
    the probability of all accepted answers in their plain form, `greedy` the share of questions
    whose best accepted answer greedy decoding gives.
    """

    arm: Arm
    logprob: Estimate
    logprob_change: Estimate | None
    mass_low: Estimate
    greedy: Estimate


@dataclass(frozen=True, slots=True)
class Ungraded:
    """Held-out questions on some of whose greedy answers by an arm there is no verdict.

    `left_out` counts those without one by any arm.
    """

    label: str
    questions: int
    left_out: int


@dataclass(frozen=True, slots=True)
class Experiment(Trained):
    """The experiment a report is about, with what its arms left behind."""

    ledger: tuple[LedgerRow, ...]
    curves: tuple[TrainingCurve, ...]
    transitions: tuple[Transitions, ...]
    training_transitions: tuple[Transitions, ...]
    bucket_transitions: tuple[BucketTransitions, ...]
    masses: tuple[Masses, ...]
    mass_moves: tuple[MassMove, ...]
    siblings: tuple[Trained, ...]
    """Other experiments on the same buckets, the newest first."""
    ungraded: tuple[Ungraded, ...]
    """Arms with answers that got no verdict, the base first."""
