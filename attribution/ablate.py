"""The ablation: plan the arms, run those that are not done, measure what they gained.

Owns the experiment (which arms belong together and what they share) and the reuse of finished runs.
Arms run one after another in this process, each from a fresh copy of the base weights; a failed arm
does not stop the others, and a killed one goes on from its last checkpoint.
"""

import json
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import polars as pl

from attrib.analysis.buckets import Bucket
from attrib.attribution.arms import Arm, plan_arms
from attrib.attribution.checkpoint import Position
from attrib.attribution.effects import Effect, estimate_effects, store_effects
from attrib.attribution.evaluation import evaluate_greedily
from attrib.attribution.trainer import GrpoSettings, train
from attrib.config import canonical_json, content_hash
from attrib.data.library import load_questions_of, select_questions
from attrib.data.questions import Question, Split
from attrib.errors import ConfigError, DataError, ModelError, TrainingError
from attrib.progress import say
from attrib.roles import Role
from attrib.sampling.grading import Grader, make_grader
from attrib.sampling.models import load_model
from attrib.sampling.rollouts import Responder, SampleSet
from attrib.store import Store

SMALL_BUCKET = 8  # questions; below this a bucket is trained on only because it was named

_BUCKETING = """
    SELECT bucketing.bucketing_id, bucketing.grader, bucketing.k, sample_set.*
    FROM bucketings AS bucketing JOIN sample_sets AS sample_set USING (sample_set_id)
    WHERE bucketing.bucketing_id LIKE $prefix || '%'
    ORDER BY bucketing.created_at DESC, bucketing.bucketing_id
"""
_MEMBERS = """
    SELECT bucket, question_id FROM buckets WHERE bucketing_id = $bucketing_id ORDER BY question_id
"""
_FINISHED = "SELECT arm_id FROM training_runs WHERE status IN ('done', 'exhausted')"


class AblateSettings(GrpoSettings):
    """What `attrib ablate` was asked for."""

    subsets: tuple[str, ...]
    """Buckets to train on alone, and to leave out."""
    all_but: bool = True
    """Whether to train on each complement too."""
    eval_limit: int | None = 200
    """Number of held-out questions."""
    eval_where: str | None = None
    """SQL condition on the held-out questions; by default, relations that are trained on."""
    seed: int = 0
    bucketing: str = ""
    """Beginning of a bucketing's id; by default the newest."""
    device: str = "auto"


@dataclass(frozen=True, slots=True)
class _Bucketing:
    """The difficulty classes an experiment starts from."""

    bucketing_id: str
    sample_set: SampleSet
    grader: Grader
    dataset: tuple[Question, ...]
    questions_by_bucket: dict[str, list[Question]]

    @property
    def training_questions(self) -> list[Question]:
        """Return the questions of all buckets."""
        return [q for questions in self.questions_by_bucket.values() for q in questions]


@dataclass(frozen=True, slots=True)
class AblationSummary:
    """What an ablation left in the store."""

    experiment_id: str
    trained: int
    reused: int
    failed: tuple[str, ...]
    effects: tuple[Effect, ...]


def ablate(store: Store, settings: AblateSettings) -> AblationSummary:
    """Train and evaluate every arm that is not done yet, then estimate the effects.

    Raises:
        ConfigError: a subset is not a bucket, or a setting has no meaning.
        DataError: there is no bucketing, or a subset is empty.
        ModelError: the base model is not the one the rollouts were drawn from.
    """
    _check(settings)
    with store.writing("attrib ablate", create=False):
        bucketing = _load_bucketing(store, settings.bucketing)
        held_out = _select_held_out(store, bucketing, settings)
        arms = _plan(bucketing, held_out, settings)
        experiment_id = _register(store, bucketing, held_out, arms, settings)
        finished = set(store.read(_FINISHED)["arm_id"])
        owed = [arm for arm in arms if arm.arm_id not in finished]
        _announce(arms, owed, held_out, settings)

        failed = []
        runs: dict[str, Arm] = {}  # one run may serve several roles
        for arm in owed:
            runs.setdefault(arm.arm_id, arm)
        for arm in runs.values():
            if not _run(store, bucketing, held_out, arm, settings):
                failed.append(arm.name)
        effects = estimate_effects(store, experiment_id)
        store_effects(store, experiment_id, effects)
        return AblationSummary(
            experiment_id=experiment_id,
            trained=len(runs) - len(failed),
            reused=len({arm.arm_id for arm in arms}) - len(runs),
            failed=tuple(failed),
            effects=tuple(effects),
        )


