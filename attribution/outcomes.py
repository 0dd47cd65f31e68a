"""Outcomes: what every arm got right, by seed, question and fraction of the budget.

Owns the query behind the effects and how its rows become arrays. A question that the grader could
not grade for some arm is left out for all. Runs that failed, or have not ended, take no part.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import polars as pl
from numpy.typing import NDArray

from attrib.roles import Role
from attrib.store import Store

_EVALUATED = """
    SELECT DISTINCT role.role, role.subset, role.arm_id, run.seed, run.status,
           milestone.fraction, evaluation.step, evaluation.decoding, evaluation.rollout,
           evaluation.question_id, evaluation.verdict,
           CASE WHEN question.split = 'train' THEN 'train:' || bucket.bucket
                WHEN sampled.dataset IS NOT NULL THEN 'held-out'
                ELSE question.dataset END AS evaluated_on
    FROM arm_roles AS role
    JOIN experiments AS experiment USING (experiment_id)
    JOIN training_runs AS run USING (arm_id)
    JOIN evaluations AS evaluation USING (arm_id)
    JOIN questions AS question USING (question_id)
    LEFT JOIN milestones AS milestone
      ON milestone.arm_id = role.arm_id AND milestone.step = evaluation.step
    LEFT JOIN buckets AS bucket
      ON bucket.bucketing_id = experiment.bucketing_id AND bucket.question_id = question.question_id
    LEFT JOIN (SELECT DISTINCT experiment.experiment_id, question.dataset
               FROM experiments AS experiment
               JOIN buckets USING (bucketing_id) JOIN questions AS question USING (question_id)
              ) AS sampled
      ON sampled.experiment_id = role.experiment_id AND sampled.dataset = question.dataset
    WHERE role.experiment_id = $experiment_id AND run.status IN ('done', 'exhausted')
    ORDER BY role.role, role.subset, run.seed, evaluation.step, evaluation.question_id
"""

Outcomes = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Place:
    """An arm's place in the experiment."""

    role: Role
    subset: str


@dataclass(slots=True)
class Evaluated:
    """Outcomes of one arm, each (S, Q), its seeds ascending.

    `planned` holds those at fractions of the budget that all runs reached, `final` those at the end
    of each run, wherever that was; `reached` is the mean fraction of the latter.
    """

    seeds: tuple[int, ...]
    planned: dict[float, Outcomes] = field(default_factory=dict)
    final: Outcomes | None = None
    reached: float = 1.0


Arms = Mapping[Place, Evaluated]


def read_evaluations(store: Store, experiment_id: str) -> pl.DataFrame:
    """Return every evaluation of the experiment's finished runs, with where it was asked."""
    return store.read(_EVALUATED, experiment_id=experiment_id)


def planned_fractions(store: Store, experiment_id: str) -> frozenset[float]:
    """Return the fractions of the budget at which the arms were to be evaluated, the end included.

    An arm that ran out has an evaluation where it ended too: that is no place to compare it at.
    """
    rows = store.read("SELECT params FROM experiments WHERE experiment_id = $id", id=experiment_id)
    planned = json.loads(rows.item()).get("evaluate_at", []) if len(rows) else []
    return frozenset({*map(float, planned), 1.0})


def arrange(
    frame: pl.DataFrame, planned: frozenset[float] = frozenset({1.0})
) -> dict[Place, Evaluated]:
    """Return each arm's outcomes on the questions gradable wherever they were asked.

    A run without any verdict takes no part, as if it had failed.
    """
    gradable = pl.col("verdict").is_in(["correct", "incorrect"])
    frame = frame.filter(gradable.any().over("role", "subset", "seed"))
    wanted = frame.group_by("question_id").agg(gradable.all()).filter("verdict")["question_id"]
    kept = frame.filter(pl.col("question_id").is_in(wanted.implode()))
    arms: dict[Place, Evaluated] = {}
    for (role, subset), rows in kept.group_by(["role", "subset"], maintain_order=True):
        runs = {
            int(seed): _read_run(part)
            for (seed,), part in rows.group_by(["seed"], maintain_order=True)
        }
        arm = arms[Place(Role(str(role)), str(subset))] = Evaluated(tuple(sorted(runs)))
        ordered = [runs[seed] for seed in arm.seeds]
        for fraction in sorted(planned.intersection(*(set(run) for run in ordered))):
            arm.planned[fraction] = np.stack([run[fraction] for run in ordered])
        last = [max(run) for run in ordered]
        arm.final = np.stack([run[at] for run, at in zip(ordered, last, strict=True)])
        arm.reached = float(np.mean(last))
    return arms


def _read_run(rows: pl.DataFrame) -> dict[float, Outcomes]:
    """Return a run's outcomes by fraction of the budget, questions in the order of their ids."""
    run = {}
    for (_, fraction), part in rows.group_by(["step", "fraction"], maintain_order=True):
        once = part.unique("question_id").sort("question_id")
        run[float(fraction or 0.0)] = (once["verdict"] == "correct").to_numpy()
    return run


def base_of(arms: Arms) -> Outcomes | None:
    """Return the outcomes of the base, shape (Q,); None if it was not asked these questions."""
    base = next((arm for place, arm in arms.items() if place.role is Role.BASE), None)
    return None if base is None or base.final is None else base.final[0]


def full_of(arms: Arms) -> Evaluated | None:
    """Return the arm trained on everything."""
    return next((arm for place, arm in arms.items() if place.role is Role.FULL), None)


def compared_at(arm: Mapping[float, object], full: Mapping[float, object]) -> float | None:
    """Return the largest fraction that both have, None without one."""
    return max(arm.keys() & full.keys(), default=None)
