from __future__ import annotations

import numpy as np

from clap_server.audio.level import FLOOR_DBFS
from clap_server.detection.windows import PIECE_S
from clap_server.listening.silence import GATED_SILENT_S, SILENT_S, Silence


def silent(silence: Silence, duration_s: float) -> bool:
    return silence.take(np.full(round(duration_s / PIECE_S), FLOOR_DBFS).tolist())


def test_a_microphone_that_is_muted_is_told_within_a_minute() -> None:
    silence = Silence()
    silence.take([-60.0])
    assert not silent(silence, SILENT_S - 1)
    assert silent(silence, 1)
    assert not silence.take([FLOOR_DBFS, -60.0])


def test_a_switch_that_was_used_once_is_no_noise_gate() -> None:
    silence = Silence()
    for _ in range(2):
        silent(silence, 20)
        silence.take([-60.0])
    assert silent(silence, SILENT_S)


def test_a_quiet_night_of_a_camera_with_a_noise_gate_is_no_problem() -> None:
    silence = Silence()
    for _ in range(3):
        silent(silence, 2)
        silence.take([-40.0])
    assert not any(silent(silence, 60) for _ in range(10 * 60))
    assert silent(silence, GATED_SILENT_S - 10 * 3600)


def test_short_dropouts_are_no_noise_gate() -> None:
    silence = Silence()
    for _ in range(10):
        silent(silence, 0.5)
        silence.take([-60.0])
    assert silent(silence, SILENT_S)


def test_a_new_stream_is_not_silent_yet() -> None:
    silence = Silence()
    assert silent(silence, SILENT_S)
    silence.begin()
    assert not silent(silence, SILENT_S - 1)
