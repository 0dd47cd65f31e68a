"""Intervals over seeds against one-seed formulas, Student's t, root finding and planted truths."""

import importlib.util
import math
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from attrib.analysis.crossed import reduce_arms
from attrib.analysis.intervals import paired_gain
from attrib.analysis.paired import sign_flip_test
from attrib.analysis.seeds import (
    ShareOverSeeds,
    contrast_over_seeds,
    contrast_p_value,
    difference_over_seeds,
    gain_over_seeds,
    ratio_over_seeds,
    share_over_seeds,
)
from attrib.errors import ConfigError, DataError

Bools = npt.NDArray[np.bool_]

# 100 questions, 20 right before. Full repairs about 40, the arm about 30 of the same.
BEFORE = np.arange(100) < 20
FULL = np.array(
    [BEFORE | ((np.arange(100) >= low) & (np.arange(100) < 60)) for low in (20, 22, 25)]
)
ARM = np.array([BEFORE | ((np.arange(100) >= 20) & (np.arange(100) < top)) for top in (50, 47, 55)])


outcome_triples = st.lists(st.tuples(st.booleans(), st.booleans(), st.booleans()), min_size=1)


@st.composite
def studies(draw: st.DrawFn) -> tuple[Bools, Bools, Bools]:
    """Draw outcomes of a base and two arms with any numbers of seeds."""
    questions = draw(st.integers(1, 60))
    first_seeds, second_seeds = draw(st.integers(1, 5)), draw(st.integers(1, 5))
    generator = np.random.default_rng(draw(st.integers(0, 10_000)))
    chances = draw(st.tuples(*[st.sampled_from([0.0, 0.02, 0.3, 0.8, 1.0])] * 3))
    before = generator.random(questions) < chances[0]
    first = generator.random((first_seeds, questions)) < chances[1]
    return before, first, generator.random((second_seeds, questions)) < chances[2]


def make_pair(stayed_wrong: int, gained: int, lost: int, stayed_right: int) -> tuple[Bools, Bools]:
    """Return before and after arrays with these counts."""
    repeats = [stayed_wrong, gained, lost, stayed_right]
    before = np.repeat([False, False, True, True], repeats)
    after = np.repeat([False, True, False, True], repeats)
    return before, after


def share_of_runs(
    before: Bools, arm: Bools, full: Bools, confidence: float = 0.95
) -> ShareOverSeeds:
    """Return the share of an arm with one seed in a full arm with one seed."""
    return share_over_seeds(before, [arm], [full], confidence)


def solve_fieller(
    before: Bools, arm: Bools, full: Bools, confidence: float
) -> tuple[float, float, float] | None:
    """Return the share of one run in another with Fieller's bounds, from sums of whole numbers.

    The bounds are the roots of a·θ² - 2·b·θ + c, here all times the square of the number of
    questions and pseudo-questions. None where the full gain is not clear of zero: by
    `paired_gain`, or as a ≤ 0.

    Source: Fieller 1954, J. R. Stat. Soc. B 16:175.
    """
    size = before.size + 2
    arm_Q, full_Q = arm.astype(int) - before, full.astype(int) - before
    arm_sum, full_sum = int(arm_Q.sum()), int(full_Q.sum())
    if before.size < 2 or paired_gain(before, full, confidence).low <= 0.0:
        return None
    squared_t = stats.t.ppf(0.5 + confidence / 2, before.size - 1) ** 2 / (size - 1)
    # Both pseudo-questions add 1 to the arm's squares, and nothing else.
    a = full_sum**2 - squared_t * (size * int(full_Q @ full_Q) - full_sum**2)
    b = arm_sum * full_sum - squared_t * (size * int(arm_Q @ full_Q) - arm_sum * full_sum)
    c = arm_sum**2 - squared_t * (size * (int(arm_Q @ arm_Q) + 2) - arm_sum**2)
    if a <= 0.0:
        return None
    root = math.sqrt(b * b - a * c)
    return arm_sum / full_sum, (b - root) / a, (b + root) / a


