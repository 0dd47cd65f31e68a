"""What kind of change a gain is: whose questions, from which answers, from how far away.

Owns the labels that held-out questions had before training, by which a gain is split, and what
answers look like before and after: whether they name one answer of the relation at all, and whether
the answers that a model gives most often are right as often.

A question's right answer was, before training, its greedy answer; else among the two most frequent
of the base's samples (`top 2`); else drawn at all, or of a probability of at least `LEAST_MASS`
(the `tail`); else `nowhere`. A gain from the middle two was *unlocked*; one from nowhere, as far as
those samples reach, *acquired*. With few samples more looks acquired than is.
"""

import math
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import astuple
from functools import cache

import numpy as np
import polars as pl

from attrib.analysis.calibration import calibrate
from attrib.analysis.intervals import Interval, mean_interval, ratio_interval
from attrib.analysis.parts import split_gain
from attrib.attribution.effect import HELD_OUT, Effect, make_effect, rate_interval
from attrib.attribution.outcomes import Place
from attrib.data.library import load_some
from attrib.roles import Role
from attrib.sampling.grading import Kind, kind_of
from attrib.sampling.voting import ballot
from attrib.store import Store

LEAST_MASS = 0.001
TOP = 2
LEAST_ENTROPY = 1e-9  # nats; where all samples of all questions agree

_ANSWERS = """
    SELECT role.role, role.subset, run.seed, milestone.fraction, evaluation.decoding,
           evaluation.question_id, evaluation.rollout, evaluation.text, evaluation.verdict,
           evaluation.detail, evaluation.eval_grader, question.relation, question.popularity,
           masses.mass_low
    FROM arm_roles AS role
    JOIN training_runs AS run USING (arm_id)
    JOIN evaluations AS evaluation USING (arm_id)
    JOIN milestones AS milestone
      ON milestone.arm_id = role.arm_id AND milestone.step = evaluation.step
    JOIN questions AS question USING (question_id)
    LEFT JOIN masses ON masses.arm_id = role.arm_id
     AND masses.question_id = evaluation.question_id
    WHERE role.experiment_id = $experiment_id AND run.status IN ('done', 'exhausted')
      AND evaluation.decoding IN ('greedy', 'sample') AND question.split = 'held-out'
      AND question.dataset IN (
          SELECT DISTINCT dataset FROM experiments JOIN buckets USING (bucketing_id)
          JOIN questions USING (question_id) WHERE experiment_id = $experiment_id)
    ORDER BY role.role, role.subset, run.seed, milestone.fraction, evaluation.question_id,
             evaluation.rollout
"""


def describe_changes(
    store: Store, experiment_id: str, compared: Mapping[Place, float]
) -> list[Effect]:
    """Return how each arm's gain splits, and what its answers look like.

    Args:
        store: the study.
        experiment_id: the experiment, evaluated.
        compared: the fraction of the budget at which each arm is compared.
    """
    frame = store.read(_ANSWERS, experiment_id=experiment_id)
    base = frame.filter(pl.col("role") == Role.BASE)
    if base.is_empty():
        return []
    greedy = frame.filter(pl.col("decoding") == "greedy")
    graded = pl.col("verdict").is_in(["correct", "incorrect"])
    wanted = greedy.group_by("question_id").agg(graded.all()).filter("verdict")["question_id"]
    greedy = greedy.filter(pl.col("question_id").is_in(wanted.implode()))
    first = greedy.filter(pl.col("role") == Role.BASE).unique("question_id").sort("question_id")
    if first.is_empty():
        return []
    sampled = _count_ballots(store, frame.filter(pl.col("decoding") == "sample"))
    labels = _label(first, sampled.filter(pl.col("role") == Role.BASE))
    before_Q = (first["verdict"] == "correct").to_numpy()
    effects = list(_describe_answers(Place(Role.BASE, str(first["subset"][0])), 0.0, [first]))
    for place, at in compared.items():
        rows = greedy.filter(
            (pl.col("role") == place.role)
            & (pl.col("subset") == place.subset)
            & (pl.col("fraction") == at)
        )
        runs = [
            run.unique("question_id").sort("question_id")
            for _, run in rows.group_by("seed", maintain_order=True)
        ]
        if not runs or any(len(run) != len(first) for run in runs):
            continue
        after_SQ = np.stack([(run["verdict"] == "correct").to_numpy() for run in runs])
        for kind, label_Q in labels.items():
            for part in split_gain(before_Q, after_SQ, label_Q):
                on = f"{HELD_OUT}:{kind}={part.label}"
                size = (len(runs), part.questions)
                yielded = {
                    "gain": part.within,
                    "gain_part": part.gain,
                    "learned_part": part.learned,
                    "lost_part": part.lost,
                }
                effects += [
                    make_effect(place, statistic, on, at, interval, *size)
                    for statistic, interval in yielded.items()
                ]
        effects += _describe_answers(place, at, runs)
    effects += _describe_confidence(sampled)
    return effects


