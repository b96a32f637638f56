from __future__ import annotations

import io
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clap_server import synthesis
from clap_server.audio.decode import decode
from clap_server.audio.encode import encode
from clap_server.detection.patterns import AlarmPattern, PatternDecoder

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from clap_server.detection.patterns import DecodedPattern

RATE = 16_000
T3_STARTS = (0.0, 1.0, 2.0)
T4_STARTS = (0.0, 0.2, 0.4, 0.6)


def beeps(
    starts: Sequence[float], on_s: float, carrier_hz: float, duration_s: float, *, square: bool = False
) -> NDArray[np.float32]:
    """Pulses of one carrier, peak 0.3."""
    sound = np.zeros(round(duration_s * RATE), np.float32)
    times = np.arange(round(on_s * RATE)) / RATE
    wave = np.sin(2 * np.pi * carrier_hz * times)
    pulse = 0.3 * (np.sign(wave) if square else wave)
    for start_s in starts:
        first = round(start_s * RATE)
        sound[first : first + len(pulse)] += pulse[: len(sound) - first].astype(np.float32)
    return sound


def cycles(starts: Sequence[float], cycle_s: float, count: int, stretch: float = 1.0) -> list[float]:
    return [0.5 + stretch * (cycle * cycle_s + start) for cycle in range(count) for start in starts]


def t3(
    carrier_hz: float = 3100.0, count: int = 2, stretch: float = 1.0, *, square: bool = False
) -> NDArray[np.float32]:
    starts = cycles(T3_STARTS, 4.0, count, stretch)
    return beeps(starts, 0.5 * stretch, carrier_hz, starts[-1] + 2.0, square=square)


def t4(
    carrier_hz: float = 3100.0, count: int = 2, stretch: float = 1.0, cycle_s: float = 5.7
) -> NDArray[np.float32]:
    starts = cycles(T4_STARTS, cycle_s, count, stretch)
    return beeps(starts, 0.1 * stretch, carrier_hz, starts[-1] + 2.0)


def decoded(sound: NDArray[np.float32], piece: int = 1600) -> list[DecodedPattern]:
    decoder = PatternDecoder(RATE)
    return [
        change
        for start in range(0, len(sound), piece)
        for change in decoder.feed(sound[start : start + piece])
    ]


def patterns(sound: NDArray[np.float32]) -> set[AlarmPattern]:
    return {change.pattern for change in decoded(sound)}


def with_noise(sound: NDArray[np.float32], snr_db: float, seed: int) -> NDArray[np.float32]:
    """White noise whose power over the whole band is ``snr_db`` below that of the beeps while they sound."""
    power = float(np.mean(sound[sound != 0] ** 2))
    noise = np.random.default_rng(seed).standard_normal(len(sound))
    return (sound + np.sqrt(power / 10 ** (snr_db / 10)) * noise).astype(np.float32)


def in_a_room(sound: NDArray[np.float32], rt60_s: float, seed: int) -> NDArray[np.float32]:
    """Direct sound and a tail of noise that dies away, half as loud in all as the direct sound."""
    times = np.arange(round(rt60_s * RATE)) / RATE
    tail = np.random.default_rng(seed).standard_normal(len(times)) * 10 ** (-3 * times / rt60_s)
    tail *= np.sqrt(0.5 / np.sum(tail**2))
    tail[0] = 1.0
    size = len(sound) + len(tail)
    wet = np.fft.irfft(np.fft.rfft(sound, size) * np.fft.rfft(tail, size), size)[: len(sound)]
    return wet.astype(np.float32)


carriers = st.floats(400, 4000)
# The standards allow 10 %; onsets lie on a grid of 10 ms.
stretches = st.floats(0.92, 1.08)
seeds = st.integers(0, 10_000)


@settings(max_examples=40, deadline=None)
@given(carrier_hz=carriers, stretch=stretches, seed=seeds)
def test_t3_decodes_at_any_carrier_within_the_standards_tolerance_in_noise_as_loud(
    carrier_hz: float, stretch: float, seed: int
) -> None:
    assert patterns(with_noise(t3(carrier_hz, stretch=stretch), 0.0, seed)) == {AlarmPattern.T3}


