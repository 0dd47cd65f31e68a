"""Are tree rollouts distributed as those of `generate`? `python benchmarks/check_exact.py`.

On SmolLM2, 30 questions, n = 128: the correct counts of tree and `generate` are compared question
by question, and so are those of two independent `generate` runs; and the tree is drawn at two batch
sizes to count how many rollouts rounding changes. Prints JSON; exits 1 if a check fails.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from scipy import stats

from attrib.data.questions import Question, load_worldfacts
from attrib.sampling.engine import Engine, FinishReason, Request, Rollout, in_order
from attrib.sampling.engines import EngineSettings, find_source
from attrib.sampling.generate import TransformersEngine
from attrib.sampling.graders import make_grader
from attrib.sampling.grading import Grader, Verdict, grade_one
from attrib.sampling.models import load_model
from attrib.sampling.responder import Responder
from attrib.sampling.tree import TreeEngine

SIGNIFICANCE = 1e-3  # a true null is refused once in a thousand runs
LARGEST_CHANGED_SHARE = 1e-3
OTHER_WIDTH = 32  # live nodes
GENERATE_SEEDS = (1, 2)


def main() -> None:
    """Draw, compare, print."""
    sys.path.insert(0, str(Path(__file__).parent))
    from trained_model import training_questions

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--questions", type=int, default=30)
    parser.add_argument("--n", type=int, default=128)
    parser.add_argument("--seed", type=int, default=0, help="of the tree's rollouts")
    arguments = parser.parse_args()

    questions = training_questions(arguments.questions)
    sample_set = find_source(EngineSettings()).sample_set
    model = load_model(sample_set.model, "cpu")
    grader = make_grader("match", list(load_worldfacts()))

    def draw(engine: Engine, seed: int) -> list[list[Rollout]]:
        responder = Responder(engine, sample_set, model.tokenizer)
        requests = [Request(q.question_id, responder.prompt(q), 0, arguments.n) for q in questions]
        return list(in_order(responder.respond(requests, seed)))

    def correct(drawn: Sequence[Sequence[Rollout]]) -> np.ndarray:
        return np.array([
            sum(_is_correct(grader, question, rollout) for rollout in rollouts)
            for question, rollouts in zip(questions, drawn, strict=True)
        ])  # fmt: skip

    tree = draw(TreeEngine(model), arguments.seed)
    narrow = draw(TreeEngine(model, OTHER_WIDTH), arguments.seed)
    plain = [draw(TransformersEngine(model), seed) for seed in GENERATE_SEEDS]
    pairs = [
        (one.token_ids, other.token_ids)
        for rollouts, others in zip(tree, narrow, strict=True)
        for one, other in zip(rollouts, others, strict=True)
    ]
    changed = sum(one != other for one, other in pairs)
    ours, first, second = correct(tree), correct(plain[0]), correct(plain[1])
    found = {
        "questions": len(questions),
        "n": arguments.n,
        "correct": {
            "tree": int(ours.sum()), "generate": int(first.sum()), "again": int(second.sum())
        },
        "p, tree against generate": _homogeneity(ours, first, arguments.n),
        "p, generate against itself": _homogeneity(first, second, arguments.n),
        "p, mean log-probability, tree against generate": _compare_logprobs(tree, plain[0]),
        "p, mean log-probability, generate against itself": _compare_logprobs(*plain),
        "changed with the batch size": f"{changed} of {len(pairs)} rollouts",
    }  # fmt: skip
    print(json.dumps(found, indent=1))
    passed = (
        found["p, tree against generate"] > SIGNIFICANCE
        and found["p, mean log-probability, tree against generate"] > SIGNIFICANCE
        and changed / len(pairs) < LARGEST_CHANGED_SHARE
    )
    sys.exit(not passed)


def _is_correct(grader: Grader, question: Question, rollout: Rollout) -> bool:
    truncated = rollout.finish_reason == FinishReason.LENGTH
    return grade_one(grader, question, rollout.text, truncated).verdict == Verdict.CORRECT


def _homogeneity(one_Q: np.ndarray, other_Q: np.ndarray, n: int) -> float:
    """Return the p-value of equal success probabilities, question by question.

    Given a question's total, either count is hypergeometric if they are equal; the standardised
    differences of all questions add up to a chi-square.
    """
    total_Q = one_Q + other_Q
    informative = (total_Q > 0) & (total_Q < 2 * n)
    total_Q = total_Q[informative]
    variance_Q = stats.hypergeom.var(2 * n, total_Q, n)
    statistic = ((one_Q[informative] - total_Q / 2) ** 2 / variance_Q).sum()
    return float(stats.chi2.sf(statistic, informative.sum()))


def _compare_logprobs(
    ones: Sequence[Sequence[Rollout]], others: Sequence[Sequence[Rollout]]
) -> float:
    """Return the p-value of equal mean log-probabilities of rollouts, question by question."""
    statistics = [
        stats.ttest_ind([r.logprob for r in one], [r.logprob for r in other], equal_var=False)
        for one, other in zip(ones, others, strict=True)
    ]
    return float(stats.combine_pvalues([s.pvalue for s in statistics]).pvalue)


if __name__ == "__main__":
    main()
