"""Shapley values: the full arm's gain divided among groups of training questions.

Owns the division of the gain among at most six groups from one arm for every combination of them.
Refuses missing combinations. A share of the gain when trained on alone (`share_over_seeds`) counts
what groups teach in common twice, and a share lost when left out counts it never; Shapley values
count it once, so that they add up to the full arm's gain. The paper (arXiv 2605.07153) trains on
one group alone and has no counterpart.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import combinations

import numpy as np
import numpy.typing as npt

from attrib.analysis.checks import FloatArray
from attrib.analysis.seeds import (
    IntervalOverSeeds,
    ShareOverSeeds,
    contrast_over_seeds,
    ratio_over_seeds,
)
from attrib.errors import DataError

LARGEST_GAME = 6  # players; 63 arms


@dataclass(frozen=True, slots=True)
class ShapleyValue:
    """What one group of training questions contributes to the full arm's gain."""

    player: str
    gain: IntervalOverSeeds
    """The contribution, a fraction of the held-out questions."""
    share: ShareOverSeeds
    """The contribution as a share of the full arm's gain."""


def shapley_values(
    before_Q: npt.ArrayLike,
    after_by_coalition: Mapping[frozenset[str], npt.ArrayLike],
    confidence: float = 0.95,
) -> list[ShapleyValue]:
    """Return each group's average marginal contribution to the gain, over all orders of joining.

    Args:
        before_Q: Whether each held-out question was correct before training, shape (Q,), bool. It
            is the outcome of the empty coalition, whose gain is 0.
        after_by_coalition: For each non-empty set of groups, the outcomes after training on their
            union with each seed, shape (S, Q), bool; S may differ. B groups need 2^B - 1 sets.
        confidence: Two-sided level.

    Returns:
        One value for each group, in the order of their names. Their gains add up to the full arm's,
        and their shares, where defined, to 1.

    Raises:
        DataError: If a set is missing or empty, there are more than six groups, or an array is
            empty, not boolean, of another shape, or Q differs.
        ConfigError: If `confidence` is outside (0, 1).

    Source: Shapley 1953, Contributions to the Theory of Games II, 307. Intervals as in
    `contrast_over_seeds` and `ratio_over_seeds`, of which these are special cases.
    """
    players = _check_game(after_by_coalition)
    coalitions = list(after_by_coalition)
    arms = [after_by_coalition[coalition] for coalition in coalitions]
    full_A = [float(len(coalition) == len(players)) for coalition in coalitions]
    values = []
    for player in players:
        weights_A = shapley_weights(player, coalitions, len(players)).tolist()
        gain = contrast_over_seeds(before_Q, arms, weights_A, confidence)
        share = ratio_over_seeds(before_Q, arms, weights_A, full_A, confidence)
        values.append(ShapleyValue(player, gain, share))
    return values


def shapley_weights(player: str, coalitions: list[frozenset[str]], players: int) -> FloatArray:
    """Return the weight of each coalition's gain in the Shapley value of one player.

    Args:
        player: The player.
        coalitions: Sets of players, A of them.
        players: Number of players of the game, B.

    Returns:
        Weights, shape (A,): (c-1)!(B-c)!/B! for a coalition of c players that has the player, and
        -c!(B-c-1)!/B! for one that has not.

    Source: Shapley 1953, Contributions to the Theory of Games II, 307.
    """
    orders = math.factorial(players)
    weights = []
    for coalition in coalitions:
        others = len(coalition - {player})
        favourable = math.factorial(others) * math.factorial(players - 1 - others)
        weights.append((1.0 if player in coalition else -1.0) * favourable / orders)
    return np.array(weights)


def _check_game(after_by_coalition: Mapping[frozenset[str], npt.ArrayLike]) -> list[str]:
    """Return the players by name after checking that every coalition but the empty one is there."""
    players = sorted(frozenset().union(*after_by_coalition))
    if not players or frozenset() in after_by_coalition:
        raise DataError(
            f"{len(after_by_coalition)} coalitions are given, the empty one among them or no "
            "other. The empty one is the base: give its outcomes as before_Q, and name the groups."
        )
    if len(players) > LARGEST_GAME:
        raise DataError(
            f"{len(players)} groups need {2 ** len(players) - 1} arms; at most {LARGEST_GAME} "
            "groups are taken. Merge some."
        )
    missing = [
        " + ".join(members)
        for size in range(1, len(players) + 1)
        for members in combinations(players, size)
        if frozenset(members) not in after_by_coalition
    ]
    if missing:
        raise DataError(
            f"{len(missing)} of the {2 ** len(players) - 1} coalitions of {', '.join(players)} are "
            f"missing: {', '.join(missing[:5])}{' …' if len(missing) > 5 else ''}. Train an arm on "
            "each."
        )
    return players
