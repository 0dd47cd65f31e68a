"""Validation: do scores foretell what training on random parts of the questions gives?

A bank of arms, each trained on a random part, is made once and serves every method. Each method's
linear datamodel score (`analysis.datamodel`) stands beside the others', whatever it is. Measured
are the gain in greedy accuracy, the mean log-probability of accepted answers, and that of every
held-out question by itself, towards which gradients and similarities score questions one by one.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from enum import StrEnum

import numpy as np
import polars as pl
from numpy.typing import NDArray
from pydantic import Field

from attrib.analysis.datamodel import (
    LEAST_SUBSETS,
    DatamodelScore,
    linear_datamodel_score,
    mean_datamodel_score,
)
from attrib.attribution.arms import Arm, draw_questions
from attrib.attribution.finished_arms import FinishedArms, find_arms
from attrib.attribution.plan import Announce, TrainingPlan, say_nothing
from attrib.attribution.retraining import (
    Measured,
    Retraining,
    RetrainSettings,
    exhausted,
    measure,
    plan_retraining,
    retrain,
)
from attrib.attribution.score_methods import GRADIENT_METHODS, ScoreMethod
from attrib.attribution.scores import mean_pair_scores, mean_scores, scores_id
from attrib.errors import ConfigError, DataError
from attrib.roles import Role
from attrib.settings import suggest
from attrib.store import Store

_SCORED = """
    SELECT method FROM attributions WHERE list_contains($arm_ids, arm_id)
    GROUP BY method HAVING count(*) = $arms AND count(DISTINCT params::VARCHAR) = 1 ORDER BY method
"""


class Measure(StrEnum):
    """What is measured of a retrained arm."""

    GAIN = "gain"
    """Greedy accuracy on the held-out questions, less the base's."""
    LOG_PROBABILITY = "log-probability"
    """Mean over them of the logarithm of the accepted answers' summed probability."""
    LOG_PROBABILITY_BY_QUESTION = "log-probability-by-question"
    """The same of each question that gradients scored towards singly; mean of their scores."""


class ValidateSettings(RetrainSettings):
    """What `attrib attribute validate` was asked for."""

    method: tuple[ScoreMethod, ...] = ()
    """Which are validated; none stands for all by which the arms are scored."""
    subsets: int = Field(default=32, ge=LEAST_SUBSETS)
    """Arms of the bank."""
    fraction: float = Field(default=0.5, gt=0.0, lt=1.0)
    """Of the training questions that each is trained on."""


@dataclass(frozen=True, slots=True)
class MethodValidation:
    """How well one method's scores order the subsets, by each measure."""

    method: ScoreMethod
    gain: DatamodelScore
    log_probability: DatamodelScore
    log_probability_by_question: DatamodelScore


@dataclass(frozen=True, slots=True)
class ValidationSummary:
    """What `attrib attribute validate` found."""

    experiment_id: str
    subsets: int
    """Arms of the bank that were trained."""
    failed: tuple[str, ...]
    """Those that could not be."""
    exhausted: tuple[str, ...]
    """Those that ended before their budget was used."""
    questions: int
    """That each is trained on."""
    held_out: int
    """Held-out questions that were graded for all of them."""
    gain_mean: float
    gain_deviation: float
    """Standard deviation over the bank; scores have to foretell it."""
    methods: tuple[MethodValidation, ...]


def plan_validation(store: Store, settings: ValidateSettings) -> TrainingPlan:
    """Return the bank that `validate` would train, with times from a probe; nothing is trained.

    Raises:
        AttribError: what `validate` would refuse.
    """
    with store.writing("attrib attribute validate --dry-run", create=False):
        found = find_arms(store, settings)
        scored_methods(store, found, settings.method)
        planned = plan_bank(found, settings.subsets, settings.fraction)
        return plan_retraining(store, found, planned)


def validate(
    store: Store, settings: ValidateSettings, announce: Announce = say_nothing
) -> ValidationSummary:
    """Train the bank where it is not there yet, and hold every method against it.

    Args:
        store: the study.
        settings: what is asked for.
        announce: called with the plan before anything is trained.

    Raises:
        ConfigError: the fraction leaves no question in or out.
        DataError: the arms have no scores, or too few arms of the bank could be trained.
    """
    with store.writing("attrib attribute validate", create=False):
        found = find_arms(store, settings)
        methods = scored_methods(store, found, settings.method)
        planned = plan_bank(found, settings.subsets, settings.fraction)
        done = retrain(store, found, planned, settings, "attribute validate", announce)
        if len(done) < LEAST_SUBSETS:
            raise DataError(
                f"Only {len(done)} of {len(planned)} arms could be trained; at least "
                f"{LEAST_SUBSETS} are needed. See the lines above."
            )
        held_out = found.experiment.evaluation.held_out
        ids = [one.arm.arm_id for one in done]
        measured = measure(store, found.experiment_id, ids, held_out)
        single = _scored_singly(store, found, measured)
        validations = tuple(_validate(store, found, m, done, measured, single) for m in methods)
        _write(store, found, validations)
        return ValidationSummary(
            experiment_id=found.experiment_id,
            subsets=len(done),
            failed=tuple(one.arm.name for one in planned if one not in done),
            exhausted=exhausted(store, done),
            questions=len(planned[0].arm.questions),
            held_out=len(measured.before_Q),
            gain_mean=float(measured.gain_A.mean()),
            gain_deviation=float(measured.gain_A.std(ddof=1)),
            methods=validations,
        )


