"""`attrib grade`: graders against each other and against people, and what people are asked."""

import csv
from pathlib import Path

import polars as pl
import pytest
from typer.testing import CliRunner

from attrib.cli import app
from attrib.data.library import store_questions
from attrib.data.questions import AnswerType, Question, Split
from attrib.errors import ConfigError, DataError
from attrib.sampling.bucketing import BucketSettings, bucket_questions
from attrib.sampling.comparing import (
    GradeSettings,
    compare_graders,
    compare_with_labels,
    export_for_labelling,
    grade_sample_set,
)
from attrib.store import Store

SAMPLE_SET = "s1"
SAID = {
    "Peru": ["Lima", "Lima.", "It is Lima", "Quito", "Quito", "Lima or Quito", "lima", "Cusco"],
    "Chile": ["Santiago", "It is Santiago.", "Lima", "Lima", "Valparaiso", "x", "y", "z"],
    "Norway": ["Oslp", "Oslpo", "Bergen", "Bergen", "Bergen", "Bergen", "Bergen", "Cristiania"],
}
CAPITALS = {"Peru": "Lima", "Chile": "Santiago", "Norway": "Kristiania"}


@pytest.fixture
def store(tmp_path: Path) -> Store:
    store = Store(tmp_path / "study.duckdb")
    questions = [
        Question(
            *(name, "mine", Split.TRAIN, f"Capital of {name}?", (capital,), AnswerType.NAME),
            *(name, "capital", name, None),
        )
        for name, capital in CAPITALS.items()
    ]
    rollouts = [
        {
            "sample_set_id": SAMPLE_SET, "question_id": name, "rollout": index, "text": text,
            "token_ids": [1], "tokens": 4, "logprob": -1.0, "finish_reason": "stop",
        }
        for name, texts in SAID.items()
        for index, text in enumerate(texts)
    ]  # fmt: skip
    sample_set = {
        "sample_set_id": SAMPLE_SET, "model": "m", "engine": "none", "prompt": "", "seed": 0,
        "params": '{"max_new_tokens": 12}',
    }  # fmt: skip
    with store.writing("attrib test"):
        store_questions(store, "mine", "mine.csv", "hash", questions)
        with store.transaction() as transaction:
            transaction.append("sample_sets", pl.DataFrame([sample_set]))
            transaction.append("rollouts", pl.DataFrame(rollouts))
    return store


def test_verdicts_are_counted_by_reason(store: Store) -> None:
    frame = grade_sample_set(store, GradeSettings())
    counts = {(v, why): n for v, why, n, _ in frame.iter_rows()}
    assert counts[("correct", "accepted")] == 6
    assert counts[("incorrect", "another answer")] == 3
    assert frame["rollouts"].sum() == 24
    assert grade_sample_set(store, GradeSettings(k=2))["rollouts"].sum() == 6


def test_two_graders_side_by_side(store: Store) -> None:
    found = compare_graders(store, GradeSettings(compare=("match", "exact")))
    # distinct texts: right for both Lima, Lima., lima, Santiago; for match alone the sentences
    assert found.confusion.rows() == [("correct", 4, 2), ("incorrect", 0, 12)]
    assert found.disagreeing == 2
    assert set(found.disagreements["text"]) == {"It is Lima", "It is Santiago."}
    assert found.agreement.observed == pytest.approx(16 / 18)
    assert found.agreement.kappa is not None


def write_labels(path: Path, *rows: tuple[str, str, str]) -> Path:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["question_id", "text", "verdict"])
        writer.writerows(rows)
    return path


def test_a_grader_against_people(store: Store, tmp_path: Path) -> None:
    labels = write_labels(
        tmp_path / "labels.csv",
        ("Peru", "It is Lima", "correct"),
        ("Peru", "Quito", "Incorrect"),
        ("Norway", "Oslo, once Christiania", "correct"),
        ("Peru", "unsure", ""),
    )
    found = compare_with_labels(store, GradeSettings(labels=labels))
    assert found.confusion.rows() == [("correct", 1, 1), ("incorrect", 0, 1)]
    [row] = found.disagreements.rows(named=True)
    assert (row["text"], row["human"], row["match"]) == (
        *("Oslo, once Christiania", "correct"),
        "incorrect",
    )


