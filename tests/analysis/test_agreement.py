"""Agreement of two graders: known values, and intervals that cover."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from attrib.analysis.agreement import measure_agreement
from attrib.errors import DataError


def generator() -> np.random.Generator:
    return np.random.default_rng(0)


def test_cohens_kappa_by_hand() -> None:
    """Observed (20 + 15) / 50 = 0.7; by chance 0.5 · 0.6 + 0.5 · 0.4 = 0.5; kappa 0.4."""
    found = measure_agreement([[[20, 5], [10, 15]]], generator())
    assert found.observed == pytest.approx(0.7)
    assert found.kappa == pytest.approx(0.4)
    assert (found.responses, found.questions) == (50, 1)
    assert found.low is found.high is None  # one question tells nothing of others


def test_questions_are_added_up() -> None:
    parts = [[[5, 1], [2, 3]], [[15, 4], [8, 12]], [[0, 0], [0, 0]]]
    found = measure_agreement(parts, generator())
    assert found.kappa == pytest.approx(0.4)
    assert found.questions == 2
    assert found.low is not None
    assert found.high is not None
    assert found.low <= found.kappa <= found.high
    assert found.observed_low is not None
    assert found.observed_high is not None
    assert found.observed == pytest.approx(0.7)
    assert found.observed_low <= found.observed <= found.observed_high


@pytest.mark.parametrize(
    ("table", "kappa"),
    [([[9, 0], [0, 4]], 1.0), ([[0, 5], [5, 0]], -1.0), ([[7, 0], [0, 0]], None)],
)
def test_extremes(table: list[list[int]], kappa: float | None) -> None:
    found = measure_agreement([table, table], generator())
    assert found.kappa == (None if kappa is None else pytest.approx(kappa))
    assert found.observed_low is found.observed_high is found.low is found.high is None


def test_a_grader_of_one_verdict_has_no_interval_of_kappa() -> None:
    found = measure_agreement([[[0, 3], [0, 5]], [[0, 1], [0, 7]]], generator())
    assert found.kappa == 0.0
    assert found.low is found.high is None
    assert found.observed_low is not None


@pytest.mark.parametrize("counts", [[], [[[0, 0], [0, 0]]], [[1, 2], [3, 4]], [[[1, -1], [0, 1]]]])
def test_refused(counts: object) -> None:
    with pytest.raises(DataError):
        measure_agreement(counts, generator())  # type: ignore[arg-type]


@given(arrays(np.int64, (5, 2, 2), elements=st.integers(0, 9)))
def test_graders_may_be_swapped(counts: np.ndarray) -> None:
    if not counts.sum():
        return
    one = measure_agreement(counts, generator())
    other = measure_agreement(counts.transpose(0, 2, 1), generator())
    assert one.observed == pytest.approx(other.observed)
    if one.kappa is not None and other.kappa is not None:
        assert one.kappa == pytest.approx(other.kappa)


def test_the_interval_covers_where_questions_differ() -> None:
    """Each question has its own rate of right answers; the second grader errs on 10 %."""
    rng = np.random.default_rng(1)

    def draw(questions: int) -> np.ndarray:
        p_Q = rng.beta(0.4, 0.8, questions)
        right_QN = rng.random((questions, 8)) < p_Q[:, None]
        other_QN = right_QN ^ (rng.random((questions, 8)) < 0.1)
        return np.stack(
            [
                np.stack([(right_QN == a) & (other_QN == b) for b in (True, False)], 1).sum(2)
                for a in (True, False)
            ],
            1,
        )

    counts = draw(200_000).sum(axis=0)
    truth = measure_agreement([counts], rng)
    assert truth.kappa is not None
    assert truth.observed == pytest.approx(0.9, abs=0.001)
    covered = np.zeros(2)
    for _ in range(200):
        found = measure_agreement(draw(100), rng)
        assert found.low is not None
        assert found.high is not None
        assert found.observed_low is not None
        assert found.observed_high is not None
        covered += (
            found.low <= truth.kappa <= found.high,
            found.observed_low <= truth.observed <= found.observed_high,
        )
    assert covered.min() >= 182  # 91 %: a 95 % interval falls below in one of 200 such tests
