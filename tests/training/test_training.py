"""A training run of two steps on a handful of sounds, interrupted and taken up again."""

from __future__ import annotations

import csv
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch

from clap_server import synthesis
from clap_server.audio.encode import encode
from clap_server.clap.builtin import load_builtin
from clap_server.detection.library import load_library
from clap_server.evaluation.manifest import read_manifest
from training.__main__ import main
from training.calibrate import fit
from training.concepts import load_concepts
from training.config import load_config
from training.data import COLUMNS, read_recordings
from training.mixing import Mixer
from training.prepare import MAKERS, Cache
from training.train import Trainer

if TYPE_CHECKING:
    from pathlib import Path

RATE = 48_000
SMALL = {
    "text.limit": 40,
    "text.steps": 2,
    "text.batch": 8,
    "text.layers": 1,
    "train.batch": 8,
    "train.threads": 1,
    "train.checkpoint_every": 1,
    "train.validation_windows": 96,
    "train.calibration_windows": 192,
    "prepare.processes": 1,
    "prepare.rooms": 2,
    "prepare.rare_copies": 2,
    **{
        f"prepare.synthetic.{maker}": 6 if maker in {"glass_break", "noise", "t4_alarm"} else 0
        for maker in MAKERS
    },
}
# label, fine_label, licence, source_repo
CLIPS = [
    ("glass_breaking", "glass_break", "CC0-1.0", "one/glass"),
    ("glass_breaking", "glass_break", "CC-BY-SA-3.0", "two/glass"),
    ("alarm", "fire_alarm", "CC-BY-4.0", "one/alarm"),
    ("negative", "speech", "CC0-1.0", "Catdere/Nevado"),
    ("negative", "music", "CC-BY-3.0", "one/music"),
]


