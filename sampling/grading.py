"""Decide whether a response is correct.

Owns verdicts and the two graders that need no model. `match` looks for accepted answers inside the
response and refuses to credit one beside another answer of the same relation: who lists capitals
knows none. `exact` wants the answer and nothing else. What would be credited for one question is
held against the response for all others, so no way of writing gains by being unclear. A question
without a relation has no others to compare: there `match` credits lists of guesses; use `exact`.

The paper's reward is binary and not specified further; these rules are ours.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol

from attrib.config import content_hash
from attrib.data.questions import AnswerType, Question
from attrib.errors import ConfigError
from attrib.sampling.codes import code_keys, read_codes, unwrap_code
from attrib.sampling.lexicon import Lexicon, Reading, build_lexicon, read_words
from attrib.sampling.normalise import (
    LONGEST_SHORT,
    Tail,
    find_tail,
    name_keys,
    split_names,
    visible,
)
from attrib.sampling.numerals import number_keys, split_numbers, whole_number_keys

GRADER_VERSION = 1
"""Raise it whenever a rule changes: stored verdicts then belong to the older grader."""


class Verdict(StrEnum):
    """What became of grading a response. Only the first two enter statistics."""

    CORRECT = "correct"
    """The response gives an accepted answer."""
    INCORRECT = "incorrect"
    """It does not, or gives others besides."""
    UNGRADED = "ungraded"
    """The question has no answer that this grader can compare."""
    FAILED = "failed"
    """No response, or no grader, came to be. The graders of this module never return it."""


@dataclass(frozen=True, slots=True)
class Graded:
    """A verdict with its reason, such as `accepted: Paris` or `another answer: London`."""

    verdict: Verdict
    detail: str


class Grader(Protocol):
    """Grades responses; `fingerprint` changes whenever a verdict might."""

    @property
    def name(self) -> str:
        """What users call the grader."""
        ...

    @property
    def fingerprint(self) -> str:
        """The name with a hash of everything but question and response that verdicts depend on."""
        ...

    def grade(self, question: Question, text: str, truncated: bool) -> Graded:
        """Grade `text`; `truncated` says that the token limit cut it off."""
        ...


_Relation = tuple[str, str, AnswerType]

_FIND_KEYS: Mapping[AnswerType, Callable[[str], tuple[str, ...]]] = {
    AnswerType.NAME: name_keys,
    AnswerType.CODE: code_keys,
    AnswerType.NUMBER: number_keys,
}
_EMPTY = Graded(Verdict.INCORRECT, "empty")
_NOT_FOUND = Graded(Verdict.INCORRECT, "no accepted answer")


@dataclass(frozen=True, slots=True)
class _Expected:
    """What to look for: `accepted` has the answer of each key, `neutral` are the subject's keys."""

    accepted: Mapping[str, str]
    neutral: frozenset[str]
    lexicons: tuple[Lexicon, ...]


@dataclass(frozen=True, slots=True)
class MatchGrader:
    """Correct: an accepted answer is in the response, and no other answer of the relation is.

    The subject of the question counts as neither. What a cut leaves open counts as neither.
    """

    universes: Mapping[_Relation, Lexicon] = field(repr=False)
    fingerprint: str
    name: str = "match"
    _expected: dict[Question, _Expected] = field(default_factory=dict, repr=False, compare=False)

    def grade(self, question: Question, text: str, truncated: bool) -> Graded:
        """Grade `text`; `truncated` says that the token limit cut it off."""
        expected = self._expected.get(question)
        if expected is None:
            expected = self._expected[question] = self._expect(question)
        if not expected.accepted:
            return _ungraded(question)
        if not visible(text).strip():
            return _EMPTY
        if question.answer_type is AnswerType.CODE:
            reading = read_codes(
                text, truncated, expected.lexicons, expected.accepted, expected.neutral
            )
        else:
            is_name = question.answer_type is AnswerType.NAME
            words = (split_names if is_name else split_numbers)(text, truncated)
            reading = read_words(words, expected.lexicons, expected.accepted)
        return _judge(reading, expected)

    def _expect(self, question: Question) -> _Expected:
        find_keys = _FIND_KEYS[question.answer_type]
        subject = [question.subject] if question.subject else []
        lexicons = [build_lexicon([*question.answers, *subject], find_keys)]
        universe = self.universes.get(_relation(question)) if question.relation else None
        return _Expected(
            accepted=_accepted(question),
            neutral=frozenset(key for name in subject for key in find_keys(name)),
            lexicons=(*lexicons, universe) if universe else tuple(lexicons),
        )


