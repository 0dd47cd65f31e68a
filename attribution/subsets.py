"""Subsets: which parts of the training questions are to be held against the rest.

Buckets are one way to part the questions; a condition, or a grouping by relation or popularity, is
another. Refuses names of no bucket and parts without a question. Small parts are trained on only
when they are named.
"""

from collections.abc import Mapping, Sequence
from enum import StrEnum

import numpy as np

from attrib.analysis.buckets import Bucket
from attrib.attribution.arms import Subset
from attrib.data.library import filter_questions
from attrib.data.questions import Question
from attrib.errors import ConfigError, DataError
from attrib.progress import say
from attrib.store import Store

SMALL = 8  # questions; below this a part is trained on only because it was named
QUARTERS = tuple(f"popularity, {nth} quarter" for nth in ("1st", "2nd", "3rd", "4th"))
UNKNOWN_POPULARITY = "popularity, unknown"


class Grouping(StrEnum):
    """Ways to part all training questions."""

    RELATION = "relation"
    POPULARITY = "popularity"
    """In quarters, the least popular first."""


def choose_subsets(
    store: Store,
    questions_by_bucket: Mapping[str, Sequence[Question]],
    *,
    names: Sequence[str] = (),
    all_buckets: bool = False,
    wheres: Sequence[str] = (),
    group_by: Grouping | None = None,
) -> list[Subset]:
    """Return the subsets asked for, each once.

    Args:
        store: the study, in which conditions are evaluated.
        questions_by_bucket: all training questions.
        names: buckets.
        all_buckets: take every bucket of at least `SMALL` questions.
        wheres: SQL conditions on the training questions, each a subset named by its text.
        group_by: take every group of at least `SMALL` questions.

    Raises:
        ConfigError: nothing is asked for, a name is no bucket, or a condition is not valid SQL.
        DataError: a subset holds no question.
    """
    if not (names or all_buckets or wheres or group_by):
        raise ConfigError(
            "Say what to train on: --subset never-correct, --all-buckets, --subset-where SQL or "
            "--group-by relation."
        )
    everything = [q for questions in questions_by_bucket.values() for q in questions]
    subsets = [_named(name, questions_by_bucket) for name in names]
    if all_buckets:
        subsets += _keep_large(
            [Subset(str(b), tuple(questions_by_bucket.get(b, ()))) for b in Bucket]
        )
    for where in wheres:
        chosen = filter_questions(store, everything, where)
        if not chosen:
            raise DataError(f'--subset-where "{where}" holds none of the bucketed questions.')
        subsets.append(Subset(" ".join(where.split()), tuple(chosen)))
    if group_by is not None:
        subsets += _keep_large(_group(everything, group_by))
    return list({subset.name: subset for subset in subsets}.values())


def all_parts(questions_by_bucket: Mapping[str, Sequence[Question]]) -> list[Subset]:
    """Return every bucket that holds a question."""
    return [
        Subset(str(bucket), tuple(questions_by_bucket[bucket]))
        for bucket in Bucket
        if questions_by_bucket.get(bucket)
    ]


def _named(name: str, questions_by_bucket: Mapping[str, Sequence[Question]]) -> Subset:
    if name not in set(Bucket):
        raise ConfigError(f"--subset {name} is not a bucket. Buckets: {', '.join(Bucket)}.")
    if not questions_by_bucket.get(name):
        filled = ", ".join(f"{b} ({len(qs)})" for b, qs in questions_by_bucket.items() if qs)
        raise DataError(
            f"--subset {name} holds no question, so nothing can be trained on it. "
            f"Buckets with questions: {filled}."
        )
    return Subset(name, tuple(questions_by_bucket[name]))


def _keep_large(subsets: Sequence[Subset]) -> list[Subset]:
    """Return the subsets of enough questions, naming the others."""
    small = [s for s in subsets if 0 < len(s.questions) < SMALL]
    if small:
        listed = ", ".join(f"{s.name} ({len(s.questions)})" for s in small)
        say(f"Not trained on, with fewer than {SMALL} questions (name one to do so): {listed}.")
    return [s for s in subsets if len(s.questions) >= SMALL]


def _group(questions: Sequence[Question], group_by: Grouping) -> list[Subset]:
    if group_by is Grouping.RELATION:
        names = [q.relation or "no relation" for q in questions]
    else:
        names = _quarters(questions)
    return [
        Subset(name, tuple(q for q, own in zip(questions, names, strict=True) if own == name))
        for name in sorted(set(names))
    ]


def _quarters(questions: Sequence[Question]) -> list[str]:
    """Return the name of each question's quarter of popularity; equal ones stay together."""
    known = [q.popularity for q in questions if q.popularity is not None]
    if not known:
        raise DataError("--group-by popularity: none of the bucketed questions has a popularity.")
    cuts = np.quantile(known, [0.25, 0.5, 0.75])
    return [
        UNKNOWN_POPULARITY
        if q.popularity is None
        else QUARTERS[int(np.searchsorted(cuts, q.popularity))]
        for q in questions
    ]
