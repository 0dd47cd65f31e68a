"""Rollouts from other programs: read, recognised, graded by us, and none lost or taken twice."""

import dataclasses
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest
from click.testing import Result
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from attrib.cli import app
from attrib.data.library import store_questions
from attrib.data.questions import Question, Split, load_worldfacts
from attrib.errors import DataError
from attrib.sampling import import_rollouts as module
from attrib.sampling.dumps import Columns, read_dump
from attrib.sampling.import_rollouts import ImportRolloutsSettings, import_rollouts
from attrib.sampling.recognition import Recogniser, Unrecognised
from attrib.store import Store, Transaction

CONTINENTS = [
    dataclasses.replace(q, dataset="mini") for q in load_worldfacts() if q.relation == "continent"
]
TRAIN = [q for q in CONTINENTS if q.split is Split.TRAIN][:3]
HELD_OUT = next(q for q in CONTINENTS if q.split is Split.HELD_OUT)
ASKED, RIGHT = TRAIN[0].text, TRAIN[0].answers[0]
TEMPLATE = "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\n{}<|im_end|>\n"
CHAT = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": ASKED}]

LAYOUTS: dict[str, tuple[list[dict[str, object]], list[str], list[float | None]]] = {
    "verl rollouts": (
        [
            {"input": TEMPLATE.format(ASKED), "output": RIGHT, "gts": RIGHT, "score": 1.0},
            {"input": TEMPLATE.format(ASKED), "output": "blue", "gts": RIGHT, "score": 0.0},
        ],
        [RIGHT, "blue"],
        [1.0, 0.0],
    ),
    "verl generation": (
        [{"prompt": CHAT, "responses": [RIGHT, "blue"]}],
        [RIGHT, "blue"],
        [None, None],
    ),
    "TRL, text": ([{"step": 1, "prompt": ASKED, "completion": RIGHT}], [RIGHT], [None]),
    "TRL, chat": (
        [{"prompt": CHAT, "completion": [{"role": "assistant", "content": RIGHT}]}],
        [RIGHT],
        [None],
    ),
    "limit-of-RLVR": (
        [{"idx": 0, "question": ASKED, "code": [RIGHT, "blue"], "score": [True, False]}],
        [RIGHT, "blue"],
        [1.0, 0.0],
    ),
    "lm-eval": (
        [
            {
                "doc_id": 0,
                "doc": {"question": ASKED},
                "arguments": {"gen_args_0": {"arg_0": f"Q: {ASKED}\nA:", "arg_1": {}}},
                "resps": [[RIGHT]],
                "metrics": ["exact_match"],
                "exact_match": 1.0,
            }
        ],
        [RIGHT],
        [1.0],
    ),
    "lm-eval without a question in its document": (
        [
            {
                "doc": {"id": 3},
                "arguments": {"gen_args_0": {"arg_0": f"Q: {ASKED}\nA:", "arg_1": {}}},
                "resps": [["a", "b"]],
                "metrics": ["exact_match"],
                "exact_match": 0.5,
            }
        ],
        ["a", "b"],
        [None, None],
    ),
    "inspect_ai": (
        [
            {
                "eval": {"model": "m"},
                "samples": [
                    {
                        "id": 1,
                        "epoch": 1,
                        "input": ASKED,
                        "output": {"choices": [{"message": {"content": RIGHT}}]},
                        "scores": {"match": {"value": "C"}},
                    },
                    {"id": 1, "epoch": 2, "input": CHAT, "output": {"completion": "blue"}},
                ],
            }
        ],
        [RIGHT, "blue"],
        [1.0, None],
    ),
}


@pytest.fixture
def write(tmp_path: Path) -> Callable[[list[dict[str, object]]], Path]:
    """Return `write(rows)`, which makes a file of JSON lines."""

    def make(rows: list[dict[str, object]], name: str = "dump.jsonl") -> Path:
        file = tmp_path / name
        file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        return file

    return make


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return make_study(tmp_path / "study.duckdb")


