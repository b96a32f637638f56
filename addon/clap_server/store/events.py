"""Events and their changes; each change has a sequence number that never comes again."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Literal

from pydantic import TypeAdapter

from clap_server.detection.events import SoundEvent
from clap_server.errors import StoreError

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Sequence

    import aiosqlite

    from clap_server.store.database import Database

_LOGGER = logging.getLogger(__name__)

Verdict = Literal["correct", "false_alarm"]
PENDING_LIMIT = 1000
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


def _text(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat(timespec="microseconds")


class EventStore:
    """All events.

    A change that cannot be written at once (the disk is full) keeps its number, is held in memory and written
    as soon as that works again: an alarm goes out even when it cannot be stored.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._lock = asyncio.Lock()
        self._last_sequence = 0
        self._pending: list[EventChange] = []
        self._failing = False

    @property
    def last_sequence(self) -> int:
        """Number of the newest change; 0 before the first."""
        return self._last_sequence

    @property
    def unwritten(self) -> int:
        """Changes that are in memory alone because the database could not be written."""
        return len(self._pending)

    async def load(self) -> None:
        """Find the newest sequence number.

        Raises:
            StoreError: the database cannot be read.
        """
        rows = await self._database.rows("SELECT seq FROM sqlite_sequence WHERE name = 'changes'")
        self._last_sequence = int(rows[0]["seq"]) if rows else 0

    async def record(
        self, change: Literal["started", "ended"], event: SoundEvent, microphone_name: str
    ) -> EventChange:
        """Give a change its number and write it.

        Returns:
            The change; also when it could not be written, which is logged.
        """
        async with self._lock:
            sequence = self._last_sequence + 1
            entry = EventChange(change, StoredEvent(event, sequence, microphone_name))
            self._last_sequence = sequence
            self._pending.append(entry)
            await self._flush()
        return entry

    async def flush(self) -> None:
        """Try again to write what could not be written."""
        async with self._lock:
            await self._flush()

    async def _flush(self) -> None:
        if not self._pending:
            return
        try:
            async with self._database.transaction() as connection:
                for entry in self._pending:
                    await _write(connection, entry)
        except StoreError as error:
            if not self._failing:
                _LOGGER.error("Events go out live but cannot be stored: %s", error)  # noqa: TRY400 - in words
            self._failing = True
            if len(self._pending) > PENDING_LIMIT:
                lost = self._pending.pop(0)
                number = lost.sequence
                _LOGGER.error("Event change %d was never stored: %s", number, error)  # noqa: TRY400 - in words
            return
        if self._failing:
            _LOGGER.warning("Events are stored again; none of %d that waited is lost", len(self._pending))
            self._failing = False
        self._pending.clear()

    async def end_open(self) -> list[EventChange]:
        """End events that the last run left open, so that nothing sticks on.

        They end when they were last known to last: at their detection.

        Raises:
            StoreError: the database cannot be read.
        """
        rows = await self._database.rows("SELECT * FROM events WHERE ended_at IS NULL ORDER BY sequence")
        changes = []
        for row in rows:
            stored = _from_row(row)
            ended = replace(stored.event, ended_at=stored.event.detected_at)
            changes.append(await self.record("ended", ended, stored.microphone_name))
        return changes

    async def get(self, event_id: str) -> StoredEvent | None:
        """One event, or None.

        Raises:
            StoreError: the database cannot be read.
        """
        rows = await self._database.rows("SELECT * FROM events WHERE id = ?", (event_id,))
        return _from_row(rows[0]) if rows else None

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
        found = [_from_row(row) for row in await self._database.rows(sql, (*values, limit))]
        return found if after is not None else found[::-1]

    async def changes_after(self, sequence: int, limit: int = REPLAY_PAGE) -> Sequence[EventChange]:
        """The first ``limit`` changes with a higher number, in order.

        Raises:
            StoreError: the database cannot be read.
        """
        rows = await self._database.rows(
            "SELECT change, event FROM changes WHERE sequence > ? ORDER BY sequence LIMIT ?",
            (sequence, limit),
        )
        changes = [EventChange(row["change"], _STORED.validate_json(row["event"])) for row in rows]
        newest = changes[-1].sequence if changes else sequence
        if len(changes) < limit:
            changes += [entry for entry in self._pending if entry.sequence > newest]
        return changes[:limit]

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
                "UPDATE events SET has_clip = 0 WHERE id = ?", [(event_id,) for event_id in event_ids]
            )

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


async def _write(connection: aiosqlite.Connection, entry: EventChange) -> None:
    stored, event = entry.stored, entry.stored.event
    await connection.execute(
        "INSERT INTO events (id, sequence, microphone_id, microphone_name, label_id, label_name, started_at,"
        " detected_at, ended_at, threshold, score, peak_score, peak_level_dbfs, has_clip)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
        " ON CONFLICT (id) DO UPDATE SET sequence = excluded.sequence, ended_at = excluded.ended_at,"
        " score = excluded.score, peak_score = excluded.peak_score, peak_level_dbfs ="
        " excluded.peak_level_dbfs,"
        " has_clip = excluded.has_clip",
        (
            event.id,
            stored.sequence,
            event.microphone_id,
            stored.microphone_name,
            event.label_id,
            event.label_name,
            _text(event.started_at),
            _text(event.detected_at),
            _text(event.ended_at) if event.ended_at is not None else None,
            float(event.threshold),
            float(event.score),
            float(event.peak_score),
            float(event.peak_level_dbfs),
            int(event.has_clip),
        ),
    )
    await connection.execute(
        "INSERT INTO changes (sequence, change, event_id, event) VALUES (?, ?, ?, ?)",
        (stored.sequence, entry.change, event.id, _STORED.dump_json(stored).decode()),
    )


def _from_row(row: sqlite3.Row) -> StoredEvent:
    ended_at = row["ended_at"]
    event = SoundEvent(
        id=row["id"],
        microphone_id=row["microphone_id"],
        label_id=row["label_id"],
        label_name=row["label_name"],
        started_at=datetime.fromisoformat(row["started_at"]),
        detected_at=datetime.fromisoformat(row["detected_at"]),
        ended_at=datetime.fromisoformat(ended_at) if ended_at is not None else None,
        threshold=row["threshold"],
        score=row["score"],
        peak_score=row["peak_score"],
        peak_level_dbfs=row["peak_level_dbfs"],
        has_clip=bool(row["has_clip"]),
    )
    return StoredEvent(event, row["sequence"], row["microphone_name"], row["feedback"])
