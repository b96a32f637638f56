"""Removes clips that are too old or too many, and events that are long over."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from clap_server.errors import StoreError
from clap_server.store.background import Background
from clap_server.store.clips import TEMPORARY_SUFFIX, day
from clap_server.store.trouble import explain

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from clap_server.store.clips import ClipStore
    from clap_server.store.events import EventStore
    from clap_server.store.folder import DataFolder

_LOGGER = logging.getLogger(__name__)

INTERVAL_S = 600.0
DAY_S = 86400.0
LEFTOVER_S = 3600.0


@dataclass(frozen=True, slots=True)
class RetentionPolicy:
    """How long things are kept.

    Attributes:
        clip_days: clips older than this go.
        clip_bytes: all clips, and what is made from them, take at most this; the oldest clips go.
        event_days: events that ended longer ago go.
    """

    clip_days: float
    clip_bytes: int
    event_days: float


class Retention:
    """Sweeps the data folder now and then. The files are the truth: leftovers of a crash are found too."""

    def __init__(
        self, folder: DataFolder, events: EventStore, clips: ClipStore, policy: RetentionPolicy
    ) -> None:
        self._folder = folder
        self._events = events
        self._clips = clips
        self._policy = policy
        self._background = Background("retention", "Old clips are no longer removed")

    def start(self) -> None:
        """Sweep in the background until ``stop``."""
        self._background.start(self._run())

    async def stop(self) -> None:
        """End the background work."""
        await self._background.stop()

    async def _run(self) -> None:
        failing = False
        while True:
            try:
                await self.sweep()
                failing = False
            except StoreError as error:
                if not failing:
                    _LOGGER.error("Old clips cannot be removed: %s", error)
                failing = True
            await asyncio.sleep(INTERVAL_S)

    async def sweep(self) -> int:
        """Remove what is too much, once.

        Returns:
            How many clips were removed.

        Raises:
            StoreError: a folder or the database cannot be read or written.
        """
        now = datetime.now(UTC)
        removed = await asyncio.to_thread(self._sweep_files, now.timestamp())
        if removed:
            await self._events.clips_gone(removed)
            _LOGGER.info("Removed %d old clips", len(removed))
        forgotten = await self._events.delete_before(now - timedelta(days=self._policy.event_days))
        if forgotten:
            _LOGGER.info("Forgot %d old events", forgotten)
        return len(removed)

    def _sweep_files(self, now: float) -> list[str]:
        removed = []
        try:
            self._remove_leftovers(now)
            clips = _oldest_first(self._folder.clips.glob("*/*.flac"))
            derived = _oldest_first(self._clips.all_cached())
            total = sum(file.size for file in [*clips, *derived])
            # What can be made again goes first.
            kept = {clip.path.stem for clip in clips if now - clip.modified <= self._policy.clip_days * DAY_S}
            for file in derived:
                if total > self._policy.clip_bytes or file.path.stem not in kept:
                    file.path.unlink(missing_ok=True)
                    total -= file.size
            for clip in clips:
                if clip.path.stem in kept and total <= self._policy.clip_bytes:
                    break
                clip.path.unlink(missing_ok=True)
                total -= clip.size
                removed.append(clip.path.stem)
            # A clip may be on its way into the newest folders.
            settled = day(datetime.fromtimestamp(now, UTC) - timedelta(days=2))
            for folder in self._folder.clips.iterdir():
                if folder.is_dir() and folder.name < settled and not any(folder.iterdir()):
                    folder.rmdir()
        except OSError as error:
            reason = explain(error, self._folder.clips, "clips_failed")
            raise StoreError(f"The clips folder {self._folder.clips} cannot be tidied: {reason}") from error
        return removed

    def _remove_leftovers(self, now: float) -> None:
        """Remove what was left half written, or uploaded and never removed."""
        half_written = (
            path
            for folder in (self._folder.clips, self._folder.cache)
            for path in folder.glob(f"*/*{TEMPORARY_SUFFIX}")
        )
        for file in _oldest_first([*half_written, *self._folder.uploads.glob("*")]):
            if now - file.modified > LEFTOVER_S:
                file.path.unlink(missing_ok=True)


@dataclass(frozen=True, slots=True)
class _File:
    path: Path
    modified: float
    size: int


def _oldest_first(paths: Iterable[Path]) -> list[_File]:
    files = []
    for path in paths:
        try:
            status = path.stat()
        except FileNotFoundError:
            continue  # a clip that has just got its name, or one removed meanwhile
        files.append(_File(path, status.st_mtime, status.st_size))
    return sorted(files, key=lambda file: file.modified)
