"""Identities: equal values have equal hashes, today and next year."""

import shlex
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from attrib.config import (
    DEFAULT_DATABASE,
    cache_folder,
    canonical_json,
    content_hash,
    differing_keys,
)
from attrib.errors import ConfigError
from attrib.settings import Settings, command_line, move_command, suggest

VALUE = {"b": [1, None, 0.5], "a": "é", "c": {"y": True, "x": 'q"'}}

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=10,
)


def test_canonical_json_is_sorted_and_keeps_nulls_and_letters() -> None:
    assert canonical_json(VALUE) == '{"a":"é","b":[1,null,0.5],"c":{"x":"q\\"","y":true}}'


def test_hashes_never_change() -> None:
    """Stored studies are known by these; a change here orphans every one of them."""
    assert content_hash(VALUE) == "05c5d9f36531d0cc"
    assert content_hash(None) == "74234e98afe7498f"
    assert content_hash({}) == "44136fa355b3678a"


def test_a_null_is_not_an_absence() -> None:
    assert content_hash({"a": None}) == "d091f9c83c091f79"
    assert content_hash({"a": None}) != content_hash({})


@given(st.dictionaries(st.text(), json_values))
def test_the_order_of_keys_does_not_matter(value: dict[str, object]) -> None:
    assert content_hash(dict(reversed(value.items()))) == content_hash(value)


def test_differing_keys_are_named_with_both_values() -> None:
    old = {"seed": 0, "prompt": None, "same": [1]}
    new = {"seed": 1, "same": [1], "added": "x"}
    assert differing_keys(old, new) == [
        "added: '(absent)' → 'x'",
        "prompt: None → '(absent)'",
        "seed: 0 → 1",
    ]
    assert differing_keys(old, old) == []


def test_the_cache_folder_follows_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ATTRIB_HOME", "/somewhere")
    assert str(cache_folder()) == "/somewhere"
    monkeypatch.delenv("ATTRIB_HOME")
    assert cache_folder().name == "attrib"


def test_settings_are_frozen_and_strict() -> None:
    class Small(Settings):
        n: int = 1

    with pytest.raises(ConfigError, match="--m 2: Extra inputs"):
        Small(m=2)
    with pytest.raises(ValidationError, match="frozen"):
        Small().n = 2  # type: ignore[misc]


def test_a_command_line_says_what_is_not_at_its_default() -> None:
    class Some(Settings):
        where: str | None = None
        limit: int | None = None
        all_but: bool = True
        new_set: bool = False
        subset: tuple[str, ...] = ()

    some = Some(where="a = 'b'", limit=3, all_but=False, new_set=True, subset=("x", "y"))
    words = shlex.split(command_line("ablate", some, Path("s.duckdb")))
    assert words == [
        *("attrib", "ablate", "--db", "s.duckdb", "--where", "a = 'b'", "--limit", "3"),
        *("--no-all-but", "--new-set", "--subset", "x", "--subset", "y"),
    ]
    assert command_line("sample", Some(), Path("attrib.duckdb")) == "attrib sample"


@pytest.mark.parametrize(
    "value", ["a = 'b'", "'$HOME'", "'\"'", "it's `x`", "'\\", "!'", "", "a\nb'"]
)
def test_a_shell_reads_back_the_values_of_a_command_line(value: str) -> None:
    class Some(Settings):
        where: str | None = None

    line = command_line("sample", Some(where=value), DEFAULT_DATABASE)
    script = f'attrib() {{ printf "%s" "$3"; }}; {line}'
    assert subprocess.run(["bash", "-c", script], capture_output=True, text=True).stdout == value
    assert ("\"a = 'b'\"" in line) == (value == "a = 'b'")


def test_settings_name_everything_that_is_wrong() -> None:
    class Some(Settings):
        max_rollouts: int = 1

    with pytest.raises(ConfigError, match=r"--max-rollouts x: .*; --other 1: Extra inputs"):
        Some(max_rollouts="x", other=1)


def test_commands_name_the_study_where_it_is_now() -> None:
    here, there = DEFAULT_DATABASE, Path("my studies/a.duckdb")
    assert suggest("sample --n 128", here) == "attrib sample --n 128"
    assert suggest("sample --n 128", there) == "attrib sample --n 128 --db 'my studies/a.duckdb'"
    recorded = "attrib sample --db old.duckdb --where \"a = 'b'\""
    assert move_command(recorded, here) == "attrib sample --where \"a = 'b'\""
    assert shlex.split(move_command(recorded, there))[-2:] == ["--db", str(there)]
