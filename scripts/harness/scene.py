"""A stretch of home sounds in which glass breaks, from real recordings where they are there."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from clap_server import synthesis
from clap_server.audio.decode import decode
from scripts.harness.configuration import REPOSITORY

if TYPE_CHECKING:
    from numpy.typing import NDArray

SAMPLE_RATE = 48_000
RECORDINGS = REPOSITORY.parent / "shared" / "sounds"


@dataclass(frozen=True)
class Scene:
    """A recording with a break in it.

    Attributes:
        samples: ``(n,)`` float32 mono at 48 kHz.
        break_s: seconds from the start to the onset of the break.
        glass: the break alone, as it lies in ``samples``.
        real: whether it is made of recordings (else of synthesised sounds).
    """

    samples: NDArray[np.float32]
    break_s: float
    glass: NDArray[np.float32]
    real: bool


def make_scene(seed: int, *, break_s: float, duration_s: float) -> Scene:
    """Lay a break into other sounds of a home."""
    rng = np.random.default_rng(seed)
    real = (RECORDINGS / "MANIFEST.csv").exists()
    glass, others = _recorded(rng, duration_s) if real else _synthesised(rng, duration_s)
    glass = (0.5 * glass / np.abs(glass).max()).astype(np.float32)
    first = round(break_s * SAMPLE_RATE)
    samples = others.copy()
    # A camera's microphone hears the break far above the room.
    samples[first : first + len(glass)] += glass
    return Scene(np.clip(samples, -1, 1), break_s, glass, real)


def _recorded(rng: np.random.Generator, duration_s: float) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    with (RECORDINGS / "MANIFEST.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    breaks = [row for row in rows if row["label"] == "glass_breaking" and float(row["duration_s"]) >= 1]
    quiet = ("speech", "rain", "clock", "footstep")
    others = [
        row
        for row in rows
        if row["label"] == "negative"
        and any(word in row["fine_label"] for word in quiet)
        and float(row["duration_s"]) > 1
    ]
    glass = decode(RECORDINGS / breaks[int(rng.integers(len(breaks)))]["file"], SAMPLE_RATE)
    room = np.zeros(round(duration_s * SAMPLE_RATE), np.float32)
    first = 0
    while first < len(room):
        other = decode(RECORDINGS / others[int(rng.integers(len(others)))]["file"], SAMPLE_RATE)
        other = other[: len(room) - first]
        # Conversation level: about 20 dB below the break.
        room[first : first + len(other)] += 0.05 * other / max(float(np.abs(other).max()), 1e-3)
        first += len(other)
    return glass, room


def _synthesised(
    rng: np.random.Generator, duration_s: float
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    count = round(duration_s * SAMPLE_RATE)
    babble = synthesis.babble(rng, SAMPLE_RATE, duration_s=duration_s)[:count]
    return synthesis.glass_break(rng, SAMPLE_RATE), 0.05 * babble / np.abs(babble).max()
