"""Parts of the training questions: buckets, conditions, relations, popularity."""

from collections.abc import Callable
from dataclasses import replace

import pytest

from attrib.analysis.buckets import Bucket
from attrib.attribution.subsets import SMALL, Grouping, all_parts, choose_subsets
from attrib.data.library import store_questions
from attrib.data.questions import AnswerType, Question, Split
from attrib.errors import ConfigError, DataError
from attrib.store import Store

Choose = Callable[..., dict[str, list[str]]]


def make_question(number: int) -> Question:
    return Question(
        question_id=f"q{number:02}",
        dataset="d",
        split=Split.TRAIN,
        text=f"{number}?",
        answers=("x",),
        answer_type=AnswerType.NAME,
        subject=None,
        relation="capital" if number < 20 else "currency" if number < 27 else None,
        fact_id=f"{number}",
        popularity=10 * number if number < 24 else None,
    )


QUESTIONS = [make_question(number) for number in range(36)]
BUCKETS = {
    Bucket.NEVER_CORRECT: QUESTIONS[:12],
    Bucket.RARELY_CORRECT: QUESTIONS[12:15],
    Bucket.SOMETIMES_CORRECT: QUESTIONS[15:],
    Bucket.MOSTLY_CORRECT: [],
    Bucket.ALWAYS_CORRECT: [],
}


@pytest.fixture
def choose(open_store: Callable[..., Store]) -> Choose:
    """Return `choose(**what)`: names of the subsets with their questions' ids."""
    store = open_store()
    stranger = replace(make_question(1), question_id="elsewhere")
    with store.writing("attrib test"):
        store_questions(store, "d", "d", "hash", [*QUESTIONS, stranger])

    def run(**what: object) -> dict[str, list[str]]:
        subsets = choose_subsets(store, BUCKETS, **what)  # type: ignore[arg-type]
        found = {s.name: sorted(q.question_id for q in s.questions) for s in subsets}
        assert len(found) == len(subsets)
        return found

    return run


def ids(first: int, stop: int) -> list[str]:
    return [question.question_id for question in QUESTIONS[first:stop]]


def test_buckets_by_name(choose: Choose) -> None:
    assert choose(names=("rarely-correct", "never-correct", "rarely-correct")) == {
        "rarely-correct": ids(12, 15),  # small, but named; and once, though named twice
        "never-correct": ids(0, 12),
    }


def test_all_buckets_but_small_ones(choose: Choose, capsys: pytest.CaptureFixture[str]) -> None:
    assert choose(all_buckets=True) == {
        "never-correct": ids(0, 12),
        "sometimes-correct": ids(15, 36),
    }
    assert " ".join(capsys.readouterr().err.split()) == (
        f"Not trained on, with fewer than {SMALL} questions (name one to do so): "
        "rarely-correct (3)."
    )
    both = choose(all_buckets=True, names=("rarely-correct",))
    assert list(both) == ["rarely-correct", "never-correct", "sometimes-correct"]


def test_conditions_choose_among_the_bucketed_questions(choose: Choose) -> None:
    found = choose(wheres=("popularity <\n   20", "relation = 'currency' OR popularity = 0"))
    assert found == {
        "popularity < 20": ids(0, 2),
        "relation = 'currency' OR popularity = 0": [*ids(0, 1), *ids(20, 27)],
    }


def test_conditions_cannot_reach_beyond_their_parentheses(choose: Choose) -> None:
    assert choose(wheres=("popularity < 20 -- nothing more",)) == {
        "popularity < 20 -- nothing more": ids(0, 2)
    }
    with pytest.raises(ConfigError, match="cannot be used"):
        choose(wheres=("popularity < 20) OR (TRUE; DROP TABLE questions",))


def test_groups_by_relation(choose: Choose, capsys: pytest.CaptureFixture[str]) -> None:
    assert choose(group_by=Grouping.RELATION) == {
        "capital": ids(0, 20),
        "no relation": ids(27, 36),
    }
    assert "currency (7)" in capsys.readouterr().err


def test_groups_by_popularity_are_quarters(choose: Choose) -> None:
    quarters = choose(group_by=Grouping.POPULARITY)
    assert list(quarters) == ["popularity, unknown"]  # each quarter has six, too few
    assert quarters["popularity, unknown"] == ids(24, 36)


def test_quarters_of_popularity_keep_equal_ones_together(open_store: Callable[..., Store]) -> None:
    values = [*range(1, 9), *[9] * 16, *range(10, 18), None, None]
    questions = [
        replace(question, popularity=value)
        for question, value in zip(QUESTIONS, values, strict=False)
    ]
    buckets = {Bucket.NEVER_CORRECT: questions}
    subsets = choose_subsets(open_store(), buckets, group_by=Grouping.POPULARITY)
    found = {s.name: sorted({q.popularity for q in s.questions}) for s in subsets}
    assert found == {  # the cuts are 8.75, 9 and 9.25: nothing is left for the third
        "popularity, 1st quarter": [*range(1, 9)],
        "popularity, 2nd quarter": [9],
        "popularity, 4th quarter": [*range(10, 18)],
    }
    sizes = {s.name: len(s.questions) for s in subsets}
    assert sum(sizes.values()) == 32


def test_popularity_that_nobody_knows_is_refused(open_store: Callable[..., Store]) -> None:
    unknown = {Bucket.NEVER_CORRECT: [replace(q, popularity=None) for q in QUESTIONS]}
    with pytest.raises(DataError, match="none of the bucketed questions has a popularity"):
        choose_subsets(open_store(), unknown, group_by=Grouping.POPULARITY)


@pytest.mark.parametrize(
    ("what", "error", "complaint"),
    [
        ({}, ConfigError, "Say what to train on: --subset never-correct, --all-buckets"),
        ({"names": ("hard",)}, ConfigError, "--subset hard is not a bucket. Buckets: never-corr"),
        (
            {"names": ("always-correct",)},
            DataError,
            r"always-correct holds no question.* never-correct \(12\), rarely-correct \(3\)",
        ),
        ({"wheres": ("nothing",)}, ConfigError, 'condition "nothing" cannot be used'),
        ({"wheres": ("question_id = 'elsewhere'",)}, DataError, "holds none of the bucketed"),
    ],
)
def test_what_has_no_meaning_is_refused(
    choose: Choose, what: dict[str, object], error: type[Exception], complaint: str
) -> None:
    with pytest.raises(error, match=complaint):
        choose(**what)


def test_all_parts_are_the_buckets_that_hold_something() -> None:
    parts = {subset.name: len(subset.questions) for subset in all_parts(BUCKETS)}
    assert parts == {"never-correct": 12, "rarely-correct": 3, "sometimes-correct": 21}
