"""Which arms are planned, and how they are recognised again."""

from dataclasses import replace

import pytest

from attrib.analysis.buckets import Bucket
from attrib.attribution.arms import Arm, plan_arms, visit_order
from attrib.data.questions import AnswerType, Question, Split
from attrib.errors import ConfigError, DataError
from attrib.roles import Role

PARAMS = {"method": "grpo", "updates": 3}
BASE_PARAMS = {"method": "base"}


def make_question(name: str) -> Question:
    return Question(
        f"id-{name}", "d", Split.TRAIN, name, ("x",), AnswerType.NAME, None, None, name, None
    )


BUCKETS = {
    Bucket.NEVER_CORRECT: [make_question("a"), make_question("b")],
    Bucket.RARELY_CORRECT: [],
    Bucket.SOMETIMES_CORRECT: [make_question("c"), make_question("d"), make_question("e")],
}


def plan(*subsets: str, seed: int = 0, all_but: bool = True) -> list[Arm]:
    return plan_arms(
        BUCKETS, subsets, seed, params=PARAMS, base_params=BASE_PARAMS, all_but=all_but
    )


def ids(arm: Arm) -> set[str]:
    return {question.question_id for question in arm.questions}


def test_roles_and_their_questions() -> None:
    base, full, only, all_but = plan("never-correct")
    assert [arm.role for arm in (base, full, only, all_but)] == [
        Role.BASE,
        Role.FULL,
        Role.ONLY,
        Role.ALL_BUT,
    ]
    assert ids(base) == set()
    assert ids(full) == {"id-a", "id-b", "id-c", "id-d", "id-e"}
    assert ids(only) == {"id-a", "id-b"}
    assert ids(all_but) == {"id-c", "id-d", "id-e"}
    assert [arm.name for arm in (full, only)] == ["full", "only never-correct"]


def test_complements_can_be_left_out() -> None:
    assert [arm.role for arm in plan("never-correct", all_but=False)] == [
        Role.BASE,
        Role.FULL,
        Role.ONLY,
    ]


def test_the_complement_of_everything_is_no_arm() -> None:
    one = {Bucket.NEVER_CORRECT: [make_question("a")]}
    arms = plan_arms(
        one, ["never-correct"], 0, params=PARAMS, base_params=BASE_PARAMS, all_but=True
    )
    assert [arm.role for arm in arms] == [Role.BASE, Role.FULL, Role.ONLY]
    assert arms[1].arm_id == arms[2].arm_id  # the same questions: the same run


def test_only_one_bucket_is_all_but_the_other() -> None:
    arms = {(arm.role, arm.subset): arm for arm in plan("never-correct", "sometimes-correct")}
    only = arms[Role.ONLY, "never-correct"]
    assert only.arm_id == arms[Role.ALL_BUT, "sometimes-correct"].arm_id
    assert only.arm_id != arms[Role.ONLY, "sometimes-correct"].arm_id


def test_identity_is_settings_seed_and_questions() -> None:
    full = plan("never-correct")[1]
    assert full.arm_id == replace(full, questions=full.questions[::-1]).arm_id
    assert full.arm_id == replace(full, subset="renamed").arm_id
    assert full.arm_id != replace(full, seed=1).arm_id
    assert full.arm_id != replace(full, questions=full.questions[1:]).arm_id
    assert full.arm_id != replace(full, params={**PARAMS, "updates": 4}).arm_id
    assert plan("never-correct", seed=1)[0].arm_id == plan("never-correct", seed=2)[0].arm_id


def test_unknown_bucket_is_refused_with_the_names() -> None:
    with pytest.raises(ConfigError, match=r"hard is not a bucket.*never-correct"):
        plan("hard")


def test_empty_bucket_is_refused_with_what_is_filled() -> None:
    with pytest.raises(DataError, match=r"rarely-correct holds no question.*never-correct \(2\)"):
        plan("rarely-correct")


def test_visit_order_is_a_shuffle_of_its_epoch() -> None:
    questions = [make_question(str(i)) for i in range(50)]
    first = visit_order(questions, seed=0, epoch=0)
    assert first == visit_order(questions[::-1], seed=0, epoch=0)
    assert sorted(q.text for q in first) == sorted(q.text for q in questions)
    assert first != visit_order(questions, seed=0, epoch=1)
    assert first != visit_order(questions, seed=1, epoch=0)
