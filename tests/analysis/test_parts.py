"""Parts of a gain: they add up, and each is the interval of its own questions."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from attrib.analysis.parts import split_gain
from attrib.analysis.seeds import gain_over_seeds
from attrib.errors import DataError

BEFORE = np.arange(12) < 4
AFTER = np.stack([np.arange(12) % 3 != 0, np.arange(12) < 6])
LABELS = ["a"] * 4 + ["b"] * 5 + ["c"] * 3


def test_hand_computed_case() -> None:
    a, b, c = split_gain(BEFORE, AFTER, LABELS)
    assert [part.label for part in (a, b, c)] == ["a", "b", "c"]
    assert [part.questions for part in (a, b, c)] == [4, 5, 3]
    # First seed: of a, 0 and 3 are lost; of b, 4, 5, 7 and 8 are learned; of c, 10 and 11 are.
    # Second seed: 4 and 5 of b are learned.
    assert [part.lost.value for part in (a, b, c)] == pytest.approx([1 / 12, 0, 0])
    assert [part.learned.value for part in (a, b, c)] == pytest.approx([0, 3 / 12, 1 / 12])
    assert [part.gain.value for part in (a, b, c)] == pytest.approx([-1 / 12, 3 / 12, 1 / 12])
    assert [part.within.value for part in (a, b, c)] == pytest.approx([-1 / 4, 3 / 5, 1 / 3])
    assert a.gain.covers_seeds


@given(st.integers(1, 40), st.integers(1, 4), st.integers(0, 1000))
def test_parts_add_up_and_order_is_nothing(questions: int, seeds: int, seed: int) -> None:
    generator = np.random.default_rng(seed)
    before = generator.random(questions) < 0.4
    after = generator.random((seeds, questions)) < 0.6
    label_Q = generator.choice(["x", "y", "z"], questions)
    parts = split_gain(before, after, label_Q)
    whole = gain_over_seeds(before, after)
    assert sum(part.gain.value for part in parts) == pytest.approx(whole.value)
    assert sum(part.questions for part in parts) == questions
    for part in parts:
        assert part.gain.value == pytest.approx(part.learned.value - part.lost.value)
        assert part.gain.value == pytest.approx(part.within.value * part.questions / questions)
        assert part.gain.low <= part.gain.value <= part.gain.high
    order = generator.permutation(questions)
    again = split_gain(before[order], after[:, order], label_Q[order])
    assert [part.gain.value for part in again] == pytest.approx([p.gain.value for p in parts])
    [all_of_it] = split_gain(before, after, ["same"] * questions)
    for one in (all_of_it.gain, all_of_it.within):
        assert (one.value, one.low, one.high) == pytest.approx((whole.value, whole.low, whole.high))


def test_covers_the_truth() -> None:
    """Groups of known gains, three seeds that differ: both intervals hold theirs."""
    generator = np.random.default_rng(0)
    label_Q = np.repeat(["near", "far"], 100)
    inside = {"part": 0, "within": 0}
    for _ in range(1000):
        before = generator.random(200) < np.repeat([0.2, 0.0], 100)
        level_S = np.clip(0.5 + 0.05 * generator.standard_normal((3, 1)), 0, 1)
        after = generator.random((3, 200)) < np.repeat([1.0, 0.2], 100) * level_S
        near = split_gain(before, after, label_Q)[1]
        inside["part"] += near.gain.low <= 0.15 <= near.gain.high
        inside["within"] += near.within.low <= 0.3 <= near.within.high
    assert all(930 <= count <= 1000 for count in inside.values()), inside


def test_refuses() -> None:
    with pytest.raises(DataError, match=r"label_Q has shape \(3,\) for 12 questions"):
        split_gain(BEFORE, AFTER, ["a", "b", "c"])
    with pytest.raises(DataError, match="before_Q and after_SQ have 12 and 11"):
        split_gain(BEFORE, AFTER[:, 1:], LABELS)
