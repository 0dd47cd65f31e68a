"""Ballots: which answer each sampled response gives, and how the samples of a question spread.

Owns the counts of answers behind votes, entropies and ranks. Samples give the same answer if the
grader found the same one in them, else if they are spelled alike; right ones do, by whichever name.
Responses without a verdict are no ballots.

The database counts equal texts, of some questions at a time; a distinct text is read once however
many runs said it. Memory holds the texts of `QUESTIONS_AT_ONCE` questions, and counts.
"""

from collections.abc import Sequence

import polars as pl

from attrib.analysis.majority import Votes
from attrib.data.library import load_some
from attrib.data.questions import Question
from attrib.sampling.grading import Kind, kind_of
from attrib.sampling.voting import ballot
from attrib.store import Store

QUESTIONS_AT_ONCE = 64
RUN = ("role", "subset", "seed", "fraction")

# Where the grader has named the answer, the text adds nothing.
_TEXT = """
    CASE WHEN {said}.verdict = 'correct'
              OR starts_with({said}.detail, 'another answer: ') AND question.relation <> ''
                 AND starts_with({grader}, 'match-')
         THEN '' ELSE {said}.text END
"""
_EVALUATED = f"""
    SELECT role.role, role.subset, run.seed, milestone.fraction, said.question_id,
           said.verdict, said.detail, said.eval_grader AS grader,
           {_TEXT.format(said="said", grader="said.eval_grader")} AS text, count(*) AS times
    FROM arm_roles AS role
    JOIN training_runs AS run USING (arm_id)
    JOIN evaluations AS said USING (arm_id)
    JOIN milestones AS milestone ON milestone.arm_id = role.arm_id AND milestone.step = said.step
    JOIN questions AS question USING (question_id)
    WHERE role.experiment_id = $experiment_id AND run.status IN ('done', 'exhausted')
      AND said.decoding = 'sample' AND said.verdict IN ('correct', 'incorrect')
      AND list_contains($question_ids, said.question_id)
    GROUP BY ALL ORDER BY ALL
"""
_DRAWN = f"""
    SELECT 'base' AS role, '' AS subset, 0 AS seed, 0.0 AS fraction, said.question_id,
           said.verdict, said.detail, said.grader,
           {_TEXT.format(said="said", grader="said.grader")} AS text, count(*) AS times
    FROM graded_rollouts AS said
    JOIN bucketings AS bucketing
      ON bucketing.sample_set_id = said.sample_set_id AND bucketing.grader = said.grader
    JOIN questions AS question USING (question_id)
    WHERE bucketing.bucketing_id IN (
              SELECT bucketing_id FROM experiments WHERE experiment_id = $experiment_id)
      AND said.rollout < bucketing.k AND said.verdict IN ('correct', 'incorrect')
      AND list_contains($question_ids, said.question_id)
    GROUP BY ALL ORDER BY ALL
"""
_SCHEMA = {
    **{"role": pl.String, "subset": pl.String, "seed": pl.Int64, "fraction": pl.Float64},
    **{"question_id": pl.String, "answer": pl.String, "votes": pl.Int64},
}


def count_sampled(store: Store, experiment_id: str, question_ids: Sequence[str]) -> pl.DataFrame:
    """Return how often each run's sampled answers gave each answer.

    Returns:
        One row for each run, question and distinct answer: `role`, `subset`, `seed`, `fraction`,
        `question_id`, `answer`, `votes`. The answer of right responses is `Kind.RIGHT`.
    """
    return _count(store, _EVALUATED, experiment_id, question_ids)


def count_drawn(store: Store, experiment_id: str, question_ids: Sequence[str]) -> pl.DataFrame:
    """Return the same of the rollouts that the experiment's buckets were made from."""
    return _count(store, _DRAWN, experiment_id, question_ids)


def spread(counted: pl.DataFrame) -> pl.DataFrame:
    """Return one row for each run and question: how its samples spread over answers.

    `share` is of the most frequent answer and `is_right` whether that is right (ties count);
    `win` is the chance that it is right where ties are broken at random; `entropy` (nats) is of the
    sampled answers; `rank_of_right` is 1 where no answer is more frequent than the right one, null
    where that was not drawn; `n` how many samples there are.
    """
    votes, is_right = pl.col("votes"), pl.col("answer") == Kind.RIGHT
    right = votes.filter(is_right).sum()
    share = votes / votes.sum()
    return counted.group_by(*RUN, "question_id", maintain_order=True).agg(
        share=votes.max() / votes.sum(),
        is_right=right == votes.max(),
        win=(right == votes.max()) / (votes == votes.max()).sum(),
        entropy=-(share * share.log()).sum(),
        rank_of_right=pl.when(right > 0).then(1 + (votes > right).sum()),
        n=votes.sum(),
    )


def list_votes(counted: pl.DataFrame) -> list[Votes]:
    """Return the votes of each question of one run, ordered by id."""
    return [
        Votes(one["votes"].to_numpy(), (one["answer"] == Kind.RIGHT).to_numpy())
        for _, one in counted.sort("question_id", "answer").group_by(
            "question_id", maintain_order=True
        )
    ]


def _count(store: Store, sql: str, experiment_id: str, question_ids: Sequence[str]) -> pl.DataFrame:
    ordered = sorted(set(question_ids))
    parts = [pl.DataFrame(schema=_SCHEMA)]
    for start in range(0, len(ordered), QUESTIONS_AT_ONCE):
        some = ordered[start : start + QUESTIONS_AT_ONCE]
        rows = store.read(sql, experiment_id=experiment_id, question_ids=some)
        if not rows.is_empty():
            questions = {one.question_id: one for one in load_some(store, some)}
            parts.append(_name_answers(rows, questions))
    return pl.concat(parts).sort(*RUN, "question_id", "answer")


def _name_answers(rows: pl.DataFrame, questions: dict[str, Question]) -> pl.DataFrame:
    """Return counts by answer in the place of counts by text."""
    said = ["question_id", "text", "verdict", "detail", "grader"]
    distinct = rows.select(said).unique(maintain_order=True)
    answers = [
        _read(questions[question_id], text, verdict, detail, grader)
        for question_id, text, verdict, detail, grader in distinct.iter_rows()
    ]
    named = distinct.with_columns(answer=pl.Series(answers, dtype=pl.String))
    return (
        rows.join(named, on=said)
        .group_by(*RUN, "question_id", "answer")
        .agg(votes=pl.col("times").sum())
        .cast(_SCHEMA)  # type: ignore[arg-type]
    )


def _read(question: Question, text: str, verdict: str, detail: str, grader: str) -> str:
    """Return the answer that a graded response gives."""
    kind = kind_of(verdict, detail, grader, question.relation)
    if kind is Kind.RIGHT:
        return Kind.RIGHT
    return detail if kind is Kind.ANOTHER else ballot(question, text)
