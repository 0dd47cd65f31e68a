"""Imports: question files into a study, once, on the side of the split that their facts are on.

The same files again change nothing. Files that have changed become another data set, `NAME@2`:
the questions of a study never change under its rollouts.
"""

import gc
import glob
import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import polars as pl

from attrib.config import content_hash
from attrib.data.hub import PREFIX, fetch
from attrib.data.layouts import Layout
from attrib.data.library import load_every_question, store_questions
from attrib.data.parsing import Dropped, general_reason, hash_files, parse_files
from attrib.data.questions import WORLDFACTS
from attrib.data.splits import settle
from attrib.errors import ConfigError, DataError
from attrib.progress import say
from attrib.settings import Settings
from attrib.store import Store

_HUB_NAME = re.compile(r"[\w.-]+/[\w.-]+")
_VERSION = "@"


class ImportSettings(Settings):
    """What `attrib data import` was asked for."""

    source: str
    """A file, a glob, or the name of a data set on the hub."""
    name: str | None = None
    """Of the data set in the study; by default that of the file, or of the folder of several."""
    format: str | None = None
    """A known layout; by default the one whose columns are there."""
    question_column: str | None = None
    answers_column: str | None = None
    aliases_column: tuple[str, ...] = ()
    subject_column: str | None = None
    relation_column: str | None = None
    popularity_column: str | None = None
    key_column: str | None = None
    strict: bool = False
    """Refuse a file with a row that cannot be used, instead of dropping the row."""
    held_out: float = 0.25
    """Share of the facts that are only evaluated on."""
    seed: int = 0
    """Of the draw of these facts."""


@dataclass(frozen=True, slots=True)
class ImportSummary:
    """What an import left in the study."""

    dataset: str
    is_new: bool
    """False where the same files had been imported before."""
    preset: str
    rows: int
    questions: int
    train: int
    held_out: int
    relations: int
    facts: int
    linked: Mapping[str, int]
    """Links to other questions by rule."""
    dropped: Mapping[str, int]
    """Rows left out by reason."""
    examples: tuple[str, ...]
    """The first row dropped for each reason."""


def import_files(store: Store, settings: ImportSettings) -> ImportSummary:
    """Read question files into the study.

    Raises:
        ConfigError: the layout cannot be told, or a setting contradicts another.
        DataError: the files cannot be read, or hold no question.
    """
    columns = _own_layout(settings)
    paths, preset = _find_files(settings.source)
    preset = settings.format or preset
    name = settings.name or _name_after(paths)
    if not re.fullmatch(r"[\w.-]+", name):
        raise ConfigError(
            f"--name {name!r} may hold letters, digits, dots, hyphens and underscores only."
        )
    if name == WORLDFACTS:
        raise ConfigError(f"{name} is the built-in data set. Give these files another --name.")
    file_hash = hash_files(paths)
    if columns is not None:  # the same file read in another way is another version
        file_hash = content_hash([file_hash, asdict(columns)])
    elif settings.format is not None:
        file_hash = content_hash([file_hash, settings.format])
    with store.writing("attrib data import"), _without_collection():
        versions = store.read(
            "SELECT dataset, file_hash FROM imports "
            "WHERE dataset = $name OR starts_with(dataset, $name || '@') ORDER BY imported_at",
            name=name,
        )
        same = versions.filter(pl.col("file_hash") == file_hash)
        dataset = same["dataset"][0] if len(same) else _next_version(name, len(versions))
        if not len(same):
            parsed = parse_files(
                dataset, paths, preset=preset, columns=columns, strict=settings.strict
            )
            if len(versions):
                say(
                    f"{name} is in {store.path} from other files, or read in another way; this "
                    f"becomes {dataset}."
                )
            settled = settle(
                dataset,
                parsed.drafts,
                load_every_question(store),
                settings.held_out,
                settings.seed,
            )
            store_questions(
                store,
                dataset,
                settings.source,
                file_hash,
                settled.questions,
                preset=parsed.preset,
                rows=parsed.rows,
                dropped=[asdict(one) for one in (*parsed.dropped, *settled.dropped)],
                links=settled.links,
            )
        return _summarise(store, dataset, is_new=not len(same))


@contextmanager
def _without_collection() -> Iterator[None]:
    """Leave out the search for cycles: among millions of new records there are none."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def _own_layout(settings: ImportSettings) -> Layout | None:
    named = [name for name in ImportSettings.model_fields if name.endswith("_column")]
    given = [name for name in named if getattr(settings, name)]
    if not given:
        return None
    if settings.format is not None:
        raise ConfigError(f"--format {settings.format} names the columns: leave out the others.")
    if settings.question_column is None or settings.answers_column is None:
        raise ConfigError("--question-column and --answers-column go together.")
    return Layout(
        "columns",
        question=settings.question_column,
        answers=settings.answers_column,
        aliases=settings.aliases_column,
        subject=settings.subject_column,
        relation=settings.relation_column,
        popularity=settings.popularity_column,
        key=settings.key_column,
    )


def _find_files(source: str) -> tuple[list[Path], str | None]:
    """Return the files that a source names, and the layout where that is known."""
    path = Path(source)
    if path.is_dir():
        raise ConfigError(f"{source} is a folder. Name its files: attrib data import '{source}/*'")
    if path.exists():
        return [path], None
    if source.startswith(PREFIX) or (_HUB_NAME.fullmatch(source) and not path.suffix):
        return fetch(source)
    found = [Path(one) for one in sorted(glob.glob(source, recursive=True))]
    found = [one for one in found if one.is_file()]
    if not found:
        raise DataError(f"There is no file {source}.")
    return found, None


def _name_after(paths: list[Path]) -> str:
    """Return the name of the file, or of the folder where there are several."""
    name = paths[0].parent.resolve().name if len(paths) > 1 else paths[0].name.split(".")[0]
    return re.sub(r"[^\w.-]+", "-", name).strip("-") or "questions"


def _next_version(name: str, versions: int) -> str:
    return f"{name}{_VERSION}{versions + 1}" if versions else name


_COUNTS = """
    SELECT count(*) AS questions, count(*) FILTER (split = 'train') AS train,
           count(DISTINCT relation) AS relations, count(DISTINCT fact_id) AS facts
    FROM questions WHERE dataset = $dataset
"""
_LINKS = """
    SELECT rule, count(*) FROM fact_links
    WHERE other_id IN (SELECT question_id FROM questions WHERE dataset = $dataset)
    GROUP BY rule ORDER BY rule
"""


def _summarise(store: Store, dataset: str, *, is_new: bool) -> ImportSummary:
    sql = "SELECT * FROM imports WHERE dataset = $dataset"
    imported = store.read(sql, dataset=dataset).row(0, named=True)
    counts = store.read(_COUNTS, dataset=dataset).row(0, named=True)
    dropped = [Dropped(**one) for one in json.loads(imported["dropped"])]
    first = {general_reason(one.reason): one for one in reversed(dropped)}
    return ImportSummary(
        dataset=dataset,
        is_new=is_new,
        preset=imported["preset"],
        rows=imported["rows"],
        questions=counts["questions"],
        train=counts["train"],
        held_out=counts["questions"] - counts["train"],
        relations=counts["relations"],
        facts=counts["facts"],
        linked=dict(store.read(_LINKS, dataset=dataset).rows()),
        dropped=dict(Counter(general_reason(one.reason) for one in dropped).most_common()),
        examples=tuple(str(one) for one in first.values()),
    )
