"""Where probability lies: accepted answers under teacher forcing.

For every question the accepted answers, as the model would write them, go through the model once on
a prefix tree. Their summed probability is a lower bound on that of a right response: other
phrasings count as well when they are drawn.
"""

from collections.abc import Sequence

import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray

from attrib.attribution.forest import Forest, plant
from attrib.attribution.groups import Group
from attrib.attribution.policy import Policy
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
) -> pl.DataFrame:
    """Return rows of the table `masses`, one per question.

    Args:
        policy: the model.
        responder: how it is asked.
        questions: whose accepted answers are looked at.
        arm_id: of the rows.
        samples: evaluations with sampled answers and their log-probabilities; their mean is the
            entropy of the response, unbiased.
    """
    groups = []
    for question in questions:
        targets = list(dict.fromkeys(responder.target(answer) for answer in question.answers))
        groups.append(
            Group(
                question.question_id,
                responder.prompt(question).token_ids,
                tuple(targets),
                np.ones(len(targets), dtype=np.bool_),
            )
        )
    entropies = _entropies(samples)
    rows = []
    with track("Measuring probabilities", len(questions), "questions") as advance:
        for forest in plant(groups, TOKENS_AT_ONCE):
            logprob_K, rank_K = _score(policy, forest)
            for group, targets_G in zip(forest.groups, forest.targets, strict=True):
                logprob_G = np.array([logprob_K[target_T].sum() for target_T in targets_G])
                best = int(logprob_G.argmax())
                rows.append(
                    {
                        "arm_id": arm_id,
                        "question_id": group.question_id,
                        "greedy_rank": int(rank_K[targets_G[best]].max()),
                        "logprob": float(logprob_G[best]),
                        "mass_low": float(min(np.exp(logprob_G).sum(), 1.0)),
                        "entropy": entropies.get(group.question_id),
                    }
                )
            advance(len(forest.groups))
    return pl.DataFrame(rows, schema_overrides={"entropy": pl.Float64})


@torch.inference_mode()
def _score(policy: Policy, forest: Forest) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Return each target's log-probability at temperature 1, and its rank among all tokens."""
    with policy.precision():
        logits_PV = policy.logits(forest)
    row_K = torch.from_numpy(forest.row_K).to(logits_PV.device)
    token_K = torch.from_numpy(forest.token_K).to(logits_PV.device)
    chosen_K = logits_PV[row_K, token_K]
    logprob_K = chosen_K - logits_PV.logsumexp(-1)[row_K]
    rank_K = torch.stack(
        [1 + (logits_PV[row] > chosen).sum() for row, chosen in zip(row_K, chosen_K, strict=True)]
    )
    return logprob_K.double().cpu().numpy(), rank_K.cpu().numpy()


def _entropies(samples: pl.DataFrame | None) -> dict[str, float]:
    if samples is None:
        return {}
    means = (
        samples.filter(pl.col("decoding") == "sample")
        .group_by("question_id")
        .agg(-pl.col("logprob").mean())
    )
    return dict(means.iter_rows())
