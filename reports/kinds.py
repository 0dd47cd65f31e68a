"""What kind of change a gain is, in words: groups of held-out questions and what each stands for.

Owns the order and the meaning of the groups that `attribution.changes` splits a gain by, and the
sentences that read its parts. The paper (arXiv 2605.07153) speaks of knowledge that is unlocked;
learning the form of an answer raises accuracy just as well, so the two are told apart here.
"""

from collections.abc import Iterable

from attrib.reports.findings import describe_exhaustion
from attrib.reports.records_arms import Arm, GroupPart
from attrib.reports.records_training import Experiment
from attrib.reports.text import plural, points_interval, show
from attrib.reports.values import is_defined
from attrib.roles import Role

TITLES = {
    "before": "What the base answered",
    "reach": "Where the right answer stood",
    "relation": "Relation",
    "popularity": "Popularity, in thirds",
}
MEANINGS = {
    ("before", "right"): "was right already",
    ("before", "another answer"): "knowledge: another answer of the relation",
    ("before", "several answers"): "form: several answers at once",
    ("before", "no answer"): "form: no answer of the relation",
    ("before", "cut off"): "form: cut off at the token limit",
    ("before", "wrong"): "wrong; form and knowledge cannot be told apart",
    ("reach", "greedy"): "was right already",
    ("reach", "top 2"): "unlocked: among its two most frequent samples",
    ("reach", "tail"): "unlocked: drawn at all, or of a probability of at least 0.1\u00a0%",
    ("reach", "nowhere"): "acquired, as far as the base's samples reach",
}
_ORDER = list(MEANINGS)


def order_parts(parts: Iterable[GroupPart], kind: str) -> list[GroupPart]:
    """Return the groups of one kind in reading order, unknown ones last."""

    def place(part: GroupPart) -> tuple[int, bool, str]:
        key = (part.kind, part.label)
        known = _ORDER.index(key) if key in MEANINGS else len(_ORDER)
        return known, part.label in ("none", "unknown"), part.label

    return sorted((part for part in parts if part.kind == kind), key=place)


def list_kinds(arms: Iterable[Arm]) -> list[str]:
    """Return the kinds of groups that any of these arms was split by."""
    found = {part.kind for arm in arms for part in arm.parts}
    return [kind for kind in TITLES if kind in found]


def list_contrasted(experiment: Experiment) -> list[Arm]:
    """Return the full arm, the hardest subset alone, and as many random questions."""
    alone = [arm for arm in experiment.arms if arm.role is Role.ONLY]
    measured = (arm for arm in alone if is_defined(arm.gain))
    first = next(measured, next(iter(alone), None))
    control = experiment.find(Role.MATCHED_RANDOM, first.subset) if first else None
    return [arm for arm in (experiment.full, first, control) if arm is not None]


def describe_parts(experiment: Experiment) -> list[str]:
    """Return for the first contrasted arm what its gain came from, the largest part first."""
    sentences = []
    for arm in list_contrasted(experiment)[:1]:
        for kind in ("before", "reach"):
            parts = order_parts(arm.parts, kind)
            parts.sort(key=lambda part: -abs(part.gain.value or 0.0))
            if parts:
                listed = "; ".join(_describe_part(part) for part in parts)
                signal = f", which {describe_exhaustion(experiment, arm)}" if arm.exhausted else ""
                sentences.append(
                    f"“{show(arm.label)}”{signal}, {points_interval(arm.gain)} points, by "
                    f"{_LEADS[kind]}: {listed}."
                )
    return sentences


_LEADS = {"before": "what the base answered", "reach": "where the right answer stood before"}


def _describe_part(part: GroupPart) -> str:
    meaning = MEANINGS.get((part.kind, part.label), show(part.label))
    questions = plural(part.gain.questions, "question")
    return f"{points_interval(part.gain)} from {questions} ({meaning})"
