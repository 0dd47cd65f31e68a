"""Drafts of questions from files of every known layout, and rows that are dropped."""

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from attrib.data.layouts import Layout, read_answers, unquote
from attrib.data.parsing import Draft, Parsed, hash_files, parse_files
from attrib.data.questions import AnswerType, identify_question
from attrib.errors import ConfigError, DataError

Parse = Callable[..., Parsed]


@pytest.fixture
def parse(tmp_path: Path) -> Parse:
    """Return `parse(content, name, **settings)`."""

    def run(content: object, name: str = "a.json", **settings: object) -> Parsed:
        text = content if isinstance(content, str) else json.dumps(content)
        (tmp_path / name).write_text(text, encoding="utf-8")
        return parse_files("mine", [tmp_path / name], **settings)  # type: ignore[arg-type]

    return run


# Made by hand from the documented schemas of the sets, one row each.
OFFICIAL_POPQA = (
    "id\tsubj\tprop\tobj\tsubj_id\tprop_id\tobj_id\ts_aliases\to_aliases\ts_uri\to_uri\t"
    "s_wiki_title\to_wiki_title\ts_pop\to_pop\tquestion\tpossible_answers\n"
    '4222362\tGeorge Rankin\toccupation\tpolitician\t1850297\t22\t2834605\t"[""G. Rankin""]"\t'
    '"[""pol""]"\thttp://a\thttp://b\tGeorge Rankin\tPolitician\t142\t25692\t'
    'What is George Rankin\'s occupation?\t"[""politician"", ""pol""]"\n'
)
TRIVIA = {
    "question": "Which city?",
    "question_id": "tc_1",
    "answer": {
        "aliases": ["Rome", "Roma"],
        "normalized_aliases": ["rome", "roma"],
        "value": "Rome",
        "type": "WikipediaEntity",
    },
}
SIMPLE = (
    "metadata,problem,answer\n"
    "\"{'topic': 'Art', 'answer_type': 'Number', 'urls': []}\",How many?,7\n"
)
LAYOUTS = [
    (
        *("popqa", "test.tsv", OFFICIAL_POPQA),
        *("4222362", ("politician", "pol"), "George Rankin", "occupation", 142),
    ),
    (
        *("popqa", "a.jsonl"),
        {
            **{"id": "test_1", "question": "Who was the composer of Easy?"},
            "golden_answers": ["Ralph"],
            "metadata": {"subj": "Easy", "prop": "composer", "s_pop": 1381, "s_aliases": "[]"},
        },
        *("test_1", ("Ralph",), "Easy", "composer", 1381),
    ),
    (
        *("popqa", "a.json"),
        [{"question": "What is X the capital of?", "answer": "Y", "aliases": ["Y", "Z"]}],
        *("capital of#1", ("Y", "Z"), "X", "capital of", None),
    ),
    (
        *("nq-open", "dev.jsonl", {"question": "who sings", "answer": ["A", "B"]}),
        *("#1", ("A", "B"), None, None, None),
    ),
    (*("triviaqa", "a.json", [TRIVIA]), *("tc_1", ("Rome", "Roma"), None, None, None)),
    (*("simpleqa", "a.csv", SIMPLE), *("#1", ("7",), None, None, None)),
    (
        *("simpleqa-verified", "v.csv"),
        "original_index,problem,answer,answer_type\n3,Who?,Ann,Person\n",
        *("#1", ("Ann",), None, None, None),
    ),
    (
        *("webquestions", "a.json", [{"qId": "w1", "qText": "which?", "answers": ["A", "B"]}]),
        *("w1", ("A", "B"), None, None, None),
    ),
    (
        *("entityquestions", "P19.dev.json"),
        [{"question": "Where was Ann Lee born?", "answers": ["Ulm"]}],
        *("P19#1", ("Ulm",), "Ann Lee", "P19", None),
    ),
    (
        *("dpr", "topics.txt", 'who sings\t[\'Linda "L" Davis\', "O\'Neil"]\n'),
        *("#1", ('Linda "L" Davis', "O'Neil"), None, None, None),
    ),
]


@pytest.mark.parametrize("is_named", [False, True])
@pytest.mark.parametrize(
    ("preset", "name", "content", "key", "answers", "subject", "relation", "popularity"), LAYOUTS
)
def test_known_layouts(
    parse: Parse,
    preset: str,
    name: str,
    content: object,
    key: str,
    answers: tuple[str, ...],
    subject: str | None,
    relation: str | None,
    popularity: int | None,
    is_named: bool,
) -> None:
    parsed = parse(content, name, preset=preset if is_named else None)
    [draft] = parsed.drafts
    found = (draft.answers, draft.subject, draft.relation, draft.popularity)
    assert found == (answers, subject, relation, popularity)
    assert draft.question_id == identify_question("mine", key, draft.text)
    assert parsed.dropped == ()
    assert parsed.rows == 1


