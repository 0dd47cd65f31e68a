"""The two-way layout against hand computation, plain loops and the truth it estimates."""

import math

import numpy as np
import pytest
from scipy import stats

from attrib.analysis.crossed import Layout, check_runs, half_width, reduce_arms
from attrib.errors import DataError


class TestReduceArms:
    def test_hand_computed_case(self) -> None:
        before = np.zeros(4, bool)
        after = np.array([[1, 1, 0, 0], [1, 0, 0, 0]], bool)
        layout = reduce_arms(before, [after])
        assert layout.gain_AQ.tolist() == [[1.0, 0.5, 0.0, 0.0]]
        # Seeds' means are 1/2 and 1/4, of variance 1/32. Of the cells, 3/8 and six times 1/8 are
        # left on three degrees of freedom: (2·9 + 6)/64 / 3 = 1/8, over 2 seeds and 4 questions.
        assert layout.seed_variance_A == pytest.approx([1 / 64])
        assert layout.cell_variance_A == pytest.approx([1 / 64])
        assert layout.degrees_A.tolist() == [1.0]

    def test_agrees_with_the_table_of_mean_squares(self) -> None:
        generator = np.random.default_rng(1)
        before = generator.random(30) < 0.4
        arms = [generator.random((seeds, 30)) < 0.6 for seeds in (2, 3, 7)]
        layout = reduce_arms(before, arms)
        for arm, after in enumerate(arms):
            gain = after.astype(float) - before
            seeds, questions = gain.shape
            sum_all = ((gain - gain.mean()) ** 2).sum()
            sum_seeds = questions * ((gain.mean(axis=1) - gain.mean()) ** 2).sum()
            sum_questions = seeds * ((gain.mean(axis=0) - gain.mean()) ** 2).sum()
            cells = (sum_all - sum_seeds - sum_questions) / ((seeds - 1) * (questions - 1))
            assert layout.cell_variance_A[arm] == pytest.approx(cells / gain.size)
            assert layout.seed_variance_A[arm] == pytest.approx(sum_seeds / (seeds - 1) / gain.size)

    def test_expectations_are_the_components(self) -> None:
        """Seeds' means vary by their effects and by the cells; the cells' part is told apart."""
        generator = np.random.default_rng(2)
        question_Q = generator.uniform(0.2, 0.8, 50)
        seeds, cells = [], []
        for _ in range(3000):
            chance = question_Q + generator.uniform(-0.2, 0.2, 3)[:, None]
            layout = reduce_arms(np.zeros(50, bool), [generator.random((3, 50)) < chance])
            seeds.append(layout.seed_variance_A[0])
            cells.append(layout.cell_variance_A[0])
        effect = 0.4**2 / 12
        cell = (question_Q * (1 - question_Q)).mean() - effect
        assert np.mean(cells) == pytest.approx(cell / 150, rel=0.02)
        assert np.mean(seeds) == pytest.approx(effect / 3 + cell / 150, rel=0.05)

    def test_one_seed_and_one_question_have_no_spread(self) -> None:
        one_seed = reduce_arms([False, True], [np.array([[True, True]])])
        assert (one_seed.seed_variance_A[0], one_seed.cell_variance_A[0]) == (0.0, 0.0)
        assert not one_seed.covers_seeds(np.ones(1))
        one_question = reduce_arms([False], [np.array([[True], [False]])])
        assert one_question.seed_variance_A[0] == pytest.approx(0.25)
        assert one_question.cell_variance_A[0] == 0.0

    def test_refuses(self) -> None:
        runs = np.ones((3, 5), bool)
        with pytest.raises(DataError, match="No arm is given"):
            reduce_arms(np.ones(5, bool), [])
        with pytest.raises(DataError, match="before_Q and after_SQ have 4 and 5 questions"):
            reduce_arms(np.ones(4, bool), [runs])
        with pytest.raises(DataError, match=r"before_Q has shape \(3, 5\)"):
            reduce_arms(runs, [runs])


