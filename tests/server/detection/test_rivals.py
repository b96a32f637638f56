"""One bang makes one event, and a second bang is another one."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clap_server.detection.detector import Detection, Detector
from clap_server.detection.judgement import Decision
from clap_server.detection.labels import Label, LabelKind, WatchedLabel
from clap_server.detection.library import load_library
from clap_server.detection.rivals import APART_S, CLEARLY, CLOSE, MOST_A_MINUTE, SAME_SOUND_S
from clap_server.detection.temporal import TIMING
from clap_server.detection.windows import Window

if TYPE_CHECKING:
    from collections.abc import Iterator

IMPACTS = ("glass_breaking", "explosion_gunshot", "metal_impact", "door_knock", "door_slam")
WINDOW_S = 2.0


def watch(*label_ids: str, threshold: float = 0.7) -> Detector:
    library = load_library()
    return Detector([WatchedLabel(library.resolve(id_), threshold) for id_ in label_ids], hop_s=0.5)


def window(end_s: float, *onsets_s: float, window_s: float = WINDOW_S) -> Window:
    """With those of the onsets that are inside."""
    start_s = end_s - window_s
    inside = tuple(at_s for at_s in onsets_s if start_s <= at_s < end_s)
    return Window(start_s, end_s, -30.0, inside[-1] if inside else None, (), inside)


def starts(changes: list[Detection]) -> list[str]:
    return [change.watched.label.id for change in changes if change.ended_s is None]


def test_impacts_and_no_others_are_rivals() -> None:
    library = load_library()
    rivals = {label.id for label in library.labels if label.rivals is not None}
    assert rivals == set(IMPACTS)
    assert {label.rivals for label in library.labels if label.rivals} == {"impact"}
    assert all(label.kind is LabelKind.IMPULSIVE for label in library.labels if label.rivals)
    assert library.resolve("a plate falling").rivals is None


def test_one_bang_is_one_event_of_the_best_that_tells_the_others() -> None:
    detector = watch(*IMPACTS)
    # Each of four would have been an event of its own.
    scores = {
        "metal_impact": 0.81,
        "glass_breaking": 0.93,
        "explosion_gunshot": 0.75,
        "door_slam": 0.7,
        "door_knock": 0.6,
    }
    changes = [
        change
        for end_s in (10.2, 10.5, 10.7, 11.0, 11.5, 12.0)
        for change in detector.update(window(end_s, 10.0), scores)
    ]
    (started,) = changes
    assert started.watched.label.id == "glass_breaking"
    assert [(close.label, close.score) for close in started.close] == [
        ("metal_impact", 0.81),
        ("explosion_gunshot", 0.75),
        ("door_slam", 0.7),
    ]
    assert started.replaced_by is None


def test_what_came_near_is_told_although_it_did_not_reach_its_threshold() -> None:
    detector = watch("glass_breaking", "metal_impact", "door_slam")
    scores = {"glass_breaking": 0.72, "metal_impact": 0.63, "door_slam": 0.61}
    (started,) = detector.update(window(10.2, 10.0), scores)
    assert [close.label for close in started.close] == ["metal_impact"]


def test_of_equal_scores_the_label_that_is_watched_first_names_the_bang() -> None:
    for order in (("metal_impact", "door_slam"), ("door_slam", "metal_impact")):
        changes = watch(*order).update(window(10.2, 10.0), dict.fromkeys(order, 1.0))
        assert starts(changes) == [order[0]]


def test_labels_that_are_no_rivals_do_not_compete() -> None:
    detector = watch("glass_breaking", "scream")
    changes = detector.update(window(10.2, 10.0), {"glass_breaking": 0.9, "scream": 0.8})
    assert starts(changes) == ["glass_breaking", "scream"]
    assert all(change.close == () for change in changes)


def test_a_clearly_better_name_takes_the_bang_over_and_turns_its_own_sensor_on() -> None:
    detector = watch("metal_impact", "glass_breaking")
    (first,) = detector.update(window(10.2, 10.0), {"metal_impact": 0.8, "glass_breaking": 0.5})
    assert first.watched.label.id == "metal_impact"
    ended, started = detector.update(window(10.7, 10.0), {"metal_impact": 0.7, "glass_breaking": 0.9})
    assert (ended.watched.label.id, ended.replaced_by) == ("metal_impact", "glass_breaking")
    assert ended.ended_s is not None
    assert ended.ended_s <= 10.7
    assert (started.watched.label.id, started.onset_s, started.detected_s) == ("glass_breaking", 10.0, 10.7)
    assert [(close.label, close.score) for close in started.close] == [("metal_impact", 0.8)]
    assert detector.active == {"glass_breaking"}
    # It does not take it back.
    assert detector.update(window(11.0, 10.0), {"metal_impact": 1.0, "glass_breaking": 0.8}) == []


def test_a_name_that_is_a_little_better_or_comes_too_late_is_only_close() -> None:
    for end_s, score in ((10.7, 0.8 + CLEARLY - 0.01), (10.0 + SAME_SOUND_S + 0.1, 0.99)):
        detector = watch("metal_impact", "glass_breaking")
        detector.update(window(10.2, 10.0), {"metal_impact": 0.8})
        (told,) = detector.update(window(end_s, 10.0), {"metal_impact": 0.4, "glass_breaking": score})
        assert (told.watched.label.id, told.ended_s) == ("metal_impact", None)
        assert [close.label for close in told.close] == ["glass_breaking"]
        assert detector.update(window(end_s + 0.1, 10.0), {"glass_breaking": 0.72}) == [], "told once"
        (ended,) = detector.finish()
        assert (ended.replaced_by, ended.close[0].score) == (None, score)


def test_a_break_in_loud_noise_takes_over_from_what_went_on_before() -> None:
    detector = watch("metal_impact", "glass_breaking")
    detector.update(window(10.2, 10.0), {"metal_impact": 0.75})
    ended, started = detector.update(window(13.0, 10.0), {"metal_impact": 0.7, "glass_breaking": 0.9})
    assert (ended.watched.label.id, ended.replaced_by) == ("metal_impact", None)
    assert starts([started]) == ["glass_breaking"]


def test_why_another_label_names_the_sound_is_said() -> None:
    detector = watch("metal_impact", "glass_breaking")
    scores = {"metal_impact": 0.81, "glass_breaking": 0.86}
    seen = window(10.2, 10.0)
    detector.update(seen, scores)
    metal, glass = detector.judgements(seen, scores)
    assert (metal.decision, glass.decision) == (Decision.OUTDONE, Decision.STARTED)
    assert metal.nearer is not None
    assert (metal.nearer.watched.label.id, metal.nearer.score) == ("glass_breaking", 0.86)
    seen = window(10.7, 10.0)
    detector.update(seen, {"metal_impact": 0.99, "glass_breaking": 0.7})
    assert [judgement.decision for judgement in detector.judgements(seen, scores)] == [
        Decision.STARTED,
        Decision.OUTDONE,
    ]


@pytest.mark.parametrize("window_s", [2.0, 10.0])
def test_a_second_shot_is_its_own_event_while_the_first_goes_on(window_s: float) -> None:
    detector = watch("explosion_gunshot")
    onsets = (20.0, 22.0)
    changes = []
    for tick in range(402, 740, 5):
        end_s = tick / 20
        seen = window(end_s, *onsets, window_s=window_s)
        changes += detector.update(seen, {"explosion_gunshot": 0.9 if seen.onsets_s else 0.0})
    assert [change.ended_s is None for change in changes] == [True, False, True, False]
    first, second = changes[1], changes[3]
    assert first.onset_s == 20.0
    assert first.ended_s == second.onset_s == 22.0
    # It is told when a window has nothing of the first in it.
    assert second.detected_s == pytest.approx(max(22.05, 20.3 + window_s), abs=0.25)


def test_another_label_at_a_second_onset_needs_no_window_without_the_first() -> None:
    detector = watch("metal_impact", "glass_breaking")
    detector.update(window(20.2, 20.0, window_s=10.0), {"metal_impact": 0.9})
    seen = window(23.2, 20.0, 23.0, window_s=10.0)
    ended, started = detector.update(seen, {"metal_impact": 0.9, "glass_breaking": 0.8})
    assert ended.watched.label.id == "metal_impact"
    assert (started.watched.label.id, started.onset_s) == ("glass_breaking", 23.0)


def test_a_second_shot_in_the_hold_off_is_its_own_event() -> None:
    for onsets, count in (((20.0, 25.5), 2), ((20.0,), 1)):
        detector = watch("explosion_gunshot")
        changes = detector.update(window(20.2, 20.0), {"explosion_gunshot": 0.9})
        changes += detector.update(window(25.2), {})
        assert not detector.active
        changes += detector.update(window(25.7, *onsets), {"explosion_gunshot": 0.9})
        assert len(starts(changes)) == count


@pytest.mark.parametrize(
    "onsets", [(20.0, 20.4, 20.8, 21.5), tuple(20 + 0.45 * knock for knock in range(12)), (20.0, 21.4)]
)
def test_shards_echoes_and_a_burst_of_knocks_are_one_event(onsets: tuple[float, ...]) -> None:
    detector = watch("door_knock", "glass_breaking")
    changes = []
    for tick in range(402, 800, 2):
        seen = window(tick / 20, *onsets)
        changes += detector.update(seen, {"door_knock": 0.9 if seen.onsets_s else 0.0})
    assert [change.ended_s is None for change in changes] == [True, False]


def test_many_bangs_go_on_as_one_event_after_some_in_a_minute() -> None:
    detector = watch("explosion_gunshot")
    onsets = [20 + 3.0 * shot for shot in range(60)]
    changes = []
    for tick in range(402, 4400, 5):
        changes += detector.update(window(tick / 20, *onsets), {"explosion_gunshot": 0.9})
    begun = [change.detected_s for change in changes if change.ended_s is None]
    assert len(begun) > 2 * MOST_A_MINUTE
    assert max(sum(at <= other < at + 60 for other in begun) for at in begun) <= MOST_A_MINUTE + 1


def test_a_bang_goes_on_when_labels_change_and_is_forgotten_with_its_label() -> None:
    library = load_library()
    detector = watch("metal_impact", "glass_breaking")
    detector.update(window(10.2, 10.0), {"metal_impact": 0.8})
    kept = [WatchedLabel(library.resolve(id_), 0.6) for id_ in ("door_slam", "metal_impact")]
    assert detector.change(kept, hop_s=0.5) == []
    (told,) = detector.update(window(10.7, 10.0), {"door_slam": 0.7})
    assert [close.label for close in told.close] == ["door_slam"]
    (ended,) = detector.change(kept[:1], hop_s=0.5)
    assert ended.watched.label.id == "metal_impact"
    assert starts(detector.update(window(11.0, 10.0), {"door_slam": 0.7})) == ["door_slam"]


def test_windows_without_scores_end_an_event_and_start_none() -> None:
    detector = watch(*IMPACTS)
    detector.update(window(10.2, 10.0), {"metal_impact": 0.8})
    (ended,) = detector.update(window(16.0, 15.9), {})
    assert ended.watched.label.id == "metal_impact"


STEPS = st.lists(
    st.tuples(
        st.floats(0.05, 2.0),  # seconds since the window before
        st.booleans(),  # an onset just before its end
        st.dictionaries(st.sampled_from(IMPACTS), st.floats(0, 1)),
    ),
    min_size=1,
    max_size=120,
)


def played(
    detector: Detector, steps: list[tuple[float, bool, dict[str, float]]], window_s: float
) -> Iterator[tuple[Window, dict[str, float], list[Detection]]]:
    now_s, onsets = 20.0, list[float]()
    for step_s, onset, scores in steps:
        now_s += step_s
        if onset:
            onsets.append(now_s - 0.02)
        seen = window(now_s, *onsets, window_s=window_s)
        yield seen, scores, detector.update(seen, scores)


@settings(max_examples=80, deadline=None)
@given(steps=STEPS, threshold=st.floats(0.05, 0.95), window_s=st.sampled_from([2.0, 10.0]))
def test_at_most_one_of_the_rivals_sounds_and_every_start_has_its_end(
    steps: list[tuple[float, bool, dict[str, float]]], threshold: float, window_s: float
) -> None:
    detector = watch(*IMPACTS, threshold=threshold)
    going_on: Detection | None = None
    for seen, scores, changes in played(detector, steps, window_s):
        for change in changes:
            if change.ended_s is not None:
                assert going_on is not None
                assert (change.watched, change.detected_s) == (going_on.watched, going_on.detected_s)
                assert change.onset_s <= change.detected_s <= change.ended_s <= seen.end_s
                going_on = None
            elif going_on is None:
                going_on = change
                assert change.score == scores[change.watched.label.id]
            else:
                assert change.watched == going_on.watched
                assert len(change.close) > len(going_on.close)
                going_on = change
        assert detector.active == ({going_on.watched.label.id} if going_on is not None else frozenset())
        if going_on is not None:
            own = going_on.watched.label.id
            assert own not in {close.label for close in going_on.close}
            assert len(going_on.close) == len({close.label for close in going_on.close}) < len(IMPACTS)
            assert seen.end_s - going_on.detected_s < TIMING[LabelKind.IMPULSIVE].maximum_on_s
    ended = detector.tick(1e6)
    assert len(ended) == (going_on is not None)


@settings(max_examples=80, deadline=None)
@given(scores=st.dictionaries(st.sampled_from(IMPACTS), st.floats(0, 1), min_size=1))
def test_a_bang_is_named_by_the_best_and_tells_all_that_reached_their_thresholds_or_came_near(
    scores: dict[str, float],
) -> None:
    threshold = 0.6
    changes = watch(*IMPACTS, threshold=threshold).update(window(10.2, 10.0), scores)
    best = max(scores.values())
    assert len(changes) == (best >= threshold)
    for change in changes:
        assert scores[change.watched.label.id] == change.score == best
        others = {id_: score for id_, score in scores.items() if id_ != change.watched.label.id}
        told = {close.label: close.score for close in change.close}
        assert told.items() <= others.items()
        assert told.keys() >= {id_ for id_, score in others.items() if score >= threshold}
        assert all(
            score < max(best - CLOSE, best / 2) + 1e-6 for id_, score in others.items() if id_ not in told
        )
        assert [close.score for close in change.close] == sorted(told.values(), reverse=True)


@settings(max_examples=60, deadline=None)
@given(steps=STEPS, window_s=st.sampled_from([2.0, 10.0]))
def test_the_first_decision_waits_for_nobody(
    steps: list[tuple[float, bool, dict[str, float]]], window_s: float
) -> None:
    threshold = 0.6
    for seen, scores, changes in played(watch(*IMPACTS, threshold=threshold), steps, window_s):
        reached = max(scores.values(), default=0.0) >= threshold
        if reached:
            assert [change.detected_s for change in changes if change.ended_s is None] == [seen.end_s]
        if changes:
            break


@settings(max_examples=60, deadline=None)
@given(gaps_s=st.lists(st.floats(0.26, 6.0), max_size=15), window_s=st.sampled_from([2.0, 10.0]))
def test_onsets_nearer_than_the_gap_are_never_two_events(gaps_s: list[float], window_s: float) -> None:
    detector = watch("explosion_gunshot")
    onsets = [20.0]
    for gap_s in gaps_s:
        onsets.append(onsets[-1] + gap_s)
    events = []
    tick = 0
    while (end_s := 20.05 + tick * 0.1) < onsets[-1] + window_s + 8:
        tick += 1
        seen = window(end_s, *onsets, window_s=window_s)
        events += [
            change
            for change in detector.update(seen, {"explosion_gunshot": 0.9 if seen.onsets_s else 0.0})
            if change.ended_s is None
        ]
    for before, after in pairwise(events):
        assert after.detected_s > before.detected_s
        assert after.onset_s >= before.onset_s + APART_S - 1e-6
    assert len(events) <= 1 + sum(gap_s >= APART_S - 1e-6 for gap_s in gaps_s)


def test_a_label_of_the_users_own_words_has_no_rivals_and_tells_its_own_bangs_apart() -> None:
    own = Label("plates", {"en": "plates"}, ("plates",), kind=LabelKind.IMPULSIVE)
    detector = Detector([WatchedLabel(own, 0.5)], hop_s=0.5)
    changes = detector.update(window(20.2, 20.0), {"plates": 0.9})
    changes += detector.update(window(23.2, 20.0, 23.0), {"plates": 0.9})
    assert [change.ended_s is None for change in changes] == [True, False, True]
