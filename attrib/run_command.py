"""`attrib run`: a whole study from its file, and study files as defaults of single commands."""

from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from attrib.errors import ConfigError
from attrib.options import AsJson, Quiet, refuse_two_outputs, show_config, step_of_a_study
from attrib.progress import say

if TYPE_CHECKING:
    from attrib.study import StudyFile, Table

STEPS = (
    *("data import", "data import-rollouts", "sample", "grade", "bucket"),
    *("ablate", "analyze", "attribute", "attribute validate", "attribute curves", "report"),
)
"""What a study is made of, in the order in which it is run."""


def run(
    ctx: typer.Context,
    study: Annotated[
        str | None,
        typer.Argument(
            help="TOML file with a table per step, or the name of a preset.", metavar="STUDY"
        ),
    ] = None,
    list_: Annotated[
        bool, typer.Option("--list", help="List the presets, the studies of the package.")
    ] = False,
    print_config: Annotated[
        bool,
        typer.Option(
            "--print-config",
            help="Show each setting of each step and where it comes from; do nothing.",
        ),
    ] = False,
    quiet: Quiet = False,
    as_json: AsJson = False,
) -> None:
    """Run a whole study: the steps that its file has tables for, from `data import` to `report`.

    A table of a command within `attribute` stands for `attribute` as well, whose scores it needs.
    The same command continues a study that was stopped.

    Example: `attrib run demo`
    """
    if list_:
        from attrib.study import list_presets

        for preset in list_presets():
            typer.echo(f"{preset.name:<20} {preset.description}.")
        return
    if study is None:
        raise typer.BadParameter(
            "name a file or a preset, or --list them.", ctx, param_hint="STUDY"
        )
    found = study_defaults(ctx, study)
    if not found.tables & {*STEPS}:
        raise ConfigError(f"The study {study} has a table for no step: {', '.join(STEPS)}.")
    for values in found.defaults["report"]:
        refuse_two_outputs(Path(str(values.get("output", ""))), as_json)
    root: Any = ctx.find_root()
    for step in STEPS:
        is_wanted = any(f"{one} ".startswith(f"{step} ") for one in found.tables & {*STEPS})
        for values in found.defaults[step] if is_wanted else []:
            (typer.echo if print_config else say)(f"── attrib {step}")
            flags = {"quiet": quiet, "as_json": as_json, "print_config": print_config}
            with step_of_a_study(step):
                _run_step(root, step, {**values, **flags})


def study_defaults(ctx: typer.Context, study: str) -> "StudyFile":
    """Return what a study file says to the commands there are.

    Raises:
        ConfigError: the file cannot be read, or holds tables or keys that nobody knows.
    """
    from attrib.study import read_study

    commands = dict(_walk(ctx.find_root().command))
    known = {
        name: {parameter.name for parameter in command.params} for name, command in commands.items()
    }
    found = read_study(study, known)
    for step, several in found.defaults.items():
        for parameter in commands[step].params:
            for values in several:
                given = values.get(parameter.name)
                if isinstance(given, bool) and not parameter.is_flag:
                    said = f"{parameter.name} = {str(given).lower()}"
                    raise ConfigError(f"The study {study} has {said}, which is no value for it.")
                if parameter.multiple and not isinstance(values.get(parameter.name, []), list):
                    values[parameter.name] = [values[parameter.name]]  # one needs no brackets
    return found


def nest(defaults: Mapping[str, "Table"]) -> dict[str, Any]:
    """Return defaults by command as the parser takes them: those of `data import` within `data`."""
    nested: dict[str, Any] = {}
    for command, values in defaults.items():
        place = nested
        for word in command.split():
            place = place.setdefault(word, {})
        place.update(values)
    return nested


def _walk(group: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield every command that takes settings, those of groups by all their words."""
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from _walk(command, f"{prefix}{name} ")
        if command.callback is not None and name != "run":
            yield f"{prefix}{name}", command


def _run_step(root: typer.Context, step: str, values: "Table") -> None:
    """Run one command with `values` as its defaults, or show its settings."""
    root.default_map = nest({step: values})
    words = step.split()
    with ExitStack() as stack:
        context = root
        for place, word in enumerate(words):
            group: Any = context.command
            made = group.commands[word].make_context(word, words[place + 1 :], parent=context)
            context = stack.enter_context(made)
        if values["print_config"] and "print_config" not in context.params:
            show_config(context)
        else:
            context.command.invoke(context)
