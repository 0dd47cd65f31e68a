"""The settings of training and of the experiment around it.

`TrainSettings` is what an arm becomes, but for its questions and its seed, and is part of its
identity; `AblateSettings` adds which arms there are, how they are evaluated and what is kept.
"""

import math
from enum import StrEnum
from pathlib import Path
from typing import Literal

from pydantic import Field

from attrib.attribution.objective import Advantage, Normalisation
from attrib.attribution.subsets import Grouping
from attrib.cluster import ArmClusterSettings
from attrib.errors import ConfigError
from attrib.roles import PLANNED, Role
from attrib.sampling.judge import JudgeSettings
from attrib.sampling.models import Dtype
from attrib.settings import Settings


class Method(StrEnum):
    """How an arm is trained."""

    GRPO = "grpo"
    """Reinforcement learning on fresh rollouts."""
    SFT = "sft"
    """Supervised fine-tuning on the accepted answer."""
    RFT = "rft"
    """Rejection fine-tuning: on the right rollouts drawn before training."""
    DPO = "dpo"
    """Direct preference optimisation: on pairs of right and wrong rollouts drawn before."""


class Fill(StrEnum):
    """How batches are composed."""

    NONE = "none"
    """So many visits, whatever they give: plain GRPO."""
    INFORMATIVE = "informative"
    """Visits go on until so many carry a gradient: DAPO's dynamic sampling."""


class Schedule(StrEnum):
    """How the learning rate goes from its full value, after the warm-up, to the end."""

    CONSTANT = "constant"
    LINEAR = "linear"
    """To zero."""
    COSINE = "cosine"
    """To zero, along half a cosine."""


class TrainSettings(Settings):
    """The trainer's settings; the defaults are those of the trial runs on SmolLM2-135M."""

    trainer: str = "native"
    """Who trains: ours, `trl`, or what an entry point of `attrib.trainers` is called."""
    trainer_version: Literal[2] = 2
    """Of ours: raised when the same settings would train otherwise."""
    method: Method = Method.GRPO
    budget: str = "updates=10"
    """What is held equal between arms; see `attrib.attribution.budget`."""
    fill: Fill = Fill.INFORMATIVE
    groups: int = Field(default=8, ge=1)
    """Visits of an update; with `fill=informative`, those that carry a gradient."""
    group_size: int = Field(default=16, ge=2)
    """Rollouts of a visit: a single one has no advantage."""
    max_rollouts: int = Field(default=50_000, ge=1)
    """Training rollouts after which an arm that has not used its budget is exhausted."""
    inner_epochs: int = Field(default=1, ge=1)
    """Optimiser steps on each batch; from the second on, ratios are clipped."""
    clip_low: float = Field(default=0.2, ge=0.0, le=1.0)
    clip_high: float = Field(default=0.2, ge=0.0)
    advantage: Advantage = Advantage.GROUP_NORMALISED
    normalisation: Normalisation = Normalisation.PER_SEQUENCE
    kl: float = Field(default=0.0, ge=0.0)
    """Weight of the penalty on the distance from the base."""
    preference_beta: float = Field(default=0.1, gt=0.0)
    """β of DPO."""
    learning_rate: float = Field(default=2e-5, gt=0.0, allow_inf_nan=False)
    warmup: float = Field(default=0.0, ge=0.0, lt=1.0)
    """Share of the budget over which the learning rate rises from zero."""
    schedule: Schedule = Schedule.CONSTANT
    beta1: float = Field(default=0.9, ge=0.0, lt=1.0)
    beta2: float = Field(default=0.95, ge=0.0, lt=1.0)
    max_gradient_norm: float = Field(default=1.0, gt=0.0)
    lora: int = Field(default=0, ge=0)
    """Rank of the adapters; 0 trains all weights."""
    dtype: Dtype = Dtype.FLOAT32
    """Of the passes; weights and optimiser state stay float32."""

    def rate_factor(self, progress: float) -> float:
        """Return the learning rate at a share of the budget, as a share of its full value."""
        if progress < self.warmup:
            return progress / self.warmup
        after = (progress - self.warmup) / (1.0 - self.warmup)
        if self.schedule is Schedule.LINEAR:
            return max(0.0, 1.0 - after)
        if self.schedule is Schedule.COSINE:
            return 0.5 * (1.0 + math.cos(math.pi * min(after, 1.0)))
        return 1.0


