"""What `attrib analyze` finds: who is in which bucket, and what kind of change training made."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import polars as pl

from attrib.analysis.buckets import Bucket, Cuts, assign_buckets
from attrib.analysis.intervals import exact_interval
from attrib.analysis.membership import fresh_bucket_probabilities, rate_posterior
from attrib.analysis.mixture import (
    MixtureRow,
    NeverCorrectRow,
    never_correct_at,
    never_correct_mixture,
)
from attrib.analysis.prior import Prior, PriorFit, fit_prior
from attrib.analysis.prior_check import PriorCheck, check_prior
from attrib.analysis.stability import (
    CutRow,
    SplitHalf,
    StabilityRow,
    fresh_stability,
    move_never_correct_cut,
    split_half,
)
from attrib.attribution.passes import RunPasses, compare_passes
from attrib.errors import DataError
from attrib.roles import Role
from attrib.settings import suggest
from attrib.store import Store

KINDS = ("before", "reach", "relation", "popularity")
ANSWERS = (
    *("one_answer", "accuracy_of_one_answer", "several_answers", "no_answer", "cut_off"),
    *("top_answer_share", "answer_entropy", "brier", "overconfidence", "calibration_error"),
)
LENGTHS = ("answer_tokens", "answer_characters")
MASSES = ("mass_of_answers", "mass_of_phrasings", "mass_of_samples")
CHANGED = ("one_answer", "several_answers", "no_answer", "cut_off", *LENGTHS, *MASSES)
"""What there is a change of, paired on questions, in the statistic `…_change`."""
CUTS = ("cut_gain_share", "cut_gradient_share", "cut_rewarded")
VOTES = "gain_over_majority"
OTHER_N = (16, 32, 64, 128, 256, 512, 1024, 4096)

_BUCKETING = """
    SELECT bucketing_id, k, cuts FROM bucketings WHERE starts_with(bucketing_id, $prefix)
    ORDER BY used_at DESC, bucketing_id LIMIT 1
"""
_EXPERIMENT = """
    SELECT experiment_id, bucketing_id FROM experiments WHERE starts_with(experiment_id, $prefix)
    ORDER BY used_at DESC, experiment_id LIMIT 1
"""
_EFFECTS = """
    SELECT role, subset, evaluated_on, statistic, fraction, value, low, high, seeds, questions,
           detail
    FROM effects
    WHERE experiment_id = $experiment_id
      AND (list_contains($statistics, statistic)
           OR starts_with(statistic, 'maj@')
           OR starts_with(evaluated_on, 'held-out:'))
"""


@dataclass(frozen=True, slots=True)
class CountRow:
    """What c right of n rollouts says about each of the questions that have it.

    `low` and `high` are exact bounds of p, without a prior; `mean`, `posterior_low` and
    `posterior_high` are its posterior under the fitted prior, and `stays` the chance that a fresh
    draw puts the question in the same bucket.
    """

    bucket: Bucket
    correct: int
    n: int
    questions: int
    low: float
    high: float
    mean: float
    posterior_low: float
    posterior_high: float
    stays: float


@dataclass(frozen=True, slots=True)
class Membership:
    """Who is in which bucket, really: what c of n says about each question's p."""

    bucketing_id: str
    questions: int
    n: int
    prior: Prior
    check: PriorCheck
    mixture: Sequence[MixtureRow]
    other_n: Sequence[NeverCorrectRow]
    halves: SplitHalf
    stability: Sequence[StabilityRow]
    cuts: Sequence[CutRow]
    counts: Sequence[CountRow]
    """The observed numbers of right rollouts, ascending."""


@dataclass(frozen=True, slots=True)
class Analysis:
    """Everything found; what there is no data for is None or empty."""

    membership: Membership | None
    why_no_membership: str
    experiment_id: str | None
    effects: pl.DataFrame
    """Rows of the table `effects`, arms in their order: parts of gains, what answers look like and
    how that changed, votes before training, and what hangs on the cut of never-correct."""
    passes: Sequence[RunPasses]


