"""Graders held against each other and against people.

Owns `attrib grade`: verdicts on stored rollouts without making buckets, two graders on the same
responses, a grader against labels from a CSV file, and the sample that people are asked to label.
"""

import csv
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl

from attrib.analysis.agreement import Agreement, measure_agreement
from attrib.data.library import load_every_question, load_questions_of
from attrib.errors import ConfigError, DataError
from attrib.progress import say
from attrib.sampling.bucketing import choose_sample_set
from attrib.sampling.graders import make_grader
from attrib.sampling.grading import Grader, Response, Verdict
from attrib.sampling.judge import JudgeSettings
from attrib.sampling.verdicts import Verdicts, grade_rollouts
from attrib.store import Store

HUMAN = "human"
LABEL_COLUMNS = ("question_id", "text", "verdict")

_VERDICTS = """
    SELECT verdict, regexp_replace(detail, ':.*| besides .*', '') AS why, count(*) AS rollouts,
           count(DISTINCT (question_id, text, finish_reason = 'length')) AS texts
    FROM graded_rollouts
    WHERE sample_set_id = $sample_set_id AND grader = $grader AND rollout < $k
    GROUP BY ALL ORDER BY rollouts DESC, verdict, why
"""
_BOTH = """
    SELECT question_id, text, finish_reason = 'length' AS truncated, count(*) AS rollouts,
           one.verdict AS one, any_value(one.detail) AS one_detail,
           other.verdict AS other, any_value(other.detail) AS other_detail
    FROM (FROM graded_rollouts WHERE grader = $one) AS one
    JOIN (FROM graded_rollouts WHERE grader = $other) AS other
      USING (sample_set_id, question_id, rollout, text, finish_reason)
    WHERE sample_set_id = $sample_set_id AND rollout < $k
    GROUP BY ALL ORDER BY rollouts DESC, question_id, text
"""
_SAMPLE = """
    SELECT question_id, question.text AS question, answers, rollout.text AS text,
           finish_reason = 'length' AS truncated, verdict, count(*) AS rollouts
    FROM graded_rollouts AS rollout JOIN questions AS question USING (question_id)
    WHERE sample_set_id = $sample_set_id AND grader = $grader AND rollout < $k
    GROUP BY ALL ORDER BY ALL
"""


class GradeSettings(JudgeSettings):
    """What `attrib grade` was asked for."""

    grader: str = "match"
    compare: tuple[str, str] | None = None
    """Two graders to hold against each other."""
    labels: Path | None = None
    """CSV file with question_id, text and verdict (correct or incorrect) by people."""
    k: int | None = None
    """Count rollouts 0 … k-1 of each question; None: all."""
    sample_set: str = ""
    """Beginning of its id; by default the newest."""
    limit: int = 20
    """Disagreements to show."""

    @property
    def rollouts(self) -> int:
        """Return how many rollouts of each question count: all that an index can name, or k."""
        if self.k is not None and self.k < 1:
            raise ConfigError(f"--k {self.k} must be at least 1.")
        return 2**31 - 1 if self.k is None else self.k


@dataclass(frozen=True, slots=True)
class Comparison:
    """Two graders on the same responses."""

    one: str
    other: str
    agreement: Agreement
    confusion: pl.DataFrame
    """Distinct responses by the verdict of the first, in rows, and of the second."""
    disagreements: pl.DataFrame
    """The most frequent first; only of verdicts that count."""
    disagreeing: int


@dataclass(frozen=True, slots=True)
class LabellingSheet:
    """A file of responses for people to label."""

    path: Path
    responses: int


def grade_sample_set(store: Store, settings: GradeSettings) -> pl.DataFrame:
    """Grade the rollouts of a sample set; return how many got which verdict, and why."""
    with store.writing("attrib grade", create=False):
        sample_set_id = choose_sample_set(store, settings.sample_set)
        grader = _grade(store, sample_set_id, settings.grader, settings)
    return store.read(
        _VERDICTS, sample_set_id=sample_set_id, grader=grader.fingerprint, k=settings.rollouts
    )


