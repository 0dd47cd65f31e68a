"""How p is spread over questions: a zero-inflated beta, fitted by maximum likelihood.

Owns the prior of per-question p that membership, mixtures and stability are computed from: with
probability `spike` p is 0, otherwise p is drawn from Beta(a, b), and c of n rollouts are correct.
Refuses data that cannot shape it: few questions, few of them answered both ways, n below 4.

p = 0 is not identifiable: no n tells it from a p far below 1/n. The spike is a device of the fit
for questions whose p is too small to show, and never a finding. It is not the share of questions
that a model cannot answer, and nothing here reports it as that. Whether a beta is the right shape
is for the data to say: see `analysis.prior_check`. The paper (arXiv 2605.07153) has no prior; it
takes 0 of 128 as a class of its own.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import optimize, special  # type: ignore[import-untyped, unused-ignore]

from attrib.analysis.checks import FloatArray, IntArray, check_counts
from attrib.errors import ConfigError, DataError

LEAST_QUESTIONS = 30
LEAST_PARTLY_CORRECT = 10
LEAST_ROLLOUTS = 4  # three parameters need three free frequencies of c, and a fit wants one more

_LARGEST_EXPONENT = 300.0  # keeps a slope finite where a chance is below the smallest float

# Where the fit may go. Beyond these a beta is a point, or sits on 0 and 1, to any n.
LARGEST_SPIKE = 1.0 - 1e-6
SMALLEST_SHAPE, LARGEST_SHAPE = 1e-3, 1e4
BOX = (
    (0.0, LARGEST_SPIKE),
    (float(np.log(SMALLEST_SHAPE)), float(np.log(LARGEST_SHAPE))),
    (float(np.log(SMALLEST_SHAPE)), float(np.log(LARGEST_SHAPE))),
)


@dataclass(frozen=True, slots=True)
class Prior:
    """The spread of p over questions: 0 with probability `spike`, otherwise Beta(`a`, `b`).

    `spike` is a device of the fit (see the module); do not report it.

    Raises:
        ConfigError: Unless 0 ≤ spike < 1 and a, b are positive and finite.
    """

    spike: float
    a: float
    b: float

    def __post_init__(self) -> None:
        """Refuse parameters that make no distribution."""
        shapes = np.array([self.a, self.b])
        if not (0.0 <= self.spike < 1.0 and (shapes > 0.0).all() and np.isfinite(shapes).all()):
            raise ConfigError(
                f"prior is spike={self.spike}, a={self.a}, b={self.b}; it needs 0 ≤ spike < 1 and "
                "a, b above 0. Take the one that fit_prior returns."
            )


@dataclass(frozen=True, slots=True, eq=False)
class Tally:
    """Questions by distinct (n, c), sorted; U pairs, Q questions.

    Questions with equal counts are interchangeable, so that work is done once a pair.
    """

    n_U: IntArray
    correct_U: IntArray
    questions_U: IntArray
    """How many questions have the pair."""
    pair_Q: IntArray
    """Which pair each question has."""

    @property
    def questions(self) -> int:
        """Number of questions."""
        return int(self.questions_U.sum())


@dataclass(frozen=True, slots=True, eq=False)
class PriorFit:
    """The prior that makes the counts most likely, and the counts it was fitted to.

    `log_likelihood` includes the binomial coefficients.
    """

    prior: Prior
    log_likelihood: float
    tally: Tally


def tally_counts(n_Q: npt.ArrayLike, correct_Q: npt.ArrayLike) -> Tally:
    """Return how many questions have each distinct (n, c).

    Args:
        n_Q: Graded rollouts of each question, shape (Q,); may differ between questions.
        correct_Q: Correct rollouts of each question, shape (Q,).

    Raises:
        DataError: If the counts are malformed (shape, dtype, n < 1, c < 0, c > n).
    """
    n, correct = check_counts(n_Q, correct_Q)
    # One whole number a pair sorts much faster than rows do; it fits while n is below 3e9.
    width = int(n.max()) + 1
    code_U, pair_Q, questions_U = np.unique(
        n * width + correct, return_inverse=True, return_counts=True
    )
    return Tally(code_U // width, code_U % width, questions_U, pair_Q.reshape(-1))


def fit_prior(n_Q: npt.ArrayLike, correct_Q: npt.ArrayLike) -> PriorFit:
    """Return the zero-inflated beta under which the counts are most likely.

    The likelihood is climbed by its gradient from several starts, and the highest end is taken.
    100,000 questions with one n take well under a second.

    Args:
        n_Q: Graded rollouts of each question, shape (Q,); may differ between questions.
        correct_Q: Correct rollouts of each question, shape (Q,).

    Raises:
        DataError: If the counts are malformed, or cannot shape a prior: under 30 questions, under
            10 answered both correctly and incorrectly, or no n of at least 4.

    Source: Skellam 1948, JRSS B 10:257 (beta-binomial), with extra zeros.
    """
    tally = tally_counts(n_Q, correct_Q)
    partly = (tally.correct_U > 0) & (tally.correct_U < tally.n_U)
    partly_correct = int(tally.questions_U[partly].sum())
    if tally.questions < LEAST_QUESTIONS or partly_correct < LEAST_PARTLY_CORRECT:
        raise DataError(
            f"{tally.questions} questions, {partly_correct} of them answered both correctly and "
            f"incorrectly, do not shape a prior of p; it takes {LEAST_QUESTIONS} and "
            f"{LEAST_PARTLY_CORRECT}. Sample more questions, or report counts without a prior."
        )
    if tally.n_U.max() < LEAST_ROLLOUTS:
        raise DataError(
            f"n is at most {tally.n_U.max()}; a prior of p needs questions with "
            f"n={LEAST_ROLLOUTS} or more. Sample more rollouts."
        )
    return climb(tally, list_starts(tally))


def climb(tally: Tally, starts: Sequence[FloatArray]) -> PriorFit:
    """Return the best fit that is reached from these starts.

    Args:
        tally: The counts.
        starts: Points to climb from, each as `to_point` gives it.
    """
    ends = [
        optimize.minimize(
            lambda point: _descend(tally, point),
            start,
            jac=True,
            method="L-BFGS-B",
            bounds=BOX,
            options={"ftol": 1e-14, "gtol": 1e-8, "maxiter": 500},
        )
        for start in starts
    ]
    best = min(ends, key=lambda end: float(end.fun))
    return PriorFit(to_prior(best.x), -float(best.fun) * tally.questions, tally)


def list_starts(tally: Tally) -> list[FloatArray]:
    """Return points from which `climb` starts: spikes of none, half and most of the zeros."""
    zero = tally.correct_U == 0
    zeros = float(tally.questions_U[zero].sum()) / tally.questions
    rate_U = tally.correct_U / tally.n_U
    starts = []
    for part in (0.0, 0.5, 0.9):
        weight_U = tally.questions_U * np.where(zero, 1.0 - part, 1.0)
        mean = float(np.average(rate_U, weights=weight_U))
        mean = min(max(mean, 1e-3), 1.0 - 1e-3)
        spread = float(np.average((rate_U - mean) ** 2, weights=weight_U))
        size = min(max(mean * (1.0 - mean) / max(spread, 1e-9) - 1.0, 0.1), 1e3)
        spike = min(part * zeros, 0.99)
        starts.append(to_point(Prior(spike, mean * size, (1.0 - mean) * size)))
    return starts


def to_point(prior: Prior) -> FloatArray:
    """Return (spike, log a, log b), shape (3,)."""
    return np.array([prior.spike, np.log(prior.a), np.log(prior.b)])


def to_prior(point: npt.ArrayLike) -> Prior:
    """Return the prior at (spike, log a, log b), moved into the box."""
    inside = np.clip(np.asarray(point, np.float64), *np.array(BOX).T)
    return Prior(float(inside[0]), float(np.exp(inside[1])), float(np.exp(inside[2])))


def log_beta_binomial(n: npt.ArrayLike, correct: npt.ArrayLike, a: float, b: float) -> FloatArray:
    """Return log P(c of n) where p is drawn from Beta(a, b), in the shape of the arguments.

    Args:
        n: Rollouts.
        correct: Correct rollouts, 0..n, broadcast against `n`.
        a: First shape, above 0.
        b: Second shape, above 0.

    Source: Skellam 1948, JRSS B 10:257.
    """
    n, correct = np.asarray(n, np.float64), np.asarray(correct, np.float64)
    ways = -np.log1p(n) - special.betaln(correct + 1.0, n - correct + 1.0)
    value: FloatArray = ways + special.betaln(a + correct, b + n - correct) - special.betaln(a, b)
    return value


def spike_posterior(prior: Prior, n: npt.ArrayLike) -> FloatArray:
    """Return the weight of the spike after 0 correct of n, in the shape of `n`.

    An intermediate of posteriors, not a probability to report: see the module.
    """
    # On the log scale: where neither part explains the zeros, both are below the smallest float.
    odds = special.logit(prior.spike) - log_beta_binomial(n, 0, prior.a, prior.b)
    weight: FloatArray = special.expit(odds)
    return weight


def log_likelihood_gradient(tally: Tally, prior: Prior) -> tuple[float, FloatArray]:
    """Return the log-likelihood and its gradient in (spike, log a, log b), shape (3,)."""
    n_U, correct_U, a, b = tally.n_U, tally.correct_U, prior.a, prior.b
    log_beta_U = log_beta_binomial(n_U, correct_U, a, b)
    log_spike = np.log(prior.spike) if prior.spike > 0.0 else -np.inf
    log_rest_U = np.log1p(-prior.spike) + log_beta_U
    log_U = np.where(correct_U == 0, np.logaddexp(log_spike, log_rest_U), log_rest_U)
    of_beta_U = np.exp(log_rest_U - log_U)
    # With B the beta part's chance and f that of both: d log f / d spike is (1 - B) / f at c = 0,
    # else -1 / (1 - spike).
    inverse_U = np.exp(np.minimum(-log_U, _LARGEST_EXPONENT))
    of_spike_U = np.where(correct_U == 0, inverse_U, 0.0) - of_beta_U / (1.0 - prior.spike)
    shared_U = special.digamma(a + b) - special.digamma(a + b + n_U)
    of_a_U = special.digamma(a + correct_U) - special.digamma(a) + shared_U
    of_b_U = special.digamma(b + n_U - correct_U) - special.digamma(b) + shared_U
    questions_U = tally.questions_U
    gradient = np.array(
        [
            questions_U @ of_spike_U,
            a * (questions_U @ (of_beta_U * of_a_U)),
            b * (questions_U @ (of_beta_U * of_b_U)),
        ]
    )
    return float(questions_U @ log_U), gradient


def _descend(tally: Tally, point: FloatArray) -> tuple[float, FloatArray]:
    """Return the negative mean log-likelihood and its gradient, for a minimiser."""
    value, gradient = log_likelihood_gradient(tally, to_prior(point))
    return -value / tally.questions, -gradient / tally.questions
