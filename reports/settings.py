"""Settings as they were recorded: JSON columns as flat, sorted lists, looked up by name.

Which keys a run records is the business of the packages that write them; a report shows what is
there.
"""

import json
from collections.abc import Iterable, Mapping

from attrib.reports.values import Setting


def read_settings(text: str) -> tuple[Setting, ...]:
    """Return the entries of a JSON object sorted by path, nested paths joined by dots."""
    return tuple(Setting(key, value) for key, value in sorted(_flatten("", json.loads(text))))


def _flatten(path: str, value: object) -> list[tuple[str, str]]:
    if isinstance(value, Mapping) and value:
        prefix = f"{path}." if path else ""
        return [pair for key in value for pair in _flatten(f"{prefix}{key}", value[key])]
    if isinstance(value, str):
        return [(path, value)]
    return [] if value == {} else [(path, json.dumps(value, ensure_ascii=False, sort_keys=True))]


def find_setting(settings: Iterable[Setting], *names: str) -> str | None:
    """Return the value of the first of `names` that is the last path component of an entry."""
    values = {
        setting.key.rpartition(".")[2]: setting.value for setting in reversed(tuple(settings))
    }
    return next((values[name] for name in names if name in values), None)
