"""Read examples: the answers to a question before training beside those after the full arm.

Owns the choice of questions, which is by id (a hash, so a fair one) and never by how well they
look: a few of each bucket for training questions, and a few of each change for held-out ones. Only
reads.
"""

from collections.abc import Iterable, Sequence

import polars as pl

from attrib.reports.records import SampledQuestion
from attrib.reports.records_arms import Arm
from attrib.reports.records_training import AnswerShift, Experiment
from attrib.store import Store

CHANGES = ("learned", "kept", "lost", "still wrong")
EACH = 2  # questions of each change
MOST_ANSWERS = 4  # distinct answers of a question on either side

_DRAWN = """
WITH drawn AS (
    SELECT arm_id, question_id, trim(text, e' \\n\\t') AS text, verdict, step FROM evaluations
    WHERE arm_id IN (SELECT unnest($arm_ids)) AND decoding = $decoding
      AND question_id IN (SELECT unnest($question_ids))
    QUALIFY step = max(step) OVER (PARTITION BY arm_id)
)
SELECT question_id, text, verdict, count(*) AS count FROM drawn GROUP BY ALL
ORDER BY question_id, count DESC, text, verdict
"""
_CHANGED = """
WITH final AS (
    SELECT * FROM evaluations
    WHERE arm_id IN ($before, $after) AND decoding = 'greedy'
    QUALIFY step = max(step) OVER (PARTITION BY arm_id)
)
SELECT question_id, questions.text, answers,
       if(after.verdict = 'correct', if(before.verdict = 'correct', 'kept', 'learned'),
          if(before.verdict = 'correct', 'lost', 'still wrong')) AS change
FROM final AS before JOIN final AS after USING (question_id) JOIN questions USING (question_id)
WHERE before.arm_id = $before AND after.arm_id = $after AND split = 'held-out'
  AND before.verdict IN ('correct', 'incorrect') AND after.verdict IN ('correct', 'incorrect')
  AND dataset IN (SELECT DISTINCT dataset FROM buckets JOIN questions USING (question_id)
                  WHERE bucketing_id = $bucketing_id)
QUALIFY row_number() OVER (PARTITION BY change ORDER BY question_id) <= $each
ORDER BY question_id
"""

Answers = dict[str, tuple[int, str]]  # by text: how often it was given, and its verdict


def collect_training_shifts(
    store: Store, questions: Sequence[SampledQuestion], full: Arm
) -> tuple[AnswerShift, ...]:
    """Return training questions by bucket: rollouts before, greedy answers of all seeds after."""
    after = _read_answers(store, full, "greedy", [one.question_id for one in questions])
    return tuple(
        _make(
            one.bucket,
            one.question,
            one.answers,
            _merge((answer.text, answer.verdict, answer.count) for answer in one.frequent),
            after[one.question_id],
        )
        for one in questions
        if one.question_id in after
    )


def collect_held_out_shifts(
    store: Store, experiment: Experiment, bucketing_id: str
) -> tuple[AnswerShift, ...]:
    """Return held-out questions by change: sampled answers of the base and of the full arm."""
    base, full = experiment.base, experiment.full
    if base is None or full is None or not base.runs or not full.runs:
        return ()
    changed = store.read(
        _CHANGED,
        before=base.runs[0].arm_id,
        after=full.runs[0].arm_id,
        bucketing_id=bucketing_id,
        each=EACH,
    )
    ids = changed["question_id"].to_list()
    before, after = (_read_answers(store, arm, "sample", ids) for arm in (base, full))
    rows = sorted(changed.iter_rows(), key=lambda row: CHANGES.index(row[3]))
    return tuple(
        _make(change, text, answers, before[name], after[name])
        for name, text, answers, change in rows
        if name in before and name in after
    )


def _read_answers(
    store: Store, arm: Arm, decoding: str, question_ids: Sequence[str]
) -> dict[str, Answers]:
    frame: pl.DataFrame = store.read(
        _DRAWN,
        arm_ids=[run.arm_id for run in arm.runs],
        decoding=decoding,
        question_ids=list(question_ids),
    )
    return {
        str(question_id): _merge(rows.select("text", "verdict", "count").iter_rows())
        for (question_id,), rows in frame.group_by("question_id", maintain_order=True)
    }


def _merge(rows: Iterable[tuple[str, str, int]]) -> Answers:
    """Return answers by their text; one that was graded in two ways has both verdicts."""
    merged: Answers = {}
    for text, verdict, count in rows:
        known, verdicts = merged.get(text, (0, ""))
        both = verdict if verdict in verdicts or not verdicts else f"{verdicts}, {verdict}"
        merged[text] = (known + count, both)
    return merged


def _make(
    group: str,
    question: str,
    accepted: Sequence[str],
    before: Answers,
    after: Answers,
) -> AnswerShift:
    """Return the most frequent answers of both sides, those of the later side first."""
    shown: dict[str, str] = {}
    for answers in (before, after):
        most = sorted(answers, key=lambda text: (-answers[text][0], text))[:MOST_ANSWERS]
        shown.update((text, answers[text][1]) for text in most)
    never = (0, "")
    rows = [
        (text, verdict, before.get(text, never)[0], after.get(text, never)[0])
        for text, verdict in shown.items()
    ]
    rows.sort(key=lambda row: (-row[3], -row[2], row[0]))
    return AnswerShift(
        group=group,
        question=question,
        accepted=tuple(accepted),
        answers=tuple(rows),
        before_drawn=sum(count for count, _ in before.values()),
        after_drawn=sum(count for count, _ in after.values()),
    )
