"""Buckets of a study whose rollouts are written by hand, so that every count is known."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from attrib.analysis.buckets import Bucket, assign_buckets
from attrib.config import content_hash
from attrib.data.library import store_questions
from attrib.data.questions import AnswerType, Question, Split
from attrib.errors import ConfigError, DataError, StoreError
from attrib.sampling import bucketing
from attrib.sampling.bucketing import BucketSettings, _choose_cuts, bucket_questions, suggest_cuts
from attrib.sampling.grading import Graded, Response, Verdict
from attrib.store import Store

RIGHT, WRONG, UNCLEAR = "Paris", "Oslo", "(unclear)"
SAMPLE_SET = "abc123"


class FakeGrader:
    """Knows one right answer, and one text that nobody can grade; notes what it was asked."""

    name = "match"
    fingerprint = "match-fake"

    def __init__(self) -> None:
        self.asked: list[tuple[str, str, bool]] = []

    is_costly = False
    cost = ""

    def grade(self, responses: Sequence[Response]) -> Iterator[Graded]:
        return (self._grade(*response) for response in responses)

    def _grade(self, question: Question, text: str, truncated: bool) -> Graded:
        self.asked.append((question.question_id, text, truncated))
        if text == UNCLEAR:
            return Graded(Verdict.UNGRADED, "unclear")
        right = text == RIGHT and not truncated
        return Graded(Verdict.CORRECT if right else Verdict.INCORRECT, "by hand")


@pytest.fixture
def grader(monkeypatch: pytest.MonkeyPatch) -> FakeGrader:
    fake = FakeGrader()
    monkeypatch.setattr(bucketing, "make_grader", lambda *_: fake)
    return fake


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "study.duckdb")


def write_study(
    store: Store,
    texts_by_question: dict[str, Sequence[str]],
    sample_set_id: str = SAMPLE_SET,
    finish_reasons: dict[tuple[str, int], str] | None = None,
) -> None:
    """Store questions with these rollouts, in this order."""
    questions = [
        Question(
            question_id=name,
            dataset="mine",
            split=Split.TRAIN,
            text=f"Capital of {name}?",
            answers=(RIGHT,),
            answer_type=AnswerType.NAME,
            subject=name,
            relation="capital",
            fact_id=name,
            popularity=None,
        )
        for name in texts_by_question
    ]
    rollouts = [
        {
            "sample_set_id": sample_set_id,
            "question_id": name,
            "rollout": index,
            "text": text,
            "token_ids": [1],
            "tokens": 1,
            "logprob": -1.0,
            "finish_reason": (finish_reasons or {}).get((name, index), "stop"),
        }
        for name, texts in texts_by_question.items()
        for index, text in enumerate(texts)
    ]
    sample_set = {
        "sample_set_id": sample_set_id,
        "model": "by hand",
        "engine": "none",
        "prompt": "",
        "params": "{}",
        "seed": 0,
    }
    with store.writing("attrib test"):
        store_questions(store, "mine", "mine.csv", "hash", questions)
        with store.transaction() as transaction:
            transaction.append("sample_sets", pl.DataFrame([sample_set]), ["sample_set_id"])
            transaction.append("rollouts", pl.DataFrame(rollouts))


def texts(right: int, n: int) -> list[str]:
    return [RIGHT] * right + [WRONG] * (n - right)


def bucket_of(store: Store, bucketing_id: str) -> dict[str, str]:
    rows = store.read(
        "SELECT question_id, bucket FROM buckets WHERE bucketing_id = $id", id=bucketing_id
    )
    return dict(rows.iter_rows())


def test_counts_buckets_and_intervals_by_hand(store: Store, grader: FakeGrader) -> None:
    correct = {"q0": 0, "q1": 1, "q2": 2, "q8": 8, "q9": 9, "q15": 15, "q16": 16}
    write_study(store, {name: texts(c, 16) for name, c in correct.items()})
    result = bucket_questions(store, BucketSettings(k=16))

    assert bucket_of(store, result.bucketing_id) == {
        "q0": "never-correct",
        "q1": "rarely-correct",
        "q2": "sometimes-correct",
        "q8": "sometimes-correct",
        "q9": "mostly-correct",
        "q15": "mostly-correct",
        "q16": "always-correct",
    }
    rows = store.read("SELECT question_id, n, correct, p_low, p_high FROM buckets")
    by_id = {row["question_id"]: row for row in rows.iter_rows(named=True)}
    assert {name: row["correct"] for name, row in by_id.items()} == correct
    assert set(rows["n"]) == {16}
    # Clopper-Pearson: 0 of 16 → [0, 1 - 0.025^(1/16)]; 1 of 16 from tables; 16 of 16 mirrors 0
    assert (by_id["q0"]["p_low"], by_id["q0"]["p_high"]) == (0, pytest.approx(0.205907, abs=1e-6))
    assert (by_id["q1"]["p_low"], by_id["q1"]["p_high"]) == (
        pytest.approx(0.001581, abs=1e-6),
        pytest.approx(0.302321, abs=1e-6),
    )
    assert (by_id["q16"]["p_low"], by_id["q16"]["p_high"]) == (
        pytest.approx(0.794093, abs=1e-6),
        1,
    )

    counts = {row.bucket: row.questions for row in result.rows}
    assert counts == dict(zip(Bucket, (1, 1, 2, 2, 1), strict=True))
    curve = result.pass_curve
    assert list(curve.k_K) == [1, 2, 4, 8, 16]
    assert curve.mean_K[0] == pytest.approx(51 / 16 / 7)
    # pass@2 = 1 - C(16-c, 2) / C(16, 2), averaged
    pass_2 = np.mean([1 - (16 - c) * (15 - c) / (16 * 15) for c in correct.values()])
    assert curve.mean_K[1] == pytest.approx(pass_2)
    assert curve.mean_K[-1] == pytest.approx(6 / 7)
    assert result.never_correct_bound == pytest.approx(0.170750, abs=1e-6)
    assert result.left_out == ()
    assert store.read("SELECT sample_set_id, grader, k FROM bucketings").row(0) == (
        *(SAMPLE_SET, "match-fake"),
        16,
    )


def test_only_the_first_k_rollouts_count(store: Store, grader: FakeGrader) -> None:
    write_study(
        store,
        {
            "late": [WRONG] * 16 + [RIGHT] * 16,
            "early": [RIGHT] * 16 + [WRONG] * 16,
            "more": [WRONG] * 15 + [RIGHT] * 30,
        },
    )
    result = bucket_questions(store, BucketSettings(k=16))
    assert bucket_of(store, result.bucketing_id) == {
        "late": "never-correct",
        "early": "always-correct",
        "more": "rarely-correct",
    }
    larger = bucket_questions(store, BucketSettings(k=32))
    assert larger.bucketing_id != result.bucketing_id
    assert set(bucket_of(store, larger.bucketing_id).values()) == {
        "sometimes-correct",
        "mostly-correct",
    }


def test_too_few_rollouts_are_refused_with_the_command_to_type(
    store: Store, grader: FakeGrader
) -> None:
    write_study(store, {"a": texts(1, 20), "b": texts(1, 17), "c": texts(1, 32)})
    with pytest.raises(DataError) as refusal:
        bucket_questions(store, BucketSettings(k=20))
    assert "1 of 3 questions have fewer than 20 rollouts (the fewest: 17)" in str(refusal.value)
    assert f"type: attrib sample --db {store.path} --n 20" in str(refusal.value)
    assert grader.asked == []
    assert store.read("SELECT * FROM bucketings").is_empty()


def test_failed_rollouts_do_not_count_as_rollouts(store: Store, grader: FakeGrader) -> None:
    write_study(store, {"a": texts(3, 17), "b": texts(3, 17)}, finish_reasons={("a", 2): "error"})
    with pytest.raises(DataError, match=r"1 of 2 questions .* \(the fewest: 16\)"):
        bucket_questions(store, BucketSettings(k=17))
    assert (
        bucket_questions(store, BucketSettings(k=2, cut_rarely=0.1)).left_out == ()
    )  # the failed one has index 2


def test_every_distinct_text_is_graded_once(store: Store, grader: FakeGrader) -> None:
    write_study(
        store,
        {"a": texts(3, 16), "b": texts(0, 16)},
        finish_reasons={("a", 0): "length", ("b", 5): "length"},
    )
    first = bucket_questions(store, BucketSettings(k=16))
    assert sorted(grader.asked) == [
        ("a", WRONG, False),
        ("a", RIGHT, False),
        ("a", RIGHT, True),  # cut off, it is another response
        ("b", WRONG, False),
        ("b", WRONG, True),
    ]
    correct = store.read("SELECT correct FROM buckets ORDER BY question_id")["correct"]
    assert correct.to_list() == [2, 0]

    grader.asked.clear()
    second = bucket_questions(store, BucketSettings(k=16))
    assert grader.asked == []
    assert second.bucketing_id == first.bucketing_id
    assert store.read("SELECT count(*) FROM verdicts").item() == 5
    assert store.read("SELECT count(*) FROM buckets").item() == 2
    assert store.read("SELECT count(*) FROM bucketings").item() == 1


def test_verdicts_serve_every_sample_set(store: Store, grader: FakeGrader) -> None:
    write_study(store, {"a": texts(3, 16)})
    bucket_questions(store, BucketSettings(k=16))
    write_study(store, {"a": [*texts(4, 15), "Lima"]}, sample_set_id="def456")
    grader.asked.clear()
    newest = bucket_questions(store, BucketSettings(k=16))
    assert newest.sample_set_id == "def456"
    assert grader.asked == [("a", "Lima", False)]
    named = bucket_questions(store, BucketSettings(k=16, sample_set="abc"))
    assert named.sample_set_id == SAMPLE_SET


def test_another_grader_grades_again(store: Store, grader: FakeGrader) -> None:
    write_study(store, {"a": texts(3, 16)})
    first = bucket_questions(store, BucketSettings(k=16))
    grader.asked.clear()
    grader.fingerprint = "match-fake-2"
    second = bucket_questions(store, BucketSettings(k=16))
    assert len(grader.asked) == 2
    assert second.bucketing_id != first.bucketing_id


def test_mended_answers_are_graded_again(store: Store, grader: FakeGrader) -> None:
    write_study(store, {"a": texts(3, 16)})
    bucket_questions(store, BucketSettings(k=16))
    grader.asked.clear()
    [(answers, kind)] = store.read("SELECT answers, answer_type FROM questions").iter_rows()
    mended = [*answers, "another spelling"]
    with store.writing("attrib test"), store.transaction() as transaction:
        transaction.execute(
            "UPDATE questions SET answers = $answers, answers_hash = $hash",
            answers=mended,
            hash=content_hash([sorted(mended), kind]),
        )
    bucket_questions(store, BucketSettings(k=16))
    assert len(grader.asked) == 2


def test_questions_with_unclear_rollouts_are_left_out_and_named(
    store: Store, grader: FakeGrader, capsys: pytest.CaptureFixture[str]
) -> None:
    write_study(store, {"clear": texts(3, 16), "murky": [*texts(3, 15), UNCLEAR]})
    result = bucket_questions(store, BucketSettings(k=16))
    assert result.left_out == ("murky",)
    assert set(bucket_of(store, result.bucketing_id)) == {"clear"}
    assert "1 questions left out" in capsys.readouterr().err.replace("\n", " ")
    assert sum(row.questions for row in result.rows) == 1

    with pytest.raises(DataError, match="fewer than 17"):
        bucket_questions(store, BucketSettings(k=17))
    # the rollouts before the unclear one are as good as any
    assert bucket_questions(store, BucketSettings(k=15, cut_rarely=0.1)).left_out == ()


def test_nothing_gradable_is_an_error(store: Store, grader: FakeGrader) -> None:
    write_study(store, {"murky": [UNCLEAR] * 16})
    with pytest.raises(DataError, match="No question has 16 gradable rollouts"):
        bucket_questions(store, BucketSettings(k=16))


def test_cuts_move_the_buckets(store: Store, grader: FakeGrader) -> None:
    write_study(store, {f"q{c}": texts(c, 16) for c in (0, 3, 4, 5, 12, 13, 16)})
    default = bucket_questions(store, BucketSettings(k=16))
    moved = bucket_questions(store, BucketSettings(k=16, cut_rarely=0.25, cut_sometimes=0.75))
    assert moved.bucketing_id != default.bucketing_id
    assert bucket_of(store, moved.bucketing_id) == {
        "q0": "never-correct",
        "q3": "rarely-correct",
        "q4": "rarely-correct",
        "q5": "sometimes-correct",
        "q12": "sometimes-correct",
        "q13": "mostly-correct",
        "q16": "always-correct",
    }
    cuts = store.read("SELECT cuts FROM bucketings WHERE bucketing_id = $id", id=moved.bucketing_id)
    assert cuts.item() == '{"rarely":0.25,"sometimes":0.75}'


@pytest.mark.parametrize(
    ("settings", "complaint"),
    [
        ({"k": 0}, "--k 0 must be at least 1"),
        ({"k": 8}, "16"),
        ({"k": 16, "cut_rarely": 0.6}, "rarely=0.6"),
        ({"k": 16, "cut_sometimes": 1.5}, "sometimes=1.5"),
    ],
)
def test_settings_without_a_meaning_are_refused(
    store: Store, grader: FakeGrader, settings: dict[str, float], complaint: str
) -> None:
    write_study(store, {"a": texts(1, 16)})
    with pytest.raises(ConfigError, match=complaint):
        bucket_questions(store, BucketSettings.model_validate(settings))
    assert store.read("SELECT * FROM bucketings").is_empty()


def test_cuts_make_a_small_k_possible(store: Store, grader: FakeGrader) -> None:
    write_study(store, {"a": texts(1, 4), "b": texts(4, 4)})
    result = bucket_questions(store, BucketSettings(k=4, cut_rarely=0.25))
    assert bucket_of(store, result.bucketing_id) == {"a": "rarely-correct", "b": "always-correct"}
    assert list(result.pass_curve.k_K) == [1, 2, 4]


def test_the_real_graders_grade(store: Store) -> None:
    write_study(
        store,
        {
            "a": ["It is Paris.", *texts(0, 15)],
            "b": ["Paris", "Paris, I think", *texts(0, 14)],
        },
    )
    match = bucket_questions(store, BucketSettings(k=16))
    assert bucket_of(store, match.bucketing_id) == {
        "a": "rarely-correct",
        "b": "sometimes-correct",
    }
    exact = bucket_questions(store, BucketSettings(k=16, grader="exact"))
    assert bucket_of(store, exact.bucketing_id) == {"a": "never-correct", "b": "rarely-correct"}
    assert {match.grader.split("-")[0], exact.grader.split("-")[0]} == {"match", "exact"}
    with pytest.raises(ConfigError, match="no grader 'psychic'"):
        bucket_questions(store, BucketSettings(k=16, grader="psychic"))


def test_no_sample_set_names_the_command(store: Store) -> None:
    with pytest.raises(StoreError, match=r"There is no study .* Type: attrib sample"):
        bucket_questions(store, BucketSettings(k=16))
    assert not store.exists()
    with store.writing("attrib test"):
        pass
    with pytest.raises(DataError, match=r"holds no sample set\. Type: attrib sample"):
        bucket_questions(store, BucketSettings(k=16))
    write_study(store, {"a": texts(1, 16)})
    with pytest.raises(DataError, match="whose id begins with 'zzz'"):
        bucket_questions(store, BucketSettings(k=16, sample_set="zzz"))


def test_the_bucketing_asked_for_last_is_the_newest(store: Store, grader: FakeGrader) -> None:
    write_study(store, {"a": texts(1, 32)})

    def newest() -> object:
        by_age = "SELECT bucketing_id FROM bucketings ORDER BY used_at DESC LIMIT 1"
        return store.read(by_age).item()

    small = bucket_questions(store, BucketSettings(k=16))
    large = bucket_questions(store, BucketSettings(k=32))
    assert newest() == large.bucketing_id
    assert bucket_questions(store, BucketSettings(k=16)).bucketing_id == small.bucketing_id
    assert newest() == small.bucketing_id


def test_what_an_interrupted_run_still_owes_is_refused_or_named(
    store: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    write_study(store, {"a": texts(1, 16), "b": texts(0, 7)})
    [sample_set_id] = store.read("FROM sample_sets")["sample_set_id"]
    asked = pl.DataFrame({"question_id": ["a", "b", "never drawn"]}).with_columns(
        pl.lit(sample_set_id).alias("sample_set_id")
    )
    with store.writing("attrib test"), store.transaction() as transaction:
        transaction.append("selections", asked)
    refused = r"2 of 3 questions .* \(the fewest: 0\).*--n 16.*--partial"
    with pytest.raises(DataError, match=refused):
        bucket_questions(store, BucketSettings(k=16))
    result = bucket_questions(store, BucketSettings(k=16, partial=True))
    assert bucket_of(store, result.bucketing_id) == {"a": "rarely-correct"}
    said = capsys.readouterr().err
    assert "2 of 3 questions have fewer than 16 rollouts; they are left out" in said
    with pytest.raises(DataError, match="3 of 3 questions"):
        bucket_questions(store, BucketSettings(k=32, partial=True))


@pytest.mark.parametrize("k", [1, 2, 3, 15])
def test_cuts_that_are_suggested_for_few_rollouts_are_cuts(k: int) -> None:
    with pytest.raises(ConfigError, match=f"--k {k} is too few.*{suggest_cuts(k)}"):
        _choose_cuts(BucketSettings(k=k))
    words = suggest_cuts(k).split()
    given = {f"cut_{flag.removeprefix('--cut-')}": float(value)
             for flag, value in zip(words[::2], words[1::2], strict=True)}  # fmt: skip
    cuts = _choose_cuts(BucketSettings(k=k, **given))
    assert assign_buckets([k], [1], cuts)[0] == ("always-correct" if k == 1 else "rarely-correct")
