"""Keeps every state change of a Home Assistant, so that nothing short-lived is missed."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from collections.abc import Callable

    from scripts.harness.api import HomeAssistantApi


@dataclass(frozen=True)
class Change:
    """One state change.

    Attributes:
        entity_id: whose.
        old: state before, None if the entity is new.
        new: state after, None if the entity was removed.
        attributes: after.
        heard_at: Unix time in seconds at which the change reached this program.
    """

    entity_id: str
    old: str | None
    new: str | None
    attributes: dict[str, Any]
    heard_at: float


class StateRecorder:
    """Collects state changes from the moment it is entered.

    Args:
        api: signed in.
    """

    def __init__(self, api: HomeAssistantApi) -> None:
        self.changes: list[Change] = []
        self._api = api
        self._changed = asyncio.Condition()
        self._task: asyncio.Task[None] | None = None

    def of(self, entity_id: str) -> list[Change]:
        """Return the changes of one entity so far."""
        return [change for change in self.changes if change.entity_id == entity_id]

    async def until(
        self, entity_id: str, fits: Callable[[Change], bool], *, timeout_s: float, after: int = 0
    ) -> Change:
        """Return the first change of an entity that fits, waiting for it if need be.

        Args:
            entity_id: whose.
            fits: whether a change is the one.
            timeout_s: how long to wait.
            after: skip so many of its changes.

        Raises:
            TimeoutError: it did not come; the message says what came instead.
        """
        try:
            async with asyncio.timeout(timeout_s), self._changed:
                while True:
                    for change in self.of(entity_id)[after:]:
                        if fits(change):
                            return change
                    await self._changed.wait()
        except TimeoutError:
            came = [(change.new, round(change.heard_at, 1)) for change in self.of(entity_id)]
            raise TimeoutError(f"{entity_id}: not within {timeout_s} s; its changes were {came}") from None

    async def _collect(self, subscribed: asyncio.Event) -> None:
        async with contextlib.aclosing(self._api.state_changes(subscribed)) as changes:
            async for data in changes:
                old, new = data["old_state"], data["new_state"]
                change = Change(
                    entity_id=data["entity_id"],
                    old=old["state"] if old else None,
                    new=new["state"] if new else None,
                    attributes=new["attributes"] if new else {},
                    heard_at=data["heard_at"],
                )
                async with self._changed:
                    self.changes.append(change)
                    self._changed.notify_all()

    async def __aenter__(self) -> Self:
        subscribed = asyncio.Event()
        self._task = asyncio.create_task(self._collect(subscribed))
        await subscribed.wait()
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
