"""What c of n leaves open about a question: its p, its class by p, its bucket in a fresh draw.

Owns posteriors given a prior (`analysis.prior`) and the predictive distribution of fresh rollouts.
Refuses malformed counts, and buckets that `assign_buckets` refuses. The paper (arXiv 2605.07153)
takes a question's bucket as known; 0 of 128 only says p < 2.3 %.

The prior's parameters are taken as given here; `analysis.mixture` and `analysis.stability` carry
their uncertainty. p = 0 is never a finding: the spike counts as "below" any threshold, it lowers
means, and it shortens no interval.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import special  # type: ignore[import-untyped, unused-ignore]

from attrib.analysis.buckets import Bucket, Cuts, assign_buckets
from attrib.analysis.checks import FloatArray, IntArray, check_confidence, check_rollouts
from attrib.analysis.prior import Prior, spike_posterior, tally_counts
from attrib.errors import ConfigError

RATE_EDGES = (1e-4, 1e-3, 1e-2, 1 / 16, 1 / 2)
"""Default ends of the classes by p; the last two are the default cuts of buckets."""
_BLOCK_CELLS = 2_000_000


@dataclass(frozen=True, slots=True, eq=False)
class RatePosterior:
    """Posterior of each question's p: mean and credible bounds, shape (Q,) each."""

    mean_Q: FloatArray
    low_Q: FloatArray
    high_Q: FloatArray
    confidence: float


def rate_posterior(
    prior: Prior, n_Q: npt.ArrayLike, correct_Q: npt.ArrayLike, confidence: float = 0.95
) -> RatePosterior:
    """Return mean and credible interval of each question's p.

    The interval has equal tails; at c = 0 it starts at 0 and at c = n it ends at 1. At c = 0 its
    upper bound is that of the beta part alone, as if the spike were not there: the fit cannot
    place p below what n resolves, so it must not pull the bound to 0. Over questions drawn from
    the prior, the interval holds p with the given probability at every c > 0, and more at c = 0.

    Args:
        prior: As `fit_prior` gives it.
        n_Q: Graded rollouts of each question, shape (Q,); may differ between questions.
        correct_Q: Correct rollouts of each question, shape (Q,).
        confidence: Probability of the interval.

    Raises:
        DataError: If the counts are malformed (shape, dtype, n < 1, c < 0, c > n).
        ConfigError: If `confidence` is outside (0, 1).
    """
    check_confidence(confidence)
    tally = tally_counts(n_Q, correct_Q)
    zero_U, full_U = tally.correct_U == 0, tally.correct_U == tally.n_U
    a_U, b_U = prior.a + tally.correct_U, prior.b + tally.n_U - tally.correct_U
    tail = (1.0 - confidence) / 2.0
    low_U = special.betaincinv(a_U, b_U, np.where(full_U, 2.0 * tail, tail))
    high_U = special.betaincinv(a_U, b_U, np.where(zero_U, 1.0 - 2.0 * tail, 1.0 - tail))
    low_U, high_U = np.where(zero_U, 0.0, low_U), np.where(full_U, 1.0, high_U)
    mean_U = mean_rates(prior, tally.n_U, tally.correct_U)
    pair = tally.pair_Q
    return RatePosterior(mean_U[pair], low_U[pair], high_U[pair], confidence)


def class_probabilities(
    prior: Prior,
    n_Q: npt.ArrayLike,
    correct_Q: npt.ArrayLike,
    edge_P: npt.ArrayLike = RATE_EDGES,
) -> FloatArray:
    """Return the posterior probability that p lies in each class.

    Args:
        prior: As `fit_prior` gives it.
        n_Q: Graded rollouts of each question, shape (Q,).
        correct_Q: Correct rollouts of each question, shape (Q,).
        edge_P: Where classes end, shape (P,), increasing fractions; an end belongs to its class.

    Returns:
        Probabilities, shape (Q, P + 1), hardest class first; rows sum to 1.

    Raises:
        DataError: If the counts are malformed.
        ConfigError: If the edges are not increasing between 0 and 1.
    """
    edges = check_thresholds(edge_P)
    tally = tally_counts(n_Q, correct_Q)
    below_UP = below(prior, tally.n_U, tally.correct_U, edges)
    ends = np.zeros((tally.n_U.size, 1)), np.ones((tally.n_U.size, 1))
    share_UP = np.diff(np.hstack([ends[0], below_UP, ends[1]]), axis=1)
    return share_UP[tally.pair_Q]


def fresh_bucket_probabilities(
    prior: Prior,
    n_Q: npt.ArrayLike,
    correct_Q: npt.ArrayLike,
    fresh_n: int | None = None,
    cuts: Cuts | None = None,
) -> FloatArray:
    """Return the probability that a fresh draw puts each question in each bucket.

    Args:
        prior: As `fit_prior` gives it.
        n_Q: Graded rollouts of each question, shape (Q,).
        correct_Q: Correct rollouts of each question, shape (Q,).
        fresh_n: Rollouts of the fresh draw; None takes each question's own n.
        cuts: Where buckets end, as for `assign_buckets`.

    Returns:
        Probabilities, shape (Q, 5), in the order of `Bucket`; rows sum to 1.

    Raises:
        DataError: If the counts are malformed, or `fresh_n` is below 1.
        ConfigError: If `cuts` is None and the fresh draw is below 16.
    """
    tally = tally_counts(n_Q, correct_Q)
    if fresh_n is not None:
        check_rollouts(fresh_n)
    return fresh_buckets(prior, tally.n_U, tally.correct_U, fresh_n, cuts)[tally.pair_Q]


