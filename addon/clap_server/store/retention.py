"""Removes clips that are too old or too many, events that are long over, and what rooms taught long ago.

Age, count and megabytes each have a limit for all clips together and, where a microphone has its own, for
those of that microphone. Its age replaces the server's; its count and megabytes hold besides the server's.

A clip that was written is weighed at once against what the last sweep saw, so that a burst of events fills no
disk. What is made from clips on demand is weighed at the sweep.
"""

from __future__ import annotations

import asyncio
import logging
import time
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from clap_server.errors import StoreError
from clap_server.listening.config import RecordingSettings
from clap_server.listening.room.reservoir import KEPT_S
from clap_server.store.background import Background
from clap_server.store.clips import TEMPORARY_SUFFIX, day
from clap_server.store.trouble import explain

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from collections.abc import Set as AbstractSet

    from clap_server.listening.events import SoundEvent
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
        self._kept: dict[str, _Clip] = {}
        self._derived_bytes = 0
        self._written: list[SoundEvent] = []
        self._news = asyncio.Event()

    def start(self) -> None:
        """Sweep in the background until ``stop``."""
        self._background.start(self._run())

    async def stop(self) -> None:
        """End the background work."""
        await self._background.stop()

    def clip_written(self, event: SoundEvent) -> None:
        """Have the limits held in the background now that an event has its clip, and is stored with it."""
        self._written.append(event)
        self._news.set()

    async def _run(self) -> None:
        failing = False
        next_sweep_s = time.monotonic()
        while True:
            try:
                if time.monotonic() >= next_sweep_s:
                    next_sweep_s = time.monotonic() + INTERVAL_S
                    await self.sweep()
                else:
                    await self.hold_limits()
                failing = False
            except StoreError as error:
                if not failing:
                    _LOGGER.error("Old clips cannot be removed: %s", error)
                failing = True
            with suppress(TimeoutError):
                async with asyncio.timeout(next_sweep_s - time.monotonic()):
                    await self._news.wait()

    async def sweep(self) -> int:
        """Remove what is too much, once.

        Returns:
            How many clips were removed.

        Raises:
            StoreError: a folder or the database cannot be read or written.
        """
        now = datetime.now(UTC)
        heard_at = await self._events.microphones_of_clips()
        removed = await asyncio.to_thread(self._sweep_files, now.timestamp(), heard_at, self._limits())
        await self._tell(removed)
        forgotten = await self._events.delete_before(now - timedelta(days=self._policy.event_days))
        if forgotten:
            _LOGGER.info("Forgot %d old events", forgotten)
        # Also of microphones that are switched off.
        await self._rooms.delete_before(now.timestamp() - KEPT_S)
        return len(removed)

    async def hold_limits(self) -> int:
        """Remove what is too much by the clips that were written since the last time; reads no folder.

        Returns:
            How many clips were removed.

        Raises:
            StoreError: a file cannot be removed, or the database cannot be written.
        """
        self._news.clear()
        written, self._written = self._written, []
        now_s = datetime.now(UTC).timestamp()
        removed = await asyncio.to_thread(self._make_room, written, now_s, self._limits())
        await self._tell(removed)
        return len(removed)

    def _limits(self) -> dict[str, RecordingSettings]:
        """Of the microphones that have their own."""
        return {
            microphone.id: microphone.settings.recording
            for microphone in self._microphones.all()
            if microphone.settings.recording != RecordingSettings()
        }

    async def _tell(self, removed: list[str]) -> None:
        if removed:
            await self._events.clips_gone(removed)
            _LOGGER.info("Removed %d old clips", len(removed))

    def _make_room(
        self, written: list[SoundEvent], now_s: float, limits: Mapping[str, RecordingSettings]
    ) -> list[str]:
        with self._explained():
            for event in written:
                for file in _oldest_first([self._clips.path(event)]):
                    self._kept[event.id] = _Clip(
                        str(file.path), file.modified, file.size, event.microphone_id
                    )
            taken = sum(clip.size for clip in self._kept.values())
            within = self._within_limits(now_s, limits)
            if taken + self._derived_bytes <= self._policy.clip_bytes and len(within) == len(self._kept):
                return []
            self._remove_derived(taken, within)
            return self._remove_clips(within)

    def _sweep_files(
        self, now_s: float, heard_at: Mapping[str, str], limits: Mapping[str, RecordingSettings]
    ) -> list[str]:
        with self._explained():
            self._remove_leftovers(now_s)
            known, self._kept = self._kept, {}
            for file in _oldest_first(self._folder.clips.glob("*/*.flac")):
                name = file.path.stem
                # Of a clip whose event is too old nothing is known: it has the server's limits alone.
                microphone_id = heard_at.get(name)
                if microphone_id is None and name in known:
                    microphone_id = known[name].microphone_id
                self._kept[name] = _Clip(str(file.path), file.modified, file.size, microphone_id)
            taken = sum(clip.size for clip in self._kept.values())
            within = self._within_limits(now_s, limits)
            self._remove_derived(taken, within)
            removed = self._remove_clips(within)
            # A clip may be on its way into the newest folders.
            settled = day(datetime.fromtimestamp(now_s, UTC) - timedelta(days=2))
            for folder in self._folder.clips.iterdir():
                if folder.is_dir() and folder.name < settled and not any(folder.iterdir()):
                    folder.rmdir()
        return removed

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            reason = explain(error, self._folder.clips, "clips_failed")
            raise StoreError(f"The clips folder {self._folder.clips} cannot be tidied: {reason}") from error

    def _remove_derived(self, taken: int, kept: AbstractSet[str]) -> None:
        """Remove what can be made again, the oldest first: it goes before any clip.

        Args:
            taken: bytes of all clips.
            kept: names of the clips that stay.
        """
        derived = _oldest_first(self._clips.all_cached())
        self._derived_bytes = sum(file.size for file in derived)
        for file in derived:
            if taken + self._derived_bytes > self._policy.clip_bytes or file.path.stem not in kept:
                file.path.unlink(missing_ok=True)
                self._derived_bytes -= file.size

    def _remove_clips(self, within: AbstractSet[str]) -> list[str]:
        removed = []
        total = self._derived_bytes + sum(clip.size for clip in self._kept.values())
        for name, clip in sorted(self._kept.items(), key=lambda item: item[1].modified):
            if name in within and total <= self._policy.clip_bytes:
                continue
            Path(clip.location).unlink(missing_ok=True)
            del self._kept[name]
            total -= clip.size
            removed.append(name)
        return removed

    def _within_limits(self, now_s: float, limits: Mapping[str, RecordingSettings]) -> set[str]:
        """Names of the clips that neither age nor number forbids, nor the megabytes of their microphone.

        Args:
            now_s: POSIX time.
            limits: of single microphones, by their ids.
        """
        kept: set[str] = set()
        of_microphone: dict[str, tuple[int, int]] = {}
        for name, clip in sorted(self._kept.items(), key=lambda item: item[1].modified, reverse=True):
            own = None if clip.microphone_id is None else limits.get(clip.microphone_id)
            days = own.clip_days if own is not None else None
            if now_s - clip.modified > (self._policy.clip_days if days is None else days) * DAY_S:
                continue
            if own is not None and clip.microphone_id is not None:
                count, size = of_microphone.get(clip.microphone_id, (0, 0))
                count, size = count + 1, size + clip.size
                of_microphone[clip.microphone_id] = count, size
                if own.max_clips is not None and count > own.max_clips:
                    continue
                if own.max_mb is not None and size > own.max_mb * MEGABYTE:
                    continue
            if self._policy.max_clips is not None and len(kept) >= self._policy.max_clips:
                continue
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


class _Clip(NamedTuple):
    location: str
    modified: float
    size: int
    microphone_id: str | None


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
