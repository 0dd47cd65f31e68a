"""The sign-flip test against every sign pattern, scipy and McNemar; Holm against its definition."""

import itertools
import math

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from attrib.analysis.intervals import mcnemar_exact
from attrib.analysis.paired import holm, sign_flip_test
from attrib.errors import DataError

Bools = npt.NDArray[np.bool_]
Floats = npt.NDArray[np.float64]


def draw_runs(seed: int, seeds: int, questions: int, chance: float) -> Bools:
    """Return random outcomes, shape (S, Q)."""
    return np.random.default_rng(seed).random((seeds, questions)) < chance


def flip_every_sign(difference_Q: Floats) -> float:
    """Return the p-value from all 2^Q sign patterns, one by one."""
    observed = abs(difference_Q.sum())
    sums = [
        abs(np.dot(signs, difference_Q))
        for signs in itertools.product([-1.0, 1.0], repeat=difference_Q.size)
    ]
    return float(np.mean([total >= observed - 1e-9 for total in sums]))


class TestSignFlipTest:
    @pytest.mark.parametrize(
        ("first_seeds", "second_seeds"), [(1, 1), (3, 3), (2, 3), (5, 2), (10, 4), (1, 3)]
    )
    @pytest.mark.parametrize("draw", range(4))
    def test_agrees_with_every_sign_pattern(
        self, first_seeds: int, second_seeds: int, draw: int
    ) -> None:
        first = draw_runs(draw, first_seeds, 10, 0.7)
        second = draw_runs(100 + draw, second_seeds, 10, 0.3)
        want = flip_every_sign(first.mean(axis=0) - second.mean(axis=0))
        assert sign_flip_test(first, second) == pytest.approx(want, rel=1e-12)

    def test_hand_computed_case(self) -> None:
        # Differences 2/3, 1/3 and -1/3: sums of signed thirds are ±4, ±2 (twice), 0 (twice).
        first = np.array([[1, 1, 0], [1, 0, 0], [0, 0, 0]], bool)
        second = np.array([[0, 0, 1], [0, 0, 0], [0, 0, 0]], bool)
        assert sign_flip_test(first, second) == pytest.approx(6 / 8)
        assert sign_flip_test(first[:, :2], second[:, :2]) == pytest.approx(2 / 4)

    def test_one_seed_is_mcnemar(self) -> None:
        for draw in range(10):
            first, second = draw_runs(draw, 1, 60, 0.6), draw_runs(50 + draw, 1, 60, 0.4)
            want = mcnemar_exact(first[0], second[0])
            assert sign_flip_test(first, second) == pytest.approx(want, rel=1e-12)
            assert sign_flip_test(first[0], second[0]) == pytest.approx(want, rel=1e-12)

    def test_agrees_with_scipy_s_permutation_test(self) -> None:
        first, second = draw_runs(1, 3, 12, 0.6), draw_runs(2, 3, 12, 0.3)
        # In thirds, so that sums which are equal are equal in floating point too.
        difference = (first.sum(axis=0) - second.sum(axis=0)).astype(float)
        want = stats.permutation_test(
            (difference,), np.sum, permutation_type="samples", n_resamples=np.inf
        )
        assert sign_flip_test(first, second) == pytest.approx(want.pvalue, rel=1e-9)

    def test_agrees_with_wilcoxon_where_differences_are_ranks(self) -> None:
        """With n seeds the differences can be 1/n, 2/n, … n/n with any signs: signed ranks."""
        n = 20
        signs = np.where(np.random.default_rng(3).random(n) < 0.75, 1, -1)
        counts = np.arange(1, n + 1) <= np.arange(1, n + 1)[:, None]  # row q: q of n seeds correct
        first_SQ, second_SQ = (
            (counts & (signs == 1)[:, None]).T,
            (counts & (signs == -1)[:, None]).T,
        )
        want = stats.wilcoxon(signs * np.arange(1, n + 1), method="exact").pvalue
        assert sign_flip_test(first_SQ, second_SQ) == pytest.approx(want, rel=1e-9)

    def test_many_questions_agree_with_the_normal_law(self) -> None:
        first, second = draw_runs(4, 3, 5000, 0.51), draw_runs(5, 3, 5000, 0.5)
        difference = first.mean(axis=0) - second.mean(axis=0)
        # A lattice of width 2/3: half a step is taken off, as for any discrete sum.
        z = (abs(difference.sum()) - 1 / 3) / math.sqrt((difference**2).sum())
        assert sign_flip_test(first, second) == pytest.approx(2 * stats.norm.sf(z), rel=1e-3)

    def test_many_changes_do_not_underflow_into_nonsense(self) -> None:
        nothing, everything = np.zeros((3, 5000), bool), np.ones((3, 5000), bool)
        assert 0.0 <= sign_flip_test(nothing, everything) < 1e-300
        assert sign_flip_test(nothing[:, :1000], everything[:, :1000]) == pytest.approx(0.5**999)

    def test_no_difference_is_no_evidence(self) -> None:
        runs = draw_runs(6, 3, 30, 0.5)
        assert sign_flip_test(runs, runs) == 1.0
        # Other seeds, the same seed means.
        assert sign_flip_test(runs, runs[::-1]) == 1.0
        assert sign_flip_test(runs, np.vstack([runs, runs])) == 1.0

    @given(st.integers(0, 10_000), st.integers(1, 4), st.integers(1, 4), st.integers(1, 40))
    def test_properties(self, seed: int, first_seeds: int, second_seeds: int, n: int) -> None:
        first = draw_runs(seed, first_seeds, n, 0.6)
        second = draw_runs(seed + 1, second_seeds, n, 0.4)
        p = sign_flip_test(first, second)
        assert 0.0 < p <= 1.0
        assert sign_flip_test(second, first) == p
        assert sign_flip_test(~first, ~second) == p
        order = np.random.default_rng(seed).permutation(n)
        assert sign_flip_test(first[:, order], second[:, order]) == pytest.approx(p, rel=1e-12)

    def test_rejects_a_true_null_no_more_often_than_it_says(self) -> None:
        """Two arms with the same chance on each question, which differs between questions."""
        generator = np.random.default_rng(7)
        chance_Q = generator.beta(0.5, 0.5, 80)
        p_values = np.array([
            sign_flip_test(*(generator.random((2, 3, 80)) < chance_Q)) for _ in range(1000)
        ])  # fmt: skip
        for level in (0.01, 0.05, 0.2):
            assert np.mean(p_values <= level) < level + 3 * math.sqrt(level / 1000)
        assert np.mean(p_values <= 0.05) > 0.03

    def test_refuses(self) -> None:
        runs = draw_runs(8, 3, 5, 0.5)
        with pytest.raises(DataError, match="first and second have 5 and 4 questions"):
            sign_flip_test(runs, runs[:, :4])
        with pytest.raises(DataError, match="second holds int64 values"):
            sign_flip_test(runs, runs.astype(np.int64))
        with pytest.raises(DataError, match="first holds no seed"):
            sign_flip_test(runs[:0], runs)
        with pytest.raises(DataError, match="first holds no question"):
            sign_flip_test(runs[:, :0], runs[:, :0])
        with pytest.raises(DataError, match=r"second has shape \(1, 3, 5\)"):
            sign_flip_test(runs, runs[None])


