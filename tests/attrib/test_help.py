"""Every command and every option explains itself, and `--help` costs next to nothing."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer.main

from attrib.cli import app

REFERENCE = (Path(__file__).parents[2] / "docs/cli.md").read_text(encoding="utf-8")
QUIET = {"sample", "bucket", "ablate", "run", "report", "export", "grade", "grade export"}
QUIET |= {"data import", "data import-rollouts", "data split"}
QUIET |= {"attribute", "attribute validate", "attribute curves", "attribute export"}
"""Commands that talk on stderr while they work."""


def walk(group: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from walk(command, f"{prefix}{name} ")
        if not hasattr(command, "commands") or command.invoke_without_command:
            yield f"{prefix}{name}", command


COMMANDS = dict(walk(typer.main.get_command(app)))
OPTIONS = [
    pytest.param(name, parameter, id=f"{name} {parameter.name}")
    for name, command in COMMANDS.items()
    for parameter in command.params
]


def test_all_commands_are_seen() -> None:
    assert len(COMMANDS) >= 19
    assert {"sample", "grade", "grade suspects", "data import-rollouts", "export"} <= set(COMMANDS)


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_says_what_it_does_with_an_example(name: str) -> None:
    help_text = COMMANDS[name].help
    assert help_text.splitlines()[0].endswith((".", ","))
    [example] = re.findall(r"Example: `(attrib [^`]+)`", help_text)
    assert example.startswith(f"attrib {name}")
    flags = {flag for p in COMMANDS[name].params for flag in (*p.opts, *p.secondary_opts)}
    assert {word for word in example.split() if re.fullmatch("--?[a-z][a-z-]*", word)} <= flags
    assert f"## attrib {name}\n" in REFERENCE
    assert help_text in REFERENCE


@pytest.mark.parametrize(("command", "parameter"), OPTIONS)
def test_an_option_says_what_it_means_and_its_default(command: str, parameter: Any) -> None:
    assert parameter.help.endswith("."), "a sentence"
    assert len(parameter.help) >= 8
    optional = parameter.param_type_name == "option" and not parameter.required
    if optional and parameter.default is None and not parameter.multiple:
        assert "default: " in parameter.help.lower(), "what holds without it"
    assert "_" not in parameter.opts[0] or parameter.param_type_name == "argument"
    section = REFERENCE.split(f"## attrib {command}\n")[1].split("\n## ")[0]
    assert f"| `{', '.join((*parameter.opts, *parameter.secondary_opts))}` |" in section


@pytest.mark.parametrize("name", COMMANDS)
def test_what_is_for_programs_is_everywhere(name: str) -> None:
    names = {parameter.name for parameter in COMMANDS[name].params}
    assert "as_json" in names
    assert ("quiet" in names) == (name in QUIET)
