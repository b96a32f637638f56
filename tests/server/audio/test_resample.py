from __future__ import annotations

import numpy as np
import pytest

from clap_server.audio.resample import Resampler
from clap_server.errors import AudioError
from tests.server.audio.helpers import RATE, sine, strongest_hz


def in_pieces(resampler: Resampler, samples: np.ndarray, rate: int, piece: int = 160) -> np.ndarray:
    parts = [resampler.push(samples[start : start + piece], rate) for start in range(0, len(samples), piece)]
    return np.concatenate([*parts, resampler.flush()])


@pytest.mark.parametrize("rate", [8_000, 16_000, 44_100, 48_000, 96_000])
def test_a_tone_keeps_pitch_length_and_level_without_clicks(rate: int) -> None:
    output = in_pieces(Resampler(RATE), sine(1000, 1.0, rate), rate)
    assert len(output) == pytest.approx(RATE, abs=2)
    np.testing.assert_allclose(output[4800:-4800], sine(1000, 1.0)[4800 : len(output) - 4800], atol=2e-3)


def test_the_rate_may_change_on_the_way() -> None:
    resampler = Resampler(RATE)
    parts = [resampler.push(sine(1000, 0.5, rate), rate) for rate in (8_000, 16_000, RATE)]
    output = np.concatenate([*parts, resampler.flush()])
    assert len(output) == pytest.approx(1.5 * RATE, abs=4)
    assert strongest_hz(output) == pytest.approx(1000, abs=2)


@pytest.mark.parametrize("rate", [0, -1, 1000, 10_000_000])
def test_a_rate_that_is_none_is_refused(rate: int) -> None:
    with pytest.raises(AudioError, match="sample rate"):
        Resampler(RATE).push(np.zeros(10, np.float32), rate)
