from __future__ import annotations

import asyncio
import json
import math
import sqlite3
from dataclasses import asdict, replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

import pytest

from clap_server.detection.patterns import AlarmPattern
from clap_server.detection.rivals import Close
from clap_server.errors import StoreError
from clap_server.listening.events import ClipWithheld, EventGroup, HeardAt, SoundEvent
from clap_server.store.folder import DataFolder
from clap_server.store.migrations import MIGRATIONS
from clap_server.store.store import Store
from tests.server.store.conftest import POLICY
from tests.support.sound_events import START, sound_event

if TYPE_CHECKING:
    from pathlib import Path


async def _fill_disk(store: Store) -> None:
    """Make SQLite say that the disk is full at the next page that it needs."""
    database = store.events._database
    [row] = await database.rows("PRAGMA page_count")
    await database.rows(f"PRAGMA max_page_count = {row[0]}")


async def _free_disk(store: Store) -> None:
    await store.events._database.rows("PRAGMA max_page_count = 1000000")


async def _reopened(store: Store) -> Store:
    await store.close()
    again = Store(DataFolder(store.folder.root), POLICY)
    await again.open()
    return again


async def test_event_reads_back_as_it_was_written(store: Store) -> None:
    event = sound_event()
    change = await store.events.record("started", event, "Kitchen")
    stored = await store.events.get(event.id)
    assert stored is not None
    assert stored.event == event
    assert (stored.sequence, stored.microphone_name, stored.feedback) == (change.sequence, "Kitchen", None)


async def test_end_of_event_keeps_what_was_known_at_its_start(store: Store) -> None:
    event = sound_event()
    await store.events.record("started", event, "Kitchen")
    ended = replace(event, ended_at=START + timedelta(seconds=3), peak_score=0.97, has_clip=True)
    await store.events.record("ended", ended, "Kitchen")
    stored = await store.events.get(event.id)
    assert stored is not None
    assert stored.event == ended
    assert stored.sequence == 2


async def test_each_change_is_replayed_as_it_was_then(store: Store) -> None:
    event = sound_event()
    await store.events.record("started", event, "Kitchen")
    ended = replace(event, ended_at=START + timedelta(seconds=3))
    await store.events.record("ended", ended, "Kitchen")
    started, over = await store.events.changes_after(0)
    assert (started.change, started.stored.event) == ("started", event)
    assert (over.change, over.stored.event) == ("ended", ended)
    assert [change.sequence for change in await store.events.changes_after(1)] == [2]
    assert await store.events.changes_after(2) == []


async def test_changes_come_page_by_page(store: Store) -> None:
    for _ in range(7):
        await store.events.record("started", sound_event(), "Kitchen")
    first = await store.events.changes_after(0, limit=5)
    rest = await store.events.changes_after(first[-1].sequence, limit=5)
    assert [change.sequence for change in (*first, *rest)] == [1, 2, 3, 4, 5, 6, 7]


async def test_sequence_goes_on_after_restart(store: Store) -> None:
    await store.events.record("ended", sound_event(ended_at=START), "Kitchen")
    again = await _reopened(store)
    try:
        assert again.events.last_sequence == 1
        assert (await again.events.record("started", sound_event(), "Kitchen")).sequence == 2
    finally:
        await again.close()


async def test_sequence_never_comes_again_after_all_events_were_deleted(store: Store) -> None:
    for _ in range(3):
        await store.events.record("ended", sound_event(ended_at=START), "Kitchen")
    assert await store.events.delete_before(START + timedelta(days=1)) == 3
    assert await store.events.changes_after(0) == []
    again = await _reopened(store)
    try:
        assert (await again.events.record("started", sound_event(), "Kitchen")).sequence == 4
    finally:
        await again.close()


async def test_concurrent_changes_get_different_numbers(store: Store) -> None:
    changes = await asyncio.gather(
        *(store.events.record("started", sound_event(), "Kitchen") for _ in range(20))
    )
    assert sorted(change.sequence for change in changes) == list(range(1, 21))


async def test_event_left_open_by_a_crash_is_ended_with_a_change(store: Store) -> None:
    event = sound_event()
    await store.events.record("started", event, "Kitchen")
    again = await _reopened(store)
    try:
        [_, ended] = await again.events.changes_after(0)
        assert (ended.change, ended.sequence) == ("ended", 2)
        assert ended.stored.event.ended_at == event.detected_at
    finally:
        await again.close()
    third = await _reopened(again)
    try:
        assert third.events.last_sequence == 2, "ended once, not at each start"
    finally:
        await third.close()


