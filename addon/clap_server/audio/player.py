"""From sound as it comes to blocks, with the gaps between them."""

from __future__ import annotations

import threading
import time
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from clap_server.audio.arrivals import BACKLOG_S, Arrivals
from clap_server.audio.downmix import Downmix
from clap_server.audio.resample import check_rate
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

    What may still be one with a backlog waits, and goes on by itself when none came.

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
        self._lock = threading.Lock()
        self._timer: threading.Timer | None = None

    def play(self, channels: NDArray[np.float32], rate: int, at_s: float | None = None) -> None:
        """Take what came next.

        Args:
            channels: ``(channels, n)``, full scale -1..1.
            rate: in Hz.
            at_s: its timestamp, if it has one.

        Raises:
            AudioError: the rate cannot be used.
        """
        check_rate(rate)
        now_s = time.monotonic()
        duration_s = channels.shape[1] / rate
        missing_s = self._timeline.missing_s(at_s, duration_s, now_s)
        samples = self._downmix.mix(channels, rate)
        self._received_s += missing_s + duration_s
        lateness_s = now_s - self._received_s
        notice = self._downmix.notice
        piece = _Piece(samples, rate, missing_s, notice, time.time(), now_s, lateness_s)
        with self._lock:
            self._waiting.append(piece)
            self._hand_on_what_is_known()

    def finish(self) -> None:
        """Hand on all that waits: no more comes."""
        with self._lock:
            self._stop_timer()
            while self._waiting:
                self._hand_on(gap=self._arrivals is not None)

    def _hand_on_what_is_known(self) -> None:
        self._stop_timer()
        while self._waiting:
            now_s = time.monotonic()
            gap = self._arrivals.is_gap(self._waiting, now_s) if self._arrivals else False
            if gap is None:
                self._start_timer(self._waiting[0].arrived_s + BACKLOG_S - now_s)
                return
            self._hand_on(gap)

    def _start_timer(self, wait_s: float) -> None:
        self._timer = threading.Timer(wait_s, self._wake)
        self._timer.daemon = True
        self._timer.start()

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _wake(self) -> None:
        with self._lock:
            if not self._feed.closed():
                self._hand_on_what_is_known()

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
