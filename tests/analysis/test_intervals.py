"""Intervals against scipy, published numbers, brute force, and their own promised coverage."""

import math

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from attrib.analysis.intervals import (
    Interval,
    exact_interval,
    mcnemar_exact,
    mean_interval,
    paired_gain,
    wilson_bounds,
    wilson_interval,
)
from attrib.errors import ConfigError, DataError

Bools = npt.NDArray[np.bool_]


def make_pair(stayed_wrong: int, gained: int, lost: int, stayed_right: int) -> tuple[Bools, Bools]:
    """Return before and after arrays with these counts."""
    repeats = [stayed_wrong, gained, lost, stayed_right]
    before = np.repeat([False, False, True, True], repeats)
    after = np.repeat([False, True, False, True], repeats)
    return before, after


outcome_triples = st.lists(st.tuples(st.booleans(), st.booleans(), st.booleans()), min_size=1)
# Correct rates of questions, not all equal.
fractions = st.lists(
    st.integers(0, 16).map(lambda correct: correct / 16), min_size=2, max_size=40
).filter(lambda rates: len(set(rates)) > 1)


class TestExactInterval:
    @pytest.mark.parametrize("confidence", [0.8, 0.95, 0.99])
    @pytest.mark.parametrize("n", [1, 7, 128])
    def test_agrees_with_scipy_at_every_count(self, n: int, confidence: float) -> None:
        counts = np.arange(n + 1)
        bounds = exact_interval(counts, np.full(n + 1, n), confidence)
        for count in counts:
            want = stats.binomtest(int(count), n).proportion_ci(confidence, method="exact")
            assert bounds.low_Q[count] == pytest.approx(want.low, abs=1e-10)
            assert bounds.high_Q[count] == pytest.approx(want.high, abs=1e-10)

    def test_edges_and_the_published_rule_of_three(self) -> None:
        low, high = exact_interval([0, 128], [128, 128])
        assert (low[0], high[1]) == (0.0, 1.0)
        # Two-sided: half of the 5 % on the one side where there is room.
        assert high[0] == pytest.approx(1 - 0.025 ** (1 / 128), rel=1e-12)
        assert low[1] == pytest.approx(0.025 ** (1 / 128), rel=1e-12)

    @pytest.mark.parametrize("n", [16, 128])
    def test_coverage_is_never_below_the_level(self, n: int) -> None:
        counts = np.arange(n + 1)
        low, high = exact_interval(counts, np.full(n + 1, n))
        p = np.linspace(0.001, 0.999, 499)
        inside = (low[:, None] <= p) & (p <= high[:, None])
        coverage = (stats.binom.pmf(counts[:, None], n, p) * inside).sum(axis=0)
        assert coverage.min() >= 0.95

    def test_ragged_n(self) -> None:
        low, high = exact_interval([1, 1], [2, 200])
        assert high[0] > 0.9 > 0.05 > high[1]
        assert np.all(low > 0)

    def test_refuses(self) -> None:
        with pytest.raises(DataError, match="n is below 1 in row 1: n=0, c=0"):
            exact_interval([1, 0], [2, 0])
        with pytest.raises(DataError, match="c exceeds n in row 0: n=2, c=3"):
            exact_interval([3], [2])
        with pytest.raises(ConfigError, match=r"confidence is 1\.0"):
            exact_interval([1], [2], 1.0)


class TestWilsonInterval:
    @given(st.integers(1, 500), st.data(), st.sampled_from([0.5, 0.9, 0.95, 0.999]))
    def test_agrees_with_scipy(self, n: int, data: st.DataObject, confidence: float) -> None:
        successes = data.draw(st.integers(0, n))
        got = wilson_interval(successes, n, confidence)
        want = stats.binomtest(successes, n).proportion_ci(confidence, method="wilson")
        assert got.value == successes / n
        assert got.low == pytest.approx(want.low, abs=1e-12)
        assert got.high == pytest.approx(want.high, abs=1e-12)
        assert got.low <= got.value <= got.high

    def test_edges_are_exact(self) -> None:
        assert wilson_interval(0, 10).low == 0.0
        assert wilson_interval(10, 10).high == 1.0

    def test_bounds_of_many_means_equal_the_single_ones(self) -> None:
        bounds = wilson_bounds(np.array([0.0, 0.3, 1.0]), 10)
        singles = [wilson_interval(count, 10) for count in (0, 3, 10)]
        np.testing.assert_array_equal(bounds.low_Q, [single.low for single in singles])
        np.testing.assert_array_equal(bounds.high_Q, [single.high for single in singles])

    @pytest.mark.parametrize(("successes", "n"), [(0, 0), (-1, 5), (6, 5)])
    def test_refuses(self, successes: int, n: int) -> None:
        with pytest.raises(DataError):
            wilson_interval(successes, n)


