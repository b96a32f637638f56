"""Sound that a client sends: a phone, a browser, an ESP32."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from contextlib import aclosing, suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from clap_server.audio.arrivals import BACKLOG_S, Arrivals
from clap_server.audio.block import AudioBlock
from clap_server.audio.downmix import Downmix
from clap_server.audio.frames import to_float
from clap_server.audio.resample import Resampler
from clap_server.audio.source import Patience, SourceError

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Iterator

    from numpy.typing import NDArray

MIN_RATE_HZ = 4_000
MAX_RATE_HZ = 192_000
MAX_CHANNELS = 8
# What may wait for the consumer; the oldest beyond it is dropped.
QUEUE_S = 5.0
_MAX_BLOCK_S = 0.1
_DTYPES: dict[str, np.dtype[Any]] = {"s16le": np.dtype("<i2"), "f32le": np.dtype("<f4")}

SampleFormat = Literal["s16le", "f32le"]


@dataclass(frozen=True, slots=True)
class PushFormat:
    """How pushed bytes are to be read: interleaved PCM.

    Attributes:
        sample_format: ``s16le`` or ``f32le``.
        sample_rate: 4000 to 192000 Hz.
        channels: 1 to 8; averaged to mono.

    Raises:
        SourceError: ``unsupported_format``; one of these is out of range.
    """

    sample_format: SampleFormat
    sample_rate: int
    channels: int = 1

    def __post_init__(self) -> None:
        if self.sample_format not in _DTYPES:
            raise _unsupported(f"sample format {self.sample_format} is not known: send s16le or f32le")
        if not MIN_RATE_HZ <= self.sample_rate <= MAX_RATE_HZ:
            raise _unsupported(
                f"{self.sample_rate} Hz cannot be used: send {MIN_RATE_HZ} to {MAX_RATE_HZ} Hz"
            )
        if not 1 <= self.channels <= MAX_CHANNELS:
            raise _unsupported(f"{self.channels} channels cannot be used: send 1 to {MAX_CHANNELS}")

    @property
    def bytes_per_frame(self) -> int:
        """Bytes of one sample of all channels."""
        return _DTYPES[self.sample_format].itemsize * self.channels


class Pusher:
    """The right of one client to send; made by ``PushSource.connect``, given back by ``close``."""

    def __init__(self, source: PushSource, fmt: PushFormat) -> None:
        self._source = source
        self._format = fmt
        self._rest = b""
        self._downmix = Downmix()

    def feed(self, data: bytes) -> None:
        """Hand over the next bytes; a frame may be split between two calls.

        Raises:
            SourceError: ``push_closed``; this client's turn is over.
        """
        data = self._rest + data
        whole = len(data) - len(data) % self._format.bytes_per_frame
        self._rest = data[whole:]
        frames = np.frombuffer(data[:whole], dtype=_DTYPES[self._format.sample_format])
        channels = to_float(frames.reshape(-1, self._format.channels)).T
        mono = self._downmix.mix(channels, self._format.sample_rate)
        self._source.put(self, mono, self._format.sample_rate, self._downmix.notice)

    def close(self, because: str | None = None) -> None:
        """Give the turn back; safe to call twice.

        Args:
            because: what the client did wrong, in words, if its turn is taken for that.
        """
        self._source.release(self, because)


@dataclass(frozen=True, slots=True)
class _Message:
    """Sound as it came.

    Attributes:
        arrived_s: by a clock that is never set.
        lateness_s: see ``Arrival``.
        interrupts: it cannot join what came before: sound was dropped, or another client sent that.
    """

    samples: NDArray[np.float32]
    rate: int
    captured_at: float
    arrived_s: float
    lateness_s: float
    notice: str | None
    interrupts: bool = False
    dropped_s: float = 0.0

    @property
    def duration_s(self) -> float:
        return len(self.samples) / self.rate


class PushSource:
    """Waits for a client and takes its sound; one client at a time. Belongs to one event loop.

    Pushed sound has no timestamps. So there is a gap where another client took over, where sound was dropped,
    and where more than half a second stayed away and did not come later (see ``Arrivals``).
    """

    patience = Patience(first_s=None)

    def __init__(self) -> None:
        self._pusher: Pusher | None = None
        self._sender: Pusher | None = None
        self._cut_off_because: str | None = None
        self._queue: deque[_Message] = deque()
        self._queued_s = 0.0
        self._received_s = 0.0
        self._news = asyncio.Event()

    @property
    def connected(self) -> bool:
        """Whether a client has its turn."""
        return self._pusher is not None

    def connect(self, fmt: PushFormat) -> Pusher:
        """Begin a client's turn.

        Raises:
            SourceError: ``push_busy``; another client is sending.
        """
        if self._pusher is not None:
            raise SourceError(
                "push_busy", "another client is sending sound to this microphone: stop that one first"
            )
        self._pusher = Pusher(self, fmt)
        self._cut_off_because = None
        self._news.set()
        return self._pusher

    def disconnect(self) -> None:
        """End the present client's turn, whoever it is."""
        if self._pusher is not None:
            self._pusher.close()

    def wipe(self) -> None:
        """End the present client's turn and forget what it sent."""
        self.disconnect()
        self._queue.clear()
        self._queued_s = 0.0

    def put(self, pusher: Pusher, samples: NDArray[np.float32], rate: int, notice: str | None) -> None:
        """For ``Pusher``: queue ``(n,)`` mono samples at ``rate`` Hz; the oldest are dropped."""
        if pusher is not self._pusher:
            raise SourceError("push_closed", "this connection is closed: connect again")
        if not samples.size:
            return
        duration_s = len(samples) / rate
        self._received_s += duration_s
        now_s = time.monotonic()
        interrupts = self._sender not in (None, pusher)
        self._sender = pusher
        lateness_s = now_s - self._received_s
        self._queue.append(_Message(samples, rate, time.time(), now_s, lateness_s, notice, interrupts))
        self._queued_s += duration_s
        while self._queued_s > QUEUE_S and len(self._queue) > 1:
            oldest = self._queue.popleft()
            self._queued_s -= oldest.duration_s
            dropped_s = oldest.dropped_s + oldest.duration_s
            self._queue[0] = replace(self._queue[0], interrupts=True, dropped_s=dropped_s)
        self._news.set()

    def release(self, pusher: Pusher, because: str | None = None) -> None:
        """For ``Pusher``: end its turn, if it still has it."""
        if pusher is self._pusher:
            self._pusher = None
            self._cut_off_because = because
            self._news.set()

    async def blocks(self, sample_rate: int) -> AsyncGenerator[AudioBlock, None]:
        """See ``AudioSource``: waits for a client as long as it takes, ends with its turn.

        Raises:
            SourceError: ``waiting_for_client``; the client that was sending has gone.
        """
        cutter = _Cutter(sample_rate)
        async with aclosing(self._messages()) as messages:
            async for message, after_gap in messages:
                for block in cutter.push(message, after_gap):
                    yield block
        for block in cutter.flush():
            yield block
        raise waiting_for_client(self._cut_off_because)

    async def _messages(self) -> AsyncGenerator[tuple[_Message, bool], None]:
        """What the clients send until none has its turn, and whether sound is missing before it."""
        arrivals = Arrivals()
        while self._pusher is None and not self._queue:
            await self._wait()
        while self._queue or self._pusher is not None:
            if not self._queue:
                await self._wait()
                continue
            first = self._queue[0]
            gap = first.interrupts or arrivals.is_gap(self._queue, time.monotonic())
            if gap is None:
                with suppress(TimeoutError):
                    async with asyncio.timeout(first.arrived_s + BACKLOG_S - time.monotonic()):
                        await self._wait()
                continue
            arrivals.take(first, gap)
            yield self._take(), gap

    def _take(self) -> _Message:
        message = self._queue.popleft()
        self._queued_s = self._queued_s - message.duration_s if self._queue else 0.0
        return message

    async def _wait(self) -> None:
        self._news.clear()
        await self._news.wait()


