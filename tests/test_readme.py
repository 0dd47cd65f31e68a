"""The README's commands, typed as they stand; variables make the study small."""

import re
import shlex
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

README = Path(__file__).parents[1] / "README.md"
SMALL = {
    "ATTRIB_SAMPLE_WHERE": "relation = 'continent'",
    "ATTRIB_SAMPLE_MAX_NEW_TOKENS": "4",
    "ATTRIB_SAMPLE_DEVICE": "cpu",
    "ATTRIB_ABLATE_DEVICE": "cpu",
    "ATTRIB_ABLATE_SEEDS": "1",
    "ATTRIB_ABLATE_BUDGET": "updates=1",
    "ATTRIB_ABLATE_GROUPS": "2",
    "ATTRIB_ABLATE_EVAL_LIMIT": "10",
    "ATTRIB_ABLATE_EVAL_SAMPLES": "2",
    "ATTRIB_ABLATE_COT_TOKENS": "4",
    "BROWSER": "true",
}


def test_the_commands_under_use_it(
    tmp_path: Path,
    continent_model: Path,
    start_attrib: Callable[..., subprocess.Popen[str]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name, value in {**SMALL, "ATTRIB_SAMPLE_MODEL": str(continent_model)}.items():
        monkeypatch.setenv(name, value)
    use_it = README.read_text(encoding="utf-8").partition("## Use it")[2]
    commands = re.findall(r"^attrib ([^#\n]+)", use_it.partition("```\n")[2], re.MULTILINE)
    assert [command.split()[0] for command in commands] == [
        *("sample", "bucket", "ablate", "analyze", "attribute", "report"),
    ]
    printed = []
    for command in commands:
        process = start_attrib(*shlex.split(command))
        stdout, stderr = process.communicate(timeout=240)
        assert process.returncode == 0, f"{command}: {stderr}"
        assert "Traceback" not in stderr
        printed.append(stdout)
    assert "0 of 128 means p < 2.3" in printed[1]
    assert "<!doctype html>" in (tmp_path / "study.html").read_text(encoding="utf-8").lower()
