"""Sampling with vLLM, on GPUs and on the processors that it has a build for.

Every rollout has a seed of its own: drawing 64 and then 64 more gives what drawing 128 gives, up to
rounding, since which sequences share a batch is vLLM's affair. Refused is what vLLM would change
without a word: temperatures below 0.01, and responses that outgrow the longest sequence.

vLLM runs the model in processes of its own. What they report is kept for the reason of a failure,
and shown only where the user sets VLLM_LOGGING_LEVEL.
"""

import itertools
import math
import multiprocessing
import os
import queue
import threading
from collections.abc import Collection, Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from multiprocessing.connection import wait
from multiprocessing.process import BaseProcess
from typing import Any

from pydantic import ValidationError

from attrib.errors import ConfigError, ModelError, missing_extra
from attrib.sampling.child_processes import ChildProcesses
from attrib.sampling.engine import (
    Answered,
    EngineName,
    FinishReason,
    Request,
    Rollout,
    SamplingParams,
    cut_at_stop,
)
from attrib.sampling.randomness import derive_seed
from attrib.sampling.vllm_settings import SERVICE, VllmSettings, start_arguments

__all__ = ["VllmEngine", "VllmSettings"]

LEAST_TEMPERATURE = 0.01  # below it vLLM samples at 0.01
LONGEST_REASON = 300  # characters; vLLM may list all its models
_ENDS = {"stop": FinishReason.STOP, "length": FinishReason.LENGTH}


