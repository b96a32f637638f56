"""How loud sound is."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

FLOOR_DBFS = -120.0


def level_dbfs(samples: NDArray[np.float32]) -> float:
    """Root mean square in dB relative to full scale (a square wave of amplitude 1 has 0 dBFS).

    Args:
        samples: ``(n,)``, full scale -1..1.

    Returns:
        At least ``FLOOR_DBFS``, which silence and an empty array have.
    """
    if samples.size == 0:
        return FLOOR_DBFS
    wide = samples.astype(np.float64)
    mean_square = float(np.dot(wide, wide)) / samples.size
    if mean_square <= 0.0:
        return FLOOR_DBFS
    return max(FLOOR_DBFS, 10.0 * float(np.log10(mean_square)))
