"""Tones and calls that are no alarms, and splashes that are no explosions."""

from __future__ import annotations

import numpy as np
import pytest

from tests.server.synthesis.measures import (
    RATE,
    centroid,
    flatness,
    levels,
    made,
    period_s,
    pitch_hz,
    power,
    share,
)
from training import synthesis


def test_a_glass_that_is_rubbed_or_bowed_sings_one_steady_note() -> None:
    for kind in ("rubbed", "bowed"):
        for samples in made(synthesis.singing_glass, kind=kind, duration_s=2.0):
            first, later = (pitch_hz(samples[at : at + 4800], 100, 2500) for at in (24_000, 40_000))
            assert later == pytest.approx(first, rel=0.05)
            hz, spectrum = power(samples)
            strongest = float(hz[np.argmax(spectrum)])
            assert share(samples, 0.98 * strongest, 1.02 * strongest) > 0.3


def test_a_rubbed_glass_swells_four_times_a_turn() -> None:
    for samples in made(synthesis.singing_glass, kind="rubbed", duration_s=4.0):
        assert 1 / 18 < period_s(samples, 0.05, 0.6) < 1 / 3


def test_a_struck_bowl_dies_away() -> None:
    """The second strike comes after 0.8 s at the earliest."""
    strikes = made(synthesis.singing_glass, kind="struck", duration_s=0.75)
    falls = [np.divide(*levels(samples, 0.25)[[2, 0]]) for samples in strikes]
    assert np.median(falls) < 0.8


@pytest.mark.parametrize("kind", ["lips", "flute"])
def test_a_tune_has_several_notes_and_hardly_any_noise(kind: str) -> None:
    for samples in made(synthesis.whistling, kind=kind, duration_s=4.0):
        frames = [samples[at : at + 4800] for at in range(0, len(samples) - 4800, 4800)]
        loud = [frame for frame in frames if np.abs(frame).max() > 0.2]
        notes = {round(12 * np.log2(pitch_hz(frame, 200, 4000) / 440)) for frame in loud}
        assert len(notes) >= 3
        assert np.median([flatness(frame) for frame in loud]) < 0.1


def test_birds_sing_higher_than_beasts_growl() -> None:
    birds = [centroid(samples) for samples in made(synthesis.bird_calls, kind="song")]
    beasts = [centroid(samples) for samples in made(synthesis.animal_calls, kind="growl")]
    assert min(birds) > 1500
    assert np.median(beasts) < 1500
    assert max(beasts) < np.median(birds)


def test_beasts_begin_softly_as_no_explosion_does() -> None:
    for seed in range(6):
        samples = synthesis.animal_calls(np.random.default_rng(seed), RATE, kind="growl", duration_s=0.4)
        level = levels(samples, 0.005)
        assert np.argmax(level) * 0.005 > 0.03


def test_water_splashes_at_once_and_falls_back() -> None:
    for samples in made(synthesis.splash, duration_s=3.0):
        level = levels(samples, 0.02)
        assert level[:5].max() > 3 * np.median(level)
        assert np.median(level) < 0.25 * level.max()
