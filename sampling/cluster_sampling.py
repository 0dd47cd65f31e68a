"""Sampling on a cluster: Ray Data gives owed questions to workers, each with an engine of its own.

Owns how questions are cut into tasks, what a worker does, and how its rollouts come back. Who runs
what and where is Ray's business: it starts workers as nodes come, gives the tasks of one that died
to another, and holds workers back when the driver does not keep up, so that the driver holds the
questions it was given and a few batches of rollouts. A worker draws what this process would have
drawn, with the same engine, prompt and seed; one whose node holds other weights refuses.

A task hands its rollouts over in batches. Ray runs the task of a dead worker again and drops as
many batches as had arrived, so the same batches must come again: requests are answered in order and
batches are cut by counts, never by time.
"""

import io
import logging
import platform
from collections.abc import Generator, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING, Any

import polars as pl
import pyarrow as pa  # type: ignore[import-untyped]

from attrib.cluster import Cluster, connected, find_own_error, import_ray, is_client
from attrib.config import canonical_json, differing_keys
from attrib.errors import ModelError, first_line
from attrib.progress import say
from attrib.sampling.engine import Engine, Request, in_order
from attrib.sampling.engines import EngineSettings, find_source
from attrib.sampling.responder import Responder, SampleSet
from attrib.sampling.rollout_rows import Drawing, Owed, to_rows

if TYPE_CHECKING:
    from attrib.sampling.rollouts import SampleSettings

ROLLOUTS_PER_TASK = 8192  # what a dead worker draws again, at most; enough to fill an engine
ROLLOUTS_PER_BATCH = 1024  # what a dead driver loses of every worker
TASKS_PER_WORKER = 4  # at least, so that all of them end together
MOST_RESTARTS = 20  # of one worker; one that dies at every start ends the run


@contextmanager
def drawing_on_cluster(
    sample_set: SampleSet, settings: "SampleSettings", owed: Sequence[Owed]
) -> Iterator[Drawing]:
    """Draw owed rollouts on the cluster that the settings name; the first ones are there already.

    Raises:
        MissingExtraError: Ray is not installed.
        ConfigError: there is no such cluster.
        ModelError: a worker cannot load the model, or its node holds another one.
    """
    with connected(settings) as cluster:
        say(f"Sampling on {cluster} …")
        worker = (_of_engine(settings, sample_set), sample_set)
        with closing(_run(cluster, worker, owed)) as batches:
            first = next(batches)
            rest = (batch.rows for batch in batches)
            yield Drawing(first.is_reproducible, chain([first.rows], rest))


@dataclass(frozen=True, slots=True)
class _Batch:
    """Rollouts of some requests of one task."""

    rows: pl.DataFrame
    is_reproducible: bool

    def pack(self) -> pa.Table:
        """Return one row, which Ray does not divide."""
        buffer = io.BytesIO()
        self.rows.write_ipc(buffer)
        rows = pa.array([buffer.getvalue()], pa.large_binary())
        return pa.table({"rows": rows, "reproducible": [self.is_reproducible]})

    @classmethod
    def unpack(cls, table: pa.Table) -> "_Batch":
        """Return what `pack` has packed."""
        [row] = table.to_pylist()
        return cls(pl.read_ipc(io.BytesIO(row["rows"])), row["reproducible"])


class Worker:
    """Draws the rollouts of one task after another; the engine is opened for the first."""

    def __init__(self, settings: EngineSettings, sample_set: SampleSet) -> None:
        """Load nothing yet: a failure to load is told as the failure of a task."""
        self._settings = settings
        self._sample_set = sample_set
        self._responder: Responder[Engine] | None = None

    def __call__(self, packed: pa.Table) -> Iterator[pa.Table]:
        """Yield the rollouts of a task, packed by `_pack`, in batches."""
        task = _unpack(packed)
        if self._responder is None:
            self._responder = self._open()
        responder = self._responder
        requests = [
            Request(row["question_id"], responder.put(row["text"]), row["first"], row["stop"])
            for row in task
        ]
        answers = in_order(responder.respond(requests, self._sample_set.seed))
        held: list[pl.DataFrame] = []
        for request, rollouts in zip(requests, answers, strict=True):
            held.append(to_rows(request.stream, rollouts))
            if request is requests[-1] or sum(map(len, held)) >= ROLLOUTS_PER_BATCH:
                yield _Batch(pl.concat(held), responder.engine.is_reproducible).pack()
                held = []

    def _open(self) -> Responder[Engine]:
        """Load the model.

        Raises:
            ModelError: it is not the one that the driver has.
        """
        wanted = self._sample_set
        source = find_source(self._settings, lambda is_chat: wanted.prompt)
        if source.sample_set.sample_set_id != wanted.sample_set_id:
            ours, theirs = (
                {**one.params, "prompt": canonical_json(one.params["prompt"])}
                for one in (wanted, source.sample_set)
            )
            differences = "; ".join(differing_keys(ours, theirs))
            raise ModelError(
                f"On the node {platform.node()} {wanted.model} is another model than here "
                f"({differences}). Give all nodes the same files and packages."
            )
        return source.open()


