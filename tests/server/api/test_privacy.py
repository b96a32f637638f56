"""What is kept of the sound is what the microphone's settings say, all the way to the disk."""

from __future__ import annotations

import asyncio
import importlib.util
from typing import TYPE_CHECKING, Any

import pytest

from clap_server.audio import denoise
from clap_server.errors import AudioError
from clap_server.listening import reporter
from tests.server.listening.spectral import RATE, crash, scene
from tests.support.running_server import Client, pcm
from tests.support.waiting import until

if TYPE_CHECKING:
    from collections.abc import Iterator

FORMAT = {"format": "s16le", "sample_rate": RATE, "channels": 1}


async def _put(client: Client, status: int = 201, **changes: Any) -> Any:
    body = {"name": "Hall", "source": {"type": "push"}, "labels": [{"label": "glass breaking"}]} | changes
    return await client.json("PUT", "/api/microphones/hall", status=status, json=body)


async def _break(client: Client, *, then_s: float = 8.0) -> list[dict[str, Any]]:
    """Play a break; the messages of its event, up to its last one."""
    told = []
    async with client.subscribed() as listening, client.socket("/api/microphones/hall/audio") as socket:
        await socket.send_json(FORMAT)
        data = pcm(scene(4 + then_s, (4.0, crash())))
        for start in range(0, len(data), RATE // 5):
            await socket.send_bytes(data[start : start + RATE // 5])
            # No faster than it is taken.
            await asyncio.sleep(0.005)
        while True:
            message = await listening.receive_json(timeout=30)
            if message["type"] in {"event", "event_clip"}:
                if message.get("change") == "confirmed":
                    continue
                told.append(message)
                if message.get("change") != "started" and message["event"]["clip_withheld"] != "coming":
                    return told


def _files(client: Client) -> list[str]:
    return [path.name for path in client.server.context.store.folder.clips.rglob("*") if path.is_file()]


async def test_settings_are_stored_and_shown(client: Client) -> None:
    recording = {"keep": "no_speech", "pre_roll_s": 1.5, "post_roll_s": 0.0, "clip_days": 7.0, "max_clips": 3}
    added = await _put(client, recording=recording)
    assert added["recording"] == recording | {"max_mb": None}
    assert added["denoise"] is False
    plain = await _put(client, status=200)
    assert plain["recording"] == {
        "keep": "clip",
        "pre_roll_s": 3.0,
        "post_roll_s": 1.0,
        "clip_days": None,
        "max_clips": None,
        "max_mb": None,
    }


@pytest.mark.parametrize(
    ("recording", "field"),
    [
        ({"keep": "sometimes"}, "recording.keep"),
        ({"pre_roll_s": 10.5}, "recording.pre_roll_s"),
        ({"post_roll_s": -1}, "recording.post_roll_s"),
        ({"max_clips": 0}, "recording.max_clips"),
        ({"max_clips": 1.5}, "recording.max_clips"),
        ({"clip_days": 0}, "recording.clip_days"),
        ({"forever": True}, "recording.forever"),
    ],
)
async def test_unusable_wishes_are_explained(client: Client, recording: dict[str, Any], field: str) -> None:
    problem = await _put(client, status=422, recording=recording)
    assert problem["errors"][0]["field"] == field


async def test_of_an_event_alone_nothing_is_written(client: Client) -> None:
    await _put(client, recording={"keep": "event_only"})
    [_, ended] = await _break(client)
    assert (ended["event"]["has_clip"], ended["event"]["clip_withheld"]) == (False, "event_only")
    assert _files(client) == []
    problem = await client.json("GET", f"/api/events/{ended['event']['id']}/clip.flac", status=404)
    assert problem["detail"].endswith("its microphone keeps events only")


@pytest.mark.parametrize(("spoken", "withheld"), [(True, "speech"), (False, None)])
async def test_where_somebody_speaks_nothing_is_written(
    client: Client, monkeypatch: pytest.MonkeyPatch, spoken: bool, withheld: str | None
) -> None:
    monkeypatch.setattr(reporter, "has_speech", lambda *_: spoken)
    await _put(client, recording={"keep": "no_speech"})
    [_, ended] = await _break(client)
    assert ended["event"]["has_clip"] is not spoken
    assert ended["event"]["clip_withheld"] == withheld
    assert bool(_files(client)) is not spoken


async def test_a_check_that_fails_drops_the_recording_and_is_told_in_words(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: Any) -> bool:
        raise AudioError("no weights")

    monkeypatch.setattr(reporter, "has_speech", broken)
    await _put(client, recording={"keep": "no_speech"})
    notices = []
    async with client.subscribed() as listening:
        [_, ended] = await _break(client)
        while not notices:
            message = await listening.receive_json(timeout=10)
            if message["type"] == "microphone" and (notice := message["status"]["notice"]) is not None:
                notices.append(notice)
    assert ended["event"]["clip_withheld"] == "check_failed"
    assert _files(client) == []
    assert "recordings are dropped, speech cannot be looked for: no weights" in notices[0]


async def test_a_long_post_roll_comes_after_the_end(client: Client) -> None:
    await _put(client, recording={"pre_roll_s": 1.0, "post_roll_s": 10.0})
    started, ended, clip = await _break(client, then_s=16)
    assert started["change"] == "started"
    assert (ended["change"], ended["event"]["clip_withheld"]) == ("ended", "coming")
    assert clip["type"] == "event_clip"
    assert (clip["event"]["has_clip"], clip["event"]["clip_withheld"]) == (True, None)
    event = await client.json("GET", f"/api/events/{clip['event']['id']}")
    assert event["has_clip"] is True
    await until(lambda: len(_files(client)) == 1)


@pytest.fixture
def _not_installed(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    denoise._library.cache_clear()
    monkeypatch.setattr(importlib.util, "find_spec", lambda _name: None)
    yield
    denoise._library.cache_clear()


@pytest.mark.usefixtures("_not_installed")
async def test_noise_suppression_that_is_not_installed_is_refused(client: Client) -> None:
    problem = await _put(client, status=422, denoise=True)
    assert problem["type"] == "/problems/denoise_unavailable"
    assert problem["errors"][0]["field"] == "denoise"
    assert "clap-server[denoise]" in problem["detail"]


async def test_sound_is_heard_through_noise_suppression(client: Client) -> None:
    assert (await _put(client, denoise=True))["denoise"] is True
    async with client.socket("/api/microphones/hall/audio") as socket:
        await socket.send_json(FORMAT)
        await socket.send_bytes(pcm(scene(3)))
        await until(lambda: client.server.context.supervisor.snapshot("hall").windows_gated > 0)