async def test_filters_pick_events(store: Store) -> None:
    kitchen = sound_event()
    hall = sound_event(microphone_id="hall")
    alarm = sound_event(label_id="alarm")
    for event in (kitchen, hall, alarm):
        await store.events.record("started", event, "Name")

    async def ids(**filters: object) -> list[str]:
        return [stored.event.id for stored in await store.events.list(**filters)]  # type: ignore[arg-type] # a test's shorthand

    assert await ids() == [kitchen.id, hall.id, alarm.id]
    assert await ids(microphone="hall") == [hall.id]
    assert await ids(label="alarm") == [alarm.id]
    assert await ids(limit=2) == [hall.id, alarm.id], "the newest"
    assert await ids(after=0, limit=2) == [kitchen.id, hall.id], "the next ones"
    assert await ids(after=2) == [alarm.id]
    assert await ids(before=3, limit=1) == [hall.id]
    assert await ids(label="'; DROP TABLE events; --") == []


async def test_feedback_is_kept_and_survives_the_end(store: Store) -> None:
    event = sound_event()
    await store.events.record("started", event, "Kitchen")
    assert await store.events.set_feedback(event.id, "false_alarm")
    await store.events.record("ended", replace(event, ended_at=START), "Kitchen")
    stored = await store.events.get(event.id)
    assert stored is not None
    assert stored.feedback == "false_alarm"
    assert not await store.events.set_feedback("nothing", "correct")


