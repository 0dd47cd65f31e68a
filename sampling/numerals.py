"""Reduce numbers to canonical decimals.

Owns what counts as the same number: leading zeros, thousands separators, `+`, ordinal endings and
whether it is written in words do not matter, a minus sign does. Refuses digits that touch letters
(H2O), and to convert units.
"""

import re
import unicodedata
from collections.abc import Sequence

from attrib.sampling.forms import rewrite_numbers
from attrib.sampling.normalise import BREAK, Tail, Words, find_tail, part_units, visible

_ALNUM = r"[^\W_]"
_LETTER = r"[^\W\d_]"
_DIGIT_GROUPING = re.compile("(?<=\\d)[\u00a0\u2009\u202f'’](?=\\d{3}(?!\\d))")
_CHUNK = re.compile(rf"{_ALNUM}+(?:[.,]{_ALNUM}+)*")
_STUCK = re.compile(rf"(?:{_LETTER}+\.)?([0-9][0-9.,]*?)(?:\.{_LETTER}+)?")
_WHOLE = re.compile(r"([0-9]+)(?:\.([0-9]+))?(?:st|nd|rd|th)?", re.IGNORECASE)
_COMMA_GROUPED = re.compile(r"([0-9]{1,3}(?:,[0-9]{3})+)(?:\.([0-9]+))?")
_POINT_GROUPED = re.compile(r"([0-9]{1,3}(?:\.[0-9]{3}){2,})()")
_PLAIN_WRAPPERS = re.compile(r"[\"'“”‘’`*#]")
_NOT_NUMBER = re.compile(r"[^\d\s.,()+\-−‐‑–]")
_UNIT_WORDS = """
    kilometers centimeters millimeters meters miles feet inches yards acres hectares
    kilograms grams pounds ounces tons tonnes liters gallons percent degrees celsius fahrenheit
    seconds minutes hours days weeks months years dollars euros yen knots mph
"""
UNITS = frozenset(_UNIT_WORDS.split())
"""Units, as `split_names` folds them or with an s, of which one is not another."""
_NUMBER_GAP = re.compile(r"[ ()\-‐‑–]{1,3}")


def split_numbers(text: str, truncated: bool = False) -> Words:
    """Return the numbers of `text`, with a `BREAK` wherever two are not parts of one.

    In `1 000` the last group keeps its zeros.
    """
    shown = part_units(visible(rewrite_numbers(text, truncated)))
    plain = "".join(map(_plain_digit, _DIGIT_GROUPING.sub("", shown)))
    words = [BREAK]
    end = 0
    for chunk in _CHUNK.finditer(plain):
        glued = words[-1] != BREAK and bool(_NUMBER_GAP.fullmatch(plain, end, chunk.start()))
        end = chunk.end()
        for at, number in enumerate(_read_chunk(chunk[0])):
            if at or not glued:
                words.append(BREAK)
            if number is None:
                words.append(BREAK)
            elif at == 0 and not glued:
                words.append(_with_sign(plain, chunk, number))
            else:
                words.append(chunk[0] if chunk[0].isdecimal() else number)
    tail = find_tail(shown, truncated)
    if truncated and plain[end:] in (".", ","):
        tail = Tail.OPEN  # 26. may become 26.5
    return Words(words, words, tail)


def number_keys(answer: str) -> tuple[str, ...]:
    """Return the spellings of a number, none if `answer` has no number or several apart.

    `1-242` is also `1 242` and `1242`; `1000` is also `1 000`.
    """
    key = " ".join(split_numbers(answer).folded).strip(f"{BREAK} ")
    if not key or BREAK in key:
        return ()
    digits = key.replace(" ", "")
    if not digits.isdecimal() or len(digits) <= 3:
        return (key,)
    first = len(digits) % 3 or 3
    groups = [digits[:first], *(digits[at : at + 3] for at in range(first, len(digits), 3))]
    return tuple(dict.fromkeys((key, digits, " ".join(groups))))


def whole_number_keys(text: str) -> tuple[str, ...]:
    """Return `number_keys` of a response that is nothing but one number."""
    bare = _PLAIN_WRAPPERS.sub("", visible(rewrite_numbers(text)))
    return () if _NOT_NUMBER.search(bare) else number_keys(text)


def find_unit(folded: Sequence[str], after: int) -> str:
    """Return the unit at place `after` of folded words (meters, percent), or nothing."""
    word = folded[after] if after < len(folded) else ""
    return next((unit for unit in (word, f"{word}s", f"{word}es") if unit in UNITS), "")


def _plain_digit(character: str) -> str:
    """Return `character` with digits in ASCII; superscripts and circled digits stand apart."""
    if character.isascii():
        return character
    category = unicodedata.category(character)
    if category == "No":
        return f" {unicodedata.normalize('NFKC', character)} "
    if category == "Nd":
        return str(unicodedata.decimal(character))
    return "-" if character == "−" else unicodedata.normalize("NFKC", character)


def _read_chunk(chunk: str) -> list[str | None]:
    """Return the numbers in what points and commas join, with None for what is none."""
    stuck = _STUCK.fullmatch(chunk)
    whole = stuck[1] if stuck else chunk
    match = _WHOLE.fullmatch(whole) or _COMMA_GROUPED.fullmatch(whole)
    if match := match or _POINT_GROUPED.fullmatch(whole):
        return [_canonical(re.sub("[.,]", "", match[1]), match[2] or "")]
    if "," in whole:
        return [number for part in whole.split(",") for number in _read_chunk(part)]
    return [None]


def _canonical(digits: str, fraction: str) -> str:
    fraction = fraction.rstrip("0")
    return (digits.lstrip("0") or "0") + (f".{fraction}" if fraction else "")


def _with_sign(plain: str, chunk: re.Match[str], number: str) -> str:
    """Return `number` with the minus sign or the leading point that stands before it."""
    before, mark = _character(plain, chunk.start() - 2), _character(plain, chunk.start() - 1)
    if mark == "." and not before.strip() and chunk[0].isdecimal():
        return _canonical("0", chunk[0])
    if mark == "-" and not before.strip(" \t\n(["):
        return f"-{number}"
    return number


def _character(text: str, at: int) -> str:
    return text[at] if at >= 0 else ""
