from __future__ import annotations

import asyncio
import json
import shutil
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from aiohttp import WSMsgType

from clap_server.api import bus as bus_module
from clap_server.audio.source import SourceState, SourceStatus
from clap_server.detection.patterns import AlarmPattern
from clap_server.detection.rivals import Close
from clap_server.errors import StoreError
from tests.server.listening.spectral import SpectralModel
from tests.support.running_server import Client, ReadyHolder, running
from tests.support.sound_events import START, microphone, sound_event, tone
from tests.support.waiting import until

if TYPE_CHECKING:
    from pathlib import Path

    from clap_server.api.sink import EventSink


def _sink(client: Client) -> EventSink:
    sink: Any = client.server.context.supervisor._sink
    return sink  # type: ignore[no-any-return] # the supervisor knows its protocol only


async def _collect(socket: Any, kind: str) -> list[dict[str, Any]]:
    """Messages up to and with the first of a kind."""
    messages: list[dict[str, Any]] = []
    while not messages or messages[-1]["type"] != kind:
        messages.append(await socket.receive_json(timeout=30))
    return messages


async def _event(client: Client) -> None:
    await _sink(client).event_started(sound_event())


async def test_order_of_messages_is_as_promised(client: Client) -> None:
    await client.server.context.store.microphones.put(microphone())
    await _event(client)
    async with client.socket() as socket:
        info = await socket.receive_json(timeout=30)
        assert (info["type"], info["last_sequence"]) == ("info", 1)
        await socket.send_json({"type": "subscribe", "after": 0})
        microphones, event, replayed = await _collect(socket, "replayed")
        assert microphones["type"] == "microphones"
        assert microphones["microphones"][0]["name"] == "Kitchen"
        assert (event["type"], event["sequence"], event["change"]) == ("event", 1, "started")
        assert event["event"]["microphone_name"] == "Kitchen"
        assert replayed["last_sequence"] == 1


async def test_microphones_come_in_parts_that_any_client_takes(client: Client) -> None:
    """Home Assistant's limit is 4 MB a message; 200 microphones with 200 labels each have more than 10 MB."""
    labels = [{"label": f"{'玻璃破碎的声音' * 20} {number}"} for number in range(200)]
    wanted = {f"m{number:02}" for number in range(20)}
    for microphone_id in wanted:
        stored = microphone(microphone_id, labels=labels)
        await client.server.context.store.microphones.put(stored)
        await client.server.context.supervisor.apply(stored)
    async with client.subscribed() as socket:
        sizes, seen, more = [], list[str](), True
        while more:
            text = await socket.receive_str(timeout=30)
            message = json.loads(text)
            assert message["type"] == "microphones"
            sizes.append(len(text.encode()))
            seen += [each["id"] for each in message["microphones"]]
            more = message["more"]
        assert (await socket.receive_json(timeout=30))["type"] == "replayed"
    assert len(sizes) > 2
    assert max(sizes) < 1_100_000
    assert len(seen) == len(wanted)
    assert set(seen) == wanted


async def test_server_without_microphones_says_so(client: Client) -> None:
    async with client.subscribed() as socket:
        message = await socket.receive_json(timeout=30)
    assert message == {"type": "microphones", "microphones": [], "more": False}


async def test_of_the_microphones_only_what_changes_is_told(client: Client) -> None:
    body = {"name": "Hall", "source": {"type": "push"}, "labels": [{"label": "alarm"}], "enabled": False}
    await client.json("PUT", "/api/microphones/other", status=201, json=body)
    async with client.subscribed() as socket:
        await _collect(socket, "replayed")
        await client.json("PUT", "/api/microphones/hall", status=201, json=body)
        added = await _collect(socket, "microphone_changed")
        await client.json("PATCH", "/api/microphones/hall", json={"name": "Corridor"})
        [changed] = await _collect(socket, "microphone_changed")
        await client.json("DELETE", "/api/microphones/hall", status=204)
        [removed] = await _collect(socket, "microphone_removed")
    assert [added[-1]["microphone"]["id"], added[-1]["microphone"]["status"]["state"]] == ["hall", "disabled"]
    assert changed["microphone"]["name"] == "Corridor"
    assert removed == {"type": "microphone_removed", "microphone_id": "hall"}


