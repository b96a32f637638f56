"""Finding sound that is missing, from when the rest came: for senders whose timestamps do not tell."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Sequence

LATE_S = 0.5
# A network that stalled delivers what it held back, at once or a little faster than it sounds; so long is
# waited for it.
BACKLOG_S = 1.0
# A backlog comes faster than it sounds by this share, at least.
_HASTE = 0.1
# The sender's clock may be slower than ours by this share.
_DRIFT = 0.01


class Arrival(Protocol):
    """A piece of sound that came."""

    @property
    def duration_s(self) -> float:
        """In seconds."""

    @property
    def arrived_s(self) -> float:
        """When it was there, by a clock that is never set."""

    @property
    def lateness_s(self) -> float:
        """That less the length of all sound up to its end."""


class Arrivals:
    """Follows how late the sound of one sender is.

    The lateness jumps up when sound is missing, and also when the network stalls; but then it falls back as
    the backlog comes. While it falls there is no gap; if it stops before it is as low as it was, there is.
    """

    def __init__(self) -> None:
        self._usual_s: float | None = None

    def is_gap(self, pieces: Sequence[Arrival], now_s: float) -> bool | None:
        """Whether sound is missing before the first of the pieces that wait.

        Args:
            pieces: in their order; those after the first tell whether there is a backlog.
            now_s: by the clock of the arrivals.

        Returns:
            None while a backlog may still come.
        """
        first = pieces[0]
        until_s = first.arrived_s + BACKLOG_S
        soon = [piece for piece in pieces if piece.arrived_s <= until_s]
        if not all(self._is_late(piece) for piece in soon):
            return False
        return not _is_falling(soon, until_s - BACKLOG_S / 2) if now_s >= until_s else None

    def take(self, piece: Arrival, gap: bool) -> None:
        """Go on after the first piece, now that it is known whether it comes after a gap."""
        if gap or self._usual_s is None:
            self._usual_s = piece.lateness_s
        else:
            self._usual_s = min(piece.lateness_s, self._usual_s + _DRIFT * piece.duration_s)

    def _is_late(self, piece: Arrival) -> bool:
        return self._usual_s is not None and piece.lateness_s - self._usual_s > LATE_S


def _is_falling(pieces: Sequence[Arrival], half_s: float) -> bool:
    """Whether sound still comes faster than it sounds: not only at once, with the rest lost."""
    before = [piece.lateness_s for piece in pieces if piece.arrived_s <= half_s]
    after = [piece.lateness_s for piece in pieces if piece.arrived_s > half_s]
    # The least of each half, because single pieces come late for other reasons.
    return bool(after) and min(before) - min(after) > _HASTE * BACKLOG_S / 2
