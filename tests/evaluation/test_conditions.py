"""Sounds over backgrounds and from afar: the same for every model, at the level and distance that is said."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pytest

from clap_evaluation.conditions import (
    CONDITIONS,
    CRITICAL_DISTANCE_M,
    Condition,
    PlacedSound,
    condition_metrics,
    place,
    score_placements,
)
from clap_evaluation.manifest import Occurrence, Recording
from clap_server import synthesis
from clap_server.audio.encode import encode
from clap_server.clap.builtin import load_builtin
from clap_server.detection.library import load_library
from clap_server.errors import AudioError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

RATE = synthesis.SAMPLE_RATE


def write(folder: Path, name: str, samples: NDArray[np.float32], *rows: Occurrence) -> Recording:
    (folder / name).write_bytes(encode(samples, RATE, "flac"))
    return Recording(folder / name, name, rows)


def row(label_id: str | None, onset_s: float | None = None, offset_s: float | None = None) -> Occurrence:
    return Occurrence(2, label_id, onset_s, offset_s, "")


@pytest.fixture(scope="module")
def recordings(tmp_path_factory: pytest.TempPathFactory) -> list[Recording]:
    folder = tmp_path_factory.mktemp("placed")
    rng = np.random.default_rng(3)
    late = np.concatenate((np.zeros(RATE, np.float32), synthesis.glass_break(rng, RATE, duration_s=1.5)))
    hiss = 0.02 * synthesis.noise(rng, RATE, kind="white", duration_s=0.5)
    beeps = np.concatenate((np.zeros(3 * RATE, np.float32), synthesis.t3_alarm(rng, RATE, cycles=1)))
    return [
        write(folder, "glass.flac", late, row("glass_breaking")),
        write(folder, "alarm.flac", beeps, row("alarm", 3.0, 6.0)),
        write(folder, "hum.flac", 0.02 * synthesis.noise(rng, RATE, kind="pink", duration_s=20.0), row(None)),
        write(folder, "tick.flac", hiss, row(None)),
        write(folder, "silence.flac", np.zeros(RATE, np.float32), row(None)),
        Recording(folder / "gone.flac", "gone.flac", (row(None),)),
    ]


def test_conditions_are_those_that_are_promised() -> None:
    assert [condition.name for condition in CONDITIONS] == [
        "clean", "20 dB", "10 dB", "0 dB", "2 m", "5 m", "8 m",
    ]  # fmt: skip
    far = {condition.distance_m: condition.snr_db for condition in CONDITIONS}
    assert far[8.0] - far[2.0] == pytest.approx(-12.04, abs=0.01)


def test_choices_do_not_depend_on_the_model_the_run_or_the_other_labels(
    recordings: Sequence[Recording],
) -> None:
    both = place(recordings, ["alarm", "glass_breaking"])
    [alone] = place(recordings, ["glass_breaking"])
    assert [placement.label_id for placement in both] == ["alarm", "glass_breaking"]
    assert both[1] == alone
    first, second = alone.make(), alone.make()
    assert np.array_equal(first.background, second.background)
    heard = [sound.heard(CONDITIONS[-1], np.random.default_rng(alone.seed)) for sound in (first, second)]
    assert np.array_equal(*heard)


def test_no_more_recordings_are_placed_than_wanted(recordings: Sequence[Recording]) -> None:
    many = [*recordings, *[recordings[0]] * 5]
    assert len(place(many, ["glass_breaking"], clips_per_label=4)) == 4
    assert place(recordings, ["dog_bark"]) == []
    assert place([recordings[0]], ["glass_breaking"]) == []


def test_a_clip_without_times_is_placed_where_its_sound_begins(recordings: Sequence[Recording]) -> None:
    [placement] = place(recordings, ["glass_breaking"])
    placed = placement.make()
    assert placed.starts_s == pytest.approx(0.3, abs=0.02)
    assert placed.onset_s == pytest.approx(2.3, abs=0.02)
    heard = placed.heard(CONDITIONS[0], np.random.default_rng(0))
    quiet = round((placed.onset_s - 0.05) * RATE)
    assert np.abs(heard[:quiet]).max() < 0.01 * np.abs(heard).max()


def test_an_event_with_times_is_cut_out(recordings: Sequence[Recording]) -> None:
    [placement] = place(recordings, ["alarm"])
    placed = placement.make()
    assert placed.onset_s == 2.0
    assert placed.offset_s == pytest.approx(5.0, abs=0.01)
    assert len(placed.background) == pytest.approx((2.0 + 3.0 + 1.5) * RATE, abs=2)


@pytest.mark.parametrize("condition", CONDITIONS, ids=lambda condition: condition.name)
def test_sounds_have_the_level_over_the_background_that_is_said(condition: Condition) -> None:
    rng = np.random.default_rng(1)
    background = 0.0005 * synthesis.noise(rng, RATE, kind="white", duration_s=5.0)
    sound = synthesis.glass_break(rng, RATE, duration_s=1.0)
    heard = PlacedSound(sound, 0.0, background).heard(condition, np.random.default_rng(2))
    added = synthesis.loudest_rms(heard - background, RATE)
    level_db = 20 * np.log10(added / np.sqrt(np.mean(background.astype(np.float64) ** 2)))
    assert level_db == pytest.approx(condition.snr_db, abs=0.1)


def test_rooms_ring_more_from_further_away() -> None:
    click = np.zeros(RATE // 2, np.float32)
    click[0] = 0.5
    background = np.full(3 * RATE, 0.001, np.float32)
    placed = PlacedSound(click, 0.0, background)
    for condition in CONDITIONS:
        if condition.distance_m is None:
            continue
        heard = placed.heard(condition, np.random.default_rng(5)).astype(np.float64) - background
        direct = heard[2 * RATE] ** 2
        tail = np.sum(heard[2 * RATE + 1 :] ** 2)
        wanted_db = 20 * np.log10(CRITICAL_DISTANCE_M / condition.distance_m)
        assert 10 * np.log10(direct / tail) == pytest.approx(wanted_db, abs=0.5)


def test_short_backgrounds_are_joined_and_silent_or_missing_ones_passed_over(
    recordings: Sequence[Recording],
) -> None:
    glass, _, _, tick, silence, gone = recordings
    [placement] = place([glass, tick, silence, gone], ["glass_breaking"])
    background = placement.make().background
    assert len(background) > 3 * RATE
    for start in range(0, len(background) - RATE, RATE):
        assert background[start : start + RATE].std() > 0.001
    [nothing] = place([glass, silence, gone], ["glass_breaking"])
    with pytest.raises(AudioError, match="no negative recording has any sound"):
        nothing.make()


@dataclass
class _LowRate:
    """The built-in model, said to want half the rate."""

    def __post_init__(self) -> None:
        self._model = load_builtin("cpu")
        self.sample_rate = RATE // 2
        self.lengths: list[int] = []

    def __getattr__(self, name: str) -> object:
        return getattr(self._model, name)

    def embed_audio(self, windows: Sequence[NDArray[np.float32]]) -> NDArray[np.float32]:
        self.lengths += [len(window) for window in windows]
        return self._model.embed_audio([np.repeat(window, 2) for window in windows])


def test_detection_is_measured_in_each_condition(recordings: Sequence[Recording]) -> None:
    library = load_library()
    model = load_builtin("cpu")
    labels = [library.resolve("glass_breaking"), library.resolve("dog_bark")]
    silent_only = place([recordings[0], recordings[4]], ["glass_breaking"])
    calls: list[int] = []
    scored = score_placements(
        model,
        [*place(recordings, ["glass_breaking", "dog_bark"]), *silent_only],
        labels,
        library.background,
        hop_s=1.0,
        progress=lambda: calls.append(1),
    )
    found = condition_metrics(scored, labels)
    assert len(calls) == 2
    assert [(entry.label_id, entry.condition) for entry in found] == [
        ("glass_breaking", condition.name) for condition in CONDITIONS
    ]
    assert all(entry.clips == 1 for entry in found)
    loud = found[1]
    assert (loud.hits, loud.recall) == (1, 1.0)
    assert loud.recall_low == pytest.approx(0.025)
    assert loud.delay_median_s is not None
    assert loud.delay_p95_s is not None


def test_a_model_of_another_rate_gets_the_same_sounds_resampled(recordings: Sequence[Recording]) -> None:
    library = load_library()
    model = _LowRate()
    scored = score_placements(
        model,  # type: ignore[arg-type]  # what it lacks is looked up in the model within
        place(recordings, ["glass_breaking"]),
        [library.resolve("glass_breaking")],
        library.background,
        hop_s=5.0,
    )
    assert len(scored) == len(CONDITIONS)
    assert max(model.lengths) <= round(model._model.window_s * RATE / 2)
