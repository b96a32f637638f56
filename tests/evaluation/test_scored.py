"""Recordings on their way to scores: read in blocks, cut as live sound is, the start of a sound found."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import av.error
import numpy as np
import pytest

from clap_evaluation import reading
from clap_evaluation.detecting import detect
from clap_evaluation.reading import read_blocks
from clap_evaluation.scored import SoundStart
from clap_evaluation.streaming import score_recording, score_stream
from clap_server import synthesis
from clap_server.audio.block import AudioBlock
from clap_server.audio.encode import encode
from clap_server.clap.builtin import load_builtin
from clap_server.detection.everyday.preparing import prepared
from clap_server.detection.gate import NoiseGate
from clap_server.detection.labels import WatchedLabel
from clap_server.detection.library import load_library
from clap_server.detection.patterns import DecodedPattern
from clap_server.detection.scoring import LabelScorer
from clap_server.errors import AudioError
from clap_server.listening.plan import Plan
from clap_server.listening.stretch import Stretch

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from clap_server.clap.model import ClapModel
    from clap_server.detection.detector import Detection

RATE = 48_000


class _Levels:
    """Takes the levels that live listening tells of, and does nothing with them."""

    def level(self, *_values: object) -> None:
        pass


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> ClapModel:
    """The built-in model with its bank of everyday sound, as the server has it."""
    return prepared(load_builtin("cpu"), tmp_path_factory.mktemp("model"), print)


def test_windows_gate_and_detections_are_those_of_live_listening(model: ClapModel) -> None:
    library = load_library()
    label = library.resolve("glass_breaking")
    scorer = LabelScorer(model, [label], library.background)
    samples = synthesis.demo_scene(np.random.default_rng(4), RATE, duration_s=12.0, breaks=1).samples
    scored = score_recording(model, scorer, samples, hop_s=0.5)
    watched = WatchedLabel(label, label.threshold)
    stretch = Stretch(
        "x",
        Plan((watched,), (), 0.5),
        sample_rate=RATE,
        window_s=model.window_s,
        gate=NoiseGate(),
        sink=cast("Any", _Levels()),
        on_check=print,
    )
    live: list[Detection] = []
    windows = []
    for first in range(0, len(samples), 4_800 * 3):
        block = AudioBlock(samples[first : first + 4_800 * 3], RATE, 1_000.0 + first / RATE)
        for heard in stretch.take(block):
            if isinstance(heard, DecodedPattern):
                live += stretch.detector.take_pattern(heard)
                continue
            window, admitted = heard
            windows.append(window)
            scores = scorer.scores(model.embed_audio([stretch.front.samples(window)]))[0]
            row = {label.id: float(scores[0])} if admitted else {}
            live += stretch.detector.update(window, row)
    live += stretch.detector.finish()
    assert scored.ends_s[: len(windows)] == pytest.approx([window.end_s for window in windows])
    assert scored.levels_dbfs[: len(windows)] == pytest.approx([window.level_dbfs for window in windows])
    ended = [detection for detection in live if detection.ended_s is not None]
    found = detect(scored, [watched])
    assert len(ended) == 1
    assert [(d.onset_s, d.detected_s, d.ended_s) for d in found] == [
        (d.onset_s, d.detected_s, d.ended_s) for d in ended
    ]


def test_the_length_of_blocks_changes_nothing(model: ClapModel) -> None:
    library = load_library()
    scorer = LabelScorer(model, [library.resolve("glass_breaking")], library.background)
    samples = synthesis.glass_break(np.random.default_rng(0), RATE, duration_s=1.6)
    whole = score_recording(model, scorer, samples, hop_s=0.5)
    parts = score_stream(model, scorer, np.array_split(samples, 17), hop_s=0.5)
    assert parts.ends_s.tolist() == whole.ends_s.tolist()
    assert parts.scores == pytest.approx(whole.scores, abs=1e-5)


def beep(at_s: float, length_s: float) -> np.ndarray[tuple[int], np.dtype[np.float32]]:
    samples = np.random.default_rng(0).normal(0, 1e-3, round(length_s * RATE)).astype(np.float32)
    samples[round(at_s * RATE) :] += synthesis.noise(
        np.random.default_rng(1), RATE, kind="white", duration_s=length_s
    )[: len(samples) - round(at_s * RATE)] * np.float32(0.2)
    return samples


@pytest.mark.parametrize("block", [480, 1_000, 96_000])
def test_the_start_of_a_sound_is_its_onset(block: int) -> None:
    start = SoundStart(RATE)
    samples = beep(1.2, 3.0)
    for first in range(0, len(samples), block):
        start.feed(samples[first : first + block])
    assert start.onset_s == pytest.approx(1.2, abs=0.02)
    assert start.strong_s == pytest.approx(1.2, abs=0.05)


def test_a_weaker_sound_before_is_not_the_start() -> None:
    samples = beep(2.0, 3.0)
    samples[RATE : RATE + 4_800] += 0.02 * synthesis.noise(
        np.random.default_rng(2), RATE, kind="white", duration_s=0.1
    )
    start = SoundStart(RATE)
    start.feed(samples)
    assert start.onset_s == pytest.approx(2.0, abs=0.02)


def test_a_sound_that_was_always_there_or_swells_has_no_onset() -> None:
    always = SoundStart(RATE)
    always.feed(beep(0.0, 2.0))
    assert (always.strong_s, always.onset_s) == (pytest.approx(0.0, abs=0.05), None)
    swelling = SoundStart(RATE)
    swelling.feed(beep(0.0, 4.0) * np.linspace(0.001, 1.0, 4 * RATE, dtype=np.float32))
    assert swelling.strong_s is not None
    assert swelling.onset_s is None


@pytest.mark.parametrize("samples", [np.zeros(RATE, np.float32), np.zeros(10, np.float32)])
def test_silence_has_no_start(samples: np.ndarray[tuple[int], np.dtype[np.float32]]) -> None:
    start = SoundStart(RATE)
    assert start.strong_s is None
    start.feed(samples)
    assert (start.strong_s, start.onset_s) == (None, None)


def test_a_recording_is_read_in_blocks_at_the_wanted_rate(tmp_path: Path) -> None:
    path = tmp_path / "a.flac"
    path.write_bytes(encode(beep(1.0, 20.0), RATE, "flac"))
    blocks = list(read_blocks(path, 16_000))
    assert len(blocks) > 10
    assert all(len(block) for block in blocks)
    assert sum(map(len, blocks)) == pytest.approx(20 * 16_000, abs=2)


def test_a_recording_that_cannot_be_read_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.flac"
    path.write_bytes(encode(beep(0.1, 0.5), RATE, "flac"))

    def breaks_off(_container: object) -> Iterator[tuple[np.ndarray[Any, Any], int]]:
        yield np.zeros(480, np.float32), RATE
        raise av.error.EOFError(1, "gone")

    with pytest.raises(AudioError, match="The file is missing"):
        list(read_blocks(tmp_path / "gone.wav", RATE))
    with pytest.raises(AudioError, match="cannot be opened: Is a directory"):
        list(read_blocks(tmp_path, RATE))
    with pytest.raises(AudioError, match="cannot be that of a file"):
        list(read_blocks(tmp_path / "a\0.wav", RATE))
    monkeypatch.setattr(reading, "read_frames", lambda _container: iter(()))
    with pytest.raises(AudioError, match="no sound at all"):
        list(read_blocks(path, RATE))
    monkeypatch.setattr(reading, "read_frames", breaks_off)
    with pytest.raises(AudioError, match="breaks off or is damaged"):
        list(read_blocks(path, RATE))
