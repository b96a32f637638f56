"""A handful of sounds and what the first two steps make of them."""

from __future__ import annotations

import csv
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from clap_server import synthesis
from clap_server.audio.encode import encode
from tests.support.teacher import write_teacher
from tests.support.training import BACKGROUNDS, CLIPS, RATE, run
from training.data import COLUMNS

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(scope="session")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Recordings and everyday sound, a teacher, and what the first two steps make of them."""
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
    for name, _, _ in BACKGROUNDS:
        path = folder / "backgrounds" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(encode(synthesis.babble(rng, RATE, duration_s=2.5), RATE, "flac"))
    with (folder / "backgrounds" / "MANIFEST.csv").open("w", newline="") as handle:
        made = [
            (name, "negative", "talk", "caption", 2.5, licence, "Bea Background", repo, f"b/{name}#60")
            for name, licence, repo in BACKGROUNDS
        ]
        csv.writer(handle).writerows([COLUMNS, *made])
    write_teacher(folder / "teacher")
    run(folder, "prepare", "text")
    return folder
