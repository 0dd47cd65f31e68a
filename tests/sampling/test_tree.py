"""Tree sampling is exact: the oracle is a plain forward over every possible completion."""

from collections import Counter
from collections.abc import Callable, Sequence
from itertools import product

import numpy as np
import pytest
import torch
import transformers
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import stats
from transformers import PreTrainedModel

from attrib.errors import ConfigError, ModelError
from attrib.sampling import packed as packed_module
from attrib.sampling import tree as tree_module
from attrib.sampling.models import LanguageModel
from attrib.sampling.packed import check_exact, forward_tree
from attrib.sampling.prefix_tree import build_prefix_tree
from attrib.sampling.randomness import UNIFORMS_PER_DRAW, UniformStream
from attrib.sampling.tree import (
    FinishReason,
    Request,
    Rollout,
    SamplingParams,
    sample,
)

VOCABULARY = 7
ENDS = frozenset({0, 5})
PROMPT = (1, 4, 2, 6)
DEPTH = 3
SERVED = ("Llama", "Qwen2", "Qwen3", "Olmo2", "GPT2LMHead", "GPTNeoX", "Mistral")
REFUSED = ("Bloom", "Mpt", "Falcon", "Mamba", "GPTNeo", "Lfm2")
LARGEST_UNIFORM = 1 - 2.0**-53

Randomize = Callable[..., PreTrainedModel]
Builder = Callable[..., PreTrainedModel]


def build_model(architecture: str, randomize: Randomize, **config: object) -> PreTrainedModel:
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


def plain_logprobs(module: PreTrainedModel, tokens: Sequence[Sequence[int]]) -> torch.Tensor:
    """Return log p(next token) after every prefix, one plain forward per sequence length."""
    with torch.inference_mode():
        return module(torch.tensor(tokens), use_cache=False).logits.float().log_softmax(-1)


def completion_logprobs(
    module: PreTrainedModel, prompt: Sequence[int], temperature: float = 1.0
) -> dict[tuple[int, ...], float]:
    """Return log p of every completion of at most DEPTH tokens: the brute-force oracle."""
    full = list(product(range(VOCABULARY), repeat=DEPTH))
    logprobs = plain_logprobs(module, [[*prompt, *completion] for completion in full])
    scaled = (logprobs / temperature).log_softmax(-1)[:, len(prompt) - 1 : -1].double().numpy()
    found: dict[tuple[int, ...], float] = {}
    for row, completion in zip(scaled, full, strict=True):
        length = next((i + 1 for i, t in enumerate(completion) if t in ENDS), DEPTH)
        found[completion[:length]] = float(sum(row[i, completion[i]] for i in range(length)))
    assert np.isclose(np.exp(list(found.values())).sum(), 1.0)
    return found


def chi_square(observed: NDArray[np.float64], expected: NDArray[np.float64]) -> float:
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


def draw(
    module: PreTrainedModel,
    requests: Sequence[Request],
    max_live_rollouts: int,
    max_new_tokens: int = 8,
    **params: float,
) -> list[list[Rollout]]:
    settings = SamplingParams(max_new_tokens=max_new_tokens, end_token_ids=ENDS, **params)
    return list(sample(module, requests, settings, 5, max_live_rollouts))


def assert_finish_reasons(rollouts: Sequence[Rollout], max_new_tokens: int) -> None:
    for rollout in rollouts:
        stopped = rollout.token_ids[-1] in ENDS
        assert rollout.finish_reason == (FinishReason.STOP if stopped else FinishReason.LENGTH)
        assert stopped or len(rollout.token_ids) == max_new_tokens
        assert not ENDS.intersection(rollout.token_ids[:-1])


def assert_same_rollouts(first: Sequence[Rollout], second: Sequence[Rollout]) -> None:
    assert [r.index for r in first] == [r.index for r in second]
    assert [r.token_ids for r in first] == [r.token_ids for r in second]
    assert [r.finish_reason for r in first] == [r.finish_reason for r in second]
    assert np.allclose([r.logprob for r in first], [r.logprob for r in second], atol=1e-4)


