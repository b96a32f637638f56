"""Sounds of very many small events: paper and bags, water, frying, applause."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from clap_server.synthesis.grains import (
    body,
    convolved,
    decays,
    hiss,
    pulse_train,
    ragged,
    rises,
    struck,
    wander,
)
from clap_server.synthesis.signal import (
    SAMPLE_RATE,
    add_at,
    chosen,
    fade,
    log_uniform,
    modes,
    normalize,
    shaped_noise,
    unit_peak,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray

CRINKLE_KINDS = ("paper", "bag", "peel")


def _by_chance(
    rng: np.random.Generator, rates_hz: NDArray[np.floating], sample_rate: int
) -> NDArray[np.float64]:
    """Times in seconds of random events; ``rates_hz``, ``(n,)``, says how often they come at each sample."""
    drawn = rng.random(len(rates_hz), dtype=np.float32)
    return np.flatnonzero(drawn < np.minimum(rates_hz / sample_rate, 0.5)) / sample_rate


def crinkle(
    rng: np.random.Generator,
    sample_rate: int = SAMPLE_RATE,
    *,
    kind: str | None = None,
    duration_s: float = 3.0,
) -> NDArray[np.float32]:
    """Paper that is crumpled, a plastic bag that rustles, or a label or tape that is peeled off.

    Crumpling sheets click with energies that follow a power law, in bursts (E. M. Kramer and A. E. Lobkovsky,
    "Universal power law in the noise from a crumpled elastic sheet", Physical Review E 53, 1996).
    """
    name = chosen(rng, kind, CRINKLE_KINDS, "crinkle")
    ranges = {  # clicks a second, lowest frequency, longest ring, exponent of the click amplitudes
        "paper": ((150, 900), (500, 2000), 0.0025, 1.8),
        "bag": ((300, 2500), (1500, 5000), 0.0015, 1.6),
        "peel": ((600, 4000), (400, 2500), 0.001, 3.0),
    }
    rates, lowest, ring_s, exponent = ranges[name]
    count = int(duration_s * sample_rate)
    motion = wander(rng, count, sample_rate, rng.uniform(3, 12), 0.4 if name == "peel" else 1.0)
    rate = float(log_uniform(rng, *rates)) * motion / motion.mean()
    clicks = _by_chance(rng, rate, sample_rate)
    levels = np.minimum(rng.pareto(exponent, len(clicks)) + 0.1, 12.0) * rng.choice([-1.0, 1.0], len(clicks))
    low = float(log_uniform(rng, *lowest))
    folds = [
        body(rng, sample_rate, number=12, hz=(low, 15000), decay_s=(0.0002, ring_s), click=1.0)
        for _ in range(4)
    ]
    sound = struck(rng, sample_rate, count, (clicks, levels), folds)
    return normalize(fade(sound, sample_rate, 0.002))


def _stream(rng: np.random.Generator, sample_rate: int, count: int, bubbles_hz: float) -> NDArray[np.float32]:
    """Water that falls on water or metal: hiss, and bubbles that ring.

    A bubble of radius r rings at 3.26 / r Hz (r in metres; M. Minnaert, 1933) for some cycles; a few sizes
    stand for all.
    """
    low, high = rng.uniform(300, 1200), rng.uniform(4000, 12000)
    sound = shaped_noise(rng, count, sample_rate, ragged(rng, low, high, 2))
    sound *= np.float32(rng.uniform(0.2, 1.0))
    sound *= wander(rng, count, sample_rate, 15, 0.15)
    number = int(float(log_uniform(rng, 40, 400)) * count / sample_rate)
    starts, levels = rng.uniform(0, count / sample_rate, number), rng.lognormal(-0.7, 0.8, number)
    sizes = log_uniform(rng, 0.5 * bubbles_hz, 2.5 * bubbles_hz, 8)
    bubbles = [
        modes(rng, sample_rate, 0.05, np.array([hz]), np.ones(1), np.array([rng.uniform(3, 8) / hz]))
        for hz in sizes
    ]
    ringing = struck(rng, sample_rate, count, (starts, levels), bubbles)
    return sound + np.float32(rng.uniform(0.3, 1.5)) * ringing


def pouring(
    rng: np.random.Generator, sample_rate: int = SAMPLE_RATE, *, duration_s: float = 4.0
) -> NDArray[np.float32]:
    """A tap that runs, or a vessel that fills: its air column's resonance rises as a quarter wave, c / 4L."""
    count = int(duration_s * sample_rate)
    sound = _stream(rng, sample_rate, count, float(log_uniform(rng, 500, 2500)))
    if rng.random() < 0.5:
        depth_m, filled = rng.uniform(0.08, 0.3), rng.uniform(0.5, 0.92)
        left_m = depth_m * (1 - filled * np.arange(count) / count)
        phase = 2 * np.pi * np.cumsum(343 / (4 * left_m)) / sample_rate
        # Noise that turns slowly in the plane, carried by the resonance: a narrow band around it.
        quadratures = [wander(rng, count, sample_rate, 60, 0.5) - 1 for _ in range(2)]
        ring = quadratures[0] * np.cos(phase) + quadratures[1] * np.sin(phase)
        sound += (rng.uniform(0.5, 3.0) * ring).astype(np.float32)
    if rng.random() < 0.4:  # the tap is turned on and off
        sound = fade(sound, sample_rate, min(0.2, duration_s / 3))
    return normalize(fade(sound, sample_rate, 0.003))


