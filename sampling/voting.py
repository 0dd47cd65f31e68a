"""Inference-time baselines: majority votes over rollouts, and answers after a chain of thought.

Owns what counts as the same answer in a vote, and which part of a reasoned response is its answer.
Neither needs training; both stand beside it in every evaluation.
"""

import math
import re
from collections.abc import Sequence
from dataclasses import replace

from attrib.data.questions import Question
from attrib.sampling.engine import FinishReason, Rollout
from attrib.sampling.matching import answer_keys
from attrib.sampling.prompts import PromptStyle

REASONING_PROMPT = (
    "Think about the question step by step. Then write the answer, as short as possible, on a last "
    "line that begins with 'Answer:'."
)
PLAIN_REASONING = "Q: {question}\n" + REASONING_PROMPT + "\nA:"
_MARKER = re.compile(r"answer\s*:", re.IGNORECASE)


def vote(question: Question, rollouts: Sequence[Rollout]) -> Rollout | None:
    """Return the most probable rollout of the answer that most rollouts give.

    Answers are the same if they are spelled alike up to what the grader's normalisation removes.
    Ties go to the answer whose distinct responses are more probable together.

    Returns:
        None where every rollout failed.
    """
    ballots: dict[str, list[Rollout]] = {}
    for rollout in rollouts:
        if rollout.finish_reason != FinishReason.ERROR:
            ballots.setdefault(ballot(question, rollout.text), []).append(rollout)
    if not ballots:
        return None
    _, chosen = max(
        ballots.items(), key=lambda item: (len(item[1]), _probability(item[1]), item[0])
    )
    return max(chosen, key=lambda rollout: (_logprob(rollout), rollout.text))


def ballot(question: Question, text: str) -> str:
    """Return the answer that a response votes for: texts with equal ballots give the same one."""
    keys = answer_keys(question, text)
    return keys[0] if keys else text.strip()


def reasoning_style(style: PromptStyle) -> PromptStyle:
    """Return the prompt that asks for a chain of thought where `style` asks for the answer only."""
    if style.system is None:
        return replace(style, template=PLAIN_REASONING, stop=("\nQ:",))
    return replace(style, system=REASONING_PROMPT)


def final_answer(text: str) -> str:
    """Return what a reasoned response gives as its answer: its last line, after `Answer:`."""
    marks = list(_MARKER.finditer(text))
    if marks:
        rest = text[marks[-1].end() :].strip()
        return rest.splitlines()[0].strip(" *") if rest else ""
    lines = [line for line in text.splitlines() if line.strip()]
    return lines[-1].strip() if lines else ""


def _probability(rollouts: Sequence[Rollout]) -> float:
    """Return the probability of the distinct responses among `rollouts`."""
    distinct = {rollout.token_ids or rollout.text: _logprob(rollout) for rollout in rollouts}
    return sum(math.exp(logprob) for logprob in distinct.values())


def _logprob(rollout: Rollout) -> float:
    return -math.inf if rollout.logprob is None else rollout.logprob
