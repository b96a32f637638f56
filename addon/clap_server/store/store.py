"""Everything that is kept, behind one door."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

from clap_server.store.clips import ClipStore
from clap_server.store.database import Database
from clap_server.store.events import EventStore
from clap_server.store.lessons import LessonStore
from clap_server.store.microphones import MicrophoneStore
from clap_server.store.retention import Retention, RetentionPolicy
from clap_server.store.rooms import Rooms
from clap_server.store.sounds import SoundStore
from clap_server.store.trouble import Trouble, Troubles
from clap_server.store.watch import StorageWatch

if TYPE_CHECKING:
    from collections.abc import Callable

    from clap_server.store.folder import DataFolder

_LOGGER = logging.getLogger(__name__)


class Store:
    """The data folder's contents.

    Args:
        folder: what lies where.
        policy: how long things are kept.
        changed: is called whenever ``trouble`` or the events' epoch changed.

    Attributes:
        folder: what lies where.
        microphones: their settings.
        events: events and changes.
        lessons: what the user's verdicts on them teach.
        sounds: those that the user taught.
        clips: recordings.
        rooms: what microphones learnt of their rooms.
        retention: removes what is old.
        watch: notices trouble.
        server_id: UUID of this server; set by ``open``.
    """

    def __init__(
        self, folder: DataFolder, policy: RetentionPolicy, changed: Callable[[], None] | None = None
    ) -> None:
        self.folder = folder
        self._troubles = Troubles(changed)
        self._database = Database(folder.database, self._troubles)
        self.microphones = MicrophoneStore(self._database)
        self.events = EventStore(self._database, changed)
        self.lessons = LessonStore(self._database)
        self.sounds = SoundStore(self._database)
        self.clips = ClipStore(folder, self._troubles)
        self.rooms = Rooms(self._database)
        self.retention = Retention(folder, self.events, self.clips, policy, self.microphones, self.rooms)
        self.watch = StorageWatch(folder, self._database, self.events, self.clips, self._troubles)
        self.server_id = ""

    @property
    def trouble(self) -> Trouble | None:
        """What cannot be stored at present, or None."""
        return self._troubles.current

    async def open(self) -> None:
        """Open the folder and the database; end events that a crash left open; start the background work.

        Raises:
            StoreError: the folder or the database is not usable; says what to do.
        """
        await asyncio.to_thread(self.folder.create)
        await asyncio.to_thread(self.folder.make_private)
        self.server_id = await asyncio.to_thread(self.folder.server_id)
        await self._database.open()
        try:
            # Not before the database is open: it tells whether another server uses the folder.
            await asyncio.to_thread(self.folder.remove_leftovers)
            await self.microphones.load()
            await self.events.load()
            await self.lessons.load()
            await self.sounds.load()
            ended = await self.events.end_open()
        except BaseException:
            await self._database.close()
            raise
        if ended:
            _LOGGER.warning("Ended %d events that the last run left open", len(ended))
        self.retention.start()
        self.watch.start()

    def fit_to(self, made_for: str, dimension: int) -> None:
        """Leave out what is said to be of a model, and cannot be; to be called whenever another one runs.

        Args:
            made_for: the model; see ``made_for``.
            dimension: of its embeddings.
        """
        self.lessons.fit_to(made_for, dimension)
        self.sounds.fit_to(made_for, dimension)

    async def close(self) -> None:
        """Write what is left and close the database."""
        await self.watch.stop()
        await self.retention.stop()
        if self._database.is_open:
            await self.events.close()
        await self._database.close()
        self.clips.close()
