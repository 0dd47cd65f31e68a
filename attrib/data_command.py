"""`attrib data`: question files into a study, and what it holds of them."""

from pathlib import Path
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
        str | None, typer.Option(help="The question; default: by name.", metavar="NAME", **COLUMNS)
    ] = None,
    answers_column: Annotated[
        str | None,
        typer.Option(
            help="The accepted answer, or a list of them; default: by name.",
            metavar="NAME",
            **COLUMNS,
        ),
    ] = None,
    aliases_column: Annotated[
        list[str] | None,
        typer.Option(help="More accepted answers; may be repeated.", metavar="NAME", **COLUMNS),
    ] = None,
    subject_column: Annotated[
        str | None,
        typer.Option(help="What is asked about; default: none.", metavar="NAME", **COLUMNS),
    ] = None,
    relation_column: Annotated[
        str | None,
        typer.Option(help="What is asked of it; default: none.", metavar="NAME", **COLUMNS),
    ] = None,
    popularity_column: Annotated[
        str | None, typer.Option(help="A count; default: none.", metavar="NAME", **COLUMNS)
    ] = None,
    key_column: Annotated[
        str | None,
        typer.Option(
            help="What names a row for good; default: its text.", metavar="NAME", **COLUMNS
        ),
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
    from attrib.tables_data import print_import

    summary = import_files(Store(db), make_settings(ctx, ImportSettings))
    if as_json:
        return print_json(summary)
    print_import(summary)


@app.command("import-rollouts")
def import_rollouts(
    ctx: typer.Context,
    source: Annotated[
        str,
        typer.Argument(
            help="A file (JSON lines, JSON, Parquet, CSV; plain or .gz), or a glob in quotes.",
            metavar="SOURCE",
        ),
    ],
    model: Annotated[
        str, typer.Option(help="What drew them: a folder or hub id, which training will load.")
    ],
    max_new_tokens: Annotated[
        int, typer.Option(help="Tokens after which these responses were cut off.")
    ],
    db: Database = DEFAULT_DATABASE,
    dataset: Annotated[
        str | None, typer.Option(help="Whose questions were asked; default: all of the study.")
    ] = None,
    temperature: Annotated[float, typer.Option(help="That they were drawn at.")] = 1.0,
    top_p: Annotated[float, typer.Option(help="Probability of the nucleus, if any.")] = 1.0,
    top_k: Annotated[int, typer.Option(help="Tokens drawn from; 0: all.")] = 0,
    prompt: Annotated[
        Path | None,
        typer.Option(help="File with {question} in it; default: our words.", metavar="FILE"),
    ] = None,
    chat: Annotated[bool, typer.Option(help="Asked through the chat template.")] = True,
    grader: Annotated[str, typer.Option(help="match or exact.")] = "match",
    question_column: Annotated[
        str | None,
        typer.Option(help="The question or prompt; default: by name.", metavar="NAME", **COLUMNS),
    ] = None,
    responses_column: Annotated[
        str | None,
        typer.Option(help="The response, or a list; default: by name.", metavar="NAME", **COLUMNS),
    ] = None,
    score_column: Annotated[
        str | None,
        typer.Option(
            help="Above 0.5 is right; only compared; default: by name.", metavar="NAME", **COLUMNS
        ),
    ] = None,
    partial: Annotated[
        bool, typer.Option("--partial", help="Leave out responses to unknown questions.")
    ] = False,
    quiet: Quiet = False,
    as_json: AsJson = False,
) -> None:
    """Bring in rollouts that were drawn elsewhere, so that they need not be drawn again.

    Dumps of verl and TRL, samples of lm-eval, logs of inspect_ai (JSON), results of limit-of-RLVR,
    and any file with a question and responses in columns. Questions are matched by question_id or
    by their text, and responses graded here. The same files again change nothing.

    Example: `attrib data import-rollouts dump.jsonl --model my-model --max-new-tokens 64`
    """
    from attrib.sampling.import_rollouts import ImportRolloutsSettings
    from attrib.sampling.import_rollouts import import_rollouts as bring_in
    from attrib.store import Store
    from attrib.tables_data import print_imported_rollouts

    summary = bring_in(Store(db), make_settings(ctx, ImportRolloutsSettings))
    return print_json(summary) if as_json else print_imported_rollouts(summary, db)


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
    from attrib.tables_data import print_split

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
