"""Finds sudden rises of level, so that a crash is not made to wait for the clock."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

FRAME_S = 0.01
# The attack of a sound may be spread over the frames just before the one that is judged.
_ATTACK_FRAMES = 2
_REFERENCE_FRAMES = 30
_QUIET_POWER = 1e-6


@dataclass(frozen=True, slots=True)
class Onset:
    """A sudden rise of level.

    Attributes:
        at_s: stream time, seconds.
        rise_db: how far the frame is above the 0.3 s before it.
    """

    at_s: float
    rise_db: float


class OnsetDetector:
    """Compares the power of each 10 ms frame with the mean of the 0.3 s before it.

    In the first third of a second of a stream there is nothing to compare with, hence no onset: else each
    reconnection of a camera would be one.

    Args:
        sample_rate: in Hz.
        rise_db: the rise that counts.
        minimum_dbfs: quieter frames never count.
        refractory_s: after an onset none is reported for this long.
    """

    def __init__(
        self,
        sample_rate: int,
        *,
        rise_db: float = 10.0,
        minimum_dbfs: float = -65.0,
        refractory_s: float = 0.25,
    ) -> None:
        self._frame = round(FRAME_S * sample_rate)
        self._frame_s = self._frame / sample_rate
        self._rise_db = rise_db
        self._minimum_power = 10 ** (minimum_dbfs / 10)
        self._refractory_s = refractory_s
        self._rest: NDArray[np.float32] = np.empty(0, np.float32)
        self._last_s = -refractory_s
        self._frames_seen = 0
        self._history = np.full(_REFERENCE_FRAMES + _ATTACK_FRAMES, _QUIET_POWER)

    def feed(self, samples: NDArray[np.float32]) -> list[Onset]:
        """Take the next samples of the stream.

        Args:
            samples: ``(n,)``, full scale -1..1.

        Returns:
            The onsets in them, oldest first.
        """
        pending = np.concatenate((self._rest, samples)) if len(self._rest) else samples
        count = len(pending) // self._frame
        self._rest = pending[count * self._frame :].copy()
        if not count:
            return []
        frames = pending[: count * self._frame].reshape(count, self._frame).astype(np.float64)
        power = np.concatenate((self._history, np.mean(frames**2, axis=1)))
        sums = np.concatenate(([0.0], np.cumsum(power)))
        reference = (sums[_REFERENCE_FRAMES : _REFERENCE_FRAMES + count] - sums[:count]) / _REFERENCE_FRAMES
        new = power[-count:]
        rise_db = 10 * np.log10(np.maximum(new, 1e-12) / np.maximum(reference, 1e-12))
        onsets = []
        for index in np.flatnonzero((rise_db >= self._rise_db) & (new >= self._minimum_power)):
            at_s = (self._frames_seen + int(index)) * self._frame_s
            if self._frames_seen + index < len(self._history):
                continue
            if at_s - self._last_s >= self._refractory_s:
                self._last_s = at_s
                onsets.append(Onset(at_s, float(rise_db[index])))
        self._frames_seen += count
        self._history = power[-len(self._history) :]
        return onsets
