"""What the tests of synthesised sounds measure."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Maker = Callable[..., NDArray[np.float32]]
RATE = 48_000
SEEDS = range(5)


def made(maker: Maker, **options: object) -> list[NDArray[np.float32]]:
    """One sound for each of ``SEEDS``."""
    return [maker(np.random.default_rng(seed), RATE, **options) for seed in SEEDS]


def levels(samples: NDArray[np.float32], frame_s: float = 0.005) -> NDArray[np.float64]:
    """Root mean square of each frame."""
    size = int(frame_s * RATE)
    frames = samples[: len(samples) // size * size].reshape(-1, size).astype(np.float64)
    return np.sqrt((frames**2).mean(axis=1))


def power(samples: NDArray[np.float32]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Frequencies in Hz and power."""
    spectrum = np.abs(np.fft.rfft(samples * np.hanning(len(samples)))) ** 2
    return np.fft.rfftfreq(len(samples), 1 / RATE), spectrum


def share(samples: NDArray[np.float32], low_hz: float, high_hz: float) -> float:
    """Part of the power that lies between the two frequencies."""
    hz, spectrum = power(samples)
    return float(spectrum[(hz >= low_hz) & (hz < high_hz)].sum() / spectrum.sum())


def centroid(samples: NDArray[np.float32]) -> float:
    """Mean frequency in Hz, weighted by power."""
    hz, spectrum = power(samples)
    return float((hz * spectrum).sum() / spectrum.sum())


def flatness(samples: NDArray[np.float32]) -> float:
    """Geometric over arithmetic mean of the power between 1 and 12 kHz: 1 is noise, 0 a tone."""
    hz, spectrum = power(samples)
    kept = spectrum[(hz > 1000) & (hz < 12000)] + 1e-12
    return float(np.exp(np.log(kept).mean()) / kept.mean())


def loudest(samples: NDArray[np.float32], length_s: float = 0.05) -> NDArray[np.float32]:
    """The stretch with the most energy."""
    size = int(length_s * RATE)
    sums = np.cumsum(np.concatenate([[0.0], samples.astype(np.float64) ** 2]))
    start = int(np.argmax(sums[size:] - sums[:-size]))
    return samples[start : start + size]


def kurtosis(samples: NDArray[np.float32]) -> float:
    """Fourth moment over the squared second: 3 is Gaussian noise, more is clicks."""
    values = samples.astype(np.float64)
    return float((values**4).mean() / (values**2).mean() ** 2)


def period_s(samples: NDArray[np.float32], shortest_s: float, longest_s: float) -> float:
    """Period of the envelope: the highest peak of its autocorrelation between the two."""
    frame_s = 0.002
    envelope = levels(samples, frame_s)
    envelope -= envelope.mean()
    size = 2 * len(envelope)
    correlation = np.fft.irfft(np.abs(np.fft.rfft(envelope, size)) ** 2)[: len(envelope)]
    first, last = round(shortest_s / frame_s), round(longest_s / frame_s)
    return float((first + np.argmax(correlation[first : last + 1])) * frame_s)


def pitch_hz(frame: NDArray[np.float32], low_hz: float, high_hz: float) -> float:
    """Fundamental of a periodic frame: the shortest period that correlates nearly as well as the best."""
    centred = frame.astype(np.float64) * np.hanning(len(frame))
    size = 2 * len(centred)
    correlation = np.fft.irfft(np.abs(np.fft.rfft(centred, size)) ** 2)[: len(centred)]
    first, last = int(RATE / high_hz), int(RATE / low_hz)
    wanted = correlation[first : last + 1]
    peaks = np.flatnonzero((wanted[1:-1] >= wanted[:-2]) & (wanted[1:-1] >= wanted[2:])) + 1
    good = peaks[wanted[peaks] > 0.9 * wanted[peaks].max()]
    return RATE / float(first + good[0])
