"""The integration's modules depend on each other in one direction."""

from __future__ import annotations

import ast
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

import custom_components.clap_sound

ROOT = Path(custom_components.clap_sound.__file__).parent


def imported(module: tuple[str, ...], path: Path) -> set[tuple[str, ...]]:
    """Return the modules of the integration that one imports, for types alone or not."""
    package = module if path.name == "__init__.py" else module[:-1]
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.level:
            base = (*package[: len(package) - node.level + 1], *(node.module or "").split("."))
            base = tuple(part for part in base if part)
            found |= {base, *((*base, alias.name) for alias in node.names)}
    return found


def modules() -> dict[tuple[str, ...], set[tuple[str, ...]]]:
    paths = {
        tuple(part for part in path.relative_to(ROOT).with_suffix("").parts if part != "__init__"): path
        for path in ROOT.rglob("*.py")
    }
    return {module: (imported(module, path) & paths.keys()) - {module} for module, path in paths.items()}


def test_no_module_depends_on_itself_by_way_of_others() -> None:
    graph = modules()
    assert ("coordinator",) in graph["entity",], "imports are seen"
    assert ("client", "models") in graph["client", "client"]
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(" imports ".join(".".join(module) for module in reversed(error.args[1])))
