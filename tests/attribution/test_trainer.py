"""One training run: what each budget holds equal, optimiser steps, milestones, what stops it.

The groups come from a script, so that it is known which visits carry a gradient; the policy, its
gradients and the store are real.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
from transformers import LlamaForCausalLM

from attrib.attribution import trainer as training
from attrib.attribution.arms import Arm, visit_order
from attrib.attribution.checkpoint import Position, read_position
from attrib.attribution.forest import Forest
from attrib.attribution.groups import Group
from attrib.attribution.ledger import Visit, begin_run, reached_milestones, record_milestone
from attrib.attribution.objective import GroupGradient, PolicyGradient
from attrib.attribution.policy import Policy
from attrib.attribution.settings import Fill, Method, Schedule, TrainSettings
from attrib.attribution.trainer import Outcome, Run, Trainer
from attrib.attribution.visits import StoredGroups
from attrib.data.questions import AnswerType, Question, Split
from attrib.errors import TrainingError
from attrib.roles import Role
from attrib.sampling.graders import make_grader
from attrib.sampling.verdicts import Verdicts
from attrib.store import Store

GROUP_SIZE = 8
QUESTIONS = [
    Question(
        f"id-{i}", "d", Split.TRAIN, f"{i}?", ("x",), AnswerType.NAME, None, None, f"{i}", None
    )
    for i in range(5)
]
ARM = Arm("full", Role.FULL, tuple(QUESTIONS), {"method": "grpo"}, seed=3)
BOTH_FILLS = pytest.mark.parametrize("fill", Fill)


class Script:
    """Groups whose signal depends on the number of the visit only."""

    rollouts_per_visit = GROUP_SIZE

    def __init__(self, has_signal: Callable[[int], bool], graded: int = GROUP_SIZE) -> None:
        """Give right and wrong rollouts to the visits of which `has_signal` is true."""
        self.has_signal, self.graded = has_signal, graded
        self.visited: list[int] = []

    def visit(self, first: int, questions: Sequence[Question]) -> list[Visit]:
        visits = []
        for number, question in enumerate(questions, start=first):
            self.visited.append(number)
            right = 1 + number % 3 if self.has_signal(number) else 0
            group = Group(
                question.question_id,
                (1, 2, 5 + int(question.text[0])),
                tuple((4 + (number + i) % 7, 3) for i in range(self.graded)),
                np.arange(self.graded) < right,
            )
            visits.append(Visit(number, question, group, GROUP_SIZE, group.has_both))
        return visits


def now_and_then(number: int) -> bool:
    """Tell whether a visit carries a gradient: three of seven do."""
    return number % 7 in (1, 2, 5)


@dataclass
class Trained:
    """A run that ended, and what it left."""

    outcome: Outcome
    policy: Policy
    store: Store
    script: Script
    evaluated: list[tuple[int, float]] = field(default_factory=list)

    @property
    def position(self) -> Position:
        return self.outcome.position

    @property
    def visits(self) -> pl.DataFrame:
        return self.store.read("SELECT * FROM visits ORDER BY visit")

    @property
    def updates(self) -> pl.DataFrame:
        return self.store.read("SELECT * FROM updates ORDER BY step")


Train = Callable[..., Trained]


@pytest.fixture
def train(
    tmp_path: Path,
    open_store: Callable[..., Store],
    tiny_llama: Callable[..., LlamaForCausalLM],
    make_policy: Callable[..., Policy],
) -> Train:
    """Return `train(script, evaluate_at, **settings)`; called again, it goes on where it was."""

    def run(
        script: Script | StoredGroups,
        evaluate_at: tuple[float, ...] = (1.0,),
        on_evaluation: Callable[[float], None] = lambda fraction: None,
        name: str = "arm",
        **changes: object,
    ) -> Trained:
        defaults = {"groups": 2, "group_size": GROUP_SIZE, "learning_rate": 0.01}
        settings = TrainSettings(**{**defaults, **changes})
        policy = make_policy(tiny_llama(vocab_size=16), has_reference=settings.kl > 0)
        store, evaluated = open_store(f"{name}.duckdb"), []

        def evaluate(position: Position, fraction: float) -> None:
            on_evaluation(fraction)
            with store.transaction() as transaction:
                record_milestone(transaction, ARM, fraction, position)
            evaluated.append((position.step, fraction))

        with store.writing("attrib test"):
            begin_run(store, ARM, "attrib ablate")
            trainer = Trainer(
                Run(
                    store=store,
                    arm=ARM,
                    policy=policy,
                    source=script,  # type: ignore[arg-type]
                    verdicts=Verdicts(store, make_grader("match", [])),
                    settings=settings,
                    longest=4,
                    temperature=1.0,
                    tokens_at_once=1000,
                    checkpoint=tmp_path / f"{name}.safetensors",
                    evaluate_at=evaluate_at,
                ),
                evaluate,
            )
            outcome = trainer.train()
        return Trained(outcome, policy, store, script, evaluated)  # type: ignore[arg-type]

    return run


def check_ledger(trained: Trained) -> None:
    """Check what holds of every run: nothing is lost, nothing is there twice, sums agree."""
    visits, updates, position = trained.visits, trained.updates, trained.position
    assert visits["visit"].to_list() == list(range(position.visit))
    assert sorted(set(trained.script.visited)) == visits["visit"].to_list()
    assert updates["step"].to_list() == list(range(1, position.step + 1))
    assert position.rollouts == position.visit * GROUP_SIZE
    weighted = visits.filter(pl.col("gradient_weight") > 0)
    assert weighted["informative"].all()
    assert len(weighted) == position.informative_groups == updates["informative_groups"].sum()
    assert updates["gradient_tokens"].sum() == position.gradient_tokens
    counted = weighted.group_by("step").len().sort("step")
    with_signal = updates.filter(pl.col("informative_groups") > 0)
    assert counted["step"].equals(with_signal["step"])
    assert (counted["len"] == with_signal["informative_groups"]).all()
    seen = [q for epoch in range(9) for q in visit_order(QUESTIONS, 3, epoch)]
    assert visits["question_id"].to_list() == [q.question_id for q in seen[: len(visits)]]


def test_updates_without_filling_are_so_many_visits(train: Train) -> None:
    trained = train(Script(now_and_then), budget="updates=4", fill=Fill.NONE)
    check_ledger(trained)
    assert trained.outcome.status == "done"
    assert (trained.position.step, trained.position.visit) == (4, 8)
    assert trained.updates["informative_groups"].to_list() == [1, 1, 1, 0]  # visits 1, 2 and 5
    assert trained.updates["rollouts"].to_list() == [2 * GROUP_SIZE] * 4


def test_updates_with_filling_are_so_many_informative_groups(train: Train) -> None:
    trained = train(Script(now_and_then), budget="updates=3", fill=Fill.INFORMATIVE)
    check_ledger(trained)
    assert trained.outcome.status == "done"
    assert trained.updates["informative_groups"].to_list() == [2, 2, 2]


@BOTH_FILLS
def test_epochs_visit_every_question_so_often(train: Train, fill: Fill) -> None:
    trained = train(Script(now_and_then), budget="epochs=2", groups=3, fill=fill)
    check_ledger(trained)
    assert trained.outcome.status == "done"
    assert set(Counter(trained.visits["question_id"]).values()) == {2}
    assert trained.position.visit == 10
    # visits 1, 2, 5, 8 and 9 carry a gradient
    expected = [2, 1, 1, 1] if fill is Fill.NONE else [3, 2]
    assert trained.updates["informative_groups"].to_list() == expected


@pytest.mark.parametrize("budget", ["epochs=2", "rollouts=80"])
def test_what_a_small_arm_has_is_used_at_the_end_of_its_budget(train: Train, budget: str) -> None:
    trained = train(Script(now_and_then), budget=budget, groups=8, fill=Fill.INFORMATIVE)
    check_ledger(trained)
    assert trained.outcome.status == "done"
    assert trained.updates["informative_groups"].to_list() == [5]  # visits 1, 2, 5, 8 and 9


@BOTH_FILLS
def test_informative_groups_are_exactly_so_many(train: Train, fill: Fill) -> None:
    trained = train(Script(now_and_then), budget="informative-groups=5", groups=3, fill=fill)
    check_ledger(trained)
    assert trained.outcome.status == "done"
    assert trained.position.informative_groups == 5
    # plain batches: 1 2 · 5 · 8 and, of 9 10 11, only 9, with which the budget is used
    assert trained.updates["informative_groups"].to_list() == (
        [2, 1, 1, 1] if fill is Fill.NONE else [3, 2]
    )


def test_a_plain_batch_ends_with_the_last_informative_group_of_the_budget(train: Train) -> None:
    trained = train(Script(now_and_then), budget="informative-groups=4", groups=6, fill=Fill.NONE)
    check_ledger(trained)
    assert trained.updates["informative_groups"].to_list() == [3, 1]  # 1 2 5 · 8, but not 9
    last = trained.visits.filter(pl.col("visit") == 9).row(0, named=True)
    assert last["informative"]
    assert last["gradient_weight"] == 0.0


@BOTH_FILLS
def test_rollouts_are_never_above_and_hardly_below(train: Train, fill: Fill) -> None:
    trained = train(Script(now_and_then), budget="rollouts=70", groups=3, fill=fill)
    check_ledger(trained)
    assert trained.outcome.status == "done"
    assert trained.position.rollouts == 64  # the most that whole groups of 8 leave room for
    expected = [2, 1, 0] if fill is Fill.NONE else [3]
    assert trained.updates["informative_groups"].to_list() == expected
    assert trained.evaluated == [(len(expected), 1.0)]


@BOTH_FILLS
@pytest.mark.parametrize("budget", ["updates=9", "informative-groups=9", "epochs=9"])
def test_the_limit_on_rollouts_exhausts_an_arm(train: Train, fill: Fill, budget: str) -> None:
    def run() -> Trained:
        script = Script(lambda number: number == 1)
        return train(script, budget=budget, fill=fill, groups=2, max_rollouts=50)

    trained = run()
    check_ledger(trained)
    assert trained.outcome.status == "exhausted"
    assert trained.position.rollouts == 48
    updates = 3 if fill is Fill.NONE else 0
    used = {
        "updates=9": f"{updates} of 9 updates",
        "epochs=9": "6 of 45 visits",
        "informative-groups=9": f"{int(fill is Fill.NONE)} of 9 informative groups",
    }[budget]
    assert trained.outcome.detail == f"{used} within 48 rollouts: {updates} updates, 6 visits"
    assert trained.evaluated == []  # where it ended is evaluated by whoever runs the trainer
    again = run()
    assert again.script.visited == []
    assert again.outcome.detail == trained.outcome.detail


def test_ungraded_rollouts_cost_but_do_not_count(train: Train) -> None:
    trained = train(Script(now_and_then, graded=0), budget="updates=2", fill=Fill.NONE)
    check_ledger(trained)
    assert trained.visits["rollouts"].to_list() == [0, 0, 0, 0]
    assert trained.position.rollouts == 4 * GROUP_SIZE
    assert trained.updates["rollouts"].to_list() == [2 * GROUP_SIZE] * 2


def weights_of(policy: Policy) -> dict[str, torch.Tensor]:
    return {name: parameter.detach().clone() for name, parameter in policy.trained.items()}


def assert_identical(found: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]) -> None:
    assert found.keys() == expected.keys()
    for name, weight in expected.items():
        assert torch.equal(found[name], weight), name


@pytest.mark.parametrize("kl", [0.0, 0.5])
def test_without_a_signal_no_weight_moves(train: Train, kl: float) -> None:
    """Adam would otherwise go on from the moments that it holds after the first update."""
    script = Script(lambda number: number < 2)
    first = train(script, budget="updates=1", fill=Fill.NONE, kl=kl)
    expected = weights_of(first.policy)
    more = train(script, budget="updates=3", fill=Fill.NONE, kl=kl)
    assert_identical(weights_of(more.policy), expected)
    assert more.updates["step"].to_list() == [1, 2, 3]
    assert more.updates["gradient_norm"].to_list()[1:] == [0.0, 0.0]


@pytest.mark.parametrize("inner_epochs", [1, 3])
@pytest.mark.parametrize("kl", [0.0, 0.1])
def test_an_update_is_adam_on_the_clipped_gradient(
    train: Train,
    tiny_llama: Callable[..., LlamaForCausalLM],
    make_policy: Callable[..., Policy],
    inner_epochs: int,
    kl: float,
) -> None:
    script = Script(lambda number: True)
    trained = train(script, budget="updates=1", inner_epochs=inner_epochs, kl=kl)

    expected = make_policy(tiny_llama(vocab_size=16), has_reference=kl > 0)
    visits = script.visit(0, visit_order(QUESTIONS, 3, 0)[:2])
    loss = PolicyGradient(expected, [visit.group for visit in visits], kl=kl, longest=4)
    parameters = list(expected.trained.values())
    optimizer = torch.optim.AdamW(parameters, lr=0.01, betas=(0.9, 0.95), weight_decay=0.0)
    norms, losses = [], []
    for _ in range(inner_epochs):
        optimizer.zero_grad()
        losses.append(sum(part.loss for part in loss.backward()))
        norms.append(float(torch.nn.utils.clip_grad_norm_(parameters, 1.0)))
        optimizer.step()
    for name, weight in weights_of(trained.policy).items():
        torch.testing.assert_close(weight, expected.trained[name], rtol=1e-4, atol=1e-5)
    assert trained.updates["gradient_norm"].to_list() == pytest.approx(norms[:1])
    assert trained.updates["loss"].to_list() == pytest.approx(losses[:1], abs=1e-6)


@pytest.mark.parametrize(
    ("schedule", "warmup", "expected"),
    [
        (Schedule.CONSTANT, 0.0, [1.0, 1.0, 1.0, 1.0]),
        (Schedule.CONSTANT, 0.5, [0.25, 0.75, 1.0, 1.0]),
        (Schedule.LINEAR, 0.0, [0.875, 0.625, 0.375, 0.125]),
        (Schedule.LINEAR, 0.5, [0.25, 0.75, 0.75, 0.25]),
        (Schedule.COSINE, 0.0, [(1 + np.cos(np.pi * x)) / 2 for x in (1 / 8, 3 / 8, 5 / 8, 7 / 8)]),
    ],
)
def test_the_learning_rate_at_the_middle_of_each_quarter(
    schedule: Schedule, warmup: float, expected: list[float]
) -> None:
    settings = TrainSettings(schedule=schedule, warmup=warmup)
    found = [settings.rate_factor(progress) for progress in (1 / 8, 3 / 8, 5 / 8, 7 / 8)]
    assert found == pytest.approx(expected)


@pytest.fixture
def rates(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Return the learning rates of all optimiser steps to come."""
    seen: list[float] = []
    real = torch.optim.AdamW.step

    def step(self: torch.optim.AdamW) -> None:
        seen.append(self.param_groups[0]["lr"])
        real(self)

    monkeypatch.setattr(torch.optim.AdamW, "step", step)
    return seen


