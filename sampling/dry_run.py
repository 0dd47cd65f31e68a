"""What a sampling run would cost: a plan, and a probe of a few seconds.

Draws a few rollouts with the engine that the run would use and throws them away. Writes nothing.
"""

import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from attrib.data.library import import_dataset
from attrib.errors import ModelError
from attrib.sampling.engine import Engine, FinishReason, Request, Rollout
from attrib.sampling.engines import find_source
from attrib.sampling.responder import Responder
from attrib.sampling.rollout_rows import Owed
from attrib.sampling.rollouts import (
    SampleSettings,
    check_n,
    find_owed,
    make_requests,
    refuse_other_settings,
    select_training,
)
from attrib.store import Store

PROBE_SECONDS = 2.0  # a probe that took as long is long enough
PROBE_QUESTIONS = (1, 4, 16, 64)
BYTES_PER_ROLLOUT = 40  # ids, index, counts and log-probability, beside text and tokens
BYTES_PER_TOKEN = 4


@dataclass(frozen=True, slots=True)
class SamplePlan:
    """What a run would draw, and what the probe says it takes; None where nothing is owed."""

    sample_set_id: str
    engine: str
    questions: int
    n: int
    already_stored: int
    rollouts: int
    tokens: int | None
    seconds: float | None
    megabytes: float | None
    probed_rollouts: int


@dataclass(frozen=True, slots=True)
class _Probe:
    rollouts: Sequence[Rollout]
    seconds: float


def plan_rollouts(store: Store, settings: SampleSettings) -> SamplePlan:
    """Return what `draw_rollouts` would do.

    Raises:
        ConfigError: as `draw_rollouts` would.
        ModelError: as `draw_rollouts` would, or the probe failed.
    """
    check_n(settings.n)
    with _questions_of(store, settings.dataset) as readable:
        questions = select_training(readable, settings)
    source = find_source(settings)
    sample_set = source.sample_set
    if store.path.exists():
        refuse_other_settings(store, sample_set, settings)
        owed = find_owed(store, sample_set.sample_set_id, questions, settings.n)
    else:
        owed = [Owed(question, 0, settings.n) for question in questions]
    missing = sum(one.count for one in owed)
    probe = _Probe([], 0.0)
    if owed:
        responder = source.open()
        requests = make_requests(responder, owed[: max(PROBE_QUESTIONS)])
        for count in PROBE_QUESTIONS:
            if probe.seconds < PROBE_SECONDS:
                probe = _probe(responder, requests[:count], sample_set.seed)
    drawn = len(probe.rollouts)
    share = missing / drawn if drawn else None
    return SamplePlan(
        sample_set_id=sample_set.sample_set_id,
        engine=sample_set.engine,
        questions=len(questions),
        n=settings.n,
        already_stored=len(questions) * settings.n - missing,
        rollouts=missing,
        tokens=round(share * sum(r.tokens for r in probe.rollouts)) if share else None,
        seconds=share * probe.seconds if share else None,
        megabytes=share * sum(map(_stored_bytes, probe.rollouts)) / 1e6 if share else None,
        probed_rollouts=drawn,
    )


@contextmanager
def _questions_of(store: Store, dataset: str) -> Iterator[Store]:
    """Yield the study if it holds the data set, otherwise one in a folder that vanishes."""
    if store.path.exists():
        known = store.read("SELECT 1 FROM imports WHERE dataset = $dataset", dataset=dataset)
        if not known.is_empty():
            yield store
            return
    with tempfile.TemporaryDirectory() as folder:
        temporary = Store(Path(folder) / store.path.name)
        with temporary.writing("attrib sample --dry-run"):
            import_dataset(temporary, dataset)
        yield temporary


def _probe(responder: Responder[Engine], requests: Sequence[Request], seed: int) -> _Probe:
    started = time.monotonic()
    rollouts: list[Rollout] = []
    for answered in responder.respond(requests, seed):
        rollouts += answered.rollouts
    failed = sum(rollout.finish_reason == FinishReason.ERROR for rollout in rollouts)
    if failed:
        raise ModelError(f"{failed} of {len(rollouts)} rollouts of the probe failed.")
    return _Probe(rollouts, time.monotonic() - started)


def _stored_bytes(rollout: Rollout) -> int:
    text = len(rollout.text.encode(errors="surrogatepass"))
    return BYTES_PER_ROLLOUT + text + BYTES_PER_TOKEN * len(rollout.token_ids)
