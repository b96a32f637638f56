"""Which pieces of a room's sound are kept: a bounded sample of two weeks, spread over the hours of a day."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

KEPT_S = 14 * 86400.0
"""Nothing older is kept."""

MOST_WINDOWS = 18_432
"""Of everyday sound: 2.5 hours at the usual hop. A byte a dimension: 9.4 MB at 512 dimensions, 4.7 MB at the
256 of the built-in model."""

MOST_PIECES = 2000

_HOUR_S = 3600.0
_HOURS = 24


@dataclass(frozen=True, slots=True)
class Kept:
    """A piece that is kept, without its embeddings.

    Attributes:
        number: names it.
        at: Unix time of its end, seconds.
        windows: how many it has.
        priority: drawn once, 0 to 1; where there are too many the lowest goes.
    """

    number: int
    at: float
    windows: int
    priority: float

    @property
    def hour(self) -> int:
        """Of the day, UTC."""
        return int(self.at // _HOUR_S) % _HOURS


class Reservoir:
    """Says what to keep; does not hold the embeddings.

    Where there is too much, the hour of the day that has most gives up its piece of the lowest priority,
    which is drawn at random once: within an hour of the day each piece has the same chance to stay, whenever
    in these two weeks it came, and hours with little sound keep all of theirs.

    Args:
        kept: from before.
        most_windows: of all pieces together.
        most_pieces: however short they are.
    """

    def __init__(
        self, kept: Iterable[Kept] = (), *, most_windows: int = MOST_WINDOWS, most_pieces: int = MOST_PIECES
    ) -> None:
        self._kept = {piece.number: piece for piece in kept}
        self._most_windows = most_windows
        self._most_pieces = most_pieces
        self._next = max(self._kept, default=0) + 1

    @property
    def kept(self) -> tuple[Kept, ...]:
        """All that is kept."""
        return tuple(self._kept.values())

    @property
    def windows(self) -> int:
        """How many are kept."""
        return sum(piece.windows for piece in self._kept.values())

    def offer(self, at: float, windows: int) -> tuple[Kept | None, list[int]]:
        """Take a piece.

        Args:
            at: Unix time of its end, seconds.
            windows: how many it has.

        Returns:
            What to keep of it, or None; and the numbers of those that give way to it.
        """
        new = Kept(self._next, at, windows, random.random())
        self._next += 1
        self._kept[new.number] = new
        gone = self._shrink()
        if new.number in gone:
            return None, [number for number in gone if number != new.number]
        return new, gone

    def expire(self, now: float) -> list[int]:
        """Let go of what is older than ``KEPT_S`` at a Unix time; return its numbers."""
        old = [number for number, piece in self._kept.items() if piece.at < now - KEPT_S]
        for number in old:
            del self._kept[number]
        return old

    def forget(self, number: int) -> None:
        """Let go of a piece that is damaged."""
        self._kept.pop(number, None)

    def _shrink(self) -> list[int]:
        gone = []
        while self.windows > self._most_windows or len(self._kept) > self._most_pieces:
            of_hour = [0] * _HOURS
            for piece in self._kept.values():
                of_hour[piece.hour] += piece.windows
            fullest = of_hour.index(max(of_hour))
            lowest = min(
                (piece for piece in self._kept.values() if piece.hour == fullest),
                key=lambda piece: piece.priority,
            )
            del self._kept[lowest.number]
            gone.append(lowest.number)
        return gone
