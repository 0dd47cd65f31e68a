"""Do intervals about bucket membership cover the truth? `python benchmarks/check_membership.py`.

Draws studies from a known spread of p, fits the prior, and counts how often the intervals hold the
truth: p of each question; the expected number of never-correct questions below 0.01 %, 0.1 % and
1 %, and the number itself; never-correct questions at fewer and more rollouts; the mean p of
never-correct. Also how often `check_prior` rejects at 5 %. The first block draws from a
zero-inflated beta; the second from other shapes, where intervals are not meant to cover and the
check is meant to reject. Exits 1 if an interval of the first block covers in fewer than 95 % of
studies by more than four standard errors.
"""

import argparse
import sys
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import special

from attrib.analysis.membership import rate_posterior
from attrib.analysis.mixture import THRESHOLDS, never_correct_at, never_correct_mixture
from attrib.analysis.prior import Prior, fit_prior
from attrib.analysis.prior_check import check_prior
from attrib.analysis.profile import ProfileInterval
from attrib.analysis.stability import move_never_correct_cut

FloatArray = npt.NDArray[np.float64]

LEVEL, ERRORS = 0.95, 4.0
GRID = (np.arange(20_000) + 0.5) / 20_000
OTHER_N = (16, 512, 4096)
NAMES = (
    "p of questions",
    *(f"expected below {p:.2%}" for p in THRESHOLDS),
    *(f"number below {p:.2%}" for p in THRESHOLDS),
    *(f"never-correct at {n}" for n in OTHER_N),
    "mean p of never-correct",
)


@dataclass(frozen=True, slots=True)
class World:
    """A spread of p, as values on a fine grid of quantiles, and the studies drawn from it."""

    title: str
    rates: Callable[[FloatArray], FloatArray]
    """Returns p at quantiles."""
    questions: int
    n: tuple[int, int]
    """Least and most rollouts of a question."""

    def draw(self, generator: np.random.Generator) -> FloatArray:
        """Return p of the questions of one study."""
        return self.rates(generator.random(self.questions))


def inflated_beta(spike: float, a: float, b: float) -> Callable[[FloatArray], FloatArray]:
    """Return p at quantiles of a zero-inflated beta."""

    def rates(quantile: FloatArray) -> FloatArray:
        rest = np.clip((quantile - spike) / (1.0 - spike), 0.0, 1.0)
        return np.where(quantile < spike, 0.0, special.betaincinv(a, b, rest))

    return rates


def logit_normal(centre: float, deviation: float) -> Callable[[FloatArray], FloatArray]:
    """Return p at quantiles of a normal on the logit scale."""
    return lambda quantile: special.expit(centre + deviation * special.ndtri(quantile))


def two_betas(quantile: FloatArray) -> FloatArray:
    """Return p at quantiles of half hard, half easy questions."""
    hard, easy = np.minimum(2.0 * quantile, 1.0), np.maximum(2.0 * quantile - 1.0, 0.0)
    low, high = special.betaincinv(0.5, 30.0, hard), special.betaincinv(6.0, 3.0, easy)
    return np.where(quantile < 0.5, low, high)


FITTING = [
    World("spike 10 %, Beta(0.5, 1)", inflated_beta(0.1, 0.5, 1.0), 2000, (128, 128)),
    World("spike 10 %, Beta(0.5, 1)", inflated_beta(0.1, 0.5, 1.0), 300, (128, 128)),
    World("no spike, Beta(0.3, 1)", inflated_beta(0.0, 0.3, 1.0), 1000, (128, 128)),
    World("no spike, Beta(0.3, 1)", inflated_beta(0.0, 0.3, 1.0), 200, (32, 32)),
    World("spike 20 %, Beta(1, 2)", inflated_beta(0.2, 1.0, 2.0), 500, (64, 64)),
    World("spike 5 %, Beta(0.2, 0.4)", inflated_beta(0.05, 0.2, 0.4), 500, (32, 128)),
    World("no spike, Beta(1, 1)", inflated_beta(0.0, 1.0, 1.0), 3000, (128, 128)),
]
OTHER = [
    World("logit-normal(-3, 3)", logit_normal(-3.0, 3.0), 1000, (128, 128)),
    World("logit-normal(-3, 3)", logit_normal(-3.0, 3.0), 150, (128, 128)),
    World("logit-normal(-2, 1.5)", logit_normal(-2.0, 1.5), 1000, (128, 128)),
    World("two betas", two_betas, 1000, (128, 128)),
]


