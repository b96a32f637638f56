from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from aiohttp import WSMsgType

from clap_server.errors import StoreError
from tests.server.listening.spectral import RATE, crash, scene
from tests.support.running_server import Client, pcm, running
from tests.support.waiting import until

if TYPE_CHECKING:
    from pathlib import Path

HALL = {"name": "Hall", "source": {"type": "push"}, "labels": [{"label": "glass breaking"}]}
FORMAT = {"format": "s16le", "sample_rate": RATE, "channels": 1}
MUTE = "/api/microphones/hall/mute"


@pytest.fixture
async def hall(client: Client) -> Client:
    await client.json("PUT", "/api/microphones/hall", status=201, json=HALL)
    return client


async def test_mute_is_told_and_shown_until_it_is_taken_back(hall: Client) -> None:
    async with hall.subscribed() as listening:
        muted = await hall.json("PUT", MUTE)
        assert (muted["muted"], muted["status"]["state"], muted["enabled"]) == (True, "muted", True)
        assert await hall.json("PUT", MUTE) == muted
        told: dict[str, Any] = {}
        while told.get("type") != "microphone_changed":
            told = await listening.receive_json(timeout=10)
        assert told["microphone"]["muted"] is True
    explained = await hall.json("GET", "/api/microphones/hall/explain")
    assert explained["status"]["state"] == "muted"
    assert "muted: nothing is listened to" in explained["conclusions"][0]
    test = await hall.json("POST", "/api/microphones/hall/self-test", status=409, json={})
    assert test["type"] == "/problems/not_listening"
    again = await hall.json("PUT", "/api/microphones/hall", json=HALL | {"hop_s": 1.0})
    assert again["muted"] is True
    assert again["status"]["state"] == "muted"
    listening_again = await hall.json("DELETE", MUTE)
    assert (listening_again["muted"], listening_again["hop_s"]) == (False, 1.0)
    assert await hall.json("DELETE", MUTE) == listening_again
    nowhere = await hall.json("PUT", "/api/microphones/nowhere/mute", status=404)
    assert nowhere["type"] == "/problems/no_such_microphone"


async def test_pushed_sound_is_refused_and_who_sends_is_told_why(hall: Client) -> None:
    async with hall.socket("/api/microphones/hall/audio") as socket:
        await socket.send_json(FORMAT)
        await socket.send_bytes(pcm(scene(1)))
        await hall.json("PUT", MUTE)
        closed = await socket.receive(timeout=10)
        assert closed.type is WSMsgType.CLOSE
        assert "muted" in closed.extra
    problem = await hall.json("GET", "/api/microphones/hall/audio", status=409)
    assert problem["type"] == "/problems/microphone_muted"


async def test_mute_survives_a_restart(tmp_path: Path) -> None:
    async with running(tmp_path / "data") as client:
        await client.json("PUT", "/api/microphones/hall", status=201, json=HALL)
        await client.json("PUT", MUTE)
    async with running(tmp_path / "data") as client:
        hall = await client.json("GET", "/api/microphones/hall")
        assert (hall["muted"], hall["status"]["state"]) == (True, "muted")
        await client.json("DELETE", MUTE)
    async with running(tmp_path / "data") as client:
        assert (await client.json("GET", "/api/microphones/hall"))["muted"] is False


async def test_a_mute_that_cannot_be_stored_mutes_all_the_same(
    hall: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    microphones = hall.server.context.store.microphones

    def full() -> None:
        raise StoreError("The disk is full; free some space", "disk_full")

    with monkeypatch.context() as broken:
        broken.setattr(microphones._database, "transaction", full)
        await hall.json("PUT", MUTE, status=503)
    hall_now = await hall.json("GET", "/api/microphones/hall")
    assert (hall_now["muted"], hall_now["status"]["state"]) == (True, "muted")


async def test_an_event_that_goes_on_ends_and_says_why_it_has_no_clip(hall: Client) -> None:
    async with hall.subscribed() as listening, hall.socket("/api/microphones/hall/audio") as socket:
        await socket.send_json(FORMAT)
        data = pcm(scene(6, (4.0, crash())))
        for start in range(0, len(data), RATE // 5):
            await socket.send_bytes(data[start : start + RATE // 5])
        message: dict[str, Any] = {}
        while message.get("change") != "started":
            message = await listening.receive_json(timeout=30)
        await hall.json("PUT", MUTE)
        while message.get("change") != "ended":
            message = await listening.receive_json(timeout=30)
    event = message["event"]
    assert (event["has_clip"], event["clip_withheld"]) == (False, "muted")
    problem = await hall.json("GET", f"/api/events/{event['id']}/clip.flac", status=404)
    assert problem["type"] == "/problems/no_clip"
    assert "muted" in problem["detail"]
    await until(lambda: not hall.server.context.pushers)
