"""Backgrounds without events: coloured noise, hum, fans, rain."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from clap_server.synthesis.signal import (
    SAMPLE_RATE,
    add_at,
    band,
    chosen,
    log_uniform,
    modes,
    normalize,
    shaped_noise,
    tone,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray

NOISE_KINDS = ("white", "pink", "brown", "hum", "fan", "rain")


def _tilted(slope: float, rng: np.random.Generator, count: int, sample_rate: int) -> NDArray[np.float32]:
    """Noise whose amplitude spectrum falls as frequency to the power ``slope``."""
    return shaped_noise(rng, count, sample_rate, lambda hz: np.maximum(hz, 20.0) ** slope)


def _hum(rng: np.random.Generator, count: int, sample_rate: int) -> NDArray[np.float32]:
    mains = float(rng.choice([50.0, 60.0]))
    harmonics = tuple(float(a) / k for k, a in enumerate(rng.uniform(0.1, 1, 12), start=1))
    return tone(mains, count, sample_rate, harmonics) + 0.1 * _tilted(-0.5, rng, count, sample_rate)


def _fan(rng: np.random.Generator, count: int, sample_rate: int) -> NDArray[np.float32]:
    times = np.arange(count) / sample_rate
    blades = 1 + rng.uniform(0.05, 0.3) * np.sin(2 * np.pi * rng.uniform(8, 60) * times)
    air = shaped_noise(rng, count, sample_rate, band(rng.uniform(40, 150), rng.uniform(400, 3000), 1.0))
    motor = tone(rng.uniform(90, 400), count, sample_rate, (1.0, 0.6, 0.4, 0.2))
    return (air * blades + rng.uniform(0.05, 0.5) * motor).astype(np.float32)


def _rain(rng: np.random.Generator, count: int, sample_rate: int) -> NDArray[np.float32]:
    sound = 0.3 * shaped_noise(rng, count, sample_rate, band(rng.uniform(400, 1500), 12000, 1.0))
    duration_s = count / sample_rate
    drops = [
        modes(
            rng, sample_rate, 0.03, log_uniform(rng, 700, 7000, 2), np.ones(2), rng.uniform(0.001, 0.006, 2)
        )
        for _ in range(12)
    ]
    for start in rng.uniform(0, duration_s, int(rng.uniform(40, 200) * duration_s)):
        drop = drops[int(rng.integers(len(drops)))] * np.float32(rng.lognormal(-0.5, 0.8))
        add_at(sound, int(start * sample_rate), drop)
    return sound


def noise(
    rng: np.random.Generator,
    sample_rate: int = SAMPLE_RATE,
    *,
    kind: str | None = None,
    duration_s: float = 2.0,
) -> NDArray[np.float32]:
    """A steady background."""
    name = chosen(rng, kind, NOISE_KINDS, "noise")
    count = int(duration_s * sample_rate)
    slopes = {"white": 0.0, "pink": -0.5, "brown": -1.0}
    if name in slopes:
        return normalize(_tilted(slopes[name], rng, count, sample_rate))
    makers = {"hum": _hum, "fan": _fan, "rain": _rain}
    return normalize(makers[name](rng, count, sample_rate))