def _check(settings: AblateSettings) -> None:
    for name in ("updates", "groups", "max_rollouts"):
        if getattr(settings, name) < 1:
            raise ConfigError(f"--{name.replace('_', '-')} {getattr(settings, name)} must be ≥ 1.")
    if settings.group_size < 2:
        raise ConfigError(
            f"--group-size {settings.group_size} must be at least 2: a group of one rollout has no "
            "advantage, so nothing would be learned."
        )
    if settings.max_rollouts < settings.groups * settings.group_size:
        raise ConfigError(
            f"--max-rollouts {settings.max_rollouts} cannot fill one batch of {settings.groups} "
            f"groups of {settings.group_size} rollouts."
        )


def _load_bucketing(store: Store, prefix: str) -> _Bucketing:
    rows = store.read(_BUCKETING, prefix=prefix)
    if rows.is_empty():
        named = f" whose id begins with '{prefix}'" if prefix else ""
        raise DataError(f"{store.path} holds no bucketing{named}. Type: attrib bucket --k 128")
    row = rows.row(0, named=True)
    sample_set = SampleSet.from_row({**row, "params": json.loads(row["params"])})
    if sample_set.temperature == 0.0:
        raise ConfigError("The sample set was drawn greedily; GRPO needs a temperature above 0.")
    members = store.read(_MEMBERS, bucketing_id=row["bucketing_id"])
    dataset = load_questions_of(store, row["sample_set_id"])
    by_id = {question.question_id: question for question in dataset}
    questions_by_bucket: dict[str, list[Question]] = {str(bucket): [] for bucket in Bucket}
    for bucket, question_id in members.select("bucket", "question_id").iter_rows():
        questions_by_bucket[bucket].append(by_id[question_id])
    grader = make_grader(row["grader"].split("-", 1)[0], dataset)
    if grader.fingerprint != row["grader"]:
        raise DataError(
            f"The buckets were made with the grader {row['grader']}, which is now "
            f"{grader.fingerprint}. Type: attrib bucket --k {row['k']}"
        )
    return _Bucketing(row["bucketing_id"], sample_set, grader, tuple(dataset), questions_by_bucket)


def _select_held_out(
    store: Store, bucketing: _Bucketing, settings: AblateSettings
) -> list[Question]:
    where = settings.eval_where
    questions = list(bucketing.dataset)
    if where is None:  # the relations of the training questions
        relations = {q.relation for q in bucketing.training_questions}
        questions = [q for q in questions if q.relation in relations]
    return select_questions(
        store, questions, Split.HELD_OUT, where=where, limit=settings.eval_limit
    )


def _plan(
    bucketing: _Bucketing, held_out: Sequence[Question], settings: AblateSettings
) -> list[Arm]:
    sample_set = bucketing.sample_set
    base_params: dict[str, object] = {
        "method": "base",
        "weights_hash": sample_set.weights_hash,
        "chat_template_hash": sample_set.chat_template_hash,
        "prompt": asdict(sample_set.prompt),
        "max_new_tokens": sample_set.max_new_tokens,
        "grader": bucketing.grader.fingerprint,
        "held_out": content_hash(sorted(q.question_id for q in held_out)),
        "held_out_questions": len(held_out),
    }
    params = {
        **base_params,
        **GrpoSettings(**settings.model_dump(include=set(GrpoSettings.model_fields))).model_dump(),
        "method": "grpo",
        "temperature": sample_set.temperature,
    }
    return plan_arms(
        bucketing.questions_by_bucket,
        settings.subsets,
        settings.seed,
        params=params,
        base_params=base_params,
        all_but=settings.all_but,
    )


def _register(
    store: Store,
    bucketing: _Bucketing,
    held_out: Sequence[Question],
    arms: Sequence[Arm],
    settings: AblateSettings,
) -> str:
    """Record the experiment and its arms' roles; asked for again, they are the same ones."""
    full = next(arm for arm in arms if arm.role == Role.FULL)
    params = {**full.params, "seed": settings.seed, "training_questions": len(full.questions)}
    experiment_id = content_hash([bucketing.bucketing_id, full.arm_id])
    experiment = {
        "experiment_id": experiment_id,
        "bucketing_id": bucketing.bucketing_id,
        "params": canonical_json(params),
    }
    roles = [
        {
            "experiment_id": experiment_id,
            "arm_id": arm.arm_id,
            "subset": arm.subset,
            "role": str(arm.role),
        }
        for arm in arms
    ]
    key = ["experiment_id", "arm_id", "subset", "role"]
    with store.transaction() as transaction:
        transaction.append("experiments", pl.DataFrame([experiment]), ["experiment_id"])
        transaction.append("arm_roles", pl.DataFrame(roles), key)
    return experiment_id