def run(folder: Path, *steps: str, total: int = 2) -> None:
    """`python -m training STEPS` on the small settings; nothing is written outside ``folder``."""
    settings = {**SMALL, "train.steps": total}
    arguments = [piece for name, value in settings.items() for piece in ("--set", f"{name}={value}")]
    places = {"--data": "sounds", "--runs": "runs", "--out": "package"}
    paths = [piece for name, place in places.items() for piece in (name, str(folder / place))]
    assert main([*steps, *paths, *arguments]) == 0


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Recordings with their manifest, and what the first two steps make of them."""
    folder = tmp_path_factory.mktemp("training")
    (folder / "sounds").mkdir()
    rng = np.random.default_rng(1)
    rows = []
    for number, (label, fine, licence, repo) in enumerate(CLIPS):
        name = f"{label}{number}.flac"
        (folder / "sounds" / name).write_bytes(
            encode(synthesis.babble(rng, RATE, duration_s=2.5), RATE, "flac")
        )
        rows.append((name, label, fine, f"caption {number}", 2.5, licence, "Ann Author", repo, f"a/{name}"))
    with (folder / "sounds" / "MANIFEST.csv").open("w", newline="") as handle:
        csv.writer(handle).writerows([COLUMNS, *rows])
    scores: dict[str, Any] = {row[0]: np.full((3, 521), 0.1, np.float16) for row in rows}
    np.savez(folder / "sounds" / "teacher_scores.npz", __classes__=np.array(["c"] * 521), **scores)
    run(folder, "prepare", "text")
    return folder


def test_whole_sources_are_held_out(prepared: Path) -> None:
    split = load_config().split
    parts = [row.part for row in read_recordings(prepared / "sounds", split)]
    assert parts == ["train", "test", "train", "validation", "train"]
    items = Cache(prepared / "runs" / "cache").items
    assert {item.part for item in items if item.name.startswith("glass_breaking1")} == {"test"}
    assert {(item.source, item.licence) for item in items if item.name.startswith("glass_breaking1")} == {
        ("two/glass", "CC-BY-SA-3.0")
    }


def test_an_interrupted_run_ends_like_one_in_a_piece(
    prepared: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    checkpoint = prepared / "runs" / "checkpoint.pt"
    run(prepared, "train", total=2)
    whole = torch.load(checkpoint, weights_only=True)
    checkpoint.unlink()
    config = load_config(overrides={**SMALL, "train.steps": 2})
    trainer = Trainer(config, prepared / "sounds", prepared / "runs", print)
    trainer.advance()
    trainer.save()
    del trainer
    run(prepared, "train", total=2)
    assert "resumed at step 1" in capsys.readouterr().out
    pieces = torch.load(checkpoint, weights_only=True)
    assert pieces["step"] == whole["step"] == 2
    for name, value in whole["model"].items():
        assert torch.allclose(value.float(), pieces["model"][name].float(), atol=1e-6), name


def test_a_damaged_checkpoint_is_named(prepared: Path, tmp_path: Path) -> None:
    for name in ("cache", "text"):
        (tmp_path / name).symlink_to(prepared / "runs" / name)
    (tmp_path / "checkpoint.pt").write_bytes(b"nothing")
    trainer = Trainer(load_config(overrides=SMALL), prepared / "sounds", tmp_path, print)
    with pytest.raises(SystemExit, match=r"checkpoint\.pt cannot be used"):
        trainer.resume()


def test_what_is_exported_can_be_loaded_and_names_its_authors(prepared: Path) -> None:
    run(prepared, "train", "calibrate", "export", total=2)
    model = load_builtin("cpu", prepared / "package")
    assert model.embed_audio([np.zeros(100, np.float32)]).shape == (1, 256)
    assert model.embed_text(["glass breaking"]).shape == (1, 256)
    attribution = (prepared / "package" / "ATTRIBUTION.md").read_text()
    assert "Ann Author (CC-BY-4.0)" in attribution
    assert "two/glass" not in attribution
    held_out = read_manifest(prepared / "runs" / "held_out.csv", load_library())
    assert [recording.path.resolve().name for recording in held_out] == ["glass_breaking1.flac"]
    assert held_out[0].path.is_file()


def test_a_batch_knows_what_is_in_it(prepared: Path) -> None:
    config = load_config(overrides=SMALL)
    mixer = Mixer(Cache(prepared / "runs" / "cache"), config, "train", prepared / "sounds")
    batch = mixer.draw(np.random.default_rng(1), 64)
    assert batch.mels.shape == (64, 201, 64)
    assert torch.isfinite(batch.mels).all()
    assert batch.mels.min() >= -100
    glass = load_concepts().index["glass_breaking"]
    assert (batch.targets[batch.concepts == glass, glass] == 1).all()
    again = mixer.draw(np.random.default_rng(1), 64)
    assert torch.equal(batch.mels, again.mels)


def test_steps_in_the_wrong_order_say_what_is_missing(prepared: Path, tmp_path: Path) -> None:
    (tmp_path / "sounds").symlink_to(prepared / "sounds")
    with pytest.raises(SystemExit, match="training prepare"):
        run(tmp_path, "train")
    (tmp_path / "runs").mkdir(exist_ok=True)
    (tmp_path / "runs" / "cache").symlink_to(prepared / "runs" / "cache")
    with pytest.raises(SystemExit, match="training text"):
        run(tmp_path, "train")
    with pytest.raises(SystemExit, match="no trained and calibrated model"):
        run(tmp_path, "export")
    with pytest.raises(SystemExit):
        run(tmp_path, "bake")


def test_missing_recordings_are_named(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match=r"MANIFEST\.csv is missing"):
        read_recordings(tmp_path, load_config().split)
    (tmp_path / "MANIFEST.csv").write_text("file,label\n")
    with pytest.raises(SystemExit, match="lacks the columns author"):
        read_recordings(tmp_path, load_config().split)


def test_every_label_of_the_library_is_a_concept_with_its_prompts() -> None:
    concepts = load_concepts()
    for label in load_library().labels:
        phrases = concepts.all[concepts.index[label.id]].phrases
        assert set(label.prompts) <= set(phrases)


def test_calibration_finds_the_curve_that_made_the_data() -> None:
    rng = np.random.default_rng(2)
    margins = rng.normal(0, 0.3, 20_000)
    present = rng.random(20_000) < 1 / (1 + np.exp(-(12 * margins - 1)))
    scale, bias = fit(margins, present)
    assert scale == pytest.approx(12, rel=0.1)
    # One in five counts as present, whatever the share in the data.
    odds = np.log(0.25) - np.log(present.mean() / (1 - present.mean()))
    assert bias == pytest.approx(-1 + odds, abs=0.2)
