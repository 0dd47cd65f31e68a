"""Scoring finished arms end to end on a tiny model."""

import shutil
from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest

from attrib.attribution.ablate import AblationSummary
from attrib.attribution.attribute import AttributeSettings, AttributionSummary, attribute
from attrib.attribution.score_methods import ScoreMethod
from attrib.store import Store

Connect = Callable[[Path], Store]
CPU = {"device": "cpu"}


@pytest.fixture(scope="module")
def trained(
    tmp_path_factory: pytest.TempPathFactory,
    bucketed: Path,
    connect: Connect,
    ablate_shortly: Callable[..., AblationSummary],
) -> Path:
    """Train full arms of two seeds; copy the study before changing it."""
    path = tmp_path_factory.mktemp("trained") / "study.duckdb"
    store = connect(Path(shutil.copy(bucketed, path)))
    ablate_shortly(store, seeds=2)
    store.close()  # type: ignore[attr-defined]
    return path


def test_end_to_end(trained: Path, open_store: Callable[..., Store]) -> None:
    store = open_store(original=trained)
    summary = attribute(store, AttributeSettings(**CPU))
    assert len(summary.methods) == len(ScoreMethod)
    print(summary)
