"""What stands around an answer in a response, and takes it back.

Owns three readings of the words beside a name: it is denied (`not Paris`), it is one of several
guesses (`Paris or London`), or it only repeats the question (`the capital of Singapore is …`).
Refuses to understand more than the next word: irony, conditions and lists pass.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from attrib.sampling.normalise import ARTICLES, BREAK, FUNCTION_WORDS, split_names

_NEGATIONS = frozenset(
    [
        "not",
        "never",
        "nor",
        "neither",
        "cannot",
        "cant",
        "hardly",
        "isnt",
        "wasnt",
        "arent",
        "werent",
        "doesnt",
        "didnt",
    ]
)
_EXCEPTIONS = (("but", "anything"), ("but", "anywhere"), ("than", "rather"), ("than", "other"))
"""Words before what is excluded, the nearest first."""
_INTRODUCTIONS = frozenset(
    ["is", "was", "are", "were", "be", "been", "in", "by", "called", "named"]
)
"""Words after which an answer is given, rather than the question taken up."""
_OR = "or"
_REACH = 12
"""Words of grammar that are read on either side."""


@dataclass(frozen=True, slots=True)
class Neighbours:
    """What stands before and after; articles do not count.

    Attributes:
        before: the word before; None where the line begins.
        after: the word after; None where it ends.
        before_at: the place of the word before.
        after_at: the place of the word after.
        left: the words before, back to the first that is not a word of grammar: `capital of`.
        right: the words after, up to the first that is none; empty where there is none.
    """

    before: str | None
    after: str | None
    before_at: int
    after_at: int
    left: tuple[str, ...]
    right: tuple[str, ...]


def find_neighbours(folded: Sequence[str], start: int, end: int) -> Neighbours:
    """Return the neighbours of the words `start` … `end`-1."""
    left, before_at = _walk(folded, range(start - 1, max(start - _REACH, 0) - 1, -1))
    right, after_at = _walk(folded, range(end, min(end + _REACH, len(folded))))
    return Neighbours(
        left[0] if left else None, right[0] if right else None, before_at, after_at, left, right
    )


def _walk(folded: Sequence[str], places: Iterable[int]) -> tuple[tuple[str, ...], int]:
    """Return the words up to the first content word, and the place of the first of them."""
    words: list[str] = []
    first = -1
    for at in places:
        word = folded[at]
        if word == BREAK:
            break
        if word not in ARTICLES:
            first = first if words else at
            words.append(word)
            if word not in FUNCTION_WORDS:
                break
    return tuple(words), first


def find_echoes(question: str, keys: Iterable[str]) -> Mapping[str, Neighbours]:
    """Return where in a question each of the answers `keys` stands, if it does.

    One that the question offers as an alternative (left or right) is left out.
    """
    content = [word for word in split_names(question).folded if word not in ARTICLES]
    text = f" {' '.join(content)} "
    echoes = {}
    for key in keys:
        place = text.find(f" {key} ")
        if place >= 0:
            start = text.count(" ", 0, place)
            around = find_neighbours(content, start, start + key.count(" ") + 1)
            if _OR not in (around.before, around.after):
                echoes[key] = around
    return echoes


def is_denied(around: Neighbours) -> bool:
    """Tell whether what stands there is said not to be the answer.

    Only words of grammar may stand between: `not in Paris`, `cannot be Paris`; `not only Paris`
    denies nothing.
    """
    before = around.left
    if before[:2] in _EXCEPTIONS:
        return True
    return "only" not in before and not _NEGATIONS.isdisjoint(before)


def is_echo(keys: Sequence[str], around: Neighbours, echoes: Mapping[str, Neighbours]) -> bool:
    """Tell whether an answer only repeats the question.

    It does between the same words as in the question. One of several words, all of which the
    question has, also does beside others, unless a word introduces it that does not there: `it is
    in …`, `founded by …`.
    """
    for key in keys:
        asked = echoes.get(key)
        if asked is not None:
            introduced = around.before in _INTRODUCTIONS and around.before != asked.before
            if " " in key and not introduced and (around.before or around.after):
                return True
            if asked.left and around.left == asked.left:
                return True
            if asked.right and around.right == asked.right:
                return True
    return False


def is_guess(places: Sequence[Neighbours]) -> bool:
    """Tell whether one of the answers at `places` is offered beside something that is none.

    On the other side of an `or` an answer may have one word before it (or East Africa).
    """
    ends = {around.after_at for around in places if around.after == _OR}
    begins = {around.before_at for around in places if around.before == _OR}
    starts = {around.before_at for around in places}
    return any(at not in starts and at + 1 not in starts for at in ends) or bool(begins - ends)
