"""Identities and places: canonical hashes, and where caches live.

Everything that must be recognised again (a question, a sample set, an arm) is known by the hash of
its content, written as canonical JSON: sorted keys, nulls kept, no white space.
"""

import hashlib
import json
import os
import platform
import shlex
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path

import platformdirs
from pydantic import BaseModel, ConfigDict, ValidationError

from attrib.errors import ConfigError

DEFAULT_DATABASE = Path("attrib.duckdb")
PACKAGES = ("torch", "transformers", "duckdb", "polars", "numpy", "scipy", "typer", "pydantic")
_CANONICAL = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=False)
HASH_LENGTH = 16  # hex digits of SHA-256: 64 bits, no collision below a billion items


def canonical_json(value: object) -> str:
    """Return `value` as JSON that is equal whenever the values are equal."""
    return _CANONICAL.encode(value)


def content_hash(value: object) -> str:
    """Return the first 16 hex digits of the SHA-256 of the canonical JSON of `value`."""
    text = canonical_json(value).encode(errors="surrogatepass")  # a model may write half a pair
    return hashlib.sha256(text).hexdigest()[:HASH_LENGTH]


def differing_keys(old: Mapping[str, object], new: Mapping[str, object]) -> list[str]:
    """Return `key: old → new` for every key whose value differs, sorted by key."""
    absent = "(absent)"
    return [
        f"{key}: {old.get(key, absent)!r} → {new.get(key, absent)!r}"
        for key in sorted(old.keys() | new.keys())
        if old.get(key, absent) != new.get(key, absent)
    ]


def cache_folder() -> Path:
    """Return the folder for converted models: `$ATTRIB_HOME`, or the user's cache folder."""
    home = os.environ.get("ATTRIB_HOME")
    return Path(home) if home else platformdirs.user_cache_path("attrib")


def command_line(verb: str, settings: "Settings", database: Path) -> str:
    """Return the command that stands for these settings; what is at its default is left out."""
    words = ["attrib", verb]
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
    return shlex.join(words)


def describe_environment() -> dict[str, str]:
    """Return versions and machine, for bug reports and beside every experiment."""
    found = {
        "attrib": metadata.version("attrib"),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "cores": str(os.cpu_count()),
    }
    for package in PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            found[package] = "not installed"
    return found


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