def make_study(path: Path) -> Store:
    """Make a study of four questions."""
    store = Store(path)
    with store.writing("attrib test"):
        store_questions(store, "mini", "mini.csv", "hash", [*TRAIN, HELD_OUT])
    return store


def settings(source: Path, **more: object) -> ImportRolloutsSettings:
    known: dict[str, object] = {"model": "m", "max_new_tokens": 8, "dataset": "mini"}
    return ImportRolloutsSettings(source=str(source), **{**known, **more})


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout_is_read(layout: str, write: Callable[..., Path], store: Store) -> None:
    rows, texts, scores = LAYOUTS[layout]
    attempts = list(read_dump(write(rows), Columns()))
    assert [attempt.text for attempt in attempts] == texts
    assert [attempt.score for attempt in attempts] == scores
    summary = import_rollouts(store, settings(write(rows)))
    stored = store.read("SELECT question_id, rollout, text FROM rollouts ORDER BY rollout").rows()
    assert stored == [(TRAIN[0].question_id, index, text) for index, text in enumerate(texts)]
    assert (summary.graded, summary.correct) == (len(texts), texts.count(RIGHT))
    assert (summary.scored, summary.agreeing) == (len(texts) - scores.count(None),) * 2


def test_parquet_and_csv_are_read(tmp_path: Path, store: Store) -> None:
    columns = {"prompt": [ASKED], "responses": [[RIGHT, "blue"]], "scores": [[0.0, 0.0]]}
    frame = pl.DataFrame(columns)
    frame.write_parquet(tmp_path / "dump.parquet")
    summary = import_rollouts(store, settings(tmp_path / "dump.parquet"))
    assert (summary.rollouts, summary.correct, summary.agreeing) == (2, 1, 1)
    (tmp_path / "dump.csv").write_text(f'question,responses\n{ASKED},"[""{RIGHT}"", ""x""]"\n')
    assert import_rollouts(store, settings(tmp_path / "dump.csv")).correct == 1


@pytest.mark.parametrize("kind", ["parquet", "inspect", "lm-eval"])
def test_what_was_exported_comes_back(graded_study: Path, tmp_path: Path, kind: str) -> None:
    suffix = {"inspect": "json", "lm-eval": "jsonl"}.get(kind, kind)
    file, copy = tmp_path / f"dump.{suffix}", tmp_path / "copy.duckdb"

    def attrib(*arguments: object) -> Result:
        return CliRunner().invoke(app, [str(argument) for argument in arguments])

    assert attrib("export", "--db", graded_study, "-o", file, "--format", kind).exit_code == 0
    arguments = ("--model", "m", "--max-new-tokens", 4, "--dataset", "worldfacts", "--json")
    result = attrib("data", "import-rollouts", file, "--db", copy, *arguments)
    assert result.exit_code == 0, result.stderr
    summary = json.loads(result.stdout)
    assert (summary["scored"], summary["agreeing"]) == (192, 192)
    sql = "SELECT question_id, rollout, text, finish_reason FROM rollouts ORDER BY ALL"
    assert Store(copy).read(sql).equals(Store(graded_study).read(sql))
    sql = "SELECT * FROM verdicts ORDER BY ALL"
    assert Store(copy).read(sql).equals(Store(graded_study).read(sql))


def test_again_changes_nothing_and_other_files_are_another_set(
    write: Callable[..., Path], store: Store
) -> None:
    rows: list[dict[str, object]] = [{"question": q.text, "responses": ["a", "b"]} for q in TRAIN]
    first = import_rollouts(store, settings(write(rows)))
    tables = {table: store.read(f"FROM {table} ORDER BY ALL") for table in ("rollouts", "verdicts")}
    again = import_rollouts(store, settings(write(rows)))
    assert (again.sample_set_id, again.already_stored) == (first.sample_set_id, 6)
    for table, before in tables.items():
        assert store.read(f"FROM {table} ORDER BY ALL").equals(before)
    other = import_rollouts(store, settings(write(rows[:2], "other.jsonl")))
    assert other.sample_set_id != first.sample_set_id
    assert store.read("SELECT count(*) FROM rollouts").item() == 6 + 4


