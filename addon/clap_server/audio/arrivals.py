"""Finding sound that is missing, from when the rest came: for senders without timestamps."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

LATE_S = 0.5
# A network that stalled delivers what it held back at once; so long is waited for it.
BACKLOG_S = 0.5
# The sender's clock may be slower than ours by this share.
_DRIFT = 0.01


class Arrivals:
    """Follows how late the sound of one sender is.

    The lateness of a piece is its arrival less the length of all sound up to its end. It jumps up when sound
    is missing, and also when the network stalls, but then it falls back as the backlog comes.
    """

    def __init__(self) -> None:
        self._usual_s: float | None = None

    def is_late(self, lateness_s: float) -> bool:
        """Whether sound is missing before this piece, unless a backlog makes up for it."""
        return self._usual_s is not None and lateness_s - self._usual_s > LATE_S

    def take(self, lateness_s: float, duration_s: float, backlog: Iterable[float]) -> bool:
        """Take the next piece.

        Args:
            lateness_s: of the piece.
            duration_s: of the piece.
            backlog: lateness of what came within ``BACKLOG_S`` after it.

        Returns:
            Whether sound is missing before it.
        """
        if self._usual_s is None:
            self._usual_s = lateness_s
        elif self.is_late(min((lateness_s, *backlog))):
            self._usual_s = lateness_s
            return True
        else:
            self._usual_s = min(lateness_s, self._usual_s + _DRIFT * duration_s)
        return False

    def restart(self) -> None:
        """Forget what was usual: another sender has its turn."""
        self._usual_s = None
