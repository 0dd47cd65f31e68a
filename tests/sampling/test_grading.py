"""Verdicts on responses: hand-made cases, attacks, invariances and the built-in fact set."""

import random
import time
from collections import defaultdict
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from attrib.data.questions import AnswerType, Question, Split, load_worldfacts
from attrib.errors import ConfigError
from attrib.sampling.graders import make_grader
from attrib.sampling.grading import Graded, Grader, Kind, Verdict, grade_one, kind_of

NAME, CODE, NUMBER = AnswerType.NAME, AnswerType.CODE, AnswerType.NUMBER


def make_question(
    *answers: str,
    answer_type: AnswerType = NAME,
    relation: str | None = "relation",
    subject: str | None = None,
) -> Question:
    return Question(
        question_id=f"{relation}:{answers}",
        dataset="test",
        split=Split.TRAIN,
        text=f"What about {subject}?",
        answers=answers,
        answer_type=answer_type,
        subject=subject,
        relation=relation,
        fact_id=f"{subject}~{answers}",
        popularity=None,
    )


class World:
    """The questions of one relation and the graders that know them."""

    def __init__(self, *questions: Question) -> None:
        self.questions = {question.answers[0]: question for question in questions}
        self.match = make_grader("match", questions)
        self.exact = make_grader("exact", questions)

    def grade(self, answer: str, text: str, *, cut: bool = False) -> Graded:
        return grade_one(self.match, self.questions[answer], text, cut)

    def verdict(self, answer: str, text: str, *, cut: bool = False) -> Verdict:
        return self.grade(answer, text, cut=cut).verdict

    def is_exact(self, answer: str, text: str, *, cut: bool = False) -> bool:
        graded = grade_one(self.exact, self.questions[answer], text, cut)
        return graded.verdict is Verdict.CORRECT


COUNTRIES = World(
    make_question("Guinea"),
    make_question("Guinea-Bissau"),
    make_question("Equatorial Guinea"),
    make_question("Papua New Guinea"),
    make_question("Niger"),
    make_question("Nigeria"),
    make_question("Dominica"),
    make_question("Dominican Republic", "The Dominican Republic"),
    make_question("Republic of the Congo", "Congo-Brazzaville", "Congo"),
    make_question("Democratic Republic of the Congo", "DR Congo", "DRC", "Congo"),
    make_question("Côte d'Ivoire", "Ivory Coast"),
    make_question("China", "People's Republic of China", subject="Beijing"),
    make_question("United States", "United States of America", "US", "USA", subject="Chicago"),
    make_question("US Virgin Islands"),
    make_question("Mexico", subject="Mexico City"),
    make_question("The Gambia"),
    make_question("Saint Lucia"),
    make_question("Antigua and Barbuda"),
    make_question("São Tomé and Príncipe"),
    make_question("India", "in"),
    make_question("Türkiye", "Turkey"),
)
CAPITALS = World(
    make_question("Paris", subject="France"),
    make_question("London", subject="United Kingdom"),
    make_question("Rome", subject="Italy"),
    make_question("Washington, D.C.", "Washington", subject="United States"),
    make_question("St. John's", subject="Antigua and Barbuda"),
    make_question("Singapore", subject="Singapore"),
    make_question("Nukuʻalofa", subject="Tonga"),
    make_question("The Hague", subject="Netherlands"),
    make_question("Kuwait City", "Kuwait", subject="Kuwait"),
    make_question("Bern", "Berne", subject="Switzerland"),
    make_question("Bridgetown", subject="Barbados"),
)
ELEMENTS = World(
    *(
        make_question(symbol, answer_type=CODE, subject=name)
        for symbol, name in [
            ("H", "hydrogen"), ("He", "helium"), ("Li", "lithium"), ("Be", "beryllium"),
            ("B", "boron"), ("C", "carbon"), ("N", "nitrogen"), ("O", "oxygen"), ("F", "fluorine"),
            ("Ne", "neon"), ("S", "sulfur"), ("K", "potassium"), ("Fe", "iron"), ("Au", "gold"),
            ("In", "indium"), ("I", "iodine"), ("As", "arsenic"), ("At", "astatine"),
            ("No", "nobelium"), ("Am", "americium"), ("U", "uranium"), ("Er", "erbium"),
            ("Co", "cobalt"),
        ]
    )
)  # fmt: skip
STATES = World(
    *(make_question(code, answer_type=CODE) for code in ("OK", "TX", "IN", "OR", "ME", "HI", "DC"))
)
DOMAINS = World(
    *(make_question(code, answer_type=CODE) for code in (".is", ".co", ".uk", ".io", ".com.xy"))
)
DIALLING = World(
    make_question("1", "+1", answer_type=NUMBER, subject="United States"),
    make_question("1-242", "+1-242", answer_type=NUMBER, subject="Bahamas"),
    make_question("33", "+33", answer_type=NUMBER, subject="France"),
    make_question("242", "+242", answer_type=NUMBER, subject="Congo"),
)
ATOMIC_NUMBERS = World(
    *(
        make_question(str(number), answer_type=NUMBER, subject=name)
        for number, name in [(1, "hydrogen"), (5, "boron"), (26, "iron"), (27, "cobalt")]
    ),
    make_question("1,000", answer_type=NUMBER),
)


