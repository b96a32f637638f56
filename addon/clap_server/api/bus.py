"""From one place where things happen to every WebSocket that is open."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING, Literal

from clap_server.api.schemas import EventMessage

if TYPE_CHECKING:
    from collections.abc import Iterable

    from clap_server.api.schemas import Schema

Topic = Literal["scores", "levels"]

URGENT_LIMIT = 1000
BULK_LIMIT = 200


class Subscription:
    """What one client has still to be sent.

    Scores and levels of a client that is slow are dropped, oldest first. Everything else is kept; when that
    is too much, the subscription is ``overflowed`` and ends: the client comes back and resumes.
    """

    def __init__(self, topics: Iterable[Topic]) -> None:
        self.topics = frozenset(topics)
        self.overflowed = False
        self.dropped = 0
        self._closed = False
        self._urgent: deque[tuple[int | None, str]] = deque()
        self._bulk: deque[tuple[int | None, str]] = deque(maxlen=BULK_LIMIT)
        self._filled = asyncio.Event()

    def put(self, text: str, topic: Topic | None, sequence: int | None) -> None:
        """Add a message."""
        if self._closed or self.overflowed:
            return
        if topic is not None:
            self.dropped += len(self._bulk) == BULK_LIMIT
            self._bulk.append((None, text))
        elif len(self._urgent) >= URGENT_LIMIT:
            self.overflowed = True
            self._urgent.clear()
            self._bulk.clear()
        else:
            self._urgent.append((sequence, text))
        self._filled.set()

    def close(self) -> None:
        """Let what is waiting go out, then end."""
        self._closed = True
        self._filled.set()

    async def next(self) -> tuple[int | None, str] | None:
        """Wait for a message.

        Returns:
            The sequence number, if it is an event's, and the text; None at the end.
        """
        while not (self._urgent or self._bulk):
            if self._closed or self.overflowed:
                return None
            self._filled.clear()
            await self._filled.wait()
        return self._urgent.popleft() if self._urgent else self._bulk.popleft()


class EventBus:
    """Hands every message to every subscription that wants it.

    Attributes:
        last_sequence: number of the newest event change that was published.
    """

    def __init__(self) -> None:
        self.last_sequence = 0
        self.closed = False
        self._subscriptions: set[Subscription] = set()

    @property
    def clients(self) -> int:
        """How many are subscribed."""
        return len(self._subscriptions)

    def subscribe(self, topics: Iterable[Topic]) -> Subscription:
        """Take part from now on; give it back with ``unsubscribe``."""
        subscription = Subscription(topics)
        if self.closed:
            subscription.close()
        else:
            self._subscriptions.add(subscription)
        return subscription

    def unsubscribe(self, subscription: Subscription) -> None:
        """Take part no more."""
        self._subscriptions.discard(subscription)

    def wants(self, topic: Topic) -> bool:
        """Whether anyone takes a topic, so that no message is made for nothing."""
        return any(topic in subscription.topics for subscription in self._subscriptions)

    def publish(self, message: Schema, topic: Topic | None = None) -> None:
        """Send a message to all, or to those who take its topic."""
        sequence = message.sequence if isinstance(message, EventMessage) else None
        if sequence is not None:
            self.last_sequence = sequence
        text = message.model_dump_json()
        for subscription in tuple(self._subscriptions):
            if topic is None or topic in subscription.topics:
                subscription.put(text, topic, sequence)

    def close(self) -> None:
        """End all subscriptions, each after what it still has."""
        self.closed = True
        for subscription in self._subscriptions:
            subscription.close()
        self._subscriptions.clear()
