"""Says which windows of the stream the model should look at."""

from __future__ import annotations

from bisect import insort
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from clap_server.detection.frames import FRAME_S, PowerFrames, dbfs
from clap_server.detection.onset import Onset, OnsetDetector

if TYPE_CHECKING:
    from numpy.typing import NDArray

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
# Of a window's level: so short that a crash is not averaged away.
_LOUDEST_FRAMES = 5
PIECE_FRAMES = 10
PIECE_S = PIECE_FRAMES * FRAME_S


@dataclass(frozen=True, slots=True)
class Window:
    """A part of the stream that the model may look at; ``Front.samples`` has its sound.

    Levels are without DC and hum (see ``PowerFrames``).

    Attributes:
        start_s: stream time of the first sample, seconds.
        end_s: stream time just after the last sample, seconds.
        level_dbfs: RMS level of its loudest 50 ms.
        onset_s: stream time of its sharpest onset; None if nothing in it rises suddenly.
        piece_levels_dbfs: RMS levels of the pieces of ``PIECE_S`` that ended since the window before.
        onsets_s: stream times of all its onsets, oldest first.
    """

    start_s: float
    end_s: float
    level_dbfs: float
    onset_s: float | None
    piece_levels_dbfs: tuple[float, ...] = ()
    onsets_s: tuple[float, ...] = ()


class WindowCutter:
    """Says when a window is due: each hop, and after onsets.

    Stream time is the count of samples: it neither jumps nor depends on when or in which portions samples
    arrive.

    Args:
        sample_rate: in Hz.
        window_s: length of a window, seconds; shorter only where the stream starts.
        hop_s: seconds between windows.
    """

    def __init__(self, sample_rate: int, *, window_s: float, hop_s: float) -> None:
        self._rate = sample_rate
        self._length = round(window_s * sample_rate)
        self._hop = max(1, round(hop_s * sample_rate))
        self._seen = 0
        self._next_regular = self._hop
        self._last_cut = 0
        self._extras: list[int] = []
        self._tokens = _EXTRA_BURST
        self._tokens_at_s = 0.0
        self._onset_detector = OnsetDetector(sample_rate)
        self._onsets: deque[Onset] = deque()
        self._frames = PowerFrames(sample_rate)
        self._first_frame = 0
        self._power = np.empty(0)
        self._pieces_told = 0

    def reshape(self, *, window_s: float, hop_s: float) -> None:
        """Change the length of windows or the hop without losing the stream."""
        self._length = round(window_s * self._rate)
        self._hop = max(1, round(hop_s * self._rate))
        self._next_regular = min(self._next_regular, self._seen + self._hop)

    def advance(self, samples: NDArray[np.float32]) -> list[Window]:
        """Take the next ``(n,)`` samples of the stream.

        Returns:
            The windows that became due, oldest first.
        """
        power = self._frames.feed(samples)
        if len(power):
            self._keep(power)
            for onset in self._onset_detector.feed(power):
                self._schedule(onset)
        self._seen += len(samples)
        windows: list[Window] = []
        while (due := self._next_due()) <= self._seen:
            if due >= min(self._length, SHORTEST_S * self._rate):
                self._last_cut = due
                windows.append(self._cut(due))
        return windows

    def last(self, after_s: float = 0.0) -> Window:
        """The window that ends where the stream ended, or so long after that, with what is left of it."""
        return self._cut(self._seen + round(after_s * self._rate))

    @property
    def uncut_s(self) -> float:
        """How much sound came after the newest window, seconds."""
        return (self._seen - self._last_cut) / self._rate

    def level_dbfs(self, duration_s: float) -> float:
        """RMS level of the newest sound, at most a window of it."""
        power = self._power[-round(duration_s * self._rate / self._frames.size) :]
        return dbfs(float(power.mean()) if len(power) else 0.0)

    def _keep(self, power: NDArray[np.float64]) -> None:
        """Remember the frames that a coming window, or the gate, will ask for."""
        self._power = np.concatenate((self._power, power))
        done = self._first_frame + len(self._power)
        needed = (self._seen - self._length) // self._frames.size - PIECE_FRAMES
        drop = min(needed, self._pieces_told * PIECE_FRAMES, done) - self._first_frame
        if drop > PIECE_FRAMES:
            self._power = self._power[drop:]
            self._first_frame += drop

    def _between(self, first: int, last: int) -> NDArray[np.float64]:
        """The power of those of the frames ``first`` to ``last`` (excluded) that are known."""
        return self._power[max(0, first - self._first_frame) : max(0, last - self._first_frame)]

    def _schedule(self, onset: Onset) -> None:
        self._onsets.append(onset)
        gained = EXTRA_PER_S * (onset.at_s - self._tokens_at_s)
        self._tokens = min(_EXTRA_BURST, self._tokens + gained)
        self._tokens_at_s = onset.at_s
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

    def _cut(self, end: int) -> Window:
        start = max(0, end - self._length)
        start_s, end_s = start / self._rate, end / self._rate
        onsets = self._onsets_in(start_s, end_s)
        sharpest = max(onsets, key=lambda onset: onset.rise_db, default=None)
        return Window(
            start_s,
            end_s,
            self._loudest_dbfs(start, end),
            None if sharpest is None else sharpest.at_s,
            self._pieces(end),
            tuple(onset.at_s for onset in onsets),
        )

    def _loudest_dbfs(self, start: int, end: int) -> float:
        power = self._between(-(-start // self._frames.size), end // self._frames.size)
        count = len(power) // _LOUDEST_FRAMES
        if not count:
            return dbfs(float(power.mean()) if len(power) else 0.0)
        # From the end, so that the newest sound is never left out.
        groups = power[len(power) - count * _LOUDEST_FRAMES :].reshape(count, _LOUDEST_FRAMES)
        return dbfs(float(groups.mean(axis=1).max()))

    def _onsets_in(self, start_s: float, end_s: float) -> list[Onset]:
        while self._onsets and self._onsets[0].at_s < start_s:
            self._onsets.popleft()
        # The frame that rose must be in it as a whole: whatever came later may or may not be known by now.
        latest_s = end_s - self._frames.size / self._rate + 1e-9
        return [onset for onset in self._onsets if onset.at_s <= latest_s]

    def _pieces(self, end: int) -> tuple[float, ...]:
        """The levels that the gate has not been told yet."""
        known = min(end // self._frames.size, self._first_frame + len(self._power)) // PIECE_FRAMES
        first, self._pieces_told = self._pieces_told, max(known, self._pieces_told)
        power = self._between(first * PIECE_FRAMES, known * PIECE_FRAMES)
        return tuple(map(dbfs, power.reshape(-1, PIECE_FRAMES).mean(axis=1).tolist()))
