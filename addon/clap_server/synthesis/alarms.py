"""Alarms with their standardised patterns, sirens, and the beeps that are no alarm."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from clap_server.synthesis.signal import SAMPLE_RATE, add_at, chosen, fade, log_uniform, normalize, tone

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Pattern:
    """Pulses and a pause, again and again.

    Attributes:
        pulses: in a cycle.
        on_s: length of a pulse.
        gap_s: silence between two.
        pause_s: silence after the last.
    """

    pulses: int
    on_s: float
    gap_s: float
    pause_s: float

    @property
    def pulses_s(self) -> float:
        """From the start of the first pulse to the end of the last."""
        return self.pulses * self.on_s + (self.pulses - 1) * self.gap_s

    @property
    def cycle_s(self) -> float:
        """Until the first pulse comes again."""
        return self.pulses_s + self.pause_s


# ISO 8201 and ANSI S3.41: three pulses of 0.5 s, 0.5 s apart, then 1.5 s of silence; 4 s in all.
T3 = Pattern(3, 0.5, 0.5, 1.5)
# UL 2034: four pulses of 0.1 s, 0.1 s apart, then 5 s of silence.
T4 = Pattern(4, 0.1, 0.1, 5.0)


def _timbre(rng: np.random.Generator) -> tuple[float, ...]:
    """Harmonics of a piezo sounder, a square-wave horn or a nearly pure tone."""
    kind = rng.integers(3)
    if kind == 0:
        return (1.0, *(float(a) for a in rng.uniform(0.0, 0.15, 4)))
    if kind == 1:
        return tuple(1.0 / k if k % 2 else float(rng.uniform(0, 0.1)) for k in range(1, 12))
    return (1.0, *(float(a) for a in rng.uniform(0.1, 0.7, 6)))


def _pulse(
    sample_rate: int, on_s: float, carrier_hz: float, timbre: tuple[float, ...]
) -> NDArray[np.float32]:
    return fade(tone(carrier_hz, int(on_s * sample_rate), sample_rate, timbre), sample_rate, 0.004)


def _pattern(
    rng: np.random.Generator,
    sample_rate: int,
    pattern: Pattern,
    carrier_hz: float | None,
    cycles: int,
) -> NDArray[np.float32]:
    carrier = carrier_hz if carrier_hz is not None else _carrier(rng)
    pulse = _pulse(sample_rate, pattern.on_s, carrier, _timbre(rng))
    sound = np.zeros(round(cycles * pattern.cycle_s * sample_rate), np.float32)
    for cycle in range(cycles):
        for index in range(pattern.pulses):
            start_s = cycle * pattern.cycle_s + index * (pattern.on_s + pattern.gap_s)
            add_at(sound, round(start_s * sample_rate), pulse)
    return normalize(sound)


def _carrier(rng: np.random.Generator) -> float:
    """Most sounders are near 3.1 kHz; the low-frequency ones (NFPA 72) are at 520 Hz; the rest anywhere."""
    kind = rng.random()
    if kind < 0.45:
        return float(rng.uniform(2700, 3600))
    if kind < 0.6:
        return float(rng.uniform(480, 560))
    return float(log_uniform(rng, 400, 4000))


def t3_alarm(
    rng: np.random.Generator,
    sample_rate: int = SAMPLE_RATE,
    *,
    carrier_hz: float | None = None,
    cycles: int = 3,
) -> NDArray[np.float32]:
    """A smoke or fire alarm with the temporal-three pattern of ISO 8201.

    The first pulse is at the start.

    Args:
        carrier_hz: 400 to 4000.
        cycles: of 4 s each.
    """
    return _pattern(rng, sample_rate, T3, carrier_hz, cycles)


def t4_alarm(
    rng: np.random.Generator,
    sample_rate: int = SAMPLE_RATE,
    *,
    carrier_hz: float | None = None,
    cycles: int = 2,
) -> NDArray[np.float32]:
    """A carbon monoxide alarm with the temporal-four pattern of UL 2034; a cycle takes 5.7 s.

    See ``t3_alarm`` for the arguments.
    """
    return _pattern(rng, sample_rate, T4, carrier_hz, cycles)


def buzzer_alarm(
    rng: np.random.Generator, sample_rate: int = SAMPLE_RATE, *, duration_s: float = 4.0
) -> NDArray[np.float32]:
    """A burglar or fire sounder without a standard pattern: fast pulses, a warble or one long tone."""
    count = int(duration_s * sample_rate)
    times = np.arange(count) / sample_rate
    carrier, timbre = _carrier(rng), _timbre(rng)
    kind = rng.integers(3)
    if kind == 0:
        rate = rng.uniform(1.5, 8)
        on = ((times * rate) % 1 < rng.uniform(0.4, 0.7)).astype(np.float64)
        width = max(int(0.004 * sample_rate), 1)
        gate = np.convolve(on, np.ones(width) / width, "same")
        return normalize(tone(carrier, count, sample_rate, timbre) * gate)
    if kind == 1:
        rate, ratio = rng.uniform(1, 12), rng.uniform(1.1, 1.5)
        frequency = np.where((times * rate) % 1 < 0.5, carrier, min(carrier * ratio, 4000.0))
        return normalize(fade(tone(frequency, count, sample_rate, timbre), sample_rate))
    wobble = 1 + rng.uniform(0, 0.02) * np.sin(2 * np.pi * rng.uniform(3, 30) * times)
    return normalize(fade(tone(carrier * wobble, count, sample_rate, timbre), sample_rate))


SIREN_KINDS = ("wail", "yelp", "two_tone", "sweep")


def siren(
    rng: np.random.Generator,
    sample_rate: int = SAMPLE_RATE,
    *,
    kind: str | None = None,
    duration_s: float = 5.0,
) -> NDArray[np.float32]:
    """A siren: slow wail, fast yelp, two-tone horn or the sawtooth sweep of DIN 33404-3."""
    name = chosen(rng, kind, SIREN_KINDS, "siren")
    count = int(duration_s * sample_rate)
    times = np.arange(count) / sample_rate + rng.uniform(0, 5)
    low = rng.uniform(400, 800)
    high = low * rng.uniform(1.5, 2.8)
    if name == "wail":
        position = 0.5 - 0.5 * np.cos(2 * np.pi * times * rng.uniform(0.15, 0.5))
    elif name == "yelp":
        position = 1 - np.abs(2 * ((times * rng.uniform(2, 5)) % 1) - 1)
    elif name == "two_tone":
        high = low * rng.uniform(1.15, 1.45)
        position = ((times * rng.uniform(0.7, 2)) % 1 < 0.5).astype(np.float64)
    else:  # sweep
        low, high = rng.uniform(450, 550), rng.uniform(1000, 1400)
        position = 1 - (times * rng.uniform(0.8, 1.2)) % 1
    frequency = low + (high - low) * position
    return normalize(fade(tone(frequency, count, sample_rate, _timbre(rng)), sample_rate))


def appliance_beeps(
    rng: np.random.Generator, sample_rate: int = SAMPLE_RATE, *, duration_s: float = 3.0
) -> NDArray[np.float32]:
    """A microwave, washing machine or oven that is done: one to four separate beeps, then nothing."""
    sound = np.zeros(int(duration_s * sample_rate), np.float32)
    carrier = rng.uniform(900, 4200)
    on_s, gap_s = rng.uniform(0.05, 0.4), rng.uniform(0.3, 1.2)
    timbre = (1.0, *(float(a) for a in rng.uniform(0, 0.1, 2)))
    pulse = _pulse(sample_rate, on_s, carrier, timbre)
    for index in range(int(rng.integers(1, 5))):
        add_at(sound, int((0.05 + index * (on_s + gap_s)) * sample_rate), pulse)
    return normalize(sound)


def ringtone(
    rng: np.random.Generator, sample_rate: int = SAMPLE_RATE, *, duration_s: float = 3.0
) -> NDArray[np.float32]:
    """A telephone's melody or trill: notes of a scale, each dying away."""
    sound = np.zeros(int(duration_s * sample_rate), np.float32)
    base, note_s = rng.uniform(500, 1200), rng.uniform(0.08, 0.3)
    scale = 2 ** (np.array([0, 2, 4, 5, 7, 9, 11, 12, 14, 16]) / 12)
    motif = rng.integers(0, len(scale), int(rng.integers(2, 7)))
    timbre = (1.0, *(float(a) for a in rng.uniform(0, 0.5, 3)))
    decay_s = rng.uniform(0.08, 0.5)
    moment, index = 0.0, 0
    while moment < duration_s:
        count = int(min(decay_s * 4, duration_s) * sample_rate)
        note = tone(float(base * scale[motif[index % len(motif)]]), count, sample_rate, timbre)
        note *= np.exp(-np.arange(count) / (decay_s * sample_rate)).astype(np.float32)
        add_at(sound, int(moment * sample_rate), fade(note, sample_rate, 0.003))
        index += 1
        rest = rng.uniform(0.3, 1.0) if index % len(motif) == 0 and rng.random() < 0.5 else 0.0
        moment += note_s + rest
    return normalize(sound)
