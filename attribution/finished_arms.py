"""Finished arms read back from a study: what they were trained on, and how to do it once more.

Owns the way from a run's stored settings to the experiment that it belongs to. Refuses runs that
this study, or this version, would no longer make the same way.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass

from pydantic import Field

from attrib.attribution.arms import Arm
from attrib.attribution.experiment import Experiment, set_up
from attrib.attribution.settings import AblateSettings, TrainSettings, Vllm
from attrib.cluster import ArmClusterSettings
from attrib.config import differing_keys
from attrib.data.questions import Question
from attrib.errors import DataError
from attrib.progress import say
from attrib.roles import Role
from attrib.sampling.judge import JudgeSettings
from attrib.settings import suggest
from attrib.store import Store

_ARMS = """
    SELECT arms.experiment_id, arms.bucketing_id, arm_id, subset, role, seed, arms.params,
           wall_seconds
    FROM arms JOIN experiments USING (experiment_id)
    WHERE status IN ('done', 'exhausted') AND role NOT IN ('base', 'imported')
      AND starts_with(arm_id, $prefix) AND ($prefix <> '' OR role = 'full')
      AND starts_with(arms.experiment_id, $experiment)
    ORDER BY experiments.used_at DESC, arms.experiment_id, seed, arm_id, role
"""
_NEWEST = "SELECT experiment_id FROM experiments ORDER BY used_at DESC, experiment_id LIMIT 1"
_TRAINED_ON = """
    SELECT arm_id, question_id FROM arm_questions
    WHERE list_contains($arm_ids, arm_id) ORDER BY arm_id, question_id
"""
_HELD_OUT = """
    SELECT DISTINCT question_id FROM evaluations JOIN questions AS question USING (question_id)
    WHERE arm_id = $arm_id AND decoding = 'greedy' AND question.split = 'held-out'
      AND question.dataset IN (
          SELECT DISTINCT dataset FROM buckets JOIN questions USING (question_id)
          WHERE bucketing_id = $bucketing_id)
    ORDER BY question_id
"""


class ArmsSettings(JudgeSettings):
    """Which finished arms are looked at, and where they can be trained again."""

    experiment: str = ""
    """Beginning of an experiment's id; by default the newest."""
    arm: str = ""
    """Beginning of an arm's id; by default the full arms of the experiment."""
    tokens_at_once: int = Field(default=512, ge=1)
    """Distinct tokens of one training forward: as the arm was trained."""
    gradient_checkpointing: bool = False
    """Compute activations again in the backward pass."""
    model: str | None = None
    """Where the sampled model lies now, if it is not where it was."""
    device: str = "auto"


@dataclass(frozen=True, slots=True)
class FinishedArms:
    """Runs of one experiment that differ in their seeds.

    Attributes:
        experiment_id: what they belong to.
        arms: as they were trained.
        seconds: that each took, evaluations apart.
        experiment: as it was set up.
        settings: that train like them.
    """

    experiment_id: str
    arms: tuple[Arm, ...]
    seconds: tuple[float, ...]
    experiment: Experiment
    settings: AblateSettings

    @property
    def arm_ids(self) -> list[str]:
        """Return the identities of the runs."""
        return [arm.arm_id for arm in self.arms]

    @property
    def questions(self) -> Sequence[Question]:
        """Return what they are trained on."""
        return self.arms[0].questions


