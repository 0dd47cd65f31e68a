"""The command line: parse, call, print.

Data goes to stdout, talk and progress to stderr. An `AttribError` becomes one line and exit code 1,
misuse exits 2, an interruption 130. Nothing heavy is imported before a command needs it.
"""

from pathlib import Path
from typing import Annotated, Any

import typer

from attrib import attribute_command, data_command, grade_command
from attrib.ablate_command import ablate
from attrib.analyze_command import analyze
from attrib.command_group import CommandGroup
from attrib.config import DEFAULT_DATABASE, cache_folder
from attrib.errors import ConfigError
from attrib.files import STDOUT
from attrib.options import (
    AsJson,
    ClusterAddress,
    CpusPerWorker,
    Database,
    Device,
    GpusPerWorker,
    JudgeConcurrency,
    JudgeKeyEnv,
    JudgeModel,
    JudgeUrl,
    MaxJudgeCalls,
    PrintConfig,
    Quiet,
    Workers,
    announce,
    make_settings,
    print_json,
    refuse_two_outputs,
    show_config,
)
from attrib.output_command import export, query
from attrib.run_command import nest, run, study_defaults

app = typer.Typer(
    cls=CommandGroup,
    no_args_is_help=True,
    context_settings={"auto_envvar_prefix": "ATTRIB", "help_option_names": ["-h", "--help"]},
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
)

TREE: Any = {"rich_help_panel": "The tree engine"}
VLLM: Any = {"rich_help_panel": "The vllm engine"}
SERVER: Any = {"rich_help_panel": "The server engine"}


def _print_version(wanted: bool) -> None:
    if wanted:
        from attrib import __version__

        typer.echo(__version__)
        raise typer.Exit


@app.callback()
def root(
    ctx: typer.Context,
    study: Annotated[
        str | None,
        typer.Option(
            envvar="ATTRIB_STUDY", help="TOML file with settings, or a preset.", metavar="STUDY"
        ),
    ] = None,
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Print the version."
        ),
    ] = False,
) -> None:
    """Which training questions produced the gain?

    Draw rollouts, sort the training questions by difficulty, retrain on each part, and report which
    part the gain came from. Settings: flags, then ATTRIB_* variables, then the study file, then
    defaults.
    """
    if study is not None:
        defaults = study_defaults(ctx, study).defaults
        for command, several in defaults.items():
            if len(several) > 1 and command.split()[0] == ctx.invoked_subcommand:
                raise ConfigError(
                    f"{study} has {len(several)} tables for `attrib {command}`. To run them all, "
                    f"type: attrib run {study}"
                )
        ctx.default_map = nest({command: several[0] for command, several in defaults.items()})


