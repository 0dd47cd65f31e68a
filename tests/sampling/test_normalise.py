"""Normalisation: what it makes of a text it leaves alone, and the order of aliases is nothing."""

import random
from dataclasses import replace

from hypothesis import example, given
from hypothesis import strategies as st

from attrib.data.questions import AnswerType, Question, Split
from attrib.sampling.forms import has_forms
from attrib.sampling.grading import Verdict, grade_one
from attrib.sampling.matching import make_exact_grader, make_match_grader
from attrib.sampling.normalise import (
    ARTICLES,
    answer_name_keys,
    find_core,
    name_keys,
    split_names,
    squash,
)

WORDS = st.sampled_from(
    ["Paris", "the", "A.", "St.", "d'Ivoire", "Louis", "XIV", "twenty", "six", "May", "5", "1972",
     "&", "U.S.", "or", "not", "é", "Ｐ", "one", "hundred", ",", "\n", "I", "US"]
)  # fmt: skip
NAMES = st.one_of(st.text(max_size=20), st.lists(WORDS, max_size=6).map(" ".join))


@given(NAMES.filter(lambda name: all(c.isalnum() or c in " .'\n" for c in name)))
def test_keys_are_keys_of_themselves(name: str) -> None:
    """But for articles, signs and dates, where other words come to stand side by side."""
    words = split_names(name).folded
    if ARTICLES.isdisjoint(words) and not has_forms(words, name):
        for key in name_keys(name):
            if ARTICLES.isdisjoint(key.split(" ")):
                assert key in name_keys(key)


@given(st.lists(NAMES, min_size=1, max_size=4), NAMES, st.randoms(use_true_random=False))
def test_the_order_of_aliases_changes_no_verdict(
    answers: list[str], text: str, rng: random.Random
) -> None:
    question = Question(
        *("q", "d", Split.TRAIN, "?", tuple(answers), AnswerType.NAME, None, "r", "f", None)
    )
    shuffled = replace(question, answers=tuple(rng.sample(answers, len(answers))))
    for make in (make_match_grader, lambda _: make_exact_grader()):
        one = grade_one(make([question]), question, text)
        other = grade_one(make([shuffled]), shuffled, text)
        assert one.verdict is other.verdict


@given(NAMES, NAMES)
@example("L e.g. ibya", "Libya")
@example("twenty six", "26")
def test_the_quick_look_of_exact_misses_nothing(text: str, answer: str) -> None:
    """What `exact` rejects at a glance it would reject after reading all of it."""
    question = Question(
        *("q", "d", Split.TRAIN, "?", (answer,), AnswerType.NAME, None, None, "f", None)
    )
    keys = set(name_keys(text)) & set(answer_name_keys(answer))
    graded = grade_one(make_exact_grader(), question, text)
    if keys and text.strip():
        assert graded.verdict is Verdict.CORRECT


@given(st.text(alphabet=st.characters(max_codepoint=127), max_size=30))
@example("D&")
@example("L St.")
def test_the_core_of_a_key_is_in_the_letters_of_its_text(text: str) -> None:
    for key in name_keys(text):
        if not any(character.isdigit() for character in key) and "e.g" not in text.lower():
            assert find_core(key) in squash(text)
