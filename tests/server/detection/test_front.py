"""What stands before the model hears the same however sound comes, and is not fooled by what nobody hears."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from clap_server.detection.frames import PowerFrames
from clap_server.detection.front import Front, Heard

RATE = 16_000


def noise(duration_s: float, dbfs: float, seed: int = 0) -> NDArray[np.float32]:
    rng = np.random.default_rng(seed)
    return (rng.standard_normal(round(duration_s * RATE)) * 10 ** (dbfs / 20)).astype(np.float32)


def with_crashes(duration_s: float, *at_s: float) -> NDArray[np.float32]:
    samples = noise(duration_s, -55)
    for number, at in enumerate(at_s):
        start = round(at * RATE)
        samples[start : start + RATE // 4] += noise(0.25, -18, seed=number + 1)[: len(samples) - start]
    return samples


def hear(blocks: list[NDArray[np.float32]], *, window_s: float = 2.0) -> list[Heard]:
    front = Front(RATE, window_s=window_s, hop_s=0.5)
    heard = []
    for block in blocks:
        for found in front.take(block):
            heard.append(found)
            samples = front.samples(found.window)
            assert len(samples) == round((found.window.end_s - found.window.start_s) * RATE)
    return [*heard, *front.finish()]


SCENE = with_crashes(9.0, 1.23, 4.07, 4.4, 7.913)
WHOLE = hear([SCENE])


@given(st.lists(st.integers(1, 20_000), min_size=1, max_size=60))
@settings(max_examples=60, deadline=None)
def test_windows_and_gate_do_not_depend_on_how_the_samples_arrive(lengths: list[int]) -> None:
    ends = np.cumsum(lengths)
    found = hear(np.split(SCENE, ends[ends < len(SCENE)]))
    assert [(w.start_s, w.end_s, w.onset_s) for w, _ in found] == [
        (w.start_s, w.end_s, w.onset_s) for w, _ in WHOLE
    ]
    assert [admitted for _, admitted in found] == [admitted for _, admitted in WHOLE]
    for (window, _), (expected, _) in zip(found, WHOLE, strict=True):
        assert window.level_dbfs == pytest.approx(expected.level_dbfs, abs=0.01)
        assert window.piece_levels_dbfs == pytest.approx(expected.piece_levels_dbfs, abs=0.01)


def test_a_window_holds_the_samples_of_its_time() -> None:
    front = Front(RATE, window_s=2.0, hop_s=0.5)
    for block in np.array_split(SCENE, 77):
        for window, _ in front.take(block):
            expected = SCENE[round(window.start_s * RATE) : round(window.end_s * RATE)]
            np.testing.assert_array_equal(front.samples(window), expected)


def test_the_gate_is_told_each_moment_once() -> None:
    told = [level for window, _ in WHOLE for level in window.piece_levels_dbfs]
    assert len(told) == 90
    assert told[20] == pytest.approx(-55, abs=1)


@pytest.mark.parametrize("offset", [0.1, -0.3])
def test_an_offset_neither_opens_the_gate_nor_hides_an_onset_or_misdates_it(offset: float) -> None:
    """A cheap converter adds a constant; 0.1 would count as -20 dBFS."""
    samples = with_crashes(40.0, 30.0)
    samples[30 * RATE :] *= np.float32(0.2)
    plain = hear([samples])
    shifted = hear([samples + np.float32(offset)])
    assert [admitted for _, admitted in shifted] == [admitted for _, admitted in plain]
    assert sum(admitted for _, admitted in shifted) < 40
    assert [w.onset_s for w, _ in shifted] == [w.onset_s for w, _ in plain]
    for (window, _), (expected, _) in zip(shifted, plain, strict=True):
        assert window.level_dbfs == pytest.approx(expected.level_dbfs, abs=0.1)


@pytest.mark.parametrize("mains_hz", [50, 60])
def test_hum_neither_opens_the_gate_nor_hides_an_onset(mains_hz: int) -> None:
    samples = with_crashes(40.0, 30.0)
    hum = 0.02 * np.sin(2 * np.pi * mains_hz * np.arange(len(samples)) / RATE)
    heard = hear([samples + hum.astype(np.float32)])
    assert next(w.onset_s for w, _ in heard if w.end_s > 31) == pytest.approx(30.0, abs=0.03)
    assert heard[40].window.level_dbfs < -50
    assert not any(admitted for window, admitted in heard if 15 < window.end_s < 30)


def test_a_thump_is_heard() -> None:
    """A door or a blow has its energy between 80 and 200 Hz."""
    samples = noise(40.0, -60)
    time_s = np.arange(RATE // 2) / RATE
    thump = 0.1 * np.sin(2 * np.pi * 120 * time_s) * np.exp(-time_s / 0.08)
    samples[30 * RATE : 30 * RATE + len(thump)] += thump.astype(np.float32)
    assert any(admitted and w.onset_s == pytest.approx(30.0, abs=0.02) for w, admitted in hear([samples]))


@pytest.mark.parametrize("rate", [8_000, 16_000, 44_100, 48_000])
@pytest.mark.parametrize(("hertz", "gain_db"), [(50, -24.1), (100, -3.0), (200, 0.0), (3000, 0.0)])
def test_the_high_pass_has_the_gains_of_its_kind(rate: int, hertz: int, gain_db: float) -> None:
    """Butterworth, fourth order, 100 Hz: -10 log10(1 + (100 / f)^8)."""
    sine = (0.1 * np.sin(2 * np.pi * hertz * np.arange(4 * rate) / rate)).astype(np.float32)
    frames = PowerFrames(rate)
    power = np.concatenate([frames.feed(part) for part in np.array_split(sine, 37)])
    assert 10 * np.log10(power[100:].mean() / 0.005) == pytest.approx(gain_db, abs=0.1)


def test_an_offset_alone_is_silence() -> None:
    power = PowerFrames(RATE).feed(np.full(RATE, 0.5, np.float32))
    assert power.max() < 1e-10


def test_a_recording_shorter_than_a_window_is_heard_once() -> None:
    for duration_s in (0.004, 0.03, 0.3):
        [(window, _)] = hear([noise(duration_s, -20)])
        assert (window.start_s, window.end_s) == (0.0, pytest.approx(duration_s))


def test_windows_go_on_after_the_end_as_long_as_there_is_enough_of_the_sound() -> None:
    front = Front(RATE, window_s=2.0, hop_s=0.5)
    for _ in front.take(noise(3.2, -20)):
        pass
    tail = [window for window, _ in front.finish(tail_s=5.0)]
    assert [window.end_s for window in tail] == pytest.approx([3.2, 3.7, 4.2, 4.7])
    lengths = [len(front.samples(window)) / RATE for window in tail]
    assert lengths == pytest.approx([2.0, 1.5, 1.0, 0.5], abs=1e-3)


def test_the_model_hears_without_the_noise_what_all_others_hear_with_it() -> None:
    sound = with_crashes(6.0, 4.5)
    plain, quiet = (
        Front(RATE, window_s=2.0, hop_s=0.5, keep_s=6.0, denoise=denoise) for denoise in (False, True)
    )
    heard = [list(front.take(sound)) for front in (plain, quiet)]
    assert heard[0] == heard[1]
    np.testing.assert_array_equal(plain.ring.read(0, len(sound)), quiet.ring.read(0, len(sound)))
    windows = [
        found.window for found in heard[1] if isinstance(found, Heard) and 3 < found.window.end_s < 4.4
    ]
    assert windows
    for window in windows:
        assert len(quiet.samples(window)) == len(plain.samples(window))
        assert np.std(quiet.samples(window)) < 0.2 * np.std(plain.samples(window))


def test_wiped_nothing_is_left() -> None:
    front = Front(RATE, window_s=2.0, hop_s=0.5, denoise=True)
    heard = list(front.take(with_crashes(3.0, 1.0)))
    front.wipe()
    assert not front.ring.read(front.ring.first_sample, front.ring.total_samples).any()
    assert isinstance(heard[-1], Heard)
    assert not front.samples(heard[-1].window).any()


@pytest.mark.parametrize(
    ("block", "pieces"),
    [
        (0, []),
        (10, [10]),
        (1600, [1600]),
        (1610, [1610]),
        (2400, [2400]),
        (2401, [1600, 801]),
        (3210, [1600, 1610]),
    ],
)
def test_what_is_left_over_of_a_block_is_no_piece_of_its_own(block: int, pieces: list[int]) -> None:
    front = Front(16_000, window_s=2.0, hop_s=0.5)
    assert [len(piece) for piece in front.pieces(np.zeros(block, np.float32))] == pieces
