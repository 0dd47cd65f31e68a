"""The estimate of leakage that is left over."""

from dataclasses import replace

import pytest

from attrib.data.leakage import BANDS, Nearest, estimate_leakage, find_nearest
from attrib.data.questions import AnswerType, Question, Split


def question(text: str, split: Split, answer: str = "Bo Ek") -> Question:
    return Question(*(text, "set", split, text, (answer,), AnswerType.NAME, None, None, text, None))


HELD = question("who built the palace of Zembla", Split.HELD_OUT)
NEAR = question("who restored the old palace of Uqbar", Split.TRAIN)
FAR = question("who was buried by the palace in the north of Tlön with Ann", Split.TRAIN)


def test_the_nearest_train_question_of_another_fact_is_found() -> None:
    [found] = find_nearest([FAR, HELD, NEAR])
    assert (found.held_out, found.train) == (HELD, NEAR)
    assert 0.0 < found.alike < 0.5
    assert find_nearest([HELD, NEAR, FAR]) == [found]


@pytest.mark.parametrize(
    "other",
    [
        replace(NEAR, split=Split.HELD_OUT),
        replace(NEAR, fact_id=HELD.fact_id),
        question(NEAR.text, Split.TRAIN, "Ann"),
    ],
)
def test_one_side_one_fact_or_no_answer_in_common_is_no_leak(other: Question) -> None:
    assert find_nearest([HELD, other]) == []


def test_the_estimate_adds_up_the_bands() -> None:
    last = BANDS[-1]
    frame = estimate_leakage([Nearest(HELD, NEAR, last.low)] * 26, 100)
    rows = {row["alike"]: row for row in frame.iter_rows(named=True)}
    assert [row["held-out"] for row in rows.values()] == [0] * (len(BANDS) - 1) + [26, 26]
    total = rows["in all"]
    assert total["leaking"] == pytest.approx(26 * last.same / last.labelled, abs=0.1)
    assert 0.0 < total["low"] < total["leaking"] < total["high"] < 26
    assert frame.columns[-1] == "of 100 held-out questions"


def test_where_nothing_is_near_nothing_is_expected_to_leak() -> None:
    total = estimate_leakage([], 0).row(-1, named=True)
    assert (total["held-out"], total["leaking"], total["high"]) == (0, 0.0, 0.0)
