"""What the process that trains with TRL and the one that records it say to each other.

The trainer asks, the recorder answers, one JSON object a line over a local socket: rollouts become
rewards, a step becomes the order what to keep of it. The trainer waits for each answer, so that
nothing of a run is ahead of its ledger by more than the batch in flight, and it ends when the
recorder is gone.
"""

import json
import socket
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass


@dataclass(frozen=True, slots=True)
class Drawn:
    """The rollouts of one batch, group after group.

    Attributes:
        question_ids: of each rollout.
        completions: their tokens, end token included.
    """

    question_ids: Sequence[str]
    completions: Sequence[Sequence[int]]


@dataclass(frozen=True, slots=True)
class Rewarded:
    """The answer to `Drawn`.

    Attributes:
        rewards: of each rollout; None where it cannot be graded.
        has_signal: whether some group holds right and wrong ones.
    """

    rewards: Sequence[float | None]
    has_signal: bool


@dataclass(frozen=True, slots=True)
class Stepped:
    """The optimiser steps on a batch are made; what the first of them was."""

    loss: float
    norm: float


@dataclass(frozen=True, slots=True)
class Orders:
    """The answer to `Stepped`: what to keep of the state as it is now."""

    weights: bool
    checkpoint: bool


@dataclass(frozen=True, slots=True)
class Saved:
    """A checkpoint is whole; it took so many seconds. There is no answer."""

    seconds: float


Message = Drawn | Rewarded | Stepped | Orders | Saved
_KINDS: dict[str, type[Message]] = {
    kind.__name__: kind for kind in (Drawn, Rewarded, Stepped, Orders, Saved)
}


class HungUpError(Exception):
    """The other end is gone."""


class Line:
    """One end of the conversation."""

    def __init__(self, connection: socket.socket) -> None:
        """Speak over a connected socket, which is closed with the line."""
        self._connection = connection
        self._file = connection.makefile("rw", encoding="utf-8", newline="\n")

    @classmethod
    def call(cls, address: str) -> "Line":
        """Return the end that asks."""
        connection = socket.socket(socket.AF_UNIX)
        connection.connect(address)
        return cls(connection)

    def send(self, message: Message) -> None:
        """Say something.

        Raises:
            HungUpError: nobody listens.
        """
        record = {"kind": type(message).__name__, **asdict(message)}
        try:
            self._file.write(json.dumps(record) + "\n")
            self._file.flush()
        except OSError as error:
            raise HungUpError from error

    def receive(self) -> Message:
        """Wait for something to be said.

        Raises:
            HungUpError: nothing will be any more.
        """
        try:
            text = self._file.readline()
        except OSError as error:
            raise HungUpError from error
        if not text.endswith("\n"):
            raise HungUpError
        record = json.loads(text)
        return _KINDS[record.pop("kind")](**record)

    def close(self) -> None:
        """Hang up."""
        with suppress(OSError):  # what was not said yet has nobody to hear it
            self._file.close()
        self._connection.close()
