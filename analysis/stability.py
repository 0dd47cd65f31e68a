"""Would the same questions land in the same bucket again?

Owns three answers: split-half agreement, counted from the observed rollouts without a prior; the
chance of the same bucket in a fresh draw, with the regression of each bucket's rate to the mean;
and who joins never-correct where its cut is raised. Refuses halves too small for the cuts. The
paper (arXiv 2605.07153) sorts once and reports no stability.

Halves have n/2 rollouts, so split-half agreement is that of shorter draws, and its buckets are
those of n/2.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import special  # type: ignore[import-untyped, unused-ignore]

from attrib.analysis.buckets import DEFAULT_CUTS, Bucket, Cuts, assign_buckets
from attrib.analysis.checks import BoolArray, FloatArray, IntArray, check_integers
from attrib.analysis.intervals import Interval, mean_interval
from attrib.analysis.membership import fresh_chances, mean_rates
from attrib.analysis.prior import Prior, PriorFit, tally_counts
from attrib.analysis.profile import ProfileInterval, profile_interval
from attrib.errors import ConfigError, DataError

# Of each pair, given the prior: shapes (U,), (U,) -> (U,).
_Fraction = Callable[[Prior, IntArray, IntArray], FloatArray]


@dataclass(frozen=True, slots=True, eq=False)
class SplitHalf:
    """Agreement of buckets between random halves of each question's rollouts.

    `agreement` is the expected share of questions in one bucket in both halves, its bounds over
    questions. `expected_55` is the expected number of questions by bucket in either half,
    symmetric, shape (5, 5) in the order of `Bucket`. `kappa` is agreement beyond chance, None where
    one bucket holds all.
    """

    agreement: Interval
    kappa: float | None
    expected_55: FloatArray
    questions: int


@dataclass(frozen=True, slots=True)
class StabilityRow:
    """One bucket in a fresh draw of as many rollouts; None where it has no question.

    `stays` is the chance that one of its questions falls in it again. `observed_rate` is its mean
    c/n, `fresh_rate` the mean that a fresh draw of the same questions is expected to have: the
    difference is regression to the mean.
    """

    bucket: Bucket
    questions: int
    stays: ProfileInterval | None
    observed_rate: float | None
    fresh_rate: ProfileInterval | None


@dataclass(frozen=True, slots=True)
class CutRow:
    """Never-correct redefined as at most `most_correct` correct.

    `joining` are the questions that it takes in beyond c = 0; `joining_rate` and `rate` are the
    expected p of those and of all `questions` under the cut, None where there are none.
    """

    most_correct: int
    questions: int
    joining: int
    joining_rate: ProfileInterval | None
    rate: ProfileInterval | None


def split_half(
    n_Q: npt.ArrayLike,
    correct_Q: npt.ArrayLike,
    cuts: Cuts | None = None,
    confidence: float = 0.95,
) -> SplitHalf:
    """Return how often two random halves of a question's rollouts agree on its bucket.

    Exact: one half has k of the c correct rollouts with hypergeometric probability, the other the
    rest. Of an odd n one random rollout is left out.

    Args:
        n_Q: Graded rollouts of each question, shape (Q,), at least 2.
        correct_Q: Correct rollouts of each question, shape (Q,).
        cuts: Where buckets end; None takes the default cuts, which need halves of 16.
        confidence: Two-sided level.

    Raises:
        DataError: If the counts are malformed or some n is 1.
        ConfigError: If a half is below 16 and `cuts` is None, or `confidence` is outside (0, 1).
    """
    tally = tally_counts(n_Q, correct_Q)
    least = int(tally.n_U.min())
    if least < 2:
        raise DataError(f"n is {least}; it has no halves. Sample at least 2 rollouts.")
    if cuts is None and least // 2 < 1 / DEFAULT_CUTS.rarely:
        raise ConfigError(
            f"n is {least}, a half is {least // 2}; the default cuts need halves of "
            f"{1 / DEFAULT_CUTS.rarely:.0f}. Sample {2 / DEFAULT_CUTS.rarely:.0f} rollouts or more,"
            " or give cuts."
        )
    joint_U55 = np.stack(
        [
            _joint_halves(int(n), int(correct), cuts)
            for n, correct in zip(tally.n_U, tally.correct_U, strict=True)
        ]
    )
    same_U = np.minimum(np.trace(joint_U55, axis1=1, axis2=2), 1.0)
    expected_55 = np.tensordot(tally.questions_U, joint_U55, axes=1)
    agreement = mean_interval(same_U[tally.pair_Q], confidence)
    margin_5 = expected_55.sum(axis=1) / tally.questions
    chance = float(margin_5 @ margin_5)
    kappa = None if chance > 1.0 - 1e-12 else (agreement.value - chance) / (1.0 - chance)
    return SplitHalf(agreement, kappa, expected_55, tally.questions)


def fresh_stability(
    fit: PriorFit, cuts: Cuts | None = None, confidence: float = 0.95
) -> list[StabilityRow]:
    """Return for each bucket how its questions fare in a fresh draw of their own n.

    Args:
        fit: The prior and its counts, from `fit_prior`.
        cuts: Where buckets end, as for `assign_buckets`.
        confidence: Two-sided level; the bounds are those of the prior's parameters.

    Returns:
        One row for each of the five buckets, hardest first.

    Raises:
        ConfigError: If `cuts` is None and some n is below 16, or `confidence` is outside (0, 1).
    """
    tally = fit.tally
    name_U = assign_buckets(tally.n_U, tally.correct_U, cuts)
    rows = []
    for bucket in Bucket:
        member_U = name_U == bucket
        questions = int(tally.questions_U[member_U].sum())
        if questions == 0:
            rows.append(StabilityRow(bucket, 0, None, None, None))
            continue

        again = _chance_again(tally.n_U[member_U], tally.correct_U[member_U], cuts)
        rows.append(
            StabilityRow(
                bucket,
                questions,
                _mean_over(fit, member_U, again, confidence),
                _observed_rate(fit, member_U),
                _mean_over(fit, member_U, mean_rates, confidence),
            )
        )
    return rows


def move_never_correct_cut(
    fit: PriorFit, most_correct_T: npt.ArrayLike = (0, 1, 2, 4), confidence: float = 0.95
) -> list[CutRow]:
    """Return who belongs to never-correct where it is c ≤ t, and the p to expect of them.

    Args:
        fit: The prior and its counts, from `fit_prior`.
        most_correct_T: Cuts t, shape (T,), whole numbers of at least 0, below the smallest n.
        confidence: Two-sided level; the bounds are those of the prior's parameters.

    Returns:
        One row a cut, in the order given. With several n, t is the same count at each.

    Raises:
        DataError: If a cut is negative, not whole, or not below the smallest n.
        ConfigError: If `confidence` is outside (0, 1).
    """
    cuts = check_integers(most_correct_T, "most_correct_T")
    tally = fit.tally
    least = int(tally.n_U.min())
    bad = (cuts < 0) | (cuts >= least)
    if bad.any():
        raise DataError(
            f"cut {cuts[bad][0]} is not between 0 and {least - 1}, one below the smallest n. "
            "Drop it from most_correct_T."
        )
    rows = []
    for most_correct in cuts.tolist():
        under_U = tally.correct_U <= most_correct
        joining_U = under_U & (tally.correct_U > 0)
        rows.append(
            CutRow(
                most_correct,
                int(tally.questions_U[under_U].sum()),
                int(tally.questions_U[joining_U].sum()),
                _mean_over(fit, joining_U, mean_rates, confidence),
                _mean_over(fit, under_U, mean_rates, confidence),
            )
        )
    return rows


def _chance_again(n_U: IntArray, correct_U: IntArray, cuts: Cuts | None) -> _Fraction:
    """Return the chance of the same bucket again, as a function of the prior.

    Which fresh counts fall in a question's bucket does not depend on the prior, so the C cells
    (pair, fresh count) are listed once; pairs are all of one bucket.
    """
    fresh = {int(n): np.arange(n + 1) for n in np.unique(n_U)}
    position_U = np.array(
        [_positions(int(n), c[None], cuts)[0] for n, c in zip(n_U, correct_U, strict=True)]
    )
    position_K = {n: _positions(n, k_K, cuts) for n, k_K in fresh.items()}
    same = [np.flatnonzero(position_K[int(n)] == at) for n, at in zip(n_U, position_U, strict=True)]
    pair_C = np.repeat(np.arange(n_U.size), [k.size for k in same])
    k_C = np.concatenate(same)

    def again(prior: Prior, n_U: IntArray, correct_U: IntArray) -> FloatArray:
        n_C = n_U[pair_C]
        chance_C = fresh_chances(prior, n_C, correct_U[pair_C], n_C, k_C)
        return np.bincount(pair_C, weights=chance_C, minlength=n_U.size).astype(np.float64)

    return again


def _joint_halves(n: int, correct: int, cuts: Cuts | None) -> FloatArray:
    """Return P(bucket of one half, bucket of the other) for c of n, symmetric, shape (5, 5)."""
    half = n // 2
    joint_55 = np.zeros((len(Bucket), len(Bucket)))
    # An odd n leaves one rollout out, correct with probability c/n.
    parts = [(correct, 1.0)]
    if n % 2:
        parts = [(correct, (n - correct) / n), (correct - 1, correct / n)]
    for kept, weight in parts:
        if weight == 0.0:
            continue
        k = np.arange(max(0, kept - half), min(half, kept) + 1)
        ways_K = _log_choose(half, k) + _log_choose(half, kept - k)
        chance_K = np.exp(ways_K - ways_K.max())
        chance_K *= weight / chance_K.sum()
        one_K, other_K = _positions(half, k, cuts), _positions(half, kept - k, cuts)
        np.add.at(joint_55, (one_K, other_K), chance_K)
    return joint_55


def _positions(n: int, correct_K: IntArray, cuts: Cuts | None) -> IntArray:
    """Return the position in `Bucket` of each count of n."""
    names = np.array([bucket.value for bucket in Bucket])
    name_K = assign_buckets(np.full(correct_K.size, n), correct_K, cuts)
    position_K: IntArray = np.argmax(name_K[:, None] == names, axis=1).astype(np.int64)
    return position_K


def _log_choose(n: int, k_K: IntArray) -> FloatArray:
    """Return log C(n, k)."""
    value_K: FloatArray = -special.betaln(k_K + 1.0, n - k_K + 1.0) - np.log1p(n)
    return value_K


def _observed_rate(fit: PriorFit, member_U: BoolArray) -> float:
    """Return the mean c/n over the questions of these pairs."""
    rate_U = fit.tally.correct_U[member_U] / fit.tally.n_U[member_U]
    return float(np.average(rate_U, weights=fit.tally.questions_U[member_U]))


def _mean_over(
    fit: PriorFit,
    member_U: BoolArray,
    fraction: _Fraction,
    confidence: float,
) -> ProfileInterval | None:
    """Return the mean over these questions of a fraction, with bounds; None where there is none."""
    if not member_U.any():
        return None
    n_U, correct_U = fit.tally.n_U[member_U], fit.tally.correct_U[member_U]
    weight_U = fit.tally.questions_U[member_U] / fit.tally.questions_U[member_U].sum()
    return profile_interval(
        fit,
        lambda prior: float(weight_U @ fraction(prior, n_U, correct_U)),
        (0.0, 1.0),
        confidence=confidence,
    )
