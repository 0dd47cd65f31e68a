"""The verdict cache: each distinct response to a question is graded once per grader.

Sampling, training and evaluation all grade through it, so that a response whose verdict is stored
is never graded again, whoever drew it. New verdicts are kept until a transaction takes them: they
become visible together with the rollouts they belong to. Those of a costly grader are stored as
they come, so that a crash or an interruption loses a few at most.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import polars as pl

from attrib.data.library import hash_answers
from attrib.data.questions import Question
from attrib.progress import say, track
from attrib.sampling.engine import FinishReason, Rollout
from attrib.sampling.grading import Graded, Grader, Response, Verdict
from attrib.store import Store, Transaction

COSTLY_PER_WRITE = 64
TEXTS_PER_WRITE = 20_000

_STORED = """
    SELECT question_id, answers_hash, text, truncated, verdict, detail FROM verdicts
    WHERE grader = $grader AND list_contains($question_ids, question_id)
"""
_UNGRADED = """
    SELECT DISTINCT rollout.question_id, rollout.text, rollout.finish_reason = 'length' AS truncated
    FROM rollouts AS rollout
    ANTI JOIN (FROM graded_rollouts WHERE grader = $grader) AS graded
      USING (sample_set_id, question_id, rollout)
    WHERE rollout.sample_set_id = $sample_set_id AND rollout.rollout < $k
      AND rollout.finish_reason <> 'error'
    ORDER BY ALL
"""
_TEXTS = """
    SELECT count(DISTINCT (question_id, text, finish_reason = 'length')) FROM rollouts
    WHERE sample_set_id = $sample_set_id AND rollout < $k AND finish_reason <> 'error'
"""
FAILED = Graded(Verdict.FAILED, "no response")


@dataclass(frozen=True, slots=True)
class _Key:
    """What a verdict belongs to."""

    question_id: str
    answers_hash: str
    text: str
    truncated: bool


def to_response(question: Question, rollout: Rollout) -> Response | None:
    """Return what is graded of a rollout; None where it could not be drawn."""
    if rollout.finish_reason == FinishReason.ERROR:
        return None
    return Response(question, rollout.text, rollout.finish_reason == FinishReason.LENGTH)


class Verdicts:
    """Grades responses, asking the grader only for what is not known yet."""

    def __init__(self, store: Store, grader: Grader) -> None:
        """Use the verdicts of `grader` that `store` holds."""
        self.grader = grader
        self._store = store
        self._known: dict[_Key, Graded] = {}
        self._loaded: set[str] = set()
        self._answers: dict[str, str] = {}
        self._new: list[_Key] = []
        self._asked = 0
        self._reused = 0

    @property
    def summary(self) -> str:
        """Say what a costly grader took, and what it was spared; empty for others."""
        if not self.grader.is_costly:
            return ""
        share = self._reused / max(self._asked, 1)
        return (
            f"{self.grader.cost}; {self._reused:,} of {self._asked:,} verdicts ({share:.0%}) were "
            "known before."
        )

    def prepare(self, questions: Sequence[Question]) -> None:
        """Read what is stored for questions that will be graded; one query for all of them."""
        missing = sorted({q.question_id for q in questions} - self._loaded)
        if not missing:
            return
        rows = self._store.read(_STORED, grader=self.grader.fingerprint, question_ids=missing)
        for question_id, answers_hash, text, truncated, verdict, detail in rows.iter_rows():
            key = _Key(question_id, answers_hash, text, truncated)
            self._known[key] = Graded(Verdict(verdict), detail)
        self._loaded.update(missing)

    def count_known(self, responses: int) -> None:
        """Note responses that need not be graded, for `summary`."""
        self._asked += responses
        self._reused += responses

    def grade(self, responses: Sequence[Response | None]) -> list[Graded]:
        """Return the verdict on each response; None has failed.

        Only inside `store.writing` where the grader is costly.
        """
        keys = [response and self._key(response) for response in responses]
        unknown = {
            key: response
            for key, response in zip(keys, responses, strict=True)
            if key is not None and response is not None and key not in self._known
        }
        self._asked += len(unknown)
        self.count_known(sum(key is not None for key in keys) - len(unknown))
        try:
            graded = self.grader.grade(list(unknown.values()))
            for key, one in zip(unknown, graded, strict=True):
                self._known[key] = one
                if one.verdict is not Verdict.FAILED:  # asked again the next time
                    self._new.append(key)
                if self.grader.is_costly and len(self._new) >= COSTLY_PER_WRITE:
                    self._write_now()
        finally:
            if self.grader.is_costly:
                self._write_now()
        return [self._known[key] if key is not None else FAILED for key in keys]

    def _key(self, response: Response) -> _Key:
        question = response.question
        answers_hash = self._answers.get(question.question_id)
        if answers_hash is None:
            answers_hash = self._answers[question.question_id] = hash_answers(question)
        return _Key(question.question_id, answers_hash, response.text, response.truncated)

    def _write_now(self) -> None:
        if self._new:
            with self._store.transaction() as transaction:
                self.write(transaction)

    def write(self, transaction: Transaction) -> None:
        """Store the verdicts that came up since the last time."""
        if not self._new:
            return
        rows = [
            {
                "question_id": key.question_id,
                "answers_hash": key.answers_hash,
                "text": key.text,
                "truncated": key.truncated,
                "grader": self.grader.fingerprint,
                "verdict": str(self._known[key].verdict),
                "detail": self._known[key].detail,
            }
            for key in self._new
        ]
        identity = ["question_id", "answers_hash", "text", "truncated", "grader"]
        transaction.append("verdicts", pl.DataFrame(rows), unless_present=identity)
        self._new = []


def grade_rollouts(
    store: Store, sample_set_id: str, grader: Grader, questions: Sequence[Question], k: int
) -> None:
    """Store a verdict on every distinct text among the first `k` rollouts that has none yet.

    Only inside `store.writing`.
    """
    by_id = {question.question_id: question for question in questions}
    texts = store.read(_UNGRADED, sample_set_id=sample_set_id, grader=grader.fingerprint, k=k)
    if texts.is_empty():
        return
    verdicts = Verdicts(store, grader)
    everything = store.read(_TEXTS, sample_set_id=sample_set_id, k=k).item()
    verdicts.count_known(everything - len(texts))
    batch_size = COSTLY_PER_WRITE if grader.is_costly else TEXTS_PER_WRITE
    with track("Grading", len(texts), "texts") as advance:
        for batch in texts.iter_slices(batch_size):
            verdicts.grade([Response(by_id[row[0]], *row[1:]) for row in batch.iter_rows()])
            with store.transaction() as transaction:
                verdicts.write(transaction)
            advance(len(batch))
    if verdicts.summary:
        say(verdicts.summary)
