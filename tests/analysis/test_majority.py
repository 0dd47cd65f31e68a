"""Maj@k against every subset, and the random subsets against the exact count."""

from collections.abc import Callable
from fractions import Fraction
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from attrib.analysis.majority import Votes, majority_at_k
from attrib.errors import ConfigError, DataError


def vote_over_every_subset(counts: list[int], correct: list[bool], k: int) -> Fraction:
    rollouts = [answer for answer, count in enumerate(counts) for _ in range(count)]
    scores = []
    for subset in combinations(rollouts, k):
        votes = [subset.count(answer) for answer in range(len(counts))]
        tied = [answer for answer, vote in enumerate(votes) if vote == max(votes)]
        scores.append(Fraction(sum(correct[answer] for answer in tied), len(tied)))
    return Fraction(sum(scores), len(scores))


def estimate(counts: list[int], correct: list[bool], ks: list[int], seed: int = 0) -> list[float]:
    result = majority_at_k([Votes(counts, correct)], ks, np.random.default_rng(seed))
    assert result.exact_QK.all()
    assert not result.error_QK.any()
    return list(result.value_QK[0].tolist())


@st.composite
def ballots(draw: st.DrawFn, largest: int = 4) -> tuple[list[int], list[bool]]:
    counts = draw(st.lists(st.integers(0, largest), min_size=1, max_size=5).filter(any))
    return counts, draw(st.lists(st.booleans(), min_size=len(counts), max_size=len(counts)))


def test_hand_computed_case() -> None:
    # Answers a, a, b with a correct. Pairs: aa wins, ab and ab tie. The triple: a wins.
    assert estimate([2, 1], [True, False], [1, 2, 3]) == pytest.approx([2 / 3, 2 / 3, 1.0])
    # a, b, c with a correct: any subset ties, and a has its share of it.
    assert estimate([1, 1, 1], [True, False, False], [1, 2, 3]) == pytest.approx([1 / 3] * 3)


@given(ballots().filter(lambda ballot: sum(ballot[0]) <= 9))
@settings(max_examples=60, deadline=None)
def test_equals_the_mean_over_all_subsets(ballot: tuple[list[int], list[bool]]) -> None:
    counts, correct = ballot
    ks = list(range(1, sum(counts) + 1))
    want = [float(vote_over_every_subset(counts, correct, k)) for k in ks]
    np.testing.assert_allclose(estimate(counts, correct, ks), want, rtol=1e-13, atol=1e-14)


@given(ballots(30))
@settings(max_examples=40, deadline=None)
def test_one_vote_and_two_are_the_accuracy_and_wrong_and_right_share_the_wins(
    ballot: tuple[list[int], list[bool]],
) -> None:
    counts, correct = ballot
    n = sum(counts)
    ks = sorted({1, min(2, n), max(1, n // 2), n})
    right = estimate(counts, correct, ks)
    wrong = estimate(counts, [not one for one in correct], ks)
    np.testing.assert_allclose(np.add(right, wrong), 1.0, rtol=1e-12)
    accuracy = sum(c for c, good in zip(counts, correct, strict=True) if good) / n
    np.testing.assert_allclose([right[0], right[ks.index(min(2, n))]], accuracy, atol=1e-12)


def test_grows_with_k_where_the_right_answer_leads_and_reaches_the_full_vote() -> None:
    ks = [1, 3, 9, 27, 81, 128]
    values = estimate([50, 30, 20, 20, 8], [True, False, False, False, False], ks)
    assert np.all(np.diff(values) > 0.0)
    assert values[-1] == pytest.approx(1.0)
    assert estimate([64, 64], [True, False], ks) == pytest.approx([0.5] * 6)


def test_largest_counted_n_agrees_with_two_answers_of_the_hypergeometric_law() -> None:
    ks = [1, 5, 51, 151, 255]
    values = estimate([120, 136], [True, False], ks)
    want = [stats.hypergeom.sf(k // 2, 256, 120, k) for k in ks]
    np.testing.assert_allclose(values, want, rtol=1e-9, atol=1e-12)


class TestRandomSubsets:
    @pytest.fixture
    def drawn(self, monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
        """Switch counting off, so that small cases are drawn."""
        return lambda: monkeypatch.setattr("attrib.analysis.majority._LARGEST_COUNTED", 0)

    def test_agree_with_the_count_within_their_error(self, drawn: Callable[[], None]) -> None:
        votes = [
            Votes([20, 25, 5, 1, 1], [True, False, True, False, False]),
            Votes([30, 28], [True, False]),
        ]
        ks = [1, 2, 3, 10, 30, 52]
        exact = majority_at_k(votes, ks, np.random.default_rng(0))
        drawn()
        random = majority_at_k(votes, ks, np.random.default_rng(0), subsets=20_000)
        assert random.exact_QK.tolist() == [[k <= 2 or k == n for k in ks] for n in (52, 58)]
        z = (random.value_QK - exact.value_QK) / np.where(random.exact_QK, 1e-12, random.error_QK)
        assert np.abs(z).max() < 3.5

    def test_are_unbiased_and_their_error_is_right(self, drawn: Callable[[], None]) -> None:
        votes = [Votes([5, 4, 3], [True, False, False])]
        want = majority_at_k(votes, [4], np.random.default_rng(0)).value_QK[0, 0]
        drawn()
        generator = np.random.default_rng(1)
        runs = [majority_at_k(votes, [4], generator, subsets=50) for _ in range(1000)]
        values = np.array([run.value_QK[0, 0] for run in runs])
        error = np.mean([run.error_QK[0, 0] for run in runs])
        assert abs(values.mean() - want) < 4 * error / 1000**0.5
        assert values.std() == pytest.approx(error, rel=0.1)

    def test_do_not_depend_on_order_or_blocks(self, monkeypatch: pytest.MonkeyPatch) -> None:
        big = Votes([200, 150, 50], [False, True, False])
        same = Votes([50, 0, 150, 200], [False, True, True, False])
        other = Votes([300, 1], [True, False])
        first = majority_at_k([big, other], [5, 100], np.random.default_rng(3), subsets=100)
        monkeypatch.setattr("attrib.analysis.majority._BLOCK_CELLS", 12)
        second = majority_at_k([other, same], [5, 100], np.random.default_rng(3), subsets=100)
        np.testing.assert_array_equal(first.value_QK, second.value_QK[::-1])
        np.testing.assert_array_equal(first.error_QK, second.error_QK[::-1])
        assert not first.exact_QK.any()


def test_refuses() -> None:
    generator = np.random.default_rng(0)
    with pytest.raises(DataError, match="k=4 exceeds n=3 of row 1"):
        majority_at_k([Votes([4], [True]), Votes([3], [True])], [4], generator)
    with pytest.raises(DataError, match="votes holds no question"):
        majority_at_k([], [1], generator)
    with pytest.raises(DataError, match="a question needs a vote"):
        Votes([0, 0], [True, False])
    with pytest.raises(DataError, match="no count is below 0"):
        Votes([3, -1], [True, False])
    with pytest.raises(DataError, match="count_A has 2 answers and correct_A 1"):
        Votes([3, 1], [True])
    with pytest.raises(DataError, match="correct_A holds int64"):
        Votes([3, 1], [1, 0])
    with pytest.raises(ConfigError, match="subsets is 1"):
        majority_at_k([Votes([3], [True])], [1], generator, subsets=1)
