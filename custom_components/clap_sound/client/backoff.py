"""How long to wait before the next attempt to connect."""

from __future__ import annotations

import random

FIRST_S = 0.5
MAX_S = 10.0


class Backoff:
    """Pauses that double from ``FIRST_S`` to ``MAX_S``."""

    def __init__(self) -> None:
        self._next_s = FIRST_S

    def next_s(self) -> float:
        pause_s = self._next_s
        self._next_s = min(pause_s * 2, MAX_S)
        # Jitter: not all clients of a restarted server come back at the same moment.
        return pause_s * random.uniform(0.5, 1.0)

    def reset(self) -> None:
        self._next_s = FIRST_S
