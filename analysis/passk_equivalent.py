"""Equivalent attempts: how many before RL are worth one after it.

Owns the k before training whose mean pass@k is the mean pass@1 after, with an interval over
questions. Refuses unpaired counts; where no k up to n is enough, it says so and gives no number.
The paper (arXiv 2605.07153) reports 16 to 32; how it gets there, and whether with an interval, is
not known to us. Here k is a real number, by interpolation in log k.
"""

import math
from dataclasses import dataclass

import numpy as np

from attrib.analysis.checks import FloatArray, IntArray
from attrib.analysis.passk_compare import PairedCounts
from attrib.analysis.resampling import bound_means

# Values of k: every integer at first, then steps of about ln(n)/96 in log k, over which pass@k
# bends by less than 1e-3.
_GRID = 96


@dataclass(frozen=True, slots=True)
class EquivalentAttempts:
    """The k before RL whose pass@k is pass@1 after, with bounds; None, with a reason, where none.

    An open end is None: low below one attempt, high beyond `largest_k`.
    """

    value: float | None
    low: float | None
    high: float | None
    reason: str
    largest_k: int
    questions: int
    confidence: float


def equivalent_attempts(
    counts: PairedCounts,
    generator: np.random.Generator,
    draws: int = 2000,
    confidence: float = 0.95,
) -> EquivalentAttempts:
    """Return how many attempts before RL solve as much as one after it, on average of questions.

    The interval holds the k at which the bootstrap-t interval of pass@k before minus pass@1 after,
    paired on questions, contains zero. Where an end lies beyond n, the study says only "more than
    n": draw more rollouts before RL.

    Args:
        counts: Rollouts of both models; k goes up to the smallest n before.
        generator: Source of the resamples. The order of questions does not change the result.
        draws: Bootstrap resamples, enough for one draw beyond each bound: 2 / (1 - confidence).
        confidence: Two-sided level.

    Raises:
        ConfigError: If `confidence` is outside (0, 1) or `draws` is too small for it.

    Source: arXiv 2605.07153 for the question; the interval inverts a test as Fieller 1954 does,
    J. R. Stat. Soc. B 16:175.
    """
    largest = int(counts.rows()[:, 0].min())
    k_K = np.unique(np.rint(np.geomspace(1, largest, _GRID)).astype(np.int64))
    before_UK, after_U1, count_U = counts.estimate_distinct(k_K, [1])
    lead_UK = before_UK - after_U1
    bounds = bound_means(lead_UK, count_U, -1.0, generator, draws, confidence)
    # The lead of k attempts only grows with k; its bounds nearly so.
    low = _solve(np.maximum.accumulate(bounds.high_K), k_K)
    high = _solve(np.minimum.accumulate(bounds.low_K[::-1])[::-1], k_K)
    estimate = _solve(bounds.mean_K, k_K)
    before_K: FloatArray = count_U @ before_UK / bounds.questions
    after = float((count_U @ after_U1)[0]) / bounds.questions
    reason = ""
    if estimate == math.inf:
        reason = f"{largest} attempts before RL solve {before_K[-1]:.3f}, one after it {after:.3f}"
    elif estimate == -math.inf:
        reason = f"one attempt solves {before_K[0]:.3f} before RL and {after:.3f} after it"
    return EquivalentAttempts(
        value=estimate if math.isfinite(estimate) else None,
        low=None if low == -math.inf else min(low, float(largest)),
        high=None if high == math.inf else max(high, 1.0),
        reason=reason,
        largest_k=largest,
        questions=bounds.questions,
        confidence=confidence,
    )


def _solve(lead_K: FloatArray, k_K: IntArray) -> float:
    """Return the smallest k at which a lead that never falls is not negative.

    -inf where it is positive from the first k on, inf where it is negative at the last.
    """
    if lead_K[0] > 1e-12:
        return -math.inf
    # Rounding must not push a lead of zero below it.
    reached = np.flatnonzero(lead_K >= -1e-12)
    if reached.size == 0:
        return math.inf
    over = int(reached[0])
    if over == 0:
        return 1.0
    part = -lead_K[over - 1] / (lead_K[over] - lead_K[over - 1])
    log_k_K = np.log(k_K[[over - 1, over]])
    return float(np.exp(log_k_K[0] + min(part, 1.0) * (log_k_K[1] - log_k_K[0])))
