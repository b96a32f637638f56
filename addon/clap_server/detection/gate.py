"""Keeps the model from being asked about quiet."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from clap_server.detection.windows import Window


class NoiseGate:
    """Scores only what rises above the microphone's own noise.

    The noise floor is a low percentile of the levels of the last seconds (as in minimum statistics,
    Martin 2001): it falls at once and rises slowly. It is held while a sound is being reported, so
    that an alarm that sounds for minutes does not become the floor and silence itself, and it is
    capped, so that in a loud place everything is scored.

    Args:
        margin_db: how far above the floor a window's loudest moment must be.
        memory_s: span of the levels.
        percentile: of those levels, 0 to 100.
        rise_db_per_s: fastest rise of the floor.
        initial_dbfs: the floor before anything was heard.
        highest_dbfs: the floor never gets higher.
        silence_dbfs: at or below this it is digital silence, which is never scored.
    """

    def __init__(
        self,
        *,
        margin_db: float = 6.0,
        memory_s: float = 15.0,
        percentile: float = 10.0,
        rise_db_per_s: float = 2.0,
        initial_dbfs: float = -70.0,
        highest_dbfs: float = -35.0,
        silence_dbfs: float = -90.0,
    ) -> None:
        self._margin_db = margin_db
        self._memory_s = memory_s
        self._percentile = percentile
        self._rise_db_per_s = rise_db_per_s
        self._highest_dbfs = highest_dbfs
        self._silence_dbfs = silence_dbfs
        self._floor_dbfs = initial_dbfs
        self._levels: deque[tuple[float, float]] = deque()
        self._span_s = 0.0
        self._level_dbfs = silence_dbfs
        self.admitted = 0
        self.refused = 0

    @property
    def floor_dbfs(self) -> float:
        """The noise floor, dBFS."""
        return self._floor_dbfs

    @property
    def opens_at_dbfs(self) -> float:
        """Level at which a window is scored, dBFS."""
        return max(self._silence_dbfs, self._floor_dbfs + self._margin_db)

    def update(self, level_dbfs: float, duration_s: float, *, reporting: bool = False) -> None:
        """Learn from the next stretch of the stream.

        Args:
            level_dbfs: RMS level of the stretch, dBFS.
            duration_s: its length, some tenths of a second.
            reporting: an event is going on.
        """
        self._level_dbfs = level_dbfs
        if reporting:
            return
        self._levels.append((level_dbfs, duration_s))
        self._span_s += duration_s
        while self._span_s - self._levels[0][1] >= self._memory_s:
            self._span_s -= self._levels.popleft()[1]
        levels = sorted(level for level, _ in self._levels)
        low = levels[int((len(levels) - 1) * self._percentile / 100)]
        low = min(max(low, self._silence_dbfs), self._highest_dbfs)
        self._floor_dbfs = min(low, self._floor_dbfs + self._rise_db_per_s * duration_s)

    def admits(self, window: Window, *, reporting: bool = False) -> bool:
        """Whether a window is worth scoring; counts the answer.

        Args:
            window: to judge.
            reporting: an event is going on, whose end must be heard by the model.
        """
        audible = window.level_dbfs > self._silence_dbfs
        admitted = audible and (
            reporting or window.onset_s is not None or window.level_dbfs >= self.opens_at_dbfs
        )
        if admitted:
            self.admitted += 1
        else:
            self.refused += 1
        return admitted
