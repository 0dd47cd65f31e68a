"""Retraining: arms that check scores, made like those of the experiment but evaluated less.

A check of scores needs many arms and of each only what it gained: greedy answers to the held-out
questions and the probability of the accepted ones, at the end. Owns the table `retrainings`; these
arms have no role in the experiment, so that no comparison of subsets sees them. They are stored one
by one, go on after a kill, and serve every method.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import polars as pl
from numpy.typing import NDArray

from attrib.attribution.arms import Arm
from attrib.attribution.finished_arms import ArmsSettings, FinishedArms
from attrib.attribution.plan import (
    FINISHED,
    Announce,
    TrainingPlan,
    plan_runs,
    read_statuses,
)
from attrib.attribution.running import choose_cluster, running
from attrib.attribution.runs import Runner
from attrib.cluster import ArmClusterSettings
from attrib.data.questions import Question
from attrib.errors import DataError
from attrib.progress import say
from attrib.roles import Role
from attrib.settings import command_line
from attrib.store import Store

_ANSWERS = """
    SELECT arm_id, question_id, arg_max(verdict, step) AS verdict FROM evaluations
    WHERE list_contains($arm_ids, arm_id) AND list_contains($question_ids, question_id)
      AND decoding = 'greedy'
    GROUP BY arm_id, question_id ORDER BY arm_id, question_id
"""
_MASSES = """
    SELECT arm_id, question_id, mass_low FROM masses
    WHERE list_contains($arm_ids, arm_id) AND list_contains($question_ids, question_id)
    ORDER BY arm_id, question_id
"""
_BASE = """
    SELECT arm_id FROM arms WHERE experiment_id = $experiment_id AND role = 'base'
      AND status = 'done' ORDER BY arm_id LIMIT 1
"""
_LEAST_MASS = 1e-300  # what underflowed still has a logarithm


@dataclass(frozen=True, slots=True)
class Retraining:
    """One arm that checks scores; `method` ranked the questions of which `fraction` were taken."""

    arm: Arm
    method: str
    fraction: float

    @property
    def role(self) -> Role:
        """Return what the arm is for."""
        return self.arm.role


@dataclass(frozen=True, slots=True, eq=False)
class Measured:
    """What retrained arms gave on the held-out questions.

    Attributes:
        right_AQ: whether greedy answers are right, on questions gradable for all arms.
        before_Q: whether the base's are.
        logprob_AM: logarithm of the accepted answers' probability.
        logprob_ids: its M questions.
    """

    right_AQ: NDArray[np.bool_]
    before_Q: NDArray[np.bool_]
    logprob_AM: NDArray[np.float64]
    logprob_ids: tuple[str, ...]

    @property
    def gain_A(self) -> NDArray[np.float64]:
        """Return every arm's gain."""
        gain_A: NDArray[np.float64] = self.right_AQ.mean(axis=1) - self.before_Q.mean()
        return gain_A


class RetrainSettings(ArmsSettings, ArmClusterSettings):
    """Which finished arms are held against retraining, and where that is done."""


def plan_retraining(
    store: Store, found: FinishedArms, planned: Sequence[Retraining]
) -> TrainingPlan:
    """Return what `retrain` would do. Only inside `writing`.

    Times come from a probe, or where nothing is trained in this process, from the scored arms.
    """
    is_here = not choose_cluster(found.settings)
    arms = [one.arm for one in planned]
    plan = plan_runs(store, found.experiment, arms, found.settings, is_here=is_here)
    runs, seconds = plan.runs, plan.seconds
    if seconds is None:
        each = float(np.mean(found.seconds))
        runs, seconds = tuple(replace(run, seconds=each) for run in runs), each * len(plan.owed)
    # What it warns of is how the scored arms were trained; nothing of that can be chosen here.
    return replace(plan, experiment_id=found.experiment_id, runs=runs, seconds=seconds, warnings=())


