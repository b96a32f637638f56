"""One Home Assistant, one server, one camera for all end-to-end tests of a run."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING

import aiohttp
import pytest_asyncio

from clap_server.audio.encode import encode
from scripts.harness.configuration import REPOSITORY
from scripts.harness.home_assistant import HomeAssistantProcess, environment_is_ready
from scripts.harness.ports import free_port
from scripts.harness.process import Process, together
from scripts.harness.recorder import StateRecorder
from scripts.harness.scene import SAMPLE_RATE, Scene, make_scene
from scripts.harness.server import ServerProcess
from tests.support.requirements import require

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    import pytest

    from scripts.harness.api import HomeAssistantApi

# Whoever runs the tests may ignore it, as nohup does, and the demo would heed that and outlive its terminal.
signal.signal(signal.SIGHUP, signal.SIG_DFL)

PATIENCE_S = 240
"""What is waited for comes within a minute, when a scene has come round; a busy machine is slower."""

CAMERA_USER = "viewer"
CAMERA_PASSWORD = "hunter2-e2e"
AUTOMATION = {
    "id": "end_to_end",
    "alias": "Glass is breaking",
    "triggers": [
        {"trigger": "state", "entity_id": "binary_sensor.hallway_glass_breaking", "from": "off", "to": "on"}
    ],
    "actions": [
        {
            "action": "persistent_notification.create",
            "data": {"notification_id": "glass", "title": "Glass is breaking", "message": "in the hallway"},
        }
    ],
}


@dataclass(frozen=True)
class Camera:
    """A camera that plays a scene from its start to every viewer."""

    url: str
    scene: Scene


@dataclass(frozen=True)
class House:
    """Everything that runs."""

    home_assistant: HomeAssistantProcess
    server: ServerProcess
    recorder: StateRecorder

    @property
    def api(self) -> HomeAssistantApi:
        return self.home_assistant.api


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as client:
        yield client


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def camera(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Camera]:
    folder = tmp_path_factory.mktemp("camera")
    scene = make_scene(5, break_s=9, duration_s=60)
    file = folder / "scene.flac"
    file.write_bytes(encode(scene.samples, SAMPLE_RATE, "flac"))
    port = await free_port()
    script = REPOSITORY / "tests" / "support" / "rtsp_camera.py"
    command = ["/usr/bin/python3", str(script), "--file", str(file), "--port", str(port)]
    command += ["--codec", "aac", "--loop"]
    command += ["--user", CAMERA_USER, "--password", CAMERA_PASSWORD]
    async with Process("camera", command, folder / "camera.log") as process:

        async def ready() -> bool:
            with contextlib.suppress(OSError):
                _, writer = await asyncio.open_connection("127.0.0.1", port)
                writer.close()
                return True
            return False

        await process.until(ready)
        yield Camera(f"rtsp://{CAMERA_USER}:{CAMERA_PASSWORD}@127.0.0.1:{port}/stream", scene)


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def house(
    session: aiohttp.ClientSession, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[House]:
    require(environment_is_ready(), "Home Assistant's environment is missing: scripts/setup home-assistant")
    folder: Path = tmp_path_factory.mktemp("house")
    server = ServerProcess(
        session, folder / "server", host="127.0.0.1", port=await free_port(), options=("--model", "builtin")
    )
    home_assistant = HomeAssistantProcess(
        session, folder / "home-assistant", host="127.0.0.1", port=await free_port()
    )
    home_assistant.prepare([AUTOMATION])
    try:
        await together(server.start_and_wait(), home_assistant.start_and_wait())
        async with StateRecorder(home_assistant.api) as recorder:
            yield House(home_assistant, server, recorder)
    finally:
        await home_assistant.stop()
        status = await server.stop()
        # pytest shows it only when a test fails.
        for process in (home_assistant, server):
            sys.stderr.write(f"--- {process.name}\n{process.log_tail(200)}\n")
    assert status == 0, "the server did not end gracefully"
