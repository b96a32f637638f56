"""A whole server on real sockets, in the test's own process."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import aiohttp
import numpy as np

from clap_server.api.server import Server
from clap_server.clap.holder import ModelHolder
from clap_server.settings import ServerSettings
from tests.server.listening.spectral import SpectralModel

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from numpy.typing import NDArray

    from clap_server.clap.model import ClapModel

TOKEN = "a-token-for-tests"


class ReadyHolder(ModelHolder):
    """The real holder with a model that is there at once."""

    def __init__(self, folder: Path, model: ClapModel | None = None) -> None:
        super().__init__("spectral", device="cpu", cache_dir=folder)
        self._ready = model or SpectralModel()

    async def start(self) -> None:
        self._use(self._ready)

    def change(self, model: ClapModel, problem: str | None = None) -> None:
        """Have another model."""
        self._use(model, problem)

    def say(self, choice: str) -> None:
        """Have chosen the model by itself, for this reason."""
        self._choose_words(choice)


class Client:
    """Talks to a server as a program does: with the token."""

    def __init__(self, server: Server, session: aiohttp.ClientSession) -> None:
        self.server = server
        self.session = session
        self.url = f"http://127.0.0.1:{server.port}"

    def request(self, method: str, path: str, **options: Any) -> Any:
        """Ask; the headers may be replaced."""
        return self.session.request(
            method, self.url + path, **{"headers": {"Authorization": f"Bearer {TOKEN}"}, **options}
        )

    async def json(self, method: str, path: str, status: int = 200, **options: Any) -> Any:
        """Ask and check the answer's status."""
        async with self.request(method, path, **options) as response:
            body = await response.json(content_type=None) if response.status != 204 else None
            assert response.status == status, body
            if status >= 400:
                assert response.content_type == "application/problem+json"
                assert body["status"] == status
                assert body["type"].startswith("/problems/")
                assert body["detail"]
            return body

    @asynccontextmanager
    async def socket(self, path: str = "/api/ws", **options: Any) -> AsyncIterator[Any]:
        """A WebSocket."""
        options = {"headers": {"Authorization": f"Bearer {TOKEN}"}, **options}
        async with self.session.ws_connect(self.url + path, **options) as socket:
            yield socket

    @asynccontextmanager
    async def subscribed(self, after: int | None = None, topics: tuple[str, ...] = ()) -> AsyncIterator[Any]:
        """A WebSocket after its greeting."""
        async with self.socket() as socket:
            assert (await socket.receive_json(timeout=30))["type"] == "info"
            await socket.send_json({"type": "subscribe", "after": after, "topics": list(topics)})
            yield socket


@asynccontextmanager
async def running(
    data: Path,
    *,
    holder: ModelHolder | None = None,
    ingress_peers: frozenset[str] | None = None,
    **settings: Any,
) -> AsyncIterator[Client]:
    """Start a server, and a client for it."""
    given = {"host": "127.0.0.1", "port": 0, "data": data, "token": TOKEN, **settings}
    more = {"ingress_peers": ingress_peers} if ingress_peers is not None else {}
    server = Server(ServerSettings(**given), holder=holder or ReadyHolder(data), **more)
    await server.start()
    try:
        async with aiohttp.ClientSession() as session:
            yield Client(server, session)
    finally:
        await server.stop()


def pcm(samples: NDArray[np.float32]) -> bytes:
    """As s16le."""
    return (np.clip(samples, -1, 1) * 32767).astype("<i2").tobytes()
