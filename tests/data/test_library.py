"""The questions of a study: imported once, selected the same way every time."""

from pathlib import Path

import pytest

from attrib.data.library import (
    hash_answers,
    import_dataset,
    load_dataset,
    select_questions,
    store_questions,
)
from attrib.data.questions import AnswerType, Question, Split, load_worldfacts
from attrib.errors import ConfigError, DataError
from attrib.store import Store

WORLDFACTS = "worldfacts"


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """Make a study that holds the built-in questions."""
    store = Store(tmp_path_factory.mktemp("library") / "study.duckdb")
    with store.writing("attrib test"):
        import_dataset(store, WORLDFACTS)
    return store


@pytest.fixture(scope="module")
def questions(study: Store) -> list[Question]:
    return load_dataset(study, WORLDFACTS)


def ids(questions: list[Question]) -> list[str]:
    return [question.question_id for question in questions]


def small_question(name: str, split: Split = Split.TRAIN, **changes: object) -> Question:
    fields: dict[str, object] = {
        "question_id": name,
        "dataset": "mine",
        "split": split,
        "text": f"What is {name}?",
        "answers": ('it\'s "x"', "y"),
        "answer_type": AnswerType.NAME,
        "subject": None,
        "relation": None,
        "fact_id": name,
        "popularity": None,
        "flags": ("odd",),
        **changes,
    }
    return Question(**fields)  # type: ignore[arg-type]


def test_what_comes_back_is_what_went_in(questions: list[Question]) -> None:
    assert questions == sorted(load_worldfacts(), key=lambda question: question.question_id)


def test_unknown_fields_come_back_unknown(tmp_path: Path) -> None:
    store = Store(tmp_path / "study.duckdb")
    mine = [small_question("a"), small_question("b", Split.HELD_OUT, popularity=5, flags=())]
    with store.writing("attrib test"):
        store_questions(store, "mine", "mine.csv", "hash", mine)
    assert load_dataset(store, "mine") == mine
    assert store.read("SELECT dataset, path, file_hash, rows, dropped FROM imports").row(0) == (
        *("mine", "mine.csv", "hash"),
        *(2, "[]"),
    )


def test_importing_twice_changes_nothing(tmp_path: Path) -> None:
    store = Store(tmp_path / "study.duckdb")
    with store.writing("attrib test"):
        import_dataset(store, WORLDFACTS)
        first = [store.read(f"SELECT * FROM {table} ORDER BY ALL") for table in TABLES]
        import_dataset(store, WORLDFACTS)
        second = [store.read(f"SELECT * FROM {table} ORDER BY ALL") for table in TABLES]
    assert all(a.equals(b) for a, b in zip(first, second, strict=True))


TABLES = ("imports", "questions")


def test_a_changed_file_is_refused(tmp_path: Path) -> None:
    store = Store(tmp_path / "study.duckdb")
    with store.writing("attrib test"):
        import_dataset(store, WORLDFACTS)
        with store.transaction() as transaction:
            transaction.execute("UPDATE imports SET file_hash = 'older'")
        with pytest.raises(DataError, match=r"has changed since .* --db FILE"):
            import_dataset(store, WORLDFACTS)


def test_an_unknown_data_set_is_refused(tmp_path: Path) -> None:
    store = Store(tmp_path / "study.duckdb")
    with (
        store.writing("attrib test"),
        pytest.raises(ConfigError, match=r"no data set 'nothing'.*worldfacts"),
    ):
        import_dataset(store, "nothing")


def test_all_of_a_split_without_conditions(study: Store, questions: list[Question]) -> None:
    for split in Split:
        chosen = select_questions(study, questions, split)
        assert sorted(ids(chosen)) == [q.question_id for q in questions if q.split is split]


def test_a_condition_selects_by_the_columns_of_questions(
    study: Store, questions: list[Question]
) -> None:
    where = "relation = 'capital' AND popularity > 50000000"
    chosen = select_questions(study, questions, Split.TRAIN, where=where)
    assert set(chosen) == {
        question
        for question in questions
        if question.relation == "capital"
        and (question.popularity or 0) > 50_000_000
        and question.split is Split.TRAIN
    }
    assert chosen


def test_a_smaller_limit_is_the_beginning_of_a_larger_one(
    study: Store, questions: list[Question]
) -> None:
    whole = select_questions(study, questions, Split.TRAIN, where="relation = 'capital'")
    for limit in (1, 7, 60, len(whole), len(whole) + 1):
        chosen = select_questions(
            study, questions, Split.TRAIN, where="relation = 'capital'", limit=limit
        )
        assert chosen == whole[:limit]


def test_the_order_is_a_shuffle_that_does_not_depend_on_the_input(
    study: Store, questions: list[Question]
) -> None:
    chosen = select_questions(study, questions, Split.TRAIN, limit=50)
    assert select_questions(study, questions[::-1], Split.TRAIN, limit=50) == chosen
    assert ids(chosen) != sorted(ids(chosen))
    assert len({question.relation for question in chosen}) > 3


@pytest.mark.parametrize(
    "where",
    [
        None,
        "TRUE",
        "split = 'train' OR split = 'held-out'",
        "TRUE) OR (TRUE",
        "relation = 'capital' -- a comment",
    ],
)
def test_held_out_questions_are_never_trained_on(
    study: Store, questions: list[Question], where: str | None
) -> None:
    train = select_questions(study, questions, Split.TRAIN, where=where)
    held_out = select_questions(study, questions, Split.HELD_OUT, where=where)
    assert {question.split for question in train} == {Split.TRAIN}
    assert {question.split for question in held_out} == {Split.HELD_OUT}
    assert not {q.fact_id for q in train} & {q.fact_id for q in held_out}


@pytest.mark.parametrize("where", ["nothing = 1", "relation =", "TRUE; DROP TABLE questions", "("])
def test_a_condition_that_is_no_sql_is_refused(
    study: Store, questions: list[Question], where: str
) -> None:
    with pytest.raises(ConfigError) as refusal:
        select_questions(study, questions, Split.TRAIN, where=where)
    assert where in str(refusal.value)
    assert len(load_dataset(study, WORLDFACTS)) == len(questions)


def test_a_condition_that_nothing_satisfies_is_refused(
    study: Store, questions: list[Question]
) -> None:
    with pytest.raises(DataError, match="No train question satisfies \"relation = 'x'\""):
        select_questions(study, questions, Split.TRAIN, where="relation = 'x'")


@pytest.mark.parametrize("limit", [0, -3])
def test_a_limit_below_one_is_refused(study: Store, questions: list[Question], limit: int) -> None:
    with pytest.raises(ConfigError, match=f"limit of {limit} "):
        select_questions(study, questions, Split.TRAIN, limit=limit)


def test_the_hash_of_answers_ignores_their_order_and_nothing_else() -> None:
    question = small_question("a", answers=("x", "y"))
    assert hash_answers(small_question("b", answers=("y", "x"))) == hash_answers(question)
    assert hash_answers(small_question("a", answers=("x",))) != hash_answers(question)
    assert hash_answers(
        small_question("a", answers=("x", "y"), answer_type=AnswerType.CODE)
    ) != hash_answers(question)
