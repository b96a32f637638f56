"""Sounders of fire and burglar alarms as devices make them: bells, tone tables, piezo horns, car sirens."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from clap_server.synthesis.alarms import T3, T4
from clap_server.synthesis.grains import convolved, pulse_train, wander
from clap_server.synthesis.signal import (
    SAMPLE_RATE,
    add_at,
    band,
    chosen,
    fade,
    log_uniform,
    modes,
    normalize,
    shaped_noise,
    tone,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray


def bell_alarm(
    rng: np.random.Generator,
    sample_rate: int = SAMPLE_RATE,
    *,
    strikes_hz: float | None = None,
    duration_s: float = 4.0,
) -> NDArray[np.float32]:
    """A mechanical fire or school bell: a clapper that strikes a steel gong many times a second.

    The gong's modes are inharmonic: those of a shallow shell rise roughly as the square of their order (N. H.
    Fletcher and T. D. Rossing, "The Physics of Musical Instruments", 2nd ed., chapter 21), each split in two
    by imperfections, which beat.

    It rings from the start.

    Args:
        strikes_hz: strikes a second; 8 to 25 if left out.
    """
    count = int(duration_s * sample_rate)
    rate = strikes_hz if strikes_hz is not None else rng.uniform(8, 25)
    number = int(rng.integers(7, 13))
    ratios = (np.arange(2, number + 2) / 2) ** rng.uniform(1.5, 1.9) * rng.normal(1.0, 0.03, number)
    single = float(log_uniform(rng, 350, 1300)) * ratios
    frequencies = np.concatenate([single, single * (1 + rng.uniform(0.0005, 0.006, number))])
    levels = np.tile(rng.lognormal(0.0, 0.6, number) * ratios ** rng.uniform(-0.6, 0.1), 2)
    rings = np.tile(rng.uniform(0.05, 0.5) * ratios**-0.4, 2)
    gong = modes(rng, sample_rate, min(5 * float(rings.max()), duration_s), frequencies, levels, rings)
    knock = shaped_noise(rng, len(gong), sample_rate, lambda hz: 1 / (1 + (hz / 6000) ** 2))
    gong += (
        np.float32(rng.uniform(0.1, 1.0))
        * knock
        * np.exp(
            -np.arange(len(gong), dtype=np.float32) / np.float32(rng.uniform(0.0005, 0.003) * sample_rate)
        )
    )
    starts = np.arange(int(duration_s * rate) + 1) / rate
    starts += rng.normal(0.0, 0.02 / rate, len(starts))
    strikes = pulse_train(count, sample_rate, np.maximum(starts, 0.0), rng.uniform(0.7, 1.0, len(starts)))
    return normalize(fade(convolved((strikes, gong)), sample_rate, 0.001))


# Frequency at each time, 0 where there is silence.
_SOUNDERS: dict[str, Callable[[NDArray[np.float64]], NDArray[np.float64]]] = {
    # BS 5839-1: 800 and 970 Hz, twice a second.
    "alternating": lambda t: np.where((2 * t) % 1 < 0.5, 800.0, 970.0),
    # 800 to 970 Hz, seven times and once a second; 800 to 950 Hz, 120 times a second.
    "fast_sweep": lambda t: 800 + 170 * ((7 * t) % 1),
    "medium_sweep": lambda t: 800 + 170 * (t % 1),
    "lf_buzz": lambda t: 800 + 150 * ((120 * t) % 1),
    # NEN 2575: 500 to 1,200 Hz in 3.5 s, then 0.5 s of silence.
    "slow_whoop": lambda t: np.where(t % 4 < 3.5, 500 + 200 * (t % 4), 0.0),
    # DIN 33404-3: 1,200 down to 500 Hz, once a second.
    "din": lambda t: 1200 - 700 * (t % 1),
    # BS 5839-1: 970 Hz, steady for an evacuation, 1 s on and 1 s off for an alert.
    "continuous": lambda t: np.full(len(t), 970.0),
    "intermittent": lambda t: np.where(t % 2 < 1, 970.0, 0.0),
    # NF S 32-001: 554 Hz for 0.1 s, 440 Hz for 0.4 s.
    "french": lambda t: np.where(t % 0.5 < 0.1, 554.0, 440.0),
    # SS 03 17 11: 660 Hz, 0.15 s on, 0.15 s off.
    "swedish": lambda t: np.where(t % 0.3 < 0.15, 660.0, 0.0),
}
SOUNDER_KINDS = tuple(_SOUNDERS)


def _horn(rng: np.random.Generator, number: int = 14) -> tuple[float, ...]:
    """Harmonics of a square or pulse wave from a small horn, which favours some of them."""
    width = rng.uniform(0.15, 0.5)
    order = np.arange(1, number + 1)
    pulse = np.abs(np.sin(np.pi * order * width)) / order
    uneven = rng.lognormal(0.0, 0.5, number) * order ** rng.uniform(-0.5, 0.5)
    return tuple(float(level) for level in pulse * uneven)


def _keyed(on: NDArray[np.bool_], sample_rate: int, rise_s: float) -> NDArray[np.float32]:
    """A gate without clicks: the moving average of on and off."""
    width = max(int(rise_s * sample_rate), 1)
    sums = np.cumsum(np.concatenate([np.zeros(width), on.astype(np.float64)]))
    return np.asarray((sums[width:] - sums[:-width]) / width, np.float32)


def sounder_alarm(
    rng: np.random.Generator,
    sample_rate: int = SAMPLE_RATE,
    *,
    kind: str | None = None,
    duration_s: float = 4.0,
) -> NDArray[np.float32]:
    """A wall sounder of a fire panel, playing one of the tones of the usual tone tables (EN 54-3, BS 5839-1).

    The pattern begins at its start.
    """
    name = chosen(rng, kind, SOUNDER_KINDS, "sounder")
    count = int(duration_s * sample_rate)
    frequency = _SOUNDERS[name](np.arange(count) / sample_rate)
    gate = _keyed(frequency > 0, sample_rate, 0.003)
    pitch = np.where(frequency > 0, frequency, 440.0) * rng.uniform(0.98, 1.02)
    return normalize(fade(tone(pitch, count, sample_rate, _horn(rng)) * gate, sample_rate, 0.003))


HORN_KINDS = ("t3", "t4", "continuous", "fast", "low")


def _horn_gate(rng: np.random.Generator, name: str, times: NDArray[np.float64]) -> NDArray[np.bool_]:
    """When the horn sounds."""
    if name == "continuous":
        return np.ones(len(times), np.bool_)
    if name == "fast":  # European smoke alarms (EN 14604 leaves the pattern open): two to six beeps a second
        return np.asarray((times * rng.uniform(2, 6)) % 1 < rng.uniform(0.4, 0.7))
    pattern = T4 if name == "t4" else T3
    phase = times % pattern.cycle_s
    on = phase % (pattern.on_s + pattern.gap_s) < pattern.on_s
    return np.asarray((phase < pattern.pulses_s) & on)


def horn_alarm(
    rng: np.random.Generator,
    sample_rate: int = SAMPLE_RATE,
    *,
    kind: str | None = None,
    duration_s: float = 4.0,
) -> NDArray[np.float32]:
    """A smoke or carbon monoxide alarm's piezo horn at 2.8 to 3.6 kHz, or the 520 Hz square wave of UL 217.

    Unlike the steady tones of ``t3_alarm``, the horn is rough: its self-drive wavers, some models chop or
    sweep the tone 10 to 120 times a second, and the harmonics are uneven.

    Args:
        kind: one of ``HORN_KINDS``; drawn if left out. ``low`` is 520 Hz with the temporal-three pattern.
        duration_s: length in seconds; patterns start with their first pulse.
    """
    name = chosen(rng, kind, HORN_KINDS, "horn", (0.35, 0.15, 0.1, 0.25, 0.15))
    count = int(duration_s * sample_rate)
    times = np.arange(count) / sample_rate
    gate = _keyed(_horn_gate(rng, name, times), sample_rate, rng.uniform(0.002, 0.012))
    if name == "low":
        odd = tuple(1 / k if k % 2 else float(rng.uniform(0, 0.05)) for k in range(1, 20))
        return normalize(
            fade(tone(520.0 * rng.uniform(0.95, 1.05), count, sample_rate, odd) * gate, sample_rate)
        )
    carrier = rng.uniform(2800, 3600) * wander(rng, count, sample_rate, rng.uniform(20, 200), 0.0015)
    rough, rate = rng.integers(4), float(log_uniform(rng, 10, 120))
    if rough == 0:
        carrier = carrier * (1 + rng.uniform(0.01, 0.12) * ((times * rate) % 1))
    harmonics = (1.0, *(float(level) for level in rng.uniform(0.02, 0.6, 5) / np.arange(1, 6)))
    sound = tone(carrier, count, sample_rate, harmonics)
    if rough == 1:
        chopped = _keyed((times * rate) % 1 < rng.uniform(0.4, 0.8), sample_rate, 0.001)
        sound *= 1 - np.float32(rng.uniform(0.4, 1.0)) * (1 - chopped)
    elif rough == 2:
        sound *= (1 + rng.uniform(0.2, 0.9) * np.sin(2 * np.pi * rate * times)).astype(np.float32)
    return normalize(fade(sound * gate, sample_rate, 0.002))


def car_alarm(
    rng: np.random.Generator, sample_rate: int = SAMPLE_RATE, *, duration_s: float = 6.0
) -> NDArray[np.float32]:
    """The six-tone siren of a car alarm: wail, yelp, hi-lo, whoop, chirps and falling sweeps, in turn.

    It starts somewhere in the cycle.
    """
    sound = np.zeros(int(duration_s * sample_rate), np.float32)
    low = rng.uniform(500, 1100)
    high = low * rng.uniform(1.8, 3.2)
    part_s, timbre = rng.uniform(0.8, 2.2), _horn(rng, 8)
    count = int(part_s * sample_rate)
    times = np.arange(count) / sample_rate
    fast, slow = rng.uniform(6, 14), rng.uniform(1.0, 2.5)
    positions = (
        0.5 - 0.5 * np.cos(2 * np.pi * slow * times),
        1 - np.abs(2 * ((fast * times) % 1) - 1),
        ((slow * 2 * times) % 1 < 0.5).astype(np.float64),
        (slow * times) % 1,
        np.ones(count),
        1 - (fast / 2 * times) % 1,
    )
    first = int(rng.integers(6))
    for turn in range(int(duration_s / part_s) + 1):
        which = (first + turn) % 6
        part = tone(low + (high - low) * positions[which], count, sample_rate, timbre)
        if which == 4:
            part *= _keyed((fast * times) % 1 < 0.5, sample_rate, 0.004)
        add_at(sound, turn * count, fade(part, sample_rate, 0.004))
    return normalize(fade(sound, sample_rate, 0.004))


REVERSING_KINDS = ("tonal", "broadband")


def reversing_beeps(
    rng: np.random.Generator,
    sample_rate: int = SAMPLE_RATE,
    *,
    kind: str | None = None,
    duration_s: float = 5.0,
) -> NDArray[np.float32]:
    """A lorry that reverses: beeps of 1 to 1.4 kHz (SAE J994) or bursts of noise, about one a second."""
    name = chosen(rng, kind, REVERSING_KINDS, "reversing alarm", (0.75, 0.25))
    count = int(duration_s * sample_rate)
    if name == "tonal":
        levels = (1.0, *(float(a) for a in rng.uniform(0.0, 0.4, 5)))
        carried = tone(rng.uniform(1000, 1400), count, sample_rate, levels)
    else:  # broadband
        low, high = rng.uniform(400, 900), rng.uniform(4000, 9000)
        carried = shaped_noise(rng, count, sample_rate, band(low, high, 3.0))
        carried *= np.float32(0.3)
    times = np.arange(count) / sample_rate
    gate = _keyed((times * rng.uniform(0.8, 1.5)) % 1 < rng.uniform(0.4, 0.55), sample_rate, 0.006)
    sound = carried * gate
    if rng.random() < 0.6:
        firing = tone(
            rng.uniform(25, 60) * wander(rng, count, sample_rate, 2, 0.05),
            count,
            sample_rate,
            (0.5, 1, 0.7, 0.5, 0.3),
        )
        air = shaped_noise(rng, count, sample_rate, lambda hz: 1 / (1 + (hz / 250) ** 2))
        sound += np.float32(rng.uniform(0.005, 0.04)) * (firing + air)
    return normalize(fade(sound, sample_rate, 0.003))