async def test_overload_is_told_when_it_begins_and_when_it_is_over(client: Client) -> None:
    body = {"name": "Hall", "source": {"type": "push"}, "labels": [{"label": "alarm"}]}
    await client.json("PUT", "/api/microphones/hall", status=201, json=body)
    supervisor = client.server.context.supervisor
    entry = supervisor._entries["hall"]
    # Its own first status must not come after the one that is told here.
    await until(lambda: supervisor.snapshot("hall").status.code == "waiting_for_client")
    assert (await client.json("GET", "/api/info"))["overload"] is None
    async with client.subscribed() as socket:
        await _collect(socket, "replayed")
        supervisor._tell(entry, SourceStatus(SourceState.LISTENING, "too_slow", "too slow", "a remark"))
        told = await _collect(socket, "info")
        assert told[-1]["overload"] == (
            "too slow for 1 microphone: use fewer, a longer hop or a faster computer"
        )
        [status] = [message["status"] for message in told if message["type"] == "microphone"][-1:]
        assert (status["state"], status["code"], status["notice"]) == ("listening", "too_slow", "a remark")
        await client.json("DELETE", "/api/microphones/hall", status=204)
        assert (await _collect(socket, "info"))[-1]["overload"] is None


async def test_event_is_told_live_at_its_start_and_its_end(client: Client) -> None:
    async with client.subscribed() as socket:
        await _collect(socket, "replayed")
        event = sound_event()
        await _sink(client).event_started(event)
        started = await socket.receive_json(timeout=30)
        await _sink(client).event_ended(replace(event, ended_at=START), tone())
        ended = await socket.receive_json(timeout=30)
    assert [started["change"], ended["change"]] == ["started", "ended"]
    assert [started["sequence"], ended["sequence"]] == [1, 2]
    assert not started["event"]["has_clip"]
    assert ended["event"]["has_clip"]


async def test_an_event_that_goes_on_is_told_with_its_pattern_and_so_is_its_end(client: Client) -> None:
    event = sound_event(label_id="smoke_alarm")
    confirmed = replace(event, pattern=AlarmPattern.T3, peak_score=1.0)
    async with client.subscribed() as socket:
        await _collect(socket, "replayed")
        await _sink(client).event_started(event)
        started = await socket.receive_json(timeout=30)
        await _sink(client).event_confirmed(confirmed)
        told = await socket.receive_json(timeout=30)
        shown = await client.json("GET", f"/api/events/{event.id}")
        await _sink(client).event_ended(replace(confirmed, ended_at=START), None)
        ended = await socket.receive_json(timeout=30)
    assert started["event"]["pattern"] is None
    assert told["type"] == "event_confirmed"
    assert told["event"] == shown
    assert (told["event"]["pattern"], told["event"]["sequence"]) == ("T3", 1)
    assert (ended["change"], ended["event"]["pattern"], ended["sequence"]) == ("ended", "T3", 2)


async def test_one_sound_at_two_microphones_is_told_as_one_group_live_and_in_the_list(
    client: Client,
) -> None:
    hall = sound_event(microphone_id="hall", noise_floor_dbfs=-60.0, peak_level_dbfs=-40.0)
    kitchen = sound_event(
        microphone_id="kitchen",
        started_at=START + timedelta(seconds=0.2),
        noise_floor_dbfs=-60.0,
        peak_level_dbfs=-38.0,
    )
    async with client.subscribed() as socket:
        await _collect(socket, "replayed")
        await _sink(client).event_started(hall)
        await _sink(client).event_ended(replace(hall, ended_at=START), None)
        await _sink(client).event_started(kitchen)
        told = [await socket.receive_json(timeout=30) for _ in range(4)]
        await _sink(client).event_ended(replace(kitchen, ended_at=START, peak_level_dbfs=-30.0), None)
        told += [await socket.receive_json(timeout=30) for _ in range(2)]
    kinds = [(message["type"], message.get("change"), message["event"]["id"]) for message in told]
    assert kinds == [
        ("event", "started", hall.id),
        ("event", "ended", hall.id),
        ("event", "started", kitchen.id),
        ("event_confirmed", None, hall.id),
        ("event", "ended", kitchen.id),
        ("event_confirmed", None, hall.id),
    ]
    assert [message["event"]["group"]["nearest"] for message in told] == ["hall"] * 2 + ["kitchen"] * 4
    both = {
        "id": hall.id,
        "nearest": "kitchen",
        "margin_db": 2.0,
        "unsure": True,
        "microphones": [
            {"id": "kitchen", "level_above_l90_db": 22.0},
            {"id": "hall", "level_above_l90_db": 20.0},
        ],
    }
    assert told[2]["event"]["group"] == told[3]["event"]["group"] == both
    listed = (await client.json("GET", "/api/events"))["events"]
    assert [event["group"]["margin_db"] for event in listed] == [10.0, 10.0]
    assert listed[0] == told[5]["event"]


