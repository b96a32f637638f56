"""A real Home Assistant as a process."""

from __future__ import annotations

import os
import secrets
from typing import TYPE_CHECKING, Any

from scripts.harness.api import HomeAssistantApi
from scripts.harness.configuration import REPOSITORY, write_configuration
from scripts.harness.process import Process

if TYPE_CHECKING:
    from pathlib import Path

    import aiohttp

PYTHON = REPOSITORY / ".venv" / "home-assistant" / "bin" / "python"

RESTART_EXIT_STATUS = 100
"""With which Home Assistant ends when it is to be started again (its ``RESTART_EXIT_CODE``)."""


class HomeAssistantProcess(Process):
    """Home Assistant with this repository's integration in its ``custom_components``.

    Args:
        session: for its API.
        folder: its configuration folder.
        host: address to listen on.
        port: to listen on.
        reach: address at which it is reached, if that is not ``host``.
    """

    def __init__(
        self, session: aiohttp.ClientSession, folder: Path, *, host: str, port: int, reach: str = ""
    ) -> None:
        self.folder = folder
        self.host = host
        self.port = port
        self.api = HomeAssistantApi(session, f"http://{reach or host}:{port}")
        self.user_name = "demo"
        command = [
            str(PYTHON),
            "-m",
            "homeassistant",
            "--config",
            str(folder),
            "--skip-pip",
            "--log-no-color",
        ]
        super().__init__("Home Assistant", command, folder / "output.log")

    @property
    def url(self) -> str:
        """Its address."""
        return self.api.url

    @property
    def password(self) -> str:
        """The demo user's password, made at the first start."""
        file = self.folder / "demo-password"
        if not file.exists():
            file.touch(mode=0o600)
            file.write_text(secrets.token_urlsafe(9))
        return file.read_text()

    def prepare(self, automations: list[dict[str, Any]]) -> None:
        """Write the configuration folder; what a former run stored there is kept."""
        write_configuration(self.folder, self.host, self.port, automations)

    async def start_and_wait(self) -> None:
        """Start it, wait until it is running, make the first user if there is none, sign in."""
        await self.start()
        await self.until(self.api.answers)
        await self.api.sign_in(self.user_name, self.password)
        await self.until(self.api.is_running)


def environment_is_ready() -> bool:
    """Whether ``scripts/setup home-assistant`` has been run."""
    return os.access(PYTHON, os.X_OK)
