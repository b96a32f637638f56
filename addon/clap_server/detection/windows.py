"""Cuts the windows that the model looks at from the stream."""

from __future__ import annotations

from bisect import insort
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from clap_server.detection.onset import Onset, OnsetDetector

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from clap_server.audio.ring import RingBuffer

# After an onset: as soon as there is something to recognise, and once more with the sound well inside. At the
# default hop a regular window comes between the two, so that a decision rarely waits for longer.
EXTRA_DELAYS_S = (0.2, 0.7)
EXTRA_PER_S = 2.0
_EXTRA_BURST = 4.0
# An extra window this near to another one would tell nothing new.
_EXTRA_DISTANCE_S = 0.08
# Where a stream starts. Models with repeatpad repeat a short window until it is full, and less than this,
# repeated, sounds like a rattle or an alarm whatever it was.
SHORTEST_S = 0.5
_LEVEL_FRAME_S = 0.05
_FLOOR_DBFS = -120.0


@dataclass(frozen=True, slots=True)
class Window:
    """A stretch of the stream that the model looks at.

    Attributes:
        start_s: stream time of the first sample, seconds.
        end_s: stream time just after the last sample, seconds.
        samples: ``(n,)`` float32, full scale -1..1.
        level_dbfs: RMS level of its loudest 50 ms, so that a short crash is not averaged away.
        onset_s: stream time of its sharpest onset; None if nothing in it rises suddenly.
    """

    start_s: float
    end_s: float
    samples: NDArray[np.float32]
    level_dbfs: float
    onset_s: float | None


class WindowCutter:
    """Makes a window each hop and extra ones after onsets.

    Stream time is the count of samples: it neither jumps nor depends on when samples arrive.

    Args:
        ring: where the stream is kept. The owner appends, then calls ``advance``; a piece longer than what
            the ring holds beyond a window would be lost, so append in pieces of a fraction of a second.
        window_s: length of a window, seconds; shorter only where the stream starts.
        hop_s: seconds between windows.
    """

    def __init__(self, ring: RingBuffer, *, window_s: float, hop_s: float) -> None:
        self._ring = ring
        self._rate = ring.sample_rate
        self._length = round(window_s * self._rate)
        self._hop = max(1, round(hop_s * self._rate))
        self._seen = ring.total_samples
        self._origin = self._seen
        self._first_sample = self._seen
        self._next_regular = self._seen + self._hop
        self._last_cut = self._seen
        self._extras: list[int] = []
        self._tokens = _EXTRA_BURST
        self._onset_detector = OnsetDetector(self._rate)
        self._onsets: deque[Onset] = deque()

    @property
    def now_s(self) -> float:
        """Stream time of what has been looked at, seconds."""
        return self._seen / self._rate

    def reshape(self, *, window_s: float, hop_s: float) -> None:
        """Change the length of windows or the hop without losing the stream."""
        self._length = round(window_s * self._rate)
        self._hop = max(1, round(hop_s * self._rate))
        self._next_regular = min(self._next_regular, self._seen + self._hop)

    def advance(self) -> list[Window]:
        """Look at what was appended to the ring since the last call.

        Returns:
            The windows that became due, oldest first.
        """
        total = self._ring.total_samples
        if total == self._seen:
            return []
        fresh = self._ring.read(self._seen, total)
        self._tokens = min(_EXTRA_BURST, self._tokens + EXTRA_PER_S * len(fresh) / self._rate)
        self._seen = total
        for onset in self._onset_detector.feed(fresh):
            self._schedule(onset)
        windows: list[Window] = []
        while True:
            due = self._next_due()
            if due > total:
                return windows
            window = self._cut(due)
            if window is not None:
                windows.append(window)

    def _schedule(self, found: Onset) -> None:
        onset = Onset(found.at_s + self._origin / self._rate, found.rise_db)
        self._onsets.append(onset)
        for delay_s in EXTRA_DELAYS_S:
            if self._tokens < 1:
                return
            self._tokens -= 1
            insort(self._extras, round((onset.at_s + delay_s) * self._rate))

    def _next_due(self) -> int:
        distance = _EXTRA_DISTANCE_S * self._rate
        while self._extras:
            extra = self._extras[0]
            near_regular = self._next_regular - extra < distance
            if extra - self._last_cut < distance or (near_regular and extra <= self._next_regular):
                self._extras.pop(0)
                continue
            if extra < self._next_regular:
                return self._extras.pop(0) if extra <= self._seen else extra
            break
        due = self._next_regular
        if due <= self._seen:
            self._next_regular += self._hop
        return due

    def _cut(self, end: int) -> Window | None:
        start = max(self._first_sample, end - self._length)
        if end - start < SHORTEST_S * self._rate:
            return None
        self._last_cut = end
        samples = self._ring.read(start, end)
        start_s, end_s = start / self._rate, end / self._rate
        return Window(start_s, end_s, samples, self._loudest_dbfs(samples), self._sharpest_s(start_s, end_s))

    def _loudest_dbfs(self, samples: NDArray[np.float32]) -> float:
        size = round(_LEVEL_FRAME_S * self._rate)
        count = len(samples) // size
        # From the end, so that the newest sound is never left out.
        frames = samples[len(samples) - count * size :].reshape(count, size).astype(np.float64)
        power = float(np.max(np.mean(frames**2, axis=1)))
        return max(_FLOOR_DBFS, 10 * float(np.log10(max(power, 1e-20))))

    def _sharpest_s(self, start_s: float, end_s: float) -> float | None:
        while self._onsets and self._onsets[0].at_s < start_s:
            self._onsets.popleft()
        inside = [onset for onset in self._onsets if onset.at_s < end_s]
        return max(inside, key=lambda onset: onset.rise_db).at_s if inside else None
