"""Shots, explosions and fireworks: blast waves, their reflections and what the surroundings make of them.

After R. C. Maher, "Acoustical characterization of gunshots" (IEEE SAFE, 2007): a muzzle blast of a few
milliseconds, a projectile's shock wave (an N of about 0.2 ms) ahead of it if it is supersonic, a reflection
from the ground, then the reverberation of a room or the scattered echoes of the open.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from clap_server.synthesis.grains import convolved, hiss, pulse_train, ragged, rises, wander
from clap_server.synthesis.signal import (
    SAMPLE_RATE,
    add_at,
    band,
    chosen,
    fade,
    filtered,
    log_uniform,
    normalize,
    shaped_noise,
    tone,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray

GUN_KINDS = ("pistol", "rifle", "shotgun", "automatic")
_POSITIVE_S = {
    "pistol": (0.0002, 0.0008),
    "rifle": (0.0003, 0.0012),
    "shotgun": (0.0005, 0.0025),
    "automatic": (0.0003, 0.001),
}

# Close to a muzzle the gas that follows the blast pushes the microphone: a thump of some 20 to 150 Hz.
_THUMP_SHARE = 0.6
_THUMP_S = (0.002, 0.009)
# Recorded beside the weapon or on a range with little around it: nothing but the shot is heard.
_DRY_SHARE = 0.35


def friedlander(sample_rate: int, positive_s: float, steepness: float = 1.0) -> NDArray[np.float32]:
    """The pressure of a blast in free air (Friedlander, 1946): p(t) = (1 - t/T) exp(-b t/T).

    Args:
        sample_rate: in Hz.
        positive_s: T, the time until the pressure falls below that of the air.
        steepness: b.

    Returns:
        ``(n,)``, 1 at its first sample, down to less than a thousandth at the end.
    """
    # Ten T at b = 1: (10 - 1) exp(-10) is 4e-4.
    times = np.arange(max(int(12 * positive_s / steepness * sample_rate), 2)) / (positive_s * sample_rate)
    return ((1 - times) * np.exp(-steepness * times)).astype(np.float32)


def _shock(sample_rate: int, length_s: float) -> NDArray[np.float32]:
    """The N of a supersonic bullet: a jump up, a straight fall, a jump back."""
    return np.linspace(1.0, -1.0, max(int(length_s * sample_rate), 3)).astype(np.float32)


def _surroundings(rng: np.random.Generator, sample_rate: int, *, indoors: bool) -> NDArray[np.float32]:
    """What follows the direct sound: a reverberant room, or scattered and ever duller echoes of the open."""
    decay_s = float(log_uniform(rng, 0.05, 0.25) if indoors else log_uniform(rng, 0.1, 0.6))
    count = int(min(5 * decay_s, 1.6) * sample_rate)
    top = float(log_uniform(rng, 3000, 14000) if indoors else log_uniform(rng, 700, 8000))
    length_s = count / sample_rate
    bright = hiss(rng, sample_rate, length_s, ragged(rng, 150, top, 3), decay_s / 2)
    dark = hiss(rng, sample_rate, length_s, ragged(rng, 60, top / 4, 3), decay_s)
    tail = bright + np.float32(rng.uniform(0.3, 1.0)) * dark
    if indoors:
        tail[: int(rng.uniform(0.001, 0.006) * sample_rate)] = 0
    else:
        tail *= wander(rng, count, sample_rate, rng.uniform(5, 25), rng.uniform(0.3, 1.0))
        tail *= rises(count, sample_rate, rng.uniform(0.005, 0.08))
    level = log_uniform(rng, 0.5, 4.0) if indoors else log_uniform(rng, 0.15, 2.0)
    return tail * np.float32(float(level) / np.linalg.norm(tail))


def _shot(rng: np.random.Generator, sample_rate: int, kind: str) -> NDArray[np.float32]:
    """One shot without its surroundings: shock wave, muzzle blast, hot gas, ground reflection."""
    count = int(0.12 * sample_rate)
    sound = np.zeros(count, np.float32)
    lead = 0
    if kind in {"rifle", "automatic"} and rng.random() < 0.6:
        add_at(sound, 0, rng.uniform(0.2, 1.2) * _shock(sample_rate, rng.uniform(0.00015, 0.0004)))
        lead = int(rng.uniform(0.001, 0.04) * sample_rate)
    blast = friedlander(sample_rate, float(log_uniform(rng, *_POSITIVE_S[kind])), rng.uniform(0.8, 1.6))
    add_at(sound, lead, blast)
    gain = ragged(rng, 150, float(log_uniform(rng, 2500, 18000)), 3)
    gas = hiss(rng, sample_rate, 0.12, gain, float(log_uniform(rng, 0.002, 0.015)))
    add_at(sound, lead, np.float32(log_uniform(rng, 0.1, 1.5)) * gas)
    if rng.random() < _THUMP_SHARE:
        thump = friedlander(sample_rate, float(log_uniform(rng, *_THUMP_S)), rng.uniform(0.8, 1.6))
        add_at(sound, lead, np.float32(log_uniform(rng, 0.3, 4.0)) * thump)
    reflected = sound.copy()
    add_at(sound, int(rng.uniform(0.001, 0.012) * sample_rate), rng.uniform(0.2, 0.8) * reflected)
    return sound


def gunshot(
    rng: np.random.Generator,
    sample_rate: int = SAMPLE_RATE,
    *,
    kind: str | None = None,
    duration_s: float = 2.0,
) -> NDArray[np.float32]:
    """One or a few shots, indoors or in the open; an automatic weapon fires 550 to 1,100 rounds a minute.

    The first shot is at the start.
    """
    name = chosen(rng, kind, GUN_KINDS, "gun", (0.35, 0.25, 0.2, 0.2))
    count = int(duration_s * sample_rate)
    if name == "automatic":
        gap_s = 60 / rng.uniform(550, 1100)
        starts = np.arange(int(rng.integers(3, 16))) * gap_s
        starts += rng.normal(0, 0.02 * gap_s, len(starts))
    else:
        starts = np.cumsum([0.0, *rng.uniform(0.2, 1.2, int(rng.choice([0, 1, 2], p=(0.6, 0.25, 0.15))))])
    shot = _shot(rng, sample_rate, name)
    levels = rng.uniform(0.8, 1.1, len(starts))
    sound = convolved((pulse_train(count, sample_rate, np.maximum(starts, 0.0), levels), shot))
    surroundings = _surroundings(rng, sample_rate, indoors=rng.random() < 0.5)
    if rng.random() < _DRY_SHARE:
        surroundings *= np.float32(log_uniform(rng, 0.03, 0.3))
    sound += convolved((sound, surroundings))
    if rng.random() < 0.35:  # air and walls take the treble of what is far away
        sound = filtered(sound, sample_rate, band(20, float(log_uniform(rng, 1500, 12000)), 1.0))
    # No microphone takes a shot in full: it saturates.
    sound = np.tanh(normalize(sound, float(log_uniform(rng, 0.5, 8.0))))
    return normalize(fade(sound, sample_rate, 0.0001))


def _roar(rng: np.random.Generator, count: int, sample_rate: int, size: float) -> NDArray[np.float32]:
    """The noise of an explosion: it falls by about 6 dB an octave and gets duller while it dies away."""
    length_s = count / sample_rate
    decay_s = float(log_uniform(rng, 0.02, 0.3)) * 5**size
    corner_hz = float(log_uniform(rng, 40, 500)) * 2 ** (1 - size)
    order = rng.uniform(0.7, 1.6)
    dull = hiss(rng, sample_rate, length_s, band(25, corner_hz, order), decay_s)
    bright = hiss(rng, sample_rate, length_s, band(60, 5 * corner_hz, order), decay_s / rng.uniform(1.5, 6.0))
    roar = dull + np.float32(log_uniform(rng, 0.1, 1.0)) * bright
    roar *= wander(rng, count, sample_rate, rng.uniform(4, 25), rng.uniform(0.1, 0.8))
    return roar * rises(count, sample_rate, float(log_uniform(rng, 0.0005, 0.06)))


def explosion(
    rng: np.random.Generator, sample_rate: int = SAMPLE_RATE, *, duration_s: float = 3.0
) -> NDArray[np.float32]:
    """An explosion, near or far: a blast, a roar that grows duller, echoes, and what comes down after it.

    Decay and spectrum spread as those of recorded ones do: from a pop to a bomb, a tenth of a second to
    seconds until it is 20 dB down, half of them loudest below 150 Hz.

    The blast is at the start.
    """
    count = int(duration_s * sample_rate)
    size = rng.uniform(0, 1)  # 0 is a pop, 1 a bomb
    sound = np.zeros(count, np.float32)
    positive_s = 0.0008 * 15**size * float(log_uniform(rng, 0.5, 2.0))
    add_at(sound, 0, rng.uniform(0.5, 3.0) * friedlander(sample_rate, positive_s, rng.uniform(0.8, 1.6)))
    sound += np.float32(log_uniform(rng, 0.3, 2.0)) * _roar(rng, count, sample_rate, size)
    if rng.random() < 0.5:
        echoes = np.concatenate([[0.0], rng.uniform(0.04, 0.9, int(rng.integers(1, 5)))])
        levels = np.concatenate([[1.0], log_uniform(rng, 0.08, 0.6, len(echoes) - 1)])
        sound = convolved((sound, pulse_train(count, sample_rate, echoes, levels)))
    if rng.random() < 0.3:  # stones and splinters
        starts = rng.uniform(0.05, 0.4) + rng.gamma(2.0, rng.uniform(0.1, 0.4), int(rng.integers(10, 100)))
        train = pulse_train(count, sample_rate, starts, rng.lognormal(-2.0, 0.7, len(starts)))
        gain = ragged(rng, 300, rng.uniform(2000, 8000), 4)
        piece = hiss(rng, sample_rate, 0.05, gain, float(log_uniform(rng, 0.002, 0.02)))
        sound += np.float32(log_uniform(rng, 0.05, 0.5)) * convolved((train, piece))
    if rng.random() < 0.4:  # air and walls take the treble of what is far away
        sound = filtered(sound, sample_rate, band(20, float(log_uniform(rng, 300, 6000)), 1.0))
    sound = np.tanh(normalize(sound, float(log_uniform(rng, 0.3, 5.0))))
    return normalize(fade(sound, sample_rate, 0.0005))


def fireworks(
    rng: np.random.Generator, sample_rate: int = SAMPLE_RATE, *, duration_s: float = 4.0
) -> NDArray[np.float32]:
    """Rockets that whistle up and burst far away, with or without a crackle after the bang."""
    count = int(duration_s * sample_rate)
    sound = np.zeros(count, np.float32)
    moment = rng.uniform(0.0, 0.2 * duration_s)
    while moment < 0.9 * duration_s:
        start = int(moment * sample_rate)
        if rng.random() < 0.4:
            rise_s = min(rng.uniform(0.4, 1.2), 0.4 * duration_s)
            rise = np.linspace(0, 1, int(rise_s * sample_rate))
            pitch = rng.uniform(1500, 2500) * (1 + rng.uniform(0.2, 0.9) * rise)
            pitch *= wander(rng, len(rise), sample_rate, 40, 0.01)
            whistle = tone(pitch, len(rise), sample_rate, (1.0, 0.3))
            air = shaped_noise(rng, len(rise), sample_rate, band(1500, 8000))
            rocket = (whistle + 0.5 * air) * np.sin(np.pi * rise) * rng.uniform(0.03, 0.2)
            add_at(sound, start, rocket.astype(np.float32))
            start += len(rise)
        bang = friedlander(sample_rate, float(log_uniform(rng, 0.002, 0.012)))
        tail = _surroundings(rng, sample_rate, indoors=False)
        add_at(sound, start, bang * rng.uniform(0.4, 1.0))
        add_at(sound, start, tail * rng.uniform(0.3, 1.0))
        if rng.random() < 0.5:
            number = int(rng.integers(30, 150))
            starts = rng.uniform(0.2, 0.5) + rng.gamma(2.0, rng.uniform(0.1, 0.4), number)
            train = pulse_train(count, sample_rate, starts, rng.lognormal(-2.0, 0.6, number))
            crackle = convolved((train, friedlander(sample_rate, rng.uniform(0.0001, 0.0006))))
            add_at(sound, start, crackle)
        moment += rng.uniform(0.3, 2.0)
    dull = float(log_uniform(rng, 1000, 8000))
    return normalize(fade(filtered(sound, sample_rate, band(25, dull, 1.0)), sample_rate, 0.002))
