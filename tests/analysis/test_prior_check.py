"""The check of a prior: its table by hand, its level, and priors it must reject."""

import numpy as np
import pytest

from attrib.analysis.prior import Prior, PriorFit, fit_prior, tally_counts
from attrib.analysis.prior_check import CheckRow, check_prior
from attrib.errors import ConfigError


def draw_counts(generator: np.random.Generator, questions: int) -> np.ndarray:
    p = generator.beta(0.5, 1.0, questions)
    p[generator.random(questions) < 0.1] = 0.0
    return generator.binomial(32, p)


def test_rows_by_hand() -> None:
    """Under a uniform p every count of 0..4 has 1/5, of 0..9 1/10; half of 4 is 2."""
    n = np.array([4] * 25 + [9] * 10)
    correct = np.array([0, 1, 2, 3, 4] * 5 + list(range(10)))
    fit = PriorFit(Prior(0.0, 1.0, 1.0), 0.0, tally_counts(n, correct))
    got = check_prior(fit, np.random.default_rng(0), 39)
    assert [(row.counts, row.observed) for row in got.rows] == [
        ("0 correct", 6),
        ("1 correct", 6),
        ("2 correct", 6),
        ("3–4 correct", 2),
        ("3–4 incorrect", 2),
        ("2 incorrect", 1),
        ("1 incorrect", 6),
        ("0 incorrect", 6),
    ]
    assert [row.expected for row in got.rows] == pytest.approx([6, 6, 6, 2, 2, 1, 6, 6])
    assert got.statistic == pytest.approx(0.0, abs=1e-9)
    assert got.p_value == 1.0
    assert (got.draws, got.questions) == (39, 35)


def test_expected_and_observed_add_up_to_the_questions() -> None:
    correct = draw_counts(np.random.default_rng(1), 500)
    got = check_prior(fit_prior(np.full(500, 32), correct), np.random.default_rng(2), 39)
    assert sum(row.observed for row in got.rows) == 500
    assert sum(row.expected for row in got.rows) == pytest.approx(500)
    assert got.rows[0] == CheckRow(
        "0 correct", int((correct == 0).sum()), pytest.approx((correct == 0).sum(), rel=1e-4)
    )
    again = check_prior(fit_prior(np.full(500, 32), correct), np.random.default_rng(2), 39)
    assert again.p_value == got.p_value


def test_its_level_is_kept() -> None:
    """P-values of 5 studies from the family, each an average of uniforms."""
    generator = np.random.default_rng(3)
    p_values = [
        check_prior(fit_prior(np.full(200, 32), draw_counts(generator, 200)), generator, 39).p_value
        for _ in range(5)
    ]
    assert 0.15 < np.mean(p_values) < 0.85
    assert sum(p <= 0.05 for p in p_values) <= 1


def test_rejects_hard_and_easy_questions_mixed() -> None:
    generator = np.random.default_rng(4)
    p = np.where(generator.random(400) < 0.5, generator.beta(2, 50, 400), generator.beta(20, 9))
    fit = fit_prior(np.full(400, 128), generator.binomial(128, p))
    assert check_prior(fit, generator, 39).p_value == 1 / 40


def test_refuses_few_draws() -> None:
    fit = PriorFit(Prior(0.0, 1.0, 1.0), 0.0, tally_counts([4], [2]))
    with pytest.raises(ConfigError, match=r"draws is 38; a p-value takes at least 39"):
        check_prior(fit, np.random.default_rng(0), 38)
