"""`clap-server calibrate` as a user runs it."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from clap_server import synthesis
from clap_server.clap.model import CALIBRATION_FILE
from clap_server.detection.calibration import fit as calibration
from tests.server.clap.checkpoints import write_checkpoint
from tests.support.clips import RATE, write_clips
from tests.support.command_line import run_command

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A manifest of six breaks, six alarms and other sounds."""
    made = []
    for seed in range(6):
        rng = np.random.default_rng(seed)
        made += [
            (f"glass{seed}", "glass_breaking", synthesis.glass_break(rng, RATE)),
            (f"alarm{seed}", "alarm", synthesis.t3_alarm(rng, RATE, carrier_hz=3100, cycles=1)),
            (f"voices{seed}", "negative", synthesis.babble(rng, RATE, duration_s=2.0)),
        ]
    return write_clips(tmp_path_factory.mktemp("clips"), made)


@pytest.fixture(autouse=True)
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Data folder and cache of this test alone, and few synthesised sounds."""
    monkeypatch.setenv("CLAP_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(calibration, "_EXAMPLES", 1)
    return tmp_path / "data"


def answer(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, Any]:
    capsys.readouterr()
    assert run_command(*arguments, "--json") == 0
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return found


def score_of_music(capsys: pytest.CaptureFixture[str], clips: Path) -> float:
    recording = str(clips.parent / "voices0.flac")
    [label] = answer(capsys, "classify", recording, "--labels", "music")["labels"]
    return float(label["score"])


def test_what_is_stored_changes_the_scores_until_it_is_reset(
    clips: Path, data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = score_of_music(capsys, clips)
    found = answer(capsys, "calibrate", "--manifest", str(clips))
    assert found["stored"].startswith(str(data))
    assert found["after"]["scale"] != pytest.approx(found["before"]["scale"], rel=0.05)
    assert found["after"]["log_loss"] < found["before"]["log_loss"]
    after = score_of_music(capsys, clips)
    logit = np.log(before / (1 - before))
    margin = (logit - found["before"]["bias"]) / found["before"]["scale"]
    expected = 1 / (1 + np.exp(-(found["after"]["scale"] * margin + found["after"]["bias"])))
    assert after == pytest.approx(expected, abs=1e-3)
    assert after != pytest.approx(before, abs=1e-3)
    again = answer(capsys, "calibrate", "--manifest", str(clips))
    assert again["before"]["scale"] == pytest.approx(found["after"]["scale"])
    assert again["after"]["scale"] == pytest.approx(found["after"]["scale"]), "the same from the same"

    assert answer(capsys, "calibrate", "--reset")["removed"] == [found["stored"]]
    assert score_of_music(capsys, clips) == pytest.approx(before, abs=1e-6)


def test_it_says_what_scores_are_worth(clips: Path, data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command("calibrate", "--manifest", str(clips), "--dry-run") == 0
    text = capsys.readouterr().out
    assert "glass_breaking 6, alarm 6" in text
    for words in (
        "before",
        "after",
        "scale",
        "bias",
        "log loss",
        "calibration error",
        "score 0.5",
        "score 0.7",
    ):
        assert words in text
    assert "Nothing was stored" in text
    assert not data.exists()
    assert run_command("calibrate", "--manifest", str(clips)) == 0
    assert f"Stored in {data}" in capsys.readouterr().out


def test_a_checkpoint_in_a_folder_is_calibrated_on_synthesised_sounds(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = write_checkpoint(tmp_path / "checkpoint", fused=False)
    assert run_command("calibrate", "--model", str(folder)) == 0
    out, err = capsys.readouterr()
    assert "before (a guess)" in out
    assert "100 %" in err
    stored = json.loads((folder / CALIBRATION_FILE).read_text())
    found = answer(capsys, "calibrate", "--model", str(folder), "--dry-run")
    assert found["source"] == {"synthesised": True}
    assert found["before"]["scale"] == stored["scale"]
    assert found["stored"] is None
    (folder / CALIBRATION_FILE).write_text(json.dumps({**stored, "scale": "x"}))  # also if damaged
    assert run_command("calibrate", "--model", str(folder), "--reset") == 0
    assert f"Removed {folder / CALIBRATION_FILE}" in capsys.readouterr().out
    assert not (folder / CALIBRATION_FILE).exists()


def test_the_built_in_model_is_better_calibrated_on_recordings(
    data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_command("calibrate", "--data", str(data / "other")) == 0
    assert "--manifest" in capsys.readouterr().err
    assert list((data / "other" / "models").rglob("stored-*.json"))


def test_rows_that_cannot_be_used_are_named_and_the_rest_is_kept(
    clips: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    manifest = clips.parent / "wrong.csv"
    manifest.write_text("file,label\nglass0.flac,glass_breaking\ngone.flac,alarm\nvoices0.flac,negative\n")
    assert run_command("calibrate", "--manifest", str(manifest)) == 1
    out, err = capsys.readouterr()
    assert "Row 3: gone.flac" in err
    assert "only 1 of the sounds" in err
    assert "Stored in" in out


@pytest.mark.parametrize(
    ("rows", "status", "words"),
    [
        ("voices0.flac,negative\n", 1, "nothing but negatives"),
        ("glass0.flac,glass_breaking\n", 1, "labelled 'negative'"),
        ("glass0.flac,glas\n", 1, "row 2: the label 'glas' is unknown"),
    ],
)
def test_a_manifest_that_does_not_do_is_one_clear_line(
    clips: Path, capsys: pytest.CaptureFixture[str], rows: str, status: int, words: str
) -> None:
    manifest = clips.parent / "short.csv"
    manifest.write_text("file,label\n" + rows)
    assert run_command("calibrate", "--manifest", str(manifest)) == status
    err = capsys.readouterr().err
    assert words in err
    assert len(err.strip().splitlines()) == 1


def test_labels_of_ones_own_can_be_named(clips: Path, capsys: pytest.CaptureFixture[str]) -> None:
    manifest = clips.parent / "own.csv"
    manifest.write_text("file,label\nglass0.flac,bottle bank\nvoices0.flac,negative\nalarm0.flac,alarm\n")
    found = answer(
        capsys, "calibrate", "--manifest", str(manifest), "--labels", "bottle bank, alarm, siren", "--dry-run"
    )
    assert found["source"]["events"] == {"bottle_bank": 1, "alarm": 1}
    assert run_command("calibrate", "--manifest", str(manifest), "--dry-run") == 1
    assert "'bottle bank' is unknown" in capsys.readouterr().err


def test_a_label_that_is_named_twice_counts_once(clips: Path, capsys: pytest.CaptureFixture[str]) -> None:
    named = "glass breaking, Glasbruch"
    found = answer(capsys, "calibrate", "--manifest", str(clips), "--labels", named, "--dry-run")
    assert found["source"]["events"] == {"glass_breaking": 6}


@pytest.mark.parametrize(
    "arguments",
    [
        ["--reset", "--dry-run"],
        ["--reset", "--manifest", "clips.csv"],
        ["--labels", "alarm"],
        ["--manifest", "clips.csv", "--hop", "9"],
    ],
)
def test_wrong_use_ends_with_status_2(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command("calibrate", *arguments) == 2
    assert capsys.readouterr().err


def test_nothing_to_reset_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command("calibrate", "--model", "auto", "--device", "cpu", "--reset") == 0
    assert "Nothing is stored for builtin" in capsys.readouterr().out


def test_a_result_that_cannot_be_stored_is_still_shown(
    clips: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("in the way")
    assert run_command("calibrate", "--manifest", str(clips), "--data", str(tmp_path / "file")) == 1
    out, err = capsys.readouterr()
    assert "calibration error" in out
    assert "cannot be stored" in err


def test_a_model_that_tells_nothing_apart_is_told_about(
    clips: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(calibration, "_SMALLEST_SCALE", 1e5)
    assert run_command("calibrate", "--manifest", str(clips), "--dry-run") == 0
    assert "hardly tells these sounds apart" in capsys.readouterr().err


def test_a_command_loads_only_what_it_needs() -> None:
    code = (
        "import sys; from clap_server.cli import build_parser; build_parser('calibrate'); print(*sys.modules)"
    )
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert "clap_evaluation.cli.calibrate" in loaded.split()
    assert "torch" not in loaded.split()