class _Cutter:
    """Makes short blocks of the wanted rate of one message after the other."""

    def __init__(self, sample_rate: int) -> None:
        self._sample_rate = sample_rate
        self._resampler = Resampler(sample_rate)
        self._last: _Message | None = None
        self._after_gap = False
        self._dropped_s = 0.0

    def push(self, message: _Message, after_gap: bool) -> Iterator[AudioBlock]:
        if after_gap:
            yield from self.flush()
            self._after_gap = True
        self._last = message
        self._dropped_s += message.dropped_s
        yield from self._cut(self._resampler.push(message.samples, message.rate), message)

    def flush(self) -> Iterator[AudioBlock]:
        if self._last is not None:
            yield from self._cut(self._resampler.flush(), self._last)

    def _cut(self, samples: NDArray[np.float32], message: _Message) -> Iterator[AudioBlock]:
        # A resampler gives some samples more or less than it got, of which no block is made.
        count = max(1, round(len(samples) / (_MAX_BLOCK_S * self._sample_rate)))
        for block in np.array_split(samples, count) if len(samples) else ():
            yield AudioBlock(
                block,
                self._sample_rate,
                message.captured_at,
                after_gap=self._after_gap,
                dropped_s=self._dropped_s,
                notice=message.notice,
            )
            self._after_gap, self._dropped_s = False, 0.0


def waiting_for_client(cut_off_because: str | None = None) -> SourceError:
    """No client is sending; nothing is wrong, unless the last one was cut off."""
    reason = "waiting for the client to send sound"
    if cut_off_because is not None:
        reason += f"; it was cut off: {cut_off_because}"
    return SourceError("waiting_for_client", reason)


def _unsupported(reason: str) -> SourceError:
    return SourceError("unsupported_format", reason)
