"""How vLLM is started: our settings in vLLM's words, on GPUs and on CPUs."""

import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

FEW_CORES = 4
SERVICE = {
    "VLLM_LOGGING_LEVEL": "ERROR",
    "VLLM_LOGGING_STREAM": "ext://sys.stderr",  # stdout is for data
    "VLLM_NO_USAGE_STATS": "1",
    "DO_NOT_TRACK": "1",
}
"""What the environment says to vLLM where the user has not said otherwise."""


@dataclass(frozen=True, slots=True)
class VllmSettings:
    """How vLLM runs a model.

    Attributes:
        model_folder: where the model's files are.
        dtype: of weights and activations, such as float32 or bfloat16.
        tensor_parallel_size: GPUs that share the model.
        gpu_memory_utilization: share of the device's memory it may take; None leaves it to vLLM on
            a GPU and gives a quarter of the machine's memory to the keys and values elsewhere.
        max_model_len: tokens of prompt and response together; None takes as many as the model
            reads and the memory holds.
        enforce_eager: do not compile the model: a quicker start and slower tokens.
        in_flight: requests at once; what a kill loses.
    """

    model_folder: Path
    dtype: str
    tensor_parallel_size: int = 1
    gpu_memory_utilization: float | None = None
    max_model_len: int | None = None
    enforce_eager: bool = False
    in_flight: int = 64


def start_arguments(settings: VllmSettings) -> dict[str, Any]:
    """Return the arguments that start vLLM; on a CPU, set environment variables too."""
    from vllm.platforms import current_platform  # type: ignore[import-not-found]

    arguments: dict[str, Any] = {
        "model": str(settings.model_folder),
        "dtype": settings.dtype,
        "tensor_parallel_size": settings.tensor_parallel_size,
        "max_model_len": settings.max_model_len or -1,  # as much as fits
        "enforce_eager": settings.enforce_eager,
        "enable_prefix_caching": True,
        "generation_config": "vllm",  # not the sampling settings in the model's folder
        "logprobs_mode": "raw_logprobs",  # at temperature 1, before top-p and top-k
        "trust_remote_code": False,
        "disable_log_stats": True,
    }
    if settings.gpu_memory_utilization is not None:
        arguments["gpu_memory_utilization"] = settings.gpu_memory_utilization
    if current_platform.is_cpu():
        arguments |= _arguments_for_cpu(settings)
    return arguments


def _arguments_for_cpu(settings: VllmSettings) -> dict[str, Any]:
    """Return what a CPU needs for seeds, memory and speed, and set its environment variables."""
    if settings.gpu_memory_utilization is None:
        os.environ.setdefault("VLLM_CPU_KVCACHE_SPACE", str(_quarter_of_memory_gib()))
    if (os.cpu_count() or 1) <= FEW_CORES:  # vLLM would keep one of them free
        os.environ.setdefault("VLLM_CPU_NUM_OF_RESERVED_CPU", "0")
    has_compiler = shutil.which(os.environ.get("CXX", "g++")) is not None
    is_eager = settings.enforce_eager or not has_compiler
    if is_eager:  # parts of the sampler would be compiled all the same
        os.environ.setdefault("TORCHDYNAMO_DISABLE", "1")
    return {
        "enforce_eager": is_eager,
        # A prompt computed in pieces would need a seeded generator to be wound back, which only
        # those of GPUs can.
        "enable_chunked_prefill": False,
        # Rollouts share whole blocks of their prompt; at 128, the default, short prompts have none.
        "block_size": 32,
    }


def _quarter_of_memory_gib() -> int:
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return max(1, total // 4 // 2**30)
