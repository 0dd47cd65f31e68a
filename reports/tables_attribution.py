"""The tables and sentences about scores of single training questions.

Owns the wording of how far scores can be trusted: as far as retraining bears them out, and without
it not at all.
"""

from collections.abc import Sequence
from statistics import fmean

import numpy as np

from attrib.analysis.buckets import Bucket
from attrib.reports.records_attribution import (
    Attribution,
    CurvePoint,
    ScoredQuestion,
    ShownVisit,
)
from attrib.reports.tables import Column, Kind, Table, make_table
from attrib.reports.text import (
    UNKNOWN,
    count,
    number_interval,
    percent,
    plural,
    points_interval,
    show,
    significant,
)

LISTED = 8
ISOLATE, END_OF_ISOLATE = "\u2068", "\u2069"  # an answer's direction of writing is its own
MEASURES = {
    "gain": "gain in accuracy",
    "log-probability": "log-probability of accepted answers",
    "log-probability-by-question": "log-probability by question",
}


def describe_attribution(found: Attribution) -> list[str]:
    """Return what scores are there, and what retraining says of them."""
    sentences = [
        f"Each of {plural(len(found.questions), 'training question')} is scored by “{found.method}”"
        f", the mean over {plural(found.arms, 'full arm')}; the higher, the more held-out gain the "
        "score promises."
    ]
    if found.projection_r is not None:
        sentences.append(
            "Scores towards all held-out questions are exact; from projected gradients, as those "
            "towards single ones are, they would correlate with these over visits with r = "
            f"{found.projection_r:.3f}."
        )
    judged = [one for one in found.validations if one.method == found.method]
    if not judged:
        sentences.append(
            "Whether these scores foretell what retraining gives has not been checked: they are "
            "numbers, not findings. Type: attrib attribute validate --subsets 32"
        )
    for one in judged:
        score, measure = one.score, MEASURES[one.measure]
        if score.value is None:
            said = "is undefined: all arms gave the same, or were promised the same"
        elif score.includes_zero:
            said = f"is {number_interval(score, 2, signed=True)}: not told from zero"
        else:
            said = f"is {number_interval(score, 2, signed=True)}"
        sentences.append(
            f"Over {plural(one.subsets, 'arm')} retrained on random parts, the correlation of "
            f"summed scores with the {measure} {said}."
        )
    return sentences


def tabulate_questions(questions: Sequence[ScoredQuestion], caption: str) -> Table:
    """Return questions with their scores and what their visits in training gave."""
    return make_table(
        caption,
        [
            Column("Question", Kind.QUOTE),
            Column("Bucket", Kind.LABEL),
            "Score",
            "Right before",
            "Right rollouts at its visits, first arm",
            Column("What it drew most: first and last visit", Kind.QUOTE),
        ],
        [
            (
                show(one.question, 120),
                one.bucket,
                significant(one.score),
                f"{count(one.correct)} of {count(one.n)}",
                _list_visits(one.visits),
                _list_answers(one.visits),
            )
            for one in questions
        ],
    )


def _list_visits(visits: Sequence[ShownVisit]) -> str:
    """Return `2, 7, 15 of 16`: the right rollouts of each visit, in their order."""
    if not visits:
        return UNKNOWN
    shown = ", ".join(count(visit.correct) for visit in visits[:12])
    more = " …" if len(visits) > 12 else ""
    sizes = {visit.rollouts for visit in visits}
    return f"{shown}{more} of {count(sizes.pop())}" if len(sizes) == 1 else shown + more


def _list_answers(visits: Sequence[ShownVisit]) -> str:
    """Return `update 2: “Paris” ✓ 9, “Lyon” 4 → update 7: “Paris” ✓ 16`, as far as it is known."""
    known = [visit for visit in visits if visit.most]
    return " → ".join(map(_show_visit, dict.fromkeys(known[:1] + known[-1:]))) or UNKNOWN


def _show_visit(visit: ShownVisit) -> str:
    answers = [
        f"{ISOLATE}“{show(text, 40)}”{END_OF_ISOLATE}{' ✓' * is_right} {count(draws)}"
        for text, is_right, draws in visit.most
    ]
    return f"update {visit.step}: {', '.join(answers)}"


def tabulate_ends(found: Attribution) -> list[Table]:
    """Return the questions with the highest scores, and those with the lowest."""
    highest, others = found.questions[:LISTED], found.questions[LISTED:]
    lowest = list(reversed(others[-LISTED:]))
    return [
        tabulate_questions(some, f"The {len(some)} {which} scores")
        for some, which in ((highest, "highest"), (lowest, "lowest"))
        if some
    ]


def tabulate_bucket_scores(found: Attribution) -> Table:
    """Return how scores are spread in each bucket."""
    rows = []
    for bucket in Bucket:
        scores = [one.score for one in found.questions if one.bucket == bucket]
        if scores:
            quarters = np.quantile(scores, [0.25, 0.5, 0.75])
            rows.append(
                (
                    str(bucket),
                    count(len(scores)),
                    significant(fmean(scores)),
                    *map(significant, quarters.tolist()),
                    significant(float(np.sum(scores))),
                )
            )
    return make_table(
        "Scores by bucket: a description of these questions, so no interval",
        ["Bucket", "Questions", "Mean", "First quartile", "Median", "Third quartile", "Sum"],
        rows,
    )


def tabulate_validations(found: Attribution) -> Table:
    """Return every method's linear datamodel score, by each measure."""
    methods = list(dict.fromkeys(one.method for one in found.validations))
    scores = {(one.method, one.measure): one.score for one in found.validations}
    subsets = {one.method: one.subsets for one in found.validations}
    return make_table(
        "Linear datamodel scores, 95\u00a0% intervals over retrained arms",
        [
            Column("Method", Kind.LABEL),
            "Arms",
            *(f"with the {name}" for name in MEASURES.values()),
        ],
        [
            (
                method,
                count(subsets[method]),
                *(
                    number_interval(scores.get((method, measure)), 2, signed=True)
                    for measure in MEASURES
                ),
            )
            for method in methods
        ],
    )


def tabulate_curves(curves: Sequence[CurvePoint]) -> Table:
    """Return what training with only, or without, the highest scores gained."""
    return make_table(
        "Held-out gain in points with only (keep), or without (remove), the highest scores",
        [
            Column("Arms", Kind.LABEL),
            "Questions",
            Column("By", Kind.LABEL),
            "Gain",
            "Less random",
            "Seeds",
            "Held-out questions",
        ],
        [
            (
                one.role,
                percent(one.fraction),
                one.method,
                points_interval(one.gain),
                points_interval(one.difference),
                count(one.gain.seeds),
                count(one.gain.questions),
            )
            for one in curves
        ],
    )
