"""A database with many events, made in seconds."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from clap_server.listening.events import SoundEvent
from clap_server.store.migrations import MIGRATIONS

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

MICROPHONES, LABELS = 10, 20
_INSERT = """
INSERT INTO events (
    id, sequence, microphone_id, microphone_name, label_id, label_name, started_at, detected_at, ended_at,
    threshold, score, peak_score, peak_level_dbfs, has_clip, feedback
) VALUES (
    :id, :sequence, :microphone_id, :microphone_name, :label_id, :label_name, :started_at, :detected_at,
    :ended_at, :threshold, :score, :peak_score, :peak_level_dbfs, :has_clip, :feedback
)
"""
_VERDICTS = (None, None, None, None, "correct", None, None, "false_alarm")


def an_event(event_id: str, at: datetime, *, is_over: bool) -> SoundEvent:
    """An event of the first microphone with the second label."""
    return SoundEvent(
        id=event_id,
        microphone_id="m1",
        label_id="label_1",
        label_name="Label 1",
        started_at=at,
        detected_at=at,
        ended_at=at if is_over else None,
        threshold=0.7,
        score=0.9,
        peak_score=0.9,
        peak_level_dbfs=-20.0,
        has_clip=is_over,
    )


def fill(path: Path, count: int) -> None:
    """Write a database of events that are over, a minute apart, the newest of them now.

    Args:
        path: where there is no file yet.
        count: of the events; each has two changes.
    """
    with closing(sqlite3.connect(path)) as database:
        # Nobody needs what a crash would leave of it.
        database.execute("PRAGMA journal_mode = OFF")
        database.execute("PRAGMA synchronous = OFF")
        database.execute("PRAGMA cache_size = -200000")
        with database:
            for statements in MIGRATIONS:
                for statement in statements:
                    database.execute(statement)
            database.execute(f"PRAGMA user_version = {len(MIGRATIONS)}")
            for event, started, ended in _events(count):
                database.execute(_INSERT, event)
                for change in (started, ended):
                    database.execute("INSERT INTO changes VALUES (?, ?, ?, ?)", change)


_Change = tuple[int, str, str, str]


def _events(count: int) -> Iterator[tuple[dict[str, object], _Change, _Change]]:
    newest = datetime.now(UTC)
    for number in range(count):
        started_at = newest - timedelta(minutes=count - number)
        event_id = f"event-{number:08d}"
        event: dict[str, object] = {
            "id": event_id,
            "microphone_id": f"m{number % MICROPHONES}",
            "label_id": f"label_{number * 7 % LABELS}",
            "label_name": f"Label {number * 7 % LABELS}",
            "started_at": _text(started_at),
            "detected_at": _text(started_at + timedelta(seconds=1)),
            "ended_at": _text(started_at + timedelta(seconds=5)),
            "threshold": 0.7,
            "score": 0.7 + number * 31 % 300 / 1000,
            "peak_score": 0.8,
            "peak_level_dbfs": -20.0,
            "has_clip": int(number >= count - 1000),
        }
        told = {**event, "has_clip": False, "ended_at": None}
        stored = {"microphone_name": f"Room {number % MICROPHONES}"}
        first, second = 2 * number + 1, 2 * number + 2
        yield (
            {**event, **stored, "sequence": second, "feedback": _VERDICTS[number % len(_VERDICTS)]},
            (first, "started", event_id, json.dumps({"event": told, "sequence": first, **stored})),
            (second, "ended", event_id, json.dumps({"event": event, "sequence": second, **stored})),
        )


def _text(moment: datetime) -> str:
    return moment.isoformat(timespec="microseconds")
