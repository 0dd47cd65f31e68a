"""Rule `similar`: questions that share an answer and ask for it with much the same words.

Two questions are compared where one at least has no known subject (NQ, TriviaQA, WebQuestions,
SimpleQA), and both accept an answer and have a word that names something in common. How alike they
are is a chance from 0 to 1 that they ask for one fact. It is exact for every such pair: no hashing,
no sampling. Where both subjects are known the rules on entities decide, and this one says nothing.
"""

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Protocol

import polars as pl

from attrib.data.wording import Wording, are_forms_of_one, read_wording, split_words, weigh

LEAST_ALIKE = 0.5
"""From here on two questions are taken for one fact."""

_MOST_PAIRS = 3_000  # of one answer and word: what they have in common then says nothing
_LEAST_SHARED = 0.3  # of the weight of the words of the question with fewer
_OFTEN = 150  # questions with an answer, from which on more make no difference


class Compared(Protocol):
    """What is compared of a question."""

    @property
    def text(self) -> str:
        """The question."""
        ...

    @property
    def subject(self) -> str | None:
        """What it asks about, where that is known."""
        ...


@dataclass(frozen=True, slots=True)
class Pair:
    """Two questions by their places, the first the smaller, and how alike they are."""

    first: int
    second: int
    alike: float


@dataclass(frozen=True, slots=True)
class Likeness:
    """What speaks for and against one fact.

    Attributes:
        shorter: share, by weight, of the words of one question that the other has too; of the one
            that has fewer of its own.
        longer: the same of the other question.
        asked: share of what either asks that both ask; a half where neither is known to ask.
        subject: share of a known subject's words that the other question has; 1 if there is none.
        best: weight of the rarest word in common.
        answers: share of the accepted answers that both accept, of the question with fewer.
        answer_count: questions with the rarest answer that both accept.
        other_numbers: both have numbers, and not the same.
    """

    shorter: float
    longer: float
    asked: float
    subject: float
    best: float
    answers: float
    answer_count: int
    other_numbers: bool


@dataclass(frozen=True, slots=True)
class Read:
    """A question as it is compared."""

    wording: Wording
    subject: frozenset[str]
    answers: frozenset[str]


def find_similar(
    questions: Sequence[Compared],
    answers: Sequence[frozenset[str]],
    least_alike: float = LEAST_ALIKE,
) -> list[Pair]:
    """Return the pairs that are alike, the most alike first.

    Args:
        questions: all of a study.
        answers: the folded accepted answers of each.
        least_alike: how alike they must be.
    """
    counts = Counter(chain.from_iterable(answers))
    unnamed = set[str]().union(
        *(mine for question, mine in zip(questions, answers, strict=True) if not question.subject)
    )
    read = {
        place: _read(question, mine)
        for place, (question, mine) in enumerate(zip(questions, answers, strict=True))
        if not unnamed.isdisjoint(mine)  # else every question with this answer has a subject
    }
    if not read:
        return []
    found = []
    for first, second in _find_candidates(read, counts):
        alike = estimate(compare(read[first], read[second], counts))
        if alike >= least_alike:
            found.append(Pair(first, second, alike))
    return sorted(found, key=lambda pair: (-pair.alike, pair.first, pair.second))


def compare(one: Read, other: Read, counts: Counter[str]) -> Likeness:
    """Return what speaks for and against one fact, whichever question comes first.

    Args:
        one: a question.
        other: another, which accepts an answer of the first.
        counts: how many questions accept an answer.
    """
    a, b = one.wording, other.wording
    matched = [(word, word) for word in a.names & b.names]
    mine, others = a.names - b.names, b.names - a.names
    forms = [(x, y) for x in mine for y in others if are_forms_of_one(x, y)]
    for word, form in sorted(forms, key=sorted):  # the same, whichever question comes first
        if word in mine and form in others:
            matched.append((word, form))
            mine, others = mine - {word}, others - {form}
    shared = [min(map(weigh, pair)) for pair in matched]
    fewer, more = sorted((_weigh_all(mine), _weigh_all(others)))
    both, accepted = math.fsum(shared), one.answers & other.answers
    return Likeness(
        shorter=_divide(both, both + fewer),
        longer=_divide(both, both + more),
        asked=_divide(len(a.asked & b.asked), len(a.asked | b.asked), 0.5),
        subject=_divide(
            _weigh_all(one.subject & other.wording.words)
            + _weigh_all(other.subject & one.wording.words),
            _weigh_all(one.subject) + _weigh_all(other.subject),
            1.0,
        ),
        best=max(shared, default=0.0),
        answers=_divide(len(accepted), min(len(one.answers), len(other.answers))),
        answer_count=min(counts[answer] for answer in accepted),
        other_numbers=bool(a.numbers and b.numbers and a.numbers != b.numbers),
    )


