"""A source that stays: connects again whenever it breaks off or falls silent."""

from __future__ import annotations

import asyncio
import random
import time
from contextlib import aclosing
from dataclasses import replace
from typing import TYPE_CHECKING, cast

from clap_server.audio.push import PushSource, waiting_for_client
from clap_server.audio.source import SourceError, SourceState, SourceStatus
from clap_server.audio.stream import StreamSource

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable

    from clap_server.audio.block import AudioBlock
    from clap_server.audio.source import AudioSource

# Sound for so long means that all is well: the next attempt comes at once, whatever was before.
RESET_AFTER_S = 10.0
# A source that never gave sound before its patience was over may just need longer: that doubles, up to this.
MAX_FIRST_S = 160.0

BASE_DELAY_S = 1.0
MAX_DELAY_S = 60.0
# A camera of the home that is back should be heard soon, and it has no other visitors.
HOME_MAX_DELAY_S = 10.0
# How often a host of the home is asked whether it is back.
PROBE_S = 2.0
SLOW_BASE_DELAY_S = 60.0
SLOW_MAX_DELAY_S = 300.0

# No retry can change these: the configuration has to.
FINAL_CODES = frozenset({"unsupported_url", "no_media_folder", "outside_media_folder"})
# These need the user; tried seldom, as cameras lock out who knocks too often with a wrong password.
_LOCKING_CODES = frozenset({"unauthorized", "forbidden"})
SLOW_CODES = _LOCKING_CODES | {"not_found", "no_audio_track", "not_audio"}
# So long after it was heard, a camera that answers strangely may be starting.
_START_S = 120.0
# The host did not even take the connection.
_DOWN_CODES = frozenset({"refused", "unreachable", "host_not_found"})


class Backoff:
    """How long to wait before the next attempt: exponential, with full jitter.

    Full jitter (uniform from zero to the limit) spreads many microphones best after a power cut; see
    "Exponential Backoff And Jitter", AWS Architecture Blog, 2015. Slow reasons wait at least half the limit.

    Args:
        rng: of the jitter.
        max_delay_s: longest wait for reasons that are not slow, in seconds.
    """

    def __init__(self, rng: random.Random, max_delay_s: float = MAX_DELAY_S) -> None:
        self._rng = rng
        self._max_delay_s = max_delay_s
        self._attempt = 0

    def reset(self) -> None:
        """Begin anew, after a time that went well."""
        self._attempt = 0

    def next_delay_s(self, slow: bool) -> float:
        """Seconds until the next attempt."""
        base, longest = (SLOW_BASE_DELAY_S, SLOW_MAX_DELAY_S) if slow else (BASE_DELAY_S, self._max_delay_s)
        limit = min(longest, base * 2 ** min(self._attempt, 16))
        self._attempt += 1
        return self._rng.uniform(limit / 2 if slow else 0.0, limit)


class ReconnectingSource:
    """Keeps one source going and says how it is.

    While a reason persists its status is reported once, not at each attempt.

    Args:
        source: what to listen to.
        on_status: called on the event loop whenever state, reason or notice change.
        sleep: waits between attempts.
    """

    def __init__(
        self,
        source: AudioSource,
        on_status: Callable[[SourceStatus], None],
        *,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._source = source
        self._on_status = on_status
        self._sleep = sleep
        host = source.host if isinstance(source, StreamSource) else None
        self._neighbour = host if host is not None and host.in_home else None
        longest_s = MAX_DELAY_S if self._neighbour is None else HOME_MAX_DELAY_S
        self._backoff = Backoff(random.Random(), longest_s)
        self._status: SourceStatus | None = None
        self._heard = self._went_well = False
        self._heard_at: float | None = None
        self._mute_attempts = 0
        self._waits_for_client = isinstance(source, PushSource)

    async def blocks(self, sample_rate: int) -> AsyncGenerator[AudioBlock, None]:
        """Sound, mono at ``sample_rate``, for as long as the iterator is open.

        Ends by itself only when a recording was played to its end, or for a reason in ``FINAL_CODES``; the
        status then says which.
        """
        if self._waits_for_client:
            self._report_error(waiting_for_client())
        else:
            self._report(SourceState.CONNECTING, "connecting", "connecting")
        interrupted = False
        while True:
            try:
                async with aclosing(self._attempt(sample_rate)) as attempt:
                    async for block in attempt:
                        yield replace(block, after_gap=True) if interrupted else block
                        interrupted = False
            except SourceError as error:
                interrupted = True
                self._report_error(error)
                if error.code in FINAL_CODES:
                    return
                if not self._waits_for_client:
                    await self._pause(error.code)
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
        self._heard = self._went_well = False
        async with aclosing(blocks):
            while True:
                limit_s = self._source.patience.silence_s if self._heard else self._first_limit_s()
                try:
                    async with asyncio.timeout(limit_s):
                        block = await anext(blocks)
                except StopAsyncIteration:
                    return
                except TimeoutError:
                    self._mute_attempts += not self._heard
                    raise SourceError("stalled", f"stalled: no audio for {limit_s:g} s") from None
                now = self._heard_at = time.monotonic()
                if first_at is None:
                    first_at = now
                    self._heard = True
                    self._mute_attempts = 0
                elif now - first_at >= RESET_AFTER_S:
                    self._went_well = True
                self._report(SourceState.LISTENING, "listening", "listening", block.notice)
                yield block

    def _first_limit_s(self) -> float | None:
        first_s = self._source.patience.first_s
        if first_s is None:
            return None
        return min(first_s * 2.0**self._mute_attempts, max(first_s, MAX_FIRST_S))

    async def _pause(self, code: str) -> None:
        """Wait before the next attempt; not longer than until a host of the home is back.

        A stream that went well and broke off is tried at once: only if that fails there is need for patience.
        """
        if self._went_well:
            self._backoff.reset()
            return
        slow = code in SLOW_CODES and not self._may_heal(code)
        waiting = [asyncio.ensure_future(self._sleep(self._backoff.next_delay_s(slow)))]
        if self._neighbour is not None and not slow:
            back = self._neighbour.wait_until_back(down=code in _DOWN_CODES, every_s=PROBE_S)
            waiting.append(asyncio.ensure_future(back))
        try:
            done, _ = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for future in waiting:
                future.cancel()
            await asyncio.wait(waiting)
        for future in done:
            future.result()

    def _may_heal(self, code: str) -> bool:
        """Whether what just worked needs no user: a camera that restarts, a stream that is torn."""
        if self._heard:
            return True
        starting = self._heard_at is not None and time.monotonic() - self._heard_at < _START_S
        return starting and code not in _LOCKING_CODES

    def _report_error(self, error: SourceError) -> None:
        state = {
            "stalled": SourceState.STALLED,
            "waiting_for_client": SourceState.CONNECTING,
        }.get(error.code, SourceState.FAILED)
        self._report(state, error.code, error.reason)

    def _report(self, state: SourceState, code: str, reason: str, notice: str | None = None) -> None:
        status = SourceStatus(state, code, reason, notice)
        if status != self._status:
            self._status = status
            self._on_status(status)
