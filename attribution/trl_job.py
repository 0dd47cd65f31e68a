"""What the process that trains with TRL is told, and the files it leaves in the run's folder.

Owns which argument of TRL's GRPOConfig each of our settings is. All that decides what an arm
becomes is set here, so that another default of another TRL changes nothing. A run's folder holds
the job, TRL's checkpoints, and the weights after each update that is evaluated.
"""

import json
import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file

from attrib.attribution.objective import Advantage, Normalisation
from attrib.attribution.settings import AblateSettings, TrainSettings, Vllm
from attrib.sampling.models import Dtype
from attrib.sampling.prompts import TEMPLATE_ARGUMENTS, Message

LOSS_TYPES = {
    Normalisation.PER_SEQUENCE: "grpo",
    Normalisation.PER_TOKEN: "dapo",
    Normalisation.CONSTANT: "dr_grpo",
}
SCALE_REWARDS = {
    Advantage.GROUP_NORMALISED: "group",
    Advantage.MEAN_ONLY: "none",
    Advantage.LEAVE_ONE_OUT: "none",  # the rewards are stretched instead
}
JOB, LOG, WHOLE = "job.json", "log.txt", "whole"
_PREFIX = "base_model.model."  # of the names that peft gives
_WRAPPERS = ("_checkpoint_wrapped_module.", "_fsdp_wrapped_module.")


@dataclass(frozen=True, slots=True)
class Batches:
    """How an arm is cut up.

    Attributes:
        updates: in all; each may be several optimiser steps.
        processes: that train together.
        longest_prompt: tokens of the longest prompt.
        longest: the limit on new tokens.
        temperature: that rollouts are drawn at.
        end_token_ids: that end them.
    """

    updates: int
    processes: int
    longest_prompt: int
    longest: int
    temperature: float
    end_token_ids: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Job:
    """One training run, as the process that makes it is told.

    Attributes:
        model: folder of the model.
        address: of the socket on which the process tells what it does.
        question_ids: of all questions.
        prompts: theirs.
        order: the places of the questions visited, from the first batch to the last.
        rates: the learning rate of each update.
        inner_epochs: optimiser steps of each update.
        lora: rank of adapters; 0 for none.
        arguments: of TRL's GRPOConfig.
        checkpoint: where to go on; None at the beginning.
    """

    model: str
    address: str
    question_ids: Sequence[str]
    prompts: Sequence[list[Message] | str]
    order: Sequence[int]
    rates: Sequence[float]
    inner_epochs: int
    lora: int
    arguments: Mapping[str, Any]
    checkpoint: str | None

    def write(self, folder: Path) -> None:
        """Write it into the run's folder."""
        (folder / JOB).write_text(json.dumps(asdict(self)), encoding="utf-8")

    @classmethod
    def read(cls, folder: Path) -> "Job":
        """Read it from the run's folder."""
        return cls(**json.loads((folder / JOB).read_text(encoding="utf-8")))


def grpo_arguments(
    settings: AblateSettings, batches: Batches, folder: Path, seed: int, *, on_cpu: bool
) -> dict[str, object]:
    """Return the arguments of TRL's GRPOConfig that stand for our settings."""
    per_device, accumulated = split_batch(settings, batches, settings.tokens_at_once)
    return {
        "output_dir": str(folder),
        "seed": seed,
        "use_cpu": on_cpu,
        # how much
        "max_steps": batches.updates * settings.inner_epochs,
        "num_generations": settings.group_size,
        "per_device_train_batch_size": per_device,
        "gradient_accumulation_steps": accumulated,
        "num_iterations": settings.inner_epochs,
        "shuffle_dataset": False,
        "remove_unused_columns": False,
        # rollouts
        "max_completion_length": batches.longest,
        "temperature": batches.temperature,
        "top_p": 1.0,
        "top_k": 0,
        "min_p": None,
        "repetition_penalty": 1.0,
        "chat_template_kwargs": TEMPLATE_ARGUMENTS,
        "mask_truncated_completions": False,
        # the loss
        "loss_type": LOSS_TYPES[settings.normalisation],
        "scale_rewards": SCALE_REWARDS[settings.advantage],
        "importance_sampling_level": "token",
        "epsilon": settings.clip_low,
        "epsilon_high": settings.clip_high,
        "beta": settings.kl,
        "use_bias_correction_kl": False,
        "top_entropy_quantile": 1.0,
        "entropy_coef": 0.0,
        "router_aux_loss_coef": 0.0,
        "disable_dropout": True,
        # the optimiser; the learning rate of every update is set as it begins
        "optim": "adamw_torch_fused",
        "learning_rate": settings.learning_rate,
        "lr_scheduler_type": "constant",
        "warmup_steps": 0,
        "adam_beta1": settings.beta1,
        "adam_beta2": settings.beta2,
        "adam_epsilon": 1e-8,
        "weight_decay": 0.0,
        "max_grad_norm": settings.max_gradient_norm,
        # precision and memory
        "model_init_kwargs": {"dtype": "float32", "use_safetensors": True},
        "bf16": settings.dtype is Dtype.BFLOAT16,
        "fp16": False,
        "gradient_checkpointing": settings.gradient_checkpointing,
        "gradient_checkpointing_kwargs": {"use_reentrant": False},
        # what is written, and to whom
        "logging_steps": 1,
        "logging_nan_inf_filter": False,
        "save_strategy": "no",  # it is told when
        "report_to": "none",
        "disable_tqdm": True,
        **_vllm_arguments(settings, batches),
    }


