"""Which arms are planned, and how they are recognised again."""

from collections.abc import Sequence
from dataclasses import replace

import pytest

from attrib.attribution.arms import (
    Arm,
    Subset,
    plan_arms,
    plan_base,
    plan_coalitions,
    visit_order,
)
from attrib.data.questions import AnswerType, Question, Split
from attrib.roles import PLANNED, Role

PARAMS = {"method": "grpo", "budget": "updates=3"}


def make_question(name: str) -> Question:
    return Question(
        f"id-{name}", "d", Split.TRAIN, name, ("x",), AnswerType.NAME, None, None, name, None
    )


QUESTIONS = tuple(make_question(f"{i:02}") for i in range(30))
SMALL, LARGE = Subset("small", QUESTIONS[:10]), Subset("large", QUESTIONS[:20])
REST = Subset("rest", QUESTIONS[10:])


def plan(
    *subsets: Subset, roles: Sequence[Role] = PLANNED, seeds: Sequence[int] = (0,)
) -> list[Arm]:
    return plan_arms(QUESTIONS, subsets, roles, seeds, PARAMS)


def ids(arm: Arm) -> set[str]:
    return {question.question_id for question in arm.questions}


def by_place(arms: Sequence[Arm]) -> dict[tuple[Role, str, int], Arm]:
    found = {(arm.role, arm.subset, arm.seed): arm for arm in arms}
    assert len(found) == len(arms)
    return found


def test_roles_and_their_questions() -> None:
    arms = plan(SMALL)
    assert [arm.role for arm in arms] == [
        Role.FULL,
        Role.ONLY,
        Role.ALL_BUT,
        Role.MATCHED_RANDOM,
        Role.MATCHED_COMPLEMENT,
    ]
    full, only, all_but, random, complement = arms
    everything, inside = (
        {q.question_id for q in QUESTIONS},
        {q.question_id for q in SMALL.questions},
    )
    assert ids(full) == everything
    assert ids(only) == inside
    assert ids(all_but) == everything - inside
    assert len(ids(random)) == len(random.questions) == 10
    assert len(ids(complement)) == len(complement.questions) == 10
    assert ids(complement) < everything - inside
    assert [arm.name for arm in arms[:2]] == ["full, seed 0", "only small, seed 0"]


def test_seeds_come_one_after_another() -> None:
    arms = plan(SMALL, REST, roles=[Role.ONLY], seeds=(4, 5))
    assert [(arm.seed, arm.role, arm.subset) for arm in arms] == [
        (seed, role, subset)
        for seed in (4, 5)
        for role, subset in ((Role.FULL, "full"), (Role.ONLY, "small"), (Role.ONLY, "rest"))
    ]


def test_controls_are_drawn_anew_for_every_seed_and_each_the_same_again() -> None:
    arms = by_place(plan(SMALL, seeds=range(20)))
    for role in (Role.MATCHED_RANDOM, Role.MATCHED_COMPLEMENT):
        drawn = [frozenset(ids(arms[role, "small", seed])) for seed in range(20)]
        assert len(set(drawn)) == 20
    again = by_place(plan(SMALL, seeds=[7, 3]))
    for place in again:
        assert again[place].questions == arms[place].questions
    mixed = by_place(
        plan_arms(QUESTIONS[::-1], [Subset("small", SMALL.questions[::-1])], PLANNED, [3], PARAMS)
    )
    for place, arm in mixed.items():
        assert ids(arm) == ids(arms[place])


def test_random_controls_are_drawn_from_all_questions_evenly() -> None:
    seeds = range(300)
    arms = by_place(plan(SMALL, roles=[Role.MATCHED_RANDOM], seeds=seeds))
    drawn = [q for seed in seeds for q in ids(arms[Role.MATCHED_RANDOM, "small", seed])]
    counts = [drawn.count(question.question_id) for question in QUESTIONS]
    assert min(counts) > 70  # 100 are expected, with a standard deviation of 8
    assert max(counts) < 130


def test_a_larger_control_of_the_same_seed_holds_the_smaller_one() -> None:
    arms = by_place(plan(SMALL, LARGE, roles=[Role.MATCHED_RANDOM], seeds=(0, 1)))
    for seed in (0, 1):
        smaller = ids(arms[Role.MATCHED_RANDOM, "small", seed])
        assert smaller < ids(arms[Role.MATCHED_RANDOM, "large", seed])


