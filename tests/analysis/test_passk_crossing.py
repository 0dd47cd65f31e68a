"""Crossing points and equivalent attempts on curves whose crossing is known."""

import numpy as np
import pytest
from scipy import optimize, special

from attrib.analysis.passk_compare import PairedCounts
from attrib.analysis.passk_crossing import CrossingVerdict, find_crossing
from attrib.analysis.passk_equivalent import equivalent_attempts
from attrib.errors import ConfigError, DataError

KS = np.array([1, 2, 4, 8, 16])


def mean_missed(k: float) -> float:
    """Return E[(1-p)^k] for p ~ Beta(1/2, 1)."""
    return float(np.exp(special.betaln(0.5, 1 + k) - special.betaln(0.5, 1.0)))


def draw_study(
    generator: np.random.Generator, questions: int, power: float, lost: float, n: int = 16
) -> PairedCounts:
    """Return a study in which RL is worth `power` attempts and loses a share of the questions."""
    p_Q = generator.beta(0.5, 1.0, questions)
    after_Q = 1 - (1 - p_Q) ** power
    after_Q[generator.random(questions) < lost] = 0.0
    n_Q = np.full(questions, n)
    return PairedCounts(n_Q, generator.binomial(n, p_Q), n_Q, generator.binomial(n, after_Q))


