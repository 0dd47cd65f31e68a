"""Profile bounds against a search of the whole parameter space, and bounds that do not exist."""

import numpy as np
import pytest
from scipy import special, stats

from attrib.analysis.prior import Prior, PriorFit, fit_prior, to_point
from attrib.analysis.profile import profile_interval
from attrib.errors import ConfigError


def draw_fit(prior: Prior, questions: int, n: int, seed: int) -> PriorFit:
    generator = np.random.default_rng(seed)
    p = generator.beta(prior.a, prior.b, questions)
    p[generator.random(questions) < prior.spike] = 0.0
    return fit_prior(np.full(questions, n), generator.binomial(n, p))


def share_below(spike: np.ndarray, a: np.ndarray, b: np.ndarray, n: int, p: float) -> np.ndarray:
    none = (1 - spike) * np.exp(special.betaln(a, b + n) - special.betaln(a, b))
    return (spike + none * special.betainc(a, b + n, p)) / (spike + none)


@pytest.mark.parametrize(
    ("prior", "p"),
    [
        (Prior(0.2, 1.0, 2.0), 0.001),
        (Prior(0.0, 0.5, 1.0), 0.001),
    ],
)
def test_bounds_are_those_of_a_grid_over_all_parameters(prior: Prior, p: float) -> None:
    n = 16
    fit = draw_fit(prior, 400, n, 1)
    spike, log_a, log_b = np.meshgrid(
        np.linspace(0.0, 0.45, 46), *np.linspace(-1.8, 1.8, 61)[None].repeat(2, 0), indexing="ij"
    )
    a, b = np.exp(log_a), np.exp(log_b)
    log_likelihood = np.zeros(a.shape)
    for correct, questions in zip(fit.tally.correct_U, fit.tally.questions_U, strict=True):
        chance = np.exp(special.betaln(a + correct, b + n - correct) - special.betaln(a, b))
        chance *= special.binom(n, correct)
        log_likelihood += questions * np.log((1 - spike) * chance + spike * (correct == 0))
    inside = log_likelihood >= fit.log_likelihood - stats.chi2.ppf(0.95, 1) / 2
    assert inside.sum() > 50
    values = share_below(spike, a, b, n, p)[inside]
    got = profile_interval(
        fit, lambda at: float(share_below(at.spike, at.a, at.b, n, p)), (0.0, 1.0)
    )
    assert got.low is not None
    assert got.high is not None
    # The search may only do better than the grid, and by no more than its mesh.
    assert got.low - 1e-3 <= values.min() <= got.low + 0.03
    assert got.high - 0.03 <= values.max() <= got.high + 1e-3
    assert got.low < got.value < got.high


def test_a_parameter_alone_has_the_bounds_of_its_likelihood() -> None:
    """Profile of log a where it is drawn by hand: fix a, climb in the rest."""
    fit = draw_fit(Prior(0.2, 1.0, 2.0), 500, 32, 2)
    got = profile_interval(fit, lambda prior: float(np.log(prior.a)), (-50.0, 50.0))
    assert got.low is not None
    assert got.high is not None
    cost = -fit.log_likelihood
    for bound in (got.low, got.high):
        best = min(
            -np.sum(
                fit.tally.questions_U
                * np.log(
                    spike * (fit.tally.correct_U == 0)
                    + (1 - spike)
                    * stats.betabinom.pmf(fit.tally.correct_U, 32, np.exp(bound), np.exp(log_b))
                )
            )
            for spike in np.linspace(0.1, 0.3, 21)
            for log_b in np.linspace(-0.3, 1.7, 61)
        )
        assert best - cost == pytest.approx(stats.chi2.ppf(0.95, 1) / 2, abs=0.05)


def test_a_higher_level_is_wider() -> None:
    fit = draw_fit(Prior(0.1, 0.5, 1.0), 300, 32, 3)
    narrow, wide = (
        profile_interval(fit, lambda prior: prior.a, (0.0, 1e9), confidence=level)
        for level in (0.8, 0.99)
    )
    assert wide.low is not None
    assert wide.high is not None
    assert narrow.low is not None
    assert narrow.high is not None
    assert wide.low < narrow.low < narrow.value < narrow.high < wide.high


def test_a_bound_at_the_end_of_the_range_is_none_with_a_reason() -> None:
    fit = draw_fit(Prior(0.0, 0.4, 1.0), 200, 32, 4)
    got = profile_interval(fit, lambda prior: prior.spike, (0.0, 1.0))
    assert got.low is None
    assert got.high is not None
    assert got.reason == "The counts give no bound below: 0 fits them too."
    both = profile_interval(fit, lambda prior: prior.spike, (0.0, 1.0), margin=0.9)
    assert both.reason == (
        "The counts give no bound below: 0 fits them too and none above: 1 fits them too."
    )
    constant = profile_interval(fit, lambda prior: 3.0, (0.0, 9.0))
    assert (constant.low, constant.high, constant.reason) == (3.0, 3.0, "")


def test_refuses() -> None:
    fit = draw_fit(Prior(0.0, 0.4, 1.0), 200, 32, 4)
    with pytest.raises(ConfigError, match="confidence is 0"):
        profile_interval(fit, lambda prior: prior.a, (0.0, 1.0), confidence=0.0)
    assert to_point(fit.prior).shape == (3,)
