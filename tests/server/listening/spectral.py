"""A small CLAP model without learning: it hears bands of the spectrum and knows words for two of them.

A tone of 3 kHz is an 'alarm', a burst between 5 and 7 kHz is 'glass'; other words mean some low band.
"""

import functools
import zlib
from collections import Counter
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from clap_server.clap.everyday import EverydayBank, Piece
from clap_server.detection.library import load_library
from clap_server.detection.scoring import TEMPERATURE

RATE = 16_000
EDGES_HZ = np.geomspace(60, 7800, 25)
ALARM_BAND = int(np.searchsorted(EDGES_HZ, 3000)) - 1
GLASS_BANDS = slice(int(np.searchsorted(EDGES_HZ, 5000)) - 1, int(np.searchsorted(EDGES_HZ, 7000)))
LOW_BANDS = 8


@functools.cache
def everyday_noise(spread: float = 0.0253, *, of_glass: int = 0) -> EverydayBank:
    """Low bands with more or less of an alarm or of glass, so that margins of 0.31 and 0.4 score 0.5 and 0.7.

    Args:
        spread: how far margins reach; with more of it, these scores take higher margins.
        of_glass: so many of ten pieces are said to hold breaking glass.
    """
    rng = np.random.default_rng(0)
    pieces, windows = 3000, 3
    high = pieces // 8
    # A margin is the cosine to the label less that to the low band, which several background texts mean.
    band, texts = Counter(_low_band(text) for text in load_library().background).most_common(1)[0]
    margins = 0.25 - spread * np.log1p(-(np.arange(high) + 0.5) / high)
    above = margins + TEMPERATURE * np.log(texts)
    angles = np.pi / 4 + np.arcsin(np.clip(above / np.sqrt(2), -0.7, 0.7))
    labels = np.zeros((2, len(EDGES_HZ) - 1))
    labels[0, ALARM_BAND] = 1
    labels[1, GLASS_BANDS] = 1 / np.sqrt(GLASS_BANDS.stop - GLASS_BANDS.start)
    embeddings = np.zeros((pieces, len(EDGES_HZ) - 1))
    embeddings[:high] = np.sin(angles)[:, None] * labels[np.arange(high) % 2]
    embeddings[:high, band] = np.cos(angles)
    # All else is noise, in which there is a little of everything.
    noise = np.abs(rng.standard_normal((pieces - high, len(EDGES_HZ) - 1)))
    embeddings[high:] = noise / np.linalg.norm(noise, axis=1, keepdims=True)
    return EverydayBank.of(
        "spectral float32",
        np.repeat(embeddings, windows, axis=0).astype(np.float32),
        np.tile(0.5 * np.arange(1, windows + 1), pieces),
        np.repeat(np.arange(pieces), windows),
        [Piece(frozenset({"glass_breaking"} if n % 2 and n % 10 < of_glass else ())) for n in range(pieces)],
        hop_s=0.5,
        sources="made up",
    )


def _low_band(text: str) -> int:
    return zlib.crc32(text.lower().encode()) % LOW_BANDS


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
        self.everyday: EverydayBank | None = everyday_noise()
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
            vector[_low_band(text)] = 1
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
