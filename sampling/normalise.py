"""Reduce names to words that compare.

Owns what counts as the same spelling of a name, and how a response ends. Accents, case,
punctuation, articles and apostrophes do not matter. The same rules run over answers and responses,
so no spelling is credited that would not also be held against a response.
"""

import re
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import chain

from attrib.sampling.forms import has_forms, number_variants, rewrite

BREAK = "\n"
"""A word that no answer contains, so that nothing is matched across it."""
ARTICLES = frozenset({"a", "an", "the"})
LONGEST_SHORT = 3
"""A name of one word of at most this many capitals (US, UAE) compares with its case."""
_WORDS_OF_GRAMMAR = """
    about after all also am an and any are as at be because been before being but by can could
    did do does for from had has have he her here him his how i if in into is it its just me my
    no nor not now of off on only or our out over shall she should so some than that their them
    then there these they this those to too under up us very was we were what when where which
    who whom why with without would yes you your
"""
FUNCTION_WORDS = frozenset(re.findall(r"\w+", _WORDS_OF_GRAMMAR))
"""A name of one of these words (It, Yes, in for India) counts alone or with a capital."""

_APOSTROPHES = "'’‘‛′ʹʻʼʽʾʿˈ＇"
_HYPHENS = "-‐‑‒–—−"
_OPENERS = "([{<"
_LINE_ENDS = "\n\r\v\f\x1c\x1d\x1e\x85\u2028\u2029"
_MINUS = "\ue000"
_POINT = "\ue001"
"""A minus sign and a decimal point: of private use, so that they are parts of a number's word."""
_SPOKEN = {"&": " and ", "+": " plus ", "#": " sharp ", "%": " percent ", ".": ".", ",": ","}
_SPOKEN |= dict.fromkeys("!?:;", " . ")
# Letters that Unicode does not decompose.
_PLAIN_LETTERS = {
    **dict(zip("øØłŁđĐðÐħĦŧŦŋŊəƏıƶƵ", "oOlLdDdDhHtTnNaAizZ", strict=True)),
    **{"ß": "ss", "ẞ": "SS", "æ": "ae", "Æ": "AE", "œ": "oe", "Œ": "OE", "þ": "th", "Þ": "TH"},
}
SYNONYMS = {"st": "saint", "ste": "sainte", "mt": "mount"}
SYNONYMS |= {
    spelling: unit
    for unit, spellings in {
        "kilometers": "km kms kilometer kilometre kilometres",
        "centimeters": "cm centimeter centimetre centimetres",
        "millimeters": "mm millimeter millimetre millimetres",
        "meters": "meter metre metres",
        "kilograms": "kg kgs kilogram kilogramme kilogrammes",
        "miles": "mile",
        "feet": "foot ft",
        "pounds": "pound lb lbs",
        "liters": "liter litre litres",
        "hectares": "hectare ha",
        "percent": "pct",
    }.items()
    for spelling in spellings.split()
}

_DERIVED = frozenset({*ARTICLES, *SYNONYMS.values(), "and", "plus", "sharp"})
_SQUASHING = {point: chr(point).lower() if chr(point).isalnum() else None for point in range(128)}

_ALNUM = r"[^\W_]"
_LETTER = r"[^\W\d_]"
_BLANK = r"[^\S\n]"
# Only general accents go: vowel signs of Indic scripts and voicing marks of kana carry meaning.
_ACCENT = re.compile("[\u0300-\u036f\u1ab0-\u1aff\u1dc0-\u1dff\u20d0-\u20ff\ufe20-\ufe2f]")
_ACCENT_AS_APOSTROPHE = re.compile(rf"(?<={_ALNUM})[`´](?={_ALNUM})")
_DOTTED = re.compile(
    rf"(?<!{_ALNUM}){_LETTER}\.(?:{_BLANK}?{_LETTER}\.)*(?:{_LETTER}(?!{_ALNUM}))?"
)
_DOTTED_END = re.compile(rf"(?<!{_ALNUM})(?:{_LETTER}\.{_BLANK}?)+\Z")
_POSSESSIVE = re.compile(rf"(?<={_ALNUM})'([sS])(?!{_ALNUM})")
_DIGIT = re.compile(r"\d")
_NEGATIVE = re.compile(r"(?<![\w.)\]])(?<!\d )[-−](?=\d)")
_DECIMAL = re.compile(r"(?<=\d)\.(?=\d)")
_GLUED = re.compile(r"(?<=\d)(?=(?:km|cm|mm|m|kg|ft|lbs?|ha|mph)(?!\w))", re.IGNORECASE)
_THOUSANDS_COMMA = re.compile(r"(?<=\d),(?=\d{3}(?!\d))")
_TOKEN = re.compile(r"\n|\.|[^\s.,]+")
_TOKEN_AND_DOT = re.compile(r"([^\s.,]+)(\.?)")
_ELIDED = re.compile(r"\b([dlo]) (?!(?:and|plus|sharp|percent)\b)(?=\w\w)", re.IGNORECASE)
_ASIDES = frozenset({"eg", "ie"})


