from __future__ import annotations

import asyncio
import io
import threading
from dataclasses import replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from av.error import InvalidDataError
from PIL import Image

from clap_server.api import openapi
from clap_server.api.app import ROUTES
from clap_server.api.spectrogram import HEIGHT, MAX_WIDTH, spectrogram
from clap_server.audio.decode import decode
from tests.support.sound_events import START, sound_event, tone

if TYPE_CHECKING:
    from clap_server.listening.events import SoundEvent
    from tests.support.running_server import Client


async def _heard(client: Client, *, clip: bool = True, **changes: Any) -> SoundEvent:
    sink = client.server.context.supervisor._sink
    event = sound_event(**changes)
    await sink.event_started(event)
    ended = replace(event, ended_at=START + timedelta(seconds=2))
    await sink.event_ended(ended, tone(duration_s=2) if clip else None)
    return event


async def test_events_are_listed_oldest_first(client: Client) -> None:
    first, second = await _heard(client), await _heard(client, microphone_id="hall", label_id="alarm")
    listed = await client.json("GET", "/api/events")
    assert [event["id"] for event in listed["events"]] == [first.id, second.id]
    assert listed["last_sequence"] == 4
    assert listed["events"][0]["has_clip"]

    async def ids(query: str) -> list[str]:
        return [event["id"] for event in (await client.json("GET", f"/api/events?{query}"))["events"]]

    assert await ids("microphone=hall") == [second.id]
    assert await ids("label=glass_breaking") == [first.id]
    assert await ids("after=2") == [second.id]
    assert await ids("before=4") == [first.id]
    assert await ids("limit=1") == [second.id]


@pytest.mark.parametrize(
    "query",
    [
        "limit=0",
        "limit=1001",
        "limit=x",
        "after=-1",
        "after=1.5",
        "limit=",
        "colour=red",
        "after=" + "9" * 30,
        "limit=²",
        "limit=1&limit=2",
    ],
)
async def test_bad_query_is_explained(client: Client, query: str) -> None:
    problem = await client.json("GET", f"/api/events?{query}", status=422)
    assert problem["errors"][0]["field"] == query.partition("=")[0]


async def test_one_event_is_shown(client: Client) -> None:
    event = await _heard(client)
    shown = await client.json("GET", f"/api/events/{event.id}")
    assert (shown["label_name"], shown["microphone_name"], shown["peak_score"]) == (
        "Glass breaking",
        "kitchen",
        0.9,
    )
    assert datetime.fromisoformat(shown["started_at"]) == event.started_at
    assert (await client.json("GET", "/api/events/none", status=404))["type"] == "/problems/no_such_event"


async def test_clip_can_be_fetched_as_flac_and_mp3(client: Client) -> None:
    event = await _heard(client)
    for name, content_type in (("clip.flac", "audio/flac"), ("clip.mp3", "audio/mpeg")):
        async with client.request("GET", f"/api/events/{event.id}/{name}") as response:
            assert response.status == 200
            assert response.content_type == content_type
            samples = decode(io.BytesIO(await response.read()), 16000)
        assert len(samples) / 16000 == pytest.approx(2, abs=0.1)


async def test_part_of_a_clip_can_be_fetched(client: Client) -> None:
    event = await _heard(client)
    path = f"/api/events/{event.id}/clip.mp3"
    whole = await (await client.request("GET", path)).read()
    headers = {"Authorization": "Bearer a-token-for-tests", "Range": "bytes=100-199"}
    async with client.request("GET", path, headers=headers) as response:
        assert response.status == 206
        assert await response.read() == whole[100:200]
    headers["Range"] = "bytes=99999999-"
    async with client.request("GET", path, headers=headers) as response:
        assert response.status == 416


@pytest.mark.parametrize("name", ["clip.flac", "clip.mp3", "spectrogram.png"])
async def test_head_tells_what_get_would(client: Client, name: str) -> None:
    event = await _heard(client)
    path = f"/api/events/{event.id}/{name}"
    async with client.request("GET", path) as response:
        length = len(await response.read())
    async with client.request("HEAD", path) as response:
        assert response.status == 200
        assert int(response.headers["Content-Length"]) == length
        assert await response.read() == b""
    async with client.request("HEAD", path.replace(event.id, "none")) as response:
        assert response.status == 404
    async with client.request("HEAD", path, headers={}) as response:
        assert response.status == 401


