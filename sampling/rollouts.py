"""Sampling as a resumable pipeline: owed rollouts in, stored batches out.

Owns the plan (which rollout indices of which questions are still owed) and the flow from the engine
to the store. Refuses to mix rollouts drawn under different settings. A kill loses at most the
second of work that was not yet written; the next run draws just what is missing, and draws the
same.
"""

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass

import polars as pl

from attrib.config import canonical_json, differing_keys
from attrib.data.library import import_dataset, load_dataset, select_questions
from attrib.data.questions import WORLDFACTS, Question, Split
from attrib.environment import record_work
from attrib.errors import ConfigError, ModelError
from attrib.progress import say, track
from attrib.sampling.engine import Engine, FinishReason, Request, Rollout
from attrib.sampling.engines import EngineSettings, Source, find_source
from attrib.sampling.responder import Responder, SampleSet
from attrib.settings import command_line
from attrib.store import Store

SECONDS_BETWEEN_WRITES = 1.0


class SampleSettings(EngineSettings):
    """What `attrib sample` was asked for."""

    dataset: str = WORLDFACTS
    """Name of an imported data set, or of the built-in one."""
    n: int = 128
    """Rollouts per question, those already stored included."""
    where: str | None = None
    """SQL condition on the training questions."""
    limit: int | None = None
    """Number of questions."""
    new_set: bool = False
    """Start another sample set beside one drawn under other settings."""


@dataclass(frozen=True, slots=True)
class SampleSummary:
    """What a call of `draw_rollouts` left in the store."""

    sample_set_id: str
    questions: int
    n: int
    drawn: int
    already_stored: int
    tokens: int
    seconds: float


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


def draw_rollouts(store: Store, settings: SampleSettings) -> SampleSummary:
    """Draw what is missing until every selected question has rollouts 0 … n-1.

    Raises:
        ConfigError: n is not positive, or the study holds rollouts drawn under other settings.
        ModelError: the model cannot be loaded, not be served exactly, or failed to answer.
    """
    check_n(settings.n)
    with store.writing("attrib sample"):
        import_dataset(store, settings.dataset)
        questions = select_training(store, settings)
        source = find_source(settings)
        refuse_other_settings(store, source.sample_set, settings)
        owed = find_owed(store, source.sample_set.sample_set_id, questions, settings.n)
        responder = source.open() if owed else None  # refuses before anything is stored
        _register(store, source.sample_set, settings, responder)
        _select(store, source.sample_set.sample_set_id, questions)
        return _draw_owed(store, source, responder, questions, owed, settings.n)


def check_n(n: int) -> None:
    """Refuse a number of rollouts without a meaning."""
    if n < 1:
        raise ConfigError(f"--n {n} must be at least 1.")


def select_training(store: Store, settings: SampleSettings) -> list[Question]:
    """Return the training questions that the settings choose."""
    return select_questions(
        store,
        load_dataset(store, settings.dataset),
        Split.TRAIN,
        where=settings.where,
        limit=settings.limit,
    )


def find_owed(
    store: Store, sample_set_id: str, questions: Sequence[Question], n: int
) -> list[Owed]:
    """Return which rollouts below n the questions still lack; failed ones count as lacking."""
    rows = store.read(
        "SELECT question_id, list(rollout) AS rollouts FROM rollouts "
        "WHERE sample_set_id = $sample_set_id AND finish_reason <> 'error' GROUP BY question_id",
        sample_set_id=sample_set_id,
    )
    stored = dict(zip(rows["question_id"], rows["rollouts"].to_list(), strict=True))
    return [
        Owed(question, first, stop)
        for question in questions
        for first, stop in owed_ranges(stored.get(question.question_id, []), n)
    ]


def make_requests(responder: Responder[Engine], owed: Sequence[Owed]) -> list[Request]:
    """Return the requests for owed rollouts, in their order."""
    return [
        Request(one.question.question_id, responder.prompt(one.question), one.first, one.stop)
        for one in owed
    ]


def _select(store: Store, sample_set_id: str, questions: Sequence[Question]) -> None:
    """Record what the sample set was asked to answer, before the first rollout."""
    selection = pl.DataFrame({"question_id": [q.question_id for q in questions]}).with_columns(
        pl.lit(sample_set_id).alias("sample_set_id")
    )
    with store.transaction() as transaction:
        transaction.append("selections", selection, ["sample_set_id", "question_id"])


def _draw_owed(
    store: Store,
    source: Source,
    responder: Responder[Engine] | None,
    questions: Sequence[Question],
    owed: Sequence[Owed],
    n: int,
) -> SampleSummary:
    started = time.monotonic()
    missing, wanted = sum(one.count for one in owed), len(questions) * n
    say(f"{len(questions)} questions × {n} rollouts: {wanted - missing} stored, {missing} to draw.")
    tokens = failed = 0
    if responder is not None:
        writer = _Writer(store, source.sample_set.sample_set_id)
        requests = make_requests(responder, owed)
        with track("Sampling", missing, "rollouts") as advance:
            try:
                for answered in responder.respond(requests, source.sample_set.seed):
                    writer.add(requests[answered.position].stream, answered.rollouts)
                    tokens += sum(rollout.tokens for rollout in answered.rollouts)
                    failed += count_failed(answered.rollouts)
                    advance(len(answered.rollouts))
            finally:
                writer.write()
    if failed:
        raise ModelError(
            f"{failed} of {missing} rollouts failed and are stored as such; the others are done. "
            "The same command draws the failed ones again."
        )
    return SampleSummary(
        sample_set_id=source.sample_set.sample_set_id,
        questions=len(questions),
        n=n,
        drawn=missing,
        already_stored=wanted - missing,
        tokens=tokens,
        seconds=time.monotonic() - started,
    )


