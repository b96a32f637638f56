"""Numbers that were announced never come again, and nothing sticks, whatever happens to the disk."""

from __future__ import annotations

import os
import resource
import shutil
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import clap_server
from clap_server.store import events as events_module
from clap_server.store.folder import DataFolder
from clap_server.store.store import Store
from tests.server.store.conftest import POLICY
from tests.support.running_server import running
from tests.support.sound_events import START, microphone, sound_event, tone
from tests.support.waiting import until

if TYPE_CHECKING:
    from collections.abc import Iterator

SCRIPT = Path(__file__).with_name("crashing.py")
WRITTEN, ANNOUNCED = 5, 14


@contextmanager
def no_file_grows() -> Iterator[None]:
    """Have the kernel refuse what the process writes to files."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def _crash(data: Path, reserved_ahead: int) -> list[tuple[str, int, str]]:
    """Kill a server whose disk filled up; returns epoch, number and event id of what it had announced."""
    environment = {**os.environ, "PYTHONPATH": str(Path(clap_server.__file__).parents[1])}
    command = [sys.executable, str(SCRIPT), str(data), str(reserved_ahead)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:
        assert process.stdout is not None
        announced = []
        for line in process.stdout:
            if line.startswith("waiting"):
                assert line.split()[1] == str(ANNOUNCED - WRITTEN)
                break
            epoch, number, event_id = line.split()
            announced.append((epoch, int(number), event_id))
        process.kill()
    assert len(announced) == ANNOUNCED
    return announced


async def test_client_resumes_after_numbers_that_a_full_disk_and_a_crash_lost(tmp_path: Path) -> None:
    announced = _crash(tmp_path, 1000)
    epoch, last, _ = announced[-1]
    assert last == ANNOUNCED
    async with running(tmp_path) as client, client.socket() as socket:
        info = await socket.receive_json(timeout=30)
        assert info["epoch"] == epoch
        await socket.send_json({"type": "subscribe", "after": last, "epoch": epoch})
        replayed: list[dict[str, object]] = []
        while not replayed or replayed[-1]["type"] != "replayed":
            replayed.append(await socket.receive_json(timeout=30))
        assert replayed[-1]["active"] == [], "a client must not go on showing those whose end is lost"
        told = [message for message in replayed if message["type"] == "event"]
        assert {message["change"] for message in told} == {"ended"}
        ended = [message["event"]["id"] for message in told]  # type: ignore[index] # JSON
        assert ended == [event_id for _, _, event_id in announced[:WRITTEN]]
        later = sound_event()
        await client.server.context.supervisor._sink.event_started(later)
        live = await socket.receive_json(timeout=30)
        assert live["sequence"] > max(message["sequence"] for message in told) > last  # type: ignore[type-var] # JSON
    async with running(tmp_path) as client:
        assert (await client.json("GET", "/api/events"))["epoch"] == epoch


async def test_no_number_comes_again_when_even_the_reserved_ones_are_used_up(tmp_path: Path) -> None:
    announced = _crash(tmp_path, 8)
    assert announced[0][0] != announced[-1][0], "a new epoch began"
    seen = {(epoch, number) for epoch, number, _ in announced}
    assert len(seen) == ANNOUNCED
    store = Store(DataFolder(tmp_path), POLICY)
    await store.open()
    try:
        for _ in range(ANNOUNCED):
            change = await store.events.record("started", sound_event(), "Hall")
            assert (store.events.epoch, change.sequence) not in seen
    finally:
        await store.close()


async def test_client_of_another_epoch_gets_everything(tmp_path: Path) -> None:
    async with running(tmp_path) as client:
        for _ in range(3):
            await client.server.context.supervisor._sink.event_started(sound_event())
        for subscribe, expected in (
            ({"after": 2, "epoch": "another"}, [1, 2, 3]),
            ({"after": 2}, [3]),
            ({"after": 99}, [1, 2, 3]),
            ({"after": 2, "epoch": client.server.context.store.events.epoch}, [3]),
        ):
            async with client.socket() as socket:
                await socket.receive_json(timeout=30)
                await socket.send_json({"type": "subscribe", **subscribe})
                numbers = []
                while (message := await socket.receive_json(timeout=30))["type"] != "replayed":
                    numbers += [message["sequence"]] if message["type"] == "event" else []
            assert numbers == expected
            assert len(message["active"]) == 3


async def test_epoch_that_begins_while_the_server_runs_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(events_module, "RESERVED_AHEAD", 4)
    async with running(tmp_path) as client, client.subscribed() as socket:
        store = client.server.context.store
        before = store.events.epoch
        with no_file_grows():
            for _ in range(6):
                await store.events.record("started", sound_event(), "Hall")
        assert store.events.epoch != before
        seen = []
        while store.events.epoch not in seen:
            message = await socket.receive_json(timeout=30)
            seen += [message["epoch"]] if message["type"] == "info" else []
        await store.events.flush()
        again = await store.events.record("started", sound_event(), "Hall")
        assert again.sequence == 7, "numbers go on for those who are connected"
        epoch = store.events.epoch
    async with running(tmp_path) as client:
        assert client.server.context.store.events.epoch == epoch


async def test_server_starts_and_warns_while_nothing_can_be_written(store: Store) -> None:
    await store.events.record("ended", sound_event(ended_at=START), "Hall")
    await store.events._database.close()  # no numbers are given back: as after a crash
    other = Store(store.folder, POLICY)
    with no_file_grows():
        await other.open()
        assert other.trouble is not None
        change = await other.events.record("started", sound_event(), "Hall")
        assert change.sequence > 1
        assert other.events.epoch != store.events.epoch
    await other.close()


@pytest.mark.parametrize("gone", ["database", "journal", "folder"])
async def test_deleted_database_is_noticed_and_made_anew(
    store: Store, gone: str, caplog: pytest.LogCaptureFixture
) -> None:
    token, _ = store.folder.token()
    await store.microphones.put(microphone("hall"))
    before = await store.events.record("started", sound_event(), "Hall")
    epoch = store.events.epoch
    match gone:
        case "database":
            store.folder.database.unlink()
        case "journal":
            store.folder.database.with_name("clap.db-wal").unlink()
        case _:
            shutil.rmtree(store.folder.root)
    await store.watch.check(write=False)
    assert "made anew and nothing is lost" in caplog.text
    assert store.trouble is None
    after = await store.events.record("started", sound_event(), "Hall")
    await store.close()
    again = Store(DataFolder(store.folder.root), POLICY)
    await again.open()
    try:
        assert [each.id for each in again.microphones.all()] == ["hall"]
        events = [stored.event.id for stored in await again.events.list()]
        assert events == [before.stored.event.id, after.stored.event.id]
        assert again.events.epoch == epoch
        assert again.server_id == store.server_id
        assert again.folder.token() == (token, False)
    finally:
        await again.close()


async def test_deleted_database_is_noticed_by_the_next_change(store: Store) -> None:
    await store.events.record("started", sound_event(), "Hall")
    store.folder.database.unlink()
    await store.events.record("started", sound_event(), "Hall")
    assert store.folder.database.exists()
    assert len(await store.events.list()) == 2


async def test_database_of_another_is_left_alone(store: Store) -> None:
    await store.events.record("started", sound_event(), "Hall")
    path = store.folder.database
    path.unlink()
    path.write_text("another")
    await store.events.record("started", sound_event(), "Hall")
    assert store.trouble is not None
    assert store.trouble.code == "database_gone"
    assert "restart the server" in store.trouble.problem
    assert path.read_text() == "another"
    path.unlink()
    await store.watch.check(write=True)
    assert store.trouble is None
    assert store.events.unwritten == 0
    assert len(await store.events.list()) == 2


async def test_trouble_is_told_while_it_lasts(tmp_path: Path) -> None:
    async with running(tmp_path) as client, client.subscribed() as socket:
        store = client.server.context.store
        sink = client.server.context.supervisor._sink

        async def next_info() -> dict[str, str | None]:
            while (message := await socket.receive_json(timeout=30))["type"] != "info":
                pass
            storage: dict[str, str | None] = message["storage"]
            return storage

        with no_file_grows():
            event = sound_event()
            await sink.event_started(event)
            told = await next_info()
            assert told["code"] == "database_failed"
            assert told["problem"] is not None
            assert "Events still go out live" in told["problem"]
            await sink.event_ended(event, tone())
            assert (await client.json("GET", "/api/info"))["storage"] == told
            assert (await client.json("GET", "/health"))["problems"] == ["database_failed"]
            async with client.request("GET", "/metrics") as response:
                assert "clap_storage_problem 1.0" in await response.text()
            await store.watch.check(write=True)
            assert store.trouble is not None
        await store.watch.check(write=True)
        while (told := await next_info())["code"] is not None:
            pass
        assert told == {"problem": None, "code": None}
        assert (await client.json("GET", "/health"))["problems"] == []
        assert store.events.unwritten == 0


async def test_watch_works_by_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("clap_server.store.watch.CHECK_S", 0.01)
    store = Store(DataFolder(tmp_path / "data"), POLICY)
    await store.open()
    try:
        with no_file_grows():
            await store.events.record("started", sound_event(), "Hall")
        await until(lambda: store.trouble is None and not store.events.unwritten)
    finally:
        await store.close()
