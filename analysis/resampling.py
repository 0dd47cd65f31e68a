"""Resampling questions with replacement.

Owns the bootstrap draws that the modules on pass@k share, and the bootstrap-t bounds of means, for
one k chosen beforehand and for all k at once. Refuses too few draws for the confidence asked. The
paper (arXiv 2605.07153) has no counterpart.

Questions with equal values are interchangeable, so one resample of all questions is one multinomial
draw over the distinct values: the same distribution, often a hundred times smaller, and free of the
order of questions.

Each resample gives |its mean - the mean| over its own standard deviation; the half width is a
quantile of that times the standard deviation of the questions. Where a few questions make the
mean, many resamples have a small deviation and the interval widens, as a percentile interval does
not: it takes six or seven questions that all changed one way to exclude zero, as in a sign test.
The band takes one rank for all k, chosen so that the stated share of resamples is within at every
k; a k that few questions decide does not widen the others.

Where all questions have one value v, no resample differs. There the bounds are exact: of a
population of which a share ε differs from v, Q questions show none with probability (1-ε)^Q.
"""

import math
from dataclasses import dataclass

import numpy as np

from attrib.analysis.checks import BoolArray, FloatArray, IntArray, check_confidence
from attrib.errors import ConfigError

# Cells of one bootstrap block (16 MB of int64), so that memory does not grow with draws.
_BLOCK_CELLS = 2_000_000


def check_draws(draws: int, confidence: float) -> None:
    """Refuse fewer draws than leave one beyond each bound.

    Args:
        draws: Bootstrap resamples.
        confidence: Two-sided level.

    Raises:
        ConfigError: If `confidence` is outside (0, 1) or `draws` is below 2 / (1 - confidence).
    """
    check_confidence(confidence)
    needed = math.ceil(round(2.0 / (1.0 - confidence), 6))
    if draws < needed:
        raise ConfigError(
            f"draws is {draws}; bounds at confidence {confidence} need at least {needed}. "
            "Give draws=2000."
        )


def resample_means(
    value_UK: FloatArray, count_U: IntArray, generator: np.random.Generator, draws: int
) -> FloatArray:
    """Return means over questions of `draws` resamples, shape (B, K), in bounded blocks.

    Args:
        value_UK: Values of each distinct question, shape (U, K).
        count_U: How many questions have them, shape (U,).
        generator: Source of the resamples.
        draws: Bootstrap resamples B.
    """
    questions = int(count_U.sum())
    block = max(1, _BLOCK_CELLS // count_U.size)
    share_U = count_U / questions
    means_BK = np.empty((draws, value_UK.shape[1]))
    for start in range(0, draws, block):
        stop = min(start + block, draws)
        weight_BU = generator.multinomial(questions, share_U, size=stop - start)
        means_BK[start:stop] = weight_BU @ value_UK / questions
    return means_BK


@dataclass(frozen=True, slots=True, eq=False)
class MeanBounds:
    """Means over questions with their bounds; arrays of shape (K,).

    `low_K` and `high_K` hold at one k, `band_low_K` and `band_high_K` at all k together.
    `deviation_K` is the standard deviation of a question, 0 where all are equal, and `critical_K`
    how many of them the band reaches either way, which may be infinite.
    """

    mean_K: FloatArray
    low_K: FloatArray
    high_K: FloatArray
    band_low_K: FloatArray
    band_high_K: FloatArray
    deviation_K: FloatArray
    critical_K: FloatArray
    questions: int


def bound_means(
    value_UK: FloatArray,
    count_U: IntArray,
    least: float,
    generator: np.random.Generator,
    draws: int,
    confidence: float,
) -> MeanBounds:
    """Return the means over questions with symmetric bootstrap-t bounds.

    Args:
        value_UK: Values of each distinct question, between `least` and 1, shape (U, K).
        count_U: How many questions have them, shape (U,).
        least: Smallest possible value: 0 for fractions, -1 for their differences.
        generator: Source of the resamples.
        draws: Bootstrap resamples.
        confidence: Two-sided level.

    Raises:
        ConfigError: If `confidence` is outside (0, 1) or `draws` is too small for it.

    Source: bootstrap-t of Efron 1982, The Jackknife, the Bootstrap, ch. 10, in its symmetric form
    (Hall 1988, J. R. Stat. Soc. B 50:35); the band, Beran 1988, JASA 83:679.
    """
    check_draws(draws, confidence)
    questions = int(count_U.sum())
    mean_K: FloatArray = count_U @ value_UK / questions
    flat_K: BoolArray = np.ptp(value_UK, axis=0) < 1e-12
    centred_UK = np.where(flat_K, 0.0, value_UK - mean_K)
    deviation_K: FloatArray = np.sqrt(count_U @ centred_UK**2 / questions)
    t_BK = _studentise(centred_UK, count_U, generator, draws)
    single_K, joint_K = _critical_values(t_BK, confidence)
    # What may differ unseen, where all that was seen is equal.
    unseen = 1.0 - ((1.0 - confidence) / 2.0) ** (1.0 / questions)
    flat_low_K, flat_high_K = mean_K - unseen * (mean_K - least), mean_K + unseen * (1.0 - mean_K)

    def bound(half_K: FloatArray) -> FloatArray:
        return np.clip(mean_K + half_K, least, 1.0)

    single_half_K = np.where(flat_K, 0.0, single_K) * deviation_K
    joint_half_K = np.where(flat_K, 0.0, joint_K) * deviation_K
    return MeanBounds(
        mean_K=mean_K,
        low_K=np.where(flat_K, flat_low_K, bound(-single_half_K)),
        high_K=np.where(flat_K, flat_high_K, bound(single_half_K)),
        band_low_K=np.where(flat_K, flat_low_K, bound(-joint_half_K)),
        band_high_K=np.where(flat_K, flat_high_K, bound(joint_half_K)),
        deviation_K=deviation_K,
        critical_K=np.where(flat_K, np.inf, joint_K),
        questions=questions,
    )


def _studentise(
    centred_UK: FloatArray, count_U: IntArray, generator: np.random.Generator, draws: int
) -> FloatArray:
    """Return |mean| over standard deviation of each resample, shape (B, K); infinite over 0."""
    moments_BK = resample_means(np.hstack([centred_UK, centred_UK**2]), count_U, generator, draws)
    shift_BK, square_BK = np.hsplit(moments_BK, 2)
    variance_BK = square_BK - shift_BK**2
    # Rounding leaves 1e-16 of the square where a resample has one value throughout.
    none_BK = variance_BK <= 1e-13 * square_BK
    t_BK = np.abs(shift_BK) / np.sqrt(np.where(none_BK, 1.0, variance_BK))
    return np.where(none_BK & (square_BK > 0.0), np.inf, t_BK)


def _critical_values(t_BK: FloatArray, confidence: float) -> tuple[FloatArray, FloatArray]:
    """Return the critical values of one k and of all k together, shape (K,) each."""
    draws, columns = t_BK.shape
    sorted_BK = np.sort(t_BK, axis=0)
    needed = math.ceil(round(confidence * draws, 6))
    rank_BK = np.stack(
        [np.searchsorted(sorted_BK[:, j], t_BK[:, j], side="left") for j in range(columns)], axis=1
    )
    joint = int(np.sort(rank_BK.max(axis=1))[needed - 1])
    # Ranks of ties are their lowest, which may be below the rank a single k needs.
    joint = max(joint, needed - 1)
    return sorted_BK[needed - 1], sorted_BK[joint]
