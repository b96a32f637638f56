"""`clap-server calibrate` as a user runs it."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from clap_evaluation.calibration import own
from clap_server import synthesis
from clap_server.clap.builtin import load_builtin
from clap_server.clap.everyday import EverydayBank, Piece
from clap_server.detection.everyday import making, preparing
from clap_server.detection.everyday.rate import rate_of_score
from tests.server.clap.checkpoints import write_checkpoint
from tests.support.clips import RATE, write_clips
from tests.support.command_line import run_command

if TYPE_CHECKING:
    from pathlib import Path

BLOCKS = 400


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A manifest of two breaks, and of a home beside a bottle bank."""
    made = []
    for seed in range(2):
        rng = np.random.default_rng(seed)
        made += [
            (f"glass{seed}", "glass_breaking", synthesis.glass_break(rng, RATE)),
            (f"bottles{seed}", "negative", synthesis.glass_break(rng, RATE)),
            (f"voices{seed}", "negative", synthesis.babble(rng, RATE, duration_s=2.0)),
        ]
    return write_clips(tmp_path_factory.mktemp("clips"), made)


@pytest.fixture(scope="module")
def common() -> EverydayBank:
    """Everyday sound for the built-in model: noise and voices, two windows of each recording."""
    model = load_builtin("cpu")
    windows = []
    for seed in range(BLOCKS // 20):
        rng = np.random.default_rng(seed)
        make = synthesis.babble if seed % 2 else synthesis.noise
        samples = make(rng, RATE, duration_s=6.0)
        windows += [samples[round(at * RATE) :][:RATE] for at in np.linspace(0.0, 5.0, 20)]
    return EverydayBank.of(
        preparing.model_key(model),
        np.repeat(model.embed_audio(windows), 2, axis=0),
        np.tile([1.0, 1.5], BLOCKS),
        np.repeat(np.arange(BLOCKS), 2),
        [Piece()] * BLOCKS,
        hop_s=0.5,
        sources="noise and voices",
    )


@pytest.fixture(autouse=True)
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, common: EverydayBank) -> Path:
    """Data folder and cache of this test alone, with little everyday sound; few seconds are enough."""
    monkeypatch.setenv("CLAP_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(preparing, "_shipped", lambda _key: common)
    monkeypatch.setattr(own, "LEAST_BLOCKS", 2)
    monkeypatch.setattr(making, "_PIECES", 2)
    return tmp_path / "data"


def answer(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, Any]:
    capsys.readouterr()
    assert run_command(*arguments, "--json") == 0
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return found


def score_of_a_break(capsys: pytest.CaptureFixture[str], clips: Path) -> float:
    recording = str(clips.parent / "glass0.flac")
    [label] = answer(capsys, "classify", recording, "--labels", "glass breaking")["labels"]
    return float(label["score"])


def test_what_is_learnt_changes_the_scores_until_it_is_reset(
    clips: Path, data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = score_of_a_break(capsys, clips)
    found = answer(capsys, "calibrate", "--manifest", str(clips))
    [stored] = found["stored"]
    assert stored.startswith(str(data))
    [glass] = found["labels"]
    assert (glass["label_id"], glass["events"]) == ("glass_breaking", 2)
    promised = rate_of_score(glass["threshold"])
    assert glass["before"]["promised_per_day"] == glass["after"]["promised_per_day"] == promised
    assert glass["before"]["hours"] > 0
    assert glass["now_promised_per_day"] > promised, "where bottles break all day"
    assert glass["one_a_day"] > 0.7
    assert glass["found_before"] >= glass["found_after"]
    assert score_of_a_break(capsys, clips) < before
    again = answer(capsys, "calibrate", "--manifest", str(clips))
    assert again["stored"] == [stored]
    assert again["source"] == found["source"], "the same recordings replace what was learnt from them"
    assert again["labels"][0]["now_promised_per_day"] == pytest.approx(promised, rel=0.2)
    assert again["labels"][0]["after"] == glass["after"]

    assert answer(capsys, "calibrate", "--reset")["removed"] == [stored]
    assert score_of_a_break(capsys, clips) == pytest.approx(before, abs=1e-6)


def test_it_says_what_changes(clips: Path, data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command("calibrate", "--manifest", str(clips), "--dry-run") == 0
    text = capsys.readouterr().out
    assert "builtin with 6 recordings of clips.csv" in text
    for words in ("promised", "counted", "known", "one a day", "found", "of 2"):
        assert words in text
    assert "Nothing was stored" in text
    assert not data.exists()
    assert run_command("calibrate", "--manifest", str(clips)) == 0
    assert f"Stored in {data}" in capsys.readouterr().out


def test_negatives_alone_are_enough_and_security_is_told_of(
    clips: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    manifest = clips.parent / "negatives.csv"
    manifest.write_text("file,label\nbottles0.flac,negative\nvoices0.flac,negative\n")
    found = answer(capsys, "calibrate", "--manifest", str(manifest), "--dry-run")
    ids = [entry["label_id"] for entry in found["labels"]]
    assert {"glass_breaking", "smoke_alarm", "scream"} <= set(ids)
    assert "dog_bark" not in ids
    assert "smoke_alarm_low_battery" not in ids, "no model scores it"
    assert found["stored"] == []
    assert all(entry["events"] == 0 for entry in found["labels"])


def test_what_was_learnt_with_other_weights_is_passed_over_and_said(
    clips: Path, data: Path, capsys: pytest.CaptureFixture[str], common: EverydayBank, caplog: Any
) -> None:
    before = score_of_a_break(capsys, clips)
    path = preparing.own_path("builtin", data / "models")
    EverydayBank.of(
        "builtin@older float32",
        common.embeddings(),
        common.ends_s,
        common.recordings,
        common.pieces,
        hop_s=0.5,
        sources="x",
    ).save(path)
    assert score_of_a_break(capsys, clips) == before
    assert "of other weights or another number format and is not used: run" in caplog.text
    path.write_text("damaged")
    assert score_of_a_break(capsys, clips) == before
    assert "damaged" in caplog.text
    assert run_command("calibrate", "--reset") == 0
    assert f"Removed {path}" in capsys.readouterr().out


def test_a_checkpoint_without_everyday_sound_gets_it_synthesised(
    tmp_path: Path, data: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CLAP_ENGINE", "torch")
    folder = write_checkpoint(tmp_path / "checkpoint", fused=False)
    assert run_command("calibrate", "--model", str(folder), "--dry-run") == 0
    out, err = capsys.readouterr()
    assert "minutes, synthesised" in out
    assert "100 %" in err
    assert not list(tmp_path.rglob("made-*.npz"))
    found = answer(capsys, "calibrate", "--model", str(folder))
    assert found["source"]["synthesised"] is True
    assert found["source"]["hours"] > 0
    assert sorted(found["stored"]) == sorted(str(path) for path in tmp_path.rglob("made-*.npz"))
    assert len(found["stored"]) == 2
    assert any(path.startswith(str(data / "models")) for path in found["stored"]), "where the server looks"
    made = EverydayBank.load(next(tmp_path.rglob("made-*.npz")))
    assert len(made.pieces) == 2


def test_the_built_in_model_came_with_better_than_synthesised(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command("calibrate") == 1
    assert "which are better than synthesised ones: give it yours with --manifest" in capsys.readouterr().err


def test_rows_that_cannot_be_used_are_named_and_the_rest_is_kept(
    clips: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    manifest = clips.parent / "wrong.csv"
    manifest.write_text("file,label\nbottles0.flac,negative\ngone.flac,alarm\nvoices0.flac,negative\n")
    assert run_command("calibrate", "--manifest", str(manifest)) == 1
    out, err = capsys.readouterr()
    assert "left out: Row 3: gone.flac" in err
    assert "Stored in" in out


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ("voices0.flac,negative\n", "0 minutes of everyday sound above the gate"),
        ("glass0.flac,glas\n", "row 2: the label 'glas' is unknown"),
    ],
)
def test_a_manifest_that_does_not_do_is_one_clear_line(
    clips: Path, capsys: pytest.CaptureFixture[str], rows: str, words: str
) -> None:
    manifest = clips.parent / "short.csv"
    manifest.write_text("file,label\n" + rows)
    assert run_command("calibrate", "--manifest", str(manifest)) == 1
    err = capsys.readouterr().err
    assert words in err
    assert len(err.strip().splitlines()) == 1


def test_labels_of_ones_own_can_be_named(clips: Path, capsys: pytest.CaptureFixture[str]) -> None:
    manifest = clips.parent / "own.csv"
    manifest.write_text("file,label\nglass0.flac,bottle bank\nvoices0.flac,negative\n")
    named = ("--labels", "bottle bank, siren")
    found = answer(capsys, "calibrate", "--manifest", str(manifest), *named, "--dry-run")
    assert {entry["label_id"]: entry["events"] for entry in found["labels"]} == {"bottle_bank": 1, "siren": 0}
    assert run_command("calibrate", "--manifest", str(manifest), "--dry-run") == 1
    assert "'bottle bank' is unknown" in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments",
    [["--reset", "--dry-run"], ["--reset", "--manifest", "clips.csv"], ["--labels", "alarm"]],
)
def test_wrong_use_ends_with_status_2(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command("calibrate", *arguments) == 2
    assert capsys.readouterr().err


def test_nothing_to_reset_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command("calibrate", "--model", "auto", "--device", "cpu", "--reset") == 0
    assert "Nothing is stored for builtin" in capsys.readouterr().out


def test_what_cannot_be_removed_is_named(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    preparing.own_path("builtin", data / "models").mkdir(parents=True)
    assert run_command("calibrate", "--reset") == 1
    assert "remove it by hand" in capsys.readouterr().err


def test_a_result_that_cannot_be_stored_is_still_shown(
    clips: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("in the way")
    assert run_command("calibrate", "--manifest", str(clips), "--data", str(tmp_path / "file")) == 1
    out, err = capsys.readouterr()
    assert "counted" in out
    assert "cannot be stored" in err


def test_a_command_loads_only_what_it_needs() -> None:
    code = (
        "import sys; from clap_server.cli import build_parser; build_parser('calibrate'); print(*sys.modules)"
    )
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert "clap_evaluation.cli.calibrate" in loaded.split()
    assert "torch" not in loaded.split()
