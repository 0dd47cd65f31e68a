"""Find codes such as `Fe`, `.is` and `OR` in a response.

Owns when letters are a code and no part of a word, an abbreviation, a domain or a contraction, and
when `In`, `I` or `OK` are English. Case matters: neither `fe` nor `FE` is iron. A response has one
reading, the same for every question of the relation, so an ambiguous code never earns more.
"""

import re
import unicodedata
from collections.abc import Collection
from dataclasses import dataclass
from enum import StrEnum

from attrib.sampling.lexicon import Found, Lexicon, Reading
from attrib.sampling.normalise import is_word, visible

_ENGLISH = frozenset({"A", "Am", "As", "At", "Be", "He", "I", "In", "No"})
"""Codes that are words at the beginning of a sentence (`I` anywhere)."""
_EXCLAMATIONS = frozenset({"No", "OK", "HI", "OH", "Er", "Ho"})
"""Codes that are exclamations at the beginning of a response, before punctuation."""
_AFTER_CODES = frozenset({"is", "for", "stands", "represents", "denotes", "means"})
"""What follows a code as well as a word: `He is the symbol`, `As for arsenic`."""

_START = re.compile(r"(?<![^\W_])\S")
_NEXT = re.compile(r"(?:[^\S\n]+|-|(?P<mark>[,.!;:]|[^\S\n]+[-–—])\s+)(?P<word>[^\W_]+)")
_PRONOUN = re.compile(r"I(?:['’]|[^\S\n]+[a-z])")
_INTRODUCED = re.compile(r"\b(?:is|symbol|letter)[\s\"'`*(]+\Z")
_WORD = re.compile(r"[^\W_]")
_JOINTS = ".'’_"
_SENTENCE_ENDS = ".!?:;\n"
_WRAPPERS = " \t\r\"'“”‘’`*_()[]{}<>#•-–—"


class Sense(StrEnum):
    """What a spelling that could be a code is at its place."""

    CODE = "code"
    """A code."""
    EITHER = "either"
    """A code if the response has no certain one, else English."""
    ENGLISH = "english"
    """An ordinary word."""


@dataclass(frozen=True, slots=True)
class _Spot:
    """A spelling that could be a code, `text[start:end]`."""

    text: str
    start: int
    end: int

    @property
    def code(self) -> str:
        return self.text[self.start : self.end]


def plain_code(text: str) -> str:
    """Return `text` as codes compare: NFKC, nothing invisible."""
    return text if text.isascii() else unicodedata.normalize("NFKC", visible(text))


def code_keys(answer: str) -> tuple[str, ...]:
    """Return the one spelling of a code, none if it is blank."""
    code = plain_code(answer).strip()
    return (code,) if code else ()


def unwrap_code(text: str) -> str:
    """Return `text` without the quotes, brackets, emphasis and full stop around it."""
    wrappers = _WRAPPERS + "\n"
    return plain_code(text).strip().strip(wrappers).removesuffix(".").strip(wrappers)


def read_codes(
    text: str,
    truncated: bool,
    lexicons: Collection[Lexicon],
    accepted: Collection[str],
    neutral: Collection[str],
) -> Reading:
    """Find the codes of `lexicons` in `text`, without the `neutral` ones.

    A code that may go on after the cut is none, unless all that it can become is `accepted`.
    """
    plain = plain_code(text)
    found: dict[Sense, list[Found]] = {sense: [] for sense in Sense}
    end = 0
    for match in _START.finditer(plain):
        spot = _longest(plain, match.start(), lexicons) if match.start() >= end else None
        if spot is None:
            continue
        end = spot.end
        if truncated and _is_open(spot, lexicons, accepted):
            return Reading(tuple(found[Sense.CODE] or found[Sense.EITHER]), cut=spot.code)
        if spot.code in accepted or spot.code not in neutral:
            found[_find_sense(spot, lexicons)].append(Found((spot.code,), spot.start, spot.end))
    return Reading(tuple(found[Sense.CODE] or found[Sense.EITHER]))


def _longest(plain: str, start: int, lexicons: Collection[Lexicon]) -> _Spot | None:
    """Return the longest code at `start` that stands apart from what surrounds it."""
    spots = [
        _Spot(plain, start, start + length)
        for lexicon in lexicons
        for length in lexicon.lengths
        if plain[start : start + length] in lexicon.names
    ]
    return max(filter(_stands_apart, spots), key=lambda spot: spot.end, default=None)


def _stands_apart(spot: _Spot) -> bool:
    """Return whether the code is no part of something longer (`Feb`, `U.S`, `I'm`, `.co.uk`)."""
    text, code = spot.text, spot.code
    far_left, left = text[: spot.start][-2:-1], text[: spot.start][-1:]
    right, far_right = text[spot.end : spot.end + 1], text[spot.end + 1 : spot.end + 2]
    if any(side and is_word(side) for side in (left, right)):
        return False
    if is_word(code[0]):
        if far_left.isalpha() and left in _JOINTS:
            return False
    elif left == code[0]:
        return False
    if not is_word(code[-1]) and right == code[-1]:
        return False
    return not (far_right.isalnum() and right in _JOINTS)


def _is_open(spot: _Spot, lexicons: Collection[Lexicon], accepted: Collection[str]) -> bool:
    """Return whether what comes after the cut may change the code."""
    if _WORD.search(spot.text, spot.end):
        return False
    rest = spot.text[spot.end :]
    if not rest or (rest == "." and len(spot.code) == 1):  # U. may become U.S.
        return True
    if spot.code in _ENGLISH | _EXCLAMATIONS and rest.strip(" ") in ("", ",", "'", "’"):
        return spot.code == "I" or _begins_sentence(spot)
    longer = (key for lexicon in lexicons for key in lexicon.beginning_with(spot.code + rest))
    return any(key not in accepted for key in longer)


def _find_sense(spot: _Spot, lexicons: Collection[Lexicon]) -> Sense:
    """Return whether the spelling is a code or English, by the word after it."""
    following = _NEXT.match(spot.text, spot.end)
    if following is None or not _may_be_english(spot, following):
        return Sense.CODE
    word = following["word"]
    pronoun = _PRONOUN.match(spot.text, following.start("word"))
    if not pronoun and _is_known(word, lexicons):
        return Sense.CODE
    if following["mark"]:
        return Sense.EITHER
    if word in ("and", "or"):
        other = _NEXT.match(spot.text, following.end())
        return Sense.CODE if other and _is_known(other["word"], lexicons) else Sense.ENGLISH
    if word in _AFTER_CODES:
        return Sense.EITHER
    return Sense.ENGLISH if word[0].islower() or pronoun else Sense.EITHER


def _may_be_english(spot: _Spot, following: re.Match[str]) -> bool:
    """Return whether the place, before looking at the next word, allows for English."""
    is_first = not _WORD.search(spot.text, 0, spot.start)
    if spot.code in _EXCLAMATIONS and is_first and following["mark"]:
        return True
    if spot.code not in _ENGLISH or _begins_sentence(spot):
        return spot.code in _ENGLISH
    introduced = _INTRODUCED.search(spot.text, max(0, spot.start - 12), spot.start)
    goes_on = not following["mark"] and following["word"][0].islower()
    return spot.code == "I" and goes_on and not introduced


def _begins_sentence(spot: _Spot) -> bool:
    at = spot.start - 1
    while at >= 0 and spot.text[at] in _WRAPPERS:
        at -= 1
    return at < 0 or spot.text[at] in _SENTENCE_ENDS


def _is_known(code: str, lexicons: Collection[Lexicon]) -> bool:
    return any(code in lexicon.names for lexicon in lexicons)
