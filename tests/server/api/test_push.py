from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Any

import aiohttp
import numpy as np
import pytest
from aiohttp import WSMsgType

from clap_server.audio.decode import decode
from tests.server.listening.spectral import RATE, crash, scene
from tests.support.running_server import TOKEN, Client, pcm
from tests.support.waiting import until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from numpy.typing import NDArray

    from clap_server.audio.source import SourceStatus

FORMAT = {"format": "s16le", "sample_rate": RATE, "channels": 1}
PATH = "/api/microphones/hall/audio"


@pytest.fixture
async def hall(client: Client) -> Client:
    body = {"name": "Hall", "source": {"type": "push"}, "labels": [{"label": "glass breaking"}]}
    await client.json("PUT", "/api/microphones/hall", status=201, json=body)
    return client


@asynccontextmanager
async def _sending(client: Client, fmt: dict[str, Any] = FORMAT) -> AsyncIterator[Any]:
    async with client.socket(PATH) as socket:
        await socket.send_json(fmt)
        yield socket


async def _play(socket: Any, samples: NDArray[np.float32], pace_s: float = 0.005) -> None:
    data = pcm(samples)
    for start in range(0, len(data), RATE // 5):
        await socket.send_bytes(data[start : start + RATE // 5])
        await asyncio.sleep(pace_s)


@pytest.mark.parametrize("size", [4_000_001, 20_000_000])
async def test_a_message_that_is_too_large_is_refused_in_words(hall: Client, size: int) -> None:
    async with _sending(hall) as socket:
        await socket.send_bytes(bytes(RATE))
        await until(lambda: _status(hall).code == "listening")
        with suppress(ConnectionError):
            await socket.send_bytes(bytes(size))
        end = await socket.receive(timeout=20)
        assert (end.type, end.data) == (WSMsgType.CLOSE, 1009)
        assert end.extra == "a message was larger than 4,000,000 bytes: send 20 to 100 ms of sound in each"
        await until(lambda: _status(hall).code == "waiting_for_client")
    assert "cut off: a message was larger than 4,000,000 bytes" in _status(hall).reason
    async with _sending(hall) as socket:
        await socket.send_bytes(bytes(RATE))
        await until(lambda: _status(hall).code == "listening")
    await until(lambda: _status(hall).code == "waiting_for_client")
    assert "cut off" not in _status(hall).reason


async def test_the_largest_message_is_taken(hall: Client) -> None:
    async with _sending(hall) as socket:
        await socket.send_bytes(bytes(4_000_000))
        await socket.send_str("not sound")
        end = await socket.receive(timeout=20)
        assert end.extra == "After the format, send PCM as binary messages"


async def test_the_largest_subscription_is_taken(hall: Client) -> None:
    async with hall.socket("/api/ws") as socket:
        await socket.receive_json()
        await socket.send_str('{"type": "subscribe"}'.ljust(65_536))
        assert (await socket.receive_json(timeout=20))["type"] == "microphones"


async def test_text_where_sound_is_due_is_told_by_the_status(hall: Client) -> None:
    async with _sending(hall) as socket:
        await socket.send_bytes(bytes(RATE))
        await until(lambda: _status(hall).code == "listening")
        await socket.send_str("not sound")
        await until(lambda: "it sent text" in _status(hall).reason)


@pytest.mark.parametrize("size", [65_537, 100_000])
async def test_a_subscription_that_is_too_large_is_refused_in_words(hall: Client, size: int) -> None:
    async with hall.socket("/api/ws") as socket:
        await socket.receive_json()
        await socket.send_str(" " * size)
        end = await socket.receive(timeout=20)
        assert (end.data, end.extra) == (
            1009,
            "a message was larger than 65,536 bytes: a subscribe message is short",
        )


def _status(client: Client) -> SourceStatus:
    return client.server.context.supervisor.snapshot("hall").status


async def test_glass_that_breaks_is_told_and_its_clip_holds_it(hall: Client) -> None:
    async with hall.subscribed(topics=("scores", "levels")) as listening, _sending(hall) as socket:
        kinds = set()
        message: dict[str, Any] = {}

        async def follow() -> None:
            nonlocal message
            while message.get("change") != "ended":
                message = await listening.receive_json(timeout=60)
                kinds.add(message["type"])

        following = asyncio.create_task(follow())
        await _play(socket, scene(15, (4.0, crash())))
        await following
    assert {"scores", "level", "event", "microphone"} <= kinds
    event = message["event"]
    assert (event["label_id"], event["microphone_name"], event["has_clip"]) == (
        "glass_breaking",
        "Hall",
        True,
    )
    path = hall.server.context.store.folder.clips
    [clip] = path.glob("*/*.flac")
    assert clip.stem == event["id"]
    samples = decode(clip, RATE)
    assert np.abs(samples).max() > 0.2, "the break is in it"
    info = await hall.json("GET", "/api/microphones/hall")
    assert info["windows_scored"] > 0


async def test_second_client_takes_over(hall: Client) -> None:
    async with _sending(hall) as first:
        await first.send_bytes(b"\x00" * 3200)
        async with _sending(hall) as second:
            end = await first.receive(timeout=30)
            assert (end.type, end.data) == (WSMsgType.CLOSE, 1008)
            assert "took over" in end.extra
            await second.send_bytes(b"\x00" * 3200)
            supervisor = hall.server.context.supervisor
            await until(lambda: supervisor.push_source("hall").connected)


async def test_sender_goes_on_after_the_microphone_changed(hall: Client) -> None:
    supervisor = hall.server.context.supervisor
    async with _sending(hall) as socket:
        await socket.send_bytes(b"\x00" * 3200)
        await until(lambda: supervisor.push_source("hall").connected)
        before = supervisor.push_source("hall")
        for enabled in (False, True):
            await hall.json("PATCH", "/api/microphones/hall", json={"enabled": enabled})
        assert supervisor.push_source("hall") is not before
        await socket.send_bytes(b"\x00" * 3200)
        await until(lambda: supervisor.push_source("hall").connected)


async def test_sender_of_a_removed_microphone_is_sent_away(hall: Client) -> None:
    async with _sending(hall) as socket:
        await socket.send_bytes(b"\x00" * 3200)
        await hall.json("DELETE", "/api/microphones/hall", status=204)
        await socket.send_bytes(b"\x00" * 3200)
        assert (await socket.receive(timeout=30)).data == 1008


@pytest.mark.parametrize(
    ("first", "code", "words"),
    [
        ('{"format": "mp3", "sample_rate": 16000}', 1008, "format"),
        ('{"format": "s16le", "sample_rate": 1}', 1008, "4000"),
        ('{"format": "s16le", "sample_rate": 16000, "channels": 9}', 1008, "8"),
        ('{"format": "s16le"}', 1008, "required"),
        ("hello", 1008, "JSON"),
        (b"\x00\x00", 1003, "format first"),
    ],
)
async def test_bad_format_is_refused_with_a_reason(hall: Client, first: Any, code: int, words: str) -> None:
    async with hall.socket(PATH) as socket:
        await (socket.send_str(first) if isinstance(first, str) else socket.send_bytes(first))
        end = await socket.receive(timeout=30)
        assert (end.type, end.data) == (WSMsgType.CLOSE, code)
        assert words in end.extra


async def test_text_amid_the_sound_is_refused(hall: Client) -> None:
    async with _sending(hall) as socket:
        await socket.send_str("hello")
        assert (await socket.receive(timeout=30)).data == 1003


async def test_client_that_never_says_its_format_is_let_go(
    hall: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("clap_server.api.push.SUBSCRIBE_TIMEOUT_S", 0.05)
    async with hall.socket(PATH) as socket:
        assert (await socket.receive(timeout=30)).data == 1008


async def test_client_that_goes_before_its_format_does_no_harm(hall: Client) -> None:
    async with hall.socket(PATH):
        pass
    async with _sending(hall) as socket:
        await socket.send_bytes(b"\x00" * 3200)
        supervisor = hall.server.context.supervisor
        await until(lambda: supervisor.push_source("hall").connected)


async def test_mistake_inside_ends_the_socket_and_is_logged(
    hall: Client, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(_id: str) -> None:
        raise RuntimeError("a mistake")

    monkeypatch.setattr(hall.server.context.supervisor, "push_source", broken)
    async with _sending(hall) as socket:
        assert (await socket.receive(timeout=30)).data == 1011
    assert "a mistake" in caplog.text


@pytest.mark.parametrize(
    ("changes", "status"),
    [({"source": {"type": "url", "url": "rtsp://127.0.0.1:1/x"}}, 409), ({"enabled": False}, 409)],
)
async def test_microphone_that_takes_no_sound_refuses_it(hall: Client, changes: Any, status: int) -> None:
    await hall.json("PATCH", "/api/microphones/hall", json=changes)
    with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
        async with hall.socket(PATH):
            pass
    assert refused.value.status == status


async def test_unknown_microphone_refuses_sound(client: Client) -> None:
    with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
        async with client.socket("/api/microphones/none/audio", headers={"Authorization": f"Bearer {TOKEN}"}):
            pass
    assert refused.value.status == 404
