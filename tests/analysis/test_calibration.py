"""Calibration against hand-computed bins and a model that is calibrated by construction."""

import numpy as np
import pytest

from attrib.analysis.calibration import calibrate
from attrib.analysis.intervals import ratio_interval, wilson_interval
from attrib.errors import ConfigError, DataError


def make() -> np.random.Generator:
    return np.random.default_rng(0)


def test_hand_computed_case() -> None:
    found = calibrate([[0.1, 0.15, 0.9, 1.0]], [[False, True, True, False]], make())
    low, high = found.bins
    assert (low.lowest, low.highest, low.answers) == (0.1, 0.2, 2)
    assert (low.confidence, low.accuracy.value) == pytest.approx((0.125, 0.5))
    assert (high.lowest, high.highest, high.answers) == (0.9, 1.0, 2)  # 1 is in the last bin
    assert (high.confidence, high.accuracy.value) == pytest.approx((0.95, 0.5))
    assert found.error == pytest.approx((2 * 0.375 + 2 * 0.45) / 4)
    assert found.brier.value == pytest.approx((0.01 + 0.85**2 + 0.01 + 1.0) / 4)
    assert found.overconfidence.value == pytest.approx((0.1 - 0.85 - 0.1 + 1.0) / 4)
    assert found.questions == 4


def test_a_calibrated_model_errs_by_chance_alone() -> None:
    generator = make()
    stated = generator.random((3, 400))
    found = calibrate(stated, generator.random(stated.shape) < stated, generator)
    assert found.error == pytest.approx(found.error_by_chance, abs=0.02)
    assert found.overconfidence.low < 0.0 < found.overconfidence.high
    boastful = calibrate(np.sqrt(stated), generator.random(stated.shape) < stated, generator)
    assert boastful.error > 3 * boastful.error_by_chance
    assert boastful.overconfidence.low > 0.1


def test_the_order_of_questions_and_seeds_is_nothing() -> None:
    generator = make()
    stated = generator.random((2, 50))
    right = generator.random((2, 50)) < 0.5
    one = calibrate(stated, right, make())
    order = generator.permutation(50)
    other = calibrate(stated[::-1, order], right[::-1, order], make())
    assert other.error == pytest.approx(one.error)
    assert other.brier.high == pytest.approx(one.brier.high)


@pytest.mark.parametrize(
    ("stated", "right", "settings", "message"),
    [
        ([[0.5]], [[True, False]], {}, r"shape \(1, 1\), correct_SQ \(1, 2\)"),
        ([[1.5]], [[True]], {}, "confidence 1.5 is not between 0 and 1"),
        ([[float("nan")]], [[True]], {}, "confidence nan"),
        ([[0.5]], [[1]], {}, "correct_SQ"),
    ],
)
def test_refuses(
    stated: list[list[float]], right: list[list[bool]], settings: dict[str, int], message: str
) -> None:
    with pytest.raises(DataError, match=message):
        calibrate(stated, right, make(), **settings)
    with pytest.raises(ConfigError, match="bins=0"):
        calibrate([[0.5]], [[True]], make(), bins=0)


class TestRatioInterval:
    def test_of_single_counts_is_nearly_the_interval_of_a_proportion(self) -> None:
        part = np.arange(400) < 100
        got, want = ratio_interval(part, np.ones(400)), wilson_interval(100, 400)
        assert got.value == 0.25
        assert (got.low, got.high) == pytest.approx((want.low, want.high), abs=0.004)
        # Questions without an answer of the kind say nothing.
        more = ratio_interval(np.append(part, [0] * 50), np.append(np.ones(400), [0] * 50))
        assert (more.value, more.low, more.high) == pytest.approx((got.value, got.low, got.high))

    def test_repeats_of_a_question_are_no_new_questions(self) -> None:
        part, whole = np.array([1, 0, 1, 1, 0, 1]), np.ones(6)
        once, thrice = ratio_interval(part, whole), ratio_interval(3 * part, 3 * whole)
        assert (thrice.low, thrice.high) == pytest.approx((once.low, once.high))

    def test_covers_the_truth(self) -> None:
        generator, inside = make(), 0
        for _ in range(1000):
            chance_Q = generator.beta(2, 2, 120)
            whole_Q = generator.binomial(3, 0.7, 120)
            found = ratio_interval(generator.binomial(whole_Q, chance_Q), whole_Q)
            inside += found.low <= 0.5 <= found.high
        assert 930 <= inside <= 970

    def test_edges_have_a_width(self) -> None:
        for part in ([2, 1, 1], [0, 0, 0]):
            found = ratio_interval(part, [2, 1, 1])
            assert found.high - found.low > 0.3

    def test_refuses(self) -> None:
        with pytest.raises(DataError, match="counts nothing"):
            ratio_interval([0, 0], [0, 0])
        with pytest.raises(DataError, match="counts of what"):
            ratio_interval([2], [1])
