"""The model that is being trained: what of it changes, in which precision, and what it was before.

Owns LoRA adapters (through peft), mixed precision, gradient checkpointing and the reference model.
Weights and optimiser state are float32 throughout; with bfloat16 the forward and backward passes
run in it, so that small updates are not rounded away. Dropout is off in every pass.
"""

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from attrib.attribution.forest import Forest
from attrib.errors import ConfigError, ModelError, missing_extra
from attrib.sampling.models import Dtype, LanguageModel
from attrib.sampling.packed import forward_tree

if TYPE_CHECKING:
    from peft import LoraConfig
    from transformers import PreTrainedModel

LORA_SCALE = 2  # alpha over rank


class Policy:
    """A language model under training."""

    def __init__(
        self,
        language_model: LanguageModel,
        *,
        lora: int = 0,
        dtype: Dtype = Dtype.FLOAT32,
        gradient_checkpointing: bool = False,
        has_reference: bool = False,
    ) -> None:
        """Make a freshly loaded float32 model ready for training.

        Args:
            language_model: changed in place.
            lora: rank of the adapters; 0 trains all weights.
            dtype: of the passes; bfloat16 needs a CUDA device.
            gradient_checkpointing: compute activations again in the backward pass.
            has_reference: whether log-probabilities of the untrained model will be asked for.

        Raises:
            ConfigError: bfloat16 without CUDA, or a model that cannot recompute activations.
            MissingExtraError: LoRA without peft.
        """
        self.language_model = language_model
        self.module = language_model.module
        if dtype is Dtype.BFLOAT16 and self.module.device.type != "cuda":
            raise ConfigError("--dtype bfloat16 trains on CUDA only; leave it out here.")
        self._dtype = dtype
        _switch_off_dropout(self.module)
        self._reference: PreTrainedModel | None = None
        if has_reference and not lora:
            self._reference = copy.deepcopy(self.module).requires_grad_(False)
        self._has_adapters = lora > 0
        if lora:
            _add_adapters(self.module, lora)
        self._recomputes = gradient_checkpointing
        if gradient_checkpointing:
            if not self.module.supports_gradient_checkpointing:
                kind = self.module.config.model_type
                raise ConfigError(f"--gradient-checkpointing: {kind} models do not support it.")
            enable: Any = self.module.gradient_checkpointing_enable
            enable({"use_reentrant": False})

    @property
    def trained(self) -> dict[str, torch.nn.Parameter]:
        """Return the parameters that training changes, by name."""
        return {n: p for n, p in self.module.named_parameters() if p.requires_grad}

    def is_finite(self) -> bool:
        """Tell whether all trained parameters are finite numbers, and so is their norm."""
        return bool(torch.nn.utils.get_total_norm(list(self.trained.values())).isfinite())

    @contextmanager
    def precision(self) -> Iterator[None]:
        """Run passes of the model in the chosen number format."""
        with torch.autocast("cuda", torch.bfloat16, enabled=self._dtype is Dtype.BFLOAT16):
            yield

    def logprobs(self, forest: Forest, temperature: float) -> torch.Tensor:
        """Return log π of the forest's targets, shape (K,), with gradients."""
        self.module.train(self._recomputes)  # transformers recomputes in training mode only
        try:
            with self.precision():
                return _logprobs(self.module, forest, temperature)
        finally:
            self.module.train(False)

    def logits(self, forest: Forest) -> torch.Tensor:
        """Return the logits at the forest's predictors, shape (P, vocabulary)."""
        return forward_tree(self.module, forest.tree, forest.predictor_P)

    @torch.no_grad()
    def reference_logprobs(self, forest: Forest, temperature: float) -> torch.Tensor:
        """Return log π of the targets under the model as it was before training, shape (K,)."""
        with self.precision():
            if self._has_adapters:
                with _without_adapters(self.module):
                    return _logprobs(self.module, forest, temperature)
            assert self._reference is not None
            return _logprobs(self._reference, forest, temperature)

    def save(self, folder: Path) -> None:
        """Save the model with adapters merged in, as a folder that `--model` takes.

        Raises:
            ModelError: it cannot be written.
        """
        module = self.module
        if self._has_adapters:
            module = _merge_adapters(copy.deepcopy(module))
        try:
            module.save_pretrained(folder)
            self.language_model.tokenizer.save_pretrained(folder)
        except OSError as error:
            raise ModelError(f"The weights cannot be kept in {folder}: {error}") from error


def pick_logprobs(logits_PV: torch.Tensor, forest: Forest) -> torch.Tensor:
    """Return log π of the forest's targets, shape (K,), from the logits at its predictors."""
    row_K = torch.from_numpy(forest.row_K).to(logits_PV.device)
    token_K = torch.from_numpy(forest.token_K).to(logits_PV.device)
    return logits_PV[row_K, token_K] - logits_PV.logsumexp(-1)[row_K]


def _logprobs(module: "PreTrainedModel", forest: Forest, temperature: float) -> torch.Tensor:
    logits_PV = forward_tree(module, forest.tree, forest.predictor_P)
    if temperature != 1.0:
        logits_PV = logits_PV / temperature
    return pick_logprobs(logits_PV, forest)


def _switch_off_dropout(module: torch.nn.Module) -> None:
    for part in module.modules():
        if isinstance(part, torch.nn.Dropout):
            part.p = 0.0
        if isinstance(getattr(part, "attention_dropout", None), float):
            part.attention_dropout = 0.0  # type: ignore[assignment]


def adapter_config(rank: int) -> "LoraConfig":
    """Return what adapters of a rank are.

    Raises:
        MissingExtraError: peft is not installed.
    """
    try:
        import peft
    except ImportError as error:
        raise missing_extra("--lora", "train", error) from error
    return peft.LoraConfig(
        r=rank,
        lora_alpha=LORA_SCALE * rank,
        lora_dropout=0.0,
        target_modules="all-linear",
        task_type="CAUSAL_LM",
    )


def _add_adapters(module: "PreTrainedModel", rank: int) -> None:
    config = adapter_config(rank)
    from peft import inject_adapter_in_model

    with torch.random.fork_rng():
        torch.manual_seed(0)  # the adapters' first values are the same in every run
        inject_adapter_in_model(config, module)
    module.train(False)


def _adapter_layers(module: torch.nn.Module) -> Iterator[tuple[str, Any]]:
    from peft.tuners.tuners_utils import BaseTunerLayer

    return (
        (name, part) for name, part in module.named_modules() if isinstance(part, BaseTunerLayer)
    )


@contextmanager
def _without_adapters(module: torch.nn.Module) -> Iterator[None]:
    layers = [layer for _, layer in _adapter_layers(module)]
    for layer in layers:
        layer.enable_adapters(False)
    try:
        yield
    finally:
        for layer in layers:
            layer.enable_adapters(True)


def _merge_adapters(module: "PreTrainedModel") -> "PreTrainedModel":
    for name, layer in list(_adapter_layers(module)):
        layer.merge()
        parent, _, child = name.rpartition(".")
        setattr(module.get_submodule(parent), child, layer.get_base_layer())
    return module
