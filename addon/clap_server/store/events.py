"""Events and their changes; each change has a sequence number that never comes again."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
from dataclasses import dataclass, fields, replace
from datetime import UTC, datetime
from numbers import Real
from typing import TYPE_CHECKING, Any, Literal, TypeVar
from uuid import uuid4

from pydantic import TypeAdapter

from clap_server.detection.rivals import Close
from clap_server.errors import StoreError
from clap_server.listening.events import ClipWithheld, EventGroup, SoundEvent
from clap_server.store.database import CONTENT_ERRORS

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable, Iterable, Iterator, Sequence

    import aiosqlite

    from clap_server.store.database import Database

_LOGGER = logging.getLogger(__name__)

_Read = TypeVar("_Read")
Verdict = Literal["correct", "false_alarm"]
PENDING_LIMIT = 1000
# While the disk is full, at least half of these numbers can still be given.
RESERVED_AHEAD = 1000
REPLAY_PAGE = 500


@dataclass(frozen=True, slots=True)
class StoredEvent:
    """An event with what the store knows of it.

    Attributes:
        event: what was heard.
        sequence: number of its newest change.
        microphone_name: the name when it was heard.
        feedback: what the user said of it.
    """

    event: SoundEvent
    sequence: int
    microphone_name: str
    feedback: Verdict | None = None


@dataclass(frozen=True, slots=True)
class EventChange:
    """An event started or ended.

    Attributes:
        change: which of the two.
        stored: the event as it was then; its sequence number is the change's.
    """

    change: Literal["started", "ended"]
    stored: StoredEvent

    @property
    def sequence(self) -> int:
        """The change's own number."""
        return self.stored.sequence


_STORED: TypeAdapter[StoredEvent] = TypeAdapter(StoredEvent)
_EVENT: TypeAdapter[SoundEvent] = TypeAdapter(SoundEvent)
_COLUMNS = tuple(field.name for field in fields(SoundEvent))
"""An event's attributes are columns of the same names."""
_JSON: dict[str, TypeAdapter[Any]] = {
    "close": TypeAdapter(tuple[Close, ...]),
    "group": TypeAdapter(EventGroup | None),
}
"""Those that are kept as JSON."""


