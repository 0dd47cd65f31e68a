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
