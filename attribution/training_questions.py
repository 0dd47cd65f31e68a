"""What became of the training questions: how the full arm's gain on them hangs on the cut.

Never-correct is c = 0 of n. An arm trained on these cannot be had at another cut without training
another one (`attrib ablate --subset-where`), so the share that it is given of the *held-out* gain
has no curve over cuts. Owned here is what stored runs do tell of other cuts c ≤ t, all of the full
arm alone:

* `cut_gain_share`: of its gain on the questions it was trained on, the share that falls to those
  with c ≤ t. That says where the gain shows, not which questions caused it: training on one teaches
  others too. Beside it, on held-out questions, the same by c of the base's samples of them.
* `cut_gradient_share`: of the weight in its gradients (the ledger's), the share that came from
  questions with c ≤ t: where it learned from.
* `cut_rewarded`: how many questions with c ≤ t got a right rollout at all while it was trained.

Greedy answers to the training questions are asked for before training and at the end of runs, so
these are of the end. The vote among the rollouts before training is compared with the same answers,
by bucket.
"""

from collections.abc import Iterator, Mapping

import numpy as np
import polars as pl

from attrib.analysis.checks import BoolArray, FloatArray, IntArray
from attrib.analysis.seeds import ShareOverSeeds
from attrib.analysis.values import part_share_over_seeds
from attrib.attribution.ballots import count_drawn
from attrib.attribution.effect import HELD_OUT, Effect, make_effect, rate_interval
from attrib.attribution.outcomes import Arms, Outcomes, Place, arrange, base_of
from attrib.attribution.votes import compare_votes, describe_votes, hold_vote
from attrib.roles import Role
from attrib.store import Store

CUTS = (0, 1, 2, 4, 8, 16, 32, 64)
TRAINING = "train"

_COUNTS = """
    SELECT question_id, correct, bucket, n
    FROM experiments JOIN buckets USING (bucketing_id)
    WHERE experiment_id = $experiment_id ORDER BY question_id
"""
_SAMPLED = """
    SELECT question_id, n, correct FROM (
        SELECT evaluation.question_id,
               count(*) FILTER (evaluation.verdict IN ('correct', 'incorrect')) AS n,
               count(*) FILTER (evaluation.verdict = 'correct') AS correct
        FROM arm_roles AS role JOIN evaluations AS evaluation USING (arm_id)
        WHERE role.experiment_id = $experiment_id AND role.role = 'base'
          AND evaluation.decoding = 'sample' AND list_contains($question_ids, question_id)
        GROUP BY evaluation.question_id)
    WHERE n > 0 ORDER BY question_id
"""
_LEDGER = """
    SELECT run.seed, visit.question_id, sum(visit.gradient_weight ORDER BY visit) AS weight,
           bool_or(visit.correct > 0) AS rewarded
    FROM arm_roles AS role JOIN training_runs AS run USING (arm_id)
    JOIN visits AS visit USING (arm_id)
    WHERE role.experiment_id = $experiment_id AND role.role = 'full' AND run.method = 'grpo'
      AND run.status IN ('done', 'exhausted')
    GROUP BY ALL ORDER BY ALL
"""


def describe_training_questions(
    store: Store, experiment_id: str, greedy: pl.DataFrame
) -> list[Effect]:
    """Return the curves over cuts, and the vote before training against each arm's answers.

    Args:
        store: the study.
        experiment_id: the experiment, evaluated.
        greedy: rows of `read_evaluations` with greedy answers.
    """
    effects = list(_describe_signal(store, experiment_id))
    mine, arms = _answers(greedy, pl.col("evaluated_on").str.starts_with(f"{TRAINING}:"))
    counts = store.read(_COUNTS, experiment_id=experiment_id)
    counts = counts.join(mine, on="question_id").sort("question_id")
    before_Q = base_of(arms)
    if before_Q is None or counts.is_empty():
        return effects
    most = int(counts["n"].min())  # type: ignore[arg-type]
    effects += _share_gain(arms, counts["correct"].to_numpy(), most, TRAINING)
    ids = counts["question_id"].to_list()
    votes = hold_vote(count_drawn(store, experiment_id, ids), ids)
    if votes is None:
        return effects
    bucket_Q = counts["bucket"].to_numpy()
    groups = {TRAINING: np.ones(len(ids), np.bool_)}
    groups |= {f"{TRAINING}:{one}": bucket_Q == one for one in counts["bucket"].unique().sort()}
    for place, arm in arms.items():
        if place.role is Role.BASE:
            effects += describe_votes(votes, place, groups)
        elif arm.final is not None:
            effects += compare_votes(votes, place, arm.reached, arm.final, groups)
    return effects


