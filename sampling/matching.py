"""The two graders that need no model.

`match` looks for accepted answers inside the response and refuses to credit one beside another
answer of the same relation: who lists capitals knows none. `exact` wants the answer and nothing
else. What would be credited for one question is held against the response for all others, so no way
of writing gains by being unclear. An answer that is denied, offered as one of two, or only repeated
from the question earns nothing. A question without a relation has no other answers to compare:
there `match` credits lists of guesses; use `exact`.
"""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from itertools import islice
from typing import ClassVar

from attrib.config import content_hash
from attrib.data.questions import AnswerType, Question
from attrib.sampling.codes import code_keys, read_codes, unwrap_code
from attrib.sampling.context import (
    Neighbours,
    find_echoes,
    find_neighbours,
    is_denied,
    is_echo,
    is_guess,
)
from attrib.sampling.grading import Graded, Response, Verdict
from attrib.sampling.lexicon import Lexicon, Reading, build_lexicon, read_words
from attrib.sampling.normalise import (
    LONGEST_SHORT,
    Tail,
    answer_name_keys,
    find_core,
    find_tail,
    in_figures,
    name_keys,
    split_names,
    squash,
    visible,
)
from attrib.sampling.numerals import (
    find_unit,
    number_keys,
    split_numbers,
    whole_number_keys,
)

GRADER_VERSION = 4
"""Raise it whenever a rule changes: stored verdicts then belong to the older grader."""

_Relation = tuple[str, str, AnswerType]

_FIND_KEYS: Mapping[AnswerType, Callable[[str], tuple[str, ...]]] = {
    AnswerType.NAME: answer_name_keys,
    AnswerType.CODE: code_keys,
    AnswerType.NUMBER: number_keys,
}
_LISTED = 3  # other answers that a verdict names
_ABBREVIATED = 3  # letters by which a spelling may be longer than its key: kilogrammes
_EMPTY = Graded(Verdict.INCORRECT, "empty")
_NOT_FOUND = Graded(Verdict.INCORRECT, "no accepted answer")


@dataclass(frozen=True, slots=True)
class _Expected:
    """What to look for in responses to one question.

    Attributes:
        question: the question.
        answer_type: how its answers compare.
        accepted: the answer of each key.
        units: the units of each number that is accepted; empty for one that goes without.
        neutral: the keys of the question's subject.
        lexicons: the answers and the subject; all answers of the relation.
        first_names: the first spelling of each answer of the relation.
        echoes: where accepted names stand in the question itself.
        cores: words of which the letters of any response that `exact` accepts contain one; none
            where they are not known.
        longest: letters of the longest key.
        ungraded: the verdict where nothing is accepted.
    """

    question: Question
    answer_type: AnswerType
    accepted: Mapping[str, str]
    units: Mapping[str, Collection[str]]
    neutral: frozenset[str]
    lexicons: tuple[Lexicon, ...]
    first_names: Mapping[str, str]
    echoes: Mapping[str, Neighbours]
    cores: tuple[str, ...]
    longest: int
    ungraded: Graded | None


class _Universe:
    """All answers of a relation; read only when the first of them is graded."""

    def __init__(self, answer_type: AnswerType, answers: Iterable[str]) -> None:
        self._answer_type = answer_type
        self._answers = answers

    @cached_property
    def lexicon(self) -> Lexicon:
        """What to look for."""
        return build_lexicon(self._answers, _FIND_KEYS[self._answer_type])


@dataclass(frozen=True, slots=True)
class _StringGrader:
    """Keeps what is expected of each question."""

    fingerprint: str
    is_costly: ClassVar[bool] = False
    cost: ClassVar[str] = ""
    universes: Mapping[_Relation, "_Universe"] = field(repr=False, default_factory=dict)
    first_names: Mapping[_Relation, Mapping[str, str]] = field(repr=False, default_factory=dict)
    _expected: dict[str, _Expected] = field(default_factory=dict, repr=False, compare=False)

    def _expect(self, question: Question) -> _Expected:
        expected = self._expected.get(question.question_id)
        if expected is None or (
            expected.question is not question and expected.question != question
        ):
            relation = _relation(question)
            universe = self.universes.get(relation) if question.relation else None
            known = (universe.lexicon, self.first_names[relation]) if universe else (None, {})
            expected = _find_expected(question, *known)
            self._expected[question.question_id] = expected
        return expected


