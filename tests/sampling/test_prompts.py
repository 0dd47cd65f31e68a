from collections.abc import Callable
from pathlib import Path

import pytest
from transformers import PreTrainedTokenizerFast

from attrib.errors import ConfigError, ModelError
from attrib.sampling.prompts import (
    SYSTEM_PROMPT,
    TEMPLATE_ARGUMENTS,
    PromptStyle,
    choose_prompt_style,
)

TokenizerBuilder = Callable[..., PreTrainedTokenizerFast]
QUESTION = "What is the capital of France?"
JOINED = f"<user>{SYSTEM_PROMPT}\n\n{QUESTION}<assistant>"

# Gemma's template refuses the system role; others drop it without a word.
TAKES_SYSTEM = "{% for m in messages %}<{{ m['role'] }}>{{ m['content'] }}{% endfor %}<assistant>"
REFUSES_SYSTEM = (
    "{% if messages[0]['role'] == 'system' %}"
    "{{ raise_exception('System role not supported') }}{% endif %}" + TAKES_SYSTEM
)
DROPS_SYSTEM = TAKES_SYSTEM.replace("messages %}", "messages if m['role'] != 'system' %}")
NEEDS_ALTERNATION = (
    "{% for m in messages %}{% if (m['role'] == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('Roles must alternate') }}{% endif %}{% endfor %}" + TAKES_SYSTEM
)


def choose(tokenizer: PreTrainedTokenizerFast, file: Path | None = None) -> PromptStyle:
    return choose_prompt_style(tokenizer.chat_template is not None, file)


def spell(style: PromptStyle, tokenizer: PreTrainedTokenizerFast, question: str = QUESTION) -> str:
    text = tokenizer.decode(style.render(question, tokenizer))
    assert "<unk>" not in text
    return text


def test_a_chat_model_gets_a_system_prompt(word_tokenizer: TokenizerBuilder) -> None:
    tokenizer = word_tokenizer()
    style = choose(tokenizer)
    assert style == PromptStyle(SYSTEM_PROMPT, "{question}", stop=())
    messages = [
        {"role": "system", "content": SYSTEM_PROMPT},
        {"role": "user", "content": QUESTION},
    ]
    rendered = tokenizer.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)
    assert style.render(QUESTION, tokenizer) == tokenizer.encode(rendered)
    assert rendered.endswith("<|im_start|>assistant\n")


def test_a_plain_model_completes_and_stops_at_the_newline(
    word_tokenizer: TokenizerBuilder,
) -> None:
    tokenizer = word_tokenizer(chat_template=None)
    style = choose(tokenizer)
    assert style == PromptStyle(None, "Q: {question}\nA:", stop=("\n",))
    assert spell(style, tokenizer) == f"Q: {QUESTION}\nA:"


def test_a_chat_prompt_has_no_second_start_token(word_tokenizer: TokenizerBuilder) -> None:
    """The template writes the start token; a tokenizer that adds one must not do so again."""
    from tokenizers.processors import TemplateProcessing

    tokenizer = word_tokenizer()
    start = tokenizer.convert_tokens_to_ids("<|im_start|>")
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
        single="<|im_start|> $A", special_tokens=[("<|im_start|>", start)]
    )
    ids = choose(tokenizer).render(QUESTION, tokenizer)
    assert ids.count(start) == 3  # system, user, assistant
    tokenizer.chat_template = None
    assert choose(tokenizer).render(QUESTION, tokenizer)[0] == start


def test_a_prompt_file_replaces_the_text(word_tokenizer: TokenizerBuilder, tmp_path: Path) -> None:
    file = tmp_path / "prompt.txt"
    file.write_text("Answer: {question} please\n")
    for template, expected in [
        (None, f"Answer: {QUESTION} please"),
        (TAKES_SYSTEM, f"<system>{SYSTEM_PROMPT}<user>Answer: {QUESTION} please<assistant>"),
    ]:
        tokenizer = word_tokenizer(chat_template=template)
        assert spell(choose(tokenizer, file), tokenizer) == expected


def test_braces_and_blanks_of_a_prompt_file_stay(
    word_tokenizer: TokenizerBuilder, tmp_path: Path
) -> None:
    file = tmp_path / "prompt.txt"
    file.write_text("{{}} {it} {question} { \n\n")
    tokenizer = word_tokenizer(chat_template=None)
    style = choose(tokenizer, file)
    assert spell(style, tokenizer) == f"{{{{}}}} {{it}} {QUESTION} {{ \n"