@pytest.fixture(scope="module")
def llama(tiny_llama: Builder) -> PreTrainedModel:
    return tiny_llama(seed=2, vocab_size=50)


@pytest.fixture(scope="module")
def requests_of_all_kinds() -> list[Request]:
    """Prompts that are equal, share a prefix, are a prefix of another, or differ in length."""
    return [
        Request("a", (7, 8, 9, 10), 0, 40),
        Request("b", (7, 8, 9, 10), 0, 40),
        Request("c", (7, 8, 11), 0, 17),
        Request("d", (7, 8), 3, 30),
        Request("e", (12,), 0, 5),
        Request("f", (13, 7, 8, 9, 10, 14, 15, 16), 100, 133),
    ]


# --- the distribution ---------------------------------------------------------------------------


@pytest.mark.parametrize("temperature", [1.0, 0.7])
@pytest.mark.parametrize("architecture", SERVED)
def test_rollouts_follow_the_model(
    architecture: str, temperature: float, randomize: Randomize
) -> None:
    module = build_model(architecture, randomize)
    check_exact(module, PROMPT)
    at_temperature = completion_logprobs(module, PROMPT, temperature)
    assert 0.05 < max(np.exp(list(at_temperature.values()))) < 0.9, "neither flat nor certain"

    n = 20_000
    params = SamplingParams(temperature, DEPTH, ENDS)
    [rollouts] = sample(module, [Request("q", PROMPT, 0, n)], params, 1, n)
    counts = Counter(rollout.token_ids for rollout in rollouts)
    assert counts.keys() <= at_temperature.keys()
    observed = np.array([counts[completion] for completion in at_temperature], dtype=float)
    assert chi_square(observed, n * np.exp(list(at_temperature.values()))) > 1e-4

    at_one = completion_logprobs(module, PROMPT)
    expected = [at_one[rollout.token_ids] for rollout in rollouts]
    assert np.allclose([rollout.logprob for rollout in rollouts], expected, rtol=0, atol=1e-4)
    assert_finish_reasons(rollouts, DEPTH)


def test_logprob_is_that_of_a_teacher_forced_pass(
    llama: PreTrainedModel, requests_of_all_kinds: list[Request]
) -> None:
    drawn = draw(llama, requests_of_all_kinds, 64, max_new_tokens=12, temperature=1.3)
    for request, rollouts in zip(requests_of_all_kinds, drawn, strict=True):
        for rollout in rollouts:
            text = [*request.prompt, *rollout.token_ids]
            logprobs = plain_logprobs(llama, [text])[0, len(request.prompt) - 1 : -1]
            places = torch.arange(len(rollout.token_ids))
            expected = float(logprobs[places, torch.tensor(rollout.token_ids)].sum())
            assert rollout.logprob == pytest.approx(expected, abs=1e-4)


def test_two_rollouts_of_a_tree_are_independent(randomize: Randomize) -> None:
    """Merging prefixes must not couple rollouts: over many trees, pairs are a product."""
    module = build_model("Llama", randomize)
    trees = 4_000
    requests = [Request(f"q{i}", PROMPT, 0, 2) for i in range(trees)]
    params = SamplingParams(max_new_tokens=2)
    pairs = [
        (one.token_ids, other.token_ids) for one, other in sample(module, requests, params, 4, 100)
    ]
    tokens = np.arange(VOCABULARY)
    first = np.exp(plain_logprobs(module, [PROMPT])[0, -1].numpy())
    observed = Counter((one[0], other[0]) for one, other in pairs)
    table = np.array([[observed[i, j] for j in tokens] for i in tokens], dtype=float)
    assert chi_square(table.ravel(), trees * np.outer(first, first).ravel()) > 1e-4

    shared = int(first.argmax())  # the pairs that went to the same child, and drew again there
    second = np.exp(plain_logprobs(module, [[*PROMPT, shared]])[0, -1].numpy())
    again = Counter((a[1], b[1]) for a, b in pairs if a[0] == b[0] == shared)
    table = np.array([[again[i, j] for j in tokens] for i in tokens], dtype=float)
    assert table.sum() > 300
    assert chi_square(table.ravel(), table.sum() * np.outer(second, second).ravel()) > 1e-4


