"""Microphones that survive a restart."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from pydantic import ValidationError
from pydantic_core import from_json

from clap_server.listening.config import Microphone, MicrophoneSettings, PushSourceSettings

if TYPE_CHECKING:
    import sqlite3

    import aiosqlite

    from clap_server.store.database import Database

OWNER_SERVER = "server"


class MicrophoneStore:
    """All microphones, in memory and in the database."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._microphones: dict[str, Microphone] = {}
        self._adopted: set[str] = set()
        self._muted: set[str] = set()
        self._unreadable: dict[str, str] = {}

    async def load(self) -> None:
        """Read them all.

        A row that is not usable becomes a microphone that cannot listen (see ``unreadable``); the row stays
        as it is until the microphone is replaced or deleted.

        Raises:
            StoreError: the database cannot be read.
        """
        rows = await self._database.rows(
            "SELECT id, settings, adopted, muted FROM microphones ORDER BY created_at, id"
        )
        self._microphones, self._unreadable = {}, {}
        self._adopted = {row["id"] for row in rows if row["adopted"]}
        self._muted = {row["id"] for row in rows if row["muted"]}
        for row in rows:
            try:
                settings = MicrophoneSettings.model_validate_json(row["settings"])
                microphone = Microphone(id=row["id"], settings=settings)
            except (ValidationError, TypeError) as error:
                microphone = _placeholder(row)
                self._unreadable[row["id"]] = _why(error)
            self._microphones[row["id"]] = microphone

    def unreadable(self, microphone_id: str) -> str | None:
        """Why the stored settings of a microphone are not usable, in words; None if they are."""
        return self._unreadable.get(microphone_id)

    def all(self) -> list[Microphone]:
        """All of them, oldest first."""
        return list(self._microphones.values())

    def get(self, microphone_id: str) -> Microphone | None:
        """One of them, or None."""
        return self._microphones.get(microphone_id)

    def is_adopted(self, microphone_id: str) -> bool:
        """Whether it was the server's own before another owner took it."""
        return microphone_id in self._adopted

    def is_muted(self, microphone_id: str) -> bool:
        """Whether it is muted, which no settings change."""
        return microphone_id in self._muted

    async def set_muted(self, microphone_id: str, *, muted: bool) -> None:
        """Mute one, or no longer, over restarts too.

        Raises:
            StoreError: it cannot be stored. Muted it is then all the same, until the server ends.
        """
        if muted:
            self._muted.add(microphone_id)
        async with self._database.transaction() as connection:
            await connection.execute(
                "UPDATE microphones SET muted = ? WHERE id = ?", (int(muted), microphone_id)
            )
        if not muted:
            self._muted.discard(microphone_id)

    async def put(self, microphone: Microphone) -> None:
        """Add one or replace its settings; remembers when another owner takes one of the server's own.

        Raises:
            StoreError: it cannot be stored; then nothing changed.
        """
        now = datetime.now(UTC).isoformat(timespec="microseconds")
        adopted = self._adopted_by(microphone)
        async with self._database.transaction() as connection:
            await connection.execute(
                "INSERT INTO microphones (id, settings, created_at, updated_at, adopted)"
                " VALUES (?, ?, ?, ?, ?)"
                " ON CONFLICT (id) DO UPDATE SET settings = excluded.settings, updated_at ="
                " excluded.updated_at, adopted = excluded.adopted",
                (microphone.id, microphone.settings.model_dump_json(), now, now, int(adopted)),
            )
        self._microphones[microphone.id] = microphone
        self._unreadable.pop(microphone.id, None)
        (self._adopted.add if adopted else self._adopted.discard)(microphone.id)

    def _adopted_by(self, microphone: Microphone) -> bool:
        if microphone.settings.owner == OWNER_SERVER:
            return False
        old = self._microphones.get(microphone.id)
        return self.is_adopted(microphone.id) or (old is not None and old.settings.owner == OWNER_SERVER)

    async def delete(self, microphone_id: str) -> None:
        """Forget one, with what it learnt of its room; its events and clips stay until their time is over.

        Raises:
            StoreError: it cannot be stored; then nothing changed.
        """
        async with self._database.transaction() as connection:
            await connection.execute("DELETE FROM microphones WHERE id = ?", (microphone_id,))
            await connection.execute("DELETE FROM room_pieces WHERE microphone_id = ?", (microphone_id,))
            await connection.execute("DELETE FROM room_days WHERE microphone_id = ?", (microphone_id,))
        self._microphones.pop(microphone_id, None)
        self._adopted.discard(microphone_id)
        self._muted.discard(microphone_id)
        self._unreadable.pop(microphone_id, None)


async def is_kept(connection: aiosqlite.Connection, microphone_id: str) -> bool:
    """Whether a microphone is there, in a transaction that writes something of it."""
    cursor = await connection.execute("SELECT 1 FROM microphones WHERE id = ?", (microphone_id,))
    return await cursor.fetchone() is not None


def _why(error: Exception) -> str:
    wrong = ""
    if isinstance(error, ValidationError):
        fields = (".".join(map(str, item["loc"])) for item in error.errors(include_input=False))
        wrong = ", ".join(sorted({field for field in fields if field}))
    detail = f" (wrong: {wrong})" if wrong else ""
    return f"its stored settings are not usable{detail}; set it up again or remove it"


def _placeholder(row: sqlite3.Row) -> Microphone:
    """A microphone that stands for a row that is not usable, with its name and owner if they are legible."""
    try:
        stored = from_json(row["settings"])
    except (ValueError, TypeError):
        stored = None
    kept = stored if isinstance(stored, dict) else {}
    name, owner = kept.get("name"), kept.get("owner")
    settings = MicrophoneSettings.model_construct(
        name=name if isinstance(name, str) and name else str(row["id"]),
        owner=owner if isinstance(owner, str) else OWNER_SERVER,
        source=PushSourceSettings(),
        labels=(),
        enabled=False,
    )
    return Microphone.model_construct(id=str(row["id"]), settings=settings)