class TestGainOverSeeds:
    def test_hand_computed_case(self) -> None:
        # Each seed repairs 10 of 40 questions; the second misses one of the first's and finds one.
        after = np.array([np.arange(40) < 10, (np.arange(40) < 11) & (np.arange(40) != 3)])
        gain = gain_over_seeds(np.zeros(40, bool), after)
        assert gain.value == pytest.approx(10 / 40)
        assert gain.covers_seeds
        # Seeds' means agree. Squares: 9 of 1, two of 1/4, and two pseudo-questions of 1.
        variance = ((9 + 0.5 + 2) / 42 - (10 / 42) ** 2) / 42
        cells = 2 * 0.5 / 39 / 80  # deviations of 1/2 on two questions, by both seeds
        degrees = variance**2 / (variance**2 / 39 + cells**2 / 39 / 1)
        half = stats.t.ppf(0.975, degrees) * math.sqrt(variance)
        assert (gain.low, gain.high) == pytest.approx((10 / 42 - half, 10 / 42 + half))

    @given(studies(), st.sampled_from([0.5, 0.9, 0.95, 0.99]))
    def test_one_seed_is_paired_gain(
        self, study: tuple[Bools, Bools, Bools], confidence: float
    ) -> None:
        before, after, _ = study
        gain = gain_over_seeds(before, after[:1], confidence)
        want = paired_gain(before, after[0], confidence)
        assert (gain.value, gain.low, gain.high) == pytest.approx((want.value, want.low, want.high))
        assert not gain.covers_seeds

    @given(studies())
    def test_properties(self, study: tuple[Bools, Bools, Bools]) -> None:
        before, after, _ = study
        gain = gain_over_seeds(before, after)
        assert gain.value == pytest.approx(after.mean() - before.mean())
        assert -1.0 <= gain.low <= gain.value <= gain.high <= 1.0
        assert gain.low < gain.high
        assert gain.covers_seeds == (len(after) > 1)
        order = np.random.default_rng(0).permutation(before.size)
        again = gain_over_seeds(before[order], after[::-1, order])
        assert (again.low, again.high) == pytest.approx((gain.low, gain.high))
        turned = gain_over_seeds(~before, ~after)
        assert (turned.low, turned.high) == pytest.approx((-gain.high, -gain.low))
        wider = gain_over_seeds(before, after, 0.99)
        assert wider.low <= gain.low
        assert gain.high <= wider.high

    @given(studies(), st.sampled_from([0.8, 0.95]))
    def test_is_never_narrower_than_student_s_t_on_seeds(
        self, study: tuple[Bools, Bools, Bools], confidence: float
    ) -> None:
        before, after, _ = study
        gain_S = after.mean(axis=1) - before.mean()
        gain = gain_over_seeds(before, after, confidence)
        if len(after) > 1 and gain.low > -1.0 and gain.high < 1.0:
            spread = gain_S.std(ddof=1) / math.sqrt(gain_S.size)
            quantile = stats.t.ppf(0.5 + confidence / 2, gain_S.size - 1)
            assert gain.high - gain.low >= 2 * quantile * spread - 1e-9

    def test_is_close_to_student_s_t_on_seeds_where_questions_abound(self) -> None:
        generator = np.random.default_rng(5)
        chance_S = np.array([0.3, 0.5, 0.45, 0.6])
        after = generator.random((4, 100_000)) < chance_S[:, None]
        gain = gain_over_seeds(np.zeros(100_000, bool), after)
        want = stats.t.interval(0.95, 3, after.mean(), stats.sem(after.mean(axis=1)))
        assert (gain.low, gain.high) == pytest.approx(want, abs=2e-3)

    def test_the_same_run_again_and_again_knows_no_more_than_one(self) -> None:
        copies = gain_over_seeds(BEFORE, np.tile(FULL[0], (3, 1)))
        one = paired_gain(BEFORE, FULL[0])
        stretch = stats.t.ppf(0.975, 99) / stats.norm.ppf(0.975)
        assert copies.high - copies.low == pytest.approx(stretch * (one.high - one.low))

    @pytest.mark.parametrize("seeds", [2, 3, 5, 10])
    def test_edges_have_a_width_and_stay_within_one(self, seeds: int) -> None:
        nothing = gain_over_seeds(BEFORE, np.tile(BEFORE, (seeds, 1)))
        assert nothing.value == 0.0
        assert nothing.high == -nothing.low > 0.01
        everything = gain_over_seeds(np.zeros(20, bool), np.ones((seeds, 20), bool))
        assert (everything.value, everything.high) == (1.0, 1.0)
        assert everything.low < 0.95
        single = gain_over_seeds([False], np.ones((seeds, 1), bool))
        assert (single.value, single.high) == (1.0, 1.0)
        assert single.low < 0.0

    def test_more_seeds_tell_more(self) -> None:
        generator = np.random.default_rng(6)
        widths = []
        for seeds in (2, 3, 5, 10):
            gains = [
                gain_over_seeds(np.zeros(100, bool), generator.random((seeds, 100)) < chance)
                for chance in generator.normal(0.4, 0.05, (200, seeds, 1))
            ]
            widths.append(np.mean([gain.high - gain.low for gain in gains]))
        assert widths == sorted(widths, reverse=True)

    def test_refuses(self) -> None:
        with pytest.raises(DataError, match="before_Q and after_SQ have 99 and 100 questions"):
            gain_over_seeds(BEFORE[1:], FULL)
        with pytest.raises(DataError, match=r"after_SQ has shape \(100,\)"):
            gain_over_seeds(BEFORE, FULL[0])
        with pytest.raises(DataError, match="after_SQ holds uint8 values"):
            gain_over_seeds(BEFORE, FULL.astype(np.uint8))
        with pytest.raises(DataError, match="before_Q holds no question"):
            gain_over_seeds([], [[]])
        with pytest.raises(ConfigError, match="confidence is 95"):
            gain_over_seeds(BEFORE, FULL, 95.0)


