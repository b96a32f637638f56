"""From a thread that blocks in FFmpeg or a driver to an asynchronous iterator of blocks."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections import deque
from contextlib import suppress
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


class Feed:
    """The thread's end: takes sound in at any rate, hands it to the event loop in blocks of 20 to 100 ms.

    Args:
        sample_rate: rate of the blocks in Hz.
        lead_s: how far sound may run ahead of real time before ``push`` waits; None: it never waits.
            Zero plays a file in real time; some seconds let a server send its buffer at once.
    """

    def __init__(self, sample_rate: int, lead_s: float | None = None) -> None:
        self._sample_rate = sample_rate
        self._lead_s = lead_s
        self._resampler = Resampler(sample_rate)
        self._pending: list[NDArray[np.float32]] = []
        self._pending_samples = 0
        self._pushed_s = 0.0
        self._started_s: float | None = None
        self._closing = threading.Event()
        self._lock = threading.Lock()
        self._queue: deque[AudioBlock] = deque()
        self._queued_samples = 0
        self._error: BaseException | None = None
        self._finished = False
        self._loop = asyncio.get_running_loop()
        self._news = asyncio.Event()
        self.dropped_samples = 0

    # --- in the thread ---

    def closed(self) -> bool:
        """Whether nobody listens any more; the thread should end."""
        return self._closing.is_set()

    def wait(self, seconds: float) -> bool:
        """Sleep; returns early, with True, when closed."""
        return self._closing.wait(seconds)

    def wait_until_closed(self) -> None:
        """For drivers that push from a thread of their own."""
        self._closing.wait()

    def push(self, samples: NDArray[np.float32], rate: int) -> None:
        """Take the next ``(n,)`` mono samples at ``rate`` Hz; drops the oldest when nobody fetches them.

        Raises:
            AudioError: the rate is not one of sound.
        """
        self._pushed_s += len(samples) / rate
        self._collect(self._resampler.push(samples, rate))
        self._emit(round(MIN_BLOCK_S * self._sample_rate))
        self._pace()

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
        now = time.time()
        with self._lock:
            for start in range(0, len(samples), longest):
                block = AudioBlock(samples[start : start + longest], self._sample_rate, now)
                self._queue.append(block)
                self._queued_samples += len(block.samples)
            while self._queued_samples > QUEUE_S * self._sample_rate:
                oldest = len(self._queue.popleft().samples)
                self._queued_samples -= oldest
                self.dropped_samples += oldest
        self._notify()

    def _pace(self) -> None:
        if self._lead_s is None:
            return
        now = time.monotonic()
        if self._started_s is None or now - self._started_s - self._pushed_s > _MAX_LAG_S:
            self._started_s = now - self._pushed_s
        ahead_s = self._started_s + self._pushed_s - now
        if ahead_s > self._lead_s:
            self.wait(ahead_s - self._lead_s)

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
            with self._lock:
                if self._queue:
                    block = self._queue.popleft()
                    self._queued_samples -= len(block.samples)
                    return block
            if self._finished:
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
        if self.dropped_samples:
            seconds = self.dropped_samples / self._sample_rate
            _LOGGER.warning("%.1f s of sound were dropped because listening was too slow", seconds)


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
