"""Whether the fitted prior could have made the counts.

Owns the table of expected against observed counts and the parametric-bootstrap test behind it.
Refuses too few draws for a p-value. A prior that fails here does not carry what is computed from
it; one that passes is not thereby right far below 1/n, where no count speaks, and with 150
questions a wrong shape passes more often than not (`benchmarks/check_membership.py`). With very
many questions small misfits are significant too: read the table before the p-value. The paper
(arXiv 2605.07153) has no counterpart.
"""

import math
from dataclasses import dataclass

import numpy as np
from scipy import special  # type: ignore[import-untyped, unused-ignore]

from attrib.analysis.checks import FloatArray, IntArray
from attrib.analysis.prior import (
    Prior,
    PriorFit,
    Tally,
    climb,
    list_starts,
    log_beta_binomial,
    to_point,
)
from attrib.errors import ConfigError

LEAST_DRAWS = 39  # the least for which p can reach 2.5 %


@dataclass(frozen=True, slots=True)
class CheckRow:
    """Questions in one bin of counts, such as "3–4 correct"; `expected` is the prior's number."""

    counts: str
    observed: int
    expected: float


@dataclass(frozen=True, slots=True)
class PriorCheck:
    """Observed against expected counts, from none correct to none incorrect.

    `statistic` is the likelihood-ratio G² of the bins; `p_value` is the chance of one as large
    under the fitted prior, refitted to each of `draws` simulated studies; at least 1/(draws + 1).
    """

    rows: list[CheckRow]
    statistic: float
    p_value: float
    draws: int
    questions: int


@dataclass(frozen=True, slots=True, eq=False)
class _Grid:
    """Every (n, c) that can occur: G cells, in D runs of equal n, and the bin of each cell."""

    n_G: IntArray
    correct_G: IntArray
    start_D: IntArray
    questions_D: IntArray
    bin_G: IntArray
    labels: list[str]


def check_prior(fit: PriorFit, generator: np.random.Generator, draws: int = 199) -> PriorCheck:
    """Return how the fit's expected counts agree with the observed ones.

    Bins double in width from either end: 0, 1, 2, 3–4, 5–8 … correct up to half of n, then
    incorrect, so that they hold for any mixture of n.

    Args:
        fit: The prior and its counts.
        generator: Source of the simulated studies.
        draws: Simulated studies, each fitted again: about 20 ms each for one n.

    Raises:
        ConfigError: If `draws` is below 39.

    Source: parametric bootstrap, Efron & Tibshirani 1993, An Introduction to the Bootstrap, §16.
    """
    if draws < LEAST_DRAWS:
        raise ConfigError(f"draws is {draws}; a p-value takes at least {LEAST_DRAWS}. Give 199.")
    grid = _make_grid(fit.tally)
    expected_G = _expect(grid, fit.prior)
    observed, expected = _bin(grid, _place(grid, fit.tally)), _bin(grid, expected_G)
    statistic = _deviance(observed, expected)
    exceeding = 0
    for _ in range(draws):
        count_G = _draw(grid, expected_G, generator)
        drawn = np.flatnonzero(count_G)
        tally = Tally(
            grid.n_G[drawn], grid.correct_G[drawn], count_G[drawn], np.repeat(drawn, count_G[drawn])
        )
        prior = climb(tally, [to_point(fit.prior), list_starts(tally)[0]]).prior
        # A tie counts: rounding must not decide.
        again = _deviance(_bin(grid, count_G), _bin(grid, _expect(grid, prior)))
        exceeding += again >= statistic * (1.0 - 1e-9)
    return PriorCheck(
        [
            CheckRow(label, int(seen), float(wanted))
            for label, seen, wanted in zip(grid.labels, observed, expected, strict=True)
        ],
        statistic,
        (exceeding + 1) / (draws + 1),
        draws,
        fit.tally.questions,
    )


def _make_grid(tally: Tally) -> _Grid:
    """Return the cells of every n of the tally, binned."""
    n_D, of_D = np.unique(tally.n_U, return_inverse=True)
    questions_D = np.bincount(of_D, weights=tally.questions_U).astype(np.int64)
    start_D = np.concatenate([[0], np.cumsum(n_D + 1)[:-1]])
    n_G = np.repeat(n_D, n_D + 1)
    correct_G = np.arange(n_G.size) - np.repeat(start_D, n_D + 1)
    from_low_G = 2 * correct_G <= n_G
    end_G = np.where(from_low_G, correct_G, n_G - correct_G)
    step_G = np.where(end_G > 0, 1 + np.ceil(np.log2(np.maximum(end_G, 1))), 0).astype(np.int64)
    key_G = np.where(from_low_G, step_G, 1000 - step_G)
    key_K, bin_G = np.unique(key_G, return_inverse=True)
    return _Grid(n_G, correct_G, start_D, questions_D, bin_G, [_label(int(key)) for key in key_K])


def _label(key: int) -> str:
    """Return the words for a bin."""
    step, side = (key, "correct") if key < 500 else (1000 - key, "incorrect")
    if step < 3:
        return f"{step} {side}"
    return f"{2 ** (step - 2) + 1}–{2 ** (step - 1)} {side}"


def _expect(grid: _Grid, prior: Prior) -> FloatArray:
    """Return the expected number of questions in each cell, shape (G,)."""
    chance_G = (1.0 - prior.spike) * np.exp(
        log_beta_binomial(grid.n_G, grid.correct_G, prior.a, prior.b)
    )
    chance_G[grid.start_D] += prior.spike
    expected_G: FloatArray = chance_G * np.repeat(grid.questions_D, grid.n_G[grid.start_D] + 1)
    return expected_G


def _place(grid: _Grid, tally: Tally) -> IntArray:
    """Return the observed number of questions in each cell, shape (G,)."""
    n_D = grid.n_G[grid.start_D]
    count_G = np.zeros(grid.n_G.size, np.int64)
    count_G[grid.start_D[np.searchsorted(n_D, tally.n_U)] + tally.correct_U] = tally.questions_U
    return count_G


def _draw(grid: _Grid, expected_G: FloatArray, generator: np.random.Generator) -> IntArray:
    """Return the counts of a study drawn from the prior, shape (G,)."""
    parts = np.split(expected_G, grid.start_D[1:])
    drawn = [
        generator.multinomial(questions, part / part.sum())
        for questions, part in zip(grid.questions_D, parts, strict=True)
    ]
    return np.concatenate(drawn)


def _bin(grid: _Grid, value_G: FloatArray | IntArray) -> FloatArray:
    """Return the sums over bins."""
    sums: FloatArray = np.bincount(
        grid.bin_G, weights=value_G.astype(np.float64), minlength=len(grid.labels)
    ).astype(np.float64)
    return sums


def _deviance(observed: FloatArray, expected: FloatArray) -> float:
    """Return G² = 2 Σ observed · log(observed / expected); an empty bin adds nothing."""
    floor = np.maximum(expected, math.ulp(0.0))
    return 2.0 * float((special.xlogy(observed, observed) - special.xlogy(observed, floor)).sum())
