from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest
import pytest_asyncio

from tests.server.listening.spectral import RATE, crash, scene
from tests.support.browser import real_browser
from tests.support.running_server import Client, ReadyHolder, pcm, running

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from playwright.async_api import Browser


# Starting a browser takes seconds, so the tests of a module share one, and its event loop.
@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def browser() -> AsyncIterator[Browser]:
    """A real browser."""
    async with real_browser() as browser:
        yield browser


@pytest.fixture
def holder(tmp_path: Path) -> ReadyHolder:
    return ReadyHolder(tmp_path)


@pytest_asyncio.fixture(loop_scope="module")
async def client(tmp_path: Path, holder: ReadyHolder) -> AsyncIterator[Client]:
    """A server with a microphone at which nothing is sent yet."""
    async with running(tmp_path / "data", holder=holder) as client:
        body = {
            "name": "Living room",
            "source": {"type": "push"},
            "labels": [{"label": "glass breaking"}, {"label": "alarm"}],
        }
        await client.json("PUT", "/api/microphones/living", status=201, json=body)
        yield client


@pytest_asyncio.fixture(loop_scope="module")
async def sound(client: Client) -> AsyncIterator[None]:
    """Sound at the microphone: a quiet room in which glass breaks now and then."""

    async def send() -> None:
        async with client.socket("/api/microphones/living/audio") as socket:
            await socket.send_json({"format": "s16le", "sample_rate": RATE})
            data = pcm(scene(20, (3.0, crash()), (13.0, crash())))
            step = RATE // 5
            while True:
                for start in range(0, len(data), step):
                    await socket.send_bytes(data[start : start + step])
                    await asyncio.sleep(0.02)

    sending = asyncio.create_task(send())
    yield
    sending.cancel()
    await asyncio.gather(sending, return_exceptions=True)