class TestNames:
    @pytest.mark.parametrize(
        "text",
        [
            "Paris", "paris", "PARIS", " Paris\n", "Paris.", "**Paris**", "_Paris_", "`Paris`",
            "“Paris”", "'Paris'", "(Paris)", "The answer is Paris, I think.", "Paris, France",
            "Paris. Paris! The Paris.", "It's Paris's fame", "Answer:Paris", "Paris🇫🇷",
            "Pa\u200bris", "Ｐａｒｉｓ", "𝐏𝐚𝐫𝐢𝐬", "Pa\u00adris", "The capital of France is Paris",
            "Paris¹", "Paris\0",
        ],
    )  # fmt: skip
    def test_accepted_answer_in_any_dress(self, text: str) -> None:
        assert CAPITALS.grade("Paris", text) == Graded(Verdict.CORRECT, "accepted: Paris")

    @pytest.mark.parametrize(
        "text",
        [
            "Parisian",
            "Comparison",
            "Par is",
            "P a r i s",
            "Par1s",
            "Pariss",
            "Раris",
            "I do not know",
            ".",
        ],
    )
    def test_absent_answer(self, text: str) -> None:
        assert CAPITALS.grade("Paris", text) == Graded(Verdict.INCORRECT, "no accepted answer")

    @pytest.mark.parametrize("text", ["", " ", "\n\t ", "\u200b", "\ufeff \u2060"])
    @pytest.mark.parametrize("cut", [False, True])
    def test_empty(self, text: str, cut: bool) -> None:
        for grader in (CAPITALS.match, CAPITALS.exact):
            graded = grade_one(grader, CAPITALS.questions["Paris"], text, cut)
            assert graded == Graded(Verdict.INCORRECT, "empty")

    def test_another_answer(self) -> None:
        assert CAPITALS.grade("Paris", "It is London.") == Graded(
            Verdict.INCORRECT, "another answer: London"
        )
        assert CAPITALS.grade("Paris", "London, Rome.").detail == "other answers: London, Rome"
        assert CAPITALS.grade("Paris", "London is London.").detail == "another answer: London"

    def test_another_answer_by_two_names_is_one(self) -> None:
        oslo = Question("a", "d", Split.TRAIN, "?", ("Oslo",), AnswerType.NAME, None, "r", "f", 0)
        burma = replace(oslo, question_id="b", answers=("Burma", "Myanmar"))
        graded = grade_one(make_grader("match", [oslo, burma]), oslo, "Myanmar, once Burma")
        assert graded.detail == "another answer: Burma"

    @pytest.mark.parametrize(
        ("text", "cut", "kind"),
        [
            ("Paris.", False, Kind.RIGHT), ("London", False, Kind.ANOTHER),
            ("Paris or London", False, Kind.SEVERAL), ("Rome and London", False, Kind.SEVERAL),
            ("I do not know", False, Kind.NOTHING), ("", False, Kind.NOTHING),
            ("Par", True, Kind.CUT), ("It is Paris", True, Kind.CUT),
        ],
    )  # fmt: skip
    def test_kinds(self, text: str, cut: bool, kind: Kind) -> None:
        graded = CAPITALS.grade("Paris", text, cut=cut)
        assert kind_of(graded.verdict, graded.detail, CAPITALS.match.fingerprint, "capital") is kind
        plain = Kind.RIGHT if kind is Kind.RIGHT else Kind.WRONG
        assert kind_of(graded.verdict, graded.detail, "exact-0", "capital") is plain
        assert kind_of(graded.verdict, graded.detail, CAPITALS.match.fingerprint, None) is plain
        assert kind_of("ungraded", "", CAPITALS.match.fingerprint, "capital") is None

    @pytest.mark.parametrize(
        "text",
        [
            "Paris, London, Rome", "Paris/London", "Paris or London", "Paris|London",
            "London Paris", "Paris (or London)", "Paris\nLondon", "Paris; Rome",
            "Paris & Rome", "PARIS LONDON", "Paris-London", "paris,london",
            "Paris — Lon\u200bdon", "Paris’ Rome", "Paris " * 50 + "Washington DC",
            "Either Paris or the Hague", "Paris. 1. London 2. Rome",
        ],
    )  # fmt: skip
    def test_hedge_earns_nothing(self, text: str) -> None:
        assert CAPITALS.grade("Paris", text).detail.startswith("another answer besides Paris: ")
        assert CAPITALS.verdict("London", text) is Verdict.INCORRECT

    @pytest.mark.parametrize(
        ("text", "expected"),
        [
            ("Paris, not London", True), ("not London, Paris", True), ("Not Paris", False),
            ("It is not the Paris", False), ("It isn't Paris", False),
            ("Not only that: Paris", True),
        ],
    )  # fmt: skip
    def test_what_is_denied_counts_as_neither(self, text: str, expected: bool) -> None:
        verdict = CAPITALS.verdict("Paris", text)
        assert verdict is (Verdict.CORRECT if expected else Verdict.INCORRECT)
        assert CAPITALS.verdict("London", text) is Verdict.INCORRECT

    @pytest.mark.parametrize(
        ("text", "expected"),
        [
            ("Ivory Coast", True), ("Côte d'Ivoire, or Ivory Coast", True),
            ("Ivory Coast or the Côte d'Ivoire", True), ("Ivory Coast or so", False),
            ("Either Burkina Faso or Ivory Coast", False), ("The Ivory Coast or", False),
            ("Upper Ivory Coast or Lower Ivory Coast", True), ("Oregon: Ivory Coast", True),
        ],
    )  # fmt: skip
    def test_one_of_two_guesses_earns_nothing(self, text: str, expected: bool) -> None:
        question = make_question("Côte d'Ivoire", "Ivory Coast", relation=None)
        verdict = grade_one(make_grader("match", [question]), question, text).verdict
        assert verdict is (Verdict.CORRECT if expected else Verdict.INCORRECT)

    @pytest.mark.parametrize(
        ("asked", "answers", "text", "expected"),
        [
            (
                "what is the capital of Singapore?", ("Singapore",),
                "The capital of Singapore is", False,
            ),
            ("what is the capital of Singapore?", ("Singapore",), "Singapore", True),
            (
                "what is the capital of Singapore?", ("Singapore",),
                "The capital of Singapore is Singapore.", True,
            ),
            (
                "is the beach in north or south Goa", ("North Goa", "North"),
                "The beach is in north or south Goa", False,
            ),
            (
                "is the beach in north or south Goa", ("North Goa", "North"),
                "The beach is in north Goa", True,
            ),
            ("do you cut to the left or right", ("right",), "You cut to the right.", True),
            (
                "what is the name of the at symbol", ("at symbol", "at sign"),
                "The at symbol is a sign", False,
            ),
            ("what is the name of the at symbol", ("at symbol", "at sign"), "At symbol.", True),
            ("Where is Abra, Ivory Coast?", ("Ivory Coast",), "In Ivory Coast.", True),
            ("Where is Abra, Ivory Coast?", ("Ivory Coast",), "Abra is in Ivory Coast", True),
            ("Where is Abra, Ivory Coast?", ("Ivory Coast",), "Abra, Ivory Coast, is", False),
            ("Who founded Brian Hart Ltd.?", ("Brian Hart",), "It was founded by Brian Hart", True),
            ("Who founded Brian Hart Ltd.?", ("Brian Hart",), "Brian Hart Ltd. was founded", False),
            ("What is the capital of Rum?", ("capital of Rum",), "Ol is the capital of Rum", False),
            ("what color is the White House?", ("white",), "The White House was built", False),
            ("what color is the White House?", ("white",), "The White House is white.", True),
        ],
    )  # fmt: skip
    def test_the_question_repeated_earns_nothing(
        self, asked: str, answers: tuple[str, ...], text: str, expected: bool
    ) -> None:
        question = replace(make_question(*answers, relation=None), text=asked)
        verdict = grade_one(make_grader("match", [question]), question, text).verdict
        assert verdict is (Verdict.CORRECT if expected else Verdict.INCORRECT)

    def test_hedge_in_a_sentence(self) -> None:
        text = "The capital city of China is China, United States of America"
        for country in ("China", "United States"):
            assert COUNTRIES.verdict(country, text) is Verdict.INCORRECT

    @pytest.mark.parametrize(
        ("text", "meant"),
        [
            ("Guinea", "Guinea"),
            ("Guinea-Bissau", "Guinea-Bissau"),
            ("Guinea Bissau", "Guinea-Bissau"),
            ("the guinea–bissau.", "Guinea-Bissau"),
            ("Papua New Guinea", "Papua New Guinea"),
            ("Equatorial Guinea", "Equatorial Guinea"),
            ("Niger", "Niger"),
            ("Nigeria", "Nigeria"),
            ("Dominica", "Dominica"),
            ("Dominican Republic", "Dominican Republic"),
            ("Democratic Republic of Congo", "Democratic Republic of the Congo"),
            ("the Democratic Republic of the Congo", "Democratic Republic of the Congo"),
            ("Republic of Congo", "Republic of the Congo"),
            ("US Virgin Islands", "US Virgin Islands"),
            ("U.S. Virgin Islands", "US Virgin Islands"),
        ],
    )
    def test_longest_answer_wins(self, text: str, meant: str) -> None:
        for country in COUNTRIES.questions:
            expected = Verdict.CORRECT if country == meant else Verdict.INCORRECT
            assert COUNTRIES.verdict(country, text) is expected, country

    def test_spelling_accepted_for_two_questions_counts_for_both(self) -> None:
        assert COUNTRIES.verdict("Republic of the Congo", "Congo") is Verdict.CORRECT
        assert COUNTRIES.verdict("Democratic Republic of the Congo", "Congo") is Verdict.CORRECT
        assert COUNTRIES.verdict("Guinea", "Congo") is Verdict.INCORRECT

    @pytest.mark.parametrize(
        ("country", "text"),
        [
            ("Côte d'Ivoire", "Cote d Ivoire"),
            ("Côte d'Ivoire", "Côte d’Ivoire"),
            ("Côte d'Ivoire", "Cote dIvoire"),
            ("Côte d'Ivoire", "COTE D'IVOIRE"),
            ("Côte d'Ivoire", "Co\u0302te d´Ivoire"),
            ("Côte d'Ivoire", "Côte d`Ivoire"),
            ("Côte d'Ivoire", "Côte-d'Ivoire, also known as the Ivory Coast"),
            ("China", "Peoples Republic of China"),
            ("China", "People’s Republic of China"),
            ("The Gambia", "Gambia"),
            ("The Gambia", "the gambia"),
            ("Saint Lucia", "St. Lucia"),
            ("Saint Lucia", "St Lucia"),
            ("Saint Lucia", "ST.LUCIA"),
            ("Antigua and Barbuda", "Antigua & Barbuda"),
            ("Antigua and Barbuda", "Antigua ＆ Barbuda"),
            ("São Tomé and Príncipe", "Sao Tome & Principe"),
            ("Türkiye", "TÜRKİYE"),
            ("Türkiye", "Turkiye"),
        ],
    )
    def test_spellings(self, country: str, text: str) -> None:
        assert COUNTRIES.verdict(country, text) is Verdict.CORRECT

    @pytest.mark.parametrize(
        ("city", "text"),
        [
            ("Washington, D.C.", "Washington DC"),
            ("Washington, D.C.", "Washington, D. C."),
            ("Washington, D.C.", "washington d.c"),
            ("Washington, D.C.", "Washington (D.C.)"),
            ("Washington, D.C.", "Washington, D.C.,USA"),
            ("St. John's", "Saint John's"),
            ("St. John's", "St Johns"),
            ("St. John's", "St. John’s is it."),
            ("St. John's", "st john s"),
            ("Nukuʻalofa", "Nukualofa"),
            ("Nukuʻalofa", "Nuku'alofa"),
            ("Nukuʻalofa", "Nuku alofa"),
            ("The Hague", "Hague"),
        ],
    )
    def test_spellings_of_capitals(self, city: str, text: str) -> None:
        assert CAPITALS.verdict(city, text) is Verdict.CORRECT

    def test_letters_that_do_not_decompose(self) -> None:
        cities = World(
            *map(make_question, ("Łódź", "Gießen", "Malmø", "Đà Nẵng", "Ærø", "Iğdır", "Œuilly"))
        )
        for city, plain in [
            ("Łódź", "LODZ"), ("Gießen", "Giessen"), ("Gießen", "GIEẞEN"), ("Malmø", "malmo"),
            ("Đà Nẵng", "Da Nang"), ("Ærø", "Aero"), ("Iğdır", "IGDIR"), ("Œuilly", "Oeuilly"),
        ]:  # fmt: skip
            assert cities.verdict(city, plain) is Verdict.CORRECT

    def test_other_scripts_keep_their_marks(self) -> None:
        words = World(
            make_question("が"), make_question("か"), make_question("दिल्ली"), make_question("서울")
        )
        assert words.verdict("か", "が") is Verdict.INCORRECT
        for word in words.questions:
            assert words.verdict(word, f"«{word}»") is Verdict.CORRECT

    @pytest.mark.parametrize(
        ("text", "expected"),
        [
            ("US", True), ("U.S.", True), ("the U.S.A.", True), ("USA!", True),
            ("in the US, yes", True), ("us", True), ("the usa", True), ("u.s.a.", True),
            ("The Us", True), ("Let us see", False), ("Tell us about it", False),
            ("Us and them", False), ("bus", False), ("USAF", False), ("U S S R", False),
        ],
    )  # fmt: skip
    def test_abbreviations_are_not_pronouns(self, text: str, expected: bool) -> None:
        verdict = COUNTRIES.verdict("United States", text)
        assert verdict is (Verdict.CORRECT if expected else Verdict.INCORRECT)
        # What would not be credited is not held against another answer either.
        with_china = COUNTRIES.verdict("China", f"{text} and so on: China")
        alone = COUNTRIES.verdict("United States", f"{text} and so on")
        assert (with_china is Verdict.CORRECT) == (alone is Verdict.INCORRECT)

    def test_alias_that_is_a_function_word_does_not_spoil_sentences(self) -> None:
        assert COUNTRIES.verdict("Niger", "It is in Niger, in Africa.") is Verdict.CORRECT
        assert COUNTRIES.verdict("India", "in") is Verdict.CORRECT
        assert COUNTRIES.verdict("India", "it lies in the east") is Verdict.INCORRECT

    def test_names_made_of_function_words_and_articles(self) -> None:
        bands = World(
            *map(make_question, ("The Who", "The The", "Yes", "A", "Vitamin A", "Vitamin C"))
        )
        assert bands.verdict("The Who", "The Who") is Verdict.CORRECT
        assert bands.verdict("The Who", "It was the Who.") is Verdict.CORRECT
        assert bands.verdict("The Who", "A man who knows") is Verdict.INCORRECT
        assert bands.verdict("The The", "the band The The") is Verdict.CORRECT
        assert bands.verdict("The The", "the band") is Verdict.INCORRECT
        assert bands.verdict("Yes", "yes") is Verdict.CORRECT
        assert bands.verdict("Yes", "Yes, it is the Who") is Verdict.INCORRECT
        assert bands.verdict("The Who", "Yes, it is the Who") is Verdict.CORRECT
        assert bands.verdict("A", "A") is Verdict.CORRECT
        assert bands.verdict("A", "A person has it") is Verdict.INCORRECT
        assert bands.verdict("Vitamin A", "vitamin a") is Verdict.CORRECT
        assert bands.verdict("Vitamin A", "vitamin C") is Verdict.INCORRECT
        assert bands.verdict("Vitamin A", "vitamin") is Verdict.INCORRECT

    @pytest.mark.parametrize(
        "text",
        ["J.R.R. Tolkien", "J. R. R. Tolkien", "JRR Tolkien", "J R R Tolkien", "j.r.r. tolkien"],
    )
    def test_initials(self, text: str) -> None:
        for answer in ("J.R.R. Tolkien", "J. R. R. Tolkien"):
            world = World(make_question(answer), make_question("A. A. Milne"))
            assert world.verdict(answer, text) is Verdict.CORRECT
            assert world.verdict("A. A. Milne", "A.A. Milne") is Verdict.CORRECT
            assert world.verdict("A. A. Milne", "Milne") is Verdict.INCORRECT

    def test_signs_that_are_spoken(self) -> None:
        languages = World(*map(make_question, ("C", "C++", "C#")))
        for language in languages.questions:
            for text in languages.questions:
                expected = Verdict.CORRECT if text == language else Verdict.INCORRECT
                assert languages.verdict(language, f"It is {text}.") is expected

    def test_subject_counts_as_neither(self) -> None:
        assert COUNTRIES.verdict("Mexico", "Mexico City is in Mexico") is Verdict.CORRECT
        assert COUNTRIES.verdict("Mexico", "Mexico City") is Verdict.INCORRECT
        borders = World(
            make_question("Spain", subject="Portugal"), make_question("Portugal", subject="Spain")
        )
        assert borders.verdict("Spain", "Portugal borders Spain") is Verdict.CORRECT
        assert borders.grade("Spain", "Portugal") == Graded(Verdict.INCORRECT, "no accepted answer")

    def test_subject_that_is_also_accepted(self) -> None:
        assert CAPITALS.verdict("Singapore", "Singapore") is Verdict.CORRECT
        assert CAPITALS.verdict("Kuwait City", "Kuwait") is Verdict.CORRECT

    def test_several_accepted_answers(self) -> None:
        languages = World(make_question("German", "French", "Italian"), make_question("English"))
        assert languages.verdict("German", "German, French and Italian") is Verdict.CORRECT
        assert languages.verdict("German", "German and English") is Verdict.INCORRECT

    def test_names_do_not_run_across_lines(self) -> None:
        assert COUNTRIES.grade("Guinea", "Guinea\nBissau is a city").verdict is Verdict.CORRECT


