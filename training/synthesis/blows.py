"""Blows and friction on wood and glass that hold: knocks on a window, hammering, a chair that scrapes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from clap_server.synthesis.grains import body, convolved, hiss, pulse_train, ragged, struck, wander
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


def board(rng: np.random.Generator, sample_rate: int, low_hz: float, high_hz: float) -> NDArray[np.float32]:
    """A piece of wood that is struck: well damped modes and a dull knock.

    Args:
        low_hz: lowest mode.
        high_hz: highest mode.

    Returns:
        ``(n,)``, 0.35 s with a peak of 1.
    """
    number = int(rng.integers(6, 14))
    frequencies = log_uniform(rng, low_hz, high_hz, number)
    rings = float(log_uniform(rng, 0.01, 0.05)) * (low_hz / frequencies) ** 0.4
    levels = rng.lognormal(0.0, 0.5, number) * (low_hz / frequencies) ** rng.uniform(0.2, 0.9)
    sound = modes(rng, sample_rate, 0.35, frequencies, levels, rings)
    gain = ragged(rng, 100, float(log_uniform(rng, 800, 6000)), 4)
    knock = hiss(rng, sample_rate, len(sound) / sample_rate, gain, float(log_uniform(rng, 0.002, 0.015)))
    add_at(sound, 0, rng.uniform(0.07, 0.35) * float(np.abs(sound).max()) * knock)
    return unit_peak(sound)


TAP_KINDS = ("knuckle", "nail", "hard")


def tap_on_glass(
    rng: np.random.Generator,
    sample_rate: int = SAMPLE_RATE,
    *,
    kind: str | None = None,
    duration_s: float = 2.0,
) -> NDArray[np.float32]:
    """Knuckles, a fingernail or something hard against a pane, which holds: dull to bright, nothing falls.

    The frame damps a pane's modes within some tens of milliseconds, and the longer a contact takes, the less
    treble it excites (K. van den Doel, P. G. Kry and D. K. Pai, "FoleyAutomatic", SIGGRAPH 2001).
    """
    name = chosen(rng, kind, TAP_KINDS, "tap")
    contact_s = {"knuckle": (0.0008, 0.003), "nail": (0.0001, 0.0004), "hard": (0.00003, 0.0002)}[name]
    number = int(rng.integers(20, 40))
    frequencies = log_uniform(rng, rng.uniform(60, 250), 12000, number)
    pressed = 1 / (1 + (frequencies * float(log_uniform(rng, *contact_s)) * 3) ** 2)
    rings = float(log_uniform(rng, 0.01, 0.05)) * (frequencies.min() / frequencies) ** 0.3
    pane = modes(rng, sample_rate, 0.3, frequencies, rng.lognormal(0.0, 0.5, number) * pressed, rings)
    moment, starts = rng.uniform(0.02, 0.2), []
    while moment < 0.9 * duration_s:
        knocks, pace_s = int(rng.integers(1, 6)), rng.uniform(0.1, 0.35)
        starts += [moment + index * pace_s * rng.normal(1.0, 0.03) for index in range(knocks)]
        moment += knocks * pace_s + rng.uniform(0.4, 1.5)
    hits = (np.array(starts), rng.uniform(0.4, 1.0, len(starts)))
    sound = struck(rng, sample_rate, int(duration_s * sample_rate), hits, [unit_peak(pane)])
    return normalize(fade(sound, sample_rate, 0.002))


def steady_blows(
    rng: np.random.Generator,
    duration_s: float,
    *,
    rate_hz: tuple[float, float],
    first_s: float,
    jitter: float,
    spread: float,
    missed: float,
) -> tuple[NDArray[np.floating], NDArray[np.floating]]:
    """Times and levels of blows by a hand that keeps a pace.

    Args:
        rng: gives pace, timing and force.
        duration_s: length in seconds.
        rate_hz: least and most blows a second.
        first_s: when the first comes.
        jitter: standard deviation of the times, in paces.
        spread: standard deviation of the levels' logarithms.
        missed: how many are left out, 0 to 1; never the first.

    Returns:
        ``(k,)`` seconds and ``(k,)`` levels, the first 1.
    """
    pace_s = 1 / rng.uniform(*rate_hz)
    starts = first_s + pace_s * np.arange(int(duration_s / pace_s) + 1)
    starts = np.maximum(starts + rng.normal(0.0, jitter * pace_s, len(starts)), 0.0)
    levels = rng.lognormal(-spread, spread, len(starts)) * (rng.random(len(starts)) > missed)
    levels[0] = 1.0
    return starts, levels


def hammering(
    rng: np.random.Generator, sample_rate: int = SAMPLE_RATE, *, duration_s: float = 3.0
) -> NDArray[np.float32]:
    """A hammer that drives nails into wood or a wall, two to four blows a second."""
    count = int(duration_s * sample_rate)
    hits = steady_blows(
        rng, duration_s, rate_hz=(1.5, 4.0), first_s=0.02, jitter=0.03, spread=0.2, missed=0.1
    )
    wall = board(rng, sample_rate, rng.uniform(60, 200), rng.uniform(700, 3000))
    nail = body(rng, sample_rate, number=8, hz=(1500, 9000), decay_s=(0.003, 0.05), click=0.8)
    head = body(rng, sample_rate, number=8, hz=(1800, 10000), decay_s=(0.003, 0.05), click=0.8)
    sound = struck(rng, sample_rate, count, hits, [wall])
    metal = struck(rng, sample_rate, count, hits, [nail, head])
    return normalize(fade(sound + np.float32(log_uniform(rng, 0.1, 1.5)) * metal, sample_rate, 0.002))


def chair_scrape(
    rng: np.random.Generator, sample_rate: int = SAMPLE_RATE, *, duration_s: float = 2.5
) -> NDArray[np.float32]:
    """A chair or table pushed over the floor: it sticks and slips, which makes it groan, squeak or rumble.

    Stick and slip repeat as a sawtooth whose rate follows the speed (A. Akay, "Acoustics of friction",
    Journal of the Acoustical Society of America 111, 2002), heard through the resonances of the furniture.
    """
    count = int(duration_s * sample_rate)
    sound = np.zeros(count, np.float32)
    wood = body(
        rng,
        sample_rate,
        number=int(rng.integers(8, 20)),
        hz=(rng.uniform(100, 300), rng.uniform(2000, 7000)),
        decay_s=(0.003, 0.03),
        click=0.3,
    )
    slips_hz = float(log_uniform(rng, 40, 700))
    moment = rng.uniform(0.0, 0.1 * duration_s)
    while moment < 0.95 * duration_s:
        push_s = rng.uniform(0.15, 0.9)
        length = int(push_s * sample_rate)
        speed = wander(rng, length, sample_rate, 10, 0.15)
        phase = np.cumsum(slips_hz * speed + rng.normal(0, 0.3 * slips_hz, length)) / sample_rate
        slips = np.flatnonzero(np.diff(np.floor(phase)) > 0)
        train = pulse_train(length, sample_rate, slips / sample_rate, rng.lognormal(-0.3, 0.3, len(slips)))
        rough = shaped_noise(rng, length, sample_rate, ragged(rng, 100, 4000, 4))
        push = convolved((train + np.float32(log_uniform(rng, 0.002, 0.05)) * rough, wood))
        push *= wander(rng, length, sample_rate, 20, 0.4)
        add_at(sound, int(moment * sample_rate), rng.uniform(0.4, 1.0) * fade(push, sample_rate, 0.03))
        moment += push_s + rng.uniform(0.05, 0.6)
    return normalize(fade(sound, sample_rate, 0.002))
