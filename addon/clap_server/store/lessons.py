"""What the user's verdicts teach the microphones: how the model heard the events that they are about."""

from __future__ import annotations

import asyncio
import logging
import math
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Literal, NamedTuple, cast

from clap_server.detection.examples import Examples
from clap_server.store.embeddings import MISFIT, from_blob, to_blob
from clap_server.store.microphones import is_kept

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterable

    import numpy as np
    from numpy.typing import NDArray

    from clap_server.listening.events import SoundEvent
    from clap_server.listening.traces import Trace
    from clap_server.store.database import Database
    from clap_server.store.events import Verdict

_LOGGER = logging.getLogger(__name__)

MOST_TRACES = 1000
"""Of events, the newest: one that comes later than a thousand others can no longer be learnt from."""

MOST_LESSONS = 20
"""Of one verdict for one label at one microphone, the newest."""

MOST_OF_MICROPHONE = 400
"""Lessons of one microphone, the newest."""

Outcome = Literal["learnt", "no_trace", "no_microphone"]


@dataclass(frozen=True, slots=True)
class Lesson:
    """An event that was judged.

    Attributes:
        event_id: whose; there is one lesson of an event.
        microphone_id: where it was heard.
        label_id: as what.
        label_name: English name of that, or the user's own words.
        verdict: what the user said.
        heard_at: when the event was detected, UTC.
        made_for: model whose embeddings they are.
        embeddings: ``(windows, dimension)``, L2-normalised.
        hop_s: seconds between the windows with which it was heard; None where that is not known.
        denoise: whether noise was suppressed then; None where that is not known.
    """

    event_id: str
    microphone_id: str
    label_id: str
    label_name: str
    verdict: Verdict
    heard_at: datetime
    made_for: str
    embeddings: NDArray[np.float32] = field(compare=False, repr=False)
    hop_s: float | None = None
    denoise: bool | None = None


class LessonStore:
    """All lessons, in memory and in the database; and for a while the traces that they are made of."""

    def __init__(self, database: Database) -> None:
        self._database = database
        # What is written hangs on what is there: one change at a time.
        self._changing = asyncio.Lock()
        self._lessons: dict[str, Lesson] = {}
        # Of the models that run, or ran.
        self._dimensions: dict[str, int] = {}

    async def load(self) -> None:
        """Read them all; one that makes no sense is left out, which is logged.

        Raises:
            StoreError: the database cannot be read.
        """
        self._lessons = {}
        for row in await self._database.rows("SELECT * FROM lessons ORDER BY rowid"):
            try:
                self._lessons[row["event_id"]] = _from_row(row)
            except (ValueError, TypeError) as error:
                _LOGGER.error("What was learnt from event %s is unreadable: %s", row["event_id"], error)

    def fit_to(self, made_for: str, dimension: int) -> None:
        """Leave out what is said to be of a model, and cannot be, which is logged.

        Args:
            made_for: the model that runs now.
            dimension: of its embeddings.
        """
        self._dimensions[made_for] = dimension
        for event_id, lesson in list(self._lessons.items()):
            if lesson.made_for == made_for and lesson.embeddings.shape[1] != dimension:
                del self._lessons[event_id]
                _LOGGER.error("What was learnt from event %s is unreadable: %s", event_id, MISFIT)

    async def keep_trace(self, event: SoundEvent, trace: Trace) -> bool:
        """Keep how the model heard an event, in place of what was known of it before.

        Returns:
            Whether something was learnt by it: from an event that was judged while it went on.

        Raises:
            StoreError: it cannot be stored.
        """
        embeddings = trace.embeddings
        values = (trace.made_for, len(embeddings), to_blob(embeddings), trace.hop_s, trace.denoise)
        async with self._changing:
            async with self._database.transaction() as connection:
                await connection.execute(
                    "INSERT INTO traces (made_for, windows, embeddings, hop_s, denoise, event_id)"
                    " VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT (event_id) DO UPDATE SET"
                    " made_for = excluded.made_for, windows = excluded.windows,"
                    " embeddings = excluded.embeddings, hop_s = excluded.hop_s, denoise = excluded.denoise",
                    (*values, event.id),
                )
                await connection.execute(
                    "DELETE FROM traces WHERE rowid <= (SELECT MAX(rowid) FROM traces) - ?", (MOST_TRACES,)
                )
            known = self._lessons.get(event.id)
            return known is not None and await self._learn(event, known.verdict) == "learnt"

    async def learn(self, event: SoundEvent, verdict: Verdict) -> Outcome:
        """Keep what a verdict teaches, in place of what an earlier one of the same event taught.

        Returns:
            ``no_trace`` if there is nothing to learn from, ``no_microphone`` if nobody is there to learn it.

        Raises:
            StoreError: it cannot be stored; then nothing changed.
        """
        async with self._changing:
            return await self._learn(event, verdict)

    async def _learn(self, event: SoundEvent, verdict: Verdict) -> Outcome:
        heard = await self._trace(event.id)
        if heard is None:
            return "no_trace"
        lesson = Lesson(
            event.id,
            event.microphone_id,
            event.label_id,
            event.label_name,
            verdict,
            event.detected_at,
            *heard,
        )
        async with self._database.transaction() as connection:
            if not await is_kept(connection, event.microphone_id):
                return "no_microphone"
            others = [known for known in self._lessons.values() if known.event_id != event.id]
            gone = {event.id, *_too_many([*others, lesson], lesson)}
            await connection.executemany(
                "DELETE FROM lessons WHERE event_id = ?", [(event_id,) for event_id in gone]
            )
            await connection.execute(
                "INSERT INTO lessons (event_id, microphone_id, label_id, label_name, verdict, heard_at,"
                " made_for, windows, embeddings, hop_s, denoise) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                _row(lesson),
            )
        for event_id in gone:
            self._lessons.pop(event_id, None)
        self._lessons[event.id] = lesson
        return "learnt"

    async def _trace(self, event_id: str) -> _HeardAs | None:
        """How an event was heard; of an old one what was learnt from it before."""
        for row in await self._database.rows("SELECT * FROM traces WHERE event_id = ?", (event_id,)):
            try:
                return _heard_as(row, self._dimensions.get(row["made_for"]))
            except ValueError as error:
                _LOGGER.error("How event %s was heard is unreadable: %s", event_id, error)
        known = self._lessons.get(event_id)
        if known is None:
            return None
        return _HeardAs(known.made_for, known.embeddings, known.hop_s, known.denoise)

    async def forget(self, event_id: str) -> None:
        """Unlearn what the verdict of an event taught; the verdict goes too. No lesson is no error.

        Raises:
            StoreError: it cannot be stored; then nothing changed.
        """
        async with self._changing:
            async with self._database.transaction() as connection:
                await connection.execute("DELETE FROM lessons WHERE event_id = ?", (event_id,))
                await connection.execute("UPDATE events SET feedback = NULL WHERE id = ?", (event_id,))
            self._lessons.pop(event_id, None)

    def forget_microphone(self, microphone_id: str) -> None:
        """Let go of what a microphone learnt that is gone; the database has done so."""
        self._lessons = {
            key: lesson for key, lesson in self._lessons.items() if lesson.microphone_id != microphone_id
        }

    def forget_label(self, label_id: str) -> set[str]:
        """Let go of what was learnt of a sound that is gone; the database has done so.

        Returns:
            Ids of the microphones that had learnt it.
        """
        gone = [lesson for lesson in self._lessons.values() if lesson.label_id == label_id]
        for lesson in gone:
            del self._lessons[lesson.event_id]
        return {lesson.microphone_id for lesson in gone}

    def of_microphone(self, microphone_id: str) -> list[Lesson]:
        """What was learnt there, in the order in which it was."""
        return [lesson for lesson in self._lessons.values() if lesson.microphone_id == microphone_id]

    def get(self, event_id: str) -> Lesson | None:
        """What was learnt from an event, or None."""
        return self._lessons.get(event_id)

    def wrong(self, microphone_id: str) -> dict[str, tuple[Examples, ...]]:
        """Sounds that were false alarms there, by label id, of each model that heard them."""
        return self._examples(microphone_id, "false_alarm")

    def right(self, microphone_id: str) -> dict[str, tuple[Examples, ...]]:
        """Sounds that were none, the same."""
        return self._examples(microphone_id, "correct")

    def _examples(self, microphone_id: str, verdict: Verdict) -> dict[str, tuple[Examples, ...]]:
        # Models by their dimension too: what is damaged must not keep the rest from being heeded.
        found: dict[str, dict[tuple[str, int], list[NDArray[np.float32]]]] = {}
        for lesson in self.of_microphone(microphone_id):
            if lesson.verdict == verdict:
                of_label = found.setdefault(lesson.label_id, {})
                model = lesson.made_for, lesson.embeddings.shape[1]
                of_label.setdefault(model, []).append(lesson.embeddings)
        return {
            label_id: tuple(Examples.of(made_for, heard) for (made_for, _), heard in by_model.items())
            for label_id, by_model in found.items()
        }


