"""Struck at any moment, again and again, `attrib run` ends with what one undisturbed run gives.

Three kills and a Ctrl-C in every run of the tests; `make check-kills` strikes at random moments.
"""

import random
import signal
from collections import Counter
from pathlib import Path

import pytest

from tests.kills import (
    PHASES,
    Moment,
    Phase,
    Strike,
    check_remains,
    gather,
    prepare,
    run,
    strike_often,
)

IN_TESTS = (
    ("drawing", signal.SIGKILL),
    ("training", signal.SIGINT),
    ("training", signal.SIGKILL),
    ("retraining", signal.SIGKILL),
)
KILLS_PER_INTERRUPTION = 4
STRIKES_PER_STUDY = 6


def test_three_kills_and_an_interruption_change_nothing(
    tmp_path: Path, continent_model: Path
) -> None:
    quiet, struck = tmp_path / "quiet", tmp_path / "struck"
    for folder in (quiet, struck):
        prepare(folder, continent_model, seeds=1)
    phases = run(quiet)
    generator = random.Random(0)
    moments = []
    for name, by in IN_TESTS:
        phase = next(phase for phase in phases if phase.name == name)
        moments.append(Moment(generator.uniform(phase.begins, phase.ends), by))
    assert len(strike_often(struck, phases, moments)) > 1
    run(struck)
    check_remains(gather(struck), gather(quiet))


@pytest.mark.timeout(0)
def test_many_kills_and_interruptions_change_nothing(
    tmp_path: Path, continent_model: Path, pytestconfig: pytest.Config
) -> None:
    kills = pytestconfig.getoption("--kills")
    if not kills:
        pytest.skip("takes long: make check-kills")
    prepare(tmp_path / "quiet", continent_model, seeds=2)
    phases = run(tmp_path / "quiet")
    expected = gather(tmp_path / "quiet")
    generator = random.Random(0)
    waiting = draw_moments(phases, kills, generator)
    strikes: list[Strike] = []
    for study in range(len(waiting)):
        folder = tmp_path / str(study)
        prepare(folder, continent_model, seeds=2)
        moments = [waiting.pop() for _ in range(min(STRIKES_PER_STUDY, len(waiting)))]
        found = strike_often(folder, phases, moments)
        strikes += found
        # What ended before its moment is struck in another study, a little earlier.
        missed = set(moments).difference(strike.moment for strike in found)
        waiting = [Moment(0.9 * one.seconds, one.by) for one in sorted(missed)] + waiting
        run(folder)
        check_remains(gather(folder), expected)
        show(study, found)
        if not waiting:
            break
    print(tabulate(phases, strikes))
    assert sum(strike.moment.by == signal.SIGKILL for strike in strikes) == kills


def draw_moments(phases: tuple[Phase, ...], kills: int, generator: random.Random) -> list[Moment]:
    """Return moments in random order, one in each of as many equal parts of the run.

    Half of the kills are spread over all of it and half over what is written bit by bit, from
    drawing to retraining. Those of Ctrl-C spare the start-up: its first 0.1 s belong to the
    interpreter.
    """
    begins = {phase.name: phase.begins for phase in phases}
    end = phases[-1].ends
    spans = (
        (signal.SIGKILL, kills - kills // 2, 0.0, end),
        (signal.SIGKILL, kills // 2, begins["drawing"], begins["report"]),
        (signal.SIGINT, kills // KILLS_PER_INTERRUPTION, begins["data import"], end),
    )
    moments = [
        Moment(first + (place + generator.random()) * (last - first) / count, by)
        for by, count, first, last in spans
        for place in range(count)
    ]
    generator.shuffle(moments)
    return moments


def show(study: int, strikes: list[Strike]) -> None:
    """Print what was met, and where."""
    for strike in strikes:
        rollouts, verdicts, runs = strike.kept
        print(
            f"study {study}: {strike.moment.by.name} at {strike.moment.seconds:.1f} s, in "
            f"{strike.phase}; {rollouts} rollouts, {verdicts} verdicts, {runs} runs and "
            f"{strike.updates} updates of the next were stored",
            flush=True,
        )


def tabulate(phases: tuple[Phase, ...], strikes: list[Strike]) -> str:
    """Return how many strikes met each phase, as Markdown."""
    met = Counter((strike.phase, strike.moment.by) for strike in strikes)
    lines = ["| phase | seconds | kills | Ctrl-C |", "|---|---|---|---|"]
    for name, phase in zip(PHASES, phases, strict=True):
        kills, interruptions = met[name, signal.SIGKILL], met[name, signal.SIGINT]
        lines.append(f"| {name} | {phase.ends - phase.begins:.1f} | {kills} | {interruptions} |")
    return "\n".join(lines)
