"""The real clap-server as a process."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import aiohttp

from scripts.harness.process import Process

if TYPE_CHECKING:
    from pathlib import Path


class ServerProcess(Process):
    """``clap-server serve`` with its own data and media folders.

    Args:
        session: for its API.
        folder: holds ``data``, ``media`` and the log.
        host: address to listen on.
        port: to listen on.
        options: more command-line options.
        reach: address at which it is reached, if that is not ``host``.
    """

    def __init__(
        self,
        session: aiohttp.ClientSession,
        folder: Path,
        *,
        host: str,
        port: int,
        options: tuple[str, ...] = (),
        reach: str = "",
    ) -> None:
        self.data = folder / "data"
        self.media = folder / "media"
        self.host = host
        self.port = port
        self.url = f"http://{reach or host}:{port}"
        self._session = session
        command = [sys.executable, "-m", "clap_server", "serve", "--host", host, "--port", str(port)]
        command += ["--data", str(self.data), "--media", str(self.media), *options]
        super().__init__("clap-server", command, folder / "clap-server.log")

    @property
    def token(self) -> str:
        """The token that the server made at its first start."""
        return (self.data / "token").read_text().strip()

    async def start_and_wait(self) -> None:
        """Start it and wait until it is ready."""
        self.media.mkdir(parents=True, exist_ok=True)
        await self.start()
        await self.until(self._healthy)

    async def _healthy(self) -> bool:
        try:
            async with self._session.get(f"{self.url}/health") as response:
                # It answers while the model is still being loaded, but not what one asks.
                return response.ok and (await response.json())["status"] == "ok"
        except aiohttp.ClientError:
            return False

    async def request(self, method: str, path: str, **arguments: Any) -> Any:
        """Call the API; returns the JSON answer.

        Raises:
            aiohttp.ClientResponseError: the server refused.
        """
        headers = {"Authorization": f"Bearer {self.token}"}
        async with self._session.request(
            method, f"{self.url}{path}", headers=headers, **arguments
        ) as response:
            if not response.ok:
                raise aiohttp.ClientResponseError(
                    response.request_info, (), status=response.status, message=await response.text()
                )
            return await response.json()