class Tail(StrEnum):
    """What may follow the last word of a response."""

    CLOSED = "closed"
    """Nothing that changes it: the response is complete, or was cut after punctuation."""
    OPEN = "open"
    """More of the same word: the response was cut inside or right after it."""
    SPACED = "spaced"
    """Another word of the same answer: cut after a blank, hyphen, apostrophe or open bracket."""
    DOTTED = "dotted"
    """A letter or a word: cut after the dot of an abbreviation."""


@dataclass(frozen=True, slots=True)
class Words:
    """A text as words, in lists of equal length.

    `spelled` keeps the case and `folded` is what compares. `tokens` are the spelled words and the
    dots between them; without them no word is a name that compares with its case.
    """

    spelled: list[str]
    folded: list[str]
    tail: Tail = Tail.CLOSED
    tokens: Sequence[str] = ()

    def find_short(self) -> list[str]:
        """Return each word in capitals where it may be a name such as US or It, else nothing."""
        if not self.tokens:
            return [""] * len(self.spelled)
        short = [
            "" if token in ("A", "I") and after[:1].islower() else _as_short(token, before in ".\n")
            for before, token, after in zip(
                ["", *self.tokens], self.tokens, [*self.tokens, ""][1:], strict=False
            )
            if token != "."
        ]
        content = [at for at, word in enumerate(self.folded) if word != BREAK]
        content = [at for at in content if self.folded[at] not in ARTICLES] or content
        if len(content) == 1:  # "usa" as the whole response
            short[content[0]] = _as_short(self.spelled[content[0]].upper())
        return short


class _Folding(dict[int, str]):
    """A table for `str.translate` that works out each character once."""

    def __missing__(self, point: int) -> str:
        folded = self[point] = _fold_character(chr(point))
        return folded


def _fold_character(character: str) -> str:
    """Return `character` without accents; punctuation that no rule needs becomes a space."""
    if character in _APOSTROPHES:
        return "'"
    if character in _LINE_ENDS:
        return BREAK
    category = unicodedata.category(character)
    if category == "Cf":
        return ""
    if character in (_MINUS, _POINT):
        return character
    parts = unicodedata.normalize("NFKD", character)
    if category[0] not in "LMN":
        return _SPOKEN.get(parts, " ")
    folded = "".join(_fold_letter(part) for part in parts)
    return f" {folded} " if category == "No" else folded


def _fold_letter(letter: str) -> str:
    """Return one letter of a decomposition without its accents."""
    if _ACCENT.match(letter) or letter in _APOSTROPHES:
        return ""
    return _PLAIN_LETTERS.get(letter, letter) if is_word(letter) else " "


_FOLDING = _Folding()


def is_word(character: str) -> bool:
    """Return whether `character` is part of words: a letter, a digit or a mark on one."""
    return character.isalnum() or unicodedata.category(character)[0] == "M"


def part_units(text: str) -> str:
    """Return `text` with a space between a number and a unit: 8849m."""
    return _GLUED.sub(" ", text)


def in_figures(word: str) -> str:
    """Return a folded word with its minus sign and decimal point, if it is a number."""
    return word.replace(_MINUS, "-").replace(_POINT, ".")


def visible(text: str) -> str:
    """Return `text` without format characters such as zero-width spaces."""
    if text.isascii():
        return text
    return "".join(c for c in text if unicodedata.category(c) != "Cf")


def find_tail(text: str, truncated: bool) -> Tail:
    """Return what may follow the last word of `text`, which is `visible`."""
    if not truncated:
        return Tail.CLOSED
    end = len(text)
    while end and not is_word(text[end - 1]):
        end -= 1
    ending = text[end:]
    if not ending:
        return Tail.OPEN
    if "." in ending and _DOTTED_END.search(text, max(0, end - 40)):
        return Tail.DOTTED
    joins = _APOSTROPHES + _HYPHENS + _OPENERS
    spaced = all(c in joins or (c.isspace() and c not in _LINE_ENDS) for c in ending)
    return Tail.SPACED if spaced else Tail.CLOSED


def split_names(text: str, truncated: bool = False) -> Words:
    """Return the words of `text` as names compare. Lines end in a `BREAK`."""
    words = _split(text, truncated)
    if has_forms(words.folded, text):
        return _split(rewrite(text, truncated), truncated)
    return words


