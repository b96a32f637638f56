from __future__ import annotations

import io
import socket
import struct
import threading
import wave
from typing import TYPE_CHECKING

import av
import numpy as np
import pytest

from clap_server.audio.decode import decode
from clap_server.audio.frames import to_float
from clap_server.errors import AudioError
from tests.server.audio.helpers import RATE, picture_only, sine, strongest_hz, to_file, wav_of_64_bits

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.mark.parametrize(
    ("fmt", "codec", "rate", "channels"),
    [
        ("wav", "pcm_s16le", 8_000, 1),
        ("wav", "pcm_u8", 16_000, 2),
        ("wav", "pcm_f32le", 44_100, 2),
        ("wav", "pcm_mulaw", 8_000, 1),
        ("flac", "flac", 96_000, 2),
        ("mp3", "mp3", 44_100, 2),
        ("ogg", "libopus", 48_000, 1),
        ("adts", "aac", 32_000, 2),
        ("ipod", "aac", 44_100, 1),
        ("mpegts", "aac", 48_000, 2),
        ("matroska", "libopus", 48_000, 2),
    ],
)
def test_any_format_becomes_mono_at_the_wanted_rate(fmt: str, codec: str, rate: int, channels: int) -> None:
    data = to_file(sine(1000, 1.0, rate), fmt, codec, rate, channels)
    samples = decode(io.BytesIO(data), RATE)
    assert samples.dtype == np.float32
    assert samples.ndim == 1
    assert len(samples) / RATE == pytest.approx(1.0, abs=0.1)
    assert strongest_hz(samples) == pytest.approx(1000, abs=3)
    assert np.sqrt(np.mean(samples**2)) == pytest.approx(0.3536, rel=0.15)


def test_a_path_is_as_good_as_a_file(tmp_path: Path) -> None:
    path = tmp_path / "tone.flac"
    path.write_bytes(to_file(sine(440, 0.5), "flac", "flac"))
    np.testing.assert_array_equal(decode(path, RATE), decode(io.BytesIO(path.read_bytes()), RATE))


@pytest.mark.parametrize(
    "data", [b"", b"hello" * 1000, bytes(range(256)) * 40, b"RIFF\xff\xff\xff\xffWAVEfmt "]
)
def test_what_is_not_audio_is_said_so(data: bytes) -> None:
    with pytest.raises(AudioError):
        decode(io.BytesIO(data), RATE)


def test_an_empty_file_is_said_so(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "empty.flac"
    path.touch()
    for source in (path, io.BytesIO()):
        with pytest.raises(AudioError, match="This file is empty"):
            decode(source, RATE)
    assert capfd.readouterr().err == ""


def test_a_film_without_sound_is_said_so() -> None:
    with pytest.raises(AudioError, match="no sound"):
        decode(io.BytesIO(picture_only()), RATE)


def test_a_recording_without_samples_is_said_so() -> None:
    file = io.BytesIO()
    with wave.open(file, "wb") as empty:
        empty.setparams((1, 2, 8000, 0, "NONE", "not compressed"))
    file.seek(0)
    with pytest.raises(AudioError, match="no sound at all"):
        decode(file, RATE)


def float_wav(samples: np.ndarray) -> bytes:
    """One channel of 32-bit floats as they are."""
    data = samples.astype("<f4").tobytes()
    header = struct.pack("<HHIIHH", 3, 1, RATE, RATE * 4, 4, 32)
    riff = b"RIFF" + struct.pack("<I", 36 + len(data)) + b"WAVEfmt " + struct.pack("<I", len(header))
    return riff + header + b"data" + struct.pack("<I", len(data)) + data


@pytest.mark.parametrize("value", [1e20, -1e20, np.inf, np.nan])
def test_a_value_that_is_no_sound_spoils_nothing(value: float) -> None:
    samples = sine(440, 0.5)
    samples[100] = value
    decoded = decode(io.BytesIO(float_wav(samples)), 16_000)
    assert np.isfinite(decoded).all()
    assert np.abs(decoded).max() < 1.5


def test_a_recording_that_changes_its_format_on_the_way_is_said_so() -> None:
    same, again, other = (to_file(sine(1000, 0.5), "ogg", "libopus", channels=count) for count in (1, 1, 2))
    assert decode(io.BytesIO(same + again), RATE).size == pytest.approx(RATE, abs=2000)
    with pytest.raises(AudioError, match="the number of channels changes on the way: convert"):
        decode(io.BytesIO(same + other), RATE)


def test_a_first_track_without_a_decoder_is_passed_over(tmp_path: Path) -> None:
    path = tmp_path / "two.mka"
    with av.open(str(path), "w", format="matroska") as container:
        tracks = [container.add_stream("pcm_s16le", rate=RATE, layout="mono") for _ in range(2)]
        for track, frequency_hz in zip(tracks, (300, 1000), strict=True):
            pcm = (sine(frequency_hz, 0.5) * 32767).astype(np.int16)[None]
            frame = av.AudioFrame.from_ndarray(pcm, format="s16", layout="mono")
            frame.sample_rate = RATE
            container.mux(track.encode(frame))  # type: ignore[attr-defined] # of audio
    data = path.read_bytes()
    assert strongest_hz(decode(io.BytesIO(data), RATE)) == pytest.approx(300, abs=5)
    unknown = data.replace(b"A_PCM/INT/LIT", b"A_XYZ/INT/LIT", 1)
    assert strongest_hz(decode(io.BytesIO(unknown), RATE)) == pytest.approx(1000, abs=5)
    with pytest.raises(
        AudioError, match=r"cannot be decoded: send an audio or video file that FFmpeg can read"
    ):
        decode(io.BytesIO(data.replace(b"A_PCM/INT/LIT", b"A_XYZ/INT/LIT")), RATE)


def test_too_long_a_recording_is_refused() -> None:
    data = to_file(sine(440, 2.0), "flac", "flac")
    assert decode(io.BytesIO(data), RATE, max_duration_s=2.1).size == 2 * RATE
    with pytest.raises(AudioError, match=r"longer than 1\.5 s"):
        decode(io.BytesIO(data), RATE, max_duration_s=1.5)


def test_damage_in_the_middle_costs_only_that_part() -> None:
    noise = 0.1 * np.random.default_rng(1).normal(size=3 * RATE)
    data = bytearray(to_file(noise, "mp3", "mp3"))
    middle = len(data) // 2
    data[middle : middle + 600] = bytes(600)
    assert decode(io.BytesIO(bytes(data)), RATE).size > 2 * RATE


def test_a_missing_file_is_named_without_its_folder(tmp_path: Path) -> None:
    with pytest.raises(AudioError, match=r"^Cannot open gone\.wav: No such file"):
        decode(tmp_path / "gone.wav", RATE)


@pytest.fixture
def trap() -> Iterator[tuple[str, list[str]]]:
    """Listen on a port and note whoever comes."""
    visitors: list[str] = []
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0.1)
        done = threading.Event()

        def watch() -> None:
            while not done.is_set():
                try:
                    connection, address = server.accept()
                except TimeoutError:
                    continue
                visitors.append(str(address))
                connection.close()

        thread = threading.Thread(target=watch)
        thread.start()
        yield f"127.0.0.1:{server.getsockname()[1]}", visitors
        done.set()
        thread.join()


