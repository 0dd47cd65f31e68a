"""Settings of commands: one frozen pydantic model each, and the command line that stands for it."""

import shlex
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from attrib.config import DEFAULT_DATABASE
from attrib.errors import ConfigError


class Settings(BaseModel):
    """Base of the settings of each command: frozen, and strict about names and values."""

    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=())

    def __init__(self, **values: object) -> None:
        """Check the values.

        Raises:
            ConfigError: some are not what they should be; all of them are named.
        """
        try:
            super().__init__(**values)
        except ValidationError as error:
            problems = [
                f"--{str(e['loc'][0]).replace('_', '-')} {e.get('input')}: {e['msg']}"
                for e in error.errors()
            ]
            raise ConfigError("; ".join(problems)) from error


def command_line(verb: str, settings: Settings, database: Path) -> str:
    """Return the command that stands for these settings; what is at its default is left out."""
    words = ["attrib", *verb.split()]
    if database != DEFAULT_DATABASE:
        words += ["--db", str(database)]
    for name, field in type(settings).model_fields.items():
        value, flag = getattr(settings, name), name.replace("_", "-")
        if value == field.default:
            continue
        if isinstance(value, bool):
            words.append(f"--{flag}" if value else f"--no-{flag}")
        else:
            several = value if isinstance(value, tuple) else (value,)
            words += [word for one in several for word in (f"--{flag}", str(one))]
    return " ".join(_quote(word) for word in words)


def suggest(words: str, database: Path) -> str:
    """Return a command to type about the study in this file, such as `attrib sample --n 128`."""
    return " ".join(["attrib", words, *_name_database(database)])


def move_command(command: str, database: Path) -> str:
    """Return a recorded command for the file that the study is in now."""
    words = shlex.split(command)
    if "--db" in words:
        at = words.index("--db")
        del words[at : at + 2]
    return " ".join([*(_quote(word) for word in words), *_name_database(database)])


def _name_database(database: Path) -> list[str]:
    return [] if database == DEFAULT_DATABASE else ["--db", _quote(str(database))]


def _quote(word: str) -> str:
    """Quote a word for a shell: SQL's single quotes stay readable inside double ones."""
    if "'" in word and not set(word) & set('"$`\\!'):
        return f'"{word}"'
    return shlex.quote(word)
