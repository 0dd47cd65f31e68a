"""Do the other intervals cover the truth? `python benchmarks/check_intervals.py`.

Those over seeds are in `check_coverage.py`, those about buckets in `check_membership.py`. Here each
of the rest is asked for in simulated studies whose truth is known: proportions, means and ratios
over questions; mean maj@k; agreement of two halves; calibration; parts of gains; values over seeds,
their changes, and the shares of a part; Shapley values. Prints how often each holds the truth;
exits 1 if one that is exact covers in less than 95 % of studies, or another in less than 93 %, by
more than three standard errors, unless it is known to (`KNOWN`).
"""

import argparse
import sys
from collections.abc import Callable, Iterator, Mapping

import numpy as np
import numpy.typing as npt

from attrib.analysis.buckets import Cuts
from attrib.analysis.calibration import calibrate
from attrib.analysis.intervals import (
    exact_interval,
    mean_interval,
    paired_gain,
    ratio_interval,
    wilson_interval,
)
from attrib.analysis.majority import Votes, majority_at_k
from attrib.analysis.parts import split_gain
from attrib.analysis.passhat import pass_hat_k
from attrib.analysis.passk import mean_at_k, mean_pass_at_k
from attrib.analysis.shapley import shapley_values
from attrib.analysis.stability import split_half
from attrib.analysis.values import change_over_seeds, part_share_over_seeds, value_over_seeds

FloatArray = npt.NDArray[np.float64]
Held = Mapping[str, bool | None]
"""By interval, whether it held the truth; None where it was not stated."""
Study = Callable[[np.random.Generator], Held]

LEVEL, LEAST, ERRORS = 0.95, 0.93, 3.0
EXACT = ("exact, one p",)
KNOWN: tuple[str, ...] = ()
MANY = 200_000  # questions that stand for all there are, where the truth has no formula


def holds(interval: object, truth: float) -> bool | None:
    """Return whether the interval holds the truth."""
    low, high = interval.low, interval.high  # type: ignore[attr-defined]
    return None if low is None else bool(low - 1e-12 <= truth <= high + 1e-12)


def proportions(questions: int) -> Study:
    """Return a study of right and wrong answers, before and after training, one seed."""

    def study(generator: np.random.Generator) -> Held:
        p = generator.beta(0.5, 1.5)
        n = int(generator.integers(8, 129))
        bounds = exact_interval([generator.binomial(n, p)], [n])
        before = generator.random(questions) < 0.2
        after = np.where(
            before, generator.random(questions) > 0.1, generator.random(questions) < 0.3
        )
        rate_Q = generator.binomial(8, generator.beta(0.3, 1.2, questions)) / 8
        chance_Q, whole_Q = generator.beta(2, 2, questions), generator.binomial(3, 0.7, questions)
        part_Q = generator.binomial(whole_Q, chance_Q)
        return {
            "exact, one p": bool(bounds.low_Q[0] <= p <= bounds.high_Q[0]),
            "accuracy": holds(wilson_interval(int(before.sum()), questions), 0.2),
            "gain, one seed": holds(paired_gain(before, after), 0.8 * 0.3 - 0.2 * 0.1),
            "mean of rates": holds(mean_interval(rate_Q), 0.2),
            "ratio": holds(ratio_interval(part_Q, whole_Q), 0.5) if whole_Q.any() else None,
        }

    return study