def _label(base: pl.DataFrame, sampled: pl.DataFrame) -> dict[str, list[str]]:
    """Return each kind of label for the base's rows, one a question, that tells any apart."""
    kinds = [
        kind_of(verdict, detail, grader, relation) or Kind.WRONG
        for verdict, detail, grader, relation in base.select(
            "verdict", "detail", "eval_grader", "relation"
        ).iter_rows()
    ]
    labels = {
        "before": [str(kind) for kind in kinds],
        "relation": [relation or "none" for relation in base["relation"]],
        "popularity": _thirds(base["popularity"].to_list()),
    }
    if not sampled.is_empty() or base["mass_low"].null_count() < len(base):
        rank = dict(sampled.select("question_id", "rank_of_right").iter_rows())
        labels["reach"] = [
            _reach(verdict == "correct", rank.get(question_id), mass)
            for question_id, verdict, mass in base.select(
                "question_id", "verdict", "mass_low"
            ).iter_rows()
        ]
    return {kind: label_Q for kind, label_Q in labels.items() if len(set(label_Q)) > 1}


def _reach(is_greedy: bool, rank: int | None, mass: float | None) -> str:
    if is_greedy:
        return "greedy"
    if rank is not None and rank <= TOP:
        return f"top {TOP}"
    return "tail" if rank is not None or (mass or 0.0) >= LEAST_MASS else "nowhere"


