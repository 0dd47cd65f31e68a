"""Linear datamodel score: do scores of single examples foretell what training on subsets gives?

Models are trained on A random subsets. The prediction for a subset is the sum of its examples'
scores, the truth is what the model trained on it gained. The score is Spearman's correlation of
both over subsets: 1 where they order the subsets alike, 0 where they have nothing to do with each
other. With a prediction and a truth for each of Q test questions it is the mean over questions.

Source: Park et al. 2023 (TRAK), arXiv 2303.14186, definition 2.3; Ilyas et al. 2022, arXiv
2202.00622. Noise of training lowers it whatever the scores are: it is not to be read as a share of
what could be reached.
"""

from dataclasses import dataclass

import numpy as np
from scipy import stats  # type: ignore[import-untyped, unused-ignore]

from attrib.analysis.checks import FloatArray, check_confidence
from attrib.errors import DataError

LEAST_SUBSETS = 5


@dataclass(frozen=True, slots=True)
class DatamodelScore:
    """A linear datamodel score with its interval over subsets.

    `value`, `low` and `high` are None where every correlation is undefined, because all predictions
    or all truths are equal. `questions` counts the test questions that have one.
    """

    value: float | None
    low: float | None
    high: float | None
    subsets: int
    questions: int


def linear_datamodel_score(
    predicted_A: FloatArray, measured_A: FloatArray, confidence: float = 0.95
) -> DatamodelScore:
    """Return Spearman's correlation over subsets with its interval.

    Args:
        predicted_A: summed scores of each subset, shape (A,).
        measured_A: what a model trained on it gained, shape (A,).
        confidence: of the interval, that of Fisher's transformation with the variance
            (1 + r²/2) / (A - 3) of Bonett and Wright 2000, Psychometrika 65:23.

    Raises:
        DataError: fewer than 5 subsets, or arrays of other shapes.
    """
    subsets = _check(predicted_A[:, None], measured_A[:, None], confidence)
    [r] = _spearman(predicted_A[:, None], measured_A[:, None])
    if np.isnan(r):
        return DatamodelScore(None, None, None, subsets, 0)
    # A perfect order has the interval of the next best one, two neighbours exchanged.
    limit = 1 - 12 / (subsets * (subsets**2 - 1))
    centre = np.arctanh(np.clip(r, -limit, limit))
    reach = stats.norm.ppf(0.5 + confidence / 2) * np.sqrt((1 + r**2 / 2) / (subsets - 3))
    low, high = min(r, np.tanh(centre - reach)), max(r, np.tanh(centre + reach))
    return DatamodelScore(float(r), float(low), float(high), subsets, 1)


def mean_datamodel_score(
    predicted_AQ: FloatArray, measured_AQ: FloatArray, confidence: float = 0.95
) -> DatamodelScore:
    """Return the mean over test questions of Spearman's correlation over subsets.

    Questions whose predictions or truths are all equal are left out. The interval is Student's over
    jackknife pseudo-values, one subset left out at a time; it covers other subsets, not questions.
    Where no correlation is left without some subset, it is from -1 to 1.

    Args:
        predicted_AQ: of each subset and test question, shape (A, Q).
        measured_AQ: likewise.
        confidence: of the interval.

    Raises:
        DataError: fewer than 5 subsets, or arrays of other shapes.
    """
    subsets = _check(predicted_AQ, measured_AQ, confidence)
    r_Q = _spearman(predicted_AQ, measured_AQ)
    kept_Q = ~np.isnan(r_Q)
    if not kept_Q.any():
        return DatamodelScore(None, None, None, subsets, 0)
    value = float(r_Q[kept_Q].mean())
    predicted, measured = predicted_AQ[:, kept_Q], measured_AQ[:, kept_Q]
    without = [
        _spearman(np.delete(predicted, a, 0), np.delete(measured, a, 0)) for a in range(subsets)
    ]
    if any(np.isnan(r_Q).all() for r_Q in without):  # it hangs on a single subset
        return DatamodelScore(value, -1.0, 1.0, subsets, int(kept_Q.sum()))
    left_out_A = np.array([np.nanmean(r_Q) for r_Q in without])
    pseudo_A = subsets * value - (subsets - 1) * left_out_A
    error = float(pseudo_A.std(ddof=1)) / np.sqrt(subsets)
    reach = float(stats.t.ppf(0.5 + confidence / 2, subsets - 1)) * error
    low, high = max(-1.0, value - reach), min(1.0, value + reach)
    return DatamodelScore(value, low, high, subsets, int(kept_Q.sum()))


def _check(predicted_AQ: FloatArray, measured_AQ: FloatArray, confidence: float) -> int:
    check_confidence(confidence)
    if predicted_AQ.shape != measured_AQ.shape or predicted_AQ.ndim != 2:
        raise DataError(
            f"Predictions of shape {predicted_AQ.shape} and measurements of shape "
            f"{measured_AQ.shape} are not of the same subsets and questions."
        )
    if len(predicted_AQ) < LEAST_SUBSETS:
        raise DataError(
            f"{len(predicted_AQ)} subsets order nothing; at least {LEAST_SUBSETS} are needed. "
            "Type: attrib attribute validate --subsets 32"
        )
    return len(predicted_AQ)


def _spearman(first_AQ: FloatArray, second_AQ: FloatArray) -> FloatArray:
    """Return the rank correlation of every column, shape (Q,); ties have their mean rank."""
    ranks = [stats.rankdata(values_AQ, axis=0) for values_AQ in (first_AQ, second_AQ)]
    first, second = (rank - rank.mean(axis=0) for rank in ranks)
    spread_Q = np.sqrt((first**2).sum(axis=0) * (second**2).sum(axis=0))
    product_Q = (first * second).sum(axis=0)
    r_Q = np.full(len(spread_Q), np.nan)
    np.divide(product_Q, spread_Q, out=r_Q, where=spread_Q > 0)
    return r_Q
