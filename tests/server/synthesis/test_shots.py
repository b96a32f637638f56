"""Shots, explosions and fireworks: what makes each what it is."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from clap_server import synthesis
from clap_server.synthesis.shots import friedlander
from tests.server.synthesis.measures import RATE, flatness, levels, loudest, made, period_s, share

if TYPE_CHECKING:
    from numpy.typing import NDArray


@pytest.mark.parametrize("positive_s", [0.0005, 0.002, 0.01])
def test_a_blast_follows_friedlander(positive_s: float) -> None:
    wave = friedlander(RATE, positive_s)
    crossing = round(positive_s * RATE)
    assert wave[0] == 1.0
    assert (np.diff(wave[:crossing]) < 0).all()
    assert wave[crossing - 1] > 0 > wave[crossing + 1]
    # With b = 1 suction makes up for the pressure: the wave has no net area.
    assert abs(wave.sum()) < 0.6 + 0.01 * np.abs(wave).sum()
    assert abs(wave[-1]) < 1e-3


@pytest.mark.parametrize("kind", synthesis.GUN_KINDS)
def test_a_shot_starts_steeply_and_is_broadband(kind: str) -> None:
    sounds = made(synthesis.gunshot, kind=kind)
    assert np.median([flatness(loudest(samples)) for samples in sounds]) > 0.015
    for samples in sounds:
        front = np.abs(samples[: RATE // 10])
        assert front.max() > 0.3
        assert np.argmax(front > 0.5 * front.max()) - np.argmax(front > 0.1 * front.max()) < 0.06 * RATE
        assert share(loudest(samples), 0, 4000) > 0.5


def test_an_automatic_weapon_fires_550_to_1100_rounds_a_minute() -> None:
    gaps = [
        period_s(samples[: RATE // 3], 0.045, 0.13) for samples in made(synthesis.gunshot, kind="automatic")
    ]
    assert 60 / 1200 < np.median(gaps) < 60 / 500


def _decay_s(samples: NDArray[np.float32]) -> float:
    """Time from the loudest 10 ms until they are 20 dB down for good."""
    level = levels(samples, 0.01)
    return float(np.flatnonzero(level > 0.1 * level.max())[-1] - np.argmax(level)) * 0.01


def _spread(values: list[float]) -> tuple[float, float]:
    low, high = np.quantile(values, (0.1, 0.9))
    return float(low), float(high)


def test_shots_are_dry_or_boom_and_thump_or_crack_as_recorded_ones_do() -> None:
    shots = [synthesis.gunshot(np.random.default_rng(seed), RATE) for seed in range(60)]
    # Of 46 recorded ones a tenth have 1 % of their power below 150 Hz and a tenth 90 %.
    low, high = _spread([share(loudest(samples, 0.1), 0, 150) for samples in shots])
    assert low < 0.05
    assert high > 0.4
    low, high = _spread([share(loudest(samples, 0.1), 4000, 24000) for samples in shots])
    assert low < 0.01
    assert high > 0.1


def test_explosions_are_dull_and_from_a_pop_to_a_rumble() -> None:
    sounds = [synthesis.explosion(np.random.default_rng(seed), RATE) for seed in range(60)]
    # Recorded ones are 20 dB down after 0.1 to 2 s, half of them are loudest below 150 Hz.
    short, long = _spread([_decay_s(samples) for samples in sounds])
    assert short < 0.4
    assert long > 1.2
    assert np.median([share(loudest(samples, 0.1), 0, 500) for samples in sounds]) > 0.5
    assert np.median([share(loudest(samples, 0.1), 4000, 24000) for samples in sounds]) < 0.05
    # The blast comes first, within what a small explosion's roar takes to rise.
    assert np.median([np.argmax(levels(samples, 0.01)) for samples in sounds]) < 10


def test_fireworks_are_loud_for_moments_only() -> None:
    for samples in made(synthesis.fireworks):
        level = levels(samples, 0.02)
        assert np.median(level) < 0.3 * level.max()
