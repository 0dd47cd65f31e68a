"""Buckets: grade what was sampled, count, and sort the questions by how often they were right.

Owns the verdict cache (each distinct text is graded once per grader) and the stored bucketings.
Refuses fewer than k rollouts; leaves out, and names, questions with rollouts that could not be
graded, since an unknown verdict is not a wrong answer.
"""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace

import numpy as np
import polars as pl

from attrib.analysis.buckets import (
    DEFAULT_CUTS,
    FEWEST_FOR_DEFAULTS,
    BucketRow,
    Cuts,
    assign_buckets,
    bucket_table,
    never_correct_bound,
)
from attrib.analysis.intervals import exact_interval
from attrib.analysis.passk import PassCurve, mean_pass_at_k
from attrib.config import canonical_json, content_hash
from attrib.data.library import load_questions_of
from attrib.data.questions import Question
from attrib.environment import record_work
from attrib.errors import ConfigError, DataError
from attrib.progress import say
from attrib.sampling.engine import EngineName
from attrib.sampling.graders import make_grader
from attrib.sampling.grading import Grader
from attrib.sampling.judge import JudgeSettings
from attrib.sampling.suspects import Reason, Suspect, find_suspects
from attrib.sampling.verdicts import grade_rollouts
from attrib.settings import command_line, move_command, suggest
from attrib.store import Store

_SAMPLE_SETS = """
    SELECT sample_set_id FROM sample_sets WHERE sample_set_id LIKE $prefix || '%'
    ORDER BY used_at DESC, sample_set_id
"""
_COMMAND = "SELECT command, engine FROM sample_sets WHERE sample_set_id = $sample_set_id"
# One pass over the rollouts: the verdict of each by its text, and what is missing.
_COUNTS = """
    WITH known AS (
        SELECT verdicts.question_id, verdicts.text, verdicts.truncated, verdicts.verdict
        FROM verdicts JOIN questions USING (question_id, answers_hash) WHERE grader = $grader
    ), counted AS (
        SELECT question_id, count(*) AS drawn,
               count(*) FILTER (verdict IN ('correct', 'incorrect')) AS graded,
               count(*) FILTER (verdict = 'correct') AS correct,
               count(*) FILTER (verdict IS NULL) AS unknown,
               sum(length(text)) AS characters, sum(tokens) AS tokens
        FROM (SELECT question_id, text, tokens, finish_reason = 'length' AS truncated FROM rollouts
              WHERE sample_set_id = $sample_set_id AND rollout < $k AND finish_reason <> 'error')
        LEFT JOIN known USING (question_id, text, truncated)
        GROUP BY question_id
    )
    SELECT question_id, COLUMNS(* EXCLUDE question_id)::BIGINT
    FROM (SELECT DISTINCT question_id FROM selections WHERE sample_set_id = $sample_set_id)
    FULL JOIN counted USING (question_id)
    ORDER BY question_id
"""
_SAID = """
    SELECT question_id, text, count(*) AS count, min(detail) AS detail
    FROM graded_rollouts SEMI JOIN (SELECT unnest($question_ids) AS question_id) USING (question_id)
    WHERE sample_set_id = $sample_set_id AND grader = $grader AND rollout < $k
    GROUP BY question_id, text ORDER BY question_id, text
"""
_ROOM = "SELECT params ->> 'max_new_tokens' FROM sample_sets WHERE sample_set_id = $sample_set_id"
_STORED_SUSPECTS = """
    SELECT question_id, reason, detail FROM suspects WHERE bucketing_id = $bucketing_id
    ORDER BY question_id, reason
"""
_IS_STORED = "SELECT count(*) > 0 FROM bucketings WHERE bucketing_id = $bucketing_id"


class BucketSettings(JudgeSettings):
    """What `attrib bucket` was asked for."""

    k: int = 128
    """Rollouts per question that count: exactly those with index 0 … k-1."""
    grader: str = "match"
    cut_rarely: float | None = None
    """Largest fraction of right rollouts in rarely-correct (default 1/16)."""
    cut_sometimes: float | None = None
    """Largest fraction of right rollouts in sometimes-correct (default 1/2)."""
    partial: bool = False
    """Whether to bucket the finished questions of an interrupted sampling run."""
    exclude_suspect: bool = False
    """Whether to leave out never-correct questions whose accepted answers may be at fault."""
    sample_set: str = ""
    """Beginning of a sample set's id; by default the newest."""


@dataclass(frozen=True, slots=True)
class Bucketing:
    """A finished bucketing."""

    bucketing_id: str
    sample_set_id: str
    grader: str
    k: int
    rows: tuple[BucketRow, ...]
    pass_curve: PassCurve
    left_out: tuple[str, ...]
    """Questions with fewer than k gradable rollouts."""
    suspects: Mapping[str, int]
    """Suspect questions by reason; one may have several."""
    suspects_left_out: int
    never_correct_bound: float
    """Largest p that 0 of k still allows (95 %, one-sided)."""


