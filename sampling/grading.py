"""What a verdict is, and what a grader does.

The paper's reward is binary and not specified further; the rules of our graders are ours.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple, Protocol

from attrib.data.questions import Question


class Verdict(StrEnum):
    """What became of grading a response. Only the first two enter statistics."""

    CORRECT = "correct"
    """The response gives an accepted answer."""
    INCORRECT = "incorrect"
    """It does not, or gives others besides."""
    UNGRADED = "ungraded"
    """No verdict: there is nothing to compare with, or the judge answered unclearly."""
    FAILED = "failed"
    """There is no response. Graders never return it."""


class Kind(StrEnum):
    """What a response is, as far as `match` can tell: what it names of the relation's answers."""

    RIGHT = "right"
    """An accepted answer and no other."""
    ANOTHER = "another answer"
    """One answer of the relation that is not accepted."""
    SEVERAL = "several answers"
    """More than one, with or without the right one."""
    NOTHING = "no answer"
    """None of the relation's answers."""
    CUT = "cut off"
    """What may be one, at the token limit."""
    WRONG = "wrong"
    """Not right; the grader, or a question without a relation, tells no more."""


_KINDS = {
    "another answer besides": Kind.SEVERAL,
    "other answers": Kind.SEVERAL,
    "another answer": Kind.ANOTHER,
    "cut off": Kind.CUT,
}


def kind_of(verdict: str, detail: str, grader: str, relation: str | None) -> Kind | None:
    """Return what a graded response is; None where it has no verdict.

    Args:
        verdict: as stored.
        detail: its reason, as stored.
        grader: fingerprint of the grader.
        relation: of the question.
    """
    if verdict == Verdict.CORRECT:
        return Kind.RIGHT
    if verdict != Verdict.INCORRECT:
        return None
    if not grader.startswith("match-") or not relation:
        return Kind.WRONG
    return next((kind for how, kind in _KINDS.items() if detail.startswith(how)), Kind.NOTHING)


@dataclass(frozen=True, slots=True)
class Graded:
    """A verdict with its reason, such as `accepted: Paris` or `another answer: London`."""

    verdict: Verdict
    detail: str


class Response(NamedTuple):
    """A text to be graded as an answer to a question."""

    question: Question
    text: str
    truncated: bool
    """Whether the token limit cut it off."""


class Grader(Protocol):
    """Grades responses; `fingerprint` changes whenever a verdict might."""

    @property
    def name(self) -> str:
        """What users call the grader."""
        ...

    @property
    def fingerprint(self) -> str:
        """The name with a hash of everything but question and response that verdicts depend on."""
        ...

    @property
    def is_costly(self) -> bool:
        """Tell whether verdicts are worth storing as soon as they are there."""
        ...

    def grade(self, responses: Sequence[Response]) -> Iterator[Graded]:
        """Yield the verdict on each response, in order."""
        ...

    @property
    def cost(self) -> str:
        """Say what grading took so far, such as calls of a judge; empty where that is nothing."""
        ...


def grade_one(grader: Grader, question: Question, text: str, truncated: bool = False) -> Graded:
    """Return the verdict on one response."""
    [graded] = grader.grade([Response(question, text, truncated)])
    return graded
