"""How fast are accepted answers' probabilities measured? `python benchmarks/mass.py` prints JSON.

The computation of `attrib.attribution.mass` on questions of worldfacts, float32, all cores:
questions a second, tokens a second (distinct ones, as they go through the model), the share of what
the same cores make of matrix products of the model's own shapes, measured before and after, and the
minutes that 5,000 questions take with two models. Beside it, on a few of them, one forward for each
answer: the time, and the largest differences.
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable, Sequence
from typing import TypeVar

import numpy as np
import torch

from attrib.attribution.forest import plant
from attrib.attribution.groups import Group
from attrib.attribution.mass import TOKENS_AT_ONCE, accepted_targets, measure_masses
from attrib.attribution.policy import Policy
from attrib.config import content_hash
from attrib.data.questions import Question, load_worldfacts
from attrib.sampling.engines import EngineSettings, find_source
from attrib.sampling.responder import Responder
from attrib.sampling.tree import TreeEngine

PRODUCTS = 60  # matrix products a measurement of the cores' rate

Result = TypeVar("Result")


def main() -> None:
    """Time, compare, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="smollm2-135m")
    parser.add_argument("--questions", type=int, default=400)
    parser.add_argument("--looped", type=int, default=20, help="questions asked one by one")
    args = parser.parse_args()
    settings = EngineSettings(model=args.model, engine="tree", device="cpu", max_new_tokens=16)
    responder = find_source(settings).open()
    policy = Policy(responder.engine.language_model)
    facts = sorted(load_worldfacts(), key=lambda question: content_hash(question.question_id))
    questions = facts[: args.questions]

    measure_masses(policy, responder, questions[:8], "warm-up")
    rows = TOKENS_AT_ONCE // 3  # about what is left of a forward's tokens once they are merged
    rates = [multiply(policy, rows)]
    wall, cpu, frame = measure(lambda: measure_masses(policy, responder, questions, "base"))
    rates.append(multiply(policy, rows))
    tokens, operations = count(policy, responder, questions)
    some = frame.head(args.looped)
    loop_wall, loop_cpu, found = measure(
        lambda: [ask_one_by_one(policy, responder, q) for q in questions[: args.looped]]
    )
    differences = np.abs(some.select("logprob", "mass_low").to_numpy() - np.array(found)).max(0)
    rate = statistics.mean(rates)
    figures = {
        "questions": len(questions),
        "threads": torch.get_num_threads(),
        "seconds": wall,
        "cpu_seconds": cpu,
        "questions_per_second": len(questions) / wall,
        "tokens_per_second": tokens / wall,
        "tokens_per_question": tokens / len(questions),
        "gflop_per_question": operations / len(questions) / 1e9,
        "gflops_of_products": rate / 1e9,
        "share_of_products": operations / wall / rate,
        "minutes_for_5000_questions_and_two_models": 2 * 5000 * wall / len(questions) / 60,
        "loop_over_ours": loop_wall / args.looped / (wall / len(questions)),
        "loop_over_ours_cpu": loop_cpu / args.looped / (cpu / len(questions)),
    }
    print(
        json.dumps(
            {name: round(value, 3) for name, value in figures.items()}
            | {"logprob_difference": differences[0], "mass_difference": differences[1]}
        )
    )


def measure(run: Callable[[], Result]) -> tuple[float, float, Result]:
    """Return the wall-clock and processor seconds of a call, and its result."""
    began, began_cpu = time.perf_counter(), time.process_time()
    result = run()
    return time.perf_counter() - began, time.process_time() - began_cpu, result


def multiply(policy: Policy, rows: int) -> float:
    """Return operations a second of matrix products with the weights of a middle layer."""
    layers = [p for name, p in policy.module.named_parameters() if ".mlp." in name and p.ndim == 2]
    weight = layers[len(layers) // 2].detach()
    inputs = torch.randn(rows, weight.shape[1])

    def run() -> None:
        for _ in range(PRODUCTS):
            torch.nn.functional.linear(inputs, weight)

    run()
    wall, _, _ = measure(run)
    return 2 * PRODUCTS * rows * weight.numel() / wall


def count(
    policy: Policy, responder: Responder[TreeEngine], questions: Sequence[Question]
) -> tuple[int, int]:
    """Return tokens through the model, and operations of its matrix products with weights."""
    shapes = {n: p for n, p in policy.module.named_parameters() if p.ndim == 2}
    head = policy.module.get_output_embeddings().weight
    embeddings = {id(head), id(policy.module.get_input_embeddings().weight)}
    inner = sum(weight.numel() for weight in shapes.values() if id(weight) not in embeddings)
    groups = []
    for question in questions:
        targets = tuple(accepted_targets(responder, question))
        prompt = responder.prompt(question).token_ids
        groups.append(Group(question.question_id, prompt, targets, np.ones(len(targets), np.bool_)))
    tokens = operations = 0
    for forest in plant(sorted(groups, key=lambda group: group.prompt), TOKENS_AT_ONCE):
        tokens += len(forest.tree.token_N)
        predictors = len(forest.predictor_P)
        operations += 2 * (len(forest.tree.token_N) * inner + predictors * head.numel())
    return tokens, operations


@torch.inference_mode()
def ask_one_by_one(
    policy: Policy, responder: Responder[TreeEngine], question: Question
) -> tuple[float, float]:
    """Return the best log-probability and the mass, one forward for each answer."""
    prompt = responder.prompt(question).token_ids
    found = []
    for target in accepted_targets(responder, question):
        logits_TV = policy.module(torch.tensor([[*prompt, *target]])).logits[0]
        logprob_TV = logits_TV[len(prompt) - 1 : -1].log_softmax(-1)
        found.append(float(logprob_TV.gather(1, torch.tensor(target)[:, None]).double().sum()))
    return max(found), min(sum(np.exp(found)), 1.0)


if __name__ == "__main__":
    main()