class TestTruncatedNames:
    @pytest.mark.parametrize(
        ("country", "text", "expected"),
        [
            ("Niger", "Niger", False), ("Niger", "Niger ", True), ("Niger", "Niger,", True),
            ("Niger", "Niger\n", True), ("Niger", "Niger)", True), ("Niger", 'Niger"', True),
            ("Niger", "Niger. The", True), ("Niger", "Niger, Nig", True),
            ("Niger", "Nigeria", False), ("Nigeria", "Nigeria", False),
            ("Niger", "**Niger**", True), ("Niger", "Niger's", True), ("Guinea", "Guinea ", False),
            ("Guinea", "Guinea-", False), ("Guinea", "Guinea (", False),
            ("Guinea", "Guinea B", False), ("Guinea", "Guinea Bissa", False),
            ("Guinea", "Guinea is", True), ("Guinea", "Guinea.", True), ("Guinea", "Guinea!", True),
            ("Guinea-Bissau", "Guinea-Bissau ", True), ("Guinea-Bissau", "Guinea-Bissau", False),
            ("Guinea", "Papua New Guinea ", False), ("Guinea", "Papua New", False),
            ("United States", "the United States ", True),
            ("United States", "United States of", True), ("United States", "US", False),
            ("United States", "US ", False), ("United States", "US,", True),
            ("United States", "U.S.", False), ("United States", "U.S. is", True),
            ("Côte d'Ivoire", "Côte d'", False), ("Côte d'Ivoire", "Côte d'Ivoire;", True),
            ("Republic of the Congo", "Republic of the", False), ("Niger", "Niger\u200b", False),
            ("Niger", "Niger \u200b", True),
        ],
    )  # fmt: skip
    def test_answer_at_the_cut(self, country: str, text: str, expected: bool) -> None:
        verdict = COUNTRIES.verdict(country, text, cut=True)
        assert verdict is (Verdict.CORRECT if expected else Verdict.INCORRECT)

    @pytest.mark.parametrize(
        ("city", "text", "expected"),
        [
            ("Washington, D.C.", "Washington, D.", True),  # can only become another accepted one
            ("Washington, D.C.", "Washington, D.C.", True),
            ("Washington, D.C.", "Washington, D.C", True),
            ("Washington, D.C.", "Washington", False),
            ("St. John's", "St.", False),
            ("St. John's", "St. John", False),
            ("St. John's", "St. John's", False),
            ("St. John's", "St. John's.", True),
        ],
    )
    def test_abbreviation_at_the_cut(self, city: str, text: str, expected: bool) -> None:
        verdict = CAPITALS.verdict(city, text, cut=True)
        assert verdict is (Verdict.CORRECT if expected else Verdict.INCORRECT)

    def test_abbreviation_that_may_become_another_answer(self) -> None:
        places = World(make_question("Washington"), make_question("Washington, D.C."))
        assert places.verdict("Washington", "Washington, D.", cut=True) is Verdict.INCORRECT
        assert places.verdict("Washington", "Washington, D", cut=True) is Verdict.INCORRECT
        assert places.verdict("Washington", "Washington.", cut=True) is Verdict.CORRECT

    def test_detail_says_what_was_cut(self) -> None:
        assert COUNTRIES.grade("Niger", "It is Niger", cut=True) == Graded(
            Verdict.INCORRECT, "cut off inside the answer: Niger"
        )
        assert COUNTRIES.grade("Niger", "It is xyz", cut=True).detail == "no accepted answer"

    def test_a_guess_stays_one_where_it_is_cut(self) -> None:
        assert CAPITALS.verdict("Paris", "Paris or Lond", cut=True) is Verdict.INCORRECT
        assert CAPITALS.verdict("Paris", "Paris, Lond", cut=True) is Verdict.CORRECT
        assert CAPITALS.verdict("London", "Paris or Lond", cut=True) is Verdict.INCORRECT
        assert CAPITALS.verdict("London", "Paris or London", cut=True) is Verdict.INCORRECT

    @settings(max_examples=300, deadline=None)
    @given(
        st.sampled_from(sorted(COUNTRIES.questions)),
        st.sampled_from(sorted(COUNTRIES.questions)),
        st.data(),
    )
    def test_credit_at_a_cut_holds_for_every_continuation(
        self, country: str, written: str, data: st.DataObject
    ) -> None:
        """What is credited when cut is credited too when any answer was being written."""
        text = written[: data.draw(st.integers(1, len(written)))]
        if COUNTRIES.verdict(country, text, cut=True) is Verdict.CORRECT:
            assert COUNTRIES.verdict(country, written) is Verdict.CORRECT


