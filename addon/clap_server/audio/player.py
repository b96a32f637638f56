"""From sound as it comes to blocks, with the gaps between them."""

from __future__ import annotations

import time
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from clap_server.audio.arrivals import Arrivals
from clap_server.audio.downmix import Downmix
from clap_server.audio.timeline import Timeline

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from clap_server.audio.threaded import Feed

# Lost packets leave a hole; a longer one parts the sound.
_LONGEST_HOLE_S = 0.25


@dataclass(frozen=True, slots=True)
class _Piece:
    """Sound in one channel, with what is missing before it; see also ``Arrival``."""

    samples: NDArray[np.float32]
    rate: int
    missing_s: float
    notice: str | None
    captured_at: float
    arrived_s: float
    lateness_s: float

    @property
    def duration_s(self) -> float:
        return len(self.samples) / self.rate


class Player:
    """Hands the sound of one connection on.

    Args:
        feed: gets it.
        in_time: the sender sends as it records, so that what comes late for good was interrupted.
    """

    def __init__(self, feed: Feed, *, in_time: bool) -> None:
        self._feed = feed
        self._timeline = Timeline()
        self._downmix = Downmix()
        self._arrivals = Arrivals() if in_time else None
        self._received_s = 0.0
        self._waiting: deque[_Piece] = deque()

    def play(self, channels: NDArray[np.float32], rate: int, at_s: float | None = None) -> None:
        """Take what came next.

        Args:
            channels: ``(channels, n)``, full scale -1..1.
            rate: in Hz.
            at_s: its timestamp, if it has one.

        Raises:
            AudioError: the rate cannot be used.
        """
        now_s = time.monotonic()
        duration_s = channels.shape[1] / rate
        missing_s = self._timeline.missing_s(at_s, duration_s, now_s)
        samples = self._downmix.mix(channels, rate)
        self._received_s += missing_s + duration_s
        lateness_s = now_s - self._received_s
        notice = self._downmix.notice
        self._waiting.append(_Piece(samples, rate, missing_s, notice, time.time(), now_s, lateness_s))
        self.tick()

    def tick(self) -> None:
        """Hand on what has waited long enough."""
        while self._waiting:
            gap = self._arrivals.is_gap(self._waiting, time.monotonic()) if self._arrivals else False
            if gap is None:
                return
            self._hand_on(gap)

    def finish(self) -> None:
        """Hand on all that waits: no more comes."""
        while self._waiting:
            self._hand_on(gap=self._arrivals is not None)

    def _hand_on(self, gap: bool) -> None:
        piece = self._waiting.popleft()
        if self._arrivals is not None:
            self._arrivals.take(piece, gap)
        if gap or piece.missing_s > _LONGEST_HOLE_S:
            self._feed.gap()
        elif piece.missing_s:
            hole = np.zeros(round(piece.missing_s * piece.rate), np.float32)
            self._feed.push(hole, piece.rate, piece.captured_at - piece.duration_s)
        self._feed.notice = piece.notice
        self._feed.push(piece.samples, piece.rate, piece.captured_at)
