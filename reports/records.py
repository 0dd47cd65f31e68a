"""What a report knows: frozen records between the queries, the figures and the page.

Owns the shape of what there is before training, and of the whole study; `records_arms` and
`records_training` own the rest. Numbers stay numbers here and texts stay as the model wrote them;
`tables` and `text` decide how they are shown. Unknown is None.
"""

from dataclasses import dataclass

from attrib.analysis.buckets import BucketRow
from attrib.analysis.passk import PassCurve
from attrib.reports.records_attribution import Attribution
from attrib.reports.records_grading import Grading
from attrib.reports.records_provenance import Provenance
from attrib.reports.records_training import AnswerShift, Experiment
from attrib.reports.values import Setting


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

    `left_out` counts training questions to be sampled that have fewer than k gradable rollouts.
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
    """A question of a bucket with its answers before RL, the most frequent first."""

    question_id: str
    bucket: str
    question: str
    answers: tuple[str, ...]
    n: int
    correct: int
    p_low: float
    p_high: float
    """Exact 95 % bounds of the chance of a right answer."""
    frequent: tuple[FrequentAnswer, ...]


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
    grading: Grading
    training_shifts: tuple[AnswerShift, ...]
    """Training questions of each bucket, their answers before and after the full arm."""
    held_out_shifts: tuple[AnswerShift, ...]
    experiment: Experiment | None
    attribution: Attribution | None
    """Scores of single training questions; None where there are none."""
    provenance: Provenance
    others: tuple[str, ...]
    """Ids of experiments on other buckets, which this report does not show."""

    @property
    def bucketed(self) -> int:
        """Return the number of training questions in a bucket."""
        return sum(summary.row.questions for summary in self.buckets)

    @property
    def held_out(self) -> int:
        """Return the number of held-out questions in the study."""
        return sum(dataset.held_out for dataset in self.datasets)
