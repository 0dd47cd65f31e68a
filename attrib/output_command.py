"""`attrib query` and `attrib export`: what a study holds, for people and for other programs."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from attrib.config import DEFAULT_DATABASE
from attrib.errors import ConfigError
from attrib.options import (
    AsJson,
    Database,
    Quiet,
    announce,
    make_settings,
    print_json,
    refuse_two_outputs,
)

Output = Annotated[
    Path | None,
    typer.Option("--output", "-o", help="File to write; default: -, print.", metavar="FILE"),
]


def query(
    sql: Annotated[str, typer.Argument(help="A SELECT statement.", metavar="SQL")],
    db: Database = DEFAULT_DATABASE,
    format: Annotated[
        str | None,
        typer.Option(
            help="table, csv, json, jsonl or parquet; default: that of the file's name, or table."
        ),
    ] = None,
    output: Output = None,
    as_json: AsJson = False,
) -> None:
    """Ask the study a question in SQL (read-only).

    Example: `attrib query "SELECT bucket, count(*) FROM buckets GROUP BY bucket"`
    """
    from attrib.files import STDOUT, refuse_study
    from attrib.output import Format, choose_format, to_text, write_frame
    from attrib.store import Store
    from attrib.tables import print_frame

    if as_json and format not in (None, Format.JSON):
        raise ConfigError(f"--json and --format {format} contradict each other.")
    wanted = "json" if as_json else format
    kind = Format(choose_format(wanted, output, Format.TABLE, [str(one) for one in Format]))
    if output == STDOUT:
        output = None
    if output is not None and kind == Format.TABLE:
        raise ConfigError("A table is for people. Another --format: csv, json, jsonl, parquet.")
    frame = Store(db).read(sql)
    if output is not None:
        refuse_study(output, db)
        write_frame(frame, kind, output)
    elif kind == Format.TABLE:
        print_frame(frame)
    else:
        sys.stdout.writelines(to_text(frame, kind))


def export(
    ctx: typer.Context,
    output: Annotated[
        Path, typer.Option("--output", "-o", help="File to write; -: print.", metavar="FILE")
    ],
    db: Database = DEFAULT_DATABASE,
    format: Annotated[
        str | None,
        typer.Option(
            help="parquet, jsonl or csv: a row per rollout; inspect: a log of inspect_ai (JSON); "
            "lm-eval: a sample log of lm-evaluation-harness (JSON lines). Default: that of the "
            "file's name; printed, jsonl."
        ),
    ] = None,
    where: Annotated[
        str | None,
        typer.Option(help="SQL condition on the exported columns; default: all.", metavar="SQL"),
    ] = None,
    sample_set: Annotated[str, typer.Option(help="Beginning of its id; default: newest.")] = "",
    grader: Annotated[
        str, typer.Option(help="Whose verdicts: match, exact, judge, or a fingerprint.")
    ] = "match",
    quiet: Quiet = False,
    as_json: AsJson = False,
) -> None:
    """Write rollouts with their verdicts to a file, for other programs.

    Example: `attrib export --output rollouts.parquet --where "verdict = 'correct'"`
    """
    from attrib.exporting import ExportSettings, export_rollouts
    from attrib.store import Store

    refuse_two_outputs(output, as_json)
    summary = export_rollouts(Store(db), make_settings(ctx, ExportSettings))
    if as_json:
        return print_json(summary)
    announce(
        output,
        f"{summary.rollouts:,} rollouts of {summary.questions:,} questions, {summary.graded:,} "
        f"with a verdict, in {summary.path} ({summary.format}).",
    )