@app.command()
def sample(
    ctx: typer.Context,
    db: Database = DEFAULT_DATABASE,
    model: Annotated[
        str, typer.Option(help="smollm2-135m, a folder, a hub id, or the name a server gives it.")
    ] = "smollm2-135m",
    dataset: Annotated[str, typer.Option(help="Name of a data set.")] = "worldfacts",
    n: Annotated[int, typer.Option("--n", help="Rollouts per question.")] = 128,
    where: Annotated[
        str | None, typer.Option(help="SQL condition on questions; default: all.", metavar="SQL")
    ] = None,
    limit: Annotated[int | None, typer.Option(help="Number of questions; default: all.")] = None,
    engine: Annotated[
        str,
        typer.Option(
            help="tree, transformers, vllm, server; auto: the server where --url is given, vLLM "
            "where it and CUDA are, otherwise tree."
        ),
    ] = "auto",
    temperature: Annotated[float, typer.Option(help="0 is greedy.")] = 1.0,
    top_p: Annotated[float, typer.Option(help="Draw from a nucleus of this probability.")] = 1.0,
    top_k: Annotated[int, typer.Option(help="Draw from so many tokens; 0: from all.")] = 0,
    max_new_tokens: Annotated[int, typer.Option(help="Tokens until a rollout is cut off.")] = 16,
    stop: Annotated[
        list[str] | None,
        typer.Option(help="Text that ends a rollout; may be repeated.", metavar="TEXT"),
    ] = None,
    prompt: Annotated[
        Path | None,
        typer.Option(help="File with {question} in it; default: our words.", metavar="FILE"),
    ] = None,
    chat: Annotated[
        bool | None,
        typer.Option(help="Ask through the chat template; default: where the model has one."),
    ] = None,
    seed: Annotated[int, typer.Option(help="Of the draws.")] = 0,
    device: Device = "auto",
    dtype: Annotated[str, typer.Option(help="float32 or bfloat16.")] = "float32",
    new_set: Annotated[bool, typer.Option("--new-set", help="Start a second sample set.")] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what it would take; store nothing.")
    ] = False,
    max_live_nodes: Annotated[
        int | None,
        typer.Option(help="Rows of one forward; default: from the free memory.", **TREE),
    ] = None,
    tensor_parallel: Annotated[int, typer.Option(help="GPUs that share the model.", **VLLM)] = 1,
    gpu_memory: Annotated[
        float | None, typer.Option(help="Share of the GPU's memory; default: vLLM's.", **VLLM)
    ] = None,
    max_model_len: Annotated[
        int | None,
        typer.Option(help="Tokens of prompt and response together; default: as needed.", **VLLM),
    ] = None,
    eager: Annotated[bool, typer.Option("--eager", help="Do not compile.", **VLLM)] = False,
    url: Annotated[
        str | None, typer.Option(help="Such as http://localhost:8000/v1; default: none.", **SERVER)
    ] = None,
    api_key_env: Annotated[
        str, typer.Option(help="Environment variable that holds the key.", **SERVER)
    ] = "OPENAI_API_KEY",
    concurrency: Annotated[int, typer.Option(help="HTTP requests in flight.", **SERVER)] = 32,
    timeout: Annotated[float, typer.Option(help="Seconds to wait for an answer.", **SERVER)] = 120,
    cluster: ClusterAddress = None,
    workers: Workers = None,
    gpus_per_worker: GpusPerWorker = None,
    cpus_per_worker: CpusPerWorker = 1.0,
    quiet: Quiet = False,
    as_json: AsJson = False,
    print_config: PrintConfig = False,
) -> None:
    """Draw rollouts for the training questions.

    Re-running continues; a larger --n tops up.

    Example: `attrib sample --n 128 --limit 64 --where "relation = 'capital'"`
    """
    from attrib.sampling.dry_run import plan_rollouts
    from attrib.sampling.rollouts import SampleSettings, draw_rollouts
    from attrib.store import Store
    from attrib.tables import print_plan

    settings = make_settings(ctx, SampleSettings)
    if print_config:
        return show_config(ctx)
    if dry_run:
        plan = plan_rollouts(Store(db), settings)
        return print_json(plan) if as_json else print_plan(plan)
    summary = draw_rollouts(Store(db), settings)
    if as_json:
        return print_json(summary)
    typer.echo(
        f"{summary.questions} questions × {summary.n} rollouts in {db}: {summary.drawn} drawn in "
        f"{summary.seconds:.0f} s ({summary.tokens} tokens), {summary.already_stored} were there."
    )


