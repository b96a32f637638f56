from __future__ import annotations

import asyncio
import random
from contextlib import aclosing
from typing import TYPE_CHECKING

import numpy as np
import pytest

from clap_server.audio import reconnect, stream
from clap_server.audio.block import AudioBlock
from clap_server.audio.file import FileSource
from clap_server.audio.host import Host
from clap_server.audio.push import PushFormat, PushSource
from clap_server.audio.reconnect import FINAL_CODES, Backoff, ReconnectingSource
from clap_server.audio.rtsp import RtspOpener
from clap_server.audio.source import Patience, SourceError, SourceState, SourceStatus
from clap_server.audio.stream import StreamSource
from tests.server.audio.helpers import PATIENCE_S, RATE, sine, to_file
from tests.support.camera import Camera

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable
    from pathlib import Path

    from clap_server.audio.source import AudioSource


@pytest.fixture(autouse=True)
def probing_often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reconnect, "PROBE_S", 0.02)


class Rig:
    """A reconnecting source with its statuses, and waits that are counted instead of waited."""

    def __init__(
        self,
        source: AudioSource,
        *,
        sleep: Callable[[float], Awaitable[None]] | None = None,
    ) -> None:
        self.statuses: list[SourceStatus] = []
        self.delays_s: list[float] = []
        self.blocks_heard = 0
        self._news = asyncio.Event()
        self.source = ReconnectingSource(
            source,
            self._on_status,
            sleep=sleep or self._sleep,
        )
        self.source._backoff._rng.seed(1)
        self.task = asyncio.ensure_future(self._run())

    def _on_status(self, status: SourceStatus) -> None:
        self.statuses.append(status)
        self._news.set()

    async def _sleep(self, delay_s: float) -> None:
        self.delays_s.append(delay_s)
        self._news.set()
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

    async def until_delays(self, count: int) -> None:
        await self.until(lambda: len(self.delays_s) >= count)

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

    patience = Patience(5.0, 0.5)

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


class Late:
    """Its sound begins some time after it was opened."""

    patience = Patience(0.1, 10.0)

    def __init__(self, delay_s: float) -> None:
        self._delay_s = delay_s
        self.opened = 0

    async def blocks(self, sample_rate: int) -> AsyncGenerator[AudioBlock, None]:
        self.opened += 1
        await asyncio.sleep(self._delay_s)
        while True:
            yield AudioBlock(np.zeros(480, np.float32), sample_rate, 0.0)
            await asyncio.sleep(0.01)


async def no_wait(_delay_s: float) -> None:
    pass


@pytest.fixture
def tone(tmp_path: Path) -> str:
    path = tmp_path / "tone.wav"
    path.write_bytes(to_file(sine(1000, 4.0), "wav", "pcm_s16le"))
    return str(path)


async def test_after_it_was_heard_a_source_is_tried_again_soon_whatever_the_reason() -> None:
    wrong = SourceError("unauthorized", "401")
    rig = Rig(Scripted((3, wrong), (0, wrong), (1, None)))
    await rig.until_code("finished")
    await rig.stop()
    soon_s, later_s = rig.delays_s
    assert soon_s <= 1
    assert later_s >= 30


async def test_a_camera_that_starts_may_answer_strangely_for_a_while() -> None:
    gone = SourceError("ended", "over")
    starting = SourceError("not_found", "404")
    rig = Rig(Scripted((3, gone), (0, starting), (0, starting), (1, None)))
    await rig.task
    assert max(rig.delays_s) <= 4.0


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


