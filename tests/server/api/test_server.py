from __future__ import annotations

import asyncio
import socket
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest
from aiohttp import WSMsgType

from clap_server.api.server import STOP_MICROPHONES_S, PortInUseError, Server, _step
from clap_server.clap.engines.trials import Trial
from clap_server.errors import ConfigurationError, ModelError, StoreError
from clap_server.listening.supervisor import STOP_TIMEOUT_S
from clap_server.settings import ServerSettings
from clap_server.store.clips import SAVE_TIMEOUT_S
from tests.server.listening.spectral import RATE, scene, tone
from tests.support.running_server import TOKEN, Client, ReadyHolder, pcm, running
from tests.support.waiting import until

if TYPE_CHECKING:
    from pathlib import Path


def _settings(data: Path, **changes: object) -> ServerSettings:
    return ServerSettings(**{"host": "127.0.0.1", "port": 0, "data": data, "token": TOKEN, **changes})  # type: ignore[arg-type] # a test's shorthand


class SlowHolder(ReadyHolder):
    """Has its model when the test says so."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.may_go_on = asyncio.Event()

    async def start(self) -> None:
        await self.may_go_on.wait()
        await super().start()


class BrokenHolder(ReadyHolder):
    """Never has a model."""

    async def start(self) -> None:
        raise ModelError("The built-in model is damaged; install again")


async def test_an_engine_that_there_is_not_keeps_the_server_from_starting(tmp_path: Path) -> None:
    server = Server(_settings(tmp_path, engine="warp"), holder=ReadyHolder(tmp_path))
    with pytest.raises(ConfigurationError, match="'warp' is not known: use auto, torch, openvino"):
        await server.start()


async def test_info_tells_the_engine_and_why_not_another(tmp_path: Path) -> None:
    async with running(tmp_path) as client:
        model: Any = client.server.context.holder.model
        told = (await client.json("GET", "/api/info"))["model"]
        assert (told["engine"], told["engines"]) == ("torch", [])
        model.engine = "openvino"
        model.engine_trials = (
            Trial("openvino", 20.0, 0.9999, 0.01),
            Trial("openvino-int8", problem="it crashed (SIGILL)"),
        )
        told = (await client.json("GET", "/api/info"))["model"]
    assert told["engine"] == "openvino"
    assert told["engines"] == [
        {"name": "openvino", "ms_a_window": 20.0, "cosine": 0.9999, "problem": None},
        {"name": "openvino-int8", "ms_a_window": None, "cosine": None, "problem": "it crashed (SIGILL)"},
    ]


async def test_health_is_answered_while_the_model_still_loads(tmp_path: Path) -> None:
    holder = SlowHolder(tmp_path)
    server = Server(_settings(tmp_path), holder=holder)
    starting = asyncio.create_task(server.start())
    await until(lambda: server._runner is not None and server.port)
    async with aiohttp.ClientSession() as session:
        client = Client(server, session)
        assert await client.json("GET", "/health") == {"status": "starting", "problems": []}
        problem = await client.json("GET", "/api/info", status=503)
        assert problem["type"] == "/problems/starting"
        async with client.request("GET", "/") as response:
            assert response.status == 200
        await client.json("GET", "/nothing", status=404)
        holder.may_go_on.set()
        await starting
        assert await client.json("GET", "/health") == {"status": "ok", "problems": []}
        await client.json("GET", "/api/info")
    await server.stop()


async def test_start_can_be_broken_off(tmp_path: Path) -> None:
    server = Server(_settings(tmp_path), holder=SlowHolder(tmp_path))
    starting = asyncio.create_task(server.start())
    await until(lambda: server._runner is not None and server.port)
    starting.cancel()
    await asyncio.gather(starting, return_exceptions=True)
    async with running(tmp_path) as client:
        await client.json("GET", "/api/info")


async def test_failed_start_leaves_nothing_open(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="install again"):
        await Server(_settings(tmp_path), holder=BrokenHolder(tmp_path)).start()
    async with running(tmp_path) as client:
        await client.json("GET", "/api/info")


async def test_damaged_database_is_told_and_frees_the_port(tmp_path: Path) -> None:
    (tmp_path / "clap.db").write_bytes(b"\xa5" * 8192)
    server = Server(_settings(tmp_path), holder=ReadyHolder(tmp_path))
    with pytest.raises(StoreError, match="damaged"):
        await server.start()
    with socket.create_server(("127.0.0.1", server.port)):
        pass


async def test_port_in_use_is_told_before_the_data_folder_is_touched(tmp_path: Path) -> None:
    async with running(tmp_path) as client:
        settings = _settings(tmp_path, port=client.server.port)
        with pytest.raises(PortInUseError, match="--port"):
            await Server(settings, holder=ReadyHolder(tmp_path)).start()
        await client.json("GET", "/api/info")


async def test_host_that_is_not_here_is_told(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="--host"):
        await Server(_settings(tmp_path, host="192.0.2.1"), holder=ReadyHolder(tmp_path)).start()


async def test_other_folder_than_one_that_can_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="--data"):
        await Server(_settings(tmp_path / "file" / "data", token=None), holder=ReadyHolder(tmp_path)).start()


async def test_parts_are_not_there_before_the_start(tmp_path: Path) -> None:
    server = Server(_settings(tmp_path))
    with pytest.raises(ConfigurationError):
        _ = server.context
    await server.stop()


async def test_stop_ends_the_events_that_go_on_and_tells_everyone(tmp_path: Path) -> None:
    body = {"name": "Hall", "source": {"type": "push"}, "labels": [{"label": "alarm", "threshold": 0.3}]}
    async with running(tmp_path) as client:
        await client.json("PUT", "/api/microphones/hall", status=201, json=body)
        async with client.subscribed() as following, client.socket("/api/microphones/hall/audio") as pushing:
            await pushing.send_json({"format": "s16le", "sample_rate": RATE})

            async def play() -> None:
                data = pcm(scene(120, (3.0, tone(117))))
                for start in range(0, len(data), RATE // 5):
                    await pushing.send_bytes(data[start : start + RATE // 5])
                    await asyncio.sleep(0.01)

            playing = asyncio.create_task(play())
            while (message := await following.receive_json(timeout=60))["type"] != "event":
                pass
            assert message["change"] == "started"
            playing.cancel()
            await asyncio.gather(playing, return_exceptions=True)
            stopping = asyncio.create_task(client.server.stop())
            while (message := await following.receive_json(timeout=60))["type"] != "event":
                pass
            assert message["change"] == "ended"
            end = await following.receive(timeout=30)
            while end.type is WSMsgType.TEXT:
                end = await following.receive(timeout=30)
            assert end.data == 1001
            assert (await pushing.receive(timeout=30)).data == 1001
            await stopping
    async with running(tmp_path) as client:
        [event] = (await client.json("GET", "/api/events"))["events"]
        assert event["ended_at"] is not None
        assert client.server.context.store.events.last_sequence == 2


def test_each_limit_of_stopping_leaves_room_for_what_is_within() -> None:
    assert SAVE_TIMEOUT_S < STOP_TIMEOUT_S < STOP_MICROPHONES_S


async def test_step_of_stopping_that_fails_or_hangs_is_told(caplog: pytest.LogCaptureFixture) -> None:
    async def fail() -> None:
        raise RuntimeError("a mistake")

    await _step("first", fail())
    await _step("second", asyncio.Event().wait(), 0.01)  # type: ignore[arg-type] # any awaitable hangs as well
    assert "the first failed" in caplog.text
    assert "the second did not end" in caplog.text
