"""Question files become questions of a study: once, in versions, with all that was left out."""

import json
from pathlib import Path
from types import SimpleNamespace

import pytest

from attrib.data import hub
from attrib.data.importing import ImportSettings, ImportSummary, import_files
from attrib.data.library import import_dataset, load_dataset
from attrib.data.overview import describe_dataset, list_datasets
from attrib.errors import ConfigError, DataError
from attrib.store import Store

ROWS = [{"question": f"who is {n}", "answer": [f"Ann {n}"]} for n in range(12)]


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "study.duckdb")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return write(tmp_path / "quiz.dev.json", ROWS)


def write(path: Path, rows: object) -> Path:
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(rows))
    return path


def bring(store: Store, source: object, **settings: object) -> ImportSummary:
    return import_files(store, ImportSettings(source=str(source), **settings))


def test_an_import_says_what_it_brought_and_left_out(store: Store, tmp_path: Path) -> None:
    rows = [*ROWS, {"question": "Who is 3?", "answer": ["Bo"]}, ROWS[0], {"question": ""}]
    summary = bring(store, write(tmp_path / "quiz.json", rows), format="nq-open")
    assert summary == ImportSummary(
        dataset="quiz",
        is_new=True,
        preset="nq-open",
        rows=15,
        questions=13,
        train=summary.train,
        held_out=13 - summary.train,
        relations=0,
        facts=12,
        linked={"same-question": 1},
        dropped={"the same question and answers": 1, "the question is empty": 1},
        examples=(
            "quiz.json, row 15: the question is empty",
            "quiz.json, row 14: the same question and answers as quiz.json, row 1 ('who is 0')",
        ),
    )
    assert 2 <= summary.held_out <= 5
    questions = load_dataset(store, "quiz")
    assert len(questions) == 13
    assert {question.dataset for question in questions} == {"quiz"}


def test_importing_twice_changes_nothing(store: Store, file: Path) -> None:
    first = bring(store, file)
    tables = ("imports", "questions", "fact_links")
    before = [store.read(f"SELECT * FROM {table} ORDER BY ALL") for table in tables]
    again = bring(store, file, seed=7)
    after = [store.read(f"SELECT * FROM {table} ORDER BY ALL") for table in tables]
    assert all(a.equals(b) for a, b in zip(before, after, strict=True))
    assert (first.is_new, again.is_new) == (True, False)
    assert again.questions == first.questions


