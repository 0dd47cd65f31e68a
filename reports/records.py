"""What a report knows: frozen records between the queries, the figures and the page.

Owns the shape of the material, nothing else. Numbers stay numbers here and texts stay as the model
wrote them; `tables` and `text` decide how they are shown. Unknown is None.
"""

from dataclasses import dataclass

from attrib.analysis.buckets import BucketRow
from attrib.analysis.passk import PassCurve
from attrib.roles import Role


@dataclass(frozen=True, slots=True)
class Setting:
    """One entry of a JSON settings column, its path joined by dots."""

    key: str
    value: str


@dataclass(frozen=True, slots=True)
class Dataset:
    """Questions of one dataset on either side, and the file they came from, None if unrecorded."""

    dataset: str
    train: int
    held_out: int
    facts: int
    path: str | None
    file_hash: str | None
    rows: int | None
    dropped: int | None


@dataclass(frozen=True, slots=True)
class SampleSet:
    """The rollouts drawn before RL that the buckets rest on."""

    sample_set_id: str
    model: str
    engine: str
    prompt: str
    settings: tuple[Setting, ...]
    seed: int
    created_at: str
    rollouts: int
    questions: int
    truncated: int
    failed: int


@dataclass(frozen=True, slots=True)
class Bucketing:
    """How questions were sorted.

    `left_out` counts sampled training questions with fewer than k gradable rollouts.
    """

    bucketing_id: str
    grader: str
    k: int
    cuts: tuple[Setting, ...]
    created_at: str
    left_out: int


@dataclass(frozen=True, slots=True)
class BucketSummary:
    """One bucket: its table row, and the range of correct counts in it, None where it is empty."""

    row: BucketRow
    fewest_correct: int | None
    most_correct: int | None


@dataclass(frozen=True, slots=True)
class FrequentAnswer:
    """One distinct rollout text of a question, how often it was drawn, and its verdict."""

    text: str
    count: int
    verdict: str


@dataclass(frozen=True, slots=True)
class SampledQuestion:
    """A question of a bucket with its most frequent answers before RL."""

    bucket: str
    question: str
    answers: tuple[str, ...]
    n: int
    correct: int
    frequent: tuple[FrequentAnswer, ...]


@dataclass(frozen=True, slots=True)
class Estimate:
    """One statistic of `effects`.

    `value` is None where it is undefined, the bounds where none were recorded.
    """

    value: float | None
    low: float | None
    high: float | None
    seeds: int
    questions: int


@dataclass(frozen=True, slots=True)
class Run:
    """One training run and what it spent; the last three are None where nothing was recorded."""

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
    groups: int | None
    informative_groups: int | None
    gradient_tokens: int | None


@dataclass(frozen=True, slots=True)
class Arm:
    """All runs (one a seed) of one role and subset, with their joint effects."""

    role: Role
    subset: str
    runs: tuple[Run, ...]
    accuracy: Estimate | None
    gain: Estimate | None
    share: Estimate | None
    mcnemar_p: Estimate | None

    @property
    def label(self) -> str:
        """Return the arm's name in words, such as `all but never-correct`."""
        if self.role is Role.ONLY:
            return f"only {self.subset}"
        if self.role is Role.ALL_BUT:
            return f"all but {self.subset}"
        return "before RL" if self.role is Role.BASE else "full"

    @property
    def marked_label(self) -> str:
        """Return the label, with the status behind it where the arm may not be compared."""
        return self.label if self.finished else f"{self.label} ({self.status})"

    @property
    def questions(self) -> int:
        """Return the number of distinct training questions."""
        return max((run.questions for run in self.runs), default=0)

    @property
    def finished(self) -> bool:
        """Tell whether every run ended as planned; only then may the arm be compared."""
        return bool(self.runs) and all(run.status == "done" for run in self.runs)

    @property
    def status(self) -> str:
        """Return the worst status among the runs, `planned` where none has begun."""
        order = ("failed", "exhausted", "running", "done")
        return min((run.status for run in self.runs), key=order.index, default="planned")

    @property
    def detail(self) -> str:
        """Return what the first run that did not end as planned says about it."""
        return next((run.detail for run in self.runs if run.status != "done"), "")


@dataclass(frozen=True, slots=True)
class LedgerRow:
    """What one arm did with one bucket.

    `gradient_share` is the bucket's part of the arm's absolute gradient weight, None where the arm
    has none.
    """

    arm: str
    bucket: str
    visits: int
    with_correct: int
    informative: int
    gradient_share: float | None


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
class Transitions:
    """Held-out questions of an arm by verdict before and after, and a few that changed.

    Counts are summed over seeds.
    """

    arm: str
    kept: int
    learned: int
    lost: int
    still_wrong: int
    ungraded: int
    learned_examples: tuple[Change, ...]
    lost_examples: tuple[Change, ...]


@dataclass(frozen=True, slots=True)
class Experiment:
    """Arms trained under shared settings, and what they left behind."""

    experiment_id: str
    settings: tuple[Setting, ...]
    created_at: str
    base: Arm | None
    arms: tuple[Arm, ...]
    ledger: tuple[LedgerRow, ...]
    curves: tuple[TrainingCurve, ...]
    transitions: tuple[Transitions, ...]

    @property
    def full(self) -> Arm | None:
        """Return the arm trained on everything."""
        return next((arm for arm in self.arms if arm.role is Role.FULL), None)

    @property
    def seeds(self) -> int:
        """Return the smallest number of seeds an arm was trained with."""
        return min((len(arm.runs) for arm in self.arms if arm.runs), default=0)


@dataclass(frozen=True, slots=True)
class Study:
    """Everything on the page."""

    datasets: tuple[Dataset, ...]
    shared_facts: int
    """Facts with questions on both sides; a study wants none."""
    sample_set: SampleSet
    bucketing: Bucketing
    buckets: tuple[BucketSummary, ...]
    pass_curve: PassCurve
    sampled: tuple[SampledQuestion, ...]
    experiment: Experiment | None
    others: tuple[str, ...]
    """Ids of experiments in the study that this report is not about."""

    @property
    def bucketed(self) -> int:
        """Return the number of training questions in a bucket."""
        return sum(summary.row.questions for summary in self.buckets)

    @property
    def held_out(self) -> int:
        """Return the number of held-out questions in the study."""
        return sum(dataset.held_out for dataset in self.datasets)