def bucket_questions(store: Store, settings: BucketSettings) -> Bucketing:
    """Grade the first k rollouts of every question, and store and return the buckets.

    Raises:
        ConfigError: k or the cuts have no meaning, or the grader is not known.
        DataError: a question has fewer than k rollouts, and `partial` is not set.
    """
    if settings.k < 1:
        raise ConfigError(f"--k {settings.k} must be at least 1.")
    cuts = _choose_cuts(settings)
    with store.writing("attrib bucket", create=False):
        sample_set_id = choose_sample_set(store, settings.sample_set)
        questions = load_questions_of(store, sample_set_id)
        grader = make_grader(settings.grader, questions, settings)
        if grader.name == "match" and not any(question.relation for question in questions):
            say(
                "These questions have no relations, so match knows no other answers of a kind: it "
                "credits lists of guesses. Stricter: --grader exact, or judge."
            )
        counts = _count(store, sample_set_id, grader, settings.k)
        _check_complete(store, sample_set_id, settings, counts["drawn"])
        if counts["unknown"].sum():
            grade_rollouts(store, sample_set_id, grader, questions, settings.k)
            counts = _count(store, sample_set_id, grader, settings.k)
        counts = counts.filter(pl.col("drawn") >= settings.k)
        left_out = counts.filter(pl.col("graded") < settings.k)["question_id"].to_list()
        counts = counts.filter(pl.col("graded") == settings.k)
        place = _Place(sample_set_id, grader, settings.k, canonical_json(asdict(cuts)))
        suspects = _find_suspects(store, place, questions, counts)
        suspicious = {one.question_id for one in suspects} if settings.exclude_suspect else set()
        counts = counts.filter(~pl.col("question_id").is_in(suspicious))
        if counts.is_empty():
            raise DataError(f"No question has {settings.k} gradable rollouts; nothing to bucket.")
        command = command_line("bucket", settings, store.path)
        bucketing = _store_buckets(store, place, cuts, counts, left_out, command)
        _store_suspects(store, bucketing.bucketing_id, suspects)
        reasons = Counter(str(one.reason) for one in suspects)
        return replace(bucketing, suspects=reasons, suspects_left_out=len(suspicious))


@dataclass(frozen=True, slots=True)
class _Place:
    """What a bucketing is known by, but for its questions."""

    sample_set_id: str
    grader: Grader
    k: int
    cuts: str

    def identify(self, counts: pl.DataFrame) -> str:
        """Return the bucketing's id."""
        ids = counts["question_id"].to_list()
        return content_hash([self.sample_set_id, self.grader.fingerprint, self.k, self.cuts, ids])


def _choose_cuts(settings: BucketSettings) -> Cuts:
    """Return the user's cuts, or the defaults, which need k of at least 16."""
    if settings.cut_rarely is None and settings.cut_sometimes is None:
        if settings.k < FEWEST_FOR_DEFAULTS:
            raise ConfigError(
                f"--k {settings.k} is too few for the default cuts: rarely-correct takes "
                f"{FEWEST_FOR_DEFAULTS} rollouts. Draw more, or give other cuts, such as "
                f"{suggest_cuts(settings.k)}."
            )
        return DEFAULT_CUTS
    return Cuts(
        DEFAULT_CUTS.rarely if settings.cut_rarely is None else settings.cut_rarely,
        DEFAULT_CUTS.sometimes if settings.cut_sometimes is None else settings.cut_sometimes,
    )


def suggest_cuts(k: int) -> str:
    """Return flags for cuts under which a question right once of k times is rarely-correct."""
    rarely = math.ceil(100 / k) / 100
    if rarely < DEFAULT_CUTS.sometimes:
        return f"--cut-rarely {rarely:g}"
    return f"--cut-rarely {min(rarely, 0.98):g} --cut-sometimes 0.99"


def choose_sample_set(store: Store, prefix: str) -> str:
    """Return the id of the newest sample set that begins with `prefix`.

    Raises:
        DataError: there is none.
    """
    ids = store.read(_SAMPLE_SETS, prefix=prefix)["sample_set_id"]
    if ids.is_empty():
        named = f" whose id begins with '{prefix}'" if prefix else ""
        command = suggest("sample --n 128", store.path)
        raise DataError(f"{store.path} holds no sample set{named}. Type: {command}")
    return str(ids[0])


def _count(store: Store, sample_set_id: str, grader: Grader, k: int) -> pl.DataFrame:
    """Return how many of the first k rollouts of each question were drawn, graded, and right."""
    found = store.read(_COUNTS, sample_set_id=sample_set_id, grader=grader.fingerprint, k=k)
    return found.fill_null(0)


