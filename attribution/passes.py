"""Sampling more against training: pass@k of the base and of every run, on held-out questions.

Owns the pairing of both models' sampled answers by question. A run is one trained model, so that
seeds are compared one by one; intervals are over questions.
"""

from dataclasses import dataclass

import numpy as np
import polars as pl

from attrib.analysis.passk_compare import PairedCounts
from attrib.analysis.passk_crossing import Crossing, find_crossing
from attrib.analysis.passk_equivalent import EquivalentAttempts, equivalent_attempts
from attrib.roles import Role
from attrib.store import Store

_SAMPLED = """
    SELECT role.role, role.subset, run.seed, evaluation.question_id,
           count(*) FILTER (evaluation.verdict IN ('correct', 'incorrect')) AS n,
           count(*) FILTER (evaluation.verdict = 'correct') AS correct
    FROM arm_roles AS role
    JOIN training_runs AS run USING (arm_id)
    JOIN evaluations AS evaluation USING (arm_id)
    JOIN questions AS question USING (question_id)
    WHERE role.experiment_id = $experiment_id AND evaluation.decoding = 'sample'
      AND run.status IN ('done', 'exhausted') AND question.split = 'held-out'
      AND question.dataset IN (
          SELECT DISTINCT dataset FROM experiments JOIN buckets USING (bucketing_id)
          JOIN questions USING (question_id) WHERE experiment_id = $experiment_id)
    GROUP BY ALL HAVING n > 0
    ORDER BY role.role, role.subset, run.seed, evaluation.question_id
"""


@dataclass(frozen=True, slots=True)
class RunPasses:
    """One run's pass@k against the base's."""

    role: Role
    subset: str
    seed: int
    crossing: Crossing
    """Where the curves cross, with the differences at every k."""
    equivalent: EquivalentAttempts
    """How many attempts of the base solve as much as one of the run."""


def compare_passes(store: Store, experiment_id: str) -> list[RunPasses]:
    """Return every run with sampled answers, full arm first; none if the base has no samples."""
    rows = store.read(_SAMPLED, experiment_id=experiment_id)
    is_base = pl.col("role") == Role.BASE
    base = rows.filter(is_base).unique("question_id").select("question_id", "n", "correct")
    order = {str(role): place for place, role in enumerate(Role)}
    found = []
    for (role, subset, seed), run in rows.filter(~is_base).group_by(
        ["role", "subset", "seed"], maintain_order=True
    ):
        both = base.join(run, on="question_id", suffix="_after").sort("question_id")
        if both.is_empty():
            continue
        counts = PairedCounts(
            *(both[name].to_numpy() for name in ("n", "correct", "n_after", "correct_after"))
        )
        most = int(min(both["n"].min(), both["n_after"].min()))  # type: ignore[type-var, arg-type]
        k_K = np.unique([*(2**i for i in range(most.bit_length())), most])
        found.append(
            RunPasses(
                Role(str(role)),
                str(subset),
                int(str(seed)),
                find_crossing(counts, k_K, np.random.default_rng(0)),
                equivalent_attempts(counts, np.random.default_rng(0)),
            )
        )
    return sorted(found, key=lambda one: (order[one.role], one.subset, one.seed))
