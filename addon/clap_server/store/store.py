"""Everything that is kept, behind one door."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

from clap_server.store.clips import ClipStore
from clap_server.store.database import Database
from clap_server.store.events import EventStore
from clap_server.store.microphones import MicrophoneStore
from clap_server.store.retention import Retention, RetentionPolicy

if TYPE_CHECKING:
    from clap_server.store.folder import DataFolder

_LOGGER = logging.getLogger(__name__)


class Store:
    """The data folder's contents.

    Attributes:
        folder: what lies where.
        microphones: their settings.
        events: events and changes.
        clips: recordings.
        retention: removes what is old.
        server_id: UUID of this server; set by ``open``.
    """

    def __init__(self, folder: DataFolder, policy: RetentionPolicy) -> None:
        self.folder = folder
        self._database = Database(folder.database)
        self.microphones = MicrophoneStore(self._database)
        self.events = EventStore(self._database)
        self.clips = ClipStore(folder)
        self.retention = Retention(folder, self.events, self.clips, policy)
        self.server_id = ""

    async def open(self) -> None:
        """Open the folder and the database; end events that a crash left open; start the retention.

        Raises:
            StoreError: the folder or the database is not usable; says what to do.
        """
        await asyncio.to_thread(self.folder.create)
        self.server_id = await asyncio.to_thread(self.folder.server_id)
        await self._database.open()
        try:
            await self.microphones.load()
            await self.events.load()
            ended = await self.events.end_open()
        except BaseException:
            await self._database.close()
            raise
        if ended:
            _LOGGER.warning("Ended %d events that the last run left open", len(ended))
        self.retention.start()

    async def close(self) -> None:
        """Write what is left and close the database."""
        await self.retention.stop()
        if self._database.is_open:
            await self.events.flush()
        await self._database.close()
