"""Phrasings: right responses in other words than the accepted answers, as the base said them.

Owns which responses count in `masses.mass_found` beside the accepted answers: the distinct right
ones among the base's samples of each held-out question, and among stored rollouts of it, the most
frequent `COMMON` of them. They are the same for every arm, and none is chosen by what training did,
so that the mass of an arm compares with that of the base.

A response is an event of its own: what is drawn ends in an end token or a stop string, or is cut
off at the limit. Then no drawn response begins another one, and their probabilities add up. The
accepted answers are written down, not drawn; so where one sequence begins another, `disjoint` keeps
the shorter, whose probability holds that of the longer.
"""

from collections.abc import Mapping, Sequence

import polars as pl

from attrib.store import Store

COMMON = 32

Tokens = tuple[int, ...]
Phrasings = Mapping[str, Sequence[Tokens]]
"""By question id, most frequent first."""

_HEARD = """
    SELECT question_id, token_ids, times FROM phrasings
    JOIN arm_roles USING (arm_id) WHERE experiment_id = $experiment_id AND role = 'base'
    UNION ALL BY NAME
    SELECT question_id, token_ids, count(*) AS times FROM graded_rollouts
    WHERE sample_set_id = $sample_set_id AND grader = $grader AND verdict = 'correct'
      AND list_contains($question_ids, question_id) AND len(token_ids) > 0
    GROUP BY ALL
"""
_SCHEMA = {"question_id": pl.String, "token_ids": pl.List(pl.Int32), "times": pl.Int64}


def find_phrasings(samples: pl.DataFrame) -> pl.DataFrame:
    """Return the distinct right responses among samples, rows of `phrasings` without `arm_id`.

    Args:
        samples: `question_id`, `decoding`, `verdict` and `token_ids` of each.
    """
    right = (pl.col("decoding") == "sample") & (pl.col("verdict") == "correct")
    return (
        samples.filter(right & (pl.col("token_ids").list.len() > 0))
        .group_by("question_id", "token_ids")
        .agg(times=pl.len())
        .cast(_SCHEMA)  # type: ignore[arg-type]
        .sort("question_id", "token_ids")
    )


def read_phrasings(
    store: Store,
    experiment_id: str,
    sample_set_id: str,
    grader: str,
    question_ids: Sequence[str],
) -> Phrasings:
    """Return what is known to be said of each question.

    Args:
        store: the study.
        experiment_id: whose base was heard.
        sample_set_id: of the rollouts before training.
        grader: fingerprint of the grader that says which are right.
        question_ids: which questions.
    """
    known = store.read(
        _HEARD,
        experiment_id=experiment_id,
        sample_set_id=sample_set_id,
        grader=grader,
        question_ids=list(question_ids),
    ).cast(_SCHEMA)  # type: ignore[arg-type]
    found: dict[str, list[Tokens]] = {}
    ordered = (
        known.group_by("question_id", "token_ids")
        .agg(pl.col("times").sum())
        .sort("question_id", "times", "token_ids", descending=[False, True, False])
    )
    for question_id, token_ids, _ in ordered.iter_rows():
        mine = found.setdefault(question_id, [])
        if len(mine) < COMMON:
            mine.append(tuple(token_ids))
    return found


def disjoint(sequences: Sequence[Tokens], limit: int) -> list[int]:
    """Return the places of sequences that exclude each other, of at most `limit` tokens.

    Of equal ones the first stays; of two of which one begins the other, the shorter.
    """
    kept: dict[Tokens, int] = {}
    for place in sorted(range(len(sequences)), key=lambda place: len(sequences[place])):
        sequence = sequences[place]
        begun = any(sequence[:end] in kept for end in range(1, len(sequence) + 1))
        if len(sequence) <= limit and not begun:
            kept[sequence] = place
    return sorted(kept.values())
