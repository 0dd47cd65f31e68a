"""Read an experiment whole: its arms, what training left behind, and its siblings.

Siblings are the other experiments on the same buckets: other budgets, fillings or methods. Only
reads.
"""

import polars as pl

from attrib.reports.collect_arms import HELD_OUT, collect_trained
from attrib.reports.collect_changes import (
    collect_bucket_transitions,
    collect_mass_moves,
    collect_masses,
    collect_transitions,
)
from attrib.reports.collect_ledger import collect_curves, collect_ledger
from attrib.reports.records_arms import Trained
from attrib.reports.records_training import Experiment, Ungraded
from attrib.roles import Role
from attrib.store import Store

UNGRADED = """
SELECT DISTINCT role, subset, question_id
FROM arm_roles JOIN experiments USING (experiment_id) JOIN training_runs USING (arm_id)
JOIN evaluations USING (arm_id) JOIN questions USING (question_id)
WHERE experiment_id = $experiment_id AND status IN ('done', 'exhausted')
  AND decoding = 'greedy' AND split = 'held-out' AND verdict NOT IN ('correct', 'incorrect')
  AND dataset IN (SELECT DISTINCT dataset FROM buckets JOIN questions USING (question_id)
                  WHERE buckets.bucketing_id = experiments.bucketing_id)
ORDER BY ALL
"""
DRAWN = (Role.FULL, Role.ONLY, Role.ALL_BUT)  # whose training is drawn; the ledger has all


def collect_experiment(store: Store, experiment_id: str, bucketing_id: str) -> Experiment:
    """Return what one experiment left behind, and the arms of its siblings.

    Raises:
        StoreError: the study cannot be read.
    """
    everything = collect_trained(store, bucketing_id)
    trained = next(one for one in everything if one.experiment_id == experiment_id)
    arms, base = trained.arms, trained.base
    return Experiment(
        experiment_id=trained.experiment_id,
        settings=trained.settings,
        created_at=trained.created_at,
        base=base,
        arms=arms,
        coalitions=trained.coalitions,
        ledger=collect_ledger(store, arms, bucketing_id),
        curves=collect_curves(store, [arm for arm in arms if arm.role in DRAWN]),
        transitions=collect_transitions(store, arms, base, bucketing_id, HELD_OUT),
        training_transitions=collect_transitions(store, arms, base, bucketing_id, "train"),
        bucket_transitions=collect_bucket_transitions(store, arms, base, bucketing_id),
        masses=collect_masses(store, arms, base),
        mass_moves=collect_mass_moves(store, arms, base),
        siblings=tuple(one for one in everything if one is not trained),
        ungraded=_collect_ungraded(store, trained),
    )


def _collect_ungraded(store: Store, trained: Trained) -> tuple[Ungraded, ...]:
    rows = store.read(UNGRADED, experiment_id=trained.experiment_id)
    base = [trained.base] if trained.base else []
    arms = [*base, *trained.arms, *trained.coalitions]
    left_out = rows["question_id"].n_unique()
    found = []
    for arm in arms:
        mine = rows.filter((pl.col("role") == arm.role) & (pl.col("subset") == arm.subset))
        if len(mine):
            found.append(Ungraded(arm.label, mine["question_id"].n_unique(), left_out))
    return tuple(found)
