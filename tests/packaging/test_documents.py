"""README, docs and workflows: links lead somewhere, commands exist."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import pytest

from clap_server.api.app import ROUTES
from clap_server.detection.labels import LabelKind
from clap_server.detection.library import load_library
from tests.packaging.support import ROOT, load_yaml, tracked

if TYPE_CHECKING:
    from pathlib import Path

DOCUMENTS = [path for path in tracked() if path.suffix == ".md"]
WORKFLOWS = [path for path in tracked(".github/workflows") if path.suffix == ".yaml"]
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)|(?:src|srcset)=\"([^\"]+)\"")


def name(path: Path) -> str:
    return str(path.relative_to(ROOT))


def anchors(document: Path) -> set[str]:
    """Anchors of the headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", document.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("document", DOCUMENTS, ids=name)
def test_links_within_the_repository_lead_somewhere(document: Path) -> None:
    for groups in LINK.findall(document.read_text(encoding="utf-8")):
        target = groups[0] or groups[1]
        if re.match(r"^[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        file = (document.parent / path).resolve() if path else document
        assert file.exists(), f"{name(document)}: {target}"
        if anchor and file.suffix == ".md":
            assert anchor in anchors(file), f"{name(document)}: {target}"


@pytest.mark.parametrize("document", DOCUMENTS, ids=name)
def test_scripts_that_documents_name_exist(document: Path) -> None:
    for script in re.findall(
        r"(?<![\w/])scripts/([a-z][\w-]*)(?![\w/.])", document.read_text(encoding="utf-8")
    ):
        assert (ROOT / "scripts" / script).exists(), f"{name(document)}: scripts/{script}"


@pytest.mark.parametrize(
    ("document", "words"),
    [
        ("README.md", "read microphones, and events with their scores,"),
        ("addon/DOCS.md", "read microphones, and events with their scores,"),
        ("addon/translations/en.yaml", "read microphones, and events with their scores,"),
        ("addon/translations/zh-Hans.yaml", "以及事件及其评分"),
    ],
)
def test_scripts_of_trusted_networks_are_promised_no_live_scores(document: str, words: str) -> None:
    trusted = {route.path for route in ROUTES if route.trusted}
    assert {"/api/microphones", "/api/events"} <= trusted
    assert {"/api/microphones/{id}/explain", "/api/ws"} & trusted == set()
    assert words in " ".join((ROOT / document).read_text(encoding="utf-8").split())


def test_licence_is_the_whole_apache_licence() -> None:
    text = (ROOT / "LICENSE").read_text(encoding="utf-8")
    assert "Apache License" in text
    assert "END OF TERMS AND CONDITIONS" in text


def jobs() -> list[Any]:
    found = []
    for workflow in WORKFLOWS:
        for job, body in load_yaml(workflow)["jobs"].items():
            found.append(pytest.param(body, id=f"{workflow.stem}-{job}"))
    return found


@pytest.mark.parametrize("workflow", WORKFLOWS, ids=name)
def test_workflows_have_no_rights_but_those_that_a_job_asks_for(workflow: Path) -> None:
    assert load_yaml(workflow)["permissions"] == {}


@pytest.mark.parametrize("job", jobs())
def test_jobs_ask_for_few_rights_and_end_by_themselves(job: dict[str, Any]) -> None:
    allowed = {("contents", "read"), ("packages", "write")}
    assert set(job["permissions"].items()) <= allowed
    assert job["timeout-minutes"] <= 60


@pytest.mark.parametrize("job", jobs())
def test_actions_are_pinned_and_keep_no_token(job: dict[str, Any]) -> None:
    for step in job["steps"]:
        uses = step.get("uses")
        if not uses:
            continue
        assert re.search(r"@(v\d[\w.]*|master|main)$", uses), uses
        if uses.startswith("actions/checkout@"):
            assert step["with"]["persist-credentials"] is False


def test_documents_name_the_labels_that_there_are() -> None:
    library = load_library()
    detection = (ROOT / "docs" / "detection.md").read_text(encoding="utf-8")
    table = re.search(r"^## The library$(.*?)^## ", detection, re.MULTILINE | re.DOTALL)
    assert table
    row = {kind: re.search(rf"^\| {kind} \|(.*)\|(.*)\|$", table[1], re.MULTILINE) for kind in LabelKind}
    for kind, cells in row.items():
        assert cells
        for cell, security in zip(cells.groups(), (True, False), strict=True):
            expected = {
                label.id for label in library.labels if (label.kind, label.security) == (kind, security)
            }
            assert set(cell.replace(" ", "").split(",")) == expected
    assert f"a bank of {len(library.background)} everyday sounds" in detection
    assert f"has {len(library.labels)}, in" in (ROOT / "README.md").read_text(encoding="utf-8")
