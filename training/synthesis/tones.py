"""Pure tones that are no alarm: glasses and bowls that sing, whistles and flutes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from clap_server.synthesis.grains import decays, rises, wander
from clap_server.synthesis.signal import (
    SAMPLE_RATE,
    add_at,
    band,
    chosen,
    fade,
    filtered,
    log_uniform,
    modes,
    normalize,
    shaped_noise,
    tone,
    unit_peak,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray

SINGING_KINDS = ("rubbed", "bowed", "struck")
# Modes of a wine glass go up as the square of their number (French, "In vino veritas", 1983), those of a bowl
# somewhat slower.
_GLASS = np.array([1.0, 2.3, 4.2, 6.6, 9.5])
_BOWL = np.array([1.0, 2.7, 5.0, 7.8, 11.0])
WHISTLE_KINDS = ("lips", "pea", "flute", "slide")


def singing_glass(
    rng: np.random.Generator,
    sample_rate: int = SAMPLE_RATE,
    *,
    kind: str | None = None,
    duration_s: float = 4.0,
) -> NDArray[np.float32]:
    """A wine glass or a singing bowl: rubbed with a wet finger, bowed, or struck and left to ring.

    A finger goes round the rim one to three times a second; as the mode turns with it, the tone swells four
    times a turn.
    """
    name = chosen(rng, kind, SINGING_KINDS, "way of singing", (0.4, 0.25, 0.35))
    count = int(duration_s * sample_rate)
    lowest = float(log_uniform(rng, 180, 1600))
    ratios = (_GLASS if rng.random() < 0.5 else _BOWL) ** rng.uniform(0.95, 1.05)
    levels = rng.lognormal(0.0, 0.8, len(ratios)) * ratios ** rng.uniform(-2.0, -0.5)
    if name == "struck":
        pairs = lowest * np.concatenate([ratios, ratios * (1 + rng.uniform(0.0005, 0.006, len(ratios)))])
        rings = float(log_uniform(rng, 0.5, 4.0)) * ratios ** rng.uniform(-0.9, -0.3)
        sound = np.zeros(count, np.float32)
        moment = 0.0
        while moment < duration_s:
            strike = modes(rng, sample_rate, duration_s, pairs, np.tile(levels, 2), np.tile(rings, 2))
            add_at(sound, int(moment * sample_rate), rng.uniform(0.5, 1.0) * strike)
            moment += float(log_uniform(rng, 0.8, 6.0))
        return normalize(fade(sound, sample_rate, 0.0005))
    drift = lowest * wander(rng, count, sample_rate, 3.0, 0.001)
    sound = np.zeros(count, np.float32)
    for ratio, level in zip(ratios, levels * (0.3 if name == "rubbed" else 1.0), strict=True):
        sound += np.float32(level) * tone(drift * ratio, count, sample_rate)
    sound += np.float32(levels[0]) * tone(drift, count, sample_rate, (1.0, 0.15, 0.1, 0.05))
    sound *= rises(count, sample_rate, float(log_uniform(rng, 0.03, 0.8)))
    sound *= wander(rng, count, sample_rate, rng.uniform(1, 4), rng.uniform(0.05, 0.4))
    if name == "rubbed":
        turns = np.cumsum(rng.uniform(1, 3) * wander(rng, count, sample_rate, 1.0, 0.1)) / sample_rate
        swell = 1 + rng.uniform(0.2, 0.95) * np.cos(2 * np.pi * 4 * turns)
        sound *= swell.astype(np.float32)
    else:  # each stroke of the bow ends, and the glass rings on
        stroke = int(float(log_uniform(rng, 0.5, 3.0)) * sample_rate)
        ring = decays(count, sample_rate, rng.uniform(0.2, 1.0))
        sound[stroke:] *= ring[: max(count - stroke, 0)]
    rub = shaped_noise(rng, count, sample_rate, band(lowest, 6 * lowest, 1.0))
    scratch = unit_peak(sound) + np.float32(log_uniform(rng, 0.001, 0.03)) * rub
    return normalize(fade(scratch, sample_rate, 0.01))


def _notes(
    rng: np.random.Generator, sample_rate: int, name: str, count: int
) -> tuple[NDArray[np.float64], NDArray[np.float32]]:
    """Pitch in Hz and level of each sample: a melody, calls or blasts."""
    ranges = {"lips": (700, 2200), "pea": (2000, 3800), "flute": (350, 1500), "slide": (500, 1500)}
    pitch, level = np.full(count, 1000.0), np.zeros(count, np.float32)
    base = float(log_uniform(rng, *ranges[name]))
    vibrato_hz, depth = rng.uniform(4, 7), rng.uniform(0.0, 0.02)
    place = 0
    while place < count:
        length = int(float(log_uniform(rng, 0.1, 0.9)) * sample_rate)
        steps = np.linspace(0, 1, length)
        note = base * 2 ** (int(rng.integers(-5, 8)) / 12) if name in {"lips", "flute"} else base
        glide = rng.uniform(-1.5, 1.5) if name == "slide" else float(rng.normal(0.0, 0.08))
        bent = (
            note
            * 2 ** (glide * steps)
            * (1 + depth * np.sin(2 * np.pi * vibrato_hz * steps * length / sample_rate))
        )
        end = min(place + length, count)
        pitch[place:end] = bent[: end - place]
        shape = np.minimum(np.minimum(steps, 1 - steps) * rng.uniform(6, 25), 1.0) * rng.uniform(0.5, 1.0)
        level[place:end] = shape[: end - place]
        place = end + (int(rng.uniform(0.05, 0.8) * sample_rate) if rng.random() < 0.4 else 0)
    return pitch, level


def whistling(
    rng: np.random.Generator,
    sample_rate: int = SAMPLE_RATE,
    *,
    kind: str | None = None,
    duration_s: float = 4.0,
) -> NDArray[np.float32]:
    """Someone who whistles a tune, a referee's whistle, a flute or a slide whistle."""
    name = chosen(rng, kind, WHISTLE_KINDS, "whistle", (0.4, 0.15, 0.3, 0.15))
    count = int(duration_s * sample_rate)
    pitch, level = _notes(rng, sample_rate, name, count)
    overtones = {"lips": 0.03, "pea": 0.2, "flute": 0.5, "slide": 0.15}[name]
    harmonics = tuple(float(x) for x in (1.0, *overtones ** np.arange(1, 5) * rng.uniform(0.3, 1.5, 4)))
    sound = tone(pitch, count, sample_rate, harmonics)
    if name == "pea":  # the pea cuts the air off at random, some 40 times a second
        rattle = tone(rng.uniform(25, 60) * wander(rng, count, sample_rate, 8, 0.1), count, sample_rate)
        sound *= 1 + np.float32(rng.uniform(0.4, 0.9)) * rattle
    centre = float(np.median(pitch))
    air = shaped_noise(rng, count, sample_rate, band(0.7 * centre, 4 * centre, 1.0))
    sound = (sound + np.float32(log_uniform(rng, 0.005, 0.12)) * air) * level
    sound = filtered(sound, sample_rate, band(100, 16_000, 1.0))
    return normalize(fade(sound, sample_rate, 0.003))
