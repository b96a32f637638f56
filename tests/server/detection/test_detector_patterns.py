"""Patterns start events at once, hold them, and let them go."""

from dataclasses import replace

import pytest

from clap_server.detection.detector import Detection, Detector
from clap_server.detection.labels import WatchedLabel
from clap_server.detection.library import load_library
from clap_server.detection.patterns import AlarmPattern, DecodedPattern
from clap_server.detection.windows import Window

LIBRARY = load_library()
T3 = DecodedPattern(AlarmPattern.T3, 3100.0, onset_s=10.0, last_s=16.5, known_s=16.6, level_dbfs=-25.0)
T4 = replace(T3, pattern=AlarmPattern.T4)


def detector(*label_ids: str) -> Detector:
    return Detector([WatchedLabel(LIBRARY.resolve(id_), 0.7) for id_ in label_ids], hop_s=0.5)


def window(end_s: float) -> Window:
    return Window(end_s - 2, end_s, -30.0, None)


def quiet(watching: Detector, from_s: float, to_s: float) -> list[Detection]:
    ends_s = [from_s + 0.5 * index for index in range(1, round((to_s - from_s) / 0.5) + 1)]
    return [detection for end_s in ends_s for detection in watching.update(window(end_s), {})]


def over(pattern: DecodedPattern, last_s: float) -> DecodedPattern:
    return replace(pattern, last_s=last_s, known_s=last_s + 8.4, ended=True)


def test_a_pattern_alone_starts_an_event_with_score_one() -> None:
    (started,) = detector("smoke_alarm", "carbon_monoxide_alarm", "glass_breaking").take_pattern(T3)
    assert started.watched.label.id == "smoke_alarm"
    assert (started.onset_s, started.detected_s, started.ended_s) == (10.0, 16.6, None)
    assert (started.score, started.peak_score, started.pattern) == (1.0, 1.0, AlarmPattern.T3)
    assert started.peak_level_dbfs == -25.0


@pytest.mark.parametrize(
    ("pattern", "raised"),
    [
        ("T3", {"smoke_alarm", "alarm"}),
        ("T4", {"carbon_monoxide_alarm", "alarm"}),
        ("low_battery", {"smoke_alarm_low_battery"}),
    ],
)
def test_each_pattern_raises_the_labels_that_it_means(pattern: str, raised: set[str]) -> None:
    watching = detector("smoke_alarm", "carbon_monoxide_alarm", "alarm", "smoke_alarm_low_battery", "siren")
    watching.take_pattern(replace(T3, pattern=AlarmPattern(pattern)))
    assert watching.active == raised


def test_what_is_not_watched_is_not_raised() -> None:
    watching = detector("glass_breaking", "carbon_monoxide_alarm")
    assert watching.take_pattern(T3) == []
    assert watching.active == frozenset()


def test_an_event_lasts_as_long_as_its_pattern_and_no_window_is_asked() -> None:
    watching = detector("smoke_alarm")
    watching.take_pattern(T3)
    assert not watching.reporting
    # Longer than the model alone may keep an event on.
    assert quiet(watching, 16.5, 900.0) == []
    assert watching.take_pattern(over(T3, 896.0)) == []
    (ended,) = quiet(watching, 900.0, 910.0)
    assert (ended.onset_s, ended.ended_s, ended.pattern) == (10.0, 896.0, AlarmPattern.T3)
    assert watching.active == frozenset()


def test_an_event_of_the_model_is_confirmed_once_and_ends_when_neither_hears_it() -> None:
    watching = detector("smoke_alarm")
    watching.update(window(11.0), {"smoke_alarm": 0.8})
    (started,) = watching.update(window(11.5), {"smoke_alarm": 0.8})
    assert started.pattern is None
    assert watching.reporting
    (confirmed,) = watching.take_pattern(T3)
    assert (confirmed.onset_s, confirmed.score, confirmed.ended_s) == (started.onset_s, 0.8, None)
    assert (confirmed.peak_score, confirmed.pattern) == (1.0, AlarmPattern.T3)
    assert watching.take_pattern(T3) == []
    watching.take_pattern(over(T3, 40.0))
    # The model goes on hearing it.
    for index in range(20):
        assert watching.update(window(48.5 + index / 2), {"smoke_alarm": 0.8}) == []
    (ended,) = quiet(watching, 58.0, 64.0)
    assert (ended.ended_s, ended.pattern) == (58.0, AlarmPattern.T3)


def test_an_alarm_of_two_patterns_lasts_until_both_are_over() -> None:
    watching = detector("alarm")
    watching.take_pattern(T3)
    assert watching.take_pattern(T4) == []
    watching.take_pattern(over(T3, 20.0))
    assert quiet(watching, 28.0, 100.0) == []
    watching.take_pattern(over(T4, 90.0))
    (ended,) = quiet(watching, 100.0, 101.0)
    assert (ended.pattern, ended.ended_s) == (AlarmPattern.T3, 90.0)


def test_a_label_that_is_watched_from_now_is_raised_by_a_pattern_that_goes_on() -> None:
    watching = detector("glass_breaking")
    watching.take_pattern(T3)
    (started,) = watching.change([WatchedLabel(LIBRARY.resolve("smoke_alarm"), 0.7)], hop_s=0.5)
    assert (started.watched.label.id, started.ended_s) == ("smoke_alarm", None)
    assert watching.change([WatchedLabel(LIBRARY.resolve("smoke_alarm"), 0.5)], hop_s=0.5) == []
    (ended,) = watching.change([WatchedLabel(LIBRARY.resolve("siren"), 0.5)], hop_s=0.5)
    assert ended.watched.label.id == "smoke_alarm"
    assert ended.ended_s is not None


def test_nothing_sticks_when_nothing_is_decoded_any_more() -> None:
    watching = detector("smoke_alarm")
    watching.take_pattern(T3)
    watching.forget_patterns()
    (ended,) = watching.tick(30.0)
    assert ended.ended_s == 16.5
    assert watching.active == frozenset()


def test_the_end_of_the_stream_ends_what_a_pattern_holds() -> None:
    watching = detector("smoke_alarm")
    watching.take_pattern(T3)
    (ended,) = watching.finish()
    assert ended.ended_s == 16.5
    watching.take_pattern(T3)
    quiet(watching, 16.5, 30.0)
    (ended,) = watching.finish()
    assert ended.ended_s == 30.0
