"""A real Home Assistant as a process, set up over its own HTTP API as a browser would."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import secrets
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import aiohttp

from scripts.demo.process import Process

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator

REPOSITORY = Path(__file__).resolve().parents[2]
PYTHON = REPOSITORY / ".venv" / "home-assistant" / "bin" / "python"

CONFIGURATION = """\
homeassistant:
  name: Home
  latitude: 52.52
  longitude: 13.405
  elevation: 34
  unit_system: metric
  time_zone: Europe/Berlin
  country: DE
  currency: EUR
  internal_url: http://{host}:{port}
frontend:
config:
api:
history:
logbook:
media_source:
automation: !include automations.yaml
logger:
  default: warning
  logs:
    custom_components.clap_sound: info
{more}
"""


class FlowError(Exception):
    """A configuration flow did not go as expected."""


class HomeAssistantProcess(Process):
    """Home Assistant with this repository's integration in its ``custom_components``.

    Args:
        session: for its API.
        folder: its configuration folder.
        host: address to listen on.
        port: to listen on.
    """

    def __init__(self, session: aiohttp.ClientSession, folder: Path, *, host: str, port: int) -> None:
        self.folder = folder
        self.host = host
        self.port = port
        self.url = f"http://{host}:{port}"
        self.user_name = "demo"
        self._session = session
        self._access_token = ""
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
    def password(self) -> str:
        """The demo user's password, made at the first start."""
        file = self.folder / "demo-password"
        if not file.exists():
            file.touch(mode=0o600)
            file.write_text(secrets.token_urlsafe(9))
        return file.read_text()

    def prepare(self, automations: list[dict[str, Any]], more: str = "") -> None:
        """Write the configuration folder; what a former run stored there is kept.

        Args:
            automations: as in ``automations.yaml``.
            more: further lines of ``configuration.yaml``.
        """
        storage = self.folder / ".storage"
        storage.mkdir(parents=True, exist_ok=True)
        (self.folder / "configuration.yaml").write_text(
            CONFIGURATION.format(host=self.host, port=self.port, more=more)
        )
        # JSON is YAML.
        (self.folder / "automations.yaml").write_text(json.dumps(automations, indent=2))
        link = self.folder / "custom_components"
        if not link.exists():
            link.symlink_to(REPOSITORY / "custom_components", target_is_directory=True)
        # An `http:` section in YAML would be taken over as a trial that reverts after five minutes
        # (home-assistant/core, components/http/config.py), so the stored form is written directly.
        stable = {
            "server_host": [self.host],
            "server_port": self.port,
            "cors_allowed_origins": ["https://cast.home-assistant.io"],
            "login_attempts_threshold": -1,
            "ip_ban_enabled": True,
            "ssl_profile": "modern",
            "use_x_frame_options": True,
            "created_at": "2026-01-01T00:00:00+00:00",
            "error": None,
            "error_message": None,
        }
        http = {"stable": stable, "pending": None, "yaml_migration_done": True}
        self._store("http", 2, 2, http, replace=True)
        self._store("onboarding", 4, 1, {"done": ["core_config", "analytics", "integration"]}, replace=False)

    def _store(
        self, key: str, version: int, minor_version: int, data: dict[str, Any], *, replace: bool
    ) -> None:
        file = self.folder / ".storage" / key
        if replace or not file.exists():
            document = {"version": version, "minor_version": minor_version, "key": key, "data": data}
            file.write_text(json.dumps(document))

    async def start_and_wait(self, timeout_s: float = 120) -> None:
        """Start it, wait until it is running, make the first user if there is none, sign in."""
        await self.start()
        await self.until(self._answers, timeout_s)
        await self._sign_in()
        await self.until(self._is_running, timeout_s)

    async def _answers(self) -> bool:
        try:
            async with self._session.get(f"{self.url}/api/onboarding") as response:
                return response.status in {200, 404}
        except aiohttp.ClientError:
            return False

    async def _is_running(self) -> bool:
        return bool((await self.get("/api/config"))["state"] == "RUNNING")

    async def _sign_in(self) -> None:
        client = {"client_id": f"{self.url}/"}
        user = {
            **client,
            "name": "Demo",
            "username": self.user_name,
            "password": self.password,
            "language": "en",
        }
        async with self._session.post(f"{self.url}/api/onboarding/users", json=user) as response:
            if response.ok:
                code = (await response.json())["auth_code"]
            else:  # the user was made by a former run
                code = await self._log_in(client)
        form = {**client, "grant_type": "authorization_code", "code": code}
        async with self._session.post(f"{self.url}/auth/token", data=form) as response:
            response.raise_for_status()
            self._access_token = (await response.json())["access_token"]

    async def _log_in(self, client: dict[str, str]) -> str:
        begin = {**client, "handler": ["homeassistant", None], "redirect_uri": f"{self.url}/?auth_callback=1"}
        async with self._session.post(f"{self.url}/auth/login_flow", json=begin) as response:
            response.raise_for_status()
            flow_id = (await response.json())["flow_id"]
        credentials = {**client, "username": self.user_name, "password": self.password}
        async with self._session.post(f"{self.url}/auth/login_flow/{flow_id}", json=credentials) as response:
            result = await response.json()
        if result.get("type") != "create_entry":
            raise FlowError(f"Home Assistant did not accept the demo user's password: {result}")
        return str(result["result"])

    async def get(self, path: str) -> Any:
        """GET a path of the REST API; returns the JSON answer."""
        return await self.request("GET", path)

    async def post(self, path: str, data: Any = None) -> Any:
        """POST to a path of the REST API; returns the JSON answer."""
        return await self.request("POST", path, json=data if data is not None else {})

    async def request(self, method: str, path: str, **arguments: Any) -> Any:
        """Call the REST API; returns the JSON answer.

        Raises:
            aiohttp.ClientResponseError: Home Assistant refused.
        """
        async with self.raw(method, path, **arguments) as response:
            if not response.ok:
                raise aiohttp.ClientResponseError(
                    response.request_info, (), status=response.status, message=await response.text()
                )
            return await response.json()

    def raw(self, method: str, path: str, **arguments: Any) -> Any:
        """Call the REST API; returns aiohttp's response as a context manager."""
        headers = {"Authorization": f"Bearer {self._access_token}"}
        return self._session.request(method, f"{self.url}{path}", headers=headers, **arguments)

    async def state(self, entity_id: str) -> dict[str, Any] | None:
        """Return an entity's state, None if there is no such entity."""
        async with self.raw("GET", f"/api/states/{entity_id}") as response:
            return await response.json() if response.ok else None

    async def add_server(self, server_url_parts: dict[str, Any]) -> str:
        """Set the integration up through its config flow; returns the entry's id.

        Args:
            server_url_parts: what the flow's form asks for.

        Raises:
            FlowError: the flow showed an error or another form.
        """
        flow = await self.post("/api/config/config_entries/flow", {"handler": "clap_sound"})
        result = await self.post(f"/api/config/config_entries/flow/{flow['flow_id']}", server_url_parts)
        if result["type"] != "create_entry":
            raise FlowError(f"adding the server: {result}")
        return str(result["result"]["entry_id"])

    async def add_microphone(self, entry_id: str, *steps: dict[str, Any]) -> None:
        """Add a microphone through the subentry flow, one answer a step.

        Raises:
            FlowError: the flow showed an error or another form.
        """
        path = "/api/config/config_entries/subentries/flow"
        flow = await self.post(path, {"handler": [entry_id, "microphone"]})
        for step in steps:
            flow = await self.post(f"{path}/{flow['flow_id']}", step)
        if flow["type"] != "create_entry":
            raise FlowError(f"adding a microphone: {flow}")

    async def entries(self) -> list[dict[str, Any]]:
        """Return the integration's config entries."""
        entries = await self.get("/api/config/config_entries/entry?domain=clap_sound")
        return list(entries)

    @contextlib.asynccontextmanager
    async def socket(self) -> AsyncIterator[aiohttp.ClientWebSocketResponse]:
        """Open the WebSocket API, signed in."""
        async with self._session.ws_connect(f"{self.url}/api/websocket", max_msg_size=0) as socket:
            await socket.receive_json()
            await socket.send_json({"type": "auth", "access_token": self._access_token})
            answer = await socket.receive_json()
            if answer["type"] != "auth_ok":
                raise FlowError(f"Home Assistant's WebSocket refused the sign-in: {answer}")
            yield socket

    async def command(self, command: dict[str, Any]) -> Any:
        """Send one command over the WebSocket API and return its result."""
        async with self.socket() as socket:
            await socket.send_json({"id": 1, **command})
            return (await socket.receive_json())["result"]

    async def state_changes(self, subscribed: asyncio.Event | None = None) -> AsyncGenerator[dict[str, Any]]:
        """Yield the data of every ``state_changed`` event from now on, with ``heard_at`` (Unix time) added.

        Args:
            subscribed: set when no further change can be missed.
        """
        async with self.socket() as socket:
            await socket.send_json({"id": 1, "type": "subscribe_events", "event_type": "state_changed"})
            async for message in socket:
                if message.type is not aiohttp.WSMsgType.TEXT:
                    return
                document = message.json()
                if document["type"] == "event":
                    yield {**document["event"]["data"], "heard_at": time.time()}
                elif subscribed is not None:
                    subscribed.set()


async def free_port() -> int:
    """Return a TCP port of the loopback interface that nobody uses at this moment."""
    server = await asyncio.start_server(lambda *_: None, "127.0.0.1", 0)
    async with server:
        return int(server.sockets[0].getsockname()[1])


def environment_is_ready() -> bool:
    """Whether ``scripts/setup home-assistant`` has been run."""
    return os.access(PYTHON, os.X_OK)