@dataclass(frozen=True, slots=True)
class ExactGrader:
    """Correct: the response is an accepted answer and nothing else, up to spelling."""

    fingerprint: str
    name: str = "exact"
    _accepted: dict[Question, Mapping[str, str]] = field(
        default_factory=dict, repr=False, compare=False
    )

    def grade(self, question: Question, text: str, truncated: bool) -> Graded:
        """Grade `text`; `truncated` says that the token limit cut it off."""
        accepted = self._accepted.get(question)
        if accepted is None:
            accepted = self._accepted[question] = _accepted(question)
        if not accepted:
            return _ungraded(question)
        shown = visible(text)
        if not shown.strip():
            return _EMPTY
        key = next((key for key in _whole_keys(question.answer_type, shown) if key in accepted), "")
        if not key:
            return _NOT_FOUND
        is_number = question.answer_type is AnswerType.NUMBER
        tail = split_numbers(text, truncated).tail if is_number else find_tail(shown, truncated)
        if tail is not Tail.CLOSED:
            return _cut_off(shown.strip())
        return Graded(Verdict.CORRECT, f"accepted: {accepted[key]}")


def answer_keys(question: Question, text: str) -> tuple[str, ...]:
    """Return the spellings under which a response compares as an answer to the question."""
    return _FIND_KEYS[question.answer_type](text)


def make_grader(name: str, questions: Sequence[Question]) -> Grader:
    """Return the grader called `name`.

    Args:
        name: `match` or `exact`.
        questions: all questions of the imported data set, not only those of a run. They give each
            relation's universe of answers.

    Raises:
        ConfigError: there is no such grader.
    """
    if name == "exact":
        return ExactGrader(_fingerprint(name, []))
    if name != "match":
        raise ConfigError(f"There is no grader '{name}'. Choose one of: match, exact")
    answers: dict[_Relation, set[str]] = {}
    for question in questions:
        if question.relation:
            answers.setdefault(_relation(question), set()).update(question.answers)
    universes = {
        relation: build_lexicon(those, _FIND_KEYS[relation[2]])
        for relation, those in answers.items()
    }
    record = sorted([*relation, sorted(those)] for relation, those in answers.items())
    return MatchGrader(universes, _fingerprint(name, record))


def _judge(reading: Reading, expected: _Expected) -> Graded:
    """Return the verdict on what a response was found to say."""
    accepted, other = "", ""
    for keys in reading.found:
        key = next((key for key in keys if key in expected.accepted), "")
        if key:
            accepted = accepted or expected.accepted[key]
        elif not other and expected.neutral.isdisjoint(keys):
            other = next(each.names[keys[0]] for each in expected.lexicons if keys[0] in each.names)
    if accepted and other:
        return Graded(Verdict.INCORRECT, f"another answer besides {accepted}: {other}")
    if accepted:
        return Graded(Verdict.CORRECT, f"accepted: {accepted}")
    if other:
        return Graded(Verdict.INCORRECT, f"another answer: {other}")
    return _cut_off(reading.cut) if reading.cut else _NOT_FOUND


def _cut_off(text: str) -> Graded:
    return Graded(Verdict.INCORRECT, f"cut off inside the answer: {text}")


def _ungraded(question: Question) -> Graded:
    listed = ", ".join(repr(answer) for answer in question.answers) or "none given"
    return Graded(
        Verdict.UNGRADED, f"no accepted answer compares as a {question.answer_type}: {listed}"
    )


def _accepted(question: Question) -> dict[str, str]:
    find_keys = _FIND_KEYS[question.answer_type]
    accepted: dict[str, str] = {}
    for answer in question.answers:
        for key in find_keys(answer):
            accepted.setdefault(key, answer)
    return accepted


def _whole_keys(answer_type: AnswerType, text: str) -> Iterable[str]:
    """Return the spellings of a response that is to be nothing but an answer."""
    if answer_type is AnswerType.CODE:
        return (unwrap_code(text),)
    if answer_type is AnswerType.NUMBER:
        return whole_number_keys(text)
    keys = name_keys(text)
    return (*keys, *(key.upper() for key in keys if len(key) <= LONGEST_SHORT))


def _relation(question: Question) -> _Relation:
    return question.dataset, question.relation or "", question.answer_type


def _fingerprint(name: str, record: object) -> str:
    return f"{name}-{content_hash([name, GRADER_VERSION, record])[:12]}"
