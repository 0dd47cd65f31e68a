"""How well scores tell two kinds of examples apart: the area under the ROC curve.

It is the probability that an example of the first kind scores higher than one of the second, ties
counted half.
"""

import numpy as np
from scipy import stats  # type: ignore[import-untyped, unused-ignore]

from attrib.analysis.checks import FloatArray, check_confidence
from attrib.analysis.intervals import Interval, wilson_bounds
from attrib.errors import DataError


def area_under_curve(
    score_P: FloatArray, score_N: FloatArray, confidence: float = 0.95
) -> Interval:
    """Return the area with its interval.

    The variance is that of DeLong et al. 1988, Biometrics 44:837; the interval is symmetric on the
    scale of the log odds, which keeps it within 0 and 1. Where that variance is 0, as with kinds
    that do not overlap, it is Wilson's for as many examples as the smaller kind has.

    Args:
        score_P: of the kind that ought to score high, shape (P,).
        score_N: of the other kind, shape (N,).
        confidence: of the interval.

    Raises:
        DataError: a kind has fewer than 2 examples.
    """
    check_confidence(confidence)
    smaller = min(len(score_P), len(score_N))
    if smaller < 2:
        raise DataError(
            f"Kinds of {len(score_P)} and {len(score_N)} examples cannot be told apart; each needs "
            "at least 2."
        )
    wins_PN = (score_P[:, None] > score_N) + 0.5 * (score_P[:, None] == score_N)
    area = float(wins_PN.mean())
    variance = float(
        wins_PN.mean(axis=1).var(ddof=1) / len(score_P)
        + wins_PN.mean(axis=0).var(ddof=1) / len(score_N)
    )
    if variance == 0.0 or area in (0.0, 1.0):
        bounds = wilson_bounds(np.array([area]), smaller, confidence)
        return Interval(area, float(bounds.low_Q[0]), float(bounds.high_Q[0]))
    centre = np.log(area / (1 - area))
    reach = stats.norm.ppf(0.5 + confidence / 2) * np.sqrt(variance) / (area * (1 - area))
    low, high = (1 / (1 + np.exp(-(centre + side * reach))) for side in (-1, 1))
    return Interval(area, float(low), float(high))