def check_thresholds(p_P: npt.ArrayLike) -> FloatArray:
    """Return thresholds of p as floats after refusing any that are not increasing fractions.

    Args:
        p_P: Thresholds, shape (P,).

    Raises:
        ConfigError: If there is none, or they are not increasing strictly between 0 and 1.
    """
    p = np.asarray(p_P, np.float64)
    ordered = p.ndim == 1 and p.size > 0 and (np.diff(p, prepend=0.0, append=1.0) > 0.0).all()
    if not ordered:
        raise ConfigError(
            f"thresholds of p are {p.tolist()}; they need to increase strictly between 0 and 1. "
            "Give for example 0.001, 0.01."
        )
    return p


def mean_rates(prior: Prior, n_U: IntArray, correct_U: IntArray) -> FloatArray:
    """Return the posterior mean of p for each pair, shape (U,)."""
    rate_U = (prior.a + correct_U) / (prior.a + prior.b + n_U)
    mean_U: FloatArray = rate_U * (1.0 - _spike_weights(prior, n_U, correct_U))
    return mean_U


def below(prior: Prior, n_U: IntArray, correct_U: IntArray, p_P: FloatArray) -> FloatArray:
    """Return the posterior probability that p is at most each threshold, shape (U, P)."""
    a_U, b_U = prior.a + correct_U, prior.b + n_U - correct_U
    beta_UP = special.betainc(a_U[:, None], b_U[:, None], p_P)
    spike_U1 = _spike_weights(prior, n_U, correct_U)[:, None]
    below_UP: FloatArray = spike_U1 + (1.0 - spike_U1) * beta_UP
    return below_UP


def fresh_buckets(
    prior: Prior, n_U: IntArray, correct_U: IntArray, fresh_n: int | None, cuts: Cuts | None
) -> FloatArray:
    """Return the probability of each bucket in a fresh draw for each pair, shape (U, 5)."""
    found_U5 = np.empty((n_U.size, len(Bucket)))
    for n in np.unique(n_U):
        fresh = int(n if fresh_n is None else fresh_n)
        member_KB = _bucket_members(fresh, cuts)
        for rows in _blocks(np.flatnonzero(n_U == n), fresh + 1):
            chance_UK = fresh_chances(
                prior, n_U[rows, None], correct_U[rows, None], fresh, np.arange(fresh + 1)
            )
            # Rounding of log Γ grows with n: 1e-13 at n = 128, 1e-10 at 100,000.
            found_U5[rows] = chance_UK @ member_KB / chance_UK.sum(axis=1, keepdims=True)
    return found_U5


def fresh_chances(
    prior: Prior, n: IntArray, correct: IntArray, fresh_n: IntArray | int, k: IntArray
) -> FloatArray:
    """Return P(k of `fresh_n` correct) after c of n, in the shape the arguments broadcast to.

    The shapes are a + c + k and b + (n - c) + (fresh_n - k): log Γ at whole steps from a and from
    b, which are looked up.
    """
    steps = np.arange(int((n + fresh_n).max()) + 1)
    log_a, log_b = special.gammaln(prior.a + steps), special.gammaln(prior.b + steps)
    log_both, factorial = special.gammaln(prior.a + prior.b + steps), special.gammaln(1.0 + steps)
    ways = factorial[fresh_n] - factorial[k] - factorial[fresh_n - k]
    before = log_a[correct] + log_b[n - correct] - log_both[n]
    after = log_a[correct + k] + log_b[n - correct + fresh_n - k] - log_both[n + fresh_n]
    spike = _spike_weights(prior, n, correct)
    chance: FloatArray = (1.0 - spike) * np.exp(ways + after - before) + spike * (k == 0)
    return chance


def _spike_weights(prior: Prior, n_U: IntArray, correct_U: IntArray) -> FloatArray:
    """Return the weight of the spike, 0 where a rollout is correct, in the same shape."""
    weight_U = np.zeros(correct_U.shape)
    zero_U = correct_U == 0
    weight_U[zero_U] = spike_posterior(prior, n_U[zero_U])
    return weight_U


def _bucket_members(n: int, cuts: Cuts | None) -> FloatArray:
    """Return 1 where k of n correct belongs to a bucket, shape (n + 1, 5)."""
    name_K = assign_buckets(np.full(n + 1, n), np.arange(n + 1), cuts)
    names = np.array([bucket.value for bucket in Bucket])
    member_KB: FloatArray = (name_K[:, None] == names).astype(np.float64)
    return member_KB


def _blocks(rows: npt.NDArray[np.intp], width: int) -> Iterator[npt.NDArray[np.intp]]:
    """Yield the rows in parts that hold a bounded number of cells."""
    step = max(1, _BLOCK_CELLS // width)
    for start in range(0, rows.size, step):
        yield rows[start : start + step]
