"""Sampling from a model behind an OpenAI-compatible server, on this machine or hosted.

The server decides what is drawn: seeds are sent, and few servers honour them, so rollouts are not
reproducible. HTTP requests that fail in every attempt become failed rollouts; what the user must
mend (a key, a name, a parameter) and a server that is gone end the run, after what was drawn. How
HTTP requests are sent is in `server_connection`, what they say in `openai_api`.
"""

import asyncio
import itertools
import queue
from collections.abc import Generator, Sequence
from dataclasses import replace

import httpx2

from attrib.errors import ModelError
from attrib.sampling.engine import Answered, EngineName, Request, Rollout, SamplingParams
from attrib.sampling.openai_api import (
    Dialect,
    completion_call,
    is_repetition,
    printable_line,
    read_model_names,
    read_rollouts,
    simplify,
)
from attrib.sampling.randomness import derive_seed
from attrib.sampling.server_connection import (
    Connection,
    PassingError,
    RefusedError,
    ServerSettings,
    event_loop,
)

__all__ = ["ServerEngine", "ServerSettings"]

_FAILURES_OF_A_SERVER_GONE = 20  # HTTP requests in a row, each after all its attempts


class ServerEngine:
    """Asks a server."""

    def __init__(self, settings: ServerSettings) -> None:
        """Contact nobody yet."""
        self.settings = settings
        self.dialect = Dialect()
        self._model = settings.model
        self._connection = Connection(settings)

    @property
    def name(self) -> EngineName:
        """Return which engine this is."""
        return EngineName.SERVER

    @property
    def is_reproducible(self) -> bool:
        """Tell that the server's randomness is its own."""
        return False

    def served_model(self) -> str:
        """Return the model's name: the one in the settings, else the only one there is.

        Raises:
            ModelError: the server cannot be reached, or offers none or several.
        """
        if not self._model:
            client = self._connection.open()
            with event_loop(client) as loop:
                asking = asyncio.run_coroutine_threadsafe(self._ask_for_model(client), loop)
                self._model = asking.result()
        return self._model

    async def _ask_for_model(self, client: httpx2.AsyncClient) -> str:
        try:
            names = await self._connection.send(client, "GET", "models", None, read_model_names)
        except PassingError as error:
            raise _absence(self.settings, error) from None
        except RefusedError as error:
            raise _refusal(self.settings, error) from None
        if len(names) != 1:
            listed = printable_line(", ".join(sorted(names)))
            raise ModelError(
                f"The server at {self.settings.base_url} offers {len(names)} models ({listed}), so "
                "it cannot tell which is meant. Give the name of one."
                if names
                else f"The server at {self.settings.base_url} offers no model. Load one."
            )
        return names[0]

    def respond(
        self, requests: Sequence[Request], params: SamplingParams, seed: int
    ) -> Generator[Answered, None, None]:
        """Yield the rollouts of every request, in ascending index, as each completes.

        Closing the generator early, or Ctrl-C, ends all that is in flight.

        Raises:
            ModelError: the server refuses, or is gone. What is in flight is dropped; requests
                answered in part are yielded first, with the rest as failed rollouts.
        """
        self.served_model()
        client = self._connection.open()
        run = _Run(self, self._connection, client, params, seed)
        window = 2 * self.settings.concurrency
        waiting = enumerate(requests)
        pending = 0
        with event_loop(client) as loop:
            while True:
                for numbered in itertools.islice(waiting, window - pending if run.goes_on else 0):
                    loop.call_soon_threadsafe(run.start, *numbered)
                    pending += 1
                if not pending:
                    break
                task = run.finished.get()
                pending -= 1
                if (answered := task.result()) is not None:
                    yield answered
        if run.error is not None:
            raise run.error