def split_batch(settings: TrainSettings, batches: Batches, tokens_at_once: int) -> tuple[int, int]:
    """Return the completions of one forward of a process, and how many of these make a batch.

    A forward holds as many as fit into `tokens_at_once`, paddings counted.
    """
    share = settings.groups * settings.group_size // batches.processes
    most = max(1, tokens_at_once // (batches.longest_prompt + batches.longest))
    per_device = max(size for size in range(1, min(most, share) + 1) if share % size == 0)
    return per_device, share // per_device


def _vllm_arguments(settings: AblateSettings, batches: Batches) -> dict[str, object]:
    if settings.trl_vllm is Vllm.NONE:
        return {"use_vllm": False}
    return {
        "use_vllm": True,
        "generation_kwargs": {"stop_token_ids": list(batches.end_token_ids)},
        "vllm_mode": str(settings.trl_vllm),
        "vllm_server_base_url": settings.trl_vllm_url,
        "vllm_gpu_memory_utilization": settings.trl_vllm_memory,
        "vllm_max_model_length": batches.longest_prompt + batches.longest,
        "vllm_importance_sampling_correction": True,
        "vllm_importance_sampling_mode": "sequence_mask",
        "vllm_importance_sampling_clip_max": 3.0,
    }


def weights_file(folder: Path, update: int) -> Path:
    """Return where the weights after an update are."""
    return folder / f"weights-{update:06d}.safetensors"


def plain_name(name: str) -> str:
    """Return the name of a parameter without what peft and FSDP put into it."""
    for wrapper in _WRAPPERS:
        name = name.replace(wrapper, "")
    return name.removeprefix(_PREFIX)


def write_weights(file: Path, weights: Mapping[str, torch.Tensor]) -> None:
    """Write weights by their plain names; the file appears whole or not at all."""
    partial = file.with_suffix(".partial")
    save_file({name: tensor.cpu().contiguous() for name, tensor in weights.items()}, partial)
    os.replace(partial, file)


@torch.no_grad()
def read_weights(file: Path, trained: Mapping[str, torch.nn.Parameter]) -> None:
    """Put weights into the parameters of these names."""
    with safe_open(file, framework="pt") as stored:
        for name, parameter in trained.items():
            parameter.copy_(stored.get_tensor(name))


def find_checkpoints(folder: Path, inner_epochs: int) -> list[int]:
    """Return the updates after which there are whole checkpoints."""
    wholes = folder.glob(f"checkpoint-*/{WHOLE}")
    return [int(file.parent.name.partition("-")[2]) // inner_epochs for file in wholes]


def drop_checkpoints(folder: Path, keep: Path | None = None) -> None:
    """Remove the checkpoints, save one."""
    for one in folder.glob("checkpoint-*"):
        if one != keep:
            shutil.rmtree(one)


def checkpoint_folder(folder: Path, update: int, inner_epochs: int) -> Path:
    """Return where TRL keeps the checkpoint after an update; it counts optimiser steps."""
    return folder / f"checkpoint-{update * inner_epochs}"
