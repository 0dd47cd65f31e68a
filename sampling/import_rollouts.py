"""Rollouts that were drawn elsewhere, as a sample set of their own.

Owns `attrib data import-rollouts`: each response goes to the question it answers, in the order of
the file, and is graded by our grader; scores of the file are only held against it. Refuses prompts
that ask no question of the study, or names and leaves them out. Held-out questions are left out:
their rollouts belong in no bucket. The same files again change nothing; what an interrupted import
left is completed by the same command.
"""

import glob
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import polars as pl
from pydantic import Field

from attrib.config import canonical_json, content_hash
from attrib.data.library import import_dataset, load_dataset, load_every_question
from attrib.data.parsing import hash_files
from attrib.data.questions import WORLDFACTS, Question, Split
from attrib.environment import record_work
from attrib.errors import DataError
from attrib.progress import say, track
from attrib.sampling.dumps import Attempt, Columns, read_dump
from attrib.sampling.engine import EngineName, FinishReason
from attrib.sampling.graders import make_grader
from attrib.sampling.prompts import choose_prompt_style
from attrib.sampling.recognition import Recogniser, Unrecognised
from attrib.sampling.responder import ModelIdentity, SampleSet
from attrib.sampling.verdicts import grade_rollouts
from attrib.settings import Settings
from attrib.store import Store

QUESTIONS_PER_WRITE = 100
EVERY_ROLLOUT = 2**31 - 1
SHOWN = 60  # characters of a prompt that was not recognised
_SCHEMA: dict[str, pl.DataType] = {
    "sample_set_id": pl.String(),
    "question_id": pl.String(),
    "rollout": pl.Int32(),
    "text": pl.String(),
    "token_ids": pl.List(pl.Int32),
    "tokens": pl.Int32(),
    "logprob": pl.Float64(),
    "finish_reason": pl.String(),
}
_STORED = "SELECT count(*) FROM rollouts WHERE sample_set_id = $sample_set_id"
_VERDICTS = """
    SELECT question_id, rollout, verdict = 'correct' FROM graded_rollouts
    WHERE sample_set_id = $sample_set_id AND grader = $grader
      AND verdict IN ('correct', 'incorrect')
"""


class ImportRolloutsSettings(Settings):
    """What `attrib data import-rollouts` was asked for."""

    source: str
    """A file or a glob."""
    dataset: str | None = None
    """Whose questions were asked; None: those of the whole study."""
    model: str
    """That drew them: a folder or hub id, which training will load."""
    max_new_tokens: int = Field(ge=1)
    temperature: float = Field(default=1.0, ge=0.0, allow_inf_nan=False)
    top_p: float = Field(default=1.0, gt=0.0, le=1.0)
    top_k: int = Field(default=0, ge=0)
    prompt: Path | None = None
    chat: bool = True
    grader: str = "match"
    question_column: str | None = None
    responses_column: str | None = None
    score_column: str | None = None
    partial: bool = False
    """Leave out prompts that ask no question of the study, instead of refusing the file."""


@dataclass(frozen=True, slots=True)
class ImportedRollouts:
    """What an import of rollouts left in the study."""

    sample_set_id: str
    questions: int
    rollouts: int
    already_stored: int
    fewest: int
    """Rollouts of the question that has the fewest."""
    most: int
    held_out: int
    """Responses left out: to questions that are only evaluated on."""
    failed: int
    """Responses left out: the file says that they failed."""
    unmatched: int
    """Responses left out: to no question of the study."""
    end_unknown: int
    """Responses of which the file does not say whether they were cut off; taken as whole."""
    grader: str
    correct: int
    graded: int
    scored: int
    """Graded responses to which the file gives a score."""
    agreeing: int
    """Of these, how many are right by both or wrong by both; a score above 0.5 is right."""


@dataclass(frozen=True, slots=True)
class _Sorted:
    """Attempts by question, in the order of the file."""

    by_question: dict[str, list[Attempt]]
    held_out: int
    failed: int
    unmatched: tuple[tuple[Attempt, Unrecognised], ...]


