"""Intervals and paired tests on proportions.

Owns the confidence interval of one accuracy (exact, Wilson), of the gain between two evaluations of
the same questions, and of the share one arm has in the full arm's gain. Refuses empty input,
outcomes that are not boolean, and unpaired lengths; a share whose denominator may be zero is not a
number but a `Share` with a reason. The paper (arXiv 2605.07153) says that one class of questions
drives about 83 % of the gain; no interval of that number is known to us. Here each gain and share
has one, and a share is withheld where the full gain is not clear of zero.

Everything here conditions on the training runs at hand: the intervals speak about other held-out
questions, not about other training seeds.
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
    """Gain of an arm over gain of the full arm; all three None, with a reason, where undefined."""

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


def gain_share(
    before_Q: npt.ArrayLike,
    arm_after_Q: npt.ArrayLike,
    full_after_Q: npt.ArrayLike,
    confidence: float = 0.95,
) -> Share:
    """Return an arm's gain as a share of the full arm's gain, with Fieller's interval.

    Paired on questions, with Student's t at Q - 1 degrees of freedom. Two pseudo-questions are
    added, on which the arm alone changes, once up and once down, as `paired_gain` does for a gain:
    they leave the share as it is, and give a width where the arm changed almost no answer, or
    almost the same ones as the full arm. (Without them, arms with a small true share often
    have [0, 0].)

    The share is undefined where the full gain is not clear of zero: where Fieller's set is
    unbounded (g ≥ 1), or where `paired_gain` of the full arm contains zero, so that a report never
    shows a share of a gain it calls unclear. It is also undefined where the full arm lost accuracy.

    Args:
        before_Q: Whether each held-out question was correct before training, shape (Q,), bool.
        arm_after_Q: The same after training the arm, shape (Q,), bool.
        full_after_Q: The same after training on everything, shape (Q,), bool.
        confidence: Two-sided level.

    Returns:
        The share; below 0 where the arm lost accuracy, above 1 where it beat the full arm.

    Raises:
        DataError: If an array is empty, not boolean, or the lengths differ.
        ConfigError: If `confidence` is outside (0, 1).

    Source: Fieller 1954, J. R. Stat. Soc. B 16:175.
    """
    check_confidence(confidence)
    before, full_after = _check_pair(before_Q, full_after_Q)
    arm_after = check_outcomes(arm_after_Q, "arm_after_Q")
    check_paired(before, arm_after, "before_Q and arm_after_Q")
    questions = before.size
    if questions < 2:
        return Share(None, None, None, "one held-out question cannot show how much a gain varies")
    arm_gain_Q = np.append(arm_after.astype(np.float64) - before, [1.0, -1.0])
    full_gain_Q = np.append(full_after.astype(np.float64) - before, [0.0, 0.0])
    arm_mean, full_mean = float(arm_gain_Q.mean()), float(full_gain_Q.mean())
    covariance = np.cov(np.stack([arm_gain_Q, full_gain_Q])) / arm_gain_Q.size
    t = float(special.stdtrit(questions - 1, 0.5 + confidence / 2.0))
    reason = _refuse_share(paired_gain(before, full_after, confidence), full_mean, covariance, t)
    if reason:
        return Share(None, None, None, reason)
    low, high = _solve_fieller(arm_mean, full_mean, covariance, t)
    return Share(arm_mean / full_mean, low, high, "")


def _refuse_share(gain: Interval, full_mean: float, covariance: FloatArray, t: float) -> str:
    """Return why a share of this full gain is undefined, '' where it is defined."""
    shown = f"{gain.value:+.3f} [{gain.low:+.3f}, {gain.high:+.3f}]"
    if gain.low <= 0.0 <= gain.high:
        return f"the full arm's gain, {shown}, cannot be told from zero, so it has no shares"
    if t * t * float(covariance[1, 1]) >= full_mean * full_mean:
        return (
            f"the full arm's gain, {shown}, cannot be told from zero by Student's t, which so few "
            "questions call for, so it has no shares"
        )
    if full_mean < 0.0:
        return f"the full arm lost accuracy, {shown}, so there is no gain to have a share of"
    return ""


def _solve_fieller(
    arm_mean: float, full_mean: float, covariance: FloatArray, t: float
) -> tuple[float, float]:
    """Return the two shares θ at which (arm - θ·full)² equals t² times its variance.

    They are the roots of a·θ² - 2·b·θ + c; a > 0 because g < 1 was checked.
    """
    a = full_mean**2 - t * t * float(covariance[1, 1])
    b = arm_mean * full_mean - t * t * float(covariance[0, 1])
    c = arm_mean**2 - t * t * float(covariance[0, 0])
    root = math.sqrt(max(b * b - a * c, 0.0))
    return (b - root) / a, (b + root) / a


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
