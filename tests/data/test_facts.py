"""Links between questions that ask for the same fact."""

from dataclasses import dataclass
from itertools import combinations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from attrib.data.facts import Link, Rule, find_links, fold, join


@dataclass(frozen=True)
class Ask:
    text: str
    answers: tuple[str, ...] = ("x",)
    subject: str | None = None


def facts_of(questions: list[Ask]) -> list[list[int]]:
    return join(len(questions), find_links(questions))


def test_the_same_words_are_the_same_question() -> None:
    questions = [Ask("Who wrote it?"), Ask("who wrote  it", ("y",)), Ask("Who read it?")]
    assert find_links(questions) == [Link(0, 1, Rule.SAME_QUESTION)]


def test_the_same_two_entities_are_one_fact_in_either_order() -> None:
    questions = [
        Ask("What is the capital of France?", ("Paris", "City of Light"), "France"),
        Ask("In which country is Paris?", ("France", "République française"), "Paris"),
        Ask("What does Paris govern?", ("FRANCE",), "paris"),
        Ask("What is the capital of Texas?", ("Austin",), "Texas"),
        Ask("Where is Paris, Texas?", ("Texas",), "Paris, Texas"),
    ]
    assert find_links(questions) == [
        Link(0, 1, Rule.SAME_ENTITIES),
        Link(0, 2, Rule.SAME_ENTITIES),
    ]
    assert facts_of(questions) == [[0, 1, 2], [3], [4]]


def test_father_and_mother_are_two_facts() -> None:
    questions = [Ask("Father of X?", ("Abe",), "X"), Ask("Mother of X?", ("Bea",), "X")]
    assert find_links(questions) == []


def test_one_answer_to_two_subjects_is_two_facts() -> None:
    questions = [Ask("Who wrote A?", ("Bo",), "A"), Ask("Who wrote B?", ("Bo",), "B")]
    assert find_links(questions) == []


def test_without_a_subject_there_are_no_entities() -> None:
    questions = [Ask("Who wrote A?", ("Bo",)), Ask("Who composed A?", ("Bo",))]
    assert find_links(questions) == []


def test_links_join_through_others() -> None:
    questions = [
        Ask("capital of France?", ("Paris",), "France"),
        Ask("Capital of FRANCE", ("Lutetia",), "Gaul"),
        Ask("Where is Lutetia?", ("Gaul",), "Lutetia"),
    ]
    assert facts_of(questions) == [[0, 1, 2]]
    assert [link.rule for link in find_links(questions)] == [
        Rule.SAME_QUESTION,
        Rule.SAME_ENTITIES,
    ]


asked = st.builds(
    Ask,
    text=st.sampled_from(["What?", "what", "The what?", "Who?", "Where?", "?"]),
    answers=st.lists(st.sampled_from(["a", "B", "b", "c", "é", "!"]), min_size=1).map(tuple),
    subject=st.sampled_from([None, "A", "b", "C", "e", ""]),
)


def is_same(one: Ask, other: Ask) -> bool:
    """Compare two questions by the rules, written anew."""
    if fold(one.text) and fold(one.text) == fold(other.text):
        return True
    pairs = [
        {frozenset((fold(q.subject or ""), fold(answer))) for answer in q.answers if fold(answer)}
        for q in (one, other)
    ]
    shared = pairs[0] & pairs[1]
    return any(len(pair) == 2 and "" not in pair for pair in shared)


@settings(deadline=None)
@given(st.lists(asked, max_size=12))
def test_facts_are_the_closure_of_what_is_the_same(questions: list[Ask]) -> None:
    fact = {place: {place} for place in range(len(questions))}
    for a, b in combinations(range(len(questions)), 2):
        if is_same(questions[a], questions[b]):
            union = fact[a] | fact[b]
            for member in union:
                fact[member] = union
    expected = sorted({tuple(sorted(members)) for members in fact.values()})
    found = facts_of(questions)
    assert found == [list(members) for members in expected]
    assert len(find_links(questions)) == len(questions) - len(found)


@given(st.text())
def test_folding_twice_changes_nothing(text: str) -> None:
    assert fold(fold(text)) == fold(text)


@pytest.mark.parametrize(
    ("text", "folded"),
    [("The Who?", "who"), ("Ça, c'est a  Test!", "ca c est test"), ("The", "the"), ("…", "")],
)
def test_folded_texts(text: str, folded: str) -> None:
    assert fold(text) == folded
