"""Where work is done: versions, commit and machine, for bug reports and beside what was made.

Owns the table `provenance`. What cannot be found out is said to be unknown; nothing here names the
host or the user.
"""

import functools
import json
import os
import platform
import shutil
import subprocess
from collections import Counter
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path

import polars as pl

from attrib.config import canonical_json, content_hash
from attrib.store import Transaction

PACKAGES = (
    *("torch", "transformers", "tokenizers", "vllm", "peft", "trl", "accelerate", "ray"),
    *("duckdb", "polars", "numpy", "scipy", "matplotlib", "typer", "pydantic"),
)
UNKNOWN = "unknown"
NOT_INSTALLED = "not installed"
_SECONDS = 10.0  # that another program may take to tell something


@functools.cache
def describe_environment() -> dict[str, str]:
    """Return the machine and the versions at work; it is found out once."""
    found = {
        "attrib": metadata.version("attrib"),
        "commit": find_commit(),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "processor": _find_processor(),
        "cores": str(os.cpu_count()),
        "memory": _find_memory(),
        "gpus": _find_gpus(),
    }
    for package in PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            found[package] = NOT_INSTALLED
    return found


def record_work(transaction: Transaction, made_id: str, command: str) -> None:
    """Store that `command` makes, or continues, what `made_id` names, here."""
    environment = describe_environment()
    row = {
        "made_id": made_id,
        "command": command,
        "environment_id": content_hash(environment),
        "environment": canonical_json(environment),
    }
    keys = ["made_id", "command", "environment_id"]
    transaction.append("provenance", pl.DataFrame([row]), unless_present=keys)


def find_commit() -> str:
    """Return the commit of the code that runs, with `-dirty` where files differ from it.

    It is that of the checkout which tracks this file, or of the one that pip installed from.
    """
    here = Path(__file__).resolve()
    git = ["git", "-C", str(here.parent)]
    if _ask([*git, "ls-files", "--error-unmatch", here.name]):  # not a repository around a .venv
        return _ask([*git, "describe", "--always", "--dirty", "--abbrev=40", "--match="]) or UNKNOWN
    try:
        installed = json.loads(metadata.distribution("attrib").read_text("direct_url.json") or "{}")
    except (metadata.PackageNotFoundError, ValueError):
        return UNKNOWN
    return str(installed.get("vcs_info", {}).get("commit_id", UNKNOWN))


def _find_processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        named = _ask(["sysctl", "-n", "machdep.cpu.brand_string"])
    else:
        named = next(
            (line.partition(":")[2] for line in lines if line.startswith("model name")), ""
        )
    return named.strip() or platform.processor() or platform.machine() or UNKNOWN


def _find_memory() -> str:
    try:
        size = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, OSError, ValueError):
        return UNKNOWN
    return f"{size / 2**30:.0f} GiB"


def _find_gpus() -> str:
    """Return `2 × NVIDIA H100 80GB HBM3`, or `none` where NVIDIA's driver tells of none."""
    names = _ask(["nvidia-smi", "--query-gpu=name", "--format=csv,noheader"]).splitlines()
    counts = Counter(name.strip() for name in names if name.strip())
    return ", ".join(f"{count} × {name}" for name, count in sorted(counts.items())) or "none"


def _ask(command: Sequence[str]) -> str:
    """Return what a program prints, '' where it is not there or fails."""
    if shutil.which(command[0]) is None:
        return ""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_SECONDS)
    except (OSError, subprocess.SubprocessError, UnicodeDecodeError):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""
