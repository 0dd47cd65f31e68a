"""Changes: labels from what the base said, rates of answers, ballots; all on a hand-made study."""

import math
from collections.abc import Callable, Sequence

import polars as pl
import pytest

from attrib.attribution.changes import describe_changes
from attrib.attribution.effect import Effect
from attrib.attribution.outcomes import Place
from attrib.data.library import store_questions
from attrib.data.questions import AnswerType, Question, Split
from attrib.roles import Role
from attrib.store import Store

FULL = Place(Role.FULL, "full")
RIGHT, OTHER, NOTHING = "accepted: a", "another answer: b", "no accepted answer"
SEVERAL, CUT = "another answer besides a: b", "cut off inside the answer: x"
# Two questions of each relation; greedy answers of the base, then of the full arm by seed.
BASE = [RIGHT, OTHER, NOTHING, CUT, SEVERAL, NOTHING]
AFTER = [
    [RIGHT, RIGHT, RIGHT, RIGHT, OTHER, NOTHING],
    [OTHER, RIGHT, RIGHT, NOTHING, RIGHT, NOTHING],
]
# Samples of the base: the right answer of the second question is its second most frequent, of the
# third its third; of the others it was not drawn.
SAMPLES = [
    [RIGHT, RIGHT, OTHER, OTHER],
    [OTHER, OTHER, RIGHT, NOTHING],
    [OTHER, OTHER, NOTHING, NOTHING, RIGHT],
    [OTHER, OTHER, OTHER, OTHER],
    [NOTHING, NOTHING, NOTHING, NOTHING],
    [NOTHING, NOTHING, OTHER, OTHER],
]
MASSES = [0.5, 0.1, 0.0, 0.01, 0.0001, 0.0]


def make_rows(arm: str, step: int, decoding: str, details: Sequence[Sequence[str]]) -> pl.DataFrame:
    rows = [
        {
            "arm_id": arm,
            "step": step,
            "question_id": f"h{question}",
            "decoding": decoding,
            "rollout": rollout,
            "text": "two words" if detail == NOTHING else detail,
            "verdict": "correct" if detail == RIGHT else "incorrect",
            "detail": detail,
            "eval_grader": "match-0",
            "logprob": -2.0,
        }
        for question, mine in enumerate(details)
        for rollout, detail in enumerate(mine)
    ]
    return pl.DataFrame(rows)


@pytest.fixture
def effects(open_store: Callable[..., Store]) -> list[Effect]:
    store = open_store()
    questions = [
        Question(f"{letter}{i}", "d", split, "?", ("a",), AnswerType.NAME, None, f"r{i // 2}",
                 f"{i}", None if i == 0 else 10 * i)
        for letter, split in (("h", Split.HELD_OUT), ("t", Split.TRAIN)) for i in range(6)
    ]  # fmt: skip
    costs = ("visits", "rollouts", "informative_groups", "gradient_tokens", "seconds")
    experiment = {"experiment_id": "e", "bucketing_id": "b", "params": "{}"}
    arms = [
        ("base", Role.BASE, "none", 0),
        ("f0", Role.FULL, "full", 0),
        ("f1", Role.FULL, "full", 1),
    ]
    bucket = {"bucketing_id": "b", "question_id": "t0", "n": 16, "correct": 0,
              "bucket": "never-correct", "p_low": 0.0, "p_high": 1.0}  # fmt: skip
    with store.writing("test"):
        store_questions(store, "d", "d", "hash", questions)
        with store.transaction() as batch:
            batch.append("buckets", pl.DataFrame([bucket]))
            batch.append("experiments", pl.DataFrame([experiment]))
            for arm, role, subset, seed in arms:
                step = 0 if role is Role.BASE else 4
                row = {"arm_id": arm, "method": "grpo", "seed": seed, "params": "{}",
                       "questions": 1, "status": "done"}  # fmt: skip
                place = {"experiment_id": "e", "arm_id": arm, "subset": subset, "role": str(role)}
                milestone = {"arm_id": arm, "fraction": float(step > 0), "step": step}
                batch.append("training_runs", pl.DataFrame([row]))
                batch.append("arm_roles", pl.DataFrame([place]))
                batch.append("milestones", pl.DataFrame([milestone | dict.fromkeys(costs, 0)]))
                greedy = BASE if role is Role.BASE else AFTER[seed]
                batch.append("evaluations", make_rows(arm, step, "greedy", [[d] for d in greedy]))
            batch.append("evaluations", make_rows("base", 0, "sample", SAMPLES))
            masses = [
                {"arm_id": "base", "question_id": f"h{i}", "greedy_rank": 1, "logprob": -1.0,
                 "mass_low": mass} for i, mass in enumerate(MASSES)
            ]  # fmt: skip
            batch.append("masses", pl.DataFrame(masses))
    return describe_changes(store, "e", {FULL: 1.0})


