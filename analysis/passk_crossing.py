"""Where the pass@k curves of two models cross, and whether a study can say that they do.

Owns the crossing point with its interval, the verdict, and the sentence that puts the study's power
before it. Refuses one k alone, which has no crossing. Reinforcement learning is often said to win
at k = 1 and to lose at large k (arXiv 2504.13837); that claim is about two differences, of which
the second is where both curves are near 1 and few questions decide.

A crossing is called shown only if the band of `analysis.passk_compare`, which holds at all k at
once, excludes zero at two k with opposite signs: whatever the curves, at most 1 - confidence of
studies show one that is not there. No crossing is called shown only if the band rules out, at
every k, that one of the models is ahead by more than a difference stated beforehand. All else is
"cannot tell", and the smallest difference that the study would have seen says how little that is.
"""

import math
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
import numpy.typing as npt

from attrib.analysis.checks import FloatArray, IntArray, check_integers
from attrib.analysis.passk_compare import PairedCounts, PassComparison, compare_pass_at_k
from attrib.errors import ConfigError, DataError


class CrossingVerdict(StrEnum):
    """What a study says about a crossing of two pass@k curves."""

    SHOWN = "crossing shown"
    """The band excludes zero with opposite signs at a smaller and a larger k."""
    NONE = "no crossing shown"
    """One model is nowhere ahead by more than the relevant difference."""
    UNKNOWN = "cannot tell"
    """Neither: the study is too small for these curves."""


@dataclass(frozen=True, slots=True, eq=False)
class Crossing:
    """The verdict on a crossing, what it rests on, and the k beyond which `before` stays ahead.

    Read `detectable_difference` first: the smallest true difference at the largest k that such a
    study would see with 80 % power; None where it would see none. `smaller_k` and `larger_k` are
    neighbours among the k at which a sign is shown, with opposite ones; None unless a crossing is.

    `attempts` is the estimated k beyond which the model before stays ahead; None where that is at
    no k, or at every k. Its bounds are None where they are open: low below the smallest k, high
    beyond the largest. They hold for that point whatever the verdict; an open high end means that
    there may be none. For the other direction exchange the models.
    """

    verdict: CrossingVerdict
    detectable_difference: float | None
    relevant_difference: float
    smaller_k: int | None
    larger_k: int | None
    attempts: float | None
    attempts_low: float | None
    attempts_high: float | None
    comparison: PassComparison

    @property
    def statement(self) -> str:
        """Say what the study could see, then what it saw."""
        k, questions = int(self.comparison.k_K.max()), self.comparison.questions
        power = (
            f"{questions} questions show no difference within 1 at k={k} with 80 % power"
            if self.detectable_difference is None
            else f"{questions} questions show a difference of {self.detectable_difference:.3f} or "
            f"more at k={k} with 80 % power"
        )
        if self.verdict is CrossingVerdict.SHOWN:
            return f"{power}. {self.verdict}: between k={self.smaller_k} and k={self.larger_k}."
        if self.verdict is CrossingVerdict.NONE:
            return f"{power}. {self.verdict}: none by more than {self.relevant_difference:g}."
        return f"{power}. {self.verdict}."


