"""What happened to the last minutes of a microphone's sound is kept, with what decided."""

from __future__ import annotations

import threading
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import numpy as np
import pytest

from clap_server.detection.judgement import Decision
from clap_server.detection.labels import WatchedLabel
from clap_server.detection.library import load_library
from clap_server.listening.diary import Diary, Fate, MomentKind, MomentNote, WindowNote
from clap_server.listening.words import judgement_words, score_words, window_words
from tests.server.listening.rig import MORNING, ArraySource, Rig, eventually
from tests.server.listening.spectral import RATE, SpectralModel, crash, room, scene, tone

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

LIBRARY = load_library()


def windows(rig: Rig) -> list[WindowNote]:
    return [note for note in rig.diary.last(300) if isinstance(note, WindowNote)]


def words(rig: Rig, label_id: str) -> list[str]:
    return [
        judgement_words(judgement, note)
        for note in windows(rig)
        for judgement in note.judgements
        if judgement.watched.label.id == label_id
    ]


async def test_each_window_is_noted_with_its_time_level_gate_and_scores(tmp_path: Path) -> None:
    rig = Rig(ArraySource(scene(40, (30, crash()))), tmp_path)
    async with rig.running():
        await rig.until_heard(40)
    noted = windows(rig)
    assert len(noted) == rig.counters.scored + rig.counters.gated
    assert [note.ended_at for note in noted] == sorted(note.ended_at for note in noted)
    quiet = next(note for note in noted if note.window.end_s == 29)
    assert quiet.fate is Fate.GATED
    assert quiet.ended_at.timestamp() == pytest.approx(MORNING + 29)
    assert window_words(quiet) == "gated: -60 dBFS is under the noise floor -60 + 6 dB"
    first = next(note for note in noted if Decision.STARTED in {each.decision for each in note.judgements})
    assert first.fate is Fate.SCORED
    assert first.window.onset_s == pytest.approx(30, abs=0.03)
    assert window_words(first).endswith("dBFS is above the noise floor -60")
    assert first.score("glass_breaking") == rig.sink.started[0].score
    assert words(rig, "glass_breaking")[0].endswith("at or above its threshold 0.70: an event started")
    assert "its event is going on" in words(rig, "glass_breaking")[1]


def swell() -> NDArray[np.float32]:
    """The bands of glass, rising so slowly that there is no onset."""
    sound = np.concatenate([crash(seed=seed)[: RATE // 10] for seed in range(20)])
    return np.asarray(sound * 10 ** (np.linspace(-55, -10, len(sound)) / 20), np.float32)


async def test_what_has_no_onset_of_its_own_in_the_hold_off_says_until_when_it_was_held(
    tmp_path: Path,
) -> None:
    # The first lasts 5 s from its decision at 30.2; without an onset nothing new starts for 1 s after.
    rig = Rig(ArraySource(scene(44, (30, crash()), (34.7, swell()))), tmp_path)
    async with rig.running():
        await rig.until_heard(44)
    held = [
        (note, judgement)
        for note in windows(rig)
        for judgement in note.judgements
        if judgement.decision is Decision.HELD_OFF
    ]
    note, judgement = held[0]
    assert judgement.held_until_s is not None
    until = note.utc(judgement.held_until_s)
    assert MORNING + 36 < until.timestamp() < MORNING + 37
    assert f"held off until {until.astimezone():%H:%M:%S}" in judgement_words(judgement, note)


async def test_half_a_second_of_an_alarm_says_what_is_missing(tmp_path: Path) -> None:
    rig = Rig(ArraySource(scene(26, (20, tone(6)))), tmp_path)
    async with rig.running():
        await rig.until_heard(26)
    assert any("heard for 0.5 s of the 0.8 s that are needed" in text for text in words(rig, "alarm"))


async def test_dropped_and_failed_windows_are_noted_as_such(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("clap_server.listening.judging._LONGEST_QUEUE", 10)
    go = threading.Event()

    class Held(SpectralModel):
        def embed_audio(self, windows: Sequence[NDArray[np.float32]]) -> NDArray[np.float32]:
            go.wait(60)
            raise RuntimeError(f"CUDA error on {len(windows)} windows")

    rig = Rig(ArraySource(scene(20, (1, tone(19)))), tmp_path, model=Held())
    async with rig.running():
        await eventually(lambda: len(rig.sink.levels) == 40)
        go.set()
        await eventually(lambda: rig.counters.dropped + rig.counters.failed + rig.counters.gated >= 35)
    fates = [note.fate for note in windows(rig)]
    assert fates.count(Fate.DROPPED) == rig.counters.dropped > 0
    assert fates.count(Fate.FAILED) == rig.counters.failed > 0
    told = {note.fate: window_words(note) for note in windows(rig)}
    assert told[Fate.DROPPED] == "not scored: the computer was too slow"
    assert "CUDA error" in told[Fate.FAILED]


async def test_a_gap_is_noted_where_sound_is_missing(tmp_path: Path) -> None:
    rig = Rig(ArraySource(room(3), room(3)), tmp_path)
    async with rig.running():
        await eventually(lambda: len(rig.sink.levels) >= 11)
    (gap,) = [note for note in rig.diary.last(300) if isinstance(note, MomentNote)]
    assert gap.kind is MomentKind.GAP
    assert gap.at.timestamp() == pytest.approx(MORNING)
    assert gap.words == "gap: sound is missing in the stream"


def test_five_minutes_are_kept_and_no_more_than_fit() -> None:
    now_s = 0.0
    diary = Diary(lambda: now_s)
    for number in range(10_000):
        now_s = number / 10
        diary.happened(MomentKind.GAP, str(number), datetime.fromtimestamp(number, UTC))
    assert [note.words for note in diary.last(1) if isinstance(note, MomentNote)] == [
        str(number) for number in range(9989, 10_000)
    ]
    assert len(diary.last(1e9)) == 3001
    for _ in range(10_000):
        diary.happened(MomentKind.GAP, "at once")
    assert len(diary.last(1e9)) == 4000
    now_s += 301
    assert diary.last(300) == []


@pytest.mark.parametrize(
    ("score", "told"),
    [
        (0.62, "Glass breaking 0.62, under its threshold 0.70: at 0.62 you would have about 4 a day"),
        (0.698, "Glass breaking 0.698, under its threshold 0.700: at 0.698 you would have about one a day"),
        (
            0.9,
            "Glass breaking 0.90, at or above its threshold 0.70: at 0.90 you would have about one a month",
        ),
    ],
)
def test_a_score_is_told_against_its_threshold_and_never_looks_the_same(score: float, told: str) -> None:
    assert score_words(WatchedLabel(LIBRARY.resolve("glass breaking"), 0.7), score) == told


@pytest.mark.parametrize(
    ("label", "score", "told"),
    [
        ("normal", 0.98, "Normal 0.98, at or above its threshold 0.90"),
        ("normal", 0.42, "Normal 0.42, under its threshold 0.90"),
        (
            "smoke_alarm_low_battery",
            0.0,
            "Smoke alarm with low battery: the pattern of its beeps was not heard",
        ),
        ("smoke_alarm", 1.0, "Smoke alarm 1.00, at or above its threshold 0.90"),
    ],
)
def test_what_no_rate_of_false_alarms_tells_promises_none(label: str, score: float, told: str) -> None:
    assert score_words(WatchedLabel(LIBRARY.resolve(label), 0.9), score) == told
