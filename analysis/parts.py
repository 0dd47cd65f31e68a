"""Which questions a gain comes from: a gain as a sum over groups of questions.

Owns the one decomposition behind every table of changes: by relation or popularity, by what the
base answered (another answer, no answer at all), by where the right answer stood before training.
Any label that a question had *before* training will do; each question has one, so the parts add up
to the gain exactly. Refuses labels of other questions. The paper (arXiv 2605.07153) reports which
training questions a gain comes from, not which held-out ones it shows on.

A label made from what happened *after* training selects on the outcome: its parts add up just the
same, and their intervals mean nothing.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from attrib.analysis.checks import check_outcomes
from attrib.analysis.crossed import check_runs, check_same_questions
from attrib.analysis.seeds import IntervalOverSeeds, gain_over_seeds
from attrib.errors import DataError


@dataclass(frozen=True, slots=True)
class Part:
    """One group of questions; all estimates are fractions, with intervals over seeds.

    Attributes:
        label: of the group.
        questions: in the group.
        gain: what it adds to the gain: over all questions, the others counted as unchanged.
        learned: wrong before and right after, as a part of all questions.
        lost: right before and wrong after, as a part of all questions; gain = learned - lost.
        within: accuracy after minus before, over the group's own questions.
    """

    label: str
    questions: int
    gain: IntervalOverSeeds
    learned: IntervalOverSeeds
    lost: IntervalOverSeeds
    within: IntervalOverSeeds


def split_gain(
    before_Q: npt.ArrayLike,
    after_SQ: npt.ArrayLike,
    label_Q: npt.ArrayLike,
    confidence: float = 0.95,
) -> list[Part]:
    """Return the parts of an arm's gain, one for each label, ordered by label.

    Args:
        before_Q: Whether each held-out question was correct before training, shape (Q,), bool.
        after_SQ: The same after training with each seed, shape (S, Q), bool.
        label_Q: What each question is counted under, known before training, shape (Q,), str.
        confidence: Two-sided level of each interval; nothing corrects for their number.

    Raises:
        DataError: If an array is empty, not boolean, of another shape, or Q differs.
        ConfigError: If `confidence` is outside (0, 1).

    Source: see `analysis.seeds.contrast_over_seeds`, of which every estimate here is one.
    """
    before_Q = check_outcomes(before_Q, "before_Q")
    after_SQ = check_runs(after_SQ, "after_SQ")
    check_same_questions(before_Q.size, after_SQ, "before_Q and after_SQ")
    label_Q = np.asarray(label_Q, np.str_)
    if label_Q.shape != before_Q.shape:
        raise DataError(
            f"label_Q has shape {label_Q.shape} for {before_Q.size} questions. Give each one label."
        )
    nothing_Q = np.zeros(before_Q.size, np.bool_)
    parts = []
    for label in np.unique(label_Q):
        member_Q = label_Q == label
        learned_SQ, lost_SQ = member_Q & ~before_Q & after_SQ, member_Q & before_Q & ~after_SQ
        parts.append(
            Part(
                label=str(label),
                questions=int(member_Q.sum()),
                gain=gain_over_seeds(before_Q & member_Q, after_SQ & member_Q, confidence),
                learned=gain_over_seeds(nothing_Q, learned_SQ, confidence),
                lost=gain_over_seeds(nothing_Q, lost_SQ, confidence),
                within=gain_over_seeds(before_Q[member_Q], after_SQ[:, member_Q], confidence),
            )
        )
    return parts
