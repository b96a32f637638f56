"""Events keep their recordings, however late the model decides."""

import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clap_server.audio.ring import RingBuffer
from clap_server.detection.detector import Detection
from clap_server.detection.gate import NoiseGate
from clap_server.detection.labels import WatchedLabel
from clap_server.errors import AudioError
from clap_server.listening import reporter as reporter_module
from clap_server.listening.clock import StreamClock
from clap_server.listening.config import (
    LONGEST_POST_ROLL_S,
    LONGEST_PRE_ROLL_S,
    KeepMode,
    RecordingSettings,
)
from clap_server.listening.events import ClipWithheld
from clap_server.listening.reporter import LONGEST_S, RING_S, EventReporter
from clap_server.listening.traces import Traces
from tests.server.listening.rig import LIBRARY, MORNING, RememberingSink

RATE = 100


class Stream:
    """A reporter with a ring whose samples are their own numbers."""

    def __init__(self, settings: RecordingSettings | None = None) -> None:
        self.sink = RememberingSink()
        self.ring = RingBuffer(RATE, RING_S)
        self.clock = StreamClock()
        self.problems: list[str | None] = []
        self.reporter = EventReporter(
            "kitchen",
            self.ring,
            self.clock,
            self.sink,
            NoiseGate(),
            Traces(hop_s=0.5, denoise=False),
            settings=settings or RecordingSettings(),
            on_check=self.problems.append,
        )

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
    assert event.clip_withheld is ClipWithheld.LOST
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
    assert event.clip_withheld is ClipWithheld.LOST


@settings(deadline=None, max_examples=30)
@given(
    pre_roll_s=st.floats(0, LONGEST_PRE_ROLL_S),
    post_roll_s=st.floats(0, LONGEST_POST_ROLL_S),
    length_s=st.floats(0.5, 40),
    late_s=st.floats(0.1, 5),
)
async def test_a_recording_goes_from_its_pre_roll_to_its_post_roll(
    pre_roll_s: float, post_roll_s: float, length_s: float, late_s: float
) -> None:
    stream = Stream(RecordingSettings(pre_roll_s=pre_roll_s, post_roll_s=post_roll_s))
    stream.run(20)
    started = detection(19.5, 20.0)
    await stream.reporter.report(started)
    ended_s = 19.5 + length_s
    stream.run(length_s + late_s)
    await stream.reporter.report(replace(started, ended_s=ended_s))
    for _ in range(3):
        stream.run(5)
        await stream.reporter.tell_recordings()
    ((event, recording),) = stream.sink.ended
    if event.clip_withheld is ClipWithheld.COMING:
        assert recording is None
        ((event, recording),) = stream.sink.clips
    assert event.clip_withheld is None
    assert recording is not None
    first = round((19.5 - pre_roll_s) * RATE)
    last = min(round((ended_s + post_roll_s) * RATE), first + round(LONGEST_S * RATE))
    np.testing.assert_array_equal(recording.samples, np.arange(first, last))


async def test_a_long_post_roll_does_not_keep_the_end_waiting() -> None:
    stream = Stream(RecordingSettings(post_roll_s=8.0))
    stream.run(20)
    started = detection(19.0, 20.0)
    await stream.reporter.report(started)
    await stream.reporter.report(replace(started, ended_s=20.0))
    ((event, recording),) = stream.sink.ended
    assert (event.clip_withheld, recording) == (ClipWithheld.COMING, None)
    stream.run(7.9)
    assert not stream.reporter.recordings_are_due
    stream.run(0.2)
    assert stream.reporter.recordings_are_due
    await stream.reporter.tell_recordings()
    ((settled, recording),) = stream.sink.clips
    assert settled == replace(event, clip_withheld=None)
    assert recording is not None
    assert len(recording.samples) == 12 * RATE
    assert not stream.reporter.recordings_are_due


async def test_a_post_roll_ends_with_the_stream() -> None:
    stream = Stream(RecordingSettings(post_roll_s=8.0))
    stream.run(20)
    started = detection(19.0, 20.0)
    await stream.reporter.report(started)
    await stream.reporter.report(replace(started, ended_s=20.0))
    stream.run(2)
    stream.reporter.stream_is_over()
    await stream.reporter.tell_recordings()
    ((_, recording),) = stream.sink.clips
    assert recording is not None
    assert len(recording.samples) == 6 * RATE


