"""What a study holds of its data sets. Only reads."""

import json
from collections.abc import Mapping

import polars as pl

from attrib.data.leakage import estimate_leakage, find_nearest
from attrib.data.library import load_every_question
from attrib.data.parsing import general_reason
from attrib.data.questions import Split
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
_FACTS = """
    SELECT count(*) AS facts, count(*) FILTER (n > 1) AS "of several questions",
           max(n) AS "questions of the largest",
           count(*) FILTER (datasets > 1) AS "in several sets",
           count(*) FILTER (sides > 1) AS "on both sides"
    FROM (SELECT count(*) AS n, count(DISTINCT dataset) AS datasets, count(DISTINCT split) AS sides
          FROM questions GROUP BY fact_id)
"""
_RULES = "SELECT rule, count(*) AS links FROM fact_links GROUP BY rule ORDER BY links DESC"
_LINKED = """
    SELECT one.dataset, one.text, one.answers[1] AS answer,
           other.dataset AS "other set", other.text AS "other text",
           other.answers[1] AS "other answer"
    FROM fact_links AS link JOIN questions AS one USING (question_id)
    JOIN questions AS other ON other.question_id = link.other_id
    WHERE rule = $rule ORDER BY one.dataset = other.dataset, hash(link.other_id) LIMIT $limit
"""
_REASONS = """
    SELECT dataset, row ->> 'reason' AS reason, row ->> 'text' AS text
    FROM (SELECT dataset, unnest(from_json(dropped, '["JSON"]')) AS row FROM imports)
    ORDER BY ALL
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
        remedy = f"It holds: {names}." if names else "Bring one in with: attrib data import FILE"
        raise ConfigError(f"There is no data set '{dataset}' in {store.path}. {remedy}")
    dropped = json.loads(rows.item())
    return {
        "Questions": store.read(_QUESTIONS, dataset=dataset, limit=limit),
        "Relations": store.read(_RELATIONS, dataset=dataset),
        f"Dropped rows ({len(dropped)})": pl.DataFrame(
            dropped[:limit], schema=["file", "row", "reason", "text"]
        ),
    }


def audit_facts(store: Store, limit: int) -> Mapping[str, pl.DataFrame]:
    """Return tables by title: facts, links by rule with both texts, leakage, what was left out."""
    rules = store.read(_RULES)
    tables = {"Facts": store.read(_FACTS), "Links": rules}
    for rule in rules["rule"]:
        tables[f"Taken for one fact: {rule}"] = store.read(_LINKED, rule=rule, limit=limit)
    questions = load_every_question(store)
    nearest = find_nearest(questions)
    held_out = sum(question.split is Split.HELD_OUT for question in questions)
    tables["Leakage left over (estimate)"] = estimate_leakage(nearest, held_out)
    tables["Nearest across the split"] = pl.DataFrame(
        [
            (one.held_out.text, one.train.text, one.held_out.answers[0], round(one.alike, 2))
            for one in nearest[:limit]
        ],
        ["held-out", "train", "answer", "alike"],
        orient="row",
    )
    reasons = store.read(_REASONS)
    general = pl.col("reason").map_elements(general_reason, pl.String)
    tables["Left out"] = (
        reasons.with_columns(reason=general)
        .group_by("dataset", "reason", maintain_order=True)
        .agg(rows=pl.len(), example=pl.col("text").first())
    )
    return tables
