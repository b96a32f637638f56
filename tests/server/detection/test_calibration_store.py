"""Where `clap-server calibrate` keeps what it found, and who finds it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from clap_server.clap.builtin import load_builtin
from clap_server.clap.huggingface import HuggingFaceClap
from clap_server.clap.model import CALIBRATION_FILE, Calibration
from clap_server.detection.calibration import store as calibration_store
from clap_server.detection.calibration.fit import calibrated, known, preparer
from clap_server.detection.library import LabelLibrary, load_library
from clap_server.errors import ConfigurationError
from tests.server.clap.checkpoints import write_checkpoint

if TYPE_CHECKING:
    from pathlib import Path

    from clap_server.clap.model import ClapModel

LIBRARY = load_library()
FOUND = Calibration(33.0, -3.0)


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_checkpoint(tmp_path_factory.mktemp("checkpoint"), fused=False)


@pytest.fixture
def checkpoint(written: Path, tmp_path: Path) -> Path:
    """A checkpoint in a folder of the user's, for this test alone."""
    folder = tmp_path / "checkpoint"
    folder.mkdir()
    for path in written.iterdir():
        (folder / path.name).symlink_to(path)
    return folder


@pytest.fixture
def models_dir(tmp_path: Path) -> Path:
    return tmp_path / "data" / "models"


def load(folder: Path, cache_dir: Path) -> HuggingFaceClap:
    return HuggingFaceClap(folder, name=str(folder), device="cpu", cache_dir=cache_dir)


def store(model: ClapModel, models_dir: Path) -> Path:
    return calibration_store.store(model, LIBRARY, models_dir, FOUND, "3 recordings")


def test_what_was_stored_goes_before_the_built_in_calibration(models_dir: Path, tmp_path: Path) -> None:
    own = load_builtin("cpu").calibration
    path = store(load_builtin("cpu"), models_dir)
    assert path.is_relative_to(models_dir)
    assert path.stat().st_mode & 0o444 == 0o444, "the server may run as another user"
    for prepare in (
        preparer(LIBRARY, models_dir),
        lambda model, tell: calibrated(model, LIBRARY, tmp_path / "cache", tell, models_dir=models_dir),
    ):
        assert prepare(load_builtin("cpu"), pytest.fail).calibration == FOUND
    other_server = preparer(LIBRARY, tmp_path / "other")
    assert other_server(load_builtin("cpu"), pytest.fail).calibration == own

    assert calibration_store.remove("builtin", models_dir) == [path]
    assert calibration_store.remove("builtin", models_dir) == []
    assert known(load_builtin("cpu"), LIBRARY, tmp_path, models_dir=models_dir) == own


def test_a_calibration_for_other_weights_or_prompts_is_not_used(
    models_dir: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    model = load_builtin("cpu")
    path = store(model, models_dir)
    newer = LabelLibrary(LIBRARY.version + 1, LIBRARY.labels, LIBRARY.background)
    assert known(model, newer, tmp_path, models_dir=models_dir) == model.calibration
    assert "run `clap-server calibrate` again" in caplog.text
    caplog.clear()
    path.write_text(json.dumps({**json.loads(path.read_text()), "made_for": "builtin@0 float32 1"}))
    assert known(model, LIBRARY, tmp_path, models_dir=models_dir) == model.calibration
    assert "made for other weights" in caplog.text


@pytest.mark.parametrize(
    "damage", ["", "[]", "{}", '{"scale": "x", "bias": 0}', '{"scale": 1e999, "bias": 0}']
)
def test_a_damaged_one_is_told_about_and_not_used(
    models_dir: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture, damage: str
) -> None:
    model = load_builtin("cpu")
    path = store(model, models_dir)
    path.write_text(damage)
    assert known(model, LIBRARY, tmp_path, models_dir=models_dir) == model.calibration
    assert f"{path} is damaged" in caplog.text


def test_it_lies_beside_weights_that_are_a_folder(checkpoint: Path, models_dir: Path) -> None:
    model = load(checkpoint, models_dir)
    path = store(model, models_dir)
    assert path == checkpoint / CALIBRATION_FILE
    again = load(checkpoint, models_dir)
    assert known(again, LIBRARY, models_dir, models_dir=models_dir) == FOUND
    assert store(again, models_dir) == path, "its own file is replaced"
    assert calibration_store.remove(str(checkpoint), models_dir) == [path]
    assert load(checkpoint, models_dir).calibration is None


def test_beside_the_weights_too_it_counts_for_these_weights_and_prompts_alone(
    checkpoint: Path, models_dir: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = store(load(checkpoint, models_dir), models_dir)
    newer = LabelLibrary(LIBRARY.version + 1, LIBRARY.labels, LIBRARY.background)
    assert known(load(checkpoint, models_dir), newer, models_dir, models_dir=models_dir) is None
    assert f"in {path} was made for other weights" in caplog.text
    assert "run `clap-server calibrate` again" in caplog.text

    weights = bytearray((checkpoint / "model.safetensors").read_bytes())
    weights[-1] ^= 1
    (checkpoint / "model.safetensors").unlink()
    (checkpoint / "model.safetensors").write_bytes(weights)
    caplog.clear()
    updated = load(checkpoint, models_dir)
    assert updated.calibration is None
    assert known(updated, LIBRARY, models_dir, models_dir=models_dir) is None
    assert f"in {path} was made for other weights" in caplog.text
    assert store(updated, models_dir) == path
    assert known(load(checkpoint, models_dir), LIBRARY, models_dir, models_dir=models_dir) == FOUND


@pytest.mark.parametrize("values", [{"scale": "x"}, {"scale": -1}, {"bias": None}])
def test_a_damaged_one_of_its_own_beside_the_weights_is_told_about_and_not_used(
    checkpoint: Path, models_dir: Path, caplog: pytest.LogCaptureFixture, values: dict[str, Any]
) -> None:
    path = store(load(checkpoint, models_dir), models_dir)
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))
    model = load(checkpoint, models_dir)
    assert model.calibration is None
    assert known(model, LIBRARY, models_dir, models_dir=models_dir) is None
    assert f"{path} is damaged" in caplog.text


