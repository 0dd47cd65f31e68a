"""The prior's likelihood against scipy, its gradient, and priors that are found again."""

import time

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import optimize, stats

from attrib.analysis.prior import (
    Prior,
    fit_prior,
    log_beta_binomial,
    log_likelihood_gradient,
    spike_posterior,
    tally_counts,
    to_point,
    to_prior,
)
from attrib.errors import ConfigError, DataError

Ints = npt.NDArray[np.int64]

shapes = st.floats(0.05, 50.0)
priors = st.builds(Prior, st.sampled_from([0.0, 0.01, 0.3, 0.9]), shapes, shapes)
studies = st.lists(
    st.integers(1, 40).flatmap(lambda n: st.tuples(st.just(n), st.integers(0, n))),
    min_size=1,
    max_size=8,
)


def draw_study(prior: Prior, n_Q: Ints, seed: int) -> Ints:
    """Return correct rollouts of questions whose p is drawn from the prior."""
    generator = np.random.default_rng(seed)
    p_Q = generator.beta(prior.a, prior.b, n_Q.size)
    p_Q[generator.random(n_Q.size) < prior.spike] = 0.0
    return generator.binomial(n_Q, p_Q)


def likelihood_by_definition(prior: Prior, n_Q: Ints, correct_Q: Ints) -> float:
    chance_Q = (1 - prior.spike) * stats.betabinom.pmf(correct_Q, n_Q, prior.a, prior.b)
    return float(np.log(chance_Q + prior.spike * (correct_Q == 0)).sum())


class TestLikelihood:
    def test_uniform_p_makes_every_count_as_likely(self) -> None:
        got = np.exp(log_beta_binomial(9, np.arange(10), 1.0, 1.0))
        np.testing.assert_allclose(got, np.full(10, 0.1), rtol=1e-12)

    @pytest.mark.parametrize("n", [1, 16, 128, 4096])
    @pytest.mark.parametrize(("a", "b"), [(0.05, 0.4), (1.0, 1.0), (3.0, 50.0), (900.0, 7.0)])
    def test_agrees_with_scipy_at_every_count(self, n: int, a: float, b: float) -> None:
        counts = np.arange(n + 1)
        want = stats.betabinom.logpmf(counts, n, a, b)
        np.testing.assert_allclose(log_beta_binomial(n, counts, a, b), want, rtol=1e-8, atol=1e-8)

    def test_hand_computed_weight_of_the_spike(self) -> None:
        # Beta(1, 1) is never-correct in 9 with 1/10: 0.1 against 0.9 · 0.1.
        assert spike_posterior(Prior(0.1, 1.0, 1.0), 9) == pytest.approx(1 / 1.9)
        assert spike_posterior(Prior(0.0, 1.0, 1.0), 9) == 0.0

    def test_zeros_that_neither_part_explains_are_finite(self) -> None:
        """0 of 10,000 under Beta(10,000, 0.001) is far below the smallest float."""
        prior, tally = Prior(0.0, 1e4, 1e-3), tally_counts([10_000, 10_000], [0, 5000])
        value, gradient = log_likelihood_gradient(tally, prior)
        assert value < -1000
        assert np.isfinite(gradient).all()
        assert spike_posterior(prior, 10_000) == 0.0
        assert spike_posterior(Prior(1e-9, 1e4, 1e-3), 10_000) == pytest.approx(1.0)

    @given(studies, priors)
    def test_value_is_the_definition_and_gradient_its_slope(
        self, study: list[tuple[int, int]], prior: Prior
    ) -> None:
        n, correct = np.array(study).T
        tally = tally_counts(n, correct)
        value, gradient = log_likelihood_gradient(tally, prior)
        assert value == pytest.approx(likelihood_by_definition(prior, n, correct), rel=1e-8)
        point = to_point(Prior(prior.spike + 0.01, prior.a, prior.b))
        _, gradient = log_likelihood_gradient(tally, to_prior(point))
        slope = optimize.approx_fprime(
            point, lambda at: log_likelihood_gradient(tally, to_prior(at))[0], 1e-6
        )
        np.testing.assert_allclose(gradient, slope, rtol=2e-3, atol=2e-3 * len(study))


