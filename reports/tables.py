"""What a table is: columns of a kind, and rows of cells.

Owns the record that the template's one table macro turns into markup. Cells are plain text and
become HTML only through autoescape; the kind of a column decides alignment and wrapping.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum

from attrib.reports.text import UNKNOWN, count, plural, show
from attrib.reports.values import Estimate


class Kind(StrEnum):
    """How the cells of a column are set."""

    TEXT = "text"
    """Words, left."""
    LABEL = "label"
    """A name, left, never wrapped."""
    NUMBER = "number"
    """Figures of equal width, right, never wrapped."""
    QUOTE = "quote"
    """Somebody else's words: isolated from the text direction around them."""
    CODE = "code"
    """Identifiers and settings."""
    STATUS = "status"
    """How a run ended; the cell's text is also its class."""


@dataclass(frozen=True, slots=True)
class Column:
    """A heading and how what is below it is set."""

    title: str
    kind: Kind = Kind.TEXT


@dataclass(frozen=True, slots=True)
class Table:
    """A caption, columns, and rows of cells; the first cell of a row is its heading."""

    caption: str
    columns: tuple[Column, ...]
    rows: tuple[tuple[str, ...], ...]


def make_table(
    caption: str, columns: Sequence[str | Column], rows: Iterable[Sequence[str]]
) -> Table:
    """Return a table in which plain titles stand for number columns, save the first."""
    first, *rest = columns
    heads = [first if isinstance(first, Column) else Column(first)]
    heads += [
        column if isinstance(column, Column) else Column(column, Kind.NUMBER) for column in rest
    ]
    return Table(caption, tuple(heads), tuple(tuple(row) for row in rows))


def describe_common_questions(estimates: Sequence[Estimate | None]) -> tuple[str, list[str]]:
    """Return how many held-out questions numbers rest on, as words for a caption if all agree.

    Otherwise the words are empty, and the second is the heading of a column that tells.
    """
    numbers = {one.questions for one in estimates if one is not None}
    if len(numbers) == 1:
        return f"; {plural(numbers.pop(), 'held-out question')}", []
    return "", ["Held-out questions"] if numbers else []


def join_answers(answers: Sequence[str]) -> str:
    """Return the first accepted answers, and how many more there are."""
    shown = [show(answer, 80) for answer in answers[:4]]
    more = f" … {len(answers) - 4} more" if len(answers) > 4 else ""
    return " · ".join(shown) + more


def span(low: int | None, high: int | None) -> str:
    """Return `1–8`, a single number where both ends agree, – where there is none."""
    if low is None or high is None:
        return UNKNOWN
    return count(low) if low == high else f"{count(low)}–{count(high)}"
