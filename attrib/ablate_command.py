"""`attrib ablate`: the command with the most settings, grouped by what they are about."""

from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from attrib.config import DEFAULT_DATABASE
from attrib.errors import TrainingError
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

ARMS: Any = {"rich_help_panel": "Which arms"}
EQUAL: Any = {"rich_help_panel": "What is held equal"}
METHOD: Any = {"rich_help_panel": "Training"}
RUNNING: Any = {"rich_help_panel": "Precision, memory, disk"}
TRL: Any = {"rich_help_panel": "Training with TRL"}
EVALUATION: Any = {"rich_help_panel": "Evaluation"}


def ablate(
    ctx: typer.Context,
    db: Database = DEFAULT_DATABASE,
    subset: Annotated[
        list[str] | None,
        typer.Option(
            help="Bucket to hold against the rest; may be repeated.", metavar="BUCKET", **ARMS
        ),
    ] = None,
    all_buckets: Annotated[
        bool, typer.Option("--all-buckets", help="Every bucket of at least 8 questions.", **ARMS)
    ] = False,
    subset_where: Annotated[
        list[str] | None,
        typer.Option(
            help="SQL condition on the training questions as a subset; may be repeated.",
            metavar="SQL",
            **ARMS,
        ),
    ] = None,
    group_by: Annotated[
        str | None,
        typer.Option(help="relation or popularity: each group a subset; default: none.", **ARMS),
    ] = None,
    role: Annotated[
        list[str],
        typer.Option(
            "--role",
            help="What each subset is trained in: only, all-but, matched-random, "
            "matched-complement; may be repeated.",
            **ARMS,
        ),
    ] = ["only", "all-but", "matched-random", "matched-complement"],  # noqa: B006 -- Typer's way
    design: Annotated[
        str, typer.Option(help="subsets; shapley: every union of buckets.", **ARMS)
    ] = "subsets",
    seeds: Annotated[int, typer.Option(help="Training runs of every arm.", **ARMS)] = 3,
    seed: Annotated[int, typer.Option(help="The first of them.", **ARMS)] = 0,
    import_arm: Annotated[
        Path | None,
        typer.Option(
            help="A model trained elsewhere, to be evaluated; default: none.",
            metavar="FOLDER",
            **ARMS,
        ),
    ] = None,
    trained_on: Annotated[
        Path | None,
        typer.Option(
            help="CSV with its training questions' question_id; default: none.",
            metavar="FILE",
            **ARMS,
        ),
    ] = None,
    bucketing: Annotated[
        str, typer.Option(help="Beginning of its id; default: newest.", **ARMS)
    ] = "",
    budget: Annotated[
        str,
        typer.Option(
            help="updates=N, epochs=N, informative-groups=N or rollouts=N: equal in all arms.",
            **EQUAL,
        ),
    ] = "updates=10",
    fill: Annotated[
        str,
        typer.Option(
            help="informative: draw on until a batch holds enough groups that carry a gradient; "
            "none: plain batches.",
            **EQUAL,
        ),
    ] = "informative",
    groups: Annotated[int, typer.Option(help="Groups per update.", **EQUAL)] = 8,
    group_size: Annotated[
        int, typer.Option(help="Rollouts per visit of a question.", **EQUAL)
    ] = 16,
    max_rollouts: Annotated[
        int, typer.Option(help="Training rollouts after which an arm is exhausted.", **EQUAL)
    ] = 50_000,
    trainer: Annotated[
        str,
        typer.Option(help="native, trl, or one of another package (docs/extending.md).", **METHOD),
    ] = "native",
    method: Annotated[str, typer.Option(help="grpo, sft, rft or dpo.", **METHOD)] = "grpo",
    advantage: Annotated[
        str, typer.Option(help="group-normalised, mean-only or leave-one-out.", **METHOD)
    ] = "group-normalised",
    normalisation: Annotated[
        str, typer.Option(help="Of the loss: per-sequence, per-token or constant.", **METHOD)
    ] = "per-sequence",
    inner_epochs: Annotated[int, typer.Option(help="Optimiser steps on each batch.", **METHOD)] = 1,
    clip_low: Annotated[float, typer.Option(help="Lower ε of the ratio.", **METHOD)] = 0.2,
    clip_high: Annotated[float, typer.Option(help="Upper ε of the ratio.", **METHOD)] = 0.2,
    kl: Annotated[float, typer.Option(help="Weight of the distance to the base.", **METHOD)] = 0.0,
    preference_beta: Annotated[float, typer.Option(help="β of dpo.", **METHOD)] = 0.1,
    learning_rate: Annotated[float, typer.Option(help="Of AdamW.", **METHOD)] = 2e-5,
    warmup: Annotated[
        float, typer.Option(help="Share of the budget until the full rate.", **METHOD)
    ] = 0.0,
    schedule: Annotated[
        str, typer.Option(help="After the warm-up: constant, linear or cosine.", **METHOD)
    ] = "constant",
    beta1: Annotated[float, typer.Option(help="Of AdamW.", **METHOD)] = 0.9,
    beta2: Annotated[float, typer.Option(help="Of AdamW.", **METHOD)] = 0.95,
    max_gradient_norm: Annotated[
        float, typer.Option(help="Gradients are clipped to it.", **METHOD)
    ] = 1.0,
    lora: Annotated[
        int, typer.Option(help="Rank of LoRA adapters; 0 trains all weights.", **METHOD)
    ] = 0,
    reward_grader: Annotated[
        str | None,
        typer.Option(help="match, exact or judge; default: that of the buckets.", **METHOD),
    ] = None,
    eval_limit: Annotated[
        int | None, typer.Option(help="Number of held-out questions.", **EVALUATION)
    ] = 200,
    eval_where: Annotated[
        str | None,
        typer.Option(
            help="SQL condition on held-out questions; default: as trained.",
            metavar="SQL",
            **EVALUATION,
        ),
    ] = None,
    eval_dataset: Annotated[
        list[str] | None,
        typer.Option(help="Another data set to evaluate on; may be repeated.", **EVALUATION),
    ] = None,
    eval_grader: Annotated[
        str | None,
        typer.Option(help="match, exact or judge; default: that of the rewards.", **EVALUATION),
    ] = None,
    eval_training: Annotated[
        bool, typer.Option(help="Ask all training questions at the end as well.", **EVALUATION)
    ] = True,
    eval_samples: Annotated[
        int, typer.Option(help="Sampled answers to each held-out question.", **EVALUATION)
    ] = 16,
    evaluate_at: Annotated[
        list[float],
        typer.Option(help="Fraction of the budget; may be repeated; 1 is added.", **EVALUATION),
    ] = [0.5, 1.0],  # noqa: B006 -- Typer's way
    cot_tokens: Annotated[
        int, typer.Option(help="Limit on the base's chain of thought; 0: none.", **EVALUATION)
    ] = 128,
    keep: Annotated[
        str, typer.Option(help="Weights that stay: none, last or all.", **RUNNING)
    ] = "none",
    dtype: Annotated[
        str, typer.Option(help="Of the passes: float32, or bfloat16 on CUDA.", **RUNNING)
    ] = "float32",
    gradient_checkpointing: Annotated[
        bool,
        typer.Option("--gradient-checkpointing", help="Less memory, more time.", **RUNNING),
    ] = False,
    tokens_at_once: Annotated[
        int, typer.Option(help="Distinct tokens of one training forward.", **RUNNING)
    ] = 512,
    model: Annotated[
        str | None,
        typer.Option(help="Where the sampled model lies now; default: where it was.", **RUNNING),
    ] = None,
    accelerate_config: Annotated[
        Path | None,
        typer.Option(
            help="What accelerate launch is configured with, such as FSDP or DeepSpeed; default: "
            "one process.",
            metavar="FILE",
            **TRL,
        ),
    ] = None,
    trl_vllm: Annotated[
        str, typer.Option(help="Who draws the rollouts: none (of vLLM), colocate, server.", **TRL)
    ] = "none",
    trl_vllm_url: Annotated[
        str | None,
        typer.Option(help="The server, such as http://localhost:8000; default: none.", **TRL),
    ] = None,
    trl_vllm_memory: Annotated[
        float, typer.Option(help="Share of a GPU's memory for colocated vLLM.", **TRL)
    ] = 0.3,
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
    """Retrain on a subset, on everything, on everything but the subset, and on random controls.

    Prints the plan with what it will take, then runs it. Finished arms are reused; an interrupted
    one continues.

    Example: `attrib ablate --subset never-correct --budget informative-groups=32`
    """
    from attrib.attribution.ablate import ablate as run_ablation
    from attrib.attribution.ablate import plan_ablation
    from attrib.attribution.settings import AblateSettings
    from attrib.store import Store
    from attrib.tables import print_effects, print_training_plan

    settings = make_settings(ctx, AblateSettings)
    if print_config:
        return show_config(ctx)
    if dry_run:
        plan = plan_ablation(Store(db), settings)
        return print_json(plan) if as_json else print_training_plan(plan)
    announce = (lambda plan: None) if quiet else partial(print_training_plan, to_stderr=True)
    summary = run_ablation(Store(db), settings, announce)
    if as_json:
        print_json(summary)
    else:
        print_effects(summary.effects, summary.exhausted)
    if summary.failed:
        raise TrainingError(f"These runs failed: {', '.join(summary.failed)}. See the lines above.")