@app.command()
def bucket(
    ctx: typer.Context,
    db: Database = DEFAULT_DATABASE,
    k: Annotated[int, typer.Option("--k", help="Count rollouts 0 … k-1 of each question.")] = 128,
    grader: Annotated[str, typer.Option(help="match, exact or judge.")] = "match",
    cut_rarely: Annotated[
        float | None, typer.Option(help="Largest right fraction in rarely-correct; default: 1/16.")
    ] = None,
    cut_sometimes: Annotated[
        float | None,
        typer.Option(help="Largest right fraction in sometimes-correct; default: 1/2."),
    ] = None,
    partial: Annotated[
        bool, typer.Option("--partial", help="Leave out questions still short of rollouts.")
    ] = False,
    exclude_suspect: Annotated[
        bool,
        typer.Option(
            "--exclude-suspect",
            help="Leave out never-correct questions whose accepted answers may be at fault.",
        ),
    ] = False,
    sample_set: Annotated[str, typer.Option(help="Beginning of its id; default: newest.")] = "",
    judge_model: JudgeModel = None,
    judge_url: JudgeUrl = None,
    judge_key_env: JudgeKeyEnv = "OPENAI_API_KEY",
    judge_concurrency: JudgeConcurrency = 32,
    max_judge_calls: MaxJudgeCalls = None,
    quiet: Quiet = False,
    as_json: AsJson = False,
    print_config: PrintConfig = False,
) -> None:
    """Sort the sampled questions into difficulty buckets and print pass@k.

    Example: `attrib bucket --k 128`
    """
    from attrib.sampling.bucketing import BucketSettings, bucket_questions
    from attrib.store import Store
    from attrib.tables import print_bucketing

    settings = make_settings(ctx, BucketSettings)
    if print_config:
        return show_config(ctx)
    bucketing = bucket_questions(Store(db), settings)
    if as_json:
        return print_json(bucketing)
    print_bucketing(bucketing, db)


app.command()(analyze)
app.command()(ablate)
app.add_typer(attribute_command.app, name="attribute")
app.add_typer(data_command.app, name="data")
app.add_typer(grade_command.app, name="grade")


@app.command()
def report(
    ctx: typer.Context,
    db: Database = DEFAULT_DATABASE,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            help="File to write; -: print; default: attrib-report.html, .json or .csv.",
            metavar="FILE",
        ),
    ] = None,
    experiment: Annotated[
        str | None, typer.Option(help="Beginning of its id; default: newest.")
    ] = None,
    format: Annotated[
        str | None,
        typer.Option(
            help="html, or the numbers alone, json or csv; default: by the file's name, or html."
        ),
    ] = None,
    compare: Annotated[
        list[Path] | None,
        typer.Option(help="Another study's database to set beside it; may be repeated."),
    ] = None,
    open: Annotated[bool, typer.Option("--open", help="Open it in the browser.")] = False,
    quiet: Quiet = False,
    as_json: AsJson = False,
    print_config: PrintConfig = False,
) -> None:
    """Write the study as one self-contained HTML file, or its numbers as JSON or CSV.

    Example: `attrib report --output study.html --open`
    """
    import webbrowser

    from attrib.progress import say
    from attrib.reports.render import ReportFormat, write_report
    from attrib.store import Store

    if print_config:
        return show_config(ctx)
    ending = output.suffix.lower().lstrip(".") if output else ""
    form = format or (ending if ending in set(ReportFormat) else ReportFormat.HTML)
    if form not in set(ReportFormat):
        raise ConfigError(f"--format is {format!r}; it is html, json or csv.")
    path = output or Path(f"attrib-report.{form}")
    refuse_two_outputs(path, as_json)
    if open and path == STDOUT:
        raise ConfigError("--open needs a file. Leave --output - out.")
    others = [Store(other) for other in compare or ()]
    summary = write_report(Store(db), path, experiment, others, ReportFormat(form))
    if open and not webbrowser.open(summary.path.resolve().as_uri()):
        say("There is no browser here to open it with.")
    if as_json:
        return print_json(summary)
    announce(path, summary.claim)
    if path != STDOUT:
        typer.echo(f"Report: {summary.path.resolve()}")


app.command()(run)


@app.command()
def status(db: Database = DEFAULT_DATABASE, as_json: AsJson = False) -> None:
    """Show what a study holds and who is writing to it.

    Example: `attrib status`
    """
    from attrib.inspection import study_status
    from attrib.store import Store
    from attrib.tables import print_status

    found = study_status(Store(db))
    if as_json:
        return print_json(found)
    print_status(found)


app.command()(query)
app.command()(export)


@app.command()
def env(as_json: AsJson = False) -> None:
    """Show versions and places, ready to paste into a bug report.

    Example: `attrib env`
    """
    from attrib.environment import describe_environment

    found = {**describe_environment(), "cache": str(cache_folder())}
    if as_json:
        return print_json(found)
    for name, value in found.items():
        typer.echo(f"{name:<14} {value}")
