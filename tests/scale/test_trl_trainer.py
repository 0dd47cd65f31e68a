"""Arms trained with TRL as users train them: `accelerate launch`, processes of their own, the CLI.

The gradient that TRL reports of an update, and the weights it leaves, are compared with what our
trainer would have made of the same rollouts.
"""

import json
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
from safetensors.torch import load_file

from attrib.attribution import trl_process
from attrib.attribution.ablate import ablate
from attrib.attribution.groups import Group
from attrib.attribution.objective import Advantage, Normalisation, PolicyGradient
from attrib.attribution.policy import Policy
from attrib.attribution.settings import AblateSettings
from attrib.attribution.trl_line import Drawn, Line, Message, Rewarded, Stepped
from attrib.sampling.bucketing import BucketSettings, bucket_questions
from attrib.sampling.child_processes import MARK
from attrib.sampling.models import load_model
from attrib.sampling.prompts import choose_prompt_style
from attrib.sampling.rollouts import SampleSettings, draw_rollouts
from attrib.store import Store

N, QUESTIONS, LONGEST = 24, 30, 4
GROUPS, SIZE = 6, 16
WEIGHTS = "model.safetensors"
RATE = 0.003
TABLES = {
    "arms": "SELECT * EXCLUDE (wall_seconds) FROM arms ORDER BY arm_id, role",
    "updates": "SELECT * EXCLUDE (seconds) FROM updates ORDER BY arm_id, step",
    "visits": "SELECT * FROM visits ORDER BY arm_id, visit",
    "visit_rollouts": "SELECT * FROM visit_rollouts ORDER BY arm_id, visit, rowid",
    "milestones": "SELECT * EXCLUDE (seconds) FROM milestones ORDER BY arm_id, fraction",
    "evaluations": "SELECT * FROM evaluations ORDER BY ALL",
    "masses": "SELECT * FROM masses ORDER BY ALL",
    "effects": "SELECT * FROM effects ORDER BY ALL",
    "verdicts": "SELECT * FROM verdicts ORDER BY ALL",
}

Start = Callable[..., subprocess.Popen[str]]

pytestmark = pytest.mark.timeout(900)


@pytest.fixture(scope="module")
def bucketed(tmp_path_factory: pytest.TempPathFactory, chatting_model: Path) -> Path:
    """Make a study with buckets; copy it before changing anything."""
    store = Store(tmp_path_factory.mktemp("bucketed") / "study.duckdb")
    draw_rollouts(
        store,
        SampleSettings(
            model=str(chatting_model),
            n=N,
            limit=QUESTIONS,
            where="relation = 'continent'",
            max_new_tokens=LONGEST,
            device="cpu",
        ),
    )
    bucket_questions(store, BucketSettings(k=N))
    return store.path


def copy_study(original: Path, path: Path) -> Store:
    return Store(Path(shutil.copy(original, path)))


def options(updates: int, *more: object) -> tuple[object, ...]:
    return (
        *("--trainer", "trl", "--fill", "none", "--budget", f"updates={updates}"),
        *("--groups", GROUPS, "--group-size", SIZE, "--learning-rate", RATE, "--seeds", 1),
        *("--subset", "never-correct", "--role", "only", "--device", "cpu"),
        *("--eval-samples", 4, "--cot-tokens", 0, "--eval-limit", 20, *more),
    )


# Killed and not killed


def marked_processes() -> set[int]:
    """Return the processes that some run of ours started."""
    found = set()
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if MARK.encode() in (folder / "environ").read_bytes():
                found.add(int(folder.name))
        except OSError:
            continue
    return found


def signal_after_update(
    process: subprocess.Popen[str], store: Store, step: int, what: signal.Signals
) -> str:
    """Send a signal, and see that what it started ends too; return what was said to the user."""
    while store.read("SELECT coalesce(max(step), 0) FROM updates").item() < step:
        assert process.poll() is None, process.communicate()
        time.sleep(0.1)
    process.send_signal(what)
    _, stderr = process.communicate(timeout=30)
    deadline = time.monotonic() + 30
    while marked_processes() and time.monotonic() < deadline:
        time.sleep(0.2)
    assert marked_processes() == set()
    return stderr


