"""From detections in stream time to sound events with their recordings."""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING
from uuid import uuid4

from clap_server.listening.events import SoundEvent
from clap_server.listening.sink import Recording

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from clap_server.audio.ring import RingBuffer
    from clap_server.detection.detector import Detection
    from clap_server.listening.clock import StreamClock
    from clap_server.listening.sink import ListeningSink
    from clap_server.listening.traces import Traces

_LOGGER = logging.getLogger(__name__)

PRE_ROLL_S = 3.0
POST_ROLL_S = 1.0
LONGEST_S = 30.0
# What the ring keeps: the longest recording, and time for the model to decide.
RING_S = LONGEST_S + 15.0


@dataclass(slots=True)
class _Open:
    """An event that goes on; ``samples`` once its recording has its full length."""

    event: SoundEvent
    first_sample: int
    starts_at: datetime
    samples: NDArray[np.float32] | None = None


class EventReporter:
    """Names events, keeps their recordings and tells the sink.

    Args:
        microphone_id: whose events they are.
        ring: holds the stream, at least ``RING_S`` of it.
        clock: knows when that was.
        sink: is told.
        traces: of these events.
    """

    def __init__(
        self,
        microphone_id: str,
        ring: RingBuffer,
        clock: StreamClock,
        sink: ListeningSink,
        traces: Traces,
    ) -> None:
        self._microphone_id = microphone_id
        self._ring = ring
        self._rate = ring.sample_rate
        self._clock = clock
        self._sink = sink
        self._traces = traces
        self._open: dict[str, _Open] = {}

    def keep(self) -> None:
        """Put recordings aside that reached their full length, before the ring forgets them."""
        for entry in self._open.values():
            end = entry.first_sample + round(LONGEST_S * self._rate)
            if entry.samples is None and self._ring.total_samples >= end:
                entry.samples = self._ring.read(entry.first_sample, end)

    async def report(self, detection: Detection) -> None:
        """Tell the sink about a start, an end, or the pattern of an event that goes on."""
        entry = self._open.get(detection.watched.label.id)
        if detection.ended_s is not None:
            await self._ended(detection, detection.ended_s)
        elif entry is None:
            await self._started(detection)
        else:
            entry.event = _updated(entry.event, detection)
            await self._sink.event_confirmed(entry.event)

    async def _started(self, detection: Detection) -> None:
        first = max(round((detection.onset_s - PRE_ROLL_S) * self._rate), self._ring.first_sample)
        detected_at = datetime.now(UTC)
        event = SoundEvent(
            id=str(uuid4()),
            microphone_id=self._microphone_id,
            label_id=detection.watched.label.id,
            label_name=detection.watched.label.names["en"],
            started_at=min(self._clock.utc(detection.onset_s), detected_at),
            detected_at=detected_at,
            ended_at=None,
            threshold=detection.watched.threshold,
            score=detection.score,
            peak_score=detection.peak_score,
            peak_level_dbfs=detection.peak_level_dbfs,
            pattern=detection.pattern,
        )
        self._open[event.label_id] = _Open(event, first, self._clock.utc(first / self._rate))
        # A decision that came late may have its whole recording in the ring, about to be forgotten.
        self.keep()
        await self._sink.event_started(event)
        await self._tell_trace(detection, event)

    async def _ended(self, detection: Detection, ended_s: float) -> None:
        entry = self._open.pop(detection.watched.label.id)
        ended_at = entry.starts_at + timedelta(seconds=ended_s - entry.first_sample / self._rate)
        ended = replace(
            _updated(entry.event, detection),
            ended_at=max(entry.event.started_at, min(ended_at, datetime.now(UTC))),
        )
        try:
            recording = self._recording(entry, ended_s)
        except Exception:
            # Such as too little memory: the end is told all the same.
            _LOGGER.exception("Event %s is told without its recording", ended.id)
            recording = None
        await self._sink.event_ended(ended, recording)
        await self._tell_trace(detection, ended)

    async def _tell_trace(self, detection: Detection, event: SoundEvent) -> None:
        trace = self._traces.of(detection)
        if trace is not None:
            await self._sink.event_traced(event, trace)

    def _recording(self, entry: _Open, ended_s: float) -> Recording | None:
        """The event's sound; None if the model was so late that the ring had forgotten it."""
        last = min(round((ended_s + POST_ROLL_S) * self._rate), self._ring.total_samples)
        if last <= entry.first_sample:
            return None
        if entry.samples is not None:
            samples = entry.samples[: last - entry.first_sample]
        else:
            samples = self._ring.read(entry.first_sample, last)
        return Recording(samples, self._rate, entry.starts_at)


def _updated(event: SoundEvent, detection: Detection) -> SoundEvent:
    return replace(
        event,
        peak_score=detection.peak_score,
        peak_level_dbfs=detection.peak_level_dbfs,
        pattern=detection.pattern,
    )
