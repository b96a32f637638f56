"""Building blocks of the synthesised sounds: damped modes, shaped noise, envelopes, levels."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

SAMPLE_RATE = 48_000


def normalize(samples: NDArray[np.floating], peak: float = 0.7) -> NDArray[np.float32]:
    """Scale so that the largest absolute sample is ``peak``; silence stays silence."""
    largest = float(np.max(np.abs(samples), initial=0.0))
    if largest == 0.0:
        return samples.astype(np.float32)
    return (samples * (peak / largest)).astype(np.float32)


def unit_peak(samples: NDArray[np.float32]) -> NDArray[np.float32]:
    """Divide by the largest absolute sample; what is next to silence stays so."""
    return samples / np.float32(max(float(np.abs(samples).max()), 1e-9))


def add_at(target: NDArray[np.float32], start: int, sound: NDArray[np.floating]) -> None:
    """Add ``sound`` into ``target`` from sample ``start`` on; what lies outside is dropped."""
    first, last = max(start, 0), min(start + len(sound), len(target))
    if first < last:
        target[first:last] += sound[first - start : last - start].astype(np.float32)


def fade(samples: NDArray[np.float32], sample_rate: int, fade_s: float = 0.005) -> NDArray[np.float32]:
    """Raise and lower the two ends along half a cosine, so that nothing clicks."""
    count = min(int(fade_s * sample_rate), len(samples) // 2)
    if count == 0:
        return samples
    ramp = (0.5 - 0.5 * np.cos(np.linspace(0, np.pi, count))).astype(np.float32)
    faded = samples.copy()
    faded[:count] *= ramp
    faded[-count:] *= ramp[::-1]
    return faded


def modes(
    rng: np.random.Generator,
    sample_rate: int,
    duration_s: float,
    frequencies_hz: NDArray[np.floating],
    amplitudes: NDArray[np.floating],
    decays_s: NDArray[np.floating],
) -> NDArray[np.float32]:
    """Sum exponentially damped sines of random phase: the modes of a struck body.

    Modes above 0.45 of the sample rate are left out.

    Args:
        rng: gives the phases.
        sample_rate: in Hz.
        duration_s: length in seconds.
        frequencies_hz: ``(m,)``.
        amplitudes: ``(m,)``.
        decays_s: ``(m,)`` time in which each falls to 1/e.

    Returns:
        ``(n,)``, not normalised.
    """
    count = max(int(duration_s * sample_rate), 1)
    phases = rng.uniform(0, 2 * np.pi, len(frequencies_hz))
    audible = frequencies_hz < 0.45 * sample_rate
    times = np.arange(count, dtype=np.float32) / np.float32(sample_rate)
    total = np.zeros(count, np.float32)
    for frequency, amplitude, decay, phase in zip(
        frequencies_hz[audible], amplitudes[audible], decays_s[audible], phases[audible], strict=True
    ):
        # Seven decay times down to -61 dB: the rest would not be heard.
        heard = min(count, max(int(7 * decay * sample_rate), 1))
        part = times[:heard]
        total[:heard] += (
            np.float32(amplitude)
            * np.exp(part * np.float32(-1 / decay))
            * np.sin(part * np.float32(2 * np.pi * frequency) + np.float32(phase))
        )
    return total


def shaped_noise(
    rng: np.random.Generator,
    count: int,
    sample_rate: int,
    gain: Callable[[NDArray[np.float64]], NDArray[np.float64]],
) -> NDArray[np.float32]:
    """Gaussian noise whose spectrum is ``gain(frequencies_hz)``, with a standard deviation of 1."""
    spectrum = np.fft.rfft(rng.standard_normal(count))
    spectrum *= gain(np.fft.rfftfreq(count, 1 / sample_rate).astype(np.float64))
    noise = np.fft.irfft(spectrum, count)
    deviation = float(noise.std())
    return (noise / deviation if deviation > 0 else noise).astype(np.float32)


def band(
    low_hz: float, high_hz: float, order: float = 2.0
) -> Callable[[NDArray[np.float64]], NDArray[np.float64]]:
    """Magnitude of a band-pass with Butterworth-like skirts, for ``shaped_noise`` and ``filtered``."""

    def gain(frequencies_hz: NDArray[np.float64]) -> NDArray[np.float64]:
        safe = np.maximum(frequencies_hz, 1e-3)
        return np.asarray(
            1 / np.sqrt((1 + (low_hz / safe) ** (2 * order)) * (1 + (safe / high_hz) ** (2 * order)))
        )

    return gain


def filtered(
    samples: NDArray[np.floating],
    sample_rate: int,
    gain: Callable[[NDArray[np.float64]], NDArray[np.float64]],
) -> NDArray[np.float32]:
    """Multiply the spectrum by ``gain(frequencies_hz)`` (zero phase)."""
    spectrum = np.fft.rfft(samples)
    spectrum *= gain(np.fft.rfftfreq(len(samples), 1 / sample_rate).astype(np.float64))
    return np.fft.irfft(spectrum, len(samples)).astype(np.float32)


def chosen(
    rng: np.random.Generator,
    kind: str | None,
    kinds: Sequence[str],
    what: str,
    shares: Sequence[float] | None = None,
) -> str:
    """The kind that was asked for, or one drawn by chance.

    Args:
        rng: draws; not used if ``kind`` is given.
        kind: what was asked for; nothing if left out.
        kinds: all there are.
        what: they are kinds of, for the message.
        shares: how often each is drawn; all alike if left out.

    Raises:
        ValueError: ``kind`` is not one of ``kinds``.
    """
    name = kind or str(rng.choice(kinds, p=shares))
    if name not in kinds:
        raise ValueError(f"unknown {what} {name!r}: use one of {', '.join(kinds)}")
    return name


def log_uniform(
    rng: np.random.Generator, low: float, high: float, size: int | None = None
) -> NDArray[np.float64]:
    """Draw evenly on a logarithmic scale."""
    return np.exp(rng.uniform(np.log(low), np.log(high), size))


def tone(
    frequency_hz: NDArray[np.floating] | float,
    count: int,
    sample_rate: int,
    harmonics: tuple[float, ...] = (1.0,),
) -> NDArray[np.float32]:
    """A tone with harmonics; ``frequency_hz`` may change with every sample.

    Args:
        frequency_hz: a constant or ``(count,)``.
        count: samples.
        sample_rate: in Hz.
        harmonics: amplitude of each, the fundamental first; those above 0.45 of the rate are left out.

    Returns:
        ``(count,)`` with a peak of at most the sum of the harmonics.
    """
    frequency = np.broadcast_to(np.asarray(frequency_hz, np.float64), (count,))
    phase = 2 * np.pi * np.cumsum(frequency) / sample_rate
    total = np.zeros(count)
    highest = float(frequency.max(initial=0.0))
    for index, amplitude in enumerate(harmonics, start=1):
        if index * highest < 0.45 * sample_rate:
            total += amplitude * np.sin(index * phase)
    return total.astype(np.float32)