def test_the_complement_is_matched_by_a_trimmed_subset_where_it_is_smaller() -> None:
    arms = by_place(plan(SMALL, LARGE, roles=[Role.MATCHED_COMPLEMENT], seeds=(0, 1)))
    assert (Role.MATCHED_SUBSET, "small", 0) not in arms
    for seed in (0, 1):
        complement = arms[Role.MATCHED_COMPLEMENT, "large", seed]
        trimmed = arms[Role.MATCHED_SUBSET, "large", seed]
        assert ids(complement) == {q.question_id for q in QUESTIONS[20:]}
        assert len(trimmed.questions) == 10
        assert ids(trimmed) < {q.question_id for q in LARGE.questions}
    first, second = (arms[Role.MATCHED_SUBSET, "large", seed] for seed in (0, 1))
    assert ids(first) != ids(second)


def test_a_trimmed_subset_comes_with_its_control_only() -> None:
    roles = {arm.role for arm in plan(LARGE, roles=[Role.ONLY, Role.ALL_BUT, Role.MATCHED_RANDOM])}
    assert roles == {Role.FULL, Role.ONLY, Role.ALL_BUT, Role.MATCHED_RANDOM}


def test_halves_need_no_trimming() -> None:
    half = Subset("half", QUESTIONS[:15])
    arms = by_place(plan(half, roles=[Role.MATCHED_COMPLEMENT, Role.ALL_BUT]))
    assert (Role.MATCHED_SUBSET, "half", 0) not in arms
    assert arms[Role.MATCHED_COMPLEMENT, "half", 0].arm_id == arms[Role.ALL_BUT, "half", 0].arm_id


def test_the_complement_of_everything_is_no_arm() -> None:
    everything = Subset("everything", QUESTIONS)
    arms = plan(everything)
    assert [arm.role for arm in arms] == [Role.FULL, Role.ONLY, Role.MATCHED_RANDOM]
    assert len({arm.arm_id for arm in arms}) == 1  # the same questions: the same run


def test_only_one_part_is_all_but_the_other() -> None:
    arms = by_place(plan(SMALL, REST))
    assert arms[Role.ONLY, "small", 0].arm_id == arms[Role.ALL_BUT, "rest", 0].arm_id
    assert arms[Role.ONLY, "small", 0].arm_id != arms[Role.ONLY, "rest", 0].arm_id


def test_coalitions_share_runs_with_the_roles_that_they_are() -> None:
    middle, end = Subset("middle", QUESTIONS[10:20]), Subset("end", QUESTIONS[20:])
    coalitions = by_place(plan_coalitions([SMALL, middle, end], (0, 1), PARAMS))
    names = ["small", "middle", "end", "small+middle", "small+end", "middle+end"]
    names.append("small+middle+end")
    assert [subset for _, subset, seed in coalitions if seed == 1] == names
    arms = by_place(plan(SMALL, middle, end, roles=[Role.ONLY, Role.ALL_BUT], seeds=(0, 1)))

    def same(coalition: str, role: Role, subset: str) -> bool:
        mine = coalitions[Role.COALITION, coalition, 1]
        return mine.arm_id == arms[role, subset, 1].arm_id

    assert same("small", Role.ONLY, "small")
    assert same("middle+end", Role.ALL_BUT, "small")
    assert same("small+middle+end", Role.FULL, "full")
    ids = {arm.arm_id for arm in (*coalitions.values(), *arms.values())}
    assert len(ids) == 2 * 7


def test_identity_is_settings_seed_and_questions() -> None:
    full = plan(SMALL)[0]
    assert full.arm_id == replace(full, questions=full.questions[::-1]).arm_id
    assert full.arm_id == replace(full, subset="renamed", role=Role.ONLY).arm_id
    assert full.arm_id != replace(full, seed=1).arm_id
    assert full.arm_id != replace(full, questions=full.questions[1:]).arm_id
    assert full.arm_id != replace(full, params={**PARAMS, "budget": "updates=4"}).arm_id
    base = plan_base({"method": "base"})
    assert (base.role, base.seed, base.questions, base.name) == (Role.BASE, 0, (), "base")


def test_visit_order_is_a_shuffle_of_its_epoch() -> None:
    first = visit_order(QUESTIONS, seed=0, epoch=0)
    assert first == visit_order(QUESTIONS[::-1], seed=0, epoch=0)
    assert sorted(q.text for q in first) == sorted(q.text for q in QUESTIONS)
    assert first != visit_order(QUESTIONS, seed=0, epoch=1)
    assert first != visit_order(QUESTIONS, seed=1, epoch=0)


@pytest.mark.parametrize("seed", [0, 1])
def test_the_order_of_visits_is_another_one_than_that_of_the_controls(seed: int) -> None:
    """Else the control would be what is visited first."""
    [_, control] = plan(SMALL, roles=[Role.MATCHED_RANDOM], seeds=[seed])
    first = {question.question_id for question in visit_order(QUESTIONS, seed, 0)[:10]}
    assert first != ids(control)
