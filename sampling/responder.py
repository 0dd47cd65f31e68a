"""Who answers: a model with a way of asking it, and the identity of what it answers.

Owns the sample set, which is everything that changes the distribution of a set of rollouts, and the
responder, through which sampling, training and evaluation all ask their questions in the same way.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING

from attrib.config import content_hash
from attrib.data.questions import Question
from attrib.sampling.models import LanguageModel
from attrib.sampling.packed import check_exact
from attrib.sampling.prompts import PromptStyle
from attrib.sampling.tree import Request, Rollout, SamplingParams, sample

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

ENGINE = "tree"
PROBE = "Which fact is asked for?"  # a question whose prompt stands for all prompts


@dataclass(frozen=True, slots=True)
class SampleSet:
    """What a set of rollouts belongs to: everything that changes their distribution."""

    model: str
    engine: str
    weights_hash: str
    prompt_hash: str
    """Of the token ids of a fixed question's prompt: tokenizer and chat template."""
    end_token_ids: tuple[int, ...]
    """Tokens that end a response."""
    prompt: PromptStyle
    temperature: float
    max_new_tokens: int
    seed: int

    @property
    def params(self) -> dict[str, object]:
        """Return what makes the identity; the model counts by its weights, not its name."""
        params = asdict(self)
        del params["model"]
        return params

    @property
    def identity_of_model(self) -> dict[str, object]:
        """Return what `describe_model` must return for the model to be the same."""
        return {
            "weights_hash": self.weights_hash,
            "prompt_hash": self.prompt_hash,
            "end_token_ids": list(self.end_token_ids),
        }

    @property
    def sample_set_id(self) -> str:
        """Return the content hash of the settings."""
        return content_hash(self.params)

    @classmethod
    def from_row(cls, row: Mapping[str, object]) -> "SampleSet":
        """Rebuild from a row of the table `sample_sets` whose `params` have been parsed."""
        params = dict(row["params"])  # type: ignore[call-overload]
        return cls(**{**params, "model": row["model"], "prompt": PromptStyle(**params["prompt"])})


def describe_model(language_model: LanguageModel, style: PromptStyle) -> dict[str, object]:
    """Return what of a model decides its answers: weights, prompts and ends of responses."""
    return {
        "weights_hash": language_model.weights_hash,
        "prompt_hash": hash_prompt(language_model, style),
        "end_token_ids": list(end_tokens(language_model, style)),
    }


def hash_prompt(language_model: LanguageModel, style: PromptStyle) -> str:
    """Return the hash of a fixed question's prompt in token ids."""
    return content_hash(style.render(PROBE, language_model.tokenizer))


def end_tokens(language_model: LanguageModel, style: PromptStyle) -> tuple[int, ...]:
    """Return the tokens that end a response, in order."""
    ends = set(language_model.end_token_ids)
    if style.stop_at_newline:
        ends |= _newline_tokens(language_model.tokenizer)
    return tuple(sorted(ends))


class Responder:
    """A model together with a way of asking it: questions in, rollouts and texts out."""

    def __init__(self, language_model: LanguageModel, sample_set: SampleSet) -> None:
        """Prepare the sampling; check that the tree engine serves this model exactly.

        Raises:
            ConfigError: the temperature or the number of new tokens has no meaning.
            ModelError: the tree engine would not be exact.
        """
        self.language_model = language_model
        self._style = sample_set.prompt
        self._tokenizer = language_model.tokenizer
        self.temperature = sample_set.temperature
        self._sampling = SamplingParams(
            sample_set.temperature, sample_set.max_new_tokens, frozenset(sample_set.end_token_ids)
        )
        check_exact(language_model.module, self._tokenizer.encode(PROBE))

    def prompt(self, question: Question) -> tuple[int, ...]:
        """Return the prompt's token ids."""
        return tuple(self._style.render(question.text, self._tokenizer))

    def respond(
        self, requests: Sequence[Request], seed: int, *, greedy: bool = False
    ) -> Iterator[list[Rollout]]:
        """Yield the rollouts of each request, in order; `greedy` decodes instead of sampling."""
        params = replace(self._sampling, temperature=0.0) if greedy else self._sampling
        return sample(self.language_model.module, requests, params, seed)

    def text(self, rollout: Rollout) -> str:
        """Return the response without its end token."""
        text = str(self._tokenizer.decode(list(rollout.token_ids), skip_special_tokens=True))
        return text.split("\n", 1)[0] if self._style.stop_at_newline else text


def _newline_tokens(tokenizer: "PreTrainedTokenizerBase") -> set[int]:
    texts = tokenizer.batch_decode([[i] for i in range(len(tokenizer))])
    return {i for i, text in enumerate(texts) if "\n" in text}
