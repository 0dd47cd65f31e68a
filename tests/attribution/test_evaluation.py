"""Evaluations: what is asked, how it is graded, and that nothing is graded twice."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import polars as pl
import pytest
import torch

from attrib.attribution import experiment as experiments
from attrib.attribution import trainer
from attrib.attribution.ablate import AblationSummary
from attrib.attribution.evaluation import Evaluator
from attrib.attribution.experiment import Experiment, set_up
from attrib.attribution.ledger import record_batch
from attrib.attribution.mass import measure_masses
from attrib.attribution.plan import TrainingPlan
from attrib.attribution.policy import Policy
from attrib.attribution.runs import Runner
from attrib.attribution.settings import AblateSettings
from attrib.data.questions import Question
from attrib.roles import Role
from attrib.sampling.engine import Answered, FinishReason, Prompt, Request, Rollout
from attrib.sampling.grading import Graded, Grader, Response, grade_one
from attrib.sampling.judge import JudgeSettings
from attrib.sampling.responder import Responder
from attrib.sampling.tree import TreeEngine
from attrib.sampling.verdicts import Verdicts
from attrib.sampling.voting import reasoning_style, vote
from attrib.store import Store, Transaction

COT_TOKENS = 6

Ablate = Callable[..., AblationSummary]


class Spy:
    """The real grader, remembering what it was asked."""

    def __init__(self, real: Grader) -> None:
        self.real, self.name, self.fingerprint = real, real.name, real.fingerprint
        self.asked: list[tuple[str, str, bool]] = []

    is_costly = False
    cost = ""

    def grade(self, responses: Sequence[Response]) -> Iterator[Graded]:
        return (self._grade(*response) for response in responses)

    def _grade(self, question: Question, text: str, truncated: bool) -> Graded:
        self.asked.append((question.question_id, text, truncated))
        return grade_one(self.real, question, text, truncated)


class Scripted:
    """Answers as it is told, in the place of a model."""

    def __init__(self, *answers: Rollout) -> None:
        self.answers = answers

    def prompt(self, question: Question) -> Prompt:
        return Prompt(None, question.text, (1, 2))

    def respond(
        self, requests: Sequence[Request], seed: int, *, greedy: bool = False
    ) -> Iterator[Answered]:
        for position, request in reversed(list(enumerate(requests))):  # as they complete
            rollouts = self.answers[: request.count]
            yield Answered(position, [replace(r, index=i) for i, r in enumerate(rollouts)])


def say(text: str, logprob: float = -1.0, reason: FinishReason = FinishReason.STOP) -> Rollout:
    return Rollout(0, text, tuple(map(ord, text)), len(text), logprob, reason)


@pytest.fixture
def experiment(store: Store) -> Experiment:
    with store.writing("attrib test"):
        return set_up(store, AblateSettings(device="cpu"))


@pytest.fixture
def spy(experiment: Experiment) -> Spy:
    return Spy(experiment.bucketing.grader)


@pytest.fixture
def questions(experiment: Experiment) -> list[Question]:
    return [q for q in experiment.evaluation.held_out if q.answers[0] == "Africa"][:3]


def test_greedy_answers_have_one_row_a_question(
    store: Store, spy: Spy, questions: list[Question]
) -> None:
    responder = Scripted(say(" Africa\n", -0.5))
    frame = Evaluator(responder, Verdicts(store, spy), "arm").greedy(questions, 7)  # type: ignore[arg-type]
    assert sorted(frame["question_id"]) == sorted(q.question_id for q in questions)
    row = frame.drop("question_id").unique().row(0, named=True)
    assert row == {
        "arm_id": "arm",
        "step": 7,
        "decoding": "greedy",
        "rollout": 0,
        "text": " Africa\n",
        "verdict": "correct",
        "detail": "accepted: Africa",
        "eval_grader": spy.fingerprint,
        "logprob": -0.5,
        "tokens": 8,
    }


def test_the_vote_among_samples_is_a_row_of_its_own(
    store: Store, spy: Spy, questions: list[Question]
) -> None:
    answers = (say("Asia", -0.1), say(" Africa."), say("africa", -0.2), Rollout.failed(0))
    responder = Scripted(*answers)
    frame = Evaluator(responder, Verdicts(store, spy), "arm").samples(questions[:1], 3, 4)  # type: ignore[arg-type]
    rows = frame.select("decoding", "rollout", "text", "verdict", "logprob").rows()
    assert rows == [
        ("sample", 0, "Asia", "incorrect", -0.1),
        ("sample", 1, " Africa.", "correct", -1.0),
        ("sample", 2, "africa", "correct", -0.2),
        ("sample", 3, "", "failed", None),
        ("majority", 0, "africa", "correct", -0.2),
    ]
    assert len(spy.asked) == 3  # the failed one is not graded, and the vote not again

    silent = Scripted(Rollout.failed(0), Rollout.failed(1))
    frame = Evaluator(silent, Verdicts(store, spy), "arm").samples(questions[:1], 3, 2)  # type: ignore[arg-type]
    assert set(frame["decoding"]) == {"sample"}  # nobody voted
    assert set(frame["verdict"]) == {"failed"}


def test_of_a_chain_of_thought_the_answer_is_graded(
    store: Store, spy: Spy, questions: list[Question]
) -> None:
    text = "Not Asia, nor Europe.\nAnswer: Africa"
    responder = Scripted(say(text, reason=FinishReason.LENGTH))
    frame = Evaluator(responder, Verdicts(store, spy), "arm").chain_of_thought(questions[:1], 0)  # type: ignore[arg-type]
    row = frame.row(0, named=True)
    assert (row["decoding"], row["text"]) == ("chain-of-thought", text)
    assert row["verdict"] == grade_one(spy.real, questions[0], "Africa", True).verdict
    assert spy.asked == [(questions[0].question_id, "Africa", True)]


def test_samples_are_drawn_as_the_rollouts_were_and_each_arm_alike(
    store: Store, experiment: Experiment, spy: Spy
) -> None:
    settings = AblateSettings(device="cpu")
    _, responder = Runner(store, experiment, settings).load_base()
    some = experiment.evaluation.held_out[:2]
    frames = [Evaluator(responder, Verdicts(store, spy), "arm").samples(some, 0, 4) for _ in "ab"]
    assert frames[0].equals(frames[1])
    drawn = frames[0].filter(pl.col("decoding") == "sample")
    assert len(set(drawn["text"])) > 2
    requests = [Request(q.question_id, responder.prompt(q), 0, 4) for q in some]
    for answered in responder.respond(requests, 0):
        question = some[answered.position]
        mine = frames[0].filter(pl.col("question_id") == question.question_id)
        rows = mine.filter(pl.col("decoding") == "sample")["text", "logprob"].rows()
        assert rows == [(r.text, r.logprob) for r in answered.rollouts]
        voted = vote(question, answered.rollouts)
        assert voted is not None
        assert mine.filter(pl.col("decoding") == "majority")["text"].to_list() == [voted.text]


def test_masses_are_those_of_every_answer_on_its_own(store: Store, experiment: Experiment) -> None:
    policy, responder = Runner(store, experiment, AblateSettings(device="cpu")).load_base()
    several = replace(
        experiment.evaluation.held_out[0], answers=("Asia", "Africa", "Asia", "Oceania")
    )
    questions = [several, *experiment.evaluation.held_out[1:5]]
    prompts = [responder.prompt(question).token_ids for question in questions]
    assert prompts != sorted(prompts)  # the order of the rows is not that of the forwards
    samples = pl.DataFrame(
        {
            "question_id": [several.question_id] * 3,
            "decoding": ["sample", "sample", "majority"],
            "logprob": [-1.0, -2.0, -9.0],
        }
    )
    frame = measure_masses(policy, responder, questions, "arm", samples)
    assert frame["question_id"].to_list() == [q.question_id for q in questions]
    for question, row in zip(questions, frame.iter_rows(named=True), strict=True):
        found = [
            _read(policy, responder, question, target)
            for answer in set(question.answers)
            for target in responder.targets(answer)
        ]
        assert len(found) > len(set(question.answers))  # a stop string and an end token each
        logprob, rank = max(found)
        assert row["logprob"] == pytest.approx(logprob, abs=1e-5)
        assert row["greedy_rank"] == rank
        assert row["mass_low"] == pytest.approx(sum(np.exp(one) for one, _ in found), abs=1e-5)
    assert frame["entropy"].to_list() == [1.5, None, None, None, None]


@torch.no_grad()
def _read(
    policy: Policy, responder: Responder[TreeEngine], question: Question, target: tuple[int, ...]
) -> tuple[float, int]:
    """Return the log-probability of a response and the worst rank among its tokens."""
    prompt = responder.prompt(question).token_ids
    logits_TV = policy.module(torch.tensor([[*prompt, *target]])).logits[0, len(prompt) - 1 : -1]
    target_T = torch.tensor(target)[:, None]
    chosen_T = logits_TV.gather(1, target_T)
    rank = int((1 + (logits_TV > chosen_T).sum(1)).max())
    return float(logits_TV.log_softmax(1).gather(1, target_T).sum()), rank


@pytest.fixture
def spied(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str, bool]]:
    """Return all that graders will be asked in ablations to come."""
    asked: list[tuple[str, str, bool]] = []
    real = experiments.make_grader

    def make(name: str, questions: Sequence[Question], judging: JudgeSettings) -> Spy:
        spy = Spy(real(name, questions, judging))
        spy.asked = asked
        return spy

    monkeypatch.setattr(experiments, "make_grader", make)
    return asked


def stored(store: Store) -> set[tuple[str, str, bool]]:
    return set(store.read("SELECT question_id, text, truncated FROM verdicts").rows())


def test_no_run_asks_for_a_verdict_that_is_stored(
    store: Store,
    ablate_shortly: Ablate,
    spied: list[tuple[str, str, bool]],
) -> None:
    before = stored(store)
    settings = {"budget": "updates=2", "eval_samples": 2, "cot_tokens": COT_TOKENS}

    def forget_the_probe(plan: TrainingPlan) -> None:
        spied.clear()  # it stores nothing, so what it asked is asked again

    ablate_shortly(store, forget_the_probe, **settings)
    assert len(spied) == len(set(spied)) > 20
    assert not before & set(spied)
    assert stored(store) == before | set(spied)

    before = stored(store)
    ablate_shortly(store, forget_the_probe, **settings, seed=1, role=())
    assert not before & set(spied)
    assert stored(store) == before | set(spied)


def test_a_batch_and_its_verdicts_are_there_together_or_not_at_all(
    store: Store, ablate_shortly: Ablate, monkeypatch: pytest.MonkeyPatch
) -> None:
    real_write = Verdicts.write
    state = SimpleNamespace(is_training=False, before=set())

    def record(*arguments: object) -> None:
        state.is_training, state.before = True, stored(store)
        record_batch(*arguments)  # type: ignore[arg-type]

    def write(self: Verdicts, transaction: Transaction) -> None:
        real_write(self, transaction)
        if state.is_training:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(trainer, "record_batch", record)
        patch.setattr(Verdicts, "write", write)
        with pytest.raises(KeyboardInterrupt):
            ablate_shortly(store, role=(), budget="updates=1")
    assert store.read("SELECT * FROM visits").is_empty()
    assert stored(store) == state.before
    ablate_shortly(store, role=(), budget="updates=1")
    assert not store.read("SELECT * FROM visits").is_empty()
    assert stored(store) > state.before


def test_the_base_is_asked_to_reason_too(store: Store, ablate_shortly: Ablate) -> None:
    summary = ablate_shortly(
        store, role=(), budget="updates=1", eval_samples=3, cot_tokens=COT_TOKENS
    )
    counted = store.read(
        "SELECT role, decoding, count(*) AS n, count(DISTINCT question_id) AS questions "
        "FROM evaluations JOIN arms USING (arm_id) GROUP BY ALL ORDER BY ALL"
    )
    held_out, training = 12, 30
    assert counted.rows() == [
        ("base", "chain-of-thought", held_out, held_out),
        ("base", "greedy", held_out + training, held_out + training),
        ("base", "majority", held_out, held_out),
        ("base", "sample", 3 * held_out, held_out),
        ("full", "greedy", held_out + training, held_out + training),
        ("full", "majority", held_out, held_out),
        ("full", "sample", 3 * held_out, held_out),
    ]
    found = {(e.role, e.statistic) for e in summary.effects}
    for name in ("majority", "chain_of_thought"):
        assert {(Role.BASE, f"{name}_accuracy"), (Role.BASE, f"{name}_gain")} <= found
    assert {(Role.FULL, "majority_gain"), (Role.FULL, "pass@2"), (Role.BASE, "pass@3")} <= found
    masses = store.read("SELECT * FROM masses")
    assert len(masses) == 2 * held_out
    assert masses["entropy"].null_count() == 0
    assert (masses["mass_low"] > 0).all()
    assert (masses["mass_low"] >= masses["logprob"].exp() * (1 - 1e-6)).all()
    first = masses.filter(pl.col("greedy_rank") == 1)["question_id", "arm_id"]
    greedy = store.read(
        "SELECT question_id, arm_id FROM evaluations JOIN questions USING (question_id) "
        "WHERE decoding = 'greedy' AND split = 'held-out' AND verdict = 'correct'"
    )
    assert first.join(greedy, on=["question_id", "arm_id"], how="anti").is_empty()


def test_reasoning_goes_on_longer_than_an_answer(
    store: Store, ablate_shortly: Ablate, experiment: Experiment
) -> None:
    ablate_shortly(store, role=(), budget="updates=1", cot_tokens=COT_TOKENS)
    _, responder = Runner(store, experiment, AblateSettings(device="cpu")).load_base()
    sample_set = experiment.bucketing.sample_set
    tokenizer = responder.engine.language_model.tokenizer
    style = reasoning_style(sample_set.prompt)
    [question] = experiment.evaluation.held_out[:1]
    reasoned = Responder(
        responder.engine,
        replace(sample_set, prompt=style, max_new_tokens=COT_TOKENS),
        tokenizer,
    )
    request = Request(question.question_id, reasoned.prompt(question), 0, 1)
    [answered] = reasoned.respond([request], 0, greedy=True)
    text = store.read(
        "SELECT text FROM evaluations WHERE decoding = 'chain-of-thought' AND question_id = $id",
        id=question.question_id,
    ).item()
    assert text == answered.rollouts[0].text