def test_a_question_is_text_and_never_a_template(word_tokenizer: TokenizerBuilder) -> None:
    odd = "What is {question} {{ question }} { ?"
    for template, expected in [
        (None, f"Q: {odd}\nA:"),
        (TAKES_SYSTEM, f"<system>{SYSTEM_PROMPT}<user>{odd}<assistant>"),
    ]:
        tokenizer = word_tokenizer(chat_template=template)
        assert spell(choose(tokenizer), tokenizer, odd) == expected


@pytest.mark.parametrize("content", ["Answer it.", "{Question}", "{ question }", ""])
def test_a_prompt_file_without_a_place_is_refused(
    content: str, word_tokenizer: TokenizerBuilder, tmp_path: Path
) -> None:
    file = tmp_path / "prompt.txt"
    file.write_text(content)
    with pytest.raises(ConfigError, match=r"prompt\.txt.*put \{question\} in it"):
        choose(word_tokenizer(), file)


def test_a_prompt_file_that_cannot_be_read_is_refused(
    word_tokenizer: TokenizerBuilder, tmp_path: Path
) -> None:
    binary = tmp_path / "binary.txt"
    binary.write_bytes(b"\xff\xfe{question}")
    for file in (tmp_path / "absent.txt", tmp_path, binary):
        with pytest.raises(ConfigError, match=f"--prompt {file} cannot be read"):
            choose(word_tokenizer(), file)


@pytest.mark.parametrize("template", [REFUSES_SYSTEM, DROPS_SYSTEM, NEEDS_ALTERNATION])
def test_without_a_system_role_the_text_goes_before_the_question(
    template: str, word_tokenizer: TokenizerBuilder
) -> None:
    tokenizer = word_tokenizer(chat_template=template)
    assert spell(choose(tokenizer), tokenizer) == JOINED


@pytest.mark.parametrize("template", [TAKES_SYSTEM, REFUSES_SYSTEM, DROPS_SYSTEM, None])
def test_a_library_that_renders_prompts_makes_the_same_of_them(
    word_tokenizer: TokenizerBuilder, template: str | None
) -> None:
    tokenizer = word_tokenizer(chat_template=template)
    style = choose(tokenizer)
    composed = style.compose(QUESTION, tokenizer)
    if isinstance(composed, str):
        tokens = tokenizer(composed)["input_ids"]
    else:
        tokens = tokenizer.apply_chat_template(
            composed,
            add_generation_prompt=True,
            tokenize=True,
            return_dict=True,
            **TEMPLATE_ARGUMENTS,
        )["input_ids"]
    assert tokens == style.render(QUESTION, tokenizer)


@pytest.mark.parametrize(
    ("template", "problem"),
    [
        ("{{ raise_exception('tools only') }}", "tools only"),
        ("{% for m in messages %}", "Unexpected end of template"),
        ("constant", "leaves out the message"),
        ("{{ messages[5].content.missing.deep }}", "has no element 5"),
    ],
)
def test_a_template_that_cannot_ask_is_refused(
    template: str, problem: str, word_tokenizer: TokenizerBuilder
) -> None:
    tokenizer = word_tokenizer(chat_template=template)
    style = choose(tokenizer)
    with pytest.raises(ModelError, match=problem) as caught:
        style.render(QUESTION, tokenizer)
    assert "\n" not in str(caught.value)


def test_stop_strings_of_the_user_join_the_newline() -> None:
    assert choose_prompt_style(True, stop=["END", "."]).stop == (".", "END")
    assert choose_prompt_style(False, stop=["END", "END"]).stop == ("\n", "END")


def test_a_prompt_holds_words_and_tokens(word_tokenizer: TokenizerBuilder) -> None:
    tokenizer = word_tokenizer()
    style = choose(tokenizer)
    prompt = style.ask(QUESTION, tokenizer)
    assert (prompt.system, prompt.text) == (SYSTEM_PROMPT, QUESTION)
    assert list(prompt.token_ids) == style.render(QUESTION, tokenizer)
    assert style.ask(QUESTION, None).token_ids == ()
    plain = choose_prompt_style(False).ask(QUESTION, None)
    assert (plain.system, plain.text) == (None, f"Q: {QUESTION}\nA:")
