"""Sound that a client sends: a phone, a browser, an ESP32."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from clap_server.audio.block import AudioBlock
from clap_server.audio.frames import to_float
from clap_server.audio.resample import Resampler
from clap_server.audio.source import SourceError

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

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

    def feed(self, data: bytes) -> int:
        """Hand over the next bytes; a frame may be split between two calls.

        Returns:
            Samples that were dropped because nobody fetched them in time (at the sender's rate).

        Raises:
            SourceError: ``push_closed``; this client's turn is over.
        """
        data = self._rest + data
        whole = len(data) - len(data) % self._format.bytes_per_frame
        self._rest = data[whole:]
        frames = np.frombuffer(data[:whole], dtype=_DTYPES[self._format.sample_format])
        mono = to_float(frames.reshape(-1, self._format.channels)).mean(axis=1, dtype=np.float32)
        clean: NDArray[np.float32] = np.nan_to_num(mono, nan=0.0, posinf=1.0, neginf=-1.0)
        return self._source.put(self, clean, self._format.sample_rate)

    def close(self) -> None:
        """Give the turn back; safe to call twice."""
        self._source.release(self)


class PushSource:
    """Waits for a client and takes its sound; one client at a time. Belongs to one event loop."""

    def __init__(self) -> None:
        self._pusher: Pusher | None = None
        self._direct: tuple[PushFormat, Pusher] | None = None
        self._queue: deque[tuple[NDArray[np.float32], int, float]] = deque()
        self._queued_s = 0.0
        self._news = asyncio.Event()
        self.dropped_samples = 0

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
        self._news.set()
        return self._pusher

    def feed(self, data: bytes, fmt: PushFormat) -> int:
        """Send without keeping a turn: the first call, or one with another format, begins it.

        Returns:
            As ``Pusher.feed``.

        Raises:
            SourceError: ``push_busy``.
        """
        if self._direct is None or self._direct[1] is not self._pusher or self._direct[0] != fmt:
            if self._direct is not None:
                self._direct[1].close()
            self._direct = (fmt, self.connect(fmt))
        return self._direct[1].feed(data)

    def disconnect(self) -> None:
        """End the present client's turn, whoever it is."""
        if self._pusher is not None:
            self._pusher.close()

    def put(self, pusher: Pusher, samples: NDArray[np.float32], rate: int) -> int:
        """For ``Pusher``: queue ``(n,)`` mono samples at ``rate`` Hz; returns how many were dropped."""
        if pusher is not self._pusher:
            raise SourceError("push_closed", "this connection is closed: connect again")
        if not samples.size:
            return 0
        self._queue.append((samples, rate, time.time()))
        self._queued_s += len(samples) / rate
        dropped = 0
        while self._queued_s > QUEUE_S and len(self._queue) > 1:
            oldest, oldest_rate, _ = self._queue.popleft()
            self._queued_s -= len(oldest) / oldest_rate
            dropped += len(oldest)
        self.dropped_samples += dropped
        self._news.set()
        return dropped

    def release(self, pusher: Pusher) -> None:
        """For ``Pusher``: end its turn, if it still has it."""
        if pusher is self._pusher:
            self._pusher = None
            self._news.set()

    async def blocks(self, sample_rate: int) -> AsyncGenerator[AudioBlock, None]:
        """See ``AudioSource``: waits for a client as long as it takes, ends with its turn.

        Raises:
            SourceError: ``waiting_for_client``; the client that was sending has gone.
        """
        resampler = Resampler(sample_rate)
        longest = round(_MAX_BLOCK_S * sample_rate)
        while self._pusher is None and not self._queue:
            await self._wait()
        while self._queue or self._pusher is not None:
            if not self._queue:
                await self._wait()
                continue
            samples, rate, captured_at = self._queue.popleft()
            self._queued_s = self._queued_s - len(samples) / rate if self._queue else 0.0
            resampled = resampler.push(samples, rate)
            for start in range(0, len(resampled), longest):
                yield AudioBlock(resampled[start : start + longest], sample_rate, captured_at)
        raise waiting_for_client()

    async def _wait(self) -> None:
        self._news.clear()
        await self._news.wait()


def waiting_for_client() -> SourceError:
    """No client is sending; nothing is wrong."""
    return SourceError("waiting_for_client", "waiting for the client to send sound")


def _unsupported(reason: str) -> SourceError:
    return SourceError("unsupported_format", reason)