@dataclass(frozen=True, slots=True)
class Measured:
    """Shares of studies: covered by each interval, without a bound, and rejected by the check."""

    covered: FloatArray
    unbounded: FloatArray
    rejected: float


def measure(
    world: World, simulations: int, checks: int, generator: np.random.Generator
) -> Measured:
    """Return how often intervals of `simulations` studies cover; `checks` of them are checked."""
    grid = world.rates(GRID)
    covered, unbounded, rejected = [], [], []
    for study in range(simulations):
        p_Q = world.draw(generator)
        n_Q = generator.integers(world.n[0], world.n[1] + 1, world.questions)
        correct_Q = generator.binomial(n_Q, p_Q)
        fit = fit_prior(n_Q, correct_Q)
        hits, missing = [_covers_rates(fit.prior, p_Q, n_Q, correct_Q)], [0.0]
        never_n, counts = np.unique(n_Q[correct_Q == 0], return_counts=True)
        weights_NG = (1.0 - grid) ** never_n[:, None]
        weights_NG *= (counts / weights_NG.sum(axis=1))[:, None]  # posterior of never-correct
        numbers = []
        for row in never_correct_mixture(fit):
            hits.append(_holds(row.expected, float(weights_NG[:, grid <= row.p].sum())))
            missing.append(_is_open(row.expected))
            number = int((p_Q[correct_Q == 0] <= row.p).sum())
            low = -np.inf if row.number_low is None else row.number_low
            high = np.inf if row.number_high is None else row.number_high
            numbers.append(low <= number <= high)
        hits += numbers
        missing += missing[1:4]
        for at in never_correct_at(fit, OTHER_N):
            hits.append(_holds(at.expected, world.questions * float(((1.0 - grid) ** at.n).mean())))
            missing.append(_is_open(at.expected))
        rate = move_never_correct_cut(fit, [0])[0].rate
        truth = float((weights_NG * grid).sum()) / counts.sum()
        hits.append(rate is not None and _holds(rate, truth))
        missing.append(rate is None or _is_open(rate))
        covered.append(hits)
        unbounded.append(missing)
        if study < checks:
            rejected.append(check_prior(fit, generator, 59).p_value <= 0.05)
    return Measured(
        np.mean(covered, axis=0),
        np.mean(unbounded, axis=0),
        float(np.mean(rejected)) if rejected else np.nan,
    )


def _covers_rates(prior: Prior, p_Q: FloatArray, n_Q: object, correct_Q: object) -> float:
    """Return the share of questions whose p is in its credible interval."""
    found = rate_posterior(prior, n_Q, correct_Q)  # type: ignore[arg-type]
    return float(((found.low_Q <= p_Q) & (p_Q <= found.high_Q)).mean())


def _holds(interval: ProfileInterval, truth: float) -> bool:
    """Return whether the interval holds the truth; an absent bound excludes nothing."""
    return (interval.low is None or interval.low <= truth) and (
        interval.high is None or truth <= interval.high
    )


def _is_open(interval: ProfileInterval) -> bool:
    """Return whether a bound is absent."""
    return interval.low is None or interval.high is None


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--simulations", type=int, default=300, help="studies of each world")
    parser.add_argument("--checks", type=int, default=20, help="of which the prior is checked")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    least = 1.0
    for block, worlds in enumerate((FITTING, OTHER)):
        print("\nzero-inflated beta\n" if block == 0 else "\nother shapes (not meant to cover)\n")
        print(f"| world | questions | n | {' | '.join(NAMES)} | check rejects |")
        print("|" + "---|" * (len(NAMES) + 4))
        for row, world in enumerate(worlds):
            generator = np.random.default_rng([arguments.seed, block, row])
            found = measure(world, arguments.simulations, arguments.checks, generator)
            cells = [
                f"{hit:.1%}" + (f" ({gap:.0%} open)" if gap else "")
                for hit, gap in zip(found.covered, found.unbounded, strict=True)
            ]
            n = "–".join(str(end) for end in sorted(set(world.n)))
            print(f"| {world.title} | {world.questions} | {n} |", end=" ")
            print(f"{' | '.join(cells)} | {found.rejected:.0%} |".replace("%", " %"), flush=True)
            if block == 0:
                least = min(least, float(found.covered.min()))
    print(f"\nLeast coverage of the first block: {100 * least:.1f} %")
    error = (LEVEL * (1.0 - LEVEL) / arguments.simulations) ** 0.5
    sys.exit(least < LEVEL - ERRORS * error)


if __name__ == "__main__":
    main()