@settings(max_examples=40, deadline=None)
@given(carrier_hz=carriers, stretch=stretches, seed=seeds)
def test_t4_decodes_at_any_carrier_within_the_standards_tolerance_in_noise_as_loud(
    carrier_hz: float, stretch: float, seed: int
) -> None:
    assert patterns(with_noise(t4(carrier_hz, stretch=stretch), 0.0, seed)) == {AlarmPattern.T4}


@settings(max_examples=20, deadline=None)
@given(carrier_hz=st.floats(480, 560), seed=seeds)
def test_low_frequency_square_wave_is_one_alarm_though_its_harmonics_beep_too(
    carrier_hz: float, seed: int
) -> None:
    changes = decoded(with_noise(t3(carrier_hz, square=True), 0.0, seed))
    assert [change.pattern for change in changes] == [AlarmPattern.T3]


@pytest.mark.parametrize("make", [t3, t4])
@pytest.mark.parametrize(("rt60_s", "share"), [(0.3, 0.9), (0.6, 0.8)])
def test_both_decode_in_rooms_that_ring(
    make: Callable[..., NDArray[np.float32]], rt60_s: float, share: float
) -> None:
    carriers_hz = (520.0, 900.0, 1500.0, 2400.0, 3100.0)
    rooms = [(carrier_hz, seed) for carrier_hz in carriers_hz for seed in range(8)]
    found = sum(bool(patterns(in_a_room(make(carrier_hz, 3), rt60_s, seed))) for carrier_hz, seed in rooms)
    # Where reflections cancel the carrier nobody hears the beeps.
    assert found >= share * len(rooms)


def test_both_decode_after_a_lossy_codec() -> None:
    for sound, pattern in ((t3(2900), AlarmPattern.T3), (t4(2900), AlarmPattern.T4)):
        coded = decode(io.BytesIO(encode(sound, RATE, "mp3")), RATE)
        assert patterns(coded) == {pattern}


def test_slow_t4_decodes_after_minutes() -> None:
    assert patterns(t4(count=2, cycle_s=60.0)) == {AlarmPattern.T4}


def test_two_alarms_at_once_are_both_told() -> None:
    smoke, monoxide = t3(2800, 4), t4(3300, 3)
    length = max(len(smoke), len(monoxide))
    both = np.pad(smoke, (0, length - len(smoke))) + np.pad(monoxide, (0, length - len(monoxide)))
    assert patterns(both) == {AlarmPattern.T3, AlarmPattern.T4}


def test_an_alarm_is_told_once_with_its_onset_and_once_when_it_stops() -> None:
    quiet = np.zeros(15 * RATE, np.float32)
    started, ended = decoded(np.concatenate((t3(count=5), quiet)))
    assert not started.ended
    assert started.onset_s == pytest.approx(0.5, abs=0.05)
    assert started.carrier_hz == pytest.approx(3100, abs=50)
    assert ended.ended
    assert ended.onset_s == started.onset_s
    assert ended.last_s == pytest.approx(0.5 + 4 * 4 + 2.5, abs=0.05)


@pytest.mark.parametrize("piece", [160, 1000, 4800, 50_000])
def test_pieces_of_any_length_decode_alike(piece: int) -> None:
    sound = t3(count=3)
    assert decoded(sound, piece) == decoded(sound, 1600)


@pytest.mark.parametrize("interval_s", [30.0, 42.0, 60.0])
def test_chirps_of_an_empty_battery_are_told_as_such(interval_s: float) -> None:
    starts = [1 + interval_s * index for index in range(5)]
    assert patterns(beeps(starts, 0.08, 3200, starts[-1] + 5)) == {AlarmPattern.LOW_BATTERY}


def test_irregular_chirps_are_a_bird() -> None:
    starts = [1.0, 34.0, 70.0, 110.0, 142.0, 190.0]
    assert patterns(beeps(starts, 0.08, 3200, 200)) == set()


