"""What a study of the paper's size takes: hours and GPU-hours from rates, with the source of each.

The rates of an 80 GB GPU are not ours: no figure below was measured by this project on one. Put
your own in and print the table again: `python benchmarks/cost_model.py --tokens-per-second 9000`.
"""

import math
from dataclasses import dataclass, replace
from typing import Annotated

import typer

PEAK_FLOPS = 989e12
"""Dense bfloat16 operations a second of an H100 SXM (NVIDIA's data sheet)."""
BANDWIDTH = 3.35e12
"""Bytes a second of its memory (the same)."""
BYTES_PER_STEP = 28
"""Per parameter and optimiser step in float32: AdamW reads weight, gradient and both moments, and
writes all but the gradient."""
BYTES_PER_ROLLOUT = 19.7
"""Of a study file (RESULTS.md, Store)."""
BYTES_PER_TRAINED_ROLLOUT = 28.6
"""Of what a run's visits drew (the same)."""
BYTES_PER_EVALUATION = 200
"""The same, as the plan of an ablation counts it."""
SAMPLES = 16
"""Of every held-out question at the end of a run."""


@dataclass(frozen=True, slots=True)
class Study:
    """The size of a study, and the rates of one GPU."""

    parameters: float
    questions: int
    held_out: int
    tokens: float
    """Of a response, its end included."""
    prompt: int
    runs: int
    updates: int
    groups: int
    group_size: int
    draws: float
    """Groups drawn for one that carries a gradient."""
    tokens_per_second: float
    """Of 128 rollouts before training, drawn by vLLM."""
    arm_tokens_per_second: float
    """Drawn in training and evaluation, by the tree engine."""
    share_of_peak: float
    """Of training passes."""
    start_seconds: float
    """To load the model once more."""

    @property
    def sampling_hours(self) -> float:
        """Return what 128 rollouts of every training question take."""
        return self.questions * 128 * self.tokens / self.tokens_per_second / 3600

    @property
    def run_parts(self) -> dict[str, float]:
        """Return the seconds of one training run by part."""
        groups = self.updates * self.groups
        drawn = groups * self.draws * self.group_size * self.tokens
        trained = groups * (self.group_size * self.tokens + self.prompt)
        read = self.held_out * (self.prompt + 3 * self.tokens)  # three accepted answers each
        return {
            "start": self.start_seconds,
            "draw": drawn / self.arm_tokens_per_second,
            "forward and backward": 6 * self.parameters * trained / self._flops,
            "optimiser": self.updates * self.parameters * BYTES_PER_STEP / BANDWIDTH,
            "answers": self.answers * self.tokens / self.arm_tokens_per_second,
            "probabilities of accepted answers": 2 * self.parameters * read / self._flops,
        }

    @property
    def answers(self) -> int:
        """Return how many one run is asked for.

        Held-out questions greedily at two fractions and sampled at the end, training ones once.
        """
        return self.held_out * (2 + SAMPLES) + self.questions

    @property
    def run_hours(self) -> float:
        """Return what one training run takes."""
        return sum(self.run_parts.values()) / 3600

    @property
    def hours(self) -> float:
        """Return the GPU-hours of one model's study."""
        return self.sampling_hours + self.runs * self.run_hours

    def hours_on(self, gpus: int) -> float:
        """Return the hours of one model's study on several GPUs, each with whole runs."""
        return self.sampling_hours / gpus + math.ceil(self.runs / gpus) * self.run_hours

    @property
    def gigabytes(self) -> float:
        """Return the size of the study file: rollouts, and rollouts and answers of all runs."""
        trained_on = self.updates * self.groups * self.draws * self.group_size
        rollouts = self.questions * 128 * BYTES_PER_ROLLOUT
        of_runs = trained_on * BYTES_PER_TRAINED_ROLLOUT + self.answers * BYTES_PER_EVALUATION
        return (rollouts + self.runs * of_runs) / 1e9

    def times(self, factor: int) -> "Study":
        """Return a study of as many more questions, held-out ones and updates."""
        return replace(
            self,
            questions=factor * self.questions,
            held_out=factor * self.held_out,
            updates=factor * self.updates,
        )

    @property
    def _flops(self) -> float:
        return PEAK_FLOPS * self.share_of_peak


def main(
    parameters: Annotated[float, typer.Option(help="Of the model.")] = 8e9,
    questions: Annotated[int, typer.Option(help="Training questions.")] = 20_000,
    held_out: Annotated[int, typer.Option(help="Held-out questions.")] = 4_000,
    tokens: Annotated[float, typer.Option(help="Of a response.")] = 10,
    prompt: Annotated[int, typer.Option(help="Tokens of a prompt.")] = 45,
    runs: Annotated[int, typer.Option(help="Arms × seeds.")] = 51,
    updates: Annotated[int, typer.Option(help="Of one run.")] = 200,
    groups: Annotated[int, typer.Option(help="Of one update.")] = 64,
    group_size: Annotated[int, typer.Option(help="Rollouts of one group.")] = 16,
    draws: Annotated[float, typer.Option(help="Groups drawn for an informative one.")] = 3.0,
    tokens_per_second: Annotated[float, typer.Option(help="Of vLLM on one GPU.")] = 12_500,
    arm_tokens_per_second: Annotated[float, typer.Option(help="Of the tree engine.")] = 12_500,
    share_of_peak: Annotated[float, typer.Option(help="Of training passes.")] = 0.35,
    start_seconds: Annotated[float, typer.Option(help="To load the model.")] = 60,
) -> None:
    """Print the cost of one model's study, at this size, 10 times and 1,000 times it."""
    one = Study(
        parameters, questions, held_out, tokens, prompt, runs, updates, groups, group_size, draws,
        tokens_per_second, arm_tokens_per_second, share_of_peak, start_seconds,
    )  # fmt: skip
    typer.echo("| part of a run | seconds |\n|---|---|")
    for name, seconds in one.run_parts.items():
        typer.echo(f"| {name} | {seconds:,.0f} |")
    typer.echo("\n| | rollouts | file | sampling | one run | all runs | GPU-hours | on 8 GPUs |")
    typer.echo("|---|---|---|---|---|---|---|---|")
    for name, factor in (("the study", 1), ("10 ×", 10), ("1,000 ×", 1000)):
        study = one.times(factor)
        typer.echo(
            f"| {name} | {study.questions * 128:,} | {study.gigabytes:,.1f} GB "
            f"| {study.sampling_hours:,.1f} h | {study.run_hours:,.2f} h "
            f"| {study.run_hours * runs:,.0f} h | {study.hours:,.0f} "
            f"| {study.hours_on(8):,.1f} h |"
        )


if __name__ == "__main__":
    typer.run(main)
