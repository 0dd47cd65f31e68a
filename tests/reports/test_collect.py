"""What is counted, against counts made by hand in Python."""

from collections import Counter
from collections.abc import Callable

import numpy as np
import pytest
from scipy import stats

from attrib.reports.collect import collect_study
from attrib.reports.records import Study
from attrib.reports.records_arms import Arm
from attrib.reports.records_training import Experiment, LedgerRow
from attrib.reports.settings import find_setting, read_settings
from attrib.reports.values import Setting
from attrib.roles import Role
from attrib.store import Store

Build = Callable[..., Store]
Whole = tuple[Store, Study]
SEEDS = (0, 1, 2)


def collect(store: Store) -> Experiment:
    experiment = collect_study(store).experiment
    assert experiment is not None
    return experiment


def experiment_of(study: Study) -> Experiment:
    assert study.experiment is not None
    return study.experiment


def find(experiment: Experiment, role: Role, subset: str) -> Arm:
    arm = experiment.find(role, subset)
    assert arm is not None
    return arm


def test_arms_are_in_order(whole: Whole) -> None:
    experiment = experiment_of(whole[1])
    labels = [arm.label for arm in experiment.arms]
    assert labels[:3] == ["full", "only never-correct", "only rarely-correct"]
    assert labels[4:7] == ["only always-correct", "all but never-correct", "all but rarely-correct"]
    assert labels[9] == "random, as many as never-correct"
    assert labels[-1] == "others, as many as always-correct"
    assert len(labels) == 17
    assert experiment.base is not None
    assert experiment.base.role is Role.BASE
    assert [run.seed for run in experiment.base.runs] == [0]
    assert experiment.seeds == 3
    unions = [arm.subset for arm in experiment.coalitions]
    assert unions[:3] == ["never-correct", "rarely-correct", "sometimes-correct"]
    assert unions[-1] == "never-correct+rarely-correct+sometimes-correct"
    assert experiment.coalitions[-1].label.startswith("never-correct + rarely-correct + ")


def test_arms_are_shown_where_they_can_be_compared(whole: Whole) -> None:
    store, experiment = whole[0], experiment_of(whole[1])
    effects = {
        (role, subset, statistic, fraction): value
        for role, subset, statistic, fraction, value in store.read(
            "SELECT role, subset, statistic, fraction, value FROM effects "
            "WHERE evaluated_on = 'held-out' AND experiment_id = 'e0' ORDER BY ALL"
        ).iter_rows()
    }
    never = find(experiment, Role.ONLY, "never-correct")
    assert never.compared_at == 1.0
    assert never.gain is not None
    assert never.gain.value == effects["only", "never-correct", "gain", 1.0]
    assert never.gain.seeds == 3
    mostly = find(experiment, Role.ONLY, "mostly-correct")  # one seed of three ran out at 75 %
    assert (mostly.status, mostly.compared_at) == ("exhausted", 0.5)
    assert mostly.gain is not None
    assert mostly.gain.value == effects["only", "mostly-correct", "gain", 0.5]
    assert mostly.share is not None
    assert mostly.share.value == effects["only", "mostly-correct", "share", 0.5]
    assert mostly.compared_label == "only mostly-correct (exhausted, at 50\u00a0%)"
    always = find(experiment, Role.ONLY, "always-correct")  # none of them got anywhere
    assert (always.status, always.compared_at) == ("exhausted", None)
    assert always.gain is not None
    assert always.gain.value == effects["only", "always-correct", "final_gain", 0.0] == 0.0
    assert always.share is not None
    assert always.share.value is None
    assert "reached by all runs" in always.share.detail
    assert always.random is None
    assert always.gain_p is None


def test_an_arm_is_compared_no_further_than_the_full_arm(
    build_study: Build, exhausted: Callable[..., object]
) -> None:
    experiment = collect(build_study(endings={"full full": {0: exhausted(0.75)}}))
    assert experiment.full is not None
    assert experiment.full.compared_at == 0.5
    assert find(experiment, Role.ONLY, "never-correct").compared_at == 0.5
    end = experiment.full.points[-1]
    assert (end.planned, end.gain.fraction, end.updates) == (False, 0.75, 9)


