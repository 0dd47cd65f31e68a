"""Parsing question files into drafts of questions: which rows can be used, and what they say.

A row that cannot be used is dropped with its file, number and reason, and the others are kept;
`strict` refuses the files instead. Refuses files without a usable row.
"""

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from attrib.config import content_hash
from attrib.data.files import Row, Unreadable, format_of, hash_file, read_rows
from attrib.data.layouts import (
    PRESETS,
    Layout,
    choose_layout,
    guess_layout,
    read_answers,
    read_cell,
    read_template,
    read_text,
    unquote,
)
from attrib.data.questions import AnswerType, identify_question
from attrib.errors import ConfigError, DataError

LONGEST_QUESTION = 2_000  # characters: more is a file that lost a quotation mark
LONGEST_ANSWER = 500
SHOWN = 80  # characters of a dropped row's text
SEVERAL = "several"
"""Flag of a question whose accepted answers are all of a list, not ways to say one."""
NUMERIC = "number"
"""What sources call answers that are numbers; all other kinds compare as names."""


@dataclass(frozen=True, slots=True)
class Dropped:
    """What was not imported: a row of a file, or a question by its id, which has no row."""

    file: str
    row: int | None
    reason: str
    text: str = ""

    def __str__(self) -> str:
        """Return it for people."""
        shown = f" ({self.text!r})" if self.text else ""
        place = self.file if self.row is None else f"{self.file}, row {self.row}"
        return f"{place}: {self.reason}{shown}"


@dataclass(frozen=True, slots=True)
class Draft:
    """A question whose fact and split are not known yet."""

    question_id: str
    text: str
    answers: tuple[str, ...]
    answer_type: AnswerType
    subject: str | None
    relation: str | None
    popularity: int | None
    flags: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Parsed:
    """What the files of one data set hold."""

    dataset: str
    preset: str
    rows: int
    drafts: tuple[Draft, ...]
    dropped: tuple[Dropped, ...]


def parse_files(
    dataset: str,
    paths: Sequence[Path],
    *,
    preset: str | None = None,
    columns: Layout | None = None,
    strict: bool = False,
) -> Parsed:
    """Return what some files hold, in order.

    Args:
        dataset: the name of the data set; part of the questions' identity.
        paths: the files.
        preset: how they are laid out; None finds it out from the columns.
        columns: the columns of a layout that is none of the presets.
        strict: whether a row that cannot be used is an error.

    Raises:
        ConfigError: the layout cannot be told, or does not fit a file.
        DataError: a file cannot be read, no row can be used, or one cannot and `strict` is set.
    """
    parser = _Parser(dataset, strict)
    layouts = [_settle_layout(path, preset, columns) for path in paths]
    for path, layout in zip(paths, layouts, strict=True):
        parser.read(path, layout)
    if not parser.drafts:
        first = f" The first: {parser.dropped[0]}." if parser.dropped else ""
        raise DataError(f"{', '.join(map(str, paths[:3]))}: no row can be used.{first}")
    return Parsed(
        dataset,
        layouts[0].preset,
        parser.rows,
        tuple(parser.drafts),
        tuple(parser.dropped),
    )


def general_reason(reason: str) -> str:
    """Return why a row was dropped, without what is particular to it."""
    reason = re.sub(r" as [^:]*, row \d+$|: .*$|, in .*$", "", reason)
    return re.sub(r"'.*'|\d[\d,]*", "…", reason)


def hash_files(paths: Sequence[Path]) -> str:
    """Return what changes when one of the files does, or its name."""
    return content_hash([[path.name, hash_file(path)] for path in paths])


def _has_literals(path: Path) -> bool:
    """Tell whether a file is lines of a question and a list in Python's words, without a header."""
    if format_of(path) not in ("tsv", "txt"):
        return False
    layout = PRESETS["dpr"][0]
    first = next(iter(read_rows(path, layout.header)), None)
    return isinstance(first, Row) and read_text(first.cells, layout.answers).startswith("[")


def _settle_layout(path: Path, preset: str | None, columns: Layout | None) -> Layout:
    """Return the layout of a file, from its first row where it is not named."""
    literals = PRESETS["dpr"][0]
    if preset == literals.preset or (preset is None and columns is None and _has_literals(path)):
        return literals
    first = next((row for row in islice(read_rows(path), 1000) if isinstance(row, Row)), None)
    if first is None:
        reason = next((row.reason for row in read_rows(path) if isinstance(row, Unreadable)), "")
        raise DataError(
            f"{path}: no row can be read. The first: {reason}."
            if reason
            else f"{path} has no rows below its header line."
        )
    there = list(first.cells)
    if columns is not None:
        missing = columns.missing(there)
        if missing:
            raise ConfigError(f"{path} has no column {missing[0]!r}; it has {', '.join(there)}.")
        return columns
    if preset is not None:
        return choose_layout(preset, there, path)
    found = guess_layout(there)
    if found is None and len(there) == 1 and ";" in there[0]:
        raise ConfigError(
            f"{path} has semicolons between its columns: save it with commas or tabs."
        )
    if found is None:
        raise ConfigError(
            f"{path} has the columns {', '.join(there)}, which is no known layout. Name what holds "
            f"what with --question-column and --answers-column, or --format {'|'.join(PRESETS)}."
        )
    return found


