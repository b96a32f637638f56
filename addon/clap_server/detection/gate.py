"""Keeps the model from being asked about quiet."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from clap_server.detection.windows import PIECE_S

if TYPE_CHECKING:
    from clap_server.detection.windows import Window

_MARGIN_DB = 6.0
_MEMORY_PIECES = round(15.0 / PIECE_S)
_PERCENTILE = 10
_RISE_DB_PER_S = 2.0
_INITIAL_DBFS = -70.0
_HIGHEST_DBFS = -35.0
SILENCE_DBFS = -90.0
"""At or below this it is digital silence."""


class NoiseGate:
    """Scores only what rises above the microphone's own noise.

    The noise floor is a low percentile of the levels of the last 15 s (as in minimum statistics,
    Martin 2001): it falls at once and rises slowly. It is held while a sound is being reported, so
    that an alarm that sounds for minutes does not become the floor and silence itself, and it is
    capped, so that in a loud place everything is scored.
    """

    def __init__(self) -> None:
        self.floor_dbfs = _INITIAL_DBFS
        """The noise floor."""
        self._levels: deque[float] = deque(maxlen=_MEMORY_PIECES)

    @property
    def opens_at_dbfs(self) -> float:
        """Level from which a window is scored."""
        return max(SILENCE_DBFS, self.floor_dbfs + _MARGIN_DB)

    def admits(self, window: Window, *, reporting: bool) -> bool:
        """Whether a window is worth scoring; learns from what came since the one before.

        Args:
            window: to judge.
            reporting: an event is going on, whose end must be heard by the model.
        """
        if not reporting:
            for level_dbfs in window.piece_levels_dbfs:
                self._learn(level_dbfs)
        audible = window.level_dbfs > SILENCE_DBFS
        loud = window.level_dbfs >= self.opens_at_dbfs
        return audible and (reporting or window.onset_s is not None or loud)

    def _learn(self, level_dbfs: float) -> None:
        self._levels.append(level_dbfs)
        low = sorted(self._levels)[(len(self._levels) - 1) * _PERCENTILE // 100]
        low = min(max(low, SILENCE_DBFS), _HIGHEST_DBFS)
        self.floor_dbfs = min(low, self.floor_dbfs + _RISE_DB_PER_S * PIECE_S)
