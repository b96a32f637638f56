"""What decided about a label in each window."""

from __future__ import annotations

import pytest

from clap_server.detection.detector import Detector
from clap_server.detection.judgement import Decision, Judgement, Progress
from clap_server.detection.labels import WatchedLabel
from clap_server.detection.library import load_library
from clap_server.detection.windows import Window

HOP_S = 0.5


def judged(label_id: str, *scores: float, threshold: float = 0.7) -> list[Judgement | None]:
    """Of a window each half second."""
    label = load_library().get(label_id)
    assert label is not None
    detector = Detector([WatchedLabel(label, threshold)], hop_s=HOP_S)
    found = []
    for number, score in enumerate(scores, 1):
        end_s = number * HOP_S
        window = Window(max(0.0, end_s - 2), end_s, -30.0, None)
        detector.update(window, {label_id: score})
        found.append(next(iter(detector.judgements(window, {label_id: score})), None))
    return found


def decisions(found: list[Judgement | None]) -> list[Decision | None]:
    return [None if judgement is None else judgement.decision for judgement in found]


def test_what_is_far_from_its_threshold_is_not_told() -> None:
    assert judged("glass_breaking", 0.34) == [None]


@pytest.mark.parametrize("label_id", ["glass_breaking", "alarm"])
def test_a_score_under_its_threshold_is_that(label_id: str) -> None:
    (judgement,) = judged(label_id, 0.6)
    assert judgement is not None
    assert judgement.decision is Decision.UNDER_THRESHOLD
    assert judgement.progress.have == 0


def test_one_window_at_the_threshold_starts_an_impulse() -> None:
    below, reached = judged("glass_breaking", 0.69, 0.7)
    assert below is not None
    assert below.decision is Decision.UNDER_THRESHOLD
    assert reached is not None
    assert reached.decision is Decision.STARTED
    assert reached.progress == Progress(1, 1, "windows")


def test_a_sustained_sound_says_how_much_of_it_was_heard() -> None:
    first, second, third = judged("alarm", 0.9, 0.9, 0.9)
    assert first is not None
    assert first.decision is Decision.UNCONFIRMED
    assert first.progress == Progress(0.5, 0.8, "s")
    assert decisions([second, third]) == [Decision.STARTED, Decision.GOING_ON]


def test_what_comes_in_the_hold_off_is_held_until_its_end() -> None:
    # Impulsive: lasts 5 s at least, then rests for 1 s.
    found = judged("glass_breaking", 0.9, *[0.0] * 9, 0.0, 0.9, 0.9)
    assert decisions(found)[0] is Decision.STARTED
    assert decisions(found)[1:10] == [Decision.GOING_ON] * 9
    held = found[11]
    assert held is not None
    assert held.decision is Decision.HELD_OFF
    assert held.held_until_s == 6.5
    assert decisions(found)[12] is Decision.STARTED
