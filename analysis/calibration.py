"""Calibration: does a model that gives an answer more often turn out right more often?

Owns the reliability table, the expected calibration error and the Brier score of confidences such
as the share of a question's samples that agree with its most frequent answer. Refuses confidences
outside 0..1. The paper (arXiv 2605.07153) does not look at calibration.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from attrib.analysis.checks import BoolArray, FloatArray, IntArray, check_confidence
from attrib.analysis.crossed import check_runs
from attrib.analysis.intervals import Interval, mean_interval, ratio_interval
from attrib.errors import ConfigError, DataError


@dataclass(frozen=True, slots=True)
class Bin:
    """Answers of about the same confidence; `accuracy` has an interval over their questions."""

    lowest: float
    highest: float
    answers: int
    confidence: float
    accuracy: Interval


@dataclass(frozen=True, slots=True)
class Calibration:
    """How far confidence and accuracy agree; intervals are over questions, not seeds.

    Attributes:
        bins: those with answers, ascending.
        error: expected calibration error: the mean over answers of how far their bin's accuracy is
            from its confidence, in either direction. It is above zero by chance alone.
        error_by_chance: what it would be on average if each answer were right with its confidence
            as probability: what `error` is to be held against.
        brier: mean of (confidence - right)².
        overconfidence: mean of confidence - right.
        questions: how many.
    """

    bins: tuple[Bin, ...]
    error: float
    error_by_chance: float
    brier: Interval
    overconfidence: Interval
    questions: int


def calibrate(
    confidence_SQ: npt.ArrayLike,
    correct_SQ: npt.ArrayLike,
    generator: np.random.Generator,
    bins: int = 10,
    draws: int = 200,
    level: float = 0.95,
) -> Calibration:
    """Return how far stated confidences agree with outcomes, in bins of equal width.

    Args:
        confidence_SQ: Between 0 and 1, shape (S, Q): by seed and question.
        correct_SQ: Whether the answer the confidence is about was right, shape (S, Q), bool.
        generator: Source of the outcomes of a calibrated model, for `error_by_chance`.
        bins: How many of equal width between 0 and 1.
        draws: Outcomes drawn for `error_by_chance`.
        level: Two-sided level of the intervals.

    Raises:
        DataError: If the arrays are empty, differ in shape, or a confidence is outside 0..1.
        ConfigError: If `bins` or `draws` is below 1, or `level` is outside (0, 1).

    Source: Guo et al. 2017 (arXiv 1706.04599), eq. 3; Brier 1950, Mon. Weather Rev. 78:1.
    """
    check_confidence(level)
    correct = check_runs(correct_SQ, "correct_SQ")
    stated = np.asarray(confidence_SQ, np.float64)
    if stated.shape != correct.shape:
        raise DataError(
            f"confidence_SQ has shape {stated.shape}, correct_SQ {correct.shape}. "
            "Give one confidence for each answer."
        )
    bad = ~((stated >= 0.0) & (stated <= 1.0))
    if bad.any():
        raise DataError(
            f"confidence {stated[bad][0]} is not between 0 and 1. Give shares of samples, or "
            "probabilities."
        )
    if bins < 1 or draws < 1:
        raise ConfigError(f"bins={bins} and draws={draws} must be at least 1.")
    bin_SQ = np.minimum((stated * bins).astype(np.int64), bins - 1)
    found = []
    for index in np.unique(bin_SQ):
        member_SQ = bin_SQ == index
        right_Q, answers_Q = (member_SQ & correct).sum(axis=0), member_SQ.sum(axis=0)
        found.append(
            Bin(
                lowest=float(index / bins),
                highest=float((index + 1) / bins),
                answers=int(answers_Q.sum()),
                confidence=float(stated[member_SQ].mean()),
                accuracy=ratio_interval(right_Q, answers_Q, level),
            )
        )
    chance = generator.random((draws, stated.size)) < stated.reshape(-1)
    return Calibration(
        bins=tuple(found),
        error=float(_error(stated, correct.reshape(1, -1), bin_SQ, bins)[0]),
        error_by_chance=float(_error(stated, chance, bin_SQ, bins).mean()),
        brier=mean_interval(((stated - correct) ** 2).mean(axis=0), level),
        overconfidence=_signed_mean((stated - correct).mean(axis=0), level),
        questions=int(correct.shape[1]),
    )


def _error(stated_SQ: FloatArray, correct_BA: BoolArray, bin_SQ: IntArray, bins: int) -> FloatArray:
    """Return the expected calibration error of each row of outcomes of all answers, shape (B,)."""
    in_bin_AK = np.equal.outer(bin_SQ.reshape(-1), np.arange(bins)).astype(np.float64)
    gap_BK = (stated_SQ.reshape(-1) - correct_BA) @ in_bin_AK
    error_B: FloatArray = np.abs(gap_BK).sum(axis=1) / stated_SQ.size
    return error_B


def _signed_mean(value_Q: FloatArray, level: float) -> Interval:
    """Return the mean of values in -1..1 with Student's interval."""
    half = mean_interval((value_Q + 1.0) / 2.0, level)
    return Interval(*(2.0 * bound - 1.0 for bound in (half.value, half.low, half.high)))
