"""Recordings of events: FLAC files, and what is made from them on demand."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import uuid
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from clap_server.audio.decode import decode
from clap_server.audio.encode import encode
from clap_server.errors import StoreError
from clap_server.store.folder import PRIVATE_FILE, PRIVATE_FOLDER, probe
from clap_server.store.trouble import Troubles, explain

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime
    from pathlib import Path

    from clap_server.listening.events import SoundEvent
    from clap_server.listening.sink import Recording
    from clap_server.store.folder import DataFolder

_LOGGER = logging.getLogger(__name__)

TEMPORARY_SUFFIX = ".part"
MP3_RATE = 48000
# A disk that does not answer must not keep an event from ending.
SAVE_TIMEOUT_S = 10.0


class ClipStore:
    """The clips folder. Encoding and files are handled off the event loop.

    Args:
        folder: of the server's data.
        troubles: is told whether clips can be written.
    """

    def __init__(self, folder: DataFolder, troubles: Troubles | None = None) -> None:
        self._folder = folder
        self._troubles = troubles or Troubles()
        # Threads of its own: a disk that hangs must not use up those that everything else needs.
        self._writers = ThreadPoolExecutor(2, "clips")

    def close(self) -> None:
        """Write no more."""
        self._writers.shutdown(wait=False, cancel_futures=True)

    def path(self, event: SoundEvent) -> Path:
        """Where an event's clip lies, if it has one."""
        return self._folder.clips / day(event.started_at) / f"{event.id}.flac"

    async def save(self, event: SoundEvent, recording: Recording) -> bool:
        """Write an event's clip, whole or not at all.

        Returns:
            Whether it is there. If not, for whatever reason, that is logged: an event must end without it.
        """
        try:
            writing = asyncio.get_running_loop().run_in_executor(self._writers, self._save, event, recording)
            await asyncio.wait_for(writing, SAVE_TIMEOUT_S)
        except StoreError as error:
            self._troubles.found("clips", error)
        except TimeoutError:
            words = f"The disk of {self._folder.clips} has not answered for {SAVE_TIMEOUT_S:g} s; check it"
            self._troubles.found("clips", StoreError(words, "clips_failed"))
        except Exception:
            _LOGGER.exception("Event %s is kept without its clip", event.id)
        else:
            self._troubles.over("clips")
            return True
        return False

    def _save(self, event: SoundEvent, recording: Recording) -> None:
        write_atomically(self.path(event), encode(recording.samples, recording.sample_rate, "flac"))

    async def check(self) -> None:
        """Find out by a write whether clips can be stored; ``troubles`` is told."""
        try:
            await asyncio.to_thread(probe, self._folder.clips)
        except OSError as error:
            self._troubles.found("clips", explain(error, self._folder.clips, "clips_failed"))
        else:
            self._troubles.over("clips")

    async def mp3(self, event: SoundEvent) -> Path | None:
        """The clip as MP3, made at first use.

        Returns:
            The file, or None if there is no clip.

        Raises:
            AudioError: the clip is damaged.
            StoreError: the cache cannot be written.
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
            AudioError: the clip is damaged.
            StoreError: the cache cannot be written.
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
        return self._cache / f"{event_id}.{suffix}"

    def all_cached(self) -> list[Path]:
        """Everything that was made from clips."""
        return [path for path in self._cache.glob("*.*") if path.suffix != TEMPORARY_SUFFIX]

    @property
    def _cache(self) -> Path:
        return self._folder.cache / "clips"


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
        path.parent.mkdir(mode=PRIVATE_FOLDER, parents=True, exist_ok=True)
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, PRIVATE_FILE)
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        # The first error tells the story; the retention removes leftovers.
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise explain(error, path.parent, "clips_failed") from error
