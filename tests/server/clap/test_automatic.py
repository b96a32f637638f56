"""The full model comes where it fits, goes where it is too much, and is waited for where it cannot be had."""

from __future__ import annotations

import asyncio
import logging
import re
import threading
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import pytest

from clap_server.clap.automatic import Automatic, in_daemon_thread, in_words
from clap_server.clap.deciding import CALM_S, Speed
from clap_server.clap.downloading import UnreachableError
from clap_server.clap.loader import Checkpoint
from clap_server.errors import ModelError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from clap_server.clap.model import ClapModel

LONG_S = 30.0


class Full:
    """A full model that is had, or not, as a test wants it."""

    name = "full"

    def __init__(self, ms: float) -> None:
        self.ms = ms
        self.failures: list[Exception] = []
        self.did: list[str] = []
        self.hold = threading.Event()
        self.hold.set()

    def fetch(self, tell: Callable[[str], None]) -> Checkpoint:
        self.did.append("fetch")
        tell("Downloading full: 1 of 2 MB (50 %)")
        if self.failures:
            raise self.failures.pop(0)
        return Checkpoint("full", Path("/nowhere"), "full@1")

    def load(self, checkpoint: Checkpoint, tell: Callable[[str], None]) -> ClapModel:
        assert checkpoint.name == "full"
        tell("Loading full")
        self.did.append("load")
        return cast("ClapModel", object())

    def measure(self, model: ClapModel) -> Speed:
        assert model
        self.did.append("measure")
        return Speed(self.ms, self.ms)

    def prepare(self, model: ClapModel, tell: Callable[[str], None]) -> ClapModel:
        self.did.append("prepare")
        tell("Listening to everyday sound")
        assert self.hold.wait(LONG_S)
        return model


class Rig:
    """What an Automatic is in touch with."""

    def __init__(self, full: Full, **options: Any) -> None:
        self.full = full
        self.now_s = 1000.0
        self.listens = "builtin"
        self.changes = 0
        self.told: list[str] = []
        self.heard = asyncio.Event()
        self.automatic = Automatic(
            full,
            use=self._use,
            tell=self._tell,
            progress=lambda _: None,
            settle_s=0.0,
            clock=lambda: self.now_s,
            **options,
        )

    def _use(self, model: ClapModel | None) -> None:
        before, self.listens = self.listens, "builtin" if model is None else "full"
        self.changes += self.listens != before

    def _tell(self, sentence: str) -> None:
        self.told.append(sentence)
        self.heard.set()

    async def until_told(self, words: str) -> None:
        async with asyncio.timeout(LONG_S):
            while not (self.told and words in self.told[-1]):
                self.heard.clear()
                await self.heard.wait()

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        task = asyncio.create_task(self.automatic.run())
        try:
            yield
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


async def test_where_it_fits_it_comes_and_where_it_does_not_it_goes() -> None:
    rig = Rig(Full(40))
    rig.automatic.microphones_are([0.5] * 5)
    async with rig.running():
        await rig.until_told("The full model, full, listens: a window takes 40 ms, and 5 microphones keep")
        assert (rig.listens, rig.automatic.least_hop_s) == ("full", 0.0)
        assert rig.full.did == ["fetch", "load", "measure", "prepare"]
        rig.automatic.microphones_are([0.5] * 8)
        await rig.until_told("with at least 1 s between windows")
        assert (rig.listens, rig.automatic.least_hop_s) == ("full", 1.0)
        rig.automatic.microphones_are([0.5] * 20)
        await rig.until_told("The built-in model listens: of the full model, full, a window takes 40 ms")
        assert (rig.listens, rig.automatic.least_hop_s) == ("builtin", 0.0)
        assert len(rig.full.did) == 4
        # Now it would fit again, but not so soon.
        rig.automatic.microphones_are([0.5] * 2)
        await rig.until_told("8 % (it is begun at 40 % or less, 10 minutes after the last change)")
        assert rig.changes == 2
        rig.now_s += CALM_S
        rig.automatic.microphones_are([0.5] * 3)
        await rig.until_told("The full model, full, listens: a window takes 40 ms, and 3 microphones keep")
        assert (rig.listens, rig.changes) == ("full", 3)


async def test_where_it_does_not_fit_it_is_not_prepared_and_tried_again_half_a_day_later() -> None:
    rig = Rig(Full(600))
    rig.automatic.microphones_are([0.5])
    async with rig.running():
        await rig.until_told("would keep 60 % (more than half) of the machine busy")
        assert (rig.listens, rig.changes) == ("builtin", 0)
        assert rig.full.did == ["fetch", "load", "measure"]
        rig.full.ms = 100
        rig.now_s += 11 * 3600
        rig.automatic.microphones_are([0.6])
        await rig.until_told("would keep 60 % (more than half)")
        assert len(rig.full.did) == 3
        rig.now_s += 3600
        rig.automatic.microphones_are([0.5])
        await rig.until_told("The full model, full, listens")
        assert rig.listens == "full"


async def test_microphones_that_come_while_it_is_prepared_count() -> None:
    rig = Rig(Full(40))
    rig.full.hold.clear()
    async with rig.running():
        async with asyncio.timeout(LONG_S):
            while "prepare" not in rig.full.did:
                await asyncio.sleep(0.01)
        assert rig.listens == "builtin"
        rig.automatic.microphones_are([0.5] * 40)
        rig.full.hold.set()
        await rig.until_told("40 microphones would keep 160 % (more than half)")
        assert rig.changes == 0


