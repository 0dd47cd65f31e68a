"""The experiment: what all of its arms share, read from the study before anything is trained.

Owns the bucketing an experiment starts from, the questions it is evaluated on, and the settings
that make its identity. Refuses sample sets that GRPO has no gradient for, and buckets that another
grader made.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace

import polars as pl

from attrib.analysis.buckets import Bucket
from attrib.attribution.arms import Arm
from attrib.attribution.evaluation import EvaluationPlan, TransferSet
from attrib.attribution.forecast import Counts
from attrib.attribution.settings import AblateSettings, Method, TrainSettings, Vllm
from attrib.attribution.trainers import TRL, find_trainer
from attrib.attribution.trl_checks import refuse_sample_set
from attrib.config import canonical_json, content_hash
from attrib.data.library import (
    import_dataset,
    load_dataset,
    load_questions_of,
    select_questions,
)
from attrib.data.questions import Question, Split
from attrib.environment import record_work
from attrib.errors import ConfigError, DataError
from attrib.sampling.engine import EngineName
from attrib.sampling.graders import GraderName, make_grader
from attrib.sampling.grading import Grader
from attrib.sampling.models import load_files
from attrib.sampling.responder import ModelIdentity, SampleSet
from attrib.sampling.verdicts import grade_rollouts
from attrib.settings import command_line, suggest
from attrib.store import Store

_BUCKETING = """
    SELECT bucketing.bucketing_id, bucketing.grader, bucketing.k, sample_set.*
    FROM bucketings AS bucketing JOIN sample_sets AS sample_set USING (sample_set_id)
    WHERE bucketing.bucketing_id LIKE $prefix || '%'
    ORDER BY bucketing.used_at DESC, bucketing.bucketing_id
"""
_MEMBERS = """
    SELECT bucket, question_id, n, correct FROM buckets
    WHERE bucketing_id = $bucketing_id ORDER BY question_id
"""


@dataclass(frozen=True, slots=True)
class Bucketing:
    """The difficulty classes an experiment starts from."""

    bucketing_id: str
    k: int
    sample_set: SampleSet
    sample_set_id: str
    grader: Grader
    dataset: tuple[Question, ...]
    questions_by_bucket: dict[str, list[Question]]
    counts: dict[str, Counts]

    @property
    def training_questions(self) -> list[Question]:
        """Return the questions of all buckets."""
        return [q for questions in self.questions_by_bucket.values() for q in questions]


@dataclass(frozen=True, slots=True)
class Experiment:
    """What the arms have in common.

    Attributes:
        bucketing: what is trained on, by difficulty.
        reward_grader: says which training rollouts are right.
        evaluation: what is evaluated.
        train_params: all that decides what an arm becomes and how it is evaluated, but its
            questions and its seed.
        base_params: all that decides how the base is evaluated.
    """

    bucketing: Bucketing
    reward_grader: Grader
    evaluation: EvaluationPlan
    train_params: dict[str, object]
    base_params: dict[str, object]

    @property
    def experiment_id(self) -> str:
        """Return the identity: the buckets and the shared settings, whatever the seeds."""
        return content_hash([self.bucketing.bucketing_id, self.train_params])


def set_up(store: Store, settings: AblateSettings) -> Experiment:
    """Read the bucketing and choose the questions to evaluate on. Only inside `store.writing`.

    Raises:
        ConfigError: a setting has no meaning for the sample set, or names nothing that is there.
        DataError: there is no bucketing, or no question to evaluate on.
    """
    bucketing = _settle_model(_load_bucketing(store, settings), settings)
    find_trainer(settings)
    if settings.trainer == TRL:
        refuse_sample_set(bucketing.sample_set)
    if settings.method is Method.GRPO:
        _refuse_other_distributions(bucketing.sample_set)
    reward_grader = _choose_grader(bucketing, settings.reward_grader, bucketing.grader, settings)
    eval_grader = _choose_grader(bucketing, settings.eval_grader, reward_grader, settings)
    if settings.method in (Method.RFT, Method.DPO):  # they learn from what was drawn before
        sample_set_id, dataset = bucketing.sample_set_id, bucketing.dataset
        grade_rollouts(store, sample_set_id, reward_grader, dataset, bucketing.k)
    evaluation = EvaluationPlan(
        grader=eval_grader,
        held_out=tuple(_select_held_out(store, bucketing, settings)),
        transfer=tuple(
            _select_transfer(store, name, bucketing, eval_grader, settings)
            for name in settings.eval_dataset
        ),
        training=tuple(bucketing.training_questions) if settings.eval_training else (),
        samples=settings.eval_samples,
        at=settings.fractions,
    )
    sample_set = bucketing.sample_set
    shared: dict[str, object] = {
        **asdict(sample_set.identity),
        "prompt": asdict(sample_set.prompt),
        "max_new_tokens": sample_set.max_new_tokens,
        "temperature": sample_set.temperature,
        "grader": eval_grader.fingerprint,
        "evaluation": evaluation.identity,
    }
    train = TrainSettings(**settings.model_dump(include=set(TrainSettings.model_fields)))
    train_params = {
        **shared,
        **train.model_dump(mode="json"),
        "reward_grader": reward_grader.fingerprint,
        "evaluate_at": list(evaluation.at),
    }
    if settings.method in (Method.RFT, Method.DPO):
        train_params["learned_from"] = [bucketing.sample_set_id, bucketing.k]
    if settings.trainer == TRL:  # vLLM draws with numerics of its own, which TRL weighs against
        train_params["with_vllm"] = settings.trl_vllm is not Vllm.NONE
    base_params = {**shared, "method": "base", "chain_of_thought_tokens": settings.cot_tokens}
    return Experiment(bucketing, reward_grader, evaluation, train_params, base_params)


def register(
    store: Store, experiment: Experiment, arms: Sequence[Arm], settings: AblateSettings
) -> None:
    """Record the experiment and its arms' roles; asked for again, they are the same ones."""
    params = {
        **experiment.train_params,
        "training_questions": len(experiment.bucketing.training_questions),
    }
    row = {
        "experiment_id": experiment.experiment_id,
        "bucketing_id": experiment.bucketing.bucketing_id,
        "params": canonical_json(params),
    }
    roles = [
        {
            "experiment_id": experiment.experiment_id,
            "arm_id": arm.arm_id,
            "subset": arm.subset,
            "role": str(arm.role),
        }
        for arm in arms
    ]
    questions = [
        {"arm_id": arm.arm_id, "question_id": question.question_id}
        for arm in {arm.arm_id: arm for arm in arms}.values()
        for question in arm.questions
    ]
    key = ["experiment_id", "arm_id", "subset", "role"]
    with store.transaction() as transaction:
        transaction.use("experiments", "experiment_id", pl.DataFrame([row]))
        transaction.append("arm_roles", pl.DataFrame(roles).unique(maintain_order=True), key)
        transaction.append("arm_questions", pl.DataFrame(questions), ["arm_id", "question_id"])
        command = command_line("ablate", settings, store.path)
        record_work(transaction, experiment.experiment_id, command)


