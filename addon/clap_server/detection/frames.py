"""How loud the stream is from moment to moment, by what can be heard of it."""

from __future__ import annotations

from functools import cache
from math import log10
from typing import TYPE_CHECKING

import numpy as np
from scipy import signal

from clap_server.audio.level import FLOOR_DBFS

if TYPE_CHECKING:
    from numpy.typing import NDArray

FRAME_S = 0.01
# A cheap converter's offset and the mains' hum are no sound of the room, but they would hide its rises and
# hold the gate open. Thumps keep most of their energy above this, hum's fundamental loses 24 dB (50 Hz).
CUTOFF_HZ = 100.0
_ORDER = 4
# A state that dies away in silence must not reach numbers so small that processors are slow with them.
_NOTHING = 1e-30


def dbfs(power: float) -> float:
    """Decibels of a mean square, full scale 1."""
    return max(FLOOR_DBFS, 10.0 * log10(max(power, 1e-20)))


class PowerFrames:
    """Mean power of each frame of 10 ms, without DC and hum.

    A Butterworth high-pass of fourth order (Butterworth 1930).

    Args:
        sample_rate: in Hz.
    """

    def __init__(self, sample_rate: int) -> None:
        self.size = round(FRAME_S * sample_rate)
        """Samples in a frame."""
        self._rate = sample_rate
        self._state: NDArray[np.float64] | None = None
        self._rest = np.empty(0)

    def feed(self, samples: NDArray[np.float32]) -> NDArray[np.float64]:
        """Take the next ``(n,)`` samples; return the ``(frames,)`` that they complete."""
        if not len(samples):
            return np.empty(0)
        filtered = self._filter(samples)
        pending = np.concatenate((self._rest, filtered)) if len(self._rest) else filtered
        count = len(pending) // self.size
        self._rest = pending[count * self.size :].copy()
        frames = pending[: count * self.size].reshape(count, self.size)
        return np.asarray(np.einsum("ij,ij->i", frames, frames) / self.size)

    def _filter(self, samples: NDArray[np.float32]) -> NDArray[np.float64]:
        numerator, denominator, settled = _high_pass(self._rate)
        if self._state is None:
            # As if the offset had always been there: it must not be a crash where the stream starts.
            self._state = settled * samples[0]
        filtered, self._state = signal.lfilter(
            numerator, denominator, samples.astype(np.float64), zi=self._state
        )
        self._state[np.abs(self._state) < _NOTHING] = 0.0
        return np.asarray(filtered)


@cache
def _high_pass(
    rate: int,
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Numerator, denominator, and the state after a constant of 1."""
    numerator, denominator = signal.butter(_ORDER, CUTOFF_HZ, "high", fs=rate)
    return numerator, denominator, signal.lfilter_zi(numerator, denominator)
