"""`attrib grade`: verdicts without buckets, graders held against each other and against people."""

from pathlib import Path
from typing import Annotated

import typer

from attrib.config import DEFAULT_DATABASE
from attrib.errors import ConfigError
from attrib.options import (
    AsJson,
    Database,
    JudgeConcurrency,
    JudgeKeyEnv,
    JudgeModel,
    JudgeUrl,
    MaxJudgeCalls,
    Quiet,
    make_settings,
    print_json,
)

Grader = Annotated[str, typer.Option(help="match, exact or judge.")]
K = Annotated[
    int | None, typer.Option("--k", help="Count rollouts 0 … k-1 of each question; default: all.")
]
SampleSet = Annotated[str, typer.Option(help="Beginning of its id; default: newest.")]

app = typer.Typer(rich_markup_mode="markdown", invoke_without_command=True)


@app.callback()
def grade(
    ctx: typer.Context,
    db: Database = DEFAULT_DATABASE,
    grader: Grader = "match",
    compare: Annotated[
        tuple[str, str] | None,
        typer.Option(
            help="Two graders to hold against each other; default: none.", metavar="GRADER GRADER"
        ),
    ] = None,
    labels: Annotated[
        Path | None,
        typer.Option(
            help="CSV by people: question_id, text, verdict; default: none.", metavar="FILE"
        ),
    ] = None,
    k: K = None,
    sample_set: SampleSet = "",
    limit: Annotated[int, typer.Option(help="Disagreements to show.")] = 20,
    judge_model: JudgeModel = None,
    judge_url: JudgeUrl = None,
    judge_key_env: JudgeKeyEnv = "OPENAI_API_KEY",
    judge_concurrency: JudgeConcurrency = 32,
    max_judge_calls: MaxJudgeCalls = None,
    quiet: Quiet = False,
    as_json: AsJson = False,
) -> None:
    """Grade stored rollouts, hold two graders against each other, or one against people.

    Example: `attrib grade --compare match exact`
    """
    if ctx.invoked_subcommand is not None:
        return None
    from attrib.sampling.comparing import (
        GradeSettings,
        compare_graders,
        compare_with_labels,
        grade_sample_set,
    )
    from attrib.store import Store
    from attrib.tables import print_comparison, print_frame

    settings = make_settings(ctx, GradeSettings)
    if compare is not None and labels is not None:
        raise ConfigError("--compare and --labels are two questions: ask one at a time.")
    if compare is None and labels is None:
        frame = grade_sample_set(Store(db), settings)
        return print_json(frame) if as_json else print_frame(frame)
    find = compare_graders if compare is not None else compare_with_labels
    comparison = find(Store(db), settings)
    return print_json(comparison) if as_json else print_comparison(comparison)


@app.command()
def export(
    ctx: typer.Context,
    output: Annotated[
        Path, typer.Option("--output", "-o", help="CSV file to write.", metavar="FILE")
    ],
    for_labelling: Annotated[int, typer.Option(help="Number of responses.")] = 200,
    db: Database = DEFAULT_DATABASE,
    grader: Grader = "match",
    k: K = None,
    sample_set: SampleSet = "",
    seed: Annotated[int, typer.Option(help="Of the draw.")] = 0,
    quiet: Quiet = False,
    as_json: AsJson = False,
) -> None:
    """Write responses for people to label: half of them accepted by the grader, unseen.

    Example: `attrib grade export --for-labelling 200 -o labels.csv`
    """
    from attrib.sampling.comparing import GradeSettings, export_for_labelling
    from attrib.store import Store

    settings = make_settings(ctx, GradeSettings)
    sheet = export_for_labelling(Store(db), settings, for_labelling, output, seed)
    if as_json:
        return print_json(sheet)
    typer.echo(
        f"{sheet.responses} responses in {output}. Write correct or incorrect into the column "
        f"verdict, then: attrib grade --labels {output}"
    )


@app.command()
def suspects(
    db: Database = DEFAULT_DATABASE,
    bucketing: Annotated[str, typer.Option(help="Beginning of its id; default: newest.")] = "",
    as_json: AsJson = False,
) -> None:
    """List never-correct questions whose accepted answers may be at fault.

    Example: `attrib grade suspects`
    """
    from attrib.inspection import list_suspects
    from attrib.store import Store
    from attrib.tables import print_frame

    frame = list_suspects(Store(db), bucketing)
    return print_json(frame) if as_json else print_frame(frame)
