"""Pulse trains, bodies and what they become."""

from __future__ import annotations

import numpy as np
import pytest

from clap_server.synthesis.grains import (
    body,
    bounces,
    convolved,
    fast_length,
    pulse_train,
    ragged,
    rises,
    struck,
    wander,
)
from tests.server.synthesis.measures import RATE


def test_pulses_stand_at_their_times_add_up_and_are_dropped_outside() -> None:
    starts = np.array([-0.1, 0.0, 0.5, 0.5, 2.0])
    train = pulse_train(1000, 1000, starts, np.array([9.0, 1.0, 2.0, 3.0, 9.0]))
    assert train[0] == 1.0
    assert train[500] == 5.0
    assert train.sum() == 6.0


def test_a_rise_is_straight_and_ends_at_one() -> None:
    assert rises(6, 100, 0.04) == pytest.approx([0.0, 0.25, 0.5, 0.75, 1.0, 1.0])


def test_convolution_is_the_sum_of_each_excitation_through_its_response() -> None:
    rng = np.random.default_rng(0)
    first, second = rng.standard_normal((2, 500)).astype(np.float32)
    short, long = rng.standard_normal(20).astype(np.float32), rng.standard_normal(90).astype(np.float32)
    expected = np.convolve(first, short)[:500] + np.convolve(second, long)[:500]
    assert convolved((first, short), (second, long)) == pytest.approx(expected, abs=1e-4)


def test_fast_lengths_are_the_next_with_small_factors() -> None:
    assert [fast_length(n) for n in (1, 2, 3, 6, 7, 9, 11, 97, 1025)] == [1, 2, 3, 6, 8, 10, 12, 128, 1280]
    for least in range(1, 3000):
        assert least <= fast_length(least) < 2 * least or least == fast_length(least)


def test_every_hit_strikes_one_body() -> None:
    bodies = [np.array([1.0, 0.5], np.float32), np.array([-1.0, -0.5], np.float32)]
    hits = (np.arange(20) / 100, np.ones(20))
    sound = struck(np.random.default_rng(1), 1000, 300, hits, bodies)
    assert np.abs(sound[:200:10]) == pytest.approx(np.ones(20), abs=1e-5)
    assert {round(float(value)) for value in sound[:200:10]} == {-1, 1}
    assert np.abs(sound[200:]).max() < 1e-5


def test_bounces_come_ever_faster_and_softer() -> None:
    starts, levels = bounces(np.random.default_rng(3), 0.2, 0.3, 0.6, 12)
    assert len(starts) > 4
    assert starts[0] == 0.2
    assert levels[0] == 1.0
    assert (np.diff(np.diff(starts)) < 0).all()
    assert (np.diff(levels) < 0).all()


def test_a_body_rings_within_its_band_and_for_no_longer_than_asked() -> None:
    sound = body(np.random.default_rng(4), RATE, number=10, hz=(2000, 6000), decay_s=(0.01, 0.02), click=0.0)
    spectrum = np.abs(np.fft.rfft(sound)) ** 2
    hz = np.fft.rfftfreq(len(sound), 1 / RATE)
    assert spectrum[(hz > 1700) & (hz < 6500)].sum() > 0.95 * spectrum.sum()
    assert np.abs(sound[: RATE // 1000]).max() > 0.3
    assert np.abs(sound[int(0.08 * RATE) :]).max(initial=0.0) < 0.05


def test_a_ragged_band_is_uneven_inside_and_falls_off_outside() -> None:
    hz = np.geomspace(50, 20_000, 400)
    level = 20 * np.log10(ragged(np.random.default_rng(5), 500, 5000, 5.0)(hz))
    inside = level[(hz > 700) & (hz < 4000)]
    assert 2 < inside.std() < 9
    assert level[hz < 100].mean() < inside.mean() - 20
    flat = 20 * np.log10(ragged(np.random.default_rng(5), 500, 5000, 0.0)(hz))
    assert flat[(hz > 900) & (hz < 3000)].std() < 0.5


def test_a_level_wanders_about_one() -> None:
    drift = wander(np.random.default_rng(6), 10 * RATE, RATE, 20, 0.3)
    assert drift.min() > 0
    assert np.log(drift).mean() == pytest.approx(0.0, abs=0.1)
    assert np.abs(np.diff(drift)).max() < 0.01