NO_ALARMS = {
    "reversing lorry": ([0.5 + index for index in range(40)], 0.5),
    "microwave, again each minute": (
        [0.5 + 60 * round_ + index for round_ in range(3) for index in range(3)],
        0.5,
    ),
    "alarm clock": ([0.5 + second + 0.125 * index for second in range(30) for index in range(4)], 0.06),
    "phone alarm": ([0.5 + 1.5 * index + 0.15 * tone for index in range(20) for tone in range(3)], 0.1),
    "time signal": ([0.5 + index for index in range(6)], 0.1),
    "two beeps a second": ([0.5 + 0.5 * index for index in range(60)], 0.25),
    "three beeps every six seconds": (
        [0.5 + 6 * group + index for group in range(6) for index in range(3)],
        0.5,
    ),
    "five quick beeps": ([0.5 + 5.7 * group + 0.2 * index for group in range(5) for index in range(5)], 0.1),
}


@pytest.mark.parametrize("name", NO_ALARMS)
@pytest.mark.parametrize("carrier_hz", [520.0, 1000.0, 2000.0, 3100.0])
def test_other_beeps_never_decode(name: str, carrier_hz: float) -> None:
    starts, on_s = NO_ALARMS[name]
    sound = beeps(starts, on_s, carrier_hz, starts[-1] + 8)
    assert patterns(sound) == set()
    assert patterns(with_noise(sound, 0.0, 1)) == set()


def test_a_bell_that_tolls_twice_in_the_pattern_is_no_alarm() -> None:
    sound = t3(900, 2)
    for start_s in cycles(T3_STARTS, 4.0, 2):
        first, last = round(start_s * RATE), round((start_s + 0.5) * RATE)
        sound[first:last] *= 10 ** (-12 * np.linspace(0, 0.95, last - first) / 20)
    assert patterns(sound) == set()


@pytest.mark.parametrize("seed", range(6))
def test_music_ringtones_and_appliances_never_decode(seed: int) -> None:
    rng = np.random.default_rng(seed)
    makers = (synthesis.music, synthesis.ringtone, synthesis.appliance_beeps, synthesis.siren)
    parts = [maker(rng, RATE, duration_s=15.0) for maker in makers]
    assert patterns(np.concatenate(parts)) == set()


def test_a_group_that_is_drowned_out_does_not_end_an_alarm() -> None:
    for make, first_s, length_s in ((t3, 8.4, 2.7), (t4, 11.8, 0.9)):
        sound = make(count=6)
        sound[round(first_s * RATE) : round((first_s + length_s) * RATE)] = 0.0
        (started,) = decoded(sound)
        assert not started.ended


def test_a_carbon_monoxide_alarm_that_slows_down_is_still_the_same() -> None:
    fast = [0.5 + 5.7 * cycle + start for cycle in range(45) for start in T4_STARTS]
    slow = [fast[-4] + 60.0 * cycle + start for cycle in range(1, 4) for start in T4_STARTS]
    started, ended = decoded(beeps([*fast, *slow], 0.1, 3100.0, slow[-1] + 140.0))
    assert ended.last_s == pytest.approx(slow[-1] + 0.1, abs=0.05)
    assert ended.onset_s == started.onset_s


def test_it_is_known_as_soon_as_the_second_group_is_over_and_how_loud_it_is() -> None:
    (started,) = decoded(t3(3100.0, 3))
    assert started.known_s == pytest.approx(0.5 + 4 + 2.5, abs=0.08)
    # A sine of peak 0.3 has -13.5; a channel beside its carrier may be the first to recognise it.
    assert -17.5 < started.level_dbfs < -13.2


@pytest.mark.parametrize("rate", [1_000, 8_000, 22_050, 48_000])
def test_any_sample_rate_will_do(rate: int) -> None:
    decoder = PatternDecoder(rate)
    times = np.arange(12 * rate) / rate
    starts = np.array(cycles(T3_STARTS, 4.0, 2))[:, None]
    sounding = ((times >= starts) & (times < starts + 0.5)).any(axis=0)
    found = decoder.feed((0.3 * np.sin(2 * np.pi * 2900 * times) * sounding).astype(np.float32))
    # Such a low rate has no room for any carrier.
    assert [change.pattern for change in found] == ([AlarmPattern.T3] if rate > 1_000 else [])


def test_beeps_are_forgotten_after_minutes() -> None:
    decoder = PatternDecoder(RATE)
    minute = beeps([0.25 * index for index in range(239)], 0.1, 2000.0, 60.0)
    for _ in range(12):
        decoder.feed(minute)
    assert max(map(len, decoder._pulses.values())) <= 4 * 331