@pytest.mark.parametrize("content", [b"", b'{"scale": 3', b"[]", b"\xff\xfe"])
def test_a_file_beside_the_weights_that_says_nothing_is_told_about_and_passed_over(
    checkpoint: Path, models_dir: Path, caplog: pytest.LogCaptureFixture, content: bytes
) -> None:
    path = checkpoint / CALIBRATION_FILE
    path.write_bytes(content)
    model = load(checkpoint, models_dir)
    assert known(model, LIBRARY, models_dir, models_dir=models_dir) is None
    assert caplog.text.count(f"{path} is damaged") == 1


def test_a_folder_that_cannot_be_written_leaves_it_to_the_data_folder(
    checkpoint: Path, models_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = calibration_store.write

    def only_data(path: Path, content: dict[str, Any]) -> None:
        if path.parent == checkpoint:
            raise PermissionError(13, "Permission denied")
        write(path, content)

    monkeypatch.setattr(calibration_store, "write", only_data)
    path = store(load(checkpoint, models_dir), models_dir)
    assert path.is_relative_to(models_dir)
    assert known(load(checkpoint, models_dir), LIBRARY, models_dir, models_dir=models_dir) == FOUND
    monkeypatch.chdir(checkpoint.parent)
    by_another_path = HuggingFaceClap(checkpoint, name="./checkpoint", device="cpu", cache_dir=models_dir)
    assert known(by_another_path, LIBRARY, models_dir, models_dir=models_dir) == FOUND

    monkeypatch.setattr(calibration_store, "write", write)
    assert store(load(checkpoint, models_dir), models_dir) == checkpoint / CALIBRATION_FILE
    assert not path.exists(), "the older one would go first"


def test_a_calibration_of_another_author_is_kept(checkpoint: Path, models_dir: Path) -> None:
    theirs = checkpoint / CALIBRATION_FILE
    theirs.write_text('{"scale": 12, "bias": 1}')
    path = store(load(checkpoint, models_dir), models_dir)
    assert path.is_relative_to(models_dir)
    assert known(load(checkpoint, models_dir), LIBRARY, models_dir, models_dir=models_dir) == FOUND
    assert calibration_store.remove(str(checkpoint), models_dir) == [path]
    assert known(load(checkpoint, models_dir), LIBRARY, models_dir, models_dir=models_dir) == Calibration(
        12, 1
    )


def test_a_data_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(ConfigurationError, match=r"cannot be stored in .*--data"):
        store(load_builtin("cpu"), tmp_path / "file")


def test_a_failed_write_leaves_what_was_there(tmp_path: Path) -> None:
    path = tmp_path / "calibration.json"
    calibration_store.write(path, {"scale": 1.0, "bias": 0.0})
    with pytest.raises(TypeError):
        calibration_store.write(path, {"scale": object()})
    assert [entry.name for entry in tmp_path.iterdir()] == ["calibration.json"]
    assert calibration_store.read(path, "") == Calibration(1.0, 0.0)


def test_a_file_that_cannot_be_removed_is_named(models_dir: Path) -> None:
    path = store(load_builtin("cpu"), models_dir)
    path.unlink()
    path.mkdir()
    with pytest.raises(ConfigurationError, match="remove it by hand"):
        calibration_store.remove("builtin", models_dir)