def _choose_grader(
    bucketing: Bucketing, name: str | None, default: Grader, settings: AblateSettings
) -> Grader:
    """Return the grader of that name, or the default; one of a kind is made once."""
    if name is None or name == default.name:
        return default
    if name == bucketing.grader.name:
        return bucketing.grader
    return make_grader(name, bucketing.dataset, settings)


def _load_bucketing(store: Store, settings: AblateSettings) -> Bucketing:
    prefix = settings.bucketing
    rows = store.read(_BUCKETING, prefix=prefix)
    if rows.is_empty():
        named = f" whose id begins with '{prefix}'" if prefix else ""
        raise DataError(
            f"{store.path} holds no bucketing{named}. Type: {suggest('bucket --k 128', store.path)}"
        )
    row = rows.row(0, named=True)
    members = store.read(_MEMBERS, bucketing_id=row["bucketing_id"])
    dataset = load_questions_of(store, row["sample_set_id"])
    by_id = {question.question_id: question for question in dataset}
    questions_by_bucket: dict[str, list[Question]] = {str(bucket): [] for bucket in Bucket}
    counts = {}
    for bucket, question_id, n, correct in members.iter_rows():
        questions_by_bucket[bucket].append(by_id[question_id])
        counts[question_id] = Counts(n, correct)
    grader = make_grader(row["grader"].split("-", 1)[0], dataset, settings)
    if grader.fingerprint != row["grader"]:
        raise DataError(
            f"The buckets were made with the grader {row['grader']}, which is now "
            f"{grader.fingerprint}. Type: {suggest('bucket --k ' + str(row['k']), store.path)}"
        )
    return Bucketing(
        bucketing_id=row["bucketing_id"],
        k=row["k"],
        sample_set=SampleSet.from_row({**row, "params": json.loads(row["params"])}),
        sample_set_id=row["sample_set_id"],
        grader=grader,
        dataset=tuple(dataset),
        questions_by_bucket=questions_by_bucket,
        counts=counts,
    )


def _refuse_other_distributions(sample_set: SampleSet) -> None:
    if sample_set.temperature == 0.0:
        raise ConfigError("The sample set was drawn greedily; GRPO needs a temperature above 0.")
    if sample_set.top_p < 1.0 or sample_set.top_k > 0:
        raise ConfigError(
            "The sample set was drawn with top-p or top-k; the policy gradient is that of the "
            "whole distribution. Sample without them: attrib sample --new-set"
        )


def _settle_model(bucketing: Bucketing, settings: AblateSettings) -> Bucketing:
    """Take the identity of a model of which only a name is known from --model."""
    sample_set = bucketing.sample_set
    origins: dict[str, str] = {
        EngineName.SERVER: "come from a server that calls",
        EngineName.IMPORTED: "were imported by someone who called",
    }
    origin = origins.get(sample_set.engine)
    if origin is None:
        return bucketing
    if settings.model is None:
        raise ConfigError(
            f"The rollouts {origin} its model '{sample_set.model}'. Name the "
            "folder or hub id that holds the same weights: --model"
        )
    identity = ModelIdentity.of_files(load_files(settings.model), sample_set.prompt)
    return replace(bucketing, sample_set=replace(sample_set, identity=identity))


def _select_held_out(
    store: Store, bucketing: Bucketing, settings: AblateSettings
) -> list[Question]:
    where = settings.eval_where
    questions = list(bucketing.dataset)
    if where is None:  # the relations of the training questions
        relations = {q.relation for q in bucketing.training_questions}
        questions = [q for q in questions if q.relation in relations]
    return select_questions(
        store, questions, Split.HELD_OUT, where=where, limit=settings.eval_limit
    )


def _select_transfer(
    store: Store, name: str, bucketing: Bucketing, grader: Grader, settings: AblateSettings
) -> TransferSet:
    if name in {question.dataset for question in bucketing.dataset}:
        raise ConfigError(
            f"--eval-dataset {name} is what is trained on: its held-out questions are evaluated "
            "anyway. Name another, or choose among them with --eval-where."
        )
    import_dataset(store, name)
    dataset = load_dataset(store, name)
    chosen = select_questions(store, dataset, Split.HELD_OUT, limit=settings.eval_limit)
    if grader.name not in (GraderName.EXACT, GraderName.JUDGE):  # may know one data set's answers
        grader = make_grader(grader.name, dataset, settings)
    return TransferSet(name, tuple(chosen), grader)
