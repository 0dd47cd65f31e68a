"""A log for what the processes of a library write, kept out of the user's sight.

Owns the redirection of stdout and stderr, and finding the reason of a failure in what was written.
"""

import os
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager

STDOUT, STDERR = 1, 2

_ERROR = re.compile(r"\b[\w.]*(?:Error|Exception): *(?P<reason>\S.*)")


class QuietLog:
    """A file without a name that other processes write to."""

    def __init__(self) -> None:
        """Open the file; it lives as long as the processes that write to it."""
        self._file = tempfile.TemporaryFile("a+b")  # noqa: SIM115

    @contextmanager
    def collect(self) -> Iterator[None]:
        """Take what this process writes meanwhile, and what processes begun meanwhile ever write.

        Raw writes count, not only those through `sys.stdout` and `sys.stderr`.
        """
        saved = {stream: os.dup(stream) for stream in (STDOUT, STDERR)}
        for stream in saved:
            os.dup2(self._file.fileno(), stream)
        try:
            yield
        finally:
            for stream, original in saved.items():
                os.dup2(original, stream)
                os.close(original)

    def first_error(self) -> str | None:
        """Return the message of the first exception in the log: what follows is its consequence."""
        self._file.seek(0)
        found = _ERROR.search(self._file.read().decode("utf-8", "replace"))
        return found["reason"].strip() if found else None