def test_neighbouring_rollouts_are_independent(randomize: Randomize) -> None:
    module = build_model("Llama", randomize)
    n = 20_000
    [rollouts] = sample(module, [Request("q", PROMPT, 0, n)], SamplingParams(1.0, 1), 9, n)
    first = np.exp(plain_logprobs(module, [PROMPT])[0, -1].numpy())
    pairs = Counter(
        (one.token_ids[0], other.token_ids[0])
        for one, other in zip(rollouts[::2], rollouts[1::2], strict=True)
    )
    observed = np.array([pairs[i, j] for i in range(VOCABULARY) for j in range(VOCABULARY)])
    assert chi_square(observed.astype(float), n / 2 * np.outer(first, first).ravel()) > 1e-4


# --- a rollout is a function of seed, stream and index --------------------------------------------


@pytest.mark.parametrize("max_live_rollouts", [1, 3, 16])
def test_rollouts_do_not_depend_on_the_packing(
    max_live_rollouts: int, llama: PreTrainedModel, requests_of_all_kinds: list[Request]
) -> None:
    together = draw(llama, requests_of_all_kinds, 10_000)
    packed = draw(llama, requests_of_all_kinds, max_live_rollouts)
    for request, one, other in zip(requests_of_all_kinds, together, packed, strict=True):
        assert [rollout.index for rollout in one] == list(range(request.first, request.stop))
        assert_same_rollouts(one, other)


def test_rollouts_do_not_depend_on_the_order_of_requests(
    llama: PreTrainedModel, requests_of_all_kinds: list[Request]
) -> None:
    in_order = draw(llama, requests_of_all_kinds, 32)
    order = np.random.default_rng(0).permutation(len(requests_of_all_kinds))
    shuffled = draw(llama, [requests_of_all_kinds[i] for i in order], 32)
    for place, i in enumerate(order):
        assert_same_rollouts(in_order[i], shuffled[place])


def test_ranges_join_to_the_whole(llama: PreTrainedModel) -> None:
    [whole] = draw(llama, [Request("q", (7, 8, 9), 0, 128)], 128)
    low, high = draw(llama, [Request("q", (7, 8, 9), 0, 64), Request("q", (7, 8, 9), 64, 128)], 128)
    [late] = draw(llama, [Request("q", (7, 8, 9), 100, 107)], 128)
    assert_same_rollouts(whole, [*low, *high])
    assert_same_rollouts(whole[100:107], late)


def test_a_longer_limit_only_continues_rollouts(llama: PreTrainedModel) -> None:
    [short] = draw(llama, [Request("q", (7, 8, 9), 0, 64)], 64, max_new_tokens=3)
    [long] = draw(llama, [Request("q", (7, 8, 9), 0, 64)], 64, max_new_tokens=9)
    for one, other in zip(short, long, strict=True):
        assert other.token_ids[: len(one.token_ids)] == one.token_ids


def test_streams_and_seeds_give_other_rollouts(llama: PreTrainedModel) -> None:
    one, other = draw(llama, [Request(s, (7, 8, 9), 0, 64) for s in ("a", "b")], 128)
    params = SamplingParams(max_new_tokens=8, end_token_ids=ENDS)
    [reseeded] = sample(llama, [Request("a", (7, 8, 9), 0, 64)], params, 6)
    texts = [[rollout.token_ids for rollout in rollouts] for rollouts in (one, other, reseeded)]
    assert texts[0] != texts[1]
    assert texts[0] != texts[2]


