"""The verdict cache: each distinct response to a question is graded once per grader.

Sampling, training and evaluation all grade through it, so that a response whose verdict is stored
is never graded again, whoever drew it. New verdicts are kept until a transaction takes them: they
become visible together with the rollouts they belong to.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import polars as pl

from attrib.data.library import hash_answers
from attrib.data.questions import Question
from attrib.sampling.engine import FinishReason, Rollout
from attrib.sampling.grading import Graded, Grader, Verdict
from attrib.store import Store, Transaction

_STORED = """
    SELECT question_id, answers_hash, text, truncated, verdict, detail FROM verdicts
    WHERE grader = $grader AND list_contains($question_ids, question_id)
"""
_FAILED = Graded(Verdict.FAILED, "no response")


@dataclass(frozen=True, slots=True)
class _Response:
    """What a verdict belongs to."""

    question_id: str
    answers_hash: str
    text: str
    truncated: bool


class Verdicts:
    """Grades responses, asking the grader only for what is not known yet."""

    def __init__(self, store: Store, grader: Grader) -> None:
        """Use the verdicts of `grader` that `store` holds."""
        self.grader = grader
        self._store = store
        self._known: dict[_Response, Graded] = {}
        self._loaded: set[str] = set()
        self._answers: dict[str, str] = {}
        self._new: list[_Response] = []

    def prepare(self, questions: Sequence[Question]) -> None:
        """Read what is stored for questions that will be graded; one query for all of them."""
        missing = sorted({q.question_id for q in questions} - self._loaded)
        if not missing:
            return
        rows = self._store.read(_STORED, grader=self.grader.fingerprint, question_ids=missing)
        for question_id, answers_hash, text, truncated, verdict, detail in rows.iter_rows():
            response = _Response(question_id, answers_hash, text, truncated)
            self._known[response] = Graded(Verdict(verdict), detail)
        self._loaded.update(missing)

    def grade(self, question: Question, rollout: Rollout) -> Graded:
        """Return the verdict on a rollout; one that could not be drawn has failed."""
        if rollout.finish_reason == FinishReason.ERROR:
            return _FAILED
        truncated = rollout.finish_reason == FinishReason.LENGTH
        return self.grade_text(question, rollout.text, truncated)

    def grade_text(self, question: Question, text: str, truncated: bool) -> Graded:
        """Return the verdict on a response."""
        answers_hash = self._answers.get(question.question_id)
        if answers_hash is None:
            answers_hash = self._answers[question.question_id] = hash_answers(question)
        response = _Response(question.question_id, answers_hash, text, truncated)
        known = self._known.get(response)
        if known is None:
            known = self._known[response] = self.grader.grade(question, text, truncated)
            self._new.append(response)
        return known

    def write(self, transaction: Transaction) -> None:
        """Store the verdicts that came up since the last time."""
        if not self._new:
            return
        rows = [
            {
                "question_id": response.question_id,
                "answers_hash": response.answers_hash,
                "text": response.text,
                "truncated": response.truncated,
                "grader": self.grader.fingerprint,
                "verdict": str(self._known[response].verdict),
                "detail": self._known[response].detail,
            }
            for response in self._new
        ]
        key = ["question_id", "answers_hash", "text", "truncated", "grader"]
        transaction.append("verdicts", pl.DataFrame(rows), unless_present=key)
        self._new = []
