"""What kind of change a gain is: whose questions, from which answers, from how far away.

Owns the labels that held-out questions had before training, by which a gain is split, and what
answers look like before and after: whether they name one answer of the relation at all, and whether
the answers that a model gives most often are right as often.

A question's right answer was, before training, its greedy answer; else among the two most frequent
of the base's samples (`top 2`); else drawn at all, or of a probability of at least `LEAST_MASS`
(the `tail`); else `nowhere`. A gain from the middle two was *unlocked*; one from nowhere, as far as
those samples reach, *acquired*. With few samples more looks acquired than is.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import astuple

import numpy as np
import polars as pl

from attrib.analysis.calibration import calibrate
from attrib.analysis.checks import FloatArray
from attrib.analysis.intervals import Interval, mean_interval, ratio_interval
from attrib.analysis.parts import split_gain
from attrib.analysis.seeds import gain_over_seeds
from attrib.analysis.values import change_over_seeds, value_over_seeds
from attrib.attribution.ballots import count_sampled, spread
from attrib.attribution.effect import HELD_OUT, Effect, make_effect, rate_interval
from attrib.attribution.outcomes import Outcomes, Place
from attrib.attribution.votes import (
    Groups,
    compare_votes,
    describe_curve,
    describe_votes,
    hold_vote,
)
from attrib.roles import Role
from attrib.sampling.grading import Kind, kind_of
from attrib.store import Store

LEAST_MASS = 0.001
TOP = 2
LEAST_ENTROPY = 1e-9  # nats; where all samples of all questions agree
VALUES = {
    "answer_tokens": "tokens",
    "answer_characters": "characters",
    "mass_of_answers": "mass_low",
    "mass_of_phrasings": "mass_found",
    "mass_of_samples": "mass_sampled",
}
"""Statistics that are means over questions, and their columns."""

_GREEDY = """
    WITH heard AS (  -- a distinct text is a distinct response, which excludes the others
        SELECT arm_id, step, question_id, text,
               coalesce(max(exp(logprob)) FILTER (verdict = 'correct'), 0.0) AS chance
        FROM evaluations WHERE decoding = 'sample' AND arm_id IN (
            SELECT arm_id FROM arm_roles WHERE experiment_id = $experiment_id)
        GROUP BY ALL
    ), sampled AS (
        SELECT arm_id, step, question_id, least(sum(chance ORDER BY chance), 1.0) AS mass_sampled
        FROM heard GROUP BY ALL
    )
    SELECT role.role, role.subset, run.seed, milestone.fraction, evaluation.question_id,
           evaluation.verdict, evaluation.detail, evaluation.eval_grader, question.relation,
           question.popularity, masses.mass_low, masses.mass_found,
           sampled.mass_sampled,
           length(evaluation.text) AS characters, evaluation.tokens
    FROM arm_roles AS role
    JOIN training_runs AS run USING (arm_id)
    JOIN evaluations AS evaluation USING (arm_id)
    JOIN milestones AS milestone
      ON milestone.arm_id = role.arm_id AND milestone.step = evaluation.step
    JOIN questions AS question USING (question_id)
    LEFT JOIN masses ON masses.arm_id = role.arm_id
     AND masses.question_id = evaluation.question_id
    LEFT JOIN sampled ON sampled.arm_id = role.arm_id AND sampled.step = evaluation.step
     AND sampled.question_id = evaluation.question_id
    WHERE role.experiment_id = $experiment_id AND run.status IN ('done', 'exhausted')
      AND evaluation.decoding = 'greedy' AND question.split = 'held-out'
      AND question.dataset IN (
          SELECT DISTINCT dataset FROM experiments JOIN buckets USING (bucketing_id)
          JOIN questions USING (question_id) WHERE experiment_id = $experiment_id)
    ORDER BY role.role, role.subset, run.seed, milestone.fraction, evaluation.question_id
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
    greedy = store.read(_GREEDY, experiment_id=experiment_id)
    is_end = pl.col("fraction") == pl.col("fraction").max().over("role", "subset", "seed")
    greedy = greedy.with_columns(  # measured at the end of a run only
        pl.when(is_end).then(pl.col(name)).alias(name) for name in ("mass_low", "mass_found")
    )
    counted = count_sampled(store, experiment_id, greedy["question_id"].unique().to_list())
    graded = pl.col("verdict").is_in(["correct", "incorrect"])
    wanted = greedy.group_by("question_id").agg(graded.all()).filter("verdict")["question_id"]
    greedy = greedy.filter(pl.col("question_id").is_in(wanted.implode()))
    first = greedy.filter(pl.col("role") == Role.BASE).unique("question_id").sort("question_id")
    if first.is_empty():
        return []
    sampled = spread(counted)
    labels = _label(first, sampled.filter(pl.col("role") == Role.BASE))
    before_Q = (first["verdict"] == "correct").to_numpy()
    base = Place(Role.BASE, str(first["subset"][0]))
    effects = list(_describe_answers(base, 0.0, [first]))
    groups = _group(labels, len(first))
    votes = hold_vote(counted.filter(pl.col("role") == Role.BASE), first["question_id"].to_list())
    if votes is not None:
        effects += describe_curve(votes, base, HELD_OUT)
        effects += describe_votes(votes, base, {on: of for on, of in groups.items() if ":" in on})
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
        after_SQ = _stack(runs, "verdict", "correct")
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
        effects += _describe_shifts(place, at, runs, first)
        if votes is not None:
            effects += compare_votes(votes, place, at, after_SQ, groups)
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


