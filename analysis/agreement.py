"""How far two graders agree.

Owns the share of equal verdicts and Cohen's kappa of two binary verdicts on the same responses,
with intervals over questions: responses to one question are alike, so whole questions are drawn,
not responses.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from attrib.analysis.checks import FloatArray, check_confidence
from attrib.errors import DataError

DRAWS = 2_000


@dataclass(frozen=True, slots=True)
class Agreement:
    """Of two graders on responses that both graded.

    Attributes:
        responses: how many.
        questions: of how many questions.
        observed: share on which they agree.
        observed_low: lower bound of that share; None with a single question, and where they never
            differ or always do, since drawing questions again then shows no spread.
        observed_high: upper bound.
        kappa: Cohen's kappa; None where both give one and the same verdict throughout.
        low: lower bound of kappa; None with it, where that of the share is, and where one grader
            gives one verdict throughout: kappa is then 0 whatever the questions.
        high: upper bound.
    """

    responses: int
    questions: int
    observed: float
    observed_low: float | None
    observed_high: float | None
    kappa: float | None
    low: float | None
    high: float | None


def measure_agreement(
    counts_Q22: npt.ArrayLike, generator: np.random.Generator, confidence: float = 0.95
) -> Agreement:
    """Return agreement and Cohen's kappa with a percentile bootstrap over questions.

    Args:
        counts_Q22: responses of each question by verdict of the first grader (right, wrong) and of
            the second, shape (Q, 2, 2).
        generator: of the bootstrap.
        confidence: two-sided level.

    Raises:
        DataError: the shape is another, a count is negative, or there is no response.

    Source: Cohen (1960), A coefficient of agreement for nominal scales.
    """
    check_confidence(confidence)
    counts = np.asarray(counts_Q22, dtype=np.float64)
    if counts.ndim != 3 or counts.shape[1:] != (2, 2):
        raise DataError(f"Verdicts are counted in the shape (questions, 2, 2), not {counts.shape}.")
    if not (np.isfinite(counts).all() and (counts >= 0).all() and counts.sum() > 0):
        raise DataError("Agreement needs at least one response, and no negative counts.")
    counts = counts[counts.sum(axis=(1, 2)) > 0]
    total_22 = counts.sum(axis=0)
    kappa = float(_kappa(total_22[None])[0])
    observed = float(np.trace(total_22) / total_22.sum())
    observed_low = observed_high = low = high = None
    if 0 < observed < 1 and len(counts) > 1:
        weights_BQ = generator.multinomial(
            len(counts), np.full(len(counts), 1 / len(counts)), size=DRAWS
        )
        total_B22 = np.tensordot(weights_BQ, counts, axes=1)
        tails = [(1 - confidence) / 2, (1 + confidence) / 2]
        agreed_B = np.trace(total_B22, axis1=1, axis2=2) / total_B22.sum(axis=(1, 2))
        observed_low, observed_high = map(float, np.quantile(agreed_B, tails))
        if total_22.sum(axis=0).all() and total_22.sum(axis=1).all():
            low, high = map(float, np.nanquantile(_kappa(total_B22), tails))
    return Agreement(
        responses=int(total_22.sum()),
        questions=len(counts),
        observed=observed,
        observed_low=observed_low,
        observed_high=observed_high,
        kappa=kappa if np.isfinite(kappa) else None,
        low=low,
        high=high,
    )


def _kappa(table_B22: npt.NDArray[np.float64]) -> FloatArray:
    """Return kappa of each table, NaN where agreement by chance is certain."""
    share = table_B22 / table_B22.sum(axis=(1, 2), keepdims=True)
    observed = share[:, 0, 0] + share[:, 1, 1]
    chance = (share.sum(axis=2) * share.sum(axis=1)).sum(axis=1)
    kappa = np.full(len(share), np.nan)
    np.divide(observed - chance, 1 - chance, out=kappa, where=chance < 1)
    return kappa
