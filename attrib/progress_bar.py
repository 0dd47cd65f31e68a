"""The progress bar of a terminal: what is done, the rate and the time left."""

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

from attrib.progress import format_rate


class _RateColumn(ProgressColumn):
    """Finished units per second, or per minute where that reads better."""

    def __init__(self, unit: str) -> None:
        super().__init__()
        self._unit = unit

    def render(self, task: Task) -> Text:
        return Text(format_rate(task.speed, self._unit), style="progress.data.speed")


@contextmanager
def show_bar(description: str, total: int, unit: str, done: int) -> Iterator[Callable[[int], None]]:
    """Show a bar on stderr from `done` towards `total`; the block calls what is yielded."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        _RateColumn(unit),
        TimeElapsedColumn(),
        TextColumn("ETA"),
        TimeRemainingColumn(),
    )
    console = Console(stderr=True)
    with Progress(*columns, console=console, speed_estimate_period=120) as progress:
        task = progress.add_task(description, total=total, completed=done)
        yield lambda increment: progress.update(task, advance=increment)
