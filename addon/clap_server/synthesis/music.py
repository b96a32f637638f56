"""Something like music: chords, plucked notes, drums and cymbals."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from clap_server.synthesis.signal import (
    SAMPLE_RATE,
    add_at,
    band,
    fade,
    normalize,
    shaped_noise,
    tone,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray

_CHORDS = ((0, 4, 7), (5, 9, 12), (7, 11, 14), (9, 12, 16), (2, 5, 9))


def _drum(rng: np.random.Generator, sample_rate: int, kind: int) -> NDArray[np.float32]:
    """Kick (0), snare (1), hi-hat (2) or cymbal (3)."""
    length_s = (0.3, 0.25, 0.08, 1.2)[kind]
    count = int(length_s * sample_rate)
    times = np.arange(count) / sample_rate
    if kind == 0:
        return tone(45 + 90 * np.exp(-times / 0.03), count, sample_rate) * np.exp(-times / 0.09).astype(
            np.float32
        )
    low_hz, decay_s = ((0, 0), (900, 0.06), (6000, 0.02), (4000, 0.3))[kind]
    hiss = shaped_noise(rng, count, sample_rate, band(low_hz, 14000)) * 0.3
    return (hiss * np.exp(-times / decay_s)).astype(np.float32)


def music(
    rng: np.random.Generator, sample_rate: int = SAMPLE_RATE, *, duration_s: float = 4.0
) -> NDArray[np.float32]:
    """Chords, plucked notes and, mostly, drums at one tempo."""
    sound = np.zeros(int(duration_s * sample_rate), np.float32)
    beat_s = 60 / rng.uniform(70, 160)
    root = 110 * 2 ** (rng.integers(0, 12) / 12)
    harmonics = tuple(float(a) / k for k, a in enumerate(rng.uniform(0.2, 1, 8), start=1))
    drums, pluck_s = rng.random() < 0.7, rng.uniform(0.1, 0.5)
    for beat in range(int(duration_s / beat_s) + 1):
        start = int(beat * beat_s * sample_rate)
        chord = _CHORDS[(beat // 4 + int(root)) % len(_CHORDS)]
        if beat % 4 == 0:
            count = int(4 * beat_s * sample_rate)
            for step in chord:
                held = tone(root * 2 ** (step / 12), count, sample_rate, harmonics)
                add_at(sound, start, fade(0.12 * held, sample_rate, 0.05))
        for half in range(2):
            pitch = 2 * root * 2 ** (chord[int(rng.integers(3))] / 12)
            count = int(4 * pluck_s * sample_rate)
            note = tone(float(pitch), count, sample_rate, harmonics)
            note *= np.exp(-np.arange(count) / (pluck_s * sample_rate)).astype(np.float32)
            place = start + int(half * beat_s / 2 * sample_rate)
            add_at(sound, place, fade(note * rng.uniform(0.1, 0.3), sample_rate, 0.002))
            if drums:
                add_at(sound, place, 0.4 * _drum(rng, sample_rate, 2))
        if drums:
            add_at(sound, start, 0.8 * _drum(rng, sample_rate, beat % 2))
            if rng.random() < 0.1:
                add_at(sound, start, 0.6 * _drum(rng, sample_rate, 3))
    return normalize(sound)
