"""Buckets of halves by hand and by enumeration, fresh draws by simulation, and moved cuts."""

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from attrib.analysis.buckets import Bucket, Cuts, assign_buckets
from attrib.analysis.membership import fresh_bucket_probabilities, rate_posterior
from attrib.analysis.prior import Prior, PriorFit, fit_prior
from attrib.analysis.stability import fresh_stability, move_never_correct_cut, split_half
from attrib.errors import ConfigError, DataError

CUTS = Cuts(0.4, 0.7)
PRIOR = Prior(0.1, 0.5, 1.0)


def draw_fit(questions: int, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, PriorFit]:
    generator = np.random.default_rng(seed)
    n = generator.choice([32, 64], questions)
    p = generator.beta(PRIOR.a, PRIOR.b, questions)
    p[generator.random(questions) < PRIOR.spike] = 0.0
    correct = generator.binomial(n, p)
    return p, n, correct, fit_prior(n, correct)


def split_by_enumeration(n: int, correct: int, cuts: Cuts) -> np.ndarray:
    """Return the joint buckets over every way to choose two disjoint halves."""
    half = n // 2
    right = np.arange(n) < correct
    order = list(Bucket)
    joint = np.zeros((5, 5))
    for one in combinations(range(n), half):
        rest = [index for index in range(n) if index not in one]
        for other in combinations(rest, half):
            counts = [int(right[list(one)].sum()), int(right[list(other)].sum())]
            names = assign_buckets([half, half], counts, cuts)
            joint[order.index(Bucket(names[0])), order.index(Bucket(names[1]))] += 1
    return joint / joint.sum()


class TestSplitHalf:
    def test_hand_computed_case(self) -> None:
        """2 of 4: halves have (1, 1) with 2/3, else (0, 2). 0 of 4 and 4 of 4 always agree."""
        got = split_half([4, 4, 4], [2, 0, 4], CUTS)
        assert got.agreement.value == pytest.approx((2 / 3 + 1 + 1) / 3)
        want = np.zeros((5, 5))
        want[0, 0] = want[4, 4] = 1.0
        want[2, 2] = 2 / 3
        want[0, 4] = want[4, 0] = 1 / 6
        np.testing.assert_allclose(got.expected_55, want, atol=1e-12)
        # Margins 7/18, 4/18, 7/18 agree by chance with 114/324.
        assert got.kappa == pytest.approx((8 / 9 - 114 / 324) / (1 - 114 / 324))
        assert got.agreement.low < got.agreement.value < got.agreement.high

    def test_an_odd_rollout_is_left_out(self) -> None:
        """1 of 5: it is left out with 1/5, and then both halves are never-correct."""
        assert split_half([5], [1], CUTS).agreement.value == pytest.approx(1 / 5)

    @pytest.mark.parametrize("n", [2, 3, 6, 7, 8])
    def test_agrees_with_every_split(self, n: int) -> None:
        for correct in range(n + 1):
            got = split_half([n], [correct], CUTS)
            want = split_by_enumeration(n, correct, CUTS)
            np.testing.assert_allclose(got.expected_55, want, atol=1e-12)
            assert got.agreement.value == pytest.approx(np.trace(want))

    @given(st.lists(st.integers(0, 65), min_size=1, max_size=12))
    def test_table_is_symmetric_adds_up_and_forgets_order(self, correct: list[int]) -> None:
        n = [65] * len(correct)
        got, back = split_half(n, correct), split_half(n, correct[::-1])
        np.testing.assert_allclose(got.expected_55, got.expected_55.T, atol=1e-9)
        assert got.expected_55.sum() == pytest.approx(len(correct)) == got.questions
        assert np.trace(got.expected_55) / len(correct) == pytest.approx(got.agreement.value)
        np.testing.assert_allclose(got.expected_55, back.expected_55, atol=1e-12)

    def test_one_bucket_has_no_kappa(self) -> None:
        got = split_half([64, 64], [0, 0])
        assert (got.agreement.value, got.kappa) == (1.0, None)

    def test_refuses(self) -> None:
        with pytest.raises(ConfigError, match=r"n is 31, a half is 15; .* Sample 32 rollouts"):
            split_half([64, 31], [3, 3])
        with pytest.raises(DataError, match="n is 1; it has no halves"):
            split_half([1], [1], CUTS)


