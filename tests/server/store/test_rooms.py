"""What a room taught survives restarts, and nothing that is damaged or foreign counts."""

from __future__ import annotations

import dataclasses
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import numpy as np
import pytest

from clap_server.errors import StoreError
from clap_server.listening.room.hours import Listened
from clap_server.listening.room.piece import RoomPiece
from clap_server.listening.room.reservoir import KEPT_S, Kept, Reservoir
from clap_server.store.folder import DataFolder
from clap_server.store.rooms import MOST_ASIDE, MOST_FALSE
from clap_server.store.store import Store
from tests.server.store.conftest import POLICY
from tests.support.sound_events import microphone

if TYPE_CHECKING:
    from collections.abc import Sequence

D = 24
NOW = datetime.now(UTC).timestamp()
MINE, OTHER, THIRD = "laion 0.5 s", "builtin 0.5 s", "laion 1 s"
TODAY = datetime.now(UTC).date()


def piece(seed: int = 0, *, at: float = NOW, windows: int = 5) -> RoomPiece:
    codes = np.random.default_rng(seed).integers(1, 128, (windows, D)).astype(np.int8)
    return RoomPiece(at, np.arange(1, windows + 1) / 2, codes)


async def keep(store: Store, made_for: str, *pieces: RoomPiece, gone: Sequence[int] = ()) -> list[Kept]:
    reservoir = Reservoir()
    added = []
    for each in pieces:
        kept, _ = reservoir.offer(each.at, len(each))
        assert kept is not None
        added.append((kept, each))
    await store.rooms.keep("hall", made_for, added, gone, {})
    return [kept for kept, _ in added]


@pytest.fixture
async def hall(store: Store) -> Store:
    """A store that has a microphone."""
    await store.microphones.put(microphone("hall"))
    return store


async def test_a_room_survives_a_restart(hall: Store) -> None:
    kept = await keep(hall, MINE, piece(1), piece(2, windows=64))
    days = {TODAY: Listened(3600, 60), TODAY - timedelta(days=1): Listened(80000, 9000)}
    await hall.rooms.keep("hall", MINE, [], [], days)
    await hall.close()
    again = Store(DataFolder(hall.folder.root), POLICY)
    await again.open()
    try:
        assert await again.rooms.load("hall", MINE, D) == kept
        assert await again.rooms.days("hall") == days
        found = await again.rooms.pieces("hall", MINE, D)
        assert found.damaged == ()
        for got, put in zip(found.pieces, (piece(1), piece(2, windows=64)), strict=True):
            assert np.array_equal(got.codes, put.codes)
            assert np.array_equal(got.ends_s, put.ends_s)
            assert got.at == put.at
    finally:
        await again.close()


async def test_what_gives_way_is_removed_and_old_days_too(hall: Store) -> None:
    first, second = await keep(hall, MINE, piece(1), piece(2))
    old, new = TODAY - timedelta(days=20), TODAY
    await hall.rooms.keep("hall", MINE, [], [], {old: Listened(1, 1)})
    await hall.rooms.keep("hall", MINE, [], [first.number, 77], {new: Listened(2, 1)})
    assert await hall.rooms.load("hall", MINE, D) == [second]
    assert await hall.rooms.days("hall") == {new: Listened(2, 1)}