def test_what_matches_no_question_is_refused_and_named(
    write: Callable[..., Path], store: Store
) -> None:
    rows: list[dict[str, object]] = [
        {"question": ASKED, "response": "a"},
        {"question": "Who painted this?", "response": "b"},
    ]
    with pytest.raises(DataError, match=r"1 of 2 .* row 2 \('Who painted this\?': asks no"):
        import_rollouts(store, settings(write(rows)))
    assert store.read("SELECT count(*) FROM sample_sets").item() == 0
    summary = import_rollouts(store, settings(write(rows), partial=True))
    assert (summary.rollouts, summary.unmatched) == (1, 1)


def test_held_out_questions_and_failures_stay_out(write: Callable[..., Path], store: Store) -> None:
    rows: list[dict[str, object]] = [
        {"question": ASKED, "response": "a", "finish_reason": "length"},
        {"question": ASKED, "response": "", "finish_reason": "error"},
        {"question": HELD_OUT.text, "response": "b", "finish_reason": "stop"},
    ]
    summary = import_rollouts(store, settings(write(rows)))
    assert (summary.rollouts, summary.held_out, summary.failed) == (1, 1, 1)
    assert store.read("SELECT finish_reason FROM rollouts").item() == "length"
    assert store.read("SELECT question_id FROM selections").item() == TRAIN[0].question_id
    with pytest.raises(DataError, match="No response is to a training question"):
        import_rollouts(store, settings(write(rows[2:])))


def test_ragged_numbers_are_kept_and_left_out_of_buckets(
    write: Callable[..., Path], store: Store
) -> None:
    counts = {TRAIN[0].text: 16, TRAIN[1].text: 3, TRAIN[2].text: 20}
    rows: list[dict[str, object]] = [
        {"question": text, "responses": ["x"] * n} for text, n in counts.items()
    ]
    summary = import_rollouts(store, settings(write(rows)))
    assert (summary.fewest, summary.most, summary.rollouts) == (3, 20, 39)
    common = ["bucket", "--db", str(store.path), "--k", "16"]
    refused = CliRunner().invoke(app, common)
    assert refused.exit_code == 1
    assert "1 of 3 questions have fewer than 16 rollouts (the fewest: 3)" in refused.stderr
    assert "imported ones cannot be drawn on" in refused.stderr
    assert CliRunner().invoke(app, [*common, "--partial"]).exit_code == 0
    assert store.read("SELECT n FROM buckets").to_series().to_list() == [16, 16]


def test_an_interrupted_import_leaves_whole_questions(
    write: Callable[..., Path], store: Store, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    rows: list[dict[str, object]] = [{"question": q.text, "responses": ["a"] * 7} for q in TRAIN]
    file = write(rows)
    monkeypatch.setattr(module, "QUESTIONS_PER_WRITE", 1)
    append, batches = Transaction.append, []

    def interrupt(self: Transaction, table: str, *arguments: object, **more: object) -> None:
        append(self, table, *arguments, **more)  # type: ignore[arg-type]
        if table == "rollouts":
            batches.append(table)
            if len(batches) == 2:  # within the second batch
                raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Transaction, "append", interrupt)
        with pytest.raises(KeyboardInterrupt):
            import_rollouts(store, settings(file))
    sql = "SELECT question_id, count(*) FROM rollouts GROUP BY ALL"
    assert [row[1] for row in store.read(sql).rows()] == [7]
    summary = import_rollouts(store, settings(file))
    assert (summary.already_stored, summary.rollouts) == (7, 21)
    quiet = make_study(tmp_path / "quiet.duckdb")
    import_rollouts(quiet, settings(file))
    for table in ("rollouts", "verdicts", "selections"):
        sql = f"FROM {table} ORDER BY ALL"
        assert store.read(sql).equals(quiet.read(sql))


