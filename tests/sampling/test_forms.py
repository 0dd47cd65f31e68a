"""Dates, numbers in words and roman numerals in one form."""

import datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from attrib.data.questions import AnswerType, Question, Split
from attrib.sampling.forms import number_variants, rewrite, rewrite_numbers
from attrib.sampling.grading import Grader, Verdict, grade_one
from attrib.sampling.matching import make_exact_grader, make_match_grader

SMALL = (
    "zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten",
    "eleven", "twelve", "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen",
    "nineteen",
)  # fmt: skip
TENS = ["twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety"]


def spell(number: int) -> str:
    """Write a number below a billion in English words."""
    if number < 20:
        return SMALL[number]
    if number < 100:
        tens, rest = divmod(number, 10)
        return TENS[tens - 2] + (f"-{SMALL[rest]}" if rest else "")
    for size, name in ((10**6, "million"), (10**3, "thousand"), (100, "hundred")):
        if number >= size:
            many, rest = divmod(number, size)
            joint = " and " if 0 < rest < 100 else " "
            return f"{spell(many)} {name}" + (joint + spell(rest) if rest else "")
    raise AssertionError(number)


@given(st.integers(2, 10**9 - 1))
def test_every_number_in_words_becomes_figures(number: int) -> None:
    assert rewrite(f"about {spell(number)} people") == f"about {number} people"
    assert rewrite_numbers(spell(number).capitalize()) == str(number)


@given(st.dates(datetime.date(1000, 1, 1), datetime.date(2999, 12, 31)))
def test_every_way_to_write_a_date_is_the_same(date: datetime.date) -> None:
    month, short = date.strftime("%B"), date.strftime("%b")
    day, year = date.day, date.year
    ending = {1: "st", 2: "nd", 3: "rd"}.get(day % 10 if day not in (11, 12, 13) else 0, "th")
    expected = f"{year} {month} {day}"
    for text in (
        f"{month} {day}, {year}", f"{day} {month} {year}", f"{day}{ending} of {month}, {year}",
        f"{month} {day}{ending} {year}", f"{short} {day}, {year}", f"{short}. {day:02} {year}",
        f"{month} the {day}{ending}, {year}", f"{year}-{date.month:02}-{day:02}", expected.upper(),
    ):  # fmt: skip
        assert rewrite(text).casefold() == expected.casefold(), text
    if day > 12:
        assert rewrite(f"{date.month}/{day}/{year}") == expected
        assert rewrite(f"{day}/{date.month}/{year}") == expected


@given(st.text())
def test_rewriting_twice_changes_nothing(text: str) -> None:
    once = rewrite(text)
    assert rewrite(once) == once


@pytest.mark.parametrize(
    "text",
    [
        "one of the best", "No one knows", "3/4/1999", "two three", "May I?", "in May", "1-242",
        "the march of 10000 men", "1,000", "26.5", "one third", "hundredfold", "somebody",
    ],
)  # fmt: skip
def test_what_has_no_other_form_stays(text: str) -> None:
    assert rewrite(text) == text


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("3.5 million people", "3500000 people"), ("2,500 thousand", "2500000"),
        ("nineteen eighty-four", "1984"), ("twenty twenty", "2020"),
        ("nineteen hundred", "1900"), ("One.", "1."),
        ("the Twenty-First century", "the 21st century"),
        ("Louis the Fourteenth", "Louis the 14th"),
        ("two hundred and twelfth", "212th"),
    ],
)  # fmt: skip
def test_rewritten(text: str, expected: str) -> None:
    assert rewrite(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("It is twenty", "It is twenty"), ("in December 1972, or", "in 1972 December, or"),
        ("on 14 December 197", "on December 14 197"), ("December 14,", "December 14,"),
        ("five of two hundred", "5 of two hundred"),
    ],
)  # fmt: skip
def test_what_reaches_a_cut_stays(text: str, expected: str) -> None:
    assert rewrite(text, truncated=True) == expected


@pytest.mark.parametrize(
    ("key", "expected"),
    [
        ("louis xiv", {"louis 14", "louis 14th"}), ("louis 14th", {"louis 14", "louis xiv"}),
        ("world war 2", {"world war ii", "world war 2nd"}),
        ("malcolm x", {"malcolm 10", "malcolm 10th"}),
        ("1972 december 14", set()), ("xiv", set()),
        ("world war one", {"world war 1", "world war 1st", "world war i"}),
        ("vitamin c", set()), ("apollo 40", set()),
    ],
)  # fmt: skip
def test_names_with_a_number(key: str, expected: set[str]) -> None:
    assert set(number_variants(key)) == expected


