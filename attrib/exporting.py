"""`attrib export`: rollouts with their verdicts, for other programs.

Owns which rows are exported and in which order; `sample_logs` owns the formats of evaluation tools.
"""

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

import polars as pl

from attrib.errors import DataError, QueryError, condition_error
from attrib.files import STDOUT, refuse_study, writing_to
from attrib.output import Format, choose_format, to_lines, write_frame
from attrib.progress import say
from attrib.sample_logs import to_inspect, to_lm_eval
from attrib.settings import Settings, suggest
from attrib.store import Store

_SETS = """
    SELECT * FROM sample_sets WHERE starts_with(sample_set_id, $prefix)
    ORDER BY used_at DESC, sample_set_id LIMIT 1
"""
_GRADERS = """
    SELECT grader FROM graded_rollouts
    WHERE sample_set_id = $sample_set_id AND starts_with(grader, $grader) GROUP BY grader
    ORDER BY (SELECT max(used_at) FROM bucketings
              WHERE bucketings.sample_set_id = $sample_set_id
                AND bucketings.grader = graded_rollouts.grader) DESC NULLS LAST,
             count(*) DESC, grader
"""
_ROLLOUTS = """
    SELECT * FROM (
        SELECT rollout.sample_set_id, model, question_id, dataset, split,
               question.text AS question, answers, subject, relation, popularity, rollout,
               rollout.text AS response, finish_reason, tokens, logprob, grader, verdict, detail
        FROM rollouts AS rollout
        JOIN sample_sets USING (sample_set_id)
        JOIN questions AS question USING (question_id)
        LEFT JOIN (SELECT sample_set_id, question_id, rollout, grader, verdict, detail
                   FROM graded_rollouts WHERE grader = $grader) AS graded
          USING (sample_set_id, question_id, rollout)
        WHERE sample_set_id = $sample_set_id)
    WHERE ({where}
    )
    ORDER BY dataset, question_id, rollout
"""


class ExportFormat(StrEnum):
    """What `attrib export` writes."""

    PARQUET = Format.PARQUET
    JSONL = Format.JSONL
    CSV = Format.CSV
    INSPECT = "inspect"
    """An evaluation log of inspect_ai, as JSON."""
    LM_EVAL = "lm-eval"
    """A sample log of lm-evaluation-harness."""


class ExportSettings(Settings):
    """What `attrib export` was asked for."""

    output: Path
    format: str | None = None
    """By default that of the file's name, and JSON lines on stdout."""
    where: str | None = None
    """SQL condition on the exported columns."""
    sample_set: str = ""
    """Beginning of its id; by default the newest."""
    grader: str = "match"
    """Its name, or the beginning of its fingerprint."""


@dataclass(frozen=True, slots=True)
class ExportSummary:
    """What was written."""

    path: Path
    format: str
    sample_set_id: str
    grader: str | None
    """None where none has graded these rollouts."""
    questions: int
    rollouts: int
    graded: int


def export_rollouts(store: Store, settings: ExportSettings) -> ExportSummary:
    """Write the rollouts of a sample set with their verdicts to a file.

    Raises:
        ConfigError: the condition, the format or the file cannot be used.
        DataError: there is no such sample set, or no rollout to write.
    """
    refuse_study(settings.output, store.path)
    kinds = [str(kind) for kind in ExportFormat]
    default = ExportFormat.JSONL if settings.output == STDOUT else ExportFormat.PARQUET
    kind = choose_format(settings.format, settings.output, default, kinds)
    sets = store.read(_SETS, prefix=settings.sample_set)
    if sets.is_empty():
        named = f" whose id begins with '{settings.sample_set}'" if settings.sample_set else ""
        command = suggest("sample --n 128", store.path)
        raise DataError(f"{store.path} holds no sample set{named}. Type: {command}")
    sample_set = sets.row(0, named=True)
    grader = _choose_grader(store, sample_set["sample_set_id"], settings.grader)
    rows = _read(store, settings.where, sample_set["sample_set_id"], grader)
    if kind == ExportFormat.INSPECT:
        with writing_to(settings.output) as stream:
            stream.writelines(piece.encode() for piece in to_inspect(rows, sample_set))
    elif kind == ExportFormat.LM_EVAL:
        with writing_to(settings.output) as stream:
            lines = to_lines(to_lm_eval(rows, sample_set))
            stream.writelines(line.encode() for line in lines)
    else:
        write_frame(rows, Format(kind), settings.output)
    return ExportSummary(
        path=settings.output,
        format=kind,
        sample_set_id=sample_set["sample_set_id"],
        grader=grader,
        questions=rows["question_id"].n_unique(),
        rollouts=len(rows),
        graded=len(rows) - rows["verdict"].null_count(),
    )


def _choose_grader(store: Store, sample_set_id: str, prefix: str) -> str | None:
    """Return the grader of the newest bucketing, or that with most verdicts, of those meant."""
    graders = store.read(_GRADERS, sample_set_id=sample_set_id, grader=prefix)["grader"].to_list()
    if len(graders) > 1:
        say(
            f"Verdicts by {graders[0]}, of {len(graders)} graders that begin with '{prefix}': "
            f"{', '.join(graders)}. For another: --grader"
        )
    if not graders:
        others = store.read(_GRADERS, sample_set_id=sample_set_id, grader="")["grader"].to_list()
        if others and prefix != ExportSettings.model_fields["grader"].default:
            raise DataError(f"No verdicts by '{prefix}'. There are some by {', '.join(others)}.")
        say(f"No verdicts by {prefix}: exported without. To grade: attrib grade --grader {prefix}")
    return graders[0] if graders else None


def _read(store: Store, where: str | None, sample_set_id: str, grader: str | None) -> pl.DataFrame:
    params = {"sample_set_id": sample_set_id, "grader": grader or ""}
    try:
        rows = store.read(_ROLLOUTS.format(where=where or "TRUE"), **params)
    except QueryError as error:
        columns = store.read(_ROLLOUTS.format(where="FALSE"), **params).columns
        raise condition_error(where, error, columns) from error
    if rows.is_empty():
        raise DataError(f'No rollout satisfies "{where or "TRUE"}"; nothing was written.')
    return rows
