from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from tests.packaging.support import ROOT

if TYPE_CHECKING:
    from pathlib import Path

LAYER = ROOT / "scripts" / "lib" / "layer.py"


@pytest.mark.parametrize("command", ["beyond", "joined"])
def test_layer_keeps_every_version_that_a_marker_chooses_between(command: str, tmp_path: Path) -> None:
    below, whole = tmp_path / "below.txt", tmp_path / "whole.txt"
    below.write_text("aiohttp==3.14.0 \\\n    --hash=sha256:00\n")
    versions = (
        "scipy==1.17.1 ; python_full_version < '3.12' \\\n    --hash=sha256:01\n"
        "scipy==1.18.1 ; python_full_version >= '3.12' \\\n    --hash=sha256:02\n"
    )
    whole.write_text(f"aiohttp==3.14.0 \\\n    --hash=sha256:00\n{versions}")
    done = subprocess.run(
        [sys.executable, LAYER, command, below, whole], capture_output=True, text=True, check=True
    )
    assert versions in done.stdout
    assert ("aiohttp" in done.stdout) is (command == "joined")
