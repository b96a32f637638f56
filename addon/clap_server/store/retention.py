"""Removes clips that are too old or too many, events that are long over, and what rooms taught long ago.

Age, count and megabytes each have a limit for all clips together and, where a microphone has its own, for
those of that microphone. Its age replaces the server's; its count and megabytes hold besides the server's.
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from clap_server.errors import StoreError
from clap_server.listening.config import RecordingSettings
from clap_server.listening.room.reservoir import KEPT_S
from clap_server.store.background import Background
from clap_server.store.clips import TEMPORARY_SUFFIX, day
from clap_server.store.trouble import explain

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from clap_server.store.clips import ClipStore
    from clap_server.store.events import EventStore
    from clap_server.store.folder import DataFolder
    from clap_server.store.microphones import MicrophoneStore
    from clap_server.store.rooms import Rooms

_LOGGER = logging.getLogger(__name__)

INTERVAL_S = 600.0
DAY_S = 86400.0
LEFTOVER_S = 3600.0
MEGABYTE = 1_000_000


@dataclass(frozen=True, slots=True)
class RetentionPolicy:
    """How long things are kept.

    Attributes:
        clip_days: clips older than this go.
        clip_bytes: all clips, and what is made from them, take at most this; the oldest clips go.
        event_days: events that ended longer ago go.
        max_clips: all clips are at most so many; None: as many as fit.
    """

    clip_days: float
    clip_bytes: int
    event_days: float
    max_clips: int | None = None


class Retention:
    """Sweeps the data folder now and then. The files are the truth: leftovers of a crash are found too."""

    def __init__(
        self,
        folder: DataFolder,
        events: EventStore,
        clips: ClipStore,
        policy: RetentionPolicy,
        microphones: MicrophoneStore,
        rooms: Rooms,
    ) -> None:
        self._microphones = microphones
        self._folder = folder
        self._events = events
        self._clips = clips
        self._rooms = rooms
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
        limits = {
            microphone.id: microphone.settings.recording
            for microphone in self._microphones.all()
            if microphone.settings.recording != RecordingSettings()
        }
        # A clip of which nothing is known, because its event is too old, has the server's limits alone.
        heard_at = await self._events.microphones_of_clips() if limits else {}
        own = {
            event_id: limits[microphone_id]
            for event_id, microphone_id in heard_at.items()
            if microphone_id in limits
        }
        removed = await asyncio.to_thread(self._sweep_files, now.timestamp(), _Own(heard_at, own))
        if removed:
            await self._events.clips_gone(removed)
            _LOGGER.info("Removed %d old clips", len(removed))
        forgotten = await self._events.delete_before(now - timedelta(days=self._policy.event_days))
        if forgotten:
            _LOGGER.info("Forgot %d old events", forgotten)
        # Also of microphones that are switched off.
        await self._rooms.delete_before(now.timestamp() - KEPT_S)
        return len(removed)

    def _sweep_files(self, now: float, own: _Own) -> list[str]:
        removed = []
        try:
            self._remove_leftovers(now)
            clips = _oldest_first(self._folder.clips.glob("*/*.flac"))
            derived = _oldest_first(self._clips.all_cached())
            total = sum(file.size for file in [*clips, *derived])
            # What can be made again goes first.
            kept = self._within_limits(clips, now, own)
            for file in derived:
                if total > self._policy.clip_bytes or file.path.stem not in kept:
                    file.path.unlink(missing_ok=True)
                    total -= file.size
            for clip in clips:
                if clip.path.stem in kept and total <= self._policy.clip_bytes:
                    continue
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

    def _within_limits(self, clips: list[_File], now: float, own: _Own) -> set[str]:
        """Names of the clips that neither age nor number forbids, nor the megabytes of their microphone.

        Args:
            clips: oldest first.
            now: POSIX time.
            own: limits of single microphones.
        """
        kept: set[str] = set()
        count = 0
        of_microphone: dict[str, tuple[int, int]] = {}
        for clip in reversed(clips):
            name = clip.path.stem
            limits = own.limits.get(name)
            days = limits.clip_days if limits is not None else None
            if now - clip.modified > (self._policy.clip_days if days is None else days) * DAY_S:
                continue
            if limits is not None:
                microphone_id = own.heard_at[name]
                clips_so_far, bytes_so_far = of_microphone.get(microphone_id, (0, 0))
                clips_so_far, bytes_so_far = clips_so_far + 1, bytes_so_far + clip.size
                of_microphone[microphone_id] = clips_so_far, bytes_so_far
                if limits.max_clips is not None and clips_so_far > limits.max_clips:
                    continue
                if limits.max_mb is not None and bytes_so_far > limits.max_mb * MEGABYTE:
                    continue
            if self._policy.max_clips is not None and count >= self._policy.max_clips:
                continue
            count += 1
            kept.add(name)
        return kept

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
class _Own:
    """Microphones with limits of their own: where each event was heard, and the limits, by event id."""

    heard_at: Mapping[str, str]
    limits: Mapping[str, RecordingSettings]


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
