"""Scores become events that start, last, end and never stick."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clap_server.detection.detector import Detection, Detector
from clap_server.detection.labels import Label, LabelKind, WatchedLabel
from clap_server.detection.temporal import TIMING
from clap_server.detection.windows import Window
from clap_server.errors import LabelError


def watched(id_: str, kind: LabelKind, threshold: float = 0.5) -> WatchedLabel:
    return WatchedLabel(Label(id_, {"en": id_}, (id_,), kind=kind), threshold)


GLASS = watched("glass", LabelKind.IMPULSIVE)
ALARM = watched("alarm", LabelKind.SUSTAINED)


def window(end_s: float, *, level_dbfs: float = -30.0, onset_s: float | None = None) -> Window:
    return Window(max(0.0, end_s - 2), end_s, level_dbfs, onset_s)


def play(
    detector: Detector, label_id: str, scores: list[float], *, first: int = 1, hop_s: float = 0.5
) -> list[Detection]:
    changes = []
    for index, score in enumerate(scores, first):
        changes += detector.update(window(index * hop_s), {label_id: score})
    return changes


def test_a_break_starts_one_event_that_lasts_at_least_five_seconds() -> None:
    detector = Detector([GLASS], hop_s=0.5)
    changes = play(detector, "glass", [0.1, 0.9, 0.8, 0.7, 0.1] + [0.0] * 20)
    started, ended = changes
    assert started.ended_s is None
    assert started.detected_s == 1.0
    assert ended.ended_s == 2.0
    assert (ended.score, ended.peak_score) == (0.9, 0.9)
    assert detector.active == frozenset()


def test_the_minimum_time_on_is_kept_although_the_sound_is_over() -> None:
    detector = Detector([GLASS], hop_s=0.5)
    play(detector, "glass", [0.9] + [0.0] * 9)
    assert detector.active == {"glass"}
    assert len(play(detector, "glass", [0.0], first=11)) == 1


def test_an_event_begins_at_the_onset_and_keeps_the_highest_level() -> None:
    detector = Detector([GLASS], hop_s=0.5)
    (started,) = detector.update(window(3.2, onset_s=3.0, level_dbfs=-20), {"glass": 0.8})
    assert started.onset_s == 3.0
    detector.update(window(3.5, onset_s=3.0, level_dbfs=-10), {"glass": 0.9})
    (ended,) = detector.finish()
    assert (ended.peak_level_dbfs, ended.peak_score, ended.score) == (-10, 0.9, 0.8)


def test_a_sustained_event_begins_at_the_first_window_that_heard_it() -> None:
    detector = Detector([ALARM], hop_s=0.5)
    detector.update(window(3.0), {"alarm": 0.0})
    detector.update(window(3.5, onset_s=3.1, level_dbfs=-5), {"alarm": 0.9})
    (started,) = detector.update(window(4.0), {"alarm": 0.8})
    assert (started.onset_s, started.score, started.peak_score) == (3.1, 0.8, 0.9)
    assert started.peak_level_dbfs == -5


def test_hours_just_below_the_threshold_do_not_belong_to_the_sound() -> None:
    detector = Detector([ALARM], hop_s=0.5)
    play(detector, "alarm", [0.49, *[0.4] * 7200])
    (started,) = play(detector, "alarm", [0.9, 0.9], first=7202)
    assert started.detected_s - started.onset_s < 20
    assert started.peak_score == 0.9


def test_a_sustained_sound_is_decided_within_a_second_of_its_first_window() -> None:
    changes = play(Detector([ALARM], hop_s=0.5), "alarm", [0.0, 0.0, 0.9, 0.9])
    assert [change.detected_s for change in changes] == [2.0]


def test_the_pause_of_a_t4_alarm_does_not_end_its_event() -> None:
    # A cycle of 5.7 s of which a 2 s window hears about 2.5 s.
    cycle = [0.9] * 5 + [0.0] * 6
    changes = play(Detector([ALARM], hop_s=0.5), "alarm", cycle * 5)
    assert len(changes) == 1


def test_repeated_breaks_extend_the_event_and_a_break_after_its_end_is_a_new_one() -> None:
    detector = Detector([GLASS], hop_s=0.5)
    changes = play(detector, "glass", ([0.9] + [0.0] * 2) * 10)
    assert len(changes) == 1
    changes = play(detector, "glass", [0.0] * 20 + [0.9], first=31)
    assert [change.ended_s is None for change in changes] == [False, True]


def test_nothing_starts_during_the_hold_off() -> None:
    detector = Detector([GLASS], hop_s=0.5)
    play(detector, "glass", [0.9] + [0.0] * 10)
    assert play(detector, "glass", [0.9], first=12) == []
    (again,) = play(detector, "glass", [0.9], first=13)
    assert again.ended_s is None


@pytest.mark.parametrize("label", [GLASS, ALARM])
def test_a_sound_that_never_stops_is_ended_and_reported_anew(label: WatchedLabel) -> None:
    limit_s = TIMING[label.label.kind].maximum_on_s
    changes = play(Detector([label], hop_s=0.5), label.label.id, [0.9] * round(2 * limit_s + 40))
    assert [change.ended_s is None for change in changes] == [True, False, True]
    assert changes[1].ended_s == changes[0].detected_s + limit_s
    assert changes[2].onset_s >= changes[1].ended_s


def test_an_event_ends_although_windows_stopped_coming() -> None:
    detector = Detector([GLASS], hop_s=0.5)
    detector.update(window(1.0), {"glass": 0.9})
    assert detector.tick(5.9) == []
    (ended,) = detector.tick(6.0)
    assert ended.ended_s == 1.0


def test_everything_ends_when_the_stream_breaks_off() -> None:
    detector = Detector([GLASS, ALARM], hop_s=0.5)
    detector.update(window(1.0), {"glass": 0.9, "alarm": 0.9})
    detector.update(window(1.5), {"alarm": 0.9})
    assert detector.active == {"glass", "alarm"}
    assert {change.watched.label.id for change in detector.finish()} == {"glass", "alarm"}
    assert detector.active == frozenset()
    assert detector.finish() == []


def test_another_threshold_keeps_the_event_and_another_set_of_labels_ends_it() -> None:
    detector = Detector([GLASS, ALARM], hop_s=0.5)
    detector.update(window(1.0), {"glass": 0.9})
    assert detector.change([watched("glass", LabelKind.IMPULSIVE, 0.95), ALARM], hop_s=1.0) == []
    assert detector.active == {"glass"}
    (ended,) = detector.change([ALARM], hop_s=0.5)
    assert ended.watched.label.id == "glass"
    assert detector.update(window(9.0), {"glass": 0.9}) == []


def test_a_new_threshold_is_in_force_at_once() -> None:
    detector = Detector([GLASS], hop_s=0.5)
    detector.change([watched("glass", LabelKind.IMPULSIVE, 0.99)], hop_s=0.5)
    assert play(detector, "glass", [0.78, 0.0, 0.98]) == []


def test_a_refused_change_changes_nothing() -> None:
    detector = Detector([GLASS], hop_s=0.5)
    detector.update(window(1.0), {"glass": 0.9})
    with pytest.raises(LabelError):
        detector.change([ALARM, watched("glass", LabelKind.IMPULSIVE, 1.0)], hop_s=0.5)
    assert detector.active == {"glass"}


SCORES = st.lists(
    st.tuples(st.floats(0.01, 3.0), st.floats(0, 1)), min_size=1, max_size=200
)  # (seconds since the window before, score)
KINDS = st.sampled_from(list(LabelKind))
THRESHOLDS = st.floats(0.05, 0.95)


@settings(max_examples=60, deadline=None)
@given(scores=SCORES, kind=KINDS, threshold=THRESHOLDS)
def test_never_stuck_and_every_start_has_its_end(
    scores: list[tuple[float, float]], kind: LabelKind, threshold: float
) -> None:
    detector = Detector([watched("x", kind, threshold)], hop_s=0.5)
    timing = TIMING[kind]
    now_s = 0.0
    changes = []
    for step_s, score in scores:
        now_s += step_s
        changes += detector.update(window(now_s), {"x": score})
        if detector.active:
            assert now_s - changes[-1].detected_s < timing.maximum_on_s
    changes += detector.tick(now_s + max(timing.release_s, timing.minimum_on_s))
    assert detector.active == frozenset()
    assert [change.ended_s is None for change in changes] == [True, False] * (len(changes) // 2)
    for started, ended in zip(changes[::2], changes[1::2], strict=True):
        assert ended.ended_s is not None
        assert started.onset_s <= started.detected_s <= ended.ended_s
        assert ended.peak_score >= started.score


@settings(max_examples=60, deadline=None)
@given(scores=SCORES, kind=KINDS, threshold=THRESHOLDS)
def test_no_event_without_scores_that_reach_the_threshold(
    scores: list[tuple[float, float]], kind: LabelKind, threshold: float
) -> None:
    limit = threshold - 1e-9
    detector = Detector([watched("x", kind, threshold)], hop_s=0.5)
    now_s = 0.0
    for step_s, score in scores:
        now_s += step_s
        assert detector.update(window(now_s), {"x": score * limit}) == []


@settings(max_examples=40, deadline=None)
@given(threshold=THRESHOLDS, kind=KINDS, hop_s=st.floats(0.1, 5), above=st.floats(0, 0.05))
def test_a_score_that_stays_at_the_threshold_is_always_reported(
    threshold: float, kind: LabelKind, hop_s: float, above: float
) -> None:
    detector = Detector([watched("x", kind, threshold)], hop_s=hop_s)
    changes = play(detector, "x", [threshold + above] * 20, hop_s=hop_s)
    assert changes
    assert changes[0].score >= threshold
