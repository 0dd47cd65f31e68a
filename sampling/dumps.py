"""Rollouts in the files of other programs: which column is what.

Known by their columns: rollout dumps of verl (`input`, `output`, `score`) and its generated Parquet
(`prompt`, `responses`), completions that TRL logs (`prompt`, `completion`), samples of
lm-evaluation-harness (`doc`, `resps`), logs of inspect_ai as JSON (`samples`), results of
limit-of-RLVR (`question`, `code`, `score`), what `attrib export` writes, and whatever else has a
question and its responses in columns. Rows that hold none are refused with their number.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from attrib.data.files import Unreadable, read_rows
from attrib.errors import DataError

QUESTIONS = ("question", "problem", "query", "prompt", "input")
RESPONSES = (
    *("responses", "completions", "generations", "samples", "outputs", "code"),
    *("response", "completion", "generation", "output"),
)
SCORES = ("scores", "score", "rewards", "reward", "correct", "is_correct", "verdict")
ENDS = ("finish_reasons", "finish_reason", "stop_reason")
CUT_OFF = frozenset({"length", "max_tokens", "model_length"})
FAILED = "error"
_RIGHT = {"C": 1.0, "correct": 1.0, "I": 0.0, "incorrect": 0.0}


@dataclass(frozen=True, slots=True)
class Columns:
    """Names of columns; None: the first known name that a row has."""

    question: str | None = None
    responses: str | None = None
    score: str | None = None


@dataclass(frozen=True, slots=True)
class Attempt:
    """One response to one prompt.

    Attributes:
        place: file and row, for people.
        question_id: ours, where the file has it.
        prompt: the question, perhaps within instructions and examples.
        text: the response; None where it failed.
        truncated: whether the response was cut off; None where the file does not tell.
        score: what the other program gave it, from 0 to 1 as a rule.
    """

    place: str
    question_id: str | None
    prompt: str
    text: str | None
    truncated: bool | None
    score: float | None


def read_dump(path: Path, columns: Columns) -> Iterator[Attempt]:
    """Yield the attempts of a file in order.

    Raises:
        DataError: the file cannot be read, or a row holds no question or no response.
    """
    for row in read_rows(path):
        place = f"{path.name}, row {row.number}"
        if isinstance(row, Unreadable):
            raise DataError(f"{place}: {row.reason}. Mend the file.")
        cells = row.cells
        samples = cells.get("samples")
        if isinstance(samples, list) and "eval" in cells:  # a whole inspect_ai log
            for number, sample in enumerate(samples, start=1):
                yield _read_inspect(f"{path.name}, sample {number}", sample)
        elif isinstance(cells.get("output"), dict) and "epoch" in cells:
            yield _read_inspect(place, cells)
        elif "doc" in cells and "resps" in cells:
            yield from _read_lm_eval(place, cells)
        else:
            yield from _read_columns(place, cells, columns)


def _read_inspect(place: str, sample: Mapping[str, Any]) -> Attempt:
    try:
        choices = sample["output"].get("choices") or [{}]
        message, end = choices[0].get("message"), choices[0].get("stop_reason")
        text = sample["output"].get("completion") or (_last_text(message) if message else "")
        scores = [score.get("value") for score in (sample.get("scores") or {}).values()]
        return Attempt(
            place=place,
            question_id=str(sample.get("id")),
            prompt=_last_text(sample["input"]),
            text=None if sample.get("error") else text,
            truncated=end in CUT_OFF if end else None,
            score=_to_score(scores[0]) if scores else None,
        )
    except (AttributeError, KeyError, TypeError, IndexError) as error:
        raise DataError(f"{place} is no sample of inspect_ai ({error!r}).") from error


def _read_lm_eval(place: str, cells: Mapping[str, Any]) -> Iterator[Attempt]:
    document = cells["doc"] if isinstance(cells["doc"], dict) else {}
    asked = [document[name] for name in QUESTIONS if isinstance(document.get(name), str)]
    if not asked:
        first = _first_argument(cells.get("arguments"))
        asked = [] if first is None else [first]
    texts = _flatten(cells["resps"])
    if not asked or not texts:
        raise DataError(f"{place}: this sample of lm-eval has no question or no response.")
    named = cells.get("metrics")
    metric = cells.get(str(named[0])) if isinstance(named, list) and len(named) == 1 else None
    scores = document.get("verdict") if isinstance(document.get("verdict"), list) else None
    yield from _combine(
        place,
        document.get("question_id"),
        _last_text(asked[0]),
        texts,
        document.get("finish_reason"),
        scores if scores is not None else metric if len(texts) == 1 else None,
    )


def _read_columns(place: str, cells: Mapping[str, Any], columns: Columns) -> Iterator[Attempt]:
    question = _choose(place, cells, columns.question, QUESTIONS, "--question-column")
    responses = _choose(place, cells, columns.responses, RESPONSES, "--responses-column")
    prompt = _decode(cells[question])
    found = _decode(cells[responses])
    is_one = not isinstance(found, list) or _is_chat(found)
    each = [found] if is_one else found
    texts = [None if one is None else _read_text(place, one) for one in each]
    score = columns.score or next((name for name in SCORES if name in cells), None)
    if score is not None and score not in cells:
        raise DataError(f"{place} has no column '{score}'. It has: {', '.join(cells)}.")
    end = next((name for name in ENDS if name in cells), None)
    yield from _combine(
        place,
        cells.get("question_id"),
        _last_text(prompt),
        texts,
        None if end is None else _decode(cells[end]),
        None if score is None else _decode(cells[score]),
    )


def _combine(
    place: str,
    question_id: object,
    prompt: str,
    texts: Sequence[str | None],
    ends: Any,
    scores: Any,
) -> Iterator[Attempt]:
    """Yield an attempt for each text; ends and scores are one for each, or unknown."""
    several = [
        given if isinstance(given, list) else [given] * len(texts) if len(texts) == 1 else None
        for given in (ends, scores)
    ]
    ends_R, scores_R = ([None] * len(texts) if given is None else given for given in several)
    if not len(ends_R) == len(scores_R) == len(texts):
        raise DataError(f"{place}: {len(texts)} responses, but {len(scores_R)} scores.")
    for text, end, score in zip(texts, ends_R, scores_R, strict=True):
        yield Attempt(
            place=place,
            question_id=None if question_id is None else str(question_id),
            prompt=prompt,
            text=None if end == FAILED else text,
            truncated=end in CUT_OFF if isinstance(end, str) else None,
            score=_to_score(score),
        )


def _choose(
    place: str, cells: Mapping[str, Any], named: str | None, known: Sequence[str], flag: str
) -> str:
    there = [name for name in ([named] if named else known) if name in cells]
    found = [name for name in there if cells[name] is not None]
    if there and not found:
        raise DataError(
            f"{place}: '{there[0]}' is null. Leave the row out, or name another: {flag}"
        )
    if not found:
        missing = f"'{named}'" if named else f"of {', '.join(known)}"
        raise DataError(
            f"{place} has no column {missing}. It has: {', '.join(map(str, cells))}. "
            f"Name the right one: {flag}"
        )
    return found[0]


def _decode(cell: Any) -> Any:
    """Return a cell; a list written as JSON, as in CSV, becomes one."""
    if isinstance(cell, str) and cell.startswith("["):
        try:
            return json.loads(cell)
        except ValueError:
            return cell
    return cell


def _is_chat(value: Any) -> bool:
    return isinstance(value, list) and any(isinstance(one, dict) and "role" in one for one in value)


def _read_text(place: str, value: Any) -> str:
    if isinstance(value, dict) and not {"content", "text"} & set(value):
        raise DataError(f"{place}: a response has no 'content' and no 'text': {', '.join(value)}.")
    return _last_text(value)


def _last_text(value: Any) -> str:
    """Return the text of a message, or of the last message of a conversation."""
    if isinstance(value, dict):
        return _last_text(value.get("content", value.get("text", "")))
    if isinstance(value, list):
        said = [one for one in value if not (isinstance(one, dict) and one.get("role") == "system")]
        return _last_text(said[-1]) if said else ""
    return "" if value is None else str(value)


def _flatten(value: Any) -> list[str]:
    if isinstance(value, list):
        return [text for one in value for text in _flatten(one)]
    return [str(value)]


def _first_argument(arguments: Any) -> str | None:
    """Return the prompt: in files within objects, in memory the first of a list."""
    while arguments:
        if isinstance(arguments, str):
            return arguments
        inner = list(arguments.values()) if isinstance(arguments, dict) else arguments
        arguments = inner[0] if isinstance(inner, list) else None
    return None


def _to_score(value: Any) -> float | None:
    if isinstance(value, str):
        return _RIGHT.get(value)
    return float(value) if isinstance(value, bool | int | float) else None