def _announce(
    arms: Sequence[Arm], owed: Sequence[Arm], held_out: Sequence[Question], settings: AblateSettings
) -> None:
    waiting = {arm.arm_id for arm in owed}
    say(
        f"{len(arms)} arms, {len(owed)} to run. Each: {settings.updates} updates of "
        f"{settings.groups} informative groups of {settings.group_size} rollouts, at most "
        f"{settings.max_rollouts} rollouts; then greedy answers to {len(held_out)} held-out "
        "questions."
    )
    for arm in arms:
        state = "to run" if arm.arm_id in waiting else "done, reused"
        questions = f", {len(arm.questions)} questions" if arm.questions else ""
        say(f"  {arm.name}{questions}: {state}")
        if arm.role == Role.ONLY and len(arm.questions) < max(SMALL_BUCKET, settings.groups):
            say(f"    few questions, visited again and again within {settings.updates} updates")


def _run(
    store: Store,
    bucketing: _Bucketing,
    held_out: Sequence[Question],
    arm: Arm,
    settings: AblateSettings,
) -> bool:
    """Train and evaluate one arm; return whether it succeeded."""
    started = time.monotonic()
    language_model = load_model(bucketing.sample_set.model, settings.device)
    if language_model.weights_hash != bucketing.sample_set.weights_hash:
        raise ModelError(
            f"{bucketing.sample_set.model} is not the model the rollouts were drawn from: its "
            "weights have changed. Draw rollouts into another study: attrib sample --db FILE"
        )
    responder = Responder(language_model, bucketing.sample_set)
    checkpoint = Path(f"{store.path}.checkpoints") / f"{arm.arm_id}.safetensors"
    status, detail, position = "done", "", Position()
    _set_status(store, arm, "running", "", position)
    try:
        if arm.role != Role.BASE:
            outcome = train(store, responder, bucketing.grader, arm, settings, checkpoint)
            status, detail, position = outcome.status, outcome.detail, outcome.position
            if detail:
                say(f"{arm.name} is exhausted: {detail}.")
        evaluations = evaluate_greedily(
            responder, bucketing.grader, held_out, arm.arm_id, position.step
        )
    except (TrainingError, ModelError) as error:  # the latter: weights that became non-finite
        if arm.role == Role.BASE:
            raise
        say(f"{arm.name} failed: {error}")
        _set_status(store, arm, "failed", str(error), Position())
        return False
    seconds = position.seconds or time.monotonic() - started
    with store.transaction() as transaction:
        transaction.execute("DELETE FROM evaluations WHERE arm_id = $arm_id", arm_id=arm.arm_id)
        transaction.append("evaluations", evaluations)
        transaction.execute(_SET_STATUS, **_status_row(arm, status, detail, position, seconds))
    checkpoint.unlink(missing_ok=True)
    return True


_SET_STATUS = """
    INSERT OR REPLACE INTO training_runs
        (arm_id, method, seed, params, questions, status, detail, updates, rollouts, wall_seconds)
    VALUES ($arm_id, $method, $seed, $params, $questions, $status, $detail, $updates, $rollouts,
            $wall_seconds)
"""


def _set_status(store: Store, arm: Arm, status: str, detail: str, position: Position) -> None:
    with store.transaction() as transaction:
        transaction.execute(
            _SET_STATUS, **_status_row(arm, status, detail, position, position.seconds)
        )


def _status_row(
    arm: Arm, status: str, detail: str, position: Position, seconds: float
) -> dict[str, object]:
    return {
        "arm_id": arm.arm_id,
        "method": arm.params["method"],
        "seed": arm.seed,
        "params": canonical_json(dict(arm.params)),
        "questions": len(arm.questions),
        "status": status,
        "detail": detail,
        "updates": position.step,
        "rollouts": position.rollouts,
        "wall_seconds": seconds,
    }
