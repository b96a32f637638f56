"""POST /api/microphones/{id}/self-test."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest

from clap_server.audio.push import PushFormat
from clap_server.listening.examples import TESTABLE
from tests.server.listening.spectral import RATE, crash, room, scene
from tests.support.waiting import until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from clap_server.audio.push import Pusher
    from tests.support.running_server import Client

PATH = "/api/microphones/hall/self-test"


async def add(client: Client, *labels: str) -> None:
    body = {"name": "Hall", "source": {"type": "push"}, "labels": [{"label": label} for label in labels]}
    await client.json("PUT", "/api/microphones/hall", status=201, json=body)


def listener(client: Client) -> Any:
    return client.server.context.supervisor.listener("hall")


@asynccontextmanager
async def pushing(client: Client) -> AsyncIterator[Pusher]:
    """A client that sends the noise of a room, as fast as it is taken, while a test waits for it."""
    source = client.server.context.supervisor.push_source("hall")
    pusher = source.connect(PushFormat("f32le", RATE))

    async def push() -> None:
        noise = room(20).tobytes()
        for start in range(0, len(noise), RATE):
            pusher.feed(noise[start : start + RATE])
            await until(lambda: not source._queue)
        while True:
            if listener(client)._hearing._shadow is not None:
                pusher.feed(noise[:RATE])
            await asyncio.sleep(0.01)

    task = asyncio.create_task(push())
    await until(lambda: client.server.context.supervisor.snapshot("hall").windows_gated >= 20)
    try:
        yield pusher
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def test_digital_test_finds_the_first_sound_that_can_be_made_and_is_no_event(client: Client) -> None:
    await add(client, "a kettle", "alarm")
    async with pushing(client):
        result = await client.json("POST", PATH, json={})
    assert result["self_test"] is True
    assert result["outcome"] == "found"
    assert result["label_id"] == "alarm"
    assert result["name"] == "Alarm"
    assert result["mode"] == "digital"
    assert result["score"] >= result["threshold"] == 0.6
    assert result["delay_s"] >= 0.8
    assert result["live_score"] < 0.3
    assert result["level_dbfs"] == pytest.approx(result["noise_floor_dbfs"] + 30, abs=1)
    assert (await client.json("GET", "/api/events"))["events"] == []
    explained = await client.json("GET", "/api/microphones/hall/explain")
    assert [each["words"] for each in explained["moments"] if each["kind"] == "self_test"] == [
        "self-test of Alarm begins",
        "self-test of Alarm ends",
    ]


async def test_sound_played_aloud_is_found_and_is_no_event(client: Client) -> None:
    await add(client, "glass breaking")
    async with pushing(client) as pusher, client.subscribed() as socket:
        wanted = {"label": "Glasbruch", "mode": "aloud", "timeout_s": 30}
        asking = asyncio.create_task(client.json("POST", PATH, json=wanted))
        await until(lambda: listener(client)._judging.withholding.tested)
        pusher.feed(scene(3, (1, crash())).tobytes())
        result = await asking
        pusher.feed(room(4).tobytes())
        pusher.feed(room(4).tobytes())
        await until(lambda: not listener(client)._judging.heard)
        assert result["outcome"] == "found"
        assert result["mode"] == "aloud"
        assert result["live_score"] is None
        # A real one is told: it is the first event that anybody hears of.
        pusher.feed(scene(3, (1, crash())).tobytes())
        while (message := await socket.receive_json(timeout=30))["type"] != "event":
            pass
        events = (await client.json("GET", "/api/events"))["events"]
    assert [event["id"] for event in events] == [message["event"]["id"]]


async def test_microphone_that_does_not_listen_says_why(client: Client) -> None:
    await add(client, "alarm")
    await until(lambda: client.server.context.supervisor.snapshot("hall").status.code == "waiting_for_client")
    problem = await client.json("POST", PATH, json={}, status=409)
    assert problem["type"] == "/problems/not_listening"
    assert problem["detail"] == "The microphone is not listening: waiting for the client to send sound"


@pytest.mark.parametrize(
    ("body", "code", "words"),
    [
        ({"label": "a kettle"}, "not_testable", "test alarm, or use mode 'aloud'"),
        ({"label": "siren"}, "not_watched", "it watches a_kettle, alarm"),
        ({"label": "!!!"}, "invalid_label", "no words"),
        ({"timeout_s": 0.5}, "invalid_request", "at least 1"),
        ({"timeout_s": 121}, "invalid_request", "at most 120"),
        ({"mode": "loud"}, "invalid_request", "'digital' or 'aloud'"),
        ({"sound": "x"}, "invalid_request", "not known"),
    ],
)
async def test_what_cannot_be_tested_is_refused_with_what_can(
    client: Client, body: dict[str, Any], code: str, words: str
) -> None:
    await add(client, "a kettle", "alarm")
    async with pushing(client):
        problem = await client.json("POST", PATH, json=body, status=422)
    assert problem["type"] == f"/problems/{code}"
    assert words in problem["detail"]


async def test_microphone_without_a_sound_that_can_be_made_says_which_can(client: Client) -> None:
    await add(client, "a kettle")
    async with pushing(client):
        problem = await client.json("POST", PATH, json={}, status=422)
    assert all(label_id in problem["detail"] for label_id in TESTABLE)


async def test_one_microphone_has_one_test_and_the_server_four(client: Client) -> None:
    await add(client, "alarm")
    async with pushing(client):
        asking = asyncio.create_task(client.json("POST", PATH, json={"mode": "aloud", "timeout_s": 2}))
        await until(lambda: listener(client)._judging.withholding.tested)
        problem = await client.json("POST", PATH, json={}, status=409)
        assert problem["type"] == "/problems/self_test_running"
        slots = client.server.context.self_tests
        for _ in range(3):
            await slots.acquire()
        assert (await client.json("POST", PATH, json={}, status=503))["type"] == "/problems/busy"
        assert (await asking)["outcome"] == "not_found"


async def test_test_ends_when_its_caller_goes(client: Client) -> None:
    """Else a real sound would be told to nobody."""
    await add(client, "alarm")
    async with pushing(client):
        timeout = aiohttp.ClientTimeout(total=0.5)
        with pytest.raises(TimeoutError):
            await client.json("POST", PATH, json={"mode": "aloud", "timeout_s": 120}, timeout=timeout)
        await until(lambda: not listener(client)._tested)
        assert not listener(client)._judging.withholding.tested
