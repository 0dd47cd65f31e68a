"""Machine, versions and commit, and that they are recorded once for each combination."""

import os
import platform
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from attrib import environment
from attrib.environment import describe_environment, find_commit, record_work
from attrib.store import Store

NEEDS_GIT = pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed")


@pytest.fixture(autouse=True)
def found_out_again() -> Iterator[None]:
    describe_environment.cache_clear()
    yield
    describe_environment.cache_clear()


def git(folder: Path, *words: str) -> str:
    who = ["-c", "user.name=a", "-c", "user.email=a@b"]
    done = subprocess.run(
        ["git", "-C", str(folder), *who, *words], check=True, capture_output=True, text=True
    )
    return done.stdout.strip()


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a repository of which the module is made to believe that it is a part."""
    git(tmp_path, "init", "--quiet")
    module = tmp_path / "attrib" / "environment.py"
    module.parent.mkdir()
    module.write_text("one = 1\n")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "--quiet", "--message", "first")
    monkeypatch.setattr(environment, "__file__", str(module))
    return tmp_path


def test_machine_and_versions_are_there_but_no_names_of_host_or_user() -> None:
    found = describe_environment()
    assert found["python"] == platform.python_version()
    assert found["cores"] == str(os.cpu_count())
    assert all(found[key] for key in ("attrib", "commit", "processor", "memory", "gpus", "torch"))
    assert platform.node() not in " ".join(found.values())
    assert found is describe_environment()


@NEEDS_GIT
def test_the_commit_is_that_of_the_checkout(checkout: Path) -> None:
    commit = git(checkout, "rev-parse", "HEAD")
    assert find_commit() == commit
    git(checkout, "tag", "v1")
    assert find_commit() == commit
    (checkout / "attrib" / "environment.py").write_text("one = 2\n")
    assert find_commit() == f"{commit}-dirty"


@NEEDS_GIT
def test_a_repository_around_the_installation_is_not_ours(
    checkout: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stranger = checkout / ".venv" / "environment.py"
    stranger.parent.mkdir()
    stranger.write_text("one = 1\n")
    monkeypatch.setattr(environment, "__file__", str(stranger))
    assert find_commit() != git(checkout, "rev-parse", "HEAD")


def test_gpus_are_counted_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "nvidia-smi"
    program.write_text("#!/bin/sh\necho 'NVIDIA H100'\necho 'NVIDIA H100'\necho 'NVIDIA L4'\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    assert describe_environment()["gpus"] == "2 × NVIDIA H100, 1 × NVIDIA L4"
    program.write_text("#!/bin/sh\necho 'no driver'\nexit 9\n")
    describe_environment.cache_clear()
    assert describe_environment()["gpus"] == "none"


def test_work_is_recorded_once_for_each_command_and_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Store(tmp_path / "study.duckdb")
    with store.writing("attrib test"), store.transaction() as transaction:
        for command in ("attrib sample", "attrib sample", "attrib sample --n 256"):
            record_work(transaction, "s0", command)
        monkeypatch.setattr(environment, "describe_environment", lambda: {"python": "4.0"})
        record_work(transaction, "s0", "attrib sample")
    rows = store.read(
        "SELECT command, environment ->> 'python' AS python FROM provenance ORDER BY ALL"
    ).rows()
    here = platform.python_version()
    assert rows == [
        ("attrib sample", here),
        ("attrib sample", "4.0"),
        ("attrib sample --n 256", here),
    ]
