"""The checklist of Home Assistant's quality scale is whole, and its documents stay true."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[2]
INTEGRATION = ROOT / "custom_components" / "clap_sound"
SETTINGS = ROOT / "docs" / "integration.md"
OPEN = {"discovery", "discovery-update-info"}


def rules() -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((INTEGRATION / "quality_scale.yaml").read_text())["rules"]
    return found


def test_every_rule_is_met_or_exempt_with_a_reason() -> None:
    assert {rule for rule, state in rules().items() if state == "todo"} == OPEN
    for rule, state in rules().items():
        if rule in OPEN or state == "done":
            continue
        assert state["status"] == "exempt", rule
        assert len(state["comment"]) > 20, rule


def settings() -> Iterator[str]:
    """Names of all fields of all forms."""
    english = json.loads((INTEGRATION / "translations" / "en.json").read_text(encoding="utf-8"))
    microphone = english["config_subentries"]["microphone"]
    for step in (*english["config"]["step"].values(), *microphone["step"].values()):
        for form in (step, *step.get("sections", {}).values()):
            yield from form.get("data", {}).values()
    yield from (field["name"] for field in english["selector"]["labels"]["fields"].values())


@pytest.mark.parametrize("name", sorted(set(settings()) - {"Sound"}))
def test_every_setting_is_documented(name: str) -> None:
    rows = [line for line in SETTINGS.read_text(encoding="utf-8").splitlines() if line.startswith("| ")]
    assert any(name in line.split("|")[1] for line in rows)
