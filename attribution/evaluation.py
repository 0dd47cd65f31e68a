"""Evaluating a model: greedy answers, sampled ones, votes and chains of thought, graded.

Owns the rows of the table `evaluations`. What is evaluated is the same for all arms of an
experiment, and part of their identity, since weights are usually not kept.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

import polars as pl

from attrib.config import content_hash
from attrib.data.questions import Question
from attrib.progress import track
from attrib.sampling.engine import Engine, Request, Rollout
from attrib.sampling.grading import Grader
from attrib.sampling.responder import Responder
from attrib.sampling.verdicts import Verdicts, to_response
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
        grader: of held-out and training questions.
        held_out: the questions that the experiment is about.
        transfer: other data sets, none of them trained on.
        training: all bucketed questions, where learning and forgetting show; empty for none.
        samples: rollouts of each held-out question; 0 for none.
        at: ascending fractions of the budget at which greedy answers are graded.
    """

    grader: Grader
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


_Answers = tuple[Question, list[Rollout]]
_ROWS = {
    **dict.fromkeys(("arm_id", "question_id", "decoding", "text", "verdict", "detail"), pl.String),
    **{"step": pl.Int64, "rollout": pl.Int64, "eval_grader": pl.String, "logprob": pl.Float64},
    "tokens": pl.Int64,
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
        answers = self._ask(questions, 1, "Evaluating", greedy=True)
        return self._grade(answers, step, Decoding.GREEDY)

    def samples(self, questions: Sequence[Question], step: int, n: int) -> pl.DataFrame:
        """Return n sampled answers per question, and the vote among them.

        The sampled ones have one column more, `token_ids`, which is not stored.
        """
        answers = self._ask(questions, n, "Sampling answers", greedy=False)
        winners = [(question, vote(question, rollouts)) for question, rollouts in answers]
        votes = [(question, [replace(winner, index=0)]) for question, winner in winners if winner]
        drawn = [rollout.token_ids for _, rollouts in answers for rollout in rollouts]
        token_ids = pl.Series("token_ids", drawn, dtype=pl.List(pl.Int32))
        return pl.concat(
            [
                self._grade(answers, step, Decoding.SAMPLE).with_columns(token_ids),
                self._grade(votes, step, Decoding.MAJORITY),
            ],
            how="diagonal",
        )

    def chain_of_thought(self, questions: Sequence[Question], step: int) -> pl.DataFrame:
        """Return one row per question: the answer at the end of its greedy reasoning."""
        answers = self._ask(questions, 1, "Reasoning", greedy=True)
        return self._grade(answers, step, Decoding.CHAIN_OF_THOUGHT, final_answer)

    def _ask(
        self, questions: Sequence[Question], n: int, doing: str, *, greedy: bool
    ) -> list[_Answers]:
        self._verdicts.prepare(questions)
        requests = [Request(q.question_id, self._responder.prompt(q), 0, n) for q in questions]
        answers = []
        with track(doing, len(questions), "questions") as advance:
            for answered in self._responder.respond(requests, EVALUATION_SEED, greedy=greedy):
                answers.append((questions[answered.position], answered.rollouts))
                advance(1)
        return answers

    def _grade(
        self,
        answers: Sequence[_Answers],
        step: int,
        decoding: Decoding,
        read: Callable[[str], str] = str,
    ) -> pl.DataFrame:
        """Return one row per rollout; what `read` finds in its text is graded."""
        pairs = [(question, rollout) for question, rollouts in answers for rollout in rollouts]
        responses = [to_response(question, rollout) for question, rollout in pairs]
        graded = self._verdicts.grade(
            [one and one._replace(text=read(one.text)) for one in responses]
        )
        rows = [
            {
                "arm_id": self._arm_id,
                "step": step,
                "question_id": question.question_id,
                "decoding": str(decoding),
                "rollout": rollout.index,
                "text": rollout.text,
                "verdict": str(one.verdict),
                "detail": one.detail,
                "eval_grader": self._verdicts.grader.fingerprint,
                "logprob": rollout.logprob,
                "tokens": rollout.tokens,
            }
            for (question, rollout), one in zip(pairs, graded, strict=True)
        ]
        return pl.DataFrame(rows, schema=_ROWS)


def _hash(questions: Sequence[Question]) -> str:
    return content_hash(sorted(question.question_id for question in questions))
