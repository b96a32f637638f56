"""Events keep their recordings, however late the model decides."""

from dataclasses import replace

import numpy as np
import pytest

from clap_server.audio.ring import RingBuffer
from clap_server.detection.detector import Detection
from clap_server.detection.labels import WatchedLabel
from clap_server.listening.clock import StreamClock
from clap_server.listening.reporter import LONGEST_S, RING_S, EventReporter
from clap_server.listening.traces import Traces
from tests.server.listening.rig import LIBRARY, MORNING, RememberingSink

RATE = 100


class Stream:
    """A reporter with a ring whose samples are their own numbers."""

    def __init__(self) -> None:
        self.sink = RememberingSink()
        self.ring = RingBuffer(RATE, RING_S)
        self.clock = StreamClock()
        self.reporter = EventReporter("kitchen", self.ring, self.clock, self.sink, Traces())

    def run(self, duration_s: float) -> None:
        for _ in range(round(duration_s * 10)):
            first = self.ring.total_samples
            self.ring.append(np.arange(first, first + RATE // 10, dtype=np.float32))
            self.clock.observe(self.ring.total_samples / RATE, MORNING + self.ring.total_samples / RATE)
            self.reporter.keep()


def detection(onset_s: float, detected_s: float) -> Detection:
    label = LIBRARY.resolve("alarm")
    return Detection(WatchedLabel(label, 0.7), onset_s, detected_s, None, 0.8, 0.8, -20.0)


@pytest.mark.parametrize("onset_s", [5.0, 50.0, 56.0])
async def test_a_decision_about_sound_that_the_ring_forgets_just_now_keeps_what_is_left(
    onset_s: float,
) -> None:
    stream = Stream()
    stream.run(100)
    started = detection(onset_s, 60.0)
    await stream.reporter.report(started)
    stream.run(100)
    await stream.reporter.report(replace(started, ended_s=150.0))
    ((event, recording),) = stream.sink.ended
    assert event.ended_at is not None
    assert recording is not None
    first = 100 - RING_S
    assert recording.starts_at.timestamp() == pytest.approx(MORNING + first, abs=0.01)
    np.testing.assert_array_equal(recording.samples, np.arange(RATE * LONGEST_S) + RATE * first)


async def test_an_event_ends_when_there_is_no_memory_for_its_recording(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    stream = Stream()
    stream.run(20)
    started = detection(10.0, 11.0)
    await stream.reporter.report(started)

    def broken(*_arguments: object) -> None:
        raise MemoryError

    monkeypatch.setattr(stream.ring, "read", broken)
    await stream.reporter.report(replace(started, ended_s=12.0))
    ((event, recording),) = stream.sink.ended
    assert event.ended_at is not None
    assert recording is None


async def test_an_event_ends_without_a_recording_when_its_sound_is_forgotten() -> None:
    stream = Stream()
    stream.run(200)
    started = detection(60.0, 61.0)
    await stream.reporter.report(started)
    await stream.reporter.report(replace(started, ended_s=62.0))
    ((event, recording),) = stream.sink.ended
    assert event.ended_at is not None
    assert recording is None
