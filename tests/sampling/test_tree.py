"""Tree sampling is exact: the oracle is a plain forward over every possible completion."""

from collections import Counter
from collections.abc import Callable, Sequence
from itertools import product

import numpy as np
import pytest
import torch
from transformers import PreTrainedModel

from attrib.errors import ConfigError, ModelError
from attrib.sampling import tree as tree_module
from attrib.sampling.engine import (
    Answered,
    FinishReason,
    Prompt,
    Request,
    Rollout,
    SamplingParams,
    in_order,
)
from attrib.sampling.exactness import check_exact
from attrib.sampling.models import LanguageModel
from attrib.sampling.tree import TreeEngine, default_live_nodes, sample

VOCABULARY = 7
ENDS = frozenset({0, 5})
PROMPT = (1, 4, 2, 6)
DEPTH = 3
SERVED = ("Llama", "Qwen2", "Qwen3", "Olmo2", "GPT2LMHead", "GPTNeoX", "Mistral")

Builder = Callable[..., PreTrainedModel]
PlainLogprobs = Callable[..., torch.Tensor]
ChiSquare = Callable[..., float]


def ask(stream: str, token_ids: Sequence[int], first: int, stop: int) -> Request:
    return Request(stream, Prompt(None, "", tuple(token_ids)), first, stop)


def spell(token_ids: Sequence[int]) -> str:
    """Decode as letters: a, b, c, …"""
    return "".join(chr(ord("a") + token) for token in token_ids)


def run(
    module: PreTrainedModel,
    requests: Sequence[Request],
    params: SamplingParams,
    seed: int = 5,
    max_live_nodes: int = 256,
) -> list[list[Rollout]]:
    return list(in_order(sample(module, requests, params, seed, spell, max_live_nodes)))


def draw(
    module: PreTrainedModel,
    requests: Sequence[Request],
    max_live_nodes: int = 256,
    max_new_tokens: int = 8,
    **params: object,
) -> list[list[Rollout]]:
    settings = SamplingParams(max_new_tokens=max_new_tokens, end_token_ids=ENDS, **params)
    return run(module, requests, settings, max_live_nodes=max_live_nodes)


def completion_logprobs(
    plain: PlainLogprobs, module: PreTrainedModel, params: SamplingParams
) -> dict[tuple[int, ...], float]:
    """Return log p of every completion of at most DEPTH tokens: the brute-force oracle."""
    full = list(product(range(VOCABULARY), repeat=DEPTH))
    logprobs = plain(module, [[*PROMPT, *completion] for completion in full])
    rows = logprobs[:, len(PROMPT) - 1 : -1].double().numpy()
    found: dict[tuple[int, ...], float] = {}
    for row, completion in zip(rows, full, strict=True):
        length = next((i + 1 for i, t in enumerate(completion) if t in ENDS), DEPTH)
        p = [truncate(np.exp(row[i]), params)[completion[i]] for i in range(length)]
        found[completion[:length]] = float(np.log(p).sum()) if min(p) > 0 else -np.inf
    assert np.isclose(np.exp(list(found.values())).sum(), 1.0)
    return found


def truncate(p: np.ndarray, params: SamplingParams) -> np.ndarray:
    """Return the distribution at a temperature, within top-k, within the nucleus."""
    p = p ** (1 / params.temperature)
    order = np.argsort(-p)
    if params.top_k:
        p[order[params.top_k :]] = 0.0
    p /= p.sum()
    mass = 0.0
    for token in order:
        if mass >= params.top_p:
            p[token] = 0.0
        mass += p[token]
    return p / p.sum()


def assert_finish_reasons(rollouts: Sequence[Rollout], max_new_tokens: int) -> None:
    for rollout in rollouts:
        stopped = rollout.token_ids[-1] in ENDS
        assert rollout.finish_reason == (FinishReason.STOP if stopped else FinishReason.LENGTH)
        assert stopped or len(rollout.token_ids) == max_new_tokens
        assert not ENDS.intersection(rollout.token_ids[:-1])
        assert rollout.tokens == len(rollout.token_ids)


def assert_same_rollouts(first: Sequence[Rollout], second: Sequence[Rollout]) -> None:
    assert [r.index for r in first] == [r.index for r in second]
    assert [r.token_ids for r in first] == [r.token_ids for r in second]
    assert [r.text for r in first] == [r.text for r in second]
    assert [r.finish_reason for r in first] == [r.finish_reason for r in second]
    assert np.allclose([r.logprob for r in first], [r.logprob for r in second], atol=1e-4)