class TestCodes:
    @pytest.mark.parametrize(
        "text",
        [
            "Fe", "Fe.", " Fe\n", "**Fe**", "`Fe`", "(Fe)", "_Fe_", '"Fe"', "'Fe'", "“Fe”", "Fe!",
            "Fe,", "The symbol is Fe.", "Iron (Fe)", "Symbol:Fe", "Fe Fe Fe", "Ｆｅ", "F\u200be",
            "Fe-56", "{Fe}", "As far as I know, it is Fe", "I think it's Fe", "I'm sure: Fe",
            "Am I right? Fe", "In the periodic table the symbol is Fe.", "As I recall, Fe",
            "No, the symbol is Fe.", "Be careful: Fe", "He said Fe", "At first sight, Fe",
            "In Latin ferrum, hence Fe", "No. It is Fe", "In 1869 it was Fe", "1. Fe", "1.Fe",
            "iron is Fe", "Fe is iron", "I guess Fe", "In-depth: Fe", "Hmm. I believe Fe",
            "No - it is Fe",
        ],
    )  # fmt: skip
    def test_symbol_among_english(self, text: str) -> None:
        assert ELEMENTS.grade("Fe", text) == Graded(Verdict.CORRECT, "accepted: Fe")

    @pytest.mark.parametrize(
        "text",
        [
            "fe", "FE", "fE", "Fe2O3", "Fem", "aFe", "Fe1", "1Fe", "Café", "Fé", "iron", "F e",
            "Fe'rum", "Fe or Au", "Fe/Au", "Fe,Au", "Fe-Au", "Fe Au", "Au, not Fe", "H He Li Be",
            "Fe\nAu", "Fe (K)", "Fe I", "F, Fe", "site.Fe", "Fe.org", "Fe_x",
        ],
    )  # fmt: skip
    def test_not_the_symbol(self, text: str) -> None:
        assert ELEMENTS.verdict("Fe", text) is Verdict.INCORRECT

    @pytest.mark.parametrize(
        ("symbol", "text"),
        [
            ("I", "I"), ("I", "I."), ("I", "The symbol is I."),
            ("I", "The symbol is I and it is rare."), ("I", '"I" is the symbol'),
            ("I", "I is iodine"), ("I", "I (iodine)"), ("I", "It is **I**"), ("In", "In"),
            ("In", "In."), ("In", "The symbol for indium is In."), ("In", "In (indium)"),
            ("In", "In is the symbol"), ("In", "In: indium"), ("As", "As"), ("As", "As is arsenic"),
            ("As", "As, the symbol for arsenic"), ("He", "He is the symbol for helium."),
            ("He", "He stands for helium"), ("No", "No"), ("No", "No."), ("At", "At"), ("Be", "Be"),
            ("Am", "Am"), ("U", "U"), ("C", "C"), ("K", "K (from kalium)"),
            ("No", "No, for nobelium"),
        ],
    )  # fmt: skip
    def test_symbols_that_are_words(self, symbol: str, text: str) -> None:
        assert ELEMENTS.grade(symbol, text) == Graded(Verdict.CORRECT, f"accepted: {symbol}")

    @pytest.mark.parametrize(
        ("symbol", "text"),
        [
            ("I", "I think so"), ("I", "I'm not sure"), ("I", "As far as I know"),
            ("He", "He is H"), ("In", "In the table"), ("As", "As far as known"), ("No", "None"),
            ("U", "U.S."), ("S", "U.S."), ("C", "D.C."), ("I", "II"), ("He", "He's"), ("K", "K's"),
            ("S", "it's"), ("No", "No idea"), ("At", "At the end"), ("Am", "Am unsure"),
            ("Be", "Be that as it may"),
        ],
    )  # fmt: skip
    def test_words_that_are_no_symbols(self, symbol: str, text: str) -> None:
        assert ELEMENTS.verdict(symbol, text) is Verdict.INCORRECT

    @pytest.mark.parametrize(
        "symbol", ["H", "He", "Li", "Be", "B", "C", "N", "O", "F", "Ne", "I", "In"]
    )
    @pytest.mark.parametrize(
        "text",
        [
            "H He Li Be B C N O F Ne I In", "H, He, Li, Be, B, C, N, O, F, Ne, I, In",
            "H or He or Li or Be or B or C or N or O or F or Ne or I or In", "HHeLiBeBCNOFNeIIn",
            "In, I, Ne, F, O, N, C, B, Be, Li, He, H", "He or Ne", "He and H", "In or I", "I or In",
            "I, In", "In, In, I",
        ],
    )  # fmt: skip
    def test_soup(self, symbol: str, text: str) -> None:
        assert ELEMENTS.verdict(symbol, text) is Verdict.INCORRECT

    @pytest.mark.parametrize(
        ("code", "text", "expected"),
        [
            ("OK", "OK", True), ("OK", "OK.", True), ("TX", "OK, it is TX", True),
            ("OK", "OK, it is TX", False), ("TX", "OK. The code is TX", True),
            ("TX", "OK, TX", False), ("OK", "OK, TX", False),
            ("OK", "OK, which stands for Oklahoma", True), ("TX", "tx", False), ("OR", "or", False),
            ("OR", "Or", False), ("OR", "OR", True), ("OR", "IN or OR", False),
            ("TX", "TX or nothing", True), ("IN", "The code is IN.", True),
            ("ME", "It tells me: ME", True), ("HI", "HI!", True),
            ("TX", "HI, the code is TX", True), ("TX", "TX, OK?", False), ("DC", "D.C.", False),
            ("TX", "Austin, TX 78701", True), ("TX", "TX OK IN OR ME HI", False),
        ],
    )  # fmt: skip
    def test_states(self, code: str, text: str, expected: bool) -> None:
        verdict = STATES.verdict(code, text)
        assert verdict is (Verdict.CORRECT if expected else Verdict.INCORRECT)

    @pytest.mark.parametrize(
        ("code", "text", "expected"),
        [
            (".is", ".is", True), (".is", "It is .is.", True), (".is", "`.is`", True),
            (".is", "(.is)", True), (".is", "example.is", False), (".is", "is", False),
            (".is", ".isx", False), (".is", ".IS", False), (".is", "..is", False),
            (".is", ".is and .uk", False), (".is", ".is/.uk", False), (".uk", ".co.uk", False),
            (".co", ".co.uk", False), (".co", ".com.xy", False), (".com.xy", ".com.xy", True),
            (".is", "www.site.is", False), (".is", "*.is", True), (".is", "site.uk has .is", True),
            (".is", ". is", False), (".is", '".is"', True), (".io", "The answer is .io!", True),
        ],
    )  # fmt: skip
    def test_domains(self, code: str, text: str, expected: bool) -> None:
        verdict = DOMAINS.verdict(code, text)
        assert verdict is (Verdict.CORRECT if expected else Verdict.INCORRECT)

    @pytest.mark.parametrize(
        ("world", "code", "text", "expected"),
        [
            (ELEMENTS, "Fe", "Fe", False), (ELEMENTS, "Fe", "Fe ", True),
            (ELEMENTS, "Fe", "Fe.", True), (ELEMENTS, "Fe", "Fe\n", True),
            (ELEMENTS, "U", "U.", False), (ELEMENTS, "U", "U.\n", True),
            (ELEMENTS, "U", "It is U", False), (ELEMENTS, "Fe", "Fe or A", True),
            (ELEMENTS, "I", "I ", False), (ELEMENTS, "He", "He ", False),
            (ELEMENTS, "He", "He.", True), (ELEMENTS, "In", "In\n", True),
            (ELEMENTS, "I", "The symbol is I ", False),
            (ELEMENTS, "No", "No,", False), (ELEMENTS, "C", "C", False),
            (ELEMENTS, "Fe", "**Fe**", True), (DOMAINS, ".is", ".is", False),
            (DOMAINS, ".is", ".is.", True), (DOMAINS, ".is", ".is ", True),
            (DOMAINS, ".co", ".co", False), (STATES, "TX", "TX", False),
            (STATES, "TX", "TX,", True),
        ],
    )  # fmt: skip
    def test_truncated(self, world: World, code: str, text: str, expected: bool) -> None:
        verdict = world.verdict(code, text, cut=True)
        assert verdict is (Verdict.CORRECT if expected else Verdict.INCORRECT)

    def test_cut_that_may_become_a_longer_code(self) -> None:
        world = World(
            *(make_question(c, answer_type=CODE) for c in ("US", "US-CA", ".co", ".co.uk"))
        )
        assert world.verdict("US", "US-", cut=True) is Verdict.INCORRECT
        assert world.verdict(".co", ".co.", cut=True) is Verdict.INCORRECT
        assert world.verdict("US", "US-CA") is Verdict.INCORRECT
        assert world.verdict(".co.uk", "It is .co.uk.") is Verdict.CORRECT

    def test_subject_counts_as_neither(self) -> None:
        names = World(
            make_question("Fe", answer_type=CODE, subject="F"), make_question("F", answer_type=CODE)
        )
        assert names.verdict("Fe", "F is Fe") is Verdict.CORRECT

    def test_codes_with_signs(self) -> None:
        grades = World(*(make_question(c, answer_type=CODE) for c in ("A", "A+", "C++", "€")))
        assert grades.verdict("A", "A+") is Verdict.INCORRECT
        assert grades.verdict("A+", "It is A+.") is Verdict.CORRECT
        assert grades.verdict("€", "It is €.") is Verdict.CORRECT


