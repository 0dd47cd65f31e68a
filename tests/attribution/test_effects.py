"""Effects from hand-made evaluations."""

from pathlib import Path

import numpy as np
import polars as pl
import pytest

from attrib.analysis.intervals import gain_share, mcnemar_exact, paired_gain, wilson_interval
from attrib.attribution.effects import estimate_effects, store_effects
from attrib.errors import DataError
from attrib.roles import Role
from attrib.store import Store

QUESTIONS = 40


def outcomes(correct: int) -> list[str]:
    return ["correct"] * correct + ["incorrect"] * (QUESTIONS - correct)


def make_study(path: Path, verdicts: dict[tuple[str, str], list[str]], **statuses: str) -> Store:
    store = Store(path / "study.duckdb")
    with store.writing("test"), store.transaction() as transaction:
        for (role, subset), column in verdicts.items():
            place = {"experiment_id": "e", "arm_id": role + subset, "subset": subset, "role": role}
            transaction.append("arm_roles", pl.DataFrame([place]))
            run = {"arm_id": role + subset, "method": "grpo", "seed": 0, "params": "{}"}
            run |= {"questions": 3, "status": statuses.get(role, "done")}
            transaction.append("training_runs", pl.DataFrame([run]))
            rows = pl.DataFrame(
                {"question_id": [f"q{i:02}" for i in range(QUESTIONS)], "verdict": column}
            ).with_columns(
                pl.lit(role + subset).alias("arm_id"),
                pl.lit(3).alias("step"),
                pl.lit("greedy").alias("decoding"),
                pl.lit(0).alias("rollout"),
                pl.lit("text").alias("text"),
                pl.lit("").alias("detail"),
                pl.lit("match-0").alias("eval_grader"),
            )
            transaction.append("evaluations", rows)
    return store


STUDY = {
    ("base", "none"): outcomes(10),
    ("full", "full"): outcomes(30),
    ("only", "never-correct"): outcomes(20),
}


def test_effects_are_the_paired_statistics_of_the_arms(tmp_path: Path) -> None:
    store = make_study(tmp_path, STUDY)
    effects = {(e.role, e.statistic): e for e in estimate_effects(store, "e")}
    base, full, only = (np.arange(QUESTIONS) < c for c in (10, 30, 20))

    accuracy = effects[Role.BASE, "accuracy"]
    wilson = wilson_interval(10, QUESTIONS)
    assert (accuracy.value, accuracy.low, accuracy.high) == (0.25, wilson.low, wilson.high)
    gain = effects[Role.ONLY, "gain"]
    expected = paired_gain(base, only)
    assert (gain.value, gain.low, gain.high) == (0.25, expected.low, expected.high)
    share = effects[Role.ONLY, "share"]
    assert share.value == pytest.approx(0.5)
    assert (share.low, share.high) == (
        gain_share(base, only, full).low,
        gain_share(base, only, full).high,
    )
    assert effects[Role.FULL, "mcnemar_p"].value == mcnemar_exact(base, full)
    assert (Role.BASE, "gain") not in effects
    assert (Role.FULL, "share") not in effects
    assert {e.questions for e in effects.values()} == {QUESTIONS}
    assert {e.seeds for e in effects.values()} == {1}


def test_a_share_of_no_gain_is_undefined(tmp_path: Path) -> None:
    store = make_study(tmp_path, {**STUDY, ("full", "full"): outcomes(11)})
    [share] = [e for e in estimate_effects(store, "e") if e.statistic == "share"]
    assert (share.value, share.low, share.high) == (None, None, None)


def test_what_one_arm_leaves_ungraded_is_left_out_for_all(tmp_path: Path) -> None:
    only = ["ungraded", *outcomes(20)[1:]]
    store = make_study(tmp_path, {**STUDY, ("only", "never-correct"): only})
    effects = {(e.role, e.statistic): e for e in estimate_effects(store, "e")}
    assert {e.questions for e in effects.values()} == {QUESTIONS - 1}
    assert effects[Role.BASE, "accuracy"].value == pytest.approx(9 / 39)


def test_arms_of_other_experiments_do_not_count(tmp_path: Path) -> None:
    store = make_study(tmp_path, STUDY)
    with pytest.raises(DataError, match="base of experiment other"):
        estimate_effects(store, "other")


def test_stored_effects_are_replaced(tmp_path: Path) -> None:
    store = make_study(tmp_path, STUDY)
    effects = estimate_effects(store, "e")
    for _ in range(2):
        with store.writing("test"):
            store_effects(store, "e", effects)
    assert len(store.read("SELECT * FROM effects")) == len(effects)


def test_an_unfinished_full_arm_gives_no_shares(tmp_path: Path) -> None:
    store = make_study(tmp_path, STUDY, full="exhausted")
    effects = {(e.role, e.statistic): e for e in estimate_effects(store, "e")}
    assert effects[Role.ONLY, "share"].value is None
    assert effects[Role.ONLY, "gain"].value == 0.25