async def test_what_else_a_sound_might_be_is_told_live_and_by_what_it_was_replaced(client: Client) -> None:
    event = sound_event(close=(Close("metal_impact", 0.75),))
    async with client.subscribed() as socket:
        await _collect(socket, "replayed")
        await _sink(client).event_started(event)
        started = await socket.receive_json(timeout=30)
        more = replace(event, close=(Close("door_slam", 0.79), Close("metal_impact", 0.75)))
        await _sink(client).event_confirmed(more)
        told = await socket.receive_json(timeout=30)
        await _sink(client).event_ended(replace(more, ended_at=START, replaced_by="door_slam"), None)
        ended = await socket.receive_json(timeout=30)
    assert started["event"]["close"] == [{"label": "metal_impact", "score": 0.75}]
    assert started["event"]["replaced_by"] is None
    assert [close["label"] for close in told["event"]["close"]] == ["door_slam", "metal_impact"]
    assert ended["event"]["close"] == told["event"]["close"]
    assert ended["event"]["replaced_by"] == "door_slam"


async def test_client_without_a_past_gets_no_replay(client: Client) -> None:
    await _event(client)
    async with client.subscribed(after=None) as socket:
        _, replayed = await _collect(socket, "replayed")
        assert replayed["last_sequence"] == 1


async def test_event_survives_reconnect(client: Client) -> None:
    async with client.subscribed() as socket:
        last = (await _collect(socket, "replayed"))[-1]["last_sequence"]
    for _ in range(3):
        await _event(client)
    async with client.subscribed(after=last) as socket:
        _, *events, replayed = await _collect(socket, "replayed")
    assert [event["sequence"] for event in events] == [1, 2, 3]
    assert replayed["last_sequence"] == 3


async def test_event_survives_restart(tmp_path: Path) -> None:
    async with running(tmp_path) as client:
        await _event(client)
    async with running(tmp_path) as client, client.subscribed(after=0) as socket:
        _, *events, _ = await _collect(socket, "replayed")
        assert [(event["sequence"], event["change"]) for event in events] == [(1, "started"), (2, "ended")]


async def test_client_hears_what_got_its_numbers_again_after_a_backup_was_put_back(tmp_path: Path) -> None:
    async with running(tmp_path / "data") as client:
        await _event(client)
    shutil.copytree(tmp_path / "data", tmp_path / "backup")
    async with running(tmp_path / "data") as client, client.subscribed(after=0) as socket:
        await _collect(socket, "replayed")
        await _event(client)
        epoch, seen = client.server.context.store.events.epoch, await socket.receive_json(timeout=30)
    shutil.rmtree(tmp_path / "data")
    (tmp_path / "backup").rename(tmp_path / "data")
    subscribe = {"type": "subscribe", "epoch": epoch}
    async with running(tmp_path / "data") as client:
        await _event(client)
        changes = await client.server.context.store.events.changes_after(0)
        now = {change.sequence: change.stored.event.id for change in changes}
        assert list(now) == [1, 2, 3]
        assert now[3] != seen["event"]["id"]
        for event_id, expected in ((seen["event"]["id"], [1, 2, 3]), (now[3], []), (None, [])):
            async with client.socket() as socket:
                await socket.receive_json(timeout=30)
                await socket.send_json({**subscribe, "after": seen["sequence"], "event_id": event_id})
                _, *replayed, _ = await _collect(socket, "replayed")
            assert [message["sequence"] for message in replayed] == expected


async def test_number_that_nothing_is_known_of_is_believed(client: Client) -> None:
    for _ in range(2):
        await _event(client)
    await client.server.context.store.events._database.rows("DELETE FROM changes WHERE sequence = 1")
    async with client.socket() as socket:
        await socket.receive_json(timeout=30)
        await socket.send_json({"type": "subscribe", "after": 1, "event_id": "long forgotten"})
        _, only, _ = await _collect(socket, "replayed")
    assert only["sequence"] == 2