def test_arms_are_trained_with_trl_and_a_kill_changes_nothing(
    tmp_path: Path, bucketed: Path, start_attrib: Start
) -> None:
    quiet = copy_study(bucketed, tmp_path / "quiet.duckdb")
    killed = copy_study(bucketed, tmp_path / "killed.duckdb")
    settings = options(6, "--inner-epochs", 2, "--kl", 0.05, "--keep", "last")

    process = start_attrib("ablate", "--db", quiet.path, *settings)
    stdout, stderr = process.communicate(timeout=300)
    assert process.returncode == 0, stderr
    assert "only never-correct" in stdout

    process = start_attrib("ablate", "--db", killed.path, *settings)
    stderr = signal_after_update(process, killed, 1, signal.SIGINT)
    assert process.returncode == 130
    assert stderr.endswith("the same command continues from there.\n")
    assert "Traceback" not in stderr
    process = start_attrib("ablate", "--db", killed.path, *settings)
    signal_after_update(process, killed, 5, signal.SIGKILL)
    [folder] = Path(f"{killed.path}.checkpoints").iterdir()
    assert (folder / "weights-000003.safetensors").exists()
    assert [file.parent.name for file in folder.glob("*/whole")] == ["checkpoint-6"]
    running = "SELECT status FROM arms WHERE role = 'full'"
    assert killed.read(running).item() == "running"
    process = start_attrib("ablate", "--db", killed.path, *settings)
    _, stderr = process.communicate(timeout=300)
    assert process.returncode == 0, stderr

    check_ledger(quiet)
    for name, sql in TABLES.items():
        assert killed.read(sql).equals(quiet.read(sql)), name
    assert weights_of(killed) == weights_of(quiet) != {}
    assert list(Path(f"{quiet.path}.checkpoints").iterdir()) == []


def weights_of(store: Store) -> dict[str, bytes]:
    folder = Path(f"{store.path}.models")
    return {
        str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*.safetensors")
    }


def check_ledger(store: Store) -> None:
    """Check what a finished study holds of two arms with six updates each."""
    arms = store.read("SELECT role, status, updates, rollouts, params->>'trainer' FROM arms")
    assert set(arms.rows()) == {
        ("base", "done", 0, 0, None),
        ("full", "done", 6, 6 * GROUPS * SIZE, "trl"),
        ("only", "done", 6, 6 * GROUPS * SIZE, "trl"),
    }
    visits = store.read(
        "SELECT * FROM visits JOIN arms USING (arm_id) WHERE role = 'full' ORDER BY visit"
    )
    assert visits["visit"].to_list() == list(range(6 * GROUPS))
    assert visits["question_id"][:QUESTIONS].n_unique() == QUESTIONS  # an epoch
    assert (visits["rollouts"] == SIZE).all()
    mixed = (visits["correct"] > 0) & (visits["correct"] < SIZE)
    assert mixed.equals(visits["informative"], check_names=False)
    assert mixed.any()
    assert mixed.equals(visits["gradient_weight"] > 0, check_names=False)
    updates = store.read(
        "SELECT * FROM updates JOIN arms USING (arm_id) WHERE role = 'full' ORDER BY step"
    )
    counted = visits.group_by("step").agg(pl.col("informative").sum()).sort("step")
    assert updates["informative_groups"].to_list() == counted["informative"].to_list()
    assert ((updates["gradient_norm"] > 0) == (updates["informative_groups"] > 0)).all()
    assert (updates["seconds"] > 0).all()
    milestones = store.read("SELECT fraction, step, rollouts FROM milestones ORDER BY ALL").rows()
    half = (0.5, 3, 3 * GROUPS * SIZE)
    assert milestones == [(0.0, 0, 0), half, half, *2 * [(1.0, 6, 6 * GROUPS * SIZE)]]
    evaluated = store.read(
        "SELECT role, decoding, step, count(*) FROM evaluations JOIN arms USING (arm_id) "
        "WHERE role = 'full' GROUP BY ALL ORDER BY ALL"
    )
    assert evaluated.rows() == [
        ("full", "greedy", 3, 20),
        ("full", "greedy", 6, 20 + QUESTIONS),
        ("full", "majority", 6, 20),
        ("full", "sample", 6, 80),
    ]


