"""A piece of a room's everyday sound, as embeddings in 8 bits."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

_CODES = 127


@dataclass(frozen=True, slots=True, eq=False)
class RoomPiece:
    """Windows above the gate that belong together, oldest first.

    Attributes:
        at: Unix time of its end, seconds.
        ends_s: ``(n,)`` end of each window, seconds since the piece began, rising; gaps were gated.
        codes: ``(n, dimension)`` int8: each embedding, up to a factor.
    """

    at: float
    ends_s: NDArray[np.float64]
    codes: NDArray[np.int8]

    def __len__(self) -> int:
        return len(self.ends_s)

    def embeddings(self) -> NDArray[np.float32]:
        """``(n, dimension)``, L2-normalised; each within about a hundredth of what was heard."""
        values = self.codes.astype(np.float32)
        return np.asarray(values / np.maximum(np.linalg.norm(values, axis=1, keepdims=True), 1.0))


def coded(embedding: NDArray[np.float32]) -> NDArray[np.int8]:
    """Bring embeddings, ``(..., dimension)``, into 8 bits; their lengths are lost."""
    largest = np.maximum(np.abs(embedding).max(axis=-1, keepdims=True), np.finfo(np.float32).tiny)
    return np.asarray(np.rint(embedding / largest * _CODES), np.int8)


def piece_of(
    at: float, ends_s: Sequence[float], codes: Sequence[NDArray[np.int8]], hop_s: float
) -> RoomPiece:
    """Put windows together.

    Args:
        at: see ``RoomPiece``.
        ends_s: of at least one window, in any time that goes on, seconds.
        codes: of each window, ``(dimension,)``.
        hop_s: seconds between regular windows.
    """
    times = np.asarray(ends_s, np.float64)
    return RoomPiece(at, times - times[0] + hop_s, np.stack(codes))
