"""The area under the ROC curve: by hand, by brute force, and whether its interval covers."""

import numpy as np
import pytest
from scipy.stats import mannwhitneyu, norm

from attrib.analysis.discrimination import area_under_curve
from attrib.errors import DataError


def test_a_case_computed_by_hand() -> None:
    # Of 3 × 2 pairs 4 are won and one is a tie.
    found = area_under_curve(np.array([3.0, 2.0, 5.0]), np.array([1.0, 3.0]))
    assert found.value == pytest.approx(4.5 / 6)
    # Placements of the first kind 3/4, 1/2, 1 with variance 1/16; of the second 1, 1/2, with 1/8.
    variance = 1 / 16 / 3 + 1 / 8 / 2
    reach = 1.959964 * np.sqrt(variance) / (0.75 * 0.25)
    assert found.low == pytest.approx(1 / (1 + np.exp(-(np.log(3) - reach))), abs=1e-6)
    assert found.high == pytest.approx(1 / (1 + np.exp(-(np.log(3) + reach))), abs=1e-6)


@pytest.mark.parametrize("seed", range(5))
def test_it_is_mann_whitneys(seed: int) -> None:
    generator = np.random.default_rng(seed)
    first, second = (
        generator.integers(0, 8, 20).astype(float),
        generator.integers(0, 6, 15).astype(float),
    )
    expected = mannwhitneyu(first, second).statistic / 300
    found = area_under_curve(first, second)
    assert found.value == pytest.approx(expected)
    assert 0 <= found.low <= found.value <= found.high <= 1
    turned = area_under_curve(-first, -second)
    assert (turned.low, turned.high) == pytest.approx((1 - found.high, 1 - found.low))


def test_kinds_that_do_not_overlap_have_an_interval() -> None:
    found = area_under_curve(np.arange(10.0, 20.0), np.arange(8.0))
    assert found.value == found.high == 1.0
    assert 0.6 < found.low < 0.7  # Wilson's for 8 of 8
    ties = area_under_curve(np.ones(8), np.ones(9))
    assert ties.value == 0.5
    assert ties.low < 0.25


def test_too_few_examples_are_refused() -> None:
    with pytest.raises(DataError, match="1 and 5 examples"):
        area_under_curve(np.ones(1), np.ones(5))


def test_the_interval_covers() -> None:
    generator = np.random.default_rng(0)
    truth = float(norm.cdf(0.8 / np.sqrt(2)))
    covered = 0
    for _ in range(400):
        found = area_under_curve(0.8 + generator.normal(size=20), generator.normal(size=20))
        covered += found.low <= truth <= found.high
    assert covered / 400 >= 0.92