class _Parser:
    """Takes rows one after another, and knows what came before."""

    def __init__(self, dataset: str, strict: bool) -> None:
        self.drafts: list[Draft] = []
        self.dropped: list[Dropped] = []
        self.rows = 0
        self._dataset, self._strict = dataset, strict
        self._times: Counter[tuple[str, str]] = Counter()
        self._seen: dict[tuple[str, str, frozenset[str]], str] = {}
        self._keys: dict[str, str] = {}

    def read(self, path: Path, layout: Layout) -> None:
        """Take the rows of a file."""
        for row in read_rows(path, layout.header):
            self.rows += 1
            if isinstance(row, Unreadable):
                self._drop(path, row.number, row.reason)
                continue
            try:
                self.drafts.append(self._draft(path, layout, row))
            except ValueError as error:
                self._drop(path, row.number, str(error), read_text(row.cells, layout.question))

    def _drop(self, path: Path, number: int, reason: str, text: str = "") -> None:
        dropped = Dropped(path.name, number, reason, text[:SHOWN])
        if self._strict:
            raise DataError(f"{dropped}. Mend this row, or leave out --strict to drop it.")
        self.dropped.append(dropped)

    def _draft(self, path: Path, layout: Layout, row: Row) -> Draft:
        """Return the question of a row; raise ValueError with the reason where there is none."""
        text = unquote(read_text(row.cells, layout.question))
        if not text:
            raise ValueError("the question is empty")
        if len(text) > LONGEST_QUESTION:
            raise ValueError(
                f"the question has {len(text)} characters: is a quotation mark missing?"
            )
        answers = _clean_answers(layout, row)
        relation, subject = _find_relation(path, layout, row, text)
        place = f"{path.name}, row {row.number}"
        same = (text, relation or "", frozenset(answers))
        if same in self._seen:
            raise ValueError(f"the same question and answers as {self._seen[same]}")
        self._seen[same] = place
        key = self._make_key(layout, row, relation or "", text, place)
        return Draft(
            question_id=identify_question(self._dataset, key, text),
            text=text,
            answers=answers,
            answer_type=_answer_type(layout, row),
            subject=subject,
            relation=relation,
            popularity=_read_popularity(layout, row),
            flags=(SEVERAL,) if layout.several and len(answers) > 1 else (),
        )

    def _make_key(self, layout: Layout, row: Row, relation: str, text: str, place: str) -> str:
        """Return what names a row for good: its key, or how often its question came before."""
        key = read_text(row.cells, layout.key)
        if not key:
            self._times[relation, text] += 1
            return f"{relation}#{self._times[relation, text]}"
        if key in self._keys:
            raise ValueError(f"the key {key!r} came before, in {self._keys[key]}")
        self._keys[key] = place
        return key


def _clean_answers(layout: Layout, row: Row) -> tuple[str, ...]:
    """Return the accepted answers, each once; raise ValueError if none can be compared."""
    listed: Iterator[str] = (
        " ".join(answer.split())
        for name in (layout.answers, *layout.aliases)
        for answer in read_answers(read_cell(row.cells, name))
    )
    answers = tuple(dict.fromkeys(_with_short_names(listed, layout.ending)))
    if not any(answers):
        raise ValueError("no accepted answer")
    kept = tuple(answer for answer in answers if _can_be_said(answer))
    if not kept:
        raise ValueError(f"no accepted answer that a response could hold: {answers[0][:SHOWN]!r}")
    return kept


def _with_short_names(answers: Iterator[str], ending: str) -> Iterator[str]:
    """Yield the answers, and those with `ending` without it too."""
    for answer in answers:
        yield answer
        if ending and answer.casefold().endswith(ending):
            yield answer[: -len(ending)]


def _can_be_said(answer: str) -> bool:
    """Tell whether a response could be compared with an answer."""
    return len(answer) <= LONGEST_ANSWER and any(map(str.isalnum, answer))


def _find_relation(
    path: Path, layout: Layout, row: Row, text: str
) -> tuple[str | None, str | None]:
    """Return relation and subject; raise ValueError where a subject is missing in both places."""
    relation = read_text(row.cells, layout.relation) or None
    subject = read_text(row.cells, layout.subject) or None
    if layout.relation_in_name:
        named = layout.relation_in_name.search(path.name)
        relation = named[1] if named else relation
    if layout.templates:
        found = read_template(layout, text, relation)
        if found:
            relation, subject = found
        if found and not subject:
            raise ValueError("the question has no subject")
    elif layout.subject and not subject:
        raise ValueError("the subject is empty")
    return relation, subject


def _answer_type(layout: Layout, row: Row) -> AnswerType:
    kind = read_text(row.cells, layout.kind).lower()
    return AnswerType.NUMBER if kind == NUMERIC else AnswerType.NAME


def _read_popularity(layout: Layout, row: Row) -> int | None:
    """Return the count, None where the source has none; raise ValueError if it is no number."""
    text = read_text(row.cells, layout.popularity)
    if not text:
        return None
    try:
        return int(float(text))
    except (ValueError, OverflowError):
        raise ValueError(f"the popularity {text!r} is no number") from None
