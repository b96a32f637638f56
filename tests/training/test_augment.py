"""Rooms, devices and codecs keep a sound what and where it was, and are the same for the same seed."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import numpy as np
import pytest
from pyroomacoustics.experimental import measure_rt60

from clap_server import synthesis
from training import codecs
from training.augment import PEAK, device, gain_control, rerecord
from training.config import load_config
from training.rooms import AHEAD, LENGTH_S, Rooms, load_rooms

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

RATE = 48_000
ROOMS = 8
ONSET = 30_000


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("rooms") / "new" / "rooms.npz"
    load_rooms(path, 1, ROOMS, RATE)
    return path


@pytest.fixture(scope="module")
def rooms(kept: Path) -> Rooms:
    return load_rooms(kept, 1, ROOMS, RATE)


def burst(seed: int = 0, count: int = 96_000) -> NDArray[np.float32]:
    """0.1 s of noise that every codec lets through, amid silence."""
    sound = np.zeros(count)
    white = np.random.default_rng(seed).standard_normal(4800)
    spectrum = np.fft.rfft(white)
    frequencies = np.fft.rfftfreq(4800, 1 / RATE)
    spectrum[(frequencies < 300) | (frequencies > 2500)] = 0
    band = np.fft.irfft(spectrum, 4800)
    sound[ONSET : ONSET + 4800] = 0.5 * band / np.abs(band).max()
    return sound.astype(np.float32)


def lag(heard: NDArray[np.float32], played: NDArray[np.float32]) -> int:
    """By how many samples ``heard`` is late."""
    size = 1 << (2 * len(played)).bit_length()
    likeness = np.fft.irfft(np.fft.rfft(heard, size) * np.conj(np.fft.rfft(played, size)), size)
    place = int(np.argmax(likeness))
    return place if place < size // 2 else place - size


def test_rooms_are_kept_and_read_again(kept: Path, rooms: Rooms) -> None:
    assert rooms.responses.shape == (ROOMS, int(LENGTH_S * RATE))
    written = kept.stat().st_mtime_ns
    again = load_rooms(kept, 1, ROOMS, RATE)
    assert kept.stat().st_mtime_ns == written
    assert np.array_equal(again.responses, rooms.responses)
    assert not list(kept.parent.glob("*.part"))


def test_the_same_seed_gives_the_same_rooms_and_another_gives_others(tmp_path: Path, rooms: Rooms) -> None:
    path = tmp_path / "rooms.npz"
    assert np.array_equal(load_rooms(path, 1, 2, RATE).responses, rooms.responses[:2])
    assert not np.array_equal(load_rooms(path, 2, 2, RATE).responses, rooms.responses[:2])


def test_a_damaged_bank_is_made_anew(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "rooms.npz"
    path.write_bytes(b"PK nothing")
    assert len(load_rooms(path, 3, 1, RATE).responses) == 1
    assert "cannot be read" in capsys.readouterr().out


def test_rooms_begin_with_the_direct_sound_and_decay_as_they_say(rooms: Rooms) -> None:
    responses = rooms.responses.astype(np.float64)
    assert np.allclose(responses[:, AHEAD], 1.0, atol=1e-3)
    assert np.abs(responses[:, -1]).max() < 0.01
    assert np.all((rooms.distance_m >= 1.0) & (rooms.distance_m <= 13.0))
    for response, decay_s in zip(responses, rooms.decay_s, strict=True):
        assert 0.1 <= decay_s <= 1.1
        assert 0.3 * decay_s <= measure_rt60(response, RATE, decay_db=20) <= 1.35 * decay_s


def test_a_room_keeps_length_place_and_peak(rooms: Rooms) -> None:
    # A click is found again whatever the echoes.
    played = np.zeros(48_000, np.float32)
    played[10_000] = 0.25
    for index in range(ROOMS):
        heard = rooms.play(played, index)
        assert heard.shape == played.shape
        assert heard.dtype == np.float32
        assert np.abs(heard).max() == pytest.approx(0.25, rel=1e-3)
        quiet = np.abs(heard[: 10_000 - AHEAD]).max()
        assert quiet < 1e-5
        assert abs(heard[10_000]) > 0.1 * np.abs(heard).max()
        # More than the direct sound arrives.
        assert np.abs(heard[10_100:]).max() > 0.01 * abs(heard[10_000])


def test_silence_in_a_room_is_silence(rooms: Rooms) -> None:
    assert not rooms.play(np.zeros(500, np.float32), 0).any()


@pytest.mark.parametrize(
    "codec", codecs.CODECS, ids=lambda codec: f"{codec.name}-{codec.sample_rate}-{codec.bit_rate}"
)
def test_each_codec_keeps_length_and_place(codec: codecs.Codec) -> None:
    played = burst(count=95_999)
    heard = codecs.through(played, codec, RATE)
    assert heard.shape == played.shape
    assert heard.dtype == np.float32
    assert not np.array_equal(heard, played)
    assert abs(lag(heard, played)) <= RATE // codec.sample_rate
    likeness = float(np.dot(heard, played) / np.linalg.norm(heard) / np.linalg.norm(played))
    assert likeness > 0.75


def test_telephone_codecs_take_away_what_is_above_4_khz() -> None:
    played = (0.1 * np.random.default_rng(1).standard_normal(RATE)).astype(np.float32)
    heard = codecs.through(played, codecs.Codec("pcm_mulaw", 8000, 0, 1.0), RATE)
    power = np.abs(np.fft.rfft(heard)) ** 2
    assert power[4500:].sum() < 1e-4 * power.sum()


def test_codecs_take_sounds_of_any_length() -> None:
    for codec in (codecs.CODECS[0], codecs.CODECS[2], codecs.CODECS[5], codecs.CODECS[-1]):
        for count in (0, 1, 7, 1000):
            assert codecs.through(np.full(count, 0.1, np.float32), codec, RATE).shape == (count,)


def test_every_codec_is_drawn() -> None:
    rng = np.random.default_rng(0)
    assert {codecs.draw(rng) for _ in range(2000)} == set(codecs.CODECS)


def test_the_same_generator_gives_the_same_recording_and_leaves_the_global_ones_alone() -> None:
    played = synthesis.glass_break(np.random.default_rng(1), RATE, duration_s=0.6)
    names = set()
    for seed in range(12):
        random.seed(seed)
        np.random.seed(seed)  # noqa: NPY002 - it must not matter
        before = random.getstate()
        first, codec = device(played, np.random.default_rng(seed), RATE)
        assert random.getstate() == before
        random.seed(99)
        np.random.seed(99)  # noqa: NPY002 - as above
        again, _ = device(played, np.random.default_rng(seed), RATE)
        assert np.array_equal(first, again)
        names.add(codec)
    assert {"pcm"} < names
    assert not np.array_equal(first, device(played, np.random.default_rng(99), RATE)[0])


@pytest.mark.parametrize("codec_share", [0.0, 1.0])
def test_a_device_keeps_length_place_and_bounds(codec_share: float) -> None:
    played = burst()
    for seed in range(30):
        heard, name = device(played, np.random.default_rng(seed), RATE, codec_share=codec_share)
        assert heard.shape == played.shape
        assert heard.dtype == np.float32
        assert np.isfinite(heard).all()
        assert np.abs(heard).max() == pytest.approx(PEAK, rel=1e-5)
        assert (name == "pcm") == (codec_share == 0.0)
        # The event is where it was: what is loud begins there within a few milliseconds.
        windows = np.abs(heard).reshape(-1, 480).max(axis=1)
        assert abs(int(np.argmax(windows >= 0.5 * PEAK)) - ONSET // 480) <= 3


def test_digital_silence_stays_silent() -> None:
    silent = np.zeros(1000, np.float32)
    heard, name = device(silent, np.random.default_rng(0), RATE)
    assert not heard.any()
    assert heard is not silent
    assert name == "pcm"


def test_automatic_gain_raises_the_quiet_and_lowers_the_loud() -> None:
    quiet, loud = np.full(RATE, 0.01, np.float32), np.full(RATE, 1.0, np.float32)
    samples = np.concatenate([quiet, loud, quiet])
    heard = gain_control(samples, RATE, target=0.3, largest_gain_db=20, attack_s=0.02, release_s=0.2)
    assert heard.shape == samples.shape
    assert np.abs(heard).max() <= 1.0
    assert heard[RATE // 2] == pytest.approx(0.1, rel=0.05)
    assert heard[2 * RATE - 500] == pytest.approx(0.3, rel=0.05)
    # It takes its time: what comes suddenly is loud at first, what follows it is too quiet.
    assert heard[RATE + 600] > 0.6
    assert heard[2 * RATE + 1000] < 0.03


def test_copies_tell_what_was_done_to_them(rooms: Rooms) -> None:
    settings = load_config().prepare
    played = synthesis.coins(np.random.default_rng(1), RATE, duration_s=0.5)
    done = set()
    for seed in range(40):
        heard, what = rerecord(played, np.random.default_rng(seed), rooms, RATE, settings)
        assert heard.shape == played.shape
        assert np.isfinite(heard).all()
        done.add(what)
    assert {"room", "tail", "device"} <= {piece for what in done for piece in what.split("+")}
    assert "" not in done
    again, _ = rerecord(played, np.random.default_rng(39), rooms, RATE, settings)
    assert np.array_equal(heard, again)
