"""What of `--trainer trl` needs no process of TRL's own; the rest is in tests/scale.

Where a whole run is needed, a stand-in plays TRL: it draws fixed completions, moves all weights by
as much in every update, and keeps what it is told to keep.
"""

import json
import math
import socket
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from safetensors.torch import load_file
from transformers import LlamaForCausalLM

from attrib.attribution import trl_checks, trl_trainer
from attrib.attribution.ablate import AblationSummary, plan_ablation
from attrib.attribution.arms import Arm
from attrib.attribution.groups import Group
from attrib.attribution.ledger import Visit
from attrib.attribution.objective import Advantage, Normalisation, PolicyGradient
from attrib.attribution.policy import Policy
from attrib.attribution.settings import AblateSettings, Vllm
from attrib.attribution.trainers import find_trainer
from attrib.attribution.trl_batch import DrawnBatch
from attrib.attribution.trl_checks import Launch, count_updates, read_launch, refuse_unfit
from attrib.attribution.trl_job import (
    WHOLE,
    Batches,
    Job,
    checkpoint_folder,
    grpo_arguments,
    plain_name,
    split_batch,
    weights_file,
    write_weights,
)
from attrib.attribution.trl_line import (
    Drawn,
    HungUpError,
    Line,
    Message,
    Orders,
    Rewarded,
    Saved,
    Stepped,
)
from attrib.attribution.trl_process import Place, launch_command, launch_environment
from attrib.attribution.trl_trainer import find_milestones, run_folder
from attrib.data.questions import load_worldfacts
from attrib.errors import ConfigError, MissingExtraError
from attrib.roles import Role
from attrib.sampling.grading import Verdict
from attrib.store import Store

Ablate = Callable[..., AblationSummary]
ReadTables = Callable[[Store], dict[str, pl.DataFrame]]

END = 3
UPDATES, GROUPS, SIZE = 5, 4, 8
TRL: dict[str, Any] = {
    **{"trainer": "trl", "fill": "none", "device": "cpu", "keep": "all"},
    **{"budget": f"updates={UPDATES}", "groups": GROUPS, "group_size": SIZE},
    **{"evaluate_at": (0.5, 1.0), "role": ()},
}
HALF = 3  # the update at which half of the budget is used
MOVE = 1e-3  # of each weight in each update


def settings_of(**changes: object) -> AblateSettings:
    return AblateSettings(**{**TRL, **changes})


def arm_of(questions: int, role: Role = Role.ONLY) -> Arm:
    return Arm("some", role, tuple(load_worldfacts()[:questions]), {}, 0)


# What is refused


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"method": "sft"}, "--method grpo only, not sft"),
        ({"fill": "informative"}, "type --fill none"),
        ({"budget": "informative-groups=4"}, "give updates=N, epochs=N or rollouts=N"),
        ({"trl_vllm": "server"}, "--trl-vllm server and --trl-vllm-url go together"),
        ({"trl_vllm_url": "http://localhost:8000"}, "go together"),
        ({"trl_vllm": "colocate"}, "--trl-vllm colocate needs CUDA"),
        ({"accelerate_config": Path("none.yaml")}, "--accelerate-config none.yaml: .*not exist"),
    ],
)
def test_what_trl_cannot_do_is_refused(changes: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        refuse_unfit(settings_of(**changes))


def test_what_it_can_do_is_not() -> None:
    refuse_unfit(settings_of(lora=4, kl=0.1, inner_epochs=2, schedule="cosine"))


@pytest.mark.parametrize("package", ["trl", "accelerate", "datasets"])
def test_a_missing_package_is_named_with_its_extra(
    monkeypatch: pytest.MonkeyPatch, package: str
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name == package else 1)
    with pytest.raises(MissingExtraError, match=rf"'{package}'.*pip install 'attrib\[trl\]'"):
        refuse_unfit(settings_of())


@pytest.mark.parametrize("installed", ["1.15.2", "2.0.0"])
def test_another_trl_is_refused(monkeypatch: pytest.MonkeyPatch, installed: str) -> None:
    monkeypatch.setattr(trl_checks, "version", lambda name: installed)
    with pytest.raises(ConfigError, match=f"{installed} is installed. Type: pip install"):
        refuse_unfit(settings_of())


@pytest.mark.parametrize(
    ("installed", "message"),
    [("0.21.3", "0.21.3 is installed"), ("0.32.0", "0.32.0 is installed"), ("0.31.0", None)],
)
def test_vllm_is_taken_in_the_versions_that_trl_works_with(
    monkeypatch: pytest.MonkeyPatch, installed: str, message: str | None
) -> None:
    versions = {"vllm": installed, "trl": "1.16.0"}
    monkeypatch.setattr(trl_checks, "version", versions.__getitem__)
    monkeypatch.setattr(trl_checks, "_has_cuda", lambda: True)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: 1)
    settings = settings_of(trl_vllm="colocate", device="auto")
    if message is None:
        refuse_unfit(settings)
    else:
        with pytest.raises(ConfigError, match=f"{message}.*pip install 'vllm>=0.22,<=0.31.0'"):
            refuse_unfit(settings)


