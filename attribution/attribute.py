"""`attrib attribute`: score every training question of finished arms, by several methods.

Owns which arms are scored, what is made anew, and the summary of it. Scores of several seeds are
averaged where they are shown.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
from pydantic import Field

from attrib.analysis.buckets import Bucket
from attrib.attribution.baselines import score_by
from attrib.attribution.finished_arms import ArmsSettings, FinishedArms, find_arms
from attrib.attribution.held_out_gradients import Target
from attrib.attribution.replay import clean_up, replay
from attrib.attribution.runs import Runner
from attrib.attribution.score_methods import GRADIENT_METHODS, ScoreMethod
from attrib.attribution.scores import known_methods, mean_scores, write_scores
from attrib.data.questions import Question
from attrib.progress import say
from attrib.store import Store

Params = Mapping[ScoreMethod, Mapping[str, object]]

_SUMMARY = """
    SELECT method, avg(projection_r) AS projection_r, sum(seconds) AS seconds
    FROM attributions WHERE list_contains($arm_ids, arm_id) GROUP BY method
"""


class AttributeSettings(ArmsSettings):
    """What `attrib attribute` was asked for."""

    method: tuple[ScoreMethod, ...] = ()
    """By which questions are scored; none stands for all."""
    checkpoints: int = Field(default=2, ge=1)
    """How often held-out gradients are taken, the base included."""
    held_out: int | None = Field(default=None, ge=1)
    """Number of held-out questions; by default all that the arm was evaluated on."""
    target: Target = Target.LOG_PROBABILITY
    single: int = Field(default=8, ge=0)
    """Held-out questions towards which questions are scored one by one as well."""
    rank: int = Field(default=32, ge=0)
    """Rows of a projection; 0: gradients are not projected."""
    show: int = Field(default=5, ge=1)
    """Questions shown from either end."""

    @property
    def methods(self) -> tuple[ScoreMethod, ...]:
        """Return the methods, each once, in the order of their list."""
        wanted = set(self.method or ScoreMethod)
        return tuple(method for method in ScoreMethod if method in wanted)


@dataclass(frozen=True, slots=True)
class ScoredQuestion:
    """A training question with its score, the mean over the scored arms."""

    question_id: str
    text: str
    bucket: str
    score: float
    visits: float
    """Visits that carried a gradient, the mean over arms."""
    correct_before: float
    """Share of right rollouts before training."""


@dataclass(frozen=True, slots=True)
class BucketScore:
    """What a bucket's questions scored together."""

    bucket: str
    questions: int
    mean: float
    share: float | None
    """Of the sum of all scores; None where that is 0, some are negative, or all are random."""


@dataclass(frozen=True, slots=True)
class MethodSummary:
    """What one method says.

    Attributes:
        method: which.
        projection_r: over visits, the correlation of scores from projected gradients with exact
            ones; None where nothing was projected.
        seconds: that the scores took.
        top: questions with the highest scores, the highest first.
        bottom: those with the lowest that are not among these, the lowest first.
        buckets: sums by bucket.
    """

    method: ScoreMethod
    projection_r: float | None
    seconds: float
    top: tuple[ScoredQuestion, ...]
    bottom: tuple[ScoredQuestion, ...]
    buckets: tuple[BucketScore, ...]


@dataclass(frozen=True, slots=True)
class AttributionSummary:
    """What `attrib attribute` left in the store."""

    experiment_id: str
    arms: tuple[str, ...]
    """Whose questions were scored."""
    arm_seconds: float
    """That training these arms took, without evaluations."""
    held_out: int
    questions: int
    methods: tuple[MethodSummary, ...]


def attribute(store: Store, settings: AttributeSettings) -> AttributionSummary:
    """Score the training questions of finished arms where that is not done yet.

    Raises:
        ConfigError: an arm was trained in a way that gradients are not scored for.
        DataError: there is no finished arm, or it would be trained otherwise now.
        TrainingError: a run does not go as it went the first time.
    """
    with store.writing("attrib attribute", create=False):
        found = find_arms(store, settings)
        held_out = found.experiment.evaluation.held_out[: settings.held_out]
        score_arms(store, found, held_out, settings)
        return _summarise(store, found, held_out, settings)


