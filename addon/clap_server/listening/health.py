"""What can be wrong with sound that does come: its rate, its gaps, its peaks, or that nothing is ever in it.

Time is that of the arrivals and of the samples.
"""

from __future__ import annotations

from collections import deque
from itertools import groupby
from typing import TYPE_CHECKING

import numpy as np

from clap_server.detection.windows import PIECE_S

if TYPE_CHECKING:
    from collections.abc import Sequence

    from clap_server.audio.block import AudioBlock
    from clap_server.detection.windows import Window

_MINUTE_S = 60.0

# A clock that is off by less harms no model. The two limits keep it from flapping.
_WRONG_RATE = 0.04
_RIGHT_RATE = 0.025
_RATE_MEMORY_S = 57.0
_RATE_NEEDS_S = 44.0
# Shorter pieces between gaps tell nothing of their rate.
_SHORTEST_PIECE_S = 4.0
# How far the share must move to be told again.
_NEWS_RATE = 0.03
# So much at once is no arrival: the clock was set.
_CLOCK_SET_S = 30.0

_CHOPPY_GAPS = 6
_STEADY_GAPS = 2

# Resampling rounds peaks off.
_FULL_SCALE = 0.985
_CLIPPED_SHARE = 0.01
_CLIPPED_SECONDS = 10
_CLEAN_SECONDS = 3

_DAY_S = 24 * 3600.0


class Rate:
    """Whether samples come as fast as they should, by the clock of this computer.

    Sound may come in bursts and late, but never early. So how late it is at best, in each third of the last
    minute, grows steadily if there are too few samples, and falls if there are too many; one stall or jump of
    the network moves it once.
    """

    def __init__(self) -> None:
        # Of each second: piece of the stream, arrival, smallest arrival less the length of the piece so far.
        self._seconds: deque[tuple[int, float, float]] = deque()
        self._piece = 0
        self._length_s = 0.0
        self._last_at: float | None = None
        self._told: float | None = None
        self.reason: str | None = None
        """In words, while the rate is wrong."""

    def take(self, block: AudioBlock) -> None:
        """Learn when the next block came."""
        at = block.captured_at
        if self._last_at is not None and not 0 <= at - self._last_at < _CLOCK_SET_S:
            self.break_off()
        self._last_at = at
        self._length_s += block.duration_s
        offset_s = at - self._length_s
        newest = self._seconds[-1] if self._seconds else None
        if newest is not None and newest[0] == self._piece and int(newest[1]) == int(at):
            self._seconds[-1] = (self._piece, newest[1], min(newest[2], offset_s))
            return
        self._judge()
        self._seconds.append((self._piece, at, offset_s))
        while self._seconds[0][1] < at - _RATE_MEMORY_S or self._seconds[0][1] > at:
            self._seconds.popleft()

    def break_off(self) -> None:
        """The stream is interrupted: a new piece begins."""
        self._piece += 1
        self._length_s = 0.0
        self._last_at = None

    def _judge(self) -> None:
        judged_s = lag_s = 0.0
        for _, group in groupby(self._seconds, key=lambda second: second[0]):
            piece = [(at, offset_s) for _, at, offset_s in group]
            duration_s = piece[-1][0] - piece[0][0]
            if duration_s >= _SHORTEST_PIECE_S:
                judged_s += duration_s
                lag_s += duration_s * _lag(piece)
        if judged_s < _RATE_NEEDS_S:
            return
        share = 1 - lag_s / judged_s
        wrong = abs(share - 1) >= (_WRONG_RATE if self.reason is None else _RIGHT_RATE)
        if not wrong:
            self.reason = self._told = None
        elif self._told is None or abs(share - self._told) >= _NEWS_RATE:
            self._told = share
            self.reason = (
                f"sound comes at {max(0.0, share):.0%} of its rate: the clock or the settings of the device"
                " are wrong"
            ).replace("%", " %")


