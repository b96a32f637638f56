"""Things that are meant to ring: chimes, triangles, bells, cymbals and a drum kit."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from clap_server.synthesis.grains import convolved, decays, hiss, pulse_train, ragged, struck
from clap_server.synthesis.signal import (
    SAMPLE_RATE,
    add_at,
    chosen,
    fade,
    log_uniform,
    modes,
    normalize,
    tone,
    unit_peak,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray

CHIME_KINDS = ("wind", "triangle", "bell", "glass")
# Transverse modes of a free bar or tube, and of a tuned bell (Fletcher and Rossing, chapters 2 and 21).
_BAR = np.array([1.0, 2.756, 5.404, 8.933, 13.34])
_BELL = np.array([0.5, 1.0, 1.2, 1.5, 2.0, 2.5, 3.0, 4.0, 5.3])
_PENTATONIC = 2 ** (np.array([0, 2, 4, 7, 9, 12, 14, 16]) / 12)


def _rung(
    rng: np.random.Generator,
    sample_rate: int,
    frequencies: NDArray[np.float64],
    decay_s: float,
    brightness: float,
) -> NDArray[np.float32]:
    """One strike: each mode doubled by a hair, so that it beats; high modes die sooner."""
    ratios = frequencies / frequencies.min()
    levels = rng.lognormal(0.0, 0.4, len(ratios)) * ratios**brightness
    rings = decay_s * ratios ** rng.uniform(-0.9, -0.3)
    pair = np.concatenate([frequencies, frequencies * (1 + rng.uniform(0.0003, 0.003, len(ratios)))])
    sound = modes(rng, sample_rate, min(5 * decay_s, 4.0), pair, np.tile(levels, 2), np.tile(rings, 2))
    return unit_peak(sound)


def chimes(
    rng: np.random.Generator,
    sample_rate: int = SAMPLE_RATE,
    *,
    kind: str | None = None,
    duration_s: float = 4.0,
) -> NDArray[np.float32]:
    """Wind chimes of metal or glass, a triangle, or a hand or shop bell."""
    name = chosen(rng, kind, CHIME_KINDS, "chime", (0.4, 0.2, 0.25, 0.15))
    if name == "wind":
        base, decay = float(log_uniform(rng, 400, 2200)), float(log_uniform(rng, 0.2, 1.5))
        scale = rng.choice(_PENTATONIC, int(rng.integers(4, 8)), replace=False)
        pitches = [base * note * _BAR for note in scale]
        rate, brightness = rng.uniform(1, 7), rng.uniform(-1.2, -0.2)
    elif name == "glass":
        decay = float(log_uniform(rng, 0.03, 0.2))
        pitches = [log_uniform(rng, 2500, 6000) * _BAR[:3] for _ in range(int(rng.integers(5, 9)))]
        rate, brightness = rng.uniform(4, 18), rng.uniform(-1.0, -0.2)
    elif name == "triangle":
        decay = float(log_uniform(rng, 0.4, 1.2))
        pitches = [np.sort(log_uniform(rng, 1500, 16000, 16))]
        rate, brightness = float(log_uniform(rng, 0.6, 12)), rng.uniform(-0.2, 0.4)
    else:  # bell
        decay = float(log_uniform(rng, 0.3, 1.5))
        pitches = [float(log_uniform(rng, 500, 2500)) * _BELL * rng.normal(1, 0.01, len(_BELL))]
        rate, brightness = float(log_uniform(rng, 0.5, 5)), rng.uniform(-1.0, 0.0)
    count = int(duration_s * sample_rate)
    number = max(int(rate * duration_s), 1)
    starts = np.sort(rng.uniform(0.0, duration_s, number))
    if name in {"triangle", "bell"}:  # struck or swung in time
        starts = np.clip(np.arange(number) / rate * rng.normal(1.0, 0.03, number), 0.0, None)
    starts[0] = 0.01
    rung = [_rung(rng, sample_rate, pitch, decay, brightness) for pitch in pitches]
    hits = (starts, rng.lognormal(-0.5, 0.5, number))
    return normalize(fade(struck(rng, sample_rate, count, hits, rung), sample_rate, 0.001))


CYMBAL_KINDS = ("crash", "ride", "hihat", "kit")
# How long the lowest and the highest band take to fall to 1/e.
_FALL_S = {"crash": (0.9, 0.35), "ride": (1.2, 0.25), "hihat": (0.06, 0.03), "open": (0.5, 0.25)}
_BANDS_HZ = (300, 1000, 2500, 5000, 9000, 18000)


def _cymbal(rng: np.random.Generator, sample_rate: int, kind: str) -> NDArray[np.float32]:
    """One strike: so many modes that it is a coloured noise, bright after a moment, low modes last longest.

    The treble builds up over some 50 ms, as energy cascades upwards in the plate (Fletcher and Rossing,
    chapter 20).
    """
    low_s, high_s = _FALL_S[kind]
    scale = float(log_uniform(rng, 0.6, 1.6))
    count = int(min(4 * low_s * scale, 3.0) * sample_rate)
    white = np.fft.rfft(rng.standard_normal(count).astype(np.float32))
    hz = np.fft.rfftfreq(count, 1 / sample_rate).astype(np.float64)
    white *= ragged(rng, {"hihat": 4000, "open": 3000}.get(kind, 400), 16000, rng.uniform(2, 6))(hz)
    build_s = rng.uniform(0.005, 0.05) if kind in {"crash", "ride"} else 0.0005
    sound = np.zeros(count, np.float32)
    for index, (low, high) in enumerate(pairwise(_BANDS_HZ)):
        part = np.fft.irfft(white * ((hz >= low) & (hz < high)), count).astype(np.float32)
        share = index / (len(_BANDS_HZ) - 2)
        fall = decays(count, sample_rate, scale * (low_s + (high_s - low_s) * share))
        rise = 1 - 0.8 * decays(count, sample_rate, max(build_s * share, 0.0003))
        sound += part * fall * rise
    stick = rng.standard_normal(count).astype(np.float32) * decays(count, sample_rate, 0.001)
    sound = unit_peak(sound)
    sound += np.float32(rng.uniform(0.05, 0.3)) * stick
    if kind == "ride":  # the ping of the stick on the bow
        partials = log_uniform(rng, 2500, 7000, 6)
        ping = modes(rng, sample_rate, 1.0, partials, np.full(6, 0.08), np.full(6, 0.15))
        add_at(sound, 0, ping)
    return sound


def _kit(rng: np.random.Generator, sample_rate: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """A bass drum and a snare."""
    count = int(0.4 * sample_rate)
    times = np.arange(count) / sample_rate
    sweep = rng.uniform(40, 60) + rng.uniform(50, 150) * np.exp(-times / 0.03)
    kick = tone(sweep, count, sample_rate, (1.0, 0.2)) * decays(count, sample_rate, rng.uniform(0.06, 0.15))
    kick += 0.2 * rng.standard_normal(count).astype(np.float32) * decays(count, sample_rate, 0.002)
    head = tone(rng.uniform(160, 260), count, sample_rate, (1.0, 0.4)) * decays(count, sample_rate, 0.05)
    wires = hiss(rng, sample_rate, 0.4, ragged(rng, 1200, 11000, 2), rng.uniform(0.04, 0.12))
    return kick, head * np.float32(0.6) + np.float32(0.3) * wires


def cymbals(
    rng: np.random.Generator,
    sample_rate: int = SAMPLE_RATE,
    *,
    kind: str | None = None,
    duration_s: float = 4.0,
) -> NDArray[np.float32]:
    """Crash, ride or hi-hat, alone or in a pattern with bass drum and snare.

    It starts with a strike.
    """
    name = chosen(rng, kind, CYMBAL_KINDS, "cymbal", (0.25, 0.15, 0.15, 0.45))
    count = int(duration_s * sample_rate)
    step_s = 60 / rng.uniform(70, 170) / 2
    steps = np.arange(int(duration_s / step_s) + 1)
    swing = np.where(steps % 2, rng.uniform(0.0, 0.3) * step_s, 0.0)
    starts = np.maximum(steps * step_s + swing + rng.normal(0, 0.006, len(steps)), 0.0)

    def played(now: NDArray[np.bool_], level: float) -> NDArray[np.float32]:
        loudness = level * rng.uniform(0.5, 1.0, len(steps))
        return pulse_train(count, sample_rate, starts[now], loudness[now])

    if name == "crash":
        now_and_then = (steps == 0) | (rng.random(len(steps)) < 0.08)
        return normalize(convolved((played(now_and_then, 1.0), _cymbal(rng, sample_rate, "crash"))))
    closed = _cymbal(rng, sample_rate, "ride" if name == "ride" else "hihat")
    every = np.ones(len(steps), np.bool_)
    heard = [(played(every, rng.uniform(0.15, 0.5) if name == "kit" else 1.0), closed)]
    if name == "hihat":
        heard.append((played(steps % 8 == 7, 0.7), _cymbal(rng, sample_rate, "open")))
    if name == "kit":
        kick, snare = _kit(rng, sample_rate)
        beats = (steps % 8 == 0) | ((steps % 8 == 5) & (rng.random(len(steps)) < 0.5))
        heard += [(played(beats, 1.0), kick), (played(steps % 4 == 2, 0.9), snare)]
        heard.append((played(steps % 32 == 0, rng.uniform(0.2, 0.9)), _cymbal(rng, sample_rate, "crash")))
    return normalize(fade(convolved(*heard), sample_rate, 0.0003))
