"""TRL's GRPOTrainer, to be timed beside the ways of training in `training_engines`."""

import time
from collections.abc import Sequence
from tempfile import TemporaryDirectory
from typing import Any

import trl.trainer.utils
from datasets import Dataset
from training_engines import BETAS, LEARNING_RATE, MAX_GRADIENT_NORM, Engine, Lap, Workload
from transformers import TrainerCallback
from trl import GRPOConfig, GRPOTrainer
from trl.trainer.utils import split_tensor_dict


class Trl(Engine):
    """TRL as it comes, at its fastest settings; it generates for all questions at once."""

    def __init__(self, workload: Workload, at_once: int) -> None:
        """Train on `at_once` rows in one forward."""
        super().__init__(workload)
        rows = len(workload.groups) * workload.group_size
        self._accumulation = rows // at_once
        self._at_once = at_once
        self._trainer = self._build(1, _Watch(workload))
        token_ids, *_ = self._trainer._tokenize_prompts(list(self._dataset()["prompt"]))
        assert token_ids == [list(prompt.token_ids) for prompt in workload.prompts]
        self._trainer.current_gradient_accumulation_steps = self._accumulation
        self._batches = self._hand_over()

    def backward(self) -> None:
        """Add the gradient on the workload's rollouts to the parameters' `.grad`."""
        for batch in self._batches:
            self._trainer.accelerator.backward(self._trainer.compute_loss(self.module, batch))

    def updates(self, count: int) -> list[Lap]:
        """Take optimiser steps, each on rollouts of its own."""
        watch = _Watch(self.workload)
        self._build(count, watch).train()
        return watch.laps

    def _hand_over(self) -> list[dict[str, Any]]:
        """Return the batches that TRL makes of the workload's rollouts."""
        groups = self.workload.groups
        rollouts = {
            "prompt_ids": [list(group.prompt) for group in groups for _ in group.completions],
            "completion_ids": [list(tokens) for group in groups for tokens in group.completions],
            "logprobs": None,
        }
        rows = [row for row in self._dataset() for _ in range(self.workload.group_size)]
        self.module.train()
        self._trainer.rollout_func = lambda prompts, trainer: rollouts
        batch = self._trainer._generate_and_score_completions(rows)
        return split_tensor_dict(batch, self._accumulation)

    def _dataset(self) -> Dataset:
        return Dataset.from_list([
            {"prompt": [{"role": "system", "content": prompt.system},
                        {"role": "user", "content": prompt.text}], "place": place}
            for place, prompt in enumerate(self.workload.prompts)
        ])  # fmt: skip

    def _build(self, updates: int, watch: "_Watch") -> GRPOTrainer:
        sampling = self.workload.sampling
        config = GRPOConfig(
            output_dir=TemporaryDirectory().name,  # nothing is saved
            max_steps=updates,
            per_device_train_batch_size=self._at_once,
            gradient_accumulation_steps=self._accumulation,
            num_generations=self.workload.group_size,
            max_completion_length=sampling.max_new_tokens,
            temperature=sampling.temperature,
            loss_type="grpo",
            scale_rewards="group",
            beta=0.0,
            learning_rate=LEARNING_RATE,
            lr_scheduler_type="constant",
            adam_beta1=BETAS[0],
            adam_beta2=BETAS[1],
            weight_decay=0.0,
            max_grad_norm=MAX_GRADIENT_NORM,
            use_cpu=True,
            bf16=False,
            gradient_checkpointing=False,
            disable_dropout=True,
            logging_strategy="no",
            save_strategy="no",
            report_to="none",
            disable_tqdm=True,
        )
        return GRPOTrainer(
            self.module,
            reward_funcs=watch.reward,
            args=config,
            train_dataset=self._dataset(),
            processing_class=self.workload.language_model.tokenizer,
            callbacks=[watch],
        )


class TrlOnCompletions(Trl):
    """TRL made to put only the completions' tokens through the output layer.

    On a GPU it does; elsewhere it takes all tokens, prompts and padding included, to keep shapes
    alike. The kernels remain those for the CPU.
    """

    def __init__(self, workload: Workload, at_once: int) -> None:
        """Train on `at_once` rows in one forward."""
        trl.trainer.utils._use_triton = lambda device: True
        super().__init__(workload, at_once)


class _Watch(TrainerCallback):
    """Grades for TRL, and times its updates."""

    def __init__(self, workload: Workload) -> None:
        self.laps: list[Lap] = []
        self._workload = workload
        self._informative = 0
        self._started = 0.0

    def reward(
        self, place: Sequence[int], completion_ids: Sequence[Sequence[int]], **_: object
    ) -> list[float]:
        """Return 1 for right completions; those of a question stand together."""
        size = self._workload.group_size
        groups = [
            self._workload.grade(place[first], completion_ids[first : first + size])
            for first in range(0, len(place), size)
        ]
        self._informative = sum(group.has_both for group in groups)
        return [float(correct) for group in groups for correct in group.correct_G]

    def on_step_begin(self, *_: object, **__: object) -> None:
        """Start the clock."""
        self._started = time.perf_counter()

    def on_step_end(self, *_: object, **__: object) -> None:
        """Stop the clock."""
        self.laps.append(Lap(time.perf_counter() - self._started, self._informative))
