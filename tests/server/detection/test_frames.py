"""Levels are of what can be heard, however the sound comes."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import signal

from clap_server.detection.frames import PowerFrames

RATE = 48_000


def _noise(seconds: float) -> np.ndarray:
    return (0.1 * np.random.default_rng(0).standard_normal(round(seconds * RATE))).astype(np.float32)


def test_portions_change_nothing() -> None:
    sound = _noise(1.0)
    frames = PowerFrames(RATE)
    whole = PowerFrames(RATE).feed(sound)
    parts = [frames.feed(sound[start : start + 777]) for start in range(0, len(sound), 777)]
    np.testing.assert_array_equal(np.concatenate(parts), whole)
    assert len(whole) == 100


@pytest.mark.parametrize("rate", [8_000, 48_000])
def test_the_filter_is_as_exact_as_one_of_second_order_sections(rate: int) -> None:
    time_s = np.arange(2 * rate) / rate
    sound = (0.3 + 0.2 * np.sin(2 * np.pi * 50 * time_s) + 1e-3 * np.sin(2 * np.pi * 1000 * time_s)).astype(
        "f4"
    )
    sections = signal.butter(4, 100.0, "high", fs=rate, output="sos")
    exact, _ = signal.sosfilt(sections, sound.astype("f8"), zi=signal.sosfilt_zi(sections) * sound[0])
    power = (exact.reshape(-1, rate // 100) ** 2).mean(axis=1)
    np.testing.assert_allclose(PowerFrames(rate).feed(sound), power, rtol=1e-5)


def test_nothing_is_left_of_sound_in_digital_silence() -> None:
    frames = PowerFrames(RATE)
    frames.feed(_noise(0.5))
    for _ in range(30):
        frames.feed(np.zeros(RATE // 10, np.float32))
    assert frames._state is not None
    assert not frames._state.any()
