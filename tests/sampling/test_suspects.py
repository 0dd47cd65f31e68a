"""Signs that the accepted answers are at fault."""

import pytest

from attrib.data.questions import AnswerType, Question, Split
from attrib.sampling.suspects import Reason, Said, Suspect, find_suspects


def ask(*answers: str, answer_type: AnswerType = AnswerType.NAME) -> Question:
    return Question(*("q", "d", Split.TRAIN, "?", answers, answer_type, None, None, "f", None))


def signs(question: Question, *said: Said, room: float = 60) -> dict[Reason, str]:
    found = find_suspects([question], {"q": said}, room)
    assert all(isinstance(one, Suspect) and one.question_id == "q" for one in found)
    return {one.reason: one.detail for one in found}


def other(answer: str, count: int, text: str | None = None) -> Said:
    return Said(text or f"It is {answer}.", count, f"another answer: {answer}")


def unknown(text: str, count: int) -> Said:
    return Said(text, count, "no accepted answer")


def test_nothing_said_is_no_sign() -> None:
    assert signs(ask("Paris")) == {}


def test_an_answer_of_half_the_rollouts_dominates() -> None:
    half = [other("Lyon", 3), other("Lyon", 1, "Lyon"), unknown("no idea", 4)]
    assert signs(ask("Paris"), *half) == {Reason.DOMINANT_ANSWER: "Lyon (4 of 8)"}
    assert signs(ask("Paris"), *half, unknown("hm", 1)) == {}


def test_short_texts_count_as_answers_too() -> None:
    said = [unknown("The Pariss-Town", 3), unknown("pariss town.", 2), unknown("Rome", 1)]
    assert signs(ask("Berlin"), *said) == {Reason.DOMINANT_ANSWER: "pariss town (5 of 6)"}


@pytest.mark.parametrize(
    ("answer", "text", "expected"),
    [
        ("Guatemala quetzal", "a Guatemala quetzel", "guatemala quetzel for Guatemala quetzal"),
        ("Nukualofa", "It is Nukualoffa, I think", "nukualoffa for Nukualofa"),
        ("Reykjavik", "Reykjavík", None), ("Lima", "Limo", None), ("1984 film", "1985 film", None),
        ("Reykjavik", "Reykyawik", None), ("Quetzal", "quetzal", None),
    ],
)  # fmt: skip
def test_a_letter_off_is_a_near_miss(answer: str, text: str, expected: str | None) -> None:
    found = signs(ask(answer), unknown(text, 1), unknown("x", 9), unknown("y", 9))
    assert found.get(Reason.NEAR_MISS) == expected


def test_an_answer_of_the_relation_is_no_near_miss() -> None:
    assert signs(ask("Dominica Republic"), other("Dominican Republic", 1), unknown("", 5)) == {}


def test_other_types_have_no_near_misses() -> None:
    question = ask("12345", answer_type=AnswerType.NUMBER)
    assert signs(question, unknown("12346", 1), unknown("7", 1), unknown("8", 1)) == {}


def test_answers_that_do_not_fit() -> None:
    assert signs(ask("x" * 61, "y" * 70)) == {
        Reason.TOO_LONG: "61 characters, about 60 fit into a rollout"
    }
    assert signs(ask("x" * 61, "short")) == {}
