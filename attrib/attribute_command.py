"""`attrib attribute`: scores of single training questions, and how far they can be trusted."""

from pathlib import Path
from typing import Annotated, Any

import typer

from attrib.config import DEFAULT_DATABASE
from attrib.options import (
    AsJson,
    ClusterAddress,
    CpusPerWorker,
    Database,
    Device,
    DryRun,
    GpusPerWorker,
    JudgeConcurrency,
    JudgeKeyEnv,
    JudgeModel,
    JudgeUrl,
    MaxJudgeCalls,
    PrintConfig,
    Quiet,
    Storage,
    Workers,
    make_settings,
    print_json,
    show_config,
)
from attrib.progress import say

GRADIENTS: Any = {"rich_help_panel": "Gradients"}
RUNNING: Any = {"rich_help_panel": "Memory, device"}

Method = Annotated[
    list[str] | None,
    typer.Option(
        help="tracin, tracin-adam, visits, rewarded, difficulty, similarity or random; may be "
        "repeated; default: all."
    ),
]
Scored = Annotated[
    list[str] | None,
    typer.Option(help="A method that scored; may be repeated; default: all that did."),
]
Experiment = Annotated[
    str, typer.Option(help="Beginning of its id; default: the newest with full arms.")
]
Arm = Annotated[str, typer.Option(help="Beginning of its id; default: the full arms, all seeds.")]
TokensAtOnce = Annotated[
    int, typer.Option(help="Distinct tokens of one training forward, as in the arm.", **RUNNING)
]
GradientCheckpointing = Annotated[
    bool,
    typer.Option(
        "--gradient-checkpointing",
        help="Compute activations again in the backward pass: less memory, more time.",
        **RUNNING,
    ),
]
Model = Annotated[
    str | None,
    typer.Option(help="Where the sampled model lies now; default: where it was.", **RUNNING),
]

app = typer.Typer(rich_markup_mode="markdown", invoke_without_command=True)


@app.callback()
def attribute(
    ctx: typer.Context,
    db: Database = DEFAULT_DATABASE,
    method: Method = None,
    experiment: Experiment = "",
    arm: Arm = "",
    show: Annotated[int, typer.Option(help="Questions to print from either end.")] = 5,
    checkpoints: Annotated[
        int, typer.Option(help="How often held-out gradients are taken.", **GRADIENTS)
    ] = 2,
    held_out: Annotated[
        int | None,
        typer.Option(help="Held-out questions; default: those evaluated.", **GRADIENTS),
    ] = None,
    single: Annotated[
        int, typer.Option(help="Of these, scored towards one by one as well.", **GRADIENTS)
    ] = 8,
    target: Annotated[
        str,
        typer.Option(
            help="Whose gradient: log-probability (of accepted answers) or reward (expected).",
            **GRADIENTS,
        ),
    ] = "log-probability",
    rank: Annotated[
        int, typer.Option(help="Rows of the random projections; 0: none.", **GRADIENTS)
    ] = 32,
    tokens_at_once: TokensAtOnce = 512,
    gradient_checkpointing: GradientCheckpointing = False,
    model: Model = None,
    device: Device = "auto",
    judge_model: JudgeModel = None,
    judge_url: JudgeUrl = None,
    judge_key_env: JudgeKeyEnv = "OPENAI_API_KEY",
    judge_concurrency: JudgeConcurrency = 32,
    max_judge_calls: MaxJudgeCalls = None,
    quiet: Quiet = False,
    as_json: AsJson = False,
    print_config: PrintConfig = False,
) -> None:
    """Score every training question: what it contributed to the held-out gain.

    For gradients the arm is trained once more, visit by visit as the first time. How far scores
    can be trusted, `attrib attribute validate` tells.

    Example: `attrib attribute --method tracin --method visits`
    """
    if ctx.invoked_subcommand is not None:
        _refuse_options_before(ctx)
        return None
    from attrib.attribution.attribute import AttributeSettings
    from attrib.attribution.attribute import attribute as score_questions
    from attrib.store import Store
    from attrib.tables_attribution import print_attribution

    settings = make_settings(ctx, AttributeSettings)
    if print_config:
        return show_config(ctx)
    summary = score_questions(Store(db), settings)
    return print_json(summary) if as_json else print_attribution(summary)


@app.command()
def validate(
    ctx: typer.Context,
    db: Database = DEFAULT_DATABASE,
    subsets: Annotated[int, typer.Option(help="Arms to train, each on a random part.")] = 32,
    fraction: Annotated[float, typer.Option(help="Of the training questions in each part.")] = 0.5,
    method: Scored = None,
    experiment: Experiment = "",
    arm: Arm = "",
    tokens_at_once: TokensAtOnce = 512,
    gradient_checkpointing: GradientCheckpointing = False,
    model: Model = None,
    device: Device = "auto",
    cluster: ClusterAddress = None,
    workers: Workers = None,
    gpus_per_worker: GpusPerWorker = None,
    cpus_per_worker: CpusPerWorker = 1.0,
    storage: Storage = None,
    judge_model: JudgeModel = None,
    judge_url: JudgeUrl = None,
    judge_key_env: JudgeKeyEnv = "OPENAI_API_KEY",
    judge_concurrency: JudgeConcurrency = 32,
    max_judge_calls: MaxJudgeCalls = None,
    dry_run: DryRun = False,
    quiet: Quiet = False,
    as_json: AsJson = False,
    print_config: PrintConfig = False,
) -> None:
    """Hold scores against retraining: how well they foretell which random parts gain most.

    Arms that are there are reused, by every method and with a larger --subsets; an interrupted one
    continues.

    Example: `attrib attribute validate --subsets 32`
    """
    from attrib.attribution.validation import ValidateSettings, plan_validation
    from attrib.attribution.validation import validate as validate_scores
    from attrib.store import Store
    from attrib.tables import describe_owed, print_training_plan
    from attrib.tables_attribution import print_validation

    settings = make_settings(ctx, ValidateSettings)
    if print_config:
        return show_config(ctx)
    if dry_run:
        plan = plan_validation(Store(db), settings)
        return print_json(plan) if as_json else print_training_plan(plan)
    summary = validate_scores(Store(db), settings, lambda plan: say(describe_owed(plan)))
    return print_json(summary) if as_json else print_validation(summary)


