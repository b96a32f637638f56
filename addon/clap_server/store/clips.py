"""Recordings of events: FLAC files, and what is made from them on demand."""

from __future__ import annotations

import asyncio
import contextlib
import os
import uuid
from typing import TYPE_CHECKING

from clap_server.audio.decode import decode
from clap_server.audio.encode import encode
from clap_server.errors import StoreError

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime
    from pathlib import Path

    from clap_server.detection.events import SoundEvent
    from clap_server.listening.sink import Recording
    from clap_server.store.folder import DataFolder

TEMPORARY_SUFFIX = ".part"
MP3_RATE = 48000


class ClipStore:
    """The clips folder. Encoding and files are handled off the event loop."""

    def __init__(self, folder: DataFolder) -> None:
        self._folder = folder

    def path(self, event: SoundEvent) -> Path:
        """Where an event's clip lies, if it has one."""
        return self._folder.clips / day(event.started_at) / f"{event.id}.flac"

    async def save(self, event: SoundEvent, recording: Recording) -> None:
        """Write an event's clip, whole or not at all.

        Raises:
            StoreError: the disk is full or the folder cannot be written.
            AudioError: it cannot be encoded.
        """
        await asyncio.to_thread(self._save, event, recording)

    def _save(self, event: SoundEvent, recording: Recording) -> None:
        write_atomically(self.path(event), encode(recording.samples, recording.sample_rate, "flac"))

    async def mp3(self, event: SoundEvent) -> Path | None:
        """The clip as MP3, made at first use.

        Returns:
            The file, or None if there is no clip.

        Raises:
            StoreError: the clip cannot be read or the cache not written.
        """

        def make(flac: Path) -> bytes:
            return encode(decode(flac, MP3_RATE), MP3_RATE, "mp3")

        return await self.derived(event, "mp3", make)

    async def derived(self, event: SoundEvent, suffix: str, make: Callable[[Path], bytes]) -> Path | None:
        """Something that is made from the clip and cached.

        Args:
            event: whose clip.
            suffix: of the file, ``png``.
            make: gets the FLAC file, in a thread.

        Returns:
            The file, or None if there is no clip.

        Raises:
            StoreError: the clip cannot be read or the cache not written.
        """
        return await asyncio.to_thread(self._derived, event, suffix, make)

    def _derived(self, event: SoundEvent, suffix: str, make: Callable[[Path], bytes]) -> Path | None:
        flac = self.path(event)
        if not flac.is_file():
            return None
        target = self.cached(event.id, suffix)
        if not target.is_file():
            write_atomically(target, make(flac))
        return target

    def cached(self, event_id: str, suffix: str) -> Path:
        """Where something made from an event's clip is cached."""
        return self._folder.cache / "clips" / f"{event_id}.{suffix}"


def day(moment: datetime) -> str:
    """Name of a day's folder, in UTC."""
    return moment.strftime("%Y-%m-%d")


def write_atomically(path: Path, data: bytes) -> None:
    """Write a file so that it is there whole or not at all.

    Raises:
        StoreError: it cannot be written.
    """
    temporary = path.with_name(f"{path.name}.{uuid.uuid4().hex}{TEMPORARY_SUFFIX}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        # The first error tells the story; the retention removes leftovers.
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise StoreError(
            f"{path} cannot be written ({error}); free some space or check permissions"
        ) from error
