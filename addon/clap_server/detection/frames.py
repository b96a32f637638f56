"""How loud the stream is from moment to moment, by what can be heard of it."""

from __future__ import annotations

from functools import cache
from math import log10
from typing import TYPE_CHECKING

import numpy as np

from clap_server.audio.level import FLOOR_DBFS

if TYPE_CHECKING:
    from numpy.typing import NDArray

FRAME_S = 0.01
# A cheap converter's offset and the mains' hum are no sound of the room, but they would hide its rises and
# hold the gate open. Thumps keep most of their energy above this, hum's fundamental loses 24 dB (50 Hz).
CUTOFF_HZ = 100.0
# By then the filter's response has fallen to a millionth.
_RESPONSE_S = 0.06
_BUTTERWORTH_4 = (1.0, 2.6131259297527532, 3.414213562373095, 2.6131259297527532, 1.0)


def dbfs(power: float) -> float:
    """Decibels of a mean square, full scale 1."""
    return max(FLOOR_DBFS, 10.0 * log10(max(power, 1e-20)))


class PowerFrames:
    """Mean power of each frame of 10 ms, without DC and hum.

    A Butterworth high-pass of fourth order (Butterworth 1930), whose impulse response is convolved by FFT, so
    that it takes no sample by sample loop.

    Args:
        sample_rate: in Hz.
    """

    def __init__(self, sample_rate: int) -> None:
        self.size = round(FRAME_S * sample_rate)
        """Samples in a frame."""
        self._rate = sample_rate
        self._before: NDArray[np.float32] | None = None
        self._rest = np.empty(0, np.float32)

    def feed(self, samples: NDArray[np.float32]) -> NDArray[np.float64]:
        """Take the next ``(n,)`` samples; return the ``(frames,)`` that they complete."""
        if not len(samples):
            return np.empty(0)
        filtered = self._filter(samples)
        pending = np.concatenate((self._rest, filtered)) if len(self._rest) else filtered
        count = len(pending) // self.size
        self._rest = pending[count * self.size :].copy()
        frames = pending[: count * self.size].reshape(count, self.size)
        return np.asarray(np.einsum("ij,ij->i", frames, frames, dtype=np.float64) / self.size)

    def _filter(self, samples: NDArray[np.float32]) -> NDArray[np.float32]:
        taps = round(_RESPONSE_S * self._rate)
        if self._before is None:
            # As if the offset had always been there: it must not be a crash where the stream starts.
            self._before = np.full(taps - 1, samples[0], np.float32)
        pending = np.concatenate((self._before, samples))
        self._before = pending[len(pending) - taps + 1 :].copy()
        size = 1 << (len(pending) - 1).bit_length()
        spectrum = np.fft.rfft(pending, size) * _response(self._rate, taps, size)
        return np.fft.irfft(spectrum, size)[taps - 1 : len(pending)].astype(np.float32, copy=False)


@cache
def _response(rate: int, taps: int, size: int) -> NDArray[np.complex64]:
    """Spectrum, of ``size`` points, of the high-pass's impulse response cut to ``taps``."""
    grid = 1 << (8 * taps - 1).bit_length()
    # The bilinear transform of the analog filter, whose cutoff is 1 rad/s.
    s = 1j * np.tan(np.pi * np.arange(grid // 2) / grid) / np.tan(np.pi * CUTOFF_HZ / rate)
    gain = np.append(s**4 / np.polyval(_BUTTERWORTH_4, s), 1.0)
    impulse = np.fft.irfft(gain, grid)[:taps]
    # What was cut off must not let DC through.
    impulse -= impulse.sum() / taps
    return np.fft.rfft(impulse, size).astype(np.complex64)
