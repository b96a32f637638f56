from __future__ import annotations

import asyncio
import random
from contextlib import aclosing
from typing import TYPE_CHECKING

import numpy as np
import pytest

from clap_server.audio.block import AudioBlock
from clap_server.audio.file import FileSource
from clap_server.audio.push import PushFormat, PushSource
from clap_server.audio.reconnect import FINAL_CODES, Backoff, ReconnectingSource
from clap_server.audio.source import SourceError, SourceState, SourceStatus
from clap_server.audio.stream import StreamSource
from tests.server.audio.helpers import PATIENCE_S, RATE, sine, to_file
from tests.support.camera import Camera

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable
    from pathlib import Path

    from clap_server.audio.source import AudioSource


class Rig:
    """A reconnecting source with its statuses, and waits that are counted instead of waited."""

    def __init__(
        self,
        source: AudioSource,
        *,
        stall_s: float = 0.5,
        connect_s: float = 5.0,
        reset_after_s: float = 30.0,
    ) -> None:
        self.statuses: list[SourceStatus] = []
        self.delays_s: list[float] = []
        self.blocks_heard = 0
        self._news = asyncio.Event()
        self.source = ReconnectingSource(
            source,
            self._on_status,
            stall_s=stall_s,
            connect_s=connect_s,
            reset_after_s=reset_after_s,
            sleep=self._sleep,
            rng=random.Random(1),  # noqa: S311 - repeatable
        )
        self.task = asyncio.ensure_future(self._run())

    def _on_status(self, status: SourceStatus) -> None:
        self.statuses.append(status)
        self._news.set()

    async def _sleep(self, delay_s: float) -> None:
        self.delays_s.append(delay_s)
        await asyncio.sleep(0.02)

    async def _run(self) -> None:
        async with aclosing(self.source.blocks(RATE)) as blocks:
            async for _ in blocks:
                self.blocks_heard += 1
                self._news.set()

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(PATIENCE_S):
            while not condition():
                assert not self.task.done() or condition(), self.task
                self._news.clear()
                await self._news.wait()

    async def until_code(self, code: str) -> SourceStatus:
        await self.until(lambda: bool(self.statuses) and self.statuses[-1].code == code)
        return self.statuses[-1]

    async def stop(self) -> None:
        self.task.cancel()
        await asyncio.wait([self.task])

    def codes(self) -> list[str]:
        return [status.code for status in self.statuses]


class Scripted:
    """A source whose attempts follow a script: blocks to yield, then an error or the end."""

    def __init__(self, *attempts: tuple[int, SourceError | None]) -> None:
        self._attempts = list(attempts)
        self.opened = 0
        self.closed = 0

    async def blocks(self, sample_rate: int) -> AsyncGenerator[AudioBlock, None]:
        self.opened += 1
        count, error = self._attempts.pop(0) if self._attempts else (0, None)
        try:
            for _ in range(count):
                yield AudioBlock(np.zeros(480, np.float32), sample_rate, 0.0)
                await asyncio.sleep(0)
            if error is not None:
                raise error
        finally:
            self.closed += 1


@pytest.fixture
def tone(tmp_path: Path) -> str:
    path = tmp_path / "tone.wav"
    path.write_bytes(to_file(sine(1000, 4.0), "wav", "pcm_s16le"))
    return str(path)


async def test_after_it_was_heard_a_source_is_tried_again_soon_whatever_the_reason() -> None:
    wrong = SourceError("not_audio", "damaged")
    rig = Rig(Scripted((3, wrong), (0, wrong), (1, None)))
    await rig.until_code("finished")
    await rig.stop()
    soon_s, later_s = rig.delays_s
    assert soon_s <= 1
    assert later_s >= 30


async def test_a_camera_that_is_switched_off_and_on_is_heard_again(tone: str) -> None:
    with Camera("--file", tone, "--loop") as camera:
        rig = Rig(StreamSource(camera.url))
        await rig.until_code("listening")
        camera.kill()
        await rig.until_code("refused")
        heard = rig.blocks_heard
        camera.start()
        await rig.until_code("listening")
        await rig.until(lambda: rig.blocks_heard > heard + 5)
        await rig.stop()
    assert rig.codes() == ["connecting", "listening", "ended", "refused", "listening"]
    assert [status.state for status in rig.statuses] == [
        SourceState.CONNECTING,
        SourceState.LISTENING,
        SourceState.FAILED,
        SourceState.FAILED,
        SourceState.LISTENING,
    ]


async def test_a_camera_that_falls_silent_is_connected_again(tone: str) -> None:
    with Camera("--file", tone, "--loop") as camera:
        rig = Rig(StreamSource(camera.url, open_timeout_s=1.0), stall_s=1.0)
        await rig.until_code("listening")
        camera.pause()
        status = await rig.until_code("stalled")
        camera.resume()
        await rig.until_code("listening")
        await rig.stop()
    assert status == SourceStatus(SourceState.STALLED, "stalled", "stalled: no audio for 1 s")


