"""Maj@k: the chance that a plurality vote over k of a question's n rollouts is right.

Owns the record of a question's votes and the unbiased estimate of maj@k per question; its mean with
an interval is `analysis.passk.mean_at_k`. Refuses k above the n of any question and questions
without a vote. Rollouts that gave no answer, or could not be graded, are no votes: leave them out.
The paper (arXiv 2605.07153) compares with majority votes; of how many, and how it breaks ties, is
not known to us. Here the answers that tie for most votes share the win evenly.

The estimate is the mean over all C(n, k) subsets of the rollouts. It is exact up to n = 256, and
for k of 1, 2 and n. Otherwise it is the mean over random subsets, unbiased, with its standard
error.

Counting the subsets: give each answer a priority, uniform in [0, 1]; of those that tie, the highest
wins. If the winner has `top` votes and priority u, every other answer has fewer, or `top` and a
lower priority, which has probability u. So the generating function of the votes of the others is
∏ (Σ_{j<top} C(c,j) x^j + u·C(c,top) x^top), and the chance that the winner is a correct answer is
the sum over `top` and the integral over u, a polynomial, which Gauss's rule integrates exactly. All
terms are positive: nothing cancels.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import special  # type: ignore[import-untyped, unused-ignore]

from attrib.analysis.checks import (
    BoolArray,
    FloatArray,
    IntArray,
    check_attempts,
    check_integers,
    check_outcomes,
)
from attrib.errors import ConfigError, DataError

# Past this many rollouts counting takes longer than drawing, and powers of ½ would run out.
_LARGEST_COUNTED = 256
# Cells of one block of drawn votes (16 MB of int64).
_BLOCK_CELLS = 2_000_000


@dataclass(frozen=True, slots=True, eq=False)
class Votes:
    """How often each distinct answer to one question was given; arrays of shape (A,).

    Answers are compared by the caller, normalised. Two spellings that are both correct are two
    answers, which vote apart.

    Raises:
        DataError: If a count is not a whole number or negative, all are zero, or shapes differ.
    """

    count_A: npt.ArrayLike
    correct_A: npt.ArrayLike

    def __post_init__(self) -> None:
        """Refuse counts and outcomes that are no votes."""
        count_A = check_integers(self.count_A, "count_A")
        correct_A = check_outcomes(self.correct_A, "correct_A")
        if count_A.size != correct_A.size:
            raise DataError(
                f"count_A has {count_A.size} answers and correct_A {correct_A.size}. Give both for "
                "each distinct answer."
            )
        if count_A.min() < 0 or count_A.max() == 0:
            raise DataError(
                f"count_A is {count_A.tolist()}; a question needs a vote, and no count is below 0. "
                "Leave out questions that have no graded rollout."
            )


@dataclass(frozen=True, slots=True, eq=False)
class MajorityEstimate:
    """Maj@k of each question and k; arrays of shape (Q, K), `k_K` of shape (K,).

    `exact_QK` says where all subsets were counted; elsewhere `error_QK` is the standard error of
    the random subsets, for these rollouts.
    """

    k_K: IntArray
    value_QK: FloatArray
    error_QK: FloatArray
    exact_QK: BoolArray


def majority_at_k(
    votes: Sequence[Votes],
    k_K: npt.ArrayLike,
    generator: np.random.Generator,
    subsets: int = 2000,
) -> MajorityEstimate:
    """Return the share of k-subsets of each question's rollouts whose plurality vote is right.

    Args:
        votes: One record for each question; the number of votes may differ.
        k_K: Numbers of attempts, shape (K,), each between 1 and the fewest votes.
        generator: Source of the subsets where not all are counted. The order of questions and of
            answers does not change the result.
        subsets: Random subsets of each question and k, at least 2.

    Raises:
        DataError: If there is no question, or a k is below 1 or above the n of any question.
        ConfigError: If `subsets` is below 2.

    Source: majority vote of arXiv 2203.11171; the estimate is the U-statistic of Hoeffding 1948.
    """
    if subsets < 2:
        raise ConfigError(f"subsets is {subsets}; a standard error needs 2. Give subsets=2000.")
    if not votes:
        raise DataError("votes holds no question. Give the votes of at least one.")
    ballots = [_sort_answers(one) for one in votes]
    k = check_attempts(k_K, np.array([sum(count for count, _ in one) for one in ballots], np.int64))
    # Equal questions are worked out once, in an order of their own.
    found = {one: _vote_once(one, k, generator, subsets) for one in sorted(set(ballots))}
    value_QK, error_QK = np.stack([found[one] for one in ballots], axis=1)
    return MajorityEstimate(k, value_QK, np.nan_to_num(error_QK), np.isnan(error_QK))


_Ballot = tuple[tuple[int, bool], ...]
"""(votes, whether correct) of each answer that has a vote, sorted."""


def _sort_answers(one: Votes) -> _Ballot:
    """Return the answers of a question in an order that does not depend on how they came."""
    pairs = zip(np.asarray(one.count_A).tolist(), np.asarray(one.correct_A).tolist(), strict=True)
    return tuple(sorted((count, correct) for count, correct in pairs if count > 0))


def _vote_once(
    ballot: _Ballot, k_K: IntArray, generator: np.random.Generator, subsets: int
) -> FloatArray:
    """Return value and standard error for each k, shape (2, K); the error is NaN where exact."""
    count_A = np.array([count for count, _ in ballot], np.int64)
    correct_A = np.array([correct for _, correct in ballot])
    n = int(count_A.sum())
    if n <= _LARGEST_COUNTED:
        return np.stack([_count_subsets(count_A, correct_A, k_K), np.full(k_K.size, np.nan)])
    result_2K = np.empty((2, k_K.size))
    for column, k in enumerate(k_K.tolist()):
        if k <= 2:  # two votes agree, or tie: each rollout counts for half
            result_2K[:, column] = int(count_A[correct_A].sum()) / n, np.nan
        elif k == n:
            result_2K[:, column] = _score(count_A[None, :], correct_A)[0], np.nan
        else:
            result_2K[:, column] = _draw_subsets(count_A, correct_A, k, generator, subsets)
    return result_2K


def _score(vote_BA: IntArray, correct_A: BoolArray) -> FloatArray:
    """Return the correct share of the answers that tie for most votes, shape (B,)."""
    most_BA = vote_BA == vote_BA.max(axis=1, keepdims=True)
    share_B: FloatArray = most_BA[:, correct_A].sum(axis=1) / most_BA.sum(axis=1)
    return share_B


def _draw_subsets(
    count_A: IntArray, correct_A: BoolArray, k: int, generator: np.random.Generator, subsets: int
) -> tuple[float, float]:
    """Return mean and standard error over random subsets of k rollouts without replacement."""
    block = max(1, _BLOCK_CELLS // count_A.size)
    scores = [
        _score(
            generator.multivariate_hypergeometric(
                count_A, k, size=min(block, subsets - start), method="marginals"
            ),
            correct_A,
        )
        for start in range(0, subsets, block)
    ]
    score_B = np.concatenate(scores)
    return float(score_B.mean()), float(score_B.std(ddof=1)) / subsets**0.5


def _count_subsets(count_A: IntArray, correct_A: BoolArray, k_K: IntArray) -> FloatArray:
    """Return the chance that a correct answer wins, over all subsets of each size, shape (K,).

    Binomial coefficients are scaled by ½ to the power of their n, which cancels.
    """
    largest = int(k_K.max())
    won = np.zeros(largest + 1)  # by subset size
    for top in range(1, min(largest, int(count_A[correct_A].max(initial=0))) + 1):
        tall = count_A >= top
        below = _binomial(int(count_A[~tall].sum()))[: largest + 1]  # cannot reach `top`
        degree = min(int(tall.sum()), largest // top) - 1  # of the polynomial in u
        node_G, weight_G = np.polynomial.legendre.leggauss(degree // 2 + 1)
        for node, weight in zip((node_G + 1.0) / 2.0, weight_G / 2.0, strict=True):
            nobody = below  # no winner among the answers taken in so far
            winner = np.zeros(1)  # a correct one among them
            for count, correct in zip(count_A[tall].tolist(), correct_A[tall], strict=True):
                one = _binomial(count)[: top + 1].copy()
                share = one[top]
                one[top] *= node
                grown = np.convolve(winner, one)[: largest + 1]
                if correct:
                    grown = _add(grown, np.pad(nobody, (top, 0))[: largest + 1] * share)
                winner, nobody = grown, np.convolve(nobody, one)[: largest + 1]
            won[: winner.size] += weight * winner
    chance_K: FloatArray = np.minimum(won[k_K] / _binomial(int(count_A.sum()))[k_K], 1.0)
    return chance_K


def _binomial(n: int) -> FloatArray:
    """Return C(n, j) / 2^n for j from 0 to n."""
    coefficient_J: FloatArray = special.binom(n, np.arange(n + 1)) * 0.5**n
    return coefficient_J


def _add(first: FloatArray, second: FloatArray) -> FloatArray:
    """Return the sum of two polynomials, lowest power first."""
    size = max(first.size, second.size)
    return np.pad(first, (0, size - first.size)) + np.pad(second, (0, size - second.size))
