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
    gain_share,
    mcnemar_exact,
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


class TestGainShare:
    # 100 questions, 20 right before. Full repairs 40; the arm repairs 30 of those and 2 others.
    BEFORE = np.repeat([True, False], [20, 80])
    FULL = np.repeat([True, True, False], [20, 40, 40])
    ARM = np.repeat([True, True, False, True, False], [20, 30, 10, 2, 38])

    def test_value_is_the_ratio_of_gains(self) -> None:
        share = gain_share(self.BEFORE, self.ARM, self.FULL)
        assert share.reason == ""
        assert share.value == pytest.approx(32 / 40)
        assert share.low is not None
        assert share.high is not None
        assert 0.6 < share.low < 0.8 < share.high < 1.0

    def test_bounds_are_where_the_paired_t_test_turns(self) -> None:
        """Fieller's set holds the shares θ that a t test of arm - θ·full does not reject."""
        share = gain_share(self.BEFORE, self.ARM, self.FULL)
        arm = np.append(self.ARM.astype(float) - self.BEFORE, [1.0, -1.0])
        full = np.append(self.FULL.astype(float) - self.BEFORE, [0.0, 0.0])
        t = stats.t.ppf(0.975, self.BEFORE.size - 1)
        for bound in (share.low, share.high):
            assert bound is not None
            residual = arm - bound * full
            statistic = residual.mean() / (residual.std(ddof=1) / math.sqrt(residual.size))
            assert abs(statistic) == pytest.approx(t, rel=1e-9)

    def test_agreement_with_the_full_arm_on_these_questions_is_no_certainty(self) -> None:
        share = gain_share(self.BEFORE, self.FULL, self.FULL)
        assert share.value == pytest.approx(1.0)
        assert share.low is not None
        assert share.high is not None
        assert 0.8 < share.low < 1.0 < share.high < 1.2

    def test_an_arm_that_changed_nothing_has_share_zero_with_a_width(self) -> None:
        share = gain_share(self.BEFORE, self.BEFORE, self.FULL)
        assert share.value == 0.0
        assert share.low is not None
        assert share.high is not None
        assert -0.1 < share.low < -0.03 < 0.03 < share.high < 0.1

    def test_an_arm_that_lost_accuracy_has_a_negative_share(self) -> None:
        arm = np.repeat([True, False], [5, 95])
        share = gain_share(self.BEFORE, arm, self.FULL)
        assert share.value == pytest.approx(-15 / 40)
        assert share.high is not None
        assert share.high < 0

    def test_undefined_where_the_full_gain_is_not_clear_of_zero(self) -> None:
        before, full = make_pair(40, 6, 4, 10)
        for arm in (before, full, ~before):
            share = gain_share(before, arm, full)
            assert (share.value, share.low, share.high) == (None, None, None)
            assert share.reason.startswith("the full arm's gain, +0.033 [-0.0")
            assert "cannot be told from zero" in share.reason

    def test_undefined_where_only_one_of_the_two_criteria_sees_zero(self) -> None:
        # Four of 20 up, none down: Fieller's set is bounded, but the reported gain contains zero.
        before, full = make_pair(16, 4, 0, 0)
        assert paired_gain(before, full).low < 0
        assert gain_share(before, full, full).reason.endswith("from zero, so it has no shares")
        # Ten of 15 up, three down: the reported gain is just clear of zero, Student's t is not.
        before, full = make_pair(2, 10, 3, 0)
        assert paired_gain(before, full).low > 0
        assert "Student's t" in gain_share(before, full, full).reason

    def test_undefined_where_nothing_changed_at_all(self) -> None:
        share = gain_share(self.BEFORE, self.BEFORE, self.BEFORE)
        assert share.value is None
        assert "cannot be told from zero" in share.reason

    def test_undefined_where_the_full_arm_lost(self) -> None:
        before, full = make_pair(10, 1, 40, 10)
        share = gain_share(before, before, full)
        assert share.value is None
        assert "lost accuracy, -0.639 [-0." in share.reason

    def test_undefined_for_too_few_questions(self) -> None:
        one = gain_share([False], [True], [True])
        assert one.value is None
        assert "one held-out question" in one.reason
        # Three of three repaired has no spread, which is luck rather than certainty.
        three = gain_share(np.zeros(3, bool), np.ones(3, bool), np.ones(3, bool))
        assert three.value is None

    @given(outcome_triples)
    def test_defined_shares_agree_with_the_interval_of_the_full_gain(
        self, triples: list[tuple[bool, bool, bool]]
    ) -> None:
        outcomes = np.array(triples * 5)
        before, arm, full = outcomes.T
        share = gain_share(before, arm, full)
        if share.value is None:
            assert share.reason
            assert (share.low, share.high) == (None, None)
        else:
            assert share.reason == ""
            assert paired_gain(before, full).low > 0
            assert share.low is not None
            assert share.high is not None
            assert math.isfinite(share.low)
            assert math.isfinite(share.high)
            assert share.low <= share.value <= share.high
            shuffled = np.random.default_rng(0).permutation(outcomes).T
            again = gain_share(*shuffled)
            assert again.value == pytest.approx(share.value)
            assert again.low == pytest.approx(share.low, abs=1e-9)

    @pytest.mark.parametrize(
        ("kept", "extra", "losing"),
        [(0.8, 0.05, 0.05), (0.2, 0.02, 0.05), (0.05, 0.0, 0.02), (0.03, 0.0, 0.0)],
    )
    @pytest.mark.parametrize("questions", [60, 150])
    def test_covers_the_true_share(
        self, questions: int, kept: float, extra: float, losing: float
    ) -> None:
        """Full repairs 40 % of the wrong; the arm keeps a part of those and finds a few others."""
        generator = np.random.default_rng(41)
        studies, right, repaired = 800, 0.3, 0.4
        arm_repaired = kept * repaired + extra * (1 - repaired)
        truth = ((1 - right) * arm_repaired - right * losing) / (
            (1 - right) * repaired - right * losing
        )
        covered = defined = 0
        for draw in generator.random((studies, 5, questions)):
            before, found = draw[0] < right, draw[1] < repaired
            full = np.where(before, draw[2] >= losing, found)
            arm = np.where(before, draw[3] >= losing, draw[4] < np.where(found, kept, extra))
            share = gain_share(before, arm, full)
            if share.low is not None and share.high is not None:
                defined += 1
                covered += share.low <= truth <= share.high
        assert defined > 0.97 * studies
        assert covered / defined >= 0.93

    def test_refuses(self) -> None:
        with pytest.raises(DataError, match="before_Q and arm_after_Q have 100 and 99 questions"):
            gain_share(self.BEFORE, self.ARM[1:], self.FULL)
        with pytest.raises(DataError, match="arm_after_Q holds float64 values"):
            gain_share(self.BEFORE, self.ARM.astype(float), self.FULL)
        with pytest.raises(DataError, match="before_Q holds no question"):
            gain_share([], [], [])
        with pytest.raises(ConfigError, match="confidence is 0"):
            gain_share(self.BEFORE, self.ARM, self.FULL, 0.0)