def test_every_seed_is_shown(whole: Whole) -> None:
    store = whole[0]
    arm = find(experiment_of(whole[1]), Role.ONLY, "rarely-correct")
    assert [run.seed for run in arm.runs] == [0, 1, 2]
    for run in arm.runs:
        [(correct, graded)] = store.read(
            "SELECT count(*) FILTER (verdict = 'correct'), count(*) FROM evaluations "
            "WHERE arm_id = $arm_id AND step = 12 AND decoding = 'greedy' "
            "AND question_id LIKE 't%'",
            arm_id=run.arm_id,
        ).rows()
        assert run.accuracy is not None
        assert (run.accuracy.value, run.accuracy.questions) == (correct / graded, 60)
        [(p,)] = store.read(
            f"SELECT value FROM effects WHERE statistic = 'mcnemar_p_seed_{run.seed}' "
            "AND role = 'only' AND subset = 'rarely-correct' AND experiment_id = 'e0'"
        ).rows()
        assert run.mcnemar_p is not None
        assert run.mcnemar_p.value == p


def test_points_are_means_over_runs(whole: Whole) -> None:
    store = whole[0]
    arm = find(experiment_of(whole[1]), Role.ONLY, "mostly-correct")
    half, end = arm.points
    spent = store.read(
        "SELECT fraction, avg(rollouts), avg(informative_groups), avg(gradient_tokens), count(*) "
        "FROM milestones WHERE arm_id LIKE 'only-mostly-correct-_' AND fraction = 0.5 "
        "GROUP BY fraction"
    ).row(0)
    assert (half.gain.fraction, half.rollouts, half.informative_groups) == spent[:3]
    assert (half.gradient_tokens, half.runs, half.planned) == (*spent[3:], True)
    assert end.gain.fraction == pytest.approx((1 + 0.75 + 1) / 3)
    assert end.updates == pytest.approx((12 + 9 + 12) / 3)
    assert not end.planned


def test_controls_are_paired_with_their_subset(whole: Whole) -> None:
    store, experiment = whole[0], experiment_of(whole[1])
    for subset in ("never-correct", "rarely-correct", "mostly-correct"):
        arm = find(experiment, Role.ONLY, subset)
        for word, comparison in (("random", arm.random), ("complement", arm.complement)):
            [stored] = store.read(
                "SELECT value, low, high, fraction FROM effects WHERE experiment_id = 'e0' "
                f"AND statistic = 'difference_{word}' AND subset = '{subset}' AND role = 'only'"
            ).rows()
            assert comparison is not None
            found = comparison.difference
            assert (found.value, found.low, found.high, found.fraction) == stored
            assert comparison.p is not None
            [(p,)] = store.read(
                f"SELECT value FROM effects WHERE statistic = 'difference_{word}_p_holm' "
                f"AND subset = '{subset}' AND experiment_id = 'e0'"
            ).rows()
            assert comparison.p.value == p


def test_transitions_against_a_recount(whole: Whole) -> None:
    store = whole[0]
    last = store.read(
        "SELECT arm_id, question_id, verdict FROM evaluations JOIN questions USING (question_id) "
        "WHERE decoding = 'greedy' AND split = 'held-out' AND dataset = 'facts' "
        "QUALIFY step = max(step) OVER (PARTITION BY arm_id) ORDER BY ALL"
    )
    verdicts = {
        (arm, question): verdict == "correct" for arm, question, verdict in last.iter_rows()
    }
    questions = sorted({question for _, question in verdicts})
    pairs = {
        seed: [
            (verdicts["base-none-0", one], verdicts[f"full-full-{seed}", one]) for one in questions
        ]
        for seed in SEEDS
    }
    counted = Counter(pair for seed in SEEDS for pair in pairs[seed])
    row = experiment_of(whole[1]).transitions[0]
    assert row.arm.label == "full"
    assert (row.kept, row.learned) == (counted[True, True], counted[False, True])
    assert (row.lost, row.still_wrong) == (counted[True, False], counted[False, False])
    assert row.gradable == 3 * 60
    learned = [one for one, pair in zip(questions, pairs[0], strict=True) if pair == (False, True)]
    expected = [f"What is the capital of country {one}?" for one in learned[:8]]
    assert [change.question for change in row.learned_examples] == expected


