"""Who answers: a model with a way of asking it, and the identity of what it answers.

Owns the sample set, which is everything that changes the distribution of a set of rollouts, and the
responder, through which sampling, training and evaluation all ask their questions in the same way.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Generic, TypeVar

from attrib.config import content_hash
from attrib.data.questions import Question
from attrib.sampling.engine import Answered, Engine, Prompt, Request, SamplingParams
from attrib.sampling.models import Dtype, ModelFiles
from attrib.sampling.prompts import Message, PromptStyle

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

PROBE = "Which fact is asked for?"  # a question whose prompt stands for all prompts

AnyEngine_co = TypeVar("AnyEngine_co", bound=Engine, covariant=True)


@dataclass(frozen=True, slots=True)
class ModelIdentity:
    """What of a model decides its answers.

    Attributes:
        weights_hash: of the model's files; of a server's model its name, of imported rollouts
            their files.
        prompt_hash: of a fixed question's prompt: tokenizer and chat template.
        end_token_ids: tokens that end a response, in order.
    """

    weights_hash: str
    prompt_hash: str
    end_token_ids: tuple[int, ...]

    @classmethod
    def of_files(cls, files: ModelFiles, style: PromptStyle) -> "ModelIdentity":
        """Return the identity of a model on disk."""
        rendered = style.render(PROBE, files.tokenizer)
        ends = tuple(sorted(files.end_token_ids))
        return cls(files.weights_hash, content_hash(rendered), ends)

    @classmethod
    def of_served(cls, model: str, style: PromptStyle) -> "ModelIdentity":
        """Return the identity of a model that a server knows by name."""
        return cls(f"served:{model}", content_hash([style.system, style.fill(PROBE)]), ())

    @classmethod
    def of_imported(cls, files_hash: str, style: PromptStyle) -> "ModelIdentity":
        """Return the identity of a model of which nothing but some rollouts are there."""
        return cls(f"imported:{files_hash}", content_hash([style.system, style.fill(PROBE)]), ())


@dataclass(frozen=True, slots=True)
class SampleSet:
    """What a set of rollouts belongs to: everything that changes their distribution."""

    model: str
    engine: str
    identity: ModelIdentity
    prompt: PromptStyle
    temperature: float
    top_p: float
    top_k: int
    max_new_tokens: int
    dtype: Dtype | None
    """Of weights and activations; None where a server does not tell."""
    seed: int

    @property
    def params(self) -> dict[str, object]:
        """Return what makes the identity; the model counts by its weights, not its name."""
        params = asdict(self)
        del params["model"]
        return {**params.pop("identity"), **params}

    @property
    def sample_set_id(self) -> str:
        """Return the content hash of the settings."""
        return content_hash(self.params)

    @property
    def sampling(self) -> SamplingParams:
        """Return what the engine has to know."""
        return SamplingParams(
            temperature=self.temperature,
            top_p=self.top_p,
            top_k=self.top_k,
            max_new_tokens=self.max_new_tokens,
            end_token_ids=frozenset(self.identity.end_token_ids),
            stop=self.prompt.stop,
        )

    @classmethod
    def from_row(cls, row: Mapping[str, object]) -> "SampleSet":
        """Rebuild from a row of the table `sample_sets` whose `params` have been parsed."""
        params = dict(row["params"])  # type: ignore[call-overload]
        identity = ModelIdentity(
            params.pop("weights_hash"),
            params.pop("prompt_hash"),
            tuple(params.pop("end_token_ids")),
        )
        prompt = dict(params.pop("prompt"))
        prompt["stop"] = tuple(prompt["stop"])
        dtype = params.pop("dtype")
        return cls(
            model=str(row["model"]),
            engine=params.pop("engine"),
            identity=identity,
            prompt=PromptStyle(**prompt),
            dtype=Dtype(dtype) if dtype else None,
            **params,
        )


class Responder(Generic[AnyEngine_co]):
    """An engine together with a way of asking: questions in, rollouts out."""

    def __init__(
        self,
        engine: AnyEngine_co,
        sample_set: SampleSet,
        tokenizer: "PreTrainedTokenizerBase | None",
    ) -> None:
        """Ask `engine` as the sample set says; a server needs no tokenizer.

        Raises:
            ConfigError: a sampling parameter has no meaning.
        """
        self.engine = engine
        self.sampling = sample_set.sampling
        self._style = sample_set.prompt
        self._tokenizer = tokenizer

    def prompt(self, question: Question) -> Prompt:
        """Return the question as it is put to the model."""
        return self.put(question.text)

    def put(self, text: str) -> Prompt:
        """Return a text, in the place of a question, as it is put to the model."""
        return self._style.ask(text, self._tokenizer)

    def compose(self, text: str) -> list[Message] | str:
        """Return a question's text as a library that renders prompts itself is to be given it."""
        assert self._tokenizer is not None, "a server renders prompts itself"
        return self._style.compose(text, self._tokenizer)

    def targets(self, answer: str) -> list[tuple[int, ...]]:
        """Return the tokens of `answer` as a whole response, with each way to end it.

        The usual end comes first: the tokenizer's end token after a chat template; without one the
        stop string. A prompt without chat template ends before the blank that an answer begins
        with.
        """
        tokenizer = self._tokenizer
        assert tokenizer is not None, "targets are for training, which is local"
        is_chat = self._style.system is not None
        text = answer if is_chat else f" {answer}"

        def encode(end: str = "") -> tuple[int, ...]:
            return tuple(tokenizer.encode(text + end, add_special_tokens=False))

        own = tokenizer.eos_token_id
        ends = sorted(self.sampling.end_token_ids, key=lambda token: (token != own, token))
        by_token = [(*encode(), token) for token in ends]
        by_stop = [encode(stop) for stop in self._style.stop]
        ordered = [*by_token, *by_stop] if is_chat else [*by_stop, *by_token]
        return list(dict.fromkeys(ordered)) or [encode()]

    def respond(
        self, requests: Sequence[Request], seed: int, *, greedy: bool = False
    ) -> Iterator[Answered]:
        """Yield the rollouts of each request as it completes; `greedy` decodes, not samples."""
        params = self.sampling
        if greedy:
            params = replace(params, temperature=0.0, top_p=1.0, top_k=0)
        return self.engine.respond(requests, params, seed)
