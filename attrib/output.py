"""Rows that commands write for other programs: which formats there are, and how they look."""

import json
from collections.abc import Iterable, Iterator
from enum import StrEnum
from pathlib import Path

import polars as pl

from attrib.errors import ConfigError
from attrib.files import STDOUT, writing_to
from attrib.tables import simplify, to_csv, to_json

LINE_SUFFIXES = {".jsonl": "jsonl", ".ndjson": "jsonl"}


class Format(StrEnum):
    """How rows are written."""

    TABLE = "table"
    """For people; a pipe gets every column in full."""
    CSV = "csv"
    """Lists as JSON within a cell."""
    JSON = "json"
    """A list of objects."""
    JSONL = "jsonl"
    """An object a line."""
    PARQUET = "parquet"


def choose_format(wanted: str | None, output: Path | None, default: str, known: list[str]) -> str:
    """Return the format that is named, else that of the file's name, else the default.

    Raises:
        ConfigError: it is not one of those known, or Parquet without a file.
    """
    suffix = "" if output is None else output.suffix.lower()
    found = wanted or LINE_SUFFIXES.get(suffix) or suffix.lstrip(".") or default
    if found not in known:
        said = f"--format {wanted}" if wanted else f"{output}: the ending"
        raise ConfigError(f"{said} is none of {', '.join(known)}. Say which with --format.")
    if found == Format.PARQUET and output in (None, STDOUT):
        raise ConfigError("Parquet cannot be printed. Name a file: --output rows.parquet")
    return found


def write_frame(frame: pl.DataFrame, kind: Format, output: Path) -> None:
    """Write rows to a file.

    Raises:
        ConfigError: the file cannot be written, or not in this format.
    """
    with writing_to(output) as stream:
        if kind == Format.PARQUET:
            try:
                frame.write_parquet(stream)
            except pl.exceptions.PolarsError as error:
                raise ConfigError(f"Parquet has no room for a column: {error}") from error
        else:
            stream.writelines(piece.encode() for piece in to_text(frame, kind))


def to_text(frame: pl.DataFrame, kind: Format) -> Iterator[str]:
    """Yield the text of rows as CSV, JSON or JSON lines."""
    if kind == Format.CSV:
        yield to_csv(frame)
    elif kind == Format.JSON:
        yield to_json(frame) + "\n"
    else:
        yield from to_lines(frame.iter_rows(named=True))


def to_lines(records: Iterable[object]) -> Iterator[str]:
    """Yield a line of JSON for each record."""
    for record in records:
        yield json.dumps(simplify(record), ensure_ascii=False, allow_nan=False) + "\n"