def test_training_questions_are_tallied_apart(whole: Whole) -> None:
    row = experiment_of(whole[1]).training_transitions[0]
    assert row.gradable == 3 * 40
    assert row.learned > 0
    assert row.learned_examples


def test_ungraded_answers_are_no_transition(build_study: Build) -> None:
    store = build_study()
    with store.writing("attrib test"), store.transaction() as batch:
        batch.execute(
            "UPDATE evaluations SET verdict = 'ungraded' WHERE arm_id = 'full-full-1' "
            "AND decoding = 'greedy' AND question_id BETWEEN 't' AND 't00004'"
        )
    row = collect(store).transitions[0]
    assert row.ungraded == 5
    assert row.gradable == 3 * 60 - 5


def test_only_the_last_evaluation_counts(build_study: Build) -> None:
    store = build_study()
    before = collect(store).transitions
    with store.writing("attrib test"), store.transaction() as batch:
        batch.execute(
            "INSERT INTO evaluations SELECT * REPLACE (1 AS step, 'correct' AS verdict) "
            "FROM evaluations WHERE arm_id = 'full-full-1' AND step = 12"
        )
    assert collect(store).transitions == before


def rows_of(study: Study, label: str) -> list[LedgerRow]:
    return [row for row in experiment_of(study).ledger if row.arm.label == label]


def test_ledger_against_a_recount(whole: Whole) -> None:
    store = whole[0]
    bucket_of = dict(store.read("SELECT question_id, bucket FROM buckets ORDER BY ALL").iter_rows())
    visits = store.read(
        "SELECT * FROM visits WHERE arm_id LIKE 'full-full-_' ORDER BY arm_id, visit"
    ).to_dicts()
    weight = sum(visit["gradient_weight"] for visit in visits)
    final = {
        (arm_id, question_id): verdict == "correct"
        for arm_id, question_id, verdict in store.read(
            "SELECT arm_id, question_id, verdict FROM evaluations WHERE arm_id LIKE 'full-full-_' "
            "AND decoding = 'greedy' AND question_id LIKE 'q%' ORDER BY ALL"
        ).iter_rows()
    }
    rows = rows_of(whole[1], "full")
    assert rows[0].bucket == "never-correct"
    assert [row.trained_on_S for row in rows] == [(n,) * len(SEEDS) for n in (12, 4, 12, 8, 4)]
    assert sum(row.visits for row in rows) == len(visits)
    assert sum(row.gradient_share or 0.0 for row in rows) == pytest.approx(1.0)
    for row in rows:
        mine = [visit for visit in visits if bucket_of[visit["question_id"]] == row.bucket]
        assert row.visits == len(mine)
        assert row.rewarded_visits == sum(visit["correct"] > 0 for visit in mine)
        assert row.informative_visits == sum(visit["informative"] for visit in mine)
        share = sum(visit["gradient_weight"] for visit in mine) / weight
        assert row.gradient_share == pytest.approx(share)
        steps, tries = [], []
        for seed in SEEDS:
            own = [visit for visit in mine if visit["arm_id"] == f"full-full-{seed}"]
            questions = {visit["question_id"] for visit in own}
            rewarded = {visit["question_id"] for visit in own if visit["correct"] > 0}
            still_wrong = {one for one in rewarded if not final[f"full-full-{seed}", one]}
            by_itself = {one for one in questions - rewarded if final[f"full-full-{seed}", one]}
            assert row.visited_S[seed] == len(questions)
            assert row.rewarded_S[seed] == len(rewarded)
            assert row.still_wrong_S[seed] == len(still_wrong)
            assert row.unrewarded_right_S[seed] == len(by_itself)
            for one in rewarded:
                series = [visit for visit in own if visit["question_id"] == one]
                first = next(i for i, visit in enumerate(series) if visit["correct"] > 0)
                steps.append(series[first]["step"])
                tries.append(first + 1)
        assert row.first_step == min(steps)
        assert row.median_step == np.median(steps)
        assert row.median_visits == np.median(tries)