@pytest.mark.parametrize(
    ("budget", "progress"),
    [
        ("updates=4", [1 / 8, 3 / 8, 5 / 8, 7 / 8]),
        ("epochs=2", [0.1, 0.3, 0.5, 0.7, 0.9]),  # ten visits, two at a time
        ("informative-groups=5", [0.2, 0.6, 0.9]),  # 2, 2 and the last one
        (f"rollouts={9 * GROUP_SIZE}", [1 / 9, 3 / 9, 5 / 9, 7 / 9, 8.5 / 9]),
    ],
)
@BOTH_FILLS
def test_the_learning_rate_follows_the_budget(
    train: Train, rates: list[float], budget: str, progress: list[float], fill: Fill
) -> None:
    train(
        Script(lambda number: True),
        budget=budget,
        fill=fill,
        schedule=Schedule.LINEAR,
        learning_rate=1e-3,
    )
    assert rates == pytest.approx([1e-3 * (1 - at) for at in progress])


def test_inner_epochs_share_a_rate(train: Train, rates: list[float]) -> None:
    train(Script(lambda number: True), budget="updates=2", inner_epochs=2, warmup=0.9)
    assert rates == pytest.approx([0.01 * at / 0.9 for at in (0.25, 0.25, 0.75, 0.75)])


