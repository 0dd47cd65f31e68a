"""Suspect questions: the model may be right, and the accepted answers at fault.

Among never-correct questions "the model does not say it" and "the grader cannot accept it" look the
same. Three signs of the second: one answer dominates the rollouts and is not accepted; a response
misses an accepted answer by a letter; every accepted answer is longer than a rollout may be. They
are signs, not verdicts: a dominant answer is more often a firm error. They are counted and listed,
and excluded only where that is asked for.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum

import polars as pl
from rapidfuzz.distance import OSA

from attrib.data.questions import AnswerType, Question
from attrib.sampling.normalise import ARTICLES, BREAK, name_keys, split_names
from attrib.sampling.outlines import outline, untouched_pieces

DOMINANT = 0.5
"""Share of the rollouts from which on one answer dominates them."""
_SHORTEST = 5  # letters of an answer of which one may be wrong
_TWO_WRONG = 11  # letters from which on two may be
_ANOTHER, _OTHER, _NONE = "another answer", "other answers", "no accepted answer"
_IS_ANOTHER = pl.col("detail").str.starts_with(f"{_ANOTHER}: ")
_IS_NONE = (pl.col("detail") + ": ").str.starts_with(f"{_NONE}: ")


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
class _Said:
    """The distinct responses to a question: lists of equal length."""

    text: Sequence[str]
    count: Sequence[int]
    detail: Sequence[str]
    """Why they are not right."""
    outline: Sequence[str | None]


def find_suspects(
    questions: Iterable[Question], said: pl.DataFrame, most_characters: float
) -> list[Suspect]:
    """Return the signs found, in the order of the questions.

    Args:
        questions: those never answered right.
        said: distinct responses to them, with the columns `question_id`, `text`, `count` and
            `detail` (why it is not right).
        most_characters: that a rollout has room for, about.
    """
    answer = pl.when(_IS_ANOTHER).then(pl.col("detail").str.strip_prefix(f"{_ANOTHER}: "))
    said = said.with_columns(outline=outline(answer.otherwise("text")))
    close = _group(said.join(_may_dominate(said), on="question_id", how="semi"))
    # A name of its own is no near miss, however close.
    is_name = pl.any_horizontal(pl.col("detail").str.starts_with(one) for one in (_ANOTHER, _OTHER))
    unnamed = _group(said.filter(~is_name))
    found = []
    for question in questions:
        signs = {
            Reason.DOMINANT_ANSWER: _find_dominant(close.get(question.question_id)),
            Reason.NEAR_MISS: _find_near_miss(question, unnamed.get(question.question_id)),
            Reason.TOO_LONG: _find_too_long(question, most_characters),
        }
        found += [
            Suspect(question.question_id, reason, detail)
            for reason, detail in signs.items()
            if detail
        ]
    return found


def _group(said: pl.DataFrame) -> dict[str, _Said]:
    columns = ("text", "count", "detail", "outline")
    grouped = said.group_by("question_id", maintain_order=True).agg(columns)
    lists = (grouped[name].to_list() for name in columns)
    return dict(zip(grouped["question_id"], map(_Said, *lists), strict=True))


def _may_dominate(said: pl.DataFrame) -> pl.DataFrame:
    """Return the questions of which, by the outlines, one answer may be that of most rollouts."""
    outlines = said.group_by("question_id", "outline").agg(
        total=pl.col("count").sum(),
        answers=pl.col("count").filter(_IS_ANOTHER | _IS_NONE).sum(),
    )
    is_clear = pl.col("outline").is_not_null()
    largest = pl.col("answers").filter(is_clear).max().fill_null(0)
    unclear = pl.col("answers").filter(~is_clear).sum()
    enough = largest + unclear >= DOMINANT * pl.col("total").sum()
    return outlines.group_by("question_id").agg(enough.alias("enough")).filter("enough")


def _find_dominant(said: _Said | None) -> str:
    """Return the answer that most rollouts give, and how many, if they are enough."""
    if said is None:
        return ""
    counts: Counter[str] = Counter()
    for text, count, detail in zip(said.text, said.count, said.detail, strict=True):
        counts[_answer_of(text, detail)] += count
    total = sum(counts.values())
    counts.pop("", None)
    if not counts:
        return ""
    answer, count = counts.most_common(1)[0]
    return f"{answer} ({count} of {total})" if count >= DOMINANT * total else ""


def _answer_of(text: str, detail: str) -> str:
    """Return the known answer that a response gives, or all of a response that is short."""
    kind, _, answer = detail.partition(": ")
    if kind == _ANOTHER:
        return answer
    keys = name_keys(text) if kind == _NONE else ()
    return keys[0] if keys else ""


def _find_near_miss(question: Question, said: _Said | None) -> str:
    """Return the words of a response that are almost an accepted answer, and that answer."""
    if said is None or question.answer_type is not AnswerType.NAME:
        return ""
    wanted = {
        key: answer
        for answer in question.answers
        for key in name_keys(answer)
        if len(key) >= _SHORTEST and not any(character.isdigit() for character in key)
    }
    pieces = {piece for key in wanted for piece in untouched_pieces(key, _most_wrong(key))}
    lengths = sorted({key.count(" ") + 1 for key in wanted})
    close = [
        (-count, text)
        for text, count, letters in zip(said.text, said.count, said.outline, strict=True)
        if letters is None or any(piece in letters for piece in pieces)
    ]
    for _, text in sorted(close):
        for words in _runs(text, lengths):
            if words in wanted:
                continue
            for key, answer in wanted.items():
                most = _most_wrong(key)
                if 0 < OSA.distance(words, key, score_cutoff=most) <= most:
                    return f"{words} for {answer}"
    return ""


def _most_wrong(key: str) -> int:
    """Return how many letters of a name may be wrong in a near miss."""
    return 2 if len(key) >= _TWO_WRONG else 1


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