def test_vllm_is_looked_for_where_it_would_draw(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trl_checks, "_has_cuda", lambda: False)
    refuse_unfit(settings_of(trl_vllm="colocate", device="auto", cluster="auto"))
    for cluster in (None, "local", "none"):
        with pytest.raises(ConfigError, match="needs CUDA"):
            refuse_unfit(settings_of(trl_vllm="colocate", device="auto", cluster=cluster))


def write_config(folder: Path, **changes: object) -> Path:
    file = folder / "accelerate.json"
    plain = {"compute_environment": "LOCAL_MACHINE", "distributed_type": "MULTI_GPU"}
    more = {"num_machines": 1, "num_processes": 4, "mixed_precision": "no", "use_cpu": False}
    file.write_text(json.dumps({**plain, **more, "debug": False, **changes}))
    return file


@pytest.mark.parametrize(
    ("config", "changes", "message"),
    [
        ({"num_machines": 2}, {}, "asks for 2 machines"),
        ({"mixed_precision": "bf16"}, {}, "bf16, and --dtype float32 means no"),
        ({"num_processes": 3}, {}, "--groups 4 of --group-size 8 cannot be dealt out"),
        ({"num_processes": -1}, {}, "Set num_processes"),
        ({"no_such_key": 1}, {}, "no_such_key"),
        ({"deepspeed_config": {"zero_stage": 3}}, {"lora": 4}, "Choose stage 2, or FSDP"),
    ],
)
def test_configurations_that_do_not_fit_are_refused(
    tmp_path: Path, config: dict[str, object], changes: dict[str, object], message: str
) -> None:
    file = write_config(tmp_path, **config)
    with pytest.raises(ConfigError, match=message):
        refuse_unfit(settings_of(accelerate_config=file, **changes))


def test_what_accelerate_is_told_is_read_off_its_file(tmp_path: Path) -> None:
    file = write_config(tmp_path, mixed_precision="bf16")
    settings = settings_of(accelerate_config=file, dtype="bfloat16")
    assert read_launch(settings) == Launch(file.resolve(), 4, "bf16")
    assert read_launch(settings_of()) == Launch(None, 1, "no")


@pytest.mark.parametrize(
    ("budget", "updates"),
    [("updates=7", 7), ("epochs=2", 5), (f"rollouts={3 * GROUPS * SIZE}", 3)],
)
def test_budgets_are_numbers_of_updates(budget: str, updates: int) -> None:
    assert count_updates(settings_of(budget=budget), arm_of(10)) == updates


