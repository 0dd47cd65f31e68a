"""Argument checks shared by the modules of this package.

Owns the wording of the refusals: every function of the package states its shapes, and these helpers
hold them to it. Refuses counts that are not whole numbers, c outside 0..n, k outside 1..n, empty
input, outcomes that are not boolean and confidence levels outside (0, 1). The paper has no
counterpart.
"""

import math

import numpy as np
import numpy.typing as npt

from attrib.errors import ConfigError, DataError

BoolArray = npt.NDArray[np.bool_]
FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]


def check_confidence(confidence: float) -> None:
    """Refuse a confidence level that is not strictly between 0 and 1.

    Args:
        confidence: Two-sided level as a fraction, 0.95 for 95 %.

    Raises:
        ConfigError: If it is outside (0, 1) or NaN.
    """
    if not 0.0 < confidence < 1.0:
        raise ConfigError(
            f"confidence is {confidence}; it is a fraction strictly between 0 and 1. Give 0.95."
        )


def check_integers(values_Q: npt.ArrayLike, name: str) -> IntArray:
    """Return a non-empty, one-dimensional array of whole numbers as int64.

    Args:
        values_Q: Whole numbers, shape (Q,), any integer dtype.
        name: What the caller calls the array, for the message.

    Raises:
        DataError: If it is empty, not one-dimensional or not of an integer dtype.
    """
    array_Q = np.asarray(values_Q)
    if array_Q.ndim != 1:
        raise DataError(
            f"{name} has shape {array_Q.shape}; it needs one dimension. Give one number a row."
        )
    if array_Q.size == 0:
        raise DataError(f"{name} is empty. Give at least one value.")
    if array_Q.dtype.kind not in "iu":
        raise DataError(
            f"{name} holds {array_Q.dtype} values; counts are whole numbers. "
            f"Convert with {name}.astype(int)."
        )
    return array_Q.astype(np.int64)


def check_counts(n_Q: npt.ArrayLike, correct_Q: npt.ArrayLike) -> tuple[IntArray, IntArray]:
    """Return n and c per question as int64 after checking 0 ≤ c ≤ n and n ≥ 1.

    Args:
        n_Q: Graded rollouts of each question, shape (Q,).
        correct_Q: Correct rollouts of each question, shape (Q,).

    Raises:
        DataError: If shapes differ, input is empty, dtypes are not integers, or a count is out of
            range; the message names the first row at fault.
    """
    checked_n_Q = check_integers(n_Q, "n_Q")
    checked_correct_Q = check_integers(correct_Q, "correct_Q")
    if checked_n_Q.shape != checked_correct_Q.shape:
        raise DataError(
            f"n_Q has {checked_n_Q.size} questions and correct_Q has {checked_correct_Q.size}. "
            "Give both for the same questions, in the same order."
        )
    _refuse_first(checked_n_Q < 1, checked_n_Q, checked_correct_Q, "n is below 1")
    _refuse_first(checked_correct_Q < 0, checked_n_Q, checked_correct_Q, "c is negative")
    _refuse_first(checked_correct_Q > checked_n_Q, checked_n_Q, checked_correct_Q, "c exceeds n")
    return checked_n_Q, checked_correct_Q


def check_attempts(k_K: npt.ArrayLike, n_Q: IntArray) -> IntArray:
    """Return k as int64 after refusing values below 1 or above the smallest n.

    Args:
        k_K: Numbers of attempts, shape (K,).
        n_Q: Graded rollouts of each question, shape (Q,), already checked.

    Raises:
        DataError: If k is empty, not of an integer dtype, below 1 or above the n of any question.
    """
    k = check_integers(k_K, "k_K")
    if k.min() < 1:
        raise DataError(f"k={k.min()} is below 1; it counts attempts. Drop it from k_K.")
    short = n_Q < k.max()
    if short.any():
        row = int(np.argmin(n_Q))
        raise DataError(
            f"k={k.max()} exceeds n={n_Q[row]} of row {row} ({int(short.sum())} of {n_Q.size} "
            f"questions have too few rollouts). Use k ≤ {n_Q[row]}, or sample more rollouts."
        )
    return k


def check_outcomes(outcome_Q: npt.ArrayLike, name: str) -> BoolArray:
    """Return a non-empty, one-dimensional boolean array.

    Args:
        outcome_Q: Whether each question was answered correctly, shape (Q,), bool dtype.
        name: What the caller calls the array, for the message.

    Raises:
        DataError: If it is empty, not one-dimensional or not boolean.
    """
    array_Q = np.asarray(outcome_Q)
    if array_Q.ndim != 1:
        raise DataError(
            f"{name} has shape {array_Q.shape}; it needs one dimension: one outcome a question."
        )
    if array_Q.size == 0:
        raise DataError(f"{name} holds no question. Evaluate at least one held-out question.")
    if array_Q.dtype != np.bool_:
        raise DataError(
            f"{name} holds {array_Q.dtype} values; outcomes are boolean. "
            f"Drop ungraded questions, then write {name} == 1."
        )
    return array_Q


def check_paired(first_Q: BoolArray, second_Q: BoolArray, names: str) -> None:
    """Refuse two outcome arrays of different lengths.

    Args:
        first_Q: Outcomes, shape (Q,).
        second_Q: Outcomes of the same questions, shape (Q,).
        names: What the caller calls the two, for the message.

    Raises:
        DataError: If the lengths differ.
    """
    if first_Q.size != second_Q.size:
        raise DataError(
            f"{names} have {first_Q.size} and {second_Q.size} questions; the comparison is paired. "
            "Give the same questions in the same order."
        )


def check_rollouts(n: int) -> None:
    """Refuse a number of rollouts below 1.

    Args:
        n: Rollouts.

    Raises:
        DataError: If n is below 1 or not finite.
    """
    if not (math.isfinite(n) and n >= 1):
        raise DataError(
            f"n is {n}; an interval needs n of at least 1. Sample at least one rollout."
        )


def _refuse_first(bad_Q: BoolArray, n_Q: IntArray, correct_Q: IntArray, problem: str) -> None:
    """Raise `DataError` naming the first row where `bad_Q` is true, if there is one."""
    if bad_Q.any():
        row = int(np.argmax(bad_Q))
        raise DataError(
            f"{problem} in row {row}: n={n_Q[row]}, c={correct_Q[row]} ({int(bad_Q.sum())} rows in "
            "all). Count only graded rollouts, and leave out questions that have none."
        )
