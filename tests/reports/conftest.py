"""A synthetic study: five buckets, and experiments whose gains depend on what was trained on.

Evaluations, visits and milestones are made up here, as the trainer would leave them; the effects
are then estimated by `attribution.effects` itself.
"""

import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from numpy.typing import NDArray

from attrib import analyses
from attrib.analysis.buckets import assign_buckets
from attrib.analysis.intervals import exact_interval
from attrib.attribution.effect import store_effects
from attrib.attribution.effects import estimate_effects
from attrib.reports.collect import collect_study
from attrib.reports.records import Study
from attrib.store import Store, Transaction

BEGAN = datetime(2026, 11, 20, 9, 30, tzinfo=UTC)
ANSWERS = ("Paris", "Oslo", "Lima", "Quito", "Cairo", "Hanoi", "Accra", "Dakar")
STRENGTH = {"never-correct": 0.95, "rarely-correct": 0.8, "sometimes-correct": 0.5,
            "mostly-correct": 0.2, "always-correct": 0.0, "full": 1.0}  # fmt: skip
FIRST = {
    "attrib": "0.1.0", "commit": "5f2c0e9d1a7b4c3e8f60915d2b7a4e6c3d8f1a20", "python": "3.11.7",
    "platform": "Linux-6.1-x86_64", "processor": "AMD EPYC 7B13", "cores": "2",
    "memory": "24 GiB", "gpus": "none", "torch": "2.13.0+cpu", "vllm": "not installed",
}  # fmt: skip
SECOND = {
    **FIRST, "processor": "AMD EPYC 9654", "cores": "16", "memory": "128 GiB",
    "gpus": "1 × NVIDIA H100 80GB HBM3", "torch": "2.13.0+cu130",
    "commit": "0c41d97be2a35f8870c6d1e94b2f3a5d6e7c8b91-dirty",
}  # fmt: skip
GROUP_SIZE = 8
GROUPS = 4
HOSTILE = (
    "<script>alert(1)</script> ]]> </style></svg> \u202eevil\u200f \x00\x07 {{ 7*7 }} $x^2$ 👩‍🔬 "
    + "x" * 10_000
)
SCHEMAS: dict[str, dict[str, Any]] = {"masses": {"entropy": pl.Float64}}
SUSPECTS = (
    ("q00000", "dominant-answer", "oslo (16 of 32)"),
    ("q00009", "near-miss", "Cairro for Cairo"),
    ("q00009", "too-long", "64 characters, about 40 fit into a rollout"),
    ("q00010", "dominant-answer", "hanoi (17 of 32)"),
)
Members = NDArray[np.int64]


@dataclass(frozen=True)
class Ending:
    """How a run ends other than by using its budget: its status, and the part it used."""

    status: str
    detail: str = ""
    used: float = 0.0


@dataclass
class Recipe:
    """What the synthetic study holds; the defaults are a small one."""

    train: int = 40
    held_out: int = 60
    transfer: int = 0
    k: int = 32
    buckets: bool = True
    arms: bool = True
    seeds: tuple[int, ...] = (0,)
    subsets: tuple[str, ...] = ("never-correct", "rarely-correct")
    roles: tuple[str, ...] = ("only", "all-but")
    steps: int = 12
    samples: int = 0
    full_gain: float = 0.6
    endings: dict[str, dict[int, Ending]] = field(default_factory=dict)
    """`role subset`, then seed."""
    siblings: bool = False
    """Add an older experiment under another budget, and one of another method."""
    provenance: bool = True
    """Whether commands, machine and versions were recorded."""
    second_grader: bool = False
    """Whether `exact` judged the rollouts too, and some questions are suspect."""
    players: tuple[str, ...] = ()
    """Buckets whose every union is trained on."""
    hostile: str | None = None
    """Becomes every question, answer and rollout text."""


WHOLE = Recipe(
    transfer=20,
    seeds=(0, 1, 2),
    subsets=("never-correct", "rarely-correct", "mostly-correct", "always-correct"),
    roles=("only", "all-but", "matched-random", "matched-complement"),
    samples=4,
    endings={
        "only always-correct": {seed: Ending("exhausted", "no signal", 0.0) for seed in range(3)},
        "only mostly-correct": {1: Ending("exhausted", "no more signal", 0.75)},
    },
    siblings=True,
    second_grader=True,
    players=("never-correct", "rarely-correct", "sometimes-correct"),
)


