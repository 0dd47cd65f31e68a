"""Processes that a library starts for us: quiet, interruptible while they start, ended with us.

Owns what goes around a library that runs a model in processes of its own: what they write is kept
from the user, but not the reason of a failure; Ctrl-C is not swallowed; and when this process is
killed, which leaves it no time to clean up, they do not live on and keep the memory of a GPU.

Run as a program, this file is the watcher that ends them; it needs /proc, as Linux has it.
"""

import os
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import FrameType
from typing import IO

MARK = "ATTRIB_CHILD_OF"  # environment variable by which the processes are recognised
GRACE_SECONDS = 1.0

_STDOUT, _STDERR = 1, 2
_ERROR = re.compile(r"\b[\w.]*(?:Error|Exception): *(?P<reason>\S.*)")


class ChildProcesses:
    """The processes of one library."""

    def __init__(self, *, is_quiet: bool, log: Path | None = None) -> None:
        """Begin to watch.

        Args:
            is_quiet: keep what they write in a file.
            log: its name; without one it goes with this process.
        """
        self._log: IO[bytes] | None = None
        if log is not None:
            log.unlink(missing_ok=True)
            self._log = log.open("a+b")
        elif is_quiet:
            self._log = tempfile.TemporaryFile("a+b")  # noqa: SIM115
        self._token = uuid.uuid4().hex
        self._watcher = subprocess.Popen(
            [sys.executable, "-SE", __file__, f"{MARK}={self._token}"],
            stdin=subprocess.PIPE,
            start_new_session=True,  # Ctrl-C does not reach it
        )

    @contextmanager
    def starting(self) -> Iterator[None]:
        """Surround what starts the processes.

        Raises:
            KeyboardInterrupt: Ctrl-C was typed, even if the library takes that for something else.
        """
        with ExitStack() as stack:
            stack.enter_context(_interruptible())
            if self._log is not None:
                stack.enter_context(_written_to(self._log.fileno()))
            os.environ[MARK] = self._token
            stack.callback(os.environ.pop, MARK)
            yield

    def first_error(self) -> str | None:
        """Return the message of the first exception written: what follows is its consequence."""
        if self._log is None:
            return None
        self._log.seek(0)
        found = _ERROR.search(self._log.read().decode("utf-8", "replace"))
        return found["reason"].strip() if found else None

    def end(self) -> None:
        """End the processes; those that are leaving have a moment for it."""
        self._watcher.communicate()

    def forget(self) -> None:
        """Stop watching: the processes have ended."""
        self._watcher.kill()
        self._watcher.communicate()


class _Interrupted(BaseException):
    """Ctrl-C, in a form that no library catches."""


@contextmanager
def _interruptible() -> Iterator[None]:
    is_main = threading.current_thread() is threading.main_thread()
    if not is_main or signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        yield  # the signal is someone else's affair
        return

    def interrupt(number: int, frame: FrameType | None) -> None:
        raise _Interrupted

    signal.signal(signal.SIGINT, interrupt)
    try:
        yield
    except _Interrupted:
        raise KeyboardInterrupt from None
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@contextmanager
def _written_to(log: int) -> Iterator[None]:
    """Send what this process writes to `log`, and for good what processes begun meanwhile write.

    Raw writes count, not only those through `sys.stdout` and `sys.stderr`.
    """
    saved = {stream: os.dup(stream) for stream in (_STDOUT, _STDERR)}
    for stream in saved:
        os.dup2(log, stream)
    try:
        yield
    finally:
        for stream, original in saved.items():
            os.dup2(original, stream)
            os.close(original)


def _kill_orphans(mark: str) -> None:
    """Wait for stdin to end, as it does with the process that holds it; kill what is marked."""
    sys.stdin.read()
    time.sleep(GRACE_SECONDS)  # most end by themselves
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            is_marked = mark.encode() in (folder / "environ").read_bytes().split(b"\0")
            # Python's own, shared by all that a process starts; it ends in peace.
            is_tracker = b"resource_tracker" in (folder / "cmdline").read_bytes()
            if is_marked and not is_tracker:
                os.kill(int(folder.name), signal.SIGKILL)
        except OSError:  # gone, or another user's
            continue


if __name__ == "__main__":
    _kill_orphans(sys.argv[1])
