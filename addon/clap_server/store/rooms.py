"""What microphones learn of their rooms: embeddings in 8 bits, never sound, and how long was listened."""

from __future__ import annotations

import logging
import math
import zlib
from datetime import date
from typing import TYPE_CHECKING

import numpy as np

from clap_server.listening.room.hours import Listened
from clap_server.listening.room.piece import RoomPiece
from clap_server.listening.room.reservoir import Kept
from clap_server.listening.room.room import FoundPieces
from clap_server.store.microphones import is_kept

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterable, Mapping, Sequence

    import aiosqlite

    from clap_server.store.database import Database

_LOGGER = logging.getLogger(__name__)

MOST_FALSE = 32
"""Events that the user called false, of a microphone and model: the newest."""

MOST_ASIDE = 3
"""Samples of other models and hops, of a microphone: ``auto`` goes through three by itself, and the user
may try another one."""

FALSE = "false "
"""Before the id of such an event, in the name of its windows."""

_DAY_S = 86400.0
# As hundredths of a second, so much of a piece fits.
_LONGEST_S = 2**32 / 100 - 1


class Rooms:
    """Implements ``RoomStore``.

    What another model or hop made is set aside for when that comes back: the newest ``MOST_ASIDE`` of these.
    Nothing is written for a microphone that is not there any more.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    async def load(self, microphone_id: str, made_for: str, dimension: int) -> list[Kept]:
        """See ``RoomStore``."""
        await self._set_aside(microphone_id, made_for)
        rows = await self._database.rows(
            "SELECT name, at, priority, length(ends_cs) AS times, length(codes) AS size FROM room_pieces"
            " WHERE microphone_id = ? AND made_for = ? AND name NOT LIKE 'false %'",
            (microphone_id, made_for),
        )
        kept, damaged = [], []
        for row in rows:
            try:
                kept.append(_kept(row, dimension))
            except (ValueError, TypeError):
                damaged.append(row["name"])
        await self._remove_damaged(microphone_id, made_for, damaged)
        return kept

    async def days(self, microphone_id: str) -> dict[date, Listened]:
        """See ``RoomStore``."""
        rows = await self._database.rows(
            "SELECT day, heard_s, sounding_s FROM room_days WHERE microphone_id = ?", (microphone_id,)
        )
        days = {}
        for row in rows:
            try:
                day, heard_s, sounding_s = date.fromisoformat(row["day"]), row["heard_s"], row["sounding_s"]
            except ValueError:
                continue  # It would be forgotten in two weeks anyway.
            # A second is counted twice at the most, where the clock was set.
            if 0 <= sounding_s <= heard_s <= 2 * _DAY_S:
                days[day] = Listened(heard_s, sounding_s)
        return days

    async def keep(
        self,
        microphone_id: str,
        made_for: str,
        added: Sequence[tuple[Kept, RoomPiece]],
        gone: Sequence[int],
        days: Mapping[date, Listened],
    ) -> None:
        """See ``RoomStore``."""
        async with self._database.transaction() as connection:
            if not await is_kept(connection, microphone_id):
                return
            await _delete(connection, microphone_id, made_for, map(str, gone))
            for kept, piece in added:
                await _insert(connection, microphone_id, made_for, str(kept.number), piece, kept.priority)
            await connection.execute(
                "DELETE FROM room_days WHERE microphone_id = ? AND day < ?",
                (microphone_id, min(days, default=date.max).isoformat()),
            )
            await connection.executemany(
                "INSERT OR REPLACE INTO room_days (microphone_id, day, heard_s, sounding_s)"
                " VALUES (?, ?, ?, ?)",
                [
                    (microphone_id, day.isoformat(), listened.heard_s, listened.sounding_s)
                    for day, listened in days.items()
                ],
            )

    async def pieces(self, microphone_id: str, made_for: str, dimension: int) -> FoundPieces:
        """See ``RoomStore``."""
        rows = await self._database.rows(
            "SELECT name, at, ends_cs, codes, checksum FROM room_pieces"
            " WHERE microphone_id = ? AND made_for = ? ORDER BY at",
            (microphone_id, made_for),
        )
        pieces, damaged = [], []
        for row in rows:
            try:
                pieces.append(_piece(row, dimension))
            except (ValueError, TypeError):
                damaged.append(row["name"])
        await self._remove_damaged(microphone_id, made_for, damaged)
        return FoundPieces(tuple(pieces), tuple(int(name) for name in damaged if name.isdecimal()))

    async def add_false(self, microphone_id: str, made_for: str, event_id: str, piece: RoomPiece) -> None:
        """See ``RoomStore``; the oldest of too many goes."""
        async with self._database.transaction() as connection:
            if await is_kept(connection, microphone_id):
                await _insert(connection, microphone_id, made_for, f"{FALSE}{event_id}", piece, None)
                await connection.execute(
                    "DELETE FROM room_pieces WHERE microphone_id = ? AND made_for = ? AND name IN ("
                    "SELECT name FROM room_pieces WHERE microphone_id = ? AND made_for = ?"
                    " AND name LIKE 'false %' ORDER BY at DESC LIMIT -1 OFFSET ?)",
                    (microphone_id, made_for, microphone_id, made_for, MOST_FALSE),
                )

    async def remove_false(self, event_id: str) -> None:
        """See ``RoomStore``."""
        async with self._database.transaction() as connection:
            await connection.execute("DELETE FROM room_pieces WHERE name = ?", (f"{FALSE}{event_id}",))

    async def delete_before(self, at: float) -> None:
        """Forget what was heard before a Unix time.

        Raises:
            StoreError: it cannot be stored.
        """
        async with self._database.transaction() as connection:
            await connection.execute("DELETE FROM room_pieces WHERE at < ?", (at,))

    async def _set_aside(self, microphone_id: str, made_for: str) -> None:
        others = await self._database.rows(
            "SELECT made_for, max(at) AS newest, count(*) AS pieces FROM room_pieces"
            " WHERE microphone_id = ? AND made_for <> ? GROUP BY made_for ORDER BY newest DESC",
            (microphone_id, made_for),
        )
        if not others:
            return
        _LOGGER.info(
            "Microphone %s: %d pieces of everyday sound that another model or hop made are set aside",
            microphone_id,
            others[0]["pieces"],
        )
        if len(others) > MOST_ASIDE:
            async with self._database.transaction() as connection:
                await connection.executemany(
                    "DELETE FROM room_pieces WHERE microphone_id = ? AND made_for = ?",
                    [(microphone_id, other["made_for"]) for other in others[MOST_ASIDE:]],
                )

    async def _remove_damaged(self, microphone_id: str, made_for: str, names: Sequence[str]) -> None:
        if names:
            _LOGGER.error(
                "Microphone %s: %d pieces of everyday sound in the database are damaged; they are removed",
                microphone_id,
                len(names),
            )
            async with self._database.transaction() as connection:
                await _delete(connection, microphone_id, made_for, names)


async def _delete(
    connection: aiosqlite.Connection, microphone_id: str, made_for: str, names: Iterable[str]
) -> None:
    await connection.executemany(
        "DELETE FROM room_pieces WHERE microphone_id = ? AND made_for = ? AND name = ?",
        [(microphone_id, made_for, name) for name in names],
    )


async def _insert(
    connection: aiosqlite.Connection,
    microphone_id: str,
    made_for: str,
    name: str,
    piece: RoomPiece,
    priority: float | None,
) -> None:
    ends_cs = np.rint(np.minimum(piece.ends_s, _LONGEST_S) * 100).astype("<u4").tobytes()
    codes = piece.codes.tobytes()
    await connection.execute(
        "INSERT OR REPLACE INTO room_pieces"
        " (microphone_id, made_for, name, at, priority, ends_cs, codes, checksum)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        (microphone_id, made_for, name, piece.at, priority, ends_cs, codes, _checksum(ends_cs, codes)),
    )


def _checksum(ends_cs: bytes, codes: bytes) -> int:
    return zlib.crc32(codes, zlib.crc32(ends_cs))


def _kept(row: sqlite3.Row, dimension: int) -> Kept:
    """What a row says of a piece.

    Raises:
        ValueError: it makes no sense.
        TypeError: the same.
    """
    windows = row["times"] // 4
    if not windows or row["times"] % 4 or row["size"] != windows * dimension:
        raise ValueError("its parts do not fit")
    if not 0 <= row["priority"] <= 1 or not math.isfinite(row["at"]):
        raise ValueError("its numbers are impossible")
    return Kept(int(row["name"]), row["at"], windows, row["priority"])


def _piece(row: sqlite3.Row, dimension: int) -> RoomPiece:
    """The piece of a row.

    Raises:
        ValueError: it is damaged.
    """
    if _checksum(row["ends_cs"], row["codes"]) != row["checksum"]:
        raise ValueError("its checksum is wrong")
    ends_s = np.frombuffer(row["ends_cs"], "<u4").astype(np.float64) / 100
    codes = np.frombuffer(row["codes"], np.int8).reshape(-1, dimension)
    if not len(ends_s) == len(codes) > 0 or np.any(np.diff(ends_s) < 0) or not np.all(codes.any(axis=1)):
        raise ValueError("its parts do not fit")
    return RoomPiece(row["at"], ends_s, codes)
