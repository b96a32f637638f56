"""Home Assistant's own HTTP and WebSocket API, signed in as a browser would be."""

from __future__ import annotations

import contextlib
import time
from typing import TYPE_CHECKING, Any

import aiohttp

if TYPE_CHECKING:
    import asyncio
    from collections.abc import AsyncGenerator, AsyncIterator


class HomeAssistantError(Exception):
    """Home Assistant did not accept a sign-in, a command or an answer in a form."""


class HomeAssistantApi:
    """The API of a running Home Assistant.

    Args:
        session: for the requests.
        url: of Home Assistant, without a slash at the end.
    """

    def __init__(self, session: aiohttp.ClientSession, url: str) -> None:
        self.url = url
        self._session = session
        self._access_token = ""

    async def answers(self) -> bool:
        """Whether it takes requests."""
        try:
            async with self._session.get(f"{self.url}/api/onboarding") as response:
                return response.status in {200, 404}
        except aiohttp.ClientError:
            return False

    async def is_running(self) -> bool:
        """Whether everything is set up."""
        return bool((await self.get("/api/config"))["state"] == "RUNNING")

    async def sign_in(self, user_name: str, password: str) -> None:
        """Sign in; the user is made if Home Assistant has none."""
        client = {"client_id": f"{self.url}/"}
        user = {**client, "name": "Demo", "username": user_name, "password": password, "language": "en"}
        async with self._session.post(f"{self.url}/api/onboarding/users", json=user) as response:
            if response.ok:
                code = (await response.json())["auth_code"]
            else:  # the user was made by a former run
                code = await self._log_in(client, user_name, password)
        form = {**client, "grant_type": "authorization_code", "code": code}
        async with self._session.post(f"{self.url}/auth/token", data=form) as response:
            response.raise_for_status()
            self._access_token = (await response.json())["access_token"]

    async def _log_in(self, client: dict[str, str], user_name: str, password: str) -> str:
        begin = {**client, "handler": ["homeassistant", None], "redirect_uri": f"{self.url}/?auth_callback=1"}
        async with self._session.post(f"{self.url}/auth/login_flow", json=begin) as response:
            response.raise_for_status()
            flow_id = (await response.json())["flow_id"]
        credentials = {**client, "username": user_name, "password": password}
        async with self._session.post(f"{self.url}/auth/login_flow/{flow_id}", json=credentials) as response:
            result = await response.json()
        if result.get("type") != "create_entry":
            raise HomeAssistantError(
                f"the password of the user {user_name!r} is not accepted any more: {result}"
            )
        return str(result["result"])

    async def get(self, path: str) -> Any:
        """GET a path; returns the JSON answer."""
        return await self.request("GET", path)

    async def post(self, path: str, data: Any = None) -> Any:
        """POST to a path; returns the JSON answer."""
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

    @contextlib.asynccontextmanager
    async def socket(self) -> AsyncIterator[aiohttp.ClientWebSocketResponse]:
        """Open the WebSocket API, signed in."""
        async with self._session.ws_connect(f"{self.url}/api/websocket", max_msg_size=0) as socket:
            await socket.receive_json()
            await socket.send_json({"type": "auth", "access_token": self._access_token})
            answer = await socket.receive_json()
            if answer["type"] != "auth_ok":
                raise HomeAssistantError(f"the WebSocket refused the sign-in: {answer}")
            yield socket

    async def command(self, command: dict[str, Any]) -> Any:
        """Send one command over the WebSocket API and return its result.

        Raises:
            HomeAssistantError: it answered with an error.
        """
        async with self.socket() as socket:
            await socket.send_json({"id": 1, **command})
            answer = await socket.receive_json()
        if not answer["success"]:
            raise HomeAssistantError(
                f"Home Assistant refused {command['type']}: {answer['error']['message']}"
            )
        return answer["result"]

    async def state_changes(self, subscribed: asyncio.Event | None = None) -> AsyncGenerator[dict[str, Any]]:
        """Yield the data of every ``state_changed`` event from now on, with ``heard_at`` (Unix time) added.

        Ends when Home Assistant closes the connection.

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