class TestNumbers:
    @pytest.mark.parametrize(
        ("text", "expected"),
        [
            ("26", True), ("26.", True), ("It is 26.", True), ("26,", True), ("(26)", True),
            ("**26**", True), ("026", True), ("26.0", True), ("26th", True), ("+26", True),
            ("#26", True), ("Z=26", True), ("No.26", True), ("26 26", True), ("٢٦", True),
            ("２６", True), ("26%", True), ("26/30", True), ("26.5", False), ("126", False),
            ("260", False), ("3.26", False), (".26", False), ("-26", False), ("−26", False),
            ("B26", False), ("26kcal", False), ("Fe26", False), ("26,000", False), ("2 6", False),
            ("2⁶", False), ("1.26.3", False), ("Twenty six.", True), ("twenty-six", True),
            ("twenty-seven", False), ("It is the twenty-sixth", True), ("26 or 27", False),
            ("26, 27", False), ("26-27", False), ("26,27", False), ("26/27", False), ("27", False),
            ("26⁵", False), ("9" * 5000, False), ("0x26", False), ("26e5", False), ("", False),
        ],
    )  # fmt: skip
    def test_atomic_number_of_iron(self, text: str, expected: bool) -> None:
        verdict = ATOMIC_NUMBERS.verdict("26", text)
        assert verdict is (Verdict.CORRECT if expected else Verdict.INCORRECT)

    @pytest.mark.parametrize(
        "text", ["1000", "1,000", "1 000", "1\u00a0000", "1\u202f000", "1’000", "1,000.00", "01000"]
    )
    def test_thousands(self, text: str) -> None:
        assert ATOMIC_NUMBERS.verdict("1,000", text) is Verdict.CORRECT
        assert ATOMIC_NUMBERS.verdict("1", text) is Verdict.INCORRECT

    def test_decimal_point_is_no_thousands_separator(self) -> None:
        assert ATOMIC_NUMBERS.verdict("1,000", "1.000") is Verdict.INCORRECT

    @pytest.mark.parametrize(
        ("country", "text", "expected"),
        [
            ("33", "33", True), ("33", "+33", True), ("33", "0033", True),
            ("33", "code 0033", True), ("33", "(+33)", True), ("33", "330", False),
            ("33", "+33 or +1", False), ("1-242", "1-242", True), ("1-242", "+1-242", True),
            ("1-242", "+1 242", True), ("1-242", "+1 (242)", True), ("1-242", "1242", True),
            ("1-242", "+1242.", True), ("1-242", "242", False), ("1-242", "1", False),
            ("1-242", "1, 242", False), ("1", "+1", True), ("1", "1-242", False),
            ("1", "+1 (242)", False), ("242", "+242", True), ("242", "+1-242", False),
            ("33", "+1 33", False),
        ],
    )  # fmt: skip
    def test_calling_codes(self, country: str, text: str, expected: bool) -> None:
        verdict = DIALLING.verdict(country, text)
        assert verdict is (Verdict.CORRECT if expected else Verdict.INCORRECT)

    @pytest.mark.parametrize(
        ("country", "text", "expected"),
        [
            ("33", "33", False), ("33", "33.", False), ("33", "33,", False), ("33", "33 ", True),
            ("33", "33. ", True), ("33", "33\n", True), ("33", "+33, and", True),
            ("33", "33)", True), ("1", "+1", False), ("1", "+1 ", False), ("1", "+1-", False),
            ("1", "+1 (", False), ("1", "+1-2", False), ("1", "+1, ", True), ("1", "+1 is", True),
            ("1-242", "+1-242 ", True),
        ],
    )  # fmt: skip
    def test_truncated(self, country: str, text: str, expected: bool) -> None:
        verdict = DIALLING.verdict(country, text, cut=True)
        assert verdict is (Verdict.CORRECT if expected else Verdict.INCORRECT)

    def test_number_in_a_sentence_with_others_that_are_no_answers(self) -> None:
        text = "Iron has atomic number 26 and a mass of 55.845."
        assert ATOMIC_NUMBERS.verdict("26", text) is Verdict.CORRECT

    def test_subject_counts_as_neither(self) -> None:
        years = World(
            make_question("1918", answer_type=NUMBER, subject="1914"),
            make_question("1914", answer_type=NUMBER),
        )
        assert years.verdict("1918", "From 1914 to 1918") is Verdict.CORRECT

    def test_answer_with_a_unit(self) -> None:
        world = World(make_question("30 days", answer_type=NUMBER))
        assert world.verdict("30 days", "30") is Verdict.CORRECT

    @pytest.mark.parametrize(
        ("text", "expected"),
        [
            ("It is 390 metres high.", True), ("390m", True), ("390 m", True), ("390 high", True),
            ("It is 390 feet high.", False), ("390 ft", False), ("390 kilometres", False),
            ("390 feet, no, 390 metres", True), ("-390 m", False), ("390.5 m", False),
        ],
    )  # fmt: skip
    def test_another_unit_is_another_answer(self, text: str, expected: bool) -> None:
        world = World(make_question("390 metres", answer_type=NUMBER))
        verdict = world.verdict("390 metres", text)
        assert verdict is (Verdict.CORRECT if expected else Verdict.INCORRECT)

    def test_a_number_accepted_with_and_without_a_unit_goes_with_any(self) -> None:
        world = World(make_question("390 metres", "390", answer_type=NUMBER))
        assert world.verdict("390 metres", "390 feet") is Verdict.CORRECT

    @pytest.mark.parametrize(
        ("answer", "text", "expected"),
        [
            ("03:11:22", "It took 03:11:22.", True), ("03:11:22", "03:11:23", False),
            ("27 x 40", "27 × 40 m", False), ("27 x 40", "27 x 40 m", True),
            ("10.1016/j.cell.2010", "The DOI is 10.1016/j.cell.2010", True),
            ("2 hours 30 minutes", "two hours 30 minutes", True),
        ],
    )  # fmt: skip
    def test_what_is_no_plain_number_compares_as_a_name(
        self, answer: str, text: str, expected: bool
    ) -> None:
        verdict = World(make_question(answer, answer_type=NUMBER)).verdict(answer, text)
        assert verdict is (Verdict.CORRECT if expected else Verdict.INCORRECT)


