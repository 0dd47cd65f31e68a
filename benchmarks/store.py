"""How fast is the store? `python benchmarks/store.py [--questions N] [--n N]` prints JSON.

Fills an empty study with made-up questions, rollouts and verdicts, whose success probabilities come
from a mixture with many hard questions and whose wrong answers repeat as real ones do, then buckets
it: rollouts stored a second, bytes of file a rollout, and seconds and largest resident memory of
`attrib bucket` in a process of its own. Beside it, on the same counts, what a pandas group-by takes
and what a loop over questions with the textbook formula of pass@k takes.
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from math import comb
from pathlib import Path

import duckdb
import numpy as np
import polars as pl

from attrib.data.library import hash_answers
from attrib.data.questions import AnswerType, Question, Split
from attrib.sampling.graders import make_grader
from attrib.store import Store

QUESTIONS_PER_BATCH = 2_000
WRONG_ANSWERS = 24  # distinct ones that a question's wrong rollouts are drawn from
RELATIONS = 100
SYLLABLES = [first + second for first in "bdfgklmnprstvz" for second in "aeiou"]


def name_thing(index: int) -> str:
    """Return a name of its own for each number, of syllables."""
    syllables = []
    while index or len(syllables) < 3:
        index, at = divmod(index, len(SYLLABLES))
        syllables.append(SYLLABLES[at])
    return "".join(syllables).capitalize()


OTHERS = pl.Series([name_thing(10_000_000 + index) for index in range(20_011)])


def main() -> None:
    """Fill, bucket, compare, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--questions", type=int, default=100_000)
    parser.add_argument("--n", type=int, default=128)
    parser.add_argument("--keep", type=Path, help="leave the study here")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        path = args.keep or Path(folder) / "study.duckdb"
        found = {"questions": args.questions, "n": args.n, **fill(path, args.questions, args.n)}
        found |= run_bucket(path, args.n)
        found |= compare(path, args.n)
    print(json.dumps({key: round(value, 3) for key, value in found.items()}))


def fill(path: Path, questions: int, n: int) -> dict[str, float]:
    """Write the study through `Store`, and return what the rollouts took."""
    generator = np.random.default_rng(0)
    store = Store(path)
    asked = make_questions(questions)
    grader = make_grader("match", asked)
    p_Q = np.where(
        generator.random(questions) < 0.3,
        generator.beta(0.3, 60.0, questions),
        generator.beta(0.6, 1.2, questions),
    )
    seconds = 0.0
    with store.writing("benchmark"):
        write_questions(store, asked, n)
        for first in range(0, questions, QUESTIONS_PER_BATCH):
            part = asked[first : first + QUESTIONS_PER_BATCH]
            rollouts = make_rollouts(part, p_Q[first : first + len(part)], n, generator)
            verdicts = make_verdicts(rollouts, part, grader.fingerprint)
            rollouts = rollouts.drop("right")
            began = time.perf_counter()
            with store.transaction() as transaction:
                transaction.append(
                    "rollouts", rollouts, unless_present=["sample_set_id", "question_id", "rollout"]
                )
            seconds += time.perf_counter() - began
            with store.transaction() as transaction:
                transaction.append("verdicts", verdicts)
    with_verdicts = path.stat().st_size
    with duckdb.connect(":memory:") as connection:
        alone = path.with_suffix(".rollouts")
        connection.execute(f"ATTACH '{path}' AS study (READ_ONLY)")
        connection.execute(f"ATTACH '{alone}' AS alone")
        connection.execute("CREATE TABLE alone.rollouts AS FROM study.rollouts")
    rollouts_alone = alone.stat().st_size
    alone.unlink()
    return {
        "rollouts_per_second": questions * n / seconds,
        "bytes_per_rollout": rollouts_alone / (questions * n),
        "bytes_per_rollout_with_verdicts": with_verdicts / (questions * n),
    }


def make_questions(questions: int) -> list[Question]:
    """Return questions with one short answer each, in relations of equal size."""
    return [
        Question(
            question_id=f"{index * 2654435761 % 2**64:016x}",
            dataset="made-up",
            split=Split.TRAIN,
            text=f"What is the name of thing {index}?",
            answers=(name_thing(index),),
            answer_type=AnswerType.NAME,
            subject=f"thing {index}",
            relation=f"relation {index % RELATIONS}",
            fact_id=f"{index:016x}",
            popularity=None,
        )
        for index in range(questions)
    ]


