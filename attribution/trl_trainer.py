"""Training an arm with TRL's GRPOTrainer, in processes of its own.

Those processes draw the rollouts and take the steps. This one hands out the questions in the order
of visits, grades the rollouts, and records every batch in the ledger as it is made, so that store,
verdicts and graders are as with our own trainer. Weights are kept after each update at which the
arm is to be evaluated; the evaluations are made from them once training has ended and the devices
are free again.

A run goes on from TRL's last checkpoint with the same remaining visits, learning rates and
randomness. What TRL does otherwise than our trainer is in docs/scale.md.
"""

import math
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any, NoReturn

import torch

from attrib.attribution.budget import UNITS, Budget
from attrib.attribution.checkpoint import Position
from attrib.attribution.ledger import (
    forget_after,
    position_at,
    reached_milestones,
    record_batch,
    recorded_steps,
)
from attrib.attribution.settings import AblateSettings
from attrib.attribution.trainer import Evaluate, Outcome, Run
from attrib.attribution.trl_batch import DrawnBatch
from attrib.attribution.trl_checks import count_updates, read_launch
from attrib.attribution.trl_job import (
    Batches,
    Job,
    checkpoint_folder,
    drop_checkpoints,
    find_checkpoints,
    grpo_arguments,
    read_weights,
    weights_file,
    write_weights,
)
from attrib.attribution.trl_line import Drawn, HungUpError, Orders, Saved, Stepped
from attrib.attribution.trl_process import Place, TrlProcess, start_trl
from attrib.attribution.visits import FreshRollouts, visits_from
from attrib.errors import ModelError, TrainingError
from attrib.progress import Advance, track
from attrib.sampling.engine import FinishReason, Rollout
from attrib.sampling.prompts import TEMPLATE_ARGUMENTS, Message

SECONDS_BETWEEN_CHECKPOINTS = 60.0
LARGEST_SHARE_OF_SAVING = 0.05  # of the time; a checkpoint of a large model takes minutes