class TestMeanInterval:
    def test_hand_computed_case(self) -> None:
        # Squared deviations .09 + .01 + .01 + .09 over 3, square root over 2: 0.12909944.
        # Student's t at 3 degrees of freedom: 3.1824463.
        got = mean_interval([0.2, 0.4, 0.6, 0.8])
        assert got.value == pytest.approx(0.5)
        assert got.low == pytest.approx(0.5 - 3.1824463 * 0.12909944, abs=1e-7)
        assert got.high == pytest.approx(0.5 + 3.1824463 * 0.12909944, abs=1e-7)

    @given(fractions, st.sampled_from([0.5, 0.8, 0.95, 0.999]))
    def test_agrees_with_scipy_within_zero_and_one(
        self, values: list[float], confidence: float
    ) -> None:
        got = mean_interval(values, confidence)
        low, high = stats.t.interval(
            confidence, len(values) - 1, loc=np.mean(values), scale=stats.sem(values)
        )
        assert got.value == pytest.approx(np.mean(values))
        assert got.low == pytest.approx(max(low, 0.0), abs=1e-12)
        assert got.high == pytest.approx(min(high, 1.0), abs=1e-12)

    @given(fractions)
    def test_contains_its_value_and_mirrors(self, values: list[float]) -> None:
        there = mean_interval(values)
        back = mean_interval(1.0 - np.array(values))
        assert 0.0 <= there.low < there.value < there.high <= 1.0
        assert (back.value, back.low, back.high) == pytest.approx(
            (1.0 - there.value, 1.0 - there.high, 1.0 - there.low)
        )
        wider = mean_interval(values, 0.99)
        assert wider.low <= there.low
        assert there.high <= wider.high
        assert mean_interval(values[::-1]).low == pytest.approx(there.low)

    def test_bounds_are_clipped_each_on_its_own(self) -> None:
        # t = 3.1824463: one of four at 1, the rest at 0, is 0.25 ± 0.80; at 0.3, 0.075 ± 0.24.
        assert mean_interval([0.0, 0.0, 0.0, 1.0]) == Interval(0.25, 0.0, 1.0)
        few = mean_interval([0.0, 0.0, 0.0, 0.3])
        assert few.low == 0.0
        assert few.high == pytest.approx(0.075 * (1 + 3.1824463), abs=1e-7)
        many = mean_interval([1.0, 1.0, 1.0, 0.7])
        assert many.low == pytest.approx(1 - 0.075 * (1 + 3.1824463), abs=1e-7)
        assert many.high == 1.0

    def test_equal_values_have_the_width_of_as_many_trials(self) -> None:
        assert mean_interval([0.25] * 8) == wilson_interval(2, 8)
        nothing, everything = mean_interval(np.zeros(30)), mean_interval(np.ones(30))
        assert nothing == wilson_interval(0, 30)
        assert everything == wilson_interval(30, 30)
        assert nothing.low == 0.0 < 0.1 < nothing.high
        assert everything.low < 0.9 < 1.0 == everything.high
        # Equal but for rounding, which is no spread.
        rounded = mean_interval([0.3, 0.1 + 0.2, 0.3, 0.3])
        assert rounded.high - rounded.low > 0.5

    @pytest.mark.parametrize("successes", [0, 1])
    def test_one_value_has_the_width_of_one_trial(self, successes: int) -> None:
        assert mean_interval([float(successes)]) == wilson_interval(successes, 1)
        between = mean_interval([0.4], 0.8)
        assert between.value == 0.4
        assert between.low < 0.2 < 0.7 < between.high

    def test_takes_outcomes_as_zero_and_one(self) -> None:
        assert mean_interval([True, False, True]) == mean_interval([1.0, 0.0, 1.0])

    @pytest.mark.parametrize("questions", [10, 40])
    def test_covers_the_mean_of_correct_rates(self, questions: int) -> None:
        """Questions of which 0 to 8 rollouts are correct, their chances spread as Beta(2, 3)."""
        generator = np.random.default_rng(17)
        rates = generator.binomial(8, generator.beta(2, 3, (2000, questions))) / 8
        bounds = [mean_interval(rate_Q) for rate_Q in rates]
        covered = np.mean([bound.low <= 2 / 5 <= bound.high for bound in bounds])
        assert 0.935 <= covered <= 0.97

    def test_refuses(self) -> None:
        with pytest.raises(DataError, match="n is 0; an interval needs n of at least 1"):
            mean_interval([])
        with pytest.raises(ConfigError, match=r"confidence is 1\.0"):
            mean_interval([0.2, 0.4], 1.0)


