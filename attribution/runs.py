"""One run: load a fresh copy of the model, train it, measure everything, let the weights go.

Whatever is wanted of a trained model (evaluations, samples, probability masses) is measured here,
before its weights are dropped. A run that fails leaves its last good checkpoint; one that was
killed goes on from it.
"""

import shutil
import time
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path

import polars as pl

from attrib.attribution.arms import Arm
from attrib.attribution.budget import Budget
from attrib.attribution.checkpoint import Position
from attrib.attribution.evaluation import Evaluator
from attrib.attribution.experiment import Experiment
from attrib.attribution.ledger import (
    begin_run,
    end_run,
    reached_milestones,
    record_milestone,
    set_cost,
)
from attrib.attribution.mass import measure_masses
from attrib.attribution.phrasings import Phrasings, find_phrasings, read_phrasings
from attrib.attribution.policy import Policy
from attrib.attribution.settings import AblateSettings, Keep, Method, TrainSettings
from attrib.attribution.trainer import Evaluate, Outcome, Run
from attrib.attribution.trainers import TRL, find_trainer
from attrib.attribution.trl_trainer import run_folder
from attrib.attribution.visits import make_source
from attrib.config import differing_keys
from attrib.errors import ModelError, TrainingError
from attrib.progress import say, working_on
from attrib.roles import Role
from attrib.sampling.models import load_model
from attrib.sampling.responder import ModelIdentity, Responder, SampleSet
from attrib.sampling.tree import TreeEngine
from attrib.sampling.verdicts import Verdicts
from attrib.sampling.voting import reasoning_style
from attrib.settings import command_line
from attrib.store import Store, Transaction


