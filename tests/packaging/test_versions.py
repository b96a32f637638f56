"""One version everywhere, so that nobody installs halves that do not fit."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

import pytest

import clap_server
from tests.packaging.support import ADDON, INTEGRATION, ROOT, load_yaml

if TYPE_CHECKING:
    from pathlib import Path


def newest_in(changelog: Path) -> str:
    found = re.search(r"^## \[?([0-9][^\]\s]*)\]?", changelog.read_text(encoding="utf-8"), re.MULTILINE)
    assert found, f"{changelog.name} names no version"
    return found[1]


def test_app_and_server_have_the_same_version() -> None:
    assert load_yaml(ADDON / "config.yaml")["version"] == clap_server.__version__


def test_integration_and_server_have_the_same_version() -> None:
    manifest = json.loads((INTEGRATION / "manifest.json").read_text(encoding="utf-8"))
    assert manifest["version"] == clap_server.__version__


def test_environment_of_the_repository_has_the_same_version() -> None:
    assert f'version = "{clap_server.__version__}"' in (ROOT / "pyproject.toml").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    "changelog", [ROOT / "CHANGELOG.md", ADDON / "CHANGELOG.md"], ids=["repository", "app"]
)
def test_changelogs_begin_with_this_version(changelog: Path) -> None:
    assert newest_in(changelog) == clap_server.__version__


def test_app_hacs_and_integration_want_the_same_home_assistant() -> None:
    wanted = json.loads((ROOT / "hacs.json").read_text(encoding="utf-8"))["homeassistant"]
    assert load_yaml(ADDON / "config.yaml")["homeassistant"] == wanted


def test_addresses_of_the_project_agree() -> None:
    manifest = json.loads((INTEGRATION / "manifest.json").read_text(encoding="utf-8"))
    url = load_yaml(ROOT / "repository.yaml")["url"]
    assert load_yaml(ADDON / "config.yaml")["url"] == url
    assert manifest["documentation"].startswith(url)
    assert manifest["issue_tracker"].startswith(url)