def import_rollouts(store: Store, settings: ImportRolloutsSettings) -> ImportedRollouts:
    """Store the rollouts of some files and grade them.

    Raises:
        ConfigError: a setting has no meaning.
        DataError: a file cannot be read, or a prompt asks no question of the study and `partial` is
            not set.
    """
    paths = _find_files(settings.source)
    columns = Columns(settings.question_column, settings.responses_column, settings.score_column)
    attempts = [attempt for path in paths for attempt in read_dump(path, columns)]
    if not attempts:
        raise DataError(f"{settings.source} holds no rollouts.")
    create = settings.dataset == WORLDFACTS  # which need not be imported first
    with store.writing("attrib data import-rollouts", create=create):
        questions = _load_questions(store, settings.dataset)
        found = _sort(attempts, questions)
        _check_unmatched(found, len(attempts), settings)
        sample_set = _describe(settings, content_hash([hash_files(paths), asdict(columns)]))
        grader = make_grader(settings.grader, questions)
        before = _register(store, sample_set, found, settings)
        _write(store, sample_set.sample_set_id, found)
        grade_rollouts(store, sample_set.sample_set_id, grader, questions, EVERY_ROLLOUT)
        return _summarise(store, sample_set.sample_set_id, grader.fingerprint, found, before)


def _find_files(source: str) -> list[Path]:
    path = Path(source)
    found = [path] if path.is_file() else [Path(one) for one in sorted(glob.glob(source))]
    found = [one for one in found if one.is_file()]
    if not found:
        what = "is a folder: name its files" if path.is_dir() else "is no file"
        raise DataError(f"{source} {what}.")
    return found


def _load_questions(store: Store, dataset: str | None) -> list[Question]:
    if dataset is None:
        questions = load_every_question(store)
    else:
        import_dataset(store, dataset)
        questions = load_dataset(store, dataset)
    if not questions:
        raise DataError(
            f"{store.path} holds no questions to match. Type: attrib data import FILE, or give "
            f"--dataset {WORLDFACTS}"
        )
    return questions


def _sort(attempts: Sequence[Attempt], questions: Sequence[Question]) -> _Sorted:
    recogniser = Recogniser(questions)
    by_question: dict[str, list[Attempt]] = {}
    unmatched, held_out, failed = [], 0, 0
    for attempt in attempts:
        question = recogniser.recognise(attempt.question_id, attempt.prompt)
        if isinstance(question, Unrecognised):
            unmatched.append((attempt, question))
        elif question.split is Split.HELD_OUT:
            held_out += 1
        elif attempt.text is None:
            failed += 1
        else:
            by_question.setdefault(question.question_id, []).append(attempt)
    return _Sorted(by_question, held_out, failed, tuple(unmatched))


def _check_unmatched(found: _Sorted, attempts: int, settings: ImportRolloutsSettings) -> None:
    """Refuse, or with `partial` name, what asks no question of the study."""
    examples = dict.fromkeys(
        f"{attempt.place} ({one.prompt.strip()[-SHOWN:]!r}: {one.reason})"
        for attempt, one in found.unmatched
    )
    shown = "; ".join(list(examples)[:3]) + " …" * (len(examples) > 3)
    told = f"{len(found.unmatched):,} of {attempts:,} responses are to no question of the study"
    if found.unmatched and not settings.partial:
        raise DataError(
            f"{told}: {shown}. Nothing was imported. Import their questions first, name the data "
            "set with --dataset, or leave them out: --partial"
        )
    if found.unmatched:
        say(f"{told}; left out: {shown}.")
    if not found.by_question:
        raise DataError(
            f"No response is to a training question ({found.held_out:,} are to held-out ones, "
            f"{found.failed:,} failed); nothing was imported."
        )


