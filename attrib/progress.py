"""Progress of long work, on stderr: a bar with rate and ETA on a terminal, else a line a minute."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.text import Text

SECONDS_BETWEEN_LINES = 60.0

Advance = Callable[[int], None]


class _RateColumn(ProgressColumn):
    """Finished units per second, or per minute where that reads better."""

    def __init__(self, unit: str) -> None:
        super().__init__()
        self._unit = unit

    def render(self, task: Task) -> Text:
        return Text(format_rate(task.speed, self._unit), style="progress.data.speed")


def format_rate(per_second: float | None, unit: str) -> str:
    """Return a rate in words; an unknown rate is a question mark."""
    if not per_second:
        return f"? {unit}/s"
    if per_second < 0.5:
        return f"{per_second * 60:.1f} {unit}/min"
    return f"{per_second:.1f} {unit}/s"


@contextmanager
def track(description: str, total: int, unit: str, done: int = 0) -> Iterator[Advance]:
    """Show progress from `done` towards `total` units; the block calls what is yielded.

    It takes increments, 0 included: a sign of life.
    """
    console = Console(stderr=True)
    if not console.is_terminal:
        yield _log_lines(description, total, unit, done)
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        _RateColumn(unit),
        TimeElapsedColumn(),
        TextColumn("ETA"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, speed_estimate_period=120) as progress:
        task = progress.add_task(description, total=total, completed=done)
        yield lambda increment: progress.update(task, advance=increment)


def say(message: str) -> None:
    """Tell the user something, on stderr."""
    Console(stderr=True, soft_wrap=True, highlight=False).print(message, markup=False)


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
