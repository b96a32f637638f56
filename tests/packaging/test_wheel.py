"""The wheel: what `pip install` and the image get."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tests.packaging.support import ROOT, tracked

PACKAGE = "addon/clap_server"


def build(project: str, out: Path) -> Path:
    """Build a wheel as a user's installer would, with the uv that the scripts use."""
    script = (
        'set -e; source scripts/lib/common.sh; ensure_uv; "${UV}" build --quiet --wheel --out-dir "$1" "$2"'
    )
    subprocess.run(["bash", "-c", script, "build", out, project], cwd=ROOT, check=True)
    (built,) = out.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build("addon", tmp_path_factory.mktemp("wheel"))


def contents(wheel: Path) -> set[str]:
    with zipfile.ZipFile(wheel) as archive:
        return set(archive.namelist())


def test_wheel_is_pure_and_small_enough_to_share(wheel: Path) -> None:
    assert wheel.name.endswith("-py3-none-any.whl")
    assert wheel.stat().st_size < 30e6


def test_wheel_holds_every_file_of_the_package(wheel: Path) -> None:
    expected = {str(path.relative_to(ROOT / "addon")) for path in tracked(PACKAGE)}
    assert expected - contents(wheel) == set()


@pytest.mark.parametrize(
    ("what", "suffix"),
    [
        ("types", "clap_server/py.typed"),
        ("labels", "clap_server/detection/labels.json"),
        ("the model's weights", ".safetensors"),
        ("its bank of everyday sound", "clap_server/clap/builtin/everyday.npz"),
        ("what it finds in tests", "clap_server/clap/builtin/found.json"),
        ("whose recordings it learnt from", "clap_server/clap/builtin/ATTRIBUTION.md"),
        ("whose recordings it is measured against", "clap_server/clap/builtin/ATTRIBUTION-everyday.md"),
        ("the page", "clap_server/web/index.html"),
    ],
)
def test_wheel_holds(wheel: Path, what: str, suffix: str) -> None:
    assert any(name.endswith(suffix) for name in contents(wheel)), f"{what} missing"


def test_wheel_holds_nothing_else(wheel: Path) -> None:
    strangers = {name for name in contents(wheel) if not name.startswith(("clap_server/", "clap_server-"))}
    assert strangers == set()


def test_wheel_holds_neither_evaluation_nor_the_sounds_of_training(wheel: Path) -> None:
    ours = {Path(name).stem for name in contents(wheel) if name.endswith(".py")}
    for folder, known in (("training/synthesis", "panes"), ("evaluation/clap_evaluation", "psds")):
        theirs = {path.stem for path in tracked(folder)}
        assert known in theirs
        # A few modules have a name that the server uses for something else.
        assert ours & theirs <= {"__init__", "events", "groups", "metrics"}


def test_evaluation_is_a_wheel_of_its_own_and_of_the_same_version(
    wheel: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    built = build("evaluation", tmp_path_factory.mktemp("evaluation"))
    expected = {str(path.relative_to(ROOT / "evaluation")) for path in tracked("evaluation/clap_evaluation")}
    assert expected - contents(built) == set()
    assert built.name.split("-")[1] == wheel.name.split("-")[1]


def test_server_runs_from_the_wheel_alone(wheel: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path)
    program = (
        "import clap_server, pathlib, sys\n"
        "assert pathlib.Path(clap_server.__file__).is_relative_to(sys.argv[1])\n"
        "from clap_server.clap.builtin import load_builtin\n"
        "from clap_server.detection.library import load_library\n"
        "print(len(load_library().labels), load_builtin('cpu').embed_text(['glass breaking']).shape[0])\n"
    )
    variables = {"PYTHONPATH": str(tmp_path), "PATH": "/usr/bin:/bin", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-P", "-c", program, str(tmp_path)]
    result = subprocess.run(command, cwd=tmp_path, env=variables, check=True, capture_output=True, text=True)
    labels, rows = map(int, result.stdout.split())
    assert labels > 0
    assert rows == 1