@dataclass(frozen=True, slots=True)
class MatchGrader(_StringGrader):
    """Correct: an accepted answer is in the response, and no other answer of the relation is.

    The subject of the question counts as neither. What a cut leaves open counts as neither.
    """

    name: str = "match"

    def grade(self, responses: Sequence[Response]) -> Iterator[Graded]:
        """Yield the verdict on each response."""
        for question, text, truncated in responses:
            yield self._grade(self._expect(question), text, truncated)

    def _grade(self, expected: _Expected, text: str, truncated: bool) -> Graded:
        if expected.ungraded is not None:
            return expected.ungraded
        if not visible(text).strip():
            return _EMPTY
        accepted, lexicons = expected.accepted, expected.lexicons
        if expected.answer_type is AnswerType.CODE:
            reading = read_codes(text, truncated, lexicons, accepted, expected.neutral)
            return _judge(reading, expected)
        if expected.answer_type is AnswerType.NUMBER:
            reading = read_words(split_numbers(text, truncated), lexicons, accepted)
            graded = _judge(reading, expected)
            if graded.verdict is Verdict.CORRECT:
                graded = _take_back(graded, expected, split_names(text, truncated).folded)
            return graded
        words = split_names(text, truncated)
        return _judge(read_words(words, lexicons, accepted), expected, words.folded)


@dataclass(frozen=True, slots=True)
class ExactGrader(_StringGrader):
    """Correct: the response is an accepted answer and nothing else, up to spelling."""

    name: str = "exact"

    def grade(self, responses: Sequence[Response]) -> Iterator[Graded]:
        """Yield the verdict on each response."""
        for question, text, truncated in responses:
            expected = self._expect(question)
            if expected.cores and text.isascii() and _is_hopeless(text, expected):
                yield _NOT_FOUND
            else:
                yield self._grade(expected, text, truncated)

    def _grade(self, expected: _Expected, text: str, truncated: bool) -> Graded:
        if expected.ungraded is not None:
            return expected.ungraded
        shown = visible(text)
        if not shown.strip():
            return _EMPTY
        keys = _whole_keys(expected.answer_type, shown)
        key = next((key for key in keys if key in expected.accepted), "")
        if not key:
            return _NOT_FOUND
        is_number = expected.answer_type is AnswerType.NUMBER
        tail = split_numbers(text, truncated).tail if is_number else find_tail(shown, truncated)
        if tail is not Tail.CLOSED:
            return _cut_off(shown.strip())
        return Graded(Verdict.CORRECT, f"accepted: {expected.accepted[key]}")


def answer_keys(question: Question, text: str) -> tuple[str, ...]:
    """Return the spellings under which a response compares as an answer to the question."""
    return _FIND_KEYS[_compares_as(question.answer_type, question.answers)](text)


@lru_cache(maxsize=4096)
def _compares_as(answer_type: AnswerType, answers: tuple[str, ...]) -> AnswerType:
    """Return how answers compare: those that are no plain numbers (03:11:22, a DOI) as names."""
    if answer_type is AnswerType.NUMBER and not any(map(number_keys, answers)):
        return AnswerType.NAME
    return answer_type


def make_exact_grader() -> ExactGrader:
    """Return the grader that wants nothing but the answer."""
    return ExactGrader(_fingerprint("exact", []))


def make_match_grader(questions: Sequence[Question]) -> MatchGrader:
    """Return the grader that looks for the answer.

    Args:
        questions: all questions of the imported data set, not only those of a run. They give each
            relation's universe of answers.
    """
    answers: dict[_Relation, set[str]] = {}
    first_names: dict[_Relation, dict[str, str]] = {}
    for question in sorted(questions, key=lambda question: question.question_id):
        if question.relation:
            answers.setdefault(_relation(question), set()).update(question.answers)
            names = first_names.setdefault(_relation(question), {})
            for answer in question.answers:
                names.setdefault(answer, question.answers[0])
    universes = {relation: _Universe(relation[2], those) for relation, those in answers.items()}
    record = sorted([*relation, sorted(those)] for relation, those in answers.items())
    return MatchGrader(_fingerprint("match", record), universes, first_names)


