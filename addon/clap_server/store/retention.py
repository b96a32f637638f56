"""Removes clips that are too old or too many, and events that are long over."""

from __future__ import annotations

import asyncio
import logging
import time
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from clap_server.errors import StoreError
from clap_server.store.clips import TEMPORARY_SUFFIX, day

if TYPE_CHECKING:
    from pathlib import Path

    from clap_server.store.clips import ClipStore
    from clap_server.store.events import EventStore
    from clap_server.store.folder import DataFolder

_LOGGER = logging.getLogger(__name__)

INTERVAL_S = 600.0
RETRY_S = 30.0
DAY_S = 86400.0
LEFTOVER_S = 3600.0


@dataclass(frozen=True, slots=True)
class RetentionPolicy:
    """How long things are kept.

    Attributes:
        clip_days: clips older than this go.
        clip_bytes: the oldest clips go until all take at most this.
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
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Sweep in the background until ``stop``."""
        self._task = asyncio.create_task(self._run(), name="retention")
        self._task.add_done_callback(self._ended)

    async def stop(self) -> None:
        """End the background work."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    def _ended(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            _LOGGER.critical("Old clips are no longer removed; please report this", exc_info=error)

    async def _run(self) -> None:
        failing = False
        next_sweep = 0.0
        while True:
            await self._events.flush()
            if time.monotonic() >= next_sweep:
                try:
                    await self.sweep()
                    failing = False
                except StoreError as error:
                    if not failing:
                        _LOGGER.error("Old clips cannot be removed: %s", error)  # noqa: TRY400 - in words
                    failing = True
                next_sweep = time.monotonic() + INTERVAL_S
            await asyncio.sleep(RETRY_S)

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
            clips = self._oldest_first(now)
            total = sum(size for _, size, _ in clips)
            for modified, size, path in clips:
                if now - modified <= self._policy.clip_days * DAY_S and total <= self._policy.clip_bytes:
                    break
                self._remove(path)
                removed.append(path.stem)
                total -= size
            # A clip may be on its way into the newest folders.
            settled = day(datetime.fromtimestamp(now, UTC) - timedelta(days=2))
            for folder in self._folder.clips.iterdir():
                if folder.is_dir() and folder.name < settled and not any(folder.iterdir()):
                    folder.rmdir()
        except OSError as error:
            raise StoreError(
                f"The clips folder {self._folder.clips} cannot be tidied ({error}); check its permissions"
            ) from error
        return removed

    def _oldest_first(self, now: float) -> list[tuple[float, int, Path]]:
        """When each clip was written, its size and its place; what a crash left half written is removed."""
        clips = []
        for path in [*self._folder.clips.glob("*/*"), *self._folder.cache.glob("*/*")]:
            try:
                status = path.stat()
            except FileNotFoundError:
                continue  # a clip that has just got its name, or one removed meanwhile
            if path.suffix == TEMPORARY_SUFFIX:
                if now - status.st_mtime > LEFTOVER_S:
                    path.unlink(missing_ok=True)
            elif path.suffix == ".flac":
                clips.append((status.st_mtime, status.st_size, path))
        return sorted(clips)

    def _remove(self, path: Path) -> None:
        for suffix in ("mp3", "png"):
            self._clips.cached(path.stem, suffix).unlink(missing_ok=True)
        path.unlink(missing_ok=True)