@pytest.mark.parametrize(
    ("rows", "complaint"),
    [
        ([("Peru", "Lima", ""), ("Atlantis", "x", "correct")], r"row 3: .*no question 'Atlantis'"),
        ([("Peru", "Lima", "maybe")], "row 2: the verdict 'maybe'"),
        ([], "holds no labels"),
    ],
)
def test_labels_that_cannot_be_used(
    store: Store, tmp_path: Path, rows: list[tuple[str, str, str]], complaint: str
) -> None:
    labels = write_labels(tmp_path / "labels.csv", *rows)
    with pytest.raises(DataError, match=complaint):
        compare_with_labels(store, GradeSettings(labels=labels))


def test_a_file_of_other_columns(store: Store, tmp_path: Path) -> None:
    path = tmp_path / "labels.csv"
    path.write_text("id,text\n1,2\n")
    with pytest.raises(DataError, match="no column question_id, verdict"):
        compare_with_labels(store, GradeSettings(labels=path))
    with pytest.raises(DataError, match="cannot be read"):
        compare_with_labels(store, GradeSettings(labels=tmp_path / "none.csv"))


def test_what_is_exported_can_be_labelled(store: Store, tmp_path: Path) -> None:
    output = tmp_path / "out.csv"
    assert export_for_labelling(store, GradeSettings(), 8, output, seed=0).responses == 8
    rows = list(csv.DictReader(output.open(newline="")))
    assert {row["verdict"] for row in rows} == {""}  # the grader's is not shown
    assert len({(row["question_id"], row["text"]) for row in rows}) == 8
    right = [row for row in rows if CAPITALS[row["question_id"]].lower() in row["text"].lower()]
    assert len(right) in (4, 5)  # half of them accepted; one more may be the hedge
    with pytest.raises(ConfigError, match="is there already"):
        export_for_labelling(store, GradeSettings(), 8, output, seed=0)
    again = tmp_path / "again.csv"
    export_for_labelling(store, GradeSettings(), 8, again, seed=0)
    assert again.read_bytes() == output.read_bytes()
    for row in rows:
        row["verdict"] = "correct" if row in right else "incorrect"
    with output.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    found = compare_with_labels(store, GradeSettings(labels=output))
    assert found.agreement.responses == 8


def test_all_there_are(store: Store, tmp_path: Path) -> None:
    assert (
        export_for_labelling(store, GradeSettings(), 500, tmp_path / "all.csv", seed=1).responses
        == 18
    )


def test_suspects_are_counted_listed_and_left_out_on_demand(store: Store) -> None:
    cuts = {"cut_rarely": 0.1, "cut_sometimes": 0.5}
    kept = bucket_questions(store, BucketSettings(k=8, **cuts))
    assert kept.suspects == {"dominant-answer": 1, "near-miss": 1}
    assert kept.suspects_left_out == 0
    assert sum(row.questions for row in kept.rows) == 3
    rows = store.read("SELECT question_id, reason, detail FROM suspects ORDER BY reason").rows()
    assert rows == [
        ("Norway", "dominant-answer", "bergen (5 of 8)"),
        ("Norway", "near-miss", "cristiania for Kristiania"),
    ]
    fewer = bucket_questions(store, BucketSettings(k=8, exclude_suspect=True, **cuts))
    assert fewer.suspects_left_out == 1
    assert sum(row.questions for row in fewer.rows) == 2
    assert fewer.bucketing_id != kept.bucketing_id


def test_commands(store: Store, tmp_path: Path) -> None:
    def run(*arguments: str) -> str:
        result = CliRunner().invoke(app, [*arguments, "--db", str(store.path)])
        assert result.exit_code == 0, result.output
        return result.stdout

    assert "accepted" in run("grade")
    assert "Cohen's kappa" in run("grade", "--compare", "match", "exact")
    assert '"kappa"' in run("grade", "--compare", "match", "exact", "--json")
    labels = tmp_path / "labels.csv"
    assert "6 responses" in run("grade", "export", "--for-labelling", "6", "-o", str(labels))
    run("bucket", "--k", "8", "--cut-rarely", "0.1", "--cut-sometimes", "0.5")
    assert "cristiania for Kristiania" in run("grade", "suspects")
