"""The server's WebSocket, for as long as it is wanted."""

from __future__ import annotations

import asyncio
import json
import logging
import random
from typing import TYPE_CHECKING, NoReturn

from aiohttp import ClientError, WSMsgType

from .exceptions import (
    ClapSoundAuthenticationError,
    ClapSoundConnectionError,
    ClapSoundError,
    UnexpectedAnswerError,
)
from .messages import EventMessage, Message, ReplayedMessage, message_from_json
from .models import Json, ServerInfo, parse

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable

    from aiohttp import ClientWebSocketResponse

    from .client import ClapSoundClient

_LOGGER = logging.getLogger(__name__)

BACKOFF_FIRST_S = 0.5
BACKOFF_MAX_S = 10.0
GREETING_TIMEOUT_S = 10.0


class Listener:
    """Receives what the server pushes, and loses no event when the connection breaks.

    It remembers the sequence number of the last event change that it passed on, asks for what came
    after it at each connect, and passes nothing on twice.

    Args:
        client: the server.
        last_sequence: where an earlier listener got to; None starts with what is new.
        topics: asked at each connect for what to subscribe to beyond events and microphones.
        prepare: awaited at each connect before the subscription.
        backoff_first_s: first pause before a new attempt; doubles up to ``backoff_max_s``.
        backoff_max_s: longest pause.
    """

    def __init__(
        self,
        client: ClapSoundClient,
        *,
        last_sequence: int | None = None,
        topics: Callable[[], Iterable[str]] = tuple,
        prepare: Callable[[ServerInfo], Awaitable[None]] | None = None,
        backoff_first_s: float = BACKOFF_FIRST_S,
        backoff_max_s: float = BACKOFF_MAX_S,
    ) -> None:
        self._client = client
        self._topics = topics
        self._prepare = prepare
        self._backoff_first_s = backoff_first_s
        self._backoff_max_s = backoff_max_s
        self._callbacks: list[Callable[[Message], None]] = []
        self._disconnect_callbacks: list[Callable[[ClapSoundError], None]] = []
        self.last_sequence = last_sequence
        self.connected = False

    def subscribe(self, callback: Callable[[Message], None]) -> Callable[[], None]:
        """Call ``callback`` with each message; the returned function ends that."""
        self._callbacks.append(callback)
        return lambda: self._callbacks.remove(callback)

    def subscribe_disconnect(self, callback: Callable[[ClapSoundError], None]) -> Callable[[], None]:
        """Call ``callback`` with the reason when the connection breaks or an attempt fails.

        That it is there again is told by a ReplayedMessage.
        """
        self._disconnect_callbacks.append(callback)
        return lambda: self._disconnect_callbacks.remove(callback)

    async def run(self) -> NoReturn:
        """Stay connected until cancelled.

        Raises:
            ClapSoundAuthenticationError: the token is not accepted (any more), which waiting does not heal.
        """
        pause_s = self._backoff_first_s
        while True:
            try:
                await self._listen_once()
            except ClapSoundError as error:
                if self.connected:
                    pause_s = self._backoff_first_s
                self.connected = False
                for callback in tuple(self._disconnect_callbacks):
                    callback(error)
                if isinstance(error, ClapSoundAuthenticationError):
                    raise
            # Jitter: not all clients of a restarted server come back at the same moment.
            await asyncio.sleep(pause_s * random.uniform(0.5, 1.0))  # noqa: S311 - not for cryptography
            pause_s = min(pause_s * 2, self._backoff_max_s)

    async def _listen_once(self) -> NoReturn:
        """Connect, and pass messages on until the connection breaks."""
        info = await self._client.info()
        if self._prepare is not None:
            await self._prepare(info)
        websocket = await self._client.connect_websocket()
        try:
            async with asyncio.timeout(GREETING_TIMEOUT_S):
                greeting = await self._receive(websocket)
            if not isinstance(greeting, ServerInfo):
                raise UnexpectedAnswerError("The server did not greet with its information")
            await self._greet(websocket, greeting)
            while True:
                if (message := await self._receive(websocket)) is not None:
                    self._pass_on(message)
        except TimeoutError as error:
            raise ClapSoundConnectionError("The server did not greet in time") from error
        except (ClientError, OSError) as error:
            raise ClapSoundConnectionError(f"The connection broke off: {error}") from error
        finally:
            await websocket.close()

    async def _greet(self, websocket: ClientWebSocketResponse, info: ServerInfo) -> None:
        if self.last_sequence is None:
            # From here on, so that what happens before the first message is not lost.
            self.last_sequence = info.last_sequence
        elif self.last_sequence > info.last_sequence:
            _LOGGER.info("The server's event store is new; taking all its events")
            self.last_sequence = 0
        self._call(info)
        await websocket.send_json(
            {"type": "subscribe", "after": self.last_sequence, "topics": sorted(self._topics())}
        )

    async def _receive(self, websocket: ClientWebSocketResponse) -> Message | None:
        """Return the next message, None if it is of an unknown type."""
        message = await websocket.receive()
        if message.type is WSMsgType.TEXT:
            return parse(_message, message.data)
        if message.type is WSMsgType.ERROR:
            raise ClapSoundConnectionError(f"The connection broke off: {message.data}")
        if message.type in (WSMsgType.CLOSE, WSMsgType.CLOSING, WSMsgType.CLOSED):
            raise ClapSoundConnectionError("The server closed the connection")
        return None

    def _pass_on(self, message: Message) -> None:
        if isinstance(message, EventMessage):
            if self.last_sequence is not None and message.sequence <= self.last_sequence:
                return
            self.last_sequence = message.sequence
        elif isinstance(message, ReplayedMessage):
            self.last_sequence = max(self.last_sequence or 0, message.last_sequence)
            self.connected = True
        self._call(message)

    def _call(self, message: Message) -> None:
        for callback in tuple(self._callbacks):
            try:
                callback(message)
            except Exception:
                # One faulty receiver must not deafen the others.
                _LOGGER.exception("Receiver of %s failed", type(message).__name__)


def _message(text: str) -> Message | None:
    data: Json = json.loads(text)
    return message_from_json(data)
