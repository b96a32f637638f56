"""Folders import in one direction only."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import clap_server

PACKAGE = Path(clap_server.__file__).parent
MODULES = sorted(PACKAGE.rglob("*.py"))

# What each folder may import from, besides itself. Calibration is fitted on synthesised sounds. Folders
# that are not listed (evaluation, cli) sit on top.
ALLOWED: dict[str, set[str]] = {
    "clap": set(),
    "audio": set(),
    "synthesis": set(),
    "detection": {"clap", "audio", "synthesis"},
    "listening": {"clap", "audio", "detection"},
    "store": {"clap", "audio", "detection", "listening"},
    "api": {"clap", "audio", "detection", "listening", "store"},
}


def imported(path: Path) -> Iterator[str]:
    """Every module that a file imports, also within functions and for types only."""
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            assert node.module is not None
            yield node.module
            # `from clap_server import detection` imports a folder too.
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def folders(path: Path) -> set[str]:
    """The folders of this package that a file imports from."""
    names = (name.split(".") for name in imported(path))
    return {
        parts[1]
        for parts in names
        if parts[0] == "clap_server" and len(parts) > 1 and (PACKAGE / parts[1]).is_dir()
    }


def test_there_is_something_to_check() -> None:
    assert {path.relative_to(PACKAGE).parts[0] for path in MODULES} >= set(ALLOWED)
    assert "clap" in folders(PACKAGE / "detection" / "scoring.py")


@pytest.mark.parametrize("folder", ALLOWED)
def test_a_folder_imports_only_from_those_before_it(folder: str) -> None:
    for path in sorted((PACKAGE / folder).rglob("*.py")):
        wrong = folders(path) - ALLOWED[folder] - {folder}
        assert not wrong, f"{path.relative_to(PACKAGE)} imports from {', '.join(sorted(wrong))}"


def test_the_server_never_imports_what_made_its_model() -> None:
    for path in MODULES:
        roots = {name.split(".")[0] for name in imported(path)}
        assert not roots & {"training", "benchmarks", "tests"}, path


def test_synthesis_imports_nothing_of_ours() -> None:
    for path in sorted((PACKAGE / "synthesis").rglob("*.py")):
        ours = {name for name in imported(path) if name.split(".")[0] == "clap_server"}
        assert all(name.startswith("clap_server.synthesis") for name in ours), path
