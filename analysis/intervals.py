"""Intervals and paired tests on proportions.

Owns the confidence interval of one accuracy (exact, Wilson), of a mean of fractions (Student), and
of the gain between two evaluations of the same questions, and the records that every interval and
every share comes in. Refuses empty input, outcomes that are not boolean, and unpaired lengths. The
paper (arXiv 2605.07153) compares accuracies before and after training; whether it gives intervals
is not known to us.

Everything here conditions on the training runs at hand: the intervals speak about other held-out
questions. For other training seeds, and for shares of a gain, see `analysis.seeds`.
"""

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy import special  # type: ignore[import-untyped, unused-ignore]

from attrib.analysis.checks import (
    BoolArray,
    FloatArray,
    check_confidence,
    check_counts,
    check_outcomes,
    check_paired,
    check_rollouts,
)
from attrib.errors import DataError


@dataclass(frozen=True, slots=True)
class Interval:
    """An estimate with its confidence bounds, all three in the same unit (a fraction)."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Share:
    """Gain of an arm over gain of the full arm; all three None, with a reason, where undefined.

    Estimated by `analysis.seeds.share_over_seeds`.
    """

    value: float | None
    low: float | None
    high: float | None
    reason: str


class Bounds(NamedTuple):
    """Lower and upper confidence bounds, one of each per entry."""

    low_Q: FloatArray
    high_Q: FloatArray


def exact_interval(
    correct_Q: npt.ArrayLike, n_Q: npt.ArrayLike, confidence: float = 0.95
) -> Bounds:
    """Return the exact (Clopper–Pearson) bounds of each question's probability correct.

    Args:
        correct_Q: Correct rollouts of each question, shape (Q,).
        n_Q: Graded rollouts of each question, shape (Q,).
        confidence: Two-sided level; coverage is never below it.

    Returns:
        Bounds of shape (Q,) each; low is 0 where c = 0 and high is 1 where c = n.

    Raises:
        DataError: If the counts are malformed (shape, dtype, n < 1, c < 0, c > n).
        ConfigError: If `confidence` is outside (0, 1).

    Source: Clopper & Pearson 1934, Biometrika 26:404, in its beta-quantile form.
    """
    check_confidence(confidence)
    n, correct = check_counts(n_Q, correct_Q)
    tail = (1.0 - confidence) / 2.0
    # The quantile of Beta(0, ·) or Beta(·, 0) does not exist: where() supplies 0 and 1 there.
    low = special.betaincinv(np.maximum(correct, 1), n - correct + 1, tail)
    high = special.betaincinv(correct + 1, np.maximum(n - correct, 1), 1.0 - tail)
    return Bounds(np.where(correct == 0, 0.0, low), np.where(correct == n, 1.0, high))


def wilson_interval(successes: int, n: int, confidence: float = 0.95) -> Interval:
    """Return a proportion with its Wilson score interval (no continuity correction).

    Args:
        successes: How many of `n`, 0..n.
        n: Number of trials, at least 1.
        confidence: Two-sided level.

    Raises:
        DataError: If n < 1 or `successes` is outside 0..n.
        ConfigError: If `confidence` is outside (0, 1).

    Source: Wilson 1927, JASA 22:209.
    """
    check_rollouts(n)
    if not 0 <= successes <= n:
        raise DataError(f"successes is {successes} of n={n}; give a count between 0 and n.")
    bounds = wilson_bounds(np.array([successes / n]), n, confidence)
    return Interval(successes / n, float(bounds.low_Q[0]), float(bounds.high_Q[0]))


def wilson_bounds(mean_K: FloatArray, n: int, confidence: float = 0.95) -> Bounds:
    """Return Wilson score bounds for means of `n` values between 0 and 1.

    For 0/1 values this is the Wilson interval. For values in between it errs on the wide side: of
    all distributions on [0, 1] with a given mean, the 0/1 one has the largest variance.

    Args:
        mean_K: Means, shape (K,), fractions.
        n: Number of values behind each mean, at least 1.
        confidence: Two-sided level.

    Raises:
        DataError: If n < 1.
        ConfigError: If `confidence` is outside (0, 1).

    Source: Wilson 1927, JASA 22:209.
    """
    check_confidence(confidence)
    check_rollouts(n)
    z = _normal_quantile(confidence)
    shrunk_K = (mean_K + z * z / (2 * n)) / (1 + z * z / n)
    half_K = z / (1 + z * z / n) * np.sqrt(mean_K * (1 - mean_K) / n + (z / (2 * n)) ** 2)
    # min/max: the bound at a mean of 0 or 1 is the mean itself, which rounding misses by an ulp.
    return Bounds(
        np.where(mean_K <= 0.0, 0.0, np.minimum(shrunk_K - half_K, mean_K)),
        np.where(mean_K >= 1.0, 1.0, np.maximum(shrunk_K + half_K, mean_K)),
    )


def mean_interval(value_Q: npt.ArrayLike, confidence: float = 0.95) -> Interval:
    """Return the mean of values between 0 and 1 with Student's interval over questions.

    Where all values are equal, or there is one, the Wilson bounds of that mean are given.

    Args:
        value_Q: Fractions, shape (Q,), Q at least 1.
        confidence: Two-sided level.

    Raises:
        DataError: If there is no value, or one is not a fraction.
        ConfigError: If `confidence` is outside (0, 1).

    Source: Student 1908, Biometrika 6:1.
    """
    check_confidence(confidence)
    value = np.asarray(value_Q, dtype=np.float64)
    if value.ndim != 1 or not ((value >= 0.0) & (value <= 1.0)).all():
        raise DataError(f"value_Q of shape {value.shape} must be fractions, one for each question.")
    check_rollouts(value.size)
    mean = float(value.mean())
    if value.size < 2 or float(np.ptp(value)) < 1e-12:
        wide = wilson_bounds(np.array([mean]), value.size, confidence)
        return Interval(mean, float(wide.low_Q[0]), float(wide.high_Q[0]))
    t = float(special.stdtrit(value.size - 1, 0.5 + confidence / 2.0))
    half = t * float(value.std(ddof=1)) / math.sqrt(value.size)
    return Interval(mean, max(0.0, mean - half), min(1.0, mean + half))


def ratio_interval(
    part_Q: npt.ArrayLike, whole_Q: npt.ArrayLike, confidence: float = 0.95
) -> Interval:
    """Return the sum of `part_Q` over the sum of `whole_Q`, with Student's interval over questions.

    Questions are the clusters: each brings its own counts, such as right answers among answers of
    the right kind over several seeds. Where the residuals vanish, as with a ratio of exactly 0 or
    1, the Wilson bounds over the questions that have any are given.

    Args:
        part_Q: Counts, shape (Q,), none above `whole_Q`.
        whole_Q: Counts, shape (Q,), not all zero.
        confidence: Two-sided level.

    Raises:
        DataError: If the counts do not fit each other, or there is nothing to divide by.
        ConfigError: If `confidence` is outside (0, 1).

    Source: Cochran 1977, Sampling Techniques, eq. 6.13 (the ratio estimator, linearised).
    """
    check_confidence(confidence)
    part, whole = np.asarray(part_Q, np.float64), np.asarray(whole_Q, np.float64)
    if part.ndim != 1 or part.shape != whole.shape or not ((part >= 0) & (part <= whole)).all():
        raise DataError(
            f"part_Q {part.shape} must hold counts of what whole_Q {whole.shape} counts, one of "
            "each for every question."
        )
    if not whole.any():
        raise DataError("whole_Q counts nothing, so there is no ratio. Leave it out.")
    ratio = float(part.sum() / whole.sum())
    residual = part - ratio * whole
    counted = int(np.count_nonzero(whole))
    if counted < 2 or float(np.ptp(residual)) < 1e-12:
        wide = wilson_bounds(np.array([ratio]), counted, confidence)
        return Interval(ratio, float(wide.low_Q[0]), float(wide.high_Q[0]))
    t = float(special.stdtrit(counted - 1, 0.5 + confidence / 2.0))
    spread = math.sqrt(float((residual**2).sum()) * counted / (counted - 1)) / float(whole.sum())
    return Interval(ratio, max(0.0, ratio - t * spread), min(1.0, ratio + t * spread))


def paired_gain(
    before_Q: npt.ArrayLike, after_Q: npt.ArrayLike, confidence: float = 0.95
) -> Interval:
    """Return accuracy after minus accuracy before, with an interval paired on questions.

    The value is the plain difference of means. The interval is Bonett and Price's adjusted Wald:
    one pseudo-question is added to each of the two ways an answer can change, so that few changes,
    or none, still give a width. It is clipped to [-1, 1] and always contains the value.

    Args:
        before_Q: Whether each question was correct before, shape (Q,), bool.
        after_Q: Whether the same question was correct after, shape (Q,), bool.
        confidence: Two-sided level.

    Raises:
        DataError: If an array is empty, not boolean, or the lengths differ.
        ConfigError: If `confidence` is outside (0, 1).

    Source: Bonett & Price 2012, J. Educ. Behav. Stat. 37:479 (doi 10.3102/1076998611411915); the
    same formula as `ci.prop.ps` of the R package statpsych.
    """
    check_confidence(confidence)
    before, after = _check_pair(before_Q, after_Q)
    questions = before.size
    gained, lost = _count_changes(before, after)
    value = (gained - lost) / questions
    gained_share = (gained + 1) / (questions + 2)
    lost_share = (lost + 1) / (questions + 2)
    centre = gained_share - lost_share
    variance = (gained_share + lost_share - centre**2) / (questions + 2)
    half = _normal_quantile(confidence) * math.sqrt(variance)
    # Below about 68 % confidence the shift of the centre can exceed the half width.
    low = max(-1.0, min(centre - half, value))
    high = min(1.0, max(centre + half, value))
    return Interval(value, low, high)


def mcnemar_exact(before_Q: npt.ArrayLike, after_Q: npt.ArrayLike) -> float:
    """Return the two-sided exact p of "training changed no question's chance of being correct".

    Args:
        before_Q: Whether each question was correct before, shape (Q,), bool.
        after_Q: Whether the same question was correct after, shape (Q,), bool.

    Returns:
        A probability; 1.0 where no question changed.

    Raises:
        DataError: If an array is empty, not boolean, or the lengths differ.

    Source: McNemar 1947, Psychometrika 12:153, in its binomial form: changes up and down are
    equally likely under the null.
    """
    gained, lost = _count_changes(*_check_pair(before_Q, after_Q))
    changed = gained + lost
    if changed == 0:
        return 1.0
    return min(1.0, 2.0 * float(special.bdtr(min(gained, lost), changed, 0.5)))


def _check_pair(before_Q: npt.ArrayLike, after_Q: npt.ArrayLike) -> tuple[BoolArray, BoolArray]:
    """Return both arrays after checking dtype, shape and equal length."""
    before = check_outcomes(before_Q, "before_Q")
    after = check_outcomes(after_Q, "after_Q")
    check_paired(before, after, "before_Q and after_Q")
    return before, after


def _count_changes(before: BoolArray, after: BoolArray) -> tuple[int, int]:
    """Return how many questions became correct, and how many became incorrect."""
    return int(np.count_nonzero(after & ~before)), int(np.count_nonzero(before & ~after))


def _normal_quantile(confidence: float) -> float:
    """Return z such that a standard normal lies within ±z with this probability."""
    return float(special.ndtri(0.5 + confidence / 2.0))
