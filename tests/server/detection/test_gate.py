"""Quiet is not scored; what matters is."""

import numpy as np
import pytest

from clap_server.detection.gate import NoiseGate
from clap_server.detection.windows import PIECE_S, Window


def window(level_dbfs: float, *, onset: bool = False) -> Window:
    return Window(0.0, 2.0, level_dbfs, 1.0 if onset else None)


def settle(gate: NoiseGate, level_dbfs: float, duration_s: float, *, reporting: bool = False) -> None:
    levels = level_dbfs + np.random.default_rng(0).normal(0, 0.5, round(duration_s / PIECE_S))
    gate.admits(Window(0.0, 2.0, level_dbfs, None, tuple(levels.tolist())), reporting=reporting)


def admits(gate: NoiseGate, heard: Window) -> bool:
    return gate.admits(heard, reporting=False)


def test_the_room_itself_is_not_scored_and_a_sound_above_it_is() -> None:
    gate = NoiseGate()
    settle(gate, -52, 30)
    assert gate.floor_dbfs == pytest.approx(-52.6, abs=0.5)
    assert not admits(gate, window(-50))
    assert admits(gate, window(-45))


def test_an_onset_opens_the_gate_below_the_margin() -> None:
    gate = NoiseGate()
    settle(gate, -52, 30)
    assert admits(gate, window(-49, onset=True))


def test_digital_silence_is_never_scored() -> None:
    gate = NoiseGate()
    settle(gate, -120, 30)
    assert not admits(gate, window(-120))
    assert not gate.admits(window(-120, onset=True), reporting=True)
    assert admits(gate, window(-80))


def test_a_stream_that_starts_with_a_loud_sound_is_scored_at_once() -> None:
    gate = NoiseGate()
    settle(gate, -20, 1)
    assert admits(gate, window(-20))


def test_the_floor_falls_at_once_and_rises_slowly() -> None:
    gate = NoiseGate()
    settle(gate, -40, 40)
    settle(gate, -60, 2)
    assert gate.floor_dbfs < -59
    settle(gate, -40, 14)
    assert gate.floor_dbfs < -58
    settle(gate, -40, 20)
    assert gate.floor_dbfs > -42


def test_an_alarm_that_sounds_for_minutes_does_not_silence_itself() -> None:
    gate = NoiseGate()
    settle(gate, -60, 30)
    settle(gate, -40, 300, reporting=True)
    assert gate.floor_dbfs < -59
    assert admits(gate, window(-40))
    assert gate.admits(window(-65), reporting=True)


def test_a_constantly_loud_place_is_always_scored() -> None:
    gate = NoiseGate()
    settle(gate, -22, 300)
    assert gate.floor_dbfs == -35
    assert admits(gate, window(-22))
