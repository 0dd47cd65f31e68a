"""Sampling as a resumable pipeline: owed rollouts in, stored batches out.

Owns the plan (which rollout indices of which questions are still owed), the identity of a sample
set, and the flow from the engine to the store. Refuses to mix rollouts drawn under different
settings. A kill loses at most the second of work that was not yet written; the next run draws just
what is missing, and draws the same.
"""

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import polars as pl

from attrib.config import Settings, canonical_json, content_hash, differing_keys
from attrib.data.library import BUILT_IN, import_dataset, load_dataset, select_questions
from attrib.data.questions import Question, Split
from attrib.errors import ConfigError
from attrib.progress import say, track
from attrib.sampling.models import EMBEDDED_NAME, LanguageModel, load_model
from attrib.sampling.packed import check_exact
from attrib.sampling.prompts import PromptStyle, choose_prompt_style
from attrib.sampling.tree import Request, Rollout, SamplingParams, sample
from attrib.store import Store

SECONDS_BETWEEN_WRITES = 1.0
ENGINE = "tree"


class SampleSettings(Settings):
    """What `attrib sample` was asked for."""

    model: str = EMBEDDED_NAME
    """`smollm2-135m`, a model folder, or a hub id."""
    dataset: str = BUILT_IN
    """Name of an imported data set, or of the built-in one."""
    n: int = 128
    """Rollouts per question, those already stored included."""
    where: str | None = None
    """SQL condition on the training questions."""
    limit: int | None = None
    """Number of questions."""
    temperature: float = 1.0
    max_new_tokens: int = 16
    """Tokens after which a response is cut off."""
    seed: int = 0
    prompt: Path | None = None
    """File with the prompt; `{question}` marks the place of the question."""
    device: str = "auto"
    new_set: bool = False
    """Start another sample set beside one drawn under other settings."""


@dataclass(frozen=True, slots=True)
class SampleSet:
    """What a set of rollouts belongs to: everything that changes their distribution."""

    model: str
    engine: str
    weights_hash: str
    chat_template_hash: str
    prompt: PromptStyle
    temperature: float
    max_new_tokens: int
    seed: int

    @property
    def params(self) -> dict[str, object]:
        """Return what makes the identity; the model counts by its weights, not its name."""
        params = asdict(self)
        del params["model"]
        return params

    @property
    def sample_set_id(self) -> str:
        """Return the content hash of the settings."""
        return content_hash(self.params)

    @classmethod
    def from_row(cls, row: Mapping[str, object]) -> "SampleSet":
        """Rebuild from a row of the table `sample_sets` whose `params` have been parsed."""
        params = dict(row["params"])  # type: ignore[call-overload]
        return cls(**{**params, "model": row["model"], "prompt": PromptStyle(**params["prompt"])})


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
        _register(store, sample_set, allow_another=settings.new_set)
        return _draw_owed(store, responder, sample_set, questions, settings.n)


def describe_sample_set(language_model: LanguageModel, settings: SampleSettings) -> SampleSet:
    """Return the identity under which rollouts of these settings are stored."""
    return SampleSet(
        model=settings.model,
        engine=ENGINE,
        weights_hash=language_model.weights_hash,
        chat_template_hash=content_hash(language_model.tokenizer.chat_template),
        prompt=choose_prompt_style(language_model.tokenizer, settings.prompt),
        temperature=settings.temperature,
        max_new_tokens=settings.max_new_tokens,
        seed=settings.seed,
    )


