"""Cells and sentences whose wording is easily wrong: bounds that are open, orders, repetitions."""

from collections.abc import Callable
from dataclasses import replace
from types import SimpleNamespace
from typing import Any, cast

import polars as pl
import pytest

from attrib.analyses import VOTES, analyze
from attrib.analysis.passk_equivalent import EquivalentAttempts
from attrib.reports.collect import collect_study
from attrib.reports.contents import PARTS, list_parts, name_parts
from attrib.reports.records import Study
from attrib.reports.records_training import PassRun
from attrib.reports.tables_analysis import _read_chance, describe_crossings, describe_equivalent
from attrib.reports.tables_changes import tabulate_votes
from attrib.reports.tables_study import tabulate_choices
from attrib.reports.text import percent_range
from attrib.store import Store


def worth(value: float | None, low: float | None, high: float | None) -> str:
    found = EquivalentAttempts(value, low, high, "", largest_k=8, questions=60, confidence=0.95)
    return describe_equivalent(cast(PassRun, SimpleNamespace(equivalent=found)))


@pytest.mark.parametrize(
    ("bounds", "shown"),
    [
        ((5.8, 4.7, 7.4), "5.8 [4.7, 7.4]"),
        ((5.8, 4.7, None), "5.8 [4.7, over 8]"),
        ((1.3, None, 2.0), "1.3 [under 1, 2.0]"),
        ((None, 3.4, None), "over 8 [3.4, over 8]"),
        ((None, None, 1.2), "under 1 [under 1, 1.2]"),
        ((None, None, None), "– [under 1, over 8]"),
    ],
)
def test_attempts_beyond_what_was_sampled(
    bounds: tuple[float | None, float | None, float | None], shown: str
) -> None:
    assert worth(*bounds) == shown


def test_what_is_said_of_crossings(whole: tuple[Store, Study]) -> None:
    store, study = whole
    assert study.experiment is not None
    runs = [
        PassRun(arm, one.seed, one.crossing, one.equivalent)
        for one in analyze(store, "e0").passes
        if (arm := study.experiment.find(one.role, one.subset)) is not None and one.role == "full"
    ]
    said = describe_crossings(runs).replace("\u00a0", " ")
    assert said.startswith("One attempt of “full” is worth so many of the base, with 95 % ")
    assert "(seed 0); " in said
    assert "With 60 questions a difference of " in said
    assert " points or more at k = 4 would be seen with 80 % power. Do the curves cross? " in said
    blind = [replace(runs[0], crossing=replace(runs[0].crossing, detectable_difference=None))]
    assert "With 60 questions no difference at" in describe_crossings(blind).replace("\u00a0", " ")
    assert describe_crossings([]) == ""


def test_votes_stand_in_the_order_of_buckets() -> None:
    places = ("train:always-correct", "train:never-correct", "train", "held-out:b=2", "held-out")
    rows = [("base", "none", on, f"maj@{k}") for on in places for k in (10, 2)]
    rows.append(("full", "full", "train", VOTES))
    numbers: dict[str, Any] = {"fraction": 1.0, "value": 0.5, "low": 0.4, "high": 0.6, "seeds": 1}
    frame = pl.DataFrame(
        [
            {"role": role, "subset": subset, "evaluated_on": on, "statistic": name, **numbers,
             "questions": 9, "detail": ""}
            for role, subset, on, name in rows
        ]
    )  # fmt: skip
    found = [(row[0], row[2]) for row in tabulate_votes(frame, []).rows]
    assert found == [
        (place, k)
        for place in ("held-out", "held-out, b 2", "training", "training, never-correct",
                      "training, always-correct")
        for k in ("2", "10")
    ]  # fmt: skip


def test_a_calibration_by_chance_is_a_percentage() -> None:
    assert _read_chance("0.0239 on average if perfectly calibrated") == "2.4\u00a0%"
    assert _read_chance("not known") == "not known"


def test_bounds_are_shown_in_one_unit() -> None:
    assert percent_range(0.0051, 0.0672) == "0.5–6.7\u00a0%"
    assert percent_range(0.0, 1.0) == "0.0–100.0\u00a0%"


def test_parts_of_the_page() -> None:
    everything = list_parts(compared=True, trained=True, divided=True, scored=True)
    shown = [section for part in everything for section, _ in part.sections]
    known = [section for sections in PARTS.values() for section in sections]
    assert shown == [one for one in known if one != "next"]
    assert len(known) == len(set(known))
    little = list_parts(compared=False, trained=False, divided=False, scored=False)
    assert [part.name for part in little] == ["Result", "Design", "Before training", "Details"]
    assert [section for section, _ in little[2].sections][-1] == "next"
    assert name_parts(little) == {
        "claims": "Result",
        "design": "Design",
        "buckets": "Before training",
        "settings": "Details",
    }
    undivided = list_parts(compared=False, trained=True, divided=False, scored=False)
    assert "shapley" not in {section for part in undivided for section, _ in part.sections}


def test_choices_about_training_wait_for_training(
    whole: tuple[Store, Study], build_study: Callable[..., Store]
) -> None:
    trained = {row[0] for row in tabulate_choices(whole[1]).rows}
    assert {"Learning rate", "Seeds per arm", "Temperature of the rollouts before RL"} <= trained
    [only] = tabulate_choices(collect_study(build_study(arms=False))).rows
    assert only == ("Temperature of the rollouts before RL", "1.0")