def test_milestones_are_reached_once_each(train: Train) -> None:
    trained = train(Script(now_and_then), (0.25, 0.5, 1.0), budget="updates=4", fill=Fill.NONE)
    assert trained.evaluated == [(1, 0.25), (2, 0.5), (4, 1.0)]
    stored = trained.store.read("SELECT * FROM milestones ORDER BY fraction")
    assert stored["step"].to_list() == [1, 2, 4]
    assert stored["visits"].to_list() == [2, 4, 8]
    assert stored["rollouts"].to_list() == [2 * GROUP_SIZE, 4 * GROUP_SIZE, 8 * GROUP_SIZE]
    assert stored["informative_groups"].to_list() == [1, 2, 3]
    assert (stored["gradient_tokens"].diff().drop_nulls() > 0).all()
    again = train(Script(now_and_then), (0.25, 0.5, 1.0), budget="updates=4", fill=Fill.NONE)
    assert (again.evaluated, again.script.visited) == ([], [])
    assert again.outcome == trained.outcome


def test_of_fractions_that_one_update_passes_the_last_is_evaluated(train: Train) -> None:
    trained = train(Script(now_and_then), (0.1, 0.2, 1.0), budget="updates=2", fill=Fill.NONE)
    assert trained.evaluated == [(1, 0.2), (2, 1.0)]


