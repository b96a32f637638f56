"""Microphones that survive a restart."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from pydantic import ValidationError

from clap_server.errors import StoreError
from clap_server.listening.config import Microphone, MicrophoneSettings

if TYPE_CHECKING:
    from clap_server.store.database import Database


class MicrophoneStore:
    """All microphones, in memory and in the database."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._microphones: dict[str, Microphone] = {}

    async def load(self) -> None:
        """Read them all.

        Raises:
            StoreError: the database cannot be read or holds settings that make no sense.
        """
        rows = await self._database.rows("SELECT id, settings FROM microphones ORDER BY created_at, id")
        loaded = {}
        for row in rows:
            try:
                settings = MicrophoneSettings.model_validate_json(row["settings"])
            except ValidationError as error:
                fields = ", ".join(
                    ".".join(map(str, item["loc"])) for item in error.errors(include_input=False)
                )
                raise StoreError(
                    f"The stored microphone {row['id']} is not usable (wrong: {fields}); "
                    "run the version of clap-server that made it, or delete the database"
                ) from None
            loaded[row["id"]] = Microphone(id=row["id"], settings=settings)
        self._microphones = loaded

    def all(self) -> list[Microphone]:
        """All of them, oldest first."""
        return list(self._microphones.values())

    def get(self, microphone_id: str) -> Microphone | None:
        """One of them, or None."""
        return self._microphones.get(microphone_id)

    async def put(self, microphone: Microphone) -> None:
        """Add one or replace its settings.

        Raises:
            StoreError: it cannot be stored; then nothing changed.
        """
        now = datetime.now(UTC).isoformat(timespec="microseconds")
        async with self._database.transaction() as connection:
            await connection.execute(
                "INSERT INTO microphones (id, settings, created_at, updated_at) VALUES (?, ?, ?, ?)"
                " ON CONFLICT (id) DO UPDATE SET settings = excluded.settings, updated_at ="
                " excluded.updated_at",
                (microphone.id, microphone.settings.model_dump_json(), now, now),
            )
        self._microphones[microphone.id] = microphone

    async def delete(self, microphone_id: str) -> None:
        """Forget one; its events and clips stay until their time is over.

        Raises:
            StoreError: it cannot be stored; then nothing changed.
        """
        async with self._database.transaction() as connection:
            await connection.execute("DELETE FROM microphones WHERE id = ?", (microphone_id,))
        self._microphones.pop(microphone_id, None)