def _lag(piece: Sequence[tuple[float, float]]) -> float:
    """By how much a piece gets later, in seconds per second; only if it does so from third to third."""
    begin, end = piece[0][0], piece[-1][0]
    third_s = (end - begin) / 3
    best: list[float | None] = [None, None, None]
    for at, offset_s in piece:
        index = min(2, int((at - begin) / third_s))
        before = best[index]
        best[index] = offset_s if before is None else min(before, offset_s)
    first, middle, last = best
    if first is None or middle is None or last is None:
        return 0.0
    rises = (middle - first) / third_s, (last - middle) / third_s
    return min(rises, key=abs) if rises[0] * rises[1] > 0 else 0.0


class Gaps:
    """Whether sound is missing again and again."""

    def __init__(self) -> None:
        self._recent: deque[float] = deque()
        self.reason: str | None = None
        """In words, while it is choppy."""

    def take(self, block: AudioBlock) -> None:
        """Learn whether sound is missing before a block. What this computer dropped is another trouble."""
        at = block.captured_at
        if block.after_gap and not block.dropped_s:
            self._recent.append(at)
        while self._recent and not 0 <= at - self._recent[0] < _MINUTE_S:
            self._recent.popleft()
        if self.reason is None and len(self._recent) >= _CHOPPY_GAPS:
            self.reason = (
                f"choppy: sound was missing {len(self._recent)} times in the last minute; check the network"
                " of the microphone"
            )
        elif len(self._recent) <= _STEADY_GAPS:
            self.reason = None


class Peaks:
    """Whether the sound is too loud for its format."""

    def __init__(self) -> None:
        self._seconds: deque[bool] = deque(maxlen=round(_MINUTE_S))
        self._samples = self._clipped = 0
        self.notice: str | None = None
        """In words, while it is."""

    def take(self, block: AudioBlock) -> None:
        """Count a block's samples at full scale."""
        self._samples += len(block.samples)
        self._clipped += int(np.count_nonzero(np.abs(block.samples) >= _FULL_SCALE))
        if self._samples < block.sample_rate:
            return
        self._seconds.append(self._clipped >= _CLIPPED_SHARE * self._samples)
        self._samples = self._clipped = 0
        clipped = sum(self._seconds)
        if self.notice is None and clipped >= _CLIPPED_SECONDS:
            self.notice = "clipping: much of the sound is at full scale; lower the gain of the microphone"
        elif clipped <= _CLEAN_SECONDS:
            self.notice = None


class Quiet:
    """Whether nothing but its own noise was heard for a day of listening."""

    def __init__(self) -> None:
        self._quiet_s = 0.0

    @property
    def reason(self) -> str | None:
        """In words, while it is so."""
        if self._quiet_s < _DAY_S:
            return None
        return "nothing but its own noise for 24 hours: is the microphone covered, muted or broken?"

    def heard(self, window: Window, *, admitted: bool) -> None:
        """Learn whether something in a window was above the noise."""
        self._quiet_s = 0.0 if admitted else self._quiet_s + PIECE_S * len(window.piece_levels_dbfs)


class Health:
    """All of them, for one microphone."""

    def __init__(self) -> None:
        self._rate = Rate()
        self._gaps = Gaps()
        self._peaks = Peaks()
        self._quiet = Quiet()

    def take(self, block: AudioBlock) -> None:
        """Learn from the next block."""
        self._rate.take(block)
        self._gaps.take(block)
        self._peaks.take(block)

    def break_off(self) -> None:
        """The stream is interrupted."""
        self._rate.break_off()

    def heard(self, window: Window, *, admitted: bool) -> None:
        """Learn from the next window."""
        self._quiet.heard(window, admitted=admitted)

    @property
    def wrong_rate(self) -> str | None:
        """Why the rate is wrong, in words."""
        return self._rate.reason

    @property
    def choppy(self) -> str | None:
        """Why sound is missing, in words."""
        return self._gaps.reason

    @property
    def only_noise(self) -> str | None:
        """That nothing was heard for long, in words."""
        return self._quiet.reason

    @property
    def notice(self) -> str | None:
        """What is no harm yet, in words."""
        return self._peaks.notice