class Killed(BaseException):
    """Stands for a signal that ends the process."""


def die(*_: object) -> None:
    raise Killed


def die_in_step(patch: pytest.MonkeyPatch, number: int) -> None:
    """Arrange for a kill inside the optimiser step `number` from now."""
    real, count = torch.optim.AdamW.step, iter(range(1, 1000))

    def step(self: torch.optim.AdamW) -> None:
        die() if next(count) == number else real(self)

    patch.setattr(torch.optim.AdamW, "step", step)


def die_before_checkpoint(patch: pytest.MonkeyPatch, step: int) -> None:
    """Arrange for a kill between the recording of an update and the checkpoint after it."""
    real = Trainer._save

    def save(self: Trainer) -> None:
        die() if self._position.step == step else real(self)

    patch.setattr(Trainer, "_save", save)


LATE = {Fill.INFORMATIVE: 4, Fill.NONE: 2}
"""Optimiser steps from the second update on that lead into the last one that takes any."""


@BOTH_FILLS
@pytest.mark.parametrize("seconds", [-1.0, 60.0], ids=["many-checkpoints", "few-checkpoints"])
def test_a_run_killed_again_and_again_ends_as_if_nothing_had_happened(
    train: Train, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fill: Fill, seconds: float
) -> None:
    monkeypatch.setattr(training, "SECONDS_BETWEEN_CHECKPOINTS", seconds)

    def run(name: str, on_evaluation: Callable[[float], None] = lambda _: None) -> Trained:
        script = Script(now_and_then)
        settings = {"budget": "updates=4", "fill": fill, "inner_epochs": 2, "kl": 0.1}
        return train(script, (0.5, 1.0), on_evaluation, name, **settings)

    def run_and_die(arrange: Callable[[pytest.MonkeyPatch, int], None], at: int) -> None:
        with monkeypatch.context() as patch:
            arrange(patch, at)
            run("killed")

    quiet = run("quiet")
    with pytest.raises(Killed):
        run_and_die(die_in_step, 1)
    with pytest.raises(Killed):
        run_and_die(die_before_checkpoint, 2)
    with pytest.raises(Killed):
        run("killed", lambda fraction: die())  # at the first fraction
    with pytest.raises(Killed):
        run_and_die(die_in_step, LATE[fill])
    position = read_position(tmp_path / "killed.safetensors")
    assert position.step == (3 if seconds < 0 and fill is Fill.INFORMATIVE else 2)
    with pytest.raises(Killed):
        run("killed", lambda fraction: die())  # at the last fraction
    last = run("killed")

    assert last.script.visited == []  # the last checkpoint is the end
    last.script.visited = list(range(last.position.visit))
    check_ledger(last)
    assert last.evaluated == [(4, 1.0)]
    assert reached_milestones(last.store, ARM) == [0.5, 1.0]
    assert_identical(weights_of(last.policy), weights_of(quiet.policy))
    for table in ("visits", "updates", "milestones"):
        columns = "*" if table == "visits" else "* EXCLUDE (seconds)"
        sql = f"SELECT {columns} FROM {table} ORDER BY ALL"
        assert last.store.read(sql).equals(quiet.store.read(sql)), table
    run_row = "SELECT updates, rollouts FROM training_runs"
    assert last.store.read(run_row).equals(quiet.store.read(run_row))