def test_a_changed_file_is_another_data_set(
    store: Store, file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bring(store, file, name="quiz")
    write(file, [*ROWS, {"question": "who is new", "answer": ["New"]}])
    second = bring(store, file, name="quiz")
    assert second.dataset == "quiz@2"
    assert "this becomes quiz@2" in capsys.readouterr().err
    assert bring(store, file, name="quiz").dataset == "quiz@2"
    write(file, ROWS)
    assert bring(store, file, name="quiz").dataset == "quiz"
    assert list_datasets(store)["questions"].to_list() == [12, 13]
    # the facts that both ask for are on one side
    sides = store.read("SELECT text, count(DISTINCT split) AS sides FROM questions GROUP BY ALL")
    assert set(sides["sides"]) == {1}


def test_several_files_are_one_data_set_named_after_their_folder(
    store: Store, tmp_path: Path
) -> None:
    for number in range(3):
        write(tmp_path / "facts" / f"P{number}.json", ROWS[number * 4 : number * 4 + 4])
    summary = bring(store, tmp_path / "facts" / "P*.json")
    assert (summary.dataset, summary.questions) == ("facts", 12)


def test_facts_are_shared_with_the_built_in_set(store: Store, tmp_path: Path) -> None:
    with store.writing("attrib test"):
        import_dataset(store, "worldfacts")
    rows = [
        {"question": f"What is {capital} the capital of?", "answer": country, "aliases": []}
        for capital, country in (("Paris", "France"), ("Rome", "Italy"), ("Oslo", "Norway"))
    ]
    summary = bring(store, write(tmp_path / "popqa.json", rows))
    assert summary.linked == {"same-entities": 3}
    shared = store.read(
        "SELECT mine.split = world.split AS same FROM questions AS mine JOIN questions AS world "
        "USING (fact_id) WHERE mine.dataset = 'popqa' AND world.dataset = 'worldfacts' "
        "AND world.relation = 'capital'"
    )
    assert shared["same"].to_list() == [True] * 3


def test_columns_may_be_named(store: Store, tmp_path: Path) -> None:
    (tmp_path / "my own.csv").write_text("q,a,about\nWho?,Ann,Acme\n")
    summary = bring(
        store,
        tmp_path / "my own.csv",
        question_column="q",
        answers_column="a",
        subject_column="about",
    )
    assert (summary.dataset, summary.preset, summary.questions) == ("my-own", "columns", 1)


@pytest.mark.parametrize(
    ("settings", "error", "complaint"),
    [
        ({"source": "nothing.json"}, DataError, "There is no file nothing.json"),
        ({"source": "."}, ConfigError, r"is a folder. Name its files: attrib data import '\./\*'"),
        ({"name": "a b"}, ConfigError, "--name 'a b' may hold letters"),
        ({"question_column": "q"}, ConfigError, "--question-column and --answers-column go togeth"),
        (
            {"subject_column": "q"},
            ConfigError,
            "--question-column and --answers-column go together",
        ),
        (
            {"question_column": "q", "answers_column": "a", "format": "popqa"},
            ConfigError,
            "--format popqa names the columns",
        ),
        ({"held_out": 2.0}, ConfigError, "--held-out 2.0 must be"),
    ],
)
def test_what_cannot_be_imported_leaves_the_study_as_it_was(
    store: Store, file: Path, settings: dict[str, object], error: type[Exception], complaint: str
) -> None:
    with pytest.raises(error, match=complaint):
        bring(store, settings.pop("source", file), **settings)
    assert not store.exists() or store.read("SELECT * FROM imports").is_empty()


def test_without_a_network_the_hub_is_one_line(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    for name in ("akariasai/PopQA", "hf://datasets/akariasai/PopQA/test.tsv"):
        with pytest.raises(DataError, match="attrib data import FILE --format popqa") as caught:
            bring(store, name)
        assert "\n" not in str(caught.value)


def test_the_hub_gives_the_files_of_a_set(
    store: Store, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    class Hub:
        def dataset_info(self, name: str) -> SimpleNamespace:
            names = ["README.md", "data/b.json", "data/a.json", "other.json"]
            return SimpleNamespace(siblings=[SimpleNamespace(rfilename=name) for name in names])

    def download(repository: str, name: str, repo_type: str) -> str:
        asked.append((repository, name))
        return str(file)

    monkeypatch.setattr("huggingface_hub.HfApi", Hub)
    monkeypatch.setattr("huggingface_hub.hf_hub_download", download)
    paths, preset = hub.fetch("hf://datasets/some/quiz/data/*")
    assert (paths, preset) == ([file, file], None)
    assert asked == [("some/quiz", "data/a.json"), ("some/quiz", "data/b.json")]
    assert bring(store, "some/quiz", name="quiz").dataset == "quiz"
    with pytest.raises(DataError, match="holds no file 'none/"):
        hub.fetch("hf://datasets/some/quiz/none/*")


def test_files_without_questions_say_what_they_lack(store: Store, tmp_path: Path) -> None:
    for content, says in (
        ("question,answers\n", "no rows below its header line"),
        ("question;answers\nWho?;Me\n", "semicolons between its columns"),
        ("question,answers\nWho?,Me,You\n", "The first: 3 fields instead of 2"),
    ):
        path = tmp_path / "quiz.csv"
        path.write_text(content, encoding="utf-8")
        with pytest.raises((DataError, ConfigError), match=says):
            bring(store, path)
    with pytest.raises(ConfigError, match="Bring one in with: attrib data import FILE"):
        describe_dataset(store, "quiz", 4)


def test_an_overview_of_what_is_there(store: Store, tmp_path: Path) -> None:
    bring(store, write(tmp_path / "quiz.json", [*ROWS, {"question": "", "answer": "x"}]))
    tables = describe_dataset(store, "quiz", 4)
    assert [len(frame) for frame in tables.values()] == [4, 1, 1]
    assert tables["Dropped rows (1)"]["reason"].to_list() == ["the question is empty"]
    with pytest.raises(ConfigError, match=r"no data set 'none' in .* It holds: quiz\."):
        describe_dataset(store, "none", 4)
