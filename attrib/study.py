"""Study files: settings in TOML, tables per command, read as defaults of the command line.

Precedence is flag > environment > study file > default, and is the argument parser's own. A command
that a study runs several times, under other settings each time, has several tables: `[[ablate]]`.
Presets are study files that come with the package, known by their names. Refuses unknown tables and
keys, all of them at once.
"""

import difflib
import tomllib
from collections.abc import Iterator, Mapping, Set
from dataclasses import dataclass
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path

from attrib.errors import ConfigError

Table = dict[str, object]


@dataclass(frozen=True, slots=True)
class Preset:
    """A study file of the package."""

    name: str
    description: str
    file: Traversable


@dataclass(frozen=True, slots=True)
class StudyFile:
    """What a study file says.

    Attributes:
        defaults: for every command, `data import` by both words, the defaults of each time it runs.
        tables: the commands that have a table of their own.
    """

    defaults: Mapping[str, list[Table]]
    tables: Set[str]


def list_presets() -> list[Preset]:
    """Return the presets by name; the first line of each file describes it."""
    folder = resources.files("attrib") / "presets"
    return [
        Preset(
            file.name.removesuffix(".toml"),
            file.read_text(encoding="utf-8").partition("\n")[0].removeprefix("# ").rstrip("."),
            file,
        )
        for file in sorted(folder.iterdir(), key=lambda file: file.name)
        if file.name.endswith(".toml")
    ]


def read_study(name: str, known: Mapping[str, Set[str]]) -> StudyFile:
    """Return what a study file gives to each command, in the file's order.

    Keys above the first table are given to every command that knows them.

    Args:
        name: of a preset, or the path of a TOML file.
        known: names of the options of each command.

    Raises:
        ConfigError: the file cannot be read, or holds tables or keys that nobody knows.
    """
    content = _parse(name)
    shared: Table = {}
    tables: dict[str, list[Table]] = {}
    for key, value in content.items():
        found = dict(_find_tables(key, value))
        tables.update(found)
        if not found:
            shared[key] = value
    everywhere = set().union(*known.values())
    problems = {_complain("key", key, everywhere) for key in shared.keys() - everywhere}
    problems |= {_complain("table", table, known.keys()) for table in tables.keys() - known.keys()}
    problems |= {
        _complain(f"key in [{_in_toml(table)}]", key, known[table])
        for table in tables.keys() & known.keys()
        for values in tables[table]
        for key in values.keys() - known[table]
    }
    if problems:
        raise ConfigError(f"The study {name} cannot be used: {'; '.join(sorted(problems))}.")
    order = [*tables, *(command for command in known if command not in tables)]
    defaults = {
        command: [
            {**{key: value for key, value in shared.items() if key in known[command]}, **values}
            for values in tables.get(command, [{}])
        ]
        for command in order
    }
    return StudyFile(defaults, tables.keys())


def _parse(name: str) -> Table:
    presets = {preset.name: preset.file for preset in list_presets()}
    try:
        return tomllib.loads(presets.get(name, Path(name)).read_text(encoding="utf-8"))
    except OSError as error:
        hint = "" if name.endswith(".toml") else f" Presets: {', '.join(presets)}"
        raise ConfigError(f"The study {name} cannot be read: {error.strerror}.{hint}") from error
    except ValueError as error:  # TOML, UTF-8, or a path with a NUL byte
        raise ConfigError(f"The study {name} is not valid TOML: {error}.") from error
    except RecursionError as error:
        raise ConfigError(
            f"The study {name} is not valid TOML: it is nested too deeply."
        ) from error


def _find_tables(key: str, value: object) -> Iterator[tuple[str, list[Table]]]:
    """Yield the tables at a key by command: `[data.import]` belongs to `data import`."""
    if isinstance(value, list) and value and all(isinstance(one, dict) for one in value):
        yield key, value
    elif isinstance(value, dict):
        inner = {sub: list(_find_tables(f"{key} {sub}", one)) for sub, one in value.items()}
        plain = {sub: value[sub] for sub, found in inner.items() if not found}
        if plain or not inner:
            yield key, [plain]
        for found in inner.values():
            yield from found


def _in_toml(command: str) -> str:
    return command.replace(" ", ".")


def _complain(kind: str, name: str, known: Set[str]) -> str:
    close = difflib.get_close_matches(name, known, n=1)
    hint = f" (did you mean '{_in_toml(close[0])}'?)" if close else ""
    return f"unknown {kind} '{_in_toml(name)}'{hint}"