class VllmEngine:
    """vLLM behind the engines' protocol."""

    name = EngineName.VLLM

    def __init__(self, settings: VllmSettings) -> None:
        """Start vLLM with the model; takes a minute.

        Raises:
            MissingExtraError: vLLM is not installed.
            ModelError: vLLM cannot run this model here.
        """
        self._settings = settings
        for variable, value in SERVICE.items():
            os.environ.setdefault(variable, value)
        is_quiet = os.environ["VLLM_LOGGING_LEVEL"] == SERVICE["VLLM_LOGGING_LEVEL"]
        self._processes = ChildProcesses(is_quiet=is_quiet)
        others = set(multiprocessing.active_children())
        with self._processes.starting():
            self._vllm = _import_vllm()
            try:
                self._llm: Any = self._vllm.LLM(**start_arguments(settings))
            except Exception as error:  # vLLM, torch and transformers have errors of their own
                raise self._failure("cannot run", error) from error
        _report_death(
            set(multiprocessing.active_children()) - others,
            getattr(self._llm.llm_engine.engine_core, "outputs_queue", None),
        )
        self._decode = self._llm.get_tokenizer().decode
        self._names = itertools.count()

    @property
    def is_reproducible(self) -> bool:
        """Tell whether a rollout is a function of seed, stream and index alone.

        In half precision a draw also depends on the batch it was made in.
        """
        return self._settings.dtype == "float32"

    def respond(
        self, requests: Sequence[Request], params: SamplingParams, seed: int
    ) -> Iterator[Answered]:
        """Yield the rollouts of every request, in ascending index, as each completes.

        Raises:
            ConfigError: the temperature is one that vLLM changes.
            ModelError: a sequence could become too long (nothing was drawn), or vLLM failed.
        """
        self._check(requests, params)
        engine, waiting = self._llm.llm_engine, enumerate(requests)
        pending: dict[str, tuple[int, Request]] = {}
        try:
            while True:
                room = self._settings.in_flight - len(pending)
                for position, request in itertools.islice(waiting, room):
                    name = str(next(self._names))
                    self._add(name, request, params, seed)
                    pending[name] = position, request
                if not pending:
                    return
                for output in self._step():
                    if output.finished and output.request_id in pending:
                        position, request = pending.pop(output.request_id)
                        yield Answered(position, self._read(request, output.outputs, params))
        finally:
            with suppress(Exception):  # a dead engine has nothing left to stop
                engine.abort_request(list(pending))

    def close(self) -> None:
        """End vLLM's processes, which frees the memory they hold; nothing more can be drawn."""
        self._llm.llm_engine.engine_core.shutdown()
        self._processes.forget()

    def _check(self, requests: Sequence[Request], params: SamplingParams) -> None:
        if 0.0 < params.temperature < LEAST_TEMPERATURE:
            raise ConfigError(
                f"vLLM samples at {LEAST_TEMPERATURE} where temperature {params.temperature} is "
                "asked for. Choose 0 (greedy), a higher one, or another --engine."
            )
        limit = self._llm.llm_engine.model_config.max_model_len
        longest = max((len(request.prompt.token_ids) for request in requests), default=0)
        if longest + params.max_new_tokens > limit:
            raise ModelError(
                f"vLLM runs this model on at most {limit} tokens; the prompt and its response may "
                f"take {longest + params.max_new_tokens}. Shorten the prompt, lower "
                "--max-new-tokens, or raise --max-model-len if the model reads more."
            )

    def _add(self, name: str, request: Request, params: SamplingParams, seed: int) -> None:
        is_greedy = params.temperature == 0.0
        try:
            self._llm.llm_engine.add_request(
                name,
                {"prompt_token_ids": list(request.prompt.token_ids)},
                self._vllm.SamplingParams(
                    n=1 if is_greedy else request.count,  # vLLM refuses greedy copies
                    seed=None if is_greedy else _seed_of(seed, request),
                    temperature=params.temperature,
                    top_p=params.top_p,
                    top_k=params.top_k,
                    max_tokens=params.max_new_tokens,
                    stop=list(params.stop),
                    stop_token_ids=sorted(params.end_token_ids),
                    ignore_eos=True,  # the tokens that end a response are ours to name
                    logprobs=0,  # of the drawn token only
                    detokenize=bool(params.stop),
                    output_kind=self._vllm.sampling_params.RequestOutputKind.FINAL_ONLY,
                ),
            )
        except Exception as error:
            raise self._failure("refuses a request to", error) from error

    def _step(self) -> list[Any]:
        try:
            return list(self._llm.llm_engine.step())
        except Exception as error:
            raise self._failure("stopped running", error) from error

    def _read(
        self, request: Request, completions: Sequence[Any], params: SamplingParams
    ) -> list[Rollout]:
        indices = range(request.first, request.stop)
        rollouts = [
            self._read_one(index, completion, params)
            for index, completion in zip(
                indices, sorted(completions, key=lambda one: int(one.index)), strict=False
            )
        ]
        if params.temperature == 0.0:
            return [replace(rollouts[0], index=index) for index in indices]
        return rollouts

    def _read_one(self, index: int, completion: Any, params: SamplingParams) -> Rollout:
        if completion.finish_reason not in _ENDS:
            return Rollout.failed(index)
        if not math.isfinite(completion.cumulative_logprob):
            raise ModelError(
                f"The model's probabilities are not finite at temperature {params.temperature}: "
                f"its weights are damaged, or {self._settings.dtype} cannot hold them."
            )
        token_ids = tuple(completion.token_ids)
        # Decoded as every engine does, for equal tokens to be equal texts.
        text = self._decode(list(token_ids), skip_special_tokens=True)
        return Rollout(
            index=index,
            text=cut_at_stop(text, params.stop),
            token_ids=token_ids,
            tokens=len(token_ids),
            logprob=completion.cumulative_logprob,
            finish_reason=_ENDS[completion.finish_reason],
        )

    def _failure(self, what: str, error: Exception) -> ModelError:
        reason = self._processes.first_error() or _reason(error)
        if "root cause" in reason:  # it points to a log, in which there is none
            reason = "one of its processes was killed"
        reason = reason.rstrip(".")[:LONGEST_REASON]
        return ModelError(
            f"vLLM {what} the model in {self._settings.model_folder}: {reason}. Where memory ran "
            "out, lower --max-model-len or --gpu-memory, otherwise choose another --engine; "
            "VLLM_LOGGING_LEVEL=INFO shows all that vLLM says."
        )


def _import_vllm() -> Any:
    try:
        import vllm  # type: ignore[import-not-found]
    except ImportError as error:
        if error.name is None:  # a library of the system that it was built for
            raise ModelError(
                f"vLLM is installed but does not load: {_reason(error)}. Install the build for "
                "this machine."
            ) from error
        raise missing_extra("The vllm engine", "vllm", error) from error
    return vllm


def _report_death(cores: Collection[BaseProcess], answers: "queue.Queue[Exception] | None") -> None:
    """Let the end of a process end the wait for its answers; vLLM would wait for ever."""
    if not cores or answers is None:
        return

    def report() -> None:
        wait([core.sentinel for core in cores])
        answers.put(RuntimeError("one of its processes was killed"))

    threading.Thread(target=report, name="attrib-vllm", daemon=True).start()


def _seed_of(seed: int, request: Request) -> int:
    """Return the seed of the request's first rollout; vLLM adds 1 for each further one."""
    return derive_seed(seed, request.stream) + request.first


def _reason(error: Exception) -> str:
    if isinstance(error, ValidationError):
        return str(error.errors()[0]["msg"])
    return next(filter(str.strip, str(error).splitlines()), type(error).__name__).strip()
