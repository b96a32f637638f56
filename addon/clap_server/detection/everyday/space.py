"""A model's embeddings as everyday sound spreads them: there likeness is told from what all sounds share."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from clap_server.clap.everyday import EverydayBank

# Of the mean variance: components that hardly vary are mostly noise.
_LEAST_SPREAD = 0.02


class EverydaySpace:
    """Principal components of everyday sound, less their mean.

    Args:
        bank: of everyday sound.
        whitening: 0 leaves each component as much weight as it varies, 1 gives all the same.
    """

    def __init__(self, bank: EverydayBank, *, whitening: float) -> None:
        lengths = np.maximum(np.linalg.norm(bank.basis, axis=1), 1e-12)
        spread = (bank.codes.std(axis=0) * lengths) ** 2 if len(bank.codes) else lengths**2
        weights = (spread + _LEAST_SPREAD * spread.mean() + 1e-12) ** (-whitening / 2)
        # Not the bank itself: what is remembered of a bank must not keep it.
        self._codes, self._mean = bank.codes, bank.mean
        self._axes = np.asarray((bank.basis / lengths[:, None]).T * weights, np.float32)
        self._steps = np.asarray(lengths * weights, np.float32)

    def everyday(self, rows: slice | NDArray[np.intp] = slice(None)) -> NDArray[np.float32]:
        """Windows of the bank, ``(rows, components)``."""
        return np.asarray(self._codes[rows] * self._steps, np.float32)

    def project(self, embeddings: NDArray[np.float32]) -> NDArray[np.float32]:
        """From ``(n, dimension)`` to ``(n, components)``."""
        return np.asarray((np.asarray(embeddings, np.float32) - self._mean) @ self._axes, np.float32)


def normalised(rows: NDArray[np.float32]) -> NDArray[np.float32]:
    """The same directions, of length 1."""
    return np.asarray(rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-9), np.float32)
