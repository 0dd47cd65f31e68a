"""Rollouts on their way to the store: owed, drawn, and written as rows.

Owns the columns of the table `rollouts`, but for the sample set they belong to, and the writer that
takes them in batches. Whoever drew them hands over frames: this process, or workers elsewhere.
"""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import polars as pl

from attrib.data.questions import Question
from attrib.sampling.engine import FinishReason, Rollout
from attrib.store import Store

SECONDS_BETWEEN_WRITES = 1.0
SHARE_OF_WRITING = 0.1  # of the time, where a large table makes writes slow
MOST_ROWS = 500_000  # in memory until they are written

SCHEMA: dict[str, pl.DataType] = {
    "question_id": pl.String(),
    "rollout": pl.Int32(),
    "text": pl.String(),
    "token_ids": pl.List(pl.Int32),
    "tokens": pl.Int32(),
    "logprob": pl.Float64(),
    "finish_reason": pl.String(),
}


@dataclass(frozen=True, slots=True)
class Owed:
    """Rollouts `first` … `stop`-1 of a question, which are not stored yet."""

    question: Question
    first: int
    stop: int

    @property
    def count(self) -> int:
        """Return how many rollouts are owed."""
        return self.stop - self.first


@dataclass(frozen=True, slots=True)
class Drawing:
    """Owed rollouts on their way.

    Attributes:
        is_reproducible: whether each is a function of seed, question and index alone.
        rows: of whole requests, as they complete; the columns of every frame are `SCHEMA`.
    """

    is_reproducible: bool
    rows: Iterator[pl.DataFrame]


def to_rows(question_id: str, rollouts: Sequence[Rollout]) -> pl.DataFrame:
    """Return the rows of a question's rollouts."""
    return pl.DataFrame(
        {
            "question_id": [question_id] * len(rollouts),
            "rollout": [rollout.index for rollout in rollouts],
            "text": [rollout.text for rollout in rollouts],
            "token_ids": [rollout.token_ids for rollout in rollouts],
            "tokens": [rollout.tokens for rollout in rollouts],
            "logprob": [rollout.logprob for rollout in rollouts],
            "finish_reason": [str(rollout.finish_reason) for rollout in rollouts],
        },
        schema=SCHEMA,
    )


def count_failed(rows: pl.DataFrame) -> int:
    """Return how many of the rollouts could not be drawn."""
    return int((rows["finish_reason"] == str(FinishReason.ERROR)).sum())


class RolloutWriter:
    """Collects rollouts of a sample set and writes them together, once a second."""

    def __init__(self, store: Store, sample_set_id: str) -> None:
        """Write into `store`. Only inside `store.writing`."""
        self._store = store
        self._sample_set_id = sample_set_id
        self._waiting: list[pl.DataFrame] = []
        self._rows = 0
        self._write_at = time.monotonic()

    def add(self, rows: pl.DataFrame) -> None:
        """Take rollouts of whole questions; write if the last time is long enough ago."""
        self._waiting.append(rows)
        self._rows += len(rows)
        if time.monotonic() > self._write_at or self._rows >= MOST_ROWS:
            self.write()

    def write(self) -> None:
        """Write what was collected; what had failed before makes room for what was drawn again."""
        started = time.monotonic()
        if self._waiting:
            self._append(pl.concat(self._waiting))
        self._waiting, self._rows = [], 0
        ended = time.monotonic()
        pause = max(SECONDS_BETWEEN_WRITES, (ended - started) / SHARE_OF_WRITING)
        self._write_at = ended + pause

    def _append(self, rows: pl.DataFrame) -> None:
        sample_set_id = pl.lit(self._sample_set_id).alias("sample_set_id")
        with self._store.transaction() as transaction:
            transaction.execute(
                "DELETE FROM rollouts USING (SELECT unnest($questions) AS question_id, "
                "unnest($indices) AS rollout) AS drawn WHERE sample_set_id = $id "
                "AND finish_reason = 'error' AND rollouts.question_id = drawn.question_id "
                "AND rollouts.rollout = drawn.rollout",
                id=self._sample_set_id,
                questions=rows["question_id"].to_list(),
                indices=rows["rollout"].to_list(),
            )
            transaction.append(
                "rollouts",
                rows.with_columns(sample_set_id),
                unless_present=["sample_set_id", "question_id", "rollout"],
            )