def scored_methods(
    store: Store, found: FinishedArms, wanted: Sequence[ScoreMethod]
) -> list[ScoreMethod]:
    """Return the methods by which all of the arms are scored alike, those wanted or all.

    Raises:
        DataError: there is none, or one that is wanted is missing.
    """
    rows = store.read(_SCORED, arm_ids=found.arm_ids, arms=len(found.arms))
    scored = {ScoreMethod(method) for method in rows["method"]}
    missing = sorted(set(wanted) - scored)
    if missing or not scored:
        flags = "".join(f" --method {method}" for method in missing)
        raise DataError(
            "The arms are not scored yet, or not all with the same settings. Type: "
            f"{suggest(f'attribute{flags}', store.path)}"
        )
    return [method for method in ScoreMethod if method in (set(wanted) or scored)]


def plan_bank(found: FinishedArms, subsets: int, fraction: float) -> list[Retraining]:
    """Return the arms of the bank; the first ones are the same however many there are.

    Raises:
        ConfigError: the fraction leaves no question in or out.
    """
    questions, params = found.questions, found.experiment.train_params
    size = round(fraction * len(questions))
    if not 0 < size < len(questions):
        raise ConfigError(
            f"--fraction {fraction} of {len(questions)} questions are {size}: none would differ. "
            "Give 0.5."
        )
    bank = []
    for seed in range(subsets):
        drawn = draw_questions(questions, size, Role.RANDOM_SUBSET, seed)
        arm = Arm(f"{size} questions", Role.RANDOM_SUBSET, tuple(drawn), params, seed)
        bank.append(Retraining(arm, str(ScoreMethod.RANDOM), fraction))
    return bank


def _scored_singly(store: Store, found: FinishedArms, measured: Measured) -> list[str]:
    """Return the held-out questions that gradients scored towards one by one; without any, all."""
    for method in GRADIENT_METHODS:
        pairs = mean_pair_scores(store, found.arm_ids, method)
        if len(pairs):
            return sorted(set(pairs["held_out_id"]) & set(measured.logprob_ids))
    return list(measured.logprob_ids)


def _validate(
    store: Store,
    found: FinishedArms,
    method: ScoreMethod,
    bank: Sequence[Retraining],
    measured: Measured,
    single: Sequence[str],
) -> MethodValidation:
    names = [question.question_id for question in found.questions]
    scores = mean_scores(store, found.arm_ids, method)
    trained_AN = np.array(
        [np.isin(names, [q.question_id for q in one.arm.questions]) for one in bank]
    ).astype(np.float64)
    predicted_A = _add(trained_AN, np.array([scores[name] for name in names]))
    pairs = mean_pair_scores(store, found.arm_ids, method)
    predicted_AM = np.repeat(predicted_A[:, None], len(measured.logprob_ids), axis=1)
    if len(pairs):
        predicted_AM = _add(trained_AN, _arrange(pairs, names, measured.logprob_ids))
    is_single_M = np.isin(measured.logprob_ids, single)
    gain = linear_datamodel_score(predicted_A, measured.gain_A)
    log_probability = linear_datamodel_score(predicted_A, measured.logprob_AM.mean(axis=1))
    return MethodValidation(
        method,
        replace(gain, questions=len(measured.before_Q)),
        replace(log_probability, questions=len(measured.logprob_ids)),
        mean_datamodel_score(predicted_AM[:, is_single_M], measured.logprob_AM[:, is_single_M]),
    )


def _add(trained_AN: NDArray[np.float64], scores: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the summed scores of every subset; sums that differ by rounding alone are equal."""
    total = trained_AN @ scores
    grain = max(float(np.abs(total).max()), 1e-300) * 1e-10
    return np.asarray(np.round(total / grain) * grain, dtype=np.float64)


def _arrange(
    pairs: pl.DataFrame, names: Sequence[str], held_out: Sequence[str]
) -> NDArray[np.float64]:
    """Return scores of training questions towards single held-out ones, shape (N, M).

    Those that took no part, or were scored towards others only, have 0.
    """
    place = {name: row for row, name in enumerate(names)}
    column = {name: number for number, name in enumerate(held_out)}
    score_NM = np.zeros((len(names), len(held_out)))
    for name, other, score in pairs.iter_rows():
        if other in column:
            score_NM[place[name], column[other]] = score
    return score_NM


def _write(store: Store, arms: FinishedArms, found: Sequence[MethodValidation]) -> None:
    ids = {one.method: scores_id(store, arms.arm_ids, one.method) for one in found}
    rows = [
        {
            "experiment_id": arms.experiment_id,
            "method": str(one.method),
            "scores_id": ids[one.method],
            "measure": str(measure),
            **asdict(getattr(one, measure.replace("-", "_"))),
        }
        for one in found
        for measure in Measure
    ]
    with store.transaction() as transaction:
        for method, scored in ids.items():
            transaction.execute(
                "DELETE FROM validations WHERE experiment_id = $id AND method = $method "
                "AND scores_id = $scored",
                id=arms.experiment_id,
                method=str(method),
                scored=scored,
            )
        transaction.append("validations", pl.DataFrame(rows, infer_schema_length=None))
