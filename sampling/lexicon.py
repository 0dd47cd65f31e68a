"""Find the answers of a relation in a response.

Owns leftmost-longest matching: at each word the longest known answer is taken and its words are
used up, so that Papua New Guinea is never seen as Guinea. Refuses to guess beyond the cut of a
truncated response: words that may still become another answer count as none and are reported.
"""

from bisect import bisect_left
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate, islice

from attrib.sampling.normalise import ARTICLES, Tail, Words


@dataclass(frozen=True, slots=True)
class Found:
    """An answer in a response: its possible keys, and the place of what says it."""

    keys: tuple[str, ...]
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Reading:
    """What a response says: the answers found, from left to right, and the words left open."""

    found: tuple[Found, ...]
    cut: str = ""


@dataclass(frozen=True, slots=True)
class Lexicon:
    """Answers to look for.

    `names` gives the answer of each key, `prefixes` holds the keys and their beginnings up to every
    word, `first_words` the shortest of these, `short` the keys that compare with their case,
    `ordered` the keys sorted, `lengths` how many characters they have, most first.
    """

    names: Mapping[str, str]
    prefixes: frozenset[str]
    first_words: frozenset[str]
    short: frozenset[str]
    ordered: tuple[str, ...]
    lengths: tuple[int, ...]

    def longest(self, words: list[str], start: int, stop: int) -> tuple[int, str, str]:
        """Return end and key of the longest answer that begins at word `start`.

        The third value is the beginning of a key that all words up to `stop` make up, or empty.
        """
        end, key, path = start, "", ""
        for at in range(start, stop):
            step = f"{path} {words[at]}" if path else words[at]
            if step in self.prefixes:
                path = step
                if step in self.names:
                    end, key = at + 1, step
            elif not path or words[at] not in ARTICLES:
                return end, key, ""
        return end, key, path

    def beginning_with(self, prefix: str) -> Iterator[str]:
        """Yield the keys that begin with `prefix`."""
        for at in range(bisect_left(self.ordered, prefix), len(self.ordered)):
            if not self.ordered[at].startswith(prefix):
                return
            yield self.ordered[at]


def build_lexicon(answers: Iterable[str], find_keys: Callable[[str], Iterable[str]]) -> Lexicon:
    """Return the lexicon of `answers`; where two share a key, the first by code point names it."""
    names: dict[str, str] = {}
    for answer in sorted(set(answers)):
        for key in find_keys(answer):
            names.setdefault(key, answer)
    prefixes = frozenset(
        prefix for key in names for prefix in accumulate(key.split(" "), "{} {}".format)
    )
    lengths = tuple(sorted({len(key) for key in names}, reverse=True))
    first_words = frozenset(key.partition(" ")[0] for key in names)
    short = frozenset(key for key in first_words & names.keys() if key != key.casefold())
    return Lexicon(names, prefixes, first_words, short, tuple(sorted(names)), lengths)


def read_words(words: Words, lexicons: Collection[Lexicon], accepted: Collection[str]) -> Reading:
    """Find the answers in `words`.

    A last word that may go on after the cut is none. Nor are the words before it that it may still
    turn into an answer that is not `accepted`.
    """
    found: list[Found] = []
    cut = ""
    end = 0
    last = len(words.folded) - 1
    short = _find_short(words, lexicons)
    for start in _find_starts(words, lexicons, short):
        if start < end:
            continue
        if words.tail is not Tail.CLOSED:
            inside = words.tail is Tail.OPEN and start == last
            openings = list(islice(_openings(words, start, lexicons, short), 1 if inside else None))
            if openings:
                cut = " ".join(words.spelled[start:])
            if inside or any(key not in accepted for key in openings):
                break
        end, keys = _longest(words, start, lexicons, short[start] if short else "")
        if keys:
            found.append(Found(keys, start, end))
    return Reading(tuple(found), cut)


def _find_short(words: Words, lexicons: Collection[Lexicon]) -> list[str]:
    """Return the short name that each word may be; an empty list where none is an answer."""
    known = [lexicon.short for lexicon in lexicons if lexicon.short]
    if not known:
        return []
    if words.tail is Tail.CLOSED or words.tail is Tail.SPACED:
        spelled = [word.upper() for word in words.spelled]
        if all(short.isdisjoint(spelled) for short in known):
            return []
    return words.find_short()


def _find_starts(
    words: Words, lexicons: Collection[Lexicon], short: Sequence[str]
) -> Iterable[int]:
    """Return the places where an answer may begin, the last word included if it may go on."""
    starts: set[int] = set()
    for lexicon in lexicons:
        first_words = lexicon.first_words
        if not first_words.isdisjoint(words.folded):
            starts.update(at for at, word in enumerate(words.folded) if word in first_words)
    starts.update(at for at, name in enumerate(short) if name)
    if words.tail is not Tail.CLOSED and words.folded:
        starts.add(len(words.folded) - 1)
    return sorted(starts)


def _longest(
    words: Words, start: int, lexicons: Collection[Lexicon], short: str
) -> tuple[int, tuple[str, ...]]:
    """Return end and keys of the longest answer at `start`; one word may be US and us at once."""
    stop = len(words.folded) - (words.tail is Tail.OPEN)
    ends = {short: start + 1} if short and any(short in each.names for each in lexicons) else {}
    for lexicon in lexicons:
        end, key, _ = lexicon.longest(words.folded, start, stop)
        if key:
            ends[key] = end
    furthest = max(ends.values(), default=start)
    return furthest, tuple(key for key, end in ends.items() if end == furthest)


def _openings(
    words: Words, start: int, lexicons: Collection[Lexicon], short: Sequence[str]
) -> Iterator[str]:
    """Yield the keys that the words from `start` to the cut may still become."""
    last = len(words.folded) - 1
    for lexicon in lexicons:
        stop = last if words.tail is Tail.OPEN else last + 1
        path = lexicon.longest(words.folded, start, stop)[2]
        if start < stop and not path:
            continue
        if words.tail is Tail.OPEN:
            partial = words.folded[last]
            yield from lexicon.beginning_with(f"{path} {partial}" if path else partial)
            if path and partial in ARTICLES:
                yield from lexicon.beginning_with(f"{path} ")
        elif words.tail is Tail.SPACED:
            yield from lexicon.beginning_with(f"{path} ")
        else:
            yield from (key for key in lexicon.beginning_with(path) if key != path)
        if start == last and short and short[last]:
            yield from _short_openings(words.tail, short[last], lexicon)


def _short_openings(tail: Tail, short: str, lexicon: Lexicon) -> Iterator[str]:
    """Yield the abbreviations that the last word may still become."""
    for key in lexicon.beginning_with(short):
        if tail is Tail.OPEN or (tail is Tail.DOTTED and key != short):
            yield key