def test_controls_drawn_anew_are_counted_by_seed(whole: Whole) -> None:
    rows = rows_of(whole[1], "random, as many as never-correct")
    assert [sum(row.trained_on_S[seed] for row in rows) for seed in SEEDS] == [12] * len(SEEDS)
    for row in rows:
        assert row.arm.questions == 12
        assert all(
            visited <= there for visited, there in zip(row.visited_S, row.trained_on_S, strict=True)
        )


def test_curves_keep_every_rollout(build_study: Build) -> None:
    store = build_study(steps=47)
    curve = collect(store).curves[0]
    drawn = store.read("SELECT sum(rollouts)::INT FROM visits WHERE arm_id = 'full-full-0'").item()
    assert len(curve.points) <= 20
    assert sum(point.rollouts for point in curve.points) == drawn
    assert (curve.points[0].first_step, curve.points[-1].last_step) == (1, 47)


def test_one_run_may_play_two_roles(build_study: Build) -> None:
    store = build_study()
    with store.writing("attrib test"), store.transaction() as batch:
        batch.execute(
            "UPDATE arm_roles SET arm_id = replace(arm_id, 'all-but-always-correct', 'full-full') "
            "WHERE subset = 'always-correct' AND role = 'all-but'"
        )
    experiment = collect(store)
    twice = [arm for arm in experiment.arms if arm.runs[0].arm_id == "full-full-0"]
    assert [arm.role for arm in twice] == [Role.FULL, Role.ALL_BUT]
    rows = {row.arm.label: row for row in experiment.transitions}
    assert rows["full"].learned == rows["all but always-correct"].learned


def test_masses_against_a_recount(whole: Whole) -> None:
    store = whole[0]
    rows = {row.arm.label: row for row in experiment_of(whole[1]).masses}
    table = store.read("SELECT * FROM masses ORDER BY question_id, arm_id").to_dicts()
    before = {row["question_id"]: row for row in table if row["arm_id"] == "base-none-0"}
    own: dict[str, list[float]] = {}
    for row in table:
        if row["arm_id"].startswith("full-full"):
            own.setdefault(row["question_id"], []).append(row["logprob"])
    means = np.array([np.mean(own[one]) for one in before])
    base = np.array([row["logprob"] for row in before.values()])
    full = rows["full"]
    assert full.logprob.value == pytest.approx(means.mean())
    test = stats.ttest_1samp(means - base, 0.0)
    change = full.logprob_change
    assert change is not None
    assert change.value == pytest.approx((means - base).mean())
    bounds = test.confidence_interval(0.95)
    assert (change.low, change.high) == pytest.approx((bounds.low, bounds.high))
    assert (full.logprob.seeds, full.logprob.questions) == (3, 60)
    first = rows["before RL"]
    assert first.logprob_change is None
    assert first.greedy.value == pytest.approx(
        np.mean([row["greedy_rank"] == 1 for row in before.values()])
    )
    assert first.mass_low.value == pytest.approx(
        np.mean([row["mass_low"] for row in before.values()])
    )


def test_siblings_are_on_the_same_buckets(build_study: Build) -> None:
    store = build_study()
    study = collect_study(store)
    assert study.experiment is not None
    assert study.experiment.experiment_id == "e0"
    assert [one.experiment_id for one in study.experiment.siblings] == ["e1", "e2"]
    assert study.others == ()
    with store.writing("attrib test"), store.transaction() as batch:
        batch.execute("UPDATE experiments SET bucketing_id = 'b9' WHERE experiment_id = 'e1'")
    study = collect_study(store)
    assert study.experiment is not None
    assert [one.experiment_id for one in study.experiment.siblings] == ["e2"]
    assert study.others == ("e1",)
    named = collect_study(store, "e2").experiment
    assert named is not None
    assert [one.experiment_id for one in named.siblings] == ["e0"]


def test_frequent_answers(whole: Whole) -> None:
    study = whole[1]
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
