"""Brings the full model to a machine that carries it, and takes it away where it is too much."""

from __future__ import annotations

import asyncio
import logging
import random
import threading
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Protocol, TypeVar

from clap_server.clap.deciding import CALM_S, HALF, LONGER_HOP_S, decide, load, reason
from clap_server.clap.downloading import UnreachableError
from clap_server.errors import ModelError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from clap_server.clap.deciding import Kind, Speed
    from clap_server.clap.loader import Checkpoint
    from clap_server.clap.model import ClapModel

    Tell = Callable[[str], None]

_LOGGER = logging.getLogger(__name__)
_T = TypeVar("_T")

MEANWHILE = "the built-in model listens meanwhile"

_RETRY_FIRST_S = 30.0
_RETRY_LONGEST_S = 3600.0
# Microphones come and go several at a time.
_SETTLE_S = 5.0
# What was too slow may have been so because of something else: it is tried again, as seldom as this.
_REMEASURE_S = 12 * 3600.0
# Losses of before a change are told for a minute after it.
_OVERLOAD_CALM_S = 120.0
# A model that fails again within this time after it came is waited for longer each time.
_PROVEN_S = 3600.0


class FullModel(Protocol):
    """How the full model is had. All methods block; those that take ``tell`` end with what it raises."""

    @property
    def name(self) -> str:
        """Of the model."""

    def fetch(self, tell: Tell) -> Checkpoint:
        """Have its files, from the hub if need be.

        Raises:
            ModelError: they cannot be had.
        """

    def load(self, checkpoint: Checkpoint, tell: Tell) -> ClapModel:
        """Load it, run by the fastest engine.

        Raises:
            ModelError: it cannot be used.
        """

    def measure(self, model: ClapModel) -> Speed:
        """Time it."""

    def prepare(self, model: ClapModel, tell: Tell) -> ClapModel:
        """Add what it needs before it can be used."""


