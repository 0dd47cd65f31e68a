"""bergson builds its index from what is exported for it, and finds the gradients that we do."""

import json
import os
import shutil
import subprocess
from collections import defaultdict
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
from typer.testing import CliRunner

from attrib.attribution.groups import Group
from attrib.attribution.objective import Advantage, PolicyGradient
from attrib.attribution.policy import Policy
from attrib.cli import app
from attrib.sampling.models import load_model

bergson = pytest.importorskip("bergson.data", exc_type=ImportError)
ROLLOUTS = 16


def run_attrib(*arguments: object) -> None:
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert result.exit_code == 0, result.stderr


@pytest.fixture
def rollouts(graded_study: Path, continent_model: Path, tmp_path: Path) -> Path:
    """Return the rollouts of a small study with a full arm, as they are written for bergson."""
    db = shutil.copy(graded_study, tmp_path / "study.duckdb")
    run_attrib("bucket", "--db", db, "--k", 16)
    run_attrib(
        *("ablate", "--db", db, "--model", continent_model, "--subset-where", "subject < 'M'"),
        *("--role", "only", "--seeds", 1, "--budget", "updates=1", "--groups", 2),
        *("--eval-limit", 4, "--eval-samples", 0, "--cot-tokens", 0, "--device", "cpu"),
    )
    path = tmp_path / "rollouts.jsonl"
    run_attrib(
        *("attribute", "export", "--db", db, "--model", continent_model, "-o", path),
        *("--rollouts", ROLLOUTS, "--queries", tmp_path / "queries.jsonl"),
    )
    return path


def build(folder: Path, name: str, model: Path, data: Path, *flags: str) -> Path:
    """Let bergson build an index of whole gradients."""
    subprocess.run(
        [
            *("bergson", "build", name, "--model", model, "--dataset", data),
            *("--prompt_column", "prompt", "--completion_column", "completion", *flags),
            *("--projection_dim", "0", "--loss_reduction", "mean", "--token_batch_size", "512"),
        ],
        cwd=folder,
        env={**os.environ, "HF_HUB_OFFLINE": "1"},
        check=True,
        timeout=200,
    )
    return folder / name


def test_gradients_of_rollouts_are_ours(
    rollouts: Path, continent_model: Path, tmp_path: Path
) -> None:
    index = build(tmp_path, "index", continent_model, rollouts, "--reward_column", "reward")
    queries = build(tmp_path, "queries", continent_model, tmp_path / "queries.jsonl")
    assert json.loads((queries / "info.json").read_text())["num_items"] == 4
    rows = pl.read_ndjson(rollouts)
    places: dict[str, list[int]] = defaultdict(list)
    for place, question_id in enumerate(rows["question_id"]):
        places[question_id].append(place)
    theirs = np.array(bergson.load_gradients(index))
    sizes = json.loads((index / "info.json").read_text())["grad_sizes"]
    assert len(theirs) == len(rows)
    policy = Policy(load_model(str(continent_model), device="cpu"))
    compared = 0
    for question_id, own in places.items():
        group = as_group(question_id, rows[own])
        policy.module.zero_grad(set_to_none=True)
        PolicyGradient(policy, [group], advantage=Advantage.MEAN_ONLY).backward()
        if not group.has_both:
            assert not theirs[own].any()
            continue
        trained = {n.removeprefix("model."): w for n, w in policy.trained.items()}
        flat = torch.cat([trained[f"{name}.weight"].grad.reshape(-1) for name in sizes])
        ours = ROLLOUTS * flat.numpy()  # bergson leaves the mean over rollouts to its user
        largest = np.abs(ours).max()
        assert np.allclose(theirs[own].sum(axis=0), ours, atol=1e-3 * largest)
        compared += 1
    assert compared > 2


def as_group(question_id: str, rows: pl.DataFrame) -> Group:
    """Return a question's rollouts as training has them."""
    tokens, labels = rows["input_ids"].to_list(), rows["labels"].to_list()
    prompt = sum(label == -100 for label in labels[0])
    completions = tuple(tuple(one[prompt:]) for one in tokens)
    return Group(question_id, tuple(tokens[0][:prompt]), completions, rows["reward"].to_numpy() > 0)
