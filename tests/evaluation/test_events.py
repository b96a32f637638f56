"""What counts as a hit, a miss and a false alarm, and with what certainty."""

from __future__ import annotations

import pytest
from scipy.stats import poisson

from clap_evaluation.detecting import detect
from clap_evaluation.events import (
    COLLAR_S,
    event_curves,
    event_metrics,
    match,
    operating_point,
    outside_s,
    rate_bounds,
    recall_bounds,
    shared_operating_point,
)
from clap_evaluation.scored import Event
from clap_server.detection.detector import Detection
from clap_server.detection.labels import Label, WatchedLabel
from tests.evaluation.made import ALARM, GLASS, WINDOW_S, recording, windows


def detection(decided_s: float, ended_s: float) -> Detection:
    return Detection(WatchedLabel(GLASS, 0.7), decided_s - 0.3, decided_s, ended_s, 0.9, 0.9, -20.0)


def test_hits_misses_false_alarms_and_delays_are_counted() -> None:
    result = recording(
        60.0,
        {"glass": [(10.5, 12.0, 0.9), (40.0, 41.0, 0.8)]},
        ("glass", 10.0, 11.0),
        ("glass", 20.0, 21.0),
    )
    glass, alarm = event_metrics([result], [GLASS, ALARM])
    assert (glass.events, glass.hits, glass.recall, glass.false_alarms) == (2, 1, 0.5, 1)
    assert glass.delays_s == (0.5,)
    assert (glass.delay_median_s, glass.delay_p95_s) == (0.5, 0.5)
    outside = 60.0 - 2 * (COLLAR_S + 1.0 + WINDOW_S)
    assert glass.hours == pytest.approx(outside / 3600)
    assert glass.false_alarms_per_hour == pytest.approx(3600 / outside)
    assert (alarm.events, alarm.recall, alarm.recall_low, alarm.delay_p95_s) == (0, None, None, None)
    assert alarm.hours == pytest.approx(60 / 3600)


def test_figures_of_several_models_recordings_are_pooled() -> None:
    heard = recording(4.0, {"glass": [(1.0, 2.0, 0.9)]}, ("glass", None, None))
    missed = recording(4.0, {}, ("glass", None, None))
    quiet = recording(3600.0, {"glass": [(100.0, 101.0, 0.9)]}, (None, None, None))
    [glass] = event_metrics([heard, missed, quiet], [GLASS])
    assert (glass.events, glass.hits, glass.false_alarms) == (2, 1, 1)
    assert glass.hours == pytest.approx(1.0)


def test_a_clip_without_times_is_one_event_and_its_delay_counts_from_its_own_onset() -> None:
    peaks = {"glass": [(2.0, 3.0, 0.9)]}
    [known] = event_metrics([recording(4.0, peaks, ("glass", None, None), first_onset_s=1.6)], [GLASS])
    [unknown] = event_metrics([recording(4.0, peaks, ("glass", None, None))], [GLASS])
    assert known.delays_s == pytest.approx((0.4,))
    assert (unknown.hits, unknown.delays_s) == (1, ())


def test_one_threshold_can_be_set_for_all() -> None:
    result = recording(10.0, {"glass": [(4.0, 5.0, 0.6)]}, ("glass", 3.5, 4.5))
    assert event_metrics([result], [GLASS])[0].hits == 0
    assert [m.threshold for m in event_metrics([result], [GLASS, ALARM], 0.55)] == [0.55, 0.55]
    assert event_metrics([result], [GLASS], 0.55)[0].hits == 1


def test_a_detection_before_an_event_that_goes_on_into_it_is_a_false_alarm() -> None:
    matching = match([Event(10.0, 11.0, 10.0)], [detection(5.0, 12.0)], window_s=WINDOW_S)
    assert matching.hit == (None,)
    assert len(matching.false_alarms) == 1


def test_a_detection_that_goes_on_hits_later_events_that_it_hears() -> None:
    events = [Event(10.0, 10.5, 10.0), Event(16.0, 16.5, 16.0), Event(30.0, 31.0, 30.0)]
    matching = match(events, [detection(10.4, 17.0)], window_s=WINDOW_S)
    assert [d is not None for d in matching.hit] == [True, True, False]
    assert not matching.false_alarms


def test_a_second_detection_of_an_event_is_neither_hit_nor_false_alarm() -> None:
    first, second = detection(10.3, 10.5), detection(12.5, 12.8)
    matching = match([Event(10.0, 11.0, 10.0)], [second, first], window_s=WINDOW_S)
    assert matching.hit == (first,)
    assert matching.false_alarms == ()


@pytest.mark.parametrize(("decided_s", "hit"), [(9.4, False), (9.6, True), (12.9, True), (13.1, False)])
def test_an_event_is_hit_from_its_onset_less_the_collar_to_a_window_after_it(
    decided_s: float, hit: bool
) -> None:
    matching = match([Event(10.0, 11.0, 10.0)], [detection(decided_s, decided_s)], window_s=WINDOW_S)
    assert (matching.hit[0] is not None) is hit
    assert len(matching.false_alarms) == (not hit)


