"""Posteriors by hand, against integration and simulation, and what must hold of any counts."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import integrate, stats

from attrib.analysis.buckets import DEFAULT_CUTS, Bucket, Cuts, assign_buckets
from attrib.analysis.membership import (
    RATE_EDGES,
    class_probabilities,
    fresh_bucket_probabilities,
    fresh_chances,
    rate_posterior,
)
from attrib.analysis.prior import Prior, fit_prior
from attrib.errors import ConfigError, DataError

UNIFORM = Prior(0.0, 1.0, 1.0)
PRIOR = Prior(0.1, 0.5, 1.5)

shapes = st.floats(0.05, 20.0)
priors = st.builds(Prior, st.sampled_from([0.0, 0.05, 0.6]), shapes, shapes)
counts = st.integers(16, 200).flatmap(lambda n: st.tuples(st.just(n), st.integers(0, n)))
studies = st.lists(counts, min_size=1, max_size=6)


def draw_study(prior: Prior, n: int, questions: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(seed)
    p = generator.beta(prior.a, prior.b, questions)
    p[generator.random(questions) < prior.spike] = 0.0
    return p, generator.binomial(n, p)


class TestRatePosterior:
    def test_hand_computed_case(self) -> None:
        # Uniform: Beta(1 + c, 1 + n - c). 0 of 9 is Beta(1, 10): P(p > x) = (1 - x)^10.
        got = rate_posterior(UNIFORM, [8, 9, 9], [3, 0, 9])
        assert got.mean_Q == pytest.approx([4 / 10, 1 / 11, 10 / 11])
        assert (got.low_Q[1], got.high_Q[2]) == (0.0, 1.0)
        assert got.high_Q[1] == pytest.approx(1 - 0.05**0.1)
        assert got.low_Q[2] == pytest.approx(0.05**0.1)
        assert (got.low_Q[0], got.high_Q[0]) == pytest.approx(stats.beta.interval(0.95, 4, 6))

    def test_the_spike_lowers_means_and_shortens_nothing(self) -> None:
        # The spike has 0.1 / (0.1 + 0.9 · 0.1) = 1/1.9 after 0 of 9.
        with_spike = rate_posterior(Prior(0.1, 1.0, 1.0), [9, 9], [0, 1])
        without = rate_posterior(UNIFORM, [9, 9], [0, 1])
        assert with_spike.mean_Q == pytest.approx([(1 - 1 / 1.9) / 11, 2 / 11])
        np.testing.assert_array_equal(with_spike.high_Q, without.high_Q)
        assert rate_posterior(Prior(0.999, 1.0, 1.0), [9], [0]).high_Q[0] > 0.2

    @pytest.mark.parametrize(("n", "correct"), [(16, 0), (128, 0), (128, 1), (128, 70), (20, 20)])
    def test_mean_and_classes_are_integrals(self, n: int, correct: int) -> None:
        def weigh(p: float) -> float:
            return float(stats.binom.pmf(correct, n, p) * stats.beta.pdf(p, PRIOR.a, PRIOR.b))

        def integrate_to(end: float, power: int = 0) -> float:
            # p = x² takes the density's pole at 0 away.
            value, _ = integrate.quad(
                lambda x: weigh(x * x) * x ** (2 * power) * 2 * x,
                0,
                end**0.5,
                limit=300,
                points=[min(0.9, (correct / n) ** 0.5) * end**0.5],
            )
            return value * (1 - PRIOR.spike)

        spike = PRIOR.spike if correct == 0 else 0.0
        total = integrate_to(1.0) + spike
        mean = rate_posterior(PRIOR, [n], [correct]).mean_Q[0]
        assert mean == pytest.approx(integrate_to(1.0, power=1) / total, rel=1e-6)
        below = class_probabilities(PRIOR, [n], [correct])[0].cumsum()
        for edge, got in zip(RATE_EDGES, below, strict=False):
            assert got == pytest.approx((integrate_to(edge) + spike) / total, rel=1e-5, abs=1e-9)

    def test_covers_p_of_questions_drawn_from_the_prior(self) -> None:
        p, correct = draw_study(PRIOR, 64, 20_000, 0)
        n = np.full(20_000, 64)
        for prior in (PRIOR, fit_prior(n[:2000], correct[:2000]).prior):
            got = rate_posterior(prior, n, correct)
            inside = (got.low_Q <= p) & (p <= got.high_Q)
            assert inside[correct > 0].mean() == pytest.approx(0.95, abs=0.007)
            assert inside[correct == 0].mean() > 0.95
            assert inside.mean() == pytest.approx(0.95, abs=0.02)

    @given(priors, st.integers(1, 300))
    def test_more_incorrect_rollouts_lower_the_bound(self, prior: Prior, n: int) -> None:
        got = rate_posterior(prior, [n, 2 * n, 8 * n], [0, 0, 0])
        assert np.all(np.diff(got.high_Q) < 0) or got.high_Q[0] < 1e-12
        assert np.all(np.diff(got.mean_Q) < 0) or got.mean_Q[0] < 1e-9

    @given(st.integers(4, 100), st.data())
    def test_more_rollouts_narrow(self, n: int, data: st.DataObject) -> None:
        correct = data.draw(st.integers(1, n - 1))
        got = rate_posterior(UNIFORM, [n, 4 * n, 16 * n], [correct, 4 * correct, 16 * correct])
        assert np.all(np.diff(got.high_Q - got.low_Q) < 0)

    @given(priors, studies)
    def test_order_does_not_matter(self, prior: Prior, study: list[tuple[int, int]]) -> None:
        n, correct = np.array(study).T
        whole = rate_posterior(prior, n, correct)
        for i, (one_n, one_correct) in enumerate(study):
            alone = rate_posterior(prior, [one_n], [one_correct])
            assert alone.mean_Q[0] == pytest.approx(whole.mean_Q[i])
            assert alone.low_Q[0] == pytest.approx(whole.low_Q[i])
            assert alone.high_Q[0] == pytest.approx(whole.high_Q[i])


class TestFreshBuckets:
    def test_hand_computed_counts(self) -> None:
        # 1 of 1 under uniform p is Beta(2, 1): E p² = 1/2, E p = 2/3.
        one = np.array([[1]])
        got = fresh_chances(UNIFORM, one, one, 2, np.arange(3))[0]
        assert got == pytest.approx([1 / 6, 1 / 3, 1 / 2])
        # 0 of 9 and the spike at 1/1.9: the rest is Beta(1, 10), one more is wrong with 10/11.
        nine, none = np.array([[9]]), np.array([[0]])
        again = fresh_chances(Prior(0.1, 1.0, 1.0), nine, none, 1, np.arange(2))[0]
        assert again == pytest.approx([1 / 1.9 + 0.9 / 1.9 * 10 / 11, 0.9 / 1.9 / 11])

    @given(priors, counts, st.integers(16, 150))
    def test_counts_agree_with_scipy(
        self, prior: Prior, count: tuple[int, int], fresh_n: int
    ) -> None:
        n, correct = count
        k = np.arange(fresh_n + 1)
        got = fresh_chances(prior, np.array([[n]]), np.array([[correct]]), fresh_n, k)[0]
        want = stats.betabinom.pmf(k, fresh_n, prior.a + correct, prior.b + n - correct)
        none = stats.betabinom.pmf(0, n, prior.a, prior.b)
        spike = prior.spike / (prior.spike + (1 - prior.spike) * none) if correct == 0 else 0.0
        np.testing.assert_allclose(got, (1 - spike) * want + spike * (k == 0), atol=1e-9)

    @given(priors, studies)
    def test_rows_sum_to_one_and_do_not_depend_on_each_other(
        self, prior: Prior, study: list[tuple[int, int]]
    ) -> None:
        n, correct = np.array(study).T
        buckets = fresh_bucket_probabilities(prior, n, correct)
        classes = class_probabilities(prior, n, correct)
        for rows, width in ((buckets, 5), (classes, 6)):
            assert rows.shape == (len(study), width)
            assert rows.min() >= 0.0
            np.testing.assert_allclose(rows.sum(axis=1), 1.0, atol=1e-12)
        back = fresh_bucket_probabilities(prior, n[::-1], correct[::-1])[::-1]
        np.testing.assert_allclose(buckets, back, atol=1e-12)

    def test_by_simulation_with_another_n(self) -> None:
        p, correct = draw_study(PRIOR, 32, 200_000, 1)
        fresh = np.random.default_rng(2).binomial(64, p)
        names = assign_buckets(np.full(fresh.size, 64), fresh)
        for c in (0, 1, 9):
            got = fresh_bucket_probabilities(PRIOR, [32], [c], fresh_n=64)[0]
            share = [(names[correct == c] == bucket).mean() for bucket in Bucket]
            assert got == pytest.approx(share, abs=0.02)

    def test_a_hundred_thousand_questions_with_cuts(self) -> None:
        generator = np.random.default_rng(3)
        n = generator.choice([8, 32, 128], 100_000)
        correct = generator.binomial(n, 0.3)
        got = fresh_bucket_probabilities(PRIOR, n, correct, cuts=Cuts(0.2, 0.6))
        assert got.shape == (100_000, 5)

    def test_refuses(self) -> None:
        with pytest.raises(ConfigError, match="rarely-correct cannot occur below"):
            fresh_bucket_probabilities(PRIOR, [8], [1])
        assert fresh_bucket_probabilities(PRIOR, [8], [1], cuts=DEFAULT_CUTS).shape == (1, 5)
        with pytest.raises(DataError, match="n is 0"):
            fresh_bucket_probabilities(PRIOR, [16], [1], fresh_n=0)
        for edges in ([], [0.1, 0.1], [0.0, 0.5], [0.5, 1.0], [float("nan")]):
            with pytest.raises(ConfigError, match="increase strictly between 0 and 1"):
                class_probabilities(PRIOR, [16], [1], edges)
        with pytest.raises(ConfigError, match="confidence is 2"):
            rate_posterior(PRIOR, [16], [1], 2.0)