class TestNumbersInNames:
    """Where a question's answers are not typed as numbers."""

    @pytest.mark.parametrize(
        ("answer", "text", "expected"),
        [
            ("5", "0.5", False), ("5", "5.5", False), ("3.14", "3.14", True), ("40", "-40", False),
            ("-40 °C", "-40°C", True), ("-40 °C", "−40 °C", True), ("-40 °C", "40 °C", False),
            ("1972", "1970-1972", True), ("8,849 m", "8849m", True),
            ("50%", "fifty per cent", True),
            ("14 December 1972", "14.12.1972", True), ("12 April 1999", "4.12.1999", False),
        ],
    )  # fmt: skip
    def test_signs_points_and_units(self, answer: str, text: str, expected: bool) -> None:
        verdict = World(make_question(answer, relation=None)).verdict(answer, text)
        assert verdict is (Verdict.CORRECT if expected else Verdict.INCORRECT)


class TestExact:
    def test_a_number_with_its_unit(self) -> None:
        question = make_question("390 metres", answer_type=NUMBER)
        grader = make_grader("exact", [question])
        for text, expected in (
            ("390 meters", "correct"),
            ("390", "correct"),
            ("390 ft", "incorrect"),
        ):
            assert grade_one(grader, question, text).verdict == expected

    @pytest.mark.parametrize(
        ("world", "answer", "text", "expected"),
        [
            (CAPITALS, "Paris", "Paris", True), (CAPITALS, "Paris", " paris.\n", True),
            (CAPITALS, "Paris", "**PARIS**", True),
            (CAPITALS, "Paris", "The answer is Paris", False),
            (CAPITALS, "Paris", "Paris, Paris", False), (CAPITALS, "Paris", "Paris London", False),
            (CAPITALS, "The Hague", "the hague", True),
            (CAPITALS, "St. John's", "Saint Johns", True),
            (COUNTRIES, "Côte d'Ivoire", "cote d ivoire", True),
            (COUNTRIES, "United States", "U.S.", True), (COUNTRIES, "United States", "us", True),
            (COUNTRIES, "United States", "The USA", True), (ELEMENTS, "Fe", "Fe", True),
            (ELEMENTS, "Fe", " `Fe`.\n", True), (ELEMENTS, "Fe", "fe", False),
            (ELEMENTS, "Fe", "Fe Fe", False), (ELEMENTS, "Fe", "**Fe**", True),
            (ELEMENTS, "I", "I", True), (DOMAINS, ".is", ".is", True),
            (DOMAINS, ".is", "'.is'.", True), (DOMAINS, ".is", "is", False),
            (ATOMIC_NUMBERS, "26", "26", True), (ATOMIC_NUMBERS, "26", "26.0", True),
            (ATOMIC_NUMBERS, "26", "26 protons", False), (ATOMIC_NUMBERS, "26", "\"26\".", True),
            (ATOMIC_NUMBERS, "1,000", "1000", True), (ATOMIC_NUMBERS, "26", "26, 27", False),
            (ATOMIC_NUMBERS, "26", "26 / 27", False), (DIALLING, "1-242", "+1 (242)", True),
            (DIALLING, "33", "+33", True), (DIALLING, "33", "33 33", False),
        ],
    )  # fmt: skip
    def test_whole_response(self, world: World, answer: str, text: str, expected: bool) -> None:
        assert world.is_exact(answer, text) is expected

    def test_truncated(self) -> None:
        assert not CAPITALS.is_exact("Paris", "Paris", cut=True)
        assert CAPITALS.is_exact("Paris", "Paris.", cut=True)
        assert not ELEMENTS.is_exact("Fe", "Fe", cut=True)
        assert not ATOMIC_NUMBERS.is_exact("26", "26", cut=True)
        assert not ATOMIC_NUMBERS.is_exact("26", "26.", cut=True)
        graded = grade_one(CAPITALS.exact, CAPITALS.questions["Paris"], " Paris", True)
        assert graded.detail == "cut off inside the answer: Paris"


