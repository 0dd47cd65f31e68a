"""Models that trees do not fit are found out, and named."""

from collections.abc import Callable, Sequence

import pytest
import torch
from transformers import PreTrainedModel

from attrib.errors import ModelError
from attrib.sampling import exactness as exactness_module
from attrib.sampling.engine import Prompt, Request, SamplingParams, in_order
from attrib.sampling.exactness import check_exact
from attrib.sampling.packed import forward_tree
from attrib.sampling.prefix_tree import build_prefix_tree
from attrib.sampling.tree import sample

PROMPT = (1, 4, 2, 6)
REFUSED = ("Bloom", "Mpt", "Falcon", "Mamba", "GPTNeo", "Lfm2")

Builder = Callable[..., PreTrainedModel]
PlainLogprobs = Callable[..., torch.Tensor]


def ask(stream: str, token_ids: Sequence[int], first: int, stop: int) -> Request:
    return Request(stream, Prompt(None, "", tuple(token_ids)), first, stop)


def draw(module: PreTrainedModel, requests: Sequence[Request], **params: int) -> list:
    return list(in_order(sample(module, requests, SamplingParams(**params), 0, str, 64)))


@pytest.fixture(scope="module")
def llama(tiny_llama: Builder) -> PreTrainedModel:
    return tiny_llama(seed=2, vocab_size=50)


@pytest.mark.parametrize("architecture", REFUSED)
def test_models_a_packed_tree_does_not_fit_are_refused(
    architecture: str, build_model: Builder
) -> None:
    module = build_model(architecture)
    with pytest.raises(ModelError, match=f"cannot serve {module.config.model_type}") as caught:
        check_exact(module, PROMPT)
    assert "\n" not in str(caught.value)


def test_a_model_that_ignores_the_mask_is_refused(
    llama: PreTrainedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    forward = type(llama).forward

    def forgetful(self: PreTrainedModel, *args: object, **arguments: object) -> object:
        return forward(self, *args, **{**arguments, "attention_mask": None})

    monkeypatch.setattr(type(llama), "forward", forgetful)
    with pytest.raises(ModelError, match="cannot serve llama exactly"):
        check_exact(llama, (7, 8, 9))


@pytest.mark.parametrize("prompt", [(7,), (7, 7), (49, 3, 49)])
def test_the_probe_branches_whatever_the_prompt(
    prompt: tuple[int, ...], llama: PreTrainedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A probe of two equal branches would compare a chain with itself and find nothing."""
    probes: list[int] = []
    build = exactness_module.build_prefix_tree

    def counting(sequences: Sequence[Sequence[int]]) -> object:
        tree = build(sequences)
        probes.append(len(tree.token_N) - len(prompt))
        return tree

    monkeypatch.setattr(exactness_module, "build_prefix_tree", counting)
    check_exact(llama, prompt)
    assert probes[0] == 4


WINDOWED = [
    ("Mistral", {"sliding_window": 16}),
    ("Qwen2", {"use_sliding_window": True, "sliding_window": 16, "max_window_layers": 1}),
]


@pytest.mark.parametrize(("architecture", "config"), WINDOWED)
def test_within_its_window_a_windowed_model_is_exact(
    architecture: str,
    config: dict[str, object],
    build_model: Builder,
    plain_logprobs: PlainLogprobs,
) -> None:
    module = build_model(architecture, **config)
    prompt = PROMPT * 3
    check_exact(module, prompt)
    # The last new token is not fed back: 12 + 5 - 1 is just inside 16.
    [rollouts] = draw(module, [ask("q", prompt, 0, 50)], max_new_tokens=5)
    for rollout in rollouts:
        logprobs = plain_logprobs(module, [[*prompt, *rollout.token_ids]])[0, len(prompt) - 1 : -1]
        expected = sum(float(row[t]) for row, t in zip(logprobs, rollout.token_ids, strict=True))
        assert rollout.logprob == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize(("architecture", "config"), WINDOWED)
def test_an_active_window_is_refused(
    architecture: str, config: dict[str, object], build_model: Builder
) -> None:
    module = build_model(architecture, **config)
    requests = [ask("a", (1,), 0, 2), ask("b", PROMPT * 3, 0, 2)]
    with pytest.raises(ModelError, match=r"on 17 tokens: its attention window of 16"):
        draw(module, requests, max_new_tokens=6)
    with pytest.raises(ModelError, match=r"on 18 tokens: its attention window of 16"):
        check_exact(module, PROMPT * 4)
    tree = build_prefix_tree([[1] * 17])
    with pytest.raises(ModelError, match="attention window of 16"):
        forward_tree(module, tree, tree.leaf_Q)


def test_windows_that_no_layer_uses_do_not_matter(build_model: Builder) -> None:
    unused = {"use_sliding_window": True, "sliding_window": 4, "max_window_layers": 2}
    check_exact(build_model("Qwen2", **unused), PROMPT)
    check_exact(build_model("Qwen2", sliding_window=4), PROMPT)


def test_more_tokens_than_positions_are_refused(build_model: Builder) -> None:
    module = build_model("GPT2LMHead")
    requests = [ask("q", PROMPT, 0, 1)]
    with pytest.raises(ModelError, match="reads at most 128 tokens"):
        draw(module, requests, max_new_tokens=126)
    [[rollout]] = draw(module, requests, max_new_tokens=125)
    assert len(rollout.token_ids) == 125


def test_a_packed_tree_equals_one_forward_per_sequence(
    llama: PreTrainedModel, plain_logprobs: PlainLogprobs
) -> None:
    sequences = [[7, 8, 9, 1], [7, 8, 9, 2, 3, 4], [7, 8], [9], [7, 9, 9, 9, 9, 9, 9]]
    tree = build_prefix_tree(sequences)
    packed = forward_tree(llama, tree, tree.leaf_Q).log_softmax(-1)
    for row, sequence in zip(packed, sequences, strict=True):
        assert torch.allclose(row, plain_logprobs(llama, [sequence])[0, -1], atol=1e-4)
