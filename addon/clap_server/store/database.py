"""One SQLite connection: opened, checked, brought to the newest schema; errors in words."""

from __future__ import annotations

import asyncio
import logging
import os
import sqlite3
from contextlib import asynccontextmanager, closing
from typing import TYPE_CHECKING, Any

import aiosqlite

from clap_server.errors import StoreError
from clap_server.store.folder import PRIVATE_FILE, probe
from clap_server.store.migrations import MIGRATIONS
from clap_server.store.trouble import Troubles, explain

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable
    from pathlib import Path

_LOGGER = logging.getLogger(__name__)

BUSY_TIMEOUT_MS = 5000
# What SQLite refuses for its content; everything else is the file's or the disk's fault.
CONTENT_ERRORS = (
    sqlite3.IntegrityError,
    sqlite3.DataError,
    sqlite3.ProgrammingError,
    sqlite3.InterfaceError,
    ValueError,
    TypeError,
    OverflowError,
)
# Codes that hide what the system said.
_SYSTEM_ERRORS = {sqlite3.SQLITE_IOERR, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_PERM}

# At level debug it would log every value, and addresses of cameras hold passwords.
logging.getLogger("aiosqlite").setLevel(logging.INFO)


class Database:
    """The server's SQLite file.

    One process has it open at a time: the lock is held until ``close``.

    Args:
        path: of the file.
        troubles: is told whether it can be written.
    """

    def __init__(self, path: Path, troubles: Troubles | None = None) -> None:
        self.path = path
        self._troubles = troubles or Troubles()
        self._connection: aiosqlite.Connection | None = None
        self._files: dict[Path, int] = {}
        self._lock = asyncio.Lock()
        self._wanted = False

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
        async with self._lock:
            await self._open()
            self._wanted = True

    async def _open(self) -> None:
        try:
            # Passwords of cameras are in it: for the server's user alone. SQLite's other files take its mode.
            await asyncio.to_thread(self.path.touch, mode=PRIVATE_FILE)
            connection = await aiosqlite.connect(self.path, isolation_level=None)
        except (sqlite3.Error, OSError) as error:
            raise await self._explain(error) from error
        connection.row_factory = sqlite3.Row
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
            await self._migrate(connection)
        except BaseException as error:
            await connection.close()
            if isinstance(error, sqlite3.Error):
                raise await self._explain(error) from error
            raise
        self._connection = connection
        self._files = await asyncio.to_thread(self._inodes)

    async def close(self) -> None:
        """Close the file; closing twice is fine."""
        async with self._lock:
            self._wanted = False
            if self._connection is not None:
                connection, self._connection = self._connection, None
                await connection.close()

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[aiosqlite.Connection]:
        """Write: all that is executed inside happens, or nothing.

        Raises:
            StoreError: the disk is full or the file cannot be written.
        """
        async with self._lock:
            await self._ensure_present()
            connection = self._require()
            changes = connection.total_changes
            try:
                await connection.execute("BEGIN IMMEDIATE")
                yield connection
                await connection.execute("COMMIT")
            except BaseException as error:
                # Also when cancelled: what was already handed to SQLite's thread runs before this.
                await connection.rollback()
                if isinstance(error, sqlite3.Error):
                    explained = await self._explain(error)
                    if not isinstance(error, CONTENT_ERRORS):
                        self._troubles.found("events", explained)
                    raise explained from error
                raise
            # One that had nothing to write proves nothing.
            if connection.total_changes > changes:
                self._troubles.over("events")

    async def rows(self, sql: str, parameters: Iterable[Any] = ()) -> list[sqlite3.Row]:
        """Read all rows of a query.

        Raises:
            StoreError: the file cannot be read.
        """
        async with self._lock:
            connection = self._require()
            try:
                cursor = await connection.execute(sql, tuple(parameters))
                return list(await cursor.fetchall())
            except sqlite3.Error as error:
                raise await self._explain(error) from error

    async def check(self, *, write: bool) -> None:
        """Notice that the file was deleted, and make it anew.

        Args:
            write: whether to find out by a write, too, if it can be written.

        Raises:
            StoreError: it cannot be used; ``troubles`` is told too.
        """
        if not write:
            async with self._lock:
                await self._ensure_present()
            return
        async with self.transaction() as connection:
            # Changes nothing, but SQLite has to write it.
            await connection.execute(f"PRAGMA user_version = {len(MIGRATIONS)}")
        self._troubles.over("events")

    def _inodes(self) -> dict[Path, int]:
        """Which files are open, so that a deleted one is noticed. SQLite itself goes on writing to it."""
        found = {}
        for path in (self.path, self.path.with_name(f"{self.path.name}-wal")):
            try:
                found[path] = path.stat().st_ino
            except FileNotFoundError:
                continue
        return found

    async def _ensure_present(self) -> None:
        """Bring the file back if it was deleted under the open connection.

        Raises:
            StoreError: that does not work (yet).
        """
        if not self._wanted:
            return
        try:
            if self._connection is None:
                await self._open()
                return
            present = await asyncio.to_thread(self._inodes)
            if all(present.get(path) == inode for path, inode in self._files.items()):
                self._files = present
                return
            await self._make_anew(self._connection, present)
        except StoreError as error:
            self._troubles.found("events", error)
            raise

    async def _make_anew(self, connection: aiosqlite.Connection, present: dict[Path, int]) -> None:
        """Copy what the open connection still has: a deleted file lives until it is closed."""
        if present.get(self.path) not in {None, self._files[self.path]}:
            raise StoreError(
                f"{self.path} was replaced by another file while the server ran; restart the server to use"
                " that one, or move it away and the server writes its own anew",
                "database_gone",
            )
        copy = self.path.with_name(f"{self.path.name}.new")
        try:
            await asyncio.to_thread(_make_private_file, copy)
            with closing(sqlite3.connect(copy, check_same_thread=False)) as target:
                await connection.backup(target)
            await asyncio.to_thread(_sync, copy)
            await asyncio.to_thread(copy.replace, self.path)
            # Before the new one is opened: SQLite removes its journal by name when it closes.
            self._connection = None
            await connection.close()
            await self._open()
        except (sqlite3.Error, OSError) as error:
            reason = await self._explain(error)
            raise StoreError(
                f"{self.path} was deleted while the server ran and cannot be made anew: {reason}",
                "database_gone",
            ) from error
        _LOGGER.error("%s was deleted while the server ran; it was made anew and nothing is lost", self.path)

    async def _explain(self, error: Exception) -> StoreError:
        """Say in words what is wrong and what to do."""
        if isinstance(error, OSError):
            return explain(error, self.path, "database_failed")
        code = getattr(error, "sqlite_errorcode", None)
        primary = code & 0xFF if code is not None else None
        if primary == sqlite3.SQLITE_FULL:
            return StoreError(f"The disk of {self.path.parent} is full; free some space", "disk_full")
        if primary in {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}:
            return self._damaged(str(error))
        if primary in {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}:
            return StoreError(
                f"{self.path} is in use by another program; is another clap-server running on"
                " this data folder?"
            )
        if primary in _SYSTEM_ERRORS:
            # SQLite keeps the system's error to itself: meet it again.
            try:
                await asyncio.to_thread(probe, self.path.parent)
            except OSError as system_error:
                return explain(system_error, self.path.parent, "database_failed")
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

    async def _migrate(self, connection: aiosqlite.Connection) -> None:
        row = await (await connection.execute("PRAGMA user_version")).fetchone()
        version = int(row[0]) if row is not None else 0
        if version > len(MIGRATIONS):
            raise StoreError(
                f"{self.path} was made by a newer clap-server; update this one or name another"
                " folder with --data"
            )
        for number, statements in enumerate(MIGRATIONS[version:], start=version + 1):
            # What is not committed is undone when the connection closes.
            await connection.execute("BEGIN IMMEDIATE")
            for statement in statements:
                await connection.execute(statement)
            await connection.execute(f"PRAGMA user_version = {number}")
            await connection.execute("COMMIT")


def _make_private_file(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    path.touch(mode=PRIVATE_FILE)


def _sync(path: Path) -> None:
    for each in (path, path.parent):
        descriptor = os.open(each, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
