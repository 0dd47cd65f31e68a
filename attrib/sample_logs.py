"""Sample logs of evaluation tools: what inspect_ai and lm-evaluation-harness would have written.

Laid out as their own types have it (inspect_ai 0.3.285, lm_eval 0.4.13), which accept these files:
`make check-exports`. Scores are ours; a rollout without a verdict is unscored, never wrong.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping
from typing import Any

import polars as pl

from attrib.config import content_hash

TASK = "attrib"
SCORE = {"correct": "C", "incorrect": "I"}
STOP_REASON = {"stop": "stop", "length": "max_tokens", "error": "unknown"}


def to_inspect(rows: pl.DataFrame, sample_set: Mapping[str, Any]) -> Iterator[str]:
    """Yield an evaluation log of inspect_ai (version 2, JSON): a sample for each rollout.

    Args:
        rows: what `attrib export` reads, ordered by question.
        sample_set: the row of the table `sample_sets`.
    """
    params = json.loads(sample_set["params"])
    created = sample_set["created_at"].isoformat()
    ids = rows["question_id"].unique(maintain_order=True).to_list()
    header = {
        "version": 2,
        "status": "success",
        "eval": {
            "eval_id": content_hash([sample_set["sample_set_id"], "eval"]),
            "run_id": sample_set["sample_set_id"],
            "created": created,
            "task": TASK,
            "task_id": sample_set["sample_set_id"],
            "dataset": {
                "name": ", ".join(rows["dataset"].unique().sort()),
                "samples": len(ids),
                "sample_ids": ids,
                "shuffled": False,
            },
            "model": sample_set["model"],
            "model_generate_config": {
                "temperature": params["temperature"],
                "top_p": params["top_p"],
                "max_tokens": params["max_new_tokens"],
                "seed": sample_set["seed"],
            },
            "config": {"epochs": int(rows["rollout"].max()) + 1},  # type: ignore[arg-type]
            "metadata": {"sample_set_id": sample_set["sample_set_id"]},
        },
        "results": {
            "total_samples": len(rows),
            "completed_samples": len(rows.filter(pl.col("finish_reason") != "error")),
        },
        "stats": {"started_at": created, "completed_at": created},
    }
    yield json.dumps(header, ensure_ascii=False)[:-1] + ', "samples": [\n'
    for place, row in enumerate(rows.iter_rows(named=True)):
        yield ",\n" * (place > 0) + json.dumps(_to_sample(row), ensure_ascii=False)
    yield "\n]}\n"


def _to_sample(row: Mapping[str, Any]) -> dict[str, Any]:
    answer = {"role": "assistant", "content": row["response"], "source": "generate"}
    sample: dict[str, Any] = {
        "id": row["question_id"],
        "epoch": row["rollout"] + 1,
        "input": row["question"],
        "target": row["answers"],
        "messages": [{"role": "user", "content": row["question"], "source": "input"}, answer],
        "output": {
            "model": row["model"],
            "choices": [{"message": answer, "stop_reason": STOP_REASON[row["finish_reason"]]}],
            "completion": row["response"],
        },
        "metadata": {
            name: row[name]
            for name in ("dataset", "split", "relation", "subject", "popularity", "logprob")
        },
    }
    if row["finish_reason"] == "error":
        sample["error"] = {"message": "no response", "traceback": "", "traceback_ansi": ""}
    if row["verdict"] in SCORE:
        sample["scores"] = {
            row["grader"].split("-", 1)[0]: {
                "value": SCORE[row["verdict"]],
                "answer": row["response"],
                "explanation": row["detail"],
                "metadata": {"grader": row["grader"]},
            }
        }
    return sample


def to_lm_eval(rows: pl.DataFrame, sample_set: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield the lines of a sample log of lm-evaluation-harness: one for each question.

    The metric `correct` is the share of right rollouts among those with a verdict; each rollout's
    verdict stands in the document.

    Args:
        rows: what `attrib export` reads, ordered by question.
        sample_set: the row of the table `sample_sets`.
    """
    params = json.loads(sample_set["params"])
    arguments = {
        "temperature": params["temperature"],
        "top_p": params["top_p"],
        "max_gen_toks": params["max_new_tokens"],
        "do_sample": params["temperature"] > 0,
    }
    groups = rows.partition_by("question_id", maintain_order=True)
    for doc_id, group in enumerate(groups):
        first = group.row(0, named=True)
        document = {name: first[name] for name in ("question_id", "dataset", "question", "answers")}
        document |= {name: group[name].to_list() for name in ("verdict", "finish_reason")}
        graded = [verdict == "correct" for verdict in group["verdict"] if verdict in SCORE]
        texts = group["response"].to_list()
        scores = {"correct": sum(graded) / len(graded)} if graded else {}
        whole = json.dumps(document, indent=2, ensure_ascii=False)
        yield {
            "doc_id": doc_id,
            "doc": document,
            "target": first["answers"][0],
            "arguments": {"gen_args_0": {"arg_0": first["question"], "arg_1": arguments}},
            "resps": [texts],
            "filtered_resps": [texts],
            "filter": "none",
            "metrics": list(scores),
            "doc_hash": _hash(whole),
            "prompt_hash": _hash(first["question"]),
            "target_hash": _hash(first["answers"][0]),
            **scores,
        }


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