class TestDifferenceOverSeeds:
    @given(studies())
    def test_properties(self, study: tuple[Bools, Bools, Bools]) -> None:
        before, first, second = study
        difference = difference_over_seeds(first, second)
        assert difference.value == pytest.approx(first.mean() - second.mean())
        assert -1.0 <= difference.low <= difference.value <= difference.high <= 1.0
        assert difference.low < difference.high
        other = difference_over_seeds(second, first)
        assert (other.low, other.high) == pytest.approx((-difference.high, -difference.low))
        # The base is the same for both, whatever it is.
        want = contrast_over_seeds(before, [first, second], [1.0, -1.0])
        assert (want.low, want.high) == pytest.approx((difference.low, difference.high))
        assert difference.covers_seeds == (len(first) > 1 and len(second) > 1)

    def test_one_seed_is_paired_gain(self) -> None:
        got = difference_over_seeds(FULL[:1], ARM[:1])
        want = paired_gain(ARM[0], FULL[0])
        assert (got.value, got.low, got.high) == pytest.approx((want.value, want.low, want.high))

    def test_pairing_on_questions_narrows_it(self) -> None:
        paired = difference_over_seeds(FULL, ARM)
        shuffled = difference_over_seeds(FULL, np.roll(ARM, 50, axis=1))
        assert paired.value == pytest.approx(shuffled.value)
        assert paired.high - paired.low < 0.8 * (shuffled.high - shuffled.low)

    def test_refuses(self) -> None:
        with pytest.raises(DataError, match="first_after_SQ and second_after_SQ have 100 and 99"):
            difference_over_seeds(FULL, ARM[:, 1:])
        with pytest.raises(DataError, match="second_after_SQ holds no seed"):
            difference_over_seeds(FULL, ARM[:0])


