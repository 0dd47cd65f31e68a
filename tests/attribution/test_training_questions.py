"""Cuts and votes on training questions, against plain loops over a small study; votes by hand."""

from collections.abc import Callable
from itertools import combinations

import numpy as np
import polars as pl
import pytest

from attrib.analysis.majority import majority_at_k
from attrib.attribution.ballots import count_drawn, count_sampled, list_votes, spread
from attrib.attribution.effect import Effect
from attrib.attribution.effects import estimate_effects
from attrib.attribution.outcomes import Place
from attrib.attribution.votes import compare_votes, describe_curve, hold_vote
from attrib.data.library import store_questions
from attrib.data.questions import AnswerType, Question, Split
from attrib.roles import Role
from attrib.store import Store

N, QUESTIONS, SEEDS = 8, 40, 4
RIGHT = "accepted: a"
FULL, BASE = Place(Role.FULL, "full"), Place(Role.BASE, "none")


class Study:
    """Outcomes drawn at random, and the store that holds them."""

    def __init__(self, store: Store) -> None:
        generator = np.random.default_rng(5)
        self.store = store
        self.ids = [f"t{i:02}" for i in range(QUESTIONS)]
        self.drawn = [
            [RIGHT if generator.random() < p else f"another answer: {generator.integers(3)}"
             for _ in range(N)] for p in generator.beta(0.5, 1.0, QUESTIONS)
        ]  # fmt: skip
        self.correct_Q = np.array([said.count(RIGHT) for said in self.drawn])
        self.before_Q = generator.random(QUESTIONS) < self.correct_Q / N
        self.after_SQ = generator.random((SEEDS, QUESTIONS)) < 0.8
        self.weight_SQ = generator.gamma(1.0, 1.0, (SEEDS, QUESTIONS))
        self.weight_SQ[:, ::5] = 0.0  # these are never visited
        self.rewarded_SQ = (generator.random((SEEDS, QUESTIONS)) < 0.5) & (self.weight_SQ > 0)
        with store.writing("test"):
            self._write()

    def _write(self) -> None:
        questions = [
            Question(one, "d", split, "?", ("a",), AnswerType.NAME, None, "r", one, None)
            for one, split in [*((one, Split.TRAIN) for one in self.ids), ("h", Split.HELD_OUT)]
        ]
        store_questions(self.store, "d", "d", "hash", questions)
        answers = self.store.read("SELECT answers_hash FROM questions LIMIT 1").item()
        said = [(q, r, d) for q, all_of in zip(self.ids, self.drawn, strict=True)
                for r, d in enumerate([*all_of, RIGHT])]  # fmt: skip
        rollouts = [
            {"sample_set_id": "s", "question_id": q, "rollout": r, "text": d, "token_ids": [1],
             "tokens": 1, "finish_reason": "stop"} for q, r, d in said
        ]  # fmt: skip
        verdicts = [
            {"question_id": q, "answers_hash": answers, "text": d, "truncated": False,
             "grader": "match-0", "detail": d,
             "verdict": "correct" if d == RIGHT else "incorrect"} for q, _, d in said
        ]  # fmt: skip
        buckets = [
            {"bucketing_id": "b", "question_id": q, "n": N, "correct": int(c),
             "bucket": "never-correct" if c == 0 else "sometimes-correct", "p_low": 0.0,
             "p_high": 1.0} for q, c in zip(self.ids, self.correct_Q, strict=True)
        ]  # fmt: skip
        bucketing = {"bucketing_id": "b", "sample_set_id": "s", "grader": "match-0", "k": N,
                     "cuts": "{}"}  # fmt: skip
        with self.store.transaction() as batch:
            batch.append("rollouts", pl.DataFrame(rollouts))
            batch.append("verdicts", pl.DataFrame(verdicts).unique())
            batch.append("buckets", pl.DataFrame(buckets))
            batch.append("bucketings", pl.DataFrame([bucketing]))
            experiment = {"experiment_id": "e", "bucketing_id": "b", "params": "{}"}
            batch.append("experiments", pl.DataFrame([experiment]))
            self._write_arm(batch, BASE, 0, self.before_Q)
            for seed in range(SEEDS):
                self._write_arm(batch, FULL, seed, self.after_SQ[seed])
                visits = [
                    {"arm_id": f"full{seed}", "step": 1, "visit": 2 * i + half, "question_id": q,
                     "rollouts": 4, "informative": True, "gradient_weight": weight / 2,
                     "correct": int(half and self.rewarded_SQ[seed, i])}
                    for i, (q, weight) in enumerate(
                        zip(self.ids, self.weight_SQ[seed], strict=True)) if weight
                    for half in range(2)
                ]  # fmt: skip
                batch.append("visits", pl.DataFrame(visits))

    def _write_arm(self, batch: object, place: Place, seed: int, right_Q: np.ndarray) -> None:
        arm, step = {"arm_id": f"{place.role}{seed}"}, int(place.role is not Role.BASE)
        run = {"method": "grpo", "seed": seed, "params": "{}", "questions": 1, "status": "done"}
        costs = ("visits", "rollouts", "informative_groups", "gradient_tokens", "seconds")
        reached = {"fraction": float(step), "step": step, **dict.fromkeys(costs, 0)}
        role = {"experiment_id": "e", "subset": place.subset, "role": str(place.role)}
        rows = [
            {**arm, "step": step, "question_id": q, "decoding": "greedy", "rollout": 0,
             "text": "x", "verdict": "correct" if right else "incorrect", "detail": "",
             "eval_grader": "match-0"}
            for q, right in [*zip(self.ids, right_Q, strict=True), ("h", True)]
        ]  # fmt: skip
        for table, row in (("training_runs", run), ("arm_roles", role), ("milestones", reached)):
            batch.append(table, pl.DataFrame([arm | row]))  # type: ignore[attr-defined]
        batch.append("evaluations", pl.DataFrame(rows))  # type: ignore[attr-defined]


