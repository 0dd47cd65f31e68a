"""Signs that the accepted answers are at fault."""

import random
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import polars as pl
import pytest
from rapidfuzz.distance import OSA

from attrib.data.questions import AnswerType, Question, Split, load_worldfacts
from attrib.sampling import suspects
from attrib.sampling.graders import make_grader
from attrib.sampling.grading import Response, Verdict
from attrib.sampling.normalise import ARTICLES, BREAK, name_keys, split_names
from attrib.sampling.outlines import outline, untouched_pieces
from attrib.sampling.suspects import Reason, Suspect, find_suspects


class Said(NamedTuple):
    text: str
    count: int
    detail: str


def ask(*answers: str, answer_type: AnswerType = AnswerType.NAME) -> Question:
    return Question(*("q", "d", Split.TRAIN, "?", answers, answer_type, None, None, "f", None))


def to_frame(responses: dict[str, Sequence[Said]]) -> pl.DataFrame:
    """Return responses as a query gives them, ordered by text."""
    rows = [(question, *one) for question, said in responses.items() for one in sorted(said)]
    names = {"question_id": pl.String, "text": pl.String, "count": pl.Int64, "detail": pl.String}
    return pl.DataFrame(rows, names, orient="row")


def signs(question: Question, *said: Said, room: float = 60) -> dict[Reason, str]:
    found = find_suspects([question], to_frame({"q": said}), room)
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


PARTS = (
    "Paris", "The", "an", "a", "Ant", "lyon", "St", "st.", "Saint", "Mt", "U.S.A.", "J. K.", "A.",
    "one", "twenty-six", "26", "may", "May", "first", "1st", "1,000", "3/14/1999", "km", "feet",
    "King's", "d'Ivoire", "o'two", "a's", "one's", "k'm", "t'wo", "x'an", "dogs'", "it'S", "The.",
    "R&B", "C#", "50%", "naïve", "São", "_a_", "a-b", "well-known", "e.g.", "vitamin", "US", "us",
    "I", "(in)", "n`t", "3.14", "x\ny", "e", "of", "the,", "the!", "Bay", "Pigs",
)  # fmt: skip
BLANKS = (" ", " ", " ", ", ", ". ", "\n", "-", "", "'", " _")


def make_texts(count: int) -> Iterator[str]:
    rng = random.Random(0)
    for _ in range(count):
        parts = rng.choices(PARTS, k=rng.randrange(1, 5))
        yield "".join(part + rng.choice(BLANKS) for part in parts) + rng.choice(("", "", ".", "!"))


def drop_articles(words: list[str]) -> str:
    return "".join(word for word in words if word not in {*ARTICLES, BREAK})


def test_an_outline_is_that_of_the_key_and_of_the_words() -> None:
    texts = list(dict.fromkeys(make_texts(10_000)))
    outlines = pl.DataFrame({"text": texts}).select(outline(pl.col("text"))).to_series()
    clear = 0
    for text, letters in zip(texts, outlines, strict=True):
        if letters is None:
            continue
        clear += 1
        keys = name_keys(text)
        assert letters == drop_articles(keys[0].lower().split(" ") if keys else []), text
        assert letters == drop_articles(split_names(text).folded), text
    assert clear > 1_000


@pytest.mark.parametrize("text", ["It is Paris, I think!", "the well-known (x)", "King's Lynn", ""])
def test_common_texts_have_outlines(text: str) -> None:
    assert pl.select(outline(pl.lit(text))).item() is not None


def test_a_piece_survives_every_edit() -> None:
    rng = random.Random(0)
    keys = ["quetzal", "lions", "a b c", "new york", "guatemala quetzal", "ab cd ef gh ij"]
    reached = set()
    for _ in range(20_000):
        key = rng.choice(keys)
        edits = 2 if len(key) >= 11 else 1
        letters = list(key)
        for _ in range(rng.randrange(edits + 1)):
            at = rng.randrange(len(letters) - 1)
            change = rng.randrange(4)
            letters[at : at + 2] = (
                [letters[at + 1], letters[at]], [letters[at]], ["x", letters[at + 1]],
                [letters[at], rng.choice("x "), letters[at + 1]],
            )[change]  # fmt: skip
        changed = "".join(letters)
        distance = OSA.distance(changed, key)
        if distance <= edits:
            reached.add((key, distance))
            pieces = untouched_pieces(key, edits)
            assert any(piece in changed.replace(" ", "") for piece in pieces), (key, changed)
    assert len(reached) == 2 * len(keys) + 2  # of 0 and 1 edits, and of 2 in the long ones


def test_no_sign_is_lost_by_looking_at_outlines_first(monkeypatch: pytest.MonkeyPatch) -> None:
    responses, questions = made_up_responses()
    frame = to_frame(responses)
    found = find_suspects(questions, frame, 12)
    monkeypatch.setattr(suspects, "outline", lambda text: pl.lit(None, pl.String))
    assert found == find_suspects(questions, frame, 12)  # every text read closely
    assert {one.reason for one in found} == set(Reason)
    assert 20 < len({one.question_id for one in found}) < 300


def made_up_responses() -> tuple[dict[str, list[Said]], list[Question]]:
    """Return wrong responses to real questions: other answers, misspelled ones, odd texts."""
    rng = random.Random(0)
    everything = load_worldfacts()
    questions = rng.sample(everything, 300)
    odd = list(make_texts(3_000))
    grader = make_grader("match", everything)
    responses: dict[str, list[Said]] = {}
    for question in questions:
        texts = rng.sample(odd, 6)
        texts += [f"It is {rng.choice(everything).answers[0]}." for _ in range(4)]
        texts += [f"The {text}" for text in texts[:2]]
        for form in ("I think it's {}", "{}."):
            letters = list(rng.choice(question.answers))
            at = rng.randrange(len(letters))
            letters[at : at + 2] = letters[at : at + 2][::-1] if rng.random() < 0.5 else "q"
            texts.append(form.format("".join(letters)))
        distinct = list(dict.fromkeys(texts))
        graded = grader.grade([Response(question, text, False) for text in distinct])
        responses[question.question_id] = [
            Said(text, rng.choice((1, 1, 2, 20)), one.detail)
            for text, one in zip(distinct, graded, strict=True)
            if one.verdict is Verdict.INCORRECT
        ]
    return responses, questions
