"""One SQLite connection: opened, checked, brought to the newest schema; errors in words."""

from __future__ import annotations

import asyncio
import logging
import sqlite3
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import aiosqlite

from clap_server.errors import StoreError
from clap_server.store.migrations import MIGRATIONS

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable
    from pathlib import Path

BUSY_TIMEOUT_MS = 5000

# At level debug it would log every value, and addresses of cameras hold passwords.
logging.getLogger("aiosqlite").setLevel(logging.INFO)


class Database:
    """The server's SQLite file.

    One process has it open at a time: the lock is held until ``close``.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._connection: aiosqlite.Connection | None = None
        self._lock = asyncio.Lock()

    @property
    def is_open(self) -> bool:
        """Whether it can be used."""
        return self._connection is not None

    async def open(self) -> None:
        """Open the file, take its lock and bring the schema up to date.

        Raises:
            StoreError: it is damaged, in use, not writable, or of a newer version.
        """
        if self._connection is not None:
            return
        try:
            # Passwords of cameras are in it: for the server's user alone. SQLite's other files take its mode.
            await asyncio.to_thread(self.path.touch, mode=0o600)
            connection = await aiosqlite.connect(self.path, isolation_level=None)
        except (sqlite3.Error, OSError) as error:
            raise self.explain(error) from error
        connection.row_factory = sqlite3.Row
        self._connection = connection
        try:
            await connection.execute(f"PRAGMA busy_timeout = {BUSY_TIMEOUT_MS}")
            # Before the journal mode: then WAL needs no shared memory file, and a second server is refused.
            await connection.execute("PRAGMA locking_mode = EXCLUSIVE")
            await connection.execute("PRAGMA journal_mode = WAL")
            # An event that was announced must be there after a power cut.
            await connection.execute("PRAGMA synchronous = FULL")
            await connection.execute("PRAGMA journal_size_limit = 4194304")
            row = await (await connection.execute("PRAGMA quick_check(1)")).fetchone()
            if row is None or row[0] != "ok":
                raise self._damaged("its check failed")
            await self._migrate()
        except sqlite3.Error as error:
            await self.close()
            raise self.explain(error) from error
        except StoreError:
            await self.close()
            raise

    async def close(self) -> None:
        """Close the file; closing twice is fine."""
        if self._connection is not None:
            connection, self._connection = self._connection, None
            await connection.close()

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[aiosqlite.Connection]:
        """Write: all that is executed inside happens, or nothing.

        Raises:
            StoreError: the disk is full or the file cannot be written.
        """
        connection = self._require()
        async with self._lock:
            try:
                await connection.execute("BEGIN IMMEDIATE")
                yield connection
                await connection.execute("COMMIT")
            except BaseException as error:
                # Also when cancelled: what was already handed to SQLite's thread runs before this.
                await connection.rollback()
                if isinstance(error, sqlite3.Error):
                    raise self.explain(error) from error
                raise

    async def rows(self, sql: str, parameters: Iterable[Any] = ()) -> list[sqlite3.Row]:
        """Read all rows of a query.

        Raises:
            StoreError: the file cannot be read.
        """
        connection = self._require()
        async with self._lock:
            try:
                cursor = await connection.execute(sql, tuple(parameters))
                return list(await cursor.fetchall())
            except sqlite3.Error as error:
                raise self.explain(error) from error

    def explain(self, error: Exception) -> StoreError:
        """Say in words what is wrong and what to do."""
        code = getattr(error, "sqlite_errorcode", None)
        primary = code & 0xFF if code is not None else None
        if primary == sqlite3.SQLITE_FULL:
            return StoreError(f"The disk of {self.path.parent} is full; free some space")
        if primary in {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}:
            return self._damaged(str(error))
        if primary in {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}:
            return StoreError(
                f"{self.path} is in use by another program; is another clap-server running on"
                " this data folder?"
            )
        return StoreError(
            f"{self.path} cannot be read or written ({error}); check the data folder's"
            " permissions and its disk"
        )

    def _damaged(self, reason: str) -> StoreError:
        return StoreError(
            f"The database {self.path} is damaged ({reason}); move it away and start again: "
            "clips are kept, microphones of Home Assistant come back by themselves, past events are lost"
        )

    def _require(self) -> aiosqlite.Connection:
        if self._connection is None:
            raise StoreError("The store is closed; the server is stopping")
        return self._connection

    async def _migrate(self) -> None:
        [row] = await self.rows("PRAGMA user_version")
        version = int(row[0])
        if version > len(MIGRATIONS):
            raise StoreError(
                f"{self.path} was made by a newer clap-server; update this one or name another"
                " folder with --data"
            )
        for number, statements in enumerate(MIGRATIONS[version:], start=version + 1):
            async with self.transaction() as connection:
                for statement in statements:
                    await connection.execute(statement)
                await connection.execute(f"PRAGMA user_version = {number}")
