"""Shapley values against all orders of joining, their axioms, and games with a known answer."""

import itertools
from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
import pytest

from attrib.analysis.seeds import contrast_over_seeds, gain_over_seeds
from attrib.analysis.shapley import shapley_values, shapley_weights
from attrib.errors import ConfigError, DataError

Bools = npt.NDArray[np.bool_]
Game = dict[frozenset[str], Bools]


def list_coalitions(players: str) -> list[frozenset[str]]:
    """Return every non-empty coalition of players named by one letter each."""
    return [
        frozenset(members)
        for size in range(1, len(players) + 1)
        for members in itertools.combinations(players, size)
    ]


def random_game(players: str, questions: int = 40, seeds: int = 3, draw: int = 0) -> Game:
    """Return a game whose outcomes are drawn without any structure."""
    generator = np.random.default_rng(draw)
    return {
        coalition: generator.random((seeds, questions)) < generator.random()
        for coalition in list_coalitions(players)
    }


def additive_game(learned: Mapping[str, int], questions: int, seeds: int = 3) -> tuple[Bools, Game]:
    """Return a game in which each player repairs its own wrong answers, whoever else is there."""
    before = np.zeros(questions, bool)
    before[questions - 5 :] = True
    starts = dict(zip(learned, np.cumsum([0, *learned.values()]), strict=False))
    game = {}
    for coalition in list_coalitions("".join(learned)):
        after = before.copy()
        for player in coalition:
            after[starts[player] : starts[player] + learned[player]] = True
        game[coalition] = np.tile(after, (seeds, 1))
    return before, game


def gains_of(before: Bools, game: Game) -> dict[str, float]:
    """Return the value of each player's gain."""
    return {value.player: value.gain.value for value in shapley_values(before, game)}


