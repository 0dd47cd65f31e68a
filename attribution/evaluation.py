"""Evaluating a model: greedy answers, sampled ones, votes and chains of thought, graded.

Owns the rows of the table `evaluations`. What is evaluated is the same for all arms of an
experiment, and part of their identity, since weights are usually not kept.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

import polars as pl

from attrib.config import content_hash
from attrib.data.questions import Question
from attrib.progress import track
from attrib.sampling.engine import Engine, FinishReason, Request, Rollout
from attrib.sampling.grading import Graded, Grader
from attrib.sampling.responder import Responder
from attrib.sampling.verdicts import Verdicts
from attrib.sampling.voting import final_answer, vote

EVALUATION_SEED = 0  # every arm answers with the same randomness, which pairs them further


class Decoding(StrEnum):
    """How a response was obtained."""

    GREEDY = "greedy"
    SAMPLE = "sample"
    """Drawn as the rollouts before training were."""
    MAJORITY = "majority"
    """The answer of most samples."""
    CHAIN_OF_THOUGHT = "chain-of-thought"
    """Greedy, after reasoning; its last line is graded."""


@dataclass(frozen=True, slots=True)
class TransferSet:
    """Held-out questions of another data set, with its own grader."""

    dataset: str
    questions: tuple[Question, ...]
    grader: Grader


@dataclass(frozen=True, slots=True)
class EvaluationPlan:
    """On what, and how thoroughly, every arm is evaluated.

    Attributes:
        held_out: the questions that the experiment is about.
        transfer: other data sets, none of them trained on.
        training: all bucketed questions, where learning and forgetting show.
        samples: rollouts of each held-out question; 0 for none.
        at: ascending fractions of the budget at which greedy answers are graded.
    """

    held_out: tuple[Question, ...]
    transfer: tuple[TransferSet, ...]
    training: tuple[Question, ...]
    samples: int
    at: tuple[float, ...]

    @property
    def identity(self) -> dict[str, object]:
        """Return what makes two evaluations the same."""
        return {
            "held_out": _hash(self.held_out),
            "held_out_questions": len(self.held_out),
            "transfer": [
                [one.dataset, _hash(one.questions), one.grader.fingerprint] for one in self.transfer
            ],
            "training": _hash(self.training),
            "samples": self.samples,
        }


class Evaluator:
    """Asks one model and grades what it says."""

    def __init__(self, responder: Responder[Engine], verdicts: Verdicts, arm_id: str) -> None:
        """Write rows for the arm `arm_id`."""
        self._responder = responder
        self._verdicts = verdicts
        self._arm_id = arm_id

    def greedy(self, questions: Sequence[Question], step: int) -> pl.DataFrame:
        """Return one row per question: its greedy answer."""
        return _to_frame(
            [
                self._row(question, rollout, step, Decoding.GREEDY)
                for question, [rollout] in self._ask(questions, 1, "Evaluating", greedy=True)
            ]
        )

    def samples(self, questions: Sequence[Question], step: int, n: int) -> pl.DataFrame:
        """Return n sampled answers per question, and the vote among them."""
        rows = []
        for question, rollouts in self._ask(questions, n, "Sampling answers", greedy=False):
            rows += [self._row(question, one, step, Decoding.SAMPLE) for one in rollouts]
            winner = vote(question, rollouts)
            if winner is not None:
                rows.append({**self._row(question, winner, step, Decoding.MAJORITY), "rollout": 0})
        return _to_frame(rows)

    def chain_of_thought(self, questions: Sequence[Question], step: int) -> pl.DataFrame:
        """Return one row per question: the answer at the end of its greedy reasoning."""
        rows = []
        for question, [rollout] in self._ask(questions, 1, "Reasoning", greedy=True):
            answer = final_answer(rollout.text)
            truncated = rollout.finish_reason == FinishReason.LENGTH
            graded = self._verdicts.grade_text(question, answer, truncated)
            row = self._row(question, rollout, step, Decoding.CHAIN_OF_THOUGHT, graded)
            rows.append(row)
        return _to_frame(rows)

    def _ask(
        self, questions: Sequence[Question], n: int, doing: str, *, greedy: bool
    ) -> list[tuple[Question, list[Rollout]]]:
        self._verdicts.prepare(questions)
        requests = [Request(q.question_id, self._responder.prompt(q), 0, n) for q in questions]
        answers = []
        with track(doing, len(questions), "questions") as advance:
            for answered in self._responder.respond(requests, EVALUATION_SEED, greedy=greedy):
                answers.append((questions[answered.position], answered.rollouts))
                advance(1)
        return answers

    def _row(
        self,
        question: Question,
        rollout: Rollout,
        step: int,
        decoding: Decoding,
        graded: Graded | None = None,
    ) -> dict[str, object]:
        graded = graded or self._verdicts.grade(question, rollout)
        return {
            "arm_id": self._arm_id,
            "step": step,
            "question_id": question.question_id,
            "decoding": str(decoding),
            "rollout": rollout.index,
            "text": rollout.text,
            "verdict": str(graded.verdict),
            "detail": graded.detail,
            "eval_grader": self._verdicts.grader.fingerprint,
            "logprob": rollout.logprob,
        }


def _to_frame(rows: Sequence[dict[str, object]]) -> pl.DataFrame:
    return pl.DataFrame(rows, schema_overrides={"logprob": pl.Float64})


def _hash(questions: Sequence[Question]) -> str:
    return content_hash(sorted(question.question_id for question in questions))
