"""What takes long is done beside the event loop, which has microphones to listen to."""

from __future__ import annotations

import asyncio
import gc
import threading
from typing import TYPE_CHECKING, Any

import pytest

from clap_server.api import events, garbage, microphones, openapi, websocket
from clap_server.api import server as server_module
from clap_server.detection.everyday import enough
from clap_server.detection.everyday.per_bank import PerBank
from clap_server.store import events as stored_events
from tests.server.listening.spectral import SpectralModel
from tests.support.running_server import ReadyHolder, running
from tests.support.sound_events import sound_event
from tests.support.waiting import until

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.running_server import Client


class Where:
    """Remembers in which threads functions run."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._monkeypatch = monkeypatch
        self.threads: list[int] = []

    def watch(self, module: Any, name: str) -> None:
        function = getattr(module, name)

        def noting(*arguments: Any, **named: Any) -> Any:
            self.threads.append(threading.get_ident())
            return function(*arguments, **named)

        self._monkeypatch.setattr(module, name, noting)

    @property
    def beside_the_loop(self) -> bool:
        assert self.threads
        return threading.get_ident() not in self.threads


@pytest.fixture
def where(monkeypatch: pytest.MonkeyPatch) -> Where:
    return Where(monkeypatch)


async def _record(client: Client, count: int) -> None:
    for _ in range(count):
        await client.server.context.store.events.record("started", sound_event(), "Kitchen")


async def test_the_openapi_document_is_made_once_and_beside_the_loop(client: Client, where: Where) -> None:
    openapi._text.cache_clear()
    where.watch(openapi, "document")
    first = await client.json("GET", "/api/openapi.json")
    assert await client.json("GET", "/api/openapi.json") == first
    assert where.beside_the_loop
    assert len(where.threads) == 1


async def test_lists_of_events_are_read_and_written_beside_the_loop(client: Client, where: Where) -> None:
    await _record(client, 3)
    where.watch(stored_events, "_from_row")
    where.watch(events, "event_info")
    assert len((await client.json("GET", "/api/events"))["events"]) == 3
    assert len(where.threads) == 6
    assert where.beside_the_loop


async def test_changes_are_read_and_written_beside_the_loop_for_a_client_that_was_away(
    client: Client, where: Where
) -> None:
    await _record(client, 3)
    where.watch(stored_events, "_change_from_row")
    where.watch(websocket, "event_info")
    async with client.subscribed(after=0) as socket:
        while (await socket.receive_json(timeout=30))["type"] != "replayed":
            pass
    assert len(where.threads) == 6
    assert where.beside_the_loop


async def test_others_work_between_two_of_many_messages() -> None:
    class Taking:
        """Like a client with room for everything."""

        def __init__(self) -> None:
            self.sent_after: list[tuple[str, int]] = []

        async def send_str(self, text: str) -> None:
            self.sent_after.append((text, turns))

    turns = 0
    taking: Any = Taking()

    async def work() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    working = asyncio.create_task(work())
    await asyncio.sleep(0)
    for number in range(5):
        await websocket._send(taking, str(number))
    working.cancel()
    assert len({turns_before for _, turns_before in taking.sent_after}) == 5


async def test_what_labels_mean_is_found_beside_the_loop(client: Client, where: Where) -> None:
    where.watch(microphones, "watched_labels")
    body = {"settings": {"name": "A", "source": {"type": "push"}, "labels": [{"label": "alarm"}]}}
    await client.json("POST", "/api/microphones/check", json=body)
    assert where.beside_the_loop


async def test_the_bank_is_looked_through_beside_the_loop_when_a_microphone_is_added(
    client: Client, where: Where, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(enough, "_GUESSED", PerBank(10))
    where.watch(enough, "_says_too_little")
    body = {
        "name": "A",
        "source": {"type": "push"},
        "labels": [{"label": "alarm"}, {"label": "my own words"}],
    }
    await client.json("PUT", "/api/microphones/a", status=201, json=body)
    assert len(where.threads) == 2
    assert where.beside_the_loop


async def test_what_lives_as_long_as_the_server_is_no_garbage_to_look_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server_module, "GARBAGE_AFTER_S", 0.0)
    anew: list[int] = []
    put_aside_anew = garbage.put_aside_anew
    monkeypatch.setattr(garbage, "put_aside_anew", lambda: anew.append(1) or put_aside_anew())
    holder = ReadyHolder(tmp_path)
    assert gc.get_freeze_count() == 0
    async with running(tmp_path, holder=holder):
        assert gc.get_freeze_count() > 10_000
        holder.change(SpectralModel())
        await until(lambda: bool(anew))
        assert gc.get_freeze_count() > 10_000
    assert gc.get_freeze_count() == 0
