"""Scores of visits on a linear policy, whose gradients are written out by hand in numpy."""

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import polars as pl
import pytest
import torch
from numpy.typing import NDArray

from attrib.attribution import trainer as training
from attrib.attribution.arms import Arm
from attrib.attribution.forest import plant
from attrib.attribution.groups import Group
from attrib.attribution.held_out_gradients import HeldOut, Target, find_gradients, performance
from attrib.attribution.influence import Scoring, ScoringTrainer
from attrib.attribution.ledger import Visit, begin_run
from attrib.attribution.policy import Policy
from attrib.attribution.projection import Projection
from attrib.attribution.score_methods import ScoreMethod
from attrib.attribution.settings import TrainSettings
from attrib.attribution.trainer import Run
from attrib.data.questions import AnswerType, Question, Split
from attrib.errors import StoreError, TrainingError
from attrib.roles import Role
from attrib.sampling.graders import make_grader
from attrib.sampling.verdicts import Verdicts
from attrib.store import Store

VOCABULARY, END = 12, 3
RATE, BETA1, BETA2, EPSILON, LARGEST_NORM = 0.05, 0.9, 0.95, 1e-8, 0.4
BOTH = (ScoreMethod.TRACIN, ScoreMethod.TRACIN_ADAM)
HELD_OUT = {"h1": (4, ((5, END), (6, 7, END))), "h2": (8, ((9, END),))}
"""Last token of the prompt and accepted answers of the held-out questions."""

Array = NDArray[np.float64]


class Bigram(torch.nn.Module):
    """A linear policy: the logits of the next token are the row of the last one."""

    config = SimpleNamespace(model_type="bigram")
    config.get_text_config = lambda: Bigram.config

    def __init__(self) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.rows = torch.nn.Parameter(torch.randn(VOCABULARY, VOCABULARY, generator=generator))

    dtype, device = torch.float32, torch.device("cpu")

    def forward(self, input_ids: torch.Tensor, **others: object) -> SimpleNamespace:
        return SimpleNamespace(logits=self.rows[input_ids])


def make_question(name: str) -> Question:
    return Question(
        name, "d", Split.TRAIN, f"{name}?", ("x",), AnswerType.NAME, None, None, name, None
    )


def rollouts_of(name: str, epoch: int) -> tuple[int, tuple[tuple[int, ...], ...], Array]:
    """Return a question's prompt, its rollouts in an epoch, and which are right.

    Copies, "a" and "a2", have the same.
    """
    place = "abcd".index(name[0])
    completions = (
        (4 + (place + epoch) % 5, END),
        (4 + (place + 2 * epoch + 1) % 5, 5 + place, END),
        (9, 10, END),
        (11, END),
    )
    right = np.array([True, (place + epoch) % 2 == 0, False, place == 3])
    return 4 + 2 * place, completions, right