def _check_complete(
    store: Store, sample_set_id: str, settings: BucketSettings, drawn: pl.Series
) -> None:
    """Refuse, or with `partial` mention, questions with fewer than k rollouts."""
    short = int((drawn < settings.k).sum())
    if not short and not drawn.is_empty():
        return
    found = f"{short} of {len(drawn)} questions have fewer than {settings.k} rollouts"
    if settings.partial and short < len(drawn):
        say(f"{found}; they are left out.")
        return
    command, engine = store.read(_COMMAND, sample_set_id=sample_set_id).row(0)
    if engine == EngineName.IMPORTED:
        raise DataError(
            f"{found} (the fewest: {min(drawn, default=0)}), and imported ones cannot be drawn on. "
            "Leave these questions out: --partial. Or count fewer: --k"
        )
    others = " Or bucket the others alone: --partial" if short < len(drawn) else ""
    raise DataError(
        f"{found} (the fewest: {min(drawn, default=0)}). To draw the rest, type: "
        f"{move_command(command, store.path)} --n {settings.k}{others}"
    )


def _find_suspects(
    store: Store, place: _Place, questions: Sequence[Question], counts: pl.DataFrame
) -> list[Suspect]:
    """Look at the never-correct questions for signs that their answers are at fault, once."""
    bucketing_id = place.identify(counts)
    if store.read(_IS_STORED, bucketing_id=bucketing_id).item():
        rows = store.read(_STORED_SUSPECTS, bucketing_id=bucketing_id)
        return [Suspect(row[0], Reason(row[1]), row[2]) for row in rows.iter_rows()]
    never = set(counts.filter(pl.col("correct") == 0)["question_id"])
    said = store.read(
        _SAID,
        sample_set_id=place.sample_set_id,
        grader=place.grader.fingerprint,
        k=place.k,
        question_ids=sorted(never),
    )
    limit = store.read(_ROOM, sample_set_id=place.sample_set_id).item()
    tokens, characters = int(counts["tokens"].sum()), int(counts["characters"].sum())
    room = int(limit) * characters / tokens if limit and tokens else math.inf
    return find_suspects((q for q in questions if q.question_id in never), said, room)


def _store_suspects(store: Store, bucketing_id: str, suspects: Sequence[Suspect]) -> None:
    if suspects:
        frame = pl.DataFrame([asdict(one) for one in suspects]).with_columns(
            pl.lit(bucketing_id).alias("bucketing_id"), pl.col("reason").cast(pl.String)
        )
        with store.transaction() as transaction:
            transaction.append("suspects", frame, ["bucketing_id", "question_id", "reason"])


def _store_buckets(
    store: Store,
    place: _Place,
    cuts: Cuts,
    counts: pl.DataFrame,
    left_out: list[str],
    command: str,
) -> Bucketing:
    k, fingerprint = place.k, place.grader.fingerprint
    n_Q = counts["graded"].to_numpy()
    correct_Q = counts["correct"].to_numpy()
    bucket_Q = assign_buckets(n_Q, correct_Q, cuts)
    bounds = exact_interval(correct_Q, n_Q)
    bucketing_id = place.identify(counts)
    bucketing = {
        "bucketing_id": bucketing_id,
        "sample_set_id": place.sample_set_id,
        "grader": fingerprint,
        "k": k,
        "cuts": place.cuts,
    }
    members = counts.select("question_id", pl.col("graded").alias("n"), "correct").with_columns(
        pl.lit(bucketing_id).alias("bucketing_id"),
        pl.Series("bucket", [str(b) for b in bucket_Q], dtype=pl.String),
        pl.Series("p_low", bounds.low_Q),
        pl.Series("p_high", bounds.high_Q),
    )
    with store.transaction() as transaction:
        transaction.use("bucketings", "bucketing_id", pl.DataFrame([bucketing]))
        transaction.append("buckets", members, unless_present=["bucketing_id", "question_id"])
        record_work(transaction, bucketing_id, command)
    if left_out:
        say(
            f"{len(left_out)} questions left out: some of their first {k} rollouts could not be "
            f"graded ({', '.join(left_out[:5])}{' …' if len(left_out) > 5 else ''})."
        )
    k_K = np.unique([*(2**i for i in range(k.bit_length())), k])
    return Bucketing(
        bucketing_id=bucketing_id,
        sample_set_id=place.sample_set_id,
        grader=fingerprint,
        k=k,
        rows=tuple(bucket_table(bucket_Q, n_Q, correct_Q)),
        pass_curve=mean_pass_at_k(n_Q, correct_Q, k_K, np.random.default_rng(0)),
        left_out=tuple(left_out),
        suspects={},
        suspects_left_out=0,
        never_correct_bound=never_correct_bound(k),
    )