def ask(*answers: str, answer_type: AnswerType = AnswerType.NAME) -> Question:
    return Question(
        *(f"q{answers}", "d", Split.TRAIN, "What?", answers, answer_type, None, None, "f", None)
    )


GRADERS: tuple[Grader, ...] = (make_match_grader([]), make_exact_grader())
SAME = [
    ("14 December 1972", "December 14, 1972"), ("14 December 1972", "14th of december 1972"),
    ("December 1972", "Dec. 1972"), ("1,000", "one thousand"), ("1000", "One Thousand."),
    ("one thousand", "1,000"), ("Louis XIV", "Louis the Fourteenth"), ("Louis XIV", "louis xiv"),
    ("Louis the Fourteenth", "Louis XIV"), ("Louis 14", "Louis XIV"),
    ("World War II", "World War Two"),
    ("World War I", "World War One"), ("Elizabeth I", "Elizabeth the First"),
    ("Elizabeth the First", "Elizabeth I"), ("Seven Samurai", "7 Samurai"),
    ("1984", "Nineteen Eighty-Four"),
    ("21st century", "the twenty-first century"), ("Apollo 11", "Apollo Eleven"), ("one", "1"),
    ("5 km", "5 kilometres"), ("5 kilometers", "5 km"), ("12 percent", "12%"), ("6 feet", "6 ft"),
    ("third", "3rd"), ("Henry VIII", "Henry the 8th"), ("Rocky IV", "Rocky 4"), ("yes", "Yes."),
]  # fmt: skip
OTHERS = [
    ("14 December 1972", "15 December 1972"), ("14 December 1972", "December 1972"),
    ("14 December 1972", "1972"), ("Louis XIV", "Louis XV"), ("Louis XIV", "Louis XIVa"),
    ("World War II", "World War I"), ("World War I", "World War II"), ("26", "twenty"),
    ("20", "twenty-six"), ("6", "twenty-six"), ("100", "one hundred and one"),
    ("Elizabeth I", "Elizabeth II"),
    ("Henry V", "Henry VI"), ("1000", "one thousand one"), ("third", "thirteenth"), ("yes", "no"),
    ("one", "No one."), ("1", "one of the best"), ("May", "it may be"),
]  # fmt: skip
MORE_EXACT = [
    ("1972", "14 December 1972"), ("December 1972", "December 14, 1972"),
    ("December 14", "December 14, 1972"),
    ("14 December", "on the 14th of December 1972"), ("1972", "It was on December 14, 1972."),
]  # fmt: skip


@pytest.mark.parametrize(("answer", "text"), SAME)
def test_the_same_in_other_form_is_correct(answer: str, text: str) -> None:
    for grader in GRADERS:
        assert grade_one(grader, ask(answer), text).verdict is Verdict.CORRECT, grader.name
    carried = f"I believe it was {text.rstrip('.')}, as far as I know."
    if text.casefold() != "1":
        assert grade_one(GRADERS[0], ask(answer), carried).verdict is Verdict.CORRECT


@pytest.mark.parametrize(("answer", "text"), [case for case in OTHERS if case[0] != "May"])
def test_something_else_is_incorrect(answer: str, text: str) -> None:
    for grader in GRADERS:
        assert grade_one(grader, ask(answer), text).verdict is Verdict.INCORRECT, grader.name


@pytest.mark.parametrize(("answer", "text"), MORE_EXACT)
def test_a_date_that_says_more_is_a_match(answer: str, text: str) -> None:
    assert grade_one(GRADERS[0], ask(answer), text).verdict is Verdict.CORRECT


@pytest.mark.parametrize(
    ("answer", "text", "expected"),
    [
        ("1500000", "about 1.5 million", True), ("1,500,000", "one and a half million", False),
        ("26", "the first of twenty-six", True), ("1", "the first in 1990", False),
        ("2", "Second.", True),
        ("12", "twelve", True), ("300", "three hundred", True),
        ("300", "three hundred and two", False),
        ("1972", "December 14, 1972", True), ("14", "It has fourteen of them", True),
    ],
)  # fmt: skip
def test_numbers_in_words(answer: str, text: str, expected: bool) -> None:
    question = ask(answer, answer_type=AnswerType.NUMBER)
    verdict = grade_one(GRADERS[0], question, text).verdict
    assert verdict is (Verdict.CORRECT if expected else Verdict.INCORRECT)
