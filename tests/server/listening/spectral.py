"""A small CLAP model without learning: it hears bands of the spectrum and knows words for two of them.

A tone of 3 kHz is an 'alarm', a burst between 5 and 7 kHz is 'glass'; other words mean some low band.
"""

import zlib
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from clap_server.clap.everyday import EverydayBank

RATE = 16_000
EDGES_HZ = np.geomspace(60, 7800, 25)
ALARM_BAND = int(np.searchsorted(EDGES_HZ, 3000)) - 1
GLASS_BANDS = slice(int(np.searchsorted(EDGES_HZ, 5000)) - 1, int(np.searchsorted(EDGES_HZ, 7000)))
LOW_BANDS = 8


class SpectralModel:
    """Implements ``ClapModel``; counts its batches."""

    def __init__(self, *, sample_rate: int = RATE, window_s: float = 2.0, name: str = "spectral") -> None:
        self.name = name
        self.builtin = False
        self.device = "cpu"
        self.dtype = "float32"
        self.sample_rate = sample_rate
        self.window_s = window_s
        self.dimension = len(EDGES_HZ) - 1
        self.everyday: EverydayBank | None = None
        self.batches: list[int] = []

    def embed_audio(self, windows: Sequence[NDArray[np.float32]]) -> NDArray[np.float32]:
        self.batches.append(len(windows))
        rows = [self._hear(window) for window in windows]
        return np.stack(rows).astype(np.float32)

    def embed_text(self, texts: Sequence[str]) -> NDArray[np.float32]:
        return np.stack([self._read(text.lower()) for text in texts])

    def _hear(self, window: NDArray[np.float32]) -> NDArray[np.float64]:
        assert len(window) <= round(self.window_s * self.sample_rate)
        power = np.abs(np.fft.rfft(window)) ** 2
        frequency = np.fft.rfftfreq(len(window), 1 / self.sample_rate)
        band = np.searchsorted(EDGES_HZ, frequency) - 1
        inside = (band >= 0) & (band < self.dimension)
        sums = np.bincount(band[inside], power[inside], self.dimension)
        counts = np.bincount(band[inside], minlength=self.dimension)
        density = sums / np.maximum(counts, 1) + 1e-12
        return np.asarray(density / np.linalg.norm(density))

    def _read(self, text: str) -> NDArray[np.float32]:
        vector = np.zeros(self.dimension)
        if "alarm" in text:
            vector[ALARM_BAND] = 1
        elif "glass" in text and any(word in text for word in ("break", "broke", "shatter", "smash")):
            vector[GLASS_BANDS] = 1
        else:
            vector[zlib.crc32(text.encode()) % LOW_BANDS] = 1
        return np.asarray(vector / np.linalg.norm(vector), np.float32)


def room(duration_s: float, *, rate: int = RATE, dbfs: float = -60.0, seed: int = 0) -> NDArray[np.float32]:
    """The noise of a quiet room."""
    rng = np.random.default_rng(seed)
    return (rng.standard_normal(round(duration_s * rate)) * 10 ** (dbfs / 20)).astype(np.float32)


def tone(duration_s: float, *, rate: int = RATE) -> NDArray[np.float32]:
    """An alarm of 3 kHz."""
    time_s = np.arange(round(duration_s * rate)) / rate
    return (0.1 * np.sin(2 * np.pi * 3000 * time_s)).astype(np.float32)


def crash(*, rate: int = RATE, seed: int = 1) -> NDArray[np.float32]:
    """A burst of 0.3 s that fills the bands of glass."""
    count = round(0.3 * rate)
    spectrum = np.fft.rfft(np.random.default_rng(seed).standard_normal(count))
    frequency = np.fft.rfftfreq(count, 1 / rate)
    spectrum[(frequency < EDGES_HZ[GLASS_BANDS.start]) | (frequency > 7000)] = 0
    burst = np.fft.irfft(spectrum, count) * np.exp(-np.arange(count) / (0.08 * rate))
    return np.asarray(0.3 * burst / np.abs(burst).max(), np.float32)


def scene(
    duration_s: float, *sounds: tuple[float, NDArray[np.float32]], rate: int = RATE
) -> NDArray[np.float32]:
    """A quiet room with sounds at some seconds."""
    samples = room(duration_s, rate=rate)
    for at_s, sound in sounds:
        start = round(at_s * rate)
        part = sound[: len(samples) - start]
        samples[start : start + len(part)] += part
    return samples