def test_numbers_are_compared_as_numbers_where_the_source_says_so(parse: Parse) -> None:
    [draft] = parse(SIMPLE, "a.csv").drafts
    assert draft.answer_type is AnswerType.NUMBER
    [draft] = parse([TRIVIA]).drafts
    assert draft.answer_type is AnswerType.NAME


def test_several_answers_of_a_list_question_are_flagged(parse: Parse) -> None:
    rows = [
        {"qId": "1", "qText": "which two?", "answers": ["A", "B"]},
        {"qId": "2", "qText": "which?", "answers": ["A"]},
    ]
    assert [draft.flags for draft in parse(rows).drafts] == [("several",), ()]


def test_any_other_layout_by_its_columns(parse: Parse) -> None:
    content = "q,a,more,about,asks,n,k\nWho?,Ann,\"['Annie']\",Acme,boss,12.0,x1\n"
    columns = Layout("columns", "q", "a", ("more",), "k", "about", "asks", "n")
    [draft] = parse(content, "a.csv", columns=columns).drafts
    assert draft == Draft(
        question_id=identify_question("mine", "x1", "Who?"),
        text="Who?",
        answers=("Ann", "Annie"),
        answer_type=AnswerType.NAME,
        subject="Acme",
        relation="boss",
        popularity=12,
        flags=(),
    )


def row(question: object, answer: object = "Ann") -> dict[str, object]:
    return {"question": question, "answer": answer}


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        (row(""), "the question is empty"),
        (row(None), "the question is empty"),
        (row("x" * 3000), "the question has 3000 characters: is a quotation mark missing?"),
        (row("Who?", []), "no accepted answer"),
        (row("Who?", ""), "no accepted answer"),
        (row("Who?", ["?!", "…"]), "no accepted answer that a response could hold: '?!'"),
        (row("Who?", "x" * 501), "no accepted answer that a response could hold"),
        (row("first?"), "the same question and answers as a.json, row 1"),
    ],
)
def test_a_row_that_cannot_be_used_is_dropped_with_its_reason(
    parse: Parse, bad: dict[str, object], reason: str
) -> None:
    rows = [row("first?"), bad, row("last?")]
    parsed = parse(rows, preset="nq-open")
    assert [draft.text for draft in parsed.drafts] == ["first?", "last?"]
    [dropped] = parsed.dropped
    assert (dropped.file, dropped.row) == ("a.json", 2)
    assert dropped.reason.startswith(reason)
    assert parsed.rows == 3
    with pytest.raises(DataError, match=r"a\.json, row 2: .*leave out --strict"):
        parse(rows, preset="nq-open", strict=True)


def test_a_line_of_fifty_megabytes_is_dropped_alone(parse: Parse) -> None:
    content = f'question,answer\nfirst?,a\n"{"x" * 50_000_000}",b\nlast?,c\n'
    parsed = parse(content, "a.csv")
    assert [draft.text for draft in parsed.drafts] == ["first?", "last?"]
    assert len(parsed.dropped[0].text) == 80


def test_a_popularity_that_is_no_number_is_named(parse: Parse) -> None:
    columns = Layout("columns", "q", "a", popularity="n")
    parsed = parse("q,a,n\nWho?,Ann,many\nWhen?,now,\n", "a.csv", columns=columns)
    assert parsed.dropped[0].reason == "the popularity 'many' is no number"
    assert parsed.drafts[0].popularity is None


def test_a_question_may_come_again_with_other_answers(parse: Parse) -> None:
    rows = [row("Who?", "Ann"), row("Who?", "Bo"), row("Who?", "Ann")]
    parsed = parse(rows, preset="nq-open")
    ids = [draft.question_id for draft in parsed.drafts]
    assert ids == [identify_question("mine", f"#{n}", "Who?") for n in (1, 2)]
    assert len(parsed.dropped) == 1


def test_mending_an_alias_and_moving_rows_keep_the_ids(parse: Parse) -> None:
    first = parse([row("Who?", "Ann"), row("When?", "now")], preset="nq-open").drafts
    again = parse([row("When?", ["now", "today"]), row("Who?", "Ann")], preset="nq-open").drafts
    assert {d.question_id for d in first} == {d.question_id for d in again}


def test_a_key_that_came_before_is_dropped(parse: Parse) -> None:
    rows = [{"qId": "w", "qText": f"{n}?", "answers": ["A"]} for n in range(2)]
    assert parse(rows).dropped[0].reason == "the key 'w' came before, in a.json, row 1"


def test_a_subject_that_is_empty_is_dropped(parse: Parse) -> None:
    rows = [{"question": "Who is the author of ?", "answer": "P", "aliases": []}, row("x")]
    parsed = parse([{**rows[0]}, {**rows[0], "question": "Who is the author of It?"}])
    assert [dropped.reason for dropped in parsed.dropped] == ["the question has no subject"]
    content = OFFICIAL_POPQA + OFFICIAL_POPQA.splitlines()[1].replace(
        "4222362\tGeorge Rankin", "1\t"
    )
    assert [d.reason for d in parse(content, "t.tsv").dropped] == ["the subject is empty"]


