"""What thresholds find is told by the scores that the rules of live sound would have passed."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clap_evaluation.events import event_metrics
from clap_evaluation.manifest import Occurrence
from clap_evaluation.scored import ScoredRecording
from clap_evaluation.streaming import WindowScores
from clap_server.detection.library import load_library
from training.data import Recording
from training.found import found, with_all_labels, write_found

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

GLASS, ALARM = (load_library().resolve(name) for name in ("glass_breaking", "alarm"))
WHOLE = (None, None)


def scored(
    scores: Sequence[float],
    label_id: str | None,
    *times: tuple[float | None, float | None],
    admitted: Sequence[bool] | None = None,
    name: str = "clip",
) -> ScoredRecording:
    """A loud recording in which each window has the same score for glass and for alarms."""
    count = len(scores)
    ends_s = 2.0 + 0.5 * np.arange(count)
    windows = WindowScores(
        label_ids=(GLASS.id, ALARM.id),
        starts_s=ends_s - 2.0,
        ends_s=ends_s,
        scores=np.repeat(np.array(scores, np.float32)[:, None], 2, axis=1),
        levels_dbfs=np.full(count, -10.0),
        onsets_s=np.full(count, np.nan),
        pieces=20 + 5 * np.arange(count),
        piece_levels_dbfs=np.full(15 + 5 * count, -60.0),
        admitted=np.ones(count, bool) if admitted is None else np.array(admitted),
        hop_s=0.5,
        window_s=2.0,
    )
    rows = tuple(Occurrence(2, label_id, *time, "g") for time in times or [WHOLE])
    return ScoredRecording(name, rows, float(ends_s[-1]), windows)


def test_an_impulse_is_found_up_to_its_best_window_that_the_gate_admits() -> None:
    results = [
        scored([0.2, 0.9, 0.4], GLASS.id),
        scored([0.2, 0.9, 0.4], GLASS.id, admitted=[True, False, True]),
        scored([0.99], None),
    ]
    assert found(results, [GLASS, ALARM]) == {GLASS.id: {"events": 2, "scores": [0.4, 0.9]}}


def test_a_lasting_sound_is_found_up_to_what_two_of_three_windows_reach() -> None:
    results = [scored([0.9, 0.1, 0.5, 0.6], ALARM.id), scored([0.9], ALARM.id)]
    # One window alone starts nothing: that event is never found.
    assert found(results, [ALARM]) == {ALARM.id: {"events": 2, "scores": [0.5]}}


def test_each_event_of_a_recording_counts_by_itself() -> None:
    # Windows end at 2, 2.5 ... 9.5 s.
    scores = [0.1] * 16
    scores[1], scores[11] = 0.8, 0.6
    result = scored(scores, GLASS.id, (0.5, 1.0), (6.0, 6.5))
    assert found([result], [GLASS]) == {GLASS.id: {"events": 2, "scores": [0.6, 0.8]}}


@pytest.mark.parametrize("label", [GLASS, ALARM], ids=lambda label: label.id)
@settings(max_examples=60, deadline=None)
@given(
    steps=st.lists(st.integers(min_value=1, max_value=19), min_size=1, max_size=10),
    threshold=st.integers(min_value=1, max_value=18),
)
def test_the_detector_finds_exactly_what_is_told(label: object, steps: list[int], threshold: int) -> None:
    watched = GLASS if label is GLASS else ALARM
    # Halfway between two steps, so that no rounding decides.
    at = (threshold + 0.5) / 20
    result = scored([step / 20 for step in steps], watched.id)
    (metrics,) = event_metrics([result], [watched], at)
    told = found([result], [watched])[watched.id]
    assert metrics.hits == sum(score >= at for score in told["scores"])


def test_a_recording_shows_all_labels_that_its_concept_says() -> None:
    rows = [
        Recording("a.ogg", "alarm", "fire_alarm", "", "", "", "", "", 0),
        Recording("b.ogg", "negative", "speech", "", "", "", "", "", 0),
        Recording("c.ogg", "fighting_shouting", "scream", "", "", "", "", "", 0),
        Recording("d.ogg", "negative", "xyzzy", "", "", "", "", "", 0),
    ]
    results = [scored([0.5], None, (0.5, 1.0), name=row.file) for row in rows]
    known = with_all_labels(results, rows)
    assert [sorted(result.label_ids) for result in known] == [
        ["alarm", "smoke_alarm"],
        ["speech"],
        ["fighting_shouting", "scream"],
        [],
    ]
    # They are heard all along.
    assert [event.onset_s for event in known[1].events("speech")] == [0.0]


def test_it_is_written_as_json(tmp_path: Path) -> None:
    told = found([scored([0.12345], GLASS.id)], [GLASS])
    write_found(told, tmp_path / "found.json")
    assert json.loads((tmp_path / "found.json").read_text("utf-8")) == {
        "glass_breaking": {"events": 1, "scores": [0.123]}
    }
    assert [path.name for path in tmp_path.iterdir()] == ["found.json"]