class _Run:
    """One call of `respond`: who is asking, and why it ended early if it did."""

    def __init__(
        self,
        engine: ServerEngine,
        connection: Connection,
        client: httpx2.AsyncClient,
        params: SamplingParams,
        seed: int,
    ) -> None:
        self.error: ModelError | None = None
        self.finished: queue.SimpleQueue[asyncio.Task[Answered | None]] = queue.SimpleQueue()
        self._engine = engine
        self._connection = connection
        self._client = client
        self._params = params
        self._seed = seed
        self._slots = asyncio.Semaphore(engine.settings.concurrency)
        self._asking: set[asyncio.Task[list[Rollout]]] = set()
        self._failed_streams: list[str] = []

    @property
    def goes_on(self) -> bool:
        """Tell whether new requests make sense."""
        return self.error is None

    def start(self, position: int, request: Request) -> None:
        """Begin to answer a request; the task comes to `finished`."""
        asyncio.create_task(self._answer(position, request)).add_done_callback(self.finished.put)

    async def _answer(self, position: int, request: Request) -> Answered | None:
        """Return all rollouts of a request, or None where the run ended before any was drawn."""
        rollouts: list[Rollout] = []
        missing = [range(request.first, request.stop)]
        while missing and self.goes_on:
            most = self._most_choices
            spans = [
                span[start : start + most]
                for span in missing
                for start in range(0, len(span), most)
            ]
            tasks = [asyncio.create_task(self._draw(request, span)) for span in spans]
            self._asking.update(tasks)
            results = await asyncio.gather(*tasks, return_exceptions=True)
            self._asking.difference_update(tasks)
            missing = []
            for span, result in zip(spans, results, strict=True):
                if isinstance(result, asyncio.CancelledError):  # by _stop
                    result = []
                if isinstance(result, BaseException):
                    raise result
                rollouts += result
                if rest := span[len(result) :]:
                    missing.append(rest)
        if missing and not rollouts:
            return None
        rollouts += [Rollout.failed(index) for span in missing for index in span]
        return Answered(position, sorted(rollouts, key=lambda rollout: rollout.index))

    @property
    def _most_choices(self) -> int:
        # vLLM refuses n > 1 for greedy decoding.
        return self._engine.dialect.most_choices if self._params.temperature > 0.0 else 1

    async def _draw(self, request: Request, span: range) -> list[Rollout]:
        """Return the first rollouts of `span`; none where the server must be asked otherwise."""
        engine, first = self._engine, span.start
        # A slot is kept while waiting for the next attempt: a busy server gets less to do.
        async with self._slots:
            n = min(len(span), self._most_choices)
            call = completion_call(
                engine.served_model(),
                request.prompt,
                self._params,
                n,
                derive_seed(self._seed, request.stream, first) >> 25,  # 31 bits are taken by all
                engine.dialect,
            )
            try:
                rollouts = await self._connection.send(
                    self._client,
                    "POST",
                    call.path,
                    call.content,
                    lambda answer: read_rollouts(answer, first, n, self._params),
                )
            except RefusedError as error:
                simpler = simplify(engine.dialect, call, error.message)
                if simpler is not None and error.status not in (401, 403, 404):
                    engine.dialect = simpler
                else:
                    self._stop(_refusal(engine.settings, error))
                return []
            except PassingError as error:
                return self._give_up(request, span, error)
        self._failed_streams.clear()
        if "seed" in call.fields and is_repetition(rollouts):
            engine.dialect = replace(engine.dialect, seed=False)
            return []
        if len(rollouts) < n:
            most = min(engine.dialect.most_choices, len(rollouts))
            engine.dialect = replace(engine.dialect, most_choices=most)
        return rollouts

    def _give_up(self, request: Request, span: range, error: PassingError) -> list[Rollout]:
        """Return the failed rollouts of `span`, and end the run if the server is gone.

        One question that a server cannot bear, asked one by one, is no server gone.
        """
        if error.is_connecting and not self._connection.was_reached:
            self._stop(_absence(self._engine.settings, error))
            return []
        self._failed_streams.append(request.stream)
        is_gone = len(self._failed_streams) >= _FAILURES_OF_A_SERVER_GONE
        if is_gone and len(set(self._failed_streams)) > 1:
            self._stop(_absence(self._engine.settings, error))
        return [Rollout.failed(index) for index in span]

    def _stop(self, error: ModelError) -> None:
        """End the run, giving up what is being asked."""
        self.error = self.error or error
        for task in self._asking - {asyncio.current_task()}:
            task.cancel()


def _absence(settings: ServerSettings, error: PassingError) -> ModelError:
    return ModelError(
        f"The server at {settings.base_url} does not answer ({error}). Check that it runs there; "
        "what was drawn is stored, and the same command continues."
    )


def _refusal(settings: ServerSettings, error: RefusedError) -> ModelError:
    if error.status in (401, 403):
        remedy = f"Set the environment variable {settings.api_key_env} to a key that it takes."
    elif error.status in (400, 422):
        remedy = "Change the setting or the question that it names."
    else:
        remedy = "Check its URL, which usually ends in /v1, and the model's name."
    return ModelError(
        f"The server at {settings.base_url} refuses with status {error.status}: "
        f"{printable_line(error.message).rstrip('.')}. {remedy}"
    )