def _of_engine(settings: "SampleSettings", sample_set: SampleSet) -> EngineSettings:
    """Return what a worker opens its engine with: what was chosen here, wherever it runs."""
    own = settings.model_dump(include=set(EngineSettings.model_fields))
    chosen = {"model": sample_set.model, "engine": sample_set.engine, "prompt": None}
    return EngineSettings(**{**own, **chosen})


def _run(
    cluster: Cluster, worker: tuple[EngineSettings, SampleSet], owed: Sequence[Owed]
) -> Generator[_Batch]:
    """Yield the rollouts as workers hand them over.

    Raises:
        AttribError: what a worker raised.
        ModelError: the cluster stopped.
    """
    tasks = _cut(owed, cluster.fitting)
    drawn = _drawn_by_client if is_client() else _drawn
    try:
        with closing(drawn(cluster, worker, tasks)) as tables:
            for table in tables:
                yield _Batch.unpack(table)
    except GeneratorExit:
        raise
    except Exception as error:  # Ray wraps what workers raise, and has many errors of its own
        own = find_own_error(error)
        if own is not None:
            raise own from error
        raise ModelError(
            f"The cluster stopped drawing: {first_line(error)}. What was drawn is stored; the same "
            "command continues."
        ) from error


def _drawn(
    cluster: Cluster, worker: tuple[EngineSettings, SampleSet], tasks: Sequence[pa.Table]
) -> Generator[pa.Table]:
    """Yield the batches, of which no more are held than are on their way."""
    drawn = _map(cluster, worker, tasks)
    yield from drawn.iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=0)


class _Remote:
    """An actor that has Ray Data draw, for a driver that is not part of the cluster itself."""

    def __init__(self, *drawing: Any) -> None:
        self._tables = _drawn(*drawing)

    def take(self) -> pa.Table | None:
        """Return the next batch, None after the last."""
        return next(self._tables, None)


def _drawn_by_client(*drawing: Any) -> Generator[pa.Table]:
    """Yield the batches over Ray Client, on which Ray Data does not run."""
    ray = import_ray()
    remote = ray.remote(num_cpus=0)(_Remote).remote(*drawing)
    try:
        while (table := ray.get(remote.take.remote())) is not None:
            yield table
    finally:
        ray.kill(remote)


def _map(
    cluster: Cluster, worker: tuple[EngineSettings, SampleSet], tasks: Sequence[pa.Table]
) -> Any:
    """Return the data set of all batches, of which nothing is drawn yet."""
    import_ray()
    import ray.data

    logging.getLogger("ray.data").setLevel(logging.CRITICAL)  # what fails is raised
    owed = ray.data.from_arrow(list(tasks))
    owed.context.enable_progress_bars = False
    owed.context.print_on_execution_start = False
    owed.context.target_max_block_size = 1  # bytes: every batch is handed over when it is there
    return owed.map_batches(
        Worker,
        fn_constructor_args=worker,
        batch_size=1,  # a task
        batch_format="pyarrow",
        compute=ray.data.ActorPoolStrategy(
            min_size=1,
            initial_size=max(1, min(cluster.fitting, len(tasks))),
            max_size=cluster.limit,
        ),
        num_cpus=cluster.cpus,
        num_gpus=cluster.gpus or None,
        max_restarts=MOST_RESTARTS,
    )


def _cut(owed: Sequence[Owed], workers: int) -> list[pa.Table]:
    """Return tasks of about as many rollouts each, several for every worker."""
    total = sum(one.count for one in owed)
    most = max(1, min(ROLLOUTS_PER_TASK, total // (TASKS_PER_WORKER * max(workers, 1))))
    tasks: list[list[Owed]] = []
    count = most
    for one in owed:
        if count >= most:
            tasks.append([])
            count = 0
        tasks[-1].append(one)
        count += one.count
    return [_pack(task) for task in tasks]


def _pack(owed: Sequence[Owed]) -> pa.Table:
    """Return a task as one row, which Ray neither divides nor puts together with others."""
    rows = [
        {
            "question_id": one.question.question_id,
            "text": one.question.text,
            "first": one.first,
            "stop": one.stop,
        }
        for one in owed
    ]
    return pa.table({"task": pa.array([rows])})


def _unpack(packed: pa.Table) -> list[dict[str, Any]]:
    [rows] = packed["task"].to_pylist()
    return list(rows)
