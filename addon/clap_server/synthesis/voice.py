"""Sounds like speech, without words: a source and filter model of the voice."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from clap_server.synthesis.signal import (
    SAMPLE_RATE,
    add_at,
    band,
    fade,
    filtered,
    normalize,
    shaped_noise,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray

# First three formants in Hz of vowels (Peterson and Barney, 1952; rounded).
_VOWELS_HZ = (
    (270, 2290, 3010),
    (390, 1990, 2550),
    (530, 1840, 2480),
    (660, 1720, 2410),
    (730, 1090, 2440),
    (570, 840, 2410),
    (440, 1020, 2240),
    (300, 870, 2240),
    (640, 1190, 2390),
    (490, 1350, 1690),
)


def _formants(
    vowel_hz: tuple[int, ...], tract: float, frequencies_hz: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Magnitude of the vocal tract: one resonance per formant over a falling slope."""
    total = np.zeros_like(frequencies_hz)
    for index, centre in enumerate((*vowel_hz, 3500, 4500)):
        width = 80 + 0.05 * centre
        total += (0.6**index) / (1 + ((frequencies_hz - centre * tract) / width) ** 2)
    return total + 1e-3


def _syllable(
    rng: np.random.Generator, sample_rate: int, length_s: float, pitch_hz: float, tract: float
) -> NDArray[np.float32]:
    count = int(length_s * sample_rate)
    bend = np.linspace(1.0, rng.uniform(0.85, 1.15), count)
    jitter = 1 + 0.01 * np.cumsum(rng.standard_normal(count)) / np.sqrt(count)
    phase = np.cumsum(pitch_hz * bend * jitter) / sample_rate
    pulses = np.diff(np.floor(phase), prepend=0.0)
    breath = 0.02 * rng.standard_normal(count)
    vowel = _VOWELS_HZ[int(rng.integers(len(_VOWELS_HZ)))]
    voiced = filtered(
        pulses + breath,
        sample_rate,
        lambda hz: _formants(vowel, tract, hz) / (1 + (hz / 500) ** 2) ** 0.4,
    )
    shape = np.sin(np.linspace(0, np.pi, count)) ** 0.6
    return normalize(voiced * shape, 1.0)


def babble(
    rng: np.random.Generator,
    sample_rate: int = SAMPLE_RATE,
    *,
    duration_s: float = 4.0,
    talkers: int | None = None,
) -> NDArray[np.float32]:
    """One or several people who talk without words: vowels and hisses in the rhythm of syllables.

    Args:
        talkers: how many; 1 to 3 if left out.
    """
    sound = np.zeros(int(duration_s * sample_rate), np.float32)
    for _ in range(talkers if talkers is not None else int(rng.integers(1, 4))):
        pitch, tract = rng.uniform(85, 260), rng.uniform(0.9, 1.2)
        level, moment = rng.uniform(0.4, 1.0), rng.uniform(0, 0.3)
        while moment < duration_s:
            length_s = rng.uniform(0.09, 0.28)
            if rng.random() < 0.35:
                hiss_s = rng.uniform(0.03, 0.12)
                hiss = shaped_noise(
                    rng, int(hiss_s * sample_rate), sample_rate, band(rng.uniform(2000, 4500), 9000)
                )
                add_at(sound, int(moment * sample_rate), fade(0.06 * level * hiss, sample_rate, 0.015))
                moment += hiss_s * 0.8
            voiced = _syllable(rng, sample_rate, length_s, pitch * rng.uniform(0.85, 1.25), tract)
            add_at(sound, int(moment * sample_rate), voiced * level * rng.uniform(0.4, 1.0))
            moment += length_s + (rng.uniform(0.2, 0.7) if rng.random() < 0.12 else rng.uniform(0, 0.06))
    return normalize(sound)