def test_a_process_that_fails_is_named_with_its_log(
    tmp_path: Path, bucketed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trl_process, "WORKER", "no_such_module")
    store = copy_study(bucketed, tmp_path / "study.duckdb")
    settings = AblateSettings(
        **{"trainer": "trl", "fill": "none", "device": "cpu", "subset": ("never-correct",)},
        **{"role": (), "seeds": 1, "eval_limit": 4, "eval_samples": 0, "cot_tokens": 0},
    )
    assert ablate(store, settings, lambda plan: None).failed == ("full, seed 0",)
    detail = store.read("SELECT detail FROM arms WHERE role = 'full'").item()
    assert detail.startswith("The process that trains with TRL failed: ")
    [log] = Path(f"{store.path}.checkpoints").glob("*/log.txt")
    assert f"All it wrote is in {log}." in detail
    assert "No module named no_such_module" in log.read_text()


# The same gradients


@dataclass
class Overheard:
    """What the training process and the recording one said to each other."""

    drawn: list[Drawn] = field(default_factory=list)
    rewarded: list[Rewarded] = field(default_factory=list)
    stepped: list[Stepped] = field(default_factory=list)

    def listen(self, patch: pytest.MonkeyPatch) -> None:
        receive, send = Line.receive, Line.send

        def overhear_received(line: Line) -> Message:
            message = receive(line)
            if isinstance(message, Drawn):
                self.drawn.append(message)
            if isinstance(message, Stepped):
                self.stepped.append(message)
            return message

        def overhear_sent(line: Line, message: Message) -> None:
            if isinstance(message, Rewarded):
                self.rewarded.append(message)
            send(line, message)

        patch.setattr(Line, "receive", overhear_received)
        patch.setattr(Line, "send", overhear_sent)

    def groups(self, update: int, count: int, prompts: dict[str, tuple[int, ...]]) -> list[Group]:
        """Return the groups of one update."""
        drawn, rewards = self.drawn[update], self.rewarded[update].rewards
        assert len(drawn.completions) == len(rewards) == count * SIZE
        assert None not in rewards
        return [
            Group(
                drawn.question_ids[at],
                prompts[drawn.question_ids[at]],
                tuple(tuple(tokens) for tokens in drawn.completions[at : at + SIZE]),
                np.array([reward > 0 for reward in rewards[at : at + SIZE]]),
            )
            for at in range(0, len(rewards), SIZE)
        ]


CASES: dict[str, dict[str, object]] = {
    "grpo": {"budget": "updates=6", "groups": 2},  # some batches without a signal
    "everything, in two processes": {
        "budget": "updates=2",
        "inner_epochs": 2,
        "kl": 0.1,
        "normalisation": Normalisation.PER_TOKEN,
        "advantage": Advantage.LEAVE_ONE_OUT,
        "warmup": 0.3,
        "schedule": "cosine",
        "clip_low": 0.01,
        "clip_high": 0.02,
        "max_gradient_norm": 0.1,
        "seed": 1,
    },
    "adapters": {
        "budget": "epochs=1",
        "groups": 15,
        "lora": 4,
        "normalisation": Normalisation.CONSTANT,
        "advantage": Advantage.MEAN_ONLY,
        "tokens_at_once": 64,
    },
}
TWO_PROCESSES = {
    "compute_environment": "LOCAL_MACHINE",
    "distributed_type": "MULTI_GPU",  # with use_cpu: two processes on the CPU
    "num_machines": 1,
    "num_processes": 2,
    "mixed_precision": "no",
    "use_cpu": True,
    "debug": False,
}


@dataclass(frozen=True)
class Expected:
    """What our trainer makes of an update."""

    loss: float
    norm: float