@dataclass(frozen=True)
class Setup:
    """One experiment: its id, its settings, and how much its arms gain."""

    experiment_id: str
    params: dict[str, object]
    gains: dict[str, float]
    """Gain of an arm, `role subset` or role; what is missing follows from STRENGTH."""


class Builder:
    """Writes one study."""

    def __init__(self, store: Store, recipe: Recipe) -> None:
        self.store, self.recipe = store, recipe
        self.random = np.random.default_rng(7)
        self.train = [f"q{index:05d}" for index in range(recipe.train)]
        self.held_out = [f"t{index:05d}" for index in range(recipe.held_out)]
        self.transfer = [f"x{index:05d}" for index in range(recipe.transfer)]
        self.correct_Q = np.zeros(0, dtype=np.int64)
        self.bucket_Q = np.zeros(0, dtype=np.str_)
        self.rows: dict[str, list[dict[str, object]]] = {}
        self.before: dict[str, NDArray[np.bool_]] = {}
        self.luck: dict[str, NDArray[np.float64]] = {}
        self.noise = 0.04

    def build(self) -> Store:
        setups = self.plan() if self.recipe.arms else []
        with self.store.writing("attrib test"):
            with self.store.transaction() as batch:
                self.write_questions(batch)
                self.record("s0", f"attrib sample --n {self.recipe.k}", 0.0)
                self.record("b0", f"attrib bucket --k {self.recipe.k}", 1.0)
                self.write_samples(batch)
                if self.recipe.buckets:
                    self.write_buckets(batch)
                for age, setup in enumerate(setups):
                    self.make_experiment(setup, age)
                for table, rows in self.rows.items():
                    frame = pl.DataFrame(rows, schema_overrides=SCHEMAS.get(table))
                    batch.append(table, frame)
            for setup in setups:
                found = estimate_effects(self.store, setup.experiment_id)
                store_effects(self.store, setup.experiment_id, found)
        return self.store

    def add(self, table: str, **row: object) -> None:
        self.rows.setdefault(table, []).append(row)

    def record(
        self, made_id: str, command: str, hours: float, environment: dict[str, str] = FIRST
    ) -> None:
        if not self.recipe.provenance:
            return
        found = {key: self.text(value) for key, value in environment.items()}
        self.add("provenance", made_id=made_id, command=self.text(command),
                 environment_id=environment["commit"], environment=json.dumps(found),
                 began_at=BEGAN + timedelta(hours=hours))  # fmt: skip

    def text(self, plain: str) -> str:
        return plain if self.recipe.hostile is None else self.recipe.hostile

    def write_questions(self, batch: Transaction) -> None:
        ids = self.train + self.held_out + self.transfer
        rows = [
            {
                "question_id": name,
                "dataset": "elsewhere" if name[0] == "x" else "facts",
                "split": "train" if name[0] == "q" else "held-out",
                "text": self.text(f"What is the capital of country {name}?"),
                "answers": [self.text(ANSWERS[index % 8])],
                "answer_type": "name",
                "subject": None,
                "relation": "capital",
                "fact_id": f"fact-{name}",
                "popularity": None,
                "flags": [],
                "answers_hash": f"a{index}",
            }
            for index, name in enumerate(ids)
        ]
        schema = {"subject": pl.String, "popularity": pl.Int64, "flags": pl.List(pl.String)}
        batch.append("questions", pl.DataFrame(rows, schema_overrides=schema))

    def write_samples(self, batch: Transaction) -> None:
        k, train = self.recipe.k, len(self.train)
        params = {
            "weights_hash": "6b1f0c52d9e3a874",
            "temperature": 1.0,
            "max_new_tokens": 16,
            "dtype": "float32",
        }
        batch.append(
            "sample_sets",
            pl.DataFrame(
                {
                    "sample_set_id": ["s0"],
                    "model": [self.text("HuggingFaceTB/SmolLM2-135M-Instruct")],
                    "engine": ["tree"],
                    "prompt": [self.text("Question: {question}\nAnswer:")],
                    "params": [json.dumps(params)],
                    "seed": [0],
                    "created_at": [BEGAN],
                }
            ),
        )
        pattern = np.array([0, 0, 0.03, 0.1, 0.3, 0.45, 0.7, 0.9, 1.0, 0])
        self.correct_Q = np.floor(pattern[np.arange(train) % 10] * k).astype(np.int64)
        self.correct_Q[np.arange(train) % 10 == 2] = 1
        rollouts, verdicts = [], {}
        for index, name in enumerate(self.train):
            for rollout in range(k):
                right = rollout < self.correct_Q[index]
                answer = ANSWERS[(index + (0 if right else 1 + rollout % 3)) % 8]
                text = self.text(f" {answer}.")
                rollouts.append((name, rollout, text))
                verdicts[name, text] = "correct" if right else "incorrect"
        batch.append(
            "rollouts",
            pl.DataFrame(
                {
                    "sample_set_id": ["s0"] * len(rollouts),
                    "question_id": [row[0] for row in rollouts],
                    "rollout": [row[1] for row in rollouts],
                    "text": [row[2] for row in rollouts],
                    "token_ids": [[1, 2]] * len(rollouts),
                    "tokens": [2] * len(rollouts),
                    "logprob": [-1.5] * len(rollouts),
                    "finish_reason": ["stop"] * len(rollouts),
                }
            ),
        )
        self.write_verdicts(batch, "match-1:9f", verdicts)
        if self.recipe.second_grader:
            stricter = {
                (name, text): "incorrect" if int(name[1:]) % 9 == 4 else verdict
                for (name, text), verdict in verdicts.items()
            }
            self.write_verdicts(batch, "exact-1:2b", stricter)

    def write_verdicts(
        self, batch: Transaction, grader: str, verdicts: dict[tuple[str, str], str]
    ) -> None:
        batch.append(
            "verdicts",
            pl.DataFrame(
                {
                    "question_id": [name for name, _ in verdicts],
                    "answers_hash": [f"a{int(name[1:])}" for name, _ in verdicts],
                    "text": [text for _, text in verdicts],
                    "truncated": [False] * len(verdicts),
                    "grader": [grader] * len(verdicts),
                    "verdict": list(verdicts.values()),
                    "detail": [""] * len(verdicts),
                }
            ),
        )

    def write_buckets(self, batch: Transaction) -> None:
        k, train = self.recipe.k, len(self.train)
        n_Q = np.full(train, k)
        self.bucket_Q = assign_buckets(n_Q, self.correct_Q)
        bounds = exact_interval(self.correct_Q, n_Q)
        batch.append(
            "bucketings",
            pl.DataFrame(
                {
                    "bucketing_id": ["b0"],
                    "sample_set_id": ["s0"],
                    "grader": ["match-1:9f"],
                    "k": [k],
                    "cuts": [json.dumps({"rarely": 0.0625, "sometimes": 0.5})],
                    "created_at": [BEGAN + timedelta(hours=1)],
                }
            ),
        )
        batch.append(
            "buckets",
            pl.DataFrame(
                {
                    "bucketing_id": ["b0"] * train,
                    "question_id": self.train,
                    "n": n_Q,
                    "correct": self.correct_Q,
                    "bucket": self.bucket_Q,
                    "p_low": bounds.low_Q,
                    "p_high": bounds.high_Q,
                }
            ),
        )
        if self.recipe.second_grader:
            batch.append(
                "suspects",
                pl.DataFrame(
                    {
                        "bucketing_id": ["b0"] * len(SUSPECTS),
                        "question_id": [name for name, *_ in SUSPECTS],
                        "reason": [reason for _, reason, _ in SUSPECTS],
                        "detail": [self.text(detail) for *_, detail in SUSPECTS],
                    }
                ),
            )

    def plan(self) -> list[Setup]:
        """Return the experiments, the newest first."""
        recipe = self.recipe
        params: dict[str, object] = {
            "method": "grpo",
            "budget": f"informative-groups={recipe.steps * GROUPS}",
            "fill": "informative",
            "groups": GROUPS,
            "group_size": GROUP_SIZE,
            "max_rollouts": 50_000,
            "advantage": "group-normalised",
            "normalisation": "per-sequence",
            "kl": 0.0,
            "lora": 0,
            "learning_rate": 2e-5,
            "temperature": 1.0,
            "evaluate_at": [0.5, 1.0],
            "evaluation": {
                "held_out": "5e1f",
                "held_out_questions": recipe.held_out,
                "samples": recipe.samples,
                "training": "77aa",
                "transfer": [],
            },
            "training_questions": recipe.train,
            "weights_hash": "6b1f0c52d9e3a874",
        }
        setups = [Setup("e0", params, {})]
        if recipe.siblings:
            plain = {**params, "budget": f"updates={recipe.steps}", "fill": "none"}
            gains = {"only never-correct": -0.1}
            setups += [
                Setup("e1", plain, gains),
                Setup("e2", {**plain, "method": "sft", "learning_rate": 1e-4}, {"full": 0.2}),
            ]
        return setups

    def make_experiment(self, setup: Setup, age: int) -> None:
        at = BEGAN + timedelta(hours=4 - age)
        self.add("experiments", experiment_id=setup.experiment_id, bucketing_id="b0",
                 params=json.dumps(setup.params), created_at=at, used_at=at)  # fmt: skip
        self.record(setup.experiment_id, "attrib ablate --seeds 1", 4.0 - age)
        if age == 0:
            self.make_base()
        self.place(setup, "base", "none", "base-none-0")
        everything = np.arange(len(self.train))
        main = age == 0
        for seed in self.recipe.seeds:
            self.make_run(setup, "full", "full", seed, everything)
            for subset in self.recipe.subsets if main else self.recipe.subsets[:1]:
                inside = everything[self.bucket_Q == subset]
                outside = everything[self.bucket_Q != subset]
                chosen = {
                    "only": inside,
                    "all-but": outside,
                    "matched-random": self.draw(everything, inside.size),
                    "matched-complement": self.draw(outside, min(inside.size, outside.size)),
                }
                for role in self.recipe.roles if main else ("only",):
                    self.make_run(setup, role, subset, seed, chosen[role])
            for union in self.unions() if main else ():
                members = everything[np.isin(self.bucket_Q, union)]
                if len(union) == 1 and union[0] in self.recipe.subsets:
                    self.place(setup, "coalition", union[0], f"only-{union[0]}-{seed}")
                else:
                    self.make_run(setup, "coalition", "+".join(union), seed, members)

    def unions(self) -> list[tuple[str, ...]]:
        players = self.recipe.players
        picks = range(1, 2 ** len(players))
        return [tuple(p for i, p in enumerate(players) if pick >> i & 1) for pick in picks]

    def draw(self, members: Members, size: int) -> Members:
        return self.random.permutation(members)[:size]

    def place(self, setup: Setup, role: str, subset: str, arm_id: str) -> None:
        self.add("arm_roles", experiment_id=setup.experiment_id, arm_id=arm_id, subset=subset,
                 role=role)  # fmt: skip

    def make_base(self) -> None:
        for name, questions in (("held-out", self.held_out), ("transfer", self.transfer)):
            self.before[name] = self.random.random(len(questions)) < 0.15
            self.luck[name] = self.random.random(len(questions))
        self.before["train"] = self.correct_Q / self.recipe.k > 0.5
        self.add_run("base-none-0", "base", 0, 0, Ending("done"), 0, 0, 0)
        self.record("base-none-0", "attrib ablate --seeds 1", 4.0)
        self.add("milestones", arm_id="base-none-0", fraction=0.0, step=0, visits=0, rollouts=0,
                 informative_groups=0, gradient_tokens=0, seconds=1.0)  # fmt: skip
        self.evaluate("base-none-0", 0, "held-out", self.before["held-out"])
        self.evaluate("base-none-0", 0, "transfer", self.before["transfer"])
        thought_Q = self.before["held-out"] | (self.luck["held-out"] < 0.1)
        self.evaluate("base-none-0", 0, "held-out", thought_Q, decoding="chain-of-thought")
        self.measure_end("base-none-0", 0, self.before["held-out"], self.before["train"])

    def strength(self, setup: Setup, role: str, subset: str) -> float:
        """Return how much of the held-out questions the arm learns."""
        full, name = self.recipe.full_gain, role if role == "full" else f"{role} {subset}"
        if name in setup.gains:
            return setup.gains[name]
        if role in ("matched-random", "matched-complement"):
            return full * 0.9 if subset == "never-correct" else full * 0.3
        if role == "all-but":
            return full * (1.0 - 0.4 * STRENGTH[subset])
        return full * max(STRENGTH[member] for member in subset.split("+"))

    def make_run(self, setup: Setup, role: str, subset: str, seed: int, members: Members) -> None:
        prefix = "" if setup.experiment_id == "e0" else f"{setup.experiment_id}-"
        arm_id = f"{prefix}{role}-{subset}-{seed}"
        self.place(setup, role, subset, arm_id)
        endings = self.recipe.endings.get(f"{role} {subset}", {}) if not prefix else {}
        ending = endings.get(seed, Ending("done", "", 1.0))
        for index in members:
            self.add("arm_questions", arm_id=arm_id, question_id=self.train[index])
        spent = self.make_visits(setup, arm_id, members, ending)
        self.add_run(
            arm_id, str(setup.params["method"]), seed, members.size, ending, *spent[-1][:3]
        )
        self.record(arm_id, "attrib ablate --seeds 1", 5.0, SECOND if seed == 2 else FIRST)
        strength = self.strength(setup, role, subset)
        noise_Q = self.random.random(len(self.held_out)) < self.noise
        after = {name: self.before[name] for name in ("held-out", "transfer")}
        for step, visits, rollouts, used in spent:
            fraction = step / self.recipe.steps
            is_end = step == spent[-1][0] and ending.status in ("done", "exhausted")
            if fraction not in (0.5, 1.0) and not is_end:
                continue
            reached = strength * fraction**0.5
            for name in after:
                learned_Q = self.luck[name] < reached * (1.0 if name == "held-out" else 0.5)
                forgotten_Q = (1.0 - self.luck[name]) < -reached
                after[name] = (self.before[name] | learned_Q) & ~forgotten_Q
            if fraction:
                after["held-out"] = after["held-out"] & ~noise_Q
            self.add("milestones", arm_id=arm_id, fraction=fraction, step=step, visits=visits,
                     rollouts=rollouts, informative_groups=used, gradient_tokens=40 * used,
                     seconds=5.0 * step)  # fmt: skip
            for name, after_Q in after.items():
                self.evaluate(arm_id, step, name, after_Q)
        if ending.status in ("done", "exhausted"):
            self.measure_end(
                arm_id, spent[-1][0], after["held-out"], self.train_after(members, step)
            )

    def train_after(self, members: Members, step: int) -> NDArray[np.bool_]:
        after_Q = self.before["train"] & (self.random.random(len(self.train)) > 0.1)
        if step:
            after_Q[members] |= self.random.random(members.size) < 0.6
        return after_Q

    def add_run(
        self, arm_id: str, method: str, seed: int, questions: int, ending: Ending,
        steps: int, visits: int, rollouts: int,
    ) -> None:  # fmt: skip
        self.add("training_runs", arm_id=arm_id, method=method, seed=seed,
                 params=json.dumps({"learning_rate": 1e-5}), questions=questions,
                 status=ending.status, detail=ending.detail, updates=steps, rollouts=rollouts,
                 wall_seconds=15.4 * steps, created_at=BEGAN + timedelta(hours=5))  # fmt: skip

    def make_visits(
        self, setup: Setup, arm_id: str, members: Members, ending: Ending
    ) -> list[tuple[int, int, int, int]]:
        """Write visits and updates; return step, visits, rollouts and groups used after each."""
        steps, fill = round(ending.used * self.recipe.steps), setup.params["fill"]
        spent, visit, used = [(0, 0, 0, 0)], 0, 0
        for step in range(1, steps + 1 + (ending.status == "exhausted")):
            informative = 0
            for made in range(1, 41):
                index = self.random.choice(members)
                start = self.correct_Q[index] / self.recipe.k
                p = max(start + (0.95 - start) * 0.8 * step / self.recipe.steps, 0.02)
                correct = int(self.random.binomial(GROUP_SIZE, p if step <= steps else start))
                is_informative = correct not in {0, GROUP_SIZE}
                weight = correct * (GROUP_SIZE - correct) / GROUP_SIZE if step <= steps else 0.0
                self.add("visits", arm_id=arm_id, step=step, visit=visit,
                         question_id=self.train[index], rollouts=GROUP_SIZE, correct=correct,
                         informative=is_informative, gradient_weight=weight)  # fmt: skip
                visit, informative = visit + 1, informative + is_informative
                if (informative if fill == "informative" else made) == GROUPS:
                    break
            if step > steps:
                return [*spent[:-1], (steps, visit, visit * GROUP_SIZE, used)]
            used += informative
            spent.append((step, visit, visit * GROUP_SIZE, used))
            self.add("updates", arm_id=arm_id, step=step, loss=0.1, rollouts=made * GROUP_SIZE,
                     informative_groups=informative, gradient_tokens=40 * informative,
                     gradient_norm=1.0, seconds=15.0)  # fmt: skip
        return spent

    def evaluate(
        self, arm_id: str, step: int, name: str, right_Q: NDArray[np.bool_],
        decoding: str = "greedy", rollout: int = 0,
    ) -> None:  # fmt: skip
        ids = {"held-out": self.held_out, "transfer": self.transfer, "train": self.train}[name]
        for index, (question_id, right) in enumerate(zip(ids, right_Q, strict=True)):
            answer = ANSWERS[(index + (0 if right else 3)) % 8]
            self.add("evaluations", arm_id=arm_id, step=step, question_id=question_id,
                     decoding=decoding, rollout=rollout, text=self.text(f" {answer}, I believe."),
                     verdict="correct" if right else "incorrect", detail="",
                     eval_grader="match-1:9f", logprob=-2.0)  # fmt: skip

    def measure_end(
        self, arm_id: str, step: int, right_Q: NDArray[np.bool_], train_Q: NDArray[np.bool_]
    ) -> None:
        """Write what is measured once: training questions, samples, the vote, masses."""
        self.evaluate(arm_id, step, "train", train_Q)
        p_Q = np.where(right_Q, 0.8, 0.1)
        for rollout in range(self.recipe.samples):
            drawn_Q = self.random.random(len(p_Q)) < p_Q
            self.evaluate(arm_id, step, "held-out", drawn_Q, "sample", rollout)
        if self.recipe.samples:
            self.evaluate(arm_id, step, "held-out", right_Q, "majority")
        for question_id, right in zip(self.held_out, right_Q, strict=True):
            logprob = -0.5 if right else -4.0 - self.random.random()
            self.add("masses", arm_id=arm_id, question_id=question_id,
                     greedy_rank=1 if right else 7, logprob=logprob,
                     mass_low=float(np.exp(logprob)), entropy=None)  # fmt: skip