def splash(
    rng: np.random.Generator, sample_rate: int = SAMPLE_RATE, *, duration_s: float = 3.0
) -> NDArray[np.float32]:
    """Something falls or wades into water: a slap, spray that comes down, and bubbles.

    A bubble of radius r (m) rings at 3.26 / r Hz (Minnaert, 1933).

    The first splash is at the start.
    """
    count = int(duration_s * sample_rate)
    sound = np.zeros(count, np.float32)
    moment = 0.0
    while moment < duration_s:
        size = float(log_uniform(rng, 0.1, 1.0))
        length = int(6 * size * sample_rate)
        spray = shaped_noise(
            rng, length, sample_rate, ragged(rng, rng.uniform(100, 900), rng.uniform(3000, 12000), 3)
        )
        spray *= rises(length, sample_rate, rng.uniform(0.003, 0.06))
        spray *= decays(length, sample_rate, size * rng.uniform(0.15, 0.6))
        spray *= wander(rng, length, sample_rate, 40, rng.uniform(0.1, 0.7))
        number = int(float(log_uniform(rng, 5, 80)))
        starts = rng.gamma(2.0, 0.3 * size, number)
        hz = 3.26 / log_uniform(rng, 0.002, 0.02, number)
        bubbles = np.zeros(length, np.float32)
        for start, pitch in zip(starts, hz, strict=True):
            one = modes(rng, sample_rate, 0.08, np.array([pitch]), np.array([1.0]), np.array([12 / pitch]))
            add_at(bubbles, int(start * sample_rate), float(rng.lognormal(-1.0, 0.6)) * one)
        add_at(
            sound, int(moment * sample_rate), unit_peak(spray) + np.float32(rng.uniform(0.0, 0.5)) * bubbles
        )
        moment += float(log_uniform(rng, 0.3, 4.0))
    return normalize(fade(sound, sample_rate, 0.001))


def frying(
    rng: np.random.Generator, sample_rate: int = SAMPLE_RATE, *, duration_s: float = 4.0
) -> NDArray[np.float32]:
    """Something in a hot pan: a hiss and droplets that burst, now more, now less."""
    count = int(duration_s * sample_rate)
    steam = shaped_noise(rng, count, sample_rate, ragged(rng, rng.uniform(1500, 4000), 14000, 2))
    steam *= wander(rng, count, sample_rate, 6, 0.3)
    rate = float(log_uniform(rng, 60, 1200)) * wander(rng, count, sample_rate, 3, 0.5)
    pops = _by_chance(rng, rate, sample_rate)
    levels = np.minimum(rng.pareto(2.0, len(pops)) + 0.1, 15.0)
    drops = [
        body(rng, sample_rate, number=6, hz=(1500, 12000), decay_s=(0.0003, 0.004), click=1.0)
        for _ in range(3)
    ]
    popping = struck(rng, sample_rate, count, (pops, levels), drops)
    return normalize(fade(np.float32(rng.uniform(0.1, 0.8)) * steam + popping, sample_rate, 0.003))


def applause(
    rng: np.random.Generator, sample_rate: int = SAMPLE_RATE, *, duration_s: float = 4.0
) -> NDArray[np.float32]:
    """A few or hundreds of people who clap, each at a pace of their own.

    A clap is a burst of 2 to 10 ms around a resonance of the cupped hands at 0.6 to 2.5 kHz (B. H. Repp, "The
    sound of two hands clapping", Journal of the Acoustical Society of America 81, 1987).
    """
    count = int(duration_s * sample_rate)
    people = int(log_uniform(rng, 2, 300))
    hands = min(people, 10)
    trains = []
    for _ in range(hands):
        starts = []
        for _ in range(-(-people // hands)):
            pace_s = 1 / rng.uniform(2.5, 5.0)
            own = rng.uniform(0, pace_s) + pace_s * np.arange(int(duration_s / pace_s) + 1)
            starts.append(own + rng.normal(0, 0.02, len(own)))
        every = np.concatenate(starts)
        trains.append(pulse_train(count, sample_rate, every, rng.lognormal(-0.5, 0.5, len(every))))
    heard = []
    for train in trains:
        centre = float(log_uniform(rng, 600, 2500))
        gain = ragged(rng, centre / 2, centre * 3, 4)
        heard.append((train, hiss(rng, sample_rate, 0.06, gain, rng.uniform(0.002, 0.01))))
    return normalize(fade(convolved(*heard), sample_rate, 0.003))
