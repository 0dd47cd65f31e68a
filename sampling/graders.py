"""Graders by name, and who judges where a grader is a model."""

from collections.abc import Sequence
from enum import StrEnum

from attrib.data.questions import Question
from attrib.errors import ConfigError
from attrib.sampling.grading import Grader
from attrib.sampling.judge import JudgeSettings, make_judge
from attrib.sampling.matching import make_exact_grader, make_match_grader


class GraderName(StrEnum):
    """What users call a grader."""

    MATCH = "match"
    """An accepted answer is in the response, and no other one."""
    EXACT = "exact"
    """The response is an accepted answer and nothing else."""
    JUDGE = "judge"
    """A language model says so."""


def make_grader(
    name: str, questions: Sequence[Question], judging: JudgeSettings | None = None
) -> Grader:
    """Return the grader called `name`.

    Args:
        name: `match`, `exact` or `judge`.
        questions: all questions of the imported data set, not only those of a run.
        judging: who judges.

    Raises:
        ConfigError: there is no such grader, or nobody is named to judge.
        ModelError: the judge cannot be found.
    """
    if name == GraderName.EXACT:
        return make_exact_grader()
    if name == GraderName.MATCH:
        return make_match_grader(questions)
    if name == GraderName.JUDGE:
        return make_judge(judging or JudgeSettings())
    raise ConfigError(f"There is no grader '{name}'. Choose one of: {', '.join(GraderName)}")
