"""Read experiments: runs, effects, accuracies and milestones of all of them in few queries.

Owns the queries; `collect_arms` makes arms of what they give. Only reads.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import polars as pl

from attrib.reports.settings import find_setting, read_settings
from attrib.reports.text import moment
from attrib.reports.values import Estimate, Setting
from attrib.store import Store

EXPERIMENTS = """
SELECT experiment_id, params, epoch_us(created_at) AS created_at FROM experiments
WHERE bucketing_id = $bucketing_id ORDER BY used_at DESC, experiment_id
"""
RUNS = """
WITH spent AS (
    SELECT arm_id, sum(informative_groups)::BIGINT AS informative_groups,
           sum(gradient_tokens)::BIGINT AS gradient_tokens
    FROM updates GROUP BY arm_id
), made AS (
    SELECT arm_id, count(*) AS visits FROM visits GROUP BY arm_id
)
SELECT experiment_id, role, subset, arm_id, method, seed, training_runs.params, status, detail,
       questions, updates, rollouts, wall_seconds, visits,
       if(visits > 0, coalesce(informative_groups, 0), informative_groups) AS informative_groups,
       if(visits > 0, coalesce(gradient_tokens, 0), gradient_tokens) AS gradient_tokens
FROM arm_roles JOIN experiments USING (experiment_id) LEFT JOIN training_runs USING (arm_id)
LEFT JOIN spent USING (arm_id) LEFT JOIN made USING (arm_id)
WHERE bucketing_id = $bucketing_id ORDER BY experiment_id, role, subset, seed, arm_id
"""
EFFECTS = """
SELECT experiment_id, role, subset, statistic, evaluated_on,
       value, low, high, seeds, questions, fraction, detail
FROM effects JOIN experiments USING (experiment_id)
WHERE bucketing_id = $bucketing_id ORDER BY ALL
"""
ACCURACIES = """
SELECT arm_id, fraction, sum(graded)::BIGINT AS graded, sum(correct)::BIGINT AS correct
FROM accuracies
WHERE split = 'held-out' AND decoding = 'greedy' AND fraction IS NOT NULL
  AND dataset IN (SELECT DISTINCT dataset FROM buckets JOIN questions USING (question_id)
                  WHERE bucketing_id = $bucketing_id)
GROUP BY arm_id, fraction ORDER BY arm_id, fraction
"""
MILESTONES = """
SELECT arm_id, fraction, step AS updates, rollouts, informative_groups, gradient_tokens
FROM milestones ORDER BY arm_id, fraction
"""

Place = tuple[str, str]  # role and subset
Effects = dict[tuple[str, str], dict[float, Estimate]]  # statistic and questions, then fraction


@dataclass(frozen=True, slots=True)
class Material:
    """What the queries gave for one experiment; runs are known by their ids in all of them."""

    experiment_id: str
    settings: tuple[Setting, ...]
    created_at: str
    runs: Mapping[Place, list[dict[str, object]]]
    effects: Mapping[Place, Effects]
    accuracies: Mapping[str, Mapping[float, tuple[int, int]]]
    milestones: pl.DataFrame
    planned: frozenset[float] | None
    """Fractions of the budget at which arms were to be evaluated, None where not recorded."""


def read_material(store: Store, bucketing_id: str) -> list[Material]:
    """Return what is known of every experiment on these buckets, the newest first.

    Raises:
        StoreError: the study cannot be read.
    """
    experiments = store.read(EXPERIMENTS, bucketing_id=bucketing_id)
    runs = _group_runs(store.read(RUNS, bucketing_id=bucketing_id))
    effects = _group_effects(store.read(EFFECTS, bucketing_id=bucketing_id))
    accuracies = _group_accuracies(store.read(ACCURACIES, bucketing_id=bucketing_id))
    milestones = store.read(MILESTONES)
    found = []
    for experiment_id, params, created_at in experiments.iter_rows():
        settings = read_settings(params)
        found.append(
            Material(
                experiment_id=experiment_id,
                settings=settings,
                created_at=moment(created_at),
                runs=runs.get(experiment_id, {}),
                effects=effects.get(experiment_id, {}),
                accuracies=accuracies,
                milestones=milestones,
                planned=_planned_fractions(settings),
            )
        )
    return found


def _group_runs(frame: pl.DataFrame) -> dict[str, dict[Place, list[dict[str, object]]]]:
    """Return rows of runs by experiment and place; a place that has not begun has none."""
    grouped: dict[str, dict[Place, list[dict[str, object]]]] = {}
    for row in frame.iter_rows(named=True):
        places = grouped.setdefault(row.pop("experiment_id"), {})
        found = places.setdefault((row.pop("role"), row.pop("subset")), [])
        if row["status"] is not None:
            found.append(row)
    return grouped


def _group_effects(frame: pl.DataFrame) -> dict[str, dict[Place, Effects]]:
    grouped: dict[str, dict[Place, Effects]] = {}
    for experiment_id, role, subset, statistic, on, *numbers in frame.iter_rows():
        estimate = Estimate(*numbers)
        effects = grouped.setdefault(experiment_id, {}).setdefault((role, subset), {})
        effects.setdefault((statistic, on), {})[estimate.fraction] = estimate
    return grouped


def _group_accuracies(frame: pl.DataFrame) -> dict[str, dict[float, tuple[int, int]]]:
    """Return how many of how many answers are correct, by run and fraction."""
    grouped: dict[str, dict[float, tuple[int, int]]] = {}
    for arm_id, fraction, graded, correct in frame.iter_rows():
        grouped.setdefault(arm_id, {})[fraction] = (correct, graded)
    return grouped


def _planned_fractions(settings: Iterable[Setting]) -> frozenset[float] | None:
    evaluate_at = find_setting(settings, "evaluate_at")
    return None if evaluate_at is None else frozenset({*json.loads(evaluate_at), 1.0})