def retrain(
    store: Store,
    found: FinishedArms,
    planned: Sequence[Retraining],
    settings: RetrainSettings,
    command: str,
    announce: Announce,
) -> list[Retraining]:
    """Train the arms that are not done yet; return those that are, now. Only inside `writing`.

    Args:
        store: the study.
        found: the arms whose scores are checked.
        planned: the arms that check them.
        settings: that asked.
        command: that asked, by its words.
        announce: called with the plan before anything is trained.
    """
    _register(store, found.experiment_id, planned)
    arms = {one.arm.arm_id: one.arm for one in planned}
    there, experiment = found.settings, found.experiment
    plan = plan_retraining(store, found, planned)
    announce(plan)
    owed = [arms[run.arm_id] for run in plan.owed]
    runner = Runner(store, experiment, there, command_line(command, settings, store.path))
    with running(store, experiment, there, runner, owed) as ended:
        for place, (arm, is_done) in enumerate(ended, start=1):
            say(f"{place} of {len(owed)} {'done' if is_done else 'failed'}: {arm.name}")
    for run in plan.runs:
        if not run.is_owed:  # a kill may have come just before this
            runner.clean_up(arms[run.arm_id])
    statuses = read_statuses(store)
    return [one for one in planned if statuses.get(one.arm.arm_id) in FINISHED]


def exhausted(store: Store, done: Sequence[Retraining]) -> tuple[str, ...]:
    """Return the names of arms that ended before their budget was used."""
    statuses = read_statuses(store)
    return tuple(one.arm.name for one in done if statuses[one.arm.arm_id] == "exhausted")


def measure(
    store: Store, experiment_id: str, arm_ids: Sequence[str], held_out: Sequence[Question]
) -> Measured:
    """Return what arms gave on the held-out questions.

    Raises:
        DataError: the base was not evaluated on them, or none could be graded.
    """
    base = store.read(_BASE, experiment_id=experiment_id)["arm_id"].to_list()
    ids = [question.question_id for question in held_out]
    everyone = [*base, *arm_ids]
    answers = store.read(_ANSWERS, arm_ids=everyone, question_ids=ids)
    gradable = answers.filter(pl.col("verdict").is_in(["correct", "incorrect"]))
    kept = gradable.group_by("question_id").len().filter(pl.col("len") == len(set(everyone)))
    if not base or kept.is_empty():
        raise DataError(
            f"The base of experiment {experiment_id} and its arms have no held-out answers in "
            "common. Type: attrib ablate"
        )
    names = sorted(kept["question_id"])
    right = {
        (arm_id, question_id): verdict == "correct"
        for arm_id, question_id, verdict in answers.iter_rows()
    }
    masses = store.read(_MASSES, arm_ids=list(arm_ids), question_ids=ids)
    mass = {(arm_id, name): value for arm_id, name, value in masses.iter_rows()}
    measured = sorted(set(masses["question_id"]))
    mass_AM = np.array([[mass[arm_id, name] for name in measured] for arm_id in arm_ids])
    return Measured(
        np.array([[right[arm_id, name] for name in names] for arm_id in arm_ids]),
        np.array([right[base[0], name] for name in names]),
        np.log(np.maximum(mass_AM, _LEAST_MASS)),
        tuple(measured),
    )


def _register(store: Store, experiment_id: str, planned: Sequence[Retraining]) -> None:
    rows = [
        {
            "experiment_id": experiment_id,
            "arm_id": one.arm.arm_id,
            "role": str(one.role),
            "method": one.method,
            "fraction": one.fraction,
            "seed": one.arm.seed,
        }
        for one in planned
    ]
    questions = [
        {"arm_id": arm_id, "question_id": question.question_id}
        for arm_id, arm in {one.arm.arm_id: one.arm for one in planned}.items()
        for question in arm.questions
    ]
    with store.transaction() as transaction:
        transaction.append("retrainings", pl.DataFrame(rows), list(rows[0]))
        transaction.append("arm_questions", pl.DataFrame(questions), ["arm_id", "question_id"])
