"""Lock files: each package is committed once, and what runs holds nothing that only developers need."""

from __future__ import annotations

import re
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from tests.packaging.support import ADDON, ROOT, tracked

if TYPE_CHECKING:
    from pathlib import Path

LAYER = ROOT / "scripts" / "lib" / "layer.py"
SERVER = ADDON / "requirements" / "server.txt"
DENOISE = ADDON / "requirements" / "denoise.txt"
DEVICES = ADDON / "requirements" / "devices.txt"
ENGINES = ADDON / "requirements" / "engines.txt"
HOME_ASSISTANT = ROOT / "requirements" / "home-assistant.txt"
DEVELOPMENT = {
    SERVER: ROOT / "requirements" / "server-dev.txt",
    HOME_ASSISTANT: ROOT / "requirements" / "home-assistant-dev.txt",
}


def pins(file: Path) -> set[str]:
    return set(re.findall(r"^[\w.-]+==\S+", file.read_text(encoding="utf-8"), re.MULTILINE))


def names(file: Path) -> set[str]:
    return {pin.partition("==")[0] for pin in pins(file)}


@pytest.mark.parametrize("file", DEVELOPMENT, ids=lambda file: file.name)
def test_layer_for_development_repeats_nothing_of_what_runs(file: Path) -> None:
    assert pins(file)
    assert pins(DEVELOPMENT[file])
    assert pins(file) & pins(DEVELOPMENT[file]) == set()


def test_no_lock_file_is_committed_twice() -> None:
    files = [path for path in tracked() if path.parent.name == "requirements"]
    torch = ADDON / "requirements" / "torch.txt"
    assert set(files) == {*DEVELOPMENT, *DEVELOPMENT.values(), DENOISE, DEVICES, ENGINES, torch}


@pytest.mark.parametrize("file", DEVELOPMENT, ids=lambda file: file.name)
def test_what_runs_is_free_of_tests_and_linters(file: Path) -> None:
    tools = {"pytest", "mypy", "ruff", "playwright", "hypothesis", "coverage", "pre-commit"}
    assert names(file) & tools == set()


def test_what_may_need_a_compiler_is_apart() -> None:
    assert "miniaudio" in names(DEVICES)
    assert names(SERVER) & names(DEVICES) == set()


def test_noise_suppression_brings_nothing_but_itself() -> None:
    assert names(DENOISE) == {"pyrnnoise"}


def test_engines_repeat_nothing_of_what_runs_and_differ_in_nothing_from_what_is_tested() -> None:
    assert {"openvino", "nncf"} <= names(ENGINES)
    # Newer Pythons get a newer one, which nncf does not take.
    assert names(SERVER) & names(ENGINES) <= {"networkx"}
    tested = pins(DEVELOPMENT[SERVER])
    assert {pin for pin in pins(ENGINES) if pin.partition("==")[0] in names(DEVELOPMENT[SERVER])} <= tested


def test_nothing_reports_to_the_maker_of_openvino() -> None:
    assert not any("telemetry" in name for file in (SERVER, ENGINES) for name in names(file))


def test_every_pin_has_a_hash() -> None:
    for file in (*DEVELOPMENT, *DEVELOPMENT.values(), DENOISE, DEVICES, ENGINES):
        for block in re.findall(r"^[\w.-]+==.*\n(?:[ \t].*\n)*", file.read_text(), re.MULTILINE):
            assert "--hash=sha256:" in block, block


def test_layers_join_to_the_whole_with_the_upper_ones_version(tmp_path: Path) -> None:
    below, whole = tmp_path / "below.txt", tmp_path / "whole.txt"
    below.write_text("# made\na==1 \\\n    --hash=sha256:1\nb==1\n")
    whole.write_text("a==1 \\\n    --hash=sha256:1\nb==2\nc==1 ; python_version < '4'\n")

    def layer(command: str, *files: Path) -> str:
        arguments = [sys.executable, LAYER, command, *files]
        result = subprocess.run(arguments, check=True, capture_output=True, text=True)
        return "".join(line for line in result.stdout.splitlines(keepends=True) if line[0] != "#")

    beyond = tmp_path / "beyond.txt"
    beyond.write_text(layer("beyond", below, whole))
    assert beyond.read_text() == "b==2\nc==1 ; python_version < '4'\n"
    assert layer("joined", below, beyond) == whole.read_text()
