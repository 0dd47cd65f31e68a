import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from attrib.sampling.randomness import UNIFORMS_PER_DRAW, UniformStream


@given(
    seed=st.integers(0, 2**63),
    depth=st.integers(0, 4096),
    row=st.integers(0, 100_000),
    before=st.integers(0, 20),
    after=st.integers(1, 20),
)
def test_a_row_does_not_depend_on_the_range_drawn(
    seed: int, depth: int, row: int, before: int, after: int
) -> None:
    stream = UniformStream(seed, "question")
    first = max(0, row - before)
    alone = stream.draw(depth, row, row + 1)[0]
    assert (stream.draw(depth, first, row + after)[row - first] == alone).all()


def test_rows_do_not_depend_on_earlier_draws() -> None:
    used, fresh = UniformStream(3, "q"), UniformStream(3, "q")
    used.draw(0, 0, 7)
    used.draw(9, 4, 5)
    assert (used.draw(2, 1, 6) == fresh.draw(2, 1, 6)).all()


def test_shape() -> None:
    assert UniformStream(0, "q").draw(0, 5, 9).shape == (4, UNIFORMS_PER_DRAW)
    assert UniformStream(0, "q").draw(0, 5, 5).shape == (0, UNIFORMS_PER_DRAW)


@pytest.mark.parametrize(
    ("seed", "name", "depth", "first"),
    [(1, "q", 0, 0), (0, "r", 0, 0), (0, "q", 1, 0), (0, "q", 0, 64), (0, "\nq", 0, 0)],
)
def test_another_seed_name_depth_or_row_gives_other_numbers(
    seed: int, name: str, depth: int, first: int
) -> None:
    base = UniformStream(0, "q").draw(0, 0, 64)
    other = UniformStream(seed, name).draw(depth, first, first + 64)
    assert not np.isin(other, base).any()
    assert abs(np.corrcoef(base.ravel(), other.ravel())[0, 1]) < 0.1


def test_seed_and_name_do_not_run_together() -> None:
    one, other = UniformStream(1, "2q"), UniformStream(12, "q")
    assert (one.draw(0, 0, 4) != other.draw(0, 0, 4)).all()


def test_uniform_over_rows_halvings_depths_and_streams() -> None:
    rows = UniformStream(11, "q").draw(0, 0, 2000)
    assert rows.min() >= 0.0
    assert rows.max() < 1.0
    assert stats.kstest(rows.ravel(), "uniform").pvalue > 1e-3
    for halving in range(UNIFORMS_PER_DRAW):
        assert stats.kstest(rows[:, halving], "uniform").pvalue > 1e-4
    by_depth = np.array([UniformStream(11, "q").draw(t, 0, 1)[0, 0] for t in range(2000)])
    assert stats.kstest(by_depth, "uniform").pvalue > 1e-3
    by_name = np.array([UniformStream(11, f"q{i}").draw(0, 0, 1)[0, 0] for i in range(2000)])
    assert stats.kstest(by_name, "uniform").pvalue > 1e-3


def test_halvings_rows_and_depths_are_uncorrelated() -> None:
    near_zero = 4.5 / np.sqrt(4000)  # standard deviations of a correlation of 4000 pairs
    rows = UniformStream(12, "q").draw(0, 0, 4001)
    deeper = UniformStream(12, "q").draw(1, 0, 4001)
    assert abs(np.corrcoef(rows[:4000, 0], rows[:4000, 1])[0, 1]) < near_zero
    assert abs(np.corrcoef(rows[:4000, 0], rows[1:, 0])[0, 1]) < near_zero
    assert abs(np.corrcoef(rows[:4000, 0], deeper[:4000, 0])[0, 1]) < near_zero


def test_golden_values() -> None:
    """Stored rollouts are drawn again on resume and top-up: these numbers may never change."""
    first = UniformStream(0, "question").draw(0, 0, 1)[0, :4]
    later = UniformStream(7, "question").draw(3, 100, 101)[0, -2:]
    assert first.tolist() == [
        0.6546598585564887,
        0.3945736718853593,
        0.38247424349657333,
        0.9714712365702474,
    ]
    assert later.tolist() == [0.7400904575657982, 0.4610612915986462]
