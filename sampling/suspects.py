"""Suspect questions: the model may be right, and the accepted answers at fault.

Among never-correct questions "the model does not say it" and "the grader cannot accept it" look the
same. Three signs of the second: one answer dominates the rollouts and is not accepted; a response
misses an accepted answer by a letter; every accepted answer is longer than a rollout may be. They
are signs, not verdicts: a dominant answer is more often a firm error. They are counted and listed,
and excluded only where that is asked for.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from rapidfuzz.distance import OSA

from attrib.data.questions import AnswerType, Question
from attrib.sampling.normalise import ARTICLES, BREAK, name_keys, split_names

DOMINANT = 0.5
"""Share of the rollouts from which on one answer dominates them."""
_SHORTEST = 5  # letters of an answer of which one may be wrong
_TWO_WRONG = 11  # letters from which on two may be


class Reason(StrEnum):
    """Why a question is suspect."""

    DOMINANT_ANSWER = "dominant-answer"
    """At least half of the rollouts give one answer, which is not accepted."""
    NEAR_MISS = "near-miss"
    """A response has an accepted answer but for a letter, or two of a long one."""
    TOO_LONG = "too-long"
    """No accepted answer fits into the tokens of a rollout."""


@dataclass(frozen=True, slots=True)
class Suspect:
    """A question with one sign that its accepted answers are at fault."""

    question_id: str
    reason: Reason
    detail: str


@dataclass(frozen=True, slots=True)
class Said:
    """A distinct response, how often it came, and why it is not right."""

    text: str
    count: int
    detail: str


def find_suspects(
    questions: Iterable[Question],
    responses: Mapping[str, Sequence[Said]],
    most_characters: float,
) -> list[Suspect]:
    """Return the signs found, in the order of the questions.

    Args:
        questions: those never answered right.
        responses: what was said to each, by question id.
        most_characters: that a rollout has room for, about.
    """
    found = []
    for question in questions:
        said = responses.get(question.question_id, ())
        signs = {
            Reason.DOMINANT_ANSWER: _find_dominant(said),
            Reason.NEAR_MISS: _find_near_miss(question, said),
            Reason.TOO_LONG: _find_too_long(question, most_characters),
        }
        found += [
            Suspect(question.question_id, reason, detail)
            for reason, detail in signs.items()
            if detail
        ]
    return found


def _find_dominant(said: Sequence[Said]) -> str:
    """Return the answer that most rollouts give, and how many, if they are enough."""
    counts: Counter[str] = Counter()
    for one in said:
        counts[_answer_of(one)] += one.count
    total = sum(counts.values())
    counts.pop("", None)
    if not counts:
        return ""
    answer, count = counts.most_common(1)[0]
    return f"{answer} ({count} of {total})" if count >= DOMINANT * total else ""


def _answer_of(said: Said) -> str:
    """Return the known answer that a response gives, or all of a response that is short."""
    kind, _, answer = said.detail.partition(": ")
    if kind == "another answer":
        return answer
    keys = name_keys(said.text)
    return keys[0] if keys and kind == "no accepted answer" else ""


def _find_near_miss(question: Question, said: Sequence[Said]) -> str:
    """Return the words of a response that are almost an accepted answer, and that answer."""
    if question.answer_type is not AnswerType.NAME:
        return ""
    wanted = {
        key: answer
        for answer in question.answers
        for key in name_keys(answer)
        if len(key) >= _SHORTEST and not any(character.isdigit() for character in key)
    }
    for one in sorted(said, key=lambda one: (-one.count, one.text)):
        if one.detail.startswith(("another answer", "other answers")):
            continue  # a name of its own, however close
        for words in _runs(one.text, sorted({key.count(" ") + 1 for key in wanted})):
            if words in wanted:
                continue
            for key, answer in wanted.items():
                most = 2 if len(key) >= _TWO_WRONG else 1
                if 0 < OSA.distance(words, key, score_cutoff=most) <= most:
                    return f"{words} for {answer}"
    return ""


def _find_too_long(question: Question, most_characters: float) -> str:
    shortest = min(map(len, question.answers), default=0)
    if shortest <= most_characters:
        return ""
    return f"{shortest} characters, about {most_characters:.0f} fit into a rollout"


def _runs(text: str, lengths: Iterable[int]) -> Iterator[str]:
    words = [word for word in split_names(text).folded if word not in ARTICLES]
    for length in lengths:
        for start in range(len(words) - length + 1):
            run = words[start : start + length]
            if BREAK not in run:
                yield " ".join(run)
