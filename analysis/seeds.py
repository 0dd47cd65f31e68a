"""Gains and shares of arms trained with several seeds.

Owns the intervals that speak about other held-out questions and other training seeds at once: of an
arm's gain, of the difference of two arms, of any weighted sum of gains (and its p-value), and of
the ratio of two such sums, of which the share is one. Refuses arms that answered other questions,
and a ratio whose denominator may be zero. The paper (arXiv 2605.07153) says that one class of
questions drives about 83 % of the gain, and names no number of seeds; no interval of that share is
known to us.

Every seed of an arm answers all questions (`analysis.crossed` has the model). The variance of a
weighted sum of gains has a part for questions, the spread of the sum between questions over their
number, and a part for the seeds of each arm, the spread between its seeds' means beyond what the
cells explain over their number, never below zero. A matched-random arm draws other training
questions with every seed; that is part of its seeds' spread.

Three seeds are few, so two things are added to Satterthwaite's degrees of freedom. Two
pseudo-questions, on which the sum changes as far as it can, once up and once down, give a width
where (almost) no answer changed, as in `paired_gain`. And an interval is never narrower than
Student's t on the seeds' means alone. Without that bound, three seeds whose means happen to agree
make the variance too small and its degrees of freedom too many, and where seeds are most of the
variance, intervals of 95 % cover in 92 % of cases (87 % with two seeds). With it normal theory
gives 93.8 % at worst for equally many seeds (90 % for two against ten).
`benchmarks/check_coverage.py` measures it, with skewed seed effects too.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import optimize, special  # type: ignore[import-untyped, unused-ignore]

from attrib.analysis.checks import FloatArray, check_confidence
from attrib.analysis.crossed import (
    Layout,
    check_runs,
    check_same_questions,
    half_width,
    reduce_arms,
    two_sided_p,
)
from attrib.analysis.intervals import Interval, Share
from attrib.errors import ConfigError


@dataclass(frozen=True, slots=True)
class IntervalOverSeeds(Interval):
    """An interval that says whether it covers other seeds, or other questions only."""

    covers_seeds: bool


@dataclass(frozen=True, slots=True)
class ShareOverSeeds(Share):
    """A share that says whether its interval covers other seeds, or other questions only."""

    covers_seeds: bool


def gain_over_seeds(
    before_Q: npt.ArrayLike, after_SQ: npt.ArrayLike, confidence: float = 0.95
) -> IntervalOverSeeds:
    """Return an arm's mean gain in accuracy over its seeds.

    With one seed this is `paired_gain`, and `covers_seeds` is False.

    Args:
        before_Q: Whether each held-out question was correct before training, shape (Q,), bool.
        after_SQ: The same after training with each seed, shape (S, Q), bool.
        confidence: Two-sided level.

    Returns:
        The gain, a fraction, and bounds within [-1, 1] that contain it.

    Raises:
        DataError: If an array is empty, not boolean, of another shape, or Q differs.
        ConfigError: If `confidence` is outside (0, 1).

    Source: see `contrast_over_seeds`.
    """
    return contrast_over_seeds(before_Q, [after_SQ], [1.0], confidence)


def difference_over_seeds(
    first_after_SQ: npt.ArrayLike, second_after_SQ: npt.ArrayLike, confidence: float = 0.95
) -> IntervalOverSeeds:
    """Return the first arm's accuracy minus the second's, each with its own seeds.

    Args:
        first_after_SQ: Outcomes of the first arm, shape (S, Q), bool.
        second_after_SQ: Outcomes of the second on the same questions, shape (S', Q), bool.
        confidence: Two-sided level.

    Returns:
        The difference, a fraction, and bounds within [-1, 1] that contain it.

    Raises:
        DataError: If an array is empty, not boolean, of another shape, or Q differs.
        ConfigError: If `confidence` is outside (0, 1).

    Source: see `contrast_over_seeds`.
    """
    first = check_runs(first_after_SQ, "first_after_SQ")
    second = check_runs(second_after_SQ, "second_after_SQ")
    check_same_questions(first.shape[1], second, "first_after_SQ and second_after_SQ")
    nothing_Q = np.zeros(first.shape[1], np.bool_)  # the base cancels
    return contrast_over_seeds(nothing_Q, [first, second], [1.0, -1.0], confidence)


def share_over_seeds(
    before_Q: npt.ArrayLike,
    arm_after_SQ: npt.ArrayLike,
    full_after_SQ: npt.ArrayLike,
    confidence: float = 0.95,
) -> ShareOverSeeds:
    """Return an arm's gain as a share of the full arm's gain, over seeds and questions.

    With one seed of either, `covers_seeds` is False; of both, t has Q - 1 degrees of freedom.

    Args:
        before_Q: Whether each held-out question was correct before training, shape (Q,), bool.
        arm_after_SQ: The same after training the arm with each seed, shape (S, Q), bool.
        full_after_SQ: The same after training on everything, shape (S', Q), bool.
        confidence: Two-sided level.

    Returns:
        The share; below 0 where the arm lost accuracy, above 1 where it beat the full arm. Without
        a value, and with a reason, where the full arm's gain is not clear of zero.

    Raises:
        DataError: If an array is empty, not boolean, of another shape, or Q differs.
        ConfigError: If `confidence` is outside (0, 1).

    Source: see `ratio_over_seeds`.
    """
    arms = [check_runs(arm_after_SQ, "arm_after_SQ"), check_runs(full_after_SQ, "full_after_SQ")]
    return ratio_over_seeds(before_Q, arms, [1.0, 0.0], [0.0, 1.0], confidence)


def contrast_over_seeds(
    before_Q: npt.ArrayLike,
    arms: Sequence[npt.ArrayLike],
    weights_A: Sequence[float],
    confidence: float = 0.95,
) -> IntervalOverSeeds:
    """Return a weighted sum of arms' gains over the same questions, each arm with its own seeds.

    Args:
        before_Q: Whether each held-out question was correct before training, shape (Q,), bool.
        arms: Outcomes of each arm after training, shape (S, Q), bool; S may differ between arms.
        weights_A: One finite weight for each arm, shape (A,).
        confidence: Two-sided level.

    Returns:
        The sum, and bounds that contain it and stay within what the sum can be. `covers_seeds` is
        False where an arm has one seed: that arm's seed effect is then not in the width. Where all
        have one, the interval is `paired_gain`'s, with its normal quantile.

    Raises:
        DataError: If an array is empty, not boolean, of another shape, or Q differs.
        ConfigError: If `confidence` is outside (0, 1), or the weights do not fit the arms.

    Source: Searle, Casella & McCulloch 1992, Variance Components (two-way crossed random effects);
    Satterthwaite 1946, Biometrics Bull. 2:110 (degrees of freedom); Bonett & Price 2012,
    J. Educ. Behav. Stat. 37:479 (pseudo-questions).
    """
    check_confidence(confidence)
    layout = reduce_arms(before_Q, arms)
    weights = _check_weights(weights_A, len(arms))
    value = float((weights @ layout.gain_AQ).mean())
    largest = _largest_change(weights)
    centre, variance = _pad(layout, weights)
    if layout.degrees_A[weights != 0.0].any():
        half = half_width(layout, weights, variance, confidence)
    else:
        half = float(special.ndtri(0.5 + confidence / 2.0)) * math.sqrt(variance)
    low = max(-largest, min(centre - half, value))
    high = min(largest, max(centre + half, value))
    return IntervalOverSeeds(value, low, high, layout.covers_seeds(weights))


def contrast_p_value(
    before_Q: npt.ArrayLike, arms: Sequence[npt.ArrayLike], weights_A: Sequence[float]
) -> float:
    """Return the two-sided p of "the weighted sum of gains is zero", over questions and seeds.

    It is below α exactly where the interval of `contrast_over_seeds` at 1 - α excludes zero, and
    so, unlike `sign_flip_test`, speaks about other seeds than those trained.

    Args:
        before_Q: Whether each held-out question was correct before training, shape (Q,), bool.
        arms: Outcomes of each arm after training, shape (S, Q), bool; one at least has two seeds.
        weights_A: One finite weight for each arm, shape (A,).

    Raises:
        DataError: If an array is empty, not boolean, of another shape, or Q differs.
        ConfigError: If the weights do not fit the arms, or no arm with a weight has two seeds;
            such arms are for `mcnemar_exact` and `sign_flip_test`.

    Source: as `contrast_over_seeds`.
    """
    layout = reduce_arms(before_Q, arms)
    weights = _check_weights(weights_A, len(arms))
    if not layout.degrees_A[weights != 0.0].any():
        raise ConfigError("Each arm has one seed. Use sign_flip_test, which is exact for them.")
    centre, variance = _pad(layout, weights)
    return two_sided_p(layout, weights, variance, centre)


def ratio_over_seeds(
    before_Q: npt.ArrayLike,
    arms: Sequence[npt.ArrayLike],
    numerator_A: Sequence[float],
    denominator_A: Sequence[float],
    confidence: float = 0.95,
) -> ShareOverSeeds:
    """Return the ratio of two weighted sums of arms' gains, with Fieller's interval.

    Paired on questions, and on seeds where an arm is in both sums. The interval holds the ratios θ
    for which numerator - θ·denominator, itself a weighted sum of gains, cannot be told from zero,
    each θ with its own variance and degrees of freedom. Pseudo-questions change the numerator
    only: they leave the ratio as it is. (Without them, small true shares often have [0, 0].)

    Undefined, with a reason, where the denominator's interval is negative or contains zero (no
    report shows a share of a gain it calls unclear), and where Fieller's set is unbounded. Where
    that is so in most studies, the few ratios that are stated are those of lucky denominators, and
    cover less: 90 to 93 % where one in four is stated.

    Args:
        before_Q: Whether each held-out question was correct before training, shape (Q,), bool.
        arms: Outcomes of each arm after training, shape (S, Q), bool; S may differ between arms.
        numerator_A: One weight for each arm, shape (A,).
        denominator_A: One weight for each arm, shape (A,): 1 for the full arm, otherwise 0.
        confidence: Two-sided level.

    Raises:
        DataError: If an array is empty, not boolean, of another shape, or Q differs.
        ConfigError: If `confidence` is outside (0, 1), or the weights do not fit the arms.

    Source: Fieller 1954, J. R. Stat. Soc. B 16:175; variances as in `contrast_over_seeds`.
    """
    layout = reduce_arms(before_Q, arms)
    weights_2A = np.stack([_check_weights(w, len(arms)) for w in (numerator_A, denominator_A)])
    covers_seeds = layout.covers_seeds(np.abs(weights_2A).sum(axis=0))
    whole = contrast_over_seeds(before_Q, arms, denominator_A, confidence)
    if reason := _refuse_ratio(whole, layout.questions):
        return ShareOverSeeds(None, None, None, reason, covers_seeds)
    value, low, high = _estimate_ratio(layout, weights_2A, confidence)
    if not (math.isfinite(low) and math.isfinite(high)):
        reason = (
            f"the full arm's gain, {_show(whole)}, cannot be told from zero by Student's t, which "
            "so few seeds or questions call for, so it has no shares"
        )
        return ShareOverSeeds(None, None, None, reason, covers_seeds)
    return ShareOverSeeds(value, low, high, "", covers_seeds)


def _estimate_ratio(
    layout: Layout, weights_2A: FloatArray, confidence: float
) -> tuple[float, float, float]:
    """Return the ratio and its bounds, which are infinite where Fieller's set is unbounded."""
    largest = _largest_change(weights_2A[0])
    padded_2Q = np.hstack([weights_2A @ layout.gain_AQ, [[largest, -largest], [0.0, 0.0]]])
    numerator, denominator = padded_2Q.mean(axis=1).tolist()
    between_questions = np.cov(padded_2Q) / padded_2Q.shape[1]

    def half(ratio: float) -> float:
        residual_2 = np.array([1.0, -ratio])
        variance = float(residual_2 @ between_questions @ residual_2)
        return half_width(layout, residual_2 @ weights_2A, variance, confidence)

    value = numerator / denominator
    step = half(value) / denominator
    low = find_end(lambda distance: distance * denominator - half(value - distance), step)
    high = find_end(lambda distance: distance * denominator - half(value + distance), step)
    return value, value - low, value + high


def find_end(excess: Callable[[float], float], step: float) -> float:
    """Return how far from the estimate `excess` becomes positive, infinite if nowhere.

    Args:
        excess: How far the sum is beyond its half width, by distance from the estimate, < 0 at 0.
        step: A distance of the right order.
    """
    inside = 0.0
    for doubling in range(-2, 50):
        outside = step * 2.0**doubling
        if excess(outside) > 0.0:
            return float(optimize.brentq(excess, inside, outside))
        inside = outside
    return math.inf


def _check_weights(weights_A: Sequence[float], arms: int) -> FloatArray:
    """Return one finite weight per arm as an array, at least one of them not zero."""
    array_A = np.asarray(weights_A, np.float64)
    if array_A.shape != (arms,):
        raise ConfigError(
            f"weights have shape {array_A.shape} for {arms} arms. Give one weight for each arm."
        )
    if not np.isfinite(array_A).all() or not array_A.any():
        raise ConfigError(
            f"weights are {array_A.tolist()}; they are finite and not all zero. Give 1 and -1 for "
            "a difference."
        )
    return array_A


def _refuse_ratio(whole: Interval, questions: int) -> str:
    """Return why nothing can have a share of this gain, '' where something can."""
    if questions < 2:
        return "one held-out question cannot show how much a gain varies"
    if whole.low <= 0.0 <= whole.high:
        return f"the full arm's gain, {_show(whole)}, cannot be told from zero, so it has no shares"
    if whole.value < 0.0:
        return f"the full arm lost accuracy, {_show(whole)}, so there is no gain to have a share of"
    return ""


def _pad(layout: Layout, weights_A: FloatArray) -> tuple[float, float]:
    """Return mean and variance of the mean of a sum of gains with its two pseudo-questions."""
    largest = _largest_change(weights_A)
    padded_Q = np.append(weights_A @ layout.gain_AQ, [largest, -largest])
    return float(padded_Q.mean()), float(padded_Q.var()) / padded_Q.size


def _largest_change(weights_A: FloatArray) -> float:
    """Return the most that a contrast can change on one question, the base's weight included."""
    return float(np.maximum(np.append(weights_A, -weights_A.sum()), 0.0).sum())


def _show(gain: Interval) -> str:
    return f"{gain.value:+.3f} [{gain.low:+.3f}, {gain.high:+.3f}]"
