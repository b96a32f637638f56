"""What is asked of a million events is found by an index, in whatever way they are asked for."""

from __future__ import annotations

import re
import sqlite3
from contextlib import closing
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from clap_server.listening.events import ClipWithheld, EventGroup
from clap_server.store.folder import DataFolder
from clap_server.store.migrations import MIGRATIONS
from clap_server.store.store import Store
from tests.server.store.conftest import POLICY
from tests.support.sound_events import START, sound_event

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

_ALL = re.compile(r"SCAN (events|changes)\b|USE TEMP B-TREE")
# Of these indices all is read that is in them, which is what is asked for.
_FEW = re.compile(r"SCAN events USING (COVERING )?INDEX events_with_clip(_to_come)?$")
# Read in the order in which it is wanted, up to a limit.
_PAGE = re.compile(r"SCAN events USING INDEX events_by_sequence$")

ID = "one"


async def _record(store: Store) -> None:
    await store.events.record("started", sound_event(id="two"), "Kitchen")


async def _settle(store: Store) -> None:
    await store.events.settle_clip(sound_event(id=ID, ended_at=START, clip_withheld=ClipWithheld.LOST))


async def _end_open(store: Store) -> None:
    assert len(await store.events.end_open()) == 1


async def _retain(store: Store) -> None:
    await store.retention.sweep()


OPERATIONS: dict[str, Callable[[Store], Awaitable[object]]] = {
    "load": lambda store: store.events.load(),
    "record": _record,
    "get": lambda store: store.events.get(ID),
    "newest": lambda store: store.events.list(limit=10),
    "older": lambda store: store.events.list(before=100),
    "page": lambda store: store.events.list(after=0),
    "of a microphone": lambda store: store.events.list(microphone="kitchen"),
    "of a microphone, page": lambda store: store.events.list(microphone="kitchen", after=0),
    "of a label": lambda store: store.events.list(label="glass_breaking"),
    "of a label, older": lambda store: store.events.list(label="glass_breaking", before=100),
    "of both": lambda store: store.events.list(microphone="kitchen", label="glass_breaking", after=0),
    "replay": lambda store: store.events.changes_after(0),
    "is it that event": lambda store: store.events.may_be_of(1, ID),
    "verdict": lambda store: store.events.set_feedback(ID, "correct"),
    "confirm": lambda store: store.events.confirm(sound_event(id=ID)),
    "regroup": lambda store: store.events.regroup(
        ID, EventGroup("g", "kitchen", None, unsure=False, microphones=())
    ),
    "settle a clip": _settle,
    "clips gone": lambda store: store.events.clips_gone([ID]),
    "clips of microphones": lambda store: store.events.microphones_of_clips(),
    "end what is open": _end_open,
    "sweep": _retain,
    "forget": lambda store: store.events.delete_before(START + timedelta(days=1)),
}


@pytest.mark.parametrize("name", OPERATIONS)
async def test_nothing_looks_at_all_events(store: Store, name: str) -> None:
    event = sound_event(id=ID)
    await store.events.record("started", event, "Kitchen")
    other = sound_event(id="over", ended_at=START, clip_withheld=ClipWithheld.COMING)
    await store.events.record("started", replace(other, ended_at=None), "Kitchen")
    await store.events.record("ended", other, "Kitchen")
    connection = store._database._connection
    assert connection is not None
    asked: list[str] = []
    await connection.set_trace_callback(asked.append)
    await OPERATIONS[name](store)
    await connection.set_trace_callback(None)
    statements = [
        sql for sql in asked if re.match(r"(SELECT|UPDATE|DELETE|INSERT)\b.*\b(events|changes)\b", sql)
    ]
    assert statements
    for sql in statements:
        plan = [row["detail"] for row in await store._database.rows(f"EXPLAIN QUERY PLAN {sql}")]
        allowed = [_FEW, _PAGE] if "LIMIT" in sql else [_FEW]
        wrong = [step for step in plan if _ALL.search(step) and not any(each.match(step) for each in allowed)]
        assert not wrong, (sql, plan)


async def test_events_of_a_label_at_a_microphone_have_an_index_of_their_own(store: Store) -> None:
    [step] = await store._database.rows(
        "EXPLAIN QUERY PLAN SELECT * FROM events WHERE 1 = 1 AND sequence > 7 AND microphone_id = 'a'"
        " AND label_id = 'b' ORDER BY sequence ASC LIMIT 100"
    )
    assert step["detail"].endswith("events_by_both (microphone_id=? AND label_id=? AND sequence>?)")


async def test_a_database_of_the_version_before_gets_the_indices(tmp_path: Path) -> None:
    folder = DataFolder(tmp_path / "data")
    folder.create()
    before = next(number for number, step in enumerate(MIGRATIONS) if "events_by_end" in step[0])
    with closing(sqlite3.connect(folder.database)) as connection, connection:
        for step in MIGRATIONS[:before]:
            for statement in step:
                connection.execute(statement)
        connection.execute(f"PRAGMA user_version = {before}")
        connection.execute(
            "INSERT INTO events (id, sequence, microphone_id, microphone_name, label_id, label_name,"
            " started_at, detected_at, threshold, score, peak_score, peak_level_dbfs, has_clip)"
            " VALUES ('old', 1, 'hall', 'Hall', 'alarm', 'Alarm', ?, ?, 0.5, 0.8, 0.9, -20.0, 0)",
            (START.isoformat(), START.isoformat()),
        )
    store = Store(folder, POLICY)
    await store.open()
    old = await store.events.get("old")
    names = {row["name"] for row in await store._database.rows("SELECT name FROM sqlite_master")}
    await store.close()
    assert old is not None
    assert old.event.ended_at == START, "it was left open, and is found"
    assert {"events_by_end", "events_by_both", "events_with_clip", "events_with_clip_to_come"} <= names
    assert "events_by_time" not in names
