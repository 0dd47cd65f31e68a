"""What every sampling engine is asked and what it answers.

An engine takes requests (a prompt and the indices of the rollouts wanted) and yields the rollouts
of each request as it completes. Engines differ in speed and in where the model runs, never in the
distribution: n independent draws from the model at the given sampling parameters.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from attrib.errors import ConfigError


class EngineName(StrEnum):
    """The engines that attrib has."""

    TREE = "tree"
    """Exact sampling on prefix trees, on this machine."""
    TRANSFORMERS = "transformers"
    """`generate` of transformers: the reference."""
    VLLM = "vllm"
    """vLLM in this process."""
    SERVER = "server"
    """An OpenAI-compatible server."""
    IMPORTED = "imported"
    """No engine of ours: the rollouts were drawn elsewhere."""


class FinishReason(StrEnum):
    """Why a rollout ended."""

    STOP = "stop"
    """The model ended its response, or wrote a stop string."""
    LENGTH = "length"
    """The limit on new tokens cut it off."""
    ERROR = "error"
    """The engine failed; there is no text to grade."""


@dataclass(frozen=True, slots=True)
class Prompt:
    """A question as it is put to the model, in words and in tokens.

    Attributes:
        system: the system message; None where the model is asked without a chat template.
        text: the user's message, or the whole prompt where there is no chat template.
        token_ids: the rendered prompt; empty where the engine leaves rendering to a server.
    """

    system: str | None
    text: str
    token_ids: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Request:
    """Rollouts `first` … `stop`-1 of one prompt.

    `stream` names the randomness: where the engine is reproducible, the same seed, stream and
    rollout index give the same rollout.
    """

    stream: str
    prompt: Prompt
    first: int
    stop: int

    def __post_init__(self) -> None:
        """Every request asks for something, so that each gives rollouts."""
        assert 0 <= self.first < self.stop

    @property
    def count(self) -> int:
        """Return how many rollouts are asked for."""
        return self.stop - self.first


@dataclass(frozen=True, slots=True)
class Rollout:
    """One sampled response.

    Attributes:
        index: which rollout of its question.
        text: the response without its end token, cut in front of the first stop string.
        token_ids: the drawn tokens, end token included; empty where a server does not tell.
        tokens: how many tokens were drawn.
        logprob: of the drawn tokens under the model at temperature 1, without top-p or top-k; None
            where it is not known.
        finish_reason: why it ended.
    """

    index: int
    text: str
    token_ids: tuple[int, ...]
    tokens: int
    logprob: float | None
    finish_reason: FinishReason

    @classmethod
    def failed(cls, index: int) -> "Rollout":
        """Return the record of a rollout that the engine could not draw."""
        return cls(index, "", (), 0, None, FinishReason.ERROR)


@dataclass(frozen=True, slots=True)
class SamplingParams:
    """What shapes the distribution of the responses.

    Attributes:
        temperature: 0 is greedy decoding.
        top_p: draw from the smallest set of tokens that holds this much probability.
        top_k: draw from this many most probable tokens; 0 draws from all.
        max_new_tokens: tokens after which a response is cut off.
        end_token_ids: tokens that end a response.
        stop: texts that end a response.
    """

    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    max_new_tokens: int = 16
    end_token_ids: frozenset[int] = frozenset()
    stop: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Refuse values without a meaning."""
        if not 0.0 <= self.temperature < float("inf"):
            raise ConfigError(f"temperature {self.temperature} must be 0 (greedy) or positive.")
        if not 0.0 < self.top_p <= 1.0:
            raise ConfigError(f"top_p {self.top_p} must be above 0 and at most 1.")
        if self.top_k < 0:
            raise ConfigError(f"top_k {self.top_k} must be 0 (all tokens) or positive.")
        if self.max_new_tokens < 1:
            raise ConfigError(f"max_new_tokens {self.max_new_tokens} must be at least 1.")
        if "" in self.stop:
            raise ConfigError("A stop string must not be empty.")

    @property
    def is_plain(self) -> bool:
        """Tell whether rollouts are drawn from the model's own distribution."""
        return self.temperature == 1.0 and self.top_p == 1.0 and self.top_k == 0


@dataclass(frozen=True, slots=True)
class Answered:
    """The rollouts of the request at `position` of those an engine was given."""

    position: int
    rollouts: list[Rollout]


class Engine(Protocol):
    """Draws rollouts."""

    @property
    def name(self) -> str:
        """Return which engine this is: one of `EngineName`, or what its entry point is called."""
        ...

    @property
    def is_reproducible(self) -> bool:
        """Tell whether a rollout is a function of seed, stream and index alone."""
        ...

    def respond(
        self, requests: Sequence[Request], params: SamplingParams, seed: int
    ) -> Iterator[Answered]:
        """Yield the rollouts of every request, in ascending index, as each completes."""
        ...


def in_order(answers: Iterable[Answered]) -> Iterator[list[Rollout]]:
    """Yield the rollouts of each request in the order of the requests."""
    held: dict[int, list[Rollout]] = {}
    following = 0
    for answered in answers:
        held[answered.position] = answered.rollouts
        while following in held:
            yield held.pop(following)
            following += 1


def cut_at_stop(text: str, stop: Sequence[str]) -> str:
    """Return the text in front of the earliest stop string."""
    places = [place for one in stop if (place := text.find(one)) >= 0]
    return text[: min(places)] if places else text