class Automatic:
    """Decides again and again whether the full model or the built-in one listens.

    All methods belong to the event loop.

    Args:
        full: the full model.
        use: called with the full model when it is to listen, with None when the built-in one is to, also
            when that listens already.
        tell: called with a sentence that says what listens, and why.
        progress: to be called from threads that work for this; raises when the server stops.
        retry_first_s: seconds from a failure to the next attempt; doubles each time, up to an hour.
        settle_s: seconds for which microphones may come and go before that counts.
        clock: seconds that only grow.
    """

    def __init__(
        self,
        full: FullModel,
        *,
        use: Callable[[ClapModel | None], None],
        tell: Tell,
        progress: Tell,
        retry_first_s: float = _RETRY_FIRST_S,
        settle_s: float | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._full = full
        self._use = use
        self._tell = tell
        self._progress = progress
        self._retry_first_s = retry_first_s
        self._retry_s = retry_first_s
        self._settle_s = _SETTLE_S if settle_s is None else settle_s
        self._clock = clock
        self._hops_s: tuple[float, ...] = ()
        self._kind: Kind = "builtin"
        self._since = clock()
        # What was measured, and what is reckoned with since the machine turned out to be slower.
        self._measured: Speed | None = None
        self._speed: Speed | None = None
        self._speed_at = 0.0
        self._next_try = clock()
        self._losing = False
        self._changed = asyncio.Event()

    @property
    def least_hop_s(self) -> float:
        """Microphones are to be heard with at least so many seconds between windows."""
        return LONGER_HOP_S if self._kind == "longer" else 0.0

    def microphones_are(self, hops_s: Sequence[float]) -> None:
        """Hear of the seconds between windows that are asked for, of each microphone that is switched on."""
        if tuple(sorted(hops_s)) != self._hops_s:
            self._hops_s = tuple(sorted(hops_s))
            self._changed.set()

    def overload_is(self, *, present: bool) -> None:
        """Hear whether windows are lost: then the machine is slower than was measured."""
        self._losing = present
        self._changed.set()

    def _reckon_slower(self, now: float) -> None:
        if self._speed is None or self._kind == "builtin" or now < self._since + _OVERLOAD_CALM_S:
            return
        share = load(self._kind, self._speed, self._hops_s)
        if share > 0:
            self._speed = self._speed.slower(max(1.5, 1.01 * HALF / share))
            self._speed_at = now
            _LOGGER.warning("Windows are lost with the full model: less is asked of the machine")

    def failed(self, what: str) -> None:
        """Hear that a model failed while it listened, and that the built-in one does now.

        Args:
            what: failed, as the beginning of a sentence.
        """
        now = self._clock()
        proven = now - self._since >= _PROVEN_S
        self._kind, self._since = "builtin", now
        self._speed = self._measured = None
        if proven:
            self._retry_s = self._retry_first_s
        self._fail(what)
        self._changed.set()

    async def run(self) -> None:
        """Go on until cancelled."""
        while True:
            self._changed.clear()
            wait_s = await self._step()
            with suppress(TimeoutError):
                async with asyncio.timeout(wait_s):
                    await self._changed.wait()
                await asyncio.sleep(self._settle_s)

    async def _step(self) -> float:
        """Do what is to be done now; say after how many seconds there may be something else."""
        now = self._clock()
        if self._speed_at + _REMEASURE_S <= now:
            self._speed = self._measured if self._kind != "builtin" else None
            self._speed_at = now
        if self._losing:
            self._reckon_slower(now)
        if self._speed is None:
            return await self._try_in_time()
        kind = decide(self._speed, self._hops_s, self._kind, now - self._since)
        if self._kind == "builtin" and kind != "builtin":
            return await self._try_in_time()
        if kind != self._kind:
            self._become(kind)
            if kind == "builtin":
                self._use(None)
        self._tell(reason(self._kind, self._speed, self._hops_s, name=self._full.name))
        return self._idle_s()

    def _idle_s(self) -> float:
        """Seconds until time alone may change something."""
        now = self._clock()
        calm = [self._since + CALM_S, *([self._since + _OVERLOAD_CALM_S] if self._losing else [])]
        ends = [self._speed_at + _REMEASURE_S, *(at for at in calm if at > now)]
        return max(0.0, min(ends) - now)

    async def _try_in_time(self) -> float:
        """Try to bring the full model, or say how long to wait with that."""
        now = self._clock()
        return await self._try() if now >= self._next_try else self._next_try - now

    async def _try(self) -> float:
        """Bring the full model, if it turns out to fit."""
        present = None if self._measured is None else self._kind
        try:
            checkpoint = await in_daemon_thread(lambda: self._full.fetch(self._progress))
            model = await asyncio.to_thread(self._full.load, checkpoint, self._progress)
            speed = await asyncio.to_thread(self._full.measure, model)
            kind = decide(speed, self._hops_s, present, CALM_S)
            if kind != "builtin":
                model = await asyncio.to_thread(self._full.prepare, model, self._progress)
                # Microphones may have come while that took its time.
                kind = decide(speed, self._hops_s, present, CALM_S)
        except UnreachableError as error:
            return self._fail(f"The full model is not here yet: {error.short}")
        except ModelError as error:
            return self._fail(f"The full model cannot be used: {str(error).rstrip('.')}")
        except Exception as error:
            _LOGGER.exception("The full model cannot be used")
            return self._fail(f"The full model cannot be used ({error!r})")
        self._speed, self._measured, self._speed_at = speed, speed, self._clock()
        if kind != "builtin":
            self._become(kind)
        self._use(None if kind == "builtin" else model)
        self._tell(reason(kind, speed, self._hops_s, name=self._full.name))
        return self._idle_s()

    def _become(self, kind: Kind) -> None:
        self._kind, self._since = kind, self._clock()

    def _fail(self, what: str) -> float:
        wait_s = self._wait_longer()
        self._tell(f"{what}; the built-in model listens; next try in {in_words(wait_s)}.")
        return wait_s

    def _wait_longer(self) -> float:
        wait_s = self._retry_s * random.uniform(0.8, 1.2)
        self._retry_s = min(2 * self._retry_s, _RETRY_LONGEST_S)
        self._next_try = self._clock() + wait_s
        return wait_s


def in_words(seconds: float) -> str:
    """Say how long something takes, roughly."""
    if seconds < 90:
        count, unit = max(1, round(seconds)), "second"
    elif seconds < 5400:
        count, unit = round(seconds / 60), "minute"
    else:
        count, unit = round(seconds / 3600), "hour"
    return f"{count} {unit}{'' if count == 1 else 's'}"


async def in_daemon_thread(function: Callable[[], _T]) -> _T:
    """Run what may wait for a network, in a thread that the end of the program does not wait for."""
    loop = asyncio.get_running_loop()
    done: asyncio.Future[_T] = loop.create_future()

    def tell(set_it: Callable[[], None]) -> None:
        with suppress(RuntimeError):  # the loop is closed: nobody waits any more
            loop.call_soon_threadsafe(lambda: None if done.done() else set_it())

    def work() -> None:
        try:
            result = function()
        except Exception as error:
            _LOGGER.debug("A download ended", exc_info=True)
            caught = error
            tell(lambda: done.set_exception(caught))
        else:
            tell(lambda: done.set_result(result))

    threading.Thread(target=work, name="clap-download", daemon=True).start()
    return await done
