"""One form for what is written in many: dates, numbers in words, ordinals, roman numerals.

Rewrites text before words are compared, in answers and responses alike: `twenty-six` becomes `26`,
`fourteenth` `14th`, `December 14, 1972` `1972 December 14`. Dates go from the year down, so that
whoever says more than was asked still says it in one piece. Refuses to guess: 3/4/1999 stays as it
is (3.4.1999 has the day first), and `one` alone among other words, which is mostly a pronoun.
"""

import re
from collections.abc import Callable, Collection, Iterator, Sequence
from decimal import Decimal

_UNITS = (
    "zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten",
    "eleven", "twelve", "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen",
    "nineteen",
)  # fmt: skip
_TENS = ["twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety"]
_SCALES = {"thousand": 10**3, "million": 10**6, "billion": 10**9, "trillion": 10**12}
_VALUES = {word: value for value, word in enumerate(_UNITS)}
_VALUES |= {word: 10 * value for value, word in enumerate(_TENS, start=2)}
_VALUES |= {"hundred": 100, **_SCALES}
_IRREGULAR = {
    **{"one": "first", "two": "second", "three": "third", "five": "fifth", "eight": "eighth"},
    **{"nine": "ninth", "twelve": "twelfth"},
}
_CARDINAL_OF = {_IRREGULAR.get(word, re.sub(r"y$", "ie", word) + "th"): word for word in _VALUES}
_MONTHS = (
    "January", "February", "March", "April", "May", "June", "July", "August", "September",
    "October", "November", "December",
)  # fmt: skip
_MONTH_OF = {month.lower(): month for month in _MONTHS}
_MONTH_OF |= {month[:3].lower(): month for month in _MONTHS} | {"sept": "September"}
TRIGGERS = frozenset({*_VALUES, *_CARDINAL_OF, *_MONTH_OF, "cent"})
"""Words, in lower case, of which a text has one if it has another form but for dates in figures."""

_WORD = "|".join(sorted({*_VALUES, *_CARDINAL_OF}, key=len, reverse=True))
_NUMBER = re.compile(rf"\b(?:{_WORD})(?:(?:[ \-‐‑]|[ ]and[ ])(?:{_WORD}))*\b", re.IGNORECASE)
_AROUND = " \t\r\n\"'*.,!"
_GAP = re.compile(r"[ \-‐‑]+(?:and )?")
_SCALED = re.compile(
    rf"(?<![\w.,])(\d{{1,3}}(?:,\d{{3}})+|\d+(?:\.\d+)?)[ \-]({'|'.join(_SCALES)})\b", re.IGNORECASE
)
_MONTH = rf"(?P<month>{'|'.join(sorted(_MONTH_OF, key=len, reverse=True))})\b\.?"
_DAY = r"(?P<day>0?[1-9]|[12]\d|3[01])(?:st|nd|rd|th)?\b(?![,.]?\d)"
_YEAR = r"(?P<year>[12]\d{3})\b(?![,.]?\d)"
_AND_YEAR = rf"(?:,? (?:of )?{_YEAR})?"
_DATES = (
    rf"\b{_DAY}(?: of)? {_MONTH}{_AND_YEAR}",
    rf"\b{_MONTH} (?:the )?{_DAY}{_AND_YEAR}",
    rf"\b{_MONTH},? (?:of )?{_YEAR}",
)
_FIGURES = (
    r"(?<![\w/.-])(?P<year>[12]\d{3})-(?P<month>0\d|1[0-2])-(?P<day>0[1-9]|[12]\d|3[01])(?![\w/-])",
    r"(?<![\w/.-])(?P<month>0?[1-9]|1[0-2])/(?P<day>1[3-9]|2\d|3[01])/(?P<year>[12]\d{3})(?![\w/])",
    r"(?<![\w/.-])(?P<day>1[3-9]|2\d|3[01])/(?P<month>0?[1-9]|1[0-2])/(?P<year>[12]\d{3})(?![\w/])",
    r"(?<![\w/.-])(?P<day>0?[1-9]|[12]\d|3[01])\.(?P<month>0?[1-9]|1[0-2])\.(?P<year>[12]\d{3})(?![\w/])",
)
_MAY_BE_DATE = re.compile(r"\d[-/.]\d")
_PER_CENT = re.compile(r"\bper cent\b", re.IGNORECASE)
_Write = Callable[[re.Match[str]], str]
_Step = tuple[re.Pattern[str], _Write]
_PLACE = re.compile(r"(\d{1,2})(?:st|nd|rd|th)?")
_ROMAN = re.compile(r"(x{0,3})(ix|iv|v?i{0,3})")
_HIGHEST_PLACE = 39


def rewrite(text: str, truncated: bool = False) -> str:
    """Return `text` with dates and numbers in one form.

    What reaches the end of a truncated text stays: `twenty` may go on as `twenty-six`.
    """
    return _apply(_STEPS, text, truncated)