class TestContrastOverSeeds:
    def test_scales_with_its_weights(self) -> None:
        once = contrast_over_seeds(BEFORE, [ARM, FULL], [1.0, -0.5])
        thrice = contrast_over_seeds(BEFORE, [ARM, FULL], [-3.0, 1.5])
        want = (-3 * once.value, -3 * once.high, -3 * once.low)
        assert (thrice.value, thrice.low, thrice.high) == pytest.approx(want)

    def test_an_arm_with_one_seed_counts_only_where_it_has_a_weight(self) -> None:
        mixed = contrast_over_seeds(BEFORE, [ARM[:1], FULL], [1.0, -1.0])
        assert not mixed.covers_seeds
        # The other arm's seeds are still in the width.
        assert mixed.high - mixed.low > 1.05 * np.subtract(
            *[getattr(paired_gain(ARM[0], FULL[0]), side) for side in ("high", "low")]
        )
        ignored = contrast_over_seeds(BEFORE, [ARM[:1], FULL], [0.0, 1.0])
        assert ignored == gain_over_seeds(BEFORE, FULL)

    def test_refuses(self) -> None:
        with pytest.raises(ConfigError, match=r"weights have shape \(1,\) for 2 arms"):
            contrast_over_seeds(BEFORE, [ARM, FULL], [1.0])
        for weights in ([0.0, 0.0], [math.nan, 1.0], [math.inf, 1.0]):
            with pytest.raises(ConfigError, match="finite and not all zero"):
                contrast_over_seeds(BEFORE, [ARM, FULL], weights)


class TestContrastPValue:
    @given(studies())
    def test_is_where_the_interval_turns(self, study: tuple[Bools, Bools, Bools]) -> None:
        before, first, second = study
        arms, weights = [first, second], [1.0, -1.0]
        if max(len(first), len(second)) == 1:
            return
        p = contrast_p_value(before, arms, weights)
        assert 0.0 <= p <= 1.0
        for confidence in (0.05, 0.5, 0.95, 0.999):
            interval = contrast_over_seeds(before, arms, weights, confidence)
            if abs(p - (1.0 - confidence)) > 1e-9:
                excludes_zero = interval.low > 0.0 or interval.high < 0.0
                assert excludes_zero == (p < 1.0 - confidence)
        assert contrast_p_value(before, arms, [-2.0, 2.0]) == pytest.approx(p)

    def test_seeds_that_disagree_are_no_evidence(self) -> None:
        """Three runs a side: every question says the same, and yet two of three seeds carry it."""
        base = np.zeros(200, np.bool_)
        first = np.zeros((3, 200), np.bool_)
        first[0, :120], first[1, :40] = True, True
        assert sign_flip_test(first, base) < 1e-9
        assert contrast_p_value(base, [first], [1.0]) > 0.2

    def test_is_student_s_t_on_seeds_where_questions_abound(self) -> None:
        generator = np.random.default_rng(0)
        chances_S = np.array([0.2, 0.3, 0.45])
        runs = generator.random((3, 200_000)) < chances_S[:, None]
        p = contrast_p_value(np.zeros(200_000, np.bool_), [runs], [1.0])
        assert p == pytest.approx(stats.ttest_1samp(runs.mean(axis=1), 0.0).pvalue, rel=0.01)

    def test_refuses(self) -> None:
        with pytest.raises(ConfigError, match="Each arm has one seed"):
            contrast_p_value(BEFORE, [ARM[:1], FULL[:1]], [1.0, -1.0])
        with pytest.raises(ConfigError, match=r"weights have shape \(1,\) for 2 arms"):
            contrast_p_value(BEFORE, [ARM, FULL], [1.0])