def describe_held_out_cuts(store: Store, experiment_id: str, greedy: pl.DataFrame) -> list[Effect]:
    """Return the full arm's held-out gain by how often the base's samples were right.

    Args:
        store: the study.
        experiment_id: the experiment, evaluated.
        greedy: rows of `read_evaluations` with greedy answers.
    """
    held_out = greedy.filter(pl.col("evaluated_on") == HELD_OUT)
    ids = held_out["question_id"].unique().to_list()
    counts = store.read(_SAMPLED, experiment_id=experiment_id, question_ids=ids)
    if counts.is_empty():
        return []
    most = int(counts["n"].max())  # type: ignore[arg-type]
    counts = counts.filter(pl.col("n") == most)
    asked = pl.col("question_id").is_in(counts["question_id"].implode())
    mine, arms = _answers(held_out, asked)
    correct_Q = counts.join(mine, on="question_id").sort("question_id")["correct"].to_numpy()
    return list(_share_gain(arms, correct_Q, most, HELD_OUT)) if correct_Q.size else []


def _answers(greedy: pl.DataFrame, where: pl.Expr) -> tuple[pl.DataFrame, Arms]:
    """Return the questions, in order, that could be graded for all arms, and what these said."""
    mine = greedy.filter(where)
    graded = pl.col("verdict").is_in(["correct", "incorrect"])
    wanted = mine.group_by("question_id").agg(graded.all()).filter("verdict")
    return wanted.select("question_id").sort("question_id"), arrange(mine)


def _share_gain(arms: Arms, correct_Q: IntArray, most: int, on: str) -> Iterator[Effect]:
    """Yield the share of the full arm's gain that falls to questions under each cut."""
    before_Q = base_of(arms)
    for place, arm in arms.items():
        if place.role is Role.FULL and arm.final is not None and before_Q is not None:
            change_SQ = arm.final.astype(np.float64) - before_Q
            for cut, member_Q in _members(correct_Q, most).items():
                share = part_share_over_seeds(change_SQ, member_Q)
                size = (len(change_SQ), int(member_Q.sum()))
                yield _share(place, "cut_gain_share", f"{on}:cut={cut}", arm.reached, share, size)


def _describe_signal(store: Store, experiment_id: str) -> Iterator[Effect]:
    """Yield where the full arm's gradients came from, and which questions were ever rewarded."""
    counts = store.read(_COUNTS, experiment_id=experiment_id)
    ledger = store.read(_LEDGER, experiment_id=experiment_id)
    if counts.is_empty() or ledger.is_empty():
        return
    runs = [
        counts.join(run, on="question_id", how="left", maintain_order="left").with_columns(
            pl.col("weight").fill_null(0.0), pl.col("rewarded").fill_null(False)
        )
        for _, run in ledger.group_by("seed", maintain_order=True)
    ]
    weight_SQ: FloatArray = np.stack([run["weight"].to_numpy() for run in runs])
    rewarded_SQ: Outcomes = np.stack([run["rewarded"].to_numpy() for run in runs])
    place, typical = Place(Role.FULL, "full"), float(weight_SQ.mean())
    most = int(counts["n"].min())  # type: ignore[arg-type]
    for cut, member_Q in _members(counts["correct"].to_numpy(), most).items():
        on, size = f"{TRAINING}:cut={cut}", (len(runs), int(member_Q.sum()))
        if typical > 0.0:
            share = part_share_over_seeds(weight_SQ, member_Q, typical)
            yield _share(place, "cut_gradient_share", on, 1.0, share, size)
        rate = rate_interval(rewarded_SQ[:, member_Q])
        yield make_effect(place, "cut_rewarded", on, 1.0, rate, *size)


def _members(correct_Q: IntArray, most: int) -> Mapping[int, BoolArray]:
    """Return which questions are under each cut, of cuts below `most` that hold some, not all."""
    members = {cut: correct_Q <= cut for cut in CUTS if cut < most}
    return {cut: member_Q for cut, member_Q in members.items() if 0 < member_Q.mean() < 1}


def _share(
    place: Place, statistic: str, on: str, at: float, share: ShareOverSeeds, size: tuple[int, int]
) -> Effect:
    ends = (share.value, share.low, share.high, *size, share.reason)
    return Effect(place.subset, place.role, statistic, on, at, *ends)
