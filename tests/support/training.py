"""A training of two steps on a handful of sounds."""

from __future__ import annotations

from typing import TYPE_CHECKING

from training.__main__ import main
from training.prepare import MAKERS

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

RATE = 48_000
SMALL = {
    "model.channels": [8, 8, 16, 16, 32],
    "text.width": 16,
    "text.heads": 2,
    "text.feed_forward": 32,
    "text.limit": 40,
    "text.steps": 2,
    "text.batch": 8,
    "text.layers": 1,
    "train.batch": 8,
    "train.threads": 1,
    "train.finish.steps": 0,
    "train.polish.steps": 0,
    "train.everyday.steps": 0,
    "train.steady.steps": 0,
    "train.settle.steps": 0,
    "train.checkpoint_every": 1,
    "train.validation_windows": 96,
    "distil.shard": 8,
    "distil.steps": 2,
    "distil.windows": 4,
    "distil.earlier": 4,
    "distil.mixed": 4,
    "distil.prefix": 16,
    "distil.synthetic": 3,
    "distil.settle.steps": 0,
    "distil.settle.earlier": 4,
    "distil.settle.mixed": 4,
    "crossvalidation.steps": 1,
    "crossvalidation.finish_steps": 0,
    "crossvalidation.polish_steps": 0,
    "crossvalidation.everyday_steps": 0,
    "crossvalidation.steady_steps": 0,
    "crossvalidation.settle_steps": 0,
    "crossvalidation.distil_steps": 1,
    "crossvalidation.rooms": 2,
    "crossvalidation.home_minutes": 1,
    "prepare.processes": 1,
    "prepare.rooms": 2,
    "prepare.rare_copies": 2,
    **{
        f"prepare.synthetic.{maker}": 6 if maker in {"glass_break", "noise", "t4_alarm"} else 0
        for maker in MAKERS
    },
}
# label, fine_label, licence, source_repo; the folds are 0, none, 1, 0, 3, none, 1, 2. Among what is held out
# together there is always a steady sound, to lie under the others.
CLIPS = [
    ("glass_breaking", "glass_break", "CC0-1.0", "Fris0uman/CDDA-Soundpacks"),
    ("glass_breaking", "glass_break", "CC-BY-SA-3.0", "two/glass"),
    ("alarm", "fire_alarm", "CC-BY-4.0", "Tonejs/audio"),
    ("negative", "speech", "CC0-1.0", "Fris0uman/CDDA-Soundpacks"),
    ("negative", "music", "CC-BY-3.0", "one/music"),
    ("negative", "rain", "CC-BY-SA-3.0", "two/glass"),
    ("negative", "wind", "CC-BY-4.0", "Tonejs/audio"),
    ("negative", "rain", "CC0-1.0", "openclonk/openclonk"),
]
# file, licence, source_repo of everyday sound: of a source of its own, of fold 1, of fold 3, never used,
# trained on.
BACKGROUNDS = [
    ("speech/talk.flac", "CC-BY-4.0", "talk/here"),
    ("household/cups.flac", "CC-BY-3.0", "Tonejs/audio"),
    ("music/tune.flac", "CC0-1.0", "one/music"),
    ("noise/hum.flac", "CC-BY-SA-3.0", "hum/there"),
    ("household/bowl.flac", "CC0-1.0", "Picovoice/rooms"),
]


def run(folder: Path, *steps: str, total: int = 2, options: Sequence[str] = ()) -> None:
    """`python -m training STEPS` on the small settings; nothing is written outside ``folder``."""
    settings = {**SMALL, "train.steps": total}
    arguments = [piece for name, value in settings.items() for piece in ("--set", f"{name}={value}")]
    places = {
        "--data": "sounds",
        "--backgrounds": "backgrounds",
        "--teacher": "teacher",
        "--runs": "runs",
        "--out": "package",
    }
    paths = [piece for name, place in places.items() for piece in (name, str(folder / place))]
    code = main([*steps, *paths, *arguments, *options])
    if code:
        raise AssertionError(f"{steps} ended with {code}")
