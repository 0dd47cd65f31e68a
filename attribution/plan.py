"""The plan of training: every run, what it is expected to take, and what is already done.

Owns the estimate that is shown before anything is trained. Times come from a probe of a few seconds
on the base model; without one they are unknown.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from attrib.attribution.arms import Arm
from attrib.attribution.evaluation import EvaluationPlan, Evaluator
from attrib.attribution.experiment import Experiment
from attrib.attribution.forecast import WEAK_SIGNAL, Counts, Forecast, forecast
from attrib.attribution.groups import Group
from attrib.attribution.ledger import Visit
from attrib.attribution.objective import Likelihood
from attrib.attribution.runs import Runner
from attrib.attribution.settings import AblateSettings, Fill, Keep, Method
from attrib.attribution.trainers import TRL
from attrib.progress import say
from attrib.roles import Role
from attrib.store import Store

FINISHED = ("done", "exhausted")
PROBED_VISITS = 2
PROBED_QUESTIONS = 8
BYTES_PER_EVALUATION = 200  # a row of the store, compressed
BYTES_PER_TOKEN = 2.4  # of training rollouts (benchmarks/RESULTS.md)
STATE_COPIES = 3  # weights and two moments

_RUNS = "SELECT arm_id, status FROM training_runs ORDER BY arm_id"


@dataclass(frozen=True, slots=True)
class Probe:
    """Measured on the base model.

    Attributes:
        visit_seconds: of one visit.
        gradient_seconds: of the passes of one group.
        question_seconds: of one greedy answer.
        sample_seconds: of one sampled answer.
        rollout_tokens: of a training rollout, the mean.
        weight_bytes: of the weights as they would be kept.
        trained_bytes: of what training changes.
    """

    visit_seconds: float
    gradient_seconds: float
    question_seconds: float
    sample_seconds: float
    rollout_tokens: float
    weight_bytes: int
    trained_bytes: int


@dataclass(frozen=True, slots=True)
class PlannedRun:
    """One training run, in every role it has.

    Attributes:
        arm_id: which arm it is.
        names: one for each role.
        subset: that it is trained on, in its first role.
        role: its first one.
        seed: of the run.
        questions: how many it is trained on.
        status: `to do`, or what the study says of it.
        forecast: None for the base and for imported arms.
        seconds: that it is expected to take; None where that is not known.
    """

    arm_id: str
    names: tuple[str, ...]
    subset: str
    role: Role
    seed: int
    questions: int
    status: str
    forecast: Forecast | None
    seconds: float | None

    @property
    def is_owed(self) -> bool:
        """Tell whether it has still to be done."""
        return self.status not in FINISHED


@dataclass(frozen=True, slots=True)
class TrainingPlan:
    """All runs that a command makes.

    Attributes:
        experiment_id: which experiment they belong to.
        budget: what is held equal.
        fill: how batches are composed.
        runs: in the order in which they are made.
        seconds: of those owed, None where it is not known.
        disk_bytes: taken at most while it runs.
        kept_bytes: that stay.
        warnings: sentences.
    """

    experiment_id: str
    budget: str
    fill: str
    runs: tuple[PlannedRun, ...]
    seconds: float | None
    disk_bytes: int | None
    kept_bytes: int | None
    warnings: tuple[str, ...]

    @property
    def owed(self) -> list[PlannedRun]:
        """Return the runs that have still to be made."""
        return [run for run in self.runs if run.is_owed]


Announce = Callable[[TrainingPlan], None]
"""Is given the plan before anything is trained."""


def say_nothing(plan: TrainingPlan) -> None:
    """Announce no plan."""


def read_statuses(store: Store) -> dict[str, str]:
    """Return what the study says of every run, by arm."""
    return dict(store.read(_RUNS).iter_rows())


def plan_runs(
    store: Store,
    experiment: Experiment,
    arms: Sequence[Arm],
    settings: AblateSettings,
    *,
    is_here: bool = True,
) -> TrainingPlan:
    """Return the plan for the arms, with times where some are to be trained in this process."""
    statuses = read_statuses(store)
    owed = [
        arm
        for arm in arms
        if statuses.get(arm.arm_id) not in FINISHED and arm.role not in (Role.BASE, Role.IMPORTED)
    ]
    probe = None
    if owed and is_here and settings.trainer != TRL:  # what it takes, nothing here can tell
        say("Measuring what a run takes …")
        probe = probe_base(Runner(store, experiment, settings), owed[0], experiment.evaluation)
    return make_plan(
        experiment.experiment_id,
        arms,
        statuses,
        experiment.bucketing.counts,
        experiment.evaluation,
        settings,
        probe,
    )


def make_plan(
    experiment_id: str,
    arms: Sequence[Arm],
    statuses: Mapping[str, str],
    counts: Mapping[str, Counts],
    evaluation: EvaluationPlan,
    settings: AblateSettings,
    probe: Probe | None,
) -> TrainingPlan:
    """Return the plan for the arms, each run once, whatever roles it has."""
    names: dict[str, list[str]] = {}
    first: dict[str, Arm] = {}
    for arm in arms:
        names.setdefault(arm.arm_id, []).append(arm.name)
        first.setdefault(arm.arm_id, arm)
    runs = []
    for arm_id, arm in first.items():
        expected = None
        if arm.role not in (Role.BASE, Role.IMPORTED):
            expected = forecast(arm, counts, settings)
        runs.append(
            PlannedRun(
                arm_id=arm_id,
                names=tuple(dict.fromkeys(names[arm_id])),
                subset=arm.subset,
                role=arm.role,
                seed=arm.seed,
                questions=len(arm.questions),
                status=statuses.get(arm_id, "to do"),
                forecast=expected,
                seconds=_estimate_seconds(expected, evaluation, probe),
            )
        )
    owed = [run for run in runs if run.is_owed]
    return TrainingPlan(
        experiment_id=experiment_id,
        budget=settings.budget,
        fill=str(settings.fill),
        runs=tuple(runs),
        seconds=sum(run.seconds or 0.0 for run in owed) if probe else None,
        disk_bytes=_estimate_disk(owed, evaluation, settings, probe),
        kept_bytes=_estimate_kept(owed, evaluation, settings, probe),
        warnings=tuple(_warn(owed, settings)),
    )


def probe_base(runner: Runner, arm: Arm, evaluation: EvaluationPlan) -> Probe:
    """Measure a few visits, passes and answers on the base model; nothing is stored."""
    policy, responder = runner.load_base()
    run = runner.make_run(arm, policy, responder)
    started = time.monotonic()
    visits = run.source.visit(0, arm.questions[:PROBED_VISITS])
    visit_seconds = (time.monotonic() - started) / len(visits)
    lengths = [len(drawn) for visit in visits for drawn in visit.group.completions]
    group = _as_right(max(visits, key=lambda visit: len(visit.group.completions)))
    started = time.monotonic()
    if group.completions:
        Likelihood(policy, [group], at_once=run.tokens_at_once).backward()
        policy.module.zero_grad(set_to_none=True)
    gradient_seconds = time.monotonic() - started
    evaluator = Evaluator(responder, runner.verdicts, arm.arm_id)
    questions = evaluation.held_out[:PROBED_QUESTIONS]
    started = time.monotonic()
    evaluator.greedy(questions, 0)
    greedy_at = time.monotonic()
    if evaluation.samples:
        evaluator.samples(questions[:2], 0, evaluation.samples)
    sampled = max(evaluation.samples, 1) * len(questions[:2])
    return Probe(
        visit_seconds=visit_seconds,
        gradient_seconds=gradient_seconds,
        question_seconds=(greedy_at - started) / len(questions),
        sample_seconds=(time.monotonic() - greedy_at) / sampled,
        rollout_tokens=float(np.mean(lengths)) if lengths else 0.0,
        weight_bytes=sum(p.nbytes for p in policy.module.parameters()),
        trained_bytes=sum(p.nbytes for p in policy.trained.values()),
    )


def _as_right(visit: Visit) -> Group:
    group = visit.group
    right_G = np.ones(len(group.completions), dtype=np.bool_)
    return Group(group.question_id, group.prompt, group.completions, right_G)


def _answers(evaluation: EvaluationPlan, trained: bool) -> int:
    """Return how many greedy answers one run gives."""
    held_out = len(evaluation.held_out) + sum(len(one.questions) for one in evaluation.transfer)
    return held_out * (len(evaluation.at) if trained else 1) + len(evaluation.training)


def _estimate_seconds(
    expected: Forecast | None, evaluation: EvaluationPlan, probe: Probe | None
) -> float | None:
    if probe is None:
        return None
    seconds = _answers(evaluation, expected is not None) * probe.question_seconds
    seconds += len(evaluation.held_out) * evaluation.samples * probe.sample_seconds
    if expected is not None:
        seconds += expected.visits * probe.visit_seconds
        seconds += expected.gradients * probe.gradient_seconds
    return seconds


def _rows(owed: Sequence[PlannedRun], evaluation: EvaluationPlan) -> int:
    sampled = len(evaluation.held_out) * (evaluation.samples + 1)
    return sum(_answers(evaluation, run.forecast is not None) + sampled for run in owed)


def _estimate_kept(
    owed: Sequence[PlannedRun],
    evaluation: EvaluationPlan,
    settings: AblateSettings,
    probe: Probe | None,
) -> int | None:
    if probe is None:
        return None
    copies = {Keep.NONE: 0, Keep.LAST: 1, Keep.ALL: len(evaluation.at)}[settings.keep]
    forecasts = [run.forecast for run in owed if run.forecast is not None]
    answers = _rows(owed, evaluation) * BYTES_PER_EVALUATION
    tokens = sum(expected.rollouts for expected in forecasts) * probe.rollout_tokens
    return answers + round(tokens * BYTES_PER_TOKEN) + len(forecasts) * copies * probe.weight_bytes


def _estimate_disk(
    owed: Sequence[PlannedRun],
    evaluation: EvaluationPlan,
    settings: AblateSettings,
    probe: Probe | None,
) -> int | None:
    kept = _estimate_kept(owed, evaluation, settings, probe)
    if probe is None or kept is None:
        return None
    is_training = any(run.forecast is not None for run in owed)
    checkpoint = STATE_COPIES * probe.trained_bytes * is_training
    return kept + 2 * checkpoint  # one is written while its predecessor is still there


def _warn(owed: Sequence[PlannedRun], settings: AblateSettings) -> list[str]:
    """Return what the user ought to know before so much is spent."""
    warnings = []
    for run in owed:
        expected = run.forecast
        if expected is None or expected.informative_share is None:
            continue
        share = expected.informative_share
        if settings.fill is Fill.NONE and share < WEAK_SIGNAL:
            warnings.append(
                f"{run.names[0]}: about {share:.1%} of its groups will hold right and wrong "
                "rollouts at the start, so it is expected to get almost no signal; with --fill "
                "informative batches are filled with groups that do."
            )
        if expected.exhausts:
            warnings.append(
                f"{run.names[0]}: expected to reach --max-rollouts {settings.max_rollouts:,} with "
                "budget left, unless training makes right answers more frequent."
            )
    if settings.method is Method.GRPO and settings.seeds < 3:
        warnings.append(
            f"With {settings.seeds} seed{'s' * (settings.seeds > 1)} the spread between training "
            "runs is hardly measured; --seeds 3 is the least to rely on."
        )
    return warnings
