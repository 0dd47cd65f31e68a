"""Pass@k: the chance that at least one of k rollouts is correct.

Owns the unbiased estimator per question, and the mean over questions of this or any other value
per question and k, with an interval that speaks about other questions. Refuses k above the n of any
question (there is no unbiased estimate there), counts outside 0..n and empty input. The paper
(arXiv 2605.07153) compares pass@k before and after RL; how it estimates pass@k and whether it gives
intervals is not known to us. Here every mean has a bootstrap interval over questions.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from attrib.analysis.checks import (
    FloatArray,
    IntArray,
    check_attempts,
    check_counts,
    check_integers,
)
from attrib.analysis.resampling import bound_means
from attrib.errors import DataError

# C(n-c,k)/C(n,k) ≤ exp(-c·k/n): past this exponent it is under 3e-20 and 1 minus it rounds to 1.
_CERTAIN_EXPONENT = 45.0


@dataclass(frozen=True, slots=True, eq=False)
class PassCurve:
    """Mean pass@k over questions for each k, with bounds; arrays have shape (K,).

    `k_K` are whole numbers, the other arrays fractions; `questions` is how many were averaged.
    """

    k_K: IntArray
    mean_K: FloatArray
    low_K: FloatArray
    high_K: FloatArray
    questions: int
    confidence: float


def pass_at_k(n_Q: npt.ArrayLike, correct_Q: npt.ArrayLike, k_K: npt.ArrayLike) -> FloatArray:
    """Return the unbiased estimate 1 - C(n-c, k) / C(n, k) for each question and k.

    Accurate to about 1e-13 for n up to 1,000 and 1e-12 up to 100,000; pass@1 is c/n to the last
    bit.

    Args:
        n_Q: Graded rollouts of each question, shape (Q,); may differ between questions.
        correct_Q: Correct rollouts of each question, shape (Q,).
        k_K: Numbers of attempts, shape (K,), each between 1 and the smallest n.

    Returns:
        Probabilities, shape (Q, K).

    Raises:
        DataError: If the counts are malformed, if a k is below 1 or above the n of any question, or
            if anything is empty.

    Source: arXiv 2107.03374, eq. 1.
    """
    n, correct = check_counts(n_Q, correct_Q)
    k = check_attempts(k_K, n)
    pairs_U2, inverse_Q = np.unique(np.stack([n, correct], axis=1), axis=0, return_inverse=True)
    estimate_UK = _estimate_unique(pairs_U2[:, 0], pairs_U2[:, 1], k)
    return estimate_UK[inverse_Q.reshape(-1)]


def mean_pass_at_k(
    n_Q: npt.ArrayLike,
    correct_Q: npt.ArrayLike,
    k_K: npt.ArrayLike,
    generator: np.random.Generator,
    draws: int = 2000,
    confidence: float = 0.95,
) -> PassCurve:
    """Return pass@k averaged over questions, with a bootstrap-t interval.

    Only questions are resampled. Each brings its own rollouts, so their noise is in the spread
    between questions already; resampling rollouts as well would repeat some of them, which biases
    pass@k downwards. One set of resamples serves every k, so the bounds of a curve move together.

    Where all questions have the same value, such as a single question or a mean of exactly 0 or 1,
    the bounds are exact for the share of questions that may differ unseen: 60 questions never
    solved leave room up to 0.06.

    Args:
        n_Q: Graded rollouts of each question, shape (Q,).
        correct_Q: Correct rollouts of each question, shape (Q,).
        k_K: Numbers of attempts, shape (K,), each between 1 and the smallest n.
        generator: Source of the resamples. The order of questions does not change the result.
        draws: Bootstrap resamples, enough for one draw beyond each bound: 2 / (1 - confidence).
        confidence: Two-sided level.

    Raises:
        DataError: As `pass_at_k`.
        ConfigError: If `confidence` is outside (0, 1) or `draws` is too small for it.

    Source: arXiv 2107.03374, eq. 1; see `analysis.resampling.bound_means`.
    """
    n, correct = check_counts(n_Q, correct_Q)
    k = check_attempts(k_K, n)
    pairs_U2, count_U = np.unique(np.stack([n, correct], axis=1), axis=0, return_counts=True)
    value_UK = _estimate_unique(pairs_U2[:, 0], pairs_U2[:, 1], k)
    return _bound(value_UK, count_U, k, generator, draws, confidence)


def mean_at_k(
    value_QK: npt.ArrayLike,
    k_K: npt.ArrayLike,
    generator: np.random.Generator,
    draws: int = 2000,
    confidence: float = 0.95,
) -> PassCurve:
    """Return the mean over questions of any fraction at each k, with bootstrap-t intervals.

    For `pass_hat_k` and `majority_at_k`.

    Args:
        value_QK: An unbiased estimate for each question and k, fractions, shape (Q, K).
        k_K: Numbers of attempts, shape (K,).
        generator: Source of the resamples. The order of questions does not change the result.
        draws: Bootstrap resamples, as in `mean_pass_at_k`.
        confidence: Two-sided level.

    Raises:
        DataError: If there is no question, a value is not a fraction, or the shapes differ.
        ConfigError: If `confidence` is outside (0, 1) or `draws` is too small for it.

    Source: see `analysis.resampling.bound_means`.
    """
    k = check_integers(k_K, "k_K")
    value = np.asarray(value_QK, np.float64)
    if value.ndim != 2 or value.shape[0] == 0 or value.shape[1] != k.size:
        raise DataError(
            f"value_QK has shape {value.shape} for {k.size} values of k. Give one row for each "
            "question, one column for each k."
        )
    if not ((value >= 0.0) & (value <= 1.0)).all():
        raise DataError("value_QK holds values outside [0, 1]. Give fractions.")
    value_UK, count_U = np.unique(value, axis=0, return_counts=True)
    return _bound(value_UK, count_U, k, generator, draws, confidence)


def _bound(
    value_UK: FloatArray,
    count_U: IntArray,
    k_K: IntArray,
    generator: np.random.Generator,
    draws: int,
    confidence: float,
) -> PassCurve:
    bounds = bound_means(value_UK, count_U, 0.0, generator, draws, confidence)
    return PassCurve(
        k_K=k_K,
        mean_K=np.minimum(bounds.mean_K, 1.0),
        low_K=bounds.low_K,
        high_K=bounds.high_K,
        questions=bounds.questions,
        confidence=confidence,
    )


def _estimate_unique(n_U: IntArray, correct_U: IntArray, k_K: IntArray) -> FloatArray:
    """Return pass@k of distinct (n, c) pairs, shape (U, K); arguments already checked.

    C(n-c,k)/C(n,k) is symmetric in c and k, so it equals ∏_{j<m} (1 - M/(n-j)) with m the smaller
    and M the larger of the two. The loop keeps one minus that product, which only ever grows, and
    so loses no digits to cancellation where the estimate is small.
    """
    shape = (n_U.size, k_K.size)
    n = np.broadcast_to(n_U[:, None], shape).reshape(-1)
    correct = np.broadcast_to(correct_U[:, None], shape).reshape(-1)
    k = np.broadcast_to(k_K[None, :], shape).reshape(-1)
    fewer, more = np.minimum(correct, k), np.maximum(correct, k)
    certain = (correct + k > n) | (fewer * (more / n) > _CERTAIN_EXPONENT)
    factors = np.where(certain, 0, fewer)
    # Longest products first: the cells still at work are then a shrinking prefix.
    order = np.argsort(-factors, kind="stable")
    alive_J = np.bincount(factors, minlength=1)[::-1].cumsum()[::-1]
    n_sorted, more_sorted = n[order].astype(np.float64), more[order].astype(np.float64)
    done = np.zeros(order.size)
    for j in range(int(factors.max())):
        alive = slice(0, int(alive_J[j + 1]))
        done[alive] += (1.0 - done[alive]) * (more_sorted[alive] / (n_sorted[alive] - j))
    estimate = np.empty(order.size)
    estimate[order] = done
    return np.where(certain, 1.0, estimate).reshape(shape)