def test_packing_respects_both_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tree_module, "MAX_PACKED_PROMPT_TOKENS", 10)
    requests = [
        Request("a", (1,) * 4, 0, 7),
        Request("b", (1,) * 6, 5, 6),
        Request("c", (1,), 0, 2),
    ]
    batches = tree_module._pack(requests, 5)
    assert [[(p.owner, p.request.first, p.request.stop) for p in batch] for batch in batches] == [
        [(0, 0, 5)],
        [(0, 5, 7), (1, 5, 6)],  # 10 prompt tokens: full
        [(2, 0, 2)],
    ]


# --- greedy decoding, ends, limits ----------------------------------------------------------------


@pytest.mark.parametrize("architecture", ["Llama", "Qwen3", "GPT2LMHead", "GPTNeoX"])
def test_greedy_equals_generate(architecture: str, randomize: Randomize) -> None:
    module = build_model(architecture, randomize, vocab_size=40)
    prompts = [(7, 8, 9), (10,), (7, 8, 11, 12, 13), (20, 21)]
    requests = [Request(f"q{i}", prompt, 0, 2) for i, prompt in enumerate(prompts)]
    drawn = draw(module, requests, 128, max_new_tokens=10, temperature=0.0)
    for prompt, rollouts in zip(prompts, drawn, strict=True):
        [generated] = module.generate(
            torch.tensor([prompt]),
            max_new_tokens=10,
            do_sample=False,
            eos_token_id=sorted(ENDS),
            pad_token_id=0,
        )
        assert {r.token_ids for r in rollouts} == {tuple(generated[len(prompt) :].tolist())}


def test_rollouts_end_at_the_first_end_token(llama: PreTrainedModel) -> None:
    [rollouts] = draw(llama, [Request("q", (0, 5, 7), 0, 300)], 300, max_new_tokens=6)
    assert {r.finish_reason for r in rollouts} == {FinishReason.STOP, FinishReason.LENGTH}
    assert_finish_reasons(rollouts, 6)


def test_one_token_and_no_end_token(llama: PreTrainedModel) -> None:
    params = SamplingParams(max_new_tokens=1)
    [rollouts] = sample(llama, [Request("q", (7,), 0, 9)], params, 0)
    assert {len(r.token_ids) for r in rollouts} == {1}
    assert {r.finish_reason for r in rollouts} == {FinishReason.LENGTH}


def test_no_request_no_rollouts(llama: PreTrainedModel) -> None:
    assert list(sample(llama, [], SamplingParams(), 0)) == []


@pytest.mark.parametrize("temperature", [-0.1, float("nan"), float("inf"), float("-inf")])
def test_temperatures_without_meaning_are_refused(temperature: float) -> None:
    with pytest.raises(ConfigError, match=f"temperature {temperature}"):
        SamplingParams(temperature=temperature)


@pytest.mark.parametrize("max_new_tokens", [0, -1])
def test_no_new_tokens_are_refused(max_new_tokens: int) -> None:
    with pytest.raises(ConfigError, match=f"max_new_tokens {max_new_tokens} must be at least 1"):
        SamplingParams(max_new_tokens=max_new_tokens)


# --- one draw -----------------------------------------------------------------------------------


def draw_tokens(logits: NDArray[np.float64], n: int, temperature: float = 1.0) -> NDArray[np.int64]:
    uniform_RL = UniformStream(8, f"{len(logits)}").draw(0, 0, n)
    node_R = np.zeros(n, dtype=np.int64)
    return tree_module._draw_tokens(
        torch.tensor(logits[None], dtype=torch.float32), node_R, uniform_RL, temperature
    )


@pytest.mark.parametrize("temperature", [1.0, 0.5, 2.0])
@pytest.mark.parametrize("vocabulary", [1, 2, 3, 4, 5, 7, 1000])
def test_draws_follow_the_softmax(vocabulary: int, temperature: float) -> None:
    logits = np.random.default_rng(vocabulary).normal(0, 1.5, vocabulary)
    n = 40_000
    tokens = draw_tokens(logits, n, temperature)
    p = np.exp(logits / temperature) / np.exp(logits / temperature).sum()
    assert tokens.min() >= 0
    assert chi_square(np.bincount(tokens, minlength=vocabulary).astype(float), n * p) > 1e-4


