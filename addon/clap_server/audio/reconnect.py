"""A source that stays: connects again whenever it breaks off or falls silent."""

from __future__ import annotations

import asyncio
import random
import time
from contextlib import aclosing
from typing import TYPE_CHECKING, cast

from clap_server.audio.push import PushSource, waiting_for_client
from clap_server.audio.source import SourceError, SourceState, SourceStatus

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable

    from clap_server.audio.block import AudioBlock
    from clap_server.audio.source import AudioSource

STALL_S = 10.0
CONNECT_S = 20.0
RESET_AFTER_S = 30.0

BASE_DELAY_S = 1.0
MAX_DELAY_S = 60.0
SLOW_BASE_DELAY_S = 60.0
SLOW_MAX_DELAY_S = 300.0

# No retry can change these: the configuration has to.
FINAL_CODES = frozenset({"unsupported_url", "no_media_folder", "outside_media_folder"})
# These need the user; tried seldom, as cameras lock out who knocks too often with a wrong password.
SLOW_CODES = frozenset({"unauthorized", "forbidden", "not_found", "no_audio_track", "not_audio"})


class Backoff:
    """How long to wait before the next attempt: exponential, with full jitter.

    Full jitter (uniform from zero to the limit) spreads many microphones best after a power cut; see
    "Exponential Backoff And Jitter", AWS Architecture Blog, 2015. Slow reasons wait at least half the limit.
    """

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self._attempt = 0

    def reset(self) -> None:
        """Begin anew, after a time that went well."""
        self._attempt = 0

    def next_delay_s(self, slow: bool) -> float:
        """Seconds until the next attempt."""
        base, longest = (SLOW_BASE_DELAY_S, SLOW_MAX_DELAY_S) if slow else (BASE_DELAY_S, MAX_DELAY_S)
        limit = min(longest, base * 2 ** min(self._attempt, 16))
        self._attempt += 1
        return self._rng.uniform(limit / 2 if slow else 0.0, limit)


class ReconnectingSource:
    """Keeps one source going and says how it is.

    While a reason persists its status is reported once, not at each attempt.

    Args:
        source: what to listen to.
        on_status: called on the event loop whenever state or reason change.
        stall_s: longest time without samples, in seconds, before it connects again.
        connect_s: the same for the first sample of a connection; sources give up opening before that.
        reset_after_s: sound for so long makes the next attempt quick again.
        sleep: waits between attempts.
        rng: of the jitter.
    """

    def __init__(
        self,
        source: AudioSource,
        on_status: Callable[[SourceStatus], None],
        *,
        stall_s: float = STALL_S,
        connect_s: float = CONNECT_S,
        reset_after_s: float = RESET_AFTER_S,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        rng: random.Random | None = None,
    ) -> None:
        self._source = source
        self._on_status = on_status
        self._stall_s = stall_s
        self._connect_s = connect_s
        self._reset_after_s = reset_after_s
        self._sleep = sleep
        self._backoff = Backoff(rng or random.Random())  # noqa: S311 - jitter is no secret
        self._status: SourceStatus | None = None
        self._heard = False
        self._waits_for_client = isinstance(source, PushSource)

    @property
    def status(self) -> SourceStatus | None:
        """The latest status; None before the first."""
        return self._status

    async def blocks(self, sample_rate: int) -> AsyncGenerator[AudioBlock, None]:
        """Sound, mono at ``sample_rate``, for as long as the iterator is open.

        Ends by itself only when a recording was played to its end, or for a reason in ``FINAL_CODES``; the
        status then says which.
        """
        if self._waits_for_client:
            self._report_error(waiting_for_client())
        else:
            self._report(SourceState.CONNECTING, "connecting", "connecting")
        while True:
            try:
                async with aclosing(self._attempt(sample_rate)) as attempt:
                    async for block in attempt:
                        yield block
            except SourceError as error:
                self._report_error(error)
                if error.code in FINAL_CODES:
                    return
                if not self._waits_for_client:
                    # What just worked needs no user: a camera that restarts, a stream that is torn.
                    slow = error.code in SLOW_CODES and not self._heard
                    await self._sleep(self._backoff.next_delay_s(slow))
            else:
                self._report(SourceState.FAILED, "finished", "the recording was played to its end")
                return

    async def _attempt(self, sample_rate: int) -> AsyncGenerator[AudioBlock, None]:
        """One connection.

        Raises:
            SourceError: it failed, broke off or stalled.
        """
        # The protocol promises an iterator; every source of ours is a generator, which can be closed.
        blocks = cast("AsyncGenerator[AudioBlock, None]", self._source.blocks(sample_rate))
        first_at: float | None = None
        self._heard = False
        async with aclosing(blocks):
            while True:
                limit_s = self._stall_s if first_at is not None else self._connect_limit_s()
                try:
                    async with asyncio.timeout(limit_s):
                        block = await anext(blocks)
                except StopAsyncIteration:
                    return
                except TimeoutError:
                    raise SourceError("stalled", f"stalled: no audio for {limit_s:g} s") from None
                now = time.monotonic()
                if first_at is None:
                    first_at = now
                    self._heard = True
                    self._report(SourceState.LISTENING, "listening", "listening")
                elif now - first_at >= self._reset_after_s:
                    self._backoff.reset()
                yield block

    def _connect_limit_s(self) -> float | None:
        return None if self._waits_for_client else self._connect_s

    def _report_error(self, error: SourceError) -> None:
        state = {
            "stalled": SourceState.STALLED,
            "waiting_for_client": SourceState.CONNECTING,
        }.get(error.code, SourceState.FAILED)
        self._report(state, error.code, error.reason)

    def _report(self, state: SourceState, code: str, reason: str) -> None:
        status = SourceStatus(state, code, reason)
        if status != self._status:
            self._status = status
            self._on_status(status)