class TestHolm:
    def test_hand_computed_case(self) -> None:
        # Sorted: 0.005·4 = 0.02, 0.01·3 = 0.03, 0.03·2 = 0.06, 0.04·1 = 0.04, raised to 0.06.
        np.testing.assert_allclose(holm([0.01, 0.04, 0.03, 0.005]), [0.03, 0.06, 0.06, 0.02])

    def test_edges(self) -> None:
        assert holm([]).size == 0
        assert holm([0.2]).tolist() == [0.2]
        assert holm([1.0, 0.9, 0.8]).tolist() == [1.0, 1.0, 1.0]
        assert holm([0.0, 0.0]).tolist() == [0.0, 0.0]
        np.testing.assert_allclose(holm([0.02, 0.02, 0.02]), [0.06, 0.06, 0.06])

    @given(st.lists(st.floats(0.0, 1.0), min_size=1, max_size=7))
    def test_is_the_closed_testing_of_bonferroni(self, p_values: list[float]) -> None:
        """A hypothesis falls where every set of hypotheses it is in falls to Bonferroni."""
        tests = range(len(p_values))
        want = [
            max(
                min(1.0, len(family) * min(p_values[other] for other in family))
                for size in range(1, len(p_values) + 1)
                for family in itertools.combinations(tests, size)
                if test in family
            )
            for test in tests
        ]
        np.testing.assert_allclose(holm(p_values), want, rtol=1e-12)

    @given(st.lists(st.floats(0.0, 1.0), min_size=1, max_size=30), st.integers(0, 999))
    def test_keeps_the_order(self, p_values: list[float], seed: int) -> None:
        given_p = np.array(p_values)
        adjusted = holm(given_p)
        assert np.all(adjusted >= given_p)
        assert np.all(np.diff(adjusted[np.argsort(given_p)]) >= 0.0)
        order = np.random.default_rng(seed).permutation(given_p.size)
        np.testing.assert_array_equal(holm(given_p[order]), adjusted[order])

    def test_refuses(self) -> None:
        with pytest.raises(DataError, match="p-value 1 is nan"):
            holm([0.1, math.nan])
        with pytest.raises(DataError, match=r"p-value 0 is -0\.1"):
            holm([-0.1])
        with pytest.raises(DataError, match=r"p-value 2 is 1\.5"):
            holm([0.0, 1.0, 1.5])
        with pytest.raises(DataError, match=r"p_values have shape \(1, 1\)"):
            holm(np.array([[0.1]]))
