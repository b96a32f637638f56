"""The bank of everyday sound: what goes in, what stays out, and who made it."""

from __future__ import annotations

import csv
import shutil
from typing import TYPE_CHECKING

import numpy as np
import pytest

from clap_server.audio.encode import encode
from clap_server.clap.builtin import load_builtin
from clap_server.detection.everyday.preparing import BUILTIN_FILE, model_key
from clap_server.errors import ModelError
from tests.support.teacher import NAMES
from tests.support.training import RATE, SMALL, run
from training.config import load_config
from training.data import COLUMNS, Recording
from training.everyday import everyday_rows, heard_besides, load_with_bank, piece
from training.export import write_model
from training.teacher import Teacher
from training.train import Trainer

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(scope="module")
def packaged(prepared: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a model that learnt nothing."""
    folder = tmp_path_factory.mktemp("everyday")
    for name in ("sounds", "backgrounds", "teacher"):
        (folder / name).symlink_to(prepared / name)
    config = load_config(overrides=SMALL)
    trainer = Trainer(config, prepared / "sounds", prepared / "runs", print)
    write_model(config, trainer.average, prepared / "runs", folder / "package", {})
    return folder


def recording(file: str, label: str, fine_label: str) -> Recording:
    return Recording(file, label, fine_label, "", "CC0-1.0", "Ann", "a/b", file, 0)


@pytest.mark.parametrize(
    ("held_out", "names"),
    [
        (None, {"talk", "cups", "tune"}),
        (0, {"talk", "cups", "tune"}),
        (1, {"talk", "tune"}),
        (3, {"talk", "cups"}),
    ],
)
def test_a_bank_holds_everyday_sound_that_was_not_trained_on_nor_is_of_held_out_sources(
    prepared: Path, held_out: int | None, names: set[str]
) -> None:
    rows = everyday_rows(load_config(), prepared / "sounds", prepared / "backgrounds", held_out)
    assert {(root / row.file).stem for root, row in rows} == names
    assert all((root / row.file).is_file() for root, row in rows)


@pytest.mark.parametrize("label", ["room_response", "glass_breaking"])
def test_without_everyday_sound_there_is_no_bank(prepared: Path, tmp_path: Path, label: str) -> None:
    (tmp_path / "sounds").symlink_to(prepared / "sounds")
    with pytest.raises(SystemExit, match=r"MANIFEST\.csv is missing"):
        run(tmp_path, "everyday")
    (tmp_path / "backgrounds").mkdir()
    row = ("hall.flac", label, "hall", "", "1", "CC0-1.0", "Ann", "one/hall", "hall.flac")
    with (tmp_path / "backgrounds" / "MANIFEST.csv").open("w", newline="") as handle:
        csv.writer(handle).writerows([COLUMNS, row])
    with pytest.raises(SystemExit, match="no recordings of everyday sound: name their folder"):
        run(tmp_path, "everyday")


def test_the_bank_and_its_authors_are_written_beside_the_weights(
    packaged: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run(packaged, "everyday")
    assert "hours above the gate" in capsys.readouterr().out
    model = load_with_bank(packaged / "package")
    bank = model.everyday
    assert bank is not None
    assert bank.made_for == model_key(load_builtin("cpu", packaged / "package"))
    assert (len(bank.pieces), bank.sources) == (3, "3 recordings")
    assert bank.hours == pytest.approx(3 * 2.5 / 3600, rel=0.3)
    attribution = (packaged / "package" / "ATTRIBUTION-everyday.md").read_text("utf-8")
    assert "https://github.com/talk/here" in attribution
    # A piece of a long recording is named as the recording.
    assert "- Bea Background (CC-BY-4.0): b/speech/talk.flac\n" in attribution
    assert "Ann Author" not in attribution
    assert "bowl" not in attribution
    assert "hum" not in attribution


def test_a_model_without_its_bank_says_how_to_make_it(packaged: Path, tmp_path: Path) -> None:
    shutil.copytree(packaged / "package", tmp_path / "model")
    (tmp_path / "model" / BUILTIN_FILE).unlink(missing_ok=True)
    with pytest.raises(ModelError, match="has no bank: run `python -m training everyday` first"):
        load_with_bank(tmp_path / "model")


def test_talk_that_no_name_tells_of_is_heard_by_the_teacher(prepared: Path, tmp_path: Path) -> None:
    teacher = Teacher(prepared / "teacher")
    # The stand-in hears a class where one of three mel bands is loud: in the middle of those of talk.
    band = 3 * NAMES.index("Speech") + 2
    hertz = 700 * (np.exp(band * np.log1p(15_000 / 700) / 129) - 1)
    tone = np.sin(2 * np.pi * hertz * np.arange(8 * RATE) / RATE).astype(np.float32)
    for name, samples, heard in (
        ("talk", tone, {"speech"}),
        ("hush", 0.001 * tone, set()),
        ("later", np.concatenate([np.zeros(12 * RATE, np.float32), tone]), {"speech"}),
    ):
        path = tmp_path / f"{name}.flac"
        path.write_bytes(encode(samples, RATE, "flac"))
        assert heard_besides(teacher, NAMES, path) == heard, name
    door = piece(recording("household/a.ogg", "negative", "door_close"), frozenset({"speech"}))
    assert {"door_slam", "speech"} <= door.holds
    assert door.tags == ("door close", "speech", "door slam")


def test_a_piece_says_what_of_the_library_may_be_in_it() -> None:
    # By its folder, ...
    talk = piece(recording("speech_short/a.ogg", "negative", "three_words"))
    assert "speech" in talk.holds
    assert talk.tags[:2] == ("three words", "speech")
    # ... by its concept, with all that the concept says nothing about, ...
    door = piece(recording("household/a.ogg", "negative", "door_close"))
    assert {"door_slam", "door_knock"} <= door.holds
    assert "alarm" not in door.holds
    assert door.tags == ("door close", "door slam")
    # ... and nothing if neither is known.
    assert piece(recording("household/a.ogg", "negative", "xyzzy")).holds == frozenset()