class Ours:
    """Our trainer's updates, on rollouts that are handed to it."""

    def __init__(self, model: Path, settings: AblateSettings, updates: int) -> None:
        self._settings, self._updates = settings, updates
        self.language_model = load_model(str(model), "cpu")
        self.policy = Policy(self.language_model, lora=settings.lora, has_reference=settings.kl > 0)
        self._first = load_file(model / WEIGHTS)
        self._optimizer = torch.optim.AdamW(
            self.policy.trained.values(),
            betas=(settings.beta1, settings.beta2),
            weight_decay=0.0,
        )

    def update(self, number: int, groups: list[Group]) -> Expected:
        settings = self._settings
        if not any(group.has_both for group in groups):
            return Expected(0.0, 0.0)
        for options in self._optimizer.param_groups:
            factor = settings.rate_factor((number + 0.5) / self._updates)
            options["lr"] = settings.learning_rate * factor
        objective = PolicyGradient(
            self.policy,
            groups,
            advantage=settings.advantage,
            normalisation=settings.normalisation,
            longest=LONGEST,
            clip_low=settings.clip_low,
            clip_high=settings.clip_high,
            kl=settings.kl,
        )
        steps = []
        for _ in range(settings.inner_epochs):
            self._optimizer.zero_grad()
            loss = sum(part.loss for part in objective.backward())
            norm = torch.nn.utils.clip_grad_norm_(
                self.policy.trained.values(), settings.max_gradient_norm
            )
            self._optimizer.step()
            steps.append(Expected(loss, float(norm)))
        return steps[0]

    def assert_same(self, found: Path, folder: Path) -> None:
        """Check that all weights have moved to the same place; `folder` takes ours."""
        self.policy.save(folder)
        weights, expected = load_file(found / WEIGHTS), load_file(folder / WEIGHTS)
        assert weights.keys() == expected.keys()
        for name, tensor in expected.items():
            moved = (tensor - self._first[name]).norm()
            assert (weights[name] - tensor).norm() <= 1e-3 * moved, name


@pytest.mark.parametrize("case", CASES)
def test_updates_are_those_of_our_trainer(
    tmp_path: Path,
    bucketed: Path,
    chatting_model: Path,
    monkeypatch: pytest.MonkeyPatch,
    case: str,
) -> None:
    config = None
    if "processes" in case:
        config = tmp_path / "accelerate.json"
        config.write_text(json.dumps(TWO_PROCESSES))
    settings = AblateSettings(
        **{
            **{"trainer": "trl", "fill": "none", "accelerate_config": config, "device": "cpu"},
            **{"groups": GROUPS, "group_size": SIZE, "learning_rate": RATE, "keep": "all"},
            **{"subset": ("never-correct",), "role": (), "seeds": 1, "evaluate_at": (0.5, 1.0)},
            **{"eval_limit": 4, "eval_samples": 0, "cot_tokens": 0, **CASES[case]},
        }
    )
    store = copy_study(bucketed, tmp_path / "study.duckdb")
    overheard = Overheard()
    overheard.listen(monkeypatch)
    assert ablate(store, settings, lambda plan: None).failed == ()

    updates = len(overheard.stepped)
    ours = Ours(chatting_model, settings, updates)
    style = choose_prompt_style(is_chat=True)
    texts = store.read("SELECT question_id, text FROM questions").rows()
    prompts = {
        question_id: style.ask(text, ours.language_model.tokenizer).token_ids
        for question_id, text in texts
    }
    ledger = store.read("SELECT step, loss, gradient_norm FROM updates ORDER BY step").rows()
    assert len(ledger) == updates
    [kept] = Path(f"{store.path}.models").iterdir()
    for update, (step, loss, norm) in enumerate(ledger):
        expected = ours.update(update, overheard.groups(update, settings.groups, prompts))
        assert step == update + 1
        assert norm == pytest.approx(expected.norm, rel=1e-4, abs=1e-9)
        assert loss == pytest.approx(expected.loss, rel=1e-3, abs=1e-7)
        fraction = {updates // 2: "0.5", updates: "1"}.get(step)
        if fraction is not None:
            ours.assert_same(kept / fraction, tmp_path / f"ours-{fraction}")
    norms = [norm for _, _, norm in ledger]
    assert max(norms) > 0
    assert (min(norms) == 0) == (case == "grpo")
