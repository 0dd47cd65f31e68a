"""Study files: settings in TOML, tables per command, read as defaults of the command line.

Precedence is flag > environment > study file > default, and is the argument parser's own. A command
that a study runs several times, under other settings each time, has several tables: `[[ablate]]`.
Refuses unknown tables and keys, all of them at once.
"""

import difflib
import tomllib
from collections.abc import Mapping, Set
from pathlib import Path

from attrib.errors import ConfigError

StudyDefaults = dict[str, list[dict[str, object]]]
"""For every command, the defaults of each time it is run."""


def read_study(path: Path, known: Mapping[str, Set[str]]) -> StudyDefaults:
    """Return the defaults that a study file gives to each command, in the file's order.

    Keys above the first table are given to every command that knows them.

    Args:
        path: the TOML file.
        known: names of the options of each command.

    Raises:
        ConfigError: the file cannot be read, or holds tables or keys that nobody knows.
    """
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"The study file {path} cannot be read: {error.strerror}.") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"The study file {path} is not valid TOML: {error}.") from error
    shared: dict[str, object] = {}
    tables: dict[str, list[dict[str, object]]] = {}
    for key, value in content.items():
        if isinstance(value, dict):
            tables[key] = [value]
        elif isinstance(value, list) and value and all(isinstance(one, dict) for one in value):
            tables[key] = value
        else:
            shared[key] = value
    everywhere = set().union(*known.values())
    problems = {_complain("key", key, everywhere) for key in shared.keys() - everywhere}
    problems |= {_complain("table", table, known.keys()) for table in tables.keys() - known.keys()}
    problems |= {
        _complain(f"key in [{table}]", key, known[table])
        for table in tables.keys() & known.keys()
        for values in tables[table]
        for key in values.keys() - known[table]
    }
    if problems:
        raise ConfigError(f"The study file {path} cannot be used: {'; '.join(sorted(problems))}.")
    order = [*tables, *(command for command in known if command not in tables)]
    return {
        command: [
            {**{key: value for key, value in shared.items() if key in known[command]}, **values}
            for values in tables.get(command, [{}])
        ]
        for command in order
    }


def _complain(kind: str, name: str, known: Set[str]) -> str:
    close = difflib.get_close_matches(name, known, n=1)
    return f"unknown {kind} '{name}'" + (f" (did you mean '{close[0]}'?)" if close else "")
