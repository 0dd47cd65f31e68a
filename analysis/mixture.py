"""What never-correct is made of, and how large it is at other n.

Owns the expected number of never-correct questions with p below a threshold, and the expected
number of never-correct questions at other numbers of rollouts. Refuses thresholds and n out of
range; gives no bound where the counts give none. The paper (arXiv 2605.07153) trains on the
questions with 0 of 128 and does not ask what their p are.

No number here is of questions that a model cannot answer: p = 0 is not identifiable, "below 0.01 %"
includes every smaller p, and each row says how far the counts can see that far down
(`chance_of_none`).
"""

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import special  # type: ignore[import-untyped, unused-ignore]

from attrib.analysis.checks import FloatArray, check_confidence, check_integers, check_rollouts
from attrib.analysis.intervals import Interval, wilson_bounds
from attrib.analysis.membership import below, check_thresholds
from attrib.analysis.passk import pass_at_k
from attrib.analysis.prior import Prior, PriorFit, Tally, log_beta_binomial
from attrib.analysis.profile import ProfileInterval, profile_interval
from attrib.errors import DataError

THRESHOLDS = (1e-4, 1e-3, 1e-2)
# A number of questions within half a question of none, or of all, has no bound on that side.
_HALF_QUESTION = 0.5
# Measured: with 20 and more, Wilson's bounds at the effective number cover in 95 % of studies.
_LEAST_CARRIERS = 20.0


@dataclass(frozen=True, slots=True)
class MixtureRow:
    """How many never-correct questions have p at most `p`.

    `expected` is their expected number, its bounds those of the prior's parameters. `number_low`
    and `number_high` bound the number itself, which scatters about its expectation; None where
    `expected` has no bound. `chance_of_none` is how often a question at exactly `p` is
    never-correct: near 1, the counts cannot tell it from any smaller p, and the row rests on the
    shape of the prior.
    """

    p: float
    never_correct: int
    expected: ProfileInterval
    number_low: int | None
    number_high: int | None
    chance_of_none: float


@dataclass(frozen=True, slots=True)
class NeverCorrectRow:
    """Expected number of never-correct questions at `n` rollouts, of as many questions.

    `from_prior` is False where it is counted from subsets of the observed rollouts.
    """

    n: int
    questions: int
    expected: ProfileInterval
    from_prior: bool


def never_correct_mixture(
    fit: PriorFit, p_P: npt.ArrayLike = THRESHOLDS, confidence: float = 0.95
) -> list[MixtureRow]:
    """Return how many of the never-correct questions have p at most each threshold.

    Args:
        fit: The prior and its counts, from `fit_prior`.
        p_P: Thresholds of p, shape (P,), increasing fractions.
        confidence: Two-sided level of both intervals.

    Returns:
        One row a threshold, cumulative.

    Raises:
        DataError: If no question is never-correct.
        ConfigError: If the thresholds or `confidence` are out of range.

    Source: empirical Bayes with profile likelihood; the two variances of a number are joined as in
    Zou & Donner 2008, Stat. Med. 27:1693.
    """
    check_confidence(confidence)
    thresholds = check_thresholds(p_P)
    zero_U = fit.tally.correct_U == 0
    n_U, questions_U = fit.tally.n_U[zero_U], fit.tally.questions_U[zero_U]
    never_correct = int(questions_U.sum())
    if never_correct == 0:
        raise DataError("No question is never-correct: nothing to divide. Use fewer rollouts.")
    none_U = np.zeros_like(n_U)
    rows = []
    for p in thresholds:

        def expect(prior: Prior, p: float = float(p)) -> float:
            return float(questions_U @ below(prior, n_U, none_U, np.array([p]))[:, 0])

        expected = profile_interval(
            fit, expect, (0.0, float(never_correct)), _HALF_QUESTION, confidence
        )
        low, high = _number_bounds(expected, never_correct, confidence)
        chance = float(questions_U @ np.exp(n_U * np.log1p(-p))) / never_correct
        rows.append(MixtureRow(float(p), never_correct, expected, low, high, chance))
    return rows


