"""How texts and numbers are shown.

Owns the wording of percentages, points, intervals and times, and makes texts that strangers and
models wrote safe to
look at: characters that are invisible or reorder the line are written out, long texts end in an
ellipsis. Escaping
for HTML is the template's work (autoescape), never done here.
"""

import unicodedata
from datetime import UTC, datetime

from attrib.reports.values import Estimate

LONGEST = 280
UNKNOWN = "–"
_SPACE = "\u00a0"  # between a number and its unit: never broken across lines
_MINUS = "\u2212"
_JOINERS = "\u200c\u200d\ufe0e\ufe0f"  # needed by emoji and by Persian and Indic scripts


def show(text: str, longest: int = LONGEST) -> str:
    """Return `text` cut to `longest` characters, invisible characters written out.

    Control characters become their pictures (NUL is ␀), line breaks ↵; direction marks, other
    format characters and lone surrogates become ⟨U+202E⟩ and the like.
    """
    cut = text if len(text) <= longest else text[: longest - 1].rstrip() + "…"
    return "".join(_visible(character) for character in cut)


def show_lines(text: str, longest: int) -> str:
    """Return `text` as `show` does, its line breaks kept: a command stays one that can be typed."""
    return "\n".join(show(line, longest) for line in text.split("\n"))


def _visible(character: str) -> str:
    code = ord(character)
    if character == "\n":
        return "↵"
    if code < 0x20:
        return chr(0x2400 + code)
    if code == 0x7F:
        return "\u2421"
    if character in _JOINERS or character == " ":
        return character
    if unicodedata.category(character) in {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}:
        return f"⟨U+{code:04X}⟩"
    return character


def count(value: int | None) -> str:
    """Return a whole number with thousands separated, – where it is unknown."""
    return UNKNOWN if value is None else f"{value:,}".replace("-", _MINUS)


def plural(value: int, noun: str) -> str:
    """Return `1 seed`, `3 seeds`."""
    return f"{count(value)}{_SPACE}{noun}{'' if value == 1 else 's'}"


def percent(value: float | None, digits: int = 0) -> str:
    """Return a fraction as a percentage, – where it is unknown."""
    return UNKNOWN if value is None else f"{_number(100 * value, digits)}{_SPACE}%"


def points(value: float | None, digits: int = 1) -> str:
    """Return a difference of two fractions in signed percentage points, – where it is unknown."""
    return UNKNOWN if value is None else _number(100 * value, digits, signed=True)


def percent_interval(estimate: Estimate | None, digits: int = 0) -> str:
    """Return `95 % [70, 120]`, or what there is of it."""
    if estimate is None or estimate.value is None:
        return UNKNOWN
    value = percent(estimate.value, digits)
    if estimate.low is None or estimate.high is None:
        return f"{value} (no interval)"
    low, high = (_number(100 * bound, digits) for bound in (estimate.low, estimate.high))
    return f"{value} [{low}, {high}]"


def percent_range(low: float, high: float, digits: int = 1) -> str:
    """Return two bounds as `0.5–6.7 %`."""
    return f"{_number(100 * low, digits)}–{percent(high, digits)}"


def points_interval(estimate: Estimate | None, digits: int = 1) -> str:
    """Return `+31.2 [+22.0, +40.4]`, or what there is of it."""
    if estimate is None or estimate.value is None:
        return UNKNOWN
    value = points(estimate.value, digits)
    if estimate.low is None or estimate.high is None:
        return f"{value} (no interval)"
    return f"{value} [{points(estimate.low, digits)}, {points(estimate.high, digits)}]"


def number_interval(estimate: Estimate | None, digits: int, *, signed: bool = False) -> str:
    """Return `−3.21 [−3.40, −3.02]`, or what there is of it."""
    if estimate is None or estimate.value is None:
        return UNKNOWN
    value = _number(estimate.value, digits, signed=signed)
    if estimate.low is None or estimate.high is None:
        return f"{value} (no interval)"
    low, high = (_number(bound, digits, signed=signed) for bound in (estimate.low, estimate.high))
    return f"{value} [{low}, {high}]"


def mean_count(value: float | None) -> str:
    """Return a mean of counts: whole where it is whole, else with one decimal."""
    if value is None:
        return UNKNOWN
    return count(round(value)) if float(value).is_integer() or value >= 1000 else f"{value:,.1f}"


def significant(value: float) -> str:
    """Return a number on no known scale, to three significant digits."""
    return f"{value:.3g}".replace("-", _MINUS)


def p_value(estimate: Estimate | None) -> str:
    """Return a p to two significant digits, `< 0.001` below that."""
    if estimate is None or estimate.value is None:
        return UNKNOWN
    return "< 0.001" if estimate.value < 0.001 else f"{estimate.value:.2g}"


def duration(seconds: float) -> str:
    """Return seconds as `42 s`, `7 min 05 s` or `2 h 03 min`."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole}{_SPACE}s"
    if whole < 3600:
        return f"{whole // 60}{_SPACE}min{_SPACE}{whole % 60:02d}{_SPACE}s"
    return f"{whole // 3600}{_SPACE}h{_SPACE}{whole % 3600 // 60:02d}{_SPACE}min"


def moment(microseconds: int) -> str:
    """Return microseconds since 1970 as a UTC time; the zone of this machine plays no part."""
    return datetime.fromtimestamp(microseconds // 1_000_000, tz=UTC).strftime("%Y-%m-%d %H:%M UTC")


def _number(value: float, digits: int, *, signed: bool = False) -> str:
    text = f"{abs(value):.{digits}f}"
    zero = float(text) == 0
    if value < 0 and not zero:
        return _MINUS + text
    return f"+{text}" if signed and not zero else text