def parts(effects: Sequence[Effect], kind: str, statistic: str = "gain_part") -> dict[str, float]:
    start = f"held-out:{kind}="
    return {
        effect.evaluated_on.removeprefix(start): effect.value or 0.0
        for effect in effects
        if effect.evaluated_on.startswith(start) and effect.statistic == statistic
    }


def rates(effects: Sequence[Effect], role: Role) -> dict[str, float]:
    return {
        effect.statistic: effect.value or 0.0
        for effect in effects
        if effect.role is role and effect.evaluated_on == "held-out"
    }


def test_what_the_base_said(effects: list[Effect]) -> None:
    assert parts(effects, "before") == pytest.approx(
        {"right": -1 / 12, "another answer": 2 / 12, "no answer": 2 / 12, "cut off": 1 / 12,
         "several answers": 1 / 12}
    )  # fmt: skip
    assert parts(effects, "before", "gain")["no answer"] == pytest.approx(1 / 2)
    assert parts(effects, "before", "lost_part")["right"] == pytest.approx(1 / 12)


def test_where_the_right_answer_was(effects: list[Effect]) -> None:
    """The fourth was not drawn, but has more than a thousandth of the probability."""
    assert parts(effects, "reach") == pytest.approx(
        {"greedy": -1 / 12, "top 2": 2 / 12, "tail": 3 / 12, "nowhere": 1 / 12}
    )


def test_relations_and_popularity(effects: list[Effect]) -> None:
    assert parts(effects, "relation") == pytest.approx({"r0": 1 / 12, "r1": 3 / 12, "r2": 1 / 12})
    assert parts(effects, "popularity") == pytest.approx(
        {"unknown": -1 / 12, "1 (up to 10)": 2 / 12, "2 (up to 30)": 3 / 12, "3 (up to 50)": 1 / 12}
    )
    for kind in ("before", "reach", "relation", "popularity"):
        assert sum(parts(effects, kind).values()) == pytest.approx(5 / 12)


def test_how_many_name_one_answer(effects: list[Effect]) -> None:
    base, full = rates(effects, Role.BASE), rates(effects, Role.FULL)
    assert base["one_answer"] == pytest.approx(2 / 6)
    assert base["accuracy_of_one_answer"] == pytest.approx(1 / 2)
    assert base["several_answers"] == base["cut_off"] == pytest.approx(1 / 6)
    assert base["no_answer"] == pytest.approx(2 / 6)
    assert full["one_answer"] == pytest.approx(9 / 12)
    assert full["accuracy_of_one_answer"] == pytest.approx(7 / 9)


def test_ballots(effects: list[Effect]) -> None:
    base = rates(effects, Role.BASE)
    assert base["top_answer_share"] == pytest.approx((0.5 + 0.5 + 0.4 + 1 + 1 + 0.5) / 6)
    # Right by its samples: the first question (a tie).
    right = [1, 0, 0, 0, 0, 0]
    shares = [0.5, 0.5, 0.4, 1, 1, 0.5]
    brier = sum((share - one) ** 2 for share, one in zip(shares, right, strict=True)) / 6
    assert base["brier"] == pytest.approx(brier)
    assert "top_answer_share" not in rates(effects, Role.FULL)  # it has no samples


def test_changes_are_paired(effects: list[Effect]) -> None:
    """Answers of the full arm less those of the base; its probabilities are not known."""
    full, base = rates(effects, Role.FULL), rates(effects, Role.BASE)
    assert full["one_answer_change"] == pytest.approx(9 / 12 - 2 / 6)
    assert full["cut_off_change"] == pytest.approx(-1 / 6)
    assert full["several_answers_change"] == pytest.approx(-1 / 6)
    lengths = [
        [len("two words" if said == NOTHING else said) for said in run] for run in [BASE, *AFTER]
    ]
    assert base["answer_characters"] == pytest.approx(sum(lengths[0]) / 6)
    change = sum(map(sum, lengths[1:])) / 12 - sum(lengths[0]) / 6
    assert full["answer_characters_change"] == pytest.approx(change)
    assert base["mass_of_answers"] == pytest.approx(sum(MASSES) / 6)
    assert not {"mass_of_answers_change", "answer_tokens"} & full.keys()


def test_right_samples_are_a_bound_on_the_probability(effects: list[Effect]) -> None:
    """Three questions have right samples, each the same text, once of probability e^-2."""
    found = rates(effects, Role.BASE)["mass_of_samples"]
    assert found == pytest.approx(3 * math.exp(-2.0) / 6)
