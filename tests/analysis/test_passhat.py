"""pass^k against fractions, subsets and scipy."""

import math
from fractions import Fraction
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from attrib.analysis.passhat import pass_hat_k
from attrib.analysis.passk import mean_at_k, pass_at_k
from attrib.errors import DataError


def exact_pass_hat_k(n: int, correct: int, k: int) -> Fraction:
    return Fraction(math.comb(correct, k), math.comb(n, k))


def test_hand_computed_case() -> None:
    # n=4, c=3: three of four, three of the six pairs, one of the four triples, not all.
    got = pass_hat_k([4], [3], [1, 2, 3, 4])
    np.testing.assert_allclose(got, [[0.75, 0.5, 0.25, 0.0]], rtol=1e-15)


@pytest.mark.parametrize("n", [1, 2, 3, 5, 7])
def test_equals_the_share_of_subsets_that_are_all_correct(n: int) -> None:
    ks = range(1, n + 1)
    for correct in range(n + 1):
        verdicts = [True] * correct + [False] * (n - correct)
        want = [np.mean([all(subset) for subset in combinations(verdicts, k)]) for k in ks]
        np.testing.assert_allclose(pass_hat_k([n], [correct], list(ks))[0], want, rtol=1e-14)


@pytest.mark.parametrize("n", [1, 16, 128, 129, 1000])
def test_agrees_with_exact_fractions_however_small(n: int) -> None:
    corrects = sorted({0, 1, min(2, n), n // 16, n // 3, n // 2, n - 1, n})
    ks = sorted({1, min(2, n), min(8, n), max(1, n // 3), max(1, n - 1), n})
    want = [[float(exact_pass_hat_k(n, correct, k)) for k in ks] for correct in corrects]
    np.testing.assert_allclose(
        pass_hat_k([n] * len(corrects), corrects, ks), want, rtol=1e-12, atol=0.0
    )


@pytest.mark.parametrize(
    ("correct", "k"), [(99_999, 1), (99_000, 500), (98_000, 30_000), (50_000, 900), (3, 2)]
)
def test_stays_accurate_at_a_hundred_thousand_rollouts(correct: int, k: int) -> None:
    got = float(pass_hat_k([100_000], [correct], [k])[0, 0])
    assert got == pytest.approx(float(exact_pass_hat_k(100_000, correct, k)), rel=1e-11)


def test_vanishes_where_floats_end() -> None:
    assert pass_hat_k([100_000], [50_000], [2000])[0, 0] == 0.0


def test_agrees_with_the_hypergeometric_law_of_scipy() -> None:
    n, ks = 40, np.arange(1, 41)
    want = [[stats.hypergeom.pmf(k, n, c, k) for k in ks] for c in range(n + 1)]
    got = pass_hat_k(np.full(n + 1, n), np.arange(n + 1), ks)
    np.testing.assert_allclose(got, want, rtol=1e-10, atol=1e-15)


@given(st.integers(1, 150))
def test_falls_with_k_grows_with_c_and_mirrors_pass_at_k(n: int) -> None:
    correct, ks = np.arange(n + 1), np.arange(1, n + 1)
    got = pass_hat_k(np.full(n + 1, n), correct, ks)
    assert np.all(np.diff(got, axis=0) >= 0.0)
    assert np.all(np.diff(got, axis=1) <= 0.0)
    np.testing.assert_array_equal(got[:, 0], correct / n)
    np.testing.assert_allclose(got, 1 - pass_at_k(np.full(n + 1, n), n - correct, ks), atol=1e-13)


def test_rows_may_differ_in_n() -> None:
    got = pass_hat_k([4, 8, 4], [3, 8, 3], [2, 4])
    np.testing.assert_allclose(got, [[0.5, 0.0], [1.0, 1.0], [0.5, 0.0]])


@pytest.mark.parametrize(
    ("n", "correct", "k", "message"),
    [
        ([8, 4], [1, 1], [5], "k=5 exceeds n=4 of row 1"),
        ([8], [1], [0], "k=0 is below 1"),
        ([8], [9], [1], "c exceeds n in row 0"),
        ([], [], [1], "n_Q is empty"),
    ],
)
def test_refuses(n: list[int], correct: list[int], k: list[int], message: str) -> None:
    with pytest.raises(DataError, match=message):
        pass_hat_k(n, correct, k)


class TestMeanAtK:
    def test_interval_of_pass_hat_k_mirrors_that_of_pass_at_k(self) -> None:
        generator = np.random.default_rng(1)
        n, correct, ks = np.full(80, 16), generator.integers(0, 17, 80), [1, 4]
        hat = mean_at_k(pass_hat_k(n, correct, ks), ks, generator, draws=20_000)
        mirror = mean_at_k(1 - pass_at_k(n, n - correct, ks), ks, generator, draws=20_000)
        np.testing.assert_allclose(hat.mean_K, mirror.mean_K)
        np.testing.assert_allclose(hat.low_K, mirror.low_K, atol=0.005)
        np.testing.assert_allclose(hat.high_K, mirror.high_K, atol=0.005)

    def test_refuses_what_is_no_fraction_or_no_column(self) -> None:
        generator = np.random.default_rng(0)
        with pytest.raises(DataError, match=r"value_QK has shape \(2, 1\) for 2 values of k"):
            mean_at_k([[0.5], [0.5]], [1, 2], generator)
        with pytest.raises(DataError, match=r"outside \[0, 1\]"):
            mean_at_k([[1.5]], [1], generator)

    def test_covers_the_truth_about_as_often_as_it_says(self) -> None:
        """Questions drawn from a uniform law: E[p^k] is 1/(k+1)."""
        generator = np.random.default_rng(5)
        ks = np.array([1, 4, 16])
        hits = np.zeros(3)
        for _ in range(1000):
            correct = generator.binomial(32, generator.random(100))
            values = pass_hat_k(np.full(100, 32), correct, ks)
            curve = mean_at_k(values, ks, generator, draws=300)
            hits += (curve.low_K <= 1 / (ks + 1)) & (1 / (ks + 1) <= curve.high_K)
        assert np.all(np.abs(hits / 1000 - 0.95) <= 0.025), hits
