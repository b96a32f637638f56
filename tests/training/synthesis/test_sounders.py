"""Sounders keep to their tone tables, bells and beepers to their rates."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from tests.server.synthesis.measures import RATE, flatness, levels, period_s, pitch_hz, power
from training import synthesis

if TYPE_CHECKING:
    from numpy.typing import NDArray


def sounder(kind: str, duration_s: float = 8.0) -> NDArray[np.float32]:
    return synthesis.sounder_alarm(np.random.default_rng(1), RATE, kind=kind, duration_s=duration_s)


def pitch_at(samples: NDArray[np.float32], moment_s: float, length_s: float = 0.04) -> float:
    start = int((moment_s - length_s / 2) * RATE)
    return pitch_hz(samples[start : start + int(length_s * RATE)], 420, 1300)


@pytest.mark.parametrize(
    ("kind", "moments_s", "expected_hz"),
    [
        ("alternating", (0.125, 0.375, 0.625), (800, 970, 800)),
        ("medium_sweep", (0.1, 0.5, 0.9, 1.1), (817, 885, 953, 817)),
        ("slow_whoop", (0.25, 1.75, 3.25, 4.25), (550, 850, 1150, 550)),
        ("din", (0.1, 0.5, 0.9, 1.1), (1130, 850, 570, 1130)),
        ("continuous", (0.3, 2.3, 5.1), (970, 970, 970)),
        ("intermittent", (0.5, 2.5), (970, 970)),
        ("french", (0.05, 0.3, 0.55), (554, 440, 554)),
        ("swedish", (0.075, 0.375), (660, 660)),
    ],
)
def test_sounders_play_the_tones_of_their_standard(
    kind: str, moments_s: tuple[float, ...], expected_hz: tuple[float, ...]
) -> None:
    samples = sounder(kind)
    heard = [pitch_at(samples, moment) for moment in moments_s]
    assert heard == pytest.approx(expected_hz, rel=0.045)


@pytest.mark.parametrize(
    ("kind", "on_s", "off_s"),
    [
        ("intermittent", (0.1, 0.9, 2.5), (1.1, 1.9)),
        ("swedish", (0.05, 0.35, 0.65), (0.2, 0.5)),
        ("slow_whoop", (0.1, 3.4, 4.1), (3.6, 3.9)),
    ],
)
def test_sounders_pause_when_their_standard_says(
    kind: str, on_s: tuple[float, ...], off_s: tuple[float, ...]
) -> None:
    level = levels(sounder(kind), 0.02)
    assert min(level[int(moment / 0.02)] for moment in on_s) > 0.2 * level.max()
    assert max(level[int(moment / 0.02)] for moment in off_s) < 0.001 * level.max()


def test_the_fast_sweep_rises_seven_times_a_second() -> None:
    samples = sounder("fast_sweep")
    for cycle in (0, 1, 10):
        rising = [pitch_at(samples, (cycle + part) / 7, 0.02) for part in (0.15, 0.5, 0.85)]
        assert rising == pytest.approx([825, 885, 945], rel=0.03)


def test_the_low_frequency_buzz_has_lines_120_hz_apart() -> None:
    _, spectrum = power(sounder("lf_buzz", 4.0))
    amplitude = np.sqrt(spectrum[400:20_000])  # 100 Hz to 5 kHz in steps of 0.25 Hz
    correlation = np.fft.irfft(np.abs(np.fft.rfft(amplitude - amplitude.mean(), 40_000)) ** 2)
    assert (160 + correlation[160:800].argmax()) / 4 == pytest.approx(120, abs=1)


@pytest.mark.parametrize("strikes_hz", [8.0, 14.0, 25.0])
def test_a_bell_is_struck_as_often_as_asked(strikes_hz: float) -> None:
    for seed in range(4):
        samples = synthesis.bell_alarm(np.random.default_rng(seed), RATE, strikes_hz=strikes_hz)
        # The second difference brings out the clapper's knock over the ringing, which beats.
        rises = np.maximum(np.diff(levels(np.diff(samples, 2), 0.002)), 0)
        lines = np.abs(np.fft.rfft(rises - rises.mean(), 16 * len(rises)))
        rates = np.fft.rfftfreq(16 * len(rises), 0.002)
        near = (rates > 5) & (rates < 1.5 * strikes_hz)
        assert rates[near][lines[near].argmax()] == pytest.approx(strikes_hz, rel=0.03)
        level = levels(samples, 0.02)
        assert level[1:-1].min() > 0.01 * level.max()


@pytest.mark.parametrize(
    ("kind", "on_s", "off_s"),
    [
        ("t3", (0.25, 1.25, 2.25, 4.25), (0.75, 1.75, 2.75, 3.5)),
        ("low", (0.25, 1.25, 2.25, 4.25), (0.75, 1.75, 2.75, 3.5)),
        ("t4", (0.05, 0.25, 0.45, 0.65, 5.75), (0.15, 0.35, 0.55, 1.5, 5.0)),
    ],
)
def test_horns_keep_the_temporal_patterns(
    kind: str, on_s: tuple[float, ...], off_s: tuple[float, ...]
) -> None:
    for seed in range(6):
        samples = synthesis.horn_alarm(np.random.default_rng(seed), RATE, kind=kind, duration_s=6.0)
        # 60 ms: longer than the gaps of a chopped tone.
        level = levels(samples, 0.06)
        assert min(level[int(moment / 0.06)] for moment in on_s) > 0.1 * level.max()
        assert max(level[int(moment / 0.06)] for moment in off_s) < 0.5 * level.max()
        quiet = levels(samples, 0.01)
        assert max(quiet[int(moment / 0.01)] for moment in off_s) < 0.001 * quiet.max()


@pytest.mark.parametrize(
    ("kind", "low_hz", "high_hz"), [("continuous", 2750, 4050), ("fast", 2750, 4050), ("low", 490, 550)]
)
def test_horns_sound_at_the_pitch_of_their_kind(kind: str, low_hz: float, high_hz: float) -> None:
    for seed in range(6):
        samples = synthesis.horn_alarm(np.random.default_rng(seed), RATE, kind=kind)
        hz, spectrum = power(samples)
        assert low_hz < hz[spectrum.argmax()] < high_hz


def test_a_fast_horn_beeps_two_to_six_times_a_second() -> None:
    for seed in range(6):
        samples = synthesis.horn_alarm(np.random.default_rng(seed), RATE, kind="fast")
        level = levels(samples, 0.01)
        silent = level < 0.001 * level.max()
        # A chopped tone is off for far less than the 50 ms at least between two beeps.
        runs = np.convolve(silent, np.ones(4), "same") >= 4
        beeps = int((np.diff(runs.astype(int)) == 1).sum())
        assert 7 <= beeps <= 25


@pytest.mark.parametrize(("kind", "tonal"), [("tonal", True), ("broadband", False)])
def test_reversing_beepers_beep_about_once_a_second(kind: str, *, tonal: bool) -> None:
    for seed in range(6):
        samples = synthesis.reversing_beeps(np.random.default_rng(seed), RATE, kind=kind)
        assert 0.6 < period_s(samples, 0.4, 1.4) < 1.3
        hz, spectrum = power(samples[: RATE // 4])
        assert (flatness(samples[: RATE // 4]) < 0.02) is tonal
        if tonal:
            assert 980 < hz[spectrum.argmax()] < 1420


def test_a_car_alarm_changes_its_tune() -> None:
    samples = synthesis.car_alarm(np.random.default_rng(3), RATE, duration_s=12.0)
    frames = samples.reshape(12, RATE)
    shapes = np.abs(np.fft.rfft(frames, axis=1))[:, 400:6000].reshape(12, -1, 20).mean(axis=2)
    shapes /= np.linalg.norm(shapes, axis=1, keepdims=True)
    assert (shapes @ shapes.T).min() < 0.7