def _thirds(popularity: list[int | None]) -> list[str]:
    """Return which third of the known popularities each is in, by its range."""
    known = sorted(value for value in popularity if value is not None)
    if len(set(known)) < 3:
        return ["unknown"] * len(popularity)
    cuts = [known[len(known) * third // 3 - 1] for third in (1, 2, 3)]
    names = [f"{rank} (up to {cut:,})" for rank, cut in zip("123", cuts, strict=True)]
    return [
        "unknown"
        if value is None
        else next(name for name, cut in zip(names, cuts, strict=True) if value <= cut)
        for value in popularity
    ]


def _describe_answers(place: Place, at: float, runs: list[pl.DataFrame]) -> Iterator[Effect]:
    """Yield how many greedy answers name one answer of the relation, several or none."""
    kind_SQ = np.array(
        [
            [
                kind_of(*row) or Kind.WRONG
                for row in run.select("verdict", "detail", "eval_grader", "relation").iter_rows()
            ]
            for run in runs
        ]
    )
    size = kind_SQ.shape
    one_SQ = np.isin(kind_SQ, [Kind.RIGHT, Kind.ANOTHER])
    rates = {
        "one_answer": one_SQ,
        "several_answers": kind_SQ == Kind.SEVERAL,
        "no_answer": kind_SQ == Kind.NOTHING,
        "cut_off": kind_SQ == Kind.CUT,
    }
    for name, flag_SQ in rates.items() if not (kind_SQ == Kind.WRONG).any() else ():
        yield make_effect(place, name, HELD_OUT, at, rate_interval(flag_SQ), *size)
        if name == "one_answer" and one_SQ.any():
            right_Q = (kind_SQ == Kind.RIGHT).sum(axis=0)
            given = ratio_interval(right_Q, one_SQ.sum(axis=0))
            yield make_effect(place, "accuracy_of_one_answer", HELD_OUT, at, given, *size)


def _count_ballots(store: Store, samples: pl.DataFrame) -> pl.DataFrame:
    """Return one row for each run and question: how its samples spread over answers.

    Samples give the same answer if the grader found the same one in them, else if they are spelled
    alike.

    `share` is of the most frequent answer and `is_right` whether that is right (ties count);
    `entropy` (nats) is of the sampled answers; `rank_of_right` is 1 where no answer is more
    frequent than the right one, null where that was not drawn.
    """
    ids = samples["question_id"].unique().sort().to_list()
    questions = {question.question_id: question for question in load_some(store, ids)}

    @cache  # the runs of an experiment say much the same
    def read(question_id: str, text: str) -> str:
        return ballot(questions[question_id], text)

    schema = {
        **{"role": pl.String, "subset": pl.String, "seed": pl.Int64, "fraction": pl.Float64},
        **{"question_id": pl.String, "share": pl.Float64, "is_right": pl.Boolean},
        **{"entropy": pl.Float64, "rank_of_right": pl.Int64},
    }
    rows = []
    key = ["role", "subset", "seed", "fraction", "question_id"]
    for place, part in samples.group_by(key, maintain_order=True):
        question = questions[str(place[-1])]
        counts: Counter[str] = Counter()
        for text, verdict, detail, grader in part.select(
            "text", "verdict", "detail", "eval_grader"
        ).iter_rows():
            kind = kind_of(verdict, detail, grader, question.relation)
            if kind is Kind.RIGHT:  # by whichever of its names
                counts[Kind.RIGHT] += 1
            elif kind is not None:
                counts[detail if kind is Kind.ANOTHER else read(question.question_id, text)] += 1
        if not counts:
            continue
        total, right = counts.total(), counts[Kind.RIGHT]
        others = [count for answer, count in counts.items() if answer != Kind.RIGHT]
        most = max(counts.values())
        rows.append(
            (
                *place,
                most / total,
                right == most,
                -sum(
                    count / total * math.log(count / total) for count in (right, *others) if count
                ),
                1 + sum(count > right for count in others) if right else None,
            )
        )
    return pl.DataFrame(rows, schema=schema, orient="row")


def _describe_confidence(sampled: pl.DataFrame) -> Iterator[Effect]:
    """Yield how often the most frequent sampled answer is given, and how often it is right then."""
    last = sampled.filter(
        pl.col("fraction") == pl.col("fraction").max().over("role", "subset", "seed")
    )
    for (role, subset), rows in last.group_by("role", "subset", maintain_order=True):
        runs = [run.sort("question_id") for _, run in rows.group_by("seed", maintain_order=True)]
        common = set.intersection(*(set(run["question_id"]) for run in runs))
        runs = [run.filter(pl.col("question_id").is_in(common)) for run in runs]
        if not common:
            continue
        place, at = Place(Role(str(role)), str(subset)), float(rows["fraction"].to_numpy().mean())
        share_SQ, entropy_SQ, right_SQ = (
            np.stack([run[name].to_numpy() for run in runs])
            for name in ("share", "entropy", "is_right")
        )
        size = share_SQ.shape
        entropy_Q, most = entropy_SQ.mean(axis=0), max(float(entropy_SQ.max()), LEAST_ENTROPY)
        entropy = mean_interval(entropy_Q / most)
        found = calibrate(share_SQ, right_SQ, np.random.default_rng(0))
        intervals = {
            "top_answer_share": mean_interval(share_SQ.mean(axis=0)),
            "answer_entropy": Interval(*(most * x for x in astuple(entropy))),
            "brier": found.brier,
            "overconfidence": found.overconfidence,
        }
        for name, interval in intervals.items():
            yield make_effect(place, name, HELD_OUT, at, interval, *size)
        by_chance = f"{found.error_by_chance:.4f} on average if perfectly calibrated"
        ends = (found.error, None, None, *size, by_chance)
        yield Effect(place.subset, place.role, "calibration_error", HELD_OUT, at, *ends)
