"""How fast is pass@k? `python benchmarks/passk.py [--questions N] [--n N]` prints JSON.

pass@k at every k from 1 to n, over made-up counts of many questions: `attrib.analysis.passk` for
each question and k, and their means with intervals, against a loop in Python over questions with
the textbook formula 1 - ∏(1 - k/i), i = n-c+1 … n (arXiv 2107.03374), once with NumPy's product as
published and once in plain Python. The loops run over a part of the questions and are scaled to
all. Seconds are processor time. Exits 1 if values differ by more than 1e-12. How fast rollouts are
counted, beside pandas, is in `benchmarks/store.py`.
"""

import argparse
import json
import resource
import sys
import time
from collections.abc import Callable
from typing import TypeVar

import numpy as np

from attrib.analysis.passk import mean_pass_at_k, pass_at_k

LARGEST_DIFFERENCE = 1e-12

Result = TypeVar("Result")


def main() -> None:
    """Time, compare, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--questions", type=int, default=100_000)
    parser.add_argument("--n", type=int, default=128)
    parser.add_argument("--looped", type=int, default=1_000, help="questions in the loops")
    args = parser.parse_args()
    generator = np.random.default_rng(0)
    hard_Q = generator.random(args.questions) < 0.3
    p_Q = np.where(
        hard_Q,
        generator.beta(0.3, 60.0, args.questions),
        generator.beta(0.6, 1.2, args.questions),
    )
    correct_Q = generator.binomial(args.n, p_Q)
    n_Q = np.full(args.questions, args.n)
    k_K = np.arange(1, args.n + 1)

    seconds, value_QK = measure(lambda: pass_at_k(n_Q, correct_Q, k_K))
    mean_seconds, curve = measure(lambda: mean_pass_at_k(n_Q, correct_Q, k_K, generator))
    looped = generator.choice(args.questions, args.looped, replace=False)
    counts = correct_Q[looped].tolist()
    scale = args.questions / args.looped
    numpy_seconds, numpy_QK = measure(lambda: loop(counts, args.n, product_of_numpy))
    plain_seconds, plain_QK = measure(lambda: loop(counts, args.n, product_of_python))
    difference = max(
        float(np.abs(value_QK[looped] - np.array(found)).max()) for found in (numpy_QK, plain_QK)
    )
    difference = max(difference, float(np.abs(value_QK.mean(axis=0) - curve.mean_K).max()))
    found = {
        "questions": args.questions,
        "n": args.n,
        "looped_questions": args.looped,
        "pass_at_k_seconds": seconds,
        "mean_with_intervals_seconds": mean_seconds,
        "loop_numpy_seconds_scaled": numpy_seconds * scale,
        "loop_python_seconds_scaled": plain_seconds * scale,
        "loop_numpy_over_pass_at_k": numpy_seconds * scale / seconds,
        "loop_python_over_pass_at_k": plain_seconds * scale / seconds,
        "peak_gb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6,
    }
    rounded = {key: round(value, 4) for key, value in found.items()}
    print(json.dumps(rounded | {"largest_difference": difference}))
    sys.exit(difference > LARGEST_DIFFERENCE)


def measure(run: Callable[[], Result]) -> tuple[float, Result]:
    """Return the processor seconds of a call, and its result."""
    began = time.process_time()
    result = run()
    return time.process_time() - began, result


def loop(
    counts: list[int], n: int, estimate: Callable[[int, int, int], float]
) -> list[list[float]]:
    """Return pass@k of each question at every k, one at a time."""
    return [[estimate(n, correct, k) for k in range(1, n + 1)] for correct in counts]


def product_of_numpy(n: int, correct: int, k: int) -> float:
    """Return the textbook estimate, its product taken by NumPy."""
    if n - correct < k:
        return 1.0
    return float(1.0 - np.prod(1.0 - k / np.arange(n - correct + 1, n + 1)))


def product_of_python(n: int, correct: int, k: int) -> float:
    """Return the textbook estimate, its product taken in plain Python."""
    if n - correct < k:
        return 1.0
    missed = 1.0
    for i in range(n - correct + 1, n + 1):
        missed *= 1.0 - k / i
    return 1.0 - missed


if __name__ == "__main__":
    main()
