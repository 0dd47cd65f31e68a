"""Read scores of training questions, their validation and their curves; only reads.

Owns which method's questions are shown: the first of `SHOWN` that has scores.
"""

from attrib.reports.records_attribution import (
    Attribution,
    CurvePoint,
    MethodValidation,
    ScoredQuestion,
)
from attrib.reports.values import Estimate
from attrib.store import Store

SHOWN = (
    *("tracin", "tracin-adam", "similarity", "difficulty"),
    *("visits", "rewarded", "random"),
)

_METHODS = """
    SELECT method, list(DISTINCT arm_id ORDER BY arm_id) AS arm_ids, avg(projection_r) AS r
    FROM attributions JOIN arm_roles USING (arm_id)
    WHERE experiment_id = $experiment_id AND role = 'full' GROUP BY method
"""
_SCORES = """
    SELECT question_id, any_value(questions.text) AS question, any_value(bucket) AS bucket,
           avg(score) AS score, any_value(n) AS n, any_value(correct) AS correct
    FROM question_scores
    JOIN questions USING (question_id)
    JOIN buckets ON buckets.bucketing_id = $bucketing_id
                AND buckets.question_id = question_scores.question_id
    WHERE list_contains($arm_ids, arm_id) AND method = $method AND evaluated_on = 'held-out'
    GROUP BY question_id ORDER BY score DESC, question_id
"""
_VISITS = """
    SELECT question_id, step, correct, rollouts FROM visits
    WHERE arm_id = $arm_id ORDER BY question_id, visit
"""
_VALIDATIONS = """
    SELECT method, measure, value, low, high, subsets, questions FROM validations
    WHERE experiment_id = $experiment_id ORDER BY list_position($methods, method), measure
"""
_CURVES = """
    SELECT role, method, fraction, statistic, value, low, high, seeds, questions FROM curves
    WHERE experiment_id = $experiment_id
    ORDER BY role, fraction, list_position($methods, method), statistic
"""


def collect_attribution(store: Store, experiment_id: str, bucketing_id: str) -> Attribution | None:
    """Return what is known of single training questions; None without scores.

    Raises:
        StoreError: the study cannot be read.
    """
    rows = store.read(_METHODS, experiment_id=experiment_id)
    found = {row["method"]: row for row in rows.iter_rows(named=True)}
    method = next((one for one in SHOWN if one in found), None)
    if method is None:
        return None
    arm_ids = found[method]["arm_ids"]
    visits: dict[str, list[tuple[int, int, int]]] = {}
    for question_id, *visit in store.read(_VISITS, arm_id=arm_ids[0]).iter_rows():
        visits.setdefault(question_id, []).append((visit[0], visit[1], visit[2]))
    scores = store.read(_SCORES, arm_ids=arm_ids, method=method, bucketing_id=bucketing_id)
    return Attribution(
        method=method,
        arms=len(arm_ids),
        projection_r=found[method]["r"],
        questions=tuple(
            ScoredQuestion(
                row["question"],
                row["bucket"],
                row["score"],
                row["n"],
                row["correct"],
                tuple(visits.get(row["question_id"], ())),
            )
            for row in scores.iter_rows(named=True)
        ),
        validations=_collect_validations(store, experiment_id),
        curves=_collect_curves(store, experiment_id),
    )


def _collect_validations(store: Store, experiment_id: str) -> tuple[MethodValidation, ...]:
    rows = store.read(_VALIDATIONS, experiment_id=experiment_id, methods=list(SHOWN))
    return tuple(
        MethodValidation(
            row["method"],
            row["measure"],
            Estimate(row["value"], row["low"], row["high"], 1, row["questions"]),
            row["subsets"],
        )
        for row in rows.iter_rows(named=True)
    )


def _collect_curves(store: Store, experiment_id: str) -> tuple[CurvePoint, ...]:
    rows = store.read(_CURVES, experiment_id=experiment_id, methods=list(SHOWN))
    found: dict[tuple[str, str, float], dict[str, Estimate]] = {}
    for role, method, fraction, statistic, *numbers in rows.iter_rows():
        found.setdefault((role, method, fraction), {})[statistic] = Estimate(*numbers)
    return tuple(
        CurvePoint(*place, statistics["gain"], statistics.get("difference_random"))
        for place, statistics in found.items()
    )