async def test_another_models_pieces_are_set_aside_and_come_back(
    hall: Store, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    mine = await keep(hall, MINE, piece(1), piece(2))
    assert await hall.rooms.load("hall", OTHER, D) == []
    assert "2 pieces of everyday sound that another model or hop made are set aside" in caplog.text
    assert (await hall.rooms.pieces("hall", OTHER, D)).pieces == ()
    await keep(hall, OTHER, piece(3, at=NOW + 1))
    assert await hall.rooms.load("hall", MINE, D) == mine


async def test_what_auto_goes_through_by_itself_is_all_kept(hall: Store) -> None:
    kept = {}
    for number, made_for in enumerate((OTHER, MINE, THIRD)):
        assert await hall.rooms.load("hall", made_for, D) == []
        kept[made_for] = await keep(hall, made_for, piece(number, at=NOW - 10 + number))
    for made_for in (MINE, OTHER, THIRD):
        assert await hall.rooms.load("hall", made_for, D) == kept[made_for]


async def test_of_too_many_others_the_oldest_goes(hall: Store) -> None:
    others = [f"other {number}" for number in range(MOST_ASIDE + 2)]
    for number, made_for in enumerate(others):
        await keep(hall, made_for, piece(number, at=NOW - 100 + number))
    mine = await keep(hall, MINE, piece(99, at=NOW - 1000))
    assert await hall.rooms.load("hall", MINE, D) == mine
    rows = await hall._database.rows("SELECT DISTINCT made_for FROM room_pieces ORDER BY made_for")
    assert [row[0] for row in rows] == [MINE, *others[2:]]


@pytest.mark.parametrize(
    "damage",
    [
        "UPDATE room_pieces SET codes = zeroblob(length(codes)) WHERE name = ?",
        "UPDATE room_pieces SET codes = substr(codes, 1, 100) WHERE name = ?",
        "UPDATE room_pieces SET codes = zeroblob(length(codes)), checksum = 0 WHERE name = ?",
        "UPDATE room_pieces SET ends_cs = zeroblob(4) WHERE name = ?",
        "UPDATE room_pieces SET ends_cs = x'', codes = x'' WHERE name = ?",
        "UPDATE room_pieces SET ends_cs = x'00' WHERE name = ?",
        "UPDATE room_pieces SET checksum = checksum + 1 WHERE name = ?",
        "UPDATE room_pieces SET priority = 7 WHERE name = ?",
        "UPDATE room_pieces SET priority = NULL WHERE name = ?",
        "UPDATE room_pieces SET at = 9e999 WHERE name = ?",
        "UPDATE room_pieces SET name = 'seven' WHERE name = ?",
    ],
)
async def test_damaged_pieces_are_dropped_and_it_is_said(
    hall: Store, caplog: pytest.LogCaptureFixture, damage: str
) -> None:
    whole, broken = await keep(hall, MINE, piece(1), piece(2))
    async with hall._database.transaction() as connection:
        await connection.execute(damage, (str(broken.number),))
    kept = await hall.rooms.load("hall", MINE, D)
    found = await hall.rooms.pieces("hall", MINE, D)
    assert len(found.pieces) == 1
    assert [each for each in kept if each.number not in found.damaged] == [whole]
    assert "1 pieces of everyday sound in the database are damaged; they are removed" in caplog.text
    assert len(await hall._database.rows("SELECT 1 FROM room_pieces")) == 1


async def test_a_model_with_another_dimension_uses_none_of_it(hall: Store) -> None:
    await keep(hall, MINE, piece(1))
    assert await hall.rooms.load("hall", MINE, D + 1) == []


async def test_days_that_make_no_sense_are_left_out(hall: Store) -> None:
    async with hall._database.transaction() as connection:
        await connection.executemany(
            "INSERT INTO room_days VALUES ('hall', ?, ?, ?)",
            [("2026-11-26", 100.0, 50.0), ("yesterday", 1.0, 1.0), ("2026-11-25", 1.0, 5.0)],
        )
    assert list((await hall.rooms.days("hall")).values()) == [Listened(100.0, 50.0)]


async def test_only_events_that_the_user_called_false_count_and_they_are_bounded(hall: Store) -> None:
    [kept] = await keep(hall, MINE, piece(0, at=NOW - 1000))
    for number in range(MOST_FALSE + 3):
        await hall.rooms.add_false("hall", MINE, f"event-{number}", piece(number, at=NOW - 500 + number))
    await hall.rooms.add_false("hall", MINE, "event-5", piece(5, at=NOW))
    assert await hall.rooms.load("hall", MINE, D) == [kept], "they take no part in the sampling"
    assert len((await hall.rooms.pieces("hall", MINE, D)).pieces) == 1 + MOST_FALSE
    await hall.rooms.remove_false("event-5")
    await hall.rooms.remove_false("event-5")
    assert len((await hall.rooms.pieces("hall", MINE, D)).pieces) == MOST_FALSE


async def test_a_microphone_that_is_removed_leaves_nothing_behind(hall: Store) -> None:
    await keep(hall, MINE, piece(1))
    await hall.rooms.keep("hall", MINE, [], [], {TODAY: Listened(2, 1)})
    await hall.microphones.delete("hall")
    # Its listener may end a moment later.
    await keep(hall, MINE, piece(2))
    await hall.rooms.add_false("hall", MINE, "event", piece(3))
    assert await hall._database.rows("SELECT name FROM room_pieces UNION SELECT day FROM room_days") == []


async def test_the_sweep_forgets_what_is_older_than_two_weeks(hall: Store) -> None:
    await keep(hall, MINE, piece(1, at=NOW - KEPT_S - 60), piece(2, at=NOW - KEPT_S + 3600))
    await hall.retention.sweep()
    assert [kept.at for kept in await hall.rooms.load("hall", MINE, D)] == [NOW - KEPT_S + 3600]


async def test_a_closed_store_says_so(hall: Store) -> None:
    await hall.close()
    with pytest.raises(StoreError, match="closed"):
        await hall.rooms.load("hall", MINE, D)


async def test_very_long_pieces_are_stored_all_the_same(hall: Store) -> None:
    long = dataclasses.replace(piece(1, windows=2), ends_s=np.array([1.0, 1e12]))
    await keep(hall, MINE, long)
    assert len((await hall.rooms.pieces("hall", MINE, D)).pieces) == 1
