"""Finding sound that is missing, from the timestamps of what came."""

from __future__ import annotations

# Less than this is jitter of the timestamps, or a packet or two that are made up for with the next.
_TOLERANCE_S = 0.06
# So far back, the clock of the timestamps began anew.
_BACK_S = 0.25
# From one piece to the next; what joins so closely was not interrupted.
_JOINT_S = 0.005
# The clocks of timestamps and samples may drift apart: the difference is forgotten with this time constant.
_DRIFT_S = 60.0
# Sound that is missing takes its time. Timestamps that run ahead of the clock on the wall by more than this
# while every piece has a jump are wrong (a camera that counts at another rate), unless a jump is so long that
# the camera's clock must have been set.
_AHEAD_S = 2.0


class Timeline:
    """Follows the timestamps of one stream."""

    def __init__(self) -> None:
        self._due_s: float | None = None
        self._end_s = 0.0
        self._ahead_s = 0.0
        self._trusted = True

    def missing_s(self, at_s: float | None, duration_s: float, now_s: float) -> float:
        """How much sound is missing before the next piece, in seconds; 0 if it joins the last one.

        Args:
            at_s: its timestamp; None if it has none.
            duration_s: of the piece.
            now_s: of a clock that is never set.
        """
        if self._due_s is None or at_s is None:
            if at_s is not None:
                self._begin(at_s, duration_s, now_s)
            elif self._due_s is not None:
                self._due_s += duration_s
                self._end_s += duration_s
            return 0.0
        jump_s = at_s - self._due_s
        ahead_s = at_s - now_s
        if abs(at_s - self._end_s) <= _JOINT_S:
            self._ahead_s = max(self._ahead_s, ahead_s)
        if jump_s < -_BACK_S:
            self._begin(at_s, duration_s, now_s)
            return 0.0
        self._end_s = at_s + duration_s
        if jump_s <= _TOLERANCE_S:
            self._due_s += duration_s + jump_s * min(1.0, duration_s / _DRIFT_S)
            return 0.0
        self._due_s = self._end_s
        if jump_s >= _AHEAD_S:
            self._ahead_s = ahead_s
            return jump_s
        self._trusted = self._trusted and ahead_s <= self._ahead_s + _AHEAD_S
        return jump_s if self._trusted else 0.0

    def _begin(self, at_s: float, duration_s: float, now_s: float) -> None:
        self._due_s = self._end_s = at_s + duration_s
        self._ahead_s = at_s - now_s
