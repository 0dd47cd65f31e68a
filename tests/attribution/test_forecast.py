"""What a run is expected to take, against integration and simulation."""

from collections.abc import Sequence

import numpy as np
import pytest
from scipy import integrate, stats

from attrib.attribution.arms import Arm
from attrib.attribution.forecast import Counts, Forecast, forecast, informative_chance
from attrib.attribution.settings import TrainSettings
from attrib.data.questions import AnswerType, Question, Split
from attrib.roles import Role

COUNTS = [Counts(128, 0), Counts(128, 1), Counts(128, 64), Counts(128, 128), Counts(16, 3)]


@pytest.mark.parametrize("group_size", [2, 16, 64])
def test_the_chance_of_signal_is_the_integral_over_the_posterior(group_size: int) -> None:
    found_Q = informative_chance(COUNTS, group_size)
    for counts, found in zip(COUNTS, found_Q, strict=True):
        posterior = stats.beta(counts.correct + 0.5, counts.n - counts.correct + 0.5)
        expected = posterior.expect(
            lambda p: 1 - (1 - p) ** group_size - p**group_size, epsabs=1e-10, limit=200
        )
        assert found == pytest.approx(expected, abs=1e-6)


def test_the_integral_without_a_distribution_object() -> None:
    """c = 0 of n = 1: the density is (1-p)^(1/2) p^(-1/2) / B(1/2, 3/2)."""
    value, _ = integrate.quad(lambda p: (1 - (1 - p) ** 2 - p**2) * ((1 - p) / p) ** 0.5, 0, 1)
    assert informative_chance([Counts(1, 0)], 2)[0] == pytest.approx(value / (np.pi / 2), abs=1e-6)


def test_the_chance_of_signal_by_simulation() -> None:
    generator = np.random.default_rng(0)
    p = generator.beta(0.5 + 2, 0.5 + 30, 200_000)
    right = generator.binomial(8, p)
    simulated = ((right > 0) & (right < 8)).mean()
    assert informative_chance([Counts(32, 2)], 8)[0] == pytest.approx(simulated, abs=0.004)


def make_arm(counts: Sequence[Counts]) -> tuple[Arm, dict[str, Counts]]:
    questions = tuple(
        Question(f"q{i}", "d", Split.TRAIN, "?", ("x",), AnswerType.NAME, None, None, f"{i}", None)
        for i in range(len(counts))
    )
    arm = Arm("full", Role.FULL, questions, {}, 0)
    return arm, {q.question_id: c for q, c in zip(questions, counts, strict=True)}


def expect(**settings: object) -> Forecast:
    arm, counts = make_arm([Counts(16, 8), Counts(16, 0)])
    return forecast(arm, counts, TrainSettings(**{"groups": 4, "group_size": 8, **settings}))


SHARE = float(informative_chance([Counts(16, 8), Counts(16, 0)], 8).mean())


@pytest.mark.parametrize(
    ("fill", "budget", "visits", "updates"),
    [
        ("none", "updates=10", 40, 10),
        ("informative", "updates=10", 40 / SHARE, 10),
        ("none", "epochs=6", 12, 3),
        ("informative", "epochs=6", 12, 12 * SHARE / 4),
        ("none", "informative-groups=20", 20 / SHARE, 20 / SHARE / 4),
        ("informative", "informative-groups=20", 20 / SHARE, 5),
        ("none", "rollouts=320", 40, 10),
        ("informative", "rollouts=320", 40, 40 * SHARE / 4),
    ],
)
def test_every_budget_is_turned_into_the_other_quantities(
    fill: str, budget: str, visits: float, updates: float
) -> None:
    found = expect(fill=fill, budget=budget)
    assert found.informative_share == pytest.approx(SHARE)
    assert found.visits == pytest.approx(visits)
    assert found.rollouts == pytest.approx(8 * visits)
    assert found.updates == pytest.approx(updates)
    assert found.gradients == pytest.approx(SHARE * visits)
    assert not found.exhausts


def test_the_limit_on_rollouts_is_seen_coming() -> None:
    found = expect(fill="informative", budget="updates=10", max_rollouts=80)
    assert found.exhausts
    assert found.visits == 10
    assert found.rollouts == 80
    assert found.updates == pytest.approx(10 * SHARE / 4)
    assert not expect(fill="none", budget="updates=10", max_rollouts=320).exhausts


def test_methods_that_draw_nothing_have_signal_wherever_they_look() -> None:
    found = expect(method="sft", budget="epochs=3", max_rollouts=1)
    assert found == Forecast(None, 6.0, 0.0, 1.5, 6.0, exhausts=False)
