"""What a report knows of the graders, and of accepted answers that may be at fault.

Owns the shape of these records. A grader is known by its fingerprint, which begins with its name.
"""

from dataclasses import dataclass

from attrib.analysis.agreement import Agreement


@dataclass(frozen=True, slots=True)
class SecondGrader:
    """Another grader's verdicts on the rollouts that the buckets rest on, beside those behind them.

    `rollouts` counts those that both gave a clear verdict on, of `of`.
    """

    grader: str
    rollouts: int
    of: int
    agreement: Agreement
    """On distinct responses."""
    first_only: int
    """Distinct responses that only the buckets' grader calls right."""
    second_only: int
    """Distinct responses that only this one calls right."""
    questions: int
    """Of which all counted rollouts have both verdicts; the next three count among them."""
    never_by_first: int
    never_by_second: int
    never_by_both: int


@dataclass(frozen=True, slots=True)
class SuspectQuestion:
    """A never-correct question with signs that its accepted answers are at fault."""

    question_id: str
    question: str
    answers: tuple[str, ...]
    signs: tuple[tuple[str, str], ...]
    """Reason and detail of each, the weightiest first."""
    kept: bool
    """Whether it is in a bucket all the same."""
    said: str | None
    """What its rollouts say most often, `times` of `n`; None where none is at hand."""
    times: int
    n: int


@dataclass(frozen=True, slots=True)
class Suspects:
    """All suspect questions by reason, and the few that are listed."""

    questions: int
    kept: int
    by_reason: tuple[tuple[str, int], ...]
    listed: tuple[SuspectQuestion, ...]


@dataclass(frozen=True, slots=True)
class Grading:
    """How far the verdicts that the buckets rest on can be trusted, as far as the study tells."""

    grader: str
    others: tuple[SecondGrader, ...]
    """Those that judged most of the rollouts too, those that judged more first."""
    passing: tuple[str, ...]
    """Those that judged few of them, which tells nothing."""
    suspects: Suspects