def estimate(likeness: Likeness) -> float:
    """Return the chance of one fact.

    The coefficients are those of a logistic regression with a small ridge on 284 pairs of real
    questions, labelled by hand, that share an answer and a word.
    """
    logit = (
        5.16 * likeness.shorter
        + 0.42 * likeness.longer
        + 1.59 * likeness.asked
        + 4.43 * likeness.subject
        + 0.49 * likeness.best
        + 1.92 * likeness.answers
        - 0.39 * math.log(min(likeness.answer_count, _OFTEN))
        - 1.11 * likeness.other_numbers
        - 13.13
    )
    return 1.0 / (1.0 + math.exp(-logit))


def _read(question: Compared, answers: frozenset[str]) -> Read:
    subject = frozenset(split_words(question.subject or ""))
    return Read(read_wording(question.text), subject, answers)


def _find_candidates(read: Mapping[int, Read], counts: Counter[str]) -> Iterator[tuple[int, int]]:
    """Yield pairs of places that share an answer and, for their length, enough words."""
    words = _to_frame("word", ((i, w) for i, one in read.items() for w in one.wording.names))
    answers = _to_frame(
        "answer", ((i, a) for i, one in read.items() for a in one.answers if counts[a] > 1)
    )
    weights = words.select(pl.col("word").unique()).with_columns(
        weight=pl.col("word").map_elements(weigh, pl.Float64)
    )
    words = words.join(weights, on="word")
    has_subject = pl.DataFrame(
        {"place": list(read), "has_subject": [bool(one.subject) for one in read.values()]},
        {"place": pl.UInt32, "has_subject": pl.Boolean},
    )
    keyed = (
        answers.join(words, on="place")
        .join(has_subject, on="place")
        .with_columns(pl.col("answer").rank("dense"), pl.col("word").rank("dense"))
    )
    key = ["answer", "word"]
    pairs = pl.len() * (~pl.col("has_subject")).sum()
    keyed = keyed.filter((pl.len().over(key) > 1) & pairs.over(key).is_between(1, _MOST_PAIRS))
    totals = words.group_by("place").agg(pl.col("weight").sum())
    found = (
        keyed.filter(~pl.col("has_subject"))
        .join(keyed, on=key)
        .filter(pl.col("has_subject_right") | (pl.col("place") < pl.col("place_right")))
        .select(
            "word",
            "weight",
            first=pl.min_horizontal("place", "place_right"),
            second=pl.max_horizontal("place", "place_right"),
        )
        .unique(["first", "second", "word"])
        .group_by("first", "second")
        .agg(pl.col("weight").sum())
        .join(totals, left_on="first", right_on="place")
        .join(totals, left_on="second", right_on="place", suffix="_second")
        .filter(
            pl.col("weight") >= _LEAST_SHARED * pl.min_horizontal("weight_right", "weight_second")
        )
    )
    yield from found.select("first", "second").iter_rows()


def _to_frame(name: str, rows: Iterable[tuple[int, str]]) -> pl.DataFrame:
    return pl.DataFrame(list(rows), {"place": pl.UInt32, name: pl.String}, orient="row")


def _weigh_all(words: Iterable[str]) -> float:
    return math.fsum(map(weigh, words))


def _divide(part: float, whole: float, otherwise: float = 0.0) -> float:
    return part / whole if whole else otherwise
