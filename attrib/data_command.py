"""`attrib data`: question files into a study, and what it holds of them."""

from typing import Annotated, Any

import typer

from attrib.config import DEFAULT_DATABASE
from attrib.options import AsJson, Database, Quiet, make_settings, print_json

COLUMNS: Any = {"rich_help_panel": "Columns, where the layout is no known one"}

app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode="markdown",
    help="Bring in question files, and show what a study holds of them.",
)


@app.command("import")
def import_(
    ctx: typer.Context,
    source: Annotated[
        str,
        typer.Argument(
            help="A file (CSV, TSV, JSON, JSON lines, Parquet; plain or .gz), a glob in quotes, or "
            "the name of a data set on the hub.",
            metavar="SOURCE",
        ),
    ],
    db: Database = DEFAULT_DATABASE,
    name: Annotated[
        str | None, typer.Option(help="Of the data set; default: that of the file.")
    ] = None,
    format: Annotated[
        str | None,
        typer.Option(
            help="popqa, entityquestions, triviaqa, simpleqa, simpleqa-verified, webquestions, "
            "nq-open, dpr; default: the one whose columns are there."
        ),
    ] = None,
    question_column: Annotated[
        str | None, typer.Option(help="The question.", metavar="NAME", **COLUMNS)
    ] = None,
    answers_column: Annotated[
        str | None,
        typer.Option(help="The accepted answer, or a list of them.", metavar="NAME", **COLUMNS),
    ] = None,
    aliases_column: Annotated[
        list[str] | None,
        typer.Option(help="More accepted answers; may be repeated.", metavar="NAME", **COLUMNS),
    ] = None,
    subject_column: Annotated[
        str | None, typer.Option(help="What is asked about.", metavar="NAME", **COLUMNS)
    ] = None,
    relation_column: Annotated[
        str | None, typer.Option(help="What is asked of it.", metavar="NAME", **COLUMNS)
    ] = None,
    popularity_column: Annotated[
        str | None, typer.Option(help="A count.", metavar="NAME", **COLUMNS)
    ] = None,
    key_column: Annotated[
        str | None,
        typer.Option(help="What names a row for good.", metavar="NAME", **COLUMNS),
    ] = None,
    strict: Annotated[
        bool, typer.Option("--strict", help="Refuse files with rows that cannot be used.")
    ] = False,
    held_out: Annotated[
        float, typer.Option(help="Share of the facts that are only evaluated on.")
    ] = 0.25,
    seed: Annotated[int, typer.Option(help="Of the draw of these facts.")] = 0,
    quiet: Quiet = False,
    as_json: AsJson = False,
) -> None:
    """Bring question files into the study, each question on the side of the split of its fact.

    Rows that cannot be used are dropped and named. The same files again change nothing.

    Example: `attrib data import popqa_test.json --name popqa`
    """
    from attrib.data.importing import ImportSettings, import_files
    from attrib.store import Store
    from attrib.tables import print_import

    summary = import_files(Store(db), make_settings(ctx, ImportSettings))
    if as_json:
        return print_json(summary)
    print_import(summary)


@app.command("list")
def list_(db: Database = DEFAULT_DATABASE, as_json: AsJson = False) -> None:
    """List the data sets of the study.

    Example: `attrib data list`
    """
    from attrib.data.overview import list_datasets
    from attrib.store import Store
    from attrib.tables import print_frame

    frame = list_datasets(Store(db))
    if as_json:
        return print_json(frame)
    print_frame(frame)


@app.command()
def show(
    dataset: Annotated[str, typer.Argument(help="Its name.", metavar="NAME")],
    db: Database = DEFAULT_DATABASE,
    limit: Annotated[int, typer.Option(min=0, help="Questions, and dropped rows, to show.")] = 10,
    as_json: AsJson = False,
) -> None:
    """Show questions of a data set, its relations, and the rows that were dropped.

    Example: `attrib data show worldfacts --limit 5`
    """
    from attrib.data.overview import describe_dataset
    from attrib.store import Store
    from attrib.tables import print_titled

    found = describe_dataset(Store(db), dataset, limit)
    if as_json:
        return print_json(found)
    print_titled(found)


@app.command()
def split(
    ctx: typer.Context,
    db: Database = DEFAULT_DATABASE,
    held_out: Annotated[
        float, typer.Option(help="Share of the facts that are only evaluated on.")
    ] = 0.25,
    seed: Annotated[int, typer.Option(help="Of the draw of these facts.")] = 0,
    quiet: Quiet = False,
    as_json: AsJson = False,
) -> None:
    """Draw anew which facts are held out, of the questions that the study has not used yet.

    Example: `attrib data split --held-out 0.5 --seed 1`
    """
    from attrib.data.resplitting import SplitSettings, split_again
    from attrib.store import Store
    from attrib.tables import print_split

    summary = split_again(Store(db), make_settings(ctx, SplitSettings))
    if as_json:
        return print_json(summary)
    print_split(summary)


@app.command()
def audit(
    db: Database = DEFAULT_DATABASE,
    limit: Annotated[int, typer.Option(min=0, help="Links and rows of each kind to show.")] = 10,
    as_json: AsJson = False,
) -> None:
    """Show which questions were taken for one fact and why, and what was left out.

    Example: `attrib data audit --limit 20`
    """
    from attrib.data.overview import audit_facts
    from attrib.store import Store
    from attrib.tables import print_titled

    found = audit_facts(Store(db), limit)
    if as_json:
        return print_json(found)
    print_titled(found)
