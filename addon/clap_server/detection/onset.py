"""Finds sudden rises of level, so that a crash is not made to wait for the clock."""

from __future__ import annotations

from dataclasses import dataclass
from math import log10
from typing import TYPE_CHECKING

import numpy as np

from clap_server.detection.frames import FRAME_S

if TYPE_CHECKING:
    from numpy.typing import NDArray

_RISE = 10.0  # as powers, which is 10 dB
_LEAST = 1e-12
_MINIMUM_POWER = 10 ** (-65.0 / 10)
_REFRACTORY_S = 0.25
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

    Frames below -65 dBFS never count, and after an onset none is reported for 0.25 s. In the first third of a
    second of a stream there is nothing to compare with, hence no onset: else each reconnection of a camera
    would be one.

    Args:
        sample_rate: in Hz.
    """

    def __init__(self, sample_rate: int) -> None:
        self._frame_s = round(FRAME_S * sample_rate) / sample_rate
        self._last_s = -_REFRACTORY_S
        self._frames_seen = 0
        self._history = np.full(_REFERENCE_FRAMES + _ATTACK_FRAMES, _QUIET_POWER)

    def feed(self, frames: NDArray[np.float64]) -> list[Onset]:
        """Take the mean power of the next ``(n,)`` frames of the stream (see ``PowerFrames``).

        Returns:
            The onsets in them, oldest first.
        """
        count = len(frames)
        if not count:
            return []
        power = np.concatenate((self._history, frames))
        sums = np.concatenate(([0.0], np.cumsum(power)))
        reference = (sums[_REFERENCE_FRAMES : _REFERENCE_FRAMES + count] - sums[:count]) / _REFERENCE_FRAMES
        rise = np.maximum(frames, _LEAST) / np.maximum(reference, _LEAST)
        onsets = []
        for index in np.flatnonzero((rise >= _RISE) & (frames >= _MINIMUM_POWER)):
            at_s = (self._frames_seen + int(index)) * self._frame_s
            if self._frames_seen + index < len(self._history):
                continue
            if at_s - self._last_s >= _REFRACTORY_S:
                self._last_s = at_s
                onsets.append(Onset(at_s, 10 * log10(rise[index])))
        self._frames_seen += count
        self._history = power[-len(self._history) :]
        return onsets
