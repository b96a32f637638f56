"""Staying connected: a connection is followed, and a new one made whenever it ends."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Protocol

from .backoff import Backoff
from .exceptions import ClapSoundAuthenticationError, ClapSoundConnectionError, ClapSoundError

if TYPE_CHECKING:
    from .connection import Connection
    from .messages import Message

_LOGGER = logging.getLogger(__name__)

STABLE_AFTER_S = 30.0
"""A connection that lasts so long is no chance hit: it is back, and the next pause is short again."""


class Follower(Protocol):
    """Says what to subscribe to, and is told what comes of it."""

    async def open_connection(self) -> Connection:
        """Open a connection from where the last one got to.

        Raises:
            ClapSoundError: there is none.
        """

    def connected(self, connection: Connection) -> None:
        """Take in what a connection begins with."""

    def received(self, message: Message) -> None:
        """Take in what happens."""

    def lost(self, error: ClapSoundError) -> None:
        """There is no connection any more, or still none; after a refused token, there comes none."""


class ConnectionKeeper:
    """Keeps a follower connected to a server; ``name`` is the server's in the log."""

    def __init__(self, name: str, follower: Follower) -> None:
        self._name = name
        self._follower = follower
        self._connection: Connection | None = None
        self._following: asyncio.Timeout | None = None
        self._backoff = Backoff()
        self._said_that_it_is_gone = False

    @property
    def connected(self) -> bool:
        return self._connection is not None

    async def connect(self) -> Connection:
        """Connect once.

        Raises:
            ClapSoundError: there is no connection.
        """
        connection = await self._follower.open_connection()
        try:
            self._connection = connection
            self._follower.connected(connection)
        except BaseException:
            self._connection = None
            await connection.close()
            raise
        return connection

    async def stay_connected(self, connection: Connection) -> None:
        """Follow a connection and those that come after it; ends when the token is refused."""
        following: Connection | None = connection
        while True:
            try:
                if following is None:
                    await asyncio.sleep(self._backoff.next_s())
                    following = await self.connect()
                await self._follow(following)
                # It was given up only to subscribe anew.
                following = await self.connect()
            except ClapSoundError as error:
                following = None
                self._lost(error)
                if isinstance(error, ClapSoundAuthenticationError):
                    return
            except Exception:
                following = None
                _LOGGER.exception("Following %s failed, connecting again", self._name)
                self._lost(ClapSoundConnectionError("internal error, see the log"))

    def subscribe_anew(self, topics: frozenset[str]) -> None:
        """Make a new connection if the present one has other topics."""
        if self._following and self._connection and self._connection.topics != topics:
            self._following.reschedule(0)

    async def _follow(self, connection: Connection) -> None:
        """Pass on what happens until the connection breaks, or is given up to subscribe anew."""
        stable = asyncio.get_running_loop().call_later(STABLE_AFTER_S, self._stable)
        try:
            async with connection, asyncio.timeout(None) as self._following:
                async for message in connection:
                    self._follower.received(message)
        except TimeoutError:
            _LOGGER.debug("Subscribing to %s anew", self._name)
        finally:
            stable.cancel()
            self._following = None

    def _stable(self) -> None:
        self._backoff.reset()
        if self._said_that_it_is_gone:
            self._said_that_it_is_gone = False
            _LOGGER.info("The connection to %s is back", self._name)

    def _lost(self, error: ClapSoundError) -> None:
        self._connection = None
        if not self._said_that_it_is_gone:
            self._said_that_it_is_gone = True
            _LOGGER.warning("No connection to %s, trying again: %s", self._name, error)
        self._follower.lost(error)
