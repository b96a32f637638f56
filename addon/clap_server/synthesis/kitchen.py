"""What a kitchen sounds like without anything breaking: cupboards, washing up, chopping, the stove."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from clap_server.synthesis.clinks import cutlery, dishes, glass_clink
from clap_server.synthesis.grains import body, bounces, decays, hiss, ragged, struck, wander
from clap_server.synthesis.signal import (
    SAMPLE_RATE,
    add_at,
    band,
    fade,
    filtered,
    log_uniform,
    modes,
    normalize,
    shaped_noise,
)
from clap_server.synthesis.textures import pouring

if TYPE_CHECKING:
    from numpy.typing import NDArray


def _panel(rng: np.random.Generator, sample_rate: int, low_hz: float, high_hz: float) -> NDArray[np.float32]:
    """Wood or board that is struck: well damped modes and a dull knock; peak 1."""
    number = int(rng.integers(6, 14))
    frequencies = log_uniform(rng, low_hz, high_hz, number)
    rings = float(log_uniform(rng, 0.01, 0.05)) * (low_hz / frequencies) ** 0.4
    levels = rng.lognormal(0.0, 0.5, number) * (low_hz / frequencies) ** rng.uniform(0.2, 0.9)
    sound = modes(rng, sample_rate, 0.35, frequencies, levels, rings)
    gain = ragged(rng, 100, float(log_uniform(rng, 800, 6000)), 4)
    knock = hiss(rng, sample_rate, len(sound) / sample_rate, gain, float(log_uniform(rng, 0.002, 0.015)))
    add_at(sound, 0, rng.uniform(0.07, 0.35) * float(np.abs(sound).max()) * knock)
    return sound / np.float32(max(float(np.abs(sound).max()), 1e-9))


CUPBOARD_KINDS = ("door", "drawer")


def cupboard(
    rng: np.random.Generator,
    sample_rate: int = SAMPLE_RATE,
    *,
    kind: str | None = None,
    duration_s: float = 2.0,
) -> NDArray[np.float32]:
    """A cupboard door or drawer that is shut: runners, the thud and its bounces, and what rattles inside.

    Args:
        rng: gives furniture, force and contents.
        sample_rate: in Hz.
        kind: one of ``CUPBOARD_KINDS``; drawn if left out.
        duration_s: length in seconds.

    Returns:
        ``(n,)``, peak 0.7.

    Raises:
        ValueError: ``kind`` is unknown.
    """
    name = kind or str(rng.choice(CUPBOARD_KINDS))
    if name not in CUPBOARD_KINDS:
        raise ValueError(f"unknown cupboard {name!r}: use one of {', '.join(CUPBOARD_KINDS)}")
    count = int(duration_s * sample_rate)
    sound = np.zeros(count, np.float32)
    moment = rng.uniform(0.02, 0.1 * duration_s)
    for _ in range(int(rng.integers(1, 4))):
        if name == "drawer":
            slide_s = rng.uniform(0.15, 0.6)
            gain = ragged(rng, 80, float(log_uniform(rng, 500, 3500)), 5)
            runners = shaped_noise(rng, int(slide_s * sample_rate), sample_rate, gain)
            runners *= wander(rng, len(runners), sample_rate, 25, 0.5)
            level = float(log_uniform(rng, 0.003, 0.05))
            add_at(sound, int(moment * sample_rate), level * fade(runners, sample_rate, 0.03))
            moment += slide_s
        starts, levels = bounces(rng, moment, rng.uniform(0.03, 0.15), rng.uniform(0.15, 0.5), 4)
        force = rng.uniform(0.3, 1.0)
        panel = _panel(rng, sample_rate, rng.uniform(60, 200), rng.uniform(600, 2500))
        sound += struck(rng, sample_rate, count, (starts, force * levels), [panel])
        contents = rng.random()
        if contents < 0.6:
            inside = (cutlery if name == "drawer" else dishes)(rng, sample_rate, duration_s=0.5)
            inside *= decays(len(inside), sample_rate, rng.uniform(0.05, 0.3))
            add_at(sound, int(moment * sample_rate), float(log_uniform(rng, 0.02, 0.5)) * inside)
        if contents > 0.4:  # hinges, handles and loose boards
            number = int(rng.integers(2, 12))
            hits = (moment + rng.exponential(0.06, number), rng.lognormal(-2.0, 0.6, number))
            loose = body(rng, sample_rate, number=8, hz=(400, 5000), decay_s=(0.002, 0.015), click=0.6)
            sound += struck(rng, sample_rate, count, hits, [loose])
        moment += rng.uniform(0.3, 1.0)
    return normalize(fade(sound, sample_rate, 0.002))


def dishwashing(
    rng: np.random.Generator, sample_rate: int = SAMPLE_RATE, *, duration_s: float = 6.0
) -> NDArray[np.float32]:
    """Dishes, glasses and cutlery handled in a sink, with water running or splashing, and thuds of the basin.

    Returns:
        ``(n,)``, peak 0.7.
    """
    count = int(duration_s * sample_rate)
    sound = np.zeros(count, np.float32)
    water = float(log_uniform(rng, 0.02, 0.5))
    if rng.random() < 0.8:
        flow = pouring(rng, sample_rate, duration_s=duration_s)
        sound += np.float32(water) * flow * wander(rng, count, sample_rate, rng.uniform(0.5, 3), 0.4)
    makers = (dishes, cutlery, glass_clink)
    shares = rng.dirichlet((1.5, 1.2, 0.7))
    basin = body(rng, sample_rate, number=12, hz=(150, 3000), decay_s=(0.005, 0.06), click=0.3)
    moment = rng.uniform(0.0, 0.4)
    while moment < 0.97 * duration_s:
        length_s = min(rng.uniform(0.3, 1.5), duration_s)
        handled = makers[int(rng.choice(3, p=shares))](rng, sample_rate, duration_s=length_s)
        if rng.random() < 0.5:  # half under water or in the hand: damped
            handled = filtered(handled, sample_rate, band(80, float(log_uniform(rng, 1500, 7000)), 1.0))
        level = float(log_uniform(rng, 0.08, 1.0))
        add_at(sound, int(moment * sample_rate), level * handled)
        if rng.random() < 0.4:
            hits = (rng.uniform(0, 0.2, 2), rng.uniform(0.2, 0.6, 2))
            thuds = struck(rng, sample_rate, int(0.4 * sample_rate), hits, [basin])
            add_at(sound, int(moment * sample_rate), level * thuds)
        moment += rng.uniform(0.2, 1.0)
    return normalize(fade(sound, sample_rate, 0.003))
