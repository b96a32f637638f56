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
    EventClipMessage,
    EventConfirmedMessage,
    EventMessage,
    LevelMessage,
    MicrophoneMessage,
    MicrophoneStatus,
    ScoresMessage,
)
from clap_server.errors import StoreError
from clap_server.listening.events import ClipWithheld
from clap_server.listening.groups import EventGroups

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from clap_server.api.bus import EventBus
    from clap_server.api.metrics import Metrics
    from clap_server.audio.source import SourceStatus
    from clap_server.listening.events import EventGroup, SoundEvent
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
        self._groups = EventGroups()
        # Of events that go on: a microphone that is removed is forgotten before they end.
        self._names: dict[str, str] = {}

    async def event_started(self, event: SoundEvent) -> None:
        """Store and publish."""
        name = await self._record("started", event)
        self._metrics.event_started(event.microphone_id, event.label_id)
        pattern = "" if event.pattern is None else f", pattern {event.pattern}"
        close = "".join(f", close: {close.label} {close.score:.2f}" for close in event.close)
        _LOGGER.info("%s: %s (score %.2f%s%s)", name, event.label_name, event.score, pattern, close)

    async def event_confirmed(self, event: SoundEvent) -> None:
        """Store and publish what became known, which the event's end tells again to those who missed it."""
        async with self._order:
            changed = self._groups.take(event)
            stored = await self._store.events.confirm(replace(event, group=changed.pop(event.id)))
            if stored is not None:
                self._bus.publish(EventConfirmedMessage(event=event_info(stored)))
            await self._regroup(changed)
        name = self._names.get(event.id, event.microphone_id)
        if event.pattern is not None:
            _LOGGER.info("%s: %s is confirmed by its pattern %s", name, event.label_name, event.pattern)

    async def event_ended(self, event: SoundEvent, recording: Recording | None) -> None:
        """Store the clip, then the end; without the clip if it cannot be stored."""
        ended = event if recording is None else replace(event, clip_withheld=ClipWithheld.NOT_STORED)
        try:
            if recording is not None:
                ended = await self._with_clip(event, recording)
        finally:
            # Whatever becomes of the clip, also when this is cancelled: without its end an event would stick.
            await self._record("ended", ended)
        if ended.has_clip:
            self._store.retention.clip_written(ended)

    async def clip_came(self, event: SoundEvent, recording: Recording | None) -> None:
        """Store the clip of an event that is over, and tell of it, or why there is none."""
        settled = event if recording is None else await self._with_clip(event, recording)
        async with self._order:
            stored = await self._store.events.settle_clip(settled)
            if stored is not None:
                self._bus.publish(EventClipMessage(event=event_info(stored)))
        if settled.has_clip:
            self._store.retention.clip_written(settled)

    async def _with_clip(self, event: SoundEvent, recording: Recording) -> SoundEvent:
        """Store the clip; the event as it is then."""
        if not recording.samples.size:
            return replace(event, clip_withheld=ClipWithheld.LOST)
        stored = await self._store.clips.save(event, recording)
        self._metrics.clip(stored=stored)
        if not stored:
            return replace(event, clip_withheld=ClipWithheld.NOT_STORED)
        return replace(event, has_clip=True, clip_withheld=None, clip_starts_at=recording.starts_at)

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
            changed = self._groups.take(event)
            event = replace(event, group=changed.pop(event.id))
            entry = await self._store.events.record(change, event, name)
            self._bus.publish(
                EventMessage(sequence=entry.sequence, change=change, event=event_info(entry.stored))
            )
            await self._regroup(changed)
        return name

    async def _regroup(self, groups: Mapping[str, EventGroup]) -> None:
        """Store and publish, of events at other microphones, that their group is another."""
        for event_id, group in groups.items():
            stored = await self._store.events.regroup(event_id, group)
            if stored is not None:
                self._bus.publish(EventConfirmedMessage(event=event_info(stored)))

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
