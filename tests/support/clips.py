"""Recordings with a manifest, for the commands that take one."""

from __future__ import annotations

import csv
from typing import TYPE_CHECKING

from clap_server.audio.encode import encode

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

RATE = 48_000


def write_clips(folder: Path, clips: Iterable[tuple[str, str, NDArray[np.float32]]]) -> Path:
    """Write recordings, each a name, a label and samples at 48 kHz; returns their manifest ``clips.csv``."""
    rows = [("file", "label")]
    for name, label, samples in clips:
        (folder / f"{name}.flac").write_bytes(encode(samples, RATE, "flac"))
        rows.append((f"{name}.flac", label))
    manifest = folder / "clips.csv"
    with manifest.open("w", newline="") as handle:
        csv.writer(handle).writerows(rows)
    return manifest