def rewrite_numbers(text: str, truncated: bool = False) -> str:
    """Return `text` with its numbers in figures; an ordinal of one word only where it is all."""
    return _apply(_NUMBER_STEPS, text, truncated)


def has_forms(words: Collection[str], text: str) -> bool:
    """Tell whether `rewrite` may change a text, of which the words in lower case are given."""
    return not TRIGGERS.isdisjoint(words) or bool(_MAY_BE_DATE.search(text))


def number_variants(key: str) -> Iterator[str]:
    """Yield other spellings of a folded name with a small number after another word.

    Louis XIV, Louis 14 and Louis 14th; World War II and World War 2.
    """
    words = key.split(" ")
    if not _MONTH_OF.keys().isdisjoint(words):
        return
    for at, word in enumerate(words[1:], start=1):
        place = _PLACE.fullmatch(word)
        value = int(place[1]) if place else 1 if word == "one" else _read_roman(word)
        if 0 < value <= _HIGHEST_PLACE:
            others = [str(value), _ordinal(value), _write_roman(value)]
            for other in [*others, "one"] if value == 1 else others:
                if other != word:
                    yield " ".join((*words[:at], other, *words[at + 1 :]))


def _write_date(match: re.Match[str]) -> str:
    found = match.groupdict()
    month = str(found["month"])
    name = _MONTHS[int(month) - 1] if month.isdigit() else _MONTH_OF[month.lower()]
    day = found.get("day")
    return " ".join(filter(None, (found.get("year"), name, day and str(int(day)))))


def _apply(steps: Sequence[_Step], text: str, truncated: bool) -> str:
    for pattern, write in steps:
        end = len(text.rstrip(" ,.-")) if truncated else len(text) + 1

        def replace(match: re.Match[str], write: _Write = write, end: int = end) -> str:
            return write(match) if match.end() < end else match[0]

        text = pattern.sub(replace, text)
    return text


def _write_number(match: re.Match[str]) -> str:
    words = _GAP.split(match[0].lower())
    if words == ["one"] and not _is_all(match):
        return match[0]
    last = _CARDINAL_OF.get(words[-1])
    value = _evaluate([*words[:-1], last or words[-1]])
    if value is None:
        return match[0]
    return _ordinal(value) if last else str(value)


def _write_count(match: re.Match[str]) -> str:
    is_rank = match[0].lower() in _CARDINAL_OF and not _is_all(match)
    return match[0] if is_rank else _write_number(match)


def _is_all(match: re.Match[str]) -> bool:
    return match[0] == match.string.strip(_AROUND)


def _evaluate(words: list[str]) -> int | None:
    """Return the value of number words, or None where they are several numbers."""
    first = _VALUES.get(words[0], 0)
    if len(words) > 1 and 10 <= first <= 20:  # nineteen eighty-four
        rest = _evaluate(words[1:])
        if rest is not None and 10 <= rest < 100:
            return 100 * first + rest
    total, group, room = 0, 0, 10**15
    for word in words:
        value = _VALUES.get(word)
        if value is None:  # an ordinal inside
            return None
        if value >= 1000:
            if value >= room:
                return None
            total, group, room = total + (group or 1) * value, 0, value
        elif value == 100:
            if group >= 100:
                return None
            group = (group or 1) * 100
        elif group % 100 == 0 or (group % 100 >= 20 and group % 10 == 0 and 0 < value < 10):
            group += value
        else:
            return None
    return total + group


def _write_scaled(match: re.Match[str]) -> str:
    value = Decimal(match[1].replace(",", "")) * _SCALES[match[2].lower()]
    return str(int(value)) if value == int(value) else match[0]


def _ordinal(value: int) -> str:
    teen = value % 100 in (11, 12, 13)
    ending = "th" if teen else {1: "st", 2: "nd", 3: "rd"}.get(value % 10, "th")
    return f"{value}{ending}"


def _read_roman(word: str) -> int:
    """Return the value of a roman numeral below forty, or 0."""
    match = _ROMAN.fullmatch(word)
    if match is None:
        return 0
    units = {"ix": 9, "iv": 4}.get(match[2], 5 * match[2].count("v") + match[2].count("i"))
    return 10 * len(match[1]) + units


def _write_roman(value: int) -> str:
    tens, units = divmod(value, 10)
    return "x" * tens + ({4: "iv", 9: "ix"}.get(units) or "v" * (units >= 5) + "i" * (units % 5))


_NUMBER_STEPS: tuple[_Step, ...] = ((_SCALED, _write_scaled), (_NUMBER, _write_count))
_STEPS: tuple[_Step, ...] = (
    (_PER_CENT, lambda _: "percent"),
    (_SCALED, _write_scaled),
    (_NUMBER, _write_number),
    *((re.compile(pattern, re.IGNORECASE), _write_date) for pattern in (*_DATES, *_FIGURES)),
)
