"""The layers of DESIGN.md: who may import whom, read off the source of every module."""

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

import pytest

PACKAGES = ("data", "sampling", "analysis", "attribution", "reports")
BASE = {
    "errors",
    "config",
    "environment",
    "files",
    "plugins",
    "roles",
    "settings",
    "store",
    "progress",
    "cluster",
}
ALLOWED: dict[str, set[str]] = {
    "errors": set(),
    "roles": set(),
    "progress": {"progress_bar"},
    "progress_bar": {"progress"},
    "interruption": set(),
    "plugins": {"errors"},
    "config": {"errors"},
    "files": {"errors"},
    "settings": {"config", "errors"},
    "store": {"errors"},
    "environment": {"config", "store"},
    "cluster": {"errors", "progress", "settings"},
    "data": {"data", *BASE},
    "analysis": {"analysis", "errors"},
    "sampling": {"sampling", "data", "analysis", *BASE},
    "attribution": {"attribution", "sampling", "data", "analysis", *BASE},
    "analyses": {"attribution", "analysis", "errors", "roles", "settings", "store"},
    "reports": {"reports", "analyses", "data", "analysis", *BASE},
}
COMMAND_LINE = {
    "",
    "__main__",
    "ablate_command",
    "analyze_command",
    "attribute_command",
    "cli",
    "command_group",
    "data_command",
    "exporting",
    "grade_command",
    "handle",
    "inspection",
    "options",
    "output",
    "output_command",
    "run_command",
    "sample_logs",
    "study",
    "tables",
    "tables_analysis",
    "tables_attribution",
    "tables_data",
}
"""The uppermost layer, which may import everything; the empty name is `attrib` itself."""

ONLY_IN = {
    "duckdb": {"attrib.store"},
    "filelock": {"attrib.store", "attrib.sampling.models"},
    "matplotlib": {"attrib.reports.*"},
    "typer": {
        "attrib.ablate_command",
        "attrib.analyze_command",
        "attrib.attribute_command",
        "attrib.cli",
        "attrib.command_group",
        "attrib.data_command",
        "attrib.grade_command",
        "attrib.options",
        "attrib.output_command",
        "attrib.run_command",
    },
    "peft": {"attrib.attribution.policy"},
    "trl": {"attrib.attribution.trl_worker"},
    "datasets": {"attrib.attribution.trl_worker"},
    "accelerate": {"attrib.attribution.trl_worker", "attrib.attribution.trl_checks"},
    "ray": {
        "attrib.cluster",
        "attrib.sampling.cluster_sampling",
        "attrib.attribution.cluster_arms",
    },
    "torch": {"attrib.sampling.*", "attrib.attribution.*"},
    "transformers": {"attrib.sampling.*", "attrib.attribution.*"},
    "pandas": set(),
    "requests": set(),
}


@dataclass(frozen=True)
class Import:
    """One name imported by one module."""

    importer: str
    line: int
    target: str


def read_modules() -> dict[str, ast.Module]:
    """Return the syntax tree of every module of attrib, from the files that are imported."""
    modules = {}
    for package in ("", *PACKAGES):
        folder = Path(str(resources.files(".".join(filter(None, ["attrib", package])))))
        for file in sorted(folder.glob("*.py")):
            name = ".".join(filter(None, ["attrib", package, file.stem])).removesuffix(".__init__")
            modules[name] = ast.parse(file.read_text(encoding="utf-8"), str(file))
    return modules


MODULES = read_modules()


def find_imports(name: str, tree: ast.Module) -> Iterator[Import]:
    """Yield what a module imports, lazily imported names included; relative imports as a dot."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield Import(name, node.lineno, alias.name)
        elif isinstance(node, ast.ImportFrom):
            module = "." * node.level + (node.module or "")
            for alias in node.names:
                whole = f"{module}.{alias.name}"
                yield Import(name, node.lineno, whole if whole in MODULES else module)


def layer_of(module: str) -> str:
    """Return the second part of a dotted name: a package, or a module of the root package."""
    return module.removeprefix("attrib").strip(".").split(".")[0]


def find_violations(imports: list[Import]) -> list[Import]:
    """Return the imports that go up or sideways."""
    return [
        found
        for found in imports
        if found.target.split(".")[0] == "attrib"
        and found.target != "attrib"  # `attrib.__version__`
        and layer_of(found.importer) not in COMMAND_LINE
        and layer_of(found.target) not in ALLOWED[layer_of(found.importer)]
    ]


def every_import() -> list[Import]:
    return [found for name, tree in MODULES.items() for found in find_imports(name, tree)]


def test_every_module_is_seen_and_has_a_layer() -> None:
    assert len(MODULES) > 30
    assert {layer_of(name) for name in MODULES} == {*ALLOWED, *COMMAND_LINE}


def test_imports_go_downwards_only() -> None:
    assert find_violations(every_import()) == []


@pytest.mark.parametrize(
    "line",
    [
        "from attrib.store import Store",
        "from attrib import store",
        "import attrib.sampling.tree",
        "def f():\n    from attrib.sampling import tree",
    ],
)
def test_the_check_sees_an_upward_import(line: str) -> None:
    assert find_violations(list(find_imports("attrib.analysis.passk", ast.parse(line))))


def test_imports_are_absolute() -> None:
    assert [found for found in every_import() if found.target.startswith(".")] == []


@pytest.mark.parametrize("package", ONLY_IN)
def test_a_package_is_used_only_where_it_is_wrapped(package: str) -> None:
    places = {found.importer for found in every_import() if found.target.split(".")[0] == package}
    allowed = ONLY_IN[package]
    strangers = {
        place
        for place in places
        if place not in allowed and f"{place.rpartition('.')[0]}.*" not in allowed
    }
    assert strangers == set()


def test_models_are_loaded_in_one_module() -> None:
    loaders = {
        name
        for name, tree in MODULES.items()
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and node.attr == "from_pretrained"
    }
    assert loaders == {"attrib.sampling.models"}


def test_remote_code_is_never_trusted() -> None:
    values = [
        node.value
        for tree in MODULES.values()
        for node in ast.walk(tree)
        if isinstance(node, ast.keyword) and node.arg == "trust_remote_code"
    ]
    assert values
    assert all(isinstance(value, ast.Constant) and value.value is False for value in values)
