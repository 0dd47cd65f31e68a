"""What `--trainer trl` can be asked for: every refusal, before anything is loaded or trained.

TRL's GRPOTrainer makes batches of one size, draws a fixed number of rollouts for each question and
never more, and ends rollouts at end tokens only. What would need more than that is refused here,
with the setting that can be had instead; what it does otherwise than ours is in docs/scale.md.
"""

import importlib.util
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from attrib.attribution.arms import Arm
from attrib.attribution.budget import Budget, BudgetKind
from attrib.attribution.settings import AblateSettings, Fill, Method, TrainSettings, Vllm
from attrib.cluster import LOCAL, NONE
from attrib.errors import ConfigError, first_line, missing_extra
from attrib.roles import Role
from attrib.sampling.models import Dtype
from attrib.sampling.responder import SampleSet

PACKAGES = ("trl", "accelerate", "datasets")
OLDEST, NEWEST = (1, 16), (2, 0)
VLLM_OLDEST, VLLM_NEWEST = (0, 22), (0, 31)
"""What TRL 1.16 works with."""
PRECISIONS = {Dtype.FLOAT32: "no", Dtype.BFLOAT16: "bf16"}


@dataclass(frozen=True, slots=True)
class Launch:
    """What `accelerate launch` is told.

    Attributes:
        config: its configuration file; None for one process.
        processes: that train together.
        precision: of the passes, in accelerate's words.
    """

    config: Path | None
    processes: int
    precision: str


def refuse_unfit(settings: AblateSettings) -> None:
    """Refuse settings that TRL cannot train with.

    Raises:
        ConfigError: it cannot.
        MissingExtraError: it is not installed.
    """
    _require_packages()
    if settings.method is not Method.GRPO:
        raise ConfigError(
            f"--trainer trl trains with --method grpo only, not {settings.method}. Leave out "
            "--trainer."
        )
    if settings.fill is not Fill.NONE:
        raise ConfigError(
            f"--trainer trl makes plain batches, not --fill {settings.fill}: type --fill none, or "
            "leave out --trainer."
        )
    if Budget.parse(settings.budget).kind is BudgetKind.INFORMATIVE_GROUPS:
        raise ConfigError(
            f"--trainer trl has to know its number of updates, and --budget {settings.budget} does "
            "not tell it: give updates=N, epochs=N or rollouts=N."
        )
    launch = read_launch(settings)
    completions = settings.groups * settings.group_size
    if completions % launch.processes:
        raise ConfigError(
            f"--groups {settings.groups} of --group-size {settings.group_size} cannot be dealt out "
            f"evenly to the {launch.processes} processes of {launch.config}."
        )
    _refuse_vllm(settings)


def refuse_sample_set(sample_set: SampleSet) -> None:
    """Refuse ways of asking that TRL has not.

    Raises:
        ConfigError: rollouts end at stop strings.
    """
    if sample_set.prompt.stop:
        raise ConfigError(
            f"The sample set's rollouts end at {list(sample_set.prompt.stop)}; --trainer trl ends "
            "them at end tokens only. Sample through a chat template and without --stop: attrib "
            "sample --chat --new-set"
        )


def refuse_uneven(settings: AblateSettings, arms: Sequence[Arm]) -> None:
    """Refuse budgets that are no whole number of batches for some arm, or cost too much.

    Raises:
        ConfigError: an arm has one.
    """
    for arm in arms:
        if arm.role in (Role.BASE, Role.IMPORTED):
            continue
        rollouts = count_updates(settings, arm) * settings.groups * settings.group_size
        if rollouts > settings.max_rollouts:
            raise ConfigError(
                f"{arm.name}: --budget {settings.budget} takes {rollouts:,} rollouts, more than "
                f"--max-rollouts {settings.max_rollouts:,}. Raise it, or choose a smaller budget."
            )


