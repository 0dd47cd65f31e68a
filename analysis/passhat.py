"""Pass^k ("pass hat k"): the chance that all of k rollouts are correct.

Owns the unbiased estimator per question; its mean with an interval is `analysis.passk.mean_at_k`.
Refuses what pass@k refuses: k above the n of any question, counts outside 0..n, empty input. The
paper (arXiv 2605.07153) does not report it; it says whether a gain made answers reliable or only
reachable.
"""

import numpy as np
import numpy.typing as npt

from attrib.analysis.checks import FloatArray, IntArray, check_attempts, check_counts

# C(n-w,k)/C(n,k) ≤ exp(-w·k/n): past this exponent it is below the smallest float.
_VANISHING_EXPONENT = 746.0


def pass_hat_k(n_Q: npt.ArrayLike, correct_Q: npt.ArrayLike, k_K: npt.ArrayLike) -> FloatArray:
    """Return the unbiased estimate C(c, k) / C(n, k) for each question and k.

    Relative accuracy about 1e-13 for n up to 1,000 and 1e-11 up to 100,000, however small the
    estimate; below 1e-300 it fades to zero. pass^1 is c/n.

    Args:
        n_Q: Graded rollouts of each question, shape (Q,); may differ between questions.
        correct_Q: Correct rollouts of each question, shape (Q,).
        k_K: Numbers of attempts, shape (K,), each between 1 and the smallest n.

    Returns:
        Probabilities, shape (Q, K).

    Raises:
        DataError: If the counts are malformed, if a k is below 1 or above the n of any question, or
            if anything is empty.

    Source: arXiv 2406.12045, section 3.
    """
    n, correct = check_counts(n_Q, correct_Q)
    k = check_attempts(k_K, n)
    pairs_U2, inverse_Q = np.unique(np.stack([n, correct], axis=1), axis=0, return_inverse=True)
    estimate_UK = _estimate_unique(pairs_U2[:, 0], pairs_U2[:, 1], k)
    return estimate_UK[inverse_Q.reshape(-1)]


def _estimate_unique(n_U: IntArray, correct_U: IntArray, k_K: IntArray) -> FloatArray:
    """Return pass^k of distinct (n, c) pairs, shape (U, K); arguments already checked.

    With w = n-c, C(n-w,k)/C(n,k) is symmetric in w and k, so it equals ∏_{j<m} (n-j-M)/(n-j) with m
    the smaller and M the larger of the two. Numerators are whole numbers: no digit is lost.
    """
    shape = (n_U.size, k_K.size)
    n = np.broadcast_to(n_U[:, None], shape).reshape(-1)
    wrong = np.broadcast_to((n_U - correct_U)[:, None], shape).reshape(-1)
    k = np.broadcast_to(k_K[None, :], shape).reshape(-1)
    fewer, more = np.minimum(wrong, k), np.maximum(wrong, k)
    zero = (wrong + k > n) | (fewer * (more / n) > _VANISHING_EXPONENT)
    factors = np.where(zero, 0, fewer)
    # Longest products first: the cells still at work are then a shrinking prefix.
    order = np.argsort(-factors, kind="stable")
    alive_J = np.bincount(factors, minlength=1)[::-1].cumsum()[::-1]
    n_sorted, left_sorted = n[order].astype(np.float64), (n - more)[order].astype(np.float64)
    product = np.ones(order.size)
    for j in range(int(factors.max())):
        alive = slice(0, int(alive_J[j + 1]))
        product[alive] *= (left_sorted[alive] - j) / (n_sorted[alive] - j)
    estimate = np.empty(order.size)
    estimate[order] = product
    return np.where(zero, 0.0, estimate).reshape(shape)
