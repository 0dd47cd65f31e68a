"""Facts: which questions ask for the same thing, in other words or in another data set.

The paper deduplicates train and test "at the fact level" without saying how. Here a cascade of
rules links questions, and what is linked, directly or through others, is one fact:

1. `same-question`: the texts are equal up to case, accents, punctuation and articles.
2. `same-entities`: subject and an accepted answer are the same two names, in either order (the
   capital of France, the country of Paris), whatever the relation is called.

Rules err on the side of linking: a fact taken for two leaks, two taken for one cost little.
"""

import re
import unicodedata
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache
from typing import Protocol

from scipy.cluster.hierarchy import DisjointSet  # type: ignore[import-untyped]

from attrib.data.similar import find_similar

_WORD = re.compile(r"\w+")
_ARTICLES = frozenset({"a", "an", "the"})


class Rule(StrEnum):
    """Why two questions ask for the same fact, the surest first."""

    SAME_QUESTION = "same-question"
    SAME_ENTITIES = "same-entities"
    SIMILAR = "similar"


class Asked(Protocol):
    """What is compared of a question."""

    @property
    def text(self) -> str:
        """The question."""
        ...

    @property
    def answers(self) -> tuple[str, ...]:
        """Its accepted answers."""
        ...

    @property
    def subject(self) -> str | None:
        """What it asks about, where that is known."""
        ...


@dataclass(frozen=True, slots=True)
class Link:
    """Two questions, by their places, and the first rule that says they are one fact."""

    first: int
    second: int
    rule: Rule


def find_links(questions: Sequence[Asked]) -> list[Link]:
    """Return links that join all questions of a fact: one less than it has questions.

    Of questions that are equal by a rule each is linked with the first, and similar ones as pairs,
    the most alike first, unless links before it join the two already; so the rule of a link is the
    surest that joins its ends.
    """
    facts = DisjointSet(range(len(questions)))
    links = []
    for rule, find_keys in _KEYS.items():
        first: dict[Hashable, int] = {}
        for place, question in enumerate(questions):
            for key in find_keys(question):
                start = first.setdefault(key, place)
                if facts.merge(start, place):
                    links.append(Link(start, place, rule))
    for pair in find_similar(questions, [fold_answers(question) for question in questions]):
        if facts.merge(pair.first, pair.second):
            links.append(Link(pair.first, pair.second, Rule.SIMILAR))
    return links


def join(count: int, links: Iterable[Link]) -> list[list[int]]:
    """Return the places of every fact's questions, ascending; facts by their first question."""
    facts = DisjointSet(range(count))
    for link in links:
        facts.merge(link.first, link.second)
    return sorted(sorted(members) for members in facts.subsets())


def fold_answers(question: Asked) -> frozenset[str]:
    """Return the accepted answers as `fold` makes them, without those it leaves empty."""
    return frozenset(filter(None, map(fold, question.answers)))


@lru_cache(maxsize=2**17)  # answers come many times
def fold(text: str) -> str:
    """Return the words of a text in lower case, without accents and articles."""
    plain = text.casefold()
    if not plain.isascii():
        parts = unicodedata.normalize("NFKD", unicodedata.normalize("NFKD", text).casefold())
        plain = "".join(c for c in parts if not unicodedata.combining(c))
    words = _WORD.findall(plain)
    return " ".join([word for word in words if word not in _ARTICLES] or words)


def _text_keys(question: Asked) -> Iterator[str]:
    folded = fold(question.text)
    if folded:
        yield folded


def _entity_keys(question: Asked) -> Iterator[frozenset[str]]:
    subject = fold(question.subject or "")
    for answer in dict.fromkeys(map(fold, question.answers)) if subject else ():
        if answer and answer != subject:
            yield frozenset((subject, answer))


_KEYS: Mapping[Rule, Callable[[Asked], Iterator[Hashable]]] = {
    Rule.SAME_QUESTION: _text_keys,
    Rule.SAME_ENTITIES: _entity_keys,
}
