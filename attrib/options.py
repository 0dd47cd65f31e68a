"""What commands share: common options, settings from parameters, machine output."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from attrib.errors import ConfigError
from attrib.files import STDOUT
from attrib.progress import be_quiet, say

if TYPE_CHECKING:
    from attrib.settings import Settings

MOST_SHOWN = 40  # characters of a setting's value that others are set in line with

AnySettings = TypeVar("AnySettings", bound="Settings")

Database = Annotated[
    Path, typer.Option("--db", envvar="ATTRIB_DB", help="The study's database.", metavar="FILE")
]
AsJson = Annotated[
    bool, typer.Option("--json", help="Print JSON instead of tables (docs/json.md).")
]
PrintConfig = Annotated[
    bool,
    typer.Option("--print-config", help="Show each setting and where it comes from; do nothing."),
]


def _hush(quiet: bool) -> bool:
    be_quiet(quiet)
    return quiet


Quiet = Annotated[
    bool,
    typer.Option(
        "--quiet", "-q", callback=_hush, help="No progress and no talk; results and errors only."
    ),
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Print the plan; train nothing.")]
Device = Annotated[str, typer.Option(help="cpu, cuda, cuda:1, …; auto takes CUDA where there is.")]

_JUDGE: Any = {"rich_help_panel": "The judge"}
JudgeModel = Annotated[
    list[str] | None,
    typer.Option(help="A model that judges; may be repeated: the majority decides.", **_JUDGE),
]
JudgeUrl = Annotated[
    str | None, typer.Option(help="The server of the judges; default: this machine.", **_JUDGE)
]
JudgeKeyEnv = Annotated[
    str, typer.Option(help="Environment variable that holds its key.", **_JUDGE)
]
JudgeConcurrency = Annotated[int, typer.Option(help="HTTP requests in flight.", **_JUDGE)]
MaxJudgeCalls = Annotated[
    int | None,
    typer.Option(help="Calls after which grading stops; it can go on; default: any.", **_JUDGE),
]


_CLUSTER: Any = {"rich_help_panel": "On a cluster (docs/scale.md)"}
ClusterAddress = Annotated[
    str | None,
    typer.Option(
        "--cluster",
        help="Ray: local, auto, or an address such as ray://head:10001; none: this process; "
        "default: none, and for arms local where there are several GPUs.",
        metavar="ADDRESS",
        **_CLUSTER,
    ),
]
Workers = Annotated[
    int | None, typer.Option(help="Workers at most; default: as many as fit.", **_CLUSTER)
]
GpusPerWorker = Annotated[
    float | None,
    typer.Option(help="GPUs of a worker; default: 1 where the cluster has any.", **_CLUSTER),
]
CpusPerWorker = Annotated[float, typer.Option(help="CPU cores of a worker.", **_CLUSTER)]
Storage = Annotated[
    str | None,
    typer.Option(
        help="Folder or URL that every node sees, for checkpoints; default: beside the study, "
        "if local.",
        metavar="PLACE",
        **_CLUSTER,
    ),
]


def make_settings(ctx: typer.Context, kind: type[AnySettings]) -> AnySettings:
    """Return the command's settings from its parameters of the same names."""
    given = {name: value for name, value in ctx.params.items() if name in kind.model_fields}
    return kind(**{name: () if value == [] else value for name, value in given.items()})


def refuse_two_outputs(output: Path, as_json: bool) -> None:
    """Refuse to print a file's contents and a summary of it to the same place.

    Raises:
        ConfigError: both would go to stdout.
    """
    if as_json and output == STDOUT:
        raise ConfigError("--json and --output - would both print to stdout. Leave one out.")


def announce(output: Path, *lines: str) -> None:
    """Say what was written: on stdout, unless that is where it was written to."""
    for line in lines:
        if output == STDOUT:
            say(line)
        else:
            typer.echo(line)


def show_config(ctx: typer.Context) -> None:
    """Print each parameter's value and where it comes from, by its name in a study file."""
    sources = {"COMMANDLINE": "flag", "ENVIRONMENT": "environment", "DEFAULT_MAP": "study file"}
    rows = []
    for parameter in ctx.command.params:
        name = parameter.name or ""
        if name in ctx.params and name not in ("print_config", "as_json", "quiet", "dry_run"):
            source = ctx.get_parameter_source(name)
            where = sources.get(source.name if source else "", "default")
            rows.append((name, _show_value(ctx.params[name]), where))
    widths = [max(len(row[column]) for row in rows) for column in (0, 1)]
    for name, value, where in rows:
        typer.echo(f"{name:<{widths[0]}}  {value:<{min(widths[1], MOST_SHOWN)}}  {where}")


def _show_value(value: object) -> str:
    """Return a setting in one line."""
    if value in (None, "", [], ()):
        return "(none)"
    shown = ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
    return " ".join(shown.split())


_STEP: ContextVar[str] = ContextVar("step", default="")


@contextmanager
def step_of_a_study(step: str) -> Iterator[None]:
    """Let what is printed as JSON be a line that names its step."""
    token = _STEP.set(step)
    try:
        yield
    finally:
        _STEP.reset(token)


def print_json(value: Any) -> None:
    """Print a record as JSON: on lines of its own, or as a line of a study's steps."""
    from attrib.tables import to_json

    step = _STEP.get()
    typer.echo(to_json({"step": step, "result": value}, indent=None) if step else to_json(value))
