"""Scores that need no gradient: what attribution by gradients has to beat.

Every score is higher where more held-out gain is to be expected from training on the question.
"""

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray

from attrib.attribution.arms import Arm
from attrib.attribution.effect import HELD_OUT
from attrib.attribution.forecast import Counts
from attrib.attribution.score_methods import ScoreMethod
from attrib.attribution.scores import Scores, mean_over_relations
from attrib.data.questions import Question
from attrib.progress import track
from attrib.sampling.randomness import UniformStream
from attrib.sampling.responder import Responder
from attrib.sampling.tree import TreeEngine
from attrib.store import Store

_LEDGER = """
    SELECT question_id, count(*) FILTER (gradient_weight > 0) AS visits, sum(correct) AS rewarded
    FROM visits WHERE arm_id = $arm_id GROUP BY question_id ORDER BY question_id
"""
_NO_VISITS = pl.DataFrame()

Load = Callable[[], Responder[TreeEngine]]


def score_by(
    method: ScoreMethod,
    store: Store,
    arm: Arm,
    counts: Mapping[str, Counts],
    held_out: Sequence[Question],
    load: Load,
) -> Scores:
    """Return an arm's scores by a method that takes no gradient.

    Args:
        method: one of those.
        store: the study, whose ledger says what training visited.
        arm: what was trained.
        counts: right rollouts of every training question before training.
        held_out: the questions that gain is measured on.
        load: gives the base model; called for `similarity` only.
    """
    if method is ScoreMethod.SIMILARITY:
        return _similarity(load(), arm.questions, held_out)
    ids = [question.question_id for question in arm.questions]
    if method is ScoreMethod.DIFFICULTY:
        values = [1.0 - counts[name].correct / counts[name].n for name in ids]
    elif method is ScoreMethod.RANDOM:
        values = [float(UniformStream(arm.seed, name).draw(0, 0, 1)[0, 0]) for name in ids]
    else:
        rows = store.read(_LEDGER, arm_id=arm.arm_id)
        found = dict(rows.select("question_id", str(method)).iter_rows())
        values = [float(found.get(name, 0)) for name in ids]
    return Scores(_held_out_scores(ids, values), _NO_VISITS, _NO_VISITS, 0.0)


def _held_out_scores(question_ids: Sequence[str], values: Sequence[float]) -> pl.DataFrame:
    return pl.DataFrame(
        {"question_id": question_ids, "score": values}, schema_overrides={"score": pl.Float64}
    ).with_columns(evaluated_on=pl.lit(HELD_OUT))


def _similarity(
    responder: Responder[TreeEngine], questions: Sequence[Question], held_out: Sequence[Question]
) -> Scores:
    """Return the cosine of each training question's embedding to that of each held-out one."""
    embedded_QH, held_out_QH = embed(responder, questions), embed(responder, held_out)
    cosine_QQ = embedded_QH @ held_out_QH.T
    ids = [question.question_id for question in questions]
    pairs = pl.DataFrame(
        {
            "question_id": np.repeat(ids, len(held_out)),
            "held_out_id": [question.question_id for question in held_out] * len(ids),
            "score": cosine_QQ.reshape(-1),
        }
    )
    overall = _held_out_scores(ids, cosine_QQ.mean(axis=1).tolist())
    by_relation = mean_over_relations(pairs, held_out, "question_id")
    scores = pl.concat([overall, by_relation.select(overall.columns)])
    return Scores(scores, _NO_VISITS, pairs, 0.0)


@torch.inference_mode()
def embed(responder: Responder[TreeEngine], questions: Sequence[Question]) -> NDArray[np.float64]:
    """Return each prompt's mean last hidden state, of length 1, shape (Q, H)."""
    module = responder.engine.language_model.module
    rows = []
    with track("Embedding", len(questions), "questions") as advance:
        for question in questions:
            tokens = torch.tensor([responder.prompt(question).token_ids], device=module.device)
            hidden_TH = module(input_ids=tokens, output_hidden_states=True).hidden_states[-1][0]
            mean_H = hidden_TH.double().mean(0)
            rows.append((mean_H / mean_H.norm()).cpu().numpy())
            advance(1)
    return np.stack(rows)