async def _break(stream: Stream, *, before_the_end: Callable[[], None] = lambda: None) -> None:
    """An event of 3 s whose recording would be whole."""
    stream.run(20)
    started = detection(19.0, 20.0)
    await stream.reporter.report(started)
    stream.run(40)
    before_the_end()
    await stream.reporter.report(replace(started, ended_s=22.0))


async def test_where_events_only_are_kept_the_sound_is_not_even_read(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = Stream(RecordingSettings(keep=KeepMode.EVENT_ONLY))
    read: list[Any] = []
    monkeypatch.setattr(stream.ring, "read", lambda *arguments: read.append(arguments))
    await _break(stream)
    ((event, recording),) = stream.sink.ended
    assert (event.clip_withheld, recording) == (ClipWithheld.EVENT_ONLY, None)
    assert read == []


async def test_a_wish_for_events_only_holds_for_those_that_go_on() -> None:
    stream = Stream()

    def wish() -> None:
        stream.reporter.settings = RecordingSettings(keep=KeepMode.EVENT_ONLY)

    await _break(stream, before_the_end=wish)
    ((event, recording),) = stream.sink.ended
    assert (event.clip_withheld, recording) == (ClipWithheld.EVENT_ONLY, None)


@pytest.mark.parametrize(("spoken", "withheld"), [(True, ClipWithheld.SPEECH), (False, None)])
async def test_a_recording_with_speech_is_dropped(
    monkeypatch: pytest.MonkeyPatch, spoken: bool, withheld: ClipWithheld | None
) -> None:
    checked: list[int] = []

    def check(samples: Any, rate: int) -> bool:
        assert rate == RATE
        checked.append(len(samples))
        return spoken

    monkeypatch.setattr(reporter_module, "has_speech", check)
    stream = Stream(RecordingSettings(keep=KeepMode.NO_SPEECH))
    await _break(stream)
    ((event, recording),) = stream.sink.ended
    assert checked == [7 * RATE]
    assert event.clip_withheld is withheld
    assert (recording is None) is spoken
    assert stream.problems == [None]


def _unreadable(*_: Any) -> bool:
    raise AudioError("no weights")


def _broken(*_: Any) -> bool:
    raise MemoryError


def _slow(*_: Any) -> bool:
    time.sleep(0.5)
    return False


@pytest.mark.parametrize(
    ("check", "words"), [(_unreadable, "no weights"), (_broken, "MemoryError"), (_slow, "more than 0.05 s")]
)
async def test_what_cannot_be_checked_is_dropped_and_told(
    monkeypatch: pytest.MonkeyPatch, check: Callable[..., bool], words: str
) -> None:
    monkeypatch.setattr(reporter_module, "has_speech", check)
    monkeypatch.setattr(reporter_module, "CHECK_TIMEOUT_S", 0.05)
    stream = Stream(RecordingSettings(keep=KeepMode.NO_SPEECH))
    await _break(stream)
    ((event, recording),) = stream.sink.ended
    assert (event.clip_withheld, recording) == (ClipWithheld.CHECK_FAILED, None)
    (problem,) = stream.problems
    assert problem is not None
    assert words in problem


async def test_nothing_is_recorded_of_what_goes_on_when_it_is_muted() -> None:
    stream = Stream(RecordingSettings(post_roll_s=8.0))
    stream.run(20)
    first, second = detection(18.0, 20.0), detection(19.0, 20.0)
    await stream.reporter.report(first)
    await stream.reporter.report(replace(first, ended_s=20.0))
    await stream.reporter.report(second)
    stream.reporter.withhold(ClipWithheld.MUTED)
    await stream.reporter.report(replace(second, ended_s=20.0))
    await stream.reporter.tell_recordings()
    ((coming, recording),) = stream.sink.clips
    assert (coming.clip_withheld, recording) == (ClipWithheld.MUTED, None)
    assert [event.clip_withheld for event, _ in stream.sink.ended] == [
        ClipWithheld.COMING,
        ClipWithheld.MUTED,
    ]