def never_correct_at(
    fit: PriorFit, n_K: npt.ArrayLike, confidence: float = 0.95
) -> list[NeverCorrectRow]:
    """Return how many of as many questions are expected to be never-correct at other n.

    Up to the smallest n of the data it is counted: a random subset of n rollouts is all incorrect
    with probability 1 - pass@n, exactly, and the prior plays no part. Beyond, it is the prior's.
    Either way the bounds speak about questions drawn as these were.

    Args:
        fit: The prior and its counts, from `fit_prior`.
        n_K: Numbers of rollouts, shape (K,), at least 1.
        confidence: Two-sided level.

    Returns:
        One row for each n, in the order given.

    Raises:
        DataError: If `n_K` is malformed or holds an n below 1.
        ConfigError: If `confidence` is outside (0, 1).

    Source: arXiv 2107.03374, eq. 1, for subsets; Wilson's bounds at the effective number of
    questions.
    """
    check_confidence(confidence)
    questions = fit.tally.questions
    rows = []
    for n in check_integers(n_K, "n_K").tolist():
        check_rollouts(n)
        if n <= fit.tally.n_U.min():
            share = _subset_share(fit, n, confidence)
            counted = ProfileInterval(
                questions * share.value, questions * share.low, questions * share.high, ""
            )
            rows.append(NeverCorrectRow(n, questions, counted, False))
            continue

        def expect(prior: Prior, n: int = n) -> float:
            chance = float(np.exp(log_beta_binomial(n, 0, prior.a, prior.b)))
            return questions * (prior.spike + (1.0 - prior.spike) * chance)

        expected = profile_interval(
            fit, expect, (0.0, float(questions)), _HALF_QUESTION, confidence
        )
        rows.append(NeverCorrectRow(n, questions, expected, True))
    return rows


def _number_bounds(
    expected: ProfileInterval, most: int, confidence: float
) -> tuple[int | None, int | None]:
    """Return bounds of a binomial number whose expectation has bounds, rounded outwards."""
    tail = (1.0 - confidence) / 2.0
    share = min(max(expected.value / most, 0.0), 1.0)
    scatter = [float(special.bdtrik(level, most, share)) for level in (tail, 1.0 - tail)]
    low = high = None
    if expected.low is not None:
        below_it = expected.value - (max(scatter[0], 0.0) if math.isfinite(scatter[0]) else 0.0)
        low = math.floor(expected.value - math.hypot(expected.value - expected.low, below_it))
    if expected.high is not None:
        above_it = (min(scatter[1], most) if math.isfinite(scatter[1]) else most) - expected.value
        high = math.ceil(expected.value + math.hypot(expected.high - expected.value, above_it))
    return (None if low is None else max(low, 0)), (None if high is None else min(high, most))


def _subset_share(fit: PriorFit, n: int, confidence: float) -> Interval:
    """Return the mean of 1 - pass@n over questions, n at most the smallest of theirs.

    The bounds are Wilson's at the number of 0/1 values that would vary as much: exact counts where
    n is every question's, and narrower where a subset says more than one draw. Where few questions
    carry the mean their spread is not to be trusted, and the plain number of questions is taken.
    """
    tally = fit.tally
    none_U = 1.0 - pass_at_k(tally.n_U, tally.correct_U, [n])[:, 0]
    mean = float(tally.questions_U @ none_U) / tally.questions
    variance = float(tally.questions_U @ (none_U - mean) ** 2) / tally.questions
    effective = tally.questions
    carriers = min(_count_carriers(tally, none_U), _count_carriers(tally, 1.0 - none_U))
    if carriers >= _LEAST_CARRIERS and variance > 1e-12:
        effective = max(effective, int(tally.questions * mean * (1.0 - mean) / variance))
    bounds = wilson_bounds(np.array([mean]), effective, confidence)
    return Interval(mean, float(bounds.low_Q[0]), float(bounds.high_Q[0]))


def _count_carriers(tally: Tally, value_U: FloatArray) -> float:
    """Return how many equal values would be as uneven as these (Kish), 0 where all are 0."""
    total = float(tally.questions_U @ value_U)
    squares = float(tally.questions_U @ value_U**2)
    return total**2 / squares if squares > 0.0 else 0.0
