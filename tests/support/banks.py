"""Small banks of everyday sound, with just enough in them that rates can be told."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from clap_server.clap.everyday import EverydayBank, Piece
from clap_server.detection.everyday.scale import LEAST_BLOCKS

if TYPE_CHECKING:
    from numpy.typing import NDArray

_RECORDINGS = 3 * LEAST_BLOCKS


def random_bank(
    dimension: int,
    *,
    made_for: str,
    centre: NDArray[np.float32] | None = None,
    seed: int = 0,
) -> EverydayBank:
    """Embeddings in random directions, or around one, a window in each of many recordings."""
    rows = np.random.default_rng(seed).normal(size=(_RECORDINGS, dimension))
    if centre is not None:
        rows = rows / np.sqrt(dimension) + centre
    return _bank(rows, made_for, 1)


def spectral_bank(dimension: int, *, made_for: str) -> EverydayBank:
    """What ``SpectralModel`` hears of low tones and noise: four windows in each of many recordings."""
    rng = np.random.default_rng(1)
    rows = 0.01 * rng.random((_RECORDINGS, 4, dimension))
    low = rng.integers(2 * dimension // 3, size=_RECORDINGS)
    rows[np.arange(_RECORDINGS), :, low] += rng.random((_RECORDINGS, 1))
    return _bank(rows.reshape(-1, dimension), made_for, 4)


def _bank(rows: NDArray[np.floating], made_for: str, windows: int) -> EverydayBank:
    count = len(rows) // windows
    return EverydayBank.of(
        made_for,
        np.asarray(rows / np.linalg.norm(rows, axis=1, keepdims=True), np.float32),
        np.tile(0.5 * np.arange(1, windows + 1), count),
        np.repeat(np.arange(count), windows),
        [Piece()] * count,
        hop_s=0.5,
        sources="random numbers",
    )