def find_crossing(
    counts: PairedCounts,
    k_K: npt.ArrayLike,
    generator: np.random.Generator,
    relevant_difference: float = 0.02,
    draws: int = 2000,
    confidence: float = 0.95,
) -> Crossing:
    """Return where the two curves of mean pass@k cross, and whether a crossing is shown.

    Between two k the difference is taken to be linear in log k, so give k densely: powers of two at
    least. The interval holds the k at which the one-k interval of the difference contains zero.

    Args:
        counts: Rollouts of both models.
        k_K: Numbers of attempts, shape (K,), two at least, between 1 and the smallest n of both.
        generator: Source of the resamples. The order of questions does not change the result.
        relevant_difference: How far ahead a model may be without that being called a crossing.
        draws: Bootstrap resamples, as in `compare_pass_at_k`.
        confidence: Two-sided level, of the band and of the interval.

    Raises:
        DataError: If fewer than two k are given, or one is below 1 or above n.
        ConfigError: If `confidence` is outside (0, 1), `draws` is too small for it, or
            `relevant_difference` is outside (0, 1).

    Source: the band, see `compare_pass_at_k`; the interval inverts a test as Fieller 1954 does.
    """
    if not 0.0 < relevant_difference < 1.0:
        raise ConfigError(
            f"relevant_difference is {relevant_difference}; it is a fraction between 0 and 1. "
            "Give 0.02."
        )
    k = np.unique(check_integers(k_K, "k_K"))
    if k.size < 2:
        raise DataError(f"k_K holds only k={k[0]}; a crossing needs two. Give 1, 2, 4, … n.")
    comparison = compare_pass_at_k(counts, k, generator, draws, confidence)
    verdict, smaller_k, larger_k = _judge(comparison, relevant_difference)
    detectable = float(comparison.detectable_K[-1])
    return Crossing(
        verdict=verdict,
        detectable_difference=detectable if math.isfinite(detectable) else None,
        relevant_difference=relevant_difference,
        smaller_k=smaller_k,
        larger_k=larger_k,
        attempts=_find_turn(comparison.difference_K, k),
        attempts_low=_find_turn(comparison.low_K, k, end=float(k[-1])),
        attempts_high=_find_high(comparison, k),
        comparison=comparison,
    )


def _judge(
    comparison: PassComparison, relevant_difference: float
) -> tuple[CrossingVerdict, int | None, int | None]:
    """Return the verdict, and the closest pair of k with opposite signs if one is shown."""
    up_K, down_K = comparison.band_low_K > 0.0, comparison.band_high_K < 0.0
    if up_K.any() and down_K.any():
        shown = np.flatnonzero(up_K | down_K)
        turn = int(np.flatnonzero(np.diff(up_K[shown].astype(np.int64)))[0])
        smaller_k, larger_k = comparison.k_K[shown[turn : turn + 2]].tolist()
        return CrossingVerdict.SHOWN, smaller_k, larger_k
    never_behind = bool((comparison.band_low_K > -relevant_difference).all())
    never_ahead = bool((comparison.band_high_K < relevant_difference).all())
    none = never_behind or never_ahead
    return (CrossingVerdict.NONE if none else CrossingVerdict.UNKNOWN), None, None


def _find_turn(curve_K: FloatArray, k_K: IntArray, end: float | None = None) -> float | None:
    """Return the k at which a curve is positive for the last time, by interpolation in log k.

    None where it is positive nowhere, `end` where it is at the last k that differs from zero.
    """
    sign_K = np.where(np.abs(curve_K) <= 1e-12, 0.0, np.sign(curve_K))
    positive = np.flatnonzero(sign_K > 0.0)
    if positive.size == 0:
        return None
    last = int(positive[-1])
    later_K = sign_K[last + 1 :]
    if not (later_K < 0.0).any():
        return end
    # Touching zero is not crossing it: the turn is before the first k on the other side.
    over = last + 1 + int(np.flatnonzero(later_K < 0.0)[0])
    under = over - 1
    part = max(curve_K[under], 0.0) / (max(curve_K[under], 0.0) - curve_K[over])
    return float(np.exp(np.log(k_K[under]) + part * np.log(k_K[over] / k_K[under])))


def _find_high(comparison: PassComparison, k_K: IntArray) -> float | None:
    """Return the k from which the model before is shown ahead at each k by itself, None if none."""
    shown = np.flatnonzero(comparison.high_K < 0.0)
    ahead = np.flatnonzero(comparison.low_K > 0.0)
    first_allowed = int(ahead[-1]) + 1 if ahead.size else 0
    shown = shown[shown >= first_allowed]
    if shown.size == 0:
        return None
    over = int(shown[0])
    if over == 0:
        return float(k_K[0])
    under, low, high = over - 1, comparison.high_K[over], comparison.high_K[over - 1]
    part = high / (high - low)
    return float(np.exp(np.log(k_K[under]) + part * np.log(k_K[over] / k_K[under])))