class TestShareOverSeeds:
    def test_value_is_the_ratio_of_mean_gains(self) -> None:
        share = share_over_seeds(BEFORE, ARM, FULL)
        assert share.reason == ""
        assert share.covers_seeds
        assert share.value == pytest.approx((30 + 27 + 35) / (40 + 38 + 35))
        assert share.low is not None
        assert share.high is not None
        assert 0.5 < share.low < share.value < share.high < 1.2

    def test_holds_the_shares_whose_difference_cannot_be_told_from_zero(self) -> None:
        """arm - θ·full is a contrast; with its own variance and degrees, by plain formulas."""
        share = share_over_seeds(BEFORE, ARM, FULL)
        layout = reduce_arms(BEFORE, [ARM, FULL])
        arm_Q, full_Q = layout.gain_AQ

        def is_inside(theta: float) -> bool:
            padded = np.append(arm_Q - theta * full_Q, [1.0, -1.0])
            questions = padded.var(ddof=1) / padded.size
            seeds = layout.seed_variance_A * [1.0, theta**2]
            cells = layout.cell_variance_A * [1.0, theta**2]
            variance = questions + np.maximum(seeds - cells, 0.0).sum()
            degrees = variance**2 / (questions**2 / 99 + (seeds**2 + cells**2 / 99).sum() / 2)
            crossed = stats.t.ppf(0.975, max(degrees, 2)) ** 2 * variance
            among_seeds = stats.t.ppf(0.975, seeds.sum() ** 2 / ((seeds**2).sum() / 2))
            return bool(padded.mean() ** 2 <= max(crossed, among_seeds**2 * seeds.sum()))

        grid = np.linspace(-1.0, 3.0, 4001)
        inside = grid[[is_inside(theta) for theta in grid]]
        assert share.low == pytest.approx(inside.min(), abs=1.1e-3)
        assert share.high == pytest.approx(inside.max(), abs=1.1e-3)
        assert inside.size == pytest.approx((inside.max() - inside.min()) / 1e-3 + 1)  # no gaps

    def test_a_noisy_arm_does_not_make_the_full_gain_unclear(self) -> None:
        arm = np.array([np.arange(100) < 20, np.arange(100) < 55])
        full = np.array([np.arange(100) < 30 + seed % 2 for seed in range(10)])
        assert gain_over_seeds(BEFORE, full).low > 0.0
        share = share_over_seeds(BEFORE, arm, full)
        assert share.low is not None
        assert share.high is not None
        assert share.low < -5.0 < 5.0 < share.high

    def test_agreement_of_the_arms_is_no_certainty(self) -> None:
        share = share_over_seeds(BEFORE, FULL, FULL)
        assert share.value == pytest.approx(1.0)
        assert share.low is not None
        assert share.high is not None
        assert 0.6 < share.low < 0.95 < 1.05 < share.high < 1.6

    def test_an_arm_that_changed_nothing_has_share_zero_with_a_width(self) -> None:
        share = share_over_seeds(BEFORE, np.tile(BEFORE, (3, 1)), FULL)
        assert share.value == 0.0
        assert share.low is not None
        assert share.high is not None
        assert -0.15 < share.low < -0.03 < 0.03 < share.high < 0.15

    def test_shares_beyond_zero_and_one_are_told(self) -> None:
        lost = share_over_seeds(BEFORE, np.tile(np.arange(100) < 3, (3, 1)), FULL)
        assert lost.high is not None
        assert lost.high < 0.0
        beyond = share_over_seeds(BEFORE, np.ones((3, 100), bool), FULL)
        assert beyond.low is not None
        assert beyond.low > 1.0

    def test_undefined_where_seeds_disagree_about_the_full_gain(self) -> None:
        disagreeing = np.array([np.arange(100) < top for top in (22, 60, 28)])
        for arm in (ARM, FULL, ~FULL):
            share = share_over_seeds(BEFORE, arm, disagreeing)
            assert (share.value, share.low, share.high) == (None, None, None)
            assert share.reason.startswith("the full arm's gain, +0.167 [-0.")
            assert share.reason.endswith("cannot be told from zero, so it has no shares")
            assert share.covers_seeds
        # Each of the seeds alone has a clear gain.
        assert paired_gain(BEFORE, disagreeing[2]).low > 0.0

    def test_undefined_where_the_full_arm_lost_or_questions_are_few(self) -> None:
        lost = share_over_seeds(~BEFORE, ARM, np.tile(BEFORE, (3, 1)))
        assert "the full arm lost accuracy, -0.600 [-0." in lost.reason
        one = share_over_seeds([False], [[True], [True]], [[True], [True]])
        assert "one held-out question" in one.reason
        three = share_over_seeds(np.zeros(3, bool), np.ones((3, 3), bool), np.ones((3, 3), bool))
        assert three.value is None

    @given(studies(), st.sampled_from([0.8, 0.95]))
    def test_properties(self, study: tuple[Bools, Bools, Bools], confidence: float) -> None:
        before, arm, full = study
        share = share_over_seeds(before, arm, full, confidence)
        whole = gain_over_seeds(before, full, confidence)
        if share.value is None:
            assert share.reason
            assert (share.low, share.high) == (None, None)
        else:
            assert share.reason == ""
            assert whole.low > 0.0
            assert share.value == pytest.approx((arm.mean() - before.mean()) / whole.value)
            assert share.low is not None
            assert share.high is not None
            assert -math.inf < share.low < share.value < share.high < math.inf
            order = np.random.default_rng(0).permutation(before.size)
            again = share_over_seeds(before[order], arm[::-1, order], full[:, order], confidence)
            assert (again.low, again.high) == pytest.approx((share.low, share.high))
        assert share.covers_seeds == (len(arm) > 1 and len(full) > 1)

    def test_refuses(self) -> None:
        with pytest.raises(DataError, match=r"full_after_SQ has shape \(100,\)"):
            share_over_seeds(BEFORE, ARM, FULL[0])
        with pytest.raises(DataError, match="before_Q and after_SQ have 100 and 99 questions"):
            share_over_seeds(BEFORE, ARM[:, 1:], FULL)
        with pytest.raises(ConfigError, match="confidence is 0"):
            share_over_seeds(BEFORE, ARM, FULL, 0.0)