def compare_graders(store: Store, settings: GradeSettings) -> Comparison:
    """Grade the rollouts of a sample set with two graders and hold their verdicts side by side.

    Raises:
        ConfigError: both are the same.
        DataError: no response was graded by both.
    """
    assert settings.compare is not None
    names = settings.compare
    if names[0] == names[1]:
        raise ConfigError(f"--compare {names[0]} {names[1]}: name two different graders.")
    with store.writing("attrib grade", create=False):
        sample_set_id = choose_sample_set(store, settings.sample_set)
        one, other = (_grade(store, sample_set_id, name, settings) for name in names)
    rows = store.read(
        _BOTH,
        sample_set_id=sample_set_id,
        one=one.fingerprint,
        other=other.fingerprint,
        k=settings.rollouts,
    )
    return _compare(store, rows, one.name, other.name, settings.limit)


def compare_with_labels(store: Store, settings: GradeSettings) -> Comparison:
    """Hold a grader against what people said of responses.

    Raises:
        DataError: the file lacks a column, names an unknown question or holds another verdict.
    """
    assert settings.labels is not None
    labels = _read_labels(settings.labels)
    with store.writing("attrib grade", create=False):
        questions = {question.question_id: question for question in load_every_question(store)}
        responses = []
        for label in labels:
            question = questions.get(label.question_id)
            if question is None:
                raise DataError(
                    f"{settings.labels}, row {label.row}: {store.path} has no question "
                    f"{label.question_id!r}. Label what `attrib grade export` writes."
                )
            responses.append(Response(question, label.text, label.truncated))
        grader = make_grader(settings.grader, list(questions.values()), settings)
        verdicts = Verdicts(store, grader)
        verdicts.prepare([response.question for response in responses])
        graded = verdicts.grade(responses)
        with store.transaction() as transaction:
            verdicts.write(transaction)
    rows = pl.DataFrame(
        {
            "question_id": [response.question.question_id for response in responses],
            "text": [response.text for response in responses],
            "rollouts": [1] * len(responses),
            "one": [str(label.verdict) for label in labels],
            "one_detail": [label.note for label in labels],
            "other": [str(one.verdict) for one in graded],
            "other_detail": [one.detail for one in graded],
        }
    )
    return _compare(store, rows, HUMAN, grader.name, settings.limit)


def export_for_labelling(
    store: Store, settings: GradeSettings, count: int, output: Path, seed: int
) -> LabellingSheet:
    """Write a CSV of responses to be labelled.

    Half are responses that the grader accepts, half others, as far as there are; within both every
    question gives one before any gives two. The grader's verdict is not in the file.

    Raises:
        ConfigError: fewer than one is asked for, or the file is there already.
    """
    if count < 1:
        raise ConfigError(f"--for-labelling {count} must be at least 1.")
    if output.exists():
        raise ConfigError(f"{output} is there already, and may hold labels. Name another file.")
    if not output.parent.is_dir():
        raise ConfigError(f"{output.parent} is no folder. Make it, or name another file.")
    with store.writing("attrib grade export", create=False):
        sample_set_id = choose_sample_set(store, settings.sample_set)
        grader = _grade(store, sample_set_id, settings.grader, settings)
    rows = store.read(
        _SAMPLE, sample_set_id=sample_set_id, grader=grader.fingerprint, k=settings.rollouts
    )
    drawn = _draw_in_turn(rows, count, np.random.default_rng(seed))
    drawn.with_columns(
        pl.col("answers").list.join(" | "), verdict=pl.lit(""), note=pl.lit("")
    ).select(
        "question_id", "question", "answers", "text", "truncated", "verdict", "note"
    ).write_csv(output)
    return LabellingSheet(output, len(drawn))


def _grade(store: Store, sample_set_id: str, name: str, settings: GradeSettings) -> Grader:
    questions = load_questions_of(store, sample_set_id)
    grader = make_grader(name, questions, settings)
    grade_rollouts(store, sample_set_id, grader, questions, settings.rollouts)
    return grader