def _describe(settings: ImportRolloutsSettings, files_hash: str) -> SampleSet:
    style = choose_prompt_style(settings.chat, settings.prompt)
    return SampleSet(
        model=settings.model,
        engine=EngineName.IMPORTED,
        identity=ModelIdentity.of_imported(files_hash, style),
        prompt=style,
        temperature=settings.temperature,
        top_p=settings.top_p,
        top_k=settings.top_k,
        max_new_tokens=settings.max_new_tokens,
        dtype=None,
        seed=0,
    )


def _register(
    store: Store, sample_set: SampleSet, found: _Sorted, settings: ImportRolloutsSettings
) -> int:
    """Record the sample set and its questions; return how many rollouts are there already."""
    row = {
        "sample_set_id": sample_set.sample_set_id,
        "model": sample_set.model,
        "engine": sample_set.engine,
        "prompt": "\n".join(filter(None, [sample_set.prompt.system, sample_set.prompt.template])),
        "params": canonical_json(sample_set.params),
        "seed": sample_set.seed,
        "reproducible": False,
        "command": f"attrib data import-rollouts {settings.source}",
    }
    selection = pl.DataFrame({"question_id": list(found.by_question)}).with_columns(
        pl.lit(sample_set.sample_set_id).alias("sample_set_id")
    )
    with store.transaction() as transaction:
        transaction.use("sample_sets", "sample_set_id", pl.DataFrame([row]))
        record_work(transaction, sample_set.sample_set_id, str(row["command"]))
        transaction.append("selections", selection, ["sample_set_id", "question_id"])
    return int(store.read(_STORED, sample_set_id=sample_set.sample_set_id).item())


def _write(store: Store, sample_set_id: str, found: _Sorted) -> None:
    """Write whole questions at a time; what is there already is left as it is."""
    questions = list(found.by_question.items())
    with track("Importing", len(questions), "questions") as advance:
        for first in range(0, len(questions), QUESTIONS_PER_WRITE):
            batch = questions[first : first + QUESTIONS_PER_WRITE]
            rows: list[dict[str, object]] = [
                {
                    "sample_set_id": sample_set_id,
                    "question_id": question_id,
                    "rollout": index,
                    "text": attempt.text,
                    "token_ids": [],
                    "tokens": 0,
                    "logprob": None,
                    "finish_reason": FinishReason.LENGTH
                    if attempt.truncated
                    else FinishReason.STOP,
                }
                for question_id, attempts in batch
                for index, attempt in enumerate(attempts)
            ]
            with store.transaction() as transaction:
                transaction.append(
                    "rollouts",
                    pl.DataFrame(rows, schema=_SCHEMA),
                    unless_present=["sample_set_id", "question_id", "rollout"],
                )
            advance(len(batch))


def _summarise(
    store: Store, sample_set_id: str, grader: str, found: _Sorted, before: int
) -> ImportedRollouts:
    rows = store.read(_VERDICTS, sample_set_id=sample_set_id, grader=grader)
    verdicts = {(row[0], row[1]): row[2] for row in rows.iter_rows()}
    comparison = Counter(
        verdicts[question_id, index] == (attempt.score > 0.5)
        for question_id, attempts in found.by_question.items()
        for index, attempt in enumerate(attempts)
        if attempt.score is not None and (question_id, index) in verdicts
    )
    counts = [len(attempts) for attempts in found.by_question.values()]
    ends = [a.truncated for attempts in found.by_question.values() for a in attempts]
    return ImportedRollouts(
        sample_set_id=sample_set_id,
        questions=len(counts),
        rollouts=sum(counts),
        already_stored=before,
        fewest=min(counts),
        most=max(counts),
        held_out=found.held_out,
        failed=found.failed,
        unmatched=len(found.unmatched),
        end_unknown=ends.count(None),
        grader=grader,
        correct=sum(verdicts.values()),
        graded=len(verdicts),
        scored=comparison.total(),
        agreeing=comparison[True],
    )
