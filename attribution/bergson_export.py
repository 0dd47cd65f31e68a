"""Rollouts and held-out answers for bergson, so that its methods can be compared with ours.

bergson (EleutherAI, checked against 2.5.1) reads rows with a prompt, a completion and a reward, and
takes for `--reward_column` the rewards of rows with the same prompt as one group; `input_ids` and
`labels`, where they are there, spare it the tokenizing, so that it sees the tokens that were drawn.
Owns two files: the rollouts drawn before training, and the held-out questions with their first
accepted answer, for its queries. With rollouts of the base these are policy gradients at the base.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import polars as pl
from pydantic import Field

from attrib.attribution.experiment import Experiment
from attrib.attribution.finished_arms import ArmsSettings, find_arms
from attrib.attribution.objective import Advantage, group_advantages
from attrib.attribution.runs import Runner
from attrib.attribution.visits import stored_rollouts
from attrib.data.questions import Question
from attrib.errors import ConfigError
from attrib.files import writing_to
from attrib.sampling.responder import Responder
from attrib.sampling.tree import TreeEngine
from attrib.sampling.verdicts import grade_rollouts
from attrib.store import Store

IGNORED = -100  # a label of no loss, by transformers' convention


class BergsonSettings(ArmsSettings):
    """What `attrib attribute export` was asked for."""

    output: Path
    """JSON lines or Parquet, by its ending."""
    queries: Path | None = None
    """Where the held-out questions go; by default nowhere."""
    rollouts: int = Field(default=16, ge=2)
    """Of each training question, at most."""


@dataclass(frozen=True, slots=True)
class BergsonSummary:
    """What was written for bergson."""

    path: Path
    queries: Path | None
    questions: int
    rollouts: int
    informative: int
    """Questions with right and wrong rollouts; the others give no gradient."""
    held_out: int
    """Questions in the second file."""


def export_for_bergson(store: Store, settings: BergsonSettings) -> BergsonSummary:
    """Write the files.

    Raises:
        ConfigError: a file ends in neither .jsonl nor .parquet.
        DataError: the stored rollouts have no token ids.
    """
    for path in filter(None, (settings.output, settings.queries)):
        if path.suffix not in (".jsonl", ".parquet"):
            raise ConfigError(f"{path} ends in neither .jsonl nor .parquet; bergson reads these.")
    with store.writing("attrib attribute export", create=False):
        found = find_arms(store, settings)
        experiment = found.experiment
        grade_rollouts(
            store,
            experiment.bucketing.sample_set_id,
            experiment.reward_grader,
            experiment.bucketing.dataset,
            experiment.bucketing.k,
        )
        _, responder = Runner(store, experiment, found.settings).load_base()
        training = _training_rows(store, responder, found.questions, experiment, settings.rollouts)
        held_out = _held_out_rows(responder, experiment.evaluation.held_out)
    _write(training, settings.output)
    if settings.queries is not None:
        _write(held_out, settings.queries)
    by_question = training.group_by("question_id").agg(pl.col("reward").n_unique())
    return BergsonSummary(
        path=settings.output,
        queries=settings.queries,
        questions=len(by_question),
        rollouts=len(training),
        informative=int((by_question["reward"] > 1).sum()),
        held_out=len(held_out) if settings.queries is not None else 0,
    )


def _training_rows(
    store: Store,
    responder: Responder[TreeEngine],
    questions: Sequence[Question],
    experiment: Experiment,
    rollouts: int,
) -> pl.DataFrame:
    bucketing = experiment.bucketing
    groups = stored_rollouts(
        store,
        responder,
        experiment.reward_grader.fingerprint,
        bucketing.sample_set_id,
        min(rollouts, bucketing.k),
        questions,
    )
    rows = []
    for question in questions:
        group = groups[question.question_id]
        reward_G = group.correct_G.astype(float)
        # Dr. GRPO's, which bergson would compute from the rewards.
        advantage_G = group_advantages(reward_G, Advantage.MEAN_ONLY)
        for number, completion in enumerate(group.completions):
            rows.append(
                {
                    **_row(responder, question, completion),
                    "rollout": number,
                    "reward": float(reward_G[number]),
                    "advantage": float(advantage_G[number]),
                }
            )
    return pl.DataFrame(rows)


def _held_out_rows(responder: Responder[TreeEngine], questions: Sequence[Question]) -> pl.DataFrame:
    rows = [_row(responder, q, responder.targets(q.answers[0])[0]) for q in questions]
    return pl.DataFrame(rows)


def _row(
    responder: Responder[TreeEngine], question: Question, completion: Sequence[int]
) -> dict[str, object]:
    """Return the columns that both files have; the prompt is what the model was given."""
    tokenizer = responder.engine.language_model.tokenizer
    prompt = responder.prompt(question).token_ids
    return {
        "question_id": question.question_id,
        "prompt": tokenizer.decode(list(prompt)),
        "completion": tokenizer.decode(list(completion), skip_special_tokens=True),
        "input_ids": [*prompt, *completion],
        "labels": [*(IGNORED for _ in prompt), *completion],
        "length": len(prompt) + len(completion),
    }


def _write(frame: pl.DataFrame, path: Path) -> None:
    with writing_to(path) as stream:
        if path.suffix == ".parquet":
            frame.write_parquet(stream)
        else:
            frame.write_ndjson(stream)
