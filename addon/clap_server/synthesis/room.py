"""Rooms, and sounds over backgrounds."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from clap_server.synthesis.signal import SAMPLE_RATE, add_at, normalize

if TYPE_CHECKING:
    from numpy.typing import NDArray


def impulse_response(
    rng: np.random.Generator,
    sample_rate: int = SAMPLE_RATE,
    *,
    decay_s: float = 0.4,
    direct_to_reverberant_db: float = 3.0,
) -> NDArray[np.float32]:
    """A room as a direct sound, some early reflections and a tail of decaying noise (Moorer, 1979).

    Args:
        rng: gives reflections and tail.
        sample_rate: in Hz.
        decay_s: time in which the tail falls by 60 dB; high frequencies fall faster.
        direct_to_reverberant_db: energy of the direct sound over all that follows.

    Returns:
        ``(n,)``, its first sample is the direct sound, 1.
    """
    count = max(int(decay_s * sample_rate), int(0.03 * sample_rate))
    times = np.arange(count) / sample_rate
    white = rng.standard_normal(count)
    # Two bands: what is above about 4 kHz dies in two thirds of the time, by air and soft surfaces.
    spectrum = np.fft.rfft(white)
    frequencies = np.fft.rfftfreq(count, 1 / sample_rate)
    split = 1 / (1 + (frequencies / 4000) ** 4)
    dark = np.fft.irfft(spectrum * split, count)
    bright = np.fft.irfft(spectrum * (1 - split), count)
    rate = np.log(1000.0) / decay_s
    tail = dark * np.exp(-times * rate) + bright * np.exp(-times * rate * 1.5)
    tail[: int(0.004 * sample_rate)] = 0
    for delay in rng.uniform(0.003, 0.03, 6):
        tail[int(delay * sample_rate)] += rng.choice([-1, 1]) * rng.uniform(2, 8) * np.exp(-delay * rate)
    energy = float(np.sum(tail**2))
    tail *= np.sqrt(10 ** (-direct_to_reverberant_db / 10) / max(energy, 1e-12))
    tail[0] = 1.0
    return np.asarray(tail, np.float32)


def reverberate(
    samples: NDArray[np.float32],
    rng: np.random.Generator,
    sample_rate: int = SAMPLE_RATE,
    *,
    decay_s: float | None = None,
    direct_to_reverberant_db: float | None = None,
) -> NDArray[np.float32]:
    """Play ``samples`` in a room.

    Args:
        samples: ``(n,)``.
        rng: gives the room.
        sample_rate: in Hz.
        decay_s: 60 dB decay time; 0.15 to 0.9 s if left out.
        direct_to_reverberant_db: how near; -6 to 10 dB if left out.

    Returns:
        ``(n,)``: as long as before, at the peak of before.
    """
    response = impulse_response(
        rng,
        sample_rate,
        decay_s=decay_s if decay_s is not None else rng.uniform(0.15, 0.9),
        direct_to_reverberant_db=(
            direct_to_reverberant_db if direct_to_reverberant_db is not None else rng.uniform(-6, 10)
        ),
    )
    size = 1 << (len(samples) + len(response) - 1).bit_length()
    wet = np.fft.irfft(np.fft.rfft(samples, size) * np.fft.rfft(response, size), size)[: len(samples)]
    return normalize(wet, float(np.max(np.abs(samples), initial=0.0)))


def loudest_rms(samples: NDArray[np.float32], sample_rate: int, window_s: float = 0.1) -> float:
    """The highest root mean square over windows of ``window_s``: the level of the event itself."""
    width = max(min(int(window_s * sample_rate), len(samples)), 1)
    sums = np.cumsum(np.concatenate([[0.0], np.square(samples, dtype=np.float64)]))
    means = (sums[width:] - sums[:-width]) / width
    return float(np.sqrt(max(float(means.max(initial=0.0)), 0.0)))


def mix_at(
    background: NDArray[np.float32],
    sound: NDArray[np.float32],
    onset_s: float,
    snr_db: float,
    sample_rate: int = SAMPLE_RATE,
) -> NDArray[np.float32]:
    """Place ``sound`` in ``background``.

    Args:
        background: ``(n,)``; the result is as long.
        sound: what happens; what does not fit is cut off.
        onset_s: where it starts.
        snr_db: loudest 0.1 s of the sound over the mean level of the background. Over digital silence the
            sound is placed as it is.
        sample_rate: in Hz.

    Returns:
        ``(n,)``, scaled down where it would clip.
    """
    floor = float(np.sqrt(np.mean(np.square(background, dtype=np.float64)))) if len(background) else 0.0
    level = loudest_rms(sound, sample_rate)
    gain = floor * 10 ** (snr_db / 20) / level if floor > 0 and level > 0 else 1.0
    mixed = background.astype(np.float32).copy()
    add_at(mixed, int(onset_s * sample_rate), sound * np.float32(gain))
    largest = float(np.max(np.abs(mixed), initial=0.0))
    return mixed if largest <= 1.0 else normalize(mixed, 0.99)
