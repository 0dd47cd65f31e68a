"""Fixtures of the tests against vLLM itself, which `make test-vllm` installs and runs."""

import importlib.util
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import pytest
import torch
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from attrib.sampling.models import LanguageModel, load_model

if TYPE_CHECKING:
    from transformers import LlamaForCausalLM

SPECIAL_TOKENS = ("<pad>", "<unk>", "<|im_start|>", "<|im_end|>")
LETTERS = ("\n", *map(chr, range(ord(" "), ord("~") + 1)))
CHAT_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}"
    "<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


@pytest.fixture(scope="session", autouse=True)
def vllm_is_installed() -> None:
    """Skip where vLLM is not installed: it does not go into the project's environment."""
    if importlib.util.find_spec("vllm") is None:
        pytest.skip("vLLM is not installed; `make test-vllm` installs it")


@pytest.fixture(scope="session")
def letters_model(
    tmp_path_factory: pytest.TempPathFactory, tiny_llama: Callable[..., "LlamaForCausalLM"]
) -> LanguageModel:
    """Return a random chat model whose tokens are letters, so that a text tells its tokens.

    Its attention heads have a size that vLLM has a kernel for.
    """
    folder = tmp_path_factory.mktemp("letters-model")
    vocabulary = {text: index for index, text in enumerate((*SPECIAL_TOKENS, *LETTERS))}
    backend = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    backend.pre_tokenizer = pre_tokenizers.Split(Regex(r"[\s\S]"), behavior="isolated")
    backend.decoder = decoders.Fuse()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend,
        pad_token="<pad>",
        unk_token="<unk>",
        eos_token="<|im_end|>",
        additional_special_tokens=["<|im_start|>"],
    )
    tokenizer.chat_template = CHAT_TEMPLATE
    tokenizer.save_pretrained(folder)
    tiny_llama(
        seed=3,
        vocab_size=len(vocabulary),
        hidden_size=64,
        num_attention_heads=2,
        num_key_value_heads=1,
    ).save_pretrained(folder)
    return load_model(str(folder), "cpu")


@pytest.fixture(scope="session")
def forced_logprobs() -> Callable[[PreTrainedModel, Sequence[int], Sequence[int]], torch.Tensor]:
    """Return `forced(module, prompt, response)`: log p of every token of the response."""

    @torch.inference_mode()
    def forced(
        module: PreTrainedModel, prompt: Sequence[int], response: Sequence[int]
    ) -> torch.Tensor:
        logits = module(torch.tensor([[*prompt, *response]])).logits[0, len(prompt) - 1 : -1]
        return logits.double().log_softmax(-1).gather(1, torch.tensor(response)[:, None])[:, 0]

    return forced
