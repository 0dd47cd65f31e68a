"""pass@k against fractions and brute force, and the interval of its mean against the truth."""

import math
from fractions import Fraction
from itertools import combinations
from random import Random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import special, stats

from attrib.analysis.passk import mean_pass_at_k, pass_at_k
from attrib.errors import ConfigError, DataError


def exact_pass_at_k(n: int, correct: int, k: int) -> Fraction:
    return 1 - Fraction(math.comb(n - correct, k), math.comb(n, k))


@st.composite
def counts(draw: st.DrawFn, largest: int = 300) -> tuple[int, int, int]:
    n = draw(st.integers(1, largest))
    return n, draw(st.integers(0, n)), draw(st.integers(1, n))


class TestPassAtK:
    def test_hand_computed_case(self) -> None:
        # n=4, c=1: one of four, three of the six pairs, three of the four triples, all.
        got = pass_at_k([4], [1], [1, 2, 3, 4])
        np.testing.assert_allclose(got, [[0.25, 0.5, 0.75, 1.0]], rtol=1e-15)

    @pytest.mark.parametrize("n", [1, 2, 3, 5, 7])
    def test_equals_the_share_of_subsets_with_a_correct_rollout(self, n: int) -> None:
        ks = range(1, n + 1)
        for correct in range(n + 1):
            verdicts = [True] * correct + [False] * (n - correct)
            want = [np.mean([any(subset) for subset in combinations(verdicts, k)]) for k in ks]
            np.testing.assert_allclose(pass_at_k([n], [correct], list(ks))[0], want, rtol=1e-14)

    def test_agrees_with_the_published_product_and_with_scipy(self) -> None:
        # arXiv 2107.03374, figure 3: 1 - ∏ (1 - k/i) over i from n-c+1 to n.
        n, ks = 100, [1, 10, 50, 100]
        got = pass_at_k([n] * (n + 1), np.arange(n + 1), ks)
        for column, k in enumerate(ks):
            product = [
                1.0 if n - c < k else 1 - np.prod(1 - k / np.arange(n - c + 1, n + 1))
                for c in range(n + 1)
            ]
            np.testing.assert_allclose(got[:, column], product, rtol=0.0, atol=1e-12)
            missed = stats.hypergeom.pmf(0, n, np.arange(n + 1), k)
            np.testing.assert_allclose(got[:, column], 1 - missed, rtol=0.0, atol=1e-12)

    @pytest.mark.parametrize("n", [1, 16, 128, 129, 1000])
    def test_agrees_with_exact_fractions_to_every_digit(self, n: int) -> None:
        corrects = sorted({0, 1, min(2, n), n // 16, n // 3, n // 2, n - 1, n})
        ks = sorted({1, min(2, n), min(8, n), max(1, n // 3), max(1, n - 1), n})
        want = [[float(exact_pass_at_k(n, correct, k)) for k in ks] for correct in corrects]
        got = pass_at_k([n] * len(corrects), corrects, ks)
        # Relative, not absolute: small estimates keep their digits as well.
        np.testing.assert_allclose(got, want, rtol=1e-13, atol=0.0)

    @pytest.mark.parametrize(
        ("correct", "k"),
        [(1, 1), (1, 99_999), (316, 316), (2000, 2000), (3, 50_000), (50_000, 3), (100_000, 1)],
    )
    def test_stays_accurate_at_a_hundred_thousand_rollouts(self, correct: int, k: int) -> None:
        got = float(pass_at_k([100_000], [correct], [k])[0, 0])
        assert got == pytest.approx(float(exact_pass_at_k(100_000, correct, k)), rel=1e-12)

    def test_rounding_to_one_starts_only_where_the_fraction_does(self) -> None:
        # Either side of the exponent past which the product is skipped.
        n = 128
        corrects = np.arange(n + 1)
        got = pass_at_k(np.full(n + 1, n), corrects, np.arange(1, n + 1))
        want = [[float(exact_pass_at_k(n, c, k)) for k in range(1, n + 1)] for c in range(n + 1)]
        np.testing.assert_allclose(got, want, rtol=1e-13, atol=0.0)

    def test_first_k_is_the_accuracy_to_the_last_bit(self) -> None:
        n = np.repeat(np.arange(1, 60), 60)
        correct = np.minimum(np.tile(np.arange(60), 59), n)
        np.testing.assert_array_equal(pass_at_k(n, correct, [1])[:, 0], correct / n)

    @given(counts())
    def test_lies_between_accuracy_and_one(self, case: tuple[int, int, int]) -> None:
        n, correct, k = case
        got = float(pass_at_k([n], [correct], [k])[0, 0])
        assert correct / n - 1e-15 <= got <= 1.0
        assert (got == 0.0) == (correct == 0)

    @given(st.integers(1, 200))
    def test_grows_with_k_and_with_c(self, n: int) -> None:
        got = pass_at_k(np.full(n + 1, n), np.arange(n + 1), np.arange(1, n + 1))
        assert np.all(np.diff(got, axis=0) >= -1e-15)
        assert np.all(np.diff(got, axis=1) >= -1e-15)

    @given(st.lists(counts(80), min_size=1, max_size=20), st.randoms())
    def test_rows_and_columns_are_independent_of_their_neighbours(
        self,
        cases: list[tuple[int, int, int]],
        random: Random,
    ) -> None:
        n = np.array([case[0] for case in cases])
        correct = np.array([case[1] for case in cases])
        ks = list(range(1, int(n.min()) + 1))
        random.shuffle(ks)
        whole = pass_at_k(n, correct, ks)
        for row in range(len(cases)):
            for column in {0, len(ks) - 1}:
                alone = pass_at_k([n[row]], [correct[row]], [ks[column]])
                assert whole[row, column] == alone[0, 0]

    def test_repeated_ks_and_any_integer_dtype_are_accepted(self) -> None:
        got = pass_at_k(np.array([8], np.uint8), np.array([2], np.int16), [2, 1, 2])
        np.testing.assert_allclose(got, [[1 - 15 / 28, 0.25, 1 - 15 / 28]])
        assert got.dtype == np.float64

    @pytest.mark.parametrize(
        ("n", "correct", "k", "message"),
        [
            ([8, 4], [1, 1], [5], r"k=5 exceeds n=4 of row 1 \(1 of 2 .*Use k ≤ 4"),
            ([8], [1], [0], "k=0 is below 1"),
            ([8], [1], [-3, 2], "k=-3 is below 1"),
            ([8, 8], [1, -1], [1], "c is negative in row 1: n=8, c=-1"),
            ([8, 8], [9, 1], [1], "c exceeds n in row 0: n=8, c=9"),
            ([0], [0], [1], "n is below 1 in row 0"),
            ([8, 8], [1], [1], "n_Q has 2 questions and correct_Q has 1"),
            ([], [], [1], "n_Q is empty"),
            ([8], [1], [], "k_K is empty"),
            ([[8]], [[1]], [1], r"n_Q has shape \(1, 1\)"),
            ([8.0], [1], [1], "n_Q holds float64 values"),
            ([8], [True], [1], "correct_Q holds bool values"),
        ],
    )
    def test_refuses(self, n: object, correct: object, k: object, message: str) -> None:
        with pytest.raises(DataError, match=message):
            pass_at_k(n, correct, k)  # type: ignore[arg-type]


class TestMeanPassAtK:
    def test_mean_is_the_plain_average_over_questions(self) -> None:
        n, correct, ks = np.array([8, 8, 10, 16]), np.array([0, 1, 5, 16]), np.array([1, 4, 8])
        curve = mean_pass_at_k(n, correct, ks, np.random.default_rng(1))
        np.testing.assert_allclose(curve.mean_K, pass_at_k(n, correct, ks).mean(axis=0))
        np.testing.assert_array_equal(curve.k_K, ks)
        assert (curve.questions, curve.confidence) == (4, 0.95)
        assert np.all((curve.low_K < curve.mean_K) & (curve.mean_K < curve.high_K))

    def test_same_generator_state_gives_the_same_curve_in_any_order_of_questions(self) -> None:
        n = np.tile([8, 9, 13, 16], 15)
        correct = np.arange(60) % (n + 1)
        first = mean_pass_at_k(n, correct, [1, 8], np.random.default_rng(7))
        order = np.random.default_rng(0).permutation(60)
        second = mean_pass_at_k(n[order], correct[order], [1, 8], np.random.default_rng(7))
        other = mean_pass_at_k(n, correct, [1, 8], np.random.default_rng(8))
        for name in ("mean_K", "low_K", "high_K"):
            np.testing.assert_array_equal(getattr(first, name), getattr(second, name))
        assert not np.array_equal(first.low_K, other.low_K)

    def test_agrees_with_resampling_question_indices(self) -> None:
        generator = np.random.default_rng(3)
        n = np.full(40, 16)
        correct = generator.binomial(16, generator.beta(0.5, 1.0, 40))
        curve = mean_pass_at_k(n, correct, [1, 8], generator, draws=20_000)
        values = pass_at_k(n, correct, [1, 8])
        drawn = values[generator.integers(0, 40, (20_000, 40))]
        mean, spread = values.mean(axis=0), values.std(axis=0)
        half = np.quantile(np.abs(drawn.mean(axis=1) - mean) / drawn.std(axis=1), 0.95, axis=0)
        np.testing.assert_allclose(curve.low_K, mean - half * spread, atol=0.006)
        np.testing.assert_allclose(curve.high_K, mean + half * spread, atol=0.006)

    def test_blocks_do_not_change_the_draws(self, monkeypatch: pytest.MonkeyPatch) -> None:
        n, correct = np.full(9, 8), np.arange(9)
        whole = mean_pass_at_k(n, correct, [1, 4], np.random.default_rng(5))
        monkeypatch.setattr("attrib.analysis.resampling._BLOCK_CELLS", 50)
        parts = mean_pass_at_k(n, correct, [1, 4], np.random.default_rng(5))
        np.testing.assert_array_equal(whole.low_K, parts.low_K)
        np.testing.assert_array_equal(whole.high_K, parts.high_K)

    def test_equal_values_have_the_exact_width_of_what_may_differ_unseen(self) -> None:
        generator = np.random.default_rng(0)
        never = mean_pass_at_k([8] * 60, [0] * 60, [1, 8], generator)
        np.testing.assert_array_equal(never.low_K, [0.0, 0.0])
        np.testing.assert_allclose((1 - never.high_K) ** 60, 0.025, rtol=1e-12)
        always = mean_pass_at_k([8, 16], [8, 16], [1, 8], generator)
        np.testing.assert_array_equal(always.high_K, [1.0, 1.0])
        np.testing.assert_allclose(always.low_K**2, 0.025, rtol=1e-12)
        assert np.all(always.mean_K == 1.0)

    def test_equal_values_at_one_k_leave_the_other_ks_alone(self) -> None:
        curve = mean_pass_at_k([8] * 30, [1, 4, 7] * 10, [1, 8], np.random.default_rng(0))
        assert curve.mean_K[1] == curve.high_K[1] == 1.0
        assert 0.8 < curve.low_K[1] < 0.95
        assert 0.3 < curve.low_K[0] < 0.5 < curve.high_K[0] < 0.7

    def test_one_question_has_a_wide_interval(self) -> None:
        curve = mean_pass_at_k([8], [4], [1], np.random.default_rng(0))
        assert curve.questions == 1
        assert curve.low_K[0] < 0.06
        assert curve.high_K[0] > 0.94

    def test_refuses_settings_that_cannot_give_bounds(self) -> None:
        generator = np.random.default_rng(0)
        with pytest.raises(ConfigError, match=r"draws is 39; .* need at least 40"):
            mean_pass_at_k([8], [4], [1], generator, draws=39)
        with pytest.raises(ConfigError, match=r"confidence is 95"):
            mean_pass_at_k([8], [4], [1], generator, confidence=95)
        with pytest.raises(DataError, match="k=9 exceeds n=8"):
            mean_pass_at_k([8], [4], [9], generator)

    @pytest.mark.parametrize(("a", "b"), [(0.5, 0.5), (0.4, 2.0), (1.0, 1.0)])
    def test_covers_the_truth_about_as_often_as_it_says(self, a: float, b: float) -> None:
        """Questions drawn from a beta: E[1-(1-p)^k] is known, and the n=128 rollouts are noisy."""
        generator = np.random.default_rng(20_260_507)
        ks, questions, studies = np.array([1, 4, 16]), 100, 1000
        truth = 1 - np.exp(special.betaln(a, b + ks) - special.betaln(a, b))
        hits = np.zeros(ks.size)
        for _ in range(studies):
            correct = generator.binomial(128, generator.beta(a, b, questions))
            curve = mean_pass_at_k(np.full(questions, 128), correct, ks, generator, draws=400)
            hits += (curve.low_K <= truth) & (truth <= curve.high_K)
        coverage = hits / studies
        assert np.all((coverage >= 0.93) & (coverage <= 0.975)), coverage
