"""Rooms, mixtures and the demo recording."""

from __future__ import annotations

import numpy as np
import pytest

from clap_server import synthesis
from tests.server.synthesis.measures import RATE


def test_a_room_keeps_length_and_peak_and_adds_a_tail() -> None:
    click = np.zeros(RATE, np.float32)
    click[100] = 0.5
    wet = synthesis.reverberate(click, np.random.default_rng(1), RATE, decay_s=0.4)
    assert len(wet) == RATE
    assert np.abs(wet).max() == pytest.approx(0.5, rel=1e-3)
    early, late = np.abs(wet[100:9600]).sum(), np.abs(wet[28_800:]).sum()
    assert early > 0.5
    assert late < 0.01 * early


def test_reverberation_time_is_the_one_asked_for() -> None:
    response = synthesis.impulse_response(
        np.random.default_rng(2), RATE, decay_s=0.5, direct_to_reverberant_db=0
    )
    tail = np.convolve(response[1:].astype(np.float64) ** 2, np.ones(960) / 960, "valid")
    levels = 10 * np.log10(tail[[4800, 14400]])
    # 60 dB in 0.5 s is 24 dB in 0.2 s; the high band falls faster.
    assert 20 < levels[0] - levels[1] < 34


@pytest.mark.parametrize("snr_db", [-5.0, 10.0, 20.0])
def test_a_sound_lies_over_the_background_at_the_ratio_asked_for(snr_db: float) -> None:
    rng = np.random.default_rng(3)
    background = 0.02 * synthesis.noise(rng, RATE, kind="white", duration_s=2.0)
    beep = synthesis.t4_alarm(rng, RATE, cycles=1)[:4800]
    mixed = synthesis.mix_at(background, beep, 0.5, snr_db, RATE)
    added = mixed - background
    floor = np.sqrt((background**2).mean())
    assert 20 * np.log10(np.sqrt((added[24_000:28_800] ** 2).mean()) / floor) == pytest.approx(
        snr_db, abs=0.2
    )
    assert not added[:24_000].any()


def test_a_mixture_never_clips_and_a_late_sound_is_cut_off() -> None:
    loud = 0.9 * np.sin(np.arange(RATE) * 0.3).astype(np.float32)
    mixed = synthesis.mix_at(loud, loud, 0.9, 20.0, RATE)
    assert len(mixed) == RATE
    assert np.abs(mixed).max() == pytest.approx(0.99, abs=1e-3)


def test_over_digital_silence_a_sound_stays_as_it_is() -> None:
    beep = synthesis.t4_alarm(np.random.default_rng(4), RATE, cycles=1)[:4800]
    mixed = synthesis.mix_at(np.zeros(RATE, np.float32), beep, 0.0, 10.0, RATE)
    assert np.array_equal(mixed[:4800], beep)


def test_glass_breaks_in_the_demo_when_it_says() -> None:
    scene = synthesis.demo_scene(np.random.default_rng(5), RATE, duration_s=30.0, breaks=2)
    assert len(scene.samples) == 30 * RATE
    assert np.abs(scene.samples).max() <= 1.0
    assert len(scene.breaks_s) == 2
    for onset in scene.breaks_s:
        assert 3 < onset < 27
        start = int(onset * RATE)
        before = np.sqrt((scene.samples[start - 4800 : start] ** 2).mean())
        after = np.sqrt((scene.samples[start : start + 4800] ** 2).mean())
        assert after > 10 * before


def test_a_demo_too_short_for_its_breaks_is_refused() -> None:
    with pytest.raises(ValueError, match="at least 30 s"):
        synthesis.demo_scene(np.random.default_rng(0), duration_s=20.0, breaks=3)
