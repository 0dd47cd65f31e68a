"""The wire format of OpenAI-compatible servers: what is asked and how answers are read.

Servers differ in what they understand. A `Dialect` holds what has been found out about one, and
`simplify` tells from an error text what to leave out next. Answers are read with suspicion: an
answer without the fields is refused as a whole, a choice without a usable text or with another end
than "stop" or "length" is a failed rollout, and a number that cannot be right is unknown.

Two things are lost on the way: a server does not tell which tokens it drew, and lone surrogates in
a text become U+FFFD, because no database stores them.
"""

import json
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from attrib.sampling.engine import FinishReason, Prompt, Rollout, SamplingParams, cut_at_stop

MOST_CHOICES = 128  # what OpenAI takes as n; others take more, or fewer and say so
NEUTRAL: dict[str, object] = {
    "top_k": -1,
    "min_p": 0.0,
    "repetition_penalty": 1.0,
    "chat_template_kwargs": {"enable_thinking": False},
}
"""What switches off a server's own defaults, in the words of vLLM, SGLang and llama.cpp.

vLLM and SGLang take these from the model's files, llama.cpp has values of its own. A server that
does not know one is asked without it.
"""

_LONGEST_MESSAGE = 300
_NO_LOGPROB = -9999.0  # sent where the true value is minus infinity or not known
_ROUNDING = 1e-3  # by which a server may report more than log 1
_REPEATED = math.log(1e-12)  # draws less likely than this are no accident
_ENDS = {"stop": FinishReason.STOP, "length": FinishReason.LENGTH}
_SURROGATE = re.compile("[\ud800-\udfff]")
_ABOUT_CHOICES = re.compile(r"\bn(_cmpl)?\b|\bchoices?\b")
_ONE_CHOICE_ONLY = re.compile(r"\bn_cmpl\b|only one completion choice")


class MalformedAnswerError(ValueError):
    """An answer without the fields it must have."""


@dataclass(frozen=True, slots=True)
class Dialect:
    """What a server has been found to understand.

    Attributes:
        logprobs: it reports log-probabilities.
        seed: it takes a seed.
        limit: its name for the limit on new tokens.
        most_choices: how many choices one HTTP request gets at most.
        neutral: which fields of `NEUTRAL` to send.
    """

    logprobs: bool = True
    seed: bool = True
    limit: str = "max_tokens"
    most_choices: int = MOST_CHOICES
    neutral: frozenset[str] = frozenset(NEUTRAL)


@dataclass(frozen=True, slots=True)
class Call:
    """An HTTP request for `n` choices: where it goes and what it says."""

    path: str
    n: int
    fields: dict[str, object]

    @property
    def content(self) -> bytes:
        """Return the body; escapes let every text through, lone surrogates too."""
        return json.dumps(self.fields).encode("ascii")


def completion_call(
    model: str, prompt: Prompt, params: SamplingParams, n: int, seed: int, dialect: Dialect
) -> Call:
    """Return the request for `n` responses; prompts with a system message go to the chat API."""
    is_chat = prompt.system is not None
    fields: dict[str, object] = {"model": model}
    if is_chat:
        fields["messages"] = [
            {"role": "system", "content": prompt.system},
            {"role": "user", "content": prompt.text},
        ]
    else:
        fields["prompt"] = prompt.text
    fields |= {
        "n": n,
        "temperature": params.temperature,
        "top_p": params.top_p,
        dialect.limit: params.max_new_tokens,
    }
    only_chat = set() if is_chat else {"chat_template_kwargs"}
    fields |= {name: NEUTRAL[name] for name in sorted(dialect.neutral - only_chat)}
    if params.top_k > 0:
        fields["top_k"] = params.top_k
    if params.stop:
        fields["stop"] = list(params.stop)
    if dialect.seed:
        fields["seed"] = seed
    if dialect.logprobs:
        # For text completions this counts the alternatives, and llama.cpp reads 0 as "none".
        fields["logprobs"] = True if is_chat else 1
    return Call("chat/completions" if is_chat else "completions", n, fields)


def simplify(dialect: Dialect, call: Call, complaint: str) -> Dialect | None:
    """Return `dialect` without what the server complains about in `call`.

    Returns None where the complaint is about nothing that can be left out.
    """
    complaint = complaint.lower()
    if "logprobs" in call.fields and "logprob" in complaint:
        return replace(dialect, logprobs=False)
    if "seed" in call.fields and re.search(r"\bseed\b", complaint):
        return replace(dialect, seed=False)
    if "max_tokens" in call.fields and "max_completion_tokens" in complaint:
        return replace(dialect, limit="max_completion_tokens")
    unknown = {name for name in NEUTRAL if call.fields.get(name) == NEUTRAL[name]}
    if unknown := {name for name in unknown if name in complaint}:
        return replace(dialect, neutral=dialect.neutral - unknown)
    if call.n > 1 and _ABOUT_CHOICES.search(complaint):
        return replace(dialect, most_choices=1)
    return None


