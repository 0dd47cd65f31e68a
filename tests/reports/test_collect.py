"""What is counted, against counts made by hand in Python."""

from collections import Counter
from collections.abc import Callable

import pytest

from attrib.reports.collect import collect_study
from attrib.reports.records import Experiment, Setting
from attrib.reports.settings import find_setting, read_settings
from attrib.roles import Role
from attrib.store import Store

Build = Callable[..., Store]


def collect(store: Store) -> Experiment:
    experiment = collect_study(store).experiment
    assert experiment is not None
    return experiment


def test_arms_are_in_order(build_study: Build) -> None:
    experiment = collect(build_study())
    labels = [arm.label for arm in experiment.arms]
    assert labels[:3] == ["full", "only never-correct", "only rarely-correct"]
    assert labels[5:8] == ["only always-correct", "all but never-correct", "all but rarely-correct"]
    assert experiment.base is not None
    assert experiment.base.role is Role.BASE


def test_transitions_against_a_recount(build_study: Build) -> None:
    store = build_study()
    verdicts = {
        (arm_id, question_id): verdict == "correct"
        for arm_id, question_id, verdict in store.read(
            "SELECT arm_id, question_id, verdict FROM evaluations ORDER BY ALL"
        ).iter_rows()
    }
    questions = sorted({question_id for _, question_id in verdicts})
    pairs = [(verdicts["base-none-0", one], verdicts["full-full-1", one]) for one in questions]
    counted = Counter(pairs)
    row = collect(store).transitions[0]
    assert row.arm == "full"
    assert (row.kept, row.learned) == (counted[True, True], counted[False, True])
    assert (row.lost, row.still_wrong) == (counted[True, False], counted[False, False])
    learned = [one for one, pair in zip(questions, pairs, strict=True) if pair == (False, True)]
    expected = [f"What is the capital of country {one}?" for one in learned[:8]]
    assert [change.question for change in row.learned_examples] == expected


def test_ungraded_answers_are_no_transition(build_study: Build) -> None:
    store = build_study()
    with store.writing("attrib test"), store.transaction() as batch:
        batch.execute(
            "UPDATE evaluations SET verdict = 'ungraded' "
            "WHERE arm_id = 'full-full-1' AND question_id < 't00005'"
        )
    row = collect(store).transitions[0]
    assert row.ungraded == 5
    assert row.kept + row.learned + row.lost + row.still_wrong == 55


def test_only_the_last_evaluation_counts(build_study: Build) -> None:
    store = build_study()
    before = collect(store).transitions
    with store.writing("attrib test"), store.transaction() as batch:
        batch.execute(
            "INSERT INTO evaluations SELECT * REPLACE (1 AS step, 'correct' AS verdict) "
            "FROM evaluations WHERE arm_id = 'full-full-1'"
        )
    assert collect(store).transitions == before


def test_ledger_against_a_recount(build_study: Build) -> None:
    store = build_study()
    bucket_of = dict(store.read("SELECT question_id, bucket FROM buckets ORDER BY ALL").iter_rows())
    visits = store.read("SELECT * FROM visits WHERE arm_id = 'full-full-1' ORDER BY ALL").to_dicts()
    weight = sum(visit["gradient_weight"] for visit in visits)
    rows = [row for row in collect(store).ledger if row.arm == "full"]
    assert rows[0].bucket == "never-correct"
    assert sum(row.visits for row in rows) == len(visits) == 24 * 12
    assert sum(row.gradient_share or 0.0 for row in rows) == pytest.approx(1.0)
    for row in rows:
        mine = [visit for visit in visits if bucket_of[visit["question_id"]] == row.bucket]
        assert row.visits == len(mine)
        assert row.with_correct == sum(visit["correct"] > 0 for visit in mine)
        assert row.informative == sum(visit["informative"] for visit in mine)
        share = sum(visit["gradient_weight"] for visit in mine) / weight
        assert row.gradient_share == pytest.approx(share)


def test_curves_keep_every_rollout(build_study: Build) -> None:
    store = build_study(steps=47)
    curve = collect(store).curves[0]
    assert len(curve.points) <= 20
    assert sum(point.rollouts for point in curve.points) == 47 * 12 * 8
    assert (curve.points[0].first_step, curve.points[-1].last_step) == (1, 47)


def test_one_run_may_play_two_roles(build_study: Build) -> None:
    store = build_study()
    with store.writing("attrib test"), store.transaction() as batch:
        batch.execute(
            "UPDATE arm_roles SET arm_id = 'full-full-1' WHERE arm_id = 'all-but-always-correct-1'"
        )
    experiment = collect(store)
    twice = [arm for arm in experiment.arms if arm.runs[0].arm_id == "full-full-1"]
    assert [arm.role for arm in twice] == [Role.FULL, Role.ALL_BUT]
    rows = {row.arm: row for row in experiment.transitions}
    assert rows["full"].learned == rows["all but always-correct"].learned


def test_frequent_answers(build_study: Build) -> None:
    study = collect_study(build_study())
    first = study.sampled[0]
    assert (first.bucket, first.correct, first.n) == ("never-correct", 0, 32)
    assert sum(answer.count for answer in first.frequent) == 32
    assert {answer.verdict for answer in first.frequent} == {"incorrect"}
    last = study.sampled[-1]
    assert [(answer.count, answer.verdict) for answer in last.frequent] == [(32, "correct")]


def test_mended_answers_leave_old_verdicts_aside(build_study: Build) -> None:
    store = build_study()
    before = collect_study(store).sampled
    with store.writing("attrib test"), store.transaction() as batch:
        batch.execute(
            "INSERT INTO verdicts SELECT * REPLACE ('old' AS answers_hash, 'correct' AS verdict) "
            "FROM verdicts"
        )
    assert collect_study(store).sampled == before


def test_questions_without_enough_gradable_rollouts_are_counted(build_study: Build) -> None:
    store = build_study()
    assert collect_study(store).bucketing.left_out == 0
    with store.writing("attrib test"), store.transaction() as batch:
        batch.execute("DELETE FROM buckets WHERE question_id IN ('q00001', 'q00002')")
    study = collect_study(store)
    assert study.bucketing.left_out == 2
    assert study.bucketed == 38


def test_settings_are_flat_and_sorted() -> None:
    settings = read_settings('{"b": {"c": 1, "a": null}, "a": [1, 2], "e": {}, "d": "x"}')
    assert settings == (
        Setting("a", "[1, 2]"),
        Setting("b.a", "null"),
        Setting("b.c", "1"),
        Setting("d", "x"),
    )
    assert find_setting(settings, "missing", "c") == "1"
    assert find_setting(settings, "missing") is None