class Polls:
    """Questions with four answers each, the first right, in very unequal shares."""

    k_K = np.array([1, 2, 4, 8])
    n = 8

    def __init__(self, questions: int, right: float) -> None:
        """Have so many questions, of which the right answer has about this share.

        The truth is the mean over many questions of maj@k by one fresh draw of k votes.
        """
        self.questions, self.concentration = (
            questions,
            1.2 * np.array([right, *[(1 - right) / 3] * 3]),
        )
        generator = np.random.default_rng(99)
        share_QA = generator.dirichlet(self.concentration, MANY)
        self.truth_K = [self._mean_win(generator, share_QA, int(k)) for k in self.k_K]
        right_Q = share_QA[:, 0]
        self.pass_K = [float((1 - (1 - right_Q) ** k).mean()) for k in self.k_K]
        self.hat_K = [float((right_Q**k).mean()) for k in self.k_K]

    @staticmethod
    def _mean_win(generator: np.random.Generator, share_QA: FloatArray, k: int) -> float:
        vote_QA = generator.multinomial(k, share_QA)
        most_QA = vote_QA == vote_QA.max(axis=1, keepdims=True)
        return float((most_QA[:, 0] / most_QA.sum(axis=1)).mean())

    def __call__(self, generator: np.random.Generator) -> Held:
        """Draw a study."""
        share_QA = generator.dirichlet(self.concentration, self.questions)
        vote_QA = generator.multinomial(self.n, share_QA)
        correct_A = np.array([True, False, False, False])
        votes = [Votes(vote_A, correct_A) for vote_A in vote_QA]
        found = majority_at_k(votes, self.k_K, generator)
        n_Q = np.full(self.questions, self.n)
        curves = {
            "maj": (mean_at_k(found.value_QK, self.k_K, generator, 1000), self.truth_K),
            "pass": (mean_pass_at_k(n_Q, vote_QA[:, 0], self.k_K, generator, 1000), self.pass_K),
            "pass^": (
                mean_at_k(pass_hat_k(n_Q, vote_QA[:, 0], self.k_K), self.k_K, generator, 1000),
                self.hat_K,
            ),
        }
        return {
            f"mean {name}@{k}": bool(low <= truth <= high)
            for name, (curve, truths) in curves.items()
            for k, low, high, truth in zip(self.k_K, curve.low_K, curve.high_K, truths, strict=True)
        }


class Halves:
    """Agreement of the buckets of two halves, with p spread as a beta."""

    n, cuts = 64, Cuts()

    def __init__(self, questions: int) -> None:
        """The truth is that of many questions."""
        self.questions = questions
        self.truth = split_half(*self._draw(np.random.default_rng(98), MANY), self.cuts).agreement

    def _draw(
        self, generator: np.random.Generator, questions: int
    ) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        p_Q = generator.beta(0.4, 1.0, questions)
        return np.full(questions, self.n), generator.binomial(self.n, p_Q)

    def __call__(self, generator: np.random.Generator) -> Held:
        """Draw a study."""
        found = split_half(*self._draw(generator, self.questions), self.cuts)
        return {"agreement of halves": holds(found.agreement, self.truth.value)}


def calibration(questions: int) -> Study:
    """Return a study of stated confidences that are 10 points too high, three seeds."""
    confidences = np.array([0.25, 0.45, 0.65, 0.85])

    def study(generator: np.random.Generator) -> Held:
        stated_Q = generator.choice(confidences, questions)
        chance_Q = np.clip(stated_Q - 0.1 + 0.2 * (generator.random(questions) - 0.5), 0, 1)
        right_SQ = generator.random((3, questions)) < chance_Q
        found = calibrate(np.tile(stated_Q, (3, 1)), right_SQ, generator, draws=1)
        brier = float(np.mean([(c - 1) ** 2 * (c - 0.1) + c**2 * (1.1 - c) for c in confidences]))
        return {
            "overconfidence": holds(found.overconfidence, 0.1),
            "Brier": holds(found.brier, brier),
            "accuracy of a bin": holds(found.bins[-1].accuracy, 0.75),
        }

    return study


def values(questions: int, seeds: int, deviation: float) -> Study:
    """Return a study of lengths, masses, a vote and shares of gains, seeds of some deviation."""

    def study(generator: np.random.Generator) -> Held:
        member = generator.random(questions) < 0.4
        before = generator.random(questions) < np.where(member, 0.05, 0.5)
        level_S = np.clip(1 + deviation * generator.standard_normal((seeds, 1)), 0, 2)
        learned = generator.random((seeds, questions)) < np.where(member, 0.3, 0.5) * level_S
        after = before | learned
        # Of 0.4 · 0.95 · 0.3 + 0.6 · 0.5 · 0.5 that is learned.
        part, whole = 0.4 * 0.95 * 0.3, 0.4 * 0.95 * 0.3 + 0.6 * 0.5 * 0.5
        change = after.astype(float) - before
        weight = level_S * generator.gamma(0.7, np.where(member, 1.0, 2.0), (seeds, questions))
        weight *= generator.random((seeds, questions)) < 0.6  # not all are visited
        of_weight = 0.4 / (0.4 + 0.6 * 2.0)
        ability_Q = generator.standard_normal(questions)
        length = np.minimum(
            1 + generator.poisson(4 * np.exp(0.3 * ability_Q) * level_S, (seeds, questions)), 60
        )
        short_Q = 1 + generator.poisson(6 * np.exp(0.3 * ability_Q))
        longest = float(max(length.max(), short_Q.max()))
        spread = np.exp(0.045)
        mass_SQ = level_S / 2 * generator.beta(0.2, 1.8, questions)
        win_Q = generator.choice([0.0, 0.5, 1.0], questions, p=[0.6, 0.1, 0.3])
        return {
            "length": holds(value_over_seeds(length, longest), 1 + 4 * spread),
            "change of length": holds(change_over_seeds(short_Q, length, longest), -2 * spread),
            "probability": holds(value_over_seeds(mass_SQ), 0.05),
            "gain over a vote": holds(
                change_over_seeds(win_Q, after), 0.4 * 0.05 + 0.6 * 0.5 + whole - 0.35
            ),
            "share of the gain": holds(part_share_over_seeds(change, member), part / whole),
            "share of the weight": holds(
                part_share_over_seeds(weight, member, float(weight.mean())), of_weight
            ),
        }

    return study


