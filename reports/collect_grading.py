"""Read what a study holds about its graders: a second one's verdicts, and suspect questions.

Owns which graders are held against the one that the buckets rest on: those that judged at least
COVERED of the same rollouts. What training and evaluation happened to grade overlaps with them in
part, and in no fair part. Nothing is graded here: only what is stored is counted.
"""

from collections import Counter
from typing import Any

import numpy as np
import polars as pl

from attrib.analysis.agreement import measure_agreement
from attrib.reports.records import Bucketing
from attrib.reports.records_grading import Grading, SecondGrader, SuspectQuestion, Suspects
from attrib.store import Store

COVERED = 0.9
LISTED_PER_REASON = 4
REASONS = ("near-miss", "too-long", "dominant-answer")
"""Of suspect questions; what points at the answers rather than at the model comes first."""

_OTHERS = "SELECT DISTINCT grader FROM verdicts WHERE grader <> $grader ORDER BY grader"
_DRAWN = """
    SELECT count(*) FROM rollouts SEMI JOIN buckets
      ON buckets.bucketing_id = $bucketing_id AND buckets.question_id = rollouts.question_id
    WHERE sample_set_id = $sample_set_id AND rollout < $k AND finish_reason <> 'error'
"""
_PAIRED = """
    WITH drawn AS (
        SELECT question_id, answers_hash, rollouts.text, finish_reason = 'length' AS truncated,
               count(*) AS rollouts
        FROM rollouts JOIN questions USING (question_id)
        WHERE sample_set_id = $sample_set_id AND rollout < $k AND finish_reason <> 'error'
          AND question_id IN (SELECT question_id FROM buckets WHERE bucketing_id = $bucketing_id)
        GROUP BY ALL
    ), clear AS (
        SELECT question_id, answers_hash, text, truncated, grader, verdict = 'correct' AS is_right
        FROM verdicts WHERE verdict IN ('correct', 'incorrect')
    )
    SELECT second.grader, question_id, first.is_right AS first, second.is_right AS second,
           count(*) AS responses, sum(rollouts)::BIGINT AS rollouts
    FROM drawn
    JOIN (FROM clear WHERE grader = $grader) AS first
      USING (question_id, answers_hash, text, truncated)
    JOIN (FROM clear WHERE grader <> $grader) AS second
      USING (question_id, answers_hash, text, truncated)
    GROUP BY ALL ORDER BY ALL
"""
_SUSPECTS = """
    SELECT question_id, any_value(questions.text) AS question, any_value(answers) AS answers,
           list({'reason': reason, 'detail': suspects.detail}
                ORDER BY list_position($reasons, reason)) AS signs,
           question_id IN (SELECT question_id FROM buckets WHERE bucketing_id = $bucketing_id)
             AS kept
    FROM suspects JOIN questions USING (question_id) WHERE bucketing_id = $bucketing_id
    GROUP BY question_id
"""
_SAID = """
    WITH counted AS (
        SELECT question_id, trim(text, e' \\n\\t') AS said, count(*) AS times
        FROM rollouts
        WHERE sample_set_id = $sample_set_id AND rollout < $k AND finish_reason <> 'error'
          AND question_id IN (SELECT question_id FROM suspects WHERE bucketing_id = $bucketing_id)
        GROUP BY ALL
    )
    SELECT question_id, said, times, sum(times) OVER (PARTITION BY question_id)::BIGINT AS n
    FROM counted
    QUALIFY row_number() OVER (PARTITION BY question_id ORDER BY times DESC, said) = 1
"""
_SUSPECT_QUESTIONS = f"""
    SELECT question_id, question, answers, signs, kept, said, coalesce(times, 0) AS times,
           coalesce(n, 0) AS n
    FROM ({_SUSPECTS}) LEFT JOIN ({_SAID}) USING (question_id)
    ORDER BY list_position($reasons, signs[1].reason), times DESC, question_id
"""


