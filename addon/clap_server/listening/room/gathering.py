"""Gathers the everyday sound of one stretch of a microphone's stream into pieces.

What is not everyday sound never enters: events with what led to them, sound that a user plays as a test,
digital silence. So a window waits for half a minute, in which it may turn out to begin an event.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from clap_server.detection.gate import SILENCE_DBFS
from clap_server.listening.room.piece import coded, piece_of

if TYPE_CHECKING:
    from collections.abc import Iterable

    import numpy as np
    from numpy.typing import NDArray

    from clap_server.clap.model import ClapModel
    from clap_server.detection.detector import Detection
    from clap_server.detection.windows import Window
    from clap_server.listening.clock import StreamClock
    from clap_server.listening.room.piece import RoomPiece

PIECE_S = 30.0
"""Sound above the gate in a piece; it ends with the clock's hour at the latest, or with the stretch."""

MOST_WINDOWS = 64
"""In a piece."""

BEFORE_S = 1.0
"""So long before its onset begins what is left out of an event."""

# Longer than a sustained sound may approach its threshold before it is an event.
_WAIT_S = 30.0
_HOUR_S = 3600.0


class Ear(Protocol):
    """Takes what was gathered."""

    def take(self, piece: RoomPiece, model: ClapModel, hop_s: float) -> None:
        """A piece is whole.

        Args:
            piece: of everyday sound.
            model: that embedded it.
            hop_s: seconds between its regular windows.
        """

    def listened(self, heard_s: float, sounding_s: float) -> None:
        """So many more seconds were heard, and so many of them had everyday sound above the gate."""


@dataclass(frozen=True, slots=True)
class _Waiting:
    window: Window
    model: ClapModel
    codes: NDArray[np.int8]
    seconds: float


class Gathering:
    """Follows one stretch, window by window, as it is judged.

    Args:
        ear: takes the pieces; nothing is gathered without one.
        clock: knows when the stretch was.
        hop_s: seconds between windows.
    """

    def __init__(self, ear: Ear | None, clock: StreamClock, *, hop_s: float) -> None:
        self._ear = ear
        self._clock = clock
        self._hop_s = hop_s
        self._last_end_s: float | None = None
        self._waiting: deque[_Waiting] = deque()
        self._piece: list[_Waiting] = []
        self._going_on: set[str] = set()
        self._left_out_until_s = float("-inf")

    def take(
        self,
        window: Window,
        embedding: NDArray[np.float32] | None,
        model: ClapModel,
        *,
        tested: bool,
    ) -> None:
        """Take a window after it was judged; one that was lost is simply left out.

        Args:
            window: ends no earlier than the one before.
            embedding: ``(dimension,)``; None if the gate was closed.
            model: of the microphone.
            tested: a self-test is going on in the room.
        """
        if self._ear is None:
            return
        seconds = self._seconds(window)
        if tested:
            self._left_out_until_s = window.end_s
        if tested or window.level_dbfs <= SILENCE_DBFS:
            return
        # While an event goes on the gate is held open, so that it says nothing.
        everyday = not self._going_on and window.start_s >= self._left_out_until_s
        if embedding is None or not everyday:
            self._ear.listened(seconds, 0.0)
        else:
            self._ear.listened(seconds, seconds)
            self._waiting.append(_Waiting(window, model, coded(embedding), seconds))
        while self._waiting and self._waiting[0].window.end_s < window.end_s - _WAIT_S:
            self._add(self._waiting.popleft())

    def heard(self, detections: Iterable[Detection]) -> None:
        """Leave out events, whether they are told to anybody or not; in the order in which they come."""
        for detection in detections:
            label_id = detection.watched.label.id
            if detection.ended_s is not None:
                self._going_on.discard(label_id)
                self._left_out_until_s = max(self._left_out_until_s, detection.ended_s)
            elif label_id not in self._going_on:
                self._going_on.add(label_id)
                before_s = detection.onset_s - BEFORE_S
                self._waiting = deque(each for each in self._waiting if each.window.end_s < before_s)
                self._piece = [each for each in self._piece if each.window.end_s < before_s]

    def change(self, *, hop_s: float) -> None:
        """Another hop from here on."""
        if hop_s != self._hop_s:
            self.finish()
            self._hop_s = hop_s

    def finish(self) -> None:
        """The stretch is over, so nothing more can turn out to be an event."""
        while self._waiting:
            self._add(self._waiting.popleft())
        self._close()

    def wipe(self) -> None:
        """Forget what waits: the microphone was muted."""
        self._waiting.clear()
        self._piece.clear()

    def _seconds(self, window: Window) -> float:
        """What a window adds to what was heard; a whole hop after something was lost."""
        since_s = self._hop_s if self._last_end_s is None else window.end_s - self._last_end_s
        self._last_end_s = window.end_s
        return min(since_s, self._hop_s)

    def _add(self, new: _Waiting) -> None:
        if self._piece and (
            new.model is not self._piece[-1].model or self._hour(new) != self._hour(self._piece[-1])
        ):
            self._close()
        self._piece.append(new)
        if len(self._piece) >= MOST_WINDOWS or sum(each.seconds for each in self._piece) >= PIECE_S:
            self._close()

    def _hour(self, waiting: _Waiting) -> int:
        return int(self._clock.utc(waiting.window.end_s).timestamp() // _HOUR_S)

    def _close(self) -> None:
        piece, self._piece = self._piece, []
        if piece and self._ear is not None:
            at = self._clock.utc(piece[-1].window.end_s).timestamp()
            ends_s = [each.window.end_s for each in piece]
            codes = [each.codes for each in piece]
            self._ear.take(piece_of(at, ends_s, codes, self._hop_s), piece[0].model, self._hop_s)