@pytest.fixture(scope="session", autouse=True)
def remember_membership() -> Iterator[None]:
    """Find who is in which bucket once for the same counts: most studies here share theirs."""
    find, known = analyses._find_membership, {}

    def find_once(store: Store, bucketing_id: str, k: int, cuts: str) -> analyses.Membership:
        counts = store.read("SELECT n, correct FROM buckets ORDER BY question_id")
        key = (counts.write_csv(), k, cuts)
        if key not in known:
            known[key] = find(store, bucketing_id, k, cuts)
        return known[key]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(analyses, "_find_membership", find_once)
        yield


@pytest.fixture(scope="session")
def whole_study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the file of the whole study, which most tests copy."""
    path = tmp_path_factory.mktemp("whole") / "study.duckdb"
    Builder(Store(path), WHOLE).build()
    return path


@pytest.fixture(scope="session")
def whole(whole_study: Path) -> tuple[Store, Study]:
    """Return the whole study, and what was collected from it; for tests that change nothing."""
    store = Store(whole_study)
    return store, collect_study(store)


@pytest.fixture
def build_study(tmp_path: Path, whole_study: Path) -> Callable[..., Store]:
    """Return a function that writes the whole study, or a small one with fields of a `Recipe`."""

    def build(**fields: object) -> Store:
        store = Store(tmp_path / "study.duckdb")
        if not fields:
            shutil.copyfile(whole_study, store.path)
            return store
        return Builder(store, Recipe(**fields)).build()  # type: ignore[arg-type]

    return build


@pytest.fixture(scope="session")
def exhausted() -> Callable[..., Ending]:
    """Return a function that makes an ending: `exhausted(used, status, detail)`."""

    def end(used: float, status: str = "exhausted", detail: str = "no <b>signal</b>") -> Ending:
        return Ending(status, detail, used)

    return end


@pytest.fixture(scope="session")
def hostile() -> str:
    """Return a text that would run, break or stretch a careless page."""
    return HOSTILE
