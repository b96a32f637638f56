"""The server's WebSocket: what it has to say at first, then what happens."""

from __future__ import annotations

import asyncio
import json
import logging
from typing import TYPE_CHECKING, Self

from aiohttp import ClientError, WSMsgType

from .exceptions import ClapSoundConnectionError, UnexpectedAnswerError
from .messages import (
    EventMessage,
    Message,
    MicrophonesMessage,
    ReplayedMessage,
    message_from_json,
)
from .models import Json, MicrophoneInfo, ServerInfo, parse

if TYPE_CHECKING:
    from aiohttp import ClientWebSocketResponse

    from .client import ClapSoundClient

_LOGGER = logging.getLogger(__name__)

MESSAGE_TIMEOUT_S = 10.0
"""For each message that the server owes until all past events have been sent."""


class Connection:
    """One connection; iterating passes on what happens until it breaks.

    Attributes:
        info: who the server is.
        topics: what was subscribed to beyond events and microphones.
        microphones: as they were at connect.
        missed: every event change after the one that was asked for, oldest first.
        active: ids of the events that go on at connect.
        last_sequence: of the newest change at connect; None if the server did not tell.
    """

    def __init__(
        self,
        client: ClapSoundClient,
        websocket: ClientWebSocketResponse,
        info: ServerInfo,
        topics: frozenset[str],
    ) -> None:
        self._client = client
        self._websocket = websocket
        self._others: list[Message] = []
        self.info = info
        self.topics = topics
        self.microphones: tuple[MicrophoneInfo, ...] = ()
        self.missed: tuple[EventMessage, ...] = ()
        self.active: frozenset[str] = frozenset()
        self.last_sequence: int | None = None

    @classmethod
    async def open(
        cls,
        client: ClapSoundClient,
        *,
        after: int | None,
        epoch: str | None,
        event_id: str | None = None,
        topics: frozenset[str],
    ) -> Self:
        """Connect, and collect what the server has to say at first.

        Args:
            client: the server.
            after: sequence number of the last change seen; None for no past events.
            epoch: in which that number was seen.
            event_id: of the event that it was a change of; None if it is not known.
            topics: what to be told beyond events and microphones.

        Raises:
            ClapSoundError: there is no connection, or the server does not keep to the order of messages.
        """
        websocket = await client.connect_websocket()
        try:
            async with asyncio.timeout(MESSAGE_TIMEOUT_S):
                info = await _greeting(websocket)
            connection = cls(client, websocket, info, topics)
            subscribe = {"type": "subscribe", "after": after, "epoch": epoch, "topics": sorted(topics)}
            if event_id is not None:
                subscribe["event_id"] = event_id
            await websocket.send_json(subscribe)
            await connection._collect()
        except TimeoutError as error:
            await websocket.close()
            raise ClapSoundConnectionError("The server did not say in time what it has") from error
        except (ClientError, OSError) as error:
            await websocket.close()
            raise ClapSoundConnectionError(f"The connection broke off: {error}") from error
        except BaseException:
            await websocket.close()
            raise
        return connection

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        await self._websocket.close()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Message:
        """Return the next message.

        Raises:
            ClapSoundConnectionError: the connection broke off.
        """
        if self._others:
            return self._others.pop(0)
        return await self._receive()

    async def _collect(self) -> None:
        microphones: list[MicrophoneInfo] = []
        missed: list[EventMessage] = []
        while True:
            async with asyncio.timeout(MESSAGE_TIMEOUT_S):
                message = await self._receive()
            match message:
                case MicrophonesMessage():
                    microphones.extend(message.microphones)
                case EventMessage():
                    missed.append(message)
                case ReplayedMessage():
                    break
                case _:
                    self._others.append(message)
        self.microphones, self.missed = tuple(microphones), tuple(missed)
        self.active, self.last_sequence = message.active, message.last_sequence

    async def _receive(self) -> Message:
        """Return the next message that can be understood."""
        while True:
            frame = await self._websocket.receive()
            if frame.type is WSMsgType.TEXT:
                try:
                    message = parse(_message, frame.data)
                except UnexpectedAnswerError as error:
                    # One is reason enough to look; a server that sends many would fill the log.
                    level = logging.DEBUG if self._client.bad_messages else logging.WARNING
                    self._client.bad_messages += 1
                    _LOGGER.log(level, "Skipped a message of the server: %s", error)
                    continue
                if message is not None:
                    return message
            elif frame.type is WSMsgType.ERROR:
                raise ClapSoundConnectionError(f"The connection broke off: {frame.data}")
            elif frame.type in (WSMsgType.CLOSE, WSMsgType.CLOSING, WSMsgType.CLOSED):
                raise ClapSoundConnectionError("The server closed the connection")


async def _greeting(websocket: ClientWebSocketResponse) -> ServerInfo:
    frame = await websocket.receive()
    if frame.type is not WSMsgType.TEXT:
        raise ClapSoundConnectionError("The server closed the connection before it greeted")
    greeting = parse(_message, frame.data)
    if not isinstance(greeting, ServerInfo):
        raise UnexpectedAnswerError("The server did not greet with its information")
    return greeting


def _message(text: str) -> Message | None:
    data: Json = json.loads(text)
    return message_from_json(data)
