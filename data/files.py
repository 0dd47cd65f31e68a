"""Question files: rows out of CSV, TSV, JSON, JSON lines and Parquet, plain or gzipped.

Owns how a file becomes rows, and which rows cannot be read. Such a row is named with its number and
the reason, and takes no other row with it. Files that give no rows at all are refused.
"""

import csv
import gzip
import hashlib
import io
import json
import re
import sys
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, TextIO

import polars as pl

from attrib.errors import DataError

FORMATS = ("csv", "tsv", "txt", "json", "jsonl", "ndjson", "parquet")
FOREIGN = {b"\xff\xfe": "UTF-16", b"\xfe\xff": "UTF-16", b"PK\x03\x04": "a zip archive"}
"""First bytes of files that are often mistaken for text."""
SAVE_AS_UTF8 = "save the file as UTF-8"
_ODD_ESCAPE = re.compile(r"\\u(?:0000|[dD][89a-fA-F])")

csv.field_size_limit(sys.maxsize)  # what is too long for a question is dropped with its row


@dataclass(frozen=True, slots=True)
class Row:
    """One row: `number` is a line, or a place in a list, as users count, from 1."""

    number: int
    cells: Mapping[str, object]


@dataclass(frozen=True, slots=True)
class Unreadable:
    """A row that is none, and why."""

    number: int
    reason: str