def test_a_file_without_a_usable_row_is_refused(parse: Parse) -> None:
    with pytest.raises(DataError, match=r"no row can be used. The first: a\.json, row 1: no acc"):
        parse([row("Who?", [])], preset="nq-open")
    with pytest.raises(DataError, match="no row can be read"):
        parse("q,a\nonly\n", "a.csv")


@pytest.mark.parametrize(
    ("settings", "complaint"),
    [
        ({}, "columns q, a, which is no known layout.*--question-column"),
        ({"preset": "popqa"}, "has no column 'question', which --format popqa needs; it has a, q"),
        ({"preset": "none"}, "--format none is not known. Choose one of: popqa"),
        ({"columns": Layout("columns", "q", "b")}, "has no column 'b'; it has q, a"),
    ],
)
def test_a_layout_that_does_not_fit_is_refused(
    parse: Parse, settings: dict[str, object], complaint: str
) -> None:
    with pytest.raises(ConfigError, match=complaint):
        parse("q,a\nWho?,Ann\n", "a.csv", **settings)


@pytest.mark.parametrize(
    ("cell", "answers"),
    [
        ("Ann", ["Ann"]),
        ('["a", "b"]', ["a", "b"]),
        ("['a', \"b's\"]", ["a", "b's"]),
        ("[unclosed", ["[unclosed"]),
        (["a", ["b"], None, 3], ["a", "b", "3"]),
        (7, ["7"]),
        (None, []),
        ({"Value": "v", "Aliases": ["w"], "HumanAnswers": ["x"]}, ["v", "w", "x"]),
    ],
)
def test_answers_in_every_form(cell: object, answers: list[str]) -> None:
    assert read_answers(cell) == answers


@pytest.mark.parametrize(
    ("text", "plain"),
    [
        ('"Who?"', "Who?"),
        ('"Who said ""no""?"', 'Who said "no"?'),
        ('"To be" is from "Hamlet"', '"To be" is from "Hamlet"'),
        ('"', '"'),
        ('""', ""),
        ("Who?", "Who?"),
    ],
)
def test_a_second_round_of_quotes_goes(text: str, plain: str) -> None:
    assert unquote(text) == plain


def test_the_hash_of_files_knows_their_names_and_order(tmp_path: Path) -> None:
    one, two = tmp_path / "1.csv", tmp_path / "2.csv"
    one.write_text("a")
    two.write_text("b")
    hashes = {hash_files(files) for files in ([one], [two], [one, two], [two, one])}
    assert len(hashes) == 4


SHARED = Path(__file__).parents[3] / "shared" / "data"
REAL = [
    # preset, files, rows, dropped by reason
    ("popqa", "popqa/popqa_test.json", 14_267, {"the same question": 504, "the question has": 3}),
    ("popqa", "popqa/popqa_sample1000*.jsonl", 1_000, {"the same question": 4}),
    ("nq-open", "nq_open/NQ-open.dev.jsonl", 3_610, {"no accepted answer": 2}),
    ("nq-open", "nq_open/*efficientqa*.jsonl", 1_800, {}),
    ("dpr", "nq_open/topics.nq.dev.txt", 8_757, {"no accepted answer": 2}),
    ("dpr", "triviaqa/*.dev.txt", 8_837, {}),
    ("dpr", "triviaqa/*.test.txt", 11_313, {}),
    ("simpleqa", "simpleqa/*.csv", 4_326, {}),
    ("webquestions", "webquestions/*.json", 5_810, {}),
    ("entityquestions", "entityquestions/dev/*.gz", 22_068, {"the same question": 7}),
]


@pytest.mark.skipif(not SHARED.is_dir(), reason="the original files of the sets are not here")
@pytest.mark.parametrize(("preset", "pattern", "rows", "dropped"), REAL)
def test_real_files_give_every_row_or_a_reason(
    preset: str, pattern: str, rows: int, dropped: dict[str, int]
) -> None:
    parsed = parse_files("real", sorted(SHARED.glob(pattern)))
    assert parsed.preset == preset
    assert parsed.rows == rows == len(parsed.drafts) + len(parsed.dropped)
    found = Counter(one.reason[:17].strip() for one in parsed.dropped)
    assert {reason[:17].strip(): n for reason, n in dropped.items()} == found
    assert len({draft.question_id for draft in parsed.drafts}) == len(parsed.drafts)
    if preset in ("popqa", "entityquestions"):
        assert all(draft.relation and draft.subject for draft in parsed.drafts)
    assert not [d.text for d in parsed.drafts if d.text.startswith('"') and d.text.endswith('"')
                and '"' not in d.text[1:-1]]  # fmt: skip
