"""The ablation: plan the arms, run those that are not done, measure what they gained.

Owns the experiment (which arms belong together and what they share) and the reuse of finished runs.
Arms run one after another in this process, each from a fresh copy of the base weights; a failed arm
does not stop the others, and a killed one goes on from its last checkpoint.
"""

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import polars as pl

from attrib.analysis.buckets import Bucket
from attrib.attribution.arms import Arm, plan_arms
from attrib.attribution.checkpoint import Position
from attrib.attribution.effects import Effect, estimate_effects, store_effects
from attrib.attribution.evaluation import evaluate_greedily
from attrib.attribution.ledger import begin_run, end_run, set_cost
from attrib.attribution.trainer import GrpoSettings, Outcome, train
from attrib.config import (
    canonical_json,
    command_line,
    content_hash,
    describe_environment,
    differing_keys,
)
from attrib.data.library import load_questions_of, select_questions
from attrib.data.questions import Question, Split
from attrib.errors import ConfigError, DataError, ModelError, TrainingError
from attrib.progress import say
from attrib.roles import Role
from attrib.sampling.engine import EngineName
from attrib.sampling.grading import Grader, make_grader
from attrib.sampling.models import load_files, load_model
from attrib.sampling.responder import ModelIdentity, Responder, SampleSet
from attrib.sampling.tree import TreeEngine
from attrib.store import Store

SMALL_BUCKET = 8  # questions; below this a bucket is trained on only because it was named

_BUCKETING = """
    SELECT bucketing.bucketing_id, bucketing.grader, bucketing.k, sample_set.*
    FROM bucketings AS bucketing JOIN sample_sets AS sample_set USING (sample_set_id)
    WHERE bucketing.bucketing_id LIKE $prefix || '%'
    ORDER BY bucketing.used_at DESC, bucketing.bucketing_id
"""
_MEMBERS = """
    SELECT bucket, question_id FROM buckets WHERE bucketing_id = $bucketing_id ORDER BY question_id
"""
_RUNS = "SELECT arm_id, status FROM training_runs ORDER BY arm_id"
FINISHED = ("done", "exhausted")


class AblateSettings(GrpoSettings):
    """What `attrib ablate` was asked for."""

    subset: tuple[str, ...]
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
    model: str | None = None
    """Where the sampled model lies now, if it is not where it was."""
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
    incomparable: tuple[str, ...]
    """Arms that were trained less than planned, and why."""
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
        bucketing = _settle_model(_load_bucketing(store, settings.bucketing), settings)
        held_out = _select_held_out(store, bucketing, settings)
        arms = _plan(bucketing, held_out, settings)
        experiment_id = _register(store, bucketing, held_out, arms, settings)
        statuses = _read_statuses(store)
        owed = [arm for arm in arms if statuses.get(arm.arm_id) not in FINISHED]
        for arm in arms:
            if arm not in owed:  # a kill may have come between the last write and this
                _checkpoint_of(store, arm).unlink(missing_ok=True)
        _announce(arms, statuses, held_out, settings)

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
            incomparable=_name_incomparable(arms, _read_statuses(store)),
            effects=tuple(effects),
        )


def _read_statuses(store: Store) -> dict[str, str]:
    rows = store.read(_RUNS)
    return dict(zip(rows["arm_id"], rows["status"], strict=True))