@pytest.mark.parametrize(
    ("budget", "message"),
    [
        ("epochs=1", "is 10 visits, no whole number of batches of 4"),
        (f"rollouts={GROUPS * SIZE + 1}", "is 33 rollouts, no whole number of batches of 32"),
    ],
)
def test_a_budget_with_a_smaller_last_batch_is_refused(budget: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        count_updates(settings_of(budget=budget), arm_of(10))


def test_a_budget_beyond_the_limit_on_rollouts_is_refused() -> None:
    settings = settings_of(max_rollouts=UPDATES * GROUPS * SIZE - 1)
    trl_checks.refuse_uneven(settings, [arm_of(10, Role.BASE)])
    with pytest.raises(ConfigError, match="takes 160 rollouts, more than --max-rollouts 159"):
        trl_checks.refuse_uneven(settings, [arm_of(10)])


def test_stop_strings_are_refused(store: Store, ablate_shortly: Ablate) -> None:
    with pytest.raises(ConfigError, match="ends them at end tokens only"):
        ablate_shortly(store, **TRL)


# What the processes are told


BATCHES = Batches(
    updates=5, processes=2, longest_prompt=20, longest=4, temperature=0.7, end_token_ids=(3,)
)


@pytest.mark.parametrize("vllm", Vllm)
def test_trl_takes_every_argument(tmp_path: Path, vllm: Vllm) -> None:
    from trl import GRPOConfig

    settings = settings_of(
        **{"inner_epochs": 2, "kl": 0.1, "trl_vllm": vllm, "clip_high": 0.28, "beta2": 0.9},
        trl_vllm_url="http://localhost:8000" if vllm is Vllm.SERVER else None,
    )
    batches = Batches(5, 1, 20, 4, 0.7, (3,))  # this process is alone
    arguments = grpo_arguments(settings, batches, tmp_path, 7, on_cpu=True)
    assert arguments.keys() <= {one.name for one in fields(GRPOConfig)}
    config = GRPOConfig(**arguments)
    assert config.max_steps == 10
    assert config.generation_batch_size == GROUPS * SIZE
    assert config.steps_per_generation * config.per_device_train_batch_size == GROUPS * SIZE
    assert (config.seed, config.temperature, config.max_completion_length) == (7, 0.7, 4)
    assert (config.epsilon, config.epsilon_high, config.beta) == (0.2, 0.28, 0.1)
    assert (config.adam_beta1, config.adam_beta2, config.weight_decay) == (0.9, 0.9, 0.0)
    assert (config.num_iterations, config.loss_type, config.scale_rewards) == (2, "grpo", "group")
    assert (config.bf16, config.report_to, config.push_to_hub) == (False, [], False)
    assert config.use_vllm is (vllm is not Vllm.NONE)


@pytest.mark.parametrize("tokens_at_once", [1, 24, 100, 512, 10_000])
def test_forwards_fit_and_make_up_the_batch(tokens_at_once: int) -> None:
    settings = settings_of(groups=6, group_size=10)
    per_device, accumulated = split_batch(settings, BATCHES, tokens_at_once)
    assert per_device * accumulated * BATCHES.processes == 60
    assert per_device == 1 or per_device * 24 <= tokens_at_once
    assert per_device == {1: 1, 24: 1, 100: 3, 512: 15, 10_000: 30}[tokens_at_once]


def test_a_job_is_read_as_it_was_written(tmp_path: Path) -> None:
    job = Job("m", "a", ["q"], ["Q: ?"], [0, 0], [1e-5], 1, 0, {"seed": 1}, None)
    job.write(tmp_path)
    assert Job.read(tmp_path) == job


@pytest.mark.parametrize(
    "name",
    [
        "model.layers.0.mlp.up_proj.weight",
        "base_model.model.model.layers.0.mlp.up_proj.weight",
        "_fsdp_wrapped_module.model.layers.0._fsdp_wrapped_module.mlp.up_proj.weight",
    ],
)
def test_parameters_have_one_name(name: str) -> None:
    assert plain_name(name) == "model.layers.0.mlp.up_proj.weight"


def test_one_process_has_a_configuration_of_its_own(tmp_path: Path) -> None:
    place = Place(tmp_path, Launch(None, 1, "no"), torch.device("cpu"))
    command = launch_command(place)
    config = json.loads(Path(command[command.index("--config_file") + 1]).read_text())
    assert (config["num_processes"], config["use_cpu"]) == (1, True)
    assert command[-2:] == ["attrib.attribution.trl_worker", str(tmp_path)]


@pytest.mark.parametrize(
    ("device", "visible", "expected"),
    [
        ("cuda", None, "0"),
        ("cuda:1", None, "1"),
        ("cuda:1", "4,6", "6"),
        ("cpu", "4,6", "4,6"),
    ],
)
def test_one_process_sees_its_device_alone(
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    device: str,
    visible: str | None,
    expected: str,
) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    alone = Place(tmp_path, Launch(None, 1, "no"), torch.device(device))
    assert launch_environment(alone)["CUDA_VISIBLE_DEVICES"] == expected
    several = Place(tmp_path, Launch(tmp_path, 2, "no"), torch.device(device))
    assert launch_environment(several).get("CUDA_VISIBLE_DEVICES") == visible
    assert launch_environment(alone)["HF_HUB_OFFLINE"] == "1"


# What is said


def test_messages_arrive_as_they_were_said() -> None:
    messages: list[Message] = [
        Drawn(["a", "a"], [[1, 3], [2]]),
        Rewarded([1.0, None], has_signal=False),
        Stepped(loss=math.inf, norm=0.1),
        Orders(weights=True, checkpoint=False),
        Saved(seconds=1.5),
    ]
    asking, answering = map(Line, socket.socketpair())
    for message in messages:
        asking.send(message)
        assert answering.receive() == message
    asking.close()
    with pytest.raises(HungUpError):
        answering.receive()
    with pytest.raises(HungUpError):
        [answering.send(messages[0]) for _ in range(2)]
    answering.close()


def test_half_a_message_is_none() -> None:
    ours, theirs = socket.socketpair()
    theirs.sendall(b'{"kind": "Sav')
    theirs.close()
    with pytest.raises(HungUpError):
        Line(ours).receive()


@pytest.mark.parametrize(
    ("fractions", "updates", "expected"),
    [
        ((0.5, 1.0), 5, {3: 0.5, 5: 1.0}),
        ((0.5, 1.0), 6, {3: 0.5, 6: 1.0}),
        ((0.1, 0.2, 1.0), 4, {1: 0.2, 4: 1.0}),
        ((0.3, 1.0), 10, {3: 0.3, 10: 1.0}),
        ((0.5, 1.0), 1, {1: 1.0}),
    ],
)
def test_milestones_are_the_first_updates_that_reach_them(
    fractions: tuple[float, ...], updates: int, expected: dict[int, float]
) -> None:
    assert find_milestones(fractions, updates) == expected


# What a batch is in the ledger


def batch_of(*groups: tuple[Group, list[Verdict]], lengths: list[list[int]]) -> DrawnBatch:
    visits = tuple(
        Visit(i, load_worldfacts()[i], group, len(verdicts), group.has_both)
        for i, (group, verdicts) in enumerate(groups)
    )
    return DrawnBatch(visits, [verdicts for _, verdicts in groups], lengths)


RIGHT, WRONG, NONE = Verdict.CORRECT, Verdict.INCORRECT, Verdict.UNGRADED


@pytest.fixture
def with_ungraded(make_group: Callable[..., Group]) -> DrawnBatch:
    """Return one right and two wrong completions, one ungraded, and a group of wrong ones."""
    mixed = make_group((4,), ((5,), True), ((6, END), False), ((6, 7), False))
    wrong = make_group((4,), *[((8, END), False)] * 4)
    return batch_of(
        (mixed, [RIGHT, WRONG, NONE, WRONG]), (wrong, [WRONG] * 4), lengths=[[1, 2, 3, 2], [2] * 4]
    )


@pytest.mark.parametrize(
    ("advantage", "expected"),
    [(Advantage.GROUP_NORMALISED, 1.0), (Advantage.LEAVE_ONE_OUT, 1.5)],  # 3 are graded
)
def test_ungraded_rollouts_have_no_reward(
    with_ungraded: DrawnBatch, advantage: Advantage, expected: float
) -> None:
    rewarded = with_ungraded.rewarded(advantage)
    assert rewarded.rewards == [expected, 0.0, None, 0.0, 0.0, 0.0, 0.0, 0.0]
    assert rewarded.has_signal


@pytest.mark.parametrize(
    ("normalisation", "weight"),
    [
        # advantages 2/3, -1/3, -1/3; lengths 1, 2, 2; 8 completions of 16 tokens in all
        (Normalisation.PER_SEQUENCE, (2 / 3 + 1 / 3 + 1 / 3) / 8),
        (Normalisation.PER_TOKEN, (2 / 3 + 2 / 3 + 2 / 3) / 16),
        (Normalisation.CONSTANT, (2 / 3 + 2 / 3 + 2 / 3) / (4 * 8)),
    ],
)
def test_denominators_count_ungraded_completions_as_trl_does(
    with_ungraded: DrawnBatch, normalisation: Normalisation, weight: float
) -> None:
    settings = settings_of(normalisation=normalisation, advantage="mean-only")
    update = with_ungraded.update(Stepped(0.25, 2.0), settings, longest=4)
    mixed, wrong = update.gradients
    assert mixed.weight == pytest.approx(weight)
    assert mixed.tokens == 4  # 5; 6, then END or 7
    assert (wrong.weight, wrong.tokens) == (0.0, 0)
    assert (update.loss, update.norm, update.informative_groups) == (0.25, 2.0, 1)


def test_with_a_penalty_all_groups_carry_a_gradient(with_ungraded: DrawnBatch) -> None:
    update = with_ungraded.update(Stepped(0.25, 2.0), settings_of(kl=0.1), longest=4)
    assert [one.tokens for one in update.gradients] == [4, 2]


def test_a_batch_without_a_signal_is_no_step(make_group: Callable[..., Group]) -> None:
    wrong = make_group((4,), *[((8, END), False)] * 2)
    batch = batch_of((wrong, [WRONG, WRONG]), lengths=[[2, 2]])
    assert not batch.rewarded(Advantage.GROUP_NORMALISED).has_signal
    update = batch.update(Stepped(0.5, 2.0), settings_of(kl=0.1), longest=4)
    assert (update.loss, update.norm, update.tokens, update.informative_groups) == (0, 0, 0, 0)


@pytest.mark.parametrize("normalisation", Normalisation)
@pytest.mark.parametrize("advantage", Advantage)
def test_weights_are_those_of_our_loss_where_all_is_graded(
    tiny_llama: Callable[..., LlamaForCausalLM],
    make_policy: Callable[..., Policy],
    make_group: Callable[..., Group],
    normalisation: Normalisation,
    advantage: Advantage,
) -> None:
    generator = np.random.default_rng(0)
    pairs = []
    for name in "abc":
        completions = [
            ((*generator.integers(4, 7, generator.integers(0, 3)).tolist(), END), right)
            for right in (generator.random(6) < 0.4).tolist()
        ]
        verdicts = [RIGHT if right else WRONG for _, right in completions]
        pairs.append((make_group((4, 5), *completions, name=name), verdicts))
    lengths = [group.length_G.tolist() for group, _ in pairs]
    settings = settings_of(normalisation=normalisation, advantage=advantage)
    update = batch_of(*pairs, lengths=lengths).update(Stepped(0.0, 1.0), settings, longest=5)
    objective = PolicyGradient(
        make_policy(tiny_llama()),
        [group for group, _ in pairs],
        advantage=advantage,
        normalisation=normalisation,
        longest=5,
    )
    for found, expected in zip(update.gradients, objective.backward(), strict=True):
        assert found.tokens == expected.tokens
        assert found.weight == pytest.approx(expected.weight)
        assert found.loss == pytest.approx(expected.loss, abs=1e-7)


# Whole runs, with a stand-in for TRL


class Killed(BaseException):
    """Stands for a signal that ends the process."""


@dataclass
class StandIn:
    """Plays TRL; its answers to the same job are always the same.

    Attributes:
        kill_in: update in which the recording process is killed.
        spoil: changes what is said.
        stop_after: update after which it ends without a word.
        jobs: what it was told, run by run.
    """

    kill_in: int | None = None
    spoil: Callable[[Message], Message] = lambda message: message
    stop_after: int | None = None
    jobs: list[Job] = field(default_factory=list)

    @contextmanager
    def start(self, place: Place, job: Job) -> Iterator["StandIn"]:
        self.jobs.append(job)
        self._talk, self._answer = self._say(place.folder, job), None
        yield self

    @property
    def line(self) -> "StandIn":
        return self

    def receive(self) -> Message:
        try:
            message = self._talk.send(self._answer)
        except StopIteration:
            raise HungUpError from None
        self._answer = None
        return self.spoil(message)

    def send(self, message: Message) -> None:
        self._answer = message

    def finish(self) -> None:
        """End well."""

    def _say(self, folder: Path, job: Job) -> Generator[Message, Any, None]:
        first = load_file(Path(job.model) / "model.safetensors")
        began = int(job.checkpoint.rpartition("-")[2]) if job.checkpoint else 0
        for update in range(began, len(job.rates)):
            places = job.order[update * GROUPS : (update + 1) * GROUPS]
            generator = np.random.default_rng(update)
            completions = [
                [*generator.integers(8, 16, generator.integers(1, 3)).tolist(), END]
                for _ in range(GROUPS * SIZE)
            ]
            names = [job.question_ids[place] for place in places for _ in range(SIZE)]
            rewarded = yield Drawn(names, completions)
            assert len(rewarded.rewards) == GROUPS * SIZE
            if self.kill_in == update + 1:
                raise Killed
            orders = yield Stepped(0.5, 1.0 + update)
            if orders.weights:
                moved = {name: w + MOVE * (update + 1) for name, w in first.items()}
                write_weights(weights_file(folder, update + 1), moved)
            if orders.checkpoint:
                whole = checkpoint_folder(folder, update + 1, job.inner_epochs)
                whole.mkdir()
                (whole / WHOLE).touch()
                yield Saved(0.1)
            if self.stop_after == update + 1:
                return


@pytest.fixture
def stand_in(monkeypatch: pytest.MonkeyPatch) -> StandIn:
    found = StandIn()
    monkeypatch.setattr(trl_trainer, "start_trl", found.start)
    return found


@pytest.fixture(scope="module")
def chatting(
    tmp_path_factory: pytest.TempPathFactory,
    chatting_model: Path,
    make_study: Callable[..., Any],
) -> Path:
    study = make_study(tmp_path_factory.mktemp("chatting") / "study.duckdb", chatting_model)
    study.close()
    return Path(study.path)


def status_of(store: Store) -> tuple[str, str]:
    rows = store.read("SELECT status, detail FROM arms WHERE role = 'full'")
    return rows.row(0)  # type: ignore[return-value]


def test_an_arm_is_recorded_and_evaluated(
    chatting: Path, open_store: Callable[..., Store], ablate_shortly: Ablate, stand_in: StandIn
) -> None:
    store = open_store(original=chatting)
    ablate_shortly(store, **TRL, warmup=0.5, schedule="linear", learning_rate=1.0)
    assert status_of(store) == ("done", "")
    [job] = stand_in.jobs
    assert job.rates == pytest.approx([0.2, 0.6, 1.0, 0.6, 0.2])
    visits = store.read("SELECT * FROM visits ORDER BY visit")
    visited = [job.question_ids[place] for place in job.order]
    assert visits["question_id"].to_list() == visited
    assert len(set(job.order)) == len(job.order) == UPDATES * GROUPS < len(job.question_ids)
    assert visits["step"].to_list() == [u for u in range(1, UPDATES + 1) for _ in range(GROUPS)]
    updates = store.read("SELECT * FROM updates ORDER BY step")
    has_signal = updates["informative_groups"] > 0
    assert has_signal.any()
    expected = [1.0 + u if s else 0.0 for u, s in enumerate(has_signal)]
    assert updates["gradient_norm"].to_list() == expected
    milestones = store.read("SELECT * FROM milestones WHERE fraction > 0 ORDER BY fraction")
    half = {"step": HALF, "visits": HALF * GROUPS, "rollouts": HALF * GROUPS * SIZE}
    assert milestones.row(0, named=True).items() >= half.items()
    first = load_file(Path(job.model) / "model.safetensors")
    [kept] = Path(f"{store.path}.models").iterdir()
    for fraction, update in (("0.5", HALF), ("1", UPDATES)):
        found = load_file(kept / fraction / "model.safetensors")
        assert all(torch.equal(found[name], w + MOVE * update) for name, w in first.items())
    assert list(Path(f"{store.path}.checkpoints").iterdir()) == []


def test_killed_runs_end_as_quiet_ones(
    chatting: Path,
    open_store: Callable[..., Store],
    ablate_shortly: Ablate,
    read_tables: ReadTables,
    stand_in: StandIn,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    quiet, killed = (open_store(f"{name}.duckdb", chatting) for name in ("quiet", "killed"))
    ablate_shortly(quiet, **TRL)
    for stand_in.kill_in in (2, 5):  # before the first checkpoint, and after it
        with pytest.raises(Killed):
            ablate_shortly(killed, **TRL)
    with monkeypatch.context() as patch:  # while the second milestone is evaluated
        stand_in.kill_in = None
        real, calls = trl_trainer.read_weights, iter(range(9))

        def read_and_die(file: Path, trained: Any) -> None:
            real(file, trained)
            if next(calls) == 1:
                raise Killed

        patch.setattr(trl_trainer, "read_weights", read_and_die)
        with pytest.raises(Killed):
            ablate_shortly(killed, **TRL)
    told = len(stand_in.jobs)
    ablate_shortly(killed, **TRL)
    assert len(stand_in.jobs) == told  # nothing was left to train
    begun = [(job.checkpoint or "0").rpartition("-")[2] for job in stand_in.jobs]
    assert begun == ["0", "0", "0", str(HALF)]
    for name, frame in read_tables(killed).items():
        assert frame.equals(read_tables(quiet)[name]), name


def test_what_is_left_over_from_another_database_is_not_used(
    chatting: Path, open_store: Callable[..., Store], ablate_shortly: Ablate, stand_in: StandIn
) -> None:
    store = open_store(original=chatting)
    stand_in.kill_in = 1
    with pytest.raises(Killed):
        ablate_shortly(store, **TRL)
    arm_id = store.read("SELECT arm_id FROM arms WHERE role = 'full'").item()
    folder = run_folder(Path(f"{store.path}.checkpoints") / f"{arm_id}.safetensors")
    whole = checkpoint_folder(folder, 4, 1)
    whole.mkdir(parents=True)
    (whole / WHOLE).touch()
    stand_in.kill_in = None
    ablate_shortly(store, **TRL)
    assert [job.checkpoint for job in stand_in.jobs] == [None, None]
    assert status_of(store)[0] == "done"


def other_questions(message: Message) -> Message:
    if isinstance(message, Drawn):
        return Drawn([*message.question_ids[1:], "another"], message.completions)
    return message


def no_number(message: Message) -> Message:
    return Stepped(0.1, math.nan) if isinstance(message, Stepped) else message


@pytest.mark.parametrize(
    ("changes", "detail"),
    [
        ({"spoil": other_questions}, "rollouts of other questions than update 1 is made of"),
        ({"spoil": no_number}, "Stopped at update 1: the gradient norm is nan"),
        ({"stop_after": 2}, "ended after 2 of 5 updates without saying why"),
    ],
)
def test_what_goes_wrong_fails_the_arm(
    chatting: Path,
    open_store: Callable[..., Store],
    ablate_shortly: Ablate,
    stand_in: StandIn,
    changes: dict[str, Any],
    detail: str,
) -> None:
    for name, value in changes.items():
        setattr(stand_in, name, value)
    store = open_store(original=chatting)
    summary = ablate_shortly(store, **TRL)
    assert summary.failed == ("full, seed 0",)
    status, found = status_of(store)
    assert status == "failed"
    assert detail in found


def test_the_trainer_and_vllm_are_part_of_what_an_arm_is(
    chatting: Path, open_store: Callable[..., Store], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trl_checks, "_refuse_vllm", lambda settings: None)
    monkeypatch.setattr("attrib.attribution.plan.probe_base", lambda *_: None)
    store = open_store(original=chatting)
    several: list[dict[str, object]] = [
        {"trainer": "native"},
        {},
        {"accelerate_config": None, "trl_vllm_memory": 0.5},
        {"trl_vllm": "colocate"},
        {"trl_vllm": "server", "trl_vllm_url": "http://localhost:8000"},
    ]
    ids = []
    for changes in several:
        settings = settings_of(subset=("never-correct",), seeds=1, **changes)
        plan = plan_ablation(store, settings)
        ids.append(next(run.arm_id for run in plan.runs if run.role is Role.FULL))
    assert ids[1] == ids[2]
    assert ids[3] == ids[4]
    assert len({ids[0], ids[1], ids[3]}) == 3


def test_an_uneven_budget_is_refused_before_anything_is_trained(
    chatting: Path, open_store: Callable[..., Store], stand_in: StandIn
) -> None:
    settings = settings_of(subset=("never-correct",), budget="epochs=1", groups=29)
    with pytest.raises(ConfigError, match="no whole number of batches of 29"):
        plan_ablation(open_store(original=chatting), settings)
    assert stand_in.jobs == []


@pytest.mark.parametrize(
    "given",
    [{"accelerate_config": Path("a.yaml")}, {"trl_vllm": "server"}, {"trl_vllm_memory": 0.5}],
)
def test_settings_of_trl_are_refused_by_other_trainers(given: dict[str, object]) -> None:
    [name] = given
    with pytest.raises(ConfigError, match=f"--{name.replace('_', '-')} is for --trainer trl"):
        find_trainer(AblateSettings(**given))
