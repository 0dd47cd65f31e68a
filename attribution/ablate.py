"""The ablation: plan the arms, run those that are not done, measure what they gained.

Owns the order of things, seed by seed, so that whole comparisons exist early, and the reuse of
finished runs.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from attrib.attribution.arms import Arm, plan_arms, plan_base, plan_coalitions
from attrib.attribution.budget import Budget, BudgetKind
from attrib.attribution.effect import Effect, store_effects
from attrib.attribution.effects import estimate_effects
from attrib.attribution.experiment import Experiment, register, set_up
from attrib.attribution.imports import plan_import
from attrib.attribution.plan import Announce, TrainingPlan, plan_runs, read_statuses
from attrib.attribution.running import choose_cluster, running
from attrib.attribution.runs import Runner, free_disk
from attrib.attribution.settings import AblateSettings, Design, Keep, Method
from attrib.attribution.subsets import all_parts, choose_subsets
from attrib.attribution.trainers import TRL
from attrib.attribution.trl_checks import refuse_uneven
from attrib.errors import ConfigError, StoreError
from attrib.progress import say
from attrib.roles import PLANNED, Role
from attrib.store import Store


@dataclass(frozen=True, slots=True)
class AblationSummary:
    """What an ablation left in the store."""

    experiment_id: str
    trained: int
    reused: int
    failed: tuple[str, ...]
    exhausted: tuple[str, ...]
    """Runs whose budget could not be used."""
    effects: tuple[Effect, ...]


def plan_ablation(store: Store, settings: AblateSettings) -> TrainingPlan:
    """Return what `ablate` would do, with times from a probe; nothing is trained.

    Raises:
        AttribError: what `ablate` would refuse.
    """
    _check(settings)
    with store.writing("attrib ablate --dry-run", create=False):
        experiment = set_up(store, settings)
        arms = _plan_arms(store, experiment, settings)
        return plan_runs(store, experiment, arms, settings)


def ablate(store: Store, settings: AblateSettings, announce: Announce) -> AblationSummary:
    """Train and evaluate every arm that is not done yet, then estimate the effects.

    Args:
        store: the study.
        settings: what is asked for.
        announce: called with the plan before anything is trained.

    Raises:
        ConfigError: a subset is not a bucket, or a setting has no meaning.
        DataError: there is no bucketing, or a subset is empty.
        ModelError: the base model is not the one the rollouts were drawn from.
        StoreError: the disk has not the room that the runs need.
    """
    _check(settings)
    with store.writing("attrib ablate", create=False):
        experiment = set_up(store, settings)
        arms = _plan_arms(store, experiment, settings)
        register(store, experiment, arms, settings)
        plan = plan_runs(store, experiment, arms, settings, is_here=not choose_cluster(settings))
        announce(plan)
        _refuse_full_disk(store, plan)
        runner = Runner(store, experiment, settings)
        by_id = {arm.arm_id: arm for arm in reversed(arms)}  # in its first role
        owed = [by_id[run.arm_id] for run in plan.owed]
        done = [by_id[run.arm_id] for run in plan.runs if not run.is_owed]
        _say_what_is_not_kept(runner, done, settings)
        for arm in done:  # a kill may have come between the last write and this
            runner.clean_up(arm)
        failed: list[str] = []
        effects = [] if owed else _estimate_again(store, experiment)
        with running(store, experiment, settings, runner, owed) as ended:
            for arm, is_done in ended:
                if not is_done:
                    failed.append(arm.name)
                # After every run: a report made meanwhile, or after a kill, shows what there is.
                effects = _estimate_again(store, experiment)
        statuses = read_statuses(store)
        return AblationSummary(
            experiment_id=experiment.experiment_id,
            trained=len(owed) - len(failed),
            reused=len(plan.runs) - len(owed),
            failed=tuple(failed),
            exhausted=tuple(
                run.names[0] for run in plan.runs if statuses.get(run.arm_id) == "exhausted"
            ),
            effects=tuple(effects),
        )


def _check(settings: AblateSettings) -> None:
    """Refuse settings that contradict each other."""
    budget = Budget.parse(settings.budget)
    draws = settings.method is Method.GRPO
    if budget.kind is BudgetKind.ROLLOUTS and not draws:
        raise ConfigError(
            f"--method {settings.method} draws no rollouts: choose another --budget than rollouts."
        )
    most = {f"--max-rollouts {settings.max_rollouts}": settings.max_rollouts}
    if budget.kind is BudgetKind.ROLLOUTS:
        most[f"--budget {budget}"] = budget.amount
    for flag, rollouts in most.items():
        if draws and rollouts < settings.groups * settings.group_size:
            raise ConfigError(
                f"{flag} cannot fill one batch of {settings.groups} groups of "
                f"{settings.group_size} rollouts."
            )
    if settings.design is Design.SHAPLEY and _names_subsets(settings):
        raise ConfigError("--design shapley takes all buckets that hold questions: name none.")
    for name in settings.role:
        if name not in PLANNED:
            raise ConfigError(
                f"--role {name} is no choice. Give only, all-but, matched-random or "
                "matched-complement."
            )
    _ = settings.fractions  # refuses what is no fraction


def _names_subsets(settings: AblateSettings) -> bool:
    """Tell whether it was said what to train on."""
    return bool(
        settings.subset or settings.all_buckets or settings.subset_where or settings.group_by
    )


def _plan_arms(store: Store, experiment: Experiment, settings: AblateSettings) -> list[Arm]:
    buckets = experiment.bucketing.questions_by_bucket
    seeds = range(settings.seed, settings.seed + settings.seeds)
    questions = experiment.bucketing.training_questions
    params = experiment.train_params
    arms = [plan_base(experiment.base_params)]
    imported = plan_import(
        settings.import_arm,
        settings.trained_on,
        experiment.bucketing.dataset,
        experiment.evaluation.held_out,
        experiment.base_params,
    )
    if settings.design is Design.SHAPLEY:
        parts = all_parts(buckets)
        arms += plan_arms(questions, parts, (Role.ONLY, Role.ALL_BUT), seeds, params)
        arms += plan_coalitions(parts, seeds, params)
    elif imported is None or _names_subsets(settings):
        subsets = choose_subsets(
            store,
            buckets,
            names=settings.subset,
            all_buckets=settings.all_buckets,
            wheres=settings.subset_where,
            group_by=settings.group_by,
        )
        arms += plan_arms(questions, subsets, settings.role, seeds, params)
    if settings.trainer == TRL:
        refuse_uneven(settings, arms)
    return arms if imported is None else [*arms, imported]


def _estimate_again(store: Store, experiment: Experiment) -> list[Effect]:
    effects = estimate_effects(store, experiment.experiment_id)
    store_effects(store, experiment.experiment_id, effects)
    return effects


def _say_what_is_not_kept(runner: Runner, done: Sequence[Arm], settings: AblateSettings) -> None:
    """Name the finished arms whose weights are asked for too late."""
    if settings.keep is Keep.NONE:
        return
    trained = [arm for arm in done if arm.role not in (Role.BASE, Role.IMPORTED)]
    gone = [arm.name for arm in trained if not runner.has_kept(arm)]
    if gone:
        say(
            f"Warning: --keep {settings.keep} comes too late for arms that are done; their weights "
            f"were dropped: {'; '.join(gone)}. To keep them, train in another study (--db)."
        )


def _refuse_full_disk(store: Store, plan: TrainingPlan) -> None:
    needed, free = plan.disk_bytes or 0, free_disk(store)
    if needed > free:
        raise StoreError(
            f"The runs take up to {needed / 1e9:.1f} GB beside {store.path}, checkpoints included, "
            f"and {free / 1e9:.1f} GB are free. Free some, use another --db, or --keep none."
        )
