"""Fixtures for every test: a home of its own, no network, and tiny models with random weights."""

import importlib.util
import os
import re
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import platformdirs
import pytest

from attrib.sampling.bucketing import BucketSettings, bucket_questions
from attrib.sampling.models import EMBEDDED_NAME, EMBEDDED_PACKAGE, LanguageModel, load_model
from attrib.sampling.rollouts import SampleSettings, draw_rollouts
from attrib.store import Store
from tests.local_server import Call, LocalServer, Reply, answer_well

if TYPE_CHECKING:
    import torch
    from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

os.environ["HF_HUB_OFFLINE"] = "1"  # read once, when huggingface_hub is first imported
os.environ["OMP_NUM_THREADS"] = "1"  # tiny tensors are faster, and undisturbed, on one thread

SPECIAL_TOKENS = ("<pad>", "<unk>", "<|im_start|>", "<|im_end|>")
MARKS = (" ", "\n", "?", ".", ",", ":", "{", "}", "<", ">")
CONTROL_TOKENS = (*SPECIAL_TOKENS, *MARKS, "system", "user", "assistant", "Q", "A")
WORDS = (
    *("What", "Which", "is", "the", "of", "capital", "fact", "asked", "for", "please"),
    *("Answer", "question", "with", "answer", "only", "as", "short", "possible", "it"),
    *("France", "Peru", "Kenya", "Norway", "Paris", "Lima", "Nairobi", "Oslo", "blue", "green"),
)
CHAT_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}"
    "<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def pytest_addoption(parser: pytest.Parser) -> None:
    """Let `make check-kills` say how often it kills."""
    parser.addoption("--kills", type=int, default=0, help="kills of a study, for make check-kills")


