"""The tools themselves read what `attrib export` writes; skipped where they are not installed."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result
from typer.testing import CliRunner

from attrib.cli import app


@pytest.fixture
def export(graded_study: Path, tmp_path: Path) -> Callable[[str, str], Path]:
    """Return `export(name, format)`, which writes the rollouts of a small study."""

    def write(name: str, kind: str) -> Path:
        arguments = ("export", "--db", graded_study, "--format", kind, "-o", tmp_path / name)
        result: Result = CliRunner().invoke(app, [str(argument) for argument in arguments])
        assert result.exit_code == 0, result.stderr
        return tmp_path / name

    return write


def responses_in(log: Any) -> dict[tuple[str, int], str]:
    """Return the response to each sample; inspect_ai orders them in its own way."""
    return {(sample.id, sample.epoch): sample.output.completion for sample in log.samples}


def test_inspect_reads_the_log(export: Callable[[str, str], Path]) -> None:
    inspect_log = pytest.importorskip("inspect_ai.log", exc_type=ImportError)
    file = export("log.json", "inspect")
    raw = json.loads(file.read_text())
    log = inspect_log.read_eval_log(str(file))
    assert (log.status, log.version, log.eval.model) == ("success", 2, raw["eval"]["model"])
    assert log.eval.dataset.samples == 12
    assert len(log.samples) == log.results.total_samples == 12 * 16
    for sample, row in zip(log.samples, raw["samples"], strict=True):
        assert (sample.id, sample.epoch) == (row["id"], row["epoch"])
        assert sample.output.completion == row["messages"][1]["content"]
        assert sample.messages[-1].text == sample.output.completion
        assert sample.output.choices[0].stop_reason in ("stop", "max_tokens")
        assert sample.scores["match"].value in ("C", "I")
    assert {sample.scores["match"].value for sample in log.samples} == {"C", "I"}
    inspect_log.write_eval_log(log, str(file.with_suffix(".eval")))
    again = inspect_log.read_eval_log(str(file.with_suffix(".eval")))
    assert responses_in(again) == responses_in(log)


def test_lm_eval_knows_the_lines(export: Callable[[str, str], Path]) -> None:
    schema = pytest.importorskip("lm_eval.result_schema", exc_type=ImportError)
    from lm_eval.utils import hash_string
    from pydantic import TypeAdapter

    lines = [json.loads(line) for line in export("log.jsonl", "lm-eval").read_text().splitlines()]
    assert [line["doc_id"] for line in lines] == list(range(12))
    adapter = TypeAdapter(schema.SampleResult)
    for line in lines:
        adapter.validate_python(line)
        assert len(line["resps"][0]) == len(line["doc"]["verdict"]) == 16
        assert line["correct"] == line["doc"]["verdict"].count("correct") / 16
        assert line["prompt_hash"] == hash_string(line["arguments"]["gen_args_0"]["arg_0"])
        assert line["target_hash"] == hash_string(line["target"])
        document = json.dumps(line["doc"], indent=2, ensure_ascii=False)
        assert line["doc_hash"] == hash_string(document)
