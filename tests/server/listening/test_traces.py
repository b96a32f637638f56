"""How the model heard an event is kept, bounded, and of the event alone."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from clap_server.detection.detector import Detection
from clap_server.detection.labels import Label, WatchedLabel
from clap_server.listening.traces import MOST_WINDOWS, Trace, Traces

GLASS = WatchedLabel(Label("glass", {"en": "Glass"}, ("glass",)), 0.5)
ALARM = WatchedLabel(Label("alarm", {"en": "Alarm"}, ("alarm",)), 0.5)


def detection(watched: WatchedLabel, detected_s: float, ended_s: float | None = None) -> Detection:
    return Detection(watched, detected_s - 1, detected_s, ended_s, 0.6, 0.6, -20.0)


def window(number: int) -> np.ndarray:
    return np.full(3, number, np.float32)


def numbers(trace: Trace | None) -> list[int]:
    assert trace is not None
    return [int(row[0]) for row in trace.embeddings]


@given(st.integers(1, 300))
def test_of_any_length_a_bounded_number_of_windows_is_kept_evenly_spread_from_the_first(count: int) -> None:
    trace = Trace("a model")
    for number in range(count):
        trace.add(window(number))
    kept = numbers(trace)
    assert kept[0] == 0
    assert len(kept) <= MOST_WINDOWS
    assert len(kept) == count or len(kept) >= MOST_WINDOWS // 2
    steps = set(np.diff(kept))
    assert len(steps) <= 1
    assert not steps or count - kept[-1] <= max(steps)


def test_the_windows_that_led_to_the_event_are_kept_and_those_of_other_labels_are_not() -> None:
    traces = Traces(hop_s=0.5, denoise=False)
    start = detection(GLASS, 2.0)
    for number, glass, alarm, begun in ((0, 0.1, 0.9, []), (1, 0.45, 0.1, []), (2, 0.6, 0.1, [start])):
        traces.take("a model", window(number), {"glass": glass, "alarm": alarm}, (GLASS, ALARM), begun)
    assert numbers(traces.of(start)) == [1, 2]
    traces.take("a model", window(3), {"glass": 0.1}, (GLASS, ALARM), [])
    traces.take("a model", window(4), {"glass": 0.7}, (GLASS, ALARM), [])
    end = detection(GLASS, 2.0, ended_s=3.0)
    assert numbers(traces.of(end)) == [1, 2, 4]
    assert traces.of(end) is None, "it is forgotten at the end"


def test_an_event_that_a_pattern_started_has_none() -> None:
    assert Traces(hop_s=0.5, denoise=False).of(detection(ALARM, 3.0)) is None


def test_windows_of_two_models_are_never_in_one_trace() -> None:
    traces = Traces(hop_s=0.5, denoise=False)
    traces.take("one", window(1), {"glass": 0.6}, (GLASS,), [])
    start = detection(GLASS, 1.0)
    traces.take("two", window(2), {"glass": 0.6}, (GLASS,), [start])
    traces.take("three", window(3), {"glass": 0.6}, (GLASS,), [])
    trace = traces.of(start)
    assert numbers(trace) == [2]
    assert trace is not None
    assert trace.made_for == "two"


def test_events_of_which_nobody_is_told_the_end_do_not_pile_up() -> None:
    traces = Traces(hop_s=0.5, denoise=False)
    for number in range(1000):
        started = [detection(GLASS, float(number))]
        traces.take("a model", window(number), {"glass": 0.6}, (GLASS,), started)
    assert len(traces._open) < 1000
    assert traces.of(detection(GLASS, 999.0)) is not None


def test_the_settings_with_which_an_event_began_go_with_it() -> None:
    traces = Traces(hop_s=0.5, denoise=True)
    before = detection(GLASS, 1.0)
    traces.take("a model", window(1), {"glass": 0.6}, (GLASS,), [before])
    traces.hop_s = 2.0
    after = detection(ALARM, 2.0)
    traces.take("a model", window(2), {"glass": 0.6, "alarm": 0.6}, (GLASS, ALARM), [after])
    told = [traces.of(each) for each in (before, after)]
    assert [(trace.hop_s, trace.denoise) for trace in told if trace is not None] == [(0.5, True), (2.0, True)]