class Responder:
    """A model together with a way of asking it: questions in, rollouts and texts out."""

    def __init__(self, language_model: LanguageModel, sample_set: SampleSet) -> None:
        """Prepare the sampling; check that the tree engine serves this model exactly.

        Raises:
            ConfigError: the temperature or the number of new tokens has no meaning.
            ModelError: the tree engine would not be exact.
        """
        self.language_model = language_model
        self._style = sample_set.prompt
        self._tokenizer = language_model.tokenizer
        self.temperature = sample_set.temperature
        end_token_ids = language_model.end_token_ids
        if self._style.stop_at_newline:
            end_token_ids |= _newline_tokens(self._tokenizer)
        self._sampling = SamplingParams(
            sample_set.temperature, sample_set.max_new_tokens, end_token_ids
        )
        check_exact(language_model.module, self._tokenizer.encode("Which fact is asked for?"))

    def prompt(self, question: Question) -> tuple[int, ...]:
        """Return the prompt's token ids."""
        return tuple(self._style.render(question.text, self._tokenizer))

    def respond(
        self, requests: Sequence[Request], seed: int, *, greedy: bool = False
    ) -> Iterator[list[Rollout]]:
        """Yield the rollouts of each request, in order; `greedy` decodes instead of sampling."""
        params = replace(self._sampling, temperature=0.0) if greedy else self._sampling
        return sample(self.language_model.module, requests, params, seed)

    def text(self, rollout: Rollout) -> str:
        """Return the response without its end token."""
        text = str(self._tokenizer.decode(list(rollout.token_ids), skip_special_tokens=True))
        return text.split("\n", 1)[0] if self._style.stop_at_newline else text


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
    rows: list[dict[str, object]] = []
    last_write = time.monotonic()

    def write() -> None:
        nonlocal rows, last_write
        if rows:
            frame = pl.DataFrame(
                rows, schema_overrides={"rollout": pl.Int32, "token_ids": pl.List(pl.Int32)}
            )
            with store.transaction() as transaction:
                transaction.append(
                    "rollouts", frame, unless_present=["sample_set_id", "question_id", "rollout"]
                )
        rows, last_write = [], time.monotonic()

    with track("Sampling", owed, "rollouts") as advance:
        try:
            drawn = responder.respond(requests, sample_set.seed)
            for request, rollouts in zip(requests, drawn, strict=True):
                rows += [
                    {
                        "sample_set_id": sample_set.sample_set_id,
                        "question_id": request.stream,
                        "rollout": rollout.index,
                        "text": responder.text(rollout),
                        "token_ids": list(rollout.token_ids),
                        "tokens": len(rollout.token_ids),
                        "logprob": rollout.logprob,
                        "finish_reason": str(rollout.finish_reason),
                    }
                    for rollout in rollouts
                ]
                tokens += sum(len(rollout.token_ids) for rollout in rollouts)
                advance(request.count)
                if time.monotonic() - last_write > SECONDS_BETWEEN_WRITES:
                    write()
        finally:
            write()
    return SampleSummary(
        sample_set_id=sample_set.sample_set_id,
        questions=len(questions),
        n=n,
        drawn=owed,
        already_stored=wanted - owed,
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


def _stored_indices(store: Store, sample_set_id: str) -> dict[str, list[int]]:
    rows = store.read(
        "SELECT question_id, list(rollout) AS rollouts FROM rollouts "
        "WHERE sample_set_id = $sample_set_id AND finish_reason <> 'error' GROUP BY question_id",
        sample_set_id=sample_set_id,
    )
    return dict(zip(rows["question_id"], rows["rollouts"].to_list(), strict=True))


def _register(store: Store, sample_set: SampleSet, *, allow_another: bool) -> None:
    """Record the sample set, unless the study holds another one and was not asked for a second."""
    known = store.read(
        "SELECT * FROM sample_sets SEMI JOIN rollouts USING (sample_set_id) "
        "ORDER BY created_at DESC, sample_set_id"
    )
    if sample_set.sample_set_id in known["sample_set_id"]:
        return
    if not known.is_empty() and not allow_another:
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
    }
    with store.transaction() as transaction:
        transaction.append("sample_sets", pl.DataFrame([row]), unless_present=["sample_set_id"])


def _newline_tokens(tokenizer: object) -> frozenset[int]:
    texts = tokenizer.batch_decode([[i] for i in range(len(tokenizer))])  # type: ignore[attr-defined,arg-type]
    return frozenset(i for i, text in enumerate(texts) if "\n" in text)
