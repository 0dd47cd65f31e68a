"""A synthetic study: five buckets, arms whose gains depend on what they were trained on."""

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from attrib.analysis.buckets import assign_buckets
from attrib.analysis.intervals import gain_share, mcnemar_exact, paired_gain, wilson_interval
from attrib.store import Store, Transaction

BEGAN = datetime(2026, 11, 20, 9, 30, tzinfo=UTC)
ANSWERS = ("Paris", "Oslo", "Lima", "Quito", "Cairo", "Hanoi", "Accra", "Dakar")


@dataclass
class Recipe:
    """What the synthetic study holds; the defaults are a whole study."""

    train: int = 40
    held_out: int = 60
    k: int = 32
    buckets: bool = True
    arms: bool = True
    seeds: tuple[int, ...] = (1,)
    steps: int = 24
    full_gain: float = 0.4
    statuses: dict[str, tuple[str, str]] = field(default_factory=dict)
    """Arm label to status and detail."""
    hostile: str | None = None
    """Becomes every question, answer and rollout text."""


class Builder:
    """Writes one study."""

    def __init__(self, store: Store, recipe: Recipe) -> None:
        self.store, self.recipe = store, recipe
        self.random = np.random.default_rng(7)
        self.train = [f"q{index:05d}" for index in range(recipe.train)]
        self.held_out = [f"t{index:05d}" for index in range(recipe.held_out)]
        self.correct_Q = np.zeros(0, dtype=np.int64)
        self.bucket_Q = np.zeros(0, dtype=np.str_)

    def build(self) -> Store:
        with self.store.writing("attrib test"), self.store.transaction() as batch:
            self.write_questions(batch)
            self.write_samples(batch)
            if self.recipe.buckets:
                self.write_buckets(batch)
            if self.recipe.arms:
                self.write_arms(batch)
        return self.store

    def text(self, plain: str) -> str:
        return plain if self.recipe.hostile is None else self.recipe.hostile

    def write_questions(self, batch: Transaction) -> None:
        ids = self.train + self.held_out
        rows = [
            {
                "question_id": name,
                "dataset": "facts",
                "split": "train" if name in set(self.train) else "held-out",
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
            "command": f"attrib sample --n {k}",
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
        batch.append(
            "verdicts",
            pl.DataFrame(
                {
                    "question_id": [name for name, _ in verdicts],
                    "answers_hash": [f"a{int(name[1:])}" for name, _ in verdicts],
                    "text": [text for _, text in verdicts],
                    "truncated": [False] * len(verdicts),
                    "grader": ["match-1:9f"] * len(verdicts),
                    "verdict": list(verdicts.values()),
                    "detail": [""] * len(verdicts),
                }
            ),
        )

    def write_buckets(self, batch: Transaction) -> None:
        k, train = self.recipe.k, len(self.train)
        n_Q = np.full(train, k)
        self.bucket_Q = assign_buckets(n_Q, self.correct_Q)
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
                    "p_low": [0.0] * train,
                    "p_high": [1.0] * train,
                }
            ),
        )

    def write_arms(self, batch: Transaction) -> None:
        params = {
            "updates": self.recipe.steps,
            "groups": 8,
            "group_size": 8,
            "max_rollouts": 50_000,
            "learning_rate": 2e-5,
            "temperature": 1.0,
            "held_out_questions": len(self.held_out),
            "training_questions": len(self.train),
            "weights_hash": "6b1f0c52d9e3a874",
        }
        batch.append(
            "experiments",
            pl.DataFrame(
                {
                    "experiment_id": ["e0"],
                    "bucketing_id": ["b0"],
                    "params": [json.dumps({**params, "command": "attrib ablate --seeds 1"})],
                    "created_at": [BEGAN + timedelta(hours=2)],
                }
            ),
        )
        names = [str(name) for name in dict.fromkeys(self.bucket_Q)]
        everything = np.arange(len(self.train))
        before_Q = self.random.random(len(self.held_out)) < 0.15
        self.write_run(batch, "base", "none", 0, np.zeros(0, dtype=np.int64), before_Q)
        self.write_effect(
            batch, "none", "base", "accuracy", wilson_interval(int(before_Q.sum()), before_Q.size)
        )
        strength = {"never-correct": 0.95, "rarely-correct": 0.8, "sometimes-correct": 0.5,
                    "mostly-correct": 0.2, "always-correct": 0.0}  # fmt: skip
        plans = [("full", "full", everything, 1.0)]
        for name in names:
            inside = everything[self.bucket_Q == name]
            plans.append(("only", name, inside, strength[name]))
        for name in names:
            outside = everything[self.bucket_Q != name]
            plans.append(("all-but", name, outside, 1.0 - 0.4 * strength[name]))
        luck_Q = self.random.random(len(self.held_out))
        full_after_Q = before_Q
        for role, subset, members, part in plans:
            after_Q = before_Q
            for seed in self.recipe.seeds:
                noise_Q = self.random.random(len(self.held_out)) < 0.04
                after_Q = (before_Q | (luck_Q < self.recipe.full_gain * part)) & ~noise_Q
                self.write_run(batch, role, subset, seed, members, after_Q)
            full_after_Q = after_Q if role == "full" else full_after_Q
            accuracy = wilson_interval(int(after_Q.sum()), after_Q.size)
            self.write_effect(batch, subset, role, "accuracy", accuracy)
            self.write_effect(batch, subset, role, "gain", paired_gain(before_Q, after_Q))
            self.write_effect(
                batch, subset, role, "share", gain_share(before_Q, after_Q, full_after_Q)
            )
            self.write_effect(batch, subset, role, "mcnemar_p", mcnemar_exact(before_Q, after_Q))

    def write_effect(
        self, batch: Transaction, subset: str, role: str, statistic: str, found: object
    ) -> None:
        value = found if isinstance(found, float) else found.value  # type: ignore[attr-defined]
        batch.execute(
            "INSERT INTO effects VALUES ('e0', $subset, $role, $statistic, $value, $low, $high, "
            "$seeds, $questions)",
            subset=subset,
            role=role,
            statistic=statistic,
            value=value,
            low=getattr(found, "low", None),
            high=getattr(found, "high", None),
            seeds=len(self.recipe.seeds),
            questions=len(self.held_out),
        )

    def write_run(
        self,
        batch: Transaction,
        role: str,
        subset: str,
        seed: int,
        members: np.ndarray,
        outcome_Q: np.ndarray,
    ) -> None:
        arm_id = f"{role}-{subset}-{seed}"
        label = {"only": f"only {subset}", "all-but": f"all but {subset}"}.get(role, role)
        status, detail = self.recipe.statuses.get(label, ("done", ""))
        steps = (
            0
            if role == "base"
            else self.recipe.steps
            if status == "done"
            else self.recipe.steps // 3
        )
        batch.execute(
            "INSERT INTO training_runs VALUES ($arm_id, $method, $seed, $params, $questions, "
            "$status, $detail, $updates, $rollouts, $seconds, $at)",
            arm_id=arm_id,
            method="base" if role == "base" else "grpo",
            seed=seed,
            params=json.dumps({"learning_rate": 1e-5, "group_size": 8, "temperature": 1.0}),
            questions=members.size,
            status=status,
            detail=detail,
            updates=steps,
            rollouts=steps * 96,
            seconds=61.7 * steps / 4,
            at=BEGAN + timedelta(hours=3),
        )
        batch.execute(
            "INSERT INTO arm_roles VALUES ('e0', $arm_id, $subset, $role)",
            arm_id=arm_id,
            subset=subset,
            role=role,
        )
        self.write_evaluation(batch, arm_id, steps, outcome_Q)
        if steps:
            self.write_training(batch, arm_id, steps, members)

    def write_evaluation(
        self, batch: Transaction, arm_id: str, step: int, outcome_Q: np.ndarray
    ) -> None:
        rows = len(self.held_out)
        batch.append(
            "evaluations",
            pl.DataFrame(
                {
                    "arm_id": [arm_id] * rows,
                    "step": [step] * rows,
                    "question_id": self.held_out,
                    "decoding": ["greedy"] * rows,
                    "rollout": [0] * rows,
                    "text": [
                        self.text(f" {ANSWERS[(index + (0 if right else 3)) % 8]}, I believe.")
                        for index, right in enumerate(outcome_Q)
                    ],
                    "verdict": ["correct" if right else "incorrect" for right in outcome_Q],
                    "detail": [""] * rows,
                    "eval_grader": ["match-1:9f"] * rows,
                }
            ),
        )

    def write_training(
        self, batch: Transaction, arm_id: str, steps: int, members: np.ndarray
    ) -> None:
        visits = []
        for step in range(1, steps + 1):
            for index in self.random.choice(members, size=12):
                start = self.correct_Q[index] / self.recipe.k
                p = start + (0.95 - start) * min(1.0, step / steps) * 0.8
                correct = int(self.random.binomial(8, min(1.0, max(p, 0.02))))
                weight = 0.0 if correct in {0, 8} else float(correct * (8 - correct)) / 8
                visits.append((step, self.train[index], correct, weight))
        count = len(visits)
        batch.append(
            "visits",
            pl.DataFrame(
                {
                    "arm_id": [arm_id] * count,
                    "step": [row[0] for row in visits],
                    "question_id": [row[1] for row in visits],
                    "rollouts": [8] * count,
                    "correct": [row[2] for row in visits],
                    "informative": [row[3] > 0 for row in visits],
                    "gradient_weight": [row[3] for row in visits],
                }
            ),
        )
        batch.append(
            "updates",
            pl.DataFrame(
                {
                    "arm_id": [arm_id] * steps,
                    "step": list(range(1, steps + 1)),
                    "loss": [0.1] * steps,
                    "rollouts": [96] * steps,
                    "informative_groups": [
                        sum(row[0] == step and row[3] > 0 for row in visits)
                        for step in range(1, steps + 1)
                    ],
                    "gradient_tokens": [640] * steps,
                    "gradient_norm": [1.0] * steps,
                    "seconds": [15.0] * steps,
                }
            ),
        )


@pytest.fixture(scope="session")
def whole_study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the file of the default study, which most tests copy."""
    path = tmp_path_factory.mktemp("whole") / "study.duckdb"
    Builder(Store(path), Recipe()).build()
    return path


@pytest.fixture
def build_study(tmp_path: Path, whole_study: Path) -> Callable[..., Store]:
    """Return a function that writes a study from the fields of a `Recipe`."""

    def build(**fields: object) -> Store:
        store = Store(tmp_path / "study.duckdb")
        if not fields:
            shutil.copyfile(whole_study, store.path)
            return store
        return Builder(store, Recipe(**fields)).build()  # type: ignore[arg-type]

    return build
