"""From detections in stream time to sound events with their recordings.

A recording is made of what the ring holds, when the event is over. If its post-roll is longer than what has
come by then, the end is told without it, and the recording when it is whole: a sensor must not wait for it.
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING
from uuid import uuid4

from clap_server.errors import AudioError
from clap_server.listening.config import KeepMode
from clap_server.listening.events import ClipWithheld, SoundEvent
from clap_server.listening.sink import Recording
from clap_server.listening.speech import has_speech

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy as np
    from numpy.typing import NDArray

    from clap_server.audio.ring import RingBuffer
    from clap_server.detection.detector import Detection
    from clap_server.detection.gate import NoiseGate
    from clap_server.listening.clock import StreamClock
    from clap_server.listening.config import RecordingSettings
    from clap_server.listening.sink import ListeningSink
    from clap_server.listening.traces import Traces

_LOGGER = logging.getLogger(__name__)

LONGEST_S = 30.0
# What the ring keeps: the longest recording, and time for the model to decide.
RING_S = LONGEST_S + 15.0
# A recording that is not checked by then is not kept.
CHECK_TIMEOUT_S = 5.0


@dataclass(slots=True)
class _Open:
    """An event that goes on, or of which the recording is not whole yet.

    ``last_sample``: where the recording ends, at the latest; ``samples``: once all of it has come.
    """

    event: SoundEvent
    first_sample: int
    last_sample: int
    starts_at: datetime
    samples: NDArray[np.float32] | None = None


class EventReporter:
    """Names events, keeps their recordings and tells the sink.

    Args:
        microphone_id: whose events they are.
        ring: holds the stream, at least ``RING_S`` of it.
        clock: knows when that was.
        sink: is told.
        gate: knows the noise floor.
        traces: of these events.
        settings: what is recorded.
        on_check: is told why speech could not be looked for, in words; None when it could.
    """

    def __init__(
        self,
        microphone_id: str,
        ring: RingBuffer,
        clock: StreamClock,
        sink: ListeningSink,
        gate: NoiseGate,
        traces: Traces,
        *,
        settings: RecordingSettings,
        on_check: Callable[[str | None], None],
    ) -> None:
        self.settings = settings
        """In force for events that end from now on."""
        self._on_check = on_check
        self._withheld: ClipWithheld | None = None
        self._is_over = False
        self._coming: list[_Open] = []
        self._microphone_id = microphone_id
        self._ring = ring
        self._rate = ring.sample_rate
        self._clock = clock
        self._sink = sink
        self._gate = gate
        self._traces = traces
        self._open: dict[str, _Open] = {}

    def keep(self) -> None:
        """Put recordings aside that reached their full length, before the ring forgets them."""
        if self._nothing_is_kept is not None:
            return
        for entry in (*self._open.values(), *self._coming):
            if entry.samples is None and self._ring.total_samples >= entry.last_sample:
                first = max(entry.first_sample, self._ring.first_sample)
                entry.samples = self._ring.read(first, max(first, entry.last_sample))

    def withhold(self, reason: ClipWithheld) -> None:
        """Keep no recording from here on, of events that are over or going on neither."""
        self._withheld = reason
        for entry in (*self._open.values(), *self._coming):
            entry.samples = None

    def stream_is_over(self) -> None:
        """No more sound comes: recordings end where it ended."""
        self._is_over = True

    @property
    def recordings_are_due(self) -> bool:
        """Whether a recording that was waited for is whole, or will never be."""
        return any(self._is_due(entry) for entry in self._coming)

    async def tell_recordings(self) -> None:
        """Tell the sink of recordings of events that are over, as far as they are due."""
        due = [entry for entry in self._coming if self._is_due(entry)]
        self._coming = [entry for entry in self._coming if entry not in due]
        for entry in due:
            recording = await self._recording(entry)
            withheld = recording if isinstance(recording, ClipWithheld) else None
            event = replace(entry.event, clip_withheld=withheld)
            try:
                await self._sink.clip_came(event, None if isinstance(recording, ClipWithheld) else recording)
            except Exception:
                # The recordings of the others must still be told.
                _LOGGER.exception("The recording of event %s could not be told", event.id)

    def _is_due(self, entry: _Open) -> bool:
        return self._is_over or entry.samples is not None or self._nothing_is_kept is not None

    async def report(self, detection: Detection) -> None:
        """Tell the sink about a start, an end, or what became known of an event that goes on."""
        entry = self._open.get(detection.watched.label.id)
        if detection.ended_s is not None:
            await self._ended(detection, detection.ended_s)
        elif entry is None:
            await self._started(detection)
        else:
            entry.event = _updated(entry.event, detection)
            await self._sink.event_confirmed(entry.event)

    async def _started(self, detection: Detection) -> None:
        pre_roll_s = self.settings.pre_roll_s
        first = max(round((detection.onset_s - pre_roll_s) * self._rate), self._ring.first_sample)
        last = first + round(LONGEST_S * self._rate)
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
            close=detection.close,
            # Held while a sound is reported, so it is that from before the sound.
            noise_floor_dbfs=self._gate.floor_dbfs,
        )
        self._open[event.label_id] = _Open(event, first, last, self._clock.utc(first / self._rate))
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
        wanted = round((ended_s + self.settings.post_roll_s) * self._rate)
        entry.last_sample = min(entry.last_sample, wanted)
        entry.event = ended
        if not self._is_whole(entry):
            self._coming.append(entry)
            await self._sink.event_ended(replace(ended, clip_withheld=ClipWithheld.COMING), None)
        else:
            recording = await self._recording(entry)
            if isinstance(recording, ClipWithheld):
                await self._sink.event_ended(replace(ended, clip_withheld=recording), None)
            else:
                await self._sink.event_ended(ended, recording)
        await self._tell_trace(detection, ended)

    def _is_whole(self, entry: _Open) -> bool:
        """Whether more sound would change nothing about an event's recording."""
        there = self._ring.total_samples >= entry.last_sample or entry.samples is not None
        return there or self._is_over or self._nothing_is_kept is not None

    @property
    def _nothing_is_kept(self) -> ClipWithheld | None:
        """Why no sound is even looked at, if none is."""
        if self._withheld is not None:
            return self._withheld
        return ClipWithheld.EVENT_ONLY if self.settings.keep is KeepMode.EVENT_ONLY else None

    async def _recording(self, entry: _Open) -> Recording | ClipWithheld:
        """The sound of an event that is over, or why there is none."""
        if (withheld := self._nothing_is_kept) is not None:
            return withheld
        try:
            samples = self._samples(entry)
        except Exception:
            # Such as too little memory: the end is told all the same.
            _LOGGER.exception("Event %s is told without its recording", entry.event.id)
            return ClipWithheld.LOST
        if samples is None:
            return ClipWithheld.LOST
        recording = Recording(samples, self._rate, entry.starts_at)
        if self.settings.keep is KeepMode.NO_SPEECH:
            withheld = await self._spoken(recording)
        # It may have been muted during the check.
        return withheld or self._nothing_is_kept or recording

    async def _tell_trace(self, detection: Detection, event: SoundEvent) -> None:
        trace = self._traces.of(detection)
        if trace is not None:
            await self._sink.event_traced(event, trace)

    def _samples(self, entry: _Open) -> NDArray[np.float32] | None:
        """An event's sound; None if the model was so late that the ring had forgotten it."""
        last = min(entry.last_sample, self._ring.total_samples)
        if last <= entry.first_sample:
            return None
        if entry.samples is not None:
            return entry.samples[: last - entry.first_sample]
        return self._ring.read(entry.first_sample, last)

    async def _spoken(self, recording: Recording) -> ClipWithheld | None:
        """Why a recording in which nobody may speak is not kept; None if it may be."""
        checking = asyncio.to_thread(has_speech, recording.samples, recording.sample_rate)
        # What was not checked is not kept, whatever the reason.
        spoken, problem = False, None
        try:
            spoken = await asyncio.wait_for(checking, CHECK_TIMEOUT_S)
        except TimeoutError:
            problem = f"the check took more than {CHECK_TIMEOUT_S:g} s"
        except AudioError as error:
            problem = str(error)
        except Exception as error:
            _LOGGER.exception("%s: a recording could not be checked for speech", self._microphone_id)
            problem = type(error).__name__
        self._on_check(problem)
        if problem is not None:
            return ClipWithheld.CHECK_FAILED
        return ClipWithheld.SPEECH if spoken else None


def _updated(event: SoundEvent, detection: Detection) -> SoundEvent:
    return replace(
        event,
        peak_score=detection.peak_score,
        peak_level_dbfs=detection.peak_level_dbfs,
        pattern=detection.pattern,
        close=detection.close,
        replaced_by=detection.replaced_by,
    )