def find_arms(store: Store, asked: ArmsSettings) -> FinishedArms:
    """Return the arm that is asked for, or an experiment's full arms. Only inside `store.writing`.

    Raises:
        DataError: there is no such run, several ids begin so, or it would be another now.
    """
    prefix, experiment_id = asked.arm, asked.experiment
    rows = store.read(_ARMS, prefix=prefix, experiment=experiment_id)
    if rows.is_empty():
        named = f"no finished arm whose id begins with '{prefix}'" if prefix else "no full arm"
        of = f" of an experiment whose id begins with '{experiment_id}'" if experiment_id else ""
        command = suggest("ablate --subset never-correct", store.path)
        raise DataError(f"{store.path} holds {named}{of}. Type: {command}")
    if prefix and rows["arm_id"].n_unique() > 1:
        listed = ", ".join(sorted(set(rows["arm_id"])))
        raise DataError(f"--arm {prefix} begins the ids of several arms: {listed}.")
    first = rows.row(0, named=True)
    mine = rows.filter(rows["experiment_id"] == first["experiment_id"]).unique(
        "arm_id", keep="first", maintain_order=True
    )
    newest = store.read(_NEWEST).item()
    if not prefix and not experiment_id and newest != first["experiment_id"]:
        say(
            f"Warning: the newest experiment, {newest}, has no finished full arm; these are of "
            f"{first['experiment_id']}."
        )
    params = json.loads(first["params"])
    _refuse_other_versions(params)
    held_out = store.read(_HELD_OUT, arm_id=first["arm_id"], bucketing_id=first["bucketing_id"])[
        "question_id"
    ]
    listed = ", ".join(f"'{name}'" for name in held_out)
    settings = AblateSettings(
        **{name: params[name] for name in TrainSettings.model_fields},
        **asked.model_dump(include={*JudgeSettings.model_fields, *ArmClusterSettings.model_fields}),
        bucketing=first["bucketing_id"],
        reward_grader=params["reward_grader"].split("-", 1)[0],
        eval_grader=params["grader"].split("-", 1)[0],
        eval_where=f"question_id IN ({listed})",
        eval_limit=None,
        eval_training=False,
        eval_samples=0,
        evaluate_at=(1.0,),
        trl_vllm=Vllm.COLOCATE if params.get("with_vllm") else Vllm.NONE,
        tokens_at_once=asked.tokens_at_once,
        gradient_checkpointing=asked.gradient_checkpointing,
        model=asked.model,
        device=asked.device,
    )
    experiment = set_up(store, settings)
    _refuse_other_settings(params, experiment)
    return FinishedArms(
        first["experiment_id"],
        _read_arms(store, mine.rows(named=True), experiment),
        tuple(mine["wall_seconds"]),
        experiment,
        settings,
    )


def _refuse_other_versions(params: dict[str, object]) -> None:
    """Refuse a run of a version whose training was another one."""
    known = TrainSettings.model_fields
    version = known["trainer_version"].default
    if known.keys() - params.keys() or params["trainer_version"] != version:
        raise DataError(
            "The arm was trained by a version of attrib that trained otherwise. Train it again: "
            "attrib ablate"
        )


def _refuse_other_settings(params: dict[str, object], experiment: Experiment) -> None:
    """Refuse a run that the same settings would now make otherwise."""
    now = json.loads(json.dumps(experiment.train_params))
    ignored = ("evaluation", "evaluate_at", "learned_from")  # these change nothing of the weights
    changed = differing_keys(
        {key: value for key, value in params.items() if key not in ignored},
        {key: value for key, value in now.items() if key not in ignored},
    )
    if changed:
        raise DataError(
            f"The arm would be trained otherwise today ({'; '.join(changed)}). Train it again: "
            "attrib ablate"
        )


def _read_arms(
    store: Store, rows: Sequence[dict[str, object]], experiment: Experiment
) -> tuple[Arm, ...]:
    """Return the arms with their questions in the order of the buckets."""
    everything = experiment.bucketing.training_questions
    found = store.read(_TRAINED_ON, arm_ids=[row["arm_id"] for row in rows])
    arms = []
    for row in rows:
        own = set(found.filter(found["arm_id"] == row["arm_id"])["question_id"])
        arm = Arm(
            str(row["subset"]),
            Role(str(row["role"])),
            tuple(question for question in everything if question.question_id in own),
            json.loads(str(row["params"])),
            int(str(row["seed"])),
        )
        if arm.arm_id != row["arm_id"]:
            raise DataError(
                f"The questions of the arm {row['arm_id']} are no longer those of its bucketing. "
                "Train it again: attrib ablate"
            )
        arms.append(arm)
    return tuple(arms)
