"""What a report knows of single training questions: scores, and how far they can be trusted."""

from dataclasses import dataclass

from attrib.reports.values import Estimate


@dataclass(frozen=True, slots=True)
class ShownVisit:
    """What a visit drew."""

    step: int
    correct: int
    rollouts: int
    most: tuple[tuple[str, bool, int], ...]
    """The most frequent answers, whether they are right, and how often they came."""


@dataclass(frozen=True, slots=True)
class ScoredQuestion:
    """A training question with its score, and its visits in the first of the scored arms."""

    question: str
    bucket: str
    score: float
    n: int
    correct: int
    """Of n rollouts before training."""
    visits: tuple[ShownVisit, ...]


@dataclass(frozen=True, slots=True)
class MethodValidation:
    """A method's linear datamodel score by one measure; `subsets` arms were retrained."""

    method: str
    measure: str
    score: Estimate
    subsets: int


@dataclass(frozen=True, slots=True)
class CurvePoint:
    """The gain of training with only (`keep`), or without (`remove`), a method's highest scores."""

    role: str
    method: str
    fraction: float
    gain: Estimate
    difference: Estimate | None
    """Less the gain with as many random questions."""


@dataclass(frozen=True, slots=True)
class Attribution:
    """Scores by the method that is shown, and what retraining says of all methods."""

    method: str
    arms: int
    """Whose scores are averaged."""
    projection_r: float | None
    questions: tuple[ScoredQuestion, ...]
    """The highest score first."""
    validations: tuple[MethodValidation, ...]
    curves: tuple[CurvePoint, ...]
