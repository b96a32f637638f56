from __future__ import annotations

import numpy as np
import pytest

from clap_server.audio.downmix import Downmix
from tests.server.audio.helpers import RATE, sine

BLOCK = RATE // 50
NOISE = np.random.default_rng(5).normal(scale=0.1, size=(8, 4 * RATE)).astype(np.float32)


def mixed(downmix: Downmix, channels: np.ndarray) -> np.ndarray:
    pieces = range(0, channels.shape[1], BLOCK)
    return np.concatenate([downmix.mix(channels[:, start : start + BLOCK], RATE) for start in pieces])


@pytest.mark.parametrize("count", [1, 2, 3, 6, 8])
@pytest.mark.parametrize("kind", ["alike", "apart", "one"])
def test_channels_that_do_not_cancel_are_averaged(kind: str, count: int) -> None:
    channels = {
        "alike": np.repeat(NOISE[:1], count, axis=0),
        "apart": NOISE[:count],
        "one": np.vstack((NOISE[:1], np.zeros((count - 1, NOISE.shape[1]), np.float32))),
    }[kind]
    downmix = Downmix()
    np.testing.assert_allclose(mixed(downmix, channels), channels.mean(axis=0), atol=1e-6)
    assert downmix.notice is None


def test_channels_of_opposite_polarity_are_heard() -> None:
    tone = sine(1000, 2.0)
    downmix = Downmix()
    heard = mixed(downmix, np.vstack((tone, -tone)))
    np.testing.assert_array_equal(heard[RATE // 10 :], tone[RATE // 10 :])
    assert downmix.notice == "left and right cancel each other: only the left channel is used"


def test_the_louder_channel_is_used() -> None:
    tone = sine(1000, 1.0)
    downmix = Downmix()
    heard = mixed(downmix, np.vstack((-0.7 * tone, tone)))
    np.testing.assert_array_equal(heard[RATE // 10 :], tone[RATE // 10 :])
    assert "right" in str(downmix.notice)


def test_more_than_two_channels_are_told_by_number() -> None:
    channels = np.vstack((NOISE[0], -1.1 * NOISE[0], 0.01 * NOISE[1], 0.01 * NOISE[2]))
    downmix = Downmix()
    mixed(downmix, channels)
    assert downmix.notice == "the channels cancel each other: only channel 2 is used"


def test_the_mean_comes_back_without_a_click_when_the_wiring_is_mended() -> None:
    tone = sine(100, 3.0)
    other = np.concatenate((-tone[:RATE], tone[RATE:]))
    downmix = Downmix()
    heard = mixed(downmix, np.vstack((tone, other)))
    assert downmix.notice is None
    np.testing.assert_allclose(heard[2 * RATE :], tone[2 * RATE :], atol=1e-6)
    assert np.abs(np.diff(heard[RATE // 2 :])).max() < 0.02


def test_an_echo_with_turned_parts_changes_nothing() -> None:
    # Half of the sound in opposite polarity, as effects in music have: the mean still has the other half.
    channels = np.vstack((NOISE[0] + NOISE[1], NOISE[0] - NOISE[1]))
    downmix = Downmix()
    mixed(downmix, channels)
    assert downmix.notice is None


def test_silence_decides_nothing() -> None:
    downmix = Downmix()
    mixed(downmix, np.vstack((1e-6 * NOISE[0], -1e-6 * NOISE[0])))
    assert downmix.notice is None