def test_each_rollout_draws_from_its_own_node() -> None:
    logits_NV = torch.full((3, 5), -torch.inf)
    logits_NV[[0, 1, 2], [4, 0, 3]] = 0.0
    node_R = np.array([2, 0, 1, 1, 0])
    uniform_RL = UniformStream(0, "q").draw(0, 0, 5)
    for temperature in (0.0, 0.3, 1.0):
        tokens = tree_module._draw_tokens(logits_NV, node_R, uniform_RL, temperature)
        assert tokens.tolist() == [3, 4, 0, 0, 4]
    assert np.allclose(tree_module._logprobs(logits_NV, node_R, tokens), 0.0)


@given(
    logits=st.lists(
        st.one_of(st.floats(-200, 200, width=32), st.just(-np.inf), st.just(1e4), st.just(-1e4)),
        min_size=1,
        max_size=40,
    ).filter(lambda values: max(values) > -np.inf),
    edges=st.lists(
        st.sampled_from([0.0, 0.5, LARGEST_UNIFORM, 0.25]),
        min_size=UNIFORMS_PER_DRAW,
        max_size=UNIFORMS_PER_DRAW,
    ),
    temperature=st.sampled_from([1.0, 0.01, 1e-30, 3.0]),
)
def test_tokens_without_probability_are_never_drawn(
    logits: list[float], edges: list[float], temperature: float
) -> None:
    logits_NV = torch.tensor([logits], dtype=torch.float32)
    uniform_RL = np.concatenate([[edges], UniformStream(0, "q").draw(0, 0, 63)])
    node_R = np.zeros(64, dtype=np.int64)
    tokens = tree_module._draw_tokens(logits_NV, node_R, uniform_RL, temperature)
    assert tokens.max() < len(logits)
    drawn = np.array(logits)[tokens]
    assert (drawn > -np.inf).all()
    assert ((max(logits) - drawn) / temperature < 120).all(), "e^-120 is no float32 above zero"


@pytest.mark.parametrize("temperature", [0.0, 1.0])
@pytest.mark.parametrize("logits", [[0.0, np.nan], [-np.inf, -np.inf], [np.inf, 0.0]])
def test_logits_that_are_no_distribution_are_refused(
    logits: list[float], temperature: float
) -> None:
    with pytest.raises(ModelError, match=f"not finite at temperature {temperature}"):
        draw_tokens(np.array(logits), 4, temperature)


def test_a_temperature_that_overflows_is_refused() -> None:
    with pytest.raises(ModelError, match="not finite at temperature 1e-38"):
        draw_tokens(np.array([-20.0, 20.0]), 4, 1e-38)


def test_extreme_logits() -> None:
    assert set(draw_tokens(np.array([0.0, 1e4, -np.inf, -1e4]), 500)) == {1}
    balanced = draw_tokens(np.array([1e4, -np.inf, 1e4]), 4000)
    assert set(balanced) == {0, 2}
    assert stats.binomtest(int((balanced == 0).sum()), 4000).pvalue > 1e-3


# --- what is refused ----------------------------------------------------------------------------


@pytest.mark.parametrize("architecture", REFUSED)
def test_models_a_packed_tree_does_not_fit_are_refused(
    architecture: str, randomize: Randomize
) -> None:
    module = build_model(architecture, randomize)
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
    build = packed_module.build_prefix_tree

    def counting(sequences: Sequence[Sequence[int]]) -> object:
        tree = build(sequences)
        probes.append(len(tree.token_N) - len(prompt))
        return tree

    monkeypatch.setattr(packed_module, "build_prefix_tree", counting)
    check_exact(llama, prompt)
    assert probes == [4]


WINDOWED = [
    ("Mistral", {"sliding_window": 16}),
    ("Qwen2", {"use_sliding_window": True, "sliding_window": 16, "max_window_layers": 1}),
]