class TestShapleyValues:
    @pytest.mark.parametrize("players", ["a", "ab", "abc", "abcde"])
    def test_agrees_with_all_orders_of_joining(self, players: str) -> None:
        game = random_game(players)
        before = np.random.default_rng(9).random(40) < 0.3

        def worth(members: tuple[str, ...]) -> float:
            return float(game[frozenset(members)].mean() - before.mean()) if members else 0.0

        for player, got in gains_of(before, game).items():
            marginal = [
                worth(order[: order.index(player) + 1]) - worth(order[: order.index(player)])
                for order in itertools.permutations(players)
            ]
            assert got == pytest.approx(np.mean(marginal), abs=1e-12)

    def test_hand_computed_case(self) -> None:
        # Alone a repairs 4 of 10, b 2, together 5: a brings 4 or 3, b brings 2 or 1.
        def right(count: int) -> Bools:
            return np.tile(np.arange(10) < count, (2, 1))

        game = {frozenset("a"): right(4), frozenset("b"): right(2), frozenset("ab"): right(5)}
        first, second = shapley_values(np.zeros(10, bool), game)
        assert (first.player, second.player) == ("a", "b")
        assert first.gain.value == pytest.approx(0.35)
        assert second.gain.value == pytest.approx(0.15)

    def test_an_additive_game_is_recovered(self) -> None:
        learned = {"a": 40, "b": 25, "c": 10, "d": 0}
        before, game = additive_game(learned, questions=100)
        values = shapley_values(before, game)
        for value in values:
            assert value.gain.value == pytest.approx(learned[value.player] / 100, abs=1e-12)
            assert value.gain.low < value.gain.value < value.gain.high
            assert value.share.value == pytest.approx(learned[value.player] / 75, abs=1e-12)

    @pytest.mark.parametrize("players", ["ab", "abcd", "abcdef"])
    def test_efficiency(self, players: str) -> None:
        game = random_game(players)
        before = np.zeros(40, bool)
        game[frozenset(players)] = random_game("a")[frozenset("a")] | True
        values = shapley_values(before, game)
        full = gain_over_seeds(before, game[frozenset(players)])
        assert sum(value.gain.value for value in values) == pytest.approx(full.value)
        shares = [value.share.value for value in values if value.share.value is not None]
        assert len(shares) == len(players)
        assert sum(shares) == pytest.approx(1.0)

    def test_symmetry_and_dummy(self) -> None:
        drawn = random_game("abc")
        game = dict(drawn)
        # b in the place of a changes nothing; d joins without any effect.
        game[frozenset("b")] = game[frozenset("a")]
        game[frozenset("bc")] = game[frozenset("ac")]
        for coalition in list_coalitions("abc"):
            game[coalition | {"d"}] = game[coalition]
        before = np.random.default_rng(9).random(40) < 0.3
        game[frozenset("d")] = np.tile(before, (3, 1))
        gains = gains_of(before, game)
        assert gains["a"] == pytest.approx(gains["b"])
        assert gains["d"] == pytest.approx(0.0, abs=1e-12)

    def test_additivity(self) -> None:
        """The value of two games played at once, on other questions, is the mean of theirs."""
        one, other = random_game("abc", 30, draw=1), random_game("abc", 50, draw=2)
        both = {coalition: np.hstack([one[coalition], other[coalition]]) for coalition in one}
        before_one, before_other = np.zeros(30, bool), np.ones(50, bool)
        gains = gains_of(np.append(before_one, before_other), both)
        for player, gain in gains_of(before_one, one).items():
            other_gain = gains_of(before_other, other)[player]
            assert gains[player] == pytest.approx((30 * gain + 50 * other_gain) / 80)

    def test_one_player_has_the_full_arm_s_gain(self) -> None:
        before, game = additive_game({"a": 20}, questions=50)
        (value,) = shapley_values(before, game)
        assert value.gain == gain_over_seeds(before, game[frozenset("a")])
        assert value.share.value == pytest.approx(1.0)

    def test_the_interval_is_that_of_the_contrast(self) -> None:
        game = random_game("ab")
        before = np.random.default_rng(9).random(40) < 0.3
        arms = [game[frozenset("b")], game[frozenset("ab")], game[frozenset("a")]]
        want = contrast_over_seeds(before, arms, [-0.5, 0.5, 0.5], 0.9)
        got = shapley_values(before, game, 0.9)[0].gain
        assert (got.value, got.low, got.high) == pytest.approx((want.value, want.low, want.high))

    def test_one_seed_says_that_it_covers_none(self) -> None:
        before = np.zeros(40, bool)
        assert all(v.gain.covers_seeds for v in shapley_values(before, random_game("ab")))
        for value in shapley_values(before, random_game("ab", seeds=1)):
            assert not value.gain.covers_seeds
            assert not value.share.covers_seeds
            assert value.gain.low < value.gain.value < value.gain.high

    def test_covers_the_true_contribution(self) -> None:
        """Each player repairs its own quarter of the questions at a rate that varies with seeds."""
        generator = np.random.default_rng(17)
        rates, questions, covered = {"a": 0.8, "b": 0.3, "c": 0.1}, 120, []
        for _ in range(250):
            owner_Q = generator.integers(0, 4, questions)
            game = {}
            for coalition in list_coalitions("abc"):
                shift_S = generator.uniform(-0.1, 0.1, 3)
                game[coalition] = np.zeros((3, questions), bool)
                for index, player in enumerate(rates):
                    if player in coalition:
                        chance_S = np.clip(rates[player] + shift_S, 0.0, 1.0)[:, None]
                        right = generator.random((3, questions)) < chance_S
                        game[coalition] |= right & (owner_Q == index)
            for value in shapley_values(np.zeros(questions, bool), game):
                covered.append(value.gain.low <= rates[value.player] / 4 <= value.gain.high)
        assert np.mean(covered) >= 0.94

    def test_refuses(self) -> None:
        before, game = np.zeros(40, bool), random_game("abc")
        lacking = {c: runs for c, runs in game.items() if c not in ({"a", "c"}, {"b"})}
        with pytest.raises(DataError, match=r"2 of the 7 coalitions of a, b, c are missing: b, a "):
            shapley_values(before, lacking)
        with pytest.raises(DataError, match="give its outcomes as before_Q"):
            shapley_values(before, {**game, frozenset(): game[frozenset("a")]})
        with pytest.raises(DataError, match="0 coalitions are given"):
            shapley_values(before, {})
        with pytest.raises(DataError, match="7 groups need 127 arms; at most 6"):
            shapley_values(before, {frozenset("abcdefg"): game[frozenset("a")]})
        with pytest.raises(DataError, match="have 39 and 40 questions"):
            shapley_values(before[:39], game)
        with pytest.raises(ConfigError, match="confidence is 2"):
            shapley_values(before, game, 2.0)


class TestShapleyWeights:
    def test_published_numbers(self) -> None:
        """Three players: a third alone and with all, a sixth with one other; minus the same."""
        coalitions = [frozenset(c) for c in ("a", "b", "c", "ab", "ac", "bc", "abc")]
        want = np.array([2, -1, -1, 1, 1, -2, 2]) / 6
        np.testing.assert_allclose(shapley_weights("a", coalitions, 3), want)
