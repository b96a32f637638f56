"""Microphones that survive a restart."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from pydantic import ValidationError

from clap_server.errors import StoreError
from clap_server.listening.config import Microphone, MicrophoneSettings

if TYPE_CHECKING:
    from clap_server.store.database import Database

OWNER_SERVER = "server"


class MicrophoneStore:
    """All microphones, in memory and in the database."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._microphones: dict[str, Microphone] = {}
        self._adopted: set[str] = set()

    async def load(self) -> None:
        """Read them all.

        Raises:
            StoreError: the database cannot be read or holds settings that make no sense.
        """
        rows = await self._database.rows(
            "SELECT id, settings, adopted FROM microphones ORDER BY created_at, id"
        )
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
        self._adopted = {row["id"] for row in rows if row["adopted"]}

    def all(self) -> list[Microphone]:
        """All of them, oldest first."""
        return list(self._microphones.values())

    def get(self, microphone_id: str) -> Microphone | None:
        """One of them, or None."""
        return self._microphones.get(microphone_id)

    def is_adopted(self, microphone_id: str) -> bool:
        """Whether it was the server's own before another owner took it."""
        return microphone_id in self._adopted

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
        (self._adopted.add if adopted else self._adopted.discard)(microphone.id)

    def _adopted_by(self, microphone: Microphone) -> bool:
        if microphone.settings.owner == OWNER_SERVER:
            return False
        old = self._microphones.get(microphone.id)
        return self.is_adopted(microphone.id) or (old is not None and old.settings.owner == OWNER_SERVER)

    async def delete(self, microphone_id: str) -> None:
        """Forget one; its events and clips stay until their time is over.

        Raises:
            StoreError: it cannot be stored; then nothing changed.
        """
        async with self._database.transaction() as connection:
            await connection.execute("DELETE FROM microphones WHERE id = ?", (microphone_id,))
        self._microphones.pop(microphone_id, None)
        self._adopted.discard(microphone_id)
