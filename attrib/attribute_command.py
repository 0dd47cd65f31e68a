"""`attrib attribute`: scores of single training questions, and how far they can be trusted."""

from typing import Annotated, Any

import typer

from attrib.config import DEFAULT_DATABASE
from attrib.options import (
    AsJson,
    Database,
    Device,
    JudgeConcurrency,
    JudgeKeyEnv,
    JudgeModel,
    JudgeUrl,
    MaxJudgeCalls,
    PrintConfig,
    Quiet,
    make_settings,
    print_json,
    show_config,
)

GRADIENTS: Any = {"rich_help_panel": "Gradients"}
RUNNING: Any = {"rich_help_panel": "Memory, device"}

Method = Annotated[
    list[str] | None,
    typer.Option(
        help="tracin, tracin-adam, visits, rewarded, difficulty, similarity or random; may be "
        "repeated; default: all."
    ),
]
Arm = Annotated[
    str, typer.Option(help="Beginning of its id; default: the newest full arm, all its seeds.")
]
TokensAtOnce = Annotated[
    int, typer.Option(help="Distinct tokens of one training forward, as in the arm.", **RUNNING)
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
    arm: Arm = "",
    show: Annotated[int, typer.Option(help="Questions to print from either end.")] = 5,
    checkpoints: Annotated[
        int, typer.Option(help="How often held-out gradients are taken.", **GRADIENTS)
    ] = 3,
    held_out: Annotated[
        int | None,
        typer.Option(help="Held-out questions; default: those evaluated.", **GRADIENTS),
    ] = None,
    target: Annotated[
        str, typer.Option(help="log-probability of the accepted answers, or reward.", **GRADIENTS)
    ] = "log-probability",
    rank: Annotated[
        int, typer.Option(help="Rows of the random projections; 0: none.", **GRADIENTS)
    ] = 32,
    tokens_at_once: TokensAtOnce = 512,
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
