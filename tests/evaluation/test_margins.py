"""Which windows of a recording count for and against a label, and how much."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import numpy as np
import pytest

from clap_evaluation.calibration.margins import RecordedMargins, recorded_margins
from clap_evaluation.manifest import read_manifest
from clap_server.audio.encode import encode
from clap_server.detection.calibration.fit import NEGATIVES_PER_POSITIVE, JudgedMargins
from clap_server.detection.library import load_library
from clap_server.errors import ConfigurationError
from tests.server.listening.spectral import RATE, SpectralModel, crash, scene, tone

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

LIBRARY = load_library()
LABELS = tuple(LIBRARY.resolve(name) for name in ("glass_breaking", "alarm", "smoke_alarm", "siren"))


def judge(folder: Path, sounds: dict[str, NDArray[np.float32]], *rows: str) -> RecordedMargins:
    for name, samples in sounds.items():
        (folder / name).write_bytes(encode(samples, RATE, "flac"))
    manifest = folder / "clips.csv"
    manifest.write_text("\n".join(["file,label,onset_s,offset_s", *rows]))
    return recorded_margins(
        SpectralModel(), read_manifest(manifest, LIBRARY), LABELS, LIBRARY.background, hop_s=0.5
    )


def weight(judged: JudgedMargins, *, present: bool) -> float:
    return float(judged.weights[judged.targets == present].sum())


HUM = scene(4.0, (0.5, tone(3.0)))


def test_a_clip_counts_by_its_best_window_and_the_others_are_left_out(tmp_path: Path) -> None:
    found = judge(
        tmp_path,
        {"a.flac": scene(10.0, (5.0, crash())), "b.flac": HUM},
        "a.flac,glass_breaking",
        "b.flac,negative",
    )
    assert found.events == {"glass_breaking": 1}
    positives = found.judged.margins[found.judged.targets]
    assert len(positives) == 1
    assert positives[0] > found.judged.margins[~found.judged.targets].max() + 0.3
    assert found.recordings == 2


def test_an_event_with_times_splits_its_recording(tmp_path: Path) -> None:
    sounds = {"a.flac": scene(20.0, (10.0, tone(3.0)))}
    found = judge(tmp_path, sounds, "a.flac,alarm,10.0,13.0")
    inside = found.judged.margins[found.judged.targets]
    outside = found.judged.margins[~found.judged.targets]
    assert len(inside) >= 5
    assert len(outside) >= 8
    assert inside.min() > outside.max() + 0.3, "windows that are partly within it count for nothing"
    assert found.windows > len(inside) + len(outside)


def test_an_onset_alone_says_nothing_of_what_comes_later(tmp_path: Path) -> None:
    sounds = {"a.flac": scene(20.0, (10.0, tone(8.0)))}
    whole = judge(tmp_path, sounds, "a.flac,alarm,10.0,18.0")
    onset = judge(tmp_path, sounds, "a.flac,alarm,10.0,")
    assert 3 <= onset.judged.targets.sum() < whole.judged.targets.sum()
    assert 0 < (~onset.judged.targets).sum() <= (~whole.judged.targets).sum()
    assert (
        onset.judged.margins[onset.judged.targets].min() > onset.judged.margins[~onset.judged.targets].max()
    )


def test_a_short_event_counts_where_a_window_has_half_of_it(tmp_path: Path) -> None:
    sounds = {"a.flac": scene(10.0, (5.0, crash()))}
    found = judge(tmp_path, sounds, "a.flac,glass_breaking,5.0,5.3")
    positives = found.judged.margins[found.judged.targets]
    assert len(positives) >= 3
    assert positives.min() > found.judged.margins[~found.judged.targets].max() + 0.3


def test_events_weigh_the_same_and_a_long_recording_does_not_outweigh_all(tmp_path: Path) -> None:
    sounds = {
        "a.flac": scene(12.0, (3.0, tone(1.0)), (7.0, tone(4.0))),
        "long.flac": scene(40.0, *((at_s, crash()) for at_s in range(1, 39, 2))),
        "short.flac": scene(3.0, (1.0, crash())),
    }
    rows = ("a.flac,alarm,3,4", "a.flac,alarm,7,11", "long.flac,negative", "short.flac,negative")
    found = judge(tmp_path, sounds, *rows)
    judged = found.judged
    assert found.events == {"alarm": 2}
    assert weight(judged, present=True) == pytest.approx(2.0)
    assert weight(judged, present=False) == pytest.approx(2.0 * NEGATIVES_PER_POSITIVE)
    # Three recordings have windows without it; each has a third of the weight.
    shares = judged.weights[~judged.targets]
    levels, counts = np.unique(np.round(shares, 9), return_counts=True)
    assert levels * counts == pytest.approx(np.full(3, 2.0 * NEGATIVES_PER_POSITIVE / 3))


def test_an_alarm_is_no_negative_for_a_smoke_alarm(tmp_path: Path) -> None:
    sounds = {"a.flac": HUM, "b.flac": HUM, "c.flac": scene(3.0, (1.0, crash()))}
    found = judge(tmp_path, sounds, "a.flac,alarm", "b.flac,smoke_alarm", "c.flac,negative")
    assert found.events == {"alarm": 1, "smoke_alarm": 1}
    positives = found.judged.margins[found.judged.targets]
    assert found.judged.margins[~found.judged.targets].max() < positives.min()


def test_a_recording_held_by_two_labels_is_a_negative_of_the_third(tmp_path: Path) -> None:
    sounds = {"a.flac": HUM, "b.flac": scene(3.0, (1.0, crash()))}
    found = judge(tmp_path, sounds, "a.flac,alarm", "a.flac,siren", "b.flac,glass_breaking")
    assert found.events == {"glass_breaking": 1, "alarm": 1, "siren": 1}


def test_what_the_gate_keeps_from_the_model_is_no_negative(tmp_path: Path) -> None:
    sounds = {"a.flac": HUM, "b.flac": scene(30.0, (20.0, crash()))}
    found = judge(tmp_path, sounds, "a.flac,alarm", "b.flac,negative")
    assert 0 < (~found.judged.targets).sum() < 30, "60 windows would be the whole recording"


def test_a_recording_too_quiet_or_short_for_a_window_is_looked_at_once(tmp_path: Path) -> None:
    sounds = {"a.flac": tone(0.3), "b.flac": scene(3.0) * np.float32(0.1)}
    found = judge(tmp_path, sounds, "a.flac,alarm", "b.flac,negative")
    assert found.windows == 2


def test_a_long_recording_is_judged_in_batches(tmp_path: Path) -> None:
    sounds = {"a.flac": scene(60.0, (0.0, tone(60.0))), "b.flac": scene(3.0, (1.0, crash()))}
    found = judge(tmp_path, sounds, "a.flac,alarm,0,60", "b.flac,negative")
    assert found.judged.targets.sum() > 100


def test_rows_that_cannot_be_used_are_named_and_the_rest_counts(tmp_path: Path) -> None:
    (tmp_path / "text.flac").write_text("no sound")
    sounds = {"a.flac": HUM, "b.flac": scene(3.0, (1.0, crash())), "silent.flac": np.zeros(RATE, np.float32)}
    rows = (
        "a.flac,alarm",
        "gone.flac,negative",
        "text.flac,alarm",
        "silent.flac,alarm",
        "b.flac,glass_breaking,50,51",
    )
    found = judge(tmp_path, sounds, *rows)
    assert found.events == {"alarm": 1}
    assert found.recordings == 2
    for row, words in ((3, "gone.flac: .*missing"), (4, "text.flac"), (5, "silence"), (6, "ends at 3.0 s")):
        [problem] = [line for line in found.problems if line.startswith(f"Row {row}: ")]
        assert re.search(words, problem)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (("a.flac,alarm",), "without it, such as one labelled 'negative'"),
        (("a.flac,negative",), "one with a sound of the labels"),
        (("a.flac,alarm", "gone.flac,negative"), r"'negative'\. Row 3: gone\.flac: The file is missing"),
        (("gone.flac,alarm", "a.flac,negative"), r"with a sound .* Row 2: gone\.flac"),
    ],
)
def test_a_sound_and_its_absence_are_both_needed(tmp_path: Path, rows: tuple[str, ...], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        judge(tmp_path, {"a.flac": HUM}, *rows)
