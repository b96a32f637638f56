"""Blows: struck metal, doors and boxes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from clap_server.synthesis.signal import (
    SAMPLE_RATE,
    add_at,
    band,
    fade,
    log_uniform,
    modes,
    normalize,
    shaped_noise,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray


def impact(
    rng: np.random.Generator, sample_rate: int = SAMPLE_RATE, *, duration_s: float = 1.5
) -> NDArray[np.float32]:
    """Heavy metal that is struck: a short blow, then many inharmonic modes from low to middle pitch."""
    number = int(rng.integers(12, 30))
    lowest = log_uniform(rng, 120, 500)
    frequencies = lowest * np.sort(log_uniform(rng, 1, 25, number))
    longest = rng.uniform(0.15, 0.6)
    decays = longest * (lowest / frequencies) ** rng.uniform(0.3, 0.7)
    sound = modes(rng, sample_rate, duration_s, frequencies, rng.uniform(0.2, 1.0, number), decays)
    times = np.arange(len(sound)) / sample_rate
    blow = shaped_noise(rng, len(sound), sample_rate, band(200, rng.uniform(3000, 9000)))
    sound += (2.0 * blow * np.exp(-times / rng.uniform(0.004, 0.02))).astype(np.float32)
    return normalize(fade(sound, sample_rate, 0.0005))


def thud(
    rng: np.random.Generator, sample_rate: int = SAMPLE_RATE, *, duration_s: float = 1.0
) -> NDArray[np.float32]:
    """A door that slams, a drawer, a box put down, a knock: low, dull and short."""
    sound = np.zeros(int(duration_s * sample_rate), np.float32)
    frequencies = log_uniform(rng, 60, 500, 6)
    decays = rng.uniform(0.015, 0.08, 6)
    rattle_hz = rng.uniform(800, 3000)
    for start in np.cumsum(rng.uniform(0.02, 0.3, int(rng.integers(1, 4)))):
        body = modes(rng, sample_rate, 0.5, frequencies, rng.uniform(0.3, 1, 6), decays)
        times = np.arange(len(body)) / sample_rate
        rattle = shaped_noise(rng, len(body), sample_rate, band(100, rattle_hz))
        blow = body + rattle * np.exp(-times / rng.uniform(0.01, 0.05))
        add_at(sound, int(start * sample_rate), blow * rng.uniform(0.4, 1.0))
    return normalize(sound)