def score_arms(
    store: Store,
    found: FinishedArms,
    held_out: Sequence[Question],
    settings: AttributeSettings,
) -> None:
    """Score all arms by all methods asked for. Only inside `store.writing`."""
    params = _params(found.experiment.bucketing.bucketing_id, held_out, settings)
    runner = Runner(store, found.experiment, found.settings)
    counts = found.experiment.bucketing.counts
    load = cache(lambda: runner.load_base()[1])
    for arm, seconds in zip(found.arms, found.seconds, strict=True):
        missing = params.keys() - known_methods(store, arm.arm_id, params)
        for method in settings.methods:
            if method in missing and method not in GRADIENT_METHODS:
                one = score_by(method, store, arm, counts, held_out, load)
                write_scores(store, arm.arm_id, params, {method: one})
        gradient = [method for method in GRADIENT_METHODS if method in missing]
        if gradient:
            say(f"{arm.name}: its training, which took {seconds:,.0f} s, is repeated.")
            scores = replay(store, runner, arm, gradient, held_out, params[gradient[0]])
            write_scores(store, arm.arm_id, params, scores)
            took = scores[gradient[0]].seconds
            say(f"{arm.name}: repeated and scored in {took:,.0f} s.")
        if not set(GRADIENT_METHODS).isdisjoint(settings.methods):
            clean_up(store, arm)  # also what a kill left after the scores were written


def _params(bucketing_id: str, held_out: Sequence[Question], settings: AttributeSettings) -> Params:
    """Return what each method's scores depend on."""
    asked = sorted(question.question_id for question in held_out)
    gradient = {
        "checkpoints": settings.checkpoints,
        "target": str(settings.target),
        "rank": settings.rank,
        "single": settings.single,
        "held_out": asked,
    }
    others: Params = {
        ScoreMethod.SIMILARITY: {"held_out": asked},
        ScoreMethod.DIFFICULTY: {"bucketing": bucketing_id},
    }
    return {
        method: gradient if method in GRADIENT_METHODS else others.get(method, {})
        for method in settings.methods
    }


def _summarise(
    store: Store, found: FinishedArms, held_out: Sequence[Question], settings: AttributeSettings
) -> AttributionSummary:
    rows = store.read(_SUMMARY, arm_ids=found.arm_ids)
    about = {method: (r, seconds) for method, r, seconds in rows.iter_rows()}
    methods = []
    for method in settings.methods:
        scores = mean_scores(store, found.arm_ids, method)
        ranked = _rank(store, found, scores)
        r, seconds = about[str(method)]
        methods.append(
            MethodSummary(
                method,
                r,
                seconds,
                tuple(ranked[: settings.show]),
                tuple(reversed(ranked[settings.show :][-settings.show :])),
                tuple(_by_bucket(ranked, method)),
            )
        )
    return AttributionSummary(
        found.experiment_id,
        tuple(found.arm_ids),
        sum(found.seconds),
        len(held_out),
        len(found.questions),
        tuple(methods),
    )


def _rank(store: Store, found: FinishedArms, scores: Mapping[str, float]) -> list[ScoredQuestion]:
    """Return the scored questions, the highest score first; equal ones in the order of ids."""
    bucketing = found.experiment.bucketing
    buckets = {
        question.question_id: bucket
        for bucket, questions in bucketing.questions_by_bucket.items()
        for question in questions
    }
    rows = store.read(
        "SELECT question_id, count(*) / $arms AS visits FROM visits "
        "WHERE list_contains($arm_ids, arm_id) AND gradient_weight > 0 GROUP BY question_id",
        arm_ids=found.arm_ids,
        arms=float(len(found.arms)),
    )
    visits = dict(rows.iter_rows())
    return sorted(
        (
            ScoredQuestion(
                name,
                question.text,
                buckets[name],
                scores[name],
                float(visits.get(name, 0.0)),
                bucketing.counts[name].correct / bucketing.counts[name].n,
            )
            for question in found.questions
            if (name := question.question_id) in scores
        ),
        key=lambda one: (-one.score, one.question_id),
    )


def _by_bucket(ranked: Sequence[ScoredQuestion], method: ScoreMethod) -> list[BucketScore]:
    """Return what each bucket scored, in the order of the buckets."""
    total = sum(one.score for one in ranked)
    is_contribution = method is not ScoreMethod.RANDOM and all(one.score >= 0 for one in ranked)
    has_shares = total > 0 and is_contribution
    found = []
    for bucket in Bucket:
        own = [one.score for one in ranked if one.bucket == bucket]
        if own:
            share = float(np.sum(own)) / total if has_shares else None
            found.append(BucketScore(str(bucket), len(own), float(np.mean(own)), share))
    return found
