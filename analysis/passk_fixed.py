"""The interval of a mean pass@k for these questions and no others.

Owns the variance of the unbiased estimator of pass@k given n and c, and the interval of its mean
where only the rollouts are random: what the same questions would give if sampled without end. The
interval of `analysis.passk.mean_pass_at_k` speaks about other questions and is wider. Refuses what
pass@k refuses. Whether the paper (arXiv 2605.07153) gives intervals is not known to us.

Given p, let φ = (1-p)^k and g = C(n-c,k)/C(n,k), its unbiased estimate, so that pass@k is 1-g.

*Variance.* Var(g) = E[g²] - φ². Where n ≥ 2k, C(n-c,2k)/C(n,2k) is unbiased for φ², and g² minus
it is unbiased for the variance. Where n < 2k nothing that n rollouts give is unbiased for φ², but
Bernoulli's inequality bounds it below: with x = 1-p and m = 2k-n+1, x^2k ≥ m·xⁿ - (m-1)·xⁿ⁻¹. The
unbiased estimate of the right side is 1 for c = 0, -(m-1)/n for c = 1 and 0 above, so g² minus it
is 0, (k/n)² and g²: too large on average, never too small. At k = n that costs most: the truth is
φ(1-φ), the estimate's expectation np(1-p)ⁿ⁻¹.

*Interval.* The score interval: all θ with (estimate - θ)² ≤ z²·V(θ). How V depends on θ is known
well enough. Two k-subsets of the rollouts overlap in a part u of k, of mean k/n, so that
Var(g) = E[φ^(2-u)] - φ², and the slope of φ^(2-u) - φ² in φ stays within ±u: as θ moves, V moves by
at most s = k/(nQ) times as much. Solving with that slope either way gives
estimate ± (s·z²/2 + √(z²·V + (s·z²/2)²)). For k = 1 and rare successes this is the score interval
of a Poisson count. It has a width where V is estimated as 0, as where no rollout is correct.

Measured, 4,000 studies each of 1 to 400 questions with 16 or 128 rollouts, six laws of p: coverage
is never below 95 %. From 100 questions on it is 95 to 97 % at k = 1 and 96 to 99 % at k = n/8. With
a handful of correct rollouts in all, with few questions, or from k = n/2 on, it goes towards 100 %,
and at k = n, where no estimate of the variance is unbiased, it cannot be near 95 %.
"""

import numpy as np
import numpy.typing as npt
from scipy import special  # type: ignore[import-untyped, unused-ignore]

from attrib.analysis.checks import FloatArray, check_attempts, check_confidence, check_counts
from attrib.analysis.passhat import pass_hat_k
from attrib.analysis.passk import PassCurve, pass_at_k


def pass_at_k_variance(
    n_Q: npt.ArrayLike, correct_Q: npt.ArrayLike, k_K: npt.ArrayLike
) -> FloatArray:
    """Return an estimate of the variance of `pass_at_k` over rollouts, for each question and k.

    Unbiased where n ≥ 2k, too large on average where n < 2k; never negative.

    Args:
        n_Q: Graded rollouts of each question, shape (Q,); may differ between questions.
        correct_Q: Correct rollouts of each question, shape (Q,).
        k_K: Numbers of attempts, shape (K,), each between 1 and the smallest n.

    Returns:
        Variances, shape (Q, K).

    Raises:
        DataError: As `pass_at_k`.

    Source: Hoeffding 1948, Ann. Math. Stat. 19:293, for n ≥ 2k; otherwise derived above.
    """
    n, correct = check_counts(n_Q, correct_Q)
    k = check_attempts(k_K, n)
    none_QK = pass_hat_k(n, n - correct, k)
    square_QK = np.zeros_like(none_QK)
    for column, attempts in enumerate(k):
        known = n >= 2 * attempts
        if known.any():
            both_QK = pass_hat_k(n[known], (n - correct)[known], [2 * attempts])
            square_QK[known, column] = both_QK[:, 0]
        beyond = 2.0 * attempts - n[~known]
        bound_Q = np.where(correct[~known] == 1, -beyond / n[~known], 0.0)
        square_QK[~known, column] = np.where(correct[~known] == 0, 1.0, bound_Q)
    return np.maximum(none_QK**2 - square_QK, 0.0)


def fixed_pass_at_k(
    n_Q: npt.ArrayLike,
    correct_Q: npt.ArrayLike,
    k_K: npt.ArrayLike,
    confidence: float = 0.95,
) -> PassCurve:
    """Return pass@k averaged over questions, with an interval for these very questions.

    Args:
        n_Q: Graded rollouts of each question, shape (Q,).
        correct_Q: Correct rollouts of each question, shape (Q,).
        k_K: Numbers of attempts, shape (K,), each between 1 and the smallest n.
        confidence: Two-sided level; coverage is not below it.

    Returns:
        The curve; its bounds are about the mean of 1 - (1-p)^k over these questions' unknown p.

    Raises:
        DataError: As `pass_at_k`.
        ConfigError: If `confidence` is outside (0, 1).

    Source: Wilson 1927, JASA 22:209, for inverting the score; the variance as above.
    """
    check_confidence(confidence)
    n, correct = check_counts(n_Q, correct_Q)
    k = check_attempts(k_K, n)
    questions = int(n.size)
    # Equal questions are added up at once, so that order does not change the last digit.
    pairs_U2, count_U = np.unique(np.stack([n, correct], axis=1), axis=0, return_counts=True)
    value_UK = pass_at_k(pairs_U2[:, 0], pairs_U2[:, 1], k)
    mean_K: FloatArray = np.minimum(count_U @ value_UK / questions, 1.0)
    variance_K = count_U @ pass_at_k_variance(pairs_U2[:, 0], pairs_U2[:, 1], k) / questions**2
    z = float(special.ndtri(0.5 + confidence / 2.0))
    shift_K = (k / n.min()) / questions * z**2 / 2.0
    half_K = shift_K + np.sqrt(z**2 * variance_K + shift_K**2)
    return PassCurve(
        k_K=k,
        mean_K=mean_K,
        low_K=np.maximum(mean_K - half_K, 0.0),
        high_K=np.minimum(mean_K + half_K, 1.0),
        questions=questions,
        confidence=confidence,
    )
