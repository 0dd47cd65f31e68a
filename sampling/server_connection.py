"""How a server is reached: its address, its key, and HTTP requests with patience.

Failures that may pass (no connection, no answer in time, too many requests, an error of the server,
an answer that makes no sense) are tried again; what the user must mend is refused at once. The key
is read from the environment when it is needed, and no message holds it.
"""

import asyncio
import json
import os
import re
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar

import httpx2
import tenacity

from attrib.errors import ConfigError
from attrib.sampling.openai_api import is_about_choices, printable_line, read_error

Read = TypeVar("Read")

_FIRST_ATTEMPTS = 3  # to connect to a server that has never answered: the URL may be wrong
_CONNECT_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class ServerSettings:
    """Where the server is and how patiently it is asked.

    Attributes:
        base_url: like http://localhost:8000/v1.
        model: the name the server knows; empty where it offers exactly one.
        api_key_env: the environment variable that holds the key, if one is needed.
        concurrency: HTTP requests in flight.
        timeout_seconds: after which an unanswered HTTP request counts as failed.
        attempts: of each HTTP request, the first included.
        first_wait_seconds: between the first two attempts; doubled after each.
        longest_wait_seconds: between two attempts, whatever the server asks for.
    """

    base_url: str
    model: str = ""
    api_key_env: str = "OPENAI_API_KEY"
    concurrency: int = 32
    timeout_seconds: float = 120.0
    attempts: int = 6
    first_wait_seconds: float = 1.0
    longest_wait_seconds: float = 60.0

    def __post_init__(self) -> None:
        """Refuse what cannot work; a password in the URL would end up in messages."""
        try:
            url = httpx2.URL(self.base_url)
        except (httpx2.InvalidURL, ValueError):
            url = httpx2.URL("")
        if url.scheme not in ("http", "https") or not url.host:
            raise ConfigError("The server's URL must be like http://localhost:8000/v1.")
        if url.userinfo or url.query or url.fragment:
            raise ConfigError(
                f"The URL of {url.host} must not hold a password, query or fragment; "
                f"put the key into the environment variable {self.api_key_env}."
            )
        for name in ("concurrency", "timeout_seconds", "attempts"):
            if not getattr(self, name) > 0:
                raise ConfigError(f"{name} {getattr(self, name)} must be positive.")

    @property
    def api_key(self) -> str:
        """Return the key; empty where none is set."""
        key = os.environ.get(self.api_key_env, "").strip()
        if not (key.isascii() and key.isprintable()):
            raise ConfigError(f"The key in {self.api_key_env} holds a character that no key has.")
        return key


class PassingError(Exception):
    """A failure that may pass: without a connection, or after which the server asks for a wait."""

    def __init__(self, reason: str, wait_seconds: float = 0.0, is_connecting: bool = False) -> None:
        """Take the reason as one line."""
        super().__init__(reason)
        self.wait_seconds = wait_seconds
        self.is_connecting = is_connecting


class RefusedError(Exception):
    """The server does not do what it was asked."""

    def __init__(self, status: int, message: str) -> None:
        """Take the whole message, which may name what is not understood anywhere."""
        super().__init__(message)
        self.status = status
        self.message = message