class TestPairedGain:
    def test_published_numbers(self) -> None:
        """The example of `ci.prop.ps` in the R package statpsych: f00=12, f01=4, f10=26, f11=6."""
        gain = paired_gain(*make_pair(12, 26, 4, 6))
        assert gain.value == pytest.approx(22 / 48)
        assert gain.low == pytest.approx(0.2548067, abs=5e-8)
        assert gain.high == pytest.approx(0.6251933, abs=5e-8)

    def test_no_change_still_has_a_width(self) -> None:
        gain = paired_gain(*make_pair(30, 0, 0, 30))
        assert gain.value == 0.0
        assert gain.high == -gain.low == pytest.approx(1.959964 * math.sqrt(2) / 62, rel=1e-6)

    def test_everything_gained_stays_within_one(self) -> None:
        gain = paired_gain(*make_pair(0, 20, 0, 0))
        assert (gain.value, gain.high) == (1.0, 1.0)
        assert 0.6 < gain.low < 1.0

    @given(outcome_triples, st.sampled_from([0.1, 0.5, 0.95, 0.999]))
    def test_contains_its_value_and_mirrors(
        self, triples: list[tuple[bool, bool, bool]], confidence: float
    ) -> None:
        outcomes = np.array(triples)
        there = paired_gain(outcomes[:, 0], outcomes[:, 1], confidence)
        back = paired_gain(outcomes[:, 1], outcomes[:, 0], confidence)
        assert -1.0 <= there.low <= there.value <= there.high <= 1.0
        assert there.value == pytest.approx(outcomes[:, 1].mean() - outcomes[:, 0].mean())
        assert back == Interval(-there.value, -there.high, -there.low)

    @pytest.mark.parametrize("questions", [10, 25, 60])
    @pytest.mark.parametrize(
        ("gaining", "losing"),
        [(0.02, 0.02), (0.05, 0.0), (0.05, 0.01), (0.2, 0.05), (0.3, 0.0), (0.7, 0.1)],
    )
    def test_coverage_counted_exactly(self, questions: int, gaining: float, losing: float) -> None:
        """Sums the probability of every (gained, lost) whose interval contains the truth."""
        covered = 0.0
        for gained in range(questions + 1):
            for lost in range(questions + 1 - gained):
                same = questions - gained - lost
                chance = stats.multinomial.pmf(
                    [gained, lost, same], questions, [gaining, losing, 1 - gaining - losing]
                )
                if chance > 1e-7:
                    gain = paired_gain(*make_pair(same, gained, lost, 0))
                    covered += chance * (gain.low <= gaining - losing <= gain.high)
        assert covered >= 0.94

    def test_refuses(self) -> None:
        three, two = np.ones(3, bool), np.ones(2, bool)
        with pytest.raises(DataError, match="before_Q and after_Q have 3 and 2 questions"):
            paired_gain(three, two)
        with pytest.raises(DataError, match="before_Q holds no question"):
            paired_gain(three[:0], three[:0])
        with pytest.raises(DataError, match="after_Q holds int64 values"):
            paired_gain(three, np.array([1, 0, 1], np.int64))
        with pytest.raises(DataError, match=r"before_Q has shape \(3, 1\)"):
            paired_gain(three[:, None], three)
        with pytest.raises(ConfigError, match="confidence is nan"):
            paired_gain(three, three, math.nan)


class TestMcnemarExact:
    def test_agrees_with_the_binomial_test(self) -> None:
        for gained in range(12):
            for lost in range(12):
                want = stats.binomtest(gained, gained + lost).pvalue if gained + lost else 1.0
                assert mcnemar_exact(*make_pair(3, gained, lost, 2)) == pytest.approx(want)

    def test_hand_computed_case(self) -> None:
        # Five up, none down: 2 / 2^5. One each way: nothing to see.
        assert mcnemar_exact(*make_pair(9, 5, 0, 9)) == pytest.approx(1 / 16)
        assert mcnemar_exact(*make_pair(0, 1, 1, 0)) == 1.0
        assert mcnemar_exact(*make_pair(4, 0, 0, 4)) == 1.0

    def test_many_changes_do_not_underflow_into_nonsense(self) -> None:
        assert 0.0 <= mcnemar_exact(*make_pair(0, 5000, 0, 0)) < 1e-300

    def test_refuses(self) -> None:
        with pytest.raises(DataError, match="holds no question"):
            mcnemar_exact(np.zeros(0, bool), np.zeros(0, bool))


@pytest.mark.parametrize("values", [[0.5, float("nan")], [50.0, 60.0], [[0.1, 0.2]], [-0.1]])
def test_a_mean_of_what_are_no_fractions_is_refused(values: list[float]) -> None:
    with pytest.raises(DataError, match="fractions"):
        mean_interval(values)
