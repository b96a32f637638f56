"""Sounds that the user taught: their clips, how a model heard them, and how well it told them apart."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from pydantic import TypeAdapter

from clap_server.detection.labels import LabelKind
from clap_server.detection.separation import Separation
from clap_server.store.embeddings import MISFIT, from_blob, to_blob
from clap_server.store.rooms import FALSE

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Sequence

    import numpy as np
    from numpy.typing import NDArray

    from clap_server.store.database import Database

_LOGGER = logging.getLogger(__name__)
_SEPARATION: TypeAdapter[Separation] = TypeAdapter(Separation)


@dataclass(frozen=True, slots=True)
class TaughtClip:
    """One clip of a taught sound.

    Attributes:
        embeddings: ``(windows, dimension)`` of the windows that hold the sound, L2-normalised.
        has_sound: whether its recording is kept too, from which another model can learn.
    """

    embeddings: NDArray[np.float32] = field(compare=False, repr=False)
    has_sound: bool


@dataclass(frozen=True, slots=True)
class TaughtSound:
    """A sound that the user taught.

    Attributes:
        id: also the label's.
        name: in the user's words.
        kind: how it behaves in time.
        created_at: UTC.
        made_for: model whose embeddings its clips have.
        separation: how well that model tells it from everyday sound.
        clips: from which it was learnt.
    """

    id: str
    name: str
    kind: LabelKind
    created_at: datetime
    made_for: str
    separation: Separation
    clips: tuple[TaughtClip, ...]


class SoundStore:
    """All taught sounds, in memory and in the database; recordings are read when they are needed."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._sounds: dict[str, TaughtSound] = {}

    async def load(self) -> None:
        """Read them all; one that makes no sense is left out, which is logged.

        Raises:
            StoreError: the database cannot be read.
        """
        self._sounds = {}
        clips: dict[str, list[sqlite3.Row]] = {}
        for row in await self._database.rows(
            "SELECT sound_id, windows, embeddings, flac IS NOT NULL AS has_sound FROM sound_clips"
            " ORDER BY sound_id, number"
        ):
            clips.setdefault(row["sound_id"], []).append(row)
        for row in await self._database.rows("SELECT * FROM sounds ORDER BY created_at, id"):
            try:
                self._sounds[row["id"]] = _from_rows(row, clips.get(row["id"], []))
            except (ValueError, TypeError) as error:
                _LOGGER.error("The taught sound %s is unreadable; teach it again: %s", row["id"], error)

    def fit_to(self, made_for: str, dimension: int) -> None:
        """Leave out what is said to be of a model, and cannot be, which is logged.

        Args:
            made_for: the model that runs now.
            dimension: of its embeddings.
        """
        for sound in self.all():
            # All of its clips have the same.
            if sound.made_for == made_for and sound.clips[0].embeddings.shape[1] != dimension:
                del self._sounds[sound.id]
                _LOGGER.error("The taught sound %s is unreadable; teach it again: %s", sound.id, MISFIT)

    def all(self) -> list[TaughtSound]:
        """All of them, oldest first."""
        return list(self._sounds.values())

    def get(self, sound_id: str) -> TaughtSound | None:
        """One of them, or None."""
        return self._sounds.get(sound_id)

    async def add(self, sound: TaughtSound, recordings: Sequence[bytes | None]) -> None:
        """Keep a new one, or replace it.

        Args:
            sound: to keep.
            recordings: FLAC of each clip; None where it is not to be kept.

        Raises:
            StoreError: it cannot be stored; then nothing changed.
        """
        async with self._database.transaction() as connection:
            await connection.execute("DELETE FROM sounds WHERE id = ?", (sound.id,))
            await connection.execute(
                "INSERT INTO sounds (id, name, kind, created_at, made_for, findings)"
                " VALUES (?, ?, ?, ?, ?, ?)",
                (
                    sound.id,
                    sound.name,
                    sound.kind,
                    sound.created_at.astimezone(UTC).isoformat(timespec="microseconds"),
                    sound.made_for,
                    _SEPARATION.dump_json(sound.separation).decode(),
                ),
            )
            await connection.executemany(
                "INSERT INTO sound_clips (sound_id, number, windows, embeddings, flac)"
                " VALUES (?, ?, ?, ?, ?)",
                [
                    (sound.id, number, len(clip.embeddings), to_blob(clip.embeddings), flac)
                    for number, (clip, flac) in enumerate(zip(sound.clips, recordings, strict=True))
                ],
            )
        self._sounds[sound.id] = sound

    async def recordings(self, sound_id: str) -> list[bytes | None]:
        """FLAC of each clip; None where it is not kept.

        Raises:
            StoreError: the database cannot be read.
        """
        rows = await self._database.rows(
            "SELECT flac FROM sound_clips WHERE sound_id = ? ORDER BY number", (sound_id,)
        )
        return [row["flac"] for row in rows]

    async def delete(self, sound_id: str) -> None:
        """Forget one with its clips, and what verdicts taught of it; one that is not there is no error.

        Raises:
            StoreError: it cannot be stored; then nothing changed.
        """
        async with self._database.transaction() as connection:
            await connection.execute("DELETE FROM sounds WHERE id = ?", (sound_id,))
            await connection.execute(
                "DELETE FROM room_pieces"
                " WHERE name IN (SELECT ? || event_id FROM lessons WHERE label_id = ?)",
                (FALSE, sound_id),
            )
            await connection.execute("DELETE FROM lessons WHERE label_id = ?", (sound_id,))
        self._sounds.pop(sound_id, None)


def _from_rows(row: sqlite3.Row, clips: Sequence[sqlite3.Row]) -> TaughtSound:
    if not clips:
        raise ValueError("no clips")
    first, *others = (from_blob(clip["embeddings"], clip["windows"]) for clip in clips)
    heard = [first, *others]
    if any(each.shape[1] != first.shape[1] for each in others):
        raise ValueError("clips of different models")
    return TaughtSound(
        row["id"],
        row["name"],
        LabelKind(row["kind"]),
        datetime.fromisoformat(row["created_at"]),
        row["made_for"],
        _SEPARATION.validate_json(row["findings"]),
        tuple(
            TaughtClip(embeddings, bool(clip["has_sound"]))
            for embeddings, clip in zip(heard, clips, strict=True)
        ),
    )