def analyze(store: Store, experiment: str = "", bucketing: str = "") -> Analysis:
    """Return what the newest experiment and its bucketing, or those named, show.

    Args:
        store: the study.
        experiment: beginning of the experiment's id.
        bucketing: beginning of the bucketing's id; by default that of the experiment.

    Raises:
        DataError: nothing is bucketed, or nothing has such an id.
    """
    found = store.read(_EXPERIMENT, prefix=experiment)
    if experiment and found.is_empty():
        raise DataError(f"{store.path} holds no experiment whose id begins with '{experiment}'.")
    experiment_id = None if found.is_empty() else str(found["experiment_id"].item())
    prefix = bucketing or ("" if found.is_empty() else str(found["bucketing_id"].item()))
    rows = store.read(_BUCKETING, prefix=prefix)
    if rows.is_empty():
        named = f" whose id begins with '{bucketing}'" if bucketing else ""
        raise DataError(
            f"{store.path} holds no bucketing{named}. Type: {suggest('bucket --k 128', store.path)}"
        )
    membership, reason = None, ""
    try:
        membership = _find_membership(store, *rows.row(0))
    except DataError as error:  # too few questions, or all alike
        reason = str(error)
    changed = [f"{name}_change" for name in CHANGED]
    statistics = [*ANSWERS, *LENGTHS, *MASSES, *changed, *CUTS, VOTES]
    effects = store.read(_EFFECTS, experiment_id=experiment_id or "", statistics=statistics)
    order = {str(role): place for place, role in enumerate(Role)}
    return Analysis(
        membership=membership,
        why_no_membership=reason,
        experiment_id=experiment_id,
        effects=effects.sort(
            pl.col("role").replace_strict(order, return_dtype=pl.Int64),
            "subset",
            "evaluated_on",
            "statistic",
            "fraction",
        ),
        passes=compare_passes(store, experiment_id) if experiment_id else [],
    )


def _find_membership(store: Store, bucketing_id: str, k: int, stored_cuts: str) -> Membership:
    counts = store.read(
        "SELECT n, correct FROM buckets WHERE bucketing_id = $bucketing_id ORDER BY question_id",
        bucketing_id=bucketing_id,
    )
    return _estimate_membership(
        bucketing_id, k, Cuts(**json.loads(stored_cuts)), tuple(counts.rows())
    )


@lru_cache(maxsize=1)  # seconds, and a study's run wants it for `analyze` and for `report`
def _estimate_membership(
    bucketing_id: str, k: int, cuts: Cuts, counts: tuple[tuple[int, int], ...]
) -> Membership:
    n_Q, correct_Q = np.array(counts, dtype=np.int64).reshape(-1, 2).T
    fit = fit_prior(n_Q, correct_Q)
    return Membership(
        bucketing_id=bucketing_id,
        questions=len(counts),
        n=k,
        prior=fit.prior,
        check=check_prior(fit, np.random.default_rng(0)),
        mixture=never_correct_mixture(fit),
        other_n=never_correct_at(fit, [n for n in OTHER_N if n != k]),
        halves=split_half(n_Q, correct_Q, cuts),
        stability=fresh_stability(fit, cuts),
        cuts=move_never_correct_cut(fit, [t for t in (0, 1, 2, 4, 8) if t < k]),
        counts=_describe_counts(fit, cuts),
    )


def _describe_counts(fit: PriorFit, cuts: Cuts) -> list[CountRow]:
    """Return one row for each distinct (n, c): questions that share it are interchangeable."""
    n_U, correct_U = fit.tally.n_U, fit.tally.correct_U
    exact = exact_interval(correct_U, n_U)
    posterior = rate_posterior(fit.prior, n_U, correct_U)
    again_U5 = fresh_bucket_probabilities(fit.prior, n_U, correct_U, cuts=cuts)
    names = [str(bucket) for bucket in Bucket]
    return [
        CountRow(
            bucket=Bucket(name),
            correct=int(correct_U[at]),
            n=int(n_U[at]),
            questions=int(fit.tally.questions_U[at]),
            low=float(exact.low_Q[at]),
            high=float(exact.high_Q[at]),
            mean=float(posterior.mean_Q[at]),
            posterior_low=float(posterior.low_Q[at]),
            posterior_high=float(posterior.high_Q[at]),
            stays=float(again_U5[at, names.index(name)]),
        )
        for at, name in enumerate(map(str, assign_buckets(n_U, correct_U, cuts)))
    ]