@pytest.fixture
def study(open_store: Callable[..., Store]) -> Study:
    return Study(open_store())


def find(effects: list[Effect], role: Role, statistic: str, on: str) -> Effect:
    [found] = [e for e in effects if (e.role, e.statistic, e.evaluated_on) == (role, statistic, on)]
    return found


def test_what_hangs_on_the_cut(study: Study) -> None:
    effects = estimate_effects(study.store, "e")
    change_Q = study.after_SQ.mean(axis=0) - study.before_Q
    for cut in (0, 1, 2, 4):
        on, under = f"train:cut={cut}", study.correct_Q <= cut
        share = find(effects, Role.FULL, "cut_gain_share", on)
        assert share.value == pytest.approx(change_Q[under].sum() / change_Q.sum())
        assert (share.questions, share.seeds) == (under.sum(), SEEDS)
        weight = find(effects, Role.FULL, "cut_gradient_share", on)
        want = study.weight_SQ[:, under].sum() / study.weight_SQ.sum()
        assert weight.value == pytest.approx(want)
        rewarded = find(effects, Role.FULL, "cut_rewarded", on)
        assert rewarded.value == pytest.approx(study.rewarded_SQ[:, under].mean())
        for effect in (share, weight, rewarded):
            assert effect.low <= effect.value <= effect.high  # type: ignore[operator]
    assert not [e for e in effects if e.evaluated_on == "train:cut=8"]  # all are under it


def test_votes_of_the_rollouts_against_answers_after(study: Study) -> None:
    """Only the first k rollouts vote: one more that is right for every question is there."""
    effects = estimate_effects(study.store, "e")
    win_Q = []
    for said in study.drawn:
        most = max(said.count(one) for one in said)
        tied = [one for one in set(said) if said.count(one) == most]
        win_Q.append((RIGHT in tied) / len(tied))
    never_Q = study.correct_Q == 0
    for on, member_Q in (("train", np.ones(QUESTIONS, bool)), ("train:never-correct", never_Q)):
        vote = find(effects, Role.BASE, f"maj@{N}", on)
        assert vote.value == pytest.approx(np.array(win_Q)[member_Q].mean())
        gain = find(effects, Role.FULL, "gain_over_majority", on)
        after = study.after_SQ[:, member_Q].mean()
        assert gain.value == pytest.approx(after - np.array(win_Q)[member_Q].mean())
        assert gain.questions == member_Q.sum()


