"""What never-correct holds: by hand, coverage on known priors, and other numbers of rollouts."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from attrib.analysis.intervals import wilson_interval
from attrib.analysis.mixture import never_correct_at, never_correct_mixture
from attrib.analysis.prior import (
    Prior,
    PriorFit,
    fit_prior,
    log_beta_binomial,
    log_likelihood_gradient,
    tally_counts,
)
from attrib.errors import ConfigError, DataError

PRIOR = Prior(0.1, 0.5, 1.0)


def draw_study(
    prior: Prior, n: np.ndarray, generator: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    p = generator.beta(prior.a, prior.b, n.size)
    p[generator.random(n.size) < prior.spike] = 0.0
    return p, generator.binomial(n, p)


def take_as_fit(prior: Prior, n: object, correct: object) -> PriorFit:
    """Return a fit whose prior is given, not fitted."""
    tally = tally_counts(n, correct)  # type: ignore[arg-type]
    return PriorFit(prior, log_likelihood_gradient(tally, prior)[0], tally)


class TestMixture:
    def test_hand_computed_case(self) -> None:
        """Uniform p after 0 of n is Beta(1, n + 1): P(p ≤ t) = 1 - (1 - t)^(n + 1)."""
        n, correct = [9, 9, 19, 9, 9], [0, 0, 0, 4, 9]
        rows = never_correct_mixture(take_as_fit(Prior(0.0, 1.0, 1.0), n, correct), [0.01, 0.1])
        for row, p in zip(rows, (0.01, 0.1), strict=True):
            assert (row.p, row.never_correct) == (p, 3)
            want = 2 * (1 - (1 - p) ** 10) + 1 - (1 - p) ** 20
            assert row.expected.value == pytest.approx(want)
            assert row.chance_of_none == pytest.approx((2 * (1 - p) ** 9 + (1 - p) ** 19) / 3)

    def test_the_spike_counts_as_below_everything(self) -> None:
        """After 0 of 9 the spike has 1/1.9 where it has 1/10 and p is uniform otherwise."""
        fit = take_as_fit(Prior(0.1, 1.0, 1.0), [9, 9], [0, 3])
        row = never_correct_mixture(fit, [0.2])[0]
        assert row.expected.value == pytest.approx(1 / 1.9 + 0.9 / 1.9 * (1 - 0.8**10))

    def test_rows_grow_and_the_number_is_wider_than_its_expectation(self) -> None:
        n = np.full(2000, 128)
        _, correct = draw_study(PRIOR, n, np.random.default_rng(0))
        rows = never_correct_mixture(fit_prior(n, correct))
        assert [row.p for row in rows] == [1e-4, 1e-3, 1e-2]
        values = [row.expected.value for row in rows]
        assert values == sorted(values)
        for row in rows:
            assert row.expected.low is not None
            assert row.expected.high is not None
            assert row.number_low is not None
            assert row.number_high is not None
            assert 0 <= row.number_low <= row.expected.low < row.expected.value
            assert row.expected.value < row.expected.high <= row.number_high <= row.never_correct
        assert rows[0].chance_of_none == pytest.approx(0.9999**128)

    @pytest.mark.parametrize(("spike", "questions"), [(0.1, 500), (0.0, 300)])
    def test_intervals_cover(self, spike: float, questions: int) -> None:
        """20 studies; `benchmarks/check_membership.py` has more worlds and studies."""
        generator = np.random.default_rng(11)
        prior, n = Prior(spike, 0.5, 1.0), np.full(questions, 64)
        expected, numbers = [], []
        for _ in range(20):
            p, correct = draw_study(prior, n, generator)
            row = never_correct_mixture(fit_prior(n, correct), [0.001])[0]
            never = correct == 0
            truth = take_as_fit(prior, n, correct)
            value = never_correct_mixture(truth, [0.001])[0].expected.value
            low = -1.0 if row.expected.low is None else row.expected.low
            high = np.inf if row.expected.high is None else row.expected.high
            expected.append(low <= value <= high)
            number = int((p[never] <= 0.001).sum())
            numbers.append((row.number_low or 0) <= number <= (row.number_high or never.sum()))
        assert np.sum(expected) >= 17  # 95 % does worse once in 60
        assert np.sum(numbers) >= 17

    def test_all_below_is_no_bound(self) -> None:
        """Where p is 0 or about 1/2, all never-correct questions may be below any threshold."""
        generator = np.random.default_rng(2)
        n = np.full(200, 64)
        _, correct = draw_study(Prior(0.3, 30.0, 30.0), n, generator)
        row = never_correct_mixture(fit_prior(n, correct), [0.001])[0]
        assert row.expected.high is None
        assert row.number_high is None
        assert row.expected.low is not None
        assert row.expected.low > 0.99 * row.never_correct
        assert "no bound above" in row.expected.reason

    def test_refuses(self) -> None:
        fit = fit_prior([16] * 40, [4, 9] * 20)
        with pytest.raises(DataError, match="No question is never-correct"):
            never_correct_mixture(fit)
        with pytest.raises(ConfigError, match="increase strictly"):
            never_correct_mixture(fit, [0.1, 0.01])


class TestOtherN:
    def test_fewer_rollouts_are_counted_by_hand(self) -> None:
        # One of n: 1 - c/n. Two of 4 with c = 2: C(2,2)/C(4,2) = 1/6; with c = 1: 3/6.
        fit = take_as_fit(Prior(0.0, 1.0, 1.0), [4] * 4, [0, 1, 2, 4])
        one, two, four = never_correct_at(fit, [1, 2, 4])
        assert one.expected.value == pytest.approx(1 + 3 / 4 + 2 / 4)
        assert two.expected.value == pytest.approx(1 + 3 / 6 + 1 / 6)
        assert four.expected.value == pytest.approx(1)
        assert not one.from_prior
        want = wilson_interval(1, 4)
        assert four.expected.low == pytest.approx(4 * want.low)
        assert four.expected.high == pytest.approx(4 * want.high)

    def test_more_rollouts_by_hand(self) -> None:
        """Uniform p is never-correct in n with 1/(n + 1)."""
        fit = take_as_fit(Prior(0.1, 1.0, 1.0), [9] * 10, [0, 3] * 5)
        row = never_correct_at(fit, [99])[0]
        assert row.expected.value == pytest.approx(10 * (0.1 + 0.9 / 100))
        assert row.from_prior

    @given(st.lists(st.integers(0, 24), min_size=5, max_size=30), st.integers(1, 24))
    def test_subsets_agree_with_drawing_them(self, correct: list[int], n: int) -> None:
        fit = take_as_fit(PRIOR, [24] * len(correct), correct)
        row = never_correct_at(fit, [n])[0]
        want = sum(
            np.prod([(24 - c - j) / (24 - j) for j in range(n)]) if c + n <= 24 else 0.0
            for c in correct
        )
        assert row.expected.value == pytest.approx(want)
        assert row.expected.low is not None
        assert row.expected.high is not None
        assert 0 <= row.expected.low <= want + 1e-9
        assert want - 1e-9 <= row.expected.high <= len(correct)

    def test_intervals_cover(self) -> None:
        generator = np.random.default_rng(5)
        n = np.full(400, 32)
        hits = []
        for _ in range(20):
            _, correct = draw_study(PRIOR, n, generator)
            fit = fit_prior(n, correct)
            for row in never_correct_at(fit, [8, 512]):
                truth = never_correct_at(take_as_fit(PRIOR, [4] * 400, [1] * 400), [row.n])[0]
                low = 0.0 if row.expected.low is None else row.expected.low
                high = 400.0 if row.expected.high is None else row.expected.high
                hits.append(low <= truth.expected.value <= high)
        assert sum(hits[::2]) >= 17
        assert sum(hits[1::2]) >= 17

    @pytest.mark.parametrize(("a", "questions", "n"), [(5.0, 300, 16), (0.5, 100, 16), (1, 60, 4)])
    def test_counted_shares_cover_where_few_questions_carry_them(
        self, a: float, questions: int, n: int
    ) -> None:
        """150 studies; with Beta(5, 1) 0.015 of 300 questions are never-correct in 16."""
        generator = np.random.default_rng(7)
        prior = Prior(0.0, a, 1.0)
        n_Q = np.full(questions, 32)
        truth = questions * float(np.exp(log_beta_binomial(n, 0, a, 1.0)))
        hits = []
        for _ in range(150):
            _, correct = draw_study(prior, n_Q, generator)
            got = never_correct_at(take_as_fit(prior, n_Q, correct), [n])[0].expected
            assert got.low is not None
            assert got.high is not None
            hits.append(got.low <= truth <= got.high)
        assert np.mean(hits) >= 0.91  # 95 % does worse once in 60

    def test_ragged_n_and_refusals(self) -> None:
        generator = np.random.default_rng(6)
        n = generator.integers(16, 65, 300)
        fit = fit_prior(n, draw_study(PRIOR, n, generator)[1])
        rows = never_correct_at(fit, [4096, 16, 32])
        assert [(row.n, row.from_prior) for row in rows] == [(4096, True), (16, False), (32, True)]
        assert rows[1].expected.value > rows[2].expected.value > rows[0].expected.value
        with pytest.raises(DataError, match="n is 0"):
            never_correct_at(fit, [0])
        with pytest.raises(DataError, match="n_K is empty"):
            never_correct_at(fit, [])
