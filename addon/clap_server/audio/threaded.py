"""From a thread that blocks in FFmpeg or a driver to an asynchronous iterator of blocks."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections import deque
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from clap_server.audio.block import AudioBlock
from clap_server.audio.resample import Resampler

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable

    from numpy.typing import NDArray

_LOGGER = logging.getLogger(__name__)

MIN_BLOCK_S = 0.02
MAX_BLOCK_S = 0.1
QUEUE_S = 30.0
CLOSE_WAIT_S = 1.0
# Behind by more than this, the clock of a paced feed starts anew instead of hurrying after it.
_MAX_LAG_S = 1.0
# With a lead, sound may come this much faster than real time for ever: the clock of a camera is never quite
# ours, and a few seconds a day would use up any lead within days.
_LEAD_SPEED = 1.01


class Pacer:
    """Holds sound back that comes faster than real time.

    Args:
        lead_s: how far it may run ahead, in seconds. Zero: exactly real time, for files.
    """

    def __init__(self, lead_s: float) -> None:
        self._lead_s = lead_s
        self._speed = _LEAD_SPEED if lead_s else 1.0
        self._due_s: float | None = None

    def wait_s(self, duration_s: float, now_s: float) -> float:
        """How long to wait after a piece of sound, in seconds; 0 or less: not at all.

        Args:
            duration_s: of the piece.
            now_s: of a clock that is never set.
        """
        if self._due_s is None or now_s - self._due_s - duration_s / self._speed > _MAX_LAG_S:
            self._due_s = now_s
        else:
            self._due_s += duration_s / self._speed
        return self._due_s - now_s - self._lead_s


class Feed:
    """The thread's end: takes sound in at any rate, hands it to the event loop in blocks of 20 to 100 ms.

    Args:
        sample_rate: rate of the blocks in Hz.
        lead_s: how far sound may run ahead of real time before ``push`` waits; None: it never waits.
            Zero plays a file in real time; some seconds let a server send its buffer at once.
    """

    def __init__(self, sample_rate: int, lead_s: float | None = None) -> None:
        self._sample_rate = sample_rate
        self._pacer = Pacer(lead_s) if lead_s is not None else None
        self._resampler = Resampler(sample_rate)
        self._pending: list[NDArray[np.float32]] = []
        self._pending_samples = 0
        self._closing = threading.Event()
        self._lock = threading.Lock()
        self._queue: deque[AudioBlock] = deque()
        self._queued_samples = 0
        self._after_gap = False
        self._captured_at = 0.0
        self._error: BaseException | None = None
        self._finished = False
        self._loop = asyncio.get_running_loop()
        self._news = asyncio.Event()
        self._dropped_s = 0.0
        self.notice: str | None = None
        """What the blocks from here on are to tell the user; set in the thread."""

    # --- in the thread ---

    def closed(self) -> bool:
        """Whether nobody listens any more; the thread should end."""
        return self._closing.is_set()

    def wait(self, seconds: float) -> bool:
        """Sleep; returns early, with True, when closed. Returns at once for no time or less."""
        return self._closing.wait(max(0.0, seconds))

    def wait_until_closed(self) -> None:
        """For drivers that push from a thread of their own."""
        self._closing.wait()

    def push(self, samples: NDArray[np.float32], rate: int, captured_at: float | None = None) -> None:
        """Take the next ``(n,)`` mono samples at ``rate`` Hz; drops the oldest when nobody fetches them.

        Args:
            samples: full scale -1..1.
            rate: in Hz.
            captured_at: Unix time at which the last of them arrived; None: now.

        Raises:
            AudioError: the rate is not one of sound.
        """
        self._captured_at = time.time() if captured_at is None else captured_at
        self._collect(self._resampler.push(samples, rate))
        self._emit(round(MIN_BLOCK_S * self._sample_rate))
        if self._pacer is not None:
            self.wait(self._pacer.wait_s(len(samples) / rate, time.monotonic()))

    def gap(self) -> None:
        """Say that sound is missing before what is pushed next."""
        self._collect(self._resampler.flush())
        self._emit(1)
        self._after_gap = True

    def run(self, produce: Callable[[Feed], None]) -> None:
        """Body of the thread: ``produce`` until it returns or fails, then say so to the loop."""
        try:
            produce(self)
            self._collect(self._resampler.flush())
            self._emit(1)
        except BaseException as error:  # noqa: BLE001 - handed to the consumer, which raises it
            self._error = error
        self._finished = True
        self._notify()

    def _collect(self, samples: NDArray[np.float32]) -> None:
        if samples.size:
            self._pending.append(samples)
            self._pending_samples += len(samples)

    def _emit(self, least: int) -> None:
        if self._pending_samples < least:
            return
        samples = np.concatenate(self._pending)
        self._pending, self._pending_samples = [], 0
        longest = round(MAX_BLOCK_S * self._sample_rate)
        with self._lock:
            for start in range(0, len(samples), longest):
                piece = samples[start : start + longest]
                self._queue.append(
                    AudioBlock(
                        piece,
                        self._sample_rate,
                        self._captured_at,
                        after_gap=self._after_gap,
                        notice=self.notice,
                    )
                )
                self._queued_samples += len(piece)
                self._after_gap = False
            while self._queued_samples > QUEUE_S * self._sample_rate:
                self._drop_oldest()
        self._notify()

    def _drop_oldest(self) -> None:
        oldest = self._queue.popleft()
        self._queued_samples -= len(oldest.samples)
        self._dropped_s += oldest.duration_s
        dropped_s = oldest.dropped_s + oldest.duration_s
        self._queue[0] = replace(self._queue[0], after_gap=True, dropped_s=dropped_s)

    def _notify(self) -> None:
        with suppress(RuntimeError):  # the event loop is closed: nobody is left to be told
            self._loop.call_soon_threadsafe(self._news.set)

    # --- on the event loop ---

    async def next_block(self) -> AudioBlock | None:
        """Wait for the next block; None when the thread is through.

        Raises:
            BaseException: what the thread raised.
        """
        while True:
            # Looked at first: the thread may push its last block and finish in between.
            finished = self._finished
            with self._lock:
                if self._queue:
                    block = self._queue.popleft()
                    self._queued_samples -= len(block.samples)
                    return block
            if finished:
                if self._error is not None:
                    raise self._error
                return None
            self._news.clear()
            if not self._queue and not self._finished:
                await self._news.wait()

    async def close(self) -> None:
        """Tell the thread to end and give it a moment for that."""
        self._closing.set()
        with suppress(TimeoutError):
            async with asyncio.timeout(CLOSE_WAIT_S):
                while not self._finished:
                    self._news.clear()
                    if not self._finished:
                        await self._news.wait()
        if self._dropped_s:
            _LOGGER.warning("%.1f s of sound were dropped because listening was too slow", self._dropped_s)


async def blocks_from_thread(
    produce: Callable[[Feed], None], sample_rate: int, *, name: str, lead_s: float | None = None
) -> AsyncGenerator[AudioBlock, None]:
    """Run ``produce`` in a thread of its own and yield what it pushes.

    The thread is a daemon: one that hangs in a network call outlives the iterator until that call's own
    timeout, but holds up nobody.

    Args:
        produce: blocking function; pushes sound, returns at the end of it or when ``Feed.closed()``.
        sample_rate: rate of the blocks in Hz.
        name: of the thread, for people who look at a dump.
        lead_s: see ``Feed``.

    Raises:
        SourceError: as ``produce`` raised it.
    """
    feed = Feed(sample_rate, lead_s)
    threading.Thread(target=feed.run, args=(produce,), name=name, daemon=True).start()
    try:
        while (block := await feed.next_block()) is not None:
            yield block
    finally:
        await feed.close()