def hash_file(path: Path) -> str:
    """Return the SHA-256 of a file's bytes."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def format_of(path: Path) -> str:
    """Return how a file is written, from its name.

    Raises:
        DataError: the name ends in nothing that is known.
    """
    suffixes = [suffix.lower().lstrip(".") for suffix in path.suffixes]
    if suffixes[-1:] == ["gz"]:
        suffixes.pop()
    if not suffixes or suffixes[-1] not in FORMATS:
        known = ", ".join(f".{name}" for name in FORMATS)
        raise DataError(f"{path}: the name must end in one of {known}, or these with .gz.")
    return suffixes[-1]


def read_rows(path: Path, columns: Sequence[str] = ()) -> Iterator[Row | Unreadable]:
    """Yield the rows of a file in order.

    Args:
        path: the file.
        columns: their names, where the file has no header line.

    Raises:
        DataError: the file cannot be read, is empty, or is not what its name says.
    """
    kind = format_of(path)
    try:
        with _open(path) as stream:
            _refuse_foreign(path, stream)
            if kind == "parquet":
                yield from _read_parquet(path, stream)
                return
            text = io.TextIOWrapper(
                stream, encoding="utf-8-sig", errors="surrogateescape", newline=""
            )
            if kind in ("csv", "tsv", "txt"):
                yield from _read_delimited(path, text, "," if kind == "csv" else "\t", columns)
            elif kind == "json":
                yield from _read_json(path, text)
            else:
                yield from _read_lines(text)
    except (OSError, EOFError) as error:
        raise DataError(f"{path} cannot be read: {error}") from error


def _open(path: Path) -> BinaryIO:
    if path.suffix.lower() == ".gz":
        return io.BufferedReader(gzip.GzipFile(path))
    return path.open("rb")


def _refuse_foreign(path: Path, stream: BinaryIO) -> None:
    head = stream.peek(4)  # type: ignore[attr-defined]
    if not head:
        raise DataError(f"{path} is empty.")
    for start, name in FOREIGN.items():
        if head.startswith(start):
            raise DataError(f"{path} is {name}, not text: {SAVE_AS_UTF8}.")


def _read_delimited(
    path: Path, text: TextIO, delimiter: str, columns: Sequence[str]
) -> Iterator[Row | Unreadable]:
    lines = _Lines(text)
    reader = csv.reader(lines, delimiter=delimiter)
    names = list(columns) or next(reader, [])
    if len(set(names)) < len(names):
        raise DataError(f"{path}: a column name occurs twice in the header {names}.")
    lines.begin()
    for fields in reader:
        number, taken = lines.first, lines.begin()
        if not fields:
            continue
        is_whole = taken < 2 or not _holds_rows(fields, delimiter, len(names))
        if len(fields) == len(names) and is_whole:
            yield _check(number, dict(zip(names, fields, strict=True)), "".join(fields))
        elif taken == 1:
            yield Unreadable(number, f"{len(fields)} fields instead of {len(names)}")
        else:
            lines.put_back(taken - 1)
            yield Unreadable(number, "a quotation mark is not closed")


def _holds_rows(fields: Sequence[str], delimiter: str, columns: int) -> bool:
    """Return whether a field is made of rows: every line within it has as many columns."""
    return columns > 1 and any(
        len(inner) > 1 and all(line.count(delimiter) == columns - 1 for line in inner)
        for inner in (field.splitlines()[1:-1] for field in fields)
    )


class _Lines:
    """The lines of a file, of which those that a stray quotation mark swallowed can be had again.

    `first` is the number of the line that the current record began with.
    """

    def __init__(self, text: TextIO) -> None:
        self._text = text
        self._waiting: deque[str] = deque()
        self._taken: list[str] = []
        self.first = 1

    def __iter__(self) -> "_Lines":
        return self

    def __next__(self) -> str:
        line = self._waiting.popleft() if self._waiting else next(self._text)
        self._taken.append(line)
        return line

    def begin(self) -> int:
        """Begin a record; return how many lines the last one took."""
        self._last, self._taken = self._taken, []
        self.first += len(self._last)
        return len(self._last)

    def put_back(self, count: int) -> None:
        """Return to the last `count` lines of the record before."""
        self._waiting.extendleft(reversed(self._last[-count:]))
        self.first -= count


def _read_json(path: Path, text: TextIO) -> Iterator[Row | Unreadable]:
    content = text.read()
    try:
        items = json.loads(content)
    except json.JSONDecodeError as error:
        if error.msg == "Extra data":  # one value a line, whatever the name says
            yield from _read_lines(io.StringIO(content))
            return
        raise DataError(
            f"{path}, line {error.lineno}, column {error.colno}: not valid JSON ({error.msg})."
        ) from error
    if isinstance(items, dict):  # {"Data": [...]} and the like
        lists = [value for value in items.values() if isinstance(value, list)]
        items = lists[0] if len(lists) == 1 else [items]
    if not isinstance(items, list):
        raise DataError(f"{path} holds no list of questions.")
    is_plain = _is_plain(content)
    for number, item in enumerate(items, start=1):
        yield _check_object(number, item, is_plain)


def _read_lines(text: TextIO) -> Iterator[Row | Unreadable]:
    for number, line in enumerate(text, start=1):
        if not line.strip():
            continue
        try:
            yield _check_object(number, json.loads(line), _is_plain(line))
        except json.JSONDecodeError as error:
            yield Unreadable(number, f"not valid JSON ({error.msg}, column {error.colno})")


def _read_parquet(path: Path, stream: BinaryIO) -> Iterator[Row]:
    try:
        frame = pl.read_parquet(stream.read())
    except pl.exceptions.ComputeError as error:
        raise DataError(f"{path} is no Parquet file: {error}") from error
    for number, cells in enumerate(frame.iter_rows(named=True), start=1):
        yield Row(number, cells)


def _is_plain(json_text: str) -> bool:
    """Tell whether nothing that is written here can be half a character, or none."""
    try:
        json_text.encode()
    except UnicodeEncodeError:
        return False
    return _ODD_ESCAPE.search(json_text) is None


def _check_object(number: int, item: object, is_plain: bool) -> Row | Unreadable:
    if not isinstance(item, dict):
        return Unreadable(number, f"a {type(item).__name__} instead of an object")
    if is_plain:
        return Row(number, item)
    return _check(number, item, json.dumps(item, ensure_ascii=False).replace(r"\u0000", "\0"))


def _check(number: int, cells: Mapping[str, object], text: str) -> Row | Unreadable:
    if "\0" in text:
        return Unreadable(number, "a NUL byte: the file is damaged, or no text")
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError as error:
            code = ord(text[error.start])
            is_byte = 0xDC80 <= code <= 0xDCFF  # as "surrogateescape" stands for them
            shown = f"the byte 0x{code - 0xDC00:02x}" if is_byte else "half a character"
            return Unreadable(number, f"{shown} is not UTF-8: {SAVE_AS_UTF8}")
    return Row(number, cells)
