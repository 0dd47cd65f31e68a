"""Talk and progress, on stderr: a bar with rate and ETA on a terminal, else a line a minute."""

import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

SECONDS_BETWEEN_LINES = 60.0

Advance = Callable[[int], None]

_quiet = False
_subject: ContextVar[str] = ContextVar("subject", default="")


def be_quiet(wanted: bool) -> None:
    """Keep progress and talk back from now on, or no longer; errors are printed all the same."""
    global _quiet
    _quiet = wanted


def say(message: str) -> None:
    """Tell the user something, on stderr, unless quiet was asked for."""
    if not _quiet:
        complain(message)


def complain(message: str) -> None:
    """Tell the user what went wrong, on stderr, whatever was asked for."""
    print(message, file=sys.stderr, flush=True)


@contextmanager
def silenced() -> Iterator[None]:
    """Keep back whatever is written to stderr during the block, by code of any language."""
    sys.stderr.flush()
    saved = os.dup(2)
    try:
        with open(os.devnull, "w") as nothing:
            os.dup2(nothing.fileno(), 2)
        yield
    finally:
        os.dup2(saved, 2)
        os.close(saved)


def format_rate(per_second: float | None, unit: str) -> str:
    """Return a rate in words; an unknown rate is a question mark."""
    if not per_second:
        return f"? {unit}/s"
    if per_second < 0.5:
        return f"{per_second * 60:.1f} {unit}/min"
    return f"{per_second:.1f} {unit}/s"


@contextmanager
def working_on(subject: str) -> Iterator[None]:
    """Let progress within the block say what it is about, such as an arm."""
    token = _subject.set(subject)
    try:
        yield
    finally:
        _subject.reset(token)


@contextmanager
def track(description: str, total: int, unit: str, done: int = 0) -> Iterator[Advance]:
    """Show progress from `done` towards `total` units; the block calls what is yielded.

    It takes increments, 0 included: a sign of life.
    """
    subject = _subject.get()
    description = f"{description} ({subject})" if subject else description
    if _quiet:
        yield lambda increment: None
    elif not sys.stderr.isatty():
        yield _log_lines(description, total, unit, done)
    else:
        from attrib.progress_bar import show_bar

        with show_bar(description, total, unit, done) as advance:
            yield advance


def _log_lines(description: str, total: int, unit: str, before: int) -> Advance:
    started = last_line = time.monotonic()
    done = before

    def advance(increment: int) -> None:
        nonlocal last_line, done
        done += increment
        now = time.monotonic()
        is_end = done >= total and increment > 0
        if now - last_line < SECONDS_BETWEEN_LINES and not is_end:
            return
        last_line = now
        rate = (done - before) / (now - started) if now > started else None
        left = f", ETA {(total - done) / rate:.0f} s" if rate and done < total else ""
        line = f"{description}: {done}/{total} {unit}, {format_rate(rate, unit)}{left}"
        sys.stderr.write(line + "\n")
        sys.stderr.flush()

    return advance