def is_about_choices(complaint: str) -> bool:
    """Tell whether an error is about n; llama.cpp answers n > 1 with status 500."""
    return _ONE_CHOICE_ONLY.search(complaint.lower()) is not None


def read_rollouts(answer: object, first: int, n: int, params: SamplingParams) -> list[Rollout]:
    """Return rollouts `first` … of an answer to a request for `n`: at least one, at most n.

    `tokens` counts the log-probabilities, else a lone choice's usage, else it is 0. `logprob` is
    known only at the model's own distribution, since many servers report what they drew from, and
    only where every token that the usage counts has one.

    Raises:
        MalformedAnswerError: there are no choices, or they hold neither text nor message.
    """
    choices = _field(answer, "choices")
    if not isinstance(choices, list) or not choices:
        raise MalformedAnswerError("it holds no choices")
    if not all(isinstance(c, dict) and ("text" in c or "message" in c) for c in choices):
        raise MalformedAnswerError("a choice holds neither text nor message")
    logprobs = [_token_logprobs(choice) for choice in choices]
    usage = _field(_field(answer, "usage"), "completion_tokens")
    used = usage if isinstance(usage, int) and usage >= 0 else None
    has_all = used is None or used == sum(map(len, logprobs))
    rollouts = []
    for index, choice, of_tokens in zip(range(first, first + n), choices, logprobs, strict=False):
        tokens = len(of_tokens) or (used or 0 if len(choices) == 1 else 0)
        is_sound = bool(of_tokens) and all(_NO_LOGPROB < one < _ROUNDING for one in of_tokens)
        logprob = math.fsum(of_tokens) if is_sound and has_all and params.is_plain else None
        rollouts.append(_read_choice(choice, index, tokens, logprob, params.stop))
    return rollouts


def _read_choice(
    choice: dict[str, object], index: int, tokens: int, logprob: float | None, stop: Sequence[str]
) -> Rollout:
    text = choice["text"] if "text" in choice else _field(choice["message"], "content")
    end = choice.get("finish_reason")
    if not isinstance(text, str) or not isinstance(end, str) or end not in _ENDS:
        return Rollout.failed(index)
    cut = cut_at_stop(text, stop)
    return Rollout(
        index=index,
        text=_SURROGATE.sub("\N{REPLACEMENT CHARACTER}", cut),
        token_ids=(),
        tokens=tokens,
        logprob=logprob,
        finish_reason=_ENDS[end] if cut == text else FinishReason.STOP,
    )


def is_repetition(rollouts: Sequence[Rollout]) -> bool:
    """Tell whether equal texts cannot be independent draws.

    A server that seeds every choice of a request alike gives n times the same one.
    """
    texts = {rollout.text for rollout in rollouts}
    logprob = rollouts[0].logprob
    return len(texts) == 1 and logprob is not None and (len(rollouts) - 1) * logprob < _REPEATED


def read_model_names(answer: object) -> list[str]:
    """Return the names of the models that a server offers.

    Raises:
        MalformedAnswerError: there is no list of models.
    """
    models = _field(answer, "data")
    if not isinstance(models, list):
        raise MalformedAnswerError("it holds no list of models")
    return [name for model in models if isinstance(name := _field(model, "id"), str)]


def read_error(text: str) -> str:
    """Return what an error response says: the message of the usual JSON shapes, else the text."""
    try:
        answer = json.loads(text)
    except (ValueError, RecursionError):
        return text.strip()
    error = _field(answer, "error") or answer
    said = _field(error, "message") or _field(error, "detail") or error
    message = said if isinstance(said, str) else json.dumps(said)
    param = _field(error, "param")
    return f"{message} ({param})" if isinstance(param, str) and param not in message else message


def printable_line(message: str) -> str:
    """Return the first line, short and printable."""
    line = next(filter(str.strip, message.splitlines()), "no reason given").strip()
    return "".join(c if c.isprintable() else " " for c in line)[:_LONGEST_MESSAGE]


def _field(record: object, name: str) -> object:
    return record.get(name) if isinstance(record, dict) else None


def _token_logprobs(choice: object) -> list[float]:
    """Return one number a token, NaN where there is none; the chat and the text API differ."""
    record = _field(choice, "logprobs")
    values = _field(record, "token_logprobs")
    if isinstance(content := _field(record, "content"), list):
        values = [_field(token, "logprob") for token in content]
    if not isinstance(values, list):
        return []
    return [float(one) if isinstance(one, int | float) else math.nan for one in values]