@pytest.fixture
def train_until_the_third_step(train: Train, monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Return a function that trains with a checkpoint after every update until it is killed."""
    monkeypatch.setattr(training, "SECONDS_BETWEEN_CHECKPOINTS", -1.0)

    def run() -> None:
        with monkeypatch.context() as patch:
            die_in_step(patch, 3)
            train(Script(now_and_then), budget="updates=4")

    return run


def test_a_run_goes_on_from_its_checkpoint_and_visits_nothing_twice(
    train: Train, tmp_path: Path, train_until_the_third_step: Callable[[], None]
) -> None:
    with pytest.raises(Killed):
        train_until_the_third_step()
    position = read_position(tmp_path / "arm.safetensors")
    assert position.step == 2
    again = train(Script(now_and_then), budget="updates=4")
    assert again.script.visited == list(range(position.visit, again.position.visit))


def test_a_checkpoint_of_another_database_is_not_believed(
    train: Train,
    open_store: Callable[..., Store],
    train_until_the_third_step: Callable[[], None],
) -> None:
    with pytest.raises(Killed):
        train_until_the_third_step()
    store = open_store("arm.duckdb")
    with store.writing("attrib test"), store.transaction() as transaction:
        transaction.execute("DELETE FROM updates WHERE step > 1")  # as an older copy would be
    check_ledger(train(Script(now_and_then), budget="updates=4"))


def break_question(policy: Policy, token: int) -> None:
    """Make the loss of groups whose prompt holds a token not a number, and no other's."""
    real = policy.logprobs

    def logprobs(forest: Forest, temperature: float) -> torch.Tensor:
        logprob_K = real(forest, temperature)
        broken_K = [token in forest.groups[place].prompt for place in forest.group_K]
        return logprob_K * torch.where(torch.tensor(broken_K), float("nan"), 1.0)

    policy.logprobs = logprobs  # type: ignore[method-assign]


@pytest.mark.parametrize("inner_epochs", [1, 2])
def test_a_loss_that_is_no_number_names_its_question_and_keeps_what_was_before(
    train: Train,
    open_store: Callable[..., Store],
    monkeypatch: pytest.MonkeyPatch,
    inner_epochs: int,
) -> None:
    """The second visit of question 4 spoils the third update, in its last inner epoch."""
    order = [int(q.text[0]) for q in visit_order(QUESTIONS, 3, 0)]
    broken = order[4]  # of two groups an update, it is in the third
    real, passes = PolicyGradient.backward, Counter[int]()

    def backward(self: PolicyGradient, *arguments: object) -> list[GroupGradient]:
        passes[0] += 1
        if passes[0] == 3 * inner_epochs:
            break_question(self._policy, 5 + broken)
        return real(self, *arguments)  # type: ignore[arg-type]

    settings = {"budget": "updates=4", "inner_epochs": inner_epochs}
    with monkeypatch.context() as patch:
        patch.setattr(PolicyGradient, "backward", backward)
        with pytest.raises(TrainingError) as stopped:
            train(Script(lambda number: True), (0.25, 1.0), **settings)
    assert str(stopped.value).startswith(
        f"Stopped at update 3: the loss of question id-{broken} ('{broken}?') is nan."
    )
    assert "--learning-rate (now 0.01)" in str(stopped.value)
    store = open_store("arm.duckdb")
    assert store.read("SELECT max(step) FROM updates").item() == 2  # nothing of the third
    assert store.read("SELECT count(*) FROM visits").item() == 4

    again = train(Script(lambda number: True), (0.25, 1.0), **settings)  # the cause is gone
    quiet = train(Script(lambda number: True), (0.25, 1.0), name="quiet", **settings)
    assert again.outcome.status == "done"
    assert_identical(weights_of(again.policy), weights_of(quiet.policy))


def test_weights_that_are_no_numbers_never_replace_a_checkpoint(
    train: Train, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(training, "SECONDS_BETWEEN_CHECKPOINTS", -1.0)
    train(Script(lambda number: True), budget="updates=1")
    before = (tmp_path / "arm.safetensors").read_bytes()
    with pytest.raises(
        TrainingError, match=r"update 2: the weights after it are not finite.*1e\+38"
    ):
        train(Script(lambda number: True), budget="updates=4", learning_rate=1e38)
    assert (tmp_path / "arm.safetensors").read_bytes() == before


def test_a_full_device_is_a_failed_run_with_advice(
    train: Train, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(self: PolicyGradient, *arguments: object) -> list[GroupGradient]:
        raise torch.OutOfMemoryError

    monkeypatch.setattr(PolicyGradient, "backward", fail)
    advice = r"out of memory at update 1\. Lower --tokens-at-once \(now 1000\)"
    with pytest.raises(TrainingError, match=advice):
        train(Script(lambda number: True))


def test_stored_groups_without_signal_are_exhausted_at_once(
    train: Train, make_group: Callable[..., Group]
) -> None:
    groups = {
        q.question_id: make_group((1, 5), ((6, 3), False), ((7, 3), False)) for q in QUESTIONS
    }
    source = StoredGroups(groups, needs_both=False, most_each=8, seed=0)
    trained = train(source, method=Method.RFT, budget="updates=4")
    assert trained.outcome == Outcome(
        "exhausted", "no question of the subset has what this method learns from", Position()
    )


@BOTH_FILLS
def test_stored_groups_use_every_budget_but_rollouts(
    train: Train, tmp_path: Path, make_group: Callable[..., Group], fill: Fill
) -> None:
    groups = {
        q.question_id: make_group((1, 5), ((6, 3), q.text in ("0?", "1?"))) for q in QUESTIONS
    }
    found = {}
    for budget in ("updates=3", "epochs=2", "informative-groups=5"):
        source = StoredGroups(groups, needs_both=False, most_each=8, seed=0)
        trained = train(source, name=budget, method=Method.SFT, budget=budget, fill=fill)
        assert trained.outcome.status == "done"
        assert trained.position.rollouts == 0
        position = trained.position
        found[budget] = (position.step, position.visit, position.informative_groups)
    assert found["updates=3"][0] == 3
    assert found["epochs=2"][1] == 10
    assert found["informative-groups=5"][2] == 5
    if fill is Fill.INFORMATIVE:
        assert found["updates=3"][2] == 6
