"""A real HTTP server on this machine that does what a test says."""

import json
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass(frozen=True)
class Call:
    """What arrived: `number` counts the requests from 0, `again` those with the same body."""

    number: int
    again: int
    path: str
    headers: dict[str, str]
    fields: dict[str, Any]


@dataclass(frozen=True)
class Reply:
    status: int = 200
    content: object = b""
    headers: dict[str, str] = field(default_factory=dict)


DROP = Reply(status=-1)
"""Close the connection without a word."""
HANG = Reply(status=-2)
"""Say nothing until the client leaves."""


class LocalServer(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 256

    def __init__(self, behave: Callable[[Call], Reply]) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.behave = behave
        self.lock = threading.Lock()
        self.calls: list[Call] = []
        self.in_flight = 0
        self.most_in_flight = 0
        self.connections = 0
        self.abandoned = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/v1"

    def receive(self, path: str, headers: dict[str, str], body: bytes) -> Call:
        with self.lock:
            self.in_flight += 1
            self.most_in_flight = max(self.most_in_flight, self.in_flight)
            fields = json.loads(body) if body else {}
            again = sum(call.fields == fields for call in self.calls)
            call = Call(len(self.calls), again, path, headers, fields)
            self.calls.append(call)
        return call

    def handle_error(self, request: object, client_address: object) -> None:
        """Say nothing: clients that leave are part of the tests."""


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = -1  # head and body in one packet, or the client's kernel waits for more
    server: LocalServer

    def setup(self) -> None:
        super().setup()
        with self.server.lock:
            self.server.connections += 1

    def finish(self) -> None:
        with self.server.lock:
            self.server.connections -= 1
        super().finish()

    def do_POST(self) -> None:
        length = int(self.headers.get("Content-Length", 0))
        call = self.server.receive(self.path, dict(self.headers), self.rfile.read(length))
        reply = self.server.behave(call)
        if reply is HANG:
            self.wait_until_left()
        with self.server.lock:
            self.server.in_flight -= 1
        if reply in (DROP, HANG):
            self.close_connection = True
            return
        content = reply.content
        if not isinstance(content, bytes):
            content = json.dumps(content).encode()
        self.send_response(reply.status)
        for name, value in reply.headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    do_GET = do_POST

    def wait_until_left(self) -> None:
        """Count a client that closes its connection instead of waiting on."""
        try:
            self.connection.settimeout(10)
            left = self.connection.recv(1) == b""
        except ConnectionError:
            left = True
        except TimeoutError:
            left = False
        with self.server.lock:
            self.server.abandoned += left

    def log_message(self, format: str, *args: object) -> None:
        """Keep stderr clean."""


def choice(
    text: object = "Paris", end: object = "stop", logprobs: Sequence[float | None] | None = None
) -> dict[str, object]:
    """Return a choice of the text API."""
    reported = None if logprobs is None else {"token_logprobs": list(logprobs)}
    return {"text": text, "finish_reason": end, "logprobs": reported}


def chat_choice(
    text: object = "Paris", end: object = "stop", logprobs: Sequence[float] | None = None
) -> dict[str, object]:
    """Return a choice of the chat API."""
    reported = None if logprobs is None else {"content": [{"logprob": one} for one in logprobs]}
    return {"message": {"content": text}, "finish_reason": end, "logprobs": reported}


def said(*choices: object, used: object = None) -> Reply:
    usage = {} if used is None else {"usage": {"completion_tokens": used}}
    return Reply(content={"choices": list(choices), **usage})


def refuse(status: int, message: str, **headers: str) -> Reply:
    return Reply(status, {"error": {"message": message}}, headers)


def answer_well(call: Call) -> Reply:
    """Answer with the prompt, the seed and the place among the choices."""
    fields = call.fields
    one = chat_choice if "messages" in fields else choice
    asked = fields["messages"][-1]["content"] if "messages" in fields else fields["prompt"]
    return said(*(one(f"{asked}/{fields.get('seed')}/{i}") for i in range(fields["n"])))
