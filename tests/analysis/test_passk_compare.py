"""Paired differences of pass@k: hand computation, plain resampling, and coverage of the truth."""

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import special

from attrib.analysis.passk import pass_at_k
from attrib.analysis.passk_compare import PairedCounts, compare_pass_at_k
from attrib.analysis.resampling import bound_means
from attrib.errors import ConfigError, DataError

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


def draw_pair(generator: np.random.Generator, questions: int, n: int = 16) -> PairedCounts:
    """Return a study in which RL doubles the attempts, and loses 15 % of the questions."""
    p_Q = generator.beta(0.5, 1.0, questions)
    after_Q = np.where(generator.random(questions) < 0.15, 0.0, 1 - (1 - p_Q) ** 2)
    n_Q = np.full(questions, n)
    return PairedCounts(n_Q, generator.binomial(n, p_Q), n_Q, generator.binomial(n, after_Q))


def true_difference(ks: Ints) -> Floats:
    """Return the mean of pass@k after minus before of `draw_pair`."""
    missed = [np.exp(special.betaln(0.5, 1 + j * ks) - special.betaln(0.5, 1.0)) for j in (1, 2)]
    difference: Floats = 0.85 * (1 - missed[1]) - (1 - missed[0])
    return difference


class TestComparePassAtK:
    def test_hand_computed_case(self) -> None:
        counts = PairedCounts([4, 4], [1, 0], [4, 8], [2, 4])
        got = compare_pass_at_k(counts, [1, 2], np.random.default_rng(0))
        np.testing.assert_allclose(got.before_K, [1 / 8, 1 / 4])
        np.testing.assert_allclose(got.after_K, [1 / 2, (5 / 6 + 11 / 14) / 2])
        np.testing.assert_allclose(got.difference_K, got.after_K - got.before_K)
        # Half the resamples of two questions have no spread: nothing is excluded.
        np.testing.assert_array_equal(got.low_K, -1.0)
        np.testing.assert_array_equal(got.detectable_K, np.inf)

    def test_agrees_with_resampling_question_indices(self) -> None:
        generator = np.random.default_rng(2)
        counts = draw_pair(generator, 60)
        got = compare_pass_at_k(counts, [1, 8], generator, draws=20_000)
        rows = counts.rows()
        value = pass_at_k(rows[:, 2], rows[:, 3], [1, 8]) - pass_at_k(
            rows[:, 0], rows[:, 1], [1, 8]
        )
        drawn = value[generator.integers(0, 60, (20_000, 60))]
        t = np.abs(drawn.mean(axis=1) - value.mean(axis=0)) / drawn.std(axis=1)
        half = np.quantile(t, 0.95, axis=0) * value.std(axis=0)
        np.testing.assert_allclose(got.high_K - got.difference_K, half, rtol=0.03)
        np.testing.assert_allclose(got.difference_K - got.low_K, half, rtol=0.03)

    @given(st.integers(0, 10_000))
    @settings(max_examples=15, deadline=None)
    def test_order_does_not_matter_and_exchange_changes_the_sign(self, seed: int) -> None:
        generator = np.random.default_rng(seed)
        rows = draw_pair(generator, 30).rows()
        order = generator.permutation(30)

        def compare(rows_Q4: Ints) -> list[Floats]:
            got = compare_pass_at_k(
                PairedCounts(*rows_Q4.T), [1, 4, 16], np.random.default_rng(1), draws=200
            )
            return [got.difference_K, got.low_K, got.high_K, got.band_low_K, got.band_high_K]

        first, second = compare(rows), compare(rows[order])
        for one, other in zip(first, second, strict=True):
            np.testing.assert_array_equal(one, other)
        np.testing.assert_allclose(compare(rows[:, [2, 3, 0, 1]])[0], -first[0], atol=1e-15)
        assert np.all((first[3] <= first[1]) & (first[1] <= first[0]) & (first[0] <= first[2]))
        assert np.all(first[2] <= first[4])

    def test_equal_models_have_a_width_from_their_number_alone(self) -> None:
        n, correct = [8] * 60, [4] * 30 + [0] * 30
        got = compare_pass_at_k(
            PairedCounts(n, correct, n, correct), [1, 8], np.random.default_rng(0)
        )
        unseen = 1 - 0.025 ** (1 / 60)
        np.testing.assert_allclose(got.high_K, unseen)
        np.testing.assert_allclose(got.band_low_K, -unseen)
        np.testing.assert_array_equal(got.detectable_K, np.inf)

    @pytest.mark.parametrize(("changed", "shown"), [(3, False), (4, False), (8, True)])
    def test_a_few_questions_that_changed_one_way_are_judged_like_a_sign_test(
        self, changed: int, shown: bool
    ) -> None:
        n = [8] * 100
        after = [4] * changed + [0] * (100 - changed)
        got = compare_pass_at_k(PairedCounts(n, [0] * 100, n, after), [1], np.random.default_rng(0))
        assert (got.low_K[0] > 0.0) == shown

    def test_covers_one_k_and_all_k_as_often_as_it_says_and_sees_what_it_says(self) -> None:
        generator = np.random.default_rng(20_260_507)
        ks = np.array([1, 4, 16])
        truth, studies = true_difference(ks), 1000
        single, band, seen, detectable = np.zeros(3), 0, 0, 0.0
        for _ in range(studies):
            got = compare_pass_at_k(draw_pair(generator, 80), ks, generator, draws=300)
            single += (got.low_K <= truth) & (truth <= got.high_K)
            band += bool(((got.band_low_K <= truth) & (truth <= got.band_high_K)).all())
            # What would be excluded were the truth as far from zero as the study can see.
            shift = got.detectable_K[2] * np.sign(truth[2]) - truth[2]
            seen += bool(got.band_high_K[2] + shift < 0.0)
            detectable += got.detectable_K[2] / studies
        assert np.all(np.abs(single / studies - 0.95) <= 0.02), single
        assert abs(band / studies - 0.95) <= 0.02, band
        assert abs(seen / studies - 0.80) <= 0.06, seen
        assert 0.05 < detectable < 0.25

    def test_refuses(self) -> None:
        with pytest.raises(DataError, match="before and after have 2 and 1 questions"):
            PairedCounts([8, 8], [1, 1], [8], [1])
        with pytest.raises(DataError, match="c exceeds n in row 0"):
            PairedCounts([8], [9], [8], [1])
        counts = PairedCounts([8], [1], [4], [1])
        with pytest.raises(DataError, match="k=5 exceeds n=4"):
            compare_pass_at_k(counts, [5], np.random.default_rng(0))
        with pytest.raises(ConfigError, match="draws is 39"):
            compare_pass_at_k(counts, [1], np.random.default_rng(0), draws=39)


class TestBoundMeans:
    def test_a_k_that_few_questions_decide_leaves_the_others_alone(self) -> None:
        generator = np.random.default_rng(0)
        values = np.column_stack([generator.random(100), np.repeat([1.0, 0.0], [2, 98])])
        got = bound_means(values, np.ones(100, np.int64), 0.0, generator, 4000, 0.95)
        assert np.isinf(got.critical_K[1])
        assert got.band_high_K[1] == 1.0
        assert got.band_high_K[0] - got.mean_K[0] < 1.5 * (got.high_K[0] - got.mean_K[0])

    def test_all_k_together_are_no_narrower_than_one(self) -> None:
        generator = np.random.default_rng(1)
        values = generator.integers(0, 2, (40, 6)).astype(float)
        got = bound_means(values, np.ones(40, np.int64), 0.0, generator, 500, 0.95)
        assert np.all((got.band_low_K <= got.low_K) & (got.high_K <= got.band_high_K))