@pytest.mark.parametrize(("architecture", "config"), WINDOWED)
def test_within_its_window_a_windowed_model_is_exact(
    architecture: str, config: dict[str, object], randomize: Randomize
) -> None:
    module = build_model(architecture, randomize, **config)
    prompt = PROMPT * 3
    check_exact(module, prompt)
    # The last new token is not fed back: 12 + 5 - 1 is just inside 16.
    [rollouts] = draw(module, [Request("q", prompt, 0, 50)], 50, max_new_tokens=5)
    for rollout in rollouts:
        logprobs = plain_logprobs(module, [[*prompt, *rollout.token_ids]])[0, len(prompt) - 1 : -1]
        expected = sum(float(row[t]) for row, t in zip(logprobs, rollout.token_ids, strict=True))
        assert rollout.logprob == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize(("architecture", "config"), WINDOWED)
def test_an_active_window_is_refused(
    architecture: str, config: dict[str, object], randomize: Randomize
) -> None:
    module = build_model(architecture, randomize, **config)
    requests = [Request("a", (1,), 0, 2), Request("b", PROMPT * 3, 0, 2)]
    with pytest.raises(ModelError, match=r"on 17 tokens: its attention window of 16"):
        next(sample(module, requests, SamplingParams(max_new_tokens=6), 0))
    with pytest.raises(ModelError, match=r"on 18 tokens: its attention window of 16"):
        check_exact(module, PROMPT * 4)
    tree = build_prefix_tree([[1] * 17])
    with pytest.raises(ModelError, match="attention window of 16"):
        forward_tree(module, tree, tree.leaf_Q)


def test_windows_that_no_layer_uses_do_not_matter(randomize: Randomize) -> None:
    unused = {"use_sliding_window": True, "sliding_window": 4, "max_window_layers": 2}
    check_exact(build_model("Qwen2", randomize, **unused), PROMPT)
    check_exact(build_model("Qwen2", randomize, sliding_window=4), PROMPT)


def test_more_tokens_than_positions_are_refused(randomize: Randomize) -> None:
    module = build_model("GPT2LMHead", randomize)
    requests = [Request("q", PROMPT, 0, 1)]
    with pytest.raises(ModelError, match="reads at most 128 tokens"):
        next(sample(module, requests, SamplingParams(max_new_tokens=126), 0))
    [[rollout]] = sample(module, requests, SamplingParams(max_new_tokens=125), 0)
    assert len(rollout.token_ids) == 125


def test_a_packed_tree_equals_one_forward_per_sequence(llama: PreTrainedModel) -> None:
    sequences = [[7, 8, 9, 1], [7, 8, 9, 2, 3, 4], [7, 8], [9], [7, 9, 9, 9, 9, 9, 9]]
    tree = build_prefix_tree(sequences)
    packed = forward_tree(llama, tree, tree.leaf_Q).log_softmax(-1)
    for row, sequence in zip(packed, sequences, strict=True):
        assert torch.allclose(row, plain_logprobs(llama, [sequence])[0, -1], atol=1e-4)


# --- the embedded model -------------------------------------------------------------------------


def test_the_embedded_model(embedded_model: LanguageModel) -> None:
    tokenizer, module = embedded_model.tokenizer, embedded_model.module
    check_exact(module, tokenizer.encode("Which fact is asked for?"))
    text = "<|im_start|>user\nWhat is the capital of France?<|im_end|>\n<|im_start|>assistant\n"
    request = Request("france", tuple(tokenizer.encode(text)), 0, 32)
    params = SamplingParams(max_new_tokens=10, end_token_ids=embedded_model.end_token_ids)
    [together] = sample(module, [request], params, 0, 32)
    [split] = sample(module, [request], params, 0, 8)
    assert any("Paris" in tokenizer.decode(rollout.token_ids) for rollout in together)
    same = sum(a.token_ids == b.token_ids for a, b in zip(together, split, strict=True))
    assert same / 32 >= 0.999
    assert np.allclose([r.logprob for r in together], [r.logprob for r in split], atol=1e-3)
