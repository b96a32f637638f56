"""Where listening ends: events are stored, then published."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Literal

from clap_server.api.present import event_info, score
from clap_server.api.schemas import (
    EventConfirmedMessage,
    EventMessage,
    LevelMessage,
    MicrophoneMessage,
    MicrophoneStatus,
    ScoresMessage,
)
from clap_server.errors import StoreError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from clap_server.api.bus import EventBus
    from clap_server.api.metrics import Metrics
    from clap_server.audio.source import SourceStatus
    from clap_server.listening.events import SoundEvent
    from clap_server.listening.sink import Recording
    from clap_server.listening.traces import Trace
    from clap_server.store.store import Store

_LOGGER = logging.getLogger(__name__)


class EventSink:
    """The ``ListeningSink`` of the server.

    Args:
        store: keeps events and clips.
        bus: tells clients.
        metrics: counts.
        learnt: called with a microphone's id when it learnt more from a verdict.
    """

    def __init__(self, store: Store, bus: EventBus, metrics: Metrics, learnt: Callable[[str], None]) -> None:
        self._store = store
        self._bus = bus
        self._metrics = metrics
        self._learnt = learnt
        # Numbers must be published in their order: a client resumes after the newest that it saw.
        self._order = asyncio.Lock()
        # Of events that go on: a microphone that is removed is forgotten before they end.
        self._names: dict[str, str] = {}

    async def event_started(self, event: SoundEvent) -> None:
        """Store and publish."""
        name = await self._record("started", event)
        self._metrics.event_started(event.microphone_id, event.label_id)
        pattern = "" if event.pattern is None else f", pattern {event.pattern}"
        _LOGGER.info("%s: %s (score %.2f%s)", name, event.label_name, event.score, pattern)

    async def event_confirmed(self, event: SoundEvent) -> None:
        """Store and publish the pattern, which the event's end tells again to those who missed it."""
        async with self._order:
            stored = await self._store.events.confirm(event)
            if stored is not None:
                self._bus.publish(EventConfirmedMessage(event=event_info(stored)))
        name = self._names.get(event.id, event.microphone_id)
        _LOGGER.info("%s: %s is confirmed by its pattern %s", name, event.label_name, event.pattern)

    async def event_ended(self, event: SoundEvent, recording: Recording | None) -> None:
        """Store the clip, then the end; without the clip if it cannot be stored."""
        has_clip = False
        try:
            if recording is not None and recording.samples.size:
                has_clip = await self._store.clips.save(event, recording)
                self._metrics.clip(stored=has_clip)
        finally:
            # Whatever becomes of the clip, also when this is cancelled: without its end an event would stick.
            await self._record("ended", replace(event, has_clip=has_clip))

    async def event_traced(self, event: SoundEvent, trace: Trace) -> None:
        """Keep it, so that a verdict can be learnt from; trouble with the disk is told elsewhere."""
        with contextlib.suppress(StoreError):
            if await self._store.lessons.keep_trace(event, trace):
                self._learnt(event.microphone_id)

    async def _record(self, change: Literal["started", "ended"], event: SoundEvent) -> str:
        microphone = self._store.microphones.get(event.microphone_id)
        if microphone is not None:
            self._names[event.id] = microphone.settings.name
        name = self._names.get(event.id, event.microphone_id)
        if change == "ended":
            self._names.pop(event.id, None)
        async with self._order:
            entry = await self._store.events.record(change, event, name)
            self._bus.publish(
                EventMessage(sequence=entry.sequence, change=change, event=event_info(entry.stored))
            )
        return name

    def scores(
        self, microphone_id: str, at: datetime, scores: Mapping[str, float], level_dbfs: float
    ) -> None:
        """Publish to those who take scores."""
        if self._bus.wants("scores"):
            message = ScoresMessage(
                microphone_id=microphone_id,
                at=at,
                level_dbfs=float(level_dbfs),
                scores={label: score(value) for label, value in scores.items()},
            )
            self._bus.publish(message, "scores")

    def level(
        self, microphone_id: str, at: datetime, level_dbfs: float, noise_floor_dbfs: float, gated: bool
    ) -> None:
        """Publish to those who take levels."""
        if self._bus.wants("levels"):
            message = LevelMessage(
                microphone_id=microphone_id,
                at=at,
                level_dbfs=float(level_dbfs),
                noise_floor_dbfs=float(noise_floor_dbfs),
                gated=bool(gated),
            )
            self._bus.publish(message, "levels")

    def status(self, microphone_id: str, status: SourceStatus) -> None:
        """Publish to all."""
        described = MicrophoneStatus(
            state=status.state,
            code=status.code,
            reason=status.reason,
            since=datetime.now(UTC),
            notice=status.notice,
        )
        self._bus.publish(MicrophoneMessage(microphone_id=microphone_id, status=described))