class Connection:
    """Sends HTTP requests, with patience."""

    def __init__(self, settings: ServerSettings) -> None:
        """Contact nobody yet."""
        self._settings = settings
        self.was_reached = False
        """The server has answered at least once."""
        self._jitter = tenacity.wait_random(0.0, settings.first_wait_seconds)
        self._backoff = tenacity.wait_exponential(settings.first_wait_seconds)

    def open(self) -> httpx2.AsyncClient:
        """Return a client for one event loop."""
        key, settings = self._settings.api_key, self._settings
        return httpx2.AsyncClient(
            headers={"Authorization": f"Bearer {key}"} if key else {},
            timeout=httpx2.Timeout(None, connect=min(_CONNECT_SECONDS, settings.timeout_seconds)),
            limits=httpx2.Limits(
                max_connections=settings.concurrency, max_keepalive_connections=settings.concurrency
            ),
        )

    async def send(
        self,
        client: httpx2.AsyncClient,
        method: str,
        path: str,
        content: bytes | None,
        read: Callable[[object], Read],
    ) -> Read:
        """Return what `read` makes of the answer.

        Raises:
            PassingError: every attempt failed.
            RefusedError: the server does not do this.
        """
        retrying = tenacity.AsyncRetrying(
            retry=tenacity.retry_if_exception_type(PassingError),
            stop=self._has_tried_enough,
            wait=self._wait,
            reraise=True,
        )
        return await retrying(self._send_once, client, method, path, content, read)

    async def _send_once(
        self,
        client: httpx2.AsyncClient,
        method: str,
        path: str,
        content: bytes | None,
        read: Callable[[object], Read],
    ) -> Read:
        url = f"{self._settings.base_url.rstrip('/')}/{path}"
        limit = self._settings.timeout_seconds
        headers = {"Content-Type": "application/json"} if content else {}
        try:
            async with asyncio.timeout(limit):
                response = await client.request(method, url, content=content, headers=headers)
        except TimeoutError:
            raise PassingError(f"no answer within {limit:g} s") from None
        except httpx2.RequestError as error:
            is_connecting = isinstance(error, httpx2.ConnectError | httpx2.ConnectTimeout)
            reason = printable_line(self._without_key(str(error) or type(error).__name__))
            raise PassingError(reason, is_connecting=is_connecting) from None
        self.was_reached = True
        if response.is_success:
            try:
                return read(json.loads(response.content))
            except (ValueError, RecursionError) as error:
                raise PassingError(
                    f"its answer makes no sense: {printable_line(str(error))}"
                ) from None
        message = self._without_key(read_error(response.text))
        status = response.status_code
        if (status in (408, 409, 429) or status >= 500) and not is_about_choices(message):
            asked = response.headers.get("Retry-After", "")
            seconds = float(asked) if re.fullmatch(r"[0-9]+(\.[0-9]+)?", asked) else 0.0
            raise PassingError(f"status {status}: {printable_line(message)}", seconds)
        raise RefusedError(status, message)

    def _has_tried_enough(self, state: tenacity.RetryCallState) -> bool:
        error = state.outcome.exception() if state.outcome else None
        is_first = isinstance(error, PassingError) and error.is_connecting
        is_first = is_first and not self.was_reached
        most = self._settings.attempts
        return state.attempt_number >= (min(most, _FIRST_ATTEMPTS) if is_first else most)

    def _wait(self, state: tenacity.RetryCallState) -> float:
        error = state.outcome.exception() if state.outcome else None
        asked = error.wait_seconds if isinstance(error, PassingError) else 0.0
        # Without jitter, all that failed together would come back together.
        wait = max(self._backoff(state), asked) + self._jitter(state)
        return min(wait, self._settings.longest_wait_seconds)

    def _without_key(self, message: str) -> str:
        key = self._settings.api_key
        return message.replace(key, "***") if key else message


@contextmanager
def event_loop(client: httpx2.AsyncClient) -> Iterator[asyncio.AbstractEventLoop]:
    """Run an event loop for `client` in a thread of its own; leaving ends all that it does.

    There, Ctrl-C cannot strike in the middle of a callback, what is in flight goes on while the
    caller works, and the caller may have a loop of its own, as notebooks do.
    """
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="attrib-server", daemon=True)
    thread.start()
    try:
        yield loop
    finally:
        if not sys.is_finalizing():  # the thread would stand still, and this wait forever
            asyncio.run_coroutine_threadsafe(_end(client), loop).result()
            loop.call_soon_threadsafe(loop.stop)
            thread.join()
            loop.close()


async def _end(client: httpx2.AsyncClient) -> None:
    """Cancel all other tasks, see them end, and close the connections."""
    others = asyncio.all_tasks() - {asyncio.current_task()}
    for task in others:
        task.cancel()
    await asyncio.gather(*others, return_exceptions=True)
    await client.aclose()
    await asyncio.get_running_loop().shutdown_asyncgens()
