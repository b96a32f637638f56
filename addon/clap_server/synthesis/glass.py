"""Glass that breaks.

A real break is broadband at the onset (the crack) and turns into a shower of small, quickly decaying hits as
the shards part, fall and bounce. Only a sum of long ringing modes is what a *clink* sounds like, and a model
trained on that hears glass in every kitchen.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

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
)

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class _Body:
    """Ranges for one kind of thing made of glass."""

    thump: tuple[float, float]
    crack_low_hz: tuple[float, float]
    crack_decay_s: tuple[float, float]
    spray_decay_s: tuple[float, float]
    spray_level: tuple[float, float]
    shards: tuple[int, int]
    shard_hz: tuple[float, float]
    shard_decay_s: tuple[float, float]
    spread_s: tuple[float, float]


_BODIES = {
    "pane": _Body(
        (0.1, 0.9),
        (500, 2500),
        (0.015, 0.07),
        (0.08, 0.35),
        (0.15, 0.5),
        (30, 110),
        (1500, 11000),
        (0.004, 0.05),
        (0.15, 0.6),
    ),
    "bottle": _Body(
        (0.0, 0.5),
        (900, 3000),
        (0.008, 0.04),
        (0.05, 0.18),
        (0.1, 0.4),
        (12, 45),
        (2000, 12000),
        (0.006, 0.06),
        (0.08, 0.35),
    ),
    "drinking_glass": _Body(
        (0.0, 0.3),
        (1500, 4000),
        (0.005, 0.03),
        (0.04, 0.15),
        (0.1, 0.35),
        (15, 60),
        (3000, 14000),
        (0.006, 0.07),
        (0.08, 0.4),
    ),
    "tempered": _Body(
        (0.1, 0.8),
        (800, 3000),
        (0.02, 0.08),
        (0.2, 0.7),
        (0.35, 0.8),
        (80, 160),
        (3000, 13000),
        (0.002, 0.015),
        (0.2, 0.8),
    ),
}
GLASS_KINDS = tuple(_BODIES)


def _spray(
    rng: np.random.Generator, count: int, sample_rate: int, decay_s: float, low_hz: float
) -> NDArray[np.float32]:
    """Crackle: noise whose level is itself a decaying rain of random grains."""
    times = np.arange(count) / sample_rate
    noise = shaped_noise(rng, count, sample_rate, band(low_hz, 15000))
    grains = (rng.random(count) < (900 / sample_rate)) * rng.exponential(1.0, count)
    kernel = np.exp(-np.arange(int(0.006 * sample_rate)) / (0.0015 * sample_rate))
    size = 1 << (count + len(kernel)).bit_length()
    rain = np.fft.irfft(np.fft.rfft(grains, size) * np.fft.rfft(kernel, size), size)[:count]
    envelope = (0.25 + np.maximum(rain, 0)) * np.exp(-times / decay_s)
    return (noise * envelope).astype(np.float32)


def glass_break(
    rng: np.random.Generator,
    sample_rate: int = SAMPLE_RATE,
    *,
    kind: str | None = None,
    duration_s: float | None = None,
) -> NDArray[np.float32]:
    """A window pane, bottle, drinking glass or tempered pane that breaks.

    The break starts within the first 10 ms.

    Args:
        duration_s: length; 0.7 to 2 s if left out.
    """
    body = _BODIES[chosen(rng, kind, GLASS_KINDS, "glass", (0.4, 0.2, 0.25, 0.15))]
    length_s = duration_s if duration_s is not None else rng.uniform(0.7, 2.0)
    count = int(length_s * sample_rate)
    times = np.arange(count) / sample_rate
    crack_low = log_uniform(rng, *body.crack_low_hz)

    attack = np.minimum(times / rng.uniform(0.0003, 0.003), 1.0)
    crack = shaped_noise(rng, count, sample_rate, band(float(crack_low), rng.uniform(9000, 18000)))
    sound = crack * (attack * np.exp(-times / rng.uniform(*body.crack_decay_s))).astype(np.float32)
    if rng.random() < 0.4:  # a second crack, as when a pane gives way after the blow
        second = np.zeros(count, np.float32)
        add_at(second, int(rng.uniform(0.02, 0.15) * sample_rate), sound * np.float32(rng.uniform(0.3, 1.0)))
        sound = sound + second
    sound += _spray(rng, count, sample_rate, rng.uniform(*body.spray_decay_s), float(crack_low)) * np.float32(
        rng.uniform(*body.spray_level)
    )
    thump = rng.uniform(*body.thump)
    low = log_uniform(rng, 80, 700, 4)
    sound += modes(rng, sample_rate, length_s, low, np.full(4, thump), rng.uniform(0.01, 0.05, 4))[:count]

    number = int(rng.integers(*body.shards))
    spread = rng.uniform(*body.spread_s)
    starts = rng.exponential(spread, number)
    if rng.random() < 0.6:  # part of the shards hit the floor together
        floor = rng.random(number) < rng.uniform(0.2, 0.6)
        starts[floor] = rng.uniform(0.15, 0.7) + rng.exponential(spread * 0.4, int(floor.sum()))
    shard_level = rng.uniform(0.3, 1.2)
    for start in starts[starts < length_s]:
        partials = int(rng.integers(2, 6))
        decay = float(log_uniform(rng, *body.shard_decay_s))
        shard = modes(
            rng,
            sample_rate,
            min(7 * decay, 0.35),
            log_uniform(rng, *body.shard_hz, partials),
            rng.uniform(0.2, 1.0, partials),
            decay * rng.uniform(0.5, 1.0, partials),
        )
        click = rng.standard_normal(len(shard)) * np.exp(
            -np.arange(len(shard)) / (rng.uniform(0.0005, 0.003) * sample_rate)
        )
        level = shard_level * rng.lognormal(-1.2, 0.7) * np.exp(-start / (2 * spread))
        add_at(sound, int(start * sample_rate), (shard + rng.uniform(0.3, 1.2) * click) * level)

    tilt = rng.uniform(-0.5, 0.4)
    sound = filtered(sound, sample_rate, lambda hz: (np.maximum(hz, 50) / 3000) ** tilt)
    ending = np.minimum((times[::-1]) / (0.15 * length_s), 1.0)
    return normalize(fade((sound * ending).astype(np.float32), sample_rate, 0.0002))
