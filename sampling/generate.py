"""The reference engine: plain `generate` of transformers.

One question at a time, its prompt repeated for every rollout, as `generate` does it. Slower than
the tree engine, and the yardstick for it; it serves every model that transformers can run.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from transformers import GenerationConfig, LogitsProcessor, StoppingCriteria

from attrib.errors import ModelError
from attrib.sampling.engine import (
    Answered,
    EngineName,
    FinishReason,
    Request,
    Rollout,
    SamplingParams,
    cut_at_stop,
)
from attrib.sampling.models import LanguageModel
from attrib.sampling.randomness import derive_seed

ROWS_AT_ONCE = 128  # rollouts of one call of `generate`


class TransformersEngine:
    """`generate` behind the engines' protocol.

    A rollout depends on the seed and on the range of rollouts it was drawn in, not on its index
    alone.
    """

    name = EngineName.TRANSFORMERS
    is_reproducible = False

    def __init__(self, language_model: LanguageModel) -> None:
        """Refuse models that do not continue their prompt."""
        if language_model.module.config.is_encoder_decoder:
            kind = language_model.module.config.model_type
            raise ModelError(f"{kind} is an encoder-decoder model; attrib asks decoders only.")
        self.language_model = language_model

    def respond(
        self, requests: Sequence[Request], params: SamplingParams, seed: int
    ) -> Iterator[Answered]:
        """Yield the rollouts of every request; see `Engine`."""
        for position, request in enumerate(requests):
            rollouts: list[Rollout] = []
            for first in range(request.first, request.stop, ROWS_AT_ONCE):
                stop = min(first + ROWS_AT_ONCE, request.stop)
                rollouts += self._generate(request, first, stop, params, seed)
            yield Answered(position, rollouts)

    @torch.inference_mode()
    def _generate(
        self, request: Request, first: int, stop: int, params: SamplingParams, seed: int
    ) -> list[Rollout]:
        module, prompt = self.language_model.module, request.prompt.token_ids
        recorder = _Recorder(len(prompt))
        ended = _Ended(len(prompt), params, self.language_model)
        devices = [module.device] if module.device.type == "cuda" else []
        with (
            torch.random.fork_rng(devices=devices),  # generate draws from the global generator
            _no_defaults(module),
        ):
            torch.manual_seed(derive_seed(seed, request.stream, first))
            output: Any = module.generate(  # type: ignore[operator]
                torch.tensor([prompt] * (stop - first), device=module.device),
                generation_config=_generation_config(params),
                logits_processor=[recorder],
                stopping_criteria=[ended],
            )
        token_RT = output[:, len(prompt) :].cpu()
        logprob_RT = recorder.logprobs(output).cpu()
        rollouts = []
        for index, tokens, logprobs in zip(
            range(first, stop), token_RT.tolist(), logprob_RT, strict=True
        ):
            length, reason = ended.length_of(tokens)
            rollouts.append(
                Rollout(
                    index=index,
                    text=cut_at_stop(self.language_model.decode(tokens[:length]), params.stop),
                    token_ids=tuple(tokens[:length]),
                    tokens=length,
                    logprob=float(logprobs[:length].sum()),
                    finish_reason=reason,
                )
            )
        return rollouts


class _Recorder(LogitsProcessor):
    """Keeps log p of every drawn token at temperature 1; sees the logits before the warpers."""

    def __init__(self, prompt_tokens: int) -> None:
        self._prompt_tokens = prompt_tokens
        self._last = torch.zeros(0)
        self._logprobs: list[torch.Tensor] = []

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        if input_ids.shape[1] > self._prompt_tokens:
            self._record(input_ids[:, -1])
        self._last = scores.float().log_softmax(-1)
        return scores

    def logprobs(self, output_ids: torch.Tensor) -> torch.Tensor:
        """Return log p of the new tokens, shape (rollouts, new tokens)."""
        self._record(output_ids[:, -1])
        return torch.stack(self._logprobs, dim=1).double()

    def _record(self, token_R: torch.Tensor) -> None:
        self._logprobs.append(self._last.gather(1, token_R[:, None])[:, 0])


class _Ended(StoppingCriteria):
    """Ends a rollout at an end token, or at the token that completes a stop string."""

    def __init__(
        self, prompt_tokens: int, params: SamplingParams, language_model: LanguageModel
    ) -> None:
        self._prompt_tokens = prompt_tokens
        self._params = params
        self._decode = language_model.decode

    def __call__(self, input_ids: torch.Tensor, scores: Any, **kwargs: Any) -> torch.Tensor:
        rows = input_ids[:, self._prompt_tokens :].tolist()
        return torch.tensor([self._ends(row) for row in rows], device=input_ids.device)

    def _ends(self, tokens: Sequence[int]) -> bool:
        if tokens[-1] in self._params.end_token_ids:
            return True
        return bool(self._params.stop) and any(
            stop in self._decode(tokens) for stop in self._params.stop
        )

    def length_of(self, tokens: Sequence[int]) -> tuple[int, FinishReason]:
        """Return how many tokens belong to the rollout, padding aside, and why it ended."""
        for length in range(1, len(tokens) + 1):
            if self._ends(tokens[:length]):
                return length, FinishReason.STOP
        return len(tokens), FinishReason.LENGTH


@contextmanager
def _no_defaults(module: Any) -> Iterator[None]:
    """Keep the model's own generation settings, such as a repetition penalty, out of the draws."""
    own = module.generation_config
    module.generation_config = GenerationConfig()  # type: ignore[no-untyped-call]
    try:
        yield
    finally:
        module.generation_config = own


def _generation_config(params: SamplingParams) -> GenerationConfig:
    sampling: dict[str, Any] = {}
    if params.temperature > 0.0:
        sampling = {
            "do_sample": True,
            "temperature": params.temperature,
            "top_p": params.top_p,
            "top_k": params.top_k,
        }
    return GenerationConfig(  # type: ignore[no-untyped-call]
        max_new_tokens=params.max_new_tokens,
        pad_token_id=0,
        use_cache=True,
        **sampling,
    )
