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
from pathlib import Path

import polars as pl
from pydantic import Field

from attrib.config import Settings, canonical_json, command_line, differing_keys
from attrib.data.library import import_dataset, load_dataset, select_questions
from attrib.data.questions import WORLDFACTS, Question, Split
from attrib.errors import ConfigError
from attrib.progress import say, track
from attrib.sampling.models import EMBEDDED_NAME, LanguageModel, load_model
from attrib.sampling.prompts import choose_prompt_style
from attrib.sampling.responder import ENGINE, Responder, SampleSet, end_tokens, hash_prompt
from attrib.sampling.tree import Request, Rollout
from attrib.store import Store

SECONDS_BETWEEN_WRITES = 1.0


class SampleSettings(Settings):
    """What `attrib sample` was asked for."""

    model: str = EMBEDDED_NAME
    """`smollm2-135m`, a model folder, or a hub id."""
    dataset: str = WORLDFACTS
    """Name of an imported data set, or of the built-in one."""
    n: int = 128
    """Rollouts per question, those already stored included."""
    where: str | None = None
    """SQL condition on the training questions."""
    limit: int | None = None
    """Number of questions."""
    temperature: float = Field(default=1.0, ge=0.0, allow_inf_nan=False)
    max_new_tokens: int = Field(default=16, ge=1)
    """Tokens after which a response is cut off."""
    seed: int = 0
    prompt: Path | None = None
    """File with the prompt; `{question}` marks the place of the question."""
    device: str = "auto"
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
        ConfigError: n is not positive, or the study holds rollouts drawn under other settings.
        ModelError: the model cannot be loaded, or not be served exactly.
    """
    if settings.n < 1:
        raise ConfigError(f"--n {settings.n} must be at least 1.")
    with store.writing("attrib sample"):
        import_dataset(store, settings.dataset)
        questions = select_questions(
            store,
            load_dataset(store, settings.dataset),
            Split.TRAIN,
            where=settings.where,
            limit=settings.limit,
        )
        say(f"Loading {settings.model} …")
        language_model = load_model(settings.model, settings.device)
        sample_set = describe_sample_set(language_model, settings)
        responder = Responder(language_model, sample_set)  # refuses before anything is stored
        _register(store, sample_set, settings)
        return _draw_owed(store, responder, sample_set, questions, settings.n)


def describe_sample_set(language_model: LanguageModel, settings: SampleSettings) -> SampleSet:
    """Return the identity under which rollouts of these settings are stored."""
    style = choose_prompt_style(language_model.tokenizer, settings.prompt)
    here = Path(settings.model)
    return SampleSet(
        model=str(here.resolve()) if here.is_dir() else settings.model,
        engine=ENGINE,
        weights_hash=language_model.weights_hash,
        prompt_hash=hash_prompt(language_model, style),
        end_token_ids=end_tokens(language_model, style),
        prompt=style,
        temperature=settings.temperature,
        max_new_tokens=settings.max_new_tokens,
        seed=settings.seed,
    )


def _draw_owed(
    store: Store,
    responder: Responder,
    sample_set: SampleSet,
    questions: list[Question],
    n: int,
) -> SampleSummary:
    started = time.monotonic()
    selection = pl.DataFrame({"question_id": [q.question_id for q in questions]}).with_columns(
        pl.lit(sample_set.sample_set_id).alias("sample_set_id")
    )
    with store.transaction() as transaction:
        transaction.append("selections", selection, ["sample_set_id", "question_id"])
    stored = _stored_indices(store, sample_set.sample_set_id)
    requests = [
        Request(question.question_id, responder.prompt(question), first, stop)
        for question in questions
        for first, stop in owed_ranges(stored.get(question.question_id, []), n)
    ]
    owed = sum(request.count for request in requests)
    wanted = len(questions) * n
    say(f"{len(questions)} questions × {n} rollouts: {wanted - owed} stored, {owed} to draw.")

    tokens = 0
    writer = _Writer(store, sample_set.sample_set_id)
    with track("Sampling", owed, "rollouts") as advance:
        try:
            drawn = responder.respond(requests, sample_set.seed)
            for request, rollouts in zip(requests, drawn, strict=True):
                writer.add(request.stream, rollouts, [responder.text(one) for one in rollouts])
                tokens += sum(len(rollout.token_ids) for rollout in rollouts)
                advance(request.count)
        finally:
            writer.write()
    return SampleSummary(
        sample_set_id=sample_set.sample_set_id,
        questions=len(questions),
        n=n,
        drawn=owed,
        already_stored=wanted - owed,
        tokens=tokens,
        seconds=time.monotonic() - started,
    )


class _Writer:
    """Collects rollouts and writes them together, once a second."""

    def __init__(self, store: Store, sample_set_id: str) -> None:
        self._store = store
        self._sample_set_id = sample_set_id
        self._rows: list[dict[str, object]] = []
        self._written_at = time.monotonic()

    def add(self, question_id: str, rollouts: Sequence[Rollout], texts: Sequence[str]) -> None:
        """Take a question's rollouts; write if the last time is long enough ago."""
        self._rows += [
            {
                "sample_set_id": self._sample_set_id,
                "question_id": question_id,
                "rollout": rollout.index,
                "text": text,
                "token_ids": list(rollout.token_ids),
                "tokens": len(rollout.token_ids),
                "logprob": rollout.logprob,
                "finish_reason": str(rollout.finish_reason),
            }
            for rollout, text in zip(rollouts, texts, strict=True)
        ]
        if time.monotonic() - self._written_at > SECONDS_BETWEEN_WRITES:
            self.write()

    def write(self) -> None:
        """Write what was collected; what had failed before makes room for what was drawn again."""
        if self._rows:
            frame = pl.DataFrame(
                self._rows, schema_overrides={"rollout": pl.Int32, "token_ids": pl.List(pl.Int32)}
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


def _stored_indices(store: Store, sample_set_id: str) -> dict[str, list[int]]:
    rows = store.read(
        "SELECT question_id, list(rollout) AS rollouts FROM rollouts "
        "WHERE sample_set_id = $sample_set_id AND finish_reason <> 'error' GROUP BY question_id",
        sample_set_id=sample_set_id,
    )
    return dict(zip(rows["question_id"], rows["rollouts"].to_list(), strict=True))


def _register(store: Store, sample_set: SampleSet, settings: SampleSettings) -> None:
    """Record the sample set, unless the study holds another one and was not asked for a second."""
    again = settings.model_copy(update={"n": SampleSettings().n, "new_set": False})
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
    row = {
        "sample_set_id": sample_set.sample_set_id,
        "model": sample_set.model,
        "engine": sample_set.engine,
        "prompt": "\n".join(filter(None, [sample_set.prompt.system, sample_set.prompt.template])),
        "params": canonical_json(sample_set.params),
        "seed": sample_set.seed,
        "command": command_line("sample", again, store.path),
    }
    with store.transaction() as transaction:
        transaction.use("sample_sets", "sample_set_id", pl.DataFrame([row]))
        transaction.execute(
            "UPDATE sample_sets SET command = $command WHERE sample_set_id = $id",
            command=row["command"],
            id=sample_set.sample_set_id,
        )
