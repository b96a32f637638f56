"""Embeddings as the database keeps them: half precision, which moves a cosine by less than 0.001."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

MISFIT = "embeddings of another size than the model's"
"""What is wrong with what fits together, but not to the model of which it is said to be."""

_STORED = np.dtype("<f2")


def to_blob(embeddings: NDArray[np.floating]) -> bytes:
    """Pack ``(windows, dimension)``."""
    return embeddings.astype(_STORED).tobytes()


def from_blob(blob: bytes, windows: int, dimension: int | None = None) -> NDArray[np.float32]:
    """Unpack ``(windows, dimension)``, L2-normalised.

    Args:
        blob: what ``to_blob`` made.
        windows: how many.
        dimension: of the model; None where that is not known.

    Raises:
        ValueError: the blob does not hold so many, or not numbers.
    """
    if windows < 1:
        raise ValueError("no windows")
    found = np.frombuffer(blob, _STORED).astype(np.float32).reshape(windows, -1)
    if dimension not in {None, found.shape[1]}:
        raise ValueError(MISFIT)
    lengths = np.linalg.norm(found, axis=1, keepdims=True)
    if not found.size or not np.isfinite(found).all() or not lengths.all():
        raise ValueError("embeddings that are not numbers")
    return np.asarray(found / lengths, np.float32)
