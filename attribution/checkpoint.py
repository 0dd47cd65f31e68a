"""Checkpoints: where a training run goes on after it was killed.

One safetensors file holds weights, optimiser state and the position in the run. It replaces its
predecessor by one rename, so that a kill while writing leaves the last whole one.
"""

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from attrib.errors import StoreError

Weights = Mapping[str, torch.nn.Parameter]


@dataclass(frozen=True, slots=True)
class Position:
    """How far a run has come."""

    step: int = 0
    """Updates made: batches used, whether they carried a gradient or not."""
    visit: int = 0
    """Questions visited, repeats counted: the place in the order of visits."""
    rollouts: int = 0
    """Training rollouts drawn."""
    informative_groups: int = 0
    """Visits that a gradient was taken from."""
    gradient_tokens: int = 0
    """Distinct tokens that carried it."""
    seconds: float = 0.0
    """Time spent, over all attempts."""


def save_checkpoint(
    path: Path, trained: Weights, optimizer: torch.optim.Optimizer, position: Position
) -> None:
    """Write the whole state of the `trained` weights, replacing the file at `path` at once.

    Raises:
        StoreError: there is no room for it, or no permission.
    """
    tensors = {f"weight.{name}": tensor.detach() for name, tensor in trained.items()}
    for index, state in optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer.{index}.{key}": value for key, value in state.items()}
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    try:
        save_file(tensors, partial, metadata={"position": json.dumps(asdict(position))})
        os.replace(partial, path)
    except (OSError, SafetensorError) as error:
        size = sum(tensor.nbytes for tensor in tensors.values()) / 1e9
        raise StoreError(
            f"The checkpoint {path} of {size:.1f} GB could not be written: {error}. Free some disk "
            "space, then type the same command again."
        ) from error


def read_position(path: Path) -> Position:
    """Return how far the checkpoint had come; without a file, or a readable one, the start."""
    try:
        with safe_open(path, framework="pt") as file:
            return Position(**json.loads(file.metadata()["position"]))
    except (OSError, SafetensorError, KeyError, ValueError, TypeError):
        return Position()  # `load_checkpoint` says what is wrong with a file that is there


def load_checkpoint(path: Path, trained: Weights, optimizer: torch.optim.Optimizer) -> Position:
    """Restore the state in place; without a file, return the start of the run.

    Raises:
        StoreError: the file is damaged.
    """
    if not path.is_file():
        return Position()
    try:
        return _restore(path, trained, optimizer)
    except (SafetensorError, KeyError, ValueError, TypeError, RuntimeError) as error:
        raise StoreError(
            f"The checkpoint {path} is damaged ({error}). Delete it to start the arm again."
        ) from error


def _restore(path: Path, trained: Weights, optimizer: torch.optim.Optimizer) -> Position:
    states: dict[int, dict[str, torch.Tensor]] = {}
    with safe_open(path, framework="pt") as file, torch.no_grad():
        for name, parameter in trained.items():
            parameter.copy_(file.get_tensor(f"weight.{name}"))
        for key in file.keys():  # noqa: SIM118 -- not a dict
            kind, rest = key.split(".", 1)
            if kind == "optimizer":
                index, field = rest.split(".", 1)
                states.setdefault(int(index), {})[field] = file.get_tensor(key)
        position = Position(**json.loads(file.metadata()["position"]))
    groups = optimizer.state_dict()["param_groups"]
    optimizer.load_state_dict({"state": states, "param_groups": groups})
    return position