@pytest.fixture(scope="module")
def llama(tiny_llama: Builder) -> PreTrainedModel:
    return tiny_llama(seed=2, vocab_size=50)


@pytest.fixture(scope="module")
def requests_of_all_kinds() -> list[Request]:
    """Prompts that are equal, share a prefix, are a prefix of another, or differ in length."""
    return [
        ask("a", (7, 8, 9, 10), 0, 40),
        ask("b", (7, 8, 9, 10), 0, 40),
        ask("c", (7, 8, 11), 0, 17),
        ask("d", (7, 8), 3, 30),
        ask("e", (12,), 0, 5),
        ask("f", (13, 7, 8, 9, 10, 14, 15, 16), 100, 133),
    ]


# --- the distribution ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    "settings",
    [{}, {"temperature": 0.7}, {"top_p": 0.8}, {"temperature": 1.4, "top_k": 4, "top_p": 0.9}],
    ids=str,
)
@pytest.mark.parametrize("architecture", SERVED)
def test_rollouts_follow_the_model(
    architecture: str,
    settings: dict[str, float],
    build_model: Builder,
    plain_logprobs: PlainLogprobs,
    chi_square: ChiSquare,
) -> None:
    module = build_model(architecture)
    check_exact(module, PROMPT)
    params = SamplingParams(max_new_tokens=DEPTH, end_token_ids=ENDS, **settings)
    wanted = completion_logprobs(plain_logprobs, module, params)
    assert 0.05 < max(np.exp(list(wanted.values()))) < 0.9, "neither flat nor certain"

    n = 20_000
    [rollouts] = run(module, [ask("q", PROMPT, 0, n)], params, 1)
    counts = Counter(rollout.token_ids for rollout in rollouts)
    assert counts.keys() <= wanted.keys()
    observed = np.array([counts[completion] for completion in wanted], dtype=float)
    assert chi_square(observed, n * np.exp(list(wanted.values()))) > 1e-4

    plain = completion_logprobs(plain_logprobs, module, SamplingParams())
    expected = [plain[rollout.token_ids] for rollout in rollouts]
    assert np.allclose([rollout.logprob for rollout in rollouts], expected, rtol=0, atol=1e-4)
    assert_finish_reasons(rollouts, DEPTH)


def test_logprob_is_that_of_a_teacher_forced_pass(
    llama: PreTrainedModel,
    requests_of_all_kinds: list[Request],
    plain_logprobs: PlainLogprobs,
) -> None:
    drawn = draw(llama, requests_of_all_kinds, 64, max_new_tokens=12, temperature=1.3, top_k=20)
    for request, rollouts in zip(requests_of_all_kinds, drawn, strict=True):
        prompt = request.prompt.token_ids
        for rollout in rollouts:
            logprobs = plain_logprobs(llama, [[*prompt, *rollout.token_ids]])[0]
            places = torch.arange(len(rollout.token_ids)) + len(prompt) - 1
            expected = float(logprobs[places, torch.tensor(rollout.token_ids)].sum())
            assert rollout.logprob == pytest.approx(expected, abs=1e-4)