class TestGraders:
    def test_unknown_grader(self) -> None:
        with pytest.raises(ConfigError, match=r"'fuzzy'.*match, exact"):
            make_grader("fuzzy", [])

    @pytest.mark.parametrize("name", ["match", "exact"])
    def test_name_and_fingerprint(self, name: str) -> None:
        grader: Grader = make_grader(name, list(CAPITALS.questions.values()))
        assert grader.name == name
        head, _, digits = grader.fingerprint.partition("-")
        assert head == name
        assert len(digits) == 12
        assert int(digits, 16) >= 0

    def test_fingerprint_depends_on_answers_not_on_order(self) -> None:
        questions = list(COUNTRIES.questions.values()) + list(ELEMENTS.questions.values())
        fingerprint = make_grader("match", questions).fingerprint
        assert make_grader("match", questions[::-1]).fingerprint == fingerprint
        assert make_grader("match", [*questions, questions[0]]).fingerprint == fingerprint
        for changed in (
            questions[:-1],
            [replace(questions[0], answers=("Guinée",)), *questions[1:]],
            [replace(questions[0], relation="other"), *questions[1:]],
            [replace(questions[0], answer_type=CODE), *questions[1:]],
            [replace(questions[0], dataset="other"), *questions[1:]],
        ):
            assert make_grader("match", changed).fingerprint != fingerprint
            assert make_grader("exact", changed).fingerprint == COUNTRIES.exact.fingerprint

    @pytest.mark.parametrize("name", ["match", "exact"])
    @pytest.mark.parametrize(
        ("answers", "answer_type"),
        [
            (("???", " "), NAME),
            ((), NAME),
            (("…",), NAME),
            (("?", ""), NUMBER),
            ((" ",), CODE),
        ],
    )
    def test_ungraded(self, name: str, answers: tuple[str, ...], answer_type: AnswerType) -> None:
        question = make_question(*answers, answer_type=answer_type)
        graded = grade_one(make_grader(name, [question]), question, "something", False)
        assert graded.verdict is Verdict.UNGRADED
        assert "no accepted answer compares as a" in graded.detail

    def test_answers_that_do_not_compare_are_passed_over(self) -> None:
        question = make_question("???", "Paris")
        assert (
            grade_one(make_grader("match", [question]), question, "Paris", False).verdict
            is Verdict.CORRECT
        )

    def test_without_relation_there_are_no_other_answers(self) -> None:
        one = make_question("Paris", relation=None)
        two = make_question("London", relation=None)
        grader = make_grader("match", [one, two])
        assert grade_one(grader, one, "Paris, London", False).verdict is Verdict.CORRECT
        assert grade_one(grader, one, "London", False).verdict is Verdict.INCORRECT

    def test_relations_and_data_sets_do_not_mix(self) -> None:
        paris = make_question("Paris", relation="capital")
        others = [
            make_question("Europe", relation="continent"),
            replace(paris, dataset="x", answers=("Rome",)),
        ]
        grader = make_grader("match", [paris, *others])
        assert grade_one(grader, paris, "Paris, Europe, not Rome", False).verdict is Verdict.CORRECT

    def test_question_that_was_not_imported(self) -> None:
        grader = make_grader("match", [make_question("London")])
        paris = make_question("Paris", "City of Light")
        assert grade_one(grader, paris, "the City of Light", False).verdict is Verdict.CORRECT
        assert grade_one(grader, paris, "Paris or London", False).verdict is Verdict.INCORRECT

    def test_mended_answers_take_effect(self) -> None:
        grader = make_grader("match", [make_question("London")])
        question = make_question("Bombay")
        assert grade_one(grader, question, "Mumbai", False).verdict is Verdict.INCORRECT
        mended = replace(question, answers=("Bombay", "Mumbai"))
        assert grade_one(grader, mended, "Mumbai", False).verdict is Verdict.CORRECT


ALL_WORLDS = (COUNTRIES, CAPITALS, ELEMENTS, STATES, DOMAINS, DIALLING, ATOMIC_NUMBERS)
anything = st.text(st.characters(exclude_categories=()), max_size=60)
pieces = st.sampled_from(
    [
        *(answer for world in ALL_WORLDS for q in world.questions.values() for answer in q.answers),
        " ", ", ", "-", ".", "'", "\n", "the ", "A ", "I ", "U.", "\u200b", "\0", "\ud800", "é",
        "1", "\u0301",
    ]
)  # fmt: skip
any_text = st.one_of(anything, st.lists(st.one_of(pieces, anything), max_size=12).map("".join))


