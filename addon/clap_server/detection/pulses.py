"""Beeps: narrow-band sounds that start and stop, at any carrier from 400 Hz to 4 kHz."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

LOWEST_HZ = 400.0
HIGHEST_HZ = 4000.0
# The grid on which pulses are timed.
FRAME_S = 0.01
# Long enough to tell neighbouring carriers apart, short enough for gaps of 0.1 s.
_WINDOW_S = 0.032
# The carrier takes three bins (Hann); its surroundings are the fourth to the tenth bin on each side.
_CARRIER_BINS = 1
_GUARD_BINS = 3
_SURROUNDING_BINS = 10
# Power ratios: 9 dB above the surroundings starts a pulse.
_STARTS_AT = 8.0
_LASTS_AT = 3.0
# Short pulses end 5 dB below their own peak, so that a gap of 0.1 s shows in a room that rings. Long ones
# end 12 dB below it, because the first reflection may nearly cancel a tone for as long as it lasts. The next
# has to rise by 4 dB from the lowest point between them.
_FALL = np.array([[10 ** (-5 / 10)], [10 ** (-12 / 10)]])
_RISE = 2.5
# Beats in the tail of a room are no beeps: a pulse starts no more than 10 dB below what has just been, which
# is forgotten by 20 dB a second.
_TAIL = 0.1
_FORGET = 10 ** (-20 * FRAME_S / 10)
# A rise of 6 dB within 30 ms is where a pulse really starts, if a tail was taken for its beginning.
_ONSET = 4.0
_ONSET_FRAMES = 3
# A click within a pulse does not end it.
_HANGOVER_FRAMES = 2
# Of the strongest channel nearby, what the carrier's own has at least.
_NEAR_PEAK = 0.4
_QUIETEST = 1e-12


class PulseLength(IntEnum):
    """For which pulses a band is watched."""

    SHORT = 0
    LONG = 1


@dataclass(frozen=True, slots=True)
class Pulse:
    """A beep in stream time.

    Attributes:
        length: as which it was watched for; the same beep may be found as both.
        channel: of the filter bank; neighbouring ones hear the same beep.
        start_s: its onset, seconds.
        end_s: when it stopped, seconds.
        known_s: end of the sound that tells so, seconds.
        level_dbfs: RMS level at its peak, of what the channel hears of it.
        prominence_db: how far its peak was above its surroundings in frequency.
        steadiness_db: its mean power below its peak: near 0 for a sounder, lower for a bell that dies away
            and where a room all but cancels the tone.
    """

    length: PulseLength
    channel: int
    start_s: float
    end_s: float
    known_s: float
    level_dbfs: float
    prominence_db: float
    steadiness_db: float

    @property
    def duration_s(self) -> float:
        """How long it lasted."""
        return self.end_s - self.start_s


class PulseFinder:
    """Finds where the power of each narrow band rises above its surroundings in frequency, and falls again.

    Args:
        sample_rate: in Hz; up to ``HIGHEST_HZ`` is heard from 9 kHz on.
    """

    def __init__(self, sample_rate: int) -> None:
        self._hop = round(FRAME_S * sample_rate)
        self._length = round(_WINDOW_S * sample_rate)
        self._window = np.hanning(self._length).astype(np.float32)
        spacing_hz = sample_rate / self._length
        self._first = round(LOWEST_HZ / spacing_hz) - _SURROUNDING_BINS
        # A low sample rate leaves fewer channels, or none.
        highest = min(round(HIGHEST_HZ / spacing_hz), self._length // 2 - _SURROUNDING_BINS)
        self._count = max(0, highest - round(LOWEST_HZ / spacing_hz) + 1)
        self._spacing_hz = spacing_hz
        self._frame_s = self._hop / sample_rate
        # The middle of a window is the time that it tells of.
        self._middle_s = self._length / sample_rate / 2
        # Power in the three bins of a carrier, for a mean square of 1 (Hann).
        self._full_scale = 3.0 * (self._length / 4) ** 2
        self._rest: NDArray[np.float32] = np.empty(0, np.float32)
        self._frames = 0
        shape = (len(PulseLength), self._count)
        self._on = np.zeros(shape, np.bool_)
        self._since = np.zeros(shape, np.int64)
        self._below = np.zeros(shape, np.int64)
        self._peak = np.zeros(shape)
        self._lowest = np.full(shape, np.inf)
        self._best = np.zeros(shape)
        self._sum = np.zeros(shape)
        self._recent = np.zeros(self._count)
        self._before = np.full((_ONSET_FRAMES, self._count), np.inf)

    def carrier_hz(self, channel: int) -> float:
        """Centre frequency of a channel."""
        return (channel + self._first + _SURROUNDING_BINS) * self._spacing_hz

    @property
    def now_s(self) -> float:
        """End of the sound in which pulses were looked for, seconds."""
        return (self._frames - 1) * self._frame_s + 2 * self._middle_s

    def feed(self, samples: NDArray[np.float32]) -> list[Pulse]:
        """Take the next ``(n,)`` samples of the stream; return the pulses that ended in them."""
        pending = np.concatenate((self._rest, samples)) if len(self._rest) else samples
        count = (len(pending) - self._length) // self._hop + 1
        if count < 1:
            self._rest = pending.copy()
            return []
        self._rest = pending[count * self._hop :].copy()
        if not self._count:
            self._frames += count
            return []
        frames = np.lib.stride_tricks.sliding_window_view(pending, self._length)[:: self._hop][:count]
        spectrum = np.fft.rfft(frames * self._window, axis=1)
        last = self._first + self._count + 2 * _SURROUNDING_BINS
        bins = spectrum[:, self._first : last]
        power = bins.real.astype(np.float64) ** 2 + bins.imag.astype(np.float64) ** 2
        sums = np.concatenate((np.zeros((count, 1)), np.cumsum(power, axis=1)), axis=1)
        carrier = self._around(sums, _CARRIER_BINS)
        surrounding = self._around(sums, _SURROUNDING_BINS) - self._around(sums, _GUARD_BINS)
        width = (2 * _CARRIER_BINS + 1) / (2 * (_SURROUNDING_BINS - _GUARD_BINS))
        prominence = carrier / np.maximum(surrounding * width, _QUIETEST)
        # A channel beside the carrier hears it faintly and loses it now and then: another pattern.
        peaks = np.lib.stride_tricks.sliding_window_view(
            np.pad(carrier, ((0, 0), (_GUARD_BINS, _GUARD_BINS))), 2 * _GUARD_BINS + 1, axis=1
        )
        prominence[carrier < _NEAR_PEAK * peaks.max(axis=2)] = 0.0
        found: list[Pulse] = []
        for index in range(count):
            found += self._step(carrier[index], prominence[index])
            self._frames += 1
        return found

    def _around(self, sums: NDArray[np.float64], reach: int) -> NDArray[np.float64]:
        """Power of the bins up to ``reach`` away from each channel's own."""
        middle = _SURROUNDING_BINS
        return (
            sums[:, middle + reach + 1 : middle + reach + 1 + self._count]
            - sums[:, middle - reach : middle - reach + self._count]
        )

    def _step(self, power: NDArray[np.float64], prominence: NDArray[np.float64]) -> list[Pulse]:
        on = self._on
        self._peak = np.where(on, np.maximum(self._peak, power), self._peak)
        self._best = np.where(on, np.maximum(self._best, prominence), self._best)
        self._sum = np.where(on, self._sum + power, self._sum)
        lasts = (power >= self._peak * _FALL) & (prominence >= _LASTS_AT)
        self._below = np.where(lasts, 0, self._below + 1)
        ends = on & (self._below > _HANGOVER_FRAMES)
        clear = (prominence >= _STARTS_AT) & (power >= self._recent * _TAIL)
        starts = ~on & clear & (power >= self._lowest * _RISE)
        again = on & clear & (power >= self._before[0] * _ONSET)
        self._recent = np.maximum(self._recent * _FORGET, power)
        self._before = np.concatenate((self._before[1:], power[None]))
        self._lowest = np.where(on, np.inf, np.minimum(self._lowest, power))
        found = [self._ended(int(length), int(channel)) for length, channel in np.argwhere(ends)]
        if found:
            self._lowest = np.where(ends, power, self._lowest)
        self._since = np.where(starts | again, self._frames, self._since)
        self._sum = np.where(starts | again, power, self._sum)
        if starts.any():
            self._peak = np.where(starts, power, self._peak)
            self._best = np.where(starts, prominence, self._best)
            self._below = np.where(starts, 0, self._below)
        self._on = (on & ~ends) | starts
        return found

    def _ended(self, length: int, channel: int) -> Pulse:
        start = int(self._since[length, channel])
        end = self._frames - int(self._below[length, channel]) + 1
        mean = self._sum[length, channel] / (self._frames - start + 1)
        peak = float(self._peak[length, channel])
        return Pulse(
            PulseLength(length),
            channel,
            start * self._frame_s + self._middle_s,
            end * self._frame_s + self._middle_s,
            self._frames * self._frame_s + 2 * self._middle_s,
            min(10 * float(np.log10(peak / self._full_scale)), 0.0),
            10 * float(np.log10(self._best[length, channel])),
            10 * float(np.log10(mean / peak)),
        )