async def test_event_goes_out_while_the_disk_is_full_and_is_written_later(
    store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    await store.events.record("started", sound_event(), "Kitchen")
    await _fill_disk(store)
    written = store.events.last_sequence
    held = [
        await store.events.record("started", sound_event(label_name="x" * 5000), "Hall") for _ in range(3)
    ]
    assert store.events.unwritten == 3
    assert [change.sequence for change in held] == [written + 1, written + 2, written + 3]
    replayed = await store.events.changes_after(written)
    assert [change.sequence for change in replayed] == [change.sequence for change in held]
    assert await store.events.delete_before(START) == 0
    assert store.trouble is not None, "to write nothing works on a full disk, too"
    assert store.trouble.code == "disk_full"
    assert caplog.text.count("disk") == 1, "said once"
    await _free_disk(store)
    await store.events.flush()
    assert store.events.unwritten == 0
    assert "stored again" in caplog.text
    for change in held:
        assert await store.events.get(change.stored.event.id) is not None


async def test_memory_is_bounded_while_nothing_can_be_written(
    store: Store, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("clap_server.store.events.PENDING_LIMIT", 2)
    await _fill_disk(store)
    for _ in range(4):
        await store.events.record("started", sound_event(label_name="x" * 5000), "Hall")
    assert store.events.unwritten == 2
    assert "never stored" in caplog.text


async def test_writing_after_close_is_refused_in_words(store: Store) -> None:
    await store.close()
    with pytest.raises(StoreError, match="closed"):
        await store.events.get("any")


async def test_cancelled_write_leaves_the_database_usable(store: Store) -> None:
    for _ in range(5):
        task = asyncio.create_task(store.events.set_feedback("none", "correct"))
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    change = await store.events.record("started", sound_event(), "Kitchen")
    assert store.events.unwritten == 0
    assert await store.events.get(change.stored.event.id) is not None


@pytest.mark.parametrize("content", [{"peak_level_dbfs": math.nan}, {"label_name": "a\ud800b"}])
async def test_change_that_cannot_be_stored_blocks_nothing(
    store: Store, content: dict[str, object], caplog: pytest.LogCaptureFixture
) -> None:
    before = await store.events.record("started", sound_event(), "Kitchen")
    refused = await store.events.record("started", sound_event(**content), "Kitchen")
    after = await store.events.record("started", sound_event(), "Kitchen")
    assert store.events.unwritten == 0
    assert store.trouble is None
    stored = [change.sequence for change in await store.events.changes_after(0)]
    assert stored == [before.sequence, after.sequence]
    assert await store.events.get(refused.stored.event.id) is None
    assert f"Event change {refused.sequence} cannot be stored" in caplog.text


async def test_unreadable_rows_hide_nothing_else(store: Store, caplog: pytest.LogCaptureFixture) -> None:
    good = [await store.events.record("started", sound_event(), "Kitchen") for _ in range(6)]
    async with store._database.transaction() as connection:
        await connection.execute("UPDATE changes SET event = '{\"score\": null}' WHERE sequence IN (1, 2, 5)")
        await connection.execute("UPDATE events SET started_at = 'yesterday' WHERE sequence = 1")
    read, newest = [], 0
    while changes := await store.events.changes_after(newest, limit=2):
        read += [change.sequence for change in changes]
        newest = read[-1]
    assert read == [3, 4, 6]
    assert len(await store.events.list()) == 5
    assert await store.events.get(good[0].stored.event.id) is None
    assert caplog.text.count("change 1 in the database is unreadable") == 1
    again = await _reopened(store)
    try:
        assert again.events.active == ()
    finally:
        await again.close()


async def test_events_that_go_on_are_known(store: Store) -> None:
    lasting, over = sound_event(), sound_event()
    for event in (lasting, over):
        await store.events.record("started", event, "Kitchen")
    await store.events.record("ended", replace(over, ended_at=START), "Kitchen")
    assert store.events.active == (lasting.id,)


async def _is_kept_and_replayed(store: Store, event: SoundEvent) -> None:
    """Over a restart, which ends it."""
    await store.events.record("started", event, "Kitchen")
    again = await _reopened(store)
    try:
        stored = await again.events.get(event.id)
        started, ended = await again.events.changes_after(0)
    finally:
        await again.close()
    assert stored is not None
    assert started.stored.event == event
    over = replace(event, ended_at=event.detected_at, clip_withheld=ClipWithheld.LOST)
    assert stored.event == ended.stored.event == over


async def test_the_pattern_of_an_event_is_kept_and_replayed(store: Store) -> None:
    event = sound_event(label_id="smoke_alarm", pattern=AlarmPattern.T3)
    await _is_kept_and_replayed(store, event)


async def test_a_recording_that_comes_late_is_there_in_the_list_and_in_the_replay(store: Store) -> None:
    event = sound_event()
    await store.events.record("started", event, "Kitchen")
    over = replace(event, ended_at=START, clip_withheld=ClipWithheld.COMING)
    await store.events.record("ended", over, "Kitchen")
    settled = replace(over, has_clip=True, clip_withheld=None)
    told = await store.events.settle_clip(settled)
    assert told is not None
    assert told.event == settled
    started, ended = await store.events.changes_after(0)
    assert started.stored.event == event
    assert ended.stored.event == settled


async def test_a_late_recording_of_an_end_that_the_disk_did_not_take_is_written_with_it(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    event = sound_event()
    await store.events.record("started", event, "Kitchen")
    over = replace(event, ended_at=START, clip_withheld=ClipWithheld.COMING)
    with monkeypatch.context() as broken:
        broken.setattr("clap_server.store.events._write", _full_disk)
        await store.events.record("ended", over, "Kitchen")
        assert store.events.unwritten == 1
    await store.events.settle_clip(replace(over, clip_withheld=ClipWithheld.SPEECH))
    await store.events.flush()
    stored = await store.events.get(event.id)
    assert stored is not None
    assert stored.event.clip_withheld is ClipWithheld.SPEECH


async def _full_disk(*_arguments: object) -> None:
    raise sqlite3.OperationalError("database or disk is full")


async def test_a_recording_that_was_to_come_is_lost_in_a_crash(store: Store) -> None:
    event = sound_event(ended_at=START, clip_withheld=ClipWithheld.COMING)
    await store.events.record("ended", event, "Kitchen")
    again = await _reopened(store)
    try:
        stored = await again.events.get(event.id)
    finally:
        await again.close()
    assert stored is not None
    assert stored.event.clip_withheld is ClipWithheld.LOST


async def test_an_event_that_goes_on_gets_its_pattern_without_another_number(store: Store) -> None:
    event = sound_event(label_id="smoke_alarm")
    await store.events.record("started", event, "Kitchen")
    confirmed = replace(event, pattern=AlarmPattern.T3, peak_score=1.0)
    told = await store.events.confirm(confirmed)
    assert told is not None
    assert (told.event, told.sequence, told.microphone_name) == (confirmed, 1, "Kitchen")
    assert await store.events.get(event.id) == told
    assert store.events.last_sequence == 1
    await store.events.record("ended", replace(confirmed, ended_at=START), "Kitchen")
    assert await store.events.confirm(confirmed) is None


async def test_an_event_gets_its_pattern_although_the_disk_is_full(store: Store) -> None:
    await _fill_disk(store)
    event = sound_event(microphone_id="k" * 100_000)
    await store.events.record("started", event, "Kitchen")
    told = await store.events.confirm(replace(event, pattern=AlarmPattern.T4))
    assert told is not None
    assert told.event.pattern == "T4"
    await _free_disk(store)
    await store.events.record("ended", replace(told.event, ended_at=START), "Kitchen")
    stored = await store.events.get(event.id)
    assert stored is not None
    assert stored.event.pattern == "T4"


async def test_database_from_before_patterns_keeps_its_events(tmp_path: Path) -> None:
    before = next(number for number, step in enumerate(MIGRATIONS) if "pattern" in step[0])
    event = sound_event()
    (tmp_path / "data").mkdir()
    with sqlite3.connect(tmp_path / "data" / "clap.db") as connection:
        for step in MIGRATIONS[:before]:
            for statement in step:
                connection.execute(statement)
        connection.execute(
            "INSERT INTO events VALUES (?, 1, 'kitchen', 'Kitchen', 'glass_breaking', 'Glass breaking', ?, ?,"
            " ?, 0.5, 0.8, 0.9, -12.5, 0, 'correct')",
            (event.id, *[moment.isoformat() for moment in (event.started_at, event.detected_at, START)]),
        )
        facts = {**asdict(event), "ended_at": START}
        for field in ("pattern", "close", "replaced_by", "noise_floor_dbfs", "group"):
            del facts[field]
        told = {"event": facts, "sequence": 1, "microphone_name": "Kitchen", "feedback": None}
        connection.execute(
            "INSERT INTO changes VALUES (1, 'ended', ?, ?)",
            (event.id, json.dumps(told, default=datetime.isoformat)),
        )
        connection.execute(f"PRAGMA user_version = {before}")
    connection.close()
    store = Store(DataFolder(tmp_path / "data"), POLICY)
    await store.open()
    try:
        (stored,) = await store.events.list()
        (change,) = await store.events.changes_after(0)
    finally:
        await store.close()
    assert stored.event == change.stored.event == replace(event, ended_at=START)
    assert stored.feedback == "correct"


GROUP = EventGroup("first", "hall", 2.5, True, (HeardAt("hall", 32.5), HeardAt("kitchen", 30.0)))


async def test_what_else_a_sound_might_be_and_its_group_are_kept_and_replayed(store: Store) -> None:
    event = sound_event(
        close=(Close("metal_impact", 0.75), Close("door_slam", 0.7)),
        replaced_by="explosion_gunshot",
        noise_floor_dbfs=-58.0,
        group=GROUP,
    )
    await _is_kept_and_replayed(store, event)


@pytest.mark.parametrize("is_over", [False, True])
async def test_an_event_gets_another_group_without_another_number(store: Store, is_over: bool) -> None:
    event = sound_event()
    await store.events.record("started", event, "Kitchen")
    if is_over:
        event = replace(event, ended_at=START)
        await store.events.record("ended", event, "Kitchen")
    number = store.events.last_sequence
    told = await store.events.regroup(event.id, GROUP)
    assert told is not None
    assert (told.event, told.sequence) == (replace(event, group=GROUP), number)
    assert await store.events.get(event.id) == told
    assert store.events.last_sequence == number
    if not is_over:
        more = replace(told.event, close=(Close("metal_impact", 0.75),))
        assert await store.events.confirm(more) is not None
        stored = await store.events.get(event.id)
        assert stored is not None
        assert stored.event == more


async def test_an_event_that_is_gone_has_no_group(store: Store) -> None:
    assert await store.events.regroup("gone", GROUP) is None


async def test_an_event_that_waits_for_room_on_the_disk_is_written_with_its_newest_group(
    store: Store,
) -> None:
    await _fill_disk(store)
    event = sound_event(microphone_id="k" * 100_000)
    await store.events.record("started", event, "Kitchen")
    over = replace(event, ended_at=START)
    await store.events.record("ended", over, "Kitchen")
    assert store.events.unwritten == 2
    told = await store.events.regroup(event.id, GROUP)
    assert told is not None
    assert told.event == replace(over, group=GROUP)
    await _free_disk(store)
    await store.events.flush()
    assert await store.events.get(event.id) == told
