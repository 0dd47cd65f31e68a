"""Do intervals over seeds cover the truth? `python benchmarks/check_coverage.py`.

Draws studies whose true gains and share are known, and counts how often the intervals of
`attrib.analysis.seeds` contain them: gain of the full arm and of another, their difference, and the
share. The truth is that of infinitely many questions and seeds, in closed form. Prints a table;
exits 1 if an interval covers in less than 93 % of the studies of the first block.
"""

import argparse
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
from scipy import optimize, special

from attrib.analysis.seeds import difference_over_seeds, gain_over_seeds, share_over_seeds

BoolArray = npt.NDArray[np.bool_]

LEAST_COVERAGE = 0.93
HEADING = (
    "| seed deviation | true share | gain of full | gain of arm | difference | share "
    "| shares defined | median width of share |\n|---|---|---|---|---|---|---|---|"
)
BASE_ACCURACY = 0.3
SEED_DEVIATIONS = (0.0, 0.02, 0.04, 0.08)
SHARES = (0.2, 0.5, 0.83, 1.0)

# Of a question's ability: how much of it the base had, how much any training teaches, how much
# is the arm's own; and how much ability decides over luck.
FROM_BASE, FROM_TRAINING, FROM_ARM = 0.3, 0.6, 0.1
STEEPNESS = 2.0

LEARNABLE, FORGOTTEN = 0.6, 0.05  # fractions, in the world of skewed seeds


@dataclass(frozen=True, slots=True)
class Setting:
    """A population of studies."""

    questions: int = 200
    seeds: int = 3
    gain: float = 0.3
    seed_deviation: float = 0.0
    share: float = 0.83

    @property
    def accuracies(self) -> tuple[float, float]:
        """True accuracy of the arm and of the full arm."""
        return BASE_ACCURACY + self.share * self.gain, BASE_ACCURACY + self.gain


@dataclass(frozen=True, slots=True)
class Study:
    """Outcomes of one study."""

    before_Q: BoolArray
    arm_SQ: BoolArray
    full_SQ: BoolArray


@dataclass(frozen=True, slots=True)
class Coverage:
    """How often the intervals of one setting contain the truth, of all where they are defined."""

    full_gain: float
    arm_gain: float
    difference: float
    share: float
    defined: float
    width: float


World = Callable[[Setting, np.random.Generator], Iterator[Study]]


def draw_abilities(setting: Setting, generator: np.random.Generator) -> Iterator[Study]:
    """Draw studies in which ability decides: P(correct) = Φ(level + seed effect + ability).

    The abilities of the arms on a question, and of the base, are correlated normals. A normal seed
    effect raises or lowers all questions of a run. Φ averaged over normals is a Φ again, which is
    how the levels are set to the true accuracies.
    """
    levels = [_find_level(accuracy, setting.seed_deviation) for accuracy in setting.accuracies]
    shape = (setting.seeds, setting.questions)
    while True:
        base_Q, training_Q = generator.standard_normal((2, setting.questions))
        runs = []
        for level, seed_scale in levels:
            own_Q = generator.standard_normal(setting.questions)
            ability_Q = np.sqrt([FROM_BASE, FROM_TRAINING, FROM_ARM]) @ [base_Q, training_Q, own_Q]
            seed_S = seed_scale * generator.standard_normal(setting.seeds)
            chance_SQ = special.ndtr(level + STEEPNESS * ability_Q + seed_S[:, None])
            runs.append(generator.random(shape) < chance_SQ)
        yield Study(base_Q > special.ndtri(1.0 - BASE_ACCURACY), *runs)


def draw_skewed(setting: Setting, generator: np.random.Generator) -> Iterator[Study]:
    """Draw studies in which each run learns its own part of the learnable questions.

    Arms learn from the same learnable questions, and forget some that the base knew. The part a run
    learns is a beta variable: where it is small on average and varies much, most runs learn next to
    nothing and a few learn much.
    """
    before_share = BASE_ACCURACY * (1.0 - FORGOTTEN)
    room = (1.0 - BASE_ACCURACY) * LEARNABLE
    parts = [(accuracy - before_share) / room for accuracy in setting.accuracies]
    deviation = setting.seed_deviation / room
    shape = (setting.seeds, setting.questions)
    while True:
        before_Q = generator.random(setting.questions) < BASE_ACCURACY
        learnable_Q = generator.random(setting.questions) < LEARNABLE
        runs = []
        for part in parts:
            learned_S = np.full(setting.seeds, part)
            if deviation > 0.0:
                size = part * (1.0 - part) / deviation**2 - 1.0
                learned_S = generator.beta(part * size, (1.0 - part) * size, setting.seeds)
            learned_SQ = learnable_Q & (generator.random(shape) < learned_S[:, None])
            runs.append(np.where(before_Q, generator.random(shape) >= FORGOTTEN, learned_SQ))
        yield Study(before_Q, *runs)


