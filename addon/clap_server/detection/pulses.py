"""Beeps: narrow-band sounds that start and stop, at any carrier from 400 Hz to 4 kHz."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from math import inf, log10
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
_FALL = (10 ** (-5 / 10), 10 ** (-12 / 10))
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


@dataclass(slots=True)
class _Open:
    """A pulse that goes on.

    Attributes:
        since: frame in which it started.
        below: frames since it was last loud enough.
        peak: highest power.
        best: highest ratio to the surroundings.
        sum: of the powers.
    """

    since: int
    below: int
    peak: float
    best: float
    sum: float


class PulseFinder:
    """Finds where the power of each narrow band rises above its surroundings in frequency, and falls again.

    In most of the bands nothing rises most of the time. They are handled together, for all frames at once;
    only the few others are followed frame by frame.

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
        self._open: dict[tuple[PulseLength, int], _Open] = {}
        # Where a pulse goes on, this is not heeded.
        self._lowest = np.full((len(PulseLength), self._count), inf)
        self._recent = np.zeros(self._count)
        self._before = np.full((_ONSET_FRAMES, self._count), inf)

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
        frames = np.empty((count, self._length), np.float32)
        for index, frame in enumerate(frames):
            first = index * self._hop
            np.multiply(pending[first : first + self._length], self._window, out=frame)
        spectrum = np.fft.rfft(frames, axis=1)
        last = self._first + self._count + 2 * _SURROUNDING_BINS
        bins = spectrum[:, self._first : last]
        power = bins.real.astype(np.float64) ** 2 + bins.imag.astype(np.float64) ** 2
        sums = np.zeros((count, power.shape[1] + 1))
        np.cumsum(power, axis=1, out=sums[:, 1:])
        carrier = self._around(sums, _CARRIER_BINS)
        surrounding = self._around(sums, _SURROUNDING_BINS) - self._around(sums, _GUARD_BINS)
        width = (2 * _CARRIER_BINS + 1) / (2 * (_SURROUNDING_BINS - _GUARD_BINS))
        prominence = carrier / np.maximum(surrounding * width, _QUIETEST)
        # A channel beside the carrier hears it faintly and loses it now and then: another pattern.
        prominence[carrier < _NEAR_PEAK * _peaks_nearby(carrier)] = 0.0
        found = self._find(carrier, prominence)
        self._frames += count
        return found

    def _around(self, sums: NDArray[np.float64], reach: int) -> NDArray[np.float64]:
        """Power of the bins up to ``reach`` away from each channel's own."""
        middle = _SURROUNDING_BINS
        return (
            sums[:, middle + reach + 1 : middle + reach + 1 + self._count]
            - sums[:, middle - reach : middle - reach + self._count]
        )

    def _find(self, power: NDArray[np.float64], prominence: NDArray[np.float64]) -> list[Pulse]:
        """Take the next ``(frames, channels)``; the pulses that end in them, in their order."""
        clear = (prominence >= _STARTS_AT) & (power >= self._recent_before(power) * _TAIL)
        history = np.concatenate((self._before, power))
        self._before = history[-_ONSET_FRAMES:]
        rises = clear & (power >= history[: len(power)] * _ONSET)
        busy: NDArray[np.bool_] = np.logical_or.reduce(clear)
        for _, channel in self._open:
            busy[channel] = True
        np.minimum(self._lowest, power.min(axis=0), out=self._lowest, where=~busy)
        found: list[tuple[int, Pulse]] = []
        channels = np.flatnonzero(busy).tolist()
        columns = [values[:, busy].T.tolist() for values in (power, prominence, clear, rises)]
        for length in PulseLength:
            for channel, *values in zip(channels, *columns, strict=True):
                found += self._follow(length, channel, *values)
        # Those of one frame stay in the order of their lengths and channels.
        return [pulse for _, pulse in sorted(found, key=lambda each: each[0])]

    def _recent_before(self, power: NDArray[np.float64]) -> NDArray[np.float64]:
        """What has just been, before each frame."""
        recent = np.empty_like(power)
        for row, now in zip(recent, power, strict=True):
            row[:] = self._recent
            self._recent = np.maximum(self._recent * _FORGET, now)
        return recent

    def _follow(
        self,
        length: PulseLength,
        channel: int,
        powers: list[float],
        prominences: list[float],
        clear: list[bool],
        rises: list[bool],
    ) -> list[tuple[int, Pulse]]:
        """Take the next frames of one channel; pulses with the frames in which they end."""
        going = self._open.pop((length, channel), None)
        lowest, fall = float(self._lowest[length, channel]), _FALL[length]
        found = []
        frame = self._frames - 1
        for power, prominence, is_clear, is_rise in zip(powers, prominences, clear, rises, strict=True):
            frame += 1
            if going is None:
                if is_clear and power >= lowest * _RISE:
                    going = _Open(frame, 0, power, prominence, power)
                lowest = min(lowest, power)
                continue
            going.peak = max(going.peak, power)
            going.best = max(going.best, prominence)
            going.sum += power
            if power >= going.peak * fall and prominence >= _LASTS_AT:
                going.below = 0
            else:
                going.below += 1
            if going.below > _HANGOVER_FRAMES:
                found.append((frame, self._ended(length, channel, going, frame)))
                going, lowest = None, power
            elif is_rise:
                going.since, going.sum = frame, power
        self._lowest[length, channel] = lowest
        if going is not None:
            self._open[length, channel] = going
        return found

    def _ended(self, length: PulseLength, channel: int, pulse: _Open, frame: int) -> Pulse:
        mean = pulse.sum / (frame - pulse.since + 1)
        return Pulse(
            length,
            channel,
            pulse.since * self._frame_s + self._middle_s,
            (frame - pulse.below + 1) * self._frame_s + self._middle_s,
            frame * self._frame_s + 2 * self._middle_s,
            min(10 * log10(pulse.peak / self._full_scale), 0.0),
            10 * log10(pulse.best),
            10 * log10(mean / pulse.peak),
        )


def _peaks_nearby(power: NDArray[np.float64]) -> NDArray[np.float64]:
    """The highest power of the channels up to ``_GUARD_BINS`` (3) away from each."""
    padded = np.zeros((len(power), power.shape[1] + 2 * _GUARD_BINS))
    padded[:, _GUARD_BINS:-_GUARD_BINS] = power
    pairs = np.maximum(padded[:, :-1], padded[:, 1:])
    fours = np.maximum(pairs[:, :-2], pairs[:, 2:])
    return np.asarray(np.maximum(fours[:, :-3], fours[:, 3:]))
