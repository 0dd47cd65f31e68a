"""The wheel: one import name, everything that runs, and nothing else."""

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FOLDERS = ("attrib", "data", "sampling", "analysis", "attribution", "reports", "tests")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    """Build the wheel from a copy of the sources, without a network."""
    pytest.importorskip("build", reason="pip install 'attrib[dev]' brings what builds wheels")
    setuptools = pytest.importorskip("setuptools", reason="setuptools>=77 builds the wheel")
    if int(setuptools.__version__.split(".")[0]) < 77:
        pytest.skip(f"setuptools {setuptools.__version__} is older than 77")
    source = tmp_path_factory.mktemp("source")
    for folder in FOLDERS:
        ignore = shutil.ignore_patterns("__pycache__", "*.egg-info")
        shutil.copytree(ROOT / folder, source / folder, ignore=ignore)
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source / name)
    subprocess.run(
        [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", "dist", "."],
        cwd=source,
        check=True,
        capture_output=True,
    )
    [file] = (source / "dist").glob("*.whl")
    return zipfile.ZipFile(file)


def test_one_import_name_is_installed(wheel: zipfile.ZipFile) -> None:
    top = {name.split("/")[0] for name in wheel.namelist()}
    assert {name for name in top if not name.endswith(".dist-info")} == {"attrib"}


def test_every_module_and_data_file_is_in_it(wheel: zipfile.ZipFile) -> None:
    wanted = {
        f"{'attrib' if folder == 'attrib' else f'attrib/{folder}'}/{file.name}"
        for folder in FOLDERS
        if folder != "tests"
        for file in (ROOT / folder).glob("*.py")
    }
    wanted |= {
        f"attrib/{folder}/{file.name}"
        for folder in ("migrations", "presets")
        for file in (ROOT / "attrib" / folder).iterdir()
    }
    wanted |= {
        f"attrib/reports/templates/{file.name}" for file in (ROOT / "reports/templates").iterdir()
    }
    wanted |= {"attrib/data/worldfacts.csv", "attrib/data/DATA_CARD.md", "attrib/py.typed"}
    assert wanted <= set(wheel.namelist())


def test_nothing_else_is_in_it(wheel: zipfile.ZipFile) -> None:
    names = [name for name in wheel.namelist() if ".dist-info/" not in name]
    assert [name for name in names if "test" in name or "conftest" in name] == []
    assert sum(wheel.getinfo(name).file_size for name in names) < 4_000_000


def test_what_was_unpacked_runs(wheel: zipfile.ZipFile, tmp_path: Path) -> None:
    wheel.extractall(tmp_path / "site")
    program = (
        "import attrib, pathlib\n"
        "from attrib.data.library import import_dataset\n"
        "from attrib.store import Store\n"
        "store = Store(pathlib.Path('study.duckdb'))\n"
        "with store.writing('test'): import_dataset(store, 'worldfacts')\n"
        "print(attrib.__file__)\n"
        "print(store.read('SELECT count(*) FROM questions').item())\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(tmp_path / "site")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stderr == ""
    place, questions = done.stdout.split()
    assert Path(place).is_relative_to(tmp_path)
    assert int(questions) > 6000