class _HeardAs(NamedTuple):
    """The last attributes of a lesson."""

    made_for: str
    embeddings: NDArray[np.float32]
    hop_s: float | None
    denoise: bool | None


def _heard_as(row: sqlite3.Row, dimension: int | None = None) -> _HeardAs:
    denoise, hop_s = row["denoise"], row["hop_s"]
    if hop_s is not None and not 0 < hop_s < math.inf:
        raise ValueError(f"windows each {hop_s} s")
    return _HeardAs(
        row["made_for"],
        from_blob(row["embeddings"], row["windows"], dimension),
        hop_s,
        None if denoise is None else bool(denoise),
    )


def _too_many(lessons: Iterable[Lesson], newest: Lesson) -> set[str]:
    """Ids of the events of which the lessons must go, as there is one more; those learnt first."""
    here = [lesson for lesson in lessons if lesson.microphone_id == newest.microphone_id]
    same = [
        lesson.event_id
        for lesson in here
        if (lesson.label_id, lesson.verdict) == (newest.label_id, newest.verdict)
    ]
    return {*same[:-MOST_LESSONS], *(lesson.event_id for lesson in here[:-MOST_OF_MICROPHONE])}


def _row(lesson: Lesson) -> tuple[object, ...]:
    return (
        lesson.event_id,
        lesson.microphone_id,
        lesson.label_id,
        lesson.label_name,
        lesson.verdict,
        lesson.heard_at.astimezone(UTC).isoformat(timespec="microseconds"),
        lesson.made_for,
        len(lesson.embeddings),
        to_blob(lesson.embeddings),
        lesson.hop_s,
        lesson.denoise,
    )


def _from_row(row: sqlite3.Row) -> Lesson:
    if row["verdict"] not in {"correct", "false_alarm"}:
        raise ValueError(f"unknown verdict {row['verdict']!r}")
    return Lesson(
        row["event_id"],
        row["microphone_id"],
        row["label_id"],
        row["label_name"],
        cast("Verdict", row["verdict"]),
        datetime.fromisoformat(row["heard_at"]),
        *_heard_as(row),
    )
