"""The verdict cache: each distinct response is graded once, whoever drew it."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from attrib.data.library import hash_answers
from attrib.data.questions import AnswerType, Question, Split
from attrib.sampling.engine import FinishReason, Rollout
from attrib.sampling.graders import make_grader
from attrib.sampling.grading import Graded, Response, Verdict
from attrib.sampling.verdicts import Verdicts, to_response
from attrib.store import Store

CAPITAL = Question(
    *("q1", "d", Split.TRAIN, "Capital of Peru?", ("Lima",), AnswerType.NAME),
    *("Peru", "capital", "f1", None),
)
OTHER = Question(
    *("q2", "d", Split.TRAIN, "Capital of Chile?", ("Santiago",), AnswerType.NAME),
    *("Chile", "capital", "f2", None),
)


class CountingGrader:
    """The real grader, remembering what it was asked."""

    name = "match"
    is_costly = False
    cost = ""

    def __init__(self, *questions: Question) -> None:
        self.real = make_grader("match", questions or (CAPITAL, OTHER))
        self.fingerprint = self.real.fingerprint
        self.asked: list[tuple[str, str, bool]] = []

    def grade(self, responses: Sequence[Response]) -> Iterator[Graded]:
        for response in responses:
            self.asked.append((response.question.question_id, response.text, response.truncated))
            yield from self.real.grade([response])


@pytest.fixture
def store(tmp_path: Path) -> Store:
    store = Store(tmp_path / "study.duckdb")
    with store.writing("attrib test"):
        pass
    return store


@pytest.fixture
def grader() -> CountingGrader:
    return CountingGrader()


def rollout(text: str, reason: FinishReason = FinishReason.STOP) -> Rollout:
    return Rollout(0, text, (1,), 1, -1.0, reason)


def grade(verdicts: Verdicts, question: Question, rollout: Rollout) -> Graded:
    [graded] = verdicts.grade([to_response(question, rollout)])
    return graded


def write(store: Store, *caches: Verdicts) -> None:
    with store.writing("attrib test"), store.transaction() as transaction:
        for verdicts in caches:
            verdicts.write(transaction)


def count(store: Store) -> int:
    return int(store.read("SELECT count(*) FROM verdicts").item())


def test_a_response_is_graded_once(store: Store, grader: CountingGrader) -> None:
    verdicts = Verdicts(store, grader)
    verdicts.prepare([CAPITAL, OTHER])
    for _ in range(3):
        assert grade(verdicts, CAPITAL, rollout("Lima.")).verdict is Verdict.CORRECT
        assert grade(verdicts, OTHER, rollout("Lima.")).verdict is Verdict.INCORRECT
    assert grader.asked == [("q1", "Lima.", False), ("q2", "Lima.", False)]


def test_a_response_that_was_cut_off_is_another_one(store: Store, grader: CountingGrader) -> None:
    verdicts = Verdicts(store, grader)
    grade(verdicts, CAPITAL, rollout("Lima"))
    grade(verdicts, CAPITAL, rollout("Lima", FinishReason.LENGTH))
    assert grader.asked == [("q1", "Lima", False), ("q1", "Lima", True)]


def test_stored_verdicts_are_not_asked_for_again(store: Store, grader: CountingGrader) -> None:
    first = Verdicts(store, grader)
    expected = grade(first, CAPITAL, rollout("It is Lima."))
    write(store, first)
    grader.asked.clear()
    second = Verdicts(store, grader)
    second.prepare([CAPITAL])
    assert grade(second, CAPITAL, rollout("It is Lima.")) == expected
    assert grader.asked == []
    write(store, second)
    assert count(store) == 1


def test_what_is_stored_is_read_once_per_question(
    store: Store, grader: CountingGrader, monkeypatch: pytest.MonkeyPatch
) -> None:
    verdicts = Verdicts(store, grader)
    asked: list[object] = []
    real = Store.read

    def read(self: Store, sql: str, **params: object) -> object:
        asked.append(params["question_ids"])
        return real(self, sql, **params)

    monkeypatch.setattr(Store, "read", read)
    for questions in ([CAPITAL], [OTHER, CAPITAL], [OTHER, OTHER], []):
        verdicts.prepare(questions)
    assert asked == [["q1"], ["q2"]]


def test_verdicts_belong_to_answers_and_grader(store: Store, grader: CountingGrader) -> None:
    verdicts = Verdicts(store, grader)
    grade(verdicts, CAPITAL, rollout("Lima"))
    write(store, verdicts)
    grader.asked.clear()
    mended = Question(
        *("q1", "d", Split.TRAIN, "Capital of Peru?", ("Lima", "Ciudad de los Reyes")),
        *(AnswerType.NAME, "Peru", "capital", "f1", None),
    )
    assert hash_answers(mended) != hash_answers(CAPITAL)
    again = Verdicts(store, grader)
    again.prepare([mended])
    grade(again, mended, rollout("Lima"))
    assert grader.asked == [("q1", "Lima", False)]
    other = CountingGrader(CAPITAL)  # another universe of answers: another grader
    third = Verdicts(store, other)
    third.prepare([CAPITAL])
    grade(third, CAPITAL, rollout("Lima"))
    assert other.asked == [("q1", "Lima", False)]
    write(store, again, third)
    rows = store.read("SELECT DISTINCT answers_hash, grader FROM verdicts")
    assert len(rows) == 3


def test_rollouts_that_failed_are_never_graded(store: Store, grader: CountingGrader) -> None:
    verdicts = Verdicts(store, grader)
    assert grade(verdicts, CAPITAL, Rollout.failed(0)).verdict is Verdict.FAILED
    assert grader.asked == []
    write(store, verdicts)
    assert count(store) == 0


def test_verdicts_that_cannot_be_told_are_kept_too(store: Store) -> None:
    silent = Question(
        *("q3", "d", Split.TRAIN, "How many?", ("?!",), AnswerType.NUMBER, None, None, "f3", None)
    )
    grader = CountingGrader(silent)
    verdicts = Verdicts(store, grader)
    assert grade(verdicts, silent, rollout("5")).verdict is Verdict.UNGRADED
    write(store, verdicts)
    again = Verdicts(store, grader)
    again.prepare([silent])
    assert grade(again, silent, rollout("5")).verdict is Verdict.UNGRADED
    assert len(grader.asked) == 1


def test_new_verdicts_are_written_once_and_with_what_else_the_transaction_holds(
    store: Store, grader: CountingGrader
) -> None:
    verdicts = Verdicts(store, grader)
    grade(verdicts, CAPITAL, rollout("Lima"))
    with store.writing("attrib test"), store.transaction() as transaction:
        verdicts.write(transaction)
        assert count_inside(transaction) == 1
        verdicts.write(transaction)
        assert count_inside(transaction) == 1
    grade(verdicts, CAPITAL, rollout("Quito"))
    write(store, verdicts)
    write(store, verdicts)
    rows = store.read("SELECT text, verdict, detail, answers_hash FROM verdicts ORDER BY text")
    assert rows.rows() == [
        ("Lima", "correct", "accepted: Lima", hash_answers(CAPITAL)),
        ("Quito", "incorrect", "no accepted answer", hash_answers(CAPITAL)),
    ]


def count_inside(transaction: object) -> int:
    connection = transaction._connection  # type: ignore[attr-defined]
    return int(connection.execute("SELECT count(*) FROM verdicts").fetchone()[0])


def test_caches_that_met_the_same_response_store_it_once(
    store: Store, grader: CountingGrader
) -> None:
    first, second = Verdicts(store, grader), Verdicts(store, grader)
    for verdicts in (first, second):
        grade(verdicts, CAPITAL, rollout("Lima"))
    write(store, first, second)
    assert count(store) == 1