def _find_expected(
    question: Question, universe: Lexicon | None, first_names: Mapping[str, str]
) -> _Expected:
    answer_type = _compares_as(question.answer_type, question.answers)
    find_keys = _FIND_KEYS[answer_type]
    accepted: dict[str, str] = {}
    units: dict[str, set[str]] = {}
    for answer in question.answers:
        for key in find_keys(answer):
            accepted.setdefault(key, answer)
            if answer_type is AnswerType.NUMBER:
                units.setdefault(key, set()).add(_unit_of(answer))
        if answer_type is AnswerType.NUMBER and not whole_number_keys(answer):
            for key in name_keys(answer):  # 390 metres, as the whole response
                accepted.setdefault(key, answer)
    listed = ", ".join(repr(answer) for answer in question.answers) or "none given"
    subject = [question.subject] if question.subject else []
    own = build_lexicon([*question.answers, *subject], find_keys)
    cores = [find_core(key) for key in accepted]
    is_name = answer_type is AnswerType.NAME
    is_plain = is_name and not any(character.isdigit() for key in accepted for character in key)
    return _Expected(
        question,
        answer_type,
        accepted,
        units,
        neutral=frozenset(key for name in subject for key in find_keys(name)),
        lexicons=(own, universe) if universe else (own,),
        first_names=first_names,
        echoes=find_echoes(question.text, accepted) if is_name else {},
        cores=tuple(dict.fromkeys(cores)) if is_plain and all(cores) else (),
        longest=max(map(len, accepted), default=0),
        ungraded=None
        if accepted
        else Graded(Verdict.UNGRADED, f"no accepted answer compares as a {answer_type}: {listed}"),
    )


def _is_hopeless(text: str, expected: _Expected) -> bool:
    """Tell at a glance that an ASCII text is not an answer alone; most are not.

    It has letters of its own: more than those of a key, and of an article (three) or an aside such
    as e.g. for each character between words, and some for another spelling; or none of the words
    that it would have to have.
    """
    letters = squash(text)
    apart = len(text) - len(letters)
    if len(letters) > expected.longest + _ABBREVIATED + 3 * apart:
        return True
    return (
        bool(letters)
        and not any(core in letters for core in expected.cores)
        and "." not in text.rstrip()[:-1]
    )


def _judge(reading: Reading, expected: _Expected, folded: Sequence[str] = ()) -> Graded:
    """Return the verdict on what a response was found to say.

    Args:
        reading: the answers in it.
        expected: what to look for.
        folded: its words, where those beside an answer count.
    """
    accepted, others = "", dict[str, None]()
    places = []
    for found in reading.found:
        key = next((key for key in found.keys if key in expected.accepted), "")
        if folded:
            around = find_neighbours(folded, found.start, found.end)
            if is_denied(around) or (key and is_echo(found.keys, around, expected.echoes)):
                continue
            if key:
                places.append(around)
        if key:
            accepted = accepted or expected.accepted[key]
        elif expected.neutral.isdisjoint(found.keys):
            first = found.keys[0]
            names = (each.names[first] for each in expected.lexicons if first in each.names)
            other = next(names)
            others.setdefault(expected.first_names.get(other, other))
    if accepted and (others or is_guess(places)):
        beside = next(iter(others), "a guess")
        return Graded(Verdict.INCORRECT, f"another answer besides {accepted}: {beside}")
    if accepted:
        return Graded(Verdict.CORRECT, f"accepted: {accepted}")
    if others:
        one = "another answer" if len(others) == 1 else "other answers"
        return Graded(Verdict.INCORRECT, f"{one}: {', '.join(islice(others, _LISTED))}")
    return _cut_off(reading.cut) if reading.cut else _NOT_FOUND


def _take_back(graded: Graded, expected: _Expected, folded: Sequence[str]) -> Graded:
    """Return the verdict on a right number with what stands beside it.

    A denial, another unit or a guess take it back.
    """
    places = [
        (find_neighbours(folded, at, at + 1), expected.units[number], find_unit(folded, at + 1))
        for at, number in enumerate(map(in_figures, folded))
        if number in expected.units
    ]
    kept = [
        around
        for around, units, unit in places
        if not is_denied(around) and (not unit or unit in units or "" in units)
    ]
    if places and not kept:
        return _NOT_FOUND
    if is_guess(kept):
        named = graded.detail.removeprefix("accepted: ")
        return Graded(Verdict.INCORRECT, f"another answer besides {named}: a guess")
    return graded


def _cut_off(text: str) -> Graded:
    return Graded(Verdict.INCORRECT, f"cut off inside the answer: {text}")


def _whole_keys(answer_type: AnswerType, text: str) -> Iterable[str]:
    """Return the spellings of a response that is to be nothing but an answer."""
    if answer_type is AnswerType.CODE:
        return (unwrap_code(text),)
    keys = name_keys(text)
    if answer_type is AnswerType.NUMBER:
        return (*whole_number_keys(text), *keys)
    return (*keys, *(key.upper() for key in keys if len(key) <= LONGEST_SHORT))


def _unit_of(answer: str) -> str:
    folded = split_names(answer).folded
    return next(filter(None, (find_unit(folded, at) for at in range(len(folded)))), "")


def _relation(question: Question) -> _Relation:
    return question.dataset, question.relation or "", question.answer_type


def _fingerprint(name: str, record: object) -> str:
    return f"{name}-{content_hash([name, GRADER_VERSION, record])[:12]}"
