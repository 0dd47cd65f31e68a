"""Linear datamodel scores: by hand, against scipy, and whether intervals cover."""

import numpy as np
import pytest
from scipy import stats

from attrib.analysis.datamodel import linear_datamodel_score, mean_datamodel_score
from attrib.errors import ConfigError, DataError


def test_a_case_computed_by_hand() -> None:
    # Ranks 1 2 3 4 5 against 2 1 4 3 5: squared differences add to 4, 1 - 6·4/(5·24) = 0.8.
    found = linear_datamodel_score(
        np.array([0.1, 0.2, 0.3, 0.4, 9.0]), np.array([20.0, 10.0, 40.0, 30.0, 50.0])
    )
    assert found.value == pytest.approx(0.8)
    reach = 1.959964 * np.sqrt((1 + 0.32) / 2)
    assert found.low == pytest.approx(np.tanh(np.arctanh(0.8) - reach), abs=1e-6)
    assert found.high == pytest.approx(np.tanh(np.arctanh(0.8) + reach), abs=1e-6)
    assert (found.subsets, found.questions) == (5, 1)


@pytest.mark.parametrize("seed", range(5))
def test_it_is_scipys_correlation_with_ties(seed: int) -> None:
    generator = np.random.default_rng(seed)
    first, second = generator.integers(0, 6, (2, 30)).astype(float)
    found = linear_datamodel_score(first, second)
    assert found.value == pytest.approx(stats.spearmanr(first, second).statistic)
    many = generator.integers(0, 6, (2, 12, 7)).astype(float)
    expected = [stats.spearmanr(many[0, :, q], many[1, :, q]).statistic for q in range(7)]
    assert mean_datamodel_score(*many).value == pytest.approx(np.mean(expected))


def test_order_counts_and_nothing_else() -> None:
    generator = np.random.default_rng(0)
    first, second = generator.normal(size=(2, 12))
    found = linear_datamodel_score(first, second)
    assert linear_datamodel_score(np.exp(first), 5 * second - 1) == found
    turned = linear_datamodel_score(-first, second)
    assert turned.value == pytest.approx(-found.value)
    assert turned.low == pytest.approx(-found.high)


@pytest.mark.parametrize("sign", [1, -1])
def test_a_perfect_order_has_an_interval(sign: int) -> None:
    found = linear_datamodel_score(np.arange(20.0), sign * np.arange(20.0))
    assert found.value == pytest.approx(sign)
    low, high = sorted((sign * found.low, sign * found.high))
    assert high == pytest.approx(1.0)
    assert 0.9 < low < 1.0


def test_equal_predictions_have_no_score() -> None:
    found = linear_datamodel_score(np.ones(8), np.arange(8.0))
    assert (found.value, found.low, found.high, found.questions) == (None, None, None, 0)
    some = np.stack([np.ones(8), np.arange(8.0)], axis=1)
    mean = mean_datamodel_score(some, np.stack([np.arange(8.0)] * 2, axis=1))
    assert (mean.value, mean.questions) == (pytest.approx(1.0), 1)
    assert mean_datamodel_score(np.ones((8, 2)), np.ones((8, 2))).value is None


def test_too_few_subsets_and_other_shapes_are_refused() -> None:
    with pytest.raises(DataError, match="4 subsets order nothing"):
        linear_datamodel_score(np.arange(4.0), np.arange(4.0))
    with pytest.raises(DataError, match="not of the same subsets"):
        mean_datamodel_score(np.ones((6, 2)), np.ones((6, 3)))
    with pytest.raises(ConfigError):
        linear_datamodel_score(np.arange(6.0), np.arange(6.0), confidence=1.0)


@pytest.mark.parametrize("correlation", [0.0, 0.5])
def test_the_interval_covers(correlation: float) -> None:
    generator = np.random.default_rng(1)
    truth = 6 / np.pi * np.arcsin(correlation / 2)  # Spearman's of a normal pair
    covered = 0
    for _ in range(400):
        first = generator.normal(size=32)
        second = correlation * first + np.sqrt(1 - correlation**2) * generator.normal(size=32)
        found = linear_datamodel_score(first, second)
        covered += found.low <= truth <= found.high
    assert covered / 400 >= 0.92


def test_the_interval_of_a_mean_covers_other_subsets() -> None:
    """Truths of a subset share a part over questions, which a mean over questions keeps."""
    generator = np.random.default_rng(2)

    def draw(subsets: int) -> tuple[np.ndarray, np.ndarray]:
        predicted = generator.normal(size=(subsets, 6))
        shared = generator.normal(size=(subsets, 1))
        return predicted, 0.5 * predicted + 0.6 * shared + 0.6 * generator.normal(size=(subsets, 6))

    truth = mean_datamodel_score(*draw(600)).value
    covered = 0
    for _ in range(100):
        found = mean_datamodel_score(*draw(24))
        covered += found.low <= truth <= found.high
    assert covered / 100 >= 0.9