async def test_a_camera_that_falls_silent_is_connected_again(
    tone: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(RtspOpener, "patience", lambda *_: Patience(silence_s=1.0))
    monkeypatch.setattr(stream, "OPEN_TIMEOUT_S", 1.0)
    with Camera("--file", tone, "--loop") as camera:
        rig = Rig(StreamSource(camera.url))
        await rig.until_code("listening")
        camera.pause()
        status = await rig.until_code("stalled")
        camera.resume()
        await rig.until_code("listening")
        await rig.stop()
    assert status == SourceStatus(SourceState.STALLED, "stalled", "stalled: no audio for 1 s")


async def test_a_connection_that_never_gives_sound_is_a_stall() -> None:
    rig = Rig(Late(PATIENCE_S))
    await rig.until_code("stalled")
    await rig.stop()
    assert [status.reason for status in rig.statuses][:2] == ["connecting", "stalled: no audio for 0.1 s"]


async def test_sound_that_begins_late_is_waited_for_longer_at_each_attempt() -> None:
    source = Late(0.25)
    rig = Rig(source)
    await rig.until_code("listening")
    await rig.stop()
    assert source.opened == 3
    assert [status.reason for status in rig.statuses] == [
        "connecting",
        "stalled: no audio for 0.1 s",
        "stalled: no audio for 0.2 s",
        "listening",
    ]


async def test_each_source_has_its_own_patience() -> None:
    class Slow(Late):
        patience = Patience(None, 30.0)

    rig = Rig(Slow(0.3))
    await rig.until_code("listening")
    await rig.stop()
    assert rig.codes() == ["connecting", "listening"]


async def test_the_first_sound_after_an_interruption_is_after_a_gap() -> None:
    source = ReconnectingSource(
        Scripted((2, SourceError("ended", "over")), (2, None)), lambda _status: None, sleep=no_wait
    )
    gaps = [block.after_gap async for block in source.blocks(RATE)]
    assert gaps == [False, False, True, False]


async def test_a_notice_is_told_once_and_withdrawn() -> None:
    class Noticing:
        patience = Patience()

        async def blocks(self, sample_rate: int) -> AsyncGenerator[AudioBlock, None]:
            for notice in (None, "left only", "left only", None):
                yield AudioBlock(np.zeros(480, np.float32), sample_rate, 0.0, notice=notice)

    rig = Rig(Noticing())
    await rig.task
    assert [status.notice for status in rig.statuses] == [None, None, "left only", None, None]
    assert rig.codes() == ["connecting", "listening", "listening", "listening", "finished"]


async def test_a_neighbour_that_is_back_is_not_kept_waiting(tone: str) -> None:
    async def never(_delay_s: float) -> None:
        await asyncio.Event().wait()

    with Camera("--file", tone, "--loop") as camera:
        rig = Rig(StreamSource(camera.url), sleep=never)
        await rig.until_code("listening")
        camera.kill()
        await rig.until_code("ended")
        await asyncio.to_thread(camera.start)
        await rig.until_code("listening")
        await rig.stop()


async def test_a_neighbour_that_answers_without_sound_waits_its_turn() -> None:
    # The probe finds it there all the time, so it says nothing new.
    waits: list[float] = []
    woken = asyncio.Event()

    async def until_woken(delay_s: float) -> None:
        waits.append(delay_s)
        await woken.wait()

    probes = 0
    probed = asyncio.Event()

    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal probes
        if await reader.read(1000):
            writer.write(b"RTSP/1.0 503 Service Unavailable\r\nCSeq: 1\r\n\r\n")
        else:
            probes += 1
            if probes >= 6:
                probed.set()
        writer.close()

    server = await asyncio.start_server(refuse, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    rig = Rig(StreamSource(f"rtsp://127.0.0.1:{port}/x"), sleep=until_woken)
    async with asyncio.timeout(PATIENCE_S):
        await probed.wait()
    assert len(waits) == 1
    await rig.stop()
    server.close()
    await server.wait_closed()


@pytest.mark.parametrize(
    ("name", "in_home"),
    [
        ("192.168.1.20", True),
        ("10.0.0.5", True),
        ("172.20.3.4", True),
        ("169.254.1.1", True),
        ("127.0.0.1", True),
        ("fe80::1", True),
        ("fd00::5", True),
        ("camera", True),
        ("Camera.local", True),
        ("camera.lan.", True),
        ("8.8.8.8", False),
        ("2606:4700::1111", False),
        ("radio.example.com", False),
        ("local.example.com", False),
    ],
)
def test_who_is_a_neighbour(name: str, in_home: bool) -> None:
    assert Host(name, 554).in_home is in_home


async def test_a_neighbour_is_asked_again_within_ten_seconds(unused_tcp_port: int) -> None:
    rig = Rig(StreamSource(f"rtsp://127.0.0.1:{unused_tcp_port}/x"))
    await rig.until_delays(12)
    await rig.stop()
    assert 5.0 < max(rig.delays_s) <= 10.0


async def test_one_reason_is_reported_once_however_often_it_is_tried() -> None:
    refused = SourceError("refused", "connection refused")
    source = Scripted(*[(0, refused)] * 5, (3, SourceError("ended", "over")), (1, None))
    rig = Rig(source)
    await rig.task
    assert rig.codes() == ["connecting", "refused", "listening", "ended", "listening", "finished"]
    assert (source.opened, source.closed, rig.blocks_heard) == (7, 7, 4)
    assert len(rig.delays_s) == 6


async def test_a_source_that_was_heard_for_a_while_is_tried_again_at_once_whatever_was_before(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ended, refused = SourceError("ended", "over"), SourceError("refused", "connection refused")
    script = [*[(0, refused)] * 20, *[(5, ended)] * 20, (0, refused), (0, None)]
    kept = Rig(Scripted(*script))
    await kept.task
    monkeypatch.setattr(reconnect, "RESET_AFTER_S", 0.0)
    reset = Rig(Scripted(*script))
    await reset.task
    assert len(kept.delays_s) == 41
    assert len(reset.delays_s) == 21
    assert max(kept.delays_s[20:]) > 10.0
    assert reset.delays_s[20] <= 1.0


async def test_a_camera_that_hung_is_heard_again_without_waiting_for_its_host(
    tone: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(RtspOpener, "patience", lambda *_: Patience(silence_s=1.0))
    monkeypatch.setattr(reconnect, "RESET_AFTER_S", 0.0)

    async def never(_delay_s: float) -> None:
        await asyncio.Event().wait()

    with Camera("--file", tone, "--loop") as camera:
        rig = Rig(StreamSource(camera.url), sleep=never)
        await rig.until(lambda: rig.blocks_heard > 1)
        camera.pause()
        await rig.until_code("stalled")
        camera.resume()
        await rig.until_code("listening")
        await rig.stop()


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
    return Backoff(random.Random(seed))


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
        patience = Patience()

        async def blocks(self, sample_rate: int) -> AsyncGenerator[AudioBlock, None]:
            yield AudioBlock(np.zeros(1 // (sample_rate - RATE), np.float32), sample_rate, 0.0)

    rig = Rig(Buggy())
    with pytest.raises(ZeroDivisionError):
        await rig.task


async def test_pushed_sound_waits_for_its_client_and_for_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    source = PushSource()
    fmt = PushFormat("s16le", 16_000)
    monkeypatch.setattr(source, "patience", Patience(None, 0.3))
    rig = Rig(source)
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