class TestShareOfOneSeed:
    # 100 questions, 20 right before. Full repairs 40; the arm repairs 30 of those and 2 others.
    FULL = np.repeat([True, True, False], [20, 40, 40])
    ARM = np.repeat([True, True, False, True, False], [20, 30, 10, 2, 38])

    def test_hand_computed_case(self) -> None:
        share = share_of_runs(BEFORE, self.ARM, self.FULL)
        assert share.reason == ""
        assert not share.covers_seeds
        assert share.value == pytest.approx(32 / 40)
        # Sums over 102: 32 and 40, of squares 34 and 40, of products 30. t² / 101 = 0.0389814.
        # a = 1600 - 0.0389814 * 2480, b = 1280 - 0.0389814 * 1780, c = 1024 - 0.0389814 * 2444.
        assert share.low == pytest.approx((1210.6131 - 263.4423) / 1503.3261, abs=1e-5)
        assert share.high == pytest.approx((1210.6131 + 263.4423) / 1503.3261, abs=1e-5)

    def test_bounds_are_where_the_paired_t_test_turns(self) -> None:
        """Fieller's set holds the shares θ that a t test of arm - θ·full does not reject."""
        share = share_of_runs(BEFORE, self.ARM, self.FULL)
        arm = np.append(self.ARM.astype(float) - BEFORE, [1.0, -1.0])
        full = np.append(self.FULL.astype(float) - BEFORE, [0.0, 0.0])
        t = stats.t.ppf(0.975, BEFORE.size - 1)
        for bound in (share.low, share.high):
            assert bound is not None
            residual = arm - bound * full
            statistic = residual.mean() / (residual.std(ddof=1) / math.sqrt(residual.size))
            assert abs(statistic) == pytest.approx(t, rel=1e-9)

    @given(studies(), st.sampled_from([0.5, 0.8, 0.95, 0.999]))
    def test_agrees_with_the_roots_of_fieller_s_quadratic(
        self, study: tuple[Bools, Bools, Bools], confidence: float
    ) -> None:
        before, arm, full = study[0], study[1][0], study[2][0]
        share = share_of_runs(before, arm, full, confidence)
        want = solve_fieller(before, arm, full, confidence)
        got = (share.value, share.low, share.high)
        assert got == ((None, None, None) if want is None else pytest.approx(want, abs=1e-9))
        assert (share.reason == "") == (want is not None)

    @pytest.mark.parametrize("chance", [0.02, 0.2, 0.4])
    def test_agrees_with_the_quadratic_where_training_only_repairs(self, chance: float) -> None:
        generator = np.random.default_rng(8)
        for _ in range(30):
            before = generator.random(60) < 0.3
            arm, full = (before | (generator.random(60) < repaired) for repaired in (chance, 0.4))
            share, want = share_of_runs(before, arm, full), solve_fieller(before, arm, full, 0.95)
            assert want is not None
            assert (share.value, share.low, share.high) == pytest.approx(want)

    def test_agreement_with_the_full_arm_on_these_questions_is_no_certainty(self) -> None:
        share = share_of_runs(BEFORE, self.FULL, self.FULL)
        assert share.value == pytest.approx(1.0)
        assert share.low is not None
        assert share.high is not None
        assert 0.8 < share.low < 1.0 < share.high < 1.2

    def test_an_arm_that_changed_nothing_has_share_zero_with_a_width(self) -> None:
        share = share_of_runs(BEFORE, BEFORE, self.FULL)
        assert share.value == 0.0
        assert share.low is not None
        assert share.high is not None
        assert -0.1 < share.low < -0.03 < 0.03 < share.high < 0.1

    def test_an_arm_that_lost_accuracy_has_a_negative_share(self) -> None:
        share = share_of_runs(BEFORE, np.arange(100) < 5, self.FULL)
        assert share.value == pytest.approx(-15 / 40)
        assert share.high is not None
        assert share.high < 0

    def test_undefined_where_the_full_gain_is_not_clear_of_zero(self) -> None:
        before, full = make_pair(40, 6, 4, 10)
        for arm in (before, full, ~before):
            share = share_of_runs(before, arm, full)
            assert (share.value, share.low, share.high) == (None, None, None)
            assert share.reason.startswith("the full arm's gain, +0.033 [-0.0")
            assert "cannot be told from zero" in share.reason

    def test_undefined_where_only_one_of_the_two_criteria_sees_zero(self) -> None:
        # Four of 20 up, none down: Fieller's set is bounded, but the reported gain contains zero.
        before, full = make_pair(16, 4, 0, 0)
        assert paired_gain(before, full).low < 0
        assert share_of_runs(before, full, full).reason.endswith("from zero, so it has no shares")
        # Ten of 15 up, three down: the reported gain is just clear of zero, Student's t is not.
        before, full = make_pair(2, 10, 3, 0)
        assert paired_gain(before, full).low > 0
        share = share_of_runs(before, full, full)
        assert (share.value, share.low, share.high) == (None, None, None)
        assert "by Student's t" in share.reason

    def test_undefined_where_nothing_changed_at_all(self) -> None:
        share = share_of_runs(BEFORE, BEFORE, BEFORE)
        assert share.value is None
        assert "cannot be told from zero" in share.reason

    def test_undefined_where_the_full_arm_lost(self) -> None:
        before, full = make_pair(10, 1, 40, 10)
        share = share_of_runs(before, before, full)
        assert share.value is None
        assert "lost accuracy, -0.639 [-0." in share.reason

    def test_undefined_for_too_few_questions(self) -> None:
        one = share_of_runs(np.zeros(1, bool), np.ones(1, bool), np.ones(1, bool))
        assert one.value is None
        assert "one held-out question" in one.reason
        # Three of three repaired has no spread, which is luck rather than certainty.
        three = share_of_runs(np.zeros(3, bool), np.ones(3, bool), np.ones(3, bool))
        assert three.value is None

    @given(outcome_triples)
    def test_defined_shares_agree_with_the_interval_of_the_full_gain(
        self, triples: list[tuple[bool, bool, bool]]
    ) -> None:
        outcomes = np.array(triples * 5)
        before, arm, full = outcomes.T
        share = share_of_runs(before, arm, full)
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
            again = share_of_runs(*np.random.default_rng(0).permutation(outcomes).T)
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
            share = share_of_runs(before, arm, full)
            if share.low is not None and share.high is not None:
                defined += 1
                covered += share.low <= truth <= share.high
        assert defined > 0.97 * studies
        assert covered / defined >= 0.93

    def test_refuses(self) -> None:
        with pytest.raises(DataError, match="before_Q and after_SQ have 100 and 99 questions"):
            share_of_runs(BEFORE, self.ARM[1:], self.FULL)
        with pytest.raises(DataError, match="before_Q and after_SQ have 100 and 99 questions"):
            share_of_runs(BEFORE, self.ARM, self.FULL[1:])
        with pytest.raises(DataError, match="arm_after_SQ holds float64 values"):
            share_over_seeds(BEFORE, [self.ARM.astype(float)], [self.FULL])
        with pytest.raises(DataError, match="arm_after_SQ holds no question"):
            share_over_seeds([], [[]], [[]])
        with pytest.raises(DataError, match="before_Q holds no question"):
            share_over_seeds([], [self.ARM], [self.FULL])
        with pytest.raises(ConfigError, match="confidence is 0"):
            share_of_runs(BEFORE, self.ARM, self.FULL, 0.0)


