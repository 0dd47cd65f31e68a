"""What a study holds of its data sets. Only reads."""

import json
from collections.abc import Mapping

import polars as pl

from attrib.errors import ConfigError
from attrib.store import Store

_DATASETS = """
    SELECT dataset, preset AS format, imports.rows, count(question_id) AS questions,
           count(*) FILTER (split = 'train') AS train,
           count(*) FILTER (split = 'held-out') AS "held-out",
           count(DISTINCT fact_id) AS facts, count(DISTINCT relation) AS relations,
           json_array_length(dropped) AS dropped, path
    FROM imports LEFT JOIN questions USING (dataset)
    GROUP BY dataset, preset, imports.rows, dropped, path, imported_at ORDER BY imported_at, dataset
"""
_QUESTIONS = """
    SELECT question_id, split, text, answers[1] AS answer, len(answers) - 1 AS "other answers",
           relation, subject, popularity, fact_id
    FROM questions WHERE dataset = $dataset ORDER BY hash(question_id) LIMIT $limit
"""
_RELATIONS = """
    SELECT coalesce(relation, '(none)') AS relation, count(*) AS questions,
           count(*) FILTER (split = 'held-out') AS "held-out", count(DISTINCT fact_id) AS facts
    FROM questions WHERE dataset = $dataset GROUP BY ALL ORDER BY questions DESC, relation
"""


def list_datasets(store: Store) -> pl.DataFrame:
    """Return one row per data set."""
    return store.read(_DATASETS)


def describe_dataset(store: Store, dataset: str, limit: int) -> Mapping[str, pl.DataFrame]:
    """Return tables by title: some questions, the relations, some dropped rows.

    Raises:
        ConfigError: there is no such data set.
    """
    rows = store.read("SELECT dropped FROM imports WHERE dataset = $dataset", dataset=dataset)
    if rows.is_empty():
        names = ", ".join(store.read("SELECT dataset FROM imports ORDER BY ALL")["dataset"])
        raise ConfigError(f"There is no data set '{dataset}' in {store.path}. It holds: {names}.")
    dropped = json.loads(rows.item())
    return {
        "Questions": store.read(_QUESTIONS, dataset=dataset, limit=limit),
        "Relations": store.read(_RELATIONS, dataset=dataset),
        f"Dropped rows ({len(dropped)})": pl.DataFrame(
            dropped[:limit], schema=["file", "row", "reason", "text"]
        ),
    }