def gains(questions: int, seeds: int, deviation: float) -> Study:
    """Return a study of gains by group of questions, and of a game of two buckets."""

    def study(generator: np.random.Generator) -> Held:
        label_Q = np.where(generator.random(questions) < 0.5, "near", "far")
        before = generator.random(questions) < 0.2

        def train(chance_Q: FloatArray | float) -> npt.NDArray[np.bool_]:
            level_S = 1 + deviation * generator.standard_normal((seeds, 1))
            return before | (generator.random((seeds, questions)) < chance_Q * level_S)

        near = split_gain(before, train(np.where(label_Q == "near", 0.5, 0.2)), label_Q)[1]
        games = {
            frozenset(players): train(chance)
            for players, chance in (("a", 0.2), ("b", 0.3), ("ab", 0.4))
        }
        first, second = shapley_values(before, games)
        return {
            "part of a gain": holds(near.gain, 0.5 * 0.8 * 0.5),
            "gain within a group": holds(near.within, 0.8 * 0.5),
            "Shapley value": holds(first.gain, 0.8 * (0.2 + 0.1) / 2),
            "Shapley share": holds(second.share, (0.3 + 0.2) / 2 / 0.4),
        }

    return study


def list_blocks() -> Iterator[tuple[str, Study]]:
    """Yield what is simulated, with its title."""
    for questions in (40, 200, 1000):
        yield f"{questions} questions, one seed", proportions(questions)
    for questions, right in ((40, 0.4), (200, 0.4), (200, 0.1), (1000, 0.4)):
        yield f"{questions} questions, right answer about {right:.0%}", Polls(questions, right)
    for questions in (60, 300):
        yield f"{questions} questions of 64 rollouts", Halves(questions)
        yield f"{questions} questions, 3 seeds", calibration(questions)
    for questions, seeds, deviation in (
        (200, 1, 0.0), (60, 3, 0.0), (200, 3, 0.0), (200, 3, 0.1), (200, 5, 0.1), (1000, 3, 0.1),
    ):  # fmt: skip
        title = f"{questions} questions, {seeds} seeds, deviation {deviation:.0%}"
        yield title, values(questions, seeds, deviation)
        yield title, gains(questions, seeds, deviation)


def measure(
    study: Study, simulations: int, generator: np.random.Generator
) -> dict[str, tuple[float, float]]:
    """Return for each interval how often it held the truth where stated, and was stated."""
    drawn = [study(generator) for _ in range(simulations)]
    found = {}
    for name in drawn[0]:
        held = [one[name] for one in drawn if one[name] is not None]
        found[name] = (float(np.mean(held)) if held else float("nan"), len(held) / simulations)
    return found


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--simulations", type=int, default=1000, help="studies of each kind")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    missed = []
    print("| studies | interval | holds the truth | stated |\n|---|---|---|---|")
    for row, (title, study) in enumerate(list_blocks()):
        generator = np.random.default_rng([arguments.seed, row])
        for name, (held, stated) in measure(study, arguments.simulations, generator).items():
            cells = f"| {title} | {name} | {held:.1%} | {stated:.0%} |"
            print(cells.replace("%", " %"), flush=True)
            level = LEVEL if name in EXACT else LEAST
            error = (level * (1 - level) / max(stated * arguments.simulations, 1)) ** 0.5
            if held < level - ERRORS * error and name not in KNOWN:
                missed.append(f"{name} ({title})")
    print(f"\nMissed: {', '.join(missed) if missed else 'none'}")
    sys.exit(bool(missed))


if __name__ == "__main__":
    main()
