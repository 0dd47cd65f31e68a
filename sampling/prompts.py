"""Prompts: how a question is put to the model.

Zero-shot and closed-book, without chain of thought, as in the paper; its exact wording is not
published, so the one below is ours. A model with a chat template gets a one-line system prompt that
asks for the answer only, in front of the question where its template takes no system role; a model
without a template gets "Q: … A:" and stops at the newline. A prompt file replaces the text around
the question.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from jinja2 import TemplateError

from attrib.errors import ConfigError, ModelError
from attrib.sampling.engine import Prompt

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

SYSTEM_PROMPT = "Answer the question with the answer only, as short as possible."
# Templates that write today's date would make a sample set depend on the day it was drawn; thinking
# would spend the few tokens of an answer.
TEMPLATE_ARGUMENTS: dict[str, Any] = {"date_string": "01 Jan 2026", "enable_thinking": False}
PLAIN_TEMPLATE = "Q: {question}\nA:"
CHAT_TEMPLATE = "{question}"

Message = dict[str, str]
"""Of a chat: who says it (`role`) and what (`content`)."""


@dataclass(frozen=True, slots=True)
class PromptStyle:
    """How every question of a run is asked; part of the identity of a sample set.

    Attributes:
        system: the system message, or None where the model has no chat template.
        template: the user's message, or the whole prompt, with `{question}` in it.
        stop: texts that end a response.
    """

    system: str | None
    template: str
    stop: tuple[str, ...] = ()

    def render(self, question: str, tokenizer: "PreTrainedTokenizerBase") -> list[int]:
        """Return the token ids of the whole prompt for one question.

        Raises:
            ModelError: the tokenizer's chat template fails, or leaves out what it is given.
        """
        text = self.fill(question)
        if self.system is None:
            return list(tokenizer.encode(text))
        rendered = _render_chat(self.system, text, tokenizer).rendered
        return list(tokenizer.encode(rendered, add_special_tokens=False))

    def compose(self, question: str, tokenizer: "PreTrainedTokenizerBase") -> list[Message] | str:
        """Return the prompt for one question as a library that renders prompts is to be given it.

        With `TEMPLATE_ARGUMENTS` the tokenizer's chat template makes of the messages what `render`
        returns; without a chat template it is the text.

        Raises:
            ModelError: see `render`.
        """
        text = self.fill(question)
        if self.system is None:
            return text
        return _render_chat(self.system, text, tokenizer).messages

    def fill(self, question: str) -> str:
        """Return the template with the question in its place."""
        return self.template.replace("{question}", question)

    def ask(self, question: str, tokenizer: "PreTrainedTokenizerBase | None") -> Prompt:
        """Return the prompt for one question; without a tokenizer a server renders it."""
        token_ids = tuple(self.render(question, tokenizer)) if tokenizer is not None else ()
        return Prompt(self.system, self.fill(question), token_ids)


def choose_prompt_style(
    is_chat: bool, prompt_file: Path | None = None, stop: Sequence[str] = ()
) -> PromptStyle:
    """Return the prompt style for a chat or for plain completion.

    Args:
        is_chat: whether the model is asked through its chat template.
        prompt_file: the user's own text around the question.
        stop: texts that end a response; a plain completion ends at the newline too.

    Raises:
        ConfigError: the file cannot be read or does not hold `{question}`.
    """
    template = CHAT_TEMPLATE if is_chat else PLAIN_TEMPLATE
    if prompt_file is not None:
        try:
            template = prompt_file.read_text(encoding="utf-8").removesuffix("\n")
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(f"--prompt {prompt_file} cannot be read: {error}") from error
        if "{question}" not in template:
            raise ConfigError(
                f"--prompt {prompt_file} must say where the question goes: put {{question}} in it."
            )
    ends = {*stop} if is_chat else {*stop, "\n"}
    return PromptStyle(SYSTEM_PROMPT if is_chat else None, template, tuple(sorted(ends)))


class _Chat(NamedTuple):
    """A chat prompt, as messages and as the template writes them."""

    messages: list[Message]
    rendered: str


def _render_chat(system: str, text: str, tokenizer: "PreTrainedTokenizerBase") -> _Chat:
    """Return the chat prompt; where the template takes no system role, that text goes first."""
    user = {"role": "user", "content": text}
    joined = {"role": "user", "content": f"{system}\n\n{text}"}
    problem = "it leaves out the message"
    for messages in ([{"role": "system", "content": system}, user], [joined]):
        try:
            rendered = tokenizer.apply_chat_template(
                messages, add_generation_prompt=True, tokenize=False, **TEMPLATE_ARGUMENTS
            )
        except TemplateError as error:
            problem = str(error)
            continue
        if system in rendered:
            return _Chat(messages, str(rendered))
    raise ModelError(
        f"The model's chat template cannot be used: {problem}. Choose another --model."
    )
