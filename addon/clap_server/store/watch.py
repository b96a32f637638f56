"""Looks after the database and the clips folder: notices trouble, and that it is over."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

from clap_server.errors import StoreError
from clap_server.store.background import Background

if TYPE_CHECKING:
    from clap_server.store.clips import ClipStore
    from clap_server.store.database import Database
    from clap_server.store.events import EventStore
    from clap_server.store.folder import DataFolder
    from clap_server.store.trouble import Troubles

CHECK_S = 5.0
# How often it is found out by writing, while nothing is wrong.
WRITE_S = 600.0


class StorageWatch:
    """Checks now and then, and more thoroughly while something is wrong."""

    def __init__(
        self, folder: DataFolder, database: Database, events: EventStore, clips: ClipStore, troubles: Troubles
    ) -> None:
        self._folder = folder
        self._database = database
        self._events = events
        self._clips = clips
        self._troubles = troubles
        self._background = Background("storage watch", "The data folder is no longer watched")

    def start(self) -> None:
        """Check in the background until ``stop``."""
        self._background.start(self._run())

    async def stop(self) -> None:
        """End the background work."""
        await self._background.stop()

    async def _run(self) -> None:
        last_write = time.monotonic()
        while True:
            await asyncio.sleep(CHECK_S)
            write = self._troubles.current is not None or time.monotonic() - last_write > WRITE_S
            await self.check(write=write)
            if write:
                last_write = time.monotonic()

    async def check(self, *, write: bool) -> None:
        """Mend what can be mended, and note what cannot.

        Args:
            write: whether to find out by writing.
        """
        try:
            await self._events.flush()
            # Changes that still wait say enough.
            if not self._events.unwritten:
                await self._database.check(write=write)
        except StoreError as error:
            self._troubles.found("events", error)
        if not await asyncio.to_thread(self._folder.is_whole):
            try:
                await asyncio.to_thread(self._folder.create)
            except StoreError as error:
                self._troubles.found("clips", error)
                return
        if write:
            await self._clips.check()