class TestHalfWidth:
    @pytest.mark.parametrize("question_variance", [1e-5, 3e-3, 0.3])
    def test_agrees_with_satterthwaite_by_hand(self, question_variance: float) -> None:
        generator = np.random.default_rng(3)
        arms = [generator.random((s, 40)) < generator.random((s, 1)) for s in (3, 4)]
        layout = reduce_arms(np.zeros(40, bool), arms)
        first, second = layout.seed_variance_A
        first_cell, second_cell = layout.cell_variance_A
        assert first > first_cell
        assert second > second_cell
        variance = question_variance + (first - first_cell) + 4 * (second - second_cell)
        spread = question_variance**2 / 39 + first**2 / 2 + 16 * second**2 / 3
        spread += first_cell**2 / (2 * 39) + 16 * second_cell**2 / (3 * 39)
        crossed = stats.t.ppf(0.95, variance**2 / spread) * math.sqrt(variance)
        seeds = first + 4 * second
        among_seeds = stats.t.ppf(0.95, seeds**2 / (first**2 / 2 + 16 * second**2 / 3))
        want = max(crossed, among_seeds * math.sqrt(seeds))
        got = half_width(layout, np.array([1.0, -2.0]), question_variance, 0.9)
        assert got == pytest.approx(want)

    def test_without_a_spread_of_seeds_questions_decide(self) -> None:
        runs = np.tile(np.arange(40) < 10, (3, 1))
        half = half_width(reduce_arms(np.zeros(40, bool), [runs]), np.ones(1), 0.01, 0.95)
        assert half == pytest.approx(stats.t.ppf(0.975, 39) * 0.1)

    def test_has_the_least_degrees_of_freedom_at_least(self) -> None:
        # Both seeds answer half, but never the same half: cells are all there is.
        runs = np.array([[True, False] * 10, [False, True] * 10])
        half = half_width(reduce_arms(np.zeros(20, bool), [runs]), np.ones(1), 1e-6, 0.95)
        assert half == pytest.approx(stats.t.ppf(0.975, 1) * 1e-3)

    def test_ignores_arms_without_weight(self) -> None:
        generator = np.random.default_rng(4)
        arms = [generator.random((3, 40)) < generator.random((3, 1)) for _ in range(2)]
        both = reduce_arms(np.zeros(40, bool), arms)
        alone = reduce_arms(np.zeros(40, bool), arms[:1])
        with_both = half_width(both, np.array([1.0, 0.0]), 0.002, 0.95)
        assert with_both == half_width(alone, np.ones(1), 0.002, 0.95)

    def test_normal_theory_coverage(self) -> None:
        """Where seeds are nine tenths of the variance, Satterthwaite alone covers 92 %."""
        generator = np.random.default_rng(5)
        covered = []
        for seeds, share in ((2, 0.9), (3, 0.9), (3, 0.3), (5, 0.9)):
            for _ in range(2000):
                layout = Layout(
                    np.zeros((1, 200)),
                    share * generator.chisquare(seeds - 1, 1) / (seeds - 1),
                    np.zeros(1),
                    np.array([seeds - 1.0]),
                )
                questions = (1 - share) * generator.chisquare(199) / 199
                half = half_width(layout, np.ones(1), questions, 0.95)
                covered.append(abs(generator.standard_normal()) <= half)
        assert np.all(np.mean(np.reshape(covered, (4, 2000)), axis=1) > 0.937)


class TestCheckRuns:
    def test_refuses(self) -> None:
        runs = np.ones((3, 5), bool)
        assert check_runs(runs.tolist(), "runs").shape == (3, 5)
        with pytest.raises(DataError, match=r"runs has shape \(5,\); .*write runs\[None, :\]"):
            check_runs(runs[0], "runs")
        with pytest.raises(DataError, match="runs holds no seed"):
            check_runs(runs[:0], "runs")
        with pytest.raises(DataError, match="runs holds no question"):
            check_runs(runs[:, :0], "runs")
        with pytest.raises(DataError, match="runs holds float64 values"):
            check_runs(np.where(runs, 1.0, math.nan), "runs")
