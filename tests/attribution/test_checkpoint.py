"""A restored run goes on exactly as the one that was never stopped."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from attrib.attribution.checkpoint import (
    Position,
    load_checkpoint,
    read_position,
    save_checkpoint,
)
from attrib.errors import StoreError


def take_step(module: torch.nn.Module, optimizer: torch.optim.Optimizer, seed: int) -> None:
    tokens = torch.randint(0, 8, (2, 5), generator=torch.Generator().manual_seed(seed))
    module(tokens).logits.log_softmax(-1)[..., 0].sum().backward()
    optimizer.step()
    optimizer.zero_grad()


def make_optimizer(module: torch.nn.Module) -> torch.optim.Optimizer:
    return torch.optim.AdamW(trained(module).values(), lr=1e-2, fused=True)


def trained(module: torch.nn.Module) -> dict[str, torch.nn.Parameter]:
    return {name: p for name, p in module.named_parameters() if p.requires_grad}


@pytest.mark.parametrize("tied", [False, True])
def test_weights_and_optimizer_go_on(
    tmp_path: Path, tiny_llama: Callable[..., torch.nn.Module], *, tied: bool
) -> None:
    path = tmp_path / "checkpoints" / "arm.safetensors"
    first = tiny_llama(vocab_size=8, tie_word_embeddings=tied)
    optimizer = make_optimizer(first)
    for seed in range(3):
        take_step(first, optimizer, seed)
    position = Position(
        step=3, visit=17, rollouts=272, informative_groups=5, gradient_tokens=90, seconds=1.5
    )
    save_checkpoint(path, trained(first), optimizer, position)
    assert read_position(path) == position

    second = tiny_llama(vocab_size=8, tie_word_embeddings=tied)
    restored = make_optimizer(second)
    assert load_checkpoint(path, trained(second), restored) == position
    for module, its_optimizer in ((first, optimizer), (second, restored)):
        take_step(module, its_optimizer, seed=9)
    for expected, found in zip(first.parameters(), second.parameters(), strict=True):
        assert torch.equal(expected, found)


def test_without_a_file_the_run_begins(
    tmp_path: Path, tiny_llama: Callable[..., torch.nn.Module]
) -> None:
    module = tiny_llama(vocab_size=8)
    position = load_checkpoint(
        tmp_path / "none.safetensors", trained(module), make_optimizer(module)
    )
    assert position == read_position(tmp_path / "none.safetensors") == Position()


def test_a_kill_while_writing_leaves_the_last_whole_one(
    tmp_path: Path, tiny_llama: Callable[..., torch.nn.Module]
) -> None:
    path = tmp_path / "arm.safetensors"
    module = tiny_llama(vocab_size=8)
    optimizer = make_optimizer(module)
    take_step(module, optimizer, seed=0)
    save_checkpoint(path, trained(module), optimizer, Position(step=1))
    path.with_suffix(".partial").write_bytes(b"half a file")
    assert load_checkpoint(path, trained(module), optimizer) == Position(step=1)


def test_a_damaged_checkpoint_is_refused(
    tmp_path: Path, tiny_llama: Callable[..., torch.nn.Module]
) -> None:
    path = tmp_path / "arm.safetensors"
    path.write_bytes(b"no safetensors at all")
    module = tiny_llama(vocab_size=8)
    assert read_position(path) == Position()  # and it is left for whoever loads it
    with pytest.raises(StoreError, match=r"damaged .* Delete it to start the arm again"):
        load_checkpoint(path, trained(module), make_optimizer(module))


def test_weights_that_are_not_trained_stay_out_of_it(
    tmp_path: Path, tiny_llama: Callable[..., torch.nn.Module]
) -> None:
    path = tmp_path / "arm.safetensors"
    module = tiny_llama(vocab_size=8)
    module.model.embed_tokens.requires_grad_(False)
    optimizer = make_optimizer(module)
    take_step(module, optimizer, seed=0)
    save_checkpoint(path, trained(module), optimizer, Position(step=1))
    other = tiny_llama(seed=5, vocab_size=8)
    other.model.embed_tokens.requires_grad_(False)
    frozen = other.model.embed_tokens.weight.clone()
    load_checkpoint(path, trained(other), make_optimizer(other))
    assert torch.equal(other.model.embed_tokens.weight, frozen)
    assert torch.equal(other.lm_head.weight, module.lm_head.weight)


def test_a_checkpoint_of_other_weights_is_refused(
    tmp_path: Path, tiny_llama: Callable[..., torch.nn.Module]
) -> None:
    path = tmp_path / "arm.safetensors"
    module = tiny_llama(vocab_size=8)
    save_checkpoint(path, trained(module), make_optimizer(module), Position(step=1))
    larger = tiny_llama(vocab_size=9)
    with pytest.raises(StoreError, match="is damaged"):
        load_checkpoint(path, trained(larger), make_optimizer(larger))


def test_a_checkpoint_that_cannot_be_written_is_one_clear_error(
    tmp_path: Path, tiny_llama: Callable[..., torch.nn.Module], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "arm.safetensors"
    module = tiny_llama(vocab_size=8)
    save_checkpoint(path, trained(module), make_optimizer(module), Position(step=1))

    def refuse(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", refuse)
    with pytest.raises(StoreError, match=r"could not be written: .*No space left.*Free some disk"):
        save_checkpoint(path, trained(module), make_optimizer(module), Position(step=2))
    assert read_position(path) == Position(step=1)