def test_two_rollouts_of_a_tree_are_independent(
    build_model: Builder, plain_logprobs: PlainLogprobs, chi_square: ChiSquare
) -> None:
    """Merging prefixes must not couple rollouts: over many trees, pairs are a product."""
    module = build_model("Llama")
    trees = 4_000
    requests = [ask(f"q{i}", PROMPT, 0, 2) for i in range(trees)]
    pairs = [
        (one.token_ids, other.token_ids)
        for one, other in run(module, requests, SamplingParams(max_new_tokens=2), 4)
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


def test_neighbouring_rollouts_are_independent(
    build_model: Builder, plain_logprobs: PlainLogprobs, chi_square: ChiSquare
) -> None:
    module = build_model("Llama")
    n = 20_000
    [rollouts] = run(module, [ask("q", PROMPT, 0, n)], SamplingParams(max_new_tokens=1), 9)
    first = np.exp(plain_logprobs(module, [PROMPT])[0, -1].numpy())
    pairs = Counter(
        (one.token_ids[0], other.token_ids[0])
        for one, other in zip(rollouts[::2], rollouts[1::2], strict=True)
    )
    observed = np.array([pairs[i, j] for i in range(VOCABULARY) for j in range(VOCABULARY)])
    assert chi_square(observed.astype(float), n / 2 * np.outer(first, first).ravel()) > 1e-4


# --- a rollout is a function of seed, stream and index --------------------------------------------


@pytest.mark.parametrize("max_live_nodes", [1, 3, 16])
def test_rollouts_do_not_depend_on_the_batch(
    max_live_nodes: int, llama: PreTrainedModel, requests_of_all_kinds: list[Request]
) -> None:
    together = draw(llama, requests_of_all_kinds, 10_000)
    batched = draw(llama, requests_of_all_kinds, max_live_nodes)
    for request, one, other in zip(requests_of_all_kinds, together, batched, strict=True):
        assert [rollout.index for rollout in one] == list(range(request.first, request.stop))
        assert_same_rollouts(one, other)


def test_rollouts_do_not_depend_on_how_prompts_enter(
    llama: PreTrainedModel, requests_of_all_kinds: list[Request], monkeypatch: pytest.MonkeyPatch
) -> None:
    together = draw(llama, requests_of_all_kinds)
    monkeypatch.setattr(tree_module, "MAX_PACKED_PROMPT_TOKENS", 6)
    for one, other in zip(together, draw(llama, requests_of_all_kinds), strict=True):
        assert_same_rollouts(one, other)


def test_rollouts_do_not_depend_on_the_order_of_requests(
    llama: PreTrainedModel, requests_of_all_kinds: list[Request]
) -> None:
    forward = draw(llama, requests_of_all_kinds, 32)
    order = np.random.default_rng(0).permutation(len(requests_of_all_kinds))
    shuffled = draw(llama, [requests_of_all_kinds[i] for i in order], 32)
    for place, i in enumerate(order):
        assert_same_rollouts(forward[i], shuffled[place])


def test_ranges_join_to_the_whole(llama: PreTrainedModel) -> None:
    [whole] = draw(llama, [ask("q", (7, 8, 9), 0, 128)])
    low, high = draw(llama, [ask("q", (7, 8, 9), 0, 64), ask("q", (7, 8, 9), 64, 128)])
    [late] = draw(llama, [ask("q", (7, 8, 9), 100, 107)])
    assert_same_rollouts(whole, [*low, *high])
    assert_same_rollouts(whole[100:107], late)


def test_a_longer_limit_only_continues_rollouts(llama: PreTrainedModel) -> None:
    [short] = draw(llama, [ask("q", (7, 8, 9), 0, 64)], max_new_tokens=3)
    [long] = draw(llama, [ask("q", (7, 8, 9), 0, 64)], max_new_tokens=9)
    for one, other in zip(short, long, strict=True):
        assert other.token_ids[: len(one.token_ids)] == one.token_ids


def test_streams_and_seeds_give_other_rollouts(llama: PreTrainedModel) -> None:
    one, other = draw(llama, [ask(s, (7, 8, 9), 0, 64) for s in ("a", "b")])
    params = SamplingParams(max_new_tokens=8, end_token_ids=ENDS)
    [reseeded] = run(llama, [ask("a", (7, 8, 9), 0, 64)], params, 6)
    texts = [[rollout.token_ids for rollout in rollouts] for rollouts in (one, other, reseeded)]
    assert texts[0] != texts[1]
    assert texts[0] != texts[2]


# --- the work and the memory it takes -------------------------------------------------------------


@pytest.fixture
def count_rows(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Return a list that gets the number of rows of every step."""
    rows: list[int] = []
    real = tree_module.forward_step

    def counting(module: PreTrainedModel, token_N: torch.Tensor, *rest: object) -> torch.Tensor:
        rows.append(len(token_N))
        return real(module, token_N, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(tree_module, "forward_step", counting)
    return rows


@pytest.mark.parametrize("max_live_nodes", [4, 64, 10_000])
def test_each_distinct_prefix_is_run_once(
    max_live_nodes: int,
    llama: PreTrainedModel,
    requests_of_all_kinds: list[Request],
    count_rows: list[int],
) -> None:
    drawn = draw(llama, requests_of_all_kinds, max_live_nodes)
    prefixes = {
        (position, rollout.token_ids[:length])
        for position, rollouts in enumerate(drawn)
        for rollout in rollouts
        for length in range(len(rollout.token_ids))  # the last token is not run
    }
    assert sum(count_rows) == len(prefixes)
    assert max(count_rows) <= max_live_nodes


def test_steps_are_full_while_there_is_work(llama: PreTrainedModel, count_rows: list[int]) -> None:
    draw(llama, [ask(f"q{i}", (7, 8, i), 0, 50) for i in range(40)], 32)
    assert np.mean(np.array(count_rows[:-20]) == 32) > 0.95


def test_many_rollouts_of_one_question_take_bounded_memory(
    llama: PreTrainedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Slots hold paths of waiting nodes only: depth first, however many rollouts there are."""
    caches = []
    real = tree_module.SlotCache

    def keep() -> object:
        caches.append(real())
        return caches[-1]

    monkeypatch.setattr(tree_module, "SlotCache", keep)
    [rollouts] = draw(llama, [ask("q", (7, 8, 9), 0, 3_000)], 16, max_new_tokens=6)
    prefixes = {r.token_ids[:length] for r in rollouts for length in range(len(r.token_ids))}
    assert len(prefixes) > 4_000
    assert caches[0].capacity < 600


def test_memory_is_given_back_from_question_to_question(
    llama: PreTrainedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    caches = []
    real = tree_module.SlotCache
    monkeypatch.setattr(tree_module, "SlotCache", lambda: caches.append(real()) or caches[-1])
    monkeypatch.setattr(tree_module, "MAX_PACKED_PROMPT_TOKENS", 40)
    for questions in (8, 80):
        draw(llama, [ask(f"q{i}", (7, 8, 9, i % 50), 0, 20) for i in range(questions)], 16)
    assert caches[1].capacity <= 2 * caches[0].capacity


def test_requests_come_as_they_complete(llama: PreTrainedModel) -> None:
    requests = [ask(f"q{i}", (7, 8, i), 0, 30) for i in range(30)]
    params = SamplingParams(max_new_tokens=8, end_token_ids=ENDS)
    drawing = sample(llama, requests, params, 0, spell, 32)
    first = next(drawing)
    assert isinstance(first, Answered)
    assert first.position < 5, "the oldest question is the most urgent"
    positions = [first.position, *(answered.position for answered in drawing)]
    assert sorted(positions) == list(range(30))


def test_the_default_width_follows_the_memory(
    llama: PreTrainedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    import psutil

    assert default_live_nodes(llama, 16) == 256
    node = 4 * (2 * 2 * 2 * 8 * 17 + 4 * 50)  # keys and values of a path, and logits
    for nodes in (1, 10, 100):
        free = type("Memory", (), {"available": 4 * node * nodes + 3})
        monkeypatch.setattr(psutil, "virtual_memory", lambda free=free: free)
        assert default_live_nodes(llama, 16) == nodes
    monkeypatch.setattr(psutil, "virtual_memory", lambda: type("Memory", (), {"available": 0}))
    assert default_live_nodes(llama, 16) == 1


# --- greedy decoding, ends, limits ----------------------------------------------------------------


@pytest.mark.parametrize("architecture", ["Llama", "Qwen3", "GPT2LMHead", "GPTNeoX"])
def test_greedy_equals_generate(architecture: str, build_model: Builder) -> None:
    module = build_model(architecture, vocab_size=40)
    prompts = [(7, 8, 9), (10,), (7, 8, 11, 12, 13), (20, 21)]
    requests = [ask(f"q{i}", prompt, 0, 2) for i, prompt in enumerate(prompts)]
    drawn = draw(module, requests, max_new_tokens=10, temperature=0.0)
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
    [rollouts] = draw(llama, [ask("q", (0, 5, 7), 0, 300)], max_new_tokens=6)
    assert {r.finish_reason for r in rollouts} == {FinishReason.STOP, FinishReason.LENGTH}
    assert_finish_reasons(rollouts, 6)


def test_stop_strings_end_rollouts_where_they_first_appear(llama: PreTrainedModel) -> None:
    """The oracle: the same rollouts without stop strings, cut by hand."""
    request = ask("q", (7, 8, 9), 0, 2_000)
    free = run(llama, [request], SamplingParams(max_new_tokens=6, end_token_ids=ENDS))[0]
    stops = ("ab", spell([30]), spell([12, 13]), spell(free[0].token_ids[:2]))
    params = SamplingParams(max_new_tokens=6, end_token_ids=ENDS, stop=stops)
    [cut] = run(llama, [request], params)
    ended = 0
    for whole, rollout in zip(free, cut, strict=True):
        places = [i for i in range(1, 7) if any(s in spell(whole.token_ids[:i]) for s in stops)]
        if places and places[0] <= len(whole.token_ids):
            ended += 1
            assert rollout.token_ids == whole.token_ids[: places[0]]
            assert rollout.finish_reason == FinishReason.STOP
            text = spell(rollout.token_ids)
            assert rollout.text == text[: min(text.find(s) for s in stops if s in text)]
        else:
            assert (rollout.token_ids, rollout.finish_reason) == (
                whole.token_ids,
                whole.finish_reason,
            )
            assert rollout.text == spell(rollout.token_ids)
    assert 50 < ended < 1_950


def test_one_token_and_no_end_token(llama: PreTrainedModel) -> None:
    [rollouts] = run(llama, [ask("q", (7,), 0, 9)], SamplingParams(max_new_tokens=1))
    assert {len(r.token_ids) for r in rollouts} == {1}
    assert {r.finish_reason for r in rollouts} == {FinishReason.LENGTH}


def test_no_request_no_rollouts(llama: PreTrainedModel) -> None:
    assert run(llama, [], SamplingParams()) == []


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        *(({"temperature": t}, f"temperature {t}") for t in (-0.1, float("nan"), float("inf"))),
        *(({"max_new_tokens": t}, f"max_new_tokens {t} must be at least 1") for t in (0, -1)),
        *(({"top_p": p}, f"top_p {p} must") for p in (0.0, -1.0, 1.1, float("nan"))),
        ({"top_k": -1}, "top_k -1 must"),
        ({"stop": ("a", "")}, "must not be empty"),
    ],
    ids=str,
)
def test_parameters_without_meaning_are_refused(settings: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        SamplingParams(**settings)  # type: ignore[arg-type]


def test_too_little_memory_names_the_setting(
    llama: PreTrainedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> torch.Tensor:
        raise torch.OutOfMemoryError

    monkeypatch.setattr(tree_module, "forward_step", fail)
    with pytest.raises(ModelError, match=r"Lower --max-live-nodes \(now 16\)"):
        draw(llama, [ask("q", (7, 8), 0, 4)], 16)


# --- bfloat16, and the embedded model -------------------------------------------------------------


def test_bfloat16_follows_its_own_model(
    build_model: Builder, plain_logprobs: PlainLogprobs, chi_square: ChiSquare
) -> None:
    module = build_model("Llama").to(torch.bfloat16)
    check_exact(module, PROMPT)
    params = SamplingParams(max_new_tokens=DEPTH, end_token_ids=ENDS)
    wanted = completion_logprobs(plain_logprobs, module, params)
    [rollouts] = run(module, [ask("q", PROMPT, 0, 4_000)], params, 1)
    counts = Counter(rollout.token_ids for rollout in rollouts)
    observed = np.array([counts[completion] for completion in wanted], dtype=float)
    assert chi_square(observed, 4_000 * np.exp(list(wanted.values()))) > 1e-4


def test_the_embedded_model(embedded_model: LanguageModel) -> None:
    tokenizer = embedded_model.tokenizer
    text = "<|im_start|>user\nWhat is the capital of France?<|im_end|>\n<|im_start|>assistant\n"
    request = ask("france", tokenizer.encode(text), 0, 32)
    params = SamplingParams(max_new_tokens=10, end_token_ids=embedded_model.end_token_ids)
    [wide] = in_order(TreeEngine(embedded_model).respond([request], params, 0))
    [narrow] = in_order(TreeEngine(embedded_model, 8).respond([request], params, 0))
    assert any("Paris" in rollout.text for rollout in wide)
    assert not any("<|im_end|>" in rollout.text for rollout in wide)
    same = sum(a.token_ids == b.token_ids for a, b in zip(wide, narrow, strict=True))
    assert same / 32 >= 0.999
    assert np.allclose([r.logprob for r in wide], [r.logprob for r in narrow], atol=1e-3)
