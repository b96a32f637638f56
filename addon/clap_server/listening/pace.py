"""What gives way first when there is more sound than the model can look at: every second window."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

_PERIOD_S = 4.0
# Of the time, so busy is a model that cannot do more, as some is spent between two batches.
_BUSY = 0.75
# Of the windows, of so many one before still waits when they come.
_LATE = 0.5
# With twice as many windows it would still not be as busy as that, so it does not go to and fro.
_IDLE = 0.35
_LONGEST = 2


class Pace:
    """Says of how many windows of a microphone one is looked at.

    Fewer are when, for some seconds, the model works without a pause and windows come faster than it takes
    them. All are again when it would have time for all of them.

    Args:
        clock: seconds, ever increasing.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._every = 1
        self._begin()

    def _begin(self) -> None:
        self._since_s = self._clock()
        self._windows = self._late = 0
        self._busy_s = 0.0

    @property
    def every(self) -> int:
        """One in so many windows is looked at: 1, or 2 while there are too many."""
        elapsed_s = self._clock() - self._since_s
        if elapsed_s >= _PERIOD_S:
            busy = self._busy_s / elapsed_s
            if busy >= _BUSY and self._late >= _LATE * self._windows:
                self._every = _LONGEST
            elif busy <= _IDLE:
                self._every = 1
            self._begin()
        return self._every

    def take(self, *, late: bool) -> None:
        """A window of a microphone is to be looked at; ``late`` if one of it before still waits for that."""
        self._windows += 1
        self._late += late

    def worked(self, seconds: float) -> None:
        """The model was busy with windows of microphones."""
        self._busy_s += seconds
