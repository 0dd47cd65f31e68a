"""Tests of two arms on the same questions, and what many tests cost.

Owns the sign-flip test of two arms with several seeds each and Holm's correction. Refuses arms that
answered other questions, and p-values that are not probabilities. One seed against one seed is
McNemar's test (`analysis.intervals.mcnemar_exact`), which the sign-flip test then equals. The paper
(arXiv 2605.07153) tests nothing.
"""

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from attrib.analysis.checks import BoolArray, FloatArray, IntArray
from attrib.analysis.crossed import check_runs, check_same_questions
from attrib.errors import DataError


def sign_flip_test(first: npt.ArrayLike, second: npt.ArrayLike) -> float:
    """Return the two-sided exact p of "on no question does it matter which arm answers it".

    The statistic is the mean over questions of the difference between the arms' seed means. Under
    the null each question's difference is as likely with the other sign, so all 2^Q signs are
    counted, by convolution, not drawn.

    The test conditions on the trained models. It says whether these models differ on questions like
    these, and does not cover how the arms would come out with other seeds; for that see
    `analysis.seeds.difference_over_seeds`.

    Args:
        first: Whether each question was correct after each seed's training, shape (S, Q), bool; or
            one evaluation such as the base's, shape (Q,).
        second: The same questions of the other arm, shape (S', Q) or (Q,); S' may differ from S.

    Returns:
        A probability; 1.0 where the seed means differ on no question.

    Raises:
        DataError: If an array is empty, not boolean, of another shape, or Q differs.

    Source: Fisher 1935, The Design of Experiments, §21; the distribution is counted as that of
    Wilcoxon's signed ranks is, with differences in the place of ranks.
    """
    first_SQ = _as_runs(first, "first")
    second_SQ = _as_runs(second, "second")
    check_same_questions(first_SQ.shape[1], second_SQ, "first and second")
    difference_Q = _whole_differences(first_SQ, second_SQ)
    sizes = np.abs(difference_Q[difference_Q != 0])
    # Flip signs: the sum is the total less twice what is made negative. Either tail holds the
    # sums whose smaller side is at most the observed smaller side.
    smaller_side = (int(sizes.sum()) - abs(int(difference_Q.sum()))) // 2
    return min(1.0, 2.0 * _probability_at_most(sizes, smaller_side))


def holm(p_values: Sequence[float] | FloatArray) -> FloatArray:
    """Return p-values adjusted for their number, in the order given.

    Rejecting where the adjusted value is at most α keeps the probability of any false rejection at
    most α, however the tests depend on each other.

    Args:
        p_values: The p-values of one family, shape (T,); leave out tests that were not possible.

    Returns:
        Adjusted p-values, shape (T,), at most 1 and never below the given ones.

    Raises:
        DataError: If the values are not one-dimensional, or one is NaN or outside [0, 1].

    Source: Holm 1979, Scand. J. Stat. 6:65.
    """
    given = np.asarray(p_values, np.float64)
    if given.ndim != 1:
        raise DataError(f"p_values have shape {given.shape}; give one number for each test.")
    bad = ~((given >= 0.0) & (given <= 1.0))
    if bad.any():
        raise DataError(
            f"p-value {int(np.argmax(bad))} is {given[bad][0]}; it is a probability. Leave out "
            "tests that have none."
        )
    order = np.argsort(given, kind="stable")
    scaled = given[order] * np.arange(given.size, 0, -1)
    adjusted = np.empty_like(given)
    adjusted[order] = np.minimum(np.maximum.accumulate(scaled), 1.0)
    return adjusted


def _as_runs(outcomes: npt.ArrayLike, name: str) -> BoolArray:
    """Return outcomes as seeds by questions, one evaluation being one seed."""
    array = np.asarray(outcomes)
    return check_runs(array[None, :] if array.ndim == 1 else array, name)


def _whole_differences(first_SQ: BoolArray, second_SQ: BoolArray) -> IntArray:
    """Return the differences of seed means in the largest unit that makes all of them whole."""
    unit = math.lcm(first_SQ.shape[0], second_SQ.shape[0])
    first_Q = np.count_nonzero(first_SQ, axis=0) * (unit // first_SQ.shape[0])
    second_Q = np.count_nonzero(second_SQ, axis=0) * (unit // second_SQ.shape[0])
    difference_Q: IntArray = (first_Q - second_Q).astype(np.int64)
    common = max(int(np.gcd.reduce(difference_Q)), 1)
    return np.floor_divide(difference_Q, common, dtype=np.int64)


def _probability_at_most(sizes: IntArray, limit: int) -> float:
    """Return P(a subset of `sizes` sums to at most `limit`), each size in it with probability ½.

    Only additions of numbers of one sign: the relative error is below len(sizes) rounding errors.
    What falls under the smallest float is lost, and with it p-values below 1e-300.
    """
    probability = np.zeros(limit + 1)  # by sum, up to the limit
    probability[0] = 1.0
    for size in sizes:
        with_it = probability[: max(limit + 1 - size, 0)] * 0.5
        probability *= 0.5
        probability[size:] += with_it
    return float(probability.sum())
