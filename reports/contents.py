"""The sections of the page in their order, under the part each belongs to.

Owns the names in the table of contents. Sections that a study has no use for are left out.
"""

from collections.abc import Sequence
from dataclasses import dataclass

PARTS: dict[str, dict[str, str]] = {
    "Result": {"claims": "Claims", "comparison": "Beside other studies"},
    "Design": {"design": "What was asked"},
    "Before training": {
        "buckets": "Buckets",
        "membership": "Who is in which bucket",
        "grading": "Graders",
        "pass": "Pass@k before RL",
        "next": "No arm yet",
    },
    "The gain": {
        "accuracy": "Before and after",
        "controls": "Controls",
        "shares": "Share of the gain",
        "budget": "Gain and budget",
        "siblings": "Under other budgets",
        "shapley": "Shapley values",
    },
    "Training or sampling": {
        "baselines": "Baselines",
        "passes": "Pass@k after",
        "votes": "Votes",
    },
    "What changed": {
        "cuts": "The cut",
        "kinds": "What kind of change",
        "groups": "By group",
        "answers": "Answers",
        "elsewhere": "Other questions",
        "masses": "Probabilities",
        "changes": "Learned and lost",
        "examples": "Examples",
    },
    "Single questions": {"attribution": "Scores"},
    "Training": {"ledger": "Ledger", "curves": "Curves", "runs": "Runs"},
    "Details": {"settings": "Settings and versions"},
}
"""Section ids and their short names, by part."""
_AFTER_TRAINING = (
    "The gain",
    "Training or sampling",
    "What changed",
    "Single questions",
    "Training",
)


@dataclass(frozen=True, slots=True)
class Part:
    """Sections that belong together: the id and short name of each."""

    name: str
    sections: tuple[tuple[str, str], ...]


def list_parts(*, compared: bool, trained: bool, divided: bool, scored: bool) -> list[Part]:
    """Return the parts of a page with their sections; empty ones are left out.

    Args:
        compared: whether other studies stand beside this one.
        trained: whether there is an experiment.
        divided: whether its gain is divided among buckets.
        scored: whether single training questions have scores.
    """
    absent = {
        "comparison": not compared,
        "next": trained,
        "shapley": not divided,
        "attribution": not scored,
    }
    parts = [
        Part(name, tuple(one for one in sections.items() if not absent.get(one[0])))
        for name, sections in PARTS.items()
        if trained or name not in _AFTER_TRAINING
    ]
    return [part for part in parts if part.sections]


def name_parts(parts: Sequence[Part]) -> dict[str, str]:
    """Return the names of the parts by the sections that they begin with."""
    return {part.sections[0][0]: part.name for part in parts}