def _split(text: str, truncated: bool) -> Words:
    plain = _fold(text)
    if "." in plain[:-1]:
        plain = _collapse_initials(plain)
    if "'" in plain:
        plain = _possessives_apart(plain).replace("'", "")
    if BREAK in plain:
        tokens = _TOKEN.findall(plain)
    else:
        tokens = plain.replace(",", " ").replace(".", " . ").split()
    spelled = [token for token in tokens if token != "."] if "." in tokens else tokens
    return Words(spelled, _fold_words(spelled), find_tail(visible(text), truncated), tokens)


def name_keys(answer: str) -> tuple[str, ...]:
    """Return the spellings of a name, as words joined by spaces; none if nothing is left.

    Apostrophes may be written, left out or replaced by a space (d'Ivoire, dIvoire, d Ivoire),
    initials with or without dots. A single word of up to three capitals keeps its case.
    """
    keys = _spell(answer)
    if any(has_forms(key.split(" "), answer) for key in keys):
        keys = _spell(rewrite(answer))
    return tuple(keys)


def answer_name_keys(answer: str) -> tuple[str, ...]:
    """Return the spellings of an accepted name, those with another kind of number included."""
    keys = name_keys(answer)
    return tuple(dict.fromkeys((*keys, *chain.from_iterable(map(number_variants, keys)))))


def _spell(answer: str) -> dict[str, None]:
    folded = _fold(answer).strip()
    elided = _ELIDED.sub(r"\1", folded)
    if "'" in folded or "." in folded[:-1]:
        joined = _collapse_initials(folded)
        spellings: Iterable[str] = (
            _possessives_apart(joined).replace("'", ""),
            joined.replace("'", ""),
            joined.replace("'", " "),
            folded.replace(".", ". ").replace("'", ""),
            elided.replace("'", ""),
        )
    else:
        spellings = (folded, elided)
    spellings = dict.fromkeys(spellings)
    return dict.fromkeys(key for spelling in spellings if (key := _name_key(spelling)))


def squash(text: str) -> str:
    """Return the letters and digits of an ASCII text, in lower case."""
    return text.translate(_SQUASHING)


def find_core(key: str) -> str:
    """Return the longest word of a key that folding leaves as it is in the text, or nothing.

    The letters of every ASCII text with this key contain it.
    """
    words = [word for word in key.casefold().split(" ") if word not in _DERIVED and word.isascii()]
    return max(words, key=len, default="")


def _fold(text: str) -> str:
    """Return `text` in plain letters, digits, spaces, and the marks that later rules read."""
    if "`" in text or "´" in text:
        text = _ACCENT_AS_APOSTROPHE.sub("'", text)
    if _DIGIT.search(text):
        text = _NEGATIVE.sub(_MINUS, _DECIMAL.sub(_POINT, part_units(text)))
    plain = text.translate(_FOLDING)
    return _THOUSANDS_COMMA.sub("", plain) if "," in plain else plain


def _collapse_initials(plain: str) -> str:
    """Write U.S.A. as USA and J. K. as JK."""

    def collapse(match: re.Match[str]) -> str:
        letters = [c for c in match[0] if c.isalpha()]
        if len(letters) == 1:
            return match[0]
        joined = "".join(letters)
        return " " if joined in _ASIDES else f" {joined.upper()} "

    return _DOTTED.sub(collapse, plain)


def _possessives_apart(plain: str) -> str:
    return _POSSESSIVE.sub(r" \1", plain)


def _fold_words(words: list[str]) -> list[str]:
    folded = [word.casefold() for word in words]
    if SYNONYMS.keys().isdisjoint(folded):
        return folded
    return [SYNONYMS.get(word, word) for word in folded]


def _as_short(word: str, begins_sentence: bool = False) -> str:
    """Return `word` in capitals if it may be a name that compares with its case."""
    if word.isupper() and len(word) <= LONGEST_SHORT:
        return word
    is_named = word.casefold() in FUNCTION_WORDS and word[:1].isupper() and not begins_sentence
    return word.upper() if is_named else ""


def _name_key(plain: str) -> str:
    """Return the words of a name, without its articles unless it has nothing else.

    A last word (vitamin A) and an initial (A. Milne) are no articles.
    """
    tokens = _TOKEN_AND_DOT.findall(plain)
    words = _fold_words([word for word, _ in tokens])
    if set(words) <= ARTICLES:
        return " ".join(words) if len(words) != 1 else words[0].upper()
    kept = [
        at
        for at, (word, (_, dot)) in enumerate(zip(words, tokens, strict=True))
        if dot or word not in ARTICLES or at == len(words) - 1
    ]
    if len(kept) == 1:
        word, spelled = words[kept[0]], str(tokens[kept[0]][0])
        return _as_short(spelled.upper() if word in FUNCTION_WORDS else spelled) or word
    return " ".join(words[at] for at in kept)
