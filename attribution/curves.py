"""Counterfactual curves: training with only, or without, the questions that score highest.

Owns which arms these are. Every method is held against as many questions drawn at random, at the
same budget and with the same seeds: `keep` ought to gain more than that, `remove` less.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated

import numpy as np
import polars as pl
from numpy.typing import NDArray
from pydantic import Field

from attrib.analysis.seeds import IntervalOverSeeds, difference_over_seeds, gain_over_seeds
from attrib.attribution.arms import Arm, draw_questions
from attrib.attribution.finished_arms import FinishedArms, find_arms
from attrib.attribution.plan import Announce, TrainingPlan, say_nothing
from attrib.attribution.retraining import (
    Retraining,
    RetrainSettings,
    exhausted,
    measure,
    plan_retraining,
    retrain,
)
from attrib.attribution.score_methods import ScoreMethod
from attrib.attribution.scores import mean_scores, scores_id
from attrib.attribution.validation import scored_methods
from attrib.data.questions import Question
from attrib.errors import ConfigError, DataError
from attrib.roles import Role
from attrib.store import Store


class CurvesSettings(RetrainSettings):
    """What `attrib attribute curves` was asked for."""

    method: tuple[ScoreMethod, ...] = ()
    """Which are compared with random choices; none stands for all by which arms are scored."""
    fraction: tuple[Annotated[float, Field(gt=0.0, lt=1.0)], ...] = (0.1, 0.2, 0.4)
    """Of the training questions that are kept, or removed."""
    keep: bool = True
    remove: bool = True
    seeds: int = Field(default=3, ge=1)


@dataclass(frozen=True, slots=True)
class CurvePoint:
    """What arms of one method, role and fraction gained.

    Attributes:
        role: `keep` or `remove`.
        method: that ranked the questions.
        fraction: of the training questions that was kept or removed.
        trained_on: how many questions were left to train on.
        gain: on the held-out questions.
        difference: less the gain with as many random questions; None of these themselves.
        seeds: arms.
        questions: held-out questions that could be graded for all.
    """

    role: Role
    method: ScoreMethod
    fraction: float
    trained_on: int
    gain: IntervalOverSeeds
    difference: IntervalOverSeeds | None
    seeds: int
    questions: int


@dataclass(frozen=True, slots=True)
class CurvesSummary:
    """What `attrib attribute curves` found."""

    experiment_id: str
    failed: tuple[str, ...]
    exhausted: tuple[str, ...]
    """Arms that ended before their budget was used."""
    points: tuple[CurvePoint, ...]


_Place = tuple[Role, float, ScoreMethod]


def plan_curves(store: Store, settings: CurvesSettings) -> TrainingPlan:
    """Return the arms that `draw_curves` would train, with times from a probe; none is trained.

    Raises:
        AttribError: what `draw_curves` would refuse.
    """
    _refuse_nothing(settings)
    with store.writing("attrib attribute curves --dry-run", create=False):
        found = find_arms(store, settings)
        return plan_retraining(store, found, _plan(store, found, settings))


def draw_curves(
    store: Store, settings: CurvesSettings, announce: Announce = say_nothing
) -> CurvesSummary:
    """Train the arms that are not there yet, and compare every method with random choices.

    Args:
        store: the study.
        settings: what is asked for.
        announce: called with the plan before anything is trained.

    Raises:
        ConfigError: there is nothing to train, or a fraction takes no question or all.
        DataError: the arms have no scores, or no arm could be trained.
    """
    _refuse_nothing(settings)
    with store.writing("attrib attribute curves", create=False):
        found = find_arms(store, settings)
        planned = _plan(store, found, settings)
        done = retrain(store, found, planned, settings, "attribute curves", announce)
        if not done:
            raise DataError("None of the arms could be trained. See the lines above.")
        points = _compare(store, found, done)
        _write(store, found, points)
        return CurvesSummary(
            found.experiment_id,
            tuple(one.arm.name for one in planned if one not in done),
            exhausted(store, done),
            tuple(points),
        )


def _refuse_nothing(settings: CurvesSettings) -> None:
    if not (settings.keep or settings.remove):
        raise ConfigError("--no-keep and --no-remove leave nothing to train.")


def _plan(store: Store, found: FinishedArms, settings: CurvesSettings) -> list[Retraining]:
    """Return the arms, seed by seed, so that whole comparisons exist early."""
    methods = scored_methods(store, found, settings.method)
    return [
        one
        for seed in range(settings.seeds)
        for one in _plan_seed(store, found, methods, settings, seed)
    ]


def _plan_seed(
    store: Store,
    found: FinishedArms,
    methods: Sequence[ScoreMethod],
    settings: CurvesSettings,
    seed: int,
) -> list[Retraining]:
    """Return the arms of one seed, those on random questions first."""
    params = found.experiment.train_params
    roles = [role for role in (Role.KEEP, Role.REMOVE) if getattr(settings, role)]
    compared = dict.fromkeys([ScoreMethod.RANDOM, *methods])
    planned = []
    for method in compared:
        scores = mean_scores(store, found.arm_ids, method)
        for fraction in dict.fromkeys(settings.fraction):
            size = _count(fraction, len(found.questions))
            for role in roles:
                chosen = _choose(found.questions, method, scores, size, role, seed)
                arm = Arm(f"{fraction:g} by {method}", role, tuple(chosen), params, seed)
                planned.append(Retraining(arm, str(method), fraction))
    return planned


def _count(fraction: float, questions: int) -> int:
    size = round(fraction * questions)
    if not 0 < size < questions:
        raise ConfigError(f"--fraction {fraction} takes {size} of {questions} questions. Give 0.2.")
    return size


def _choose(
    questions: Sequence[Question],
    method: ScoreMethod,
    scores: Mapping[str, float],
    size: int,
    role: Role,
    seed: int,
) -> list[Question]:
    """Return what is trained on; random choices are anew for every seed."""
    if method is ScoreMethod.RANDOM:
        top = draw_questions(questions, size, role, seed)
    else:
        top = sorted(questions, key=lambda q: (-scores[q.question_id], q.question_id))[:size]
    if role is Role.KEEP:
        return top
    taken = {question.question_id for question in top}
    return [question for question in questions if question.question_id not in taken]


def _compare(store: Store, found: FinishedArms, done: Sequence[Retraining]) -> list[CurvePoint]:
    ids = list(dict.fromkeys(one.arm.arm_id for one in done))
    held_out = found.experiment.evaluation.held_out
    measured = measure(store, found.experiment_id, ids, held_out)
    right_of = dict(zip(ids, measured.right_AQ, strict=True))
    arms: dict[_Place, list[Retraining]] = {}
    for one in done:
        arms.setdefault((one.role, one.fraction, ScoreMethod(one.method)), []).append(one)
    right: dict[_Place, NDArray[np.bool_]] = {
        place: np.stack([right_of[one.arm.arm_id] for one in several])
        for place, several in arms.items()
    }
    points = []
    for (role, fraction, method), right_SQ in sorted(right.items()):
        control = right.get((role, fraction, ScoreMethod.RANDOM))
        difference = None
        if method is not ScoreMethod.RANDOM and control is not None:
            difference = difference_over_seeds(right_SQ, control)
        points.append(
            CurvePoint(
                role,
                method,
                fraction,
                len(arms[role, fraction, method][0].arm.questions),
                gain_over_seeds(measured.before_Q, right_SQ),
                difference,
                len(right_SQ),
                len(measured.before_Q),
            )
        )
    return points


def _write(store: Store, found: FinishedArms, points: Sequence[CurvePoint]) -> None:
    """Replace what is stored at these points."""
    methods = {point.method for point in points}
    ids = {method: scores_id(store, found.arm_ids, method) for method in methods}
    rows = [
        {
            "experiment_id": found.experiment_id,
            "scores_id": ids[point.method],
            "role": str(point.role),
            "method": str(point.method),
            "fraction": point.fraction,
            "statistic": statistic,
            "value": interval.value,
            "low": interval.low,
            "high": interval.high,
            "seeds": point.seeds,
            "questions": point.questions,
        }
        for point in points
        for statistic, interval in (
            ("gain", point.gain),
            ("difference_random", point.difference),
        )
        if interval is not None
    ]
    with store.transaction() as transaction:
        for point in points:
            transaction.execute(
                "DELETE FROM curves WHERE experiment_id = $id AND role = $role "
                "AND method = $method AND fraction = $fraction AND scores_id = $scored",
                id=found.experiment_id,
                scored=ids[point.method],
                role=str(point.role),
                method=str(point.method),
                fraction=point.fraction,
            )
        transaction.append("curves", pl.DataFrame(rows, infer_schema_length=None))