class Epochs:
    """Groups that are known for every question and epoch."""

    rollouts_per_visit = 4

    def __init__(self, questions: int, stop_at: int | None = None) -> None:
        self.questions, self.stop_at = questions, stop_at

    def visit(self, first: int, questions: Sequence[Question]) -> list[Visit]:
        visits = []
        for number, question in enumerate(questions, start=first):
            if number == self.stop_at:
                raise KeyboardInterrupt
            prompt, completions, right = rollouts_of(question.text[:-1], number // self.questions)
            group = Group(question.question_id, (1, prompt), completions, right)
            visits.append(Visit(number, question, group, 4, group.has_both))
        return visits


Score = Callable[..., pl.DataFrame]


@pytest.fixture
def score(
    tmp_path: Path, open_store: Callable[..., Store], make_policy: Callable[..., Policy]
) -> Score:
    """Return `score(names, updates, checkpoints)`, each update an epoch; again, it goes on."""

    def run(
        names: Sequence[str],
        updates: int = 4,
        checkpoints: int = 2,
        *,
        rank: int = 0,
        target: Target = Target.LOG_PROBABILITY,
        stop_at: int | None = None,
        name: str = "replay",
        norms: dict[int, float] | None = None,
        keeps_parts: bool = True,
        **changes: object,
    ) -> pl.DataFrame:
        settings = TrainSettings(
            **{
                "budget": f"updates={updates}",
                "fill": "none",
                "groups": len(names),
                "learning_rate": RATE,
                "schedule": "linear",
                "max_gradient_norm": LARGEST_NORM,
                **changes,
            }
        )
        questions = tuple(make_question(one) for one in names)
        arm = Arm("full", Role.FULL, questions, {"method": "grpo"}, seed=3)
        policy = make_policy(Bigram(), has_reference=settings.kl > 0)
        store, source = open_store(f"{name}.duckdb"), Epochs(len(names), stop_at)
        groups = {
            f"question={one}": Group(
                one, (2, prompt), answers, np.ones(len(answers), dtype=np.bool_)
            )
            for one, (prompt, answers) in HELD_OUT.items()
        }
        scoring = Scoring(
            methods=BOTH,
            held_out=HeldOut({"part": tuple(groups.values())}, groups),
            target=target,
            projection=Projection(policy.trained, rank),
            gradients_at=tmp_path / f"{name}.gradients",
            norms=norms or dict.fromkeys(range(1, updates + 1), math.nan),  # not held against
            keeps_parts=keeps_parts,
        )
        with store.writing("attrib test"):
            begin_run(store, arm, "attrib attribute")
            ScoringTrainer(
                Run(
                    store=store,
                    arm=arm,
                    policy=policy,
                    source=source,  # type: ignore[arg-type]
                    verdicts=Verdicts(store, make_grader("match", [])),
                    settings=settings,
                    longest=4,
                    temperature=1.0,
                    tokens_at_once=1000,
                    checkpoint=tmp_path / f"{name}.safetensors",
                    evaluate_at=tuple(i / checkpoints for i in range(1, checkpoints)),
                ),
                scoring,
            ).train()
        return store.read("SELECT * FROM visit_scores ORDER BY visit, method, evaluated_on")

    return run


def softmax(row: Array) -> Array:
    raised = np.exp(row - row.max())
    return raised / raised.sum()


def logprob(rows: Array, last: int, answer: Sequence[int]) -> tuple[float, Array]:
    """Return log π of an answer after token `last`, and its gradient."""
    total, gradient = 0.0, np.zeros_like(rows)
    for token in answer:
        p = softmax(rows[last])
        total += np.log(p[token])
        gradient[last] -= p
        gradient[last, token] += 1.0
        last = token
    return total, gradient


def held_out_gradient(rows: Array, name: str, target: Target) -> Array:
    prompt, answers = HELD_OUT[name]
    found = [logprob(rows, prompt, answer) for answer in answers]
    summed = sum(np.exp(value) * gradient for value, gradient in found)
    if target is Target.REWARD:
        return summed
    return summed / sum(np.exp(value) for value, _ in found)


def visit_gradient(rows: Array, name: str, epoch: int, groups: int) -> Array:
    prompt, completions, right = rollouts_of(name, epoch)
    reward = right.astype(float)
    advantage = (reward - reward.mean()) / (reward.std(ddof=1) + 1e-4)
    return -sum(
        a / len(o) / len(completions) / groups * logprob(rows, prompt, o)[1]
        for a, o in zip(advantage, completions, strict=True)
    )


def score_by_hand(names: Sequence[str], updates: int, refreshed: set[int], target: Target):
    """Return {(method, question, epoch, evaluated on): score} of a run with Adam in numpy."""
    rows = Bigram().rows.detach().double().numpy()
    first, second = np.zeros_like(rows), np.zeros_like(rows)
    found, held_out = {}, {}
    for epoch in range(updates):
        if epoch in refreshed:
            held_out = {name: held_out_gradient(rows, name, target) for name in HELD_OUT}
        rate = RATE * (1 - (epoch + 0.5) / updates)
        gradients = {n: visit_gradient(rows, n, epoch, len(names)) for n in names}
        whole = sum(gradients.values())
        clipping = min(1.0, LARGEST_NORM / (np.sqrt((whole**2).sum()) + 1e-6))
        clipped, steps = clipping * whole, epoch + 1
        first = BETA1 * first + (1 - BETA1) * clipped
        second = BETA2 * second + (1 - BETA2) * clipped**2
        scale = 1 / (np.sqrt(second / (1 - BETA2**steps)) + EPSILON)
        for name, gradient in gradients.items():
            for method, d in zip(BOTH, (1.0, scale), strict=True):
                each = {
                    f"question={q}": -rate * clipping * (gradient * d * h).sum()
                    for q, h in held_out.items()
                }
                mean = np.mean(list(each.values()))
                means = dict.fromkeys(("held-out", "held-out, projected", "part"), mean)
                for place, value in {**each, **means}.items():
                    found[method, name, epoch, place] = value
        rows = rows - rate * scale * first / (1 - BETA1**steps)
    return found


@pytest.mark.parametrize("target", list(Target))
def test_scores_are_those_computed_by_hand(score: Score, target: Target) -> None:
    names = ("a", "b", "c", "d")
    scores = score(names, target=target)
    expected = score_by_hand(names, 4, {0, 2}, target)
    found = {
        (row["method"], row["question_id"], row["visit"] // 4, row["evaluated_on"]): row["score"]
        for row in scores.iter_rows(named=True)
    }
    assert found.keys() == expected.keys()
    largest = max(abs(value) for value in expected.values())
    for key, value in expected.items():
        assert found[key] == pytest.approx(value, rel=2e-3, abs=2e-5 * largest), key


def test_parts_that_have_no_room_are_computed_again(score: Score) -> None:
    kept, again = score(("a", "b"), name="kept"), score(("a", "b"), name="again", keeps_parts=False)
    assert again.drop("score").equals(kept.drop("score"))
    assert again["score"].to_list() == pytest.approx(kept["score"].to_list(), rel=1e-4, abs=1e-9)


def test_held_out_gradients_are_taken_at_checkpoints(score: Score) -> None:
    names = ("a", "b")
    once, twice = score(names, checkpoints=1, name="once"), score(names, name="twice")
    is_early = pl.col("visit") < 4
    assert once.filter(is_early).equals(twice.filter(is_early))
    assert not once.filter(~is_early).equals(twice.filter(~is_early))


def test_copies_share_the_score_of_one_question(score: Score) -> None:
    def total(scores: pl.DataFrame) -> dict[tuple[str, str], float]:
        summed = scores.filter(pl.col("evaluated_on") == "held-out").group_by(
            "method", "question_id"
        )
        rows = summed.agg(pl.col("score").sum()).iter_rows()
        return {(method, question): score for method, question, score in rows}

    alone = total(score(("a", "b"), name="alone"))
    doubled = total(score(("a", "a2", "b", "b2"), name="doubled"))
    for method in BOTH:
        for name in ("a", "b"):
            copies = doubled[method, name], doubled[method, f"{name}2"]
            assert copies[0] == pytest.approx(copies[1], rel=1e-3)
            assert sum(copies) == pytest.approx(alone[method, name], rel=1e-2)


def test_scores_add_up_to_what_the_step_does(score: Score) -> None:
    """With a tiny rate, held-out performance moves by the sum of Adam's scores, momentum apart."""
    names = ("a", "b", "c", "d")
    scores = score(names, updates=1, checkpoints=1, learning_rate=1e-5, beta1=0.0)
    rows = Bigram().rows.detach().double().numpy()

    def value(at: Array) -> float:
        return float(
            np.mean(
                [
                    np.log(sum(np.exp(logprob(at, prompt, one)[0]) for one in answers))
                    for prompt, answers in HELD_OUT.values()
                ]
            )
        )

    whole = sum(visit_gradient(rows, n, 0, 4) for n in names)
    clipped = whole * min(1.0, LARGEST_NORM / np.sqrt((whole**2).sum()))
    rate = 1e-5 * 0.5  # the schedule, in the middle of the run
    moved = rows - rate * clipped / (np.abs(clipped) + EPSILON)
    adam = scores.filter(
        (pl.col("method") == "tracin-adam") & (pl.col("evaluated_on") == "held-out")
    )
    assert adam["score"].sum() == pytest.approx(value(moved) - value(rows), rel=1e-3)


def test_projected_scores_agree_with_exact_ones(score: Score) -> None:
    scores = score(("a", "b", "c", "d"), rank=8)
    exact = scores.filter(pl.col("evaluated_on") == "held-out")["method", "visit", "score"]
    projected = scores.filter(pl.col("evaluated_on") == "held-out, projected")
    single = scores.filter(pl.col("evaluated_on").str.starts_with("question="))
    means = single.group_by("method", "visit").agg(pl.col("score").mean()).sort("visit", "method")
    assert projected["score"].to_list() == pytest.approx(means["score"].to_list(), rel=1e-3)
    both = exact.join(projected, on=["method", "visit"])
    for (_,), part in both.group_by(["method"]):
        assert part.select(pl.corr("score", "score_right")).item() > 0.5
    whole = score(("a", "b", "c", "d"), rank=0, name="whole")
    assert whole.filter(pl.col("evaluated_on") == "held-out")["score"].to_list() == pytest.approx(
        scores.filter(pl.col("evaluated_on") == "held-out")["score"].to_list()
    )


def test_a_penalty_on_the_distance_is_part_of_a_visits_gradient(score: Score) -> None:
    without = score(("a", "b"), name="without")
    penalised = score(("a", "b"), kl=0.5, name="penalised")
    at_base = pl.col("visit") < 2  # at the base the penalty has no gradient
    assert penalised.filter(at_base)["score"].to_list() == pytest.approx(
        without.filter(at_base)["score"].to_list(), rel=1e-3, abs=1e-6
    )
    assert penalised.filter(~at_base)["score"].to_list() != pytest.approx(
        without.filter(~at_base)["score"].to_list(), rel=1e-3
    )


@pytest.mark.parametrize("stop_at", [3, 7, 9, 11])
def test_a_replay_goes_on_after_a_kill(
    score: Score, monkeypatch: pytest.MonkeyPatch, stop_at: int
) -> None:
    monkeypatch.setattr(training, "SECONDS_BETWEEN_CHECKPOINTS", 0.0 if stop_at != 7 else 60.0)
    names = ("a", "b", "c")
    with pytest.raises(KeyboardInterrupt):
        score(names, stop_at=stop_at, name="killed")
    assert score(names, name="killed").equals(score(names, name="undisturbed"))


def test_gradients_that_are_gone_are_not_replaced_by_others(
    score: Score, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(training, "SECONDS_BETWEEN_CHECKPOINTS", 0.0)
    with pytest.raises(KeyboardInterrupt):
        score(("a", "b"), stop_at=3)
    (tmp_path / "replay.gradients").write_bytes(b"")
    with pytest.raises(StoreError, match=r"Delete .*replay.safetensors to start the replay again"):
        score(("a", "b"))


def test_a_run_that_goes_otherwise_is_refused(
    score: Score, open_store: Callable[..., Store]
) -> None:
    first = score(("a", "b"), name="first")
    rows = open_store("first.duckdb").read("SELECT step, gradient_norm FROM updates")
    norms: dict[int, float] = dict(rows.iter_rows())
    rounded = {step: 1.01 * norm for step, norm in norms.items()}
    assert score(("a", "b"), name="again", norms=rounded).equals(first)
    with pytest.raises(TrainingError, match=r"cannot be repeated here: the gradient of update 3"):
        score(("a", "b"), name="otherwise", norms={**norms, 3: 1.1 * norms[3]})
    kept = open_store("otherwise.duckdb").read("SELECT max(step) AS last FROM updates")
    assert kept["last"].item() == 2
    with pytest.raises(TrainingError, match=r"the gradient of update 4 .*, and had 0\."):
        score(("a", "b"), name="longer", norms={step: norms[step] for step in (1, 2, 3)})


@pytest.mark.parametrize("lora", [0, 4])
@pytest.mark.parametrize("target", list(Target))
def test_held_out_gradients_of_a_transformer_are_those_of_plain_passes(
    target: Target,
    lora: int,
    tiny_llama: Callable[..., torch.nn.Module],
    make_policy: Callable[..., Policy],
    move: Callable[..., None],
    make_group: Callable[..., Group],
) -> None:
    prompt, answers = (4, 7, 9), ((11, 3), (12, 13, 3))
    policy = make_policy(tiny_llama(seed=3), lora=lora)
    if lora:
        move(policy.module, seed=5)  # adapters begin at 0, where half of their gradients are 0
    weights = list(policy.trained.values())
    assert all("lora" in name for name in policy.trained) == bool(lora)
    values = []
    for answer in answers:
        tokens = torch.tensor([[*prompt, *answer]])
        logits = policy.module(input_ids=tokens).logits[0].log_softmax(-1)
        values.append(sum(logits[2 + i, token] for i, token in enumerate(answer)))
    expected = torch.stack(values).logsumexp(0)
    expected = expected.exp() if target is Target.REWARD else expected
    group = make_group(prompt, *((answer, True) for answer in answers), name="held-out")
    [found] = performance(policy, *plant([group], 1), target)
    assert found.item() == pytest.approx(expected.item(), rel=1e-5)
    plain = torch.autograd.grad(expected, weights, materialize_grads=True)
    other = make_group((4, 7, 8), ((12, 3), True), name="other")
    third = make_group((4, 7, 8), ((13, 3), True), name="third")
    held_out = HeldOut({"one": (group,), "two": (third, other)}, {"again": group})
    gradients = find_gradients(
        policy, held_out, target, Projection(policy.trained, 0), step=0, at_once=1000
    )
    apart = find_gradients(
        policy, held_out, target, Projection(policy.trained, 0), step=0, at_once=1
    )
    largest = max(float(gradient.abs().max()) for gradient in plain)
    flat = torch.cat([gradient.reshape(-1) for gradient in plain])
    for place in (0, 2):
        assert torch.allclose(gradients.projected_MD[place], flat, atol=1e-4 * largest)
    assert torch.allclose(gradients.projected_MD, apart.projected_MD, atol=1e-4 * largest)
    mean = torch.cat([gradient.reshape(-1) for gradient in gradients.mean])
    parts = gradients.projected_MD[0] / 3 + 2 * gradients.projected_MD[1] / 3
    assert torch.allclose(mean, parts, atol=1e-4 * largest)
