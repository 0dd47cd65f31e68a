"""Sampling as a resumable pipeline: owed rollouts in, stored batches out.

Owns the plan (which rollout indices of which questions are still owed) and the flow to the store
from an engine in this process or from the workers of a cluster. Refuses to mix rollouts drawn under
different settings. A kill loses at most the second of work that was not yet written, and on a
cluster what its workers had not handed over; the next run draws just what is missing, and draws the
same.
"""

import json
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import polars as pl

from attrib.cluster import NONE, ClusterSettings
from attrib.config import canonical_json, differing_keys
from attrib.data.library import import_dataset, load_dataset, select_questions
from attrib.data.questions import WORLDFACTS, Question, Split
from attrib.environment import record_work
from attrib.errors import ConfigError, ModelError
from attrib.progress import say, track
from attrib.sampling.engine import Engine, Request
from attrib.sampling.engines import EngineSettings, Source, find_source
from attrib.sampling.responder import Responder, SampleSet
from attrib.sampling.rollout_rows import Drawing, Owed, RolloutWriter, count_failed, to_rows
from attrib.settings import command_line
from attrib.store import Store

_STORED = """
    SELECT question_id,
           CASE WHEN count(*) FILTER (rollout < $n) < $n THEN list(rollout) END AS rollouts
    FROM rollouts WHERE sample_set_id = $sample_set_id AND finish_reason <> 'error'
    GROUP BY question_id
"""


MOST_ROLLOUTS = 1_000_000  # a question


class SampleSettings(EngineSettings, ClusterSettings):
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


def draw_rollouts(store: Store, settings: SampleSettings) -> SampleSummary:
    """Draw what is missing until every selected question has rollouts 0 … n-1.

    Raises:
        ConfigError: n is not positive, the study holds rollouts drawn under other settings, or
            there is no such cluster.
        ModelError: the model cannot be loaded, not be served exactly, or failed to answer.
    """
    check_n(settings.n)
    if settings.url is not None and settings.cluster not in (None, NONE):
        raise ConfigError("--cluster does not go with --url: raise --concurrency instead.")
    with store.writing("attrib sample"):
        import_dataset(store, settings.dataset)
        questions = select_training(store, settings)
        source = find_source(settings)
        sample_set = source.sample_set
        refuse_other_settings(store, sample_set, settings)
        owed = find_owed(store, sample_set.sample_set_id, questions, settings.n)
        with _begin(source, settings, owed) as drawing:  # refuses before anything is stored
            _register(store, sample_set, settings, drawing)
            _select(store, sample_set.sample_set_id, questions)
            return _store_drawn(store, sample_set, drawing, questions, owed, settings.n)


def check_n(n: int) -> None:
    """Refuse a number of rollouts without a meaning."""
    if not 1 <= n <= MOST_ROLLOUTS:
        raise ConfigError(f"--n {n} must be at least 1 and at most {MOST_ROLLOUTS:,}.")


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
    rows = store.read(_STORED, sample_set_id=sample_set_id, n=n)
    stored = dict(zip(rows["question_id"], rows["rollouts"].to_list(), strict=True))
    served = {question_id for question_id, rollouts in stored.items() if rollouts is None}
    return [
        Owed(question, first, stop)
        for question in questions
        if question.question_id not in served
        for first, stop in owed_ranges(stored.get(question.question_id) or [], n)
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


@contextmanager
def _begin(
    source: Source, settings: SampleSettings, owed: Sequence[Owed]
) -> Iterator[Drawing | None]:
    """Make ready whoever draws, here or on a cluster; None where nothing is owed."""
    if not owed:
        yield None
    elif settings.cluster in (None, NONE):
        yield _draw_here(source.open(), owed, source.sample_set.seed)
    else:
        from attrib.sampling.cluster_sampling import drawing_on_cluster

        with drawing_on_cluster(source.sample_set, settings, owed) as drawing:
            yield drawing


def _draw_here(responder: Responder[Engine], owed: Sequence[Owed], seed: int) -> Drawing:
    requests = make_requests(responder, owed)
    rows = (
        to_rows(requests[answered.position].stream, answered.rollouts)
        for answered in responder.respond(requests, seed)
    )
    return Drawing(responder.engine.is_reproducible, rows)


def _store_drawn(
    store: Store,
    sample_set: SampleSet,
    drawing: Drawing | None,
    questions: Sequence[Question],
    owed: Sequence[Owed],
    n: int,
) -> SampleSummary:
    started = time.monotonic()
    missing, wanted = sum(one.count for one in owed), len(questions) * n
    say(f"{len(questions)} questions × {n} rollouts: {wanted - missing} stored, {missing} to draw.")
    tokens = failed = 0
    if drawing is not None:
        writer = RolloutWriter(store, sample_set.sample_set_id)
        with track("Sampling", missing, "rollouts") as advance:
            try:
                for rows in drawing.rows:
                    writer.add(rows)
                    tokens += int(rows["tokens"].sum())
                    failed += count_failed(rows)
                    advance(len(rows))
            finally:
                writer.write()
    if failed:
        raise ModelError(
            f"{failed} of {missing} rollouts failed and are stored as such; the others are done. "
            "The same command draws the failed ones again."
        )
    return SampleSummary(
        sample_set_id=sample_set.sample_set_id,
        questions=len(questions),
        n=n,
        drawn=missing,
        already_stored=wanted - missing,
        tokens=tokens,
        seconds=time.monotonic() - started,
    )


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
    drawing: Drawing | None,
) -> None:
    """Record the sample set, and that it is the newest; without a drawing nothing was owed."""
    again = settings.model_copy(update={"n": SampleSettings().n, "new_set": False})
    row = {
        "sample_set_id": sample_set.sample_set_id,
        "model": sample_set.model,
        "engine": sample_set.engine,
        "prompt": "\n".join(filter(None, [sample_set.prompt.system, sample_set.prompt.template])),
        "params": canonical_json(sample_set.params),
        "seed": sample_set.seed,
        "reproducible": drawing is not None and drawing.is_reproducible,
        "command": command_line("sample", again, store.path),
    }
    with store.transaction() as transaction:
        transaction.use("sample_sets", "sample_set_id", pl.DataFrame([row]))
        transaction.execute(
            "UPDATE sample_sets SET command = $command WHERE sample_set_id = $id",
            command=row["command"],
            id=sample_set.sample_set_id,
        )
        if drawing is not None:
            command = command_line("sample", settings, store.path)
            record_work(transaction, sample_set.sample_set_id, command)
