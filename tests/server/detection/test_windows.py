"""Windows come by the clock, and at once after an onset."""

import numpy as np
import pytest

from clap_server.detection.windows import SHORTEST_S, Window, WindowCutter

RATE = 8000


def noise(duration_s: float, dbfs: float, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return (rng.standard_normal(round(duration_s * RATE)) * 10 ** (dbfs / 20)).astype(np.float32)


def cut(
    samples: np.ndarray, *, window_s: float = 2.0, hop_s: float = 0.5, piece_s: float = 0.1
) -> list[Window]:
    cutter = WindowCutter(RATE, window_s=window_s, hop_s=hop_s)
    size = round(piece_s * RATE)
    return [
        window
        for start in range(0, len(samples), size)
        for window in cutter.advance(samples[start : start + size])
    ]


def with_crash(at_s: float, duration_s: float) -> np.ndarray:
    samples = noise(duration_s, -60)
    start = round(at_s * RATE)
    samples[start : start + RATE // 4] += noise(0.25, -15, seed=1)
    return samples


def test_a_window_comes_each_hop_and_is_shorter_only_at_the_start() -> None:
    windows = cut(noise(4, -60))
    assert [window.end_s for window in windows] == [0.5 * n for n in range(1, 9)]
    assert [round(window.end_s - window.start_s, 6) for window in windows] == [0.5, 1, 1.5, 2, 2, 2, 2, 2]


def test_windows_before_there_is_enough_sound_are_left_out() -> None:
    windows = cut(noise(1, -60), hop_s=0.1)
    assert windows[0].end_s == pytest.approx(SHORTEST_S)


@pytest.mark.parametrize("at_s", [2.05, 2.13, 2.31, 2.49])
def test_a_crash_gets_a_window_within_a_third_of_a_second_and_another_with_it_well_inside(
    at_s: float,
) -> None:
    windows = [window for window in cut(with_crash(at_s, 5)) if window.onset_s is not None]
    after = [window.end_s - at_s for window in windows]
    assert any(0.1 < delay <= 0.33 for delay in after)
    assert any(0.33 < delay <= 0.75 for delay in after)
    assert any(0.6 < delay <= 0.8 for delay in after)
    assert all(window.onset_s == pytest.approx(at_s, abs=0.02) for window in windows)


@pytest.mark.parametrize("at_s", [2.05, 2.31])
def test_a_crash_is_looked_at_twice_however_long_the_hop_is(at_s: float) -> None:
    windows = cut(with_crash(at_s, 5), hop_s=5.0)
    assert [window.end_s - at_s for window in windows[:2]] == pytest.approx([0.2, 0.7], abs=0.02)


def test_a_crash_after_a_blow_is_looked_at_as_often_as_the_blow() -> None:
    samples = with_crash(2.0, 5)
    start = round(2.35 * RATE)
    samples[start : start + RATE // 4] += noise(0.25, -2, seed=2)
    ends = [window.end_s for window in cut(samples, hop_s=5.0)]
    assert ends[:4] == pytest.approx([2.2, 2.55, 2.7, 3.05], abs=0.02)


def test_long_windows_come_as_often_and_hear_a_crash_as_soon_as_short_ones() -> None:
    samples = with_crash(14.13, 26)
    short, long = (cut(samples, window_s=window_s) for window_s in (2.0, 10.0))
    assert [window.end_s for window in long] == [window.end_s for window in short]
    lengths = {round(window.end_s - window.start_s, 6) for window in long if window.end_s >= 10}
    assert lengths == {10.0}
    first = next(window for window in long if window.onset_s is not None)
    assert first.end_s < 14.13 + 0.33


def test_the_sharpest_onset_of_a_window_is_the_one_it_names() -> None:
    samples = with_crash(2.0, 4)
    start = round(2.8 * RATE)
    samples[start : start + 800] += noise(0.1, -42, seed=2)
    last = cut(samples, window_s=3.0)[-1]
    assert last.onset_s == pytest.approx(2.0, abs=0.02)


def test_a_rattle_cannot_flood_the_model() -> None:
    samples = noise(20, -70)
    for at in range(0, len(samples), round(0.45 * RATE)):
        samples[at : at + 400] += noise(0.05, -20, seed=at)[:400]
    regular = 40
    extra = len(cut(samples)) - regular
    assert 10 < extra <= 2 * 20 + 4


@pytest.mark.parametrize("dbfs", [-50, -30, -10])
def test_steady_noise_has_no_onset_not_even_where_the_stream_begins(dbfs: float) -> None:
    assert all(window.onset_s is None for window in cut(noise(6, dbfs)))


def test_level_is_that_of_the_loudest_moment() -> None:
    tone = np.zeros(2 * RATE, np.float32)
    tone[RATE : RATE + 800] = 0.1 * np.sqrt(2) * np.sin(np.arange(800))
    level = cut(tone)[-1].level_dbfs
    assert level == pytest.approx(-20, abs=0.5)
    assert cut(np.zeros(RATE, np.float32))[-1].level_dbfs == -120


def test_another_length_and_hop_apply_without_losing_the_stream() -> None:
    cutter = WindowCutter(RATE, window_s=2.0, hop_s=5.0)
    for _ in range(20):
        assert cutter.advance(noise(0.1, -60)) == []
    cutter.reshape(window_s=1.0, hop_s=0.5)
    windows = [window for _ in range(10) for window in cutter.advance(noise(0.1, -60))]
    assert [(window.start_s, window.end_s) for window in windows] == [(1.5, 2.5), (2.0, 3.0)]
    assert cutter.advance(noise(0, -60)) == []