@app.command()
def curves(
    ctx: typer.Context,
    db: Database = DEFAULT_DATABASE,
    fraction: Annotated[
        list[float],
        typer.Option(help="Of the training questions, kept or removed; may be repeated."),
    ] = [0.1, 0.2, 0.4],  # noqa: B006 -- Typer's way
    keep: Annotated[bool, typer.Option(help="Train on the highest scores only.")] = True,
    remove: Annotated[bool, typer.Option(help="Train on everything but these.")] = True,
    seeds: Annotated[int, typer.Option(help="Training runs of every choice.")] = 3,
    method: Scored = None,
    experiment: Experiment = "",
    arm: Arm = "",
    tokens_at_once: TokensAtOnce = 512,
    gradient_checkpointing: GradientCheckpointing = False,
    model: Model = None,
    device: Device = "auto",
    cluster: ClusterAddress = None,
    workers: Workers = None,
    gpus_per_worker: GpusPerWorker = None,
    cpus_per_worker: CpusPerWorker = 1.0,
    storage: Storage = None,
    judge_model: JudgeModel = None,
    judge_url: JudgeUrl = None,
    judge_key_env: JudgeKeyEnv = "OPENAI_API_KEY",
    judge_concurrency: JudgeConcurrency = 32,
    max_judge_calls: MaxJudgeCalls = None,
    dry_run: DryRun = False,
    quiet: Quiet = False,
    as_json: AsJson = False,
    print_config: PrintConfig = False,
) -> None:
    """Train with only, or without, the questions that score highest, against random ones.

    Example: `attrib attribute curves --fraction 0.2 --method tracin --method difficulty`
    """
    from attrib.attribution.curves import CurvesSettings, draw_curves, plan_curves
    from attrib.store import Store
    from attrib.tables import describe_owed, print_training_plan
    from attrib.tables_attribution import print_curves

    settings = make_settings(ctx, CurvesSettings)
    if print_config:
        return show_config(ctx)
    if dry_run:
        plan = plan_curves(Store(db), settings)
        return print_json(plan) if as_json else print_training_plan(plan)
    summary = draw_curves(Store(db), settings, lambda plan: say(describe_owed(plan)))
    return print_json(summary) if as_json else print_curves(summary)


@app.command()
def export(
    ctx: typer.Context,
    output: Annotated[
        Path, typer.Option("--output", "-o", help="JSON lines or Parquet.", metavar="FILE")
    ],
    queries: Annotated[
        Path | None,
        typer.Option(help="Held-out questions with an answer; default: none.", metavar="FILE"),
    ] = None,
    rollouts: Annotated[int, typer.Option(help="Of each training question, at most.")] = 16,
    db: Database = DEFAULT_DATABASE,
    experiment: Experiment = "",
    arm: Arm = "",
    model: Model = None,
    device: Device = "auto",
    judge_model: JudgeModel = None,
    judge_url: JudgeUrl = None,
    judge_key_env: JudgeKeyEnv = "OPENAI_API_KEY",
    judge_concurrency: JudgeConcurrency = 32,
    max_judge_calls: MaxJudgeCalls = None,
    quiet: Quiet = False,
    as_json: AsJson = False,
) -> None:
    """Write rollouts, rewards and tokens for bergson, to compare its methods.

    Example: `attrib attribute export -o rollouts.jsonl --queries held-out.jsonl`
    """
    from attrib.attribution.bergson_export import BergsonSettings, export_for_bergson
    from attrib.store import Store

    summary = export_for_bergson(Store(db), make_settings(ctx, BergsonSettings))
    if as_json:
        return print_json(summary)
    typer.echo(
        f"{summary.rollouts} rollouts of {summary.questions} questions in {summary.path}, "
        f"{summary.informative} of them with right and wrong ones."
    )
    if summary.queries is not None:
        typer.echo(f"{summary.held_out} held-out questions in {summary.queries}.")


def _refuse_options_before(ctx: typer.Context) -> None:
    """Refuse options of `attribute` itself in front of a command within it, which has its own."""
    for parameter in ctx.command.params:
        source = ctx.get_parameter_source(parameter.name or "")
        if source is not None and source.name == "COMMANDLINE":
            raise typer.BadParameter(
                f"goes behind `{ctx.invoked_subcommand}`.", ctx, param_hint=parameter.opts[0]
            )
