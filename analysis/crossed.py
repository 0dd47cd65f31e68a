"""Seeds crossed with questions: the two-way layout behind every interval over seeds.

Owns the reduction of arms × seeds × questions to means and variances, and the degrees of freedom of
a weighted sum of arms' gains. Refuses arms that answered other questions. The paper (arXiv
2605.07153) has no counterpart.

An arm's outcome is its mean + a question effect + a seed effect + what is left in the cell
(interaction and residual), questions and seeds both drawn at random. All arms answer the same
questions, so their question effects are correlated and are kept question by question; seeds of two
arms have only their number in common, so their seed effects are independent.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import special  # type: ignore[import-untyped, unused-ignore]

from attrib.analysis.checks import BoolArray, FloatArray, check_outcomes
from attrib.errors import DataError


@dataclass(frozen=True, slots=True)
class Layout:
    """Arms × seeds × questions, reduced to what the variances need; A arms, Q questions."""

    gain_AQ: FloatArray
    """Mean over seeds of after - before."""
    seed_variance_A: FloatArray
    """Variance of the arm's gain as its seeds' means show it: seed effects and cells."""
    cell_variance_A: FloatArray
    """What the cells alone contribute to `seed_variance_A`."""
    degrees_A: FloatArray
    """Seeds - 1."""

    @property
    def questions(self) -> int:
        """Number of held-out questions."""
        return int(self.gain_AQ.shape[1])

    def covers_seeds(self, weights_A: FloatArray) -> bool:
        """Return whether every arm with a weight has more than one seed."""
        return bool((self.degrees_A[weights_A != 0.0] > 0).all())


def reduce_arms(before_Q: npt.ArrayLike, arms: Sequence[npt.ArrayLike]) -> Layout:
    """Return the two-way analysis of variance of every arm, seeds crossed with questions.

    Args:
        before_Q: Whether each held-out question was correct before training, shape (Q,), bool.
        arms: Outcomes of each arm after training, shape (S, Q), bool; S may differ between arms.

    Raises:
        DataError: If there is no arm, or an array is empty, not boolean, of another number of
            dimensions, or Q differs.

    Source: Searle, Casella & McCulloch 1992, Variance Components, two-way crossed random effects
    with one outcome a cell.
    """
    before = check_outcomes(before_Q, "before_Q")
    if not arms:
        raise DataError("No arm is given. Give the outcomes of at least one.")
    changes = []
    for after_SQ in arms:
        after = check_runs(after_SQ, "after_SQ")
        check_same_questions(before.size, after, "before_Q and after_SQ")
        changes.append(after.astype(np.float64) - before)
    return reduce_changes(changes)


def reduce_changes(changes: Sequence[FloatArray]) -> Layout:
    """Return the same of any values: what changed on each question with each seed of each arm.

    Args:
        changes: Of each arm, shape (S, Q), S and Q at least 1; S may differ between arms.

    Source: as `reduce_arms`.
    """
    gains, seed_variances, cell_variances, degrees = [], [], [], []
    for gain_SQ in changes:
        seeds, questions = gain_SQ.shape
        gain_Q, gain_S = gain_SQ.mean(axis=0), gain_SQ.mean(axis=1)
        rest_SQ = gain_SQ - gain_Q - gain_S[:, None] + gain_S.mean()
        gains.append(gain_Q)
        # With one seed, or one question, the numerators below are zero.
        between = float(((gain_S - gain_S.mean()) ** 2).sum()) / max(seeds - 1, 1)
        cell = float((rest_SQ**2).sum()) / max((seeds - 1) * (questions - 1), 1)
        seed_variances.append(between / seeds)
        cell_variances.append(cell / (seeds * questions))
        degrees.append(seeds - 1)
    return Layout(
        np.stack(gains),
        np.array(seed_variances),
        np.array(cell_variances),
        np.array(degrees, np.float64),
    )


def half_width(
    layout: Layout, weights_A: FloatArray, question_variance: float, confidence: float
) -> float:
    """Return half the width of the interval of a weighted sum of gains.

    It is the larger of two: Student's t at Satterthwaite's degrees of freedom on the variance from
    questions and seeds, and the same on the seeds' means alone. Where an arm's seed component is
    clipped to zero, its mean squares still count in the degrees of freedom: they say how little is
    known of it. Arms with one seed add nothing.

    Args:
        layout: The arms.
        weights_A: Weight of each arm in the sum, shape (A,).
        question_variance: Variance of the sum that its spread between questions shows.
        confidence: Two-sided level.

    Source: Satterthwaite 1946, Biometrics Bull. 2:110.
    """
    return max(
        float(special.stdtrit(degrees, 0.5 + confidence / 2.0)) * deviation
        for degrees, deviation in _spreads(layout, weights_A, question_variance)
    )


def two_sided_p(
    layout: Layout, weights_A: FloatArray, question_variance: float, centre: float
) -> float:
    """Return 1 - the confidence at which `half_width` reaches from `centre` to zero.

    Args:
        layout: The arms.
        weights_A: Weight of each arm in the sum, shape (A,).
        question_variance: Variance of the sum that its spread between questions shows.
        centre: The middle of the interval.
    """
    return max(
        2.0 * float(special.stdtr(degrees, -abs(centre) / deviation)) if deviation else 0.0
        for degrees, deviation in _spreads(layout, weights_A, question_variance)
    )


def _spreads(
    layout: Layout, weights_A: FloatArray, question_variance: float
) -> list[tuple[float, float]]:
    """Return degrees of freedom and standard deviation, of all that varies and of seeds' means."""
    used = (layout.degrees_A > 0) & (weights_A != 0.0)
    degrees_A = layout.degrees_A[used]
    seeds_A = weights_A[used] ** 2 * layout.seed_variance_A[used]
    cells_A = weights_A[used] ** 2 * layout.cell_variance_A[used]
    question_degrees = float(max(layout.questions - 1, 1))
    variance = question_variance + float(np.maximum(seeds_A - cells_A, 0.0).sum())
    spread_A = seeds_A**2 / degrees_A + cells_A**2 / (degrees_A * question_degrees)
    degrees = variance**2 / (question_variance**2 / question_degrees + float(spread_A.sum()))
    # The formula stays above the least degrees of freedom that enter it, save where subtracting the
    # cells takes it below.
    degrees = max(degrees, min([question_degrees, *degrees_A]))
    spreads = [(degrees, math.sqrt(variance))]
    of_seeds = float(seeds_A.sum())
    if of_seeds > 0.0:
        degrees = of_seeds**2 / float((seeds_A**2 / degrees_A).sum())
        spreads.append((degrees, math.sqrt(of_seeds)))
    return spreads