def _find_level(accuracy: float, seed_deviation: float) -> tuple[float, float]:
    """Return the level and the scale of seed effects for this accuracy and its deviation."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(80)
    weights = weights / weights.sum()

    def run_accuracies(scale: float) -> npt.NDArray[np.float64]:
        return special.ndtr(special.ndtri(accuracy) * np.hypot(1.0, scale) + scale * nodes)

    def excess(scale: float) -> float:
        variance = weights @ (run_accuracies(scale) - accuracy) ** 2
        return float(np.sqrt(variance)) - seed_deviation

    scale = optimize.brentq(excess, 0.0, 3.0) if seed_deviation > 0.0 else 0.0
    unit = np.hypot(1.0, STEEPNESS)
    return special.ndtri(accuracy) * np.hypot(1.0, scale) * unit, scale * unit


def measure_coverage(
    world: World, setting: Setting, simulations: int, generator: np.random.Generator
) -> Coverage:
    """Return how often the 95 % intervals of this many studies contain the truth."""
    studies = world(setting, generator)
    arm_gain, full_gain = setting.share * setting.gain, setting.gain
    hits = np.zeros((simulations, 3), np.bool_)
    share_hits, widths = [], []
    for hit, study in zip(hits, studies, strict=False):
        intervals = (
            gain_over_seeds(study.before_Q, study.full_SQ),
            gain_over_seeds(study.before_Q, study.arm_SQ),
            difference_over_seeds(study.arm_SQ, study.full_SQ),
        )
        truths = (full_gain, arm_gain, arm_gain - full_gain)
        hit[:] = [i.low <= truth <= i.high for i, truth in zip(intervals, truths, strict=True)]
        share = share_over_seeds(study.before_Q, study.arm_SQ, study.full_SQ)
        if share.low is not None and share.high is not None:
            share_hits.append(share.low <= setting.share <= share.high)
            widths.append(share.high - share.low)
    return Coverage(
        *hits.mean(axis=0).tolist(),
        share=float(np.mean(share_hits)) if share_hits else float("nan"),
        defined=len(share_hits) / simulations,
        width=float(np.median(widths)) if widths else float("nan"),
    )


def list_blocks() -> Iterator[tuple[str, World, list[Setting]]]:
    """Yield what is measured: a title, a world, and settings."""

    def vary(setting: Setting, shares: tuple[float, ...]) -> list[Setting]:
        return [
            replace(setting, seed_deviation=deviation, share=share)
            for deviation in SEED_DEVIATIONS
            for share in shares
        ]

    two = (0.2, 0.83)
    yield "200 questions, 3 seeds, gain of 30 points", draw_abilities, vary(Setting(), SHARES)
    yield "60 questions", draw_abilities, vary(Setting(questions=60), two)
    yield "1,000 questions", draw_abilities, vary(Setting(questions=1000), two)
    yield "2 seeds", draw_abilities, vary(Setting(seeds=2), two)
    yield "5 seeds", draw_abilities, vary(Setting(seeds=5), two)
    yield "gain of 10 points", draw_abilities, vary(Setting(gain=0.1), two)
    yield "1 seed (not meant to cover seeds)", draw_abilities, vary(Setting(seeds=1), (0.83,))
    yield "skewed seed effects, 3 seeds", draw_skewed, vary(Setting(), SHARES)
    yield "skewed seed effects, 5 seeds", draw_skewed, vary(Setting(seeds=5), two)


def _format_row(setting: Setting, found: Coverage) -> str:
    covered = (found.full_gain, found.arm_gain, found.difference, found.share)
    cells = [
        f"{100 * setting.seed_deviation:.0f} points",
        f"{setting.share:.0%}",
        *(f"{fraction:.1%}" for fraction in covered),
        f"{found.defined:.0%}",
        f"{100 * found.width:.0f} points",
    ]
    return f"| {' | '.join(cells).replace('%', ' %')} |"


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--simulations", type=int, default=1000, help="studies of each setting")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    first_block: list[Coverage] = []
    row = 0
    for title, world, settings in list_blocks():
        print(f"\n{title}\n")
        print(HEADING)
        measured = []
        for setting in settings:
            row += 1
            generator = np.random.default_rng([arguments.seed, row])
            found = measure_coverage(world, setting, arguments.simulations, generator)
            measured.append(found)
            print(_format_row(setting, found), flush=True)
        first_block = first_block or measured
    least = min(min(f.full_gain, f.arm_gain, f.difference, f.share) for f in first_block)
    print(f"\nLeast coverage of the first block: {100 * least:.1f} %")
    sys.exit(least < LEAST_COVERAGE)


if __name__ == "__main__":
    main()
