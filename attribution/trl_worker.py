"""The process that trains one arm with TRL; `accelerate launch` starts it, as often as it shares.

The only module that imports TRL. It grades nothing and stores nothing: rollouts are rewarded, and
steps recorded, by the process that started it (`attrib.attribution.trl_trainer`). Here is what TRL
is made to do as our trainer does: the order of visits, the learning rate of each update, and no
optimiser step on a batch without a signal.
"""

import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from accelerate import PartialState  # type: ignore[import-untyped]
from accelerate.utils import (  # type: ignore[import-untyped]
    broadcast_object_list,
    gather_object,
)
from datasets import Dataset  # type: ignore[import-untyped]
from transformers import TrainerCallback
from trl import GRPOConfig, GRPOTrainer  # type: ignore[attr-defined]

from attrib.attribution.policy import adapter_config
from attrib.attribution.trl_job import (
    WHOLE,
    Job,
    checkpoint_folder,
    drop_checkpoints,
    plain_name,
    read_weights,
    weights_file,
    write_weights,
)
from attrib.attribution.trl_line import Drawn, Line, Message, Orders, Rewarded, Saved, Stepped


class Recorder:
    """The recording process, as all processes that train see it: one speaks for all."""

    def __init__(self, address: str) -> None:
        """Call it."""
        self._line = Line.call(address) if PartialState().is_main_process else None

    def ask(self, message: Message) -> Any:
        """Return the answer, in every process; all have to ask."""
        answers: list[Message | None] = [None]
        if self._line is not None:
            self._line.send(message)
            answers = [self._line.receive()]
        return broadcast_object_list(answers)[0]

    def tell(self, message: Message) -> None:
        """Say what needs no answer."""
        if self._line is not None:
            self._line.send(message)


class Grading:
    """TRL's reward function: the grader of the recording process."""

    __name__ = "correct"  # TRL logs it under this name

    def __init__(self, recorder: Recorder) -> None:
        """Ask `recorder`."""
        self._recorder = recorder
        self.has_signal = False

    def __call__(
        self, completion_ids: Sequence[Sequence[int]], question_id: Sequence[str], **_: object
    ) -> list[float | None]:
        """Return the rewards of this process's rollouts; the groups of a batch lie across all."""
        own = list(zip(question_id, completion_ids, strict=True))
        everyones = gather_object(own)
        answer: Rewarded = self._recorder.ask(
            Drawn([one for one, _ in everyones], [tokens for _, tokens in everyones])
        )
        self.has_signal = answer.has_signal
        first = PartialState().process_index * len(own)
        return list(answer.rewards[first : first + len(own)])


class Ledger(TrainerCallback):
    """Tells of every update, and keeps of it what it is told to keep."""

    def __init__(self, job: Job, folder: Path, recorder: Recorder, grading: Grading) -> None:
        """Follow a job."""
        self._job, self._folder, self._recorder, self._grading = job, folder, recorder, grading
        self._first: Stepped | None = None
        self._saving_since = 0.0

    def watch(self, trainer: Any) -> None:
        """Follow a trainer, before it wraps its model; give new adapters their first values."""
        self._trainer = trainer
        trained = {
            plain_name(name): parameter
            for name, parameter in trainer.model.named_parameters()
            if parameter.requires_grad
        }
        self._trained = tuple(trained)
        if self._job.lora:
            read_weights(weights_file(self._folder, 0), trained)

    def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Set the learning rate of the update that begins."""
        rate = self._job.rates[state.global_step // self._job.inner_epochs]
        for group in kwargs["optimizer"].param_groups:
            group["lr"] = rate

    def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Take the gradients away where no rollout carries one: AdamW then leaves all as it is."""
        if not self._grading.has_signal:
            for parameter in self._trainer.model.parameters():
                parameter.grad = None

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **kwargs: Any) -> None:
        """Tell of an update when its last optimiser step is made."""
        if "grad_norm" not in logs:  # the summary of the whole run
            return
        if self._first is None:
            self._first = Stepped(logs["loss"], logs["grad_norm"])
        if state.global_step % self._job.inner_epochs:
            return
        orders: Orders = self._recorder.ask(self._first)
        self._first = None
        if orders.weights:
            self._keep_weights(state.global_step // self._job.inner_epochs)
        control.should_save = orders.checkpoint
        self._saving_since = time.monotonic()

    def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Mark a checkpoint as whole once all processes have written theirs; drop the others."""
        processes = PartialState()
        processes.wait_for_everyone()
        if processes.is_main_process:
            update = state.global_step // self._job.inner_epochs
            whole = checkpoint_folder(self._folder, update, self._job.inner_epochs)
            (whole / WHOLE).touch()
            drop_checkpoints(self._folder, keep=whole)
        self._recorder.tell(Saved(time.monotonic() - self._saving_since))

    def _keep_weights(self, update: int) -> None:
        """Write what training changes, gathered from all processes."""
        wrapped = self._trainer.model_wrapped
        state = self._trainer.accelerator.get_state_dict(wrapped)
        if PartialState().is_main_process:
            plain = {plain_name(name): tensor for name, tensor in state.items()}
            trained = {name: plain[name] for name in self._trained}
            write_weights(weights_file(self._folder, update), trained)


def main(folder: Path) -> None:
    """Do the job that lies in the folder."""
    job = Job.read(folder)
    # The configuration comes first: it tells transformers how weights are shared out.
    config = GRPOConfig(**job.arguments)
    questions = Dataset.from_list(
        [
            {"question_id": question_id, "prompt": prompt}
            for question_id, prompt in zip(job.question_ids, job.prompts, strict=True)
        ]
    )
    recorder = Recorder(job.address)
    grading = Grading(recorder)
    ledger = Ledger(job, folder, recorder, grading)
    trainer = GRPOTrainer(
        job.model,
        reward_funcs=grading,
        args=config,
        train_dataset=questions.select(job.order),
        callbacks=[ledger],
        peft_config=adapter_config(job.lora) if job.lora else None,
    )
    ledger.watch(trainer)
    trainer.train(resume_from_checkpoint=job.checkpoint)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
