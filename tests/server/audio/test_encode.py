from __future__ import annotations

import io

import av
import numpy as np
import pytest

from clap_server.audio.decode import decode
from clap_server.audio.encode import encode
from clap_server.errors import AudioError
from tests.server.audio.helpers import RATE, sine, strongest_hz


@pytest.mark.parametrize("rate", [8_000, 32_000, 48_000])
def test_flac_loses_nothing_but_the_16_bit_step(rate: int) -> None:
    samples = sine(440, 1.0, rate)
    np.testing.assert_allclose(decode(io.BytesIO(encode(samples, rate, "flac")), rate), samples, atol=1e-4)


def test_flac_states_its_length() -> None:
    with av.open(io.BytesIO(encode(sine(440, 2.0), RATE, "flac")), mode="r") as container:
        assert container.duration == pytest.approx(2_000_000, abs=1000)


@pytest.mark.parametrize("rate", [8_000, 44_100, 48_000, 96_000])
def test_mp3_plays_at_any_rate(rate: int) -> None:
    data = encode(sine(440, 2.0, rate), rate, "mp3")
    samples = decode(io.BytesIO(data), RATE)
    assert len(samples) / RATE == pytest.approx(2.0, abs=0.1)
    assert strongest_hz(samples) == pytest.approx(440, abs=2)
    assert len(data) < 40_000


def test_loud_sound_is_clipped_not_wrapped() -> None:
    samples = decode(io.BytesIO(encode(sine(440, 1.0, amplitude=3.0), RATE, "flac")), RATE)
    assert np.sign(samples[20:40]).tolist() == np.sign(sine(440, 1.0)[20:40]).tolist()
    assert samples.max() == pytest.approx(1.0, abs=1e-3)


def test_nothing_to_encode_is_an_error() -> None:
    with pytest.raises(AudioError, match="no sound"):
        encode(np.empty(0, np.float32), RATE, "flac")


def test_an_unknown_format_is_an_error() -> None:
    with pytest.raises(AudioError, match="flac or mp3"):
        encode(sine(440, 1.0), RATE, "wma")  # type: ignore[arg-type] # what a client could ask for