class TestRatioOverSeeds:
    def test_an_arm_in_both_sums_is_paired_on_its_seeds_too(self) -> None:
        """(arm + full) / full is arm / full + 1; only the pseudo-questions weigh more in it."""
        share = share_over_seeds(BEFORE, ARM, FULL)
        ratio = ratio_over_seeds(BEFORE, [ARM, FULL], [1.0, 1.0], [0.0, 1.0])
        whole = ratio_over_seeds(BEFORE, [FULL], [1.0], [1.0])
        assert share.value is not None
        assert share.low is not None
        assert share.high is not None
        assert ratio.value == pytest.approx(share.value + 1.0)
        assert ratio.low == pytest.approx(share.low + 1.0, abs=0.05)
        assert ratio.high == pytest.approx(share.high + 1.0, abs=0.05)
        # An arm has all of its own gain; seeds cancel, and pseudo-questions alone give a width.
        assert whole.value == pytest.approx(1.0)
        pseudo = stats.t.ppf(0.975, 99) * math.sqrt(2 / 101 / 102) / (113 / 3 / 102)
        assert whole.high == pytest.approx(1.0 + pseudo, rel=0.01)

    def test_refuses(self) -> None:
        with pytest.raises(ConfigError, match=r"weights have shape \(3,\) for 2 arms"):
            ratio_over_seeds(BEFORE, [ARM, FULL], [1.0, 0.0], [0.0, 1.0, 1.0])