def test_equal_texts_are_counted(study: Study, monkeypatch: pytest.MonkeyPatch) -> None:
    """Counts by answer are those of a loop over rollouts, however many questions at a time."""
    monkeypatch.setattr("attrib.attribution.ballots.QUESTIONS_AT_ONCE", 7)
    counted = count_drawn(study.store, "e", study.ids)
    assert counted["votes"].sum() == N * QUESTIONS
    found = {
        (q, answer): n for q, answer, n in counted["question_id", "answer", "votes"].iter_rows()
    }
    for question_id, said in zip(study.ids, study.drawn, strict=True):
        for one in set(said):
            answer = "right" if one == RIGHT else one
            assert found[question_id, answer] == said.count(one)
    assert count_sampled(study.store, "e", study.ids).is_empty()


def count(*votes: tuple[str, str, int]) -> pl.DataFrame:
    run = {"role": "base", "subset": "none", "seed": 0, "fraction": 0.0}
    return pl.DataFrame(
        [{**run, "question_id": q, "answer": answer, "votes": n} for q, answer, n in votes]
    )


COUNTED = count(
    ("a", "right", 2), ("a", "x", 2), ("a", "y", 2),  # a third
    ("b", "right", 1), ("b", "x", 5),
    ("c", "right", 6),
    ("d", "right", 1),  # too few
    ("e", "x", 3), ("e", "y", 3),
)  # fmt: skip


def test_how_samples_spread_by_hand() -> None:
    rows = {row["question_id"]: row for row in spread(COUNTED).iter_rows(named=True)}
    assert [rows[q]["win"] for q in "abce"] == pytest.approx([1 / 3, 0, 1, 0])
    assert [rows[q]["rank_of_right"] for q in "abce"] == [1, 2, 1, None]
    assert rows["a"]["entropy"] == pytest.approx(np.log(3))
    assert rows["c"]["entropy"] == 0
    assert [rows[q]["is_right"] for q in "abce"] == [True, False, True, False]


def test_questions_with_fewer_votes_are_left_out() -> None:
    before = hold_vote(COUNTED, list("eabdcf"))  # nobody voted on f
    assert before is not None
    assert before.n == 6
    assert before.has_votes_Q.tolist() == [True, True, True, False, True, False]
    assert before.win_Q.tolist() == pytest.approx([0, 1 / 3, 0, 0, 1, 0])
    after = np.array([[True, True, False, True, True, True]])
    [effect] = compare_votes(before, FULL, 1.0, after, {"held-out": np.ones(6, bool)})
    assert effect.value == pytest.approx(3 / 4 - 1 / 3)
    assert effect.questions == 4
    assert hold_vote(COUNTED, ["f"]) is None


def test_the_curve_is_that_of_all_subsets() -> None:
    before = hold_vote(COUNTED, list("abce"))
    assert before is not None
    curve = {effect.statistic: effect.value for effect in describe_curve(before, BASE, "held-out")}
    assert list(curve) == ["maj@1", "maj@2", "maj@4", "maj@6"]
    ballots = [["r", "r", "x", "x", "y", "y"], ["r", *"xxxxx"], ["r"] * 6, [*"xxxyyy"]]
    for k in (1, 2, 4, 6):
        wins = []
        for ballot in ballots:
            for chosen in combinations(ballot, k):
                most = max(map(chosen.count, chosen))
                tied = {one for one in chosen if chosen.count(one) == most}
                wins.append(("r" in tied) / len(tied))
        assert curve[f"maj@{k}"] == pytest.approx(np.mean(wins))
    votes = list_votes(before.counted)
    again = majority_at_k(votes, [6], np.random.default_rng(0)).value_QK.mean()
    assert curve["maj@6"] == pytest.approx(again)