def _group(labels: Mapping[str, list[str]], questions: int) -> Groups:
    """Return all questions, and those of each relation and popularity."""
    groups = {HELD_OUT: np.ones(questions, np.bool_)}
    for kind in ("relation", "popularity"):
        label_Q = np.array(labels.get(kind, []))
        groups |= {f"{HELD_OUT}:{kind}={one}": label_Q == one for one in np.unique(label_Q)}
    return groups


def _describe_answers(place: Place, at: float, runs: Sequence[pl.DataFrame]) -> Iterator[Effect]:
    """Yield what greedy answers name, how long they are, and how probable right ones are."""
    kinds = _find_kinds(runs)
    if kinds is not None:
        for name, flag_SQ in kinds.items():
            yield make_effect(place, name, HELD_OUT, at, rate_interval(flag_SQ), *flag_SQ.shape)
        one_SQ = kinds["one_answer"]
        if one_SQ.any():
            right_Q = (one_SQ & _stack(runs, "verdict", "correct")).sum(axis=0)
            given = ratio_interval(right_Q, one_SQ.sum(axis=0))
            yield make_effect(place, "accuracy_of_one_answer", HELD_OUT, at, given, *one_SQ.shape)
    for name, (value_SQ, largest) in _find_values(runs).items():
        interval = value_over_seeds(value_SQ, largest)
        yield make_effect(place, name, HELD_OUT, at, interval, *value_SQ.shape)


def _describe_shifts(
    place: Place, at: float, runs: Sequence[pl.DataFrame], first: pl.DataFrame
) -> Iterator[Effect]:
    """Yield the same after training less before it, paired on questions."""
    before, after = _find_kinds([first]) or {}, _find_kinds(runs) or {}
    for name in [name for name in before if name in after]:
        flag_SQ = after[name]
        shift = gain_over_seeds(before[name][0], flag_SQ)
        yield make_effect(place, f"{name}_change", HELD_OUT, at, shift, *flag_SQ.shape)
    then, now = _find_values([first]), _find_values(runs)
    for name in [name for name in then if name in now]:
        (then_SQ, one), (now_SQ, other) = then[name], now[name]
        change = change_over_seeds(then_SQ[0], now_SQ, max(one, other))
        yield make_effect(place, f"{name}_change", HELD_OUT, at, change, *now_SQ.shape)


def _find_kinds(runs: Sequence[pl.DataFrame]) -> dict[str, Outcomes] | None:
    """Return which answers name one answer, several, none, or are cut off; None if unknown."""
    kind_SQ = np.array(
        [
            [
                kind_of(*row) or Kind.WRONG
                for row in run.select("verdict", "detail", "eval_grader", "relation").iter_rows()
            ]
            for run in runs
        ]
    )
    if (kind_SQ == Kind.WRONG).any():
        return None
    return {
        "one_answer": np.isin(kind_SQ, [Kind.RIGHT, Kind.ANOTHER]),
        "several_answers": kind_SQ == Kind.SEVERAL,
        "no_answer": kind_SQ == Kind.NOTHING,
        "cut_off": kind_SQ == Kind.CUT,
    }


def _find_values(runs: Sequence[pl.DataFrame]) -> dict[str, tuple[FloatArray, float]]:
    """Return what every run has a value of for every question, and the largest there can be.

    Lengths have no bound of their own; the longest answer of these stands for it.
    """
    found = {}
    for name, column in VALUES.items():
        if all(run[column].null_count() == 0 for run in runs):
            value_SQ = np.stack([run[column].to_numpy() for run in runs]).astype(np.float64)
            bound = 1.0 if column.startswith("mass") else max(float(value_SQ.max()), 1.0)
            found[name] = (value_SQ, bound)
    return found


def _stack(runs: Sequence[pl.DataFrame], column: str, value: str) -> Outcomes:
    return np.stack([(run[column] == value).to_numpy() for run in runs])


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