async def test_nothing_is_lost_or_doubled_between_replay_and_live(client: Client) -> None:
    for _ in range(30):
        await _event(client)

    async def go_on() -> None:
        for _ in range(60):
            await _event(client)
            await asyncio.sleep(0)

    going_on = asyncio.create_task(go_on())
    seen: list[int] = []
    while len(seen) < 90:
        async with client.subscribed(after=seen[-1] if seen else 0) as socket:
            for _ in range(25):
                message = await socket.receive_json(timeout=30)
                if message["type"] == "event":
                    seen.append(message["sequence"])
                if len(seen) == 90:
                    break
    await going_on
    assert seen == list(range(1, 91))


async def test_concurrent_events_are_told_in_the_order_of_their_numbers(client: Client) -> None:
    async with client.subscribed() as socket:
        await _collect(socket, "replayed")
        await asyncio.gather(*(_event(client) for _ in range(20)))
        sequences = [(await socket.receive_json(timeout=30))["sequence"] for _ in range(20)]
    assert sequences == list(range(1, 21))


async def test_client_of_another_data_folder_hears_what_is_new(client: Client) -> None:
    async with client.subscribed(after=1_000_000) as socket:
        _, replayed = await _collect(socket, "replayed")
        assert replayed["last_sequence"] == 0
        await _event(client)
        assert (await socket.receive_json(timeout=30))["sequence"] == 1


async def test_topics_are_sent_to_those_who_take_them(client: Client) -> None:
    now = datetime.now(UTC)
    async with client.subscribed(topics=("scores", "levels")) as curious, client.subscribed() as other:
        await _collect(curious, "replayed")
        await _collect(other, "replayed")
        sink = _sink(client)
        sink.scores("kitchen", now, {"alarm": 1.0000001}, -20.5)
        sink.level("kitchen", now, -60.0, -70.0, gated=True)
        sink.status("kitchen", SourceStatus(SourceState.STALLED, "stalled", "no audio for 10 s"))
        scores, level, status = await _collect_any(curious, 3)
        [only] = await _collect_any(other, 1)
    assert scores["scores"] == {"alarm": 1.0}
    assert (level["gated"], level["noise_floor_dbfs"]) == (True, -70.0)
    assert status == only
    assert status["status"]["reason"] == "no audio for 10 s"


async def _collect_any(socket: Any, count: int) -> list[dict[str, Any]]:
    messages = [await socket.receive_json(timeout=30) for _ in range(count)]
    return sorted(messages, key=lambda message: ["scores", "level", "microphone"].index(message["type"]))


async def test_change_of_model_is_told(tmp_path: Path) -> None:
    holder = ReadyHolder(tmp_path)
    async with running(tmp_path, holder=holder) as client, client.subscribed() as socket:
        await _collect(socket, "replayed")
        holder.change(SpectralModel(name="better"))
        assert (await socket.receive_json(timeout=30))["model"]["name"] == "better"


@pytest.mark.parametrize(
    ("message", "code"),
    [
        ("{", 1008),
        ("[]", 1008),
        ('{"after": -1}', 1008),
        ('{"after": "x"}', 1008),
        ('{"topics": ["gossip"]}', 1008),
        ('{"colour": 1}', 1008),
        (b"\x00", 1003),
    ],
)
async def test_bad_subscription_is_refused_with_a_reason(client: Client, message: Any, code: int) -> None:
    async with client.subscribed() as other:
        await _collect(other, "replayed")
        async with client.socket() as socket:
            await socket.receive_json(timeout=30)
            await (socket.send_str(message) if isinstance(message, str) else socket.send_bytes(message))
            end = await socket.receive(timeout=30)
            assert end.type is WSMsgType.CLOSE
            assert end.data == code
            assert end.extra
        await _event(client)
        assert (await other.receive_json(timeout=30))["type"] == "event", "others go on"


