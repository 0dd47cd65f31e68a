"""Where probability lies: accepted answers under teacher forcing.

For every question the accepted answers, with every end that a response may have, go through the
model once on a prefix tree. Their summed probability is a lower bound on that of a right response.
With the phrasings that the base was heard to use (`attribution.phrasings`) it is a sharper one.
Questions are taken in the order of their prompts, so that a forward runs once what those of one
wording share.
"""

from collections.abc import Sequence
from itertools import chain

import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray

from attrib.attribution.forest import Forest, plant
from attrib.attribution.groups import Group
from attrib.attribution.phrasings import Phrasings, disjoint
from attrib.attribution.policy import Policy, pick_logprobs
from attrib.data.questions import Question
from attrib.progress import track
from attrib.sampling.engine import Engine
from attrib.sampling.responder import Responder

TOKENS_AT_ONCE = 1024


def measure_masses(
    policy: Policy,
    responder: Responder[Engine],
    questions: Sequence[Question],
    arm_id: str,
    samples: pl.DataFrame | None = None,
    phrasings: Phrasings | None = None,
) -> pl.DataFrame:
    """Return rows of the table `masses`, one per question.

    Args:
        policy: the model.
        responder: how it is asked.
        questions: whose accepted answers are looked at.
        arm_id: of the rows.
        samples: evaluations with sampled answers and their log-probabilities; their mean is the
            entropy of the response, unbiased.
        phrasings: right responses in other words; None where none were listened for.
    """
    groups: list[Group] = []
    answers_of: dict[str, int] = {}  # how many of a question's targets are accepted answers
    for question in questions:
        targets = accepted_targets(responder, question)
        answers_of[question.question_id] = len(targets)
        targets = list(dict.fromkeys([*targets, *(phrasings or {}).get(question.question_id, ())]))
        groups.append(
            Group(
                question.question_id,
                responder.prompt(question).token_ids,
                tuple(targets),
                np.ones(len(targets), dtype=np.bool_),
            )
        )
    entropies, longest = _entropies(samples), responder.sampling.max_new_tokens
    rows = {}
    with track("Measuring probabilities", len(questions), "questions") as advance:
        for forest in plant(sorted(groups, key=lambda group: group.prompt), TOKENS_AT_ONCE):
            logprob_K, rank_K = _score(policy, forest)
            for group, targets_G in zip(forest.groups, forest.targets, strict=True):
                logprob_G = np.array([logprob_K[target_T].sum() for target_T in targets_G])
                own_G = logprob_G[: answers_of[group.question_id]]
                best = int(own_G.argmax())
                apart = disjoint(group.completions, longest)
                rows[group.question_id] = {
                    "arm_id": arm_id,
                    "question_id": group.question_id,
                    "greedy_rank": int(rank_K[targets_G[best]].max()),
                    "logprob": float(own_G[best]),
                    "mass_low": float(min(np.exp(own_G).sum(), 1.0)),
                    "mass_found": None
                    if phrasings is None
                    else float(min(np.exp(logprob_G[apart]).sum(), 1.0)),
                    "entropy": entropies.get(group.question_id),
                }
            advance(len(forest.groups))
    ordered = [rows[question.question_id] for question in questions]
    return pl.DataFrame(ordered, schema_overrides={"entropy": pl.Float64, "mass_found": pl.Float64})


def accepted_targets(responder: Responder[Engine], question: Question) -> list[tuple[int, ...]]:
    """Return the accepted answers with every end that a response may have, each once."""
    ended = (responder.targets(answer) for answer in question.answers)
    return list(dict.fromkeys(chain.from_iterable(ended)))


@torch.inference_mode()
def _score(policy: Policy, forest: Forest) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Return each target's log-probability at temperature 1, and its rank among all tokens."""
    with policy.precision():
        logits_PV = policy.logits(forest)
    logprob_K = pick_logprobs(logits_PV, forest)
    # Row by row: all targets' rows together would be another copy of the logits, or several.
    rank_K = [
        1 + int((logits_PV[row] > logits_PV[row, token]).sum())
        for row, token in zip(forest.row_K, forest.token_K, strict=True)
    ]
    return logprob_K.double().cpu().numpy(), np.array(rank_K)


def _entropies(samples: pl.DataFrame | None) -> dict[str, float]:
    if samples is None:
        return {}
    means = (
        samples.filter(pl.col("decoding") == "sample")
        .group_by("question_id")
        .agg(-pl.col("logprob").mean())
    )
    return dict(means.iter_rows())