@pytest.mark.parametrize(
    "path", ["/health", "/api/info", "/api/events", "/metrics", "/", "/api/openapi.json"]
)
async def test_whatever_can_be_got_has_a_head(client: Client, path: str) -> None:
    async with client.request("HEAD", path) as response:
        assert response.status == 200
        assert await response.read() == b""


@pytest.mark.parametrize(
    "wanted",
    [
        "bytes=5-2",
        "bytes=x-y",
        "bytes=-",
        "bytes=1-2,4-5",
        "lines=1-2",
        "bytes",
        "bytes=²-",
        pytest.param(f"bytes={'9' * 4400}-2", id="first without end"),
        pytest.param(f"bytes=1-{'9' * 4400}", id="last without end"),
        pytest.param(f"bytes=-{'9' * 4400}", id="length without end"),
    ],
)
async def test_range_that_is_none_is_ignored(client: Client, wanted: str) -> None:
    event = await _heard(client)
    path = f"/api/events/{event.id}/clip.flac"
    whole = await (await client.request("GET", path)).read()
    headers = {"Authorization": "Bearer a-token-for-tests", "Range": wanted}
    async with client.request("GET", path, headers=headers) as response:
        assert response.status == 200
        assert await response.read() == whole
    async with client.request("GET", "/app.css", headers=headers) as response:
        assert response.status == 200


async def test_last_bytes_of_a_file_are_none_if_none_are_asked_for(client: Client) -> None:
    event = await _heard(client)
    for path in (f"/api/events/{event.id}/clip.flac", "/app.css"):
        headers = {"Authorization": "Bearer a-token-for-tests", "Range": "bytes=-0"}
        async with client.request("GET", path, headers=headers) as response:
            assert response.status == 416
            assert response.headers["Content-Range"].startswith("bytes */")


@pytest.mark.parametrize("name", ["If-Modified-Since", "If-Unmodified-Since", "If-Range"])
@pytest.mark.parametrize(
    "date",
    [
        "Thu, 01 Jan 99999999999 00:00:00 GMT",
        "Thu, 99999999999999999999 Jan 2020 00:00:00 GMT",
        "Thu, 01 Jan 10000 00:00:00 GMT",
        "Thu, 31 Feb 2020 25:00:00 GMT",
        "9" * 5000,
        "never",
        "",
    ],
)
async def test_date_that_is_none_is_ignored(client: Client, name: str, date: str) -> None:
    async with client.request("GET", "/app.css", headers={name: date}) as response:
        assert response.status == 200


async def test_file_answers_conditions_as_documented(client: Client) -> None:
    event = await _heard(client)
    path = f"/api/events/{event.id}/clip.flac"
    async with client.request("GET", path) as response:
        tag = response.headers["ETag"]
    documented = openapi.document(ROUTES)["paths"]["/api/events/{id}/clip.flac"]["get"]["responses"]
    for header, status in {
        ("Range", "bytes=0-9"): 206,
        ("If-None-Match", tag): 304,
        ("If-Match", '"another"'): 412,
        ("Range", "bytes=99999999-"): 416,
    }.items():
        headers = dict([("Authorization", "Bearer a-token-for-tests"), header])
        async with client.request("GET", path, headers=headers) as response:
            assert response.status == status
        assert str(status) in documented


async def test_spectrogram_is_a_picture_of_the_clip(client: Client) -> None:
    event = await _heard(client)
    async with client.request("GET", f"/api/events/{event.id}/spectrogram.png") as response:
        assert response.content_type == "image/png"
        picture = Image.open(io.BytesIO(await response.read()))
    assert picture.height == HEIGHT
    brightness = np.asarray(picture.convert("L")).sum(axis=1)
    # 440 Hz on a logarithmic axis from 50 Hz to 16 kHz, counted from the bottom.
    brightest = HEIGHT - 1 - int(brightness.argmax())
    assert brightest == pytest.approx(HEIGHT * 0.377, abs=4)


def test_spectrogram_of_any_length_has_a_bounded_width() -> None:
    for duration_s in (0.001, 1.0, 200.0):
        picture = Image.open(io.BytesIO(spectrogram(tone(duration_s).samples, 16000)))
        assert 1 <= picture.width <= MAX_WIDTH