def check_runs(after_SQ: npt.ArrayLike, name: str) -> BoolArray:
    """Return an arm's outcomes as a boolean array of seeds by questions.

    Args:
        after_SQ: Whether each question was correct after each seed's training, shape (S, Q), bool.
        name: What the caller calls the array, for the message.

    Raises:
        DataError: If it has no seed, no question, another number of dimensions, or is not boolean.
    """
    array_SQ = np.asarray(after_SQ)
    if array_SQ.ndim != 2:
        raise DataError(
            f"{name} has shape {array_SQ.shape}; it needs two dimensions, seeds by questions. "
            f"For one seed write {name}[None, :]."
        )
    if array_SQ.shape[0] == 0:
        raise DataError(f"{name} holds no seed. Evaluate at least one training run of the arm.")
    check_outcomes(array_SQ[0], name)
    return array_SQ


def check_same_questions(questions: int, after_SQ: BoolArray, names: str) -> None:
    """Refuse outcomes of another number of questions.

    Args:
        questions: How many the first array of `names` has.
        after_SQ: The second array, shape (S, Q).
        names: What the caller calls the two, for the message.

    Raises:
        DataError: If the numbers differ.
    """
    if after_SQ.shape[1] != questions:
        raise DataError(
            f"{names} have {questions} and {after_SQ.shape[1]} questions; the comparison is "
            "paired. Give the same questions in the same order."
        )