def hostile(target: str) -> dict[str, bytes]:
    return {
        "hls": f"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\n{target}\n#EXT-X-ENDLIST\n".encode(),
        "concat": f"ffconcat version 1.0\nfile '{target}'\n".encode(),
        "sdp": b"v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=audio 5004 RTP/AVP 0\n",
        "dash": (
            '<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static"><Period>'
            f"<AdaptationSet><Representation id='1'><BaseURL>{target}</BaseURL></Representation>"
            "</AdaptationSet></Period></MPD>"
        ).encode(),
        "asx": f'<asx version="3.0"><entry><ref href="{target}"/></entry></asx>'.encode(),
    }


@pytest.mark.parametrize("kind", ["hls", "concat", "sdp", "dash", "asx"])
@pytest.mark.parametrize("scheme", ["path", "file:", "file://", "subfile,,start,0,end,0,,:", "http://"])
def test_uploads_reach_neither_files_nor_the_network(
    kind: str, scheme: str, tmp_path: Path, trap: tuple[str, list[str]]
) -> None:
    address, visitors = trap
    secret = tmp_path / "secret.wav"
    secret.write_bytes(to_file(sine(440, 1.0), "wav", "pcm_s16le"))
    target = {"path": str(secret), "http://": f"http://{address}/x.wav"}.get(scheme, f"{scheme}{secret}")
    upload = tmp_path / "upload.m3u8"
    upload.write_bytes(hostile(target)[kind])
    for source in (upload, io.BytesIO(upload.read_bytes())):
        with pytest.raises(AudioError, match="not audio"):
            decode(source, RATE)
    assert visitors == []


def test_the_hostile_playlists_would_work_without_the_rules(tmp_path: Path) -> None:
    # Shows that the test above can fail: FFmpeg itself follows such a file.
    secret = tmp_path / "secret.wav"
    secret.write_bytes(to_file(sine(440, 1.0), "wav", "pcm_s16le"))
    playlist = tmp_path / "list.ffconcat"
    playlist.write_bytes(hostile(secret.name)["concat"])
    with av.open(str(playlist)) as container:
        assert container.streams.audio


@pytest.mark.parametrize(
    ("samples", "expected"),
    [
        (np.array([0, 128, 255], np.uint8), [-1, 0, 127 / 128]),
        (np.array([-32768, 0, 16384], np.int16), [-1, 0, 0.5]),
        (np.array([-(2**31), 2**30], np.int32), [-1, 0.5]),
        (np.array([0.25, -1.5, 1e300, np.inf, np.nan], np.float64), [0.25, -1, 1, 1, 0]),
        (np.array([0.25, 1e20, -np.inf], np.float32), [0.25, 1, -1]),
    ],
)
def test_every_sample_type_has_the_same_full_scale(samples: np.ndarray, expected: list[float]) -> None:
    np.testing.assert_allclose(to_float(samples), expected)


def test_integers_of_64_bits_are_refused_with_words() -> None:
    with pytest.raises(AudioError, match="use 16 or 32 bits"):
        decode(io.BytesIO(wav_of_64_bits()), RATE)
