"""Graders by name, and who judges where a grader is a model."""

from collections.abc import Callable, Sequence
from enum import StrEnum
from typing import cast

from attrib.data.questions import Question
from attrib.errors import ConfigError
from attrib.plugins import GRADERS, load_plugin
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


MakeGrader = Callable[[Sequence[Question]], Grader]
"""What an entry point of `attrib.graders` has to be; the questions are all of the data set."""


def make_grader(
    name: str, questions: Sequence[Question], judging: JudgeSettings | None = None
) -> Grader:
    """Return the grader called `name`.

    Args:
        name: `match`, `exact`, `judge`, or that of an entry point.
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
    grader = cast(MakeGrader, load_plugin(GRADERS, name, tuple(GraderName)))(questions)
    if not grader.fingerprint.startswith(f"{name}-"):  # stored ones lead to their grader
        raise ConfigError(
            f"The grader '{name}' has the fingerprint {grader.fingerprint!r}, which must begin "
            f"with '{name}-'."
        )
    return grader