def write_questions(store: Store, asked: list[Question], n: int) -> None:
    """Store the questions and a sample set that was asked all of them."""
    frame = pl.DataFrame(
        {
            "question_id": [q.question_id for q in asked],
            "dataset": "made-up",
            "split": "train",
            "text": [q.text for q in asked],
            "answers": [list(q.answers) for q in asked],
            "answer_type": "name",
            "subject": [q.subject for q in asked],
            "relation": [q.relation for q in asked],
            "fact_id": [q.fact_id for q in asked],
            "popularity": pl.Series([None] * len(asked), dtype=pl.Int64),
            "flags": pl.Series([[]] * len(asked), dtype=pl.List(pl.String)),
            "answers_hash": [hash_answers(q) for q in asked],
        }
    )
    settings = {"sample_set_id": "s", "model": "made-up", "engine": "made-up", "prompt": ""}
    params = json.dumps({"max_new_tokens": 16, "dataset": "made-up"})
    with store.transaction() as transaction:
        transaction.append("questions", frame)
        transaction.append("sample_sets", pl.DataFrame([settings | {"params": params, "seed": 0}]))
        transaction.append(
            "selections", frame.select("question_id", pl.lit("s").alias("sample_set_id"))
        )


def make_rollouts(
    asked: list[Question], p_Q: np.ndarray, n: int, generator: np.random.Generator
) -> pl.DataFrame:
    """Return n rollouts of each question; wrong answers repeat, the first ones most often."""
    index = np.repeat(np.arange(len(asked)), n)
    right = generator.random(index.size) < p_Q[index]
    wrong = np.minimum(generator.geometric(0.15, index.size), WRONG_ANSWERS)
    frame = pl.DataFrame(
        {
            "question_id": pl.Series([q.question_id for q in asked])[index],
            "rollout": np.tile(np.arange(n, dtype=np.int32), len(asked)),
            "answer": pl.Series([q.answers[0] for q in asked])[index],
            "right": right,
            "wrong": wrong,
            "other": OTHERS[(index * WRONG_ANSWERS + wrong) % len(OTHERS)],
            "tokens": generator.integers(3, 7, index.size).astype(np.int32),
            "logprob": -generator.exponential(4.0, index.size),
            "finish_reason": np.where(generator.random(index.size) < 0.05, "length", "stop"),
        }
    )
    guess = pl.format("It is {}", "other")
    ids = pl.concat_list([(pl.col("wrong") * at + at).cast(pl.Int32) for at in range(1, 7)])
    return frame.select(
        pl.lit("s").alias("sample_set_id"),
        "question_id",
        "rollout",
        pl.when("right").then(pl.col("answer")).otherwise(guess).alias("text"),
        ids.list.head(pl.col("tokens")).alias("token_ids"),
        "tokens",
        "logprob",
        "finish_reason",
        "right",
    )


def make_verdicts(rollouts: pl.DataFrame, asked: list[Question], grader: str) -> pl.DataFrame:
    """Return one verdict for each distinct response."""
    hashes = pl.DataFrame(
        {
            "question_id": [q.question_id for q in asked],
            "answers_hash": [hash_answers(q) for q in asked],
        }
    )
    truncated = (pl.col("finish_reason") == "length").alias("truncated")
    return (
        rollouts.select("question_id", "text", truncated, "right")
        .unique(["question_id", "text", "truncated"], maintain_order=True)
        .join(hashes, on="question_id")
        .select(
            "question_id",
            "answers_hash",
            "text",
            "truncated",
            pl.lit(grader).alias("grader"),
            pl.when("right")
            .then(pl.lit("correct"))
            .otherwise(pl.lit("incorrect"))
            .alias("verdict"),
            pl.when("right")
            .then(pl.lit(""))
            .otherwise(pl.lit("no accepted answer"))
            .alias("detail"),
        )
    )


def run_bucket(path: Path, n: int) -> dict[str, float]:
    """Return what `attrib bucket` and then the same command again take."""
    found = {}
    for name in ("bucket", "bucket_again"):
        script = (
            "import resource, sys, time; began = time.perf_counter();"
            "from attrib.cli import app\n"
            "try: app(sys.argv[1:])\n"
            "except SystemExit as end: assert not end.code, end\n"
            "print(time.perf_counter() - began, time.process_time(),"
            " resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6)"
        )
        command = [sys.executable, "-c", script, "bucket", "--k", str(n), "--db", str(path)]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        seconds, cpu, gigabytes = map(float, done.stdout.splitlines()[-1].split())
        found |= {f"{name}_seconds": seconds, f"{name}_cpu": cpu, f"{name}_gb": gigabytes}
    return found


def compare(path: Path, n: int) -> dict[str, float]:
    """Return what counting in pandas and a loop over questions take."""
    with duckdb.connect(str(path), read_only=True) as connection:
        frame = connection.execute(
            "SELECT question_id, verdict = 'correct' AS correct FROM graded_rollouts"
        ).df()
    began = time.perf_counter()
    counts = frame.groupby("question_id")["correct"].agg(["sum", "size"])
    pandas_seconds = time.perf_counter() - began
    k_K = [2**i for i in range(n.bit_length()) if 2**i <= n]
    began = time.perf_counter()
    for correct, size in counts.itertuples(index=False):
        for k in k_K:
            1.0 - comb(int(size - correct), k) / comb(int(size), k)
    return {
        "pandas_group_by_seconds": pandas_seconds,
        "loop_pass_at_k_seconds": time.perf_counter() - began,
        "peak_gb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6,
    }


if __name__ == "__main__":
    main()