class TrlTrainer:
    """Trains one arm."""

    def __init__(self, run: Run, evaluate: Evaluate, settings: AblateSettings) -> None:
        """Go to the last checkpoint.

        Args:
            run: what to train.
            evaluate: see `Trainer`.
            settings: how the processes are started.
        """
        assert isinstance(run.source, FreshRollouts), "only GRPO is trained with TRL"
        self._run, self._evaluate, self._settings = run, evaluate, settings
        self._source, self._files = run.source, run.policy.language_model
        self._budget = Budget.parse(settings.budget)
        self._questions = len(run.arm.questions)
        self._updates = count_updates(settings, run.arm)
        self._milestones = find_milestones(run.evaluate_at, self._updates)
        self._folder = run_folder(run.checkpoint)
        self._position = self._find_position()
        self._batch: DrawnBatch | None = None
        self._began = self._saved_at = time.monotonic()
        self._saving_takes = 0.0

    def train(self) -> Outcome:
        """Train until the budget is used, then evaluate. Only inside `store.writing`.

        Raises:
            TrainingError: the loss or the gradient is not finite, or TRL failed; nothing is stored
                of that update, and the last checkpoint is kept.
            ModelError: TRL would put the questions otherwise than sampling did.
        """
        run = self._run
        forget_after(run.store, run.arm, self._position)
        if self._position.step < self._updates:
            self._folder.mkdir(parents=True, exist_ok=True)
            place = Place(self._folder, read_launch(self._settings), run.policy.module.device)
            if self._settings.lora:  # the adapters' first values are the same in every run
                write_weights(weights_file(self._folder, 0), run.policy.trained)
            job = self._make_job(place)
            with self._policy_put_aside(), start_trl(place, job) as process:
                self._follow(process)
        drop_checkpoints(self._folder)  # the weights are all that is still needed
        self._evaluate_milestones()
        return Outcome("done", "", self._position)

    def _find_position(self) -> Position:
        """Return where the run goes on: at its end, at a checkpoint, or at the beginning.

        What is ahead of the ledger is left over from another database.
        """
        run, inner = self._run, self._settings.inner_epochs
        recorded = recorded_steps(run.store, run.arm)
        if recorded >= self._updates and weights_file(self._folder, self._updates).is_file():
            return position_at(run.store, run.arm, self._updates)
        found = [one for one in find_checkpoints(self._folder, inner) if one <= recorded]
        return position_at(run.store, run.arm, max(found, default=0))

    @contextmanager
    def _policy_put_aside(self) -> Iterator[None]:
        """Leave the memory of the device to those who train."""
        module: torch.nn.Module = self._run.policy.module
        device = self._run.policy.module.device
        module.to("cpu")
        if device.type == "cuda":
            torch.cuda.empty_cache()
        try:
            yield
        finally:
            module.to(device)

    def _make_job(self, place: Place) -> Job:
        run, settings = self._run, self._settings
        questions = run.arm.questions
        prompts = [self._compose(question.text) for question in questions]
        place_of = {question.question_id: at for at, question in enumerate(questions)}
        visits = islice(visits_from(run.arm, 0), self._updates * settings.groups)
        batches = Batches(
            updates=self._updates,
            processes=place.launch.processes,
            longest_prompt=max(
                len(self._source.responder.prompt(question).token_ids) for question in questions
            ),
            longest=run.longest,
            temperature=run.temperature,
            end_token_ids=tuple(sorted(self._files.end_token_ids)),
        )
        on_cpu = place.device.type == "cpu"
        step = self._position.step
        checkpoint = checkpoint_folder(self._folder, step, settings.inner_epochs)
        return Job(
            model=str(self._files.folder),
            address="",
            question_ids=[question.question_id for question in questions],
            prompts=prompts,
            order=[place_of[question.question_id] for question in visits],
            rates=[
                settings.learning_rate * settings.rate_factor((update + 0.5) / self._updates)
                for update in range(self._updates)
            ],
            inner_epochs=settings.inner_epochs,
            lora=settings.lora,
            arguments=grpo_arguments(settings, batches, place.folder, run.arm.seed, on_cpu=on_cpu),
            checkpoint=str(checkpoint) if step else None,
        )

    def _compose(self, text: str) -> list[Message] | str:
        """Return a question as TRL is to be given it, so that it is put as in sampling."""
        responder = self._source.responder
        tokenizer: Any = self._files.tokenizer
        composed = responder.compose(text)
        if isinstance(composed, str):
            found = tokenizer(text=[composed])["input_ids"][0]
        else:
            found = tokenizer.apply_chat_template(
                conversation=[composed],
                add_generation_prompt=True,
                tokenize=True,
                return_dict=True,
                **TEMPLATE_ARGUMENTS,
            )["input_ids"][0]
        if tuple(found) != responder.put(text).token_ids:
            raise ModelError(
                f"The tokenizer of {self._files.name} renders the prompt of {text!r} otherwise for "
                "TRL than for sampling. Leave out --trainer trl."
            )
        return composed

    def _follow(self, process: TrlProcess) -> None:
        """Answer what the training process says until it hangs up."""
        budget = self._budget
        total, unit = budget.total(self._questions), UNITS[budget.kind]
        self._saved_at = self._began = time.monotonic()
        with track("Training", total, unit, budget.used(self._position)) as advance:
            try:
                while True:
                    self._answer(process, advance)
            except HungUpError:
                process.finish()
        if self._position.step < self._updates:
            raise TrainingError(
                f"TRL ended after {self._position.step} of {self._updates} updates without saying "
                "why. The same command goes on at the last checkpoint."
            )

    def _answer(self, process: TrlProcess, advance: Advance) -> None:
        message = process.line.receive()
        if isinstance(message, Drawn):
            self._batch = self._grade(message)
            process.line.send(self._batch.rewarded(self._settings.advantage))
        elif isinstance(message, Stepped):
            before = self._budget.used(self._position)
            self._record(message)
            process.line.send(self._give_orders())
            advance(self._budget.used(self._position) - before)
        elif isinstance(message, Saved):
            self._saved_at, self._saving_takes = time.monotonic(), message.seconds

    def _grade(self, drawn: Drawn) -> DrawnBatch:
        """Return the batch that the rollouts make.

        Raises:
            TrainingError: they are not those of the questions whose turn it is.
        """
        settings, first = self._settings, self._position.visit
        questions = list(islice(visits_from(self._run.arm, first), settings.groups))
        size = settings.group_size
        if list(drawn.question_ids) != [q.question_id for q in questions for _ in range(size)]:
            raise TrainingError(
                f"TRL drew rollouts of other questions than update {self._position.step + 1} is "
                "made of; this version of it cannot be used. Leave out --trainer trl."
            )
        rollouts = [
            self._read(index % size, tokens) for index, tokens in enumerate(drawn.completions)
        ]
        groups = [rollouts[at : at + size] for at in range(0, len(rollouts), size)]
        verdicts = self._source.judge(questions, groups)
        visits = self._source.read(first, questions, groups, verdicts)
        return DrawnBatch.of(visits, verdicts, groups)

    def _read(self, index: int, tokens: Sequence[int]) -> Rollout:
        has_ended = tokens[-1] in self._files.end_token_ids
        reason = FinishReason.STOP if has_ended else FinishReason.LENGTH
        return Rollout(index, self._files.decode(tokens), tuple(tokens), len(tokens), None, reason)

    def _record(self, stepped: Stepped) -> None:
        """Store a batch with what its first step was."""
        run, batch, before = self._run, self._batch, self._position
        assert batch is not None, "a step comes after its rollouts"
        for what, value in (("loss", stepped.loss), ("gradient norm", stepped.norm)):
            if not math.isfinite(value):
                self._stop(f"the {what} is {value}")
        update = batch.update(stepped, run.settings, run.longest)
        now = time.monotonic()
        seconds, self._began = now - self._began, now
        in_ledger = batch.for_ledger
        self._position = Position(
            step=before.step + 1,
            visit=before.visit + len(batch.visits),
            rollouts=before.rollouts + in_ledger.rollouts,
            informative_groups=before.informative_groups + update.informative_groups,
            gradient_tokens=before.gradient_tokens + update.tokens,
            seconds=before.seconds + seconds,
        )
        with run.store.transaction() as transaction:
            record_batch(transaction, run.arm, in_ledger, update, self._position, seconds)
            run.verdicts.write(transaction)
        self._batch = None

    def _stop(self, reason: str) -> NoReturn:
        raise TrainingError(
            f"Stopped at update {self._position.step + 1}: {reason}. The last checkpoint is kept. "
            f"Lower --learning-rate (now {self._settings.learning_rate})."
        )

    def _give_orders(self) -> Orders:
        """Say what to keep of the state after the update that was just recorded."""
        step = self._position.step
        is_milestone, is_last = step in self._milestones, step == self._updates
        wait = max(SECONDS_BETWEEN_CHECKPOINTS, self._saving_takes / LARGEST_SHARE_OF_SAVING)
        is_time = time.monotonic() - self._saved_at > wait
        return Orders(weights=is_milestone, checkpoint=(is_milestone or is_time) and not is_last)

    def _evaluate_milestones(self) -> None:
        """Evaluate the weights of every milestone that has not been; leave the last ones loaded."""
        run = self._run
        reached = max(reached_milestones(run.store, run.arm), default=0.0)
        due = {step: f for step, f in self._milestones.items() if f > reached}
        for step, fraction in due.items():
            self._load(step)
            self._evaluate(position_at(run.store, run.arm, step), fraction)
        if self._updates not in due:
            self._load(self._updates)

    def _load(self, step: int) -> None:
        read_weights(weights_file(self._folder, step), self._run.policy.trained)


def run_folder(checkpoint: Path) -> Path:
    """Return where a run keeps its files, beside where its checkpoint would be."""
    return checkpoint.with_suffix(".trl")


def find_milestones(fractions: Sequence[float], updates: int) -> dict[int, float]:
    """Return the fraction of the budget to evaluate at after each update; the largest counts."""
    return {max(1, math.ceil(fraction * updates - 1e-9)): fraction for fraction in fractions}