def crossing_counts(questions: int) -> PairedCounts:
    """Return questions of which RL solves half always, and the base all in one of 8 rollouts."""
    n = [8] * questions
    after = [8] * (questions // 2) + [0] * (questions - questions // 2)
    return PairedCounts(n, [1, 2] * (questions // 2), n, after)


class TestFindCrossing:
    def test_hand_computed_case(self) -> None:
        # After: 1/2 at every k. Before, with c=1 and c=2 of 8 by turns: 2/8 and 13/28 of the pairs,
        # 4/8 and 11/14 of the quadruples.
        got = find_crossing(crossing_counts(200), [1, 2, 4, 8], np.random.default_rng(0))
        under, over = 1 / 2 - (2 / 8 + 13 / 28) / 2, 1 / 2 - (4 / 8 + 11 / 14) / 2
        want = 2 * 2 ** (under / (under - over))
        assert got.attempts == pytest.approx(want)
        assert got.verdict is CrossingVerdict.SHOWN
        assert (got.smaller_k, got.larger_k) == (2, 4)
        assert got.attempts_low is not None
        assert got.attempts_high is not None
        assert 2 < got.attempts_low < want < got.attempts_high < 4
        assert got.statement.endswith("crossing shown: between k=2 and k=4.")
        assert got.statement.startswith("200 questions show a difference of 0.")

    def test_a_small_study_cannot_tell_and_says_what_it_could_have_seen(self) -> None:
        got = find_crossing(crossing_counts(8), [1, 2, 4, 8], np.random.default_rng(0))
        assert got.verdict is CrossingVerdict.UNKNOWN
        assert (got.smaller_k, got.larger_k) == (None, None)
        assert got.statement.startswith("8 questions show ")
        assert got.statement.endswith(" with 80 % power. cannot tell.")

    def test_one_model_ahead_throughout_has_no_crossing(self) -> None:
        n = [8] * 300
        ahead = PairedCounts(n, [0, 1, 2] * 100, n, [4, 5, 6] * 100)
        got = find_crossing(ahead, [1, 2, 4], np.random.default_rng(0))
        assert got.verdict is CrossingVerdict.NONE
        assert (got.attempts, got.attempts_low, got.attempts_high) == (None, 4.0, None)
        back = PairedCounts(n, [4, 5, 6] * 100, n, [0, 1, 2] * 100)
        got = find_crossing(back, [1, 2, 4], np.random.default_rng(0))
        assert got.verdict is CrossingVerdict.NONE
        assert (got.attempts, got.attempts_low, got.attempts_high) == (None, None, 1.0)

    def test_the_other_direction_is_shown_too_and_leaves_the_high_end_open(self) -> None:
        rows = crossing_counts(200).rows()[:, [2, 3, 0, 1]]
        got = find_crossing(PairedCounts(*rows.T), [1, 2, 4, 8], np.random.default_rng(0))
        assert got.verdict is CrossingVerdict.SHOWN
        assert (got.attempts, got.attempts_low, got.attempts_high) == (None, 8.0, None)

    def test_equal_models_cross_nowhere(self) -> None:
        n, correct = [8] * 400, [0, 2, 4, 8] * 100
        got = find_crossing(PairedCounts(n, correct, n, correct), [1, 8], np.random.default_rng(0))
        assert got.verdict is CrossingVerdict.NONE
        assert got.detectable_difference is None
        assert "no difference within 1 at k=8" in got.statement
        assert (got.attempts, got.attempts_low, got.attempts_high) == (None, None, None)

    def test_no_false_crossing_and_the_point_is_covered(self) -> None:
        """500 studies each without a crossing, and with one at a k that is known."""
        generator = np.random.default_rng(4)
        same = [
            find_crossing(draw_study(generator, 100, 1.0, 0.0), KS, generator, draws=200).verdict
            for _ in range(500)
        ]
        assert same.count(CrossingVerdict.SHOWN) <= 0.05 * 500
        lead_K = np.array([0.85 * (1 - mean_missed(2 * k)) - (1 - mean_missed(k)) for k in KS])
        j = int(np.flatnonzero(lead_K > 0)[-1])
        truth = float(KS[j] * 2 ** (lead_K[j] / (lead_K[j] - lead_K[j + 1])))
        hits = 0
        for _ in range(500):
            got = find_crossing(draw_study(generator, 200, 2.0, 0.15), KS, generator, draws=200)
            low, high = got.attempts_low or 0.0, got.attempts_high or np.inf
            hits += low <= truth <= high
        assert abs(hits / 500 - 0.95) <= 0.03, hits

    def test_refuses(self) -> None:
        counts, generator = crossing_counts(8), np.random.default_rng(0)
        with pytest.raises(DataError, match="k_K holds only k=2; a crossing needs two"):
            find_crossing(counts, [2, 2], generator)
        with pytest.raises(DataError, match="k=9 exceeds n=8"):
            find_crossing(counts, [1, 9], generator)
        with pytest.raises(ConfigError, match="relevant_difference is 2"):
            find_crossing(counts, [1, 2], generator, relevant_difference=2)


class TestEquivalentAttempts:
    def test_hand_computed_case(self) -> None:
        # Before: c=1 of 4 on every question, 1/4, 1/2, 3/4, 1. After: 5/8, between k=2 and 3.
        n = [4] * 40
        counts = PairedCounts(n, [1] * 40, [8] * 40, [4, 6] * 20)
        got = equivalent_attempts(counts, np.random.default_rng(0))
        assert got.value == pytest.approx(2 * 1.5**0.5)
        assert got.reason == ""
        assert got.low is not None
        assert got.high is not None
        assert 2 < got.low < got.value < got.high < 3
        assert (got.largest_k, got.questions) == (4, 40)

    def test_a_whole_number_of_attempts_is_found_exactly(self) -> None:
        n = [16] * 20
        counts = PairedCounts(n, [1] * 20, n, [5] * 20)
        got = equivalent_attempts(counts, np.random.default_rng(0))
        assert got.value == pytest.approx(5.0)
        one = equivalent_attempts(PairedCounts(n, [1] * 20, n, [1] * 20), np.random.default_rng(0))
        assert one.value == pytest.approx(1.0)

    def test_out_of_reach_is_an_open_end_with_a_reason(self) -> None:
        n = [16] * 50
        beyond = PairedCounts(n, [0, 1] * 25, n, [12] * 50)
        got = equivalent_attempts(beyond, np.random.default_rng(0))
        assert (got.value, got.high) == (None, None)
        assert got.low is not None
        assert 8 < got.low <= 16
        assert got.reason == "16 attempts before RL solve 0.500, one after it 0.750"
        worse = equivalent_attempts(
            PairedCounts(n, [8] * 50, n, [2] * 50), np.random.default_rng(0)
        )
        assert (worse.value, worse.low, worse.high) == (None, None, 1.0)
        assert worse.reason == "one attempt solves 0.500 before RL and 0.125 after it"

    def test_order_does_not_matter(self) -> None:
        rows = draw_study(np.random.default_rng(0), 50, 4.0, 0.0).rows()
        order = np.random.default_rng(1).permutation(50)
        first = equivalent_attempts(PairedCounts(*rows.T), np.random.default_rng(2))
        second = equivalent_attempts(PairedCounts(*rows[order].T), np.random.default_rng(2))
        assert first == second

    def test_one_rollout_has_one_k(self) -> None:
        counts = PairedCounts([1] * 4, [0, 1, 0, 1], [1] * 4, [0, 1, 1, 0])
        got = equivalent_attempts(counts, np.random.default_rng(0))
        assert (got.value, got.largest_k) == (1.0, 1)

    def test_covers_the_truth_about_as_often_as_it_says(self) -> None:
        """RL worth four attempts on the questions it keeps, nine in ten."""
        generator = np.random.default_rng(6)
        target = 0.9 * (1 - mean_missed(4))
        truth = optimize.brentq(lambda k: 1 - mean_missed(k) - target, 1, 16)
        hits = 0
        for _ in range(500):
            got = equivalent_attempts(draw_study(generator, 100, 4.0, 0.1), generator, draws=200)
            hits += (got.low or 0.0) <= truth <= (got.high or np.inf)
        assert abs(hits / 500 - 0.95) <= 0.03, hits