async def test_a_connection_that_never_gives_sound_is_a_stall() -> None:
    class Mute:
        async def blocks(self, sample_rate: int) -> AsyncGenerator[AudioBlock, None]:
            await asyncio.sleep(PATIENCE_S)
            yield AudioBlock(np.zeros(1, np.float32), sample_rate, 0.0)

    rig = Rig(Mute(), connect_s=0.05)
    await rig.until_code("stalled")
    await rig.stop()
    assert [status.reason for status in rig.statuses] == ["connecting", "stalled: no audio for 0.05 s"]


async def test_one_reason_is_reported_once_however_often_it_is_tried() -> None:
    refused = SourceError("refused", "connection refused")
    source = Scripted(*[(0, refused)] * 5, (3, SourceError("ended", "over")), (1, None))
    rig = Rig(source)
    await rig.task
    assert rig.codes() == ["connecting", "refused", "listening", "ended", "listening", "finished"]
    assert (source.opened, source.closed, rig.blocks_heard) == (7, 7, 4)
    assert rig.source.status == rig.statuses[-1]
    assert len(rig.delays_s) == 6


async def test_sound_for_a_while_makes_the_next_attempt_quick_again() -> None:
    ended = SourceError("ended", "over")
    kept, reset = (
        Rig(Scripted(*[(5, ended)] * 40, (0, None)), reset_after_s=reset_after_s)
        for reset_after_s in (30.0, 0.0)
    )
    await asyncio.wait([kept.task, reset.task])
    assert max(kept.delays_s) > 10.0
    assert max(reset.delays_s) <= 1.0


def test_waits_grow_to_a_minute_with_full_jitter() -> None:
    waits = np.array(
        [[backoff.next_delay_s(False) for _ in range(20)] for backoff in map(backoff_of, range(300))]
    )
    np.testing.assert_array_less(waits.max(axis=0), [min(60.0, 2.0**n) + 1e-9 for n in range(20)])
    np.testing.assert_allclose(waits.mean(axis=0), [min(60.0, 2.0**n) / 2 for n in range(20)], rtol=0.15)


def test_what_only_the_user_can_heal_is_tried_seldom() -> None:
    waits = np.array([[backoff_of(seed).next_delay_s(True)] for seed in range(100)])
    assert waits.min() >= 30.0
    backoff = backoff_of(1)
    assert 150.0 <= [backoff.next_delay_s(True) for _ in range(50)][-1] <= 300.0


def backoff_of(seed: int) -> Backoff:
    return Backoff(random.Random(seed))  # noqa: S311 - repeatable


async def test_a_camera_without_sound_is_asked_again_later() -> None:
    rig = Rig(Scripted((0, SourceError("no_audio_track", "camera has no audio track")), (1, None)))
    await rig.task
    assert rig.codes() == ["connecting", "no_audio_track", "listening", "finished"]
    assert rig.delays_s[0] >= 30.0


@pytest.mark.parametrize("code", sorted(FINAL_CODES))
async def test_what_can_never_heal_ends(code: str) -> None:
    rig = Rig(Scripted((0, SourceError(code, "never"))))
    await rig.task
    assert rig.codes() == ["connecting", code]
    assert rig.statuses[-1].state is SourceState.FAILED
    assert rig.delays_s == []


async def test_a_recording_that_is_played_once_ends(tmp_path: Path) -> None:
    (tmp_path / "tone.wav").write_bytes(to_file(sine(440, 0.1), "wav", "pcm_s16le"))
    rig = Rig(FileSource("tone.wav", tmp_path, loop=False))
    await rig.task
    assert rig.statuses[-1].reason == "the recording was played to its end"


async def test_a_bug_in_a_source_is_not_taken_for_a_broken_stream() -> None:
    class Buggy:
        async def blocks(self, sample_rate: int) -> AsyncGenerator[AudioBlock, None]:
            yield AudioBlock(np.zeros(1 // (sample_rate - RATE), np.float32), sample_rate, 0.0)

    rig = Rig(Buggy())
    with pytest.raises(ZeroDivisionError):
        await rig.task


async def test_pushed_sound_waits_for_its_client_and_for_the_next() -> None:
    source = PushSource()
    fmt = PushFormat("s16le", 16_000)
    rig = Rig(source, stall_s=0.3)
    status = await rig.until_code("waiting_for_client")
    assert status.state is SourceState.CONNECTING
    assert status.reason == "waiting for the client to send sound"
    await asyncio.sleep(0.5)  # longer than stall_s: waiting for a client is no stall
    for _ in range(2):
        pusher = source.connect(fmt)
        pusher.feed(bytes(16_000))
        await rig.until_code("listening")
        pusher.close()
        await rig.until_code("waiting_for_client")
    pusher = source.connect(fmt)
    pusher.feed(bytes(16_000))
    await rig.until_code("stalled")
    pusher.feed(bytes(16_000))
    await rig.until_code("listening")
    await rig.stop()
    assert rig.delays_s == []


async def test_closing_closes_the_source() -> None:
    source = Scripted((10, None))
    blocks = ReconnectingSource(source, lambda _status: None).blocks(RATE)
    await anext(blocks)
    await blocks.aclose()
    assert (source.opened, source.closed) == (1, 1)
