"""Evaluating a model on held-out facts: greedy answers, graded."""

from collections.abc import Sequence

import polars as pl

from attrib.data.questions import Question
from attrib.progress import track
from attrib.sampling.engine import Engine, FinishReason, Request
from attrib.sampling.grading import Grader
from attrib.sampling.responder import Responder

GREEDY = "greedy"


def evaluate_greedily(
    responder: Responder[Engine],
    grader: Grader,
    questions: Sequence[Question],
    arm_id: str,
    step: int,
) -> pl.DataFrame:
    """Answer every question greedily and grade it.

    Returns:
        rows of the table `evaluations`, one per question.
    """
    requests = [Request(q.question_id, responder.prompt(q), 0, 1) for q in questions]
    rows = []
    with track("Evaluating", len(questions), "questions") as advance:
        for answered in responder.respond(requests, seed=0, greedy=True):
            question, [rollout] = questions[answered.position], answered.rollouts
            truncated = rollout.finish_reason == FinishReason.LENGTH
            graded = grader.grade(question, rollout.text, truncated)
            rows.append(
                {
                    "arm_id": arm_id,
                    "step": step,
                    "question_id": question.question_id,
                    "decoding": GREEDY,
                    "rollout": 0,
                    "text": rollout.text,
                    "verdict": str(graded.verdict),
                    "detail": graded.detail,
                    "eval_grader": grader.fingerprint,
                }
            )
            advance(1)
    return pl.DataFrame(rows)
