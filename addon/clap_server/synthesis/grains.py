"""Sounds of many small events: a train of pulses that excites resonant bodies.

After P. R. Cook, "Physically informed sonic modeling (PhISM)", Computer Music Journal 21(3), 1997: what
shatters, pours, crinkles or fries is a random train of collisions heard through the resonances of what
collides. The train is convolved with the response once, however many collisions there are.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from clap_server.synthesis.signal import log_uniform, modes, shaped_noise, unit_peak

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

GRAVITY = 9.81  # m/s²


def pulse_train(
    count: int, sample_rate: int, starts_s: NDArray[np.floating], levels: NDArray[np.floating]
) -> NDArray[np.float32]:
    """Single samples of height ``levels`` at ``starts_s``; what lies outside ``count`` samples is dropped.

    Args:
        count: samples of the train.
        sample_rate: in Hz.
        starts_s: ``(k,)`` in seconds.
        levels: ``(k,)``.

    Returns:
        ``(count,)``.
    """
    places = np.floor(np.asarray(starts_s, np.float64) * sample_rate).astype(np.int64)
    inside = (places >= 0) & (places < count)
    train = np.bincount(places[inside], weights=np.asarray(levels, np.float64)[inside], minlength=count)
    return train.astype(np.float32)


def fast_length(least: int) -> int:
    """The smallest 2^k, 3 * 2^k or 5 * 2^k of at least ``least``: Fourier transforms are fast there."""
    return min(factor << max(-(-least // factor) - 1, 0).bit_length() for factor in (1, 3, 5))


def convolved(*heard: tuple[NDArray[np.float32], NDArray[np.float32]]) -> NDArray[np.float32]:
    """Sum of excitations, each heard through its own response.

    Args:
        heard: pairs of an excitation ``(n,)``, all equally long, and its response.

    Returns:
        ``(n,)``.
    """
    count = len(heard[0][0])
    size = fast_length(count + max(len(response) for _, response in heard) - 1)
    spectrum = np.zeros(size // 2 + 1, np.complex64)
    for excitation, response in heard:
        spectrum += np.fft.rfft(excitation, size) * np.fft.rfft(response, size)
    return np.fft.irfft(spectrum, size)[:count].astype(np.float32)


def decays(count: int, sample_rate: int, decay_s: float) -> NDArray[np.float32]:
    """``(count,)`` falling from 1 to 1/e in ``decay_s``."""
    times = np.arange(count, dtype=np.float32)
    return np.asarray(np.exp(times * np.float32(-1 / (decay_s * sample_rate))), np.float32)


def rises(count: int, sample_rate: int, rise_s: float) -> NDArray[np.float32]:
    """``(count,)`` going straight up from 0 to 1 in ``rise_s``, then 1."""
    return np.minimum(np.arange(count) / (rise_s * sample_rate), 1.0).astype(np.float32)


def hiss(
    rng: np.random.Generator,
    sample_rate: int,
    length_s: float,
    gain: Callable[[NDArray[np.float64]], NDArray[np.float64]],
    decay_s: float,
) -> NDArray[np.float32]:
    """Noise of a spectrum ``gain`` and a standard deviation of 1 at first, dying away with ``decay_s``."""
    noise = shaped_noise(rng, max(round(length_s * sample_rate), 1), sample_rate, gain)
    return noise * decays(len(noise), sample_rate, decay_s)


def body(
    rng: np.random.Generator,
    sample_rate: int,
    *,
    number: int,
    hz: tuple[float, float],
    decay_s: tuple[float, float],
    click: float,
) -> NDArray[np.float32]:
    """What one blow on a small object sounds like: dense modes, the higher the shorter, and a click.

    Args:
        rng: gives frequencies, levels and decays.
        sample_rate: in Hz.
        number: modes.
        hz: lowest and highest frequency.
        decay_s: shortest and longest time in which a mode falls to 1/e.
        click: level of the contact noise beside the modes.

    Returns:
        ``(n,)`` with a peak of 1.
    """
    frequencies = log_uniform(rng, *hz, number)
    slower = (hz[0] / frequencies) ** rng.uniform(0.0, 0.4)
    rings = np.maximum(log_uniform(rng, *decay_s, number) * slower, 0.001)
    levels = rng.lognormal(0.0, 0.7, number)
    sound = modes(rng, sample_rate, 5 * float(rings.max()), frequencies, levels, rings)
    sound = unit_peak(sound)
    noise = rng.standard_normal(len(sound)) * decays(len(sound), sample_rate, rng.uniform(0.0003, 0.002))
    sound += np.float32(click / 2) * noise.astype(np.float32)
    return unit_peak(sound)


def struck(
    rng: np.random.Generator,
    sample_rate: int,
    count: int,
    hits: tuple[NDArray[np.floating], NDArray[np.floating]],
    bodies: Sequence[NDArray[np.float32]],
) -> NDArray[np.float32]:
    """Hit one of ``bodies`` by chance at each time.

    Args:
        rng: says which body is hit.
        sample_rate: in Hz.
        count: samples of the result.
        hits: times in seconds and levels, ``(k,)`` each.
        bodies: what each sounds like.

    Returns:
        ``(count,)``.
    """
    starts, levels = hits
    which = rng.integers(0, len(bodies), len(starts))
    return convolved(
        *(
            (pulse_train(count, sample_rate, starts[which == index], levels[which == index]), response)
            for index, response in enumerate(bodies)
        )
    )


def ragged(
    rng: np.random.Generator, low_hz: float, high_hz: float, depth_db: float
) -> Callable[[NDArray[np.float64]], NDArray[np.float64]]:
    """A band-pass whose pass band is uneven, as of a body with many resonances.

    Args:
        rng: gives the peaks and dips, one every tenth of an octave.
        low_hz: lower edge.
        high_hz: upper edge.
        depth_db: standard deviation of peaks and dips.

    Returns:
        Gain as a function of frequencies in Hz, for ``shaped_noise`` and ``filtered``.
    """
    places = np.arange(np.log2(20), np.log2(24_000), 0.1)
    levels = rng.normal(0.0, depth_db, len(places))

    def gain(frequencies_hz: NDArray[np.float64]) -> NDArray[np.float64]:
        safe = np.maximum(frequencies_hz, 1.0)
        uneven = 10 ** (np.interp(np.log2(safe), places, levels) / 20)
        return np.asarray(uneven / np.sqrt((1 + (low_hz / safe) ** 4) * (1 + (safe / high_hz) ** 4)))

    return gain


def bounces(
    rng: np.random.Generator, start_s: float, gap_s: float, restitution: float, most: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Times and levels of something that drops and bounces.

    Each flight lasts ``restitution`` times the one before, and so does the speed of the hit.

    Returns:
        ``(k,)`` seconds and ``(k,)`` levels, the first hit at ``start_s`` with level 1.
    """
    number = int(rng.integers(1, most + 1))
    ratios = restitution * rng.uniform(0.8, 1.1, number)
    falling = np.cumprod(ratios)
    starts = start_s + np.concatenate([[0.0], np.cumsum(gap_s * falling[:-1])])
    return starts, np.concatenate([[1.0], falling[:-1]])


def wander(
    rng: np.random.Generator, count: int, sample_rate: int, rate_hz: float, depth: float
) -> NDArray[np.float32]:
    """A level that drifts at random about 1: ``(count,)``, with ``rate_hz`` new values a second."""
    knots = max(int(count / sample_rate * rate_hz), 1) + 2
    values = rng.normal(0.0, depth, knots)
    places = np.arange(count) * (rate_hz / sample_rate)
    return np.asarray(np.exp(np.interp(places, np.arange(knots), values)), np.float32)