async def test_a_hub_that_cannot_be_reached_is_waited_for_calmly(caplog: pytest.LogCaptureFixture) -> None:
    full = Full(40)
    full.failures = [UnreachableError("long words"), ModelError("The disk is full.")]
    rig = Rig(full, retry_first_s=0.01)
    with caplog.at_level(logging.INFO):
        async with rig.running():
            for _ in range(3):
                rig.now_s += 10
                rig.heard.clear()
                await asyncio.wait_for(rig.heard.wait(), LONG_S)
    assert rig.told[0] == (
        "The full model is not here yet: the hub cannot be reached; the built-in model listens;"
        " next try in 1 second."
    )
    assert rig.told[1].startswith("The full model cannot be used: The disk is full; the built-in model")
    assert rig.listens == "full"
    assert not [record for record in caplog.records if record.levelno > logging.INFO]


async def test_each_wait_is_longer_and_microphones_that_come_do_not_shorten_it() -> None:
    full = Full(40)
    full.failures = [UnreachableError("long words")] * 3
    rig = Rig(full, retry_first_s=60.0)
    waits = []
    async with rig.running():
        for count in range(3):
            await rig.until_told("next try in")
            count_of, unit = rig.told.pop().rstrip(".").split()[-2:]
            waits.append(int(count_of) * (60 if "minute" in unit else 1))
            rig.automatic.microphones_are([0.5] * (count + 1))
            await asyncio.sleep(0.05)
            assert len(full.did) == count + 1
            rig.now_s += 300
            rig.automatic.microphones_are([0.4] * (count + 1))
        await rig.until_told("The full model, full, listens")
    assert waits == sorted(waits)
    assert waits[-1] >= 3 * 60


async def test_a_surprise_does_not_end_it(caplog: pytest.LogCaptureFixture) -> None:
    full = Full(40)
    full.failures = [ZeroDivisionError("surprise")]
    rig = Rig(full, retry_first_s=0.0)
    async with rig.running():
        await rig.until_told("The full model, full, listens")
    assert "surprise" in rig.told[0]
    assert any(record.exc_info for record in caplog.records)


async def test_a_machine_that_turns_out_slower_is_asked_for_less_and_more_again_later(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rig = Rig(Full(40))
    rig.automatic.microphones_are([0.5] * 5)
    woken = asyncio.Event()
    waits: list[float] = []
    step = rig.automatic._step

    async def step_and_wake_at_once() -> float:
        waits.append(await step())
        await woken.wait()
        woken.clear()
        return 0.0

    monkeypatch.setattr(rig.automatic, "_step", step_and_wake_at_once)
    async with rig.running():
        await rig.until_told("The full model, full, listens: ")
        # Told once, while it may be of before the change, and never again as it stays.
        rig.automatic.overload_is(present=True)
        woken.set()
        async with asyncio.timeout(LONG_S):
            while len(waits) < 2:
                await asyncio.sleep(0.01)
        assert (rig.automatic.least_hop_s, waits[-1]) == (0.0, 120.0)
        rig.now_s += waits[-1]
        woken.set()
        await rig.until_told("with at least 1 s between windows: a window takes 60 ms")
        rig.now_s += 120
        woken.set()
        await rig.until_told("The built-in model listens")
        assert rig.listens == "builtin"
        rig.automatic.overload_is(present=False)
        rig.now_s += 12 * 3600
        woken.set()
        rig.automatic.microphones_are([0.5] * 4)
        await rig.until_told("The full model, full, listens: a window takes 40 ms")


async def test_losses_that_end_soon_after_a_change_do_not_count() -> None:
    rig = Rig(Full(40))
    rig.automatic.microphones_are([0.5] * 5)
    async with rig.running():
        await rig.until_told("The full model, full, listens: ")
        rig.automatic.overload_is(present=True)
        rig.automatic.overload_is(present=False)
        rig.now_s += 300
        rig.automatic.microphones_are([0.5] * 4)
        await rig.until_told("and 4 microphones keep at most 32 % of the machine busy")
        assert rig.automatic.least_hop_s == 0.0


async def test_after_a_failure_it_is_waited_for_longer_each_time_unless_it_ran_for_long() -> None:
    rig = Rig(Full(40), retry_first_s=100.0)
    async with rig.running():
        await rig.until_told("The full model, full, listens")
        waits = []
        for ran_s in (10.0, 10.0, 2 * 3600.0):
            rig.now_s += ran_s
            rig.automatic.failed("The model full failed")
            assert re.fullmatch(
                r"The model full failed; the built-in model listens; next try in \d+ (second|minute)s\.",
                rig.told[-1],
            )
            waits.append(rig.automatic._next_try - rig.now_s)
            rig.told.clear()
            rig.now_s += 500
            rig.automatic.microphones_are([ran_s + len(waits)])
            await rig.until_told("The full model, full, listens")
    assert 80 <= waits[0] <= 120
    assert 160 <= waits[1] <= 240
    assert 80 <= waits[2] <= 120


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0.2, "1 second"),
        (31, "31 seconds"),
        (95, "2 minutes"),
        (3300, "55 minutes"),
        (7300, "2 hours"),
    ],
)
def test_waits_in_words(seconds: float, words: str) -> None:
    assert in_words(seconds) == words


async def test_a_thread_that_nobody_waits_for_tells_what_it_got() -> None:
    def fail() -> int:
        raise ModelError("no")

    assert await in_daemon_thread(lambda: threading.current_thread().daemon)
    with pytest.raises(ModelError, match="no"):
        await in_daemon_thread(fail)