def _text(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat(timespec="microseconds")


class EventStore:
    """All events.

    A change that cannot be written at once (the disk is full) keeps its number, is held in memory and written
    as soon as that works again: an alarm goes out even when it cannot be stored.

    Numbers are reserved in the database before any of them is given, so that after a crash none comes again,
    whether its change was written or not. Where even that cannot be written, a new epoch begins.

    Args:
        database: where they are kept.
        epoch_changed: is called when a new epoch begins while the server runs.
    """

    def __init__(self, database: Database, epoch_changed: Callable[[], None] | None = None) -> None:
        self._database = database
        self._epoch_changed = epoch_changed
        self._lock = asyncio.Lock()
        self._epoch = ""
        self._last_sequence = 0
        self._reserved = 0
        self._epoch_is_stored = False
        self._active: dict[str, StoredEvent] = {}
        self._pending: list[EventChange] = []
        self._failing = False
        self._unreadable: set[int] = set()

    @property
    def epoch(self) -> str:
        """UUID of the numbering: in another epoch the same numbers mean other changes."""
        return self._epoch

    @property
    def last_sequence(self) -> int:
        """Number of the newest change; 0 before the first."""
        return self._last_sequence

    @property
    def active(self) -> tuple[str, ...]:
        """Ids of the events that go on now."""
        return tuple(self._active)

    @property
    def unwritten(self) -> int:
        """Changes that are in memory alone because the database could not be written."""
        return len(self._pending)

    async def load(self) -> None:
        """Find where numbers go on: after all that may have been given.

        Raises:
            StoreError: the database cannot be read.
        """
        [row] = await self._database.rows("SELECT MAX(sequence) AS newest FROM changes")
        newest = row["newest"] or 0
        for given in await self._database.rows("SELECT seq FROM sqlite_sequence WHERE name = 'changes'"):
            newest = max(newest, given["seq"])
        numbering = await self._database.rows("SELECT epoch, reserved FROM numbering")
        self._epoch_is_stored = bool(numbering)
        self._epoch = numbering[0]["epoch"] if numbering else str(uuid4())
        self._last_sequence = self._reserved = max(newest, numbering[0]["reserved"] if numbering else 0)
        async with self._lock:
            await self._flush()

    async def close(self) -> None:
        """Write what is left, and give back the numbers that were not used."""
        async with self._lock:
            await self._flush()
            if not self._pending and self._last_sequence < self._reserved:
                with contextlib.suppress(StoreError):
                    async with self._database.transaction() as connection:
                        await self._reserve(connection, self._last_sequence)

    async def record(
        self, change: Literal["started", "ended"], event: SoundEvent, microphone_name: str
    ) -> EventChange:
        """Give a change its number and write it.

        Returns:
            The change; also when it could not be written, which is logged.
        """
        async with self._lock:
            sequence = self._last_sequence + 1
            stored = StoredEvent(event, sequence, microphone_name)
            if change == "started":
                self._active[event.id] = stored
            elif (started := self._active.pop(event.id, None)) is not None:
                # The microphone may have another name by now, or be removed.
                stored = replace(stored, microphone_name=started.microphone_name)
            entry = EventChange(change, stored)
            self._last_sequence = sequence
            self._pending.append(entry)
            await self._flush()
            if sequence > self._reserved and self._epoch_is_stored:
                self._begin_epoch()
        return entry

    async def confirm(self, event: SoundEvent) -> StoredEvent | None:
        """Keep what became known of an event while it goes on: its pattern, what else it might be, its group.

        If it cannot be written, the event's end will bring it.

        Returns:
            The event as it is now; None if it is over.
        """
        async with self._lock:
            started = self._active.get(event.id)
            if started is None:
                return None
            self._active[event.id] = stored = replace(started, event=event)
            with contextlib.suppress(StoreError):
                async with self._database.transaction() as connection:
                    await connection.execute(
                        "UPDATE events SET pattern = ?, peak_score = ?, peak_level_dbfs = ?, close = ?,"
                        ' "group" = ? WHERE id = ?',
                        (
                            event.pattern,
                            event.peak_score,
                            event.peak_level_dbfs,
                            _column("close", event.close),
                            _column("group", event.group),
                            event.id,
                        ),
                    )
        return stored

    async def regroup(self, event_id: str, group: EventGroup) -> StoredEvent | None:
        """Keep what became known of the group of an event, which may be over.

        Returns:
            The event as it is now; None if there is none, or it cannot be read.
        """

        def regrouped(stored: StoredEvent) -> StoredEvent:
            return replace(stored, event=replace(stored.event, group=group))

        async with self._lock:
            found: StoredEvent | None = None
            for number, entry in enumerate(self._pending):
                if entry.stored.event.id == event_id:
                    found = regrouped(entry.stored)
                    self._pending[number] = replace(entry, stored=found)
            if (started := self._active.get(event_id)) is not None:
                found = self._active[event_id] = regrouped(started)
            with contextlib.suppress(StoreError):
                async with self._database.transaction() as connection:
                    await connection.execute(
                        'UPDATE events SET "group" = ? WHERE id = ?', (_column("group", group), event_id)
                    )
                found = found or await self.get(event_id)
        return found

    async def settle_clip(self, event: SoundEvent) -> StoredEvent | None:
        """Keep whether the recording of an event that is over has come; the end is replayed with it.

        Args:
            event: with ``has_clip``, ``clip_withheld`` and ``clip_starts_at`` as they are now.

        Returns:
            The event as it is now; None if it is not known any more.

        Raises:
            StoreError: it cannot be stored.
        """

        def settled(stored: SoundEvent) -> SoundEvent:
            return replace(
                stored,
                has_clip=event.has_clip,
                clip_withheld=event.clip_withheld,
                clip_starts_at=event.clip_starts_at,
            )

        async with self._lock:
            self._pending = [
                replace(entry, stored=replace(entry.stored, event=settled(entry.stored.event)))
                if entry.stored.event.id == event.id and entry.change == "ended"
                else entry
                for entry in self._pending
            ]
            async with self._database.transaction() as connection:
                await connection.execute(
                    "UPDATE events SET has_clip = ?, clip_withheld = ?, clip_starts_at = ? WHERE id = ?",
                    (
                        int(event.has_clip),
                        event.clip_withheld,
                        _column("clip_starts_at", event.clip_starts_at),
                        event.id,
                    ),
                )
                await connection.execute(
                    "UPDATE changes SET event = json_set(event, '$.event.has_clip', json(?),"
                    " '$.event.clip_withheld', ?) WHERE event_id = ? AND change = 'ended'",
                    ("true" if event.has_clip else "false", event.clip_withheld, event.id),
                )
        return await self.get(event.id)

    async def flush(self) -> None:
        """Try again to write what could not be written."""
        async with self._lock:
            await self._flush()

    async def _flush(self) -> None:
        """Write what waits and reserve numbers; trouble with that is noted by the database."""
        ahead = self._last_sequence + RESERVED_AHEAD
        reserving = not self._epoch_is_stored or self._reserved < ahead - RESERVED_AHEAD // 2
        if not (self._pending or reserving):
            return
        refused: list[tuple[EventChange, Exception]] = []
        try:
            async with self._database.transaction() as connection:
                for entry in self._pending:
                    await connection.execute("SAVEPOINT change")
                    try:
                        await _write(connection, entry)
                    except CONTENT_ERRORS as error:
                        await connection.execute("ROLLBACK TO change")
                        refused.append((entry, error))
                    await connection.execute("RELEASE change")
                if reserving:
                    await self._reserve(connection, ahead)
        except StoreError as error:
            self._failing = bool(self._pending)
            if len(self._pending) > PENDING_LIMIT:
                lost = self._pending.pop(0)
                _LOGGER.error("Event change %d was never stored: %s", lost.sequence, error)
            return
        if reserving:
            self._reserved, self._epoch_is_stored = ahead, True
        for entry, reason in refused:
            _LOGGER.error("Event change %d cannot be stored and is dropped: %s", entry.sequence, reason)
        if self._failing:
            _LOGGER.warning("Events are stored again; %d waited", len(self._pending) - len(refused))
            self._failing = False
        self._pending.clear()

    async def _reserve(self, connection: aiosqlite.Connection, sequence: int) -> None:
        await connection.execute(
            "INSERT INTO numbering (id, epoch, reserved) VALUES (1, ?, ?)"
            " ON CONFLICT (id) DO UPDATE SET epoch = excluded.epoch, reserved = excluded.reserved",
            (self._epoch, sequence),
        )

    def _begin_epoch(self) -> None:
        """Go on with numbers that the database knows nothing of: a crash would have them come again."""
        self._epoch = str(uuid4())
        self._epoch_is_stored = False
        _LOGGER.error("The event numbers that were reserved are used up; clients will read all events again")
        if self._epoch_changed is not None:
            self._epoch_changed()

    async def end_open(self) -> list[EventChange]:
        """End events that the last run left open, so that nothing sticks on.

        They end when they were last known to last: at their detection. Recordings that were to come are lost.

        Raises:
            StoreError: the database cannot be read.
        """
        rows = await self._database.rows("SELECT * FROM events WHERE ended_at IS NULL ORDER BY sequence")
        changes = []
        for stored in self._readable(rows, _from_row):
            ended = replace(stored.event, ended_at=stored.event.detected_at, clip_withheld=ClipWithheld.LOST)
            changes.append(await self.record("ended", ended, stored.microphone_name))
        # Not bound, or the index of these alone could not be used.
        coming = "SELECT * FROM events WHERE clip_withheld = 'coming' ORDER BY sequence"
        for stored in self._readable(await self._database.rows(coming), _from_row):
            await self.settle_clip(replace(stored.event, clip_withheld=ClipWithheld.LOST))
        return changes

    async def get(self, event_id: str) -> StoredEvent | None:
        """One event, or None.

        Raises:
            StoreError: the database cannot be read.
        """
        rows = await self._database.rows("SELECT * FROM events WHERE id = ?", (event_id,))
        return next(self._readable(rows, _from_row), None)

    async def list(
        self,
        *,
        after: int | None = None,
        before: int | None = None,
        microphone: str | None = None,
        label: str | None = None,
        limit: int = 100,
    ) -> list[StoredEvent]:
        """Events in the order of their newest change, oldest first.

        Args:
            after: only those whose newest change has a higher number; the first ``limit`` of them.
            before: only those whose newest change has a lower number.
            microphone: only of this microphone id.
            label: only of this label id.
            limit: at most so many; without ``after`` the newest.

        Raises:
            StoreError: the database cannot be read.
        """
        conditions, values = ["1 = 1"], list[object]()
        for condition, value in (
            ("sequence > ?", after),
            ("sequence < ?", before),
            ("microphone_id = ?", microphone),
            ("label_id = ?", label),
        ):
            if value is not None:
                conditions.append(condition)
                values.append(value)
        order = "ASC" if after is not None else "DESC"
        # Only fixed text is put together here; values are bound.
        sql = f"SELECT * FROM events WHERE {' AND '.join(conditions)} ORDER BY sequence {order} LIMIT ?"  # noqa: S608 - made of fixed parts
        rows = await self._database.rows(sql, (*values, limit))
        # In a thread: of many it takes its time, and live sound must not wait.
        found = await asyncio.to_thread(_all, self._readable(rows, _from_row))
        return found if after is not None else found[::-1]

    async def changes_after(self, sequence: int, limit: int = REPLAY_PAGE) -> Sequence[EventChange]:
        """The first ``limit`` changes with a higher number, in order.

        Raises:
            StoreError: the database cannot be read.
        """
        while True:
            # Under the lock: what waits must not be written between the two looks.
            async with self._lock:
                rows = await self._database.rows(
                    "SELECT sequence, change, event FROM changes WHERE sequence > ?"
                    " ORDER BY sequence LIMIT ?",
                    (sequence, limit),
                )
                sequence = rows[-1]["sequence"] if rows else sequence
                waiting = [entry for entry in self._pending if entry.sequence > sequence]
            changes = await asyncio.to_thread(_all, self._readable(rows, _change_from_row))
            if len(rows) < limit:
                return [*changes, *waiting][:limit]
            if changes:
                return changes

    async def may_be_of(self, sequence: int, event_id: str) -> bool:
        """Whether a change is of an event, as far as is known: not if it is of another.

        Raises:
            StoreError: the database cannot be read.
        """
        async with self._lock:
            rows = await self._database.rows("SELECT event_id FROM changes WHERE sequence = ?", (sequence,))
            waiting = [entry.stored.event.id for entry in self._pending if entry.sequence == sequence]
        return all(known == event_id for known in (*(row["event_id"] for row in rows), *waiting))

    def _readable(self, rows: Iterable[sqlite3.Row], read: Callable[[sqlite3.Row], _Read]) -> Iterator[_Read]:
        """Read rows; one that makes no sense is left out, which is logged once."""
        for row in rows:
            try:
                yield read(row)
            except (ValueError, TypeError) as error:
                if row["sequence"] not in self._unreadable:
                    self._unreadable.add(row["sequence"])
                    _LOGGER.error("Event change %d in the database is unreadable: %s", row["sequence"], error)

    async def set_feedback(self, event_id: str, verdict: Verdict) -> bool:
        """Keep what the user said of an event.

        Returns:
            Whether there is such an event.

        Raises:
            StoreError: it cannot be stored.
        """
        async with self._database.transaction() as connection:
            cursor = await connection.execute(
                "UPDATE events SET feedback = ? WHERE id = ?", (verdict, event_id)
            )
            return cursor.rowcount > 0

    async def clips_gone(self, event_ids: Sequence[str]) -> None:
        """Note that the clips of these events were removed.

        Raises:
            StoreError: it cannot be stored.
        """
        async with self._database.transaction() as connection:
            await connection.executemany(
                "UPDATE events SET has_clip = 0, clip_withheld = ? WHERE id = ?",
                [(ClipWithheld.REMOVED, event_id) for event_id in event_ids],
            )

    async def microphones_of_clips(self) -> dict[str, str]:
        """Of each event that has a recording, where it was heard.

        Returns:
            Microphone id by event id.

        Raises:
            StoreError: the database cannot be read.
        """
        rows = await self._database.rows("SELECT id, microphone_id FROM events WHERE has_clip = 1")
        return {row["id"]: row["microphone_id"] for row in rows}

    async def delete_before(self, moment: datetime) -> int:
        """Forget events that were over before ``moment``, and their changes.

        Returns:
            How many.

        Raises:
            StoreError: it cannot be stored.
        """
        async with self._database.transaction() as connection:
            await connection.execute(
                "DELETE FROM changes WHERE event_id IN (SELECT id FROM events WHERE ended_at < ?)",
                (_text(moment),),
            )
            cursor = await connection.execute("DELETE FROM events WHERE ended_at < ?", (_text(moment),))
            return cursor.rowcount


def _all(found: Iterator[_Read]) -> list[_Read]:
    return list(found)


async def _write(connection: aiosqlite.Connection, entry: EventChange) -> None:
    stored = entry.stored
    event = {name: _column(name, getattr(stored.event, name)) for name in _COLUMNS}
    if not all(math.isfinite(value) for value in event.values() if isinstance(value, float)):
        raise ValueError("a score or level is not a finite number")
    row = {**event, "sequence": stored.sequence, "microphone_name": stored.microphone_name}
    changing = (*(f'"{name}"' for name in _COLUMNS if name != "id"), "sequence")
    columns = ", ".join(f'"{name}"' for name in row)
    # Only names of columns are put together here; values are bound.
    await connection.execute(
        f"INSERT INTO events ({columns}) VALUES ({', '.join('?' * len(row))})"  # noqa: S608
        f" ON CONFLICT (id) DO UPDATE SET {', '.join(f'{name} = excluded.{name}' for name in changing)}",
        tuple(row.values()),
    )
    await connection.execute(
        "INSERT INTO changes (sequence, change, event_id, event) VALUES (?, ?, ?, ?)",
        (stored.sequence, entry.change, stored.event.id, _STORED.dump_json(stored).decode()),
    )


def _column(name: str, value: object) -> object:
    """What SQLite keeps of an attribute of an event."""
    if name in _JSON:
        return _JSON[name].dump_json(value).decode() if value else None
    match value:
        case datetime():
            return _text(value)
        case bool():
            return int(value)
        case Real():
            return float(value)
        case _:
            return value


def _change_from_row(row: sqlite3.Row) -> EventChange:
    return EventChange(row["change"], _STORED.validate_json(row["event"]))


def _from_row(row: sqlite3.Row) -> StoredEvent:
    columns = {name: row[name] for name in _COLUMNS}
    for name, adapter in _JSON.items():
        text = columns.pop(name)
        if text is not None:
            columns[name] = adapter.validate_json(text)
    event = _EVENT.validate_python(columns)
    return StoredEvent(event, row["sequence"], row["microphone_name"], row["feedback"])