class TestAnyText:
    @settings(max_examples=400, deadline=None)
    @given(any_text, st.booleans())
    def test_never_raises_and_is_repeatable(self, text: str, cut: bool) -> None:
        for world in ALL_WORLDS:
            question = next(iter(world.questions.values()))
            for grader in (world.match, world.exact):
                graded = grade_one(grader, question, text, cut)
                assert graded.verdict in (Verdict.CORRECT, Verdict.INCORRECT)
                assert graded == grade_one(grader, question, text, cut)

    @settings(max_examples=400, deadline=None)
    @given(any_text, st.booleans())
    def test_no_text_is_credited_for_two_questions(self, text: str, cut: bool) -> None:
        """The defence against every hedge: without shared spellings or subjects, one at most."""
        for world in (ELEMENTS, STATES, DOMAINS, ATOMIC_NUMBERS):
            plain = [replace(question, subject=None) for question in world.questions.values()]
            for grader in (world.match, world.exact):
                verdicts = [grade_one(grader, question, text, cut).verdict for question in plain]
                assert verdicts.count(Verdict.CORRECT) <= 1

    @settings(max_examples=200, deadline=None)
    @given(any_text)
    def test_surrounding_whitespace_does_not_matter(self, text: str) -> None:
        for world in ALL_WORLDS:
            question = next(iter(world.questions.values()))
            for grader in (world.match, world.exact):
                graded = grade_one(grader, question, text, False)
                assert grade_one(grader, question, f" \n\t{text}\n ", False) == graded

    @settings(max_examples=200, deadline=None)
    @given(
        st.lists(st.sampled_from(sorted(CAPITALS.questions)), max_size=4),
        st.sampled_from(["{}", "it is {} then"]),
    )
    def test_case_of_longer_names_does_not_matter(self, names: list[str], form: str) -> None:
        text = form.format(", ".join(names))
        for city in CAPITALS.questions:
            verdict = CAPITALS.verdict(city, text)
            for other in (text.upper(), text.lower(), text.title(), text.swapcase()):
                assert CAPITALS.verdict(city, other) is verdict

    @settings(max_examples=100, deadline=None)
    @given(st.text(st.characters(exclude_categories=("Cc", "Cs", "Zl", "Zp")), max_size=12))
    def test_any_answer_accepts_itself(self, answer: str) -> None:
        question = make_question(answer)
        for name in ("match", "exact"):
            verdict = grade_one(make_grader(name, [question]), question, answer, False).verdict
            assert verdict is not Verdict.INCORRECT

    @pytest.mark.parametrize(
        "unit",
        [
            "Paris ",
            "I ",
            "In ",
            "OK, ",
            "U.",
            "a.",
            "'",
            ".is",
            "1-242 ",
            "1,",
            "é",
            "Guinea ",
            "the ",
        ],
    )
    def test_long_texts_take_no_time(self, unit: str) -> None:
        text = (unit * 10_000)[:10_000]
        started = time.perf_counter()
        for world in ALL_WORLDS:
            world.grade(next(iter(world.questions)), text, cut=True)
        assert time.perf_counter() - started < 5


@pytest.fixture(scope="module")
def questions() -> list[Question]:
    return load_worldfacts()


@pytest.fixture(scope="module")
def grader(questions: list[Question]) -> Grader:
    return make_grader("match", questions)


class TestWorldfacts:
    """The built-in fact set agrees with itself."""

    FORMS = (
        "{}", " {}\n", "{}.", "The answer is {}.", "It is {}, I think.", "**{}**", '"{}"',
        "Answer: {}", "I believe that the correct answer is {}, but I am not sure.",
    )  # fmt: skip

    def test_every_accepted_answer_is_correct(
        self, questions: list[Question], grader: Grader
    ) -> None:
        exact = make_grader("exact", questions)
        wrong = []
        for question in questions:
            for answer in question.answers:
                if grade_one(exact, question, answer, False).verdict is not Verdict.CORRECT:
                    wrong.append((question.text, answer))
                for form in self.FORMS:
                    text = form.format(answer)
                    if grade_one(grader, question, text, False).verdict is not Verdict.CORRECT:
                        wrong.append((question.text, text))
        assert not wrong

    def test_answers_of_other_entities_are_incorrect(
        self, questions: list[Question], grader: Grader
    ) -> None:
        generator = random.Random(0)
        of_relation = defaultdict(list)
        for question in questions:
            of_relation[question.relation].append(question)
        wrong, pairs = [], 0
        while pairs < 2000:
            question = generator.choice(questions)
            other = generator.choice(of_relation[question.relation])
            if set(question.answers) & set(other.answers):
                continue
            pairs += 1
            answer, own = generator.choice(other.answers), generator.choice(question.answers)
            for form in (
                *self.FORMS,
                f"{own} or {{}}",
                f"{{}}, {own}",
                f"{own}/{{}}",
                f"{{}}\n{own}",
            ):
                text = form.format(answer)
                if grade_one(grader, question, text, False).verdict is not Verdict.INCORRECT:
                    wrong.append((question.text, text))
        assert not wrong

    def test_echo_of_the_question_is_incorrect(
        self, questions: list[Question], grader: Grader
    ) -> None:
        credited = {
            question.text
            for question in questions
            if grade_one(grader, question, question.text, False).verdict is Verdict.CORRECT
        }
        assert not credited

    def test_speed(self, questions: list[Question], grader: Grader) -> None:
        texts = [f"The answer is {question.answers[0]}, I think." for question in questions]
        started = time.perf_counter()
        for question, text in zip(questions, texts, strict=True):
            grade_one(grader, question, text, True)
        assert (time.perf_counter() - started) / len(texts) < 1e-3


@pytest.mark.parametrize(
    ("text", "is_right"),
    [
        ("26", True), ("It is 26.", True), ("Iron has 26 protons.", True), ("twenty-six", True),
        ("not 26", False), ("It is not 26.", False), ("not twenty-six", False),
        ("26 or 500", False), ("It is not 26 but 200.", False), ("not 27 but 26", False),
        ("It is not 26. Wait: 26.", True),
    ],
)  # fmt: skip
def test_a_number_is_taken_back_by_what_stands_beside_it(
    grader: Grader, questions: list[Question], text: str, is_right: bool
) -> None:
    iron = next(q for q in questions if q.relation == "atomic_number" and q.answers == ("26",))
    assert (grade_one(grader, iron, text).verdict is Verdict.CORRECT) is is_right


@pytest.mark.parametrize(
    ("text", "is_right"),
    [
        ("It is not in Paris.", False), ("It cannot be Paris.", False), ("isn't in Paris", False),
        ("neither Paris nor Lyon", False), ("Anything but Paris", False),
        ("Lyon rather than Paris", False), ("hardly Paris", False),
        ("not only Paris", True), ("It is not Lyon but Paris.", True),
        ("It is not the largest one, but it is Paris.", True),
        ("It could not be clearer: Paris", True), ("Why, Paris, of course not Lyon", True),
    ],
)  # fmt: skip
def test_denials(text: str, is_right: bool) -> None:
    assert (CAPITALS.verdict("Paris", text) is Verdict.CORRECT) is is_right