class Design(StrEnum):
    """Which arms an experiment has."""

    SUBSETS = "subsets"
    """Every subset in its roles, beside the full arm."""
    SHAPLEY = "shapley"
    """Every union of buckets, for exact Shapley values."""


class Keep(StrEnum):
    """Which weights stay on the disk."""

    NONE = "none"
    """None: evaluations, ledger and metrics only."""
    LAST = "last"
    """Those at the end of every run."""
    ALL = "all"
    """Those at every evaluation."""


class Vllm(StrEnum):
    """Where vLLM draws the rollouts of `--trainer trl`."""

    NONE = "none"
    """Nowhere: `generate` of transformers draws them."""
    COLOCATE = "colocate"
    """In the processes that train, on the same GPUs."""
    SERVER = "server"
    """In a server of its own."""


class TrlSettings(Settings):
    """How `--trainer trl` is run."""

    accelerate_config: Path | None = None
    """Of `accelerate launch`: processes, FSDP, DeepSpeed; None: one process."""
    trl_vllm: Vllm = Vllm.NONE
    trl_vllm_url: str | None = None
    """Of the server."""
    trl_vllm_memory: float = Field(default=0.3, gt=0.0, lt=1.0)
    """Share of each GPU's memory that a colocated vLLM takes."""


class AblateSettings(TrainSettings, JudgeSettings, TrlSettings, ArmClusterSettings):
    """What `attrib ablate` was asked for."""

    subset: tuple[str, ...] = ()
    """Buckets to hold against the rest."""
    all_buckets: bool = False
    subset_where: tuple[str, ...] = ()
    """SQL conditions on the training questions, each a subset."""
    group_by: Grouping | None = None
    role: tuple[Role, ...] = PLANNED
    """What each subset is trained in."""
    design: Design = Design.SUBSETS
    seeds: int = Field(default=3, ge=1)
    seed: int = 0
    """The first of them."""
    eval_limit: int | None = 200
    """Number of held-out questions."""
    eval_where: str | None = None
    """SQL condition on the held-out questions; by default, relations that are trained on."""
    eval_dataset: tuple[str, ...] = ()
    """Other data sets to evaluate on."""
    reward_grader: str | None = None
    """Says which rollouts of training are right; None: the grader of the buckets."""
    eval_grader: str | None = None
    """Of the evaluation; None: the one of the rewards."""
    eval_training: bool = True
    """Whether all training questions are asked as well at the end of a run."""
    eval_samples: int = Field(default=16, ge=0)
    """Sampled answers to each held-out question at the end of a run."""
    evaluate_at: tuple[float, ...] = (0.5, 1.0)
    """Fractions of the budget."""
    cot_tokens: int = Field(default=128, ge=0)
    """Limit on a chain of thought of the base; 0 leaves this baseline out."""
    keep: Keep = Keep.NONE
    tokens_at_once: int = Field(default=512, ge=1)
    """Distinct tokens of one training forward."""
    gradient_checkpointing: bool = False
    import_arm: Path | None = None
    """Folder of a model trained elsewhere."""
    trained_on: Path | None = None
    """CSV file with the question_id of what it was trained on."""
    bucketing: str = ""
    """Beginning of a bucketing's id; by default the newest."""
    model: str | None = None
    """Where the sampled model lies now, if it is not where it was."""
    device: str = "auto"

    @property
    def fractions(self) -> tuple[float, ...]:
        """Return the fractions of the budget at which arms are evaluated: ascending, the end last.

        Raises:
            ConfigError: one is not above 0 and at most 1.
        """
        wrong = [f for f in self.evaluate_at if not 0.0 < f <= 1.0]
        if wrong:
            raise ConfigError(f"--evaluate-at {wrong[0]} must be above 0 and at most 1.")
        return tuple(sorted({*self.evaluate_at, 1.0}))