class TestFreshStability:
    def test_values_are_means_of_the_posteriors(self) -> None:
        _, n, correct, fit = draw_fit(500, 0)
        names = assign_buckets(n, correct)
        chances = fresh_bucket_probabilities(fit.prior, n, correct)
        means = rate_posterior(fit.prior, n, correct).mean_Q
        rows = fresh_stability(fit)
        assert [row.bucket for row in rows] == list(Bucket)
        assert sum(row.questions for row in rows) == 500
        for column, row in enumerate(rows):
            member = names == row.bucket
            assert row.questions == member.sum()
            assert row.stays is not None
            assert row.fresh_rate is not None
            assert row.stays.value == pytest.approx(chances[member, column].mean())
            assert row.fresh_rate.value == pytest.approx(means[member].mean())
            assert row.observed_rate == pytest.approx((correct / n)[member].mean())

    def test_a_real_fresh_draw_agrees(self) -> None:
        """30,000 questions drawn again: who stays, and where the rates go."""
        p, n, correct, fit = draw_fit(30_000, 1)
        fresh = np.random.default_rng(2).binomial(n, p)
        names, again = assign_buckets(n, correct), assign_buckets(n, fresh)
        for row in fresh_stability(fit):
            member = names == row.bucket
            assert row.stays is not None
            assert row.fresh_rate is not None
            tolerance = 4 * 0.5 / np.sqrt(row.questions)
            stayed = (again == names)[member].mean()
            assert row.stays.value == pytest.approx(stayed, abs=tolerance)
            assert row.fresh_rate.value == pytest.approx(
                (fresh / n)[member].mean(), abs=tolerance * 0.3
            )

    def test_extremes_regress_to_the_mean(self) -> None:
        never, *_, always = fresh_stability(draw_fit(500, 3)[3])
        assert never.observed_rate == 0.0
        assert never.fresh_rate is not None
        assert never.fresh_rate.low is not None
        assert never.fresh_rate.low > 0.0
        assert always.observed_rate == 1.0
        assert always.fresh_rate is not None
        assert always.fresh_rate.high is not None
        assert always.fresh_rate.high < 1.0

    def test_an_empty_bucket_has_none(self) -> None:
        rows = fresh_stability(fit_prior([16] * 40, [4, 9] * 20))
        assert (rows[0].questions, rows[0].stays, rows[0].observed_rate) == (0, None, None)
        assert rows[0].fresh_rate is None

    def test_refuses_small_n_without_cuts(self) -> None:
        fit = fit_prior([8] * 40, [2, 4] * 20)
        with pytest.raises(ConfigError, match="rarely-correct cannot occur"):
            fresh_stability(fit)
        assert fresh_stability(fit, CUTS)[1].questions == 20


class TestMoveCut:
    def test_counts_by_hand_and_rates_from_the_posterior(self) -> None:
        n, correct = np.full(100, 16), np.array([0] * 40 + [1] * 10 + [2] * 5 + [9] * 45)
        fit = fit_prior(n, correct)
        rows = move_never_correct_cut(fit)
        assert [(r.most_correct, r.questions, r.joining) for r in rows] == [
            (0, 40, 0),
            (1, 50, 10),
            (2, 55, 15),
            (4, 55, 15),
        ]
        assert rows[0].joining_rate is None
        means = rate_posterior(fit.prior, n, correct).mean_Q
        assert rows[2].joining_rate is not None
        assert rows[2].rate is not None
        assert rows[2].joining_rate.value == pytest.approx(means[40:55].mean())
        assert rows[2].rate.value == pytest.approx(means[:55].mean())
        assert rows[2].rate.low is not None
        assert rows[2].rate.low < rows[2].rate.value

    def test_refuses(self) -> None:
        fit = fit_prior([16] * 40, [4, 9] * 20)
        for cut in (-1, 16):
            with pytest.raises(DataError, match=rf"cut {cut} is not between 0 and 15"):
                move_never_correct_cut(fit, [0, cut])
        nobody = move_never_correct_cut(fit, [1])[0]
        assert (nobody.questions, nobody.rate) == (0, None)