def _name_incomparable(arms: Sequence[Arm], statuses: Mapping[str, str]) -> tuple[str, ...]:
    """Return the arms that did not come to their planned end, and what happened to them."""
    return tuple(
        f"{arm.name} ({statuses[arm.arm_id]})"
        for arm in arms
        if statuses.get(arm.arm_id, "done") != "done"
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
    if sample_set.top_p < 1.0 or sample_set.top_k > 0:
        raise ConfigError(
            "The sample set was drawn with top-p or top-k; the policy gradient is that of the "
            "whole distribution. Sample without them: attrib sample --new-set"
        )
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


def _settle_model(bucketing: _Bucketing, settings: AblateSettings) -> _Bucketing:
    """Take the identity of a served model, of which only a name is known, from --model."""
    sample_set = bucketing.sample_set
    if sample_set.engine != EngineName.SERVER:
        return bucketing
    if settings.model is None:
        raise ConfigError(
            f"The rollouts come from a server that calls its model '{sample_set.model}'. Name the "
            "folder or hub id that holds the same weights: --model"
        )
    identity = ModelIdentity.of_files(load_files(settings.model), sample_set.prompt)
    return replace(bucketing, sample_set=replace(sample_set, identity=identity))


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
        **asdict(sample_set.identity),
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
        settings.subset,
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
    params = {
        **full.params,
        "seed": settings.seed,
        "training_questions": len(full.questions),
        "command": command_line("ablate", settings, store.path),
        **describe_environment(),
    }
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
        transaction.use("experiments", "experiment_id", pl.DataFrame([experiment]))
        transaction.append("arm_roles", pl.DataFrame(roles), key)
    return experiment_id


def _announce(
    arms: Sequence[Arm],
    statuses: Mapping[str, str],
    held_out: Sequence[Question],
    settings: AblateSettings,
) -> None:
    waiting = {arm.arm_id for arm in arms if statuses.get(arm.arm_id) not in FINISHED}
    say(
        f"{len(arms)} arms, {len(waiting)} runs to do. Each: {settings.updates} updates of "
        f"{settings.groups} informative groups of {settings.group_size} rollouts, at most "
        f"{settings.max_rollouts} rollouts; then greedy answers to {len(held_out)} held-out "
        "questions."
    )
    for arm in arms:
        state = "to run" if arm.arm_id in waiting else f"{statuses[arm.arm_id]}, reused"
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
    responder = _load_responder(bucketing, settings)
    checkpoint = _checkpoint_of(store, arm)
    begin_run(store, arm)
    outcome = Outcome("done", "", Position())
    try:
        if arm.role != Role.BASE:
            outcome = train(store, responder, bucketing.grader, arm, settings, checkpoint)
            if outcome.detail:
                say(f"{arm.name} is exhausted: {outcome.detail}.")
        evaluations = evaluate_greedily(
            responder, bucketing.grader, held_out, arm.arm_id, outcome.position.step
        )
    except (TrainingError, ModelError) as error:  # the latter: weights that became non-finite
        if arm.role == Role.BASE:
            raise
        say(f"{arm.name} failed: {error}")
        with store.transaction() as transaction:
            end_run(transaction, arm, "failed", str(error))
        return False
    with store.transaction() as transaction:
        transaction.execute("DELETE FROM evaluations WHERE arm_id = $arm_id", arm_id=arm.arm_id)
        transaction.append("evaluations", evaluations)
        if arm.role == Role.BASE:
            set_cost(transaction, arm, Position(seconds=time.monotonic() - started))
        end_run(transaction, arm, outcome.status, outcome.detail)
    checkpoint.unlink(missing_ok=True)
    return True


def _load_responder(bucketing: _Bucketing, settings: AblateSettings) -> Responder[TreeEngine]:
    """Load a fresh copy of the base model and make sure that it is the one that was sampled."""
    sample_set = bucketing.sample_set
    language_model = load_model(settings.model or sample_set.model, settings.device)
    identity = ModelIdentity.of_files(language_model, sample_set.prompt)
    differences = differing_keys(asdict(sample_set.identity), asdict(identity))
    if differences:
        raise ModelError(
            f"{language_model.name} is not the model the rollouts were drawn from "
            f"({'; '.join(differences)}). Name that one with --model, or draw rollouts of this one "
            "into another study: attrib sample --db FILE"
        )
    return Responder(TreeEngine(language_model), sample_set, language_model.tokenizer)


def _checkpoint_of(store: Store, arm: Arm) -> Path:
    return Path(f"{store.path}.checkpoints") / f"{arm.arm_id}.safetensors"
