"""Scores of training questions in the study: written whole, one arm and method at a time.

Owns the tables `attributions`, `visit_scores`, `question_scores` and `pair_scores`. A method's
scores are there whole or not at all; asked for with other settings they are made anew.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import polars as pl

from attrib.attribution.effect import HELD_OUT
from attrib.attribution.score_methods import ScoreMethod
from attrib.config import canonical_json, identify_scores
from attrib.data.questions import Question
from attrib.store import Store

_TABLES = ("attributions", "visit_scores", "question_scores", "pair_scores")
_KNOWN = "SELECT method, params FROM attributions WHERE arm_id = $arm_id ORDER BY method"
_MEAN = """
    SELECT question_id, avg(score) AS score, count(DISTINCT arm_id) AS arms
    FROM question_scores
    WHERE list_contains($arm_ids, arm_id) AND method = $method AND evaluated_on = $evaluated_on
    GROUP BY question_id ORDER BY question_id
"""
_PAIRS = """
    SELECT question_id, held_out_id, sum(score) / $arms AS score FROM pair_scores
    WHERE list_contains($arm_ids, arm_id) AND method = $method
    GROUP BY question_id, held_out_id ORDER BY question_id, held_out_id
"""
_PARAMS = """
    SELECT arm_id, params FROM attributions
    WHERE list_contains($arm_ids, arm_id) AND method = $method ORDER BY arm_id
"""


@dataclass(frozen=True, slots=True, eq=False)
class Scores:
    """One arm's scores by one method.

    Attributes:
        pairs: question_id, held_out_id, score; a pair without a row has 0, and all are without one
            where questions have no score towards single held-out ones.
        questions: question_id, evaluated_on, score.
        visits: visit, question_id, evaluated_on, score; empty where visits have none.
        seconds: what they took.
        projection_r: correlation over visits of the projected with the exact score.
    """

    questions: pl.DataFrame
    visits: pl.DataFrame
    pairs: pl.DataFrame
    seconds: float
    projection_r: float | None = None


def known_methods(
    store: Store, arm_id: str, params: Mapping[ScoreMethod, Mapping[str, object]]
) -> set[ScoreMethod]:
    """Return the methods by which an arm has been scored with these very settings."""
    rows = store.read(_KNOWN, arm_id=arm_id)
    found = {method: json.loads(stored) for method, stored in rows.iter_rows()}
    return {method for method, wanted in params.items() if found.get(str(method)) == wanted}


def scores_id(store: Store, arm_ids: Sequence[str], method: ScoreMethod) -> str:
    """Return the identity of arms' scores by a method: the arms, and what each was scored with."""
    rows = store.read(_PARAMS, arm_ids=list(arm_ids), method=str(method))
    params = dict(rows.iter_rows())
    return identify_scores([(arm_id, params.get(arm_id, "{}")) for arm_id in arm_ids])


def write_scores(
    store: Store,
    arm_id: str,
    params: Mapping[ScoreMethod, Mapping[str, object]],
    scores: Mapping[ScoreMethod, Scores],
) -> None:
    """Replace an arm's scores by some methods, all at once. Only inside `store.writing`."""
    with store.transaction() as transaction:
        for method, one in scores.items():
            row = {
                "params": canonical_json(params[method]),
                "projection_r": one.projection_r,
                "seconds": one.seconds,
            }
            frames = {
                "attributions": pl.DataFrame([row], schema_overrides={"projection_r": pl.Float64}),
                "question_scores": one.questions,
                "visit_scores": one.visits,
                "pair_scores": one.pairs,
            }
            for table in _TABLES:
                transaction.execute(
                    f"DELETE FROM {table} WHERE arm_id = $arm_id AND method = $method",
                    arm_id=arm_id,
                    method=str(method),
                )
            for table, frame in frames.items():
                if len(frame):
                    named = {"arm_id": pl.lit(arm_id), "method": pl.lit(str(method))}
                    transaction.append(table, frame.with_columns(**named))


def relation_name(relation: str | None) -> str:
    """Return what scores towards the held-out questions of a relation are stored under."""
    return f"{HELD_OUT}:relation={relation or 'no relation'}"


def mean_over_relations(
    pairs: pl.DataFrame, held_out: Sequence[Question], *keys: str
) -> pl.DataFrame:
    """Return for each of `keys` its mean score towards the held-out questions of every relation.

    Args:
        pairs: keys, held_out_id, score.
        held_out: the held-out questions.
        keys: columns that are kept.
    """
    names = pl.DataFrame(
        {
            "held_out_id": [question.question_id for question in held_out],
            "evaluated_on": [relation_name(question.relation) for question in held_out],
        }
    )
    joined = pairs.join(names, on="held_out_id")
    means = joined.group_by(*keys, "evaluated_on").agg(pl.col("score").mean())
    return means.sort(*keys, "evaluated_on")


def mean_scores(
    store: Store, arm_ids: Sequence[str], method: ScoreMethod, evaluated_on: str = HELD_OUT
) -> dict[str, float]:
    """Return each training question's score, averaged over arms."""
    rows = store.read(_MEAN, arm_ids=list(arm_ids), method=str(method), evaluated_on=evaluated_on)
    return dict(rows.select("question_id", "score").iter_rows())


def mean_pair_scores(store: Store, arm_ids: Sequence[str], method: ScoreMethod) -> pl.DataFrame:
    """Return question_id, held_out_id and score, averaged over arms; without a row it is 0."""
    arms = float(len(arm_ids))
    return store.read(_PAIRS, arm_ids=list(arm_ids), method=str(method), arms=arms)