async def test_client_that_never_subscribes_is_let_go(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("clap_server.api.websocket.SUBSCRIBE_TIMEOUT_S", 0.05)
    async with client.socket() as socket:
        await socket.receive_json(timeout=30)
        assert (await socket.receive(timeout=30)).data == 1008


async def test_second_subscription_is_refused(client: Client) -> None:
    async with client.subscribed() as socket:
        await _collect(socket, "replayed")
        await socket.send_json({"type": "subscribe"})
        assert (await socket.receive(timeout=30)).data == 1008


async def test_huge_message_is_refused(client: Client) -> None:
    async with client.socket() as socket:
        await socket.receive_json(timeout=30)
        await socket.send_str("x" * 200_000)
        end = await socket.receive(timeout=30)
        assert end.type in {WSMsgType.CLOSE, WSMsgType.CLOSED}
    await client.json("GET", "/api/info")


async def test_subscription_ends_with_its_client(client: Client) -> None:
    async with client.subscribed() as socket:
        await _collect(socket, "replayed")
        assert client.server.context.bus.clients == 1
    await until(lambda: client.server.context.bus.clients == 0)


async def test_slow_client_loses_scores_first_and_no_event() -> None:
    bus = bus_module.EventBus()
    subscription = bus.subscribe({"scores"})
    for number in range(bus_module.BULK_LIMIT + 50):
        subscription.put(f"score {number}", "scores", None)
        subscription.put(f"event {number}", None, number)
    assert subscription.dropped == 50
    received = [await subscription.next() for _ in range(2 * bus_module.BULK_LIMIT + 50)]
    texts = [item[1] for item in received if item is not None]
    assert [text for text in texts if text.startswith("event")] == [
        f"event {number}" for number in range(bus_module.BULK_LIMIT + 50)
    ]
    assert texts[-1] == f"score {bus_module.BULK_LIMIT + 49}", "the newest are kept"


async def test_client_that_would_lose_an_event_is_sent_away_to_resume(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bus_module, "URGENT_LIMIT", 10)
    async with client.subscribed() as socket:
        last = (await _collect(socket, "replayed"))[-1]["last_sequence"]
        bus = client.server.context.bus
        [subscription] = bus._subscriptions
        # All at once, so that the sender has no chance to send between them.
        for _ in range(11):
            subscription.put("{}", None, 1)
        end = await socket.receive(timeout=30)
        assert (end.type, end.data) == (WSMsgType.CLOSE, 1013)
        assert "subscribe after" in end.extra
    await _event(client)
    async with client.subscribed(after=last) as socket:
        assert [message["type"] for message in await _collect(socket, "replayed")] == [
            "microphones",
            "event",
            "replayed",
        ]


async def test_stopping_server_says_goodbye_after_the_last_event(tmp_path: Path) -> None:
    async with running(tmp_path) as client, client.subscribed() as socket:
        await _collect(socket, "replayed")
        await _event(client)
        stopping = asyncio.create_task(client.server.stop())
        assert (await socket.receive_json(timeout=30))["type"] == "event"
        end = await socket.receive(timeout=30)
        assert (end.type, end.data) == (WSMsgType.CLOSE, 1001)
        await stopping


async def test_subscribing_to_a_bus_that_is_closed_ends_at_once() -> None:
    bus = bus_module.EventBus()
    bus.close()
    assert await bus.subscribe(()).next() is None


async def test_past_that_cannot_be_read_is_told(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    async def broken(_after: int) -> None:
        raise StoreError("The database is damaged")

    monkeypatch.setattr(client.server.context.store.events, "changes_after", broken)
    async with client.subscribed(after=0) as socket:
        await socket.receive_json(timeout=30)
        end = await socket.receive(timeout=30)
        assert (end.data, end.extra) == (1011, "The database is damaged")


async def test_mistake_inside_ends_the_socket_and_is_logged(
    client: Client, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def broken(_after: int) -> None:
        raise RuntimeError("a mistake")

    monkeypatch.setattr(client.server.context.store.events, "changes_after", broken)
    async with client.subscribed(after=0) as socket:
        await socket.receive_json(timeout=30)
        end = await socket.receive(timeout=30)
        assert end.data == 1011
        assert "a mistake" not in end.extra
    assert "a mistake" in caplog.text


async def test_unreadable_client_is_cut_off(client: Client) -> None:
    """A client that reads nothing is noticed by its missing pongs, and frees its place."""
    reader, writer = await asyncio.open_connection("127.0.0.1", client.server.port)
    writer.write(
        b"GET /api/ws HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n"
        b"Authorization: Bearer a-token-for-tests\r\n\r\n"
    )
    await reader.readuntil(b"\r\n\r\n")
    text = b"{}"
    mask = b"\x01\x02\x03\x04"
    writer.write(
        bytes([0x81, 0x80 | len(text)]) + mask + bytes(byte ^ mask[i % 4] for i, byte in enumerate(text))
    )
    await until(lambda: client.server.context.bus.clients == 1)
    await until(lambda: client.server.context.bus.clients == 0)
    writer.close()