@pytest.mark.parametrize("name", ["clip.flac", "clip.mp3", "spectrogram.png"])
async def test_missing_clip_says_why(client: Client, name: str) -> None:
    without = await _heard(client, clip=False)
    problem = await client.json("GET", f"/api/events/{without.id}/{name}", status=404)
    assert problem["type"] == "/problems/no_clip"
    lasting = sound_event()
    await client.server.context.supervisor._sink.event_started(lasting)
    problem = await client.json("GET", f"/api/events/{lasting.id}/{name}", status=404)
    assert problem["type"] == "/problems/no_clip_yet"


@pytest.mark.parametrize(
    ("name", "damage"),
    [
        ("clip.flac", b""),
        ("clip.mp3", b""),
        ("clip.mp3", b"no sound at all"),
        ("clip.mp3", b"fLaC"),
        ("spectrogram.png", b""),
        ("spectrogram.png", b"no sound at all"),
    ],
)
async def test_a_damaged_clip_is_told_in_words(
    client: Client, name: str, damage: bytes, capfd: pytest.CaptureFixture[str]
) -> None:
    event = await _heard(client)
    client.server.context.store.clips.path(event).write_bytes(damage)
    problem = await client.json("GET", f"/api/events/{event.id}/{name}", status=404)
    assert problem["type"] == "/problems/damaged_clip"
    assert "damaged" in problem["detail"]
    async with client.request("HEAD", f"/api/events/{event.id}/{name}") as response:
        assert response.status == 404
    assert "Traceback" not in capfd.readouterr().err


async def test_clip_that_cannot_be_stored_never_loses_the_event(
    client: Client, caplog: pytest.LogCaptureFixture
) -> None:
    folder = client.server.context.store.folder.clips
    folder.rmdir()
    folder.write_text("in the way")
    event = await _heard(client)
    shown = await client.json("GET", f"/api/events/{event.id}")
    assert (shown["has_clip"], shown["ended_at"] is not None) == (False, True)
    assert "Recordings of events cannot be stored" in caplog.text
    async with client.request("GET", "/metrics") as response:
        assert 'clap_clips_total{result="failed"} 1.0' in await response.text()


@pytest.mark.parametrize("error", [MemoryError(), OSError(5, "broken"), InvalidDataError(1, "encoder")])
async def test_event_ends_whatever_happens_to_its_clip(
    client: Client, error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_arguments: object) -> bytes:
        raise error

    monkeypatch.setattr("clap_server.store.clips.encode", broken)
    event = await _heard(client)
    shown = await client.json("GET", f"/api/events/{event.id}")
    assert (shown["has_clip"], shown["ended_at"] is not None) == (False, True)


async def test_event_ends_when_the_server_stops_while_its_clip_is_written(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    writing, go_on = asyncio.Event(), threading.Event()
    loop = asyncio.get_running_loop()

    def slow(*_arguments: object) -> bytes:
        loop.call_soon_threadsafe(writing.set)
        go_on.wait()
        return b""

    monkeypatch.setattr("clap_server.store.clips.encode", slow)
    task = asyncio.create_task(_heard(client))
    await writing.wait()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    go_on.set()
    [event] = (await client.json("GET", "/api/events"))["events"]
    assert event["ended_at"] is not None
    assert client.server.context.store.events.active == ()


async def test_event_keeps_the_name_under_which_it_began(client: Client) -> None:
    body = {"name": "Hall", "source": {"type": "push"}, "labels": [{"label": "alarm"}]}
    await client.json("PUT", "/api/microphones/hall", status=201, json=body)
    sink = client.server.context.supervisor._sink
    event = sound_event(microphone_id="hall")
    await sink.event_started(event)
    await client.json("DELETE", "/api/microphones/hall", status=204)
    await sink.event_ended(replace(event, ended_at=START), None)
    changes = await client.server.context.store.events.changes_after(0)
    assert [change.stored.microphone_name for change in changes] == ["Hall", "Hall"]


async def test_feedback_is_kept(client: Client) -> None:
    event = await _heard(client)
    path = f"/api/events/{event.id}/feedback"
    assert (await client.json("POST", path, json={"verdict": "false_alarm"}))["feedback"] == "false_alarm"
    assert (await client.json("GET", f"/api/events/{event.id}"))["feedback"] == "false_alarm"
    await client.json("POST", path, status=422, json={"verdict": "maybe"})
    await client.json("POST", path, status=400, data=b"{")
    await client.json("POST", "/api/events/none/feedback", status=404, json={"verdict": "correct"})
