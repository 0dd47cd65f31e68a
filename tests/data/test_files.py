"""Rows of question files: every format, and everything that can be wrong with one."""

import gzip
import io
import json
from pathlib import Path

import polars as pl
import pytest

from attrib.data.files import Row, Unreadable, format_of, read_rows
from attrib.errors import DataError

ROWS = [{"question": "who?", "answer": "Ann"}, {"question": "où?", "answer": "ici, là"}]


def as_csv(rows: list[dict[str, str]], separator: str = ",") -> str:
    frame = pl.DataFrame(rows)
    return frame.write_csv(separator=separator)


def as_parquet(rows: list[dict[str, str]]) -> bytes:
    buffer = io.BytesIO()
    pl.DataFrame(rows).write_parquet(buffer)
    return buffer.getvalue()


CONTENTS = {
    "a.csv": as_csv(ROWS).encode(),
    "a.tsv": as_csv(ROWS, "\t").encode(),
    "a.json": json.dumps(ROWS).encode(),
    "wrapped.json": json.dumps({"Version": 1, "Data": ROWS}).encode(),
    "lines.json": "\n".join(map(json.dumps, ROWS)).encode(),
    "a.jsonl": "\n\n".join(map(json.dumps, ROWS)).encode(),
    "a.ndjson": ("\n".join(map(json.dumps, ROWS)) + "\n").encode(),
    "a.parquet": as_parquet(ROWS),
    "bom.csv": b"\xef\xbb\xbf" + as_csv(ROWS).encode(),
    "windows.csv": as_csv(ROWS).replace("\n", "\r\n").encode(),
}


@pytest.mark.parametrize("is_zipped", [False, True])
@pytest.mark.parametrize("name", CONTENTS)
def test_every_format_gives_the_same_rows(tmp_path: Path, name: str, is_zipped: bool) -> None:
    content = CONTENTS[name]
    path = tmp_path / (f"{name}.gz" if is_zipped else name)
    path.write_bytes(gzip.compress(content, mtime=0) if is_zipped else content)
    rows = list(read_rows(path))
    assert [dict(row.cells) for row in rows if isinstance(row, Row)] == ROWS
    assert len(rows) == 2


def write(path: Path, content: bytes | str) -> Path:
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def test_rows_are_numbered_as_people_count(tmp_path: Path) -> None:
    text = 'question,answer\nwho?,Ann\n"two\nlines",Bob\n\nthird,Cem\n'
    rows = list(read_rows(write(tmp_path / "a.csv", text)))
    assert [row.number for row in rows] == [2, 3, 6]
    lines = "".join(json.dumps(row) + "\n\n" for row in ROWS)
    assert [row.number for row in read_rows(write(tmp_path / "a.jsonl", lines))] == [1, 3]


def test_columns_may_be_named_where_the_file_has_no_header(tmp_path: Path) -> None:
    path = write(tmp_path / "a.txt", "who?\t['Ann']\nwhen?\t['now']\n")
    rows = list(read_rows(path, ("question", "answers")))
    assert rows[0] == Row(1, {"question": "who?", "answers": "['Ann']"})
    assert len(rows) == 2


@pytest.mark.parametrize(
    ("name", "content", "number", "reason"),
    [
        ("a.csv", b"q,a\nx,y\nonly\nz,w\n", 3, "1 fields instead of 2"),
        ("a.csv", b"q,a\nx,y\na,b,c\nz,w\n", 3, "3 fields instead of 2"),
        ("a.csv", b"q,a\nx,y\ncaf\xe9,b\nz,w\n", 3, "the byte 0xe9 is not UTF-8: save the file"),
        ("a.csv", b"q,a\nx,y\nn\0l,b\nz,w\n", 3, "a NUL byte"),
        ("a.jsonl", b'{"q":"x"}\n{"q":\n{"q":"z"}\n', 2, "not valid JSON"),
        ("a.jsonl", b'{"q":"x"}\n[1]\n{"q":"z"}\n', 2, "a list instead of an object"),
        ("a.jsonl", b'{"q":"x"}\n{"q":"\xe9"}\n{"q":"z"}\n', 2, "the byte 0xe9 is not UTF-8"),
        ("a.json", b'[{"q":"x"},{"q":"\\ud83d"},{"q":"z"}]', 2, "half a character is not UTF-8"),
        ("a.json", b'[{"q":"x"},"y",{"q":"z"}]', 2, "a str instead of an object"),
        ("a.jsonl", b'{"q":"x"}\n{"q":"\\u0000"}\n{"q":"z"}\n', 2, "a NUL byte"),
        ("a.jsonl", b'{"q":"x"}\n{"q":"\\uDEAD"}\n{"q":"\\ud83d\\ude00"}\n', 2, "half a char"),
    ],
)
def test_a_row_that_cannot_be_read_takes_no_other_with_it(
    tmp_path: Path, name: str, content: bytes, number: int, reason: str
) -> None:
    rows = list(read_rows(write(tmp_path / name, content)))
    assert [isinstance(row, Unreadable) for row in rows] == [False, True, False]
    assert rows[1].number == number
    assert isinstance(rows[1], Unreadable)
    assert rows[1].reason.startswith(reason)


@pytest.mark.parametrize(
    ("name", "content", "complaint"),
    [
        ("a.csv", b"", r"a\.csv is empty"),
        ("a.csv", "q,a\nx,y\n".encode("utf-16"), "is UTF-16, not text: save the file as UTF-8"),
        ("a.csv", b"PK\x03\x04rest", "is a zip archive"),
        ("a.csv", b"q,q\nx,y\n", "a column name occurs twice"),
        ("a.json", b'[{"q": 1},', r"line 1, column 11: not valid JSON"),
        ("a.json", b"3", "holds no list of questions"),
        ("a.parquet", b"PAR0 is nothing", "is no Parquet file"),
        ("a.csv.gz", b"q,a\n", r"cannot be read: Not a gzipped file"),
        ("a.csv.gz", gzip.compress(b"q,a\n" * 999, mtime=0)[:40], r"cannot be read"),
        ("a.doc", b"q,a\n", r"the name must end in one of \.csv"),
    ],
)
def test_a_file_that_gives_no_rows_is_refused(
    tmp_path: Path, name: str, content: bytes, complaint: str
) -> None:
    with pytest.raises(DataError, match=complaint):
        list(read_rows(write(tmp_path / name, content)))


@pytest.mark.parametrize("marks", [(3,), (3, 6), (1, 4, 9)])
def test_a_quotation_mark_that_is_not_closed_costs_its_own_line(
    tmp_path: Path, marks: tuple[int, ...]
) -> None:
    lines = [f"Q{i},A{i}" for i in range(1, 11)]
    for mark in marks:
        lines[mark - 1] = '"' + lines[mark - 1]
    path = tmp_path / "q.csv"
    path.write_text("question,answer\n" + "\n".join(lines) + "\n", encoding="utf-8")
    rows = list(read_rows(path))
    unreadable = [row for row in rows if isinstance(row, Unreadable)]
    whole = [row for row in rows if isinstance(row, Row)]
    assert {row.reason for row in unreadable} == {"a quotation mark is not closed"}
    assert [row.number for row in unreadable] == [mark + 1 for mark in marks]
    assert [row.number for row in whole] == [i + 1 for i in range(1, 11) if i not in marks]
    assert all(row.cells["question"] == f"Q{row.number - 1}" for row in whole)


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="cannot be read"):
        list(read_rows(tmp_path / "none.csv"))


def test_the_format_is_in_the_name() -> None:
    assert format_of(Path("x.train.json.gz")) == "json"
    assert format_of(Path("X.CSV")) == "csv"