def count_updates(settings: TrainSettings, arm: Arm) -> int:
    """Return how many updates an arm's budget is.

    Raises:
        ConfigError: its last batch would be smaller than the others, which TRL cannot make.
    """
    budget = Budget.parse(settings.budget)
    if budget.kind is BudgetKind.UPDATES:
        return budget.amount
    is_epochs = budget.kind is BudgetKind.EPOCHS
    each = settings.groups if is_epochs else settings.groups * settings.group_size
    total = budget.total(len(arm.questions))
    if total % each:
        unit = "visits" if is_epochs else "rollouts"
        raise ConfigError(
            f"{arm.name}: --budget {budget} is {total} {unit}, no whole number of batches of "
            f"{each}, as --trainer trl makes them. Change --groups, or give --budget updates=N."
        )
    return total // each


def read_launch(settings: AblateSettings) -> Launch:
    """Return what `accelerate launch` will be told.

    Raises:
        ConfigError: the file cannot be read, or asks for what cannot be given.
    """
    file, precision = settings.accelerate_config, PRECISIONS[settings.dtype]
    if file is None:
        return Launch(None, 1, precision)
    from accelerate.commands.config import config_args  # type: ignore[import-untyped]

    try:
        config = config_args.load_config_from_file(str(file))
    except Exception as error:  # whatever accelerate makes of a file
        raise ConfigError(f"--accelerate-config {file}: {first_line(error)}") from error
    processes = getattr(config, "num_processes", 0)  # SageMaker's configuration has none
    if processes < 1:
        raise ConfigError(f"{file} does not say how many processes train. Set num_processes.")
    machines = config.num_machines or 1
    if machines != 1:
        raise ConfigError(
            f"{file} asks for {machines} machines; an arm is trained on one. Set num_machines to 1."
        )
    asked = str(config.mixed_precision or "no")
    if asked != precision:
        raise ConfigError(
            f"{file} says mixed_precision: {asked}, and --dtype {settings.dtype} means "
            f"{precision}. Let them agree."
        )
    if settings.lora and (config.deepspeed_config or {}).get("zero_stage") == 3:
        raise ConfigError(
            f"{file} shares out weights by ZeRO stage 3, under which --lora {settings.lora} cannot "
            "begin as in other runs. Choose stage 2, or FSDP."
        )
    return Launch(file.resolve(), processes, precision)


def _require_packages() -> None:
    for package in PACKAGES:
        if importlib.util.find_spec(package) is None:
            raise missing_extra("--trainer trl", "trl", ImportError(name=package))
    installed = version("trl")
    if not OLDEST <= _release(installed) < NEWEST:
        raise ConfigError(
            f"--trainer trl was made for trl >= 1.16, < 2; {installed} is installed. "
            "Type: pip install 'attrib[trl]'"
        )


def _refuse_vllm(settings: AblateSettings) -> None:
    mode, url = settings.trl_vllm, settings.trl_vllm_url
    if (mode is Vllm.SERVER) != (url is not None):
        raise ConfigError(
            "--trl-vllm server and --trl-vllm-url go together: the one says that a server draws "
            "the rollouts, the other where it is."
        )
    if mode is Vllm.NONE:
        return
    if settings.cluster not in (None, NONE, LOCAL):
        return  # every node looks for itself
    if settings.device.startswith("cpu") or not _has_cuda():
        raise ConfigError(
            f"--trl-vllm {mode} needs CUDA, where weights are handed to vLLM; leave it out here."
        )
    needed = f"TRL works with vLLM {_dotted(VLLM_OLDEST)} to {_dotted(VLLM_NEWEST)}"
    remedy = f"Type: pip install 'vllm>={_dotted(VLLM_OLDEST)},<={_dotted(VLLM_NEWEST)}.0'"
    if importlib.util.find_spec("vllm") is None:
        raise ConfigError(f"--trl-vllm {mode}: {needed}, and none is installed. {remedy}")
    installed = version("vllm")
    if not VLLM_OLDEST <= _release(installed) <= VLLM_NEWEST:
        raise ConfigError(f"--trl-vllm {mode}: {needed}, and {installed} is installed. {remedy}")


def _has_cuda() -> bool:
    import torch

    return torch.cuda.is_available()


def _release(installed: str) -> tuple[int, int]:
    major, minor = installed.split(".")[:2]
    return int(major), int(minor)


def _dotted(release: tuple[int, int]) -> str:
    return ".".join(map(str, release))