def test_time_outside_events_counts_overlaps_once_and_never_below_nothing() -> None:
    events = [Event(1.0, 2.0, None), Event(3.0, 4.0, None), Event(19.5, 20.0, None)]
    assert outside_s(events, 20.0, window_s=2.0) == pytest.approx(0.5 + (19.0 - 6.0))
    assert outside_s([Event(0.0, 3.0, None)], 3.0, window_s=2.0) == 0.0


def test_rows_that_touch_are_one_event() -> None:
    result = recording(
        20.0, {}, ("glass", 5.0, 7.0), ("glass", 6.0, 6.5), ("glass", 1.0, None), ("glass", 19.0, 40.0)
    )
    assert [(e.onset_s, e.offset_s) for e in result.events("glass")] == [(1.0, 3.0), (5.0, 7.0), (19.0, 20.0)]


def test_an_event_with_only_an_end_starts_with_the_recording() -> None:
    [event] = recording(20.0, {}, ("glass", None, 4.0), first_onset_s=0.5).events("glass")
    assert (event.onset_s, event.offset_s, event.heard_from_s) == (0.0, 4.0, 0.5)


@pytest.mark.parametrize("count", [0, 1, 7])
def test_bounds_of_a_rate_leave_two_and_a_half_percent_on_each_side(count: int) -> None:
    low, high = rate_bounds(count, 2.0)
    assert low is not None
    assert high is not None
    assert poisson.cdf(count, 2.0 * high) == pytest.approx(0.025)
    if count:
        assert poisson.sf(count - 1, 2.0 * low) == pytest.approx(0.025)
    else:
        assert low == 0.0
        assert high == pytest.approx(3.689 / 2, abs=1e-3)
    assert rate_bounds(count, 0.0) == (None, None)


def test_bounds_of_recall_are_those_of_a_binomial_share() -> None:
    assert recall_bounds(0, 0) == (None, None)
    low, high = recall_bounds(8, 10)
    # Clopper and Pearson's table.
    assert (low, high) == (pytest.approx(0.4439, abs=1e-4), pytest.approx(0.9748, abs=1e-4))


def test_the_gate_keeps_quiet_windows_from_the_detector_as_it_does_live() -> None:
    watched = [WatchedLabel(GLASS, 0.7)]
    peaks = {"glass": [(8.0, 9.0, 0.9)]}
    assert len(detect(windows(20.0, peaks), watched)) == 1
    assert len(detect(windows(20.0, peaks, noise_dbfs=-70.0), watched)) == 1
    assert detect(windows(20.0, peaks, noise_dbfs=-50.0), watched) == []


def test_the_gate_stays_open_while_an_event_is_reported() -> None:
    watched = [WatchedLabel(ALARM, 0.5)]
    # Begins before the floor has risen to the noise, and goes on for longer than that takes.
    long = {"alarm": [(1.0, 18.0, 0.9)]}
    [detection] = detect(windows(20.0, long, noise_dbfs=-50.0), watched)
    assert detection.ended_s == 18.0


def test_a_label_that_was_not_scored_is_refused() -> None:
    other = Label("dog", {"en": "Dog"}, ("dog",))
    with pytest.raises(ValueError, match="not in tuple"):
        event_metrics([recording(4.0, {}, (None, None, None))], [other])


def test_operating_points_tell_recall_at_a_limit_of_false_alarms() -> None:
    positives = [recording(4.0, {"glass": [(1.0, 2.0, s)]}, ("glass", None, None)) for s in (0.95, 0.6, 0.4)]
    noise = recording(
        7200.0, {"glass": [(60.0 * i, 60.0 * i, 0.5) for i in range(1, 11)]}, (None, None, None)
    )
    curves = event_curves([*positives, noise], [GLASS, ALARM], (0.3, 0.45, 0.55, 0.9))
    assert [p.recall for p in curves["glass"]] == pytest.approx([1.0, 2 / 3, 2 / 3, 1 / 3])
    assert [p.false_alarms for p in curves["glass"]] == [10, 10, 0, 0]
    strict = operating_point(curves["glass"], 1.0)
    assert (strict.threshold, strict.recall, strict.enough) == (0.55, pytest.approx(2 / 3), True)
    lax = operating_point(curves["glass"], 6.0)
    assert (lax.threshold, lax.recall) == (0.3, 1.0)
    assert not operating_point(curves["glass"], 3 / 24).enough
    shared = shared_operating_point(curves, 1.0)
    assert shared is not None
    assert [(p.label_id, p.threshold) for p in shared] == [("glass", 0.55), ("alarm", 0.55)]


def test_no_operating_point_is_made_up_where_the_limit_is_never_kept() -> None:
    loud = recording(60.0, {"glass": [(30.0, 30.5, 1.0)]}, (None, None, None))
    curves = event_curves([loud], [GLASS], (0.5, 0.9))
    point = operating_point(curves["glass"], 1.0)
    assert (point.threshold, point.recall, point.enough) == (None, None, False)
    assert shared_operating_point(curves, 1.0) is None
