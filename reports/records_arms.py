"""What a report knows of arms: their runs, their effects, and how far they came.

Owns the names of arms and which of their numbers may be compared: those at a planned fraction of
the budget that all runs of an arm, and of the full arm, have reached. Unknown is None.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from attrib.reports.values import Estimate, Setting
from attrib.roles import Role

JOINT = "+"  # between the names of a coalition's subsets
_STATUSES = ("failed", "exhausted", "running", "done")  # the worst first
_LABELS = {
    Role.BASE: "before RL",
    Role.FULL: "full",
    Role.ONLY: "only {}",
    Role.ALL_BUT: "all but {}",
    Role.MATCHED_RANDOM: "random, as many as {}",
    Role.MATCHED_COMPLEMENT: "others, as many as {}",
    Role.MATCHED_SUBSET: "{}, as many as others",
    Role.COALITION: "{} together",
    Role.IMPORTED: "imported {}",
}


@dataclass(frozen=True, slots=True)
class Run:
    """One training run and what it spent; None where nothing was recorded.

    `accuracy` is its own, with Wilson's interval, where its arm is compared, else at its end.
    """

    arm_id: str
    method: str
    seed: int
    settings: tuple[Setting, ...]
    status: str
    detail: str
    questions: int
    updates: int
    rollouts: int
    wall_seconds: float
    visits: int | None
    informative_groups: int | None
    gradient_tokens: int | None
    accuracy: Estimate | None
    mcnemar_p: Estimate | None


@dataclass(frozen=True, slots=True)
class BudgetPoint:
    """How far an arm had come at a fraction of its budget: means over its runs, and the gain.

    `planned` is False where the runs ended apart, each where it could get no further.
    """

    planned: bool
    runs: int
    updates: float
    rollouts: float
    informative_groups: float
    gradient_tokens: float
    gain: Estimate


@dataclass(frozen=True, slots=True)
class Comparison:
    """An arm against its control: the difference of accuracies, and its p after Holm."""

    difference: Estimate
    p: Estimate | None


@dataclass(frozen=True, slots=True)
class Elsewhere:
    """Greedy answers to other questions than the experiment's own held-out ones.

    `place` is a bucket of training questions, or the name of another data set.
    """

    place: str
    is_training: bool
    accuracy: Estimate | None
    gain: Estimate | None


@dataclass(frozen=True, slots=True)
class Baseline:
    """Answers obtained otherwise than greedily, against the greedy ones of the base."""

    decoding: str
    accuracy: Estimate | None
    gain: Estimate | None


@dataclass(frozen=True, slots=True)
class PassAt:
    """Pass@k of sampled answers to held-out questions; the interval covers questions only."""

    k: int
    estimate: Estimate


@dataclass(frozen=True, slots=True)
class GroupPart:
    """What one group of held-out questions adds to an arm's gain.

    `kind` is what questions are grouped by, `label` the group. `gain`, `learned` and `lost` are
    parts of the gain over all questions and add up over the groups of a kind; `within` is the gain
    of the group's own questions.
    """

    kind: str
    label: str
    gain: Estimate
    learned: Estimate | None
    lost: Estimate | None
    within: Estimate | None


@dataclass(frozen=True, slots=True)
class Arm:
    """All runs (one a seed) of one role and subset, with their joint effects.

    `compared_at` is the fraction of the budget at which `gain` and the others hold; None where no
    fraction can be compared, so that they tell where the arm ended.
    """

    role: Role
    subset: str
    runs: tuple[Run, ...]
    compared_at: float | None
    accuracy: Estimate | None
    gain: Estimate | None
    share: Estimate | None
    gain_p: Estimate | None
    random: Comparison | None
    complement: Comparison | None
    shapley: Estimate | None
    shapley_share: Estimate | None
    points: tuple[BudgetPoint, ...]
    elsewhere: tuple[Elsewhere, ...]
    baselines: tuple[Baseline, ...]
    passes: tuple[PassAt, ...]
    parts: tuple[GroupPart, ...]
    answers: Mapping[str, Estimate]
    """Rates of answers by statistic, such as `one_answer` and `brier`."""
    others: Mapping[str, Estimate]
    """Of a subset alone: how much more it gained than others alone, by name; each pair once."""

    @property
    def label(self) -> str:
        """Return the arm's name in words, such as `all but never-correct`."""
        return _LABELS[self.role].format(self.subset.replace(JOINT, f" {JOINT} "))

    @property
    def marked_label(self) -> str:
        """Return the label, with the status behind it where the arm did not end as planned."""
        return self.label if self.finished else f"{self.label} ({self.status})"

    @property
    def compared_label(self) -> str:
        """Return the label, with the status and where it is compared if that is not the end."""
        if self.compared_at == 1 or self.gain is None:
            return self.marked_label
        at = "its end" if self.compared_at is None else f"{100 * self.compared_at:.3g}\u00a0%"
        return f"{self.label} ({'' if self.finished else f'{self.status}, '}at {at})"

    @property
    def questions(self) -> int:
        """Return the number of distinct training questions of a run."""
        return max((run.questions for run in self.runs), default=0)

    @property
    def finished(self) -> bool:
        """Tell whether every run used its whole budget."""
        return bool(self.runs) and all(run.status == "done" for run in self.runs)

    @property
    def status(self) -> str:
        """Return the worst status among the runs, `planned` where none has begun."""
        return min((run.status for run in self.runs), key=_STATUSES.index, default="planned")

    @property
    def is_compared(self) -> bool:
        """Tell whether its gain may be held against the full arm's."""
        return self.compared_at is not None and self.gain is not None

    def minus(self, other: "Arm") -> Estimate | None:
        """Return how much more this subset alone gained than another, None where not compared."""
        opposite = other.others.get(self.subset)
        return self.others.get(other.subset) or (opposite.negate() if opposite else None)

    @property
    def exhausted(self) -> tuple[Run, ...]:
        """Return the runs that could not use their budget."""
        return tuple(run for run in self.runs if run.status == "exhausted")


@dataclass(frozen=True, slots=True)
class Trained:
    """The arms of one experiment; `base` is the model before training.

    `arms` are hardest subset first within each role, unions of buckets apart.
    """

    experiment_id: str
    settings: tuple[Setting, ...]
    created_at: str
    base: Arm | None
    arms: tuple[Arm, ...]
    coalitions: tuple[Arm, ...]

    @property
    def full(self) -> Arm | None:
        """Return the arm trained on everything."""
        return next((arm for arm in self.arms if arm.role is Role.FULL), None)

    @property
    def seeds(self) -> int:
        """Return the smallest number of seeds that an arm's numbers rest on."""
        trained = [arm for arm in self.arms if arm.role is not Role.IMPORTED and arm.runs]
        return min((arm.gain.seeds if arm.gain else len(arm.runs) for arm in trained), default=0)

    def find(self, role: Role, subset: str) -> Arm | None:
        """Return the arm of a role and subset."""
        found = (arm for arm in self.arms if (arm.role, arm.subset) == (role, subset))
        return next(found, None)
