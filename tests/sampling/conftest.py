"""Fixtures of the sampling tests: models of many architectures, and oracles to compare with."""

from collections.abc import Callable, Sequence

import numpy as np
import pytest
import torch
import transformers
from numpy.typing import NDArray
from scipy import stats
from transformers import PreTrainedModel

VOCABULARY = 7

Randomize = Callable[..., PreTrainedModel]
Builder = Callable[..., PreTrainedModel]


@pytest.fixture(scope="session")
def build_model(randomize: Randomize) -> Builder:
    """Return `build(architecture, **config)`: a random two-layer model of transformers."""
    return lambda architecture, **config: _build(architecture, randomize, **config)


@pytest.fixture(scope="session")
def plain_logprobs() -> Callable[[PreTrainedModel, Sequence[Sequence[int]]], torch.Tensor]:
    """Return `plain(module, sequences)`: log p(next token) after every prefix, without tricks."""
    return _plain_logprobs


@pytest.fixture(scope="session")
def chi_square() -> Callable[[NDArray[np.float64], NDArray[np.float64]], float]:
    """Return `chi_square(observed, expected)`, which gives a p-value."""
    return _chi_square


def _build(architecture: str, randomize: Randomize, **config: object) -> PreTrainedModel:
    """Return a random two-layer model of an architecture of transformers."""
    shape: dict[str, object] = {
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
    }
    grouped = {**shape, "num_key_value_heads": 2}
    gpt = {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 128}
    settings: dict[str, dict[str, object]] = {
        "Llama": grouped,
        "Qwen2": grouped,
        "Qwen3": {**grouped, "head_dim": 8},
        "Olmo2": grouped,
        "GPT2LMHead": gpt,
        "GPTNeoX": shape,
        "Mistral": {**grouped, "sliding_window": None},
        "Bloom": {"hidden_size": 32, "n_layer": 2, "n_head": 4},
        "Mpt": {"d_model": 32, "n_layers": 2, "n_heads": 4, "max_seq_len": 128},
        "Falcon": {**shape, "alibi": True},
        "Mamba": {"hidden_size": 32, "num_hidden_layers": 2, "state_size": 4},
        "GPTNeo": {
            "hidden_size": 32,
            "num_layers": 2,
            "num_heads": 4,
            "attention_types": [[["global", "local"], 1]],
        },
        "Lfm2": {**grouped, "layer_types": ["conv", "full_attention"]},
    }
    config_class = getattr(transformers, architecture.removesuffix("LMHead") + "Config")
    model_class = getattr(
        transformers, architecture + ("Model" if "LMHead" in architecture else "ForCausalLM")
    )
    special = {"bos_token_id": None, "eos_token_id": None, "pad_token_id": None}
    filled = {"vocab_size": VOCABULARY, **special, **settings[architecture], **config}
    return randomize(model_class(config_class(**filled)), seed=3)


def _plain_logprobs(module: PreTrainedModel, tokens: Sequence[Sequence[int]]) -> torch.Tensor:
    """Return log p(next token) after every prefix, one plain forward per sequence length."""
    with torch.inference_mode():
        return module(torch.tensor(tokens), use_cache=False).logits.float().log_softmax(-1)


def _chi_square(observed: NDArray[np.float64], expected: NDArray[np.float64]) -> float:
    """Return the p-value of counts against expectations; cells below 5 expected are merged."""
    assert (observed[expected == 0] == 0).all()
    small = expected < 5
    observed = np.append(observed[~small], observed[small].sum()).astype(np.float64)
    expected = np.append(expected[~small], expected[small].sum()).astype(np.float64)
    kept = expected > 0
    if kept.sum() == 1:
        return 1.0
    scaled = expected[kept] * (observed[kept].sum() / expected[kept].sum())
    return float(stats.chisquare(observed[kept], scaled).pvalue)