@pytest.fixture(autouse=True)
def attrib_home(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give every test a cache folder of its own, so that none sees the user's."""
    home = tmp_path_factory.mktemp("home")
    monkeypatch.setenv("ATTRIB_HOME", str(home))
    return home


@pytest.fixture(scope="session")
def randomize() -> Callable[..., "torch.nn.Module"]:
    """Return `randomize(module, seed, scale)`, which makes a module's distributions peaked.

    At the usual scale of 0.02 every next token is about as likely and attention hardly matters, so
    that a wrong mask or position would go unnoticed.
    """
    import torch

    def fill(module: torch.nn.Module, seed: int, scale: float = 0.3) -> torch.nn.Module:
        generator = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for name, parameter in module.named_parameters():
                if parameter.dim() >= 2 or name.endswith("bias"):
                    parameter.copy_(torch.randn(parameter.shape, generator=generator) * scale)
        return module.eval()

    return fill


@pytest.fixture(scope="session")
def tiny_llama(randomize: Callable[..., "torch.nn.Module"]) -> Callable[..., "LlamaForCausalLM"]:
    """Return `tiny_llama(seed, vocab_size, scale, **config)`: two random float32 layers."""
    from transformers import LlamaConfig, LlamaForCausalLM

    def build(
        seed: int = 0,
        vocab_size: int = len(CONTROL_TOKENS) + len(WORDS),
        scale: float = 0.3,
        **config: object,
    ) -> LlamaForCausalLM:
        defaults: dict[str, object] = {
            "hidden_size": 32,
            "intermediate_size": 64,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "max_position_embeddings": 512,
            "bos_token_id": None,
            "eos_token_id": min(SPECIAL_TOKENS.index("<|im_end|>"), vocab_size - 1),
            "pad_token_id": SPECIAL_TOKENS.index("<pad>"),
        }
        module = LlamaForCausalLM(LlamaConfig(vocab_size=vocab_size, **{**defaults, **config}))
        return randomize(module, seed, scale)

    return build


@pytest.fixture(scope="session")
def word_tokenizer() -> Callable[..., "PreTrainedTokenizerFast"]:
    """Return `word_tokenizer(words, chat_template)`: every word, mark and blank is one token."""
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    def build(
        words: Sequence[str] = WORDS, chat_template: str | None = CHAT_TEMPLATE
    ) -> PreTrainedTokenizerFast:
        vocabulary = {text: index for index, text in enumerate((*CONTROL_TOKENS, *words))}
        backend = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
        pieces = Regex(r"\s|\w+|[^\w\s]")
        backend.pre_tokenizer = pre_tokenizers.Split(pieces, behavior="removed", invert=True)
        backend.decoder = decoders.Fuse()
        tokenizer = PreTrainedTokenizerFast(
            tokenizer_object=backend,
            pad_token="<pad>",
            unk_token="<unk>",
            eos_token="<|im_end|>",
            additional_special_tokens=["<|im_start|>"],
        )
        tokenizer.chat_template = chat_template
        return tokenizer

    return build


@pytest.fixture(scope="session")
def tiny_model_folder(
    tmp_path_factory: pytest.TempPathFactory,
    tiny_llama: Callable[..., "LlamaForCausalLM"],
    word_tokenizer: Callable[..., "PreTrainedTokenizerFast"],
) -> Path:
    """Save a tiny chat model where `--model FOLDER` finds it; copy it before changing anything."""
    folder = tmp_path_factory.mktemp("tiny-model")
    tiny_llama(seed=1).save_pretrained(folder)
    word_tokenizer().save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def embedded_model() -> LanguageModel:
    """Load the embedded model, converted once into the user's own cache (30 s, 0.5 GB).

    `ATTRIB_TEST_HOME` names another cache folder.
    """
    if importlib.util.find_spec(EMBEDDED_PACKAGE) is None:
        pytest.skip(f"the wheel {EMBEDDED_PACKAGE} is not installed")
    home = os.environ.get("ATTRIB_TEST_HOME") or platformdirs.user_cache_path("attrib")
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setenv("ATTRIB_HOME", str(home))
        return load_model(EMBEDDED_NAME, "cpu")


@pytest.fixture(scope="session")
def save_answering_model(tiny_llama: Callable[..., "LlamaForCausalLM"]) -> Callable[..., Path]:
    """Return `save(folder, answers, chat_template)`: a random model that answers in words.

    It knows every word of the questions on continents and mostly answers with one of `answers`, by
    chance with some more than with others: with the continents' names some questions are answered
    right now and then, with other words none ever is. It is asked through a chat template where it
    is given one.
    """
    import torch
    from tokenizers import Regex, Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    from attrib.data.questions import load_worldfacts

    texts = [q.text for q in load_worldfacts() if q.relation == "continent"]
    words = {word for text in texts for word in re.findall(r"\w+|[^\w\s]", text)}

    def save(folder: Path, answers: list[str], chat_template: str | None = None) -> Path:
        special = [*SPECIAL_TOKENS, " ", "\n", "Q", "A", ":"]
        vocabulary = [*special, *answers, *sorted(words.difference(special, answers))]
        ids = {text: index for index, text in enumerate(vocabulary)}
        backend = Tokenizer(models.WordLevel(ids, unk_token="<unk>"))
        backend.pre_tokenizer = pre_tokenizers.Split(
            Regex(r"\s|\w+|[^\w\s]"), behavior="removed", invert=True
        )
        tokenizer = PreTrainedTokenizerFast(
            tokenizer_object=backend, unk_token="<unk>", eos_token="<|im_end|>"
        )
        tokenizer.chat_template = chat_template
        tokenizer.save_pretrained(folder)

        module = tiny_llama(vocab_size=len(vocabulary), scale=0.1)
        usual = [ids[text] for text in (*answers, "<|im_end|>")]
        rare = sorted(set(ids.values()).difference(usual))
        with torch.no_grad():
            module.model.embed_tokens.weight[:, 0] = 4.0  # makes feature 0 a bias
            for layer in module.model.layers:
                layer.self_attn.o_proj.weight[0] = 0.0
                layer.mlp.down_proj.weight[0] = 0.0
            module.lm_head.weight[usual, 0] = 0.0
            module.lm_head.weight[rare, 0] = -2.0
        module.save_pretrained(folder)
        return folder

    return save


@pytest.fixture(scope="session")
def continent_model(
    tmp_path_factory: pytest.TempPathFactory, save_answering_model: Callable[..., Path]
) -> Path:
    """Save a random model that is right about a continent now and then."""
    folder = tmp_path_factory.mktemp("continent-model")
    return save_answering_model(folder, ["Africa", "Asia", "Europe", "Oceania"])


@pytest.fixture(scope="session")
def chatting_model(
    tmp_path_factory: pytest.TempPathFactory, save_answering_model: Callable[..., Path]
) -> Path:
    """Save such a model that is asked through a chat template."""
    folder = tmp_path_factory.mktemp("chatting-model")
    return save_answering_model(folder, ["Africa", "Asia", "Europe", "Oceania"], CHAT_TEMPLATE)


@pytest.fixture
def start_attrib(tmp_path: Path) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Return `start(*arguments)`: the command line as a process, working in `tmp_path`."""
    started = []

    def start(*arguments: object) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-m", "attrib", *map(str, arguments)],
            cwd=tmp_path,
            env={**os.environ, "OMP_NUM_THREADS": "1", "NO_COLOR": "1", "COLUMNS": "200"},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


@pytest.fixture
def serve(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., LocalServer]]:
    """Return `serve(behave)`, which starts a server that answers by calling `behave`."""
    monkeypatch.setenv("NO_PROXY", "*")
    servers = []

    def start(behave: Callable[[Call], Reply] = answer_well) -> LocalServer:
        server = LocalServer(behave)
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        servers.append(server)
        return server

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


@pytest.fixture(scope="session")
def graded_study(tmp_path_factory: pytest.TempPathFactory, continent_model: Path) -> Path:
    """Make a study of 12 questions with 16 graded rollouts each; copy it before changing it."""
    store = Store(tmp_path_factory.mktemp("graded") / "study.duckdb")
    settings = SampleSettings(
        model=str(continent_model),
        n=16,
        limit=12,
        where="relation = 'continent'",
        max_new_tokens=4,
        device="cpu",
    )
    draw_rollouts(store, settings)
    bucket_questions(store, BucketSettings(k=16))
    return store.path