@pytest.fixture(scope="module")
def coverage() -> ModuleType:
    """Load benchmarks/check_coverage.py, which is no part of the package."""
    path = Path(__file__).parents[2] / "benchmarks" / "check_coverage.py"
    spec = importlib.util.spec_from_file_location("check_coverage", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


class TestCoverage:
    """A small version of benchmarks/check_coverage.py."""

    @pytest.mark.parametrize("world", ["draw_abilities", "draw_skewed"])
    @pytest.mark.parametrize(("share", "deviation"), [(0.5, 0.0), (0.83, 0.04), (0.5, 0.08)])
    def test_the_planted_truth_is_the_population_s(
        self, coverage: ModuleType, world: str, share: float, deviation: float
    ) -> None:
        setting = coverage.Setting(4000, 400, 0.3, deviation, share)
        study = next(getattr(coverage, world)(setting, np.random.default_rng(1)))
        before = study.before_Q.mean()
        error = 4 * max(deviation / 20, 0.5 / math.sqrt(4000))
        for runs, gain in ((study.arm_SQ, share * 0.3), (study.full_SQ, 0.3)):
            assert runs.mean() - before == pytest.approx(gain, abs=error)
            # A run's accuracy on 4,000 questions has next to no noise but its seed's.
            assert runs.mean(axis=1).std() == pytest.approx(deviation, abs=0.007)
        # What the arm learns, full learns too.
        assert np.corrcoef(study.arm_SQ.mean(axis=0), study.full_SQ.mean(axis=0))[0, 1] > 0.7

    @pytest.mark.parametrize("share", [0.2, 1.0])
    @pytest.mark.parametrize("deviation", [0.0, 0.04, 0.08])
    def test_covers_the_truth(self, coverage: ModuleType, share: float, deviation: float) -> None:
        setting = coverage.Setting(seed_deviation=deviation, share=share)
        generator = np.random.default_rng(3)
        found = coverage.measure_coverage(coverage.draw_abilities, setting, 300, generator)
        assert min(found.full_gain, found.arm_gain, found.difference, found.share) >= 0.93
        assert found.defined > 0.8