class TestTally:
    @given(studies)
    def test_pairs_give_the_questions_back(self, study: list[tuple[int, int]]) -> None:
        n, correct = np.array(study).T
        tally = tally_counts(n, correct)
        assert tally.questions == len(study) == tally.questions_U.sum()
        np.testing.assert_array_equal(tally.n_U[tally.pair_Q], n)
        np.testing.assert_array_equal(tally.correct_U[tally.pair_Q], correct)
        assert len({*zip(tally.n_U.tolist(), tally.correct_U.tolist(), strict=True)}) == len(
            tally.n_U
        )


class TestFitPrior:
    @pytest.mark.parametrize(
        "prior", [Prior(0.15, 0.5, 1.0), Prior(0.3, 2.0, 3.0), Prior(0.05, 0.3, 0.3)]
    )
    def test_finds_a_known_prior_again(self, prior: Prior) -> None:
        n = np.random.default_rng(1).choice([64, 128], 40_000)
        found = fit_prior(n, draw_study(prior, n, 2)).prior
        assert found.spike == pytest.approx(prior.spike, abs=0.015)
        assert found.a == pytest.approx(prior.a, rel=0.05)
        assert found.b == pytest.approx(prior.b, rel=0.05)

    @pytest.mark.parametrize("seed", range(4))
    def test_no_point_of_another_optimiser_is_higher(self, seed: int) -> None:
        n = np.full(200, 32)
        correct = draw_study(Prior(0.1 * seed, 0.4, 1.0), n, seed)
        fit = fit_prior(n, correct)

        def cost(x: npt.NDArray[np.float64]) -> float:
            prior = Prior(1 / (1 + np.exp(-x[0])) * 0.999, np.exp(x[1]), np.exp(x[2]))
            return -likelihood_by_definition(prior, n, correct)

        for start in ([-3.0, 0.0, 0.0], [0.0, 2.0, 2.0], [-8.0, -1.0, 0.0]):
            other = optimize.minimize(cost, start, method="Nelder-Mead")
            assert fit.log_likelihood >= -other.fun - 1e-6
        assert fit.log_likelihood == pytest.approx(
            likelihood_by_definition(fit.prior, n, correct), rel=1e-10
        )

    def test_order_does_not_matter(self) -> None:
        n = np.random.default_rng(3).integers(16, 40, 300)
        correct = draw_study(Prior(0.1, 0.5, 1.0), n, 4)
        order = np.random.default_rng(5).permutation(300)
        assert fit_prior(n, correct).prior == fit_prior(n[order], correct[order]).prior

    def test_equal_p_ends_at_a_narrow_beta(self) -> None:
        correct = np.random.default_rng(6).binomial(64, 0.5, 300)
        prior = fit_prior(np.full(300, 64), correct).prior
        assert prior.a / (prior.a + prior.b) == pytest.approx(0.5, abs=0.01)
        assert prior.a > 50

    def test_a_hundred_thousand_questions_take_seconds(self) -> None:
        n = np.full(100_000, 128)
        correct = draw_study(Prior(0.1, 0.5, 1.0), n, 7)
        start = time.perf_counter()
        fit_prior(n, correct)
        assert time.perf_counter() - start < 5.0

    def test_refuses_what_shapes_no_prior(self) -> None:
        with pytest.raises(DataError, match="29 questions, 29 of them answered both"):
            fit_prior([16] * 29, [8] * 29)
        with pytest.raises(DataError, match="100 questions, 0 of them answered both correctly"):
            fit_prior([128] * 100, [0] * 100)
        with pytest.raises(DataError, match="n is at most 3; a prior of p needs"):
            fit_prior([3] * 40, [1] * 40)
        with pytest.raises(DataError, match="c exceeds n in row 0"):
            fit_prior([16] * 40, [17] * 40)

    @pytest.mark.parametrize(
        ("spike", "a", "b"), [(-0.1, 1, 1), (1.0, 1, 1), (0.1, 0, 1), (0.1, 1, float("inf"))]
    )
    def test_prior_refuses_what_is_no_distribution(self, spike: float, a: float, b: float) -> None:
        with pytest.raises(ConfigError, match="0 ≤ spike < 1"):
            Prior(spike, a, b)
