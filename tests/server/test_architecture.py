"""Imports go in one direction only, and never in a circle."""

from __future__ import annotations

import ast
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).resolve().parents[2]
# Where each package lies.
PACKAGES = {"clap_server": ROOT / "addon", "clap_evaluation": ROOT / "evaluation", "training": ROOT}

# What each part of the server, be it a folder or a module, may import from, besides itself and errors.
# Engines are compared and calibration is fitted on synthesised sounds, self-tests are made with them. The
# command line sits on top.
ALLOWED: dict[str, set[str]] = {
    "errors": set(),
    "synthesis": set(),
    "clap": {"synthesis"},
    "audio": set(),
    "logs": {"audio"},
    "settings": set(),
    "detection": {"clap", "audio", "synthesis"},
    "listening": {"clap", "audio", "detection", "synthesis"},
    "store": {"clap", "audio", "detection", "listening"},
    "api": {"clap", "audio", "detection", "listening", "store", "settings"},
    "cli": {"clap", "audio", "detection", "store", "api", "settings", "logs"},
    "__main__": {"cli"},
}


def module_of(path: Path) -> str:
    """The name of a module by its file."""
    package = next(name for name, folder in PACKAGES.items() if path.is_relative_to(folder / name))
    parts = path.relative_to(PACKAGES[package]).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


FILES = {
    module_of(path): path
    for name, folder in PACKAGES.items()
    for path in sorted((folder / name).rglob("*.py"))
}


def names(path: Path) -> Iterator[str]:
    """Everything that a file imports, also within functions and for types only."""
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            assert node.module is not None
            # `from clap_server import detection` imports a module, `from ... import Name` imports from one.
            for alias in node.names:
                whole = f"{node.module}.{alias.name}"
                yield whole if whole in FILES else node.module


IMPORTS = {module: sorted(set(names(path)) - {module}) for module, path in FILES.items()}


def part_of(module: str) -> str:
    """The folder or module of the server that a module belongs to; empty for the package itself."""
    return module.split(".")[1] if "." in module else ""


def test_there_is_something_to_check() -> None:
    parts = {part_of(module) for module in FILES if module.startswith("clap_server")} - {""}
    assert parts == set(ALLOWED)
    assert "clap_server.clap.model" in IMPORTS["clap_server.detection.scoring"]
    assert "clap_server.settings" in IMPORTS["clap_server.api.server"]
    assert "clap_server.synthesis" in IMPORTS["clap_server.detection.everyday.making"]


@pytest.mark.parametrize("part", ALLOWED)
def test_a_part_of_the_server_imports_only_from_those_before_it(part: str) -> None:
    for module, imports in IMPORTS.items():
        if module.startswith("clap_server.") and part_of(module) == part:
            found = {part_of(name) for name in imports if name.split(".")[0] == "clap_server"}
            wrong = found - ALLOWED[part] - {part, "errors", ""}
            assert not wrong, f"{module} imports from {', '.join(sorted(wrong))}"


@pytest.mark.parametrize(
    ("package", "allowed"),
    [
        ("clap_server", set()),
        ("clap_evaluation", {"clap_server"}),
        ("training", {"clap_server", "clap_evaluation"}),
    ],
)
def test_a_package_imports_only_from_those_before_it(package: str, allowed: set[str]) -> None:
    ours = {*PACKAGES, "benchmarks", "scripts", "tests", "custom_components"}
    for module, imports in IMPORTS.items():
        if module.split(".")[0] == package:
            wrong = {name.split(".")[0] for name in imports} & ours - {package} - allowed
            assert not wrong, f"{module} imports from {', '.join(sorted(wrong))}"


def test_no_modules_import_each_other_in_a_circle() -> None:
    try:
        TopologicalSorter({module: set(found) & set(FILES) for module, found in IMPORTS.items()}).prepare()
    except CycleError as error:
        pytest.fail(" imports ".join(reversed(error.args[1])))
