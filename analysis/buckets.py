"""Difficulty buckets: questions sorted by how many of their rollouts are correct.

Owns the five buckets, their cuts and the table of how questions fall into them. Refuses the default
cuts below n = 16, where rarely-correct cannot occur, and counts outside 0..n. The paper (arXiv
2605.07153) defines only the first bucket, questions never answered correctly; the other four and
their cuts are ours. Never-correct means c = 0 of n, not impossible: `never_correct_bound` says how
large p may still be.
"""

import math
from dataclasses import dataclass
from enum import StrEnum
from fractions import Fraction

import numpy as np
import numpy.typing as npt

from attrib.analysis.checks import IntArray, check_confidence, check_counts, check_rollouts
from attrib.errors import ConfigError, DataError

# A cut is read as the simplest fraction near the float, so that 1/3 of 48 is 16 and not 15.999….
_LARGEST_DENOMINATOR = 1_000_000


class Bucket(StrEnum):
    """Difficulty class of a question by c correct of n rollouts, hardest first."""

    NEVER_CORRECT = "never-correct"
    """No rollout is correct: c = 0."""
    RARELY_CORRECT = "rarely-correct"
    """At least one, at most n/16 by default."""
    SOMETIMES_CORRECT = "sometimes-correct"
    """More than n/16, at most n/2 by default."""
    MOSTLY_CORRECT = "mostly-correct"
    """More than n/2 by default, but not all."""
    ALWAYS_CORRECT = "always-correct"
    """Every rollout is correct: c = n."""


@dataclass(frozen=True, slots=True)
class Cuts:
    """Upper ends of the second and third bucket as fractions of n, both inclusive.

    Raises:
        ConfigError: Unless 0 < rarely < sometimes < 1.
    """

    rarely: float = 1 / 16
    sometimes: float = 1 / 2

    def __post_init__(self) -> None:
        """Refuse cuts that are out of order."""
        if not 0.0 < self.rarely < self.sometimes < 1.0:
            raise ConfigError(
                f"cuts are rarely={self.rarely}, sometimes={self.sometimes}; they need "
                "0 < rarely < sometimes < 1. Give for example rarely=0.0625, sometimes=0.5."
            )


DEFAULT_CUTS = Cuts()
FEWEST_FOR_DEFAULTS = math.ceil(1 / DEFAULT_CUTS.rarely)  # rollouts, with these cuts


@dataclass(frozen=True, slots=True)
class BucketRow:
    """One line of the bucket table.

    `share_of_questions` is a fraction of all questions; `mean_correct_rate` is the mean of c/n over
    the bucket's questions, None where it has none.
    """

    bucket: Bucket
    questions: int
    share_of_questions: float
    mean_correct_rate: float | None


def assign_buckets(
    n_Q: npt.ArrayLike, correct_Q: npt.ArrayLike, cuts: Cuts | None = None
) -> npt.NDArray[np.str_]:
    """Return the bucket of each question.

    Args:
        n_Q: Graded rollouts of each question, shape (Q,); may differ between questions.
        correct_Q: Correct rollouts of each question, shape (Q,).
        cuts: Where buckets end; None takes `DEFAULT_CUTS` and refuses n below 16.

    Returns:
        Bucket names, shape (Q,); each compares equal to a `Bucket`.

    Raises:
        DataError: If the counts are malformed (shape, dtype, n < 1, c < 0, c > n).
        ConfigError: If `cuts` is None and some n is below 16.
    """
    n, correct = check_counts(n_Q, correct_Q)
    if cuts is None:
        cuts = DEFAULT_CUTS
        if n.min() < FEWEST_FOR_DEFAULTS:
            raise ConfigError(
                f"n is {n.min()} in row {int(np.argmin(n))}; rarely-correct cannot occur below "
                f"n={FEWEST_FOR_DEFAULTS} with the default cuts. Sample {FEWEST_FOR_DEFAULTS} "
                "rollouts or more, or give cuts."
            )
    # Each comparison that holds moves a question one bucket up; the first and last are exact
    # counts.
    position_Q = (
        (correct > 0).astype(np.int64)
        + ((correct > 0) & _is_above(correct, n, cuts.rarely))
        + ((correct > 0) & _is_above(correct, n, cuts.sometimes))
    )
    position_Q[correct == n] = len(Bucket) - 1
    return np.array([bucket.value for bucket in Bucket])[position_Q]


def never_correct_bound(n: int, confidence: float = 0.95) -> float:
    """Return the one-sided upper bound of p after 0 correct of n rollouts.

    Args:
        n: Graded rollouts, all incorrect, at least 1.
        confidence: One-sided level.

    Returns:
        The p at which 0 of n has probability 1 - confidence; about 3/n at 95 %.

    Raises:
        DataError: If n is below 1.
        ConfigError: If `confidence` is outside (0, 1).

    Source: Clopper & Pearson 1934, one-sided: 1 - (1 - confidence)^(1/n).
    """
    check_confidence(confidence)
    check_rollouts(n)
    return -math.expm1(math.log1p(-confidence) / n)


def bucket_table(
    bucket_Q: npt.ArrayLike, n_Q: npt.ArrayLike, correct_Q: npt.ArrayLike
) -> list[BucketRow]:
    """Return one row for each of the five buckets, hardest first, empty ones included.

    Args:
        bucket_Q: Bucket names as `assign_buckets` gives them, shape (Q,).
        n_Q: Graded rollouts of each question, shape (Q,).
        correct_Q: Correct rollouts of each question, shape (Q,).

    Raises:
        DataError: If the counts are malformed, lengths differ, or a name is not a bucket.
    """
    n, correct = check_counts(n_Q, correct_Q)
    name_Q = np.asarray(bucket_Q)
    if name_Q.shape != n.shape:
        raise DataError(
            f"bucket_Q has shape {name_Q.shape} for {n.size} questions. "
            "Give the array that assign_buckets returns for them."
        )
    unknown_Q = ~np.isin(name_Q.astype(np.str_), [bucket.value for bucket in Bucket])
    if unknown_Q.any():
        raise DataError(
            f"'{name_Q[unknown_Q][0]}' is not a bucket. Use one of: {', '.join(Bucket)}."
        )
    rate_Q = correct / n
    rows = []
    for bucket in Bucket:
        member_Q = name_Q == bucket
        questions = int(np.count_nonzero(member_Q))
        rows.append(
            BucketRow(
                bucket=bucket,
                questions=questions,
                share_of_questions=questions / n.size,
                mean_correct_rate=float(rate_Q[member_Q].mean()) if questions else None,
            )
        )
    return rows


def _is_above(correct_Q: IntArray, n_Q: IntArray, cut: float) -> npt.NDArray[np.bool_]:
    """Return whether c > n·cut, compared in whole numbers."""
    fraction = Fraction(cut).limit_denominator(_LARGEST_DENOMINATOR)
    above: npt.NDArray[np.bool_] = correct_Q * fraction.denominator > n_Q * fraction.numerator
    return above
