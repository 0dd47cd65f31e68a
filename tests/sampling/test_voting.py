"""Majority votes, and the answer at the end of a chain of thought."""

import math

import pytest

from attrib.data.questions import AnswerType, Question, Split
from attrib.sampling.engine import FinishReason, Rollout
from attrib.sampling.prompts import choose_prompt_style
from attrib.sampling.voting import final_answer, reasoning_style, vote


def ask(answer_type: AnswerType = AnswerType.NAME, *answers: str) -> Question:
    accepted = answers or ("Côte d'Ivoire", "Ivory Coast")
    return Question(
        "q", "d", Split.HELD_OUT, "Which?", accepted, answer_type, None, None, "f", None
    )


def rollout(text: str, p: float | None = 0.1, index: int = 0) -> Rollout:
    logprob = None if p is None else math.log(p)
    token_ids = tuple(map(ord, text))
    return Rollout(index, text, token_ids, len(text), logprob, FinishReason.STOP)


def winner(question: Question, *rollouts: Rollout) -> str:
    chosen = vote(question, rollouts)
    assert chosen is not None
    return chosen.text


def test_most_votes_win_however_improbable() -> None:
    votes = [rollout("Peru", 0.5), rollout("Chile", 0.01), rollout("Chile", 0.01)]
    assert winner(ask(), *votes) == "Chile"


def test_ties_go_to_the_more_probable_answer() -> None:
    assert winner(ask(), rollout("Peru", 0.2), rollout("Chile", 0.3)) == "Chile"
    assert winner(ask(), rollout("Chile", 0.3), rollout("Peru", 0.2)) == "Chile"


def test_a_tie_counts_each_distinct_response_once() -> None:
    peru = [rollout("Peru", 0.20), rollout("Peru", 0.20)]  # one response, drawn twice
    chile = [rollout("Chile", 0.15), rollout("Chile.", 0.15)]
    assert winner(ask(), *peru, *chile) in ("Chile", "Chile.")


def test_equal_ties_are_broken_alike_in_any_order() -> None:
    votes = [rollout("Peru"), rollout("Chile"), rollout("Cuba")]
    assert winner(ask(), *votes) == winner(ask(), *reversed(votes))


@pytest.mark.parametrize(
    "spelling", ["Cote d’Ivoire", "  côte d'ivoire.", "The Côte d'Ivoire!", "COTE DIVOIRE"]
)
def test_spellings_are_pooled(spelling: str) -> None:
    pooled = [rollout("Côte d'Ivoire"), rollout(spelling)]
    assert winner(ask(), rollout("Peru", 0.6), *pooled) in ("Côte d'Ivoire", spelling)


def test_aliases_are_not_pooled_since_only_those_of_right_answers_are_known() -> None:
    votes = [rollout("Côte d'Ivoire"), rollout("Ivory Coast"), rollout("Peru"), rollout("Peru")]
    assert winner(ask(), *votes) == "Peru"


def test_the_most_probable_response_speaks_for_its_answer() -> None:
    votes = [rollout("peru", 0.1), rollout("Peru", 0.3), rollout("PERU.", 0.2)]
    assert winner(ask(), *votes) == "Peru"


def test_codes_compare_by_their_case_and_numbers_by_their_value() -> None:
    code = ask(AnswerType.CODE, "Co")
    assert winner(code, rollout("Co", 0.3), rollout("CO"), rollout("CO")) == "CO"
    number = ask(AnswerType.NUMBER, "1200")
    assert winner(number, rollout("7", 0.5), rollout("1,200"), rollout("1200", 0.2)) == "1200"


def test_responses_that_compare_as_nothing_are_pooled_by_their_text() -> None:
    assert winner(ask(), rollout(""), rollout("  "), rollout("Peru", 0.9)).strip() == ""
    assert winner(ask(), rollout("…"), rollout("?!"), rollout("Peru", 0.9)) == "Peru"


def test_rollouts_that_failed_do_not_vote() -> None:
    failed = [Rollout.failed(index) for index in range(3)]
    assert winner(ask(), *failed, rollout("Peru")) == "Peru"
    assert vote(ask(), failed) is None
    assert vote(ask(), []) is None


def test_unknown_probabilities_count_as_none() -> None:
    assert winner(ask(), rollout("Peru", None), rollout("Chile", 0.01)) == "Chile"
    assert winner(ask(), rollout("Peru", None), rollout("Chile", None)) in ("Peru", "Chile")


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("Peru lies there.\nAnswer: Lima", "Lima"),
        ("Answer: Quito? No.\nANSWER : Lima\nThat is all.", "Lima"),
        ("Thinking.\nAnswer:\n\nLima\n", "Lima"),
        ("So the answer is:\n**Answer: Lima**", "Lima"),
        ("The answer: Lima", "Lima"),
        ("It is in Peru.\n\nLima  \n\n", "Lima"),
        ("Lima", "Lima"),
        ("Answer:", ""),
        ("", ""),
        (" \n ", ""),
    ],
)
def test_the_answer_at_the_end_of_a_chain_of_thought(text: str, answer: str) -> None:
    assert final_answer(text) == answer


def test_reasoning_is_asked_for_in_the_place_of_the_plain_answer() -> None:
    chat = choose_prompt_style(is_chat=True)
    reasoned = reasoning_style(chat)
    assert reasoned.template == chat.template
    assert reasoned.system is not None
    assert "step by step" in reasoned.system
    assert "as short as possible." in str(chat.system)

    plain = reasoning_style(choose_prompt_style(is_chat=False))
    assert plain.system is None
    assert plain.fill("Which?").startswith("Q: Which?\n")
    assert "'Answer:'" in plain.template
    assert plain.stop == ("\nQ:",)  # a chain of thought has more than one line