def collect_grading(store: Store, bucketing: Bucketing, sample_set_id: str) -> Grading:
    """Return the graders that judged the rollouts of a bucketing, and its suspect questions.

    Raises:
        StoreError: the study cannot be read.
    """
    names = store.read(_OTHERS, grader=bucketing.grader)["grader"].to_list()
    others = _compare_graders(store, bucketing, sample_set_id) if names else []
    compared = [one for one in others if one.rollouts >= COVERED * one.of]
    compared.sort(key=lambda one: (-one.rollouts, one.grader))
    known = {one.grader for one in compared}
    return Grading(
        grader=bucketing.grader,
        others=tuple(compared),
        passing=tuple(name for name in names if name not in known),
        suspects=_collect_suspects(store, bucketing, sample_set_id),
    )


def _compare_graders(store: Store, bucketing: Bucketing, sample_set_id: str) -> list[SecondGrader]:
    place = {
        "sample_set_id": sample_set_id,
        "bucketing_id": bucketing.bucketing_id,
        "k": bucketing.k,
    }
    paired = store.read(_PAIRED, grader=bucketing.grader, **place)
    drawn = int(store.read(_DRAWN, **place).item())
    return [
        _compare(str(grader), rows, drawn, bucketing.k)
        for (grader,), rows in paired.group_by("grader", maintain_order=True)
    ]


def _compare(grader: str, rows: pl.DataFrame, drawn: int, k: int) -> SecondGrader:
    """Return how one grader compares, from responses by question and both verdicts."""
    question_Q, place_N = np.unique(rows["question_id"].to_numpy(), return_inverse=True)
    first_N, second_N = (rows[name].to_numpy().astype(np.int64) for name in ("first", "second"))
    responses_Q22, rollouts_Q22 = np.zeros((2, len(question_Q), 2, 2))
    at = (place_N, 1 - first_N, 1 - second_N)  # right comes before wrong
    np.add.at(responses_Q22, at, rows["responses"].to_numpy())
    np.add.at(rollouts_Q22, at, rows["rollouts"].to_numpy())
    whole = rollouts_Q22[rollouts_Q22.sum(axis=(1, 2)) == k]
    by_first_Q, by_second_Q = whole[:, 0].sum(axis=1) == 0, whole[:, :, 0].sum(axis=1) == 0
    return SecondGrader(
        grader=grader,
        rollouts=int(rollouts_Q22.sum()),
        of=drawn,
        agreement=measure_agreement(responses_Q22, np.random.default_rng(0)),
        first_only=int(responses_Q22[:, 0, 1].sum()),
        second_only=int(responses_Q22[:, 1, 0].sum()),
        questions=len(whole),
        never_by_first=int(by_first_Q.sum()),
        never_by_second=int(by_second_Q.sum()),
        never_by_both=int((by_first_Q & by_second_Q).sum()),
    )


def _collect_suspects(store: Store, bucketing: Bucketing, sample_set_id: str) -> Suspects:
    rows = store.read(
        _SUSPECT_QUESTIONS,
        sample_set_id=sample_set_id,
        bucketing_id=bucketing.bucketing_id,
        k=bucketing.k,
        reasons=list(REASONS),
    )
    found = [_make_suspect(row) for row in rows.iter_rows(named=True)]
    by_reason = Counter(reason for one in found for reason, _ in one.signs)
    first = {reason: [one for one in found if one.signs[0][0] == reason] for reason in REASONS}
    return Suspects(
        questions=len(found),
        kept=sum(one.kept for one in found),
        by_reason=tuple((one, by_reason[one]) for one in REASONS if by_reason[one]),
        listed=tuple(one for reason in REASONS for one in first[reason][:LISTED_PER_REASON]),
    )


def _make_suspect(row: dict[str, Any]) -> SuspectQuestion:
    signs = tuple((sign["reason"], sign["detail"]) for sign in row.pop("signs"))
    return SuspectQuestion(**{**row, "answers": tuple(row["answers"]), "signs": signs})