@pytest.mark.parametrize(
    ("row", "complaint"),
    [
        ({"question": ASKED}, "has no column of responses, completions"),
        ({"response": "a"}, "has no column of question, problem"),
        ({"question": ASKED, "responses": ["a", "b"], "scores": [1]}, "2 responses, but 1 scores"),
        ({"doc": {}, "resps": []}, "has no question or no response"),
        ({"eval": {}, "samples": [{"id": 1}]}, "is no sample of inspect_ai"),
        ({"eval": {}, "samples": [3]}, "is no sample of inspect_ai"),
    ],
)
def test_a_row_without_its_parts_is_named(
    write: Callable[..., Path], store: Store, row: dict[str, object], complaint: str
) -> None:
    with pytest.raises(DataError, match=complaint) as refusal:
        import_rollouts(store, settings(write([row])))
    assert "dump.jsonl, " in str(refusal.value)


def ask(recogniser: Recogniser, prompt: str) -> str:
    found = recogniser.recognise(None, prompt)
    return found.reason if isinstance(found, Unrecognised) else found.question_id


def test_the_last_question_of_a_prompt_is_asked() -> None:
    recogniser = Recogniser(TRAIN)
    one, other = TRAIN[0], TRAIN[1]
    prompt = f"Answer.\n\nQ: {one.text}\nA: {one.answers[0]}\n\nQ: {other.text.upper()}\nA:"
    assert ask(recogniser, prompt) == other.question_id
    assert ask(recogniser, f"  {one.text.rstrip('?')} ") == one.question_id
    assert ask(recogniser, "Which continent?") == "asks no question of the study"


def test_a_shared_text_is_not_guessed_at() -> None:
    twin = dataclasses.replace(TRAIN[0], question_id="x")
    recogniser = Recogniser([TRAIN[0], twin])
    assert ask(recogniser, TRAIN[0].text) == "2 questions of the study have this text"
    assert recogniser.recognise("x", "anything") is twin


@given(st.text(max_size=30), st.text(max_size=30), st.sampled_from(TRAIN))
def test_what_stands_around_a_question_does_not_matter(
    before: str, after: str, question: Question
) -> None:
    found = Recogniser(TRAIN).recognise(None, f"{before}\n{question.text}\n{after}")
    assert found is question


def test_training_asks_for_the_model(graded_study: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copy(graded_study, tmp_path / "s.duckdb"))
    store = Store(copy)
    rows = store.read(
        "SELECT DISTINCT question.text FROM rollouts JOIN questions AS question USING (question_id)"
    )
    file = tmp_path / "dump.jsonl"
    file.write_text(
        "".join(json.dumps({"question": r[0], "responses": ["x"] * 16}) + "\n" for r in rows.rows())
    )
    import_rollouts(store, settings(file, dataset="worldfacts"))
    runner = CliRunner()
    assert runner.invoke(app, ["bucket", "--db", str(copy), "--k", "16"]).exit_code == 0
    result = runner.invoke(app, ["ablate", "--db", str(copy), "--subset", "never-correct"])
    assert result.exit_code == 1
    assert "were imported by someone who called its model 'm'" in result.stderr


def test_a_response_that_is_none_is_a_failed_one(write: Callable[..., Path]) -> None:
    dump = write([{"question": ASKED, "responses": [RIGHT, None]}])
    texts = [attempt.text for attempt in read_dump(dump, Columns())]
    assert texts == [RIGHT, None]


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ({"question": ASKED, "responses": [RIGHT, {"a": 1}]}, "has no 'content' and no 'text': a"),
        ({"question": ASKED, "output": None}, "'output' is null"),
    ],
)
def test_what_holds_no_response_is_refused(
    row: dict[str, object], said: str, write: Callable[..., Path]
) -> None:
    with pytest.raises(DataError, match=said):
        list(read_dump(write([row]), Columns()))
