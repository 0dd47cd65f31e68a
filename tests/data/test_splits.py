"""Sides of the split: whole facts, the same share in every relation, nothing used moves."""

from collections import Counter
from dataclasses import replace

import pytest

from attrib.data.parsing import Draft
from attrib.data.questions import AnswerType, Question, Split
from attrib.data.splits import settle
from attrib.errors import ConfigError


def draft(number: int, relation: str | None = None, **changes: object) -> Draft:
    plain = Draft(f"id{number}", f"{number}?", ("x",), AnswerType.NAME, None, relation, None, ())
    return replace(plain, **changes)  # type: ignore[arg-type]


def question(number: int, split: Split, fact_id: str, **changes: object) -> Question:
    plain = Question(
        *(f"old{number}", "old", split, f"{number}?", ("x",), AnswerType.NAME, None, None),
        *(fact_id, None),
    )
    return replace(plain, **changes)  # type: ignore[arg-type]


def test_every_relation_gets_its_share_to_within_one() -> None:
    sizes = {"a": 400, "b": 41, "c": 3, "d": 1, "e": 1, "f": 1, "g": 1}
    texts = [(relation, f"{relation} {i}") for relation, n in sizes.items() for i in range(n)]
    drafts = [draft(i, relation, text=text) for i, (relation, text) in enumerate(texts)]
    for seed in range(5):
        settled = settle("mine", drafts, [], 0.25, seed)
        held = Counter(q.relation for q in settled.questions if q.split is Split.HELD_OUT)
        assert all(abs(held[relation] - n / 4) < 1 for relation, n in sizes.items())
        assert abs(held.total() - sum(sizes.values()) / 4) < 1


def test_a_draw_is_fixed_by_its_seed_and_not_by_the_order() -> None:
    drafts = [draft(i, "r") for i in range(50)]

    def sides(drafts: list[Draft], seed: int) -> dict[str, Split]:
        return {q.question_id: q.split for q in settle("mine", drafts, [], 0.5, seed).questions}

    assert sides(drafts, 1) == sides(drafts[::-1], 1)
    assert sides(drafts, 1) != sides(drafts, 2)


def test_every_side_of_the_draw_is_as_likely() -> None:
    drafts = [draft(i, "r") for i in range(8)]
    held = Counter(
        q.question_id
        for seed in range(400)
        for q in settle("mine", drafts, [], 0.25, seed).questions
        if q.split is Split.HELD_OUT
    )
    assert set(held.values()) <= set(range(70, 131))  # 100 expected, deviation 9


def test_a_whole_fact_is_on_one_side() -> None:
    drafts = [draft(i, text=f"The  {i % 20}!") for i in range(100)]
    settled = settle("mine", drafts, [], 0.5, 0)
    by_fact = {(q.fact_id, q.split) for q in settled.questions}
    assert len(by_fact) == len({fact for fact, _ in by_fact}) == 20
    assert len(settled.links) == 80
    assert settled.links[0] == ("id0", "id20", "same-question")


@pytest.mark.parametrize("split", Split)
def test_a_fact_that_is_there_keeps_its_id_and_side(split: Split) -> None:
    old = question(1, split, "fact", text="Who is it?")
    settled = settle("mine", [draft(1, text="who is it"), draft(2)], [old], 0.5, 0)
    assert (settled.questions[0].fact_id, settled.questions[0].split) == ("fact", split)
    assert settled.questions[0].dataset == "mine"
    assert settled.questions[1].fact_id != "fact"
    assert settled.links == (("old1", "id1", "same-question"),)


def test_a_question_for_facts_of_both_sides_is_left_out_and_named() -> None:
    old = [
        question(
            1, Split.TRAIN, "f1", text="Where is Paris?", subject="Paris", answers=("France",)
        ),
        question(2, Split.HELD_OUT, "f2", text="Lyon?", subject="Lyon", answers=("France",)),
    ]
    bridge = draft(1, subject="France", answers=("Paris", "Lyon"))
    settled = settle("mine", [bridge, draft(2)], old, 0.5, 0)
    [leaking] = settled.leaking
    assert (leaking.draft, leaking.train, leaking.held_out) == (bridge, *old)
    assert [q.question_id for q in settled.questions] == ["id2"]
    assert settled.links == ()


def test_facts_of_one_side_may_be_joined() -> None:
    old = [
        question(
            1, Split.TRAIN, "f2", text="Where is Paris?", subject="Paris", answers=("France",)
        ),
        question(2, Split.TRAIN, "f1", text="Lyon?", subject="Lyon", answers=("France",)),
    ]
    settled = settle("mine", [draft(1, subject="France", answers=("Paris", "Lyon"))], old, 0.5, 0)
    assert (settled.questions[0].fact_id, settled.questions[0].split) == ("f1", Split.TRAIN)


@pytest.mark.parametrize("share", [-0.1, 1.1])
def test_a_share_beyond_its_bounds_is_refused(share: float) -> None:
    with pytest.raises(ConfigError, match=r"--held-out .* must be a number from 0 to 1"):
        settle("mine", [draft(1)], [], share, 0)


@pytest.mark.parametrize(("share", "split"), [(0.0, Split.TRAIN), (1.0, Split.HELD_OUT)])
def test_all_may_be_on_one_side(share: float, split: Split) -> None:
    settled = settle("mine", [draft(i) for i in range(9)], [], share, 0)
    assert {q.split for q in settled.questions} == {split}