def _compare(store: Store, rows: pl.DataFrame, one: str, other: str, limit: int) -> Comparison:
    clear = [str(Verdict.CORRECT), str(Verdict.INCORRECT)]
    both = rows.filter(pl.col("one").is_in(clear) & pl.col("other").is_in(clear))
    if both.is_empty():
        raise DataError(f"No response has a verdict of both {one} and {other}.")
    places = {question_id: at for at, question_id in enumerate(both["question_id"].unique().sort())}
    counts_Q22 = np.zeros((len(places), 2, 2))
    for question_id, first, second in both.select("question_id", "one", "other").iter_rows():
        counts_Q22[places[question_id], clear.index(first), clear.index(second)] += 1
    differing = both.filter(pl.col("one") != pl.col("other"))
    questions = store.read(
        "SELECT question_id, text AS question, answers[1] AS answer FROM questions"
    )
    shown = differing.head(limit).join(
        questions, on="question_id", how="left", maintain_order="left"
    )
    return Comparison(
        one=one,
        other=other,
        agreement=measure_agreement(counts_Q22, np.random.default_rng(0)),
        confusion=_cross(rows, one, other),
        disagreements=shown.select(
            "question",
            "answer",
            "text",
            pl.col("one").alias(one),
            pl.col("other").alias(other),
            pl.col("one_detail").alias(f"why {one}"),
            pl.col("other_detail").alias(f"why {other}"),
        ),
        disagreeing=len(differing),
    )


def _cross(rows: pl.DataFrame, one: str, other: str) -> pl.DataFrame:
    counts = dict.fromkeys([(a, b) for a in Verdict for b in Verdict], 0)
    for first, second in rows.select("one", "other").iter_rows():
        counts[Verdict(first), Verdict(second)] += 1
    kept = [v for v in Verdict if any(n for pair, n in counts.items() if v in pair)]
    return pl.DataFrame(
        [{f"{one} ↓ {other} →": str(a), **{str(b): counts[a, b] for b in kept}} for a in kept]
    )


_TRUTHS = {"": False, "false": False, "0": False, "no": False, "true": True, "1": True, "yes": True}


@dataclass(frozen=True, slots=True)
class _Label:
    """What somebody said of a response."""

    row: int
    question_id: str
    text: str
    truncated: bool
    verdict: Verdict
    note: str


def _read_labels(path: Path) -> list[_Label]:
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file)
            missing = [name for name in LABEL_COLUMNS if name not in (reader.fieldnames or ())]
            if missing:
                needed = ", ".join(LABEL_COLUMNS)
                raise DataError(f"{path} has no column {', '.join(missing)}; it needs {needed}.")
            rows = [dict(row) for row in reader]
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is not UTF-8: save it as UTF-8. ({error})") from error
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error}") from error
    labels: dict[tuple[str, str, bool], _Label] = {}
    unclear = 0
    for place, row in enumerate(rows, start=2):
        verdict = (row["verdict"] or "").strip().lower()
        if verdict not in ("", Verdict.CORRECT, Verdict.INCORRECT):
            raise DataError(
                f"{path}, row {place}: the verdict {row['verdict']!r} is neither correct nor "
                "incorrect; leave it empty where you cannot tell."
            )
        truncated = _TRUTHS.get((row.get("truncated") or "").strip().lower())
        if truncated is None:
            raise DataError(
                f"{path}, row {place}: truncated is {row['truncated']!r}; write true or false."
            )
        if not verdict:
            unclear += 1
            continue
        label = _Label(
            place,
            row["question_id"],
            row["text"],
            truncated,
            Verdict(verdict),
            row.get("note") or "",
        )
        known = labels.setdefault((label.question_id, label.text, truncated), label)
        if known.verdict is not label.verdict:
            raise DataError(
                f"{path}, rows {known.row} and {place}: one response is labelled both "
                f"{known.verdict} and {label.verdict}. Keep one."
            )
    if unclear:
        say(f"{unclear} of {len(rows)} rows of {path} have no verdict; left out.")
    if not labels:
        raise DataError(f"{path} holds no labels.")
    return list(labels.values())


def _draw_in_turn(rows: pl.DataFrame, count: int, generator: np.random.Generator) -> pl.DataFrame:
    """Return `count` rows, half of them accepted where there are enough; questions take turns."""
    shuffled = rows.sample(fraction=1.0, shuffle=True, seed=int(generator.integers(2**31)))
    is_right = pl.col("verdict") == str(Verdict.CORRECT)
    turns = shuffled.with_columns(turn=pl.int_range(pl.len()).over("question_id", "verdict")).sort(
        "turn", maintain_order=True
    )
    right, wrong = turns.filter(is_right), turns.filter(~is_right)
    first = right.head(max(count // 2, count - len(wrong)))
    drawn = pl.concat([first, wrong.head(count - len(first))])
    return drawn.sample(fraction=1.0, shuffle=True, seed=int(generator.integers(2**31)))
