"""Read scores of training questions, their validation and their curves; only reads.

Owns which method's questions are shown: the first of `SHOWN` that has scores.
"""

from collections.abc import Mapping

from attrib.config import identify_scores
from attrib.reports.records_attribution import (
    Attribution,
    CurvePoint,
    MethodValidation,
    ScoredQuestion,
    ShownVisit,
)
from attrib.reports.values import Estimate
from attrib.store import Store

SHOWN = (
    *("tracin", "tracin-adam", "similarity", "difficulty"),
    *("visits", "rewarded", "random"),
)

MOST = 2
"""Answers shown of a visit."""

_METHODS = """
    SELECT method, attributions.params::VARCHAR AS params, list(arm_id ORDER BY arm_id) AS arm_ids,
           avg(projection_r) AS r
    FROM attributions SEMI JOIN (
        SELECT arm_id FROM arm_roles WHERE experiment_id = $experiment_id AND role = 'full'
    ) USING (arm_id)
    GROUP BY method, attributions.params
    QUALIFY row_number()
        OVER (PARTITION BY method ORDER BY count(*) DESC, max(created_at) DESC) = 1
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
    WITH answers AS (
        SELECT visit, trim(text) AS answer, correct, sum(draws)::INTEGER AS draws
        FROM visit_rollouts
        WHERE arm_id = $arm_id GROUP BY visit, answer, correct
        QUALIFY row_number() OVER (PARTITION BY visit ORDER BY sum(draws) DESC, answer) <= $most
    )
    SELECT question_id, step, visits.correct, rollouts,
           list({'text': answer, 'is_right': answers.correct, 'draws': draws}
                ORDER BY draws DESC, answer) FILTER (answer IS NOT NULL) AS most
    FROM visits LEFT JOIN answers USING (visit)
    WHERE arm_id = $arm_id GROUP BY visits.visit, question_id, step, visits.correct, rollouts
    ORDER BY question_id, visits.visit
"""
_VALIDATIONS = """
    SELECT method, scores_id, measure, value, low, high, subsets, questions FROM validations
    WHERE experiment_id = $experiment_id ORDER BY list_position($methods, method), measure
"""
_CURVES = """
    SELECT role, method, fraction, scores_id, statistic, value, low, high, seeds, questions
    FROM curves
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
    visits: dict[str, list[ShownVisit]] = {}
    for question_id, step, correct, rollouts, most in store.read(
        _VISITS, arm_id=arm_ids[0], most=MOST
    ).iter_rows():
        answers = tuple((one["text"], one["is_right"], one["draws"]) for one in most or ())
        visits.setdefault(question_id, []).append(ShownVisit(step, correct, rollouts, answers))
    shown = {
        name: identify_scores([(arm_id, row["params"]) for arm_id in row["arm_ids"]])
        for name, row in found.items()
    }
    random = identify_scores([(arm_id, "{}") for arm_id in arm_ids])
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
        validations=_collect_validations(store, experiment_id, shown),
        curves=_collect_curves(store, experiment_id, {"random": random, **shown}),
    )


def _collect_validations(
    store: Store, experiment_id: str, shown: Mapping[str, str]
) -> tuple[MethodValidation, ...]:
    """Return what retraining says of the scores that there are now."""
    rows = store.read(_VALIDATIONS, experiment_id=experiment_id, methods=list(SHOWN))
    return tuple(
        MethodValidation(
            row["method"],
            row["measure"],
            Estimate(row["value"], row["low"], row["high"], 1, row["questions"]),
            row["subsets"],
        )
        for row in rows.iter_rows(named=True)
        if shown.get(row["method"]) == row["scores_id"]
    )


def _collect_curves(
    store: Store, experiment_id: str, shown: Mapping[str, str]
) -> tuple[CurvePoint, ...]:
    rows = store.read(_CURVES, experiment_id=experiment_id, methods=list(SHOWN))
    found: dict[tuple[str, str, float], dict[str, Estimate]] = {}
    for role, method, fraction, scores_id, statistic, *numbers in rows.iter_rows():
        if shown.get(method) != scores_id:
            continue
        found.setdefault((role, method, fraction), {})[statistic] = Estimate(*numbers)
    return tuple(
        CurvePoint(*place, statistics["gain"], statistics.get("difference_random"))
        for place, statistics in found.items()
    )
