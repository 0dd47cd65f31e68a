"""Pass@k of two models on the same questions.

Owns the counts of a paired study, the difference of mean pass@k at every k with two intervals over
questions, one for a k chosen beforehand and one that holds at all k at once, and the differences
that the study could have seen. Refuses unpaired counts and k above the n of any question of either
model. The paper (arXiv 2605.07153) draws both curves; whether it gives intervals of their
difference is not known to us.

Both intervals are bootstrap-t over questions, each with both models' rollouts
(`analysis.resampling` has the method). Measured with 32 and 128 rollouts, 60 questions and more:
93 to 98 % coverage of either, 99 % where hardly a question differs. If one question in twenty makes
the difference, with a large change, 60 questions hold three of them: coverage falls to 88 %, and
with 20 questions to 79 %. No interval can know of what was not drawn.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy import special  # type: ignore[import-untyped, unused-ignore]

from attrib.analysis.checks import (
    FloatArray,
    IntArray,
    check_attempts,
    check_counts,
)
from attrib.analysis.passk import pass_at_k
from attrib.analysis.resampling import bound_means
from attrib.errors import DataError

_POWER = 0.8


class DistinctPairs(NamedTuple):
    """Pass@k of the distinct questions of a paired study, and how many there are of each."""

    before_UK: FloatArray
    after_UK: FloatArray
    count_U: IntArray


@dataclass(frozen=True, slots=True, eq=False)
class PairedCounts:
    """Graded and correct rollouts of two models on the same questions, arrays of shape (Q,).

    Numbers of rollouts may differ between questions and between models.

    Raises:
        DataError: If counts are malformed or the models have different numbers of questions.
    """

    n_before_Q: npt.ArrayLike
    correct_before_Q: npt.ArrayLike
    n_after_Q: npt.ArrayLike
    correct_after_Q: npt.ArrayLike

    def __post_init__(self) -> None:
        """Refuse counts that are malformed or not paired."""
        before = check_counts(self.n_before_Q, self.correct_before_Q)[0].size
        after = check_counts(self.n_after_Q, self.correct_after_Q)[0].size
        if before != after:
            raise DataError(
                f"before and after have {before} and {after} questions; the comparison is paired. "
                "Give the same questions in the same order."
            )

    def rows(self) -> IntArray:
        """Return n and c before, n and c after, shape (Q, 4)."""
        before = check_counts(self.n_before_Q, self.correct_before_Q)
        after = check_counts(self.n_after_Q, self.correct_after_Q)
        return np.stack([*before, *after], axis=1)

    def estimate_distinct(
        self, before_k_K: npt.ArrayLike, after_k_K: npt.ArrayLike
    ) -> DistinctPairs:
        """Return pass@k of each distinct question, sorted, so that order cannot matter.

        Args:
            before_k_K: Attempts of the model before, shape (K,).
            after_k_K: Attempts of the model after, shape (K',).

        Raises:
            DataError: If a k is below 1 or above the n of any question of its model.
        """
        rows_Q4 = self.rows()
        before_k = check_attempts(before_k_K, rows_Q4[:, 0])
        after_k = check_attempts(after_k_K, rows_Q4[:, 2])
        rows_U4, count_U = np.unique(rows_Q4, axis=0, return_counts=True)
        return DistinctPairs(
            pass_at_k(rows_U4[:, 0], rows_U4[:, 1], before_k),
            pass_at_k(rows_U4[:, 2], rows_U4[:, 3], after_k),
            count_U.astype(np.int64),
        )


@dataclass(frozen=True, slots=True, eq=False)
class PassComparison:
    """Mean pass@k before and after, and after minus before; arrays of shape (K,), fractions.

    `low_K` and `high_K` hold at one k chosen before looking; `band_low_K` and `band_high_K` hold at
    all k together. `detectable_K` is the smallest true difference at each k for which such a study
    has an 80 % chance that its band excludes zero, at the spread these questions show;
    infinite where no difference within 1 would do, or the questions show no spread.
    """

    k_K: IntArray
    before_K: FloatArray
    after_K: FloatArray
    difference_K: FloatArray
    low_K: FloatArray
    high_K: FloatArray
    band_low_K: FloatArray
    band_high_K: FloatArray
    detectable_K: FloatArray
    questions: int
    confidence: float


def compare_pass_at_k(
    counts: PairedCounts,
    k_K: npt.ArrayLike,
    generator: np.random.Generator,
    draws: int = 2000,
    confidence: float = 0.95,
) -> PassComparison:
    """Return the difference of mean pass@k at each k, paired on questions.

    Only questions are resampled, for the reason given in `mean_pass_at_k`.

    Args:
        counts: Rollouts of both models.
        k_K: Numbers of attempts, shape (K,), each between 1 and the smallest n of both.
        generator: Source of the resamples. The order of questions does not change the result.
        draws: Bootstrap resamples, enough for one draw beyond each bound: 2 / (1 - confidence).
        confidence: Two-sided level.

    Raises:
        DataError: If a k is below 1 or above the n of any question.
        ConfigError: If `confidence` is outside (0, 1) or `draws` is too small for it.

    Source: see `analysis.resampling.bound_means`; the estimator, arXiv 2107.03374, eq. 1.
    """
    before_UK, after_UK, count_U = counts.estimate_distinct(k_K, k_K)
    bounds = bound_means(after_UK - before_UK, count_U, -1.0, generator, draws, confidence)
    questions = bounds.questions
    reach_K = bounds.critical_K + special.ndtri(_POWER) / questions**0.5
    # An infinite reach times no spread is no number, and as little detectable.
    with np.errstate(invalid="ignore"):
        detectable_K = reach_K * bounds.deviation_K
    return PassComparison(
        k_K=np.asarray(k_K, np.int64),
        before_K=np.minimum(count_U @ before_UK / questions, 1.0),
        after_K=np.minimum(count_U @ after_UK / questions, 1.0),
        difference_K=bounds.mean_K,
        low_K=bounds.low_K,
        high_K=bounds.high_K,
        band_low_K=bounds.band_low_K,
        band_high_K=bounds.band_high_K,
        detectable_K=np.where(detectable_K <= 1.0, detectable_K, np.inf),
        questions=questions,
        confidence=confidence,
    )
