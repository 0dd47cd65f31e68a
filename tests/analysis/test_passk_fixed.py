"""The variance of pass@k in exact fractions, and the interval for fixed questions by simulation."""

import math
from fractions import Fraction

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from attrib.analysis.passk import mean_pass_at_k, pass_at_k
from attrib.analysis.passk_fixed import fixed_pass_at_k, pass_at_k_variance
from attrib.errors import ConfigError, DataError

Floats = npt.NDArray[np.float64]


def expected(n: int, value_C: Floats, p: float) -> float:
    """Return the expectation over c ~ Binomial(n, p) of a value for each c."""
    return float(stats.binom.pmf(np.arange(n + 1), n, p) @ value_C)


def variances(n: int, k: int) -> tuple[Floats, Floats]:
    """Return pass@k and its estimated variance for each c from 0 to n."""
    every = np.full(n + 1, n), np.arange(n + 1), [k]
    return pass_at_k(*every)[:, 0], pass_at_k_variance(*every)[:, 0]


class TestVariance:
    def test_hand_computed_cases(self) -> None:
        # k=1: c(n-c)/n²(n-1), the variance of a mean. n=4, c=1, k=2: 1/4 - 0 of the single 4-set.
        np.testing.assert_allclose(pass_at_k_variance([4], [1], [1, 2]), [[1 / 16, 1 / 4]])
        # n < 2k: 0, (k/n)², and from c=2 on the square of C(n-c,k)/C(n,k) = 1/6 for n=4, k=2, c=2.
        got = pass_at_k_variance([3, 3, 3, 3], [0, 1, 2, 3], [2])
        np.testing.assert_allclose(got[:, 0], [0.0, 4 / 9, 0.0, 0.0])

    @pytest.mark.parametrize(("n", "k"), [(2, 1), (5, 2), (6, 3), (9, 2)])
    def test_is_unbiased_in_exact_fractions(self, n: int, k: int) -> None:
        for p in (Fraction(1, 7), Fraction(1, 2), Fraction(9, 10)):
            chance = [Fraction(math.comb(n, c)) * p**c * (1 - p) ** (n - c) for c in range(n + 1)]
            none = [Fraction(math.comb(n - c, k), math.comb(n, k)) for c in range(n + 1)]
            square = sum(w * g * g for w, g in zip(chance, none, strict=True))
            truth = square - (1 - p) ** (2 * k)
            weights = np.array([float(w) for w in chance])
            assert weights @ variances(n, k)[1] == pytest.approx(float(truth), rel=1e-12)

    @given(st.integers(1, 60), st.data())
    def test_is_never_too_small_on_average(self, n: int, data: st.DataObject) -> None:
        k, p = data.draw(st.integers(1, n)), data.draw(st.floats(1e-4, 1 - 1e-4))
        value_C, variance_C = variances(n, k)
        truth = expected(n, value_C**2, p) - (1 - (1 - p) ** k) ** 2
        assert np.all(variance_C >= 0.0)
        got = expected(n, variance_C, p)
        assert got >= truth - 1e-9
        if n >= 2 * k:
            assert got == pytest.approx(truth, abs=1e-9)

    def test_changes_no_faster_than_the_interval_assumes(self) -> None:
        p = np.concatenate([np.geomspace(1e-5, 0.01, 50), np.linspace(0.011, 0.999, 400)])
        for n in (1, 4, 16, 64):
            chance = stats.binom.pmf(np.arange(n + 1), n, p[:, None])
            for k in sorted({1, max(1, n // 4), max(1, n // 2), max(1, n - 1), n}):
                mean = 1 - (1 - p) ** k
                variance = chance @ variances(n, k)[0] ** 2 - mean**2
                step = np.diff(mean)
                slope = np.abs(np.diff(variance)[step > 1e-6]) / step[step > 1e-6]
                assert slope.max() <= k / n + 1e-6

    def test_stays_finite_at_a_hundred_thousand_rollouts(self) -> None:
        got = pass_at_k_variance([100_000] * 3, [0, 10, 50_000], [1, 50_000, 100_000])
        assert np.isfinite(got).all()
        assert got[1, 0] == pytest.approx(1e-4 * (1 - 1e-4) / 99_999, rel=1e-6)


class TestFixedPassAtK:
    def test_one_attempt_is_the_score_interval_with_both_shifts(self) -> None:
        curve = fixed_pass_at_k([10, 10], [2, 6], [1])
        z = stats.norm.ppf(0.975)
        shift = z * z / 2 / 20
        variance = (2 * 8 + 6 * 4) / (100 * 9) / 4
        half = shift + math.sqrt(z * z * variance + shift**2)
        assert curve.mean_K[0] == pytest.approx(0.4)
        assert curve.high_K[0] == pytest.approx(0.4 + half)
        assert curve.low_K[0] == pytest.approx(0.4 - half)
        assert (curve.questions, curve.confidence) == (2, 0.95)

    def test_nothing_correct_has_a_width_like_the_rule_of_three(self) -> None:
        curve = fixed_pass_at_k([128] * 50, [0] * 50, [1, 16])
        np.testing.assert_array_equal(curve.low_K, 0.0)
        np.testing.assert_allclose(curve.high_K, [3.84 / 6400, 16 * 3.84 / 6400], rtol=0.01)

    def test_is_narrower_than_the_interval_for_other_questions(self) -> None:
        generator = np.random.default_rng(0)
        correct = generator.binomial(64, generator.beta(0.4, 1.0, 200))
        n, ks = np.full(200, 64), [1, 4, 16]
        here = fixed_pass_at_k(n, correct, ks)
        there = mean_pass_at_k(n, correct, ks, generator)
        np.testing.assert_array_equal(here.mean_K, there.mean_K)
        assert np.all(here.high_K - here.low_K < 0.6 * (there.high_K - there.low_K))

    def test_order_of_questions_does_not_matter(self) -> None:
        generator = np.random.default_rng(1)
        n = generator.integers(8, 40, 60)
        correct = generator.binomial(n, 0.3)
        order = generator.permutation(60)
        first = fixed_pass_at_k(n, correct, [1, 5, 8])
        second = fixed_pass_at_k(n[order], correct[order], [1, 5, 8])
        for name in ("mean_K", "low_K", "high_K"):
            np.testing.assert_array_equal(getattr(first, name), getattr(second, name))

    def test_refuses(self) -> None:
        with pytest.raises(DataError, match="k=9 exceeds n=8"):
            fixed_pass_at_k([8], [1], [9])
        with pytest.raises(ConfigError, match="confidence is 95"):
            fixed_pass_at_k([8], [1], [1], confidence=95)

    @pytest.mark.parametrize(
        ("law", "n"),
        [("u-shaped", 16), ("never", 16), ("skewed", 32), ("mixed", 32)],
    )
    def test_covers_these_questions_at_least_as_often_as_it_says(self, law: str, n: int) -> None:
        """1,000 studies: below 95 % for no k but by chance; close to it where rollouts decide."""
        generator = np.random.default_rng(11)
        p_Q = {
            "u-shaped": lambda: generator.beta(0.5, 0.5, 200),
            "skewed": lambda: generator.beta(0.4, 2.0, 200),
            "never": lambda: np.full(200, 2 / (200 * n)),  # two correct rollouts in the study
            "mixed": lambda: np.repeat([0.0005, 0.9], 100),
        }[law]()
        ks = np.array([1, 4, n // 2, n - 3, n])
        truth = (1 - (1 - p_Q[:, None]) ** ks).mean(axis=0)
        hits = np.zeros(ks.size)
        for _ in range(1000):
            curve = fixed_pass_at_k(np.full(200, n), generator.binomial(n, p_Q), ks)
            hits += (curve.low_K <= truth) & (truth <= curve.high_K)
        coverage = hits / 1000
        assert np.all(coverage >= 0.94), coverage  # three quarters of a standard error: 0.7 %
        if law in ("u-shaped", "skewed"):
            assert np.all(coverage[ks <= n // 16] <= 0.975), coverage