class Runner:
    """Runs the arms of an experiment, one after another."""

    def __init__(
        self,
        store: Store,
        experiment: Experiment,
        settings: AblateSettings,
        command: str | None = None,
    ) -> None:
        """Use one cache of verdicts a grader for all arms.

        Args:
            store: the study.
            experiment: that the arms belong to.
            settings: of it.
            command: that runs them; by default the ablation of these settings.
        """
        self._store = store
        self._experiment = experiment
        self._settings = settings
        self.command = command or command_line("ablate", settings, store.path)
        plan = experiment.evaluation
        graders = (experiment.reward_grader, plan.grader, *(one.grader for one in plan.transfer))
        self._caches = {grader.fingerprint: Verdicts(store, grader) for grader in graders}
        self._rewards = self._caches[experiment.reward_grader.fingerprint]
        self.verdicts = self._caches[plan.grader.fingerprint]

    @property
    def grading_summaries(self) -> list[str]:
        """Say what costly graders took."""
        return [cache.summary for cache in self._caches.values() if cache.summary]

    def run(self, arm: Arm) -> bool:
        """Train and evaluate an arm; return whether it succeeded. Only inside `store.writing`."""
        begin_run(self._store, arm, self.command)
        try:
            with working_on(arm.name):
                if arm.role is Role.BASE:
                    self._measure_base(arm)
                else:
                    self._train_and_measure(arm)
        except (TrainingError, ModelError) as error:  # the latter: weights that became non-finite
            if arm.role is Role.BASE:
                raise
            say(f"{arm.name} failed: {error}")
            with self._store.transaction() as transaction:
                end_run(transaction, arm, "failed", str(error))
            return False
        return True

    def has_kept(self, arm: Arm) -> bool:
        """Tell whether weights of the arm lie beside the study."""
        return self._kept_folder(arm).exists()

    def clean_up(self, arm: Arm) -> None:
        """Remove the checkpoint of a finished run."""
        checkpoint = self._checkpoint_of(arm)
        checkpoint.unlink(missing_ok=True)
        shutil.rmtree(run_folder(checkpoint), ignore_errors=True)

    def measure_imported(self, arm: Arm, folder: Path) -> None:
        """Evaluate a model that was trained elsewhere. Only inside `store.writing`."""
        begin_run(self._store, arm, self.command)
        with working_on(arm.name):
            responder = self._load(str(folder), is_base=False)
            self._measure_once(arm, responder, 1.0)

    def load_base(self) -> tuple[Policy, Responder[TreeEngine]]:
        """Load a fresh copy of the base model, ready for training.

        Raises:
            ModelError: it is not the model that the rollouts were drawn from.
        """
        settings, sample_set = self._settings, self._experiment.bucketing.sample_set
        responder = self._load(settings.model or sample_set.model, is_base=True)
        policy = Policy(
            responder.engine.language_model,
            lora=settings.lora,
            dtype=settings.dtype,
            gradient_checkpointing=settings.gradient_checkpointing,
            has_reference=settings.trainer != TRL
            and (settings.kl > 0 or settings.method is Method.DPO),
        )
        return policy, responder

    def make_run(self, arm: Arm, policy: Policy, responder: Responder[TreeEngine]) -> Run:
        """Return what a training run of the arm works with."""
        settings, bucketing = self._settings, self._experiment.bucketing
        train = TrainSettings(**settings.model_dump(include=set(TrainSettings.model_fields)))
        return Run(
            store=self._store,
            arm=arm,
            policy=policy,
            source=make_source(
                self._store,
                policy,
                responder,
                self._rewards,
                arm,
                train,
                bucketing.sample_set_id,
                bucketing.k,
            ),
            verdicts=self._rewards,
            settings=train,
            longest=bucketing.sample_set.max_new_tokens,
            temperature=bucketing.sample_set.temperature,
            tokens_at_once=settings.tokens_at_once,
            checkpoint=self._checkpoint_of(arm),
            evaluate_at=self._experiment.evaluation.at,
        )

    def _train_and_measure(self, arm: Arm) -> None:
        policy, responder = self.load_base()
        evaluator = self._evaluator(arm, responder)

        def evaluate(position: Position, fraction: float) -> None:
            with policy.precision():
                frames = self._greedy(evaluator, arm, responder, position.step)
            if self._settings.keep is Keep.ALL:  # before the milestone that is not passed again
                policy.save(self._kept_folder(arm) / f"{fraction:g}")
            with self._store.transaction() as transaction:
                self._write(transaction, frames)
                record_milestone(transaction, arm, fraction, position)

        run = self.make_run(arm, policy, responder)
        outcome = find_trainer(self._settings)(run, evaluate)
        if outcome.status == "exhausted":
            say(f"{arm.name} is exhausted: {outcome.detail}.")
            self._evaluate_exhausted(arm, outcome, evaluate)
        step = outcome.position.step
        with policy.precision():
            frames, masses = self._final(evaluator, arm, policy, responder, step)
        if self._settings.keep is Keep.LAST:
            policy.save(self._kept_folder(arm))
        with self._store.transaction() as transaction:
            self._write(transaction, frames)
            transaction.append("masses", masses, unless_present=["arm_id", "question_id"])
            end_run(transaction, arm, outcome.status, outcome.detail)
        self.clean_up(arm)

    def _evaluate_exhausted(self, arm: Arm, outcome: Outcome, evaluate: Evaluate) -> None:
        """Evaluate where the run ended, between two planned fractions."""
        settings, position = self._settings, outcome.position
        budget = Budget.parse(settings.budget)
        fraction = round(budget.used(position) / budget.total(len(arm.questions)), 4)
        if fraction not in reached_milestones(self._store, arm):
            evaluate(position, fraction)

    def _measure_base(self, arm: Arm) -> None:
        """Evaluate the model as it is, inference-time baselines included."""
        sample_set = self._experiment.bucketing.sample_set
        responder = self._load(self._settings.model or sample_set.model, is_base=True)
        more = []
        if self._settings.cot_tokens:
            style = reasoning_style(sample_set.prompt)
            limit = self._settings.cot_tokens
            reasoning = replace(sample_set, prompt=style, max_new_tokens=limit)
            language_model = responder.engine.language_model
            thinker = Responder(responder.engine, reasoning, language_model.tokenizer)
            evaluator = Evaluator(thinker, self.verdicts, arm.arm_id)
            more.append(evaluator.chain_of_thought(self._experiment.evaluation.held_out, 0))
        self._measure_once(arm, responder, 0.0, more)

    def _measure_once(
        self,
        arm: Arm,
        responder: Responder[TreeEngine],
        fraction: float,
        more: Sequence[pl.DataFrame] = (),
    ) -> None:
        """Measure everything about a model that is not trained here."""
        started = time.monotonic()
        evaluator = self._evaluator(arm, responder)
        policy = Policy(responder.engine.language_model)
        frames = [*more, *self._greedy(evaluator, arm, responder, 0)]
        final, masses = self._final(evaluator, arm, policy, responder, 0)
        position = Position(seconds=time.monotonic() - started)
        with self._store.transaction() as transaction:
            for table in ("evaluations", "milestones", "masses"):
                transaction.execute(f"DELETE FROM {table} WHERE arm_id = $id", id=arm.arm_id)
            self._write(transaction, [*frames, *final])
            transaction.append("masses", masses)
            record_milestone(transaction, arm, fraction, position)
            set_cost(transaction, arm, position)
            end_run(transaction, arm, "done")

    def _evaluator(self, arm: Arm, responder: Responder[TreeEngine]) -> Evaluator:
        return Evaluator(responder, self.verdicts, arm.arm_id)

    def _greedy(
        self, evaluator: Evaluator, arm: Arm, responder: Responder[TreeEngine], step: int
    ) -> list[pl.DataFrame]:
        """Return greedy answers to the held-out questions of all data sets."""
        plan = self._experiment.evaluation
        frames = [evaluator.greedy(plan.held_out, step)]
        for one in plan.transfer:
            verdicts = self._caches[one.grader.fingerprint]
            elsewhere = Evaluator(responder, verdicts, arm.arm_id)
            frames.append(elsewhere.greedy(one.questions, step))
        return frames

    def _final(
        self,
        evaluator: Evaluator,
        arm: Arm,
        policy: Policy,
        responder: Responder[TreeEngine],
        step: int,
    ) -> tuple[list[pl.DataFrame], pl.DataFrame]:
        """Return what is measured once, at the end: training questions, samples, masses."""
        plan = self._experiment.evaluation
        frames = [evaluator.greedy(plan.training, step)]
        samples = phrasings = None
        if plan.samples:
            samples = evaluator.samples(plan.held_out, step, plan.samples)
            frames.append(samples.drop("token_ids"))
            phrasings = self._phrasings(arm, samples)
        is_plain = responder.sampling.is_plain  # else their log-probabilities give no entropy
        masses = measure_masses(
            policy, responder, plan.held_out, arm.arm_id, samples if is_plain else None, phrasings
        )
        return frames, masses

    def _phrasings(self, arm: Arm, samples: pl.DataFrame) -> Phrasings:
        """Return the phrasings that the base used; its own are stored."""
        if arm.role is Role.BASE:
            heard = find_phrasings(samples)
            with self._store.transaction() as transaction:
                transaction.execute("DELETE FROM phrasings WHERE arm_id = $id", id=arm.arm_id)
                transaction.append("phrasings", heard.with_columns(arm_id=pl.lit(arm.arm_id)))
        experiment = self._experiment
        return read_phrasings(
            self._store,
            experiment.experiment_id,
            experiment.bucketing.sample_set_id,
            experiment.evaluation.grader.fingerprint,
            [question.question_id for question in experiment.evaluation.held_out],
        )

    def _write(self, transaction: Transaction, frames: Sequence[pl.DataFrame]) -> None:
        key = ["arm_id", "step", "question_id", "decoding", "rollout"]
        for frame in frames:
            transaction.append("evaluations", frame, unless_present=key)
        for verdicts in self._caches.values():
            verdicts.write(transaction)

    def _load(self, name: str, *, is_base: bool) -> Responder[TreeEngine]:
        sample_set: SampleSet = self._experiment.bucketing.sample_set
        language_model = load_model(name, self._settings.device)
        found = asdict(ModelIdentity.of_files(language_model, sample_set.prompt))
        expected = asdict(sample_set.identity)
        if not is_base:
            del found["weights_hash"], expected["weights_hash"]
        differences = differing_keys(expected, found)
        if differences:
            raise ModelError(
                f"{language_model.name} is not the model the rollouts were drawn from "
                f"({'; '.join(differences)}). Name that one with --model, or draw rollouts of this "
                "one into another study: attrib sample --db FILE"
            )
        return Responder(TreeEngine(language_model), sample_set, language_model.tokenizer)

    def _checkpoint_of(self, arm: Arm) -> Path:
        return checkpoints_of(self._store) / f"{arm.arm_id}.safetensors"

    def _kept_folder(self, arm: Arm) -> Path:
        return models_of(self._store) / arm.arm_id


def checkpoints_of(store: Store) -> Path:
    """Return the folder of the checkpoints of arms that are not done."""
    return Path(f"{store.path}.checkpoints")


def models_of(store: Store) -> Path:
    """Return the folder of the weights that are kept, a folder each arm."""
    return Path(f"{store.path}.models")


def free_disk(store: Store) -> int:
    """Return the free bytes beside the study."""
    return shutil.disk_usage(store.path.parent).free
