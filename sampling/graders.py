"""Graders by name."""

from collections.abc import Sequence

from attrib.data.questions import Question
from attrib.errors import ConfigError
from attrib.sampling.grading import Grader
from attrib.sampling.matching import make_exact_grader, make_match_grader


def make_grader(name: str, questions: Sequence[Question]) -> Grader:
    """Return the grader called `name`.

    Args:
        name: `match` or `exact`.
        questions: all questions of the imported data set, not only those of a run.

    Raises:
        ConfigError: there is no such grader.
    """
    if name == "exact":
        return make_exact_grader()
    if name == "match":
        return make_match_grader(questions)
    raise ConfigError(f"There is no grader '{name}'. Choose one of: match, exact")
