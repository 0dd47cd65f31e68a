"""The questions of a study: imported once, then selected from the store.

Owns the way from question files into the store and back. Refuses a data set whose file has changed
since it was imported: the questions of a study never change under its rollouts.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import fields
from importlib import resources
from itertools import chain

import numpy as np
import polars as pl
import pyarrow as pa  # type: ignore[import-untyped]

from attrib.config import content_hash
from attrib.data.questions import WORLDFACTS, AnswerType, Question, Split, load_worldfacts
from attrib.errors import ConfigError, DataError, QueryError, condition_error
from attrib.settings import suggest
from attrib.store import Store, Transaction

_SELECT = "SELECT * FROM questions WHERE dataset = $dataset ORDER BY question_id"
_SELECT_SOME = """
    SELECT * FROM questions WHERE list_contains($question_ids, question_id) ORDER BY question_id
"""
_SELECT_OF_SAMPLE_SET = """
    SELECT * FROM questions WHERE dataset IN (
        SELECT DISTINCT dataset FROM questions
        SEMI JOIN (FROM rollouts WHERE sample_set_id = $sample_set_id) USING (question_id))
    ORDER BY question_id
"""
_SELECT_IDS = "SELECT question_id FROM questions WHERE (\n{}\n)"


def import_dataset(store: Store, dataset: str) -> None:
    """Make sure that the questions of `dataset` are in the store. Only inside `store.writing`.

    Raises:
        ConfigError: the data set is neither built in nor imported.
        DataError: its file differs from the one imported before.
    """
    known = store.read("SELECT file_hash FROM imports WHERE dataset = $dataset", dataset=dataset)
    if dataset != WORLDFACTS:
        if known.is_empty():
            raise ConfigError(
                f"There is no data set '{dataset}' in {store.path}. Built in: {WORLDFACTS}; others "
                "are brought in with: attrib data import FILE"
            )
        return
    file = resources.files("attrib.data") / f"{WORLDFACTS}.csv"
    file_hash = hashlib.sha256(file.read_bytes()).hexdigest()
    if known.is_empty():
        path = f"attrib.data/{WORLDFACTS}.csv"
        store_questions(store, dataset, path, file_hash, load_worldfacts())
    elif known.item() != file_hash:
        raise DataError(
            f"{dataset} has changed since {store.path} imported it. Start another study: --db FILE"
        )


def store_questions(
    store: Store,
    dataset: str,
    path: str,
    file_hash: str,
    questions: Sequence[Question],
    *,
    preset: str = WORLDFACTS,
    rows: int | None = None,
    dropped: Sequence[Mapping[str, object]] = (),
    links: Sequence[tuple[str, str, str]] = (),
) -> None:
    """Write an import and its questions as one batch. Only inside `store.writing`.

    Args:
        store: the study.
        dataset: the name of the data set.
        path: where it came from.
        file_hash: of its files.
        questions: what was made of them.
        preset: how they are laid out.
        rows: how many they have; by default one for each question.
        dropped: rows that became no question.
        links: between questions that are one fact.
    """
    record = {
        "dataset": dataset,
        "path": path,
        "file_hash": file_hash,
        "preset": preset,
        "rows": len(questions) if rows is None else rows,
        "dropped": json.dumps(list(dropped)),
    }
    with store.transaction() as transaction:
        transaction.append("imports", pl.DataFrame([record]), unless_present=["dataset"])
        transaction.append("questions", to_frame(questions), unless_present=["question_id"])
        append_links(transaction, links)


def append_links(transaction: Transaction, links: Sequence[tuple[str, str, str]]) -> None:
    """Write which questions were taken for one fact, and by which rule."""
    if links:
        names = ["question_id", "other_id", "rule"]
        transaction.append("fact_links", pl.DataFrame(links, names, orient="row"))


def load_dataset(store: Store, dataset: str) -> list[Question]:
    """Return every imported question of `dataset`, both splits, ordered by id."""
    return _read_questions(store, _SELECT, dataset=dataset)


def load_every_question(store: Store) -> list[Question]:
    """Return the questions of all data sets, ordered by id."""
    return _read_questions(store, "SELECT * FROM questions ORDER BY question_id")


def load_some(store: Store, question_ids: Sequence[str]) -> list[Question]:
    """Return these questions, ordered by id."""
    return _read_questions(store, _SELECT_SOME, question_ids=list(question_ids))


def load_questions_of(store: Store, sample_set_id: str) -> list[Question]:
    """Return all questions, both splits, of the data sets that a sample set draws on.

    Raises:
        DataError: the sample set holds no rollouts.
    """
    questions = _read_questions(store, _SELECT_OF_SAMPLE_SET, sample_set_id=sample_set_id)
    if not questions:
        raise DataError(
            f"Sample set {sample_set_id} holds no rollouts. Type: "
            f"{suggest('sample --n 128', store.path)}"
        )
    return questions


def select_questions(
    store: Store,
    questions: list[Question],
    split: Split,
    *,
    where: str | None = None,
    limit: int | None = None,
) -> list[Question]:
    """Return the questions of one split that satisfy an SQL condition.

    The order is that of a hash of the ids: a fixed shuffle, so that a smaller `limit` is always a
    random subset of a larger one.

    Args:
        store: the study.
        questions: those to choose from, such as all of a data set.
        split: which side.
        where: an SQL condition on the columns of the table `questions`, or None for all.
        limit: how many at most, or None for all.

    Raises:
        ConfigError: the condition is not valid SQL, or the limit is below 1.
        DataError: no question satisfies it.
    """
    if limit is not None and limit < 1:
        raise ConfigError(f"The limit of {limit} {split} questions must be at least 1.")
    chosen = filter_questions(store, [q for q in questions if q.split is split], where)[:limit]
    if not chosen:
        raise DataError(f'No {split} question satisfies "{where or "TRUE"}".')
    return chosen


def filter_questions(
    store: Store, questions: Sequence[Question], where: str | None
) -> list[Question]:
    """Return those that satisfy an SQL condition (None: all), in a fixed shuffle.

    Raises:
        ConfigError: the condition is not valid SQL.
    """
    try:
        rows = store.read(_SELECT_IDS.format(where or "TRUE"))
    except QueryError as error:
        columns = store.read("FROM questions LIMIT 0").columns
        raise condition_error(where, error, columns) from error
    wanted = set(rows["question_id"])
    return sorted(
        (q for q in questions if q.question_id in wanted), key=lambda q: content_hash(q.question_id)
    )


def _read_questions(store: Store, sql: str, **params: object) -> list[Question]:
    rows = store.read(sql, **params)
    column = {field.name: rows[field.name].to_list() for field in fields(Question)}
    splits = {str(split): split for split in Split}
    types = {str(answer_type): answer_type for answer_type in AnswerType}
    column["split"] = [splits[one] for one in column["split"]]
    column["answer_type"] = [types[one] for one in column["answer_type"]]
    column["answers"] = list(map(tuple, column["answers"]))
    column["flags"] = list(map(tuple, column["flags"]))
    return list(map(Question, *column.values()))


def hash_answers(question: Question) -> str:
    """Return the identity of the accepted answers: a verdict holds only for these."""
    return content_hash([sorted(question.answers), question.answer_type])


def to_frame(questions: Sequence[Question]) -> pl.DataFrame:
    """Return rows of the table `questions`."""
    columns = {
        name: _list_column([getattr(q, name) for q in questions])
        if dtype.is_nested()
        else [getattr(q, name) for q in questions]
        for name, dtype in _SCHEMA.items()
    }
    hashes = [hash_answers(q) for q in questions]
    return pl.DataFrame(columns, _SCHEMA).with_columns(
        answers_hash=pl.Series(hashes, dtype=pl.String)
    )


def _list_column(lists: Sequence[Sequence[str]]) -> pl.Series:
    """Return a column of lists of texts; from Arrow, since polars takes long over each list."""
    ends = np.cumsum([0, *map(len, lists)])
    texts = pa.array(list(chain.from_iterable(lists)), pa.large_string())
    return pl.Series(pa.LargeListArray.from_arrays(pa.array(ends, pa.int64()), texts))


_TEXTS = (
    "question_id",
    "dataset",
    "split",
    "text",
    "answer_type",
    "subject",
    "relation",
    "fact_id",
)
_SCHEMA: dict[str, pl.DataType] = {
    **{name: pl.String() for name in _TEXTS},
    "popularity": pl.Int64(),
    "answers": pl.List(pl.String),
    "flags": pl.List(pl.String),
}
