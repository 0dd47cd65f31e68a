"""Questions: the record, the built-in fact set, and the split by fact.

Owns what a question is and where the built-in ones come from. Refuses files whose rows lack a text
or an accepted answer. The paper deduplicates train and test "at the fact level" without saying how;
here a fact is the unordered pair of entities a question connects (capital of France / country of
Paris), and a whole fact falls on one side.
"""

import csv
import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from importlib import resources

from attrib.config import content_hash
from attrib.errors import ConfigError, DataError

WORLDFACTS = "worldfacts"
"""Name of the built-in fact set; `DATA_CARD.md` beside it says what is in it."""

HELD_OUT_SHARE = 0.25
"""Share of the facts of the built-in set that is only ever evaluated on."""

COLUMNS = (
    "key",
    "relation",
    "subject",
    "question",
    "answers",
    "answer_type",
    "popularity",
    "entity_pair",
)


class AnswerType(StrEnum):
    """How an answer is compared with a response."""

    NAME = "name"
    """Words; case, diacritics, punctuation and articles do not matter."""
    CODE = "code"
    """Symbols such as `Fe`, `.is`, `OR`: case and punctuation matter."""
    NUMBER = "number"
    """Digits: compared as whole numbers, never as parts of longer ones."""


class Split(StrEnum):
    """Which side of the experiment a question is on."""

    TRAIN = "train"
    """Sampled, bucketed and trained on."""
    HELD_OUT = "held-out"
    """Only ever evaluated on."""


@dataclass(frozen=True, slots=True)
class Question:
    """One closed-book question with its accepted answers.

    `question_id` is a content hash of dataset, row key and text; `fact_id` names the unordered pair
    of entities; `popularity` is a count where the source has one (population), otherwise None.
    """

    question_id: str
    dataset: str
    split: Split
    text: str
    answers: tuple[str, ...]
    answer_type: AnswerType
    subject: str | None
    relation: str | None
    fact_id: str
    popularity: int | None
    flags: tuple[str, ...] = ()


def load_worldfacts() -> list[Question]:
    """Return the built-in fact set in file order.

    Raises:
        DataError: the installed file is missing or malformed.
    """
    try:
        text = resources.files("attrib.data").joinpath("worldfacts.csv").read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise DataError(
            "worldfacts.csv is not installed. Type: pip install --force-reinstall attrib"
        ) from error
    return list(read_questions(text.splitlines(), WORLDFACTS))


def read_questions(lines: Iterable[str], dataset: str) -> Iterator[Question]:
    """Yield the questions of a file laid out as `COLUMNS`, split by fact.

    Raises:
        DataError: another header, a row with missing or extra fields, a key that came before, or a
            value that no question can have; the message names the row, the header being row 1.
    """
    rows = csv.reader(lines)
    header = next(rows, [])
    if tuple(header) != COLUMNS:
        raise DataError(f"{dataset}, row 1: the header is {header}, expected {list(COLUMNS)}.")
    keys: set[str] = set()
    for number, row in enumerate(rows, start=2):
        try:
            question = parse_row(row, dataset)
            if row[0] in keys:
                raise ValueError(f"the key {row[0]!r} came before")
        except ValueError as error:
            raise DataError(f"{dataset}, row {number}: {error}. Mend this row.") from error
        keys.add(row[0])
        yield question


def parse_row(row: list[str], dataset: str) -> Question:
    """Return the question of one row; raise ValueError with the value at fault."""
    if len(row) != len(COLUMNS):
        raise ValueError(f"{len(row)} fields instead of {len(COLUMNS)}")
    key, relation, subject, text, answers, answer_type, popularity, entity_pair = row
    if not key or not relation or not subject or not entity_pair:
        raise ValueError("key, relation, subject or entity_pair is empty")
    if not text.endswith("?") or text != text.strip():
        raise ValueError(f"the question {text!r} does not end with a question mark")
    variants = tuple(answers.split("|"))
    if not all(variant and variant == variant.strip() for variant in variants):
        raise ValueError(f"an accepted answer is empty or has outer spaces: {answers!r}")
    if popularity and not (popularity.isascii() and popularity.isdigit()):
        raise ValueError(f"the popularity {popularity!r} is no whole number")
    fact_id = identify_fact(entity_pair)
    return Question(
        question_id=identify_question(dataset, key, text),
        dataset=dataset,
        split=assign_split(fact_id, HELD_OUT_SHARE),
        text=text,
        answers=variants,
        answer_type=AnswerType(answer_type),
        subject=subject,
        relation=relation,
        fact_id=fact_id,
        popularity=int(popularity) if popularity else None,
    )


def identify_question(dataset: str, key: str, text: str) -> str:
    """Return the content hash of a question: 16 hex digits of SHA-256 over canonical JSON.

    Answers stay out of it, so that mending an alias orphans no rollouts.
    """
    return content_hash([dataset, key, text])


def identify_fact(entity_pair: str) -> str:
    """Return the id of the fact that an unordered pair of entities stands for."""
    return hashlib.sha256(entity_pair.encode()).hexdigest()[:16]


def assign_split(fact_id: str, held_out_share: float) -> Split:
    """Return the side of a fact, from a hash of its id alone: other facts do not move it.

    Raises:
        ConfigError: the share is no number from 0 to 1.
    """
    if not 0 <= held_out_share <= 1:
        raise ConfigError(f"held_out_share is {held_out_share}; give a number from 0 to 1.")
    position = int(hashlib.sha256(f"split:{fact_id}".encode()).hexdigest()[:16], 16) / 2**64
    return Split.HELD_OUT if position < held_out_share else Split.TRAIN
