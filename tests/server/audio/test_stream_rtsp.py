"""Against a real RTSP server in a process of its own."""

from __future__ import annotations

import asyncio
import itertools
import threading
from contextlib import aclosing, suppress
from typing import TYPE_CHECKING

import av
import numpy as np
import pytest

from clap_server.audio.rtsp import RtspOpener
from clap_server.audio.source import SourceError
from clap_server.audio.stream import StreamSource
from tests.server.audio.helpers import (
    PATIENCE_S,
    RATE,
    blocks_of,
    failure,
    listen,
    sine,
    strongest_hz,
    to_file,
)
from tests.support.camera import Camera

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def tone(tmp_path: Path) -> str:
    path = tmp_path / "tone.wav"
    path.write_bytes(to_file(sine(1000, 4.0), "wav", "pcm_s16le"))
    return str(path)


@pytest.mark.parametrize("codec", ["pcmu", "pcma", "aac", "l16"])
async def test_a_camera_is_heard_in_every_codec(codec: str, tone: str) -> None:
    with Camera("--file", tone, "--loop", "--codec", codec) as camera:
        samples = await listen(StreamSource(camera.url), 1.0)
    steady = samples[RATE // 4 :]
    assert strongest_hz(steady) == pytest.approx(1000, abs=4)
    assert np.sqrt(np.mean(steady**2)) == pytest.approx(0.3536, rel=0.15)


@pytest.mark.parametrize("transport", ["tcp", "udp"])
async def test_a_camera_that_takes_one_transport_is_heard(transport: str, tone: str) -> None:
    with Camera("--file", tone, "--loop", "--transport", transport) as camera:
        async with aclosing(blocks_of(StreamSource(camera.url))) as blocks:
            seen = [await anext(blocks) for _ in range(50)]
    assert not any(block.after_gap for block in seen)
    samples = np.concatenate([block.samples for block in seen])
    assert strongest_hz(samples[RATE // 4 :]) == pytest.approx(1000, abs=4)


async def test_blocks_are_short_and_dated(tone: str) -> None:
    with Camera("--file", tone, "--loop") as camera:
        async with aclosing(blocks_of(StreamSource(camera.url))) as blocks:
            seen = [await anext(blocks) for _ in range(20)]
    assert all(0.015 <= block.duration_s <= 0.1 for block in seen)
    assert all(first.captured_at <= second.captured_at for first, second in itertools.pairwise(seen))


async def test_only_the_audio_track_is_asked_for(tone: str) -> None:
    with Camera("--file", tone, "--loop", "--video") as camera:
        with RtspOpener(camera.url, PATIENCE_S).open_with({}, PATIENCE_S) as container:
            assert [stream.type for stream in container.streams] == ["audio"]
        with av.open(camera.url, options={"rtsp_transport": "tcp", "analyzeduration": "1"}) as container:
            assert {stream.type for stream in container.streams} == {"audio", "video"}


async def test_user_name_and_password_are_used(tone: str) -> None:
    arguments = ("--file", tone, "--loop", "--user", "admin", "--password", "p@ss/word")
    with Camera(*arguments, user_info="admin:p%40ss%2Fword@") as camera:
        assert (await listen(StreamSource(camera.url), 0.2)).size


@pytest.mark.parametrize("user_info", ["", "admin:wrong-secret@"])
async def test_a_wrong_password_is_said_so(user_info: str, tone: str) -> None:
    arguments = ("--file", tone, "--user", "admin", "--password", "right")
    with Camera(*arguments, user_info=user_info) as camera:
        error = await failure(StreamSource(camera.url))
    assert (error.code, error.reason) == (
        "unauthorized",
        "401 from camera: check the user name and password",
    )
    assert error.__suppress_context__  # a traceback would show FFmpeg's words with the address


async def test_a_wrong_path_is_said_so(tone: str) -> None:
    with Camera("--file", tone) as camera:
        error = await failure(StreamSource(camera.url + "-not"))
    assert error.code == "not_found"
    assert "404 from camera" in error.reason


async def test_a_camera_without_an_audio_track_is_said_so() -> None:
    with Camera("--codec", "none", "--video") as camera:
        error = await failure(StreamSource(camera.url))
    assert error.code == "no_audio_track"
    assert "switch audio on" in error.reason


async def test_the_end_of_the_stream_is_said_so(tone: str) -> None:
    with Camera("--file", tone) as camera:
        blocks = blocks_of(StreamSource(camera.url))
        await anext(blocks)
        camera.kill()
        with pytest.raises(SourceError) as caught:
            async for _ in blocks:
                pass
    assert caught.value.code == "ended"


class Listener:
    """Listens in the background and counts blocks."""

    def __init__(self, source: StreamSource) -> None:
        self._source = source
        self._count = 0
        self._counted = asyncio.Event()
        self.task = asyncio.ensure_future(self._run())

    async def _run(self) -> None:
        async with aclosing(blocks_of(self._source)) as blocks:
            async for _ in blocks:
                self._counted.set()

    async def next_block(self, timeout_s: float = PATIENCE_S) -> None:
        self._counted.clear()
        async with asyncio.timeout(timeout_s):
            await self._counted.wait()

    async def silence(self) -> None:
        """Wait until no more blocks come."""
        with suppress(TimeoutError):
            while True:
                await self.next_block(1.2)


async def test_a_pause_of_the_camera_does_not_end_the_stream(tone: str) -> None:
    with Camera("--file", tone, "--loop") as camera:
        listener = Listener(StreamSource(camera.url))
        await listener.next_block()
        camera.pause()
        await listener.silence()
        camera.resume()
        await listener.next_block()
        listener.task.cancel()
        await asyncio.wait([listener.task])


async def test_closing_ends_the_thread_even_while_the_camera_is_silent(tone: str) -> None:
    with Camera("--file", tone, "--loop") as camera:
        listener = Listener(StreamSource(camera.url))
        await listener.next_block()
        camera.pause()
        await listener.silence()
        (thread,) = [thread for thread in threading.enumerate() if thread.name == "stream 127.0.0.1"]
        listener.task.cancel()
        await asyncio.wait([listener.task])
        await asyncio.to_thread(thread.join, PATIENCE_S)
        assert not thread.is_alive()
