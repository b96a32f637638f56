"""Work that goes on beside everything else, and whose death is noticed."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Coroutine

_LOGGER = logging.getLogger(__name__)


class Background:
    """One task.

    Args:
        name: of the task.
        without_it: what is no longer done if it ends by a mistake, for the log.
    """

    def __init__(self, name: str, without_it: str) -> None:
        self._name = name
        self._without_it = without_it
        self._task: asyncio.Task[None] | None = None

    def start(self, work: Coroutine[Any, Any, None]) -> None:
        """Do the work until ``stop``."""
        self._task = asyncio.create_task(work, name=self._name)
        self._task.add_done_callback(self._ended)

    async def stop(self) -> None:
        """End the work; it is no error if there is none."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    def _ended(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            _LOGGER.critical("%s; please report this", self._without_it, exc_info=error)
