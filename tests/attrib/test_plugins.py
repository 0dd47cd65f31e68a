"""Engines, graders and trainers of another package, as docs/extending.md adds them."""

import os
import re
import subprocess
import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest

from attrib.errors import ConfigError
from attrib.plugins import GRADERS, load_plugin
from attrib.sampling.graders import make_grader
from attrib.store import Store

PAGE = Path(__file__).parents[2] / "docs/extending.md"
Start = Callable[..., subprocess.Popen[str]]


def install(folder: Path, graders: str = "") -> None:
    """Put the package of the page into a folder, with the metadata that pip would write."""
    page = PAGE.read_text(encoding="utf-8")
    [settings] = re.findall(r"```toml\n(.*?)```", page, re.DOTALL)
    entry_points = tomllib.loads(settings)["project"]["entry-points"]
    lines = []
    for group, points in entry_points.items():
        lines += [f"[{group}]", *(f"{name} = {target}" for name, target in points.items())]
        lines += [graders] * (group == GRADERS)
    metadata = folder / "my_attrib-0.1.dist-info"
    metadata.mkdir(parents=True)
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: my-attrib\nVersion: 0.1\n")
    (metadata / "entry_points.txt").write_text("\n".join(lines))
    for name, code in re.findall(r'```python\n("""(?:my_attrib/\w+\.py).*?)```()', page, re.DOTALL):
        [file] = re.findall(r"my_attrib/(\w+\.py)", name)[:1]
        (folder / "my_attrib").mkdir(exist_ok=True)
        (folder / "my_attrib" / file).write_text(name + code, encoding="utf-8")


def run(start: Start, *command: object) -> None:
    process = start(*command)
    _, stderr = process.communicate(timeout=120)
    assert process.returncode == 0, stderr


def test_a_study_with_an_engine_a_grader_and_a_trainer_from_outside(
    tmp_path: Path,
    continent_model: Path,
    start_attrib: Start,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    folder = tmp_path / "site"
    install(folder)
    monkeypatch.setenv("PYTHONPATH", str(folder), prepend=os.pathsep)
    sample = ("--n", 16, "--limit", 30, "--where", "relation = 'continent'", "--device", "cpu")
    run(
        *(start_attrib, "sample", "--engine", "plain", "--model", continent_model),
        *(*sample, "--max-new-tokens", 4),
    )
    run(start_attrib, "bucket", "--k", 16, "--grader", "prefix")
    run(
        *(start_attrib, "ablate", "--trainer", "sgd", "--subset", "never-correct"),
        *("--role", "only", "--budget", "updates=3", "--groups", 4, "--group-size", 8),
        *("--seeds", 1, "--eval-samples", 0, "--cot-tokens", 0, "--device", "cpu"),
    )
    store = Store(tmp_path / "attrib.duckdb")
    [(engine, reproducible, drawn)] = store.read(
        "SELECT engine, reproducible, (SELECT count(*) FROM rollouts) FROM sample_sets"
    ).rows()
    assert (engine, reproducible, drawn) == ("plain", False, 30 * 16)
    assert store.read("SELECT DISTINCT grader FROM verdicts").rows() == [("prefix-1",)]
    arms = "role, status, updates, params->>'trainer' FROM arms WHERE role <> 'base' ORDER BY role"
    assert store.read(f"SELECT {arms}").rows() == [
        ("full", "done", 3, "sgd"),
        ("only", "done", 3, "sgd"),
    ]
    [(visits, weight)] = store.read("SELECT count(*), sum(gradient_weight) FROM visits").rows()
    assert visits == 2 * 3 * 4
    assert weight > 0


class TestWhatIsRefused:
    @pytest.fixture(autouse=True)
    def installed(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        install(tmp_path, "broken = my_attrib.nowhere:make\nnameless = my_attrib.grader:make")
        monkeypatch.syspath_prepend(str(tmp_path))

    def test_a_name_that_nothing_has(self) -> None:
        with pytest.raises(ConfigError, match=r"no grader 'x'\. .*match, exact, judge, .*prefix"):
            make_grader("x", [])

    def test_what_cannot_be_imported(self) -> None:
        with pytest.raises(ConfigError, match=r"'broken' \(my_attrib.nowhere:make\) cannot be"):
            load_plugin(GRADERS, "broken", ())

    def test_a_fingerprint_that_does_not_lead_back(self) -> None:
        with pytest.raises(ConfigError, match="'prefix-1', which must begin with 'nameless-'"):
            make_grader("nameless", [])

    def test_one_that_is_well(self) -> None:
        assert make_grader("prefix", []).fingerprint == "prefix-1"
