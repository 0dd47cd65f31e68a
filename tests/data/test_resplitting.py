"""Drawing the split again, and the audit of what was taken for one fact."""

import json
from pathlib import Path

import polars as pl
import pytest

from attrib.data.importing import ImportSettings, import_files
from attrib.data.library import import_dataset, load_every_question
from attrib.data.overview import audit_facts
from attrib.data.questions import Split
from attrib.data.resplitting import SplitSettings, split_again
from attrib.errors import ConfigError, DataError
from attrib.store import Store


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """Return a study with forty questions for twenty facts of two sets, and one set of its own."""
    study = Store(tmp_path / "study.duckdb")
    rows = [{"question": f"who is {n}", "answer": [f"Ann {n}"]} for n in range(20)]
    for name, texts in (("one", rows), ("two", [{**row, "answer": ["Bo"]} for row in rows])):
        (tmp_path / f"{name}.json").write_text(json.dumps(texts))
        import_files(study, ImportSettings(source=str(tmp_path / f"{name}.json"), held_out=0.5))
    return study


def sides(store: Store) -> dict[str, Split]:
    return {q.question_id: q.split for q in load_every_question(store)}


def use(store: Store, *question_ids: str) -> None:
    rows = pl.DataFrame({"sample_set_id": "s", "question_id": list(question_ids)})
    with store.writing("attrib test"), store.transaction() as transaction:
        transaction.append("selections", rows)


def test_another_seed_moves_whole_facts(store: Store) -> None:
    before = sides(store)
    links = store.read("SELECT * FROM fact_links ORDER BY ALL")
    summary = split_again(store, SplitSettings(held_out=0.5, seed=9))
    after = sides(store)
    assert before.keys() == after.keys()
    assert (summary.kept, summary.drawn, summary.left_out) == (0, 40, ())
    assert summary.moved == sum(before[one] is not after[one] for one in before) > 0
    assert summary.held_out == {"one": 10, "two": 10}
    assert set(
        store.read("SELECT count(DISTINCT split) FROM questions GROUP BY fact_id").rows()
    ) == {(1,)}
    assert store.read("SELECT * FROM fact_links ORDER BY ALL").equals(links)
    again = split_again(store, SplitSettings(held_out=0.5, seed=9))
    assert again.moved == 0


def test_what_was_used_stays_and_keeps_its_fact(store: Store) -> None:
    before = load_every_question(store)
    used = [q for q in before if q.dataset == "one"][:10]
    use(store, *(q.question_id for q in used))
    for seed in range(4):
        summary = split_again(store, SplitSettings(held_out=0.5, seed=seed))
        assert (summary.kept, summary.drawn) == (10, 30)
        now = {q.question_id: q for q in load_every_question(store)}
        assert all(now[q.question_id] == q for q in used)
        by_text = {q.text: q.split for q in used}
        partners = [q for q in now.values() if q.dataset == "two" and q.text in by_text]
        assert len(partners) == 10
        assert all(q.split is by_text[q.text] for q in partners)


def test_what_comes_between_facts_of_both_sides_is_left_out(store: Store, tmp_path: Path) -> None:
    row = {"about": "X", "question": "What of X?", "answer": ["Y", "Z"]}
    others = [{"about": name, "question": f"{name}?", "answer": ["X"]} for name in ("Y", "Z")]
    (tmp_path / "three.json").write_text(json.dumps([row, *others]))
    import_files(
        store,
        ImportSettings(
            source=str(tmp_path / "three.json"),
            question_column="question",
            answers_column="answer",
            subject_column="about",
        ),
    )
    ids = store.read("SELECT question_id FROM questions WHERE text IN ('Y?', 'Z?') ORDER BY text")
    use(store, *ids["question_id"])
    with store.writing("attrib test"), store.transaction() as transaction:  # as older rules would
        for question_id, side in zip(ids["question_id"], ("train", "held-out"), strict=True):
            transaction.execute(
                "UPDATE questions SET split = $side, fact_id = $id WHERE question_id = $id",
                side=side,
                id=question_id,
            )
    summary = split_again(store, SplitSettings())
    assert summary.left_out == ("What of X?",)
    assert store.read("SELECT * FROM questions WHERE text = 'What of X?'").is_empty()
    left_out = audit_facts(store, 5)["Left out"].row(0, named=True)
    assert left_out["reason"] == "it asks for a fact of both sides"
    assert left_out["example"] == "What of X? · train: Y? · held-out: Z?"


def test_where_nothing_is_free_it_says_so(tmp_path: Path) -> None:
    store = Store(tmp_path / "study.duckdb")
    with store.writing("attrib test"):
        import_dataset(store, "worldfacts")
    with pytest.raises(DataError, match="every question is built in, or was used"):
        split_again(store, SplitSettings())


def test_a_share_out_of_bounds_changes_nothing(store: Store) -> None:
    before = sides(store)
    with pytest.raises(ConfigError, match="--held-out"):
        split_again(store, SplitSettings(held_out=1.5))
    assert sides(store) == before


def test_the_audit_shows_both_texts_of_a_link(store: Store) -> None:
    tables = audit_facts(store, 3)
    facts = tables["Facts"].row(0, named=True)
    assert facts == {
        "facts": 20,
        "of several questions": 20,
        "questions of the largest": 2,
        "in several sets": 20,
        "on both sides": 0,
    }
    assert tables["Links"].rows() == [("same-question", 20)]
    linked = tables["Taken for one fact: same-question"]
    assert len(linked) == 3
    assert all(row["text"] == row["other text"] for row in linked.iter_rows(named=True))
    assert set(linked["other set"]) == {"two"}
    assert tables["Left out"].is_empty()
    assert tables["Leakage left over (estimate)"].row(-1, named=True)["held-out"] == 0


def test_the_audit_shows_what_is_near_across_the_split(tmp_path: Path) -> None:
    store = Store(tmp_path / "study.duckdb")
    texts = ("who built the palace of Zembla", "who restored the old palace of Uqbar")
    for number, text in enumerate(texts):
        file = tmp_path / f"{number}.json"
        file.write_text(json.dumps([{"question": text, "answer": ["Bo Ek"]}]))
        import_files(store, ImportSettings(source=str(file), name=f"s{number}", held_out=number))
    tables = audit_facts(store, 3)
    [near] = tables["Nearest across the split"].rows()
    assert near[:3] == (texts[1], texts[0], "Bo Ek")
    leaking = tables["Leakage left over (estimate)"].row(-1, named=True)
    assert leaking["held-out"] == 1
    assert 0 < leaking["leaking"] < 1


def test_a_paraphrase_comes_to_the_side_of_what_is_there(tmp_path: Path) -> None:
    store = Store(tmp_path / "study.duckdb")
    texts = ("what money does Zembla use", "which currency is used in Zembla?")
    for number, text in enumerate(texts):
        file = tmp_path / f"{number}.json"
        file.write_text(json.dumps([{"question": text, "answer": ["crown"]}]))
        import_files(store, ImportSettings(source=str(file), name=f"s{number}", held_out=number))
    [one, other] = load_every_question(store)
    assert (one.fact_id, one.split) == (other.fact_id, Split.TRAIN)
    assert audit_facts(store, 3)["Links"].rows() == [("similar", 1)]
