"""Holding what `--json` prints against what docs/json.md says of it."""

import importlib.util
from collections.abc import Mapping, Sequence
from dataclasses import fields, is_dataclass
from enum import Enum
from pathlib import Path
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

import numpy as np
import polars as pl

ROOT = Path(__file__).parents[1]
SCALARS = {
    str: str, Path: str, int: int, float: (int, float), bool: bool, type(None): type(None),
    object: object,
}  # fmt: skip


def load_shapes() -> Any:
    spec = importlib.util.spec_from_file_location("generate_json", ROOT / "docs/generate_json.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


SHAPES = load_shapes()


def check(value: Any, kind: Any, place: str) -> None:
    """Assert that a JSON value is what the type promises, with no key more or fewer."""
    origin, arguments = get_origin(kind), get_args(kind)
    if kind in SCALARS:
        assert isinstance(value, SCALARS[kind]), f"{place} is {value!r}, not {kind}"
        assert kind in (bool, object) or not isinstance(value, bool), place
    elif isinstance(kind, str):
        check(value, pl.DataFrame, place)
        assert value, f"{place}: no row shows its shape"
        assert all(list(row) == list(SHAPES.ROWS[kind]) for row in value), place
    elif origin in (Union, UnionType):
        check_union(value, arguments, place)
    elif origin is Literal:
        assert value in arguments, place
    elif isinstance(kind, type) and issubclass(kind, Enum):
        assert value in {one.value for one in kind}, place
    elif is_dataclass(kind):
        assert isinstance(value, dict), place
        assert list(value) == [field.name for field in fields(kind)], place
        hints = get_type_hints(kind)
        for name, one in value.items():
            check(one, hints[name], f"{place}.{name}")
    elif origin is Mapping:
        assert isinstance(value, dict), place
        for name, one in value.items():
            check(one, arguments[1], f"{place}.{name}")
    elif origin is np.ndarray:
        check_numbers(value, place)
    elif kind is pl.DataFrame:
        check(value, list[Mapping[str, object]], place)
    elif origin is tuple and Ellipsis not in arguments:
        for at, (one, expected) in enumerate(zip(value, arguments, strict=True)):
            check(one, expected, f"{place}[{at}]")
    else:
        assert origin in (tuple, list, Sequence), f"{place}: {kind}"
        assert isinstance(value, list), place
        for at, one in enumerate(value):
            check(one, arguments[0], f"{place}[{at}]")


def check_numbers(value: Any, place: str) -> None:
    assert isinstance(value, list), place
    for one in value:
        if isinstance(one, list):
            check_numbers(one, place)
        else:
            check(one, float | None, place)


def check_union(value: Any, kinds: Sequence[Any], place: str) -> None:
    if value is None:
        assert type(None) in kinds, place
        return None
    kinds = [kind for kind in kinds if kind is not type(None)]
    if len(kinds) == 1:
        return check(value, kinds[0], place)
    assert any(kind in SCALARS and isinstance(value, SCALARS[kind]) for kind in kinds), place