def count_failed(rollouts: Sequence[Rollout]) -> int:
    """Return how many of the rollouts could not be drawn."""
    return sum(rollout.finish_reason == FinishReason.ERROR for rollout in rollouts)


class _Writer:
    """Collects rollouts and writes them together, once a second."""

    def __init__(self, store: Store, sample_set_id: str) -> None:
        self._store = store
        self._sample_set_id = sample_set_id
        self._rows: list[dict[str, object]] = []
        self._written_at = time.monotonic()

    def add(self, question_id: str, rollouts: Sequence[Rollout]) -> None:
        """Take a question's rollouts; write if the last time is long enough ago."""
        self._rows += [
            {
                "sample_set_id": self._sample_set_id,
                "question_id": question_id,
                "rollout": rollout.index,
                "text": rollout.text,
                "token_ids": list(rollout.token_ids),
                "tokens": rollout.tokens,
                "logprob": rollout.logprob,
                "finish_reason": str(rollout.finish_reason),
            }
            for rollout in rollouts
        ]
        if time.monotonic() - self._written_at > SECONDS_BETWEEN_WRITES:
            self.write()

    def write(self) -> None:
        """Write what was collected; what had failed before makes room for what was drawn again."""
        if self._rows:
            frame = pl.DataFrame(
                self._rows,
                schema_overrides={
                    "rollout": pl.Int32,
                    "token_ids": pl.List(pl.Int32),
                    "logprob": pl.Float64,
                },
            )
            with self._store.transaction() as transaction:
                transaction.execute(
                    "DELETE FROM rollouts WHERE sample_set_id = $id AND finish_reason = 'error' "
                    "AND list_contains($questions, question_id)",
                    id=self._sample_set_id,
                    questions=frame["question_id"].unique().to_list(),
                )
                transaction.append(
                    "rollouts", frame, unless_present=["sample_set_id", "question_id", "rollout"]
                )
        self._rows, self._written_at = [], time.monotonic()


def owed_ranges(stored: Sequence[int], n: int) -> list[tuple[int, int]]:
    """Return the runs [first, stop) of indices below n that are not in `stored`."""
    missing = sorted(set(range(n)) - set(stored))
    ranges: list[tuple[int, int]] = []
    for index in missing:
        if ranges and ranges[-1][1] == index:
            ranges[-1] = (ranges[-1][0], index + 1)
        else:
            ranges.append((index, index + 1))
    return ranges


def refuse_other_settings(store: Store, sample_set: SampleSet, settings: SampleSettings) -> None:
    """Refuse to go on if the study holds rollouts of another set and was not asked for a second.

    Raises:
        ConfigError: names every setting that differs.
    """
    known = store.read(
        "SELECT * FROM sample_sets SEMI JOIN rollouts USING (sample_set_id) "
        "ORDER BY used_at DESC, sample_set_id"
    )
    is_known = sample_set.sample_set_id in known["sample_set_id"]
    if not known.is_empty() and not is_known and not settings.new_set:
        latest = known.row(0, named=True)
        differences = "; ".join(
            differing_keys(
                json.loads(latest["params"]), json.loads(canonical_json(sample_set.params))
            )
        )
        raise ConfigError(
            f"{store.path} holds rollouts drawn under other settings ({differences}). Use the same "
            "settings to continue, --new-set for a second sample set, or another --db."
        )


def _register(
    store: Store,
    sample_set: SampleSet,
    settings: SampleSettings,
    responder: Responder[Engine] | None,
) -> None:
    """Record the sample set, and that it is the newest; without an engine nothing was owed."""
    again = settings.model_copy(update={"n": SampleSettings().n, "new_set": False})
    row = {
        "sample_set_id": sample_set.sample_set_id,
        "model": sample_set.model,
        "engine": sample_set.engine,
        "prompt": "\n".join(filter(None, [sample_set.prompt.system, sample_set.prompt.template])),
        "params": canonical_json(sample_set.params),
        "seed": sample_set.seed,
        "reproducible": responder is not None and responder.engine.is_reproducible,
        "command": command_line("sample", again, store.path),
    }
    with store.transaction() as transaction:
        transaction.use("sample_sets", "sample_set_id", pl.DataFrame([row]))
        transaction.execute(
            "UPDATE sample_sets SET command = $command WHERE sample_set_id = $id",
            command=row["command"],
            id=sample_set.sample_set_id,
        )
        if responder is not None:
            command = command_line("sample", settings, store.path)
            record_work(transaction, sample_set.sample_set_id, command)
