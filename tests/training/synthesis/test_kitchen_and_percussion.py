"""Percussion, kitchens and friction: what makes each what it is."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from tests.server.synthesis.measures import (
    RATE,
    centroid,
    flatness,
    kurtosis,
    levels,
    loudest,
    made,
    period_s,
    share,
)
from training import synthesis

if TYPE_CHECKING:
    from tests.server.synthesis.measures import Maker


@pytest.mark.parametrize("kind", synthesis.CHIME_KINDS)
def test_chimes_ring_in_tones(kind: str) -> None:
    assert (
        np.median([flatness(loudest(samples, 0.2)) for samples in made(synthesis.chimes, kind=kind)]) < 0.05
    )


@pytest.mark.parametrize("kind", synthesis.CYMBAL_KINDS)
def test_cymbals_are_noise_with_treble(kind: str) -> None:
    for samples in made(synthesis.cymbals, kind=kind):
        assert flatness(samples[: RATE // 10]) > 0.05
        assert share(samples[: RATE // 3], 3000, 24000) > (0.03 if kind == "kit" else 0.35)


def test_a_crash_rings_on_where_a_hi_hat_is_shut() -> None:
    def left_after_half_a_beat(kind: str) -> float:
        values = []
        for samples in made(synthesis.cymbals, kind=kind, duration_s=1.0):
            level = levels(samples, 0.02)
            values.append(level[5:].min() / level[:3].max())
        return float(np.median(values))

    assert left_after_half_a_beat("crash") > 5 * left_after_half_a_beat("hihat")


@pytest.mark.parametrize(
    ("maker", "clicks"), [(synthesis.crinkle, 6.0), (synthesis.frying, 3.5), (synthesis.applause, 3.0)]
)
def test_textures_are_broadband_and_made_of_clicks(maker: Maker, clicks: float) -> None:
    sounds = made(maker)
    assert np.median([flatness(samples) for samples in sounds]) > 0.1
    assert np.median([kurtosis(samples) for samples in sounds]) > clicks


def test_frying_and_bags_are_brighter_than_applause() -> None:
    def brightness(maker: Maker, **options: object) -> float:
        return float(np.median([centroid(samples) for samples in made(maker, **options)]))

    applause = brightness(synthesis.applause)
    assert brightness(synthesis.frying) > 1.5 * applause
    assert brightness(synthesis.crinkle, kind="bag") > 1.5 * applause


def test_water_runs_without_a_break() -> None:
    for samples in made(synthesis.pouring):
        level = levels(samples, 0.1)[2:-2]
        assert level.min() > 0.15 * level.max()


@pytest.mark.parametrize("kind", synthesis.CUPBOARD_KINDS)
def test_cupboards_and_drawers_thud_low_and_short(kind: str) -> None:
    sounds = made(synthesis.cupboard, kind=kind)
    assert np.median([share(loudest(samples), 0, 1500) for samples in sounds]) > 0.7
    assert np.median([np.median(levels(s, 0.02)) / levels(s, 0.02).max() for s in sounds]) < 0.1


def test_washing_up_lasts_and_rings_over_the_water() -> None:
    for samples in made(synthesis.dishwashing):
        assert len(samples) == 6 * RATE
        level = levels(samples, 0.5)
        assert (level > 0.05 * level.max()).mean() > 0.5
        assert kurtosis(samples) > 4


@pytest.mark.parametrize(
    ("maker", "shortest_s", "longest_s"),
    [(synthesis.chopping, 0.12, 0.52), (synthesis.hammering, 0.24, 0.69)],
)
def test_chopping_and_hammering_keep_a_pace(maker: Maker, shortest_s: float, longest_s: float) -> None:
    for samples in made(maker, duration_s=4.0):
        # Half and twice the range: the period found must fall inside by itself.
        assert shortest_s <= period_s(samples, shortest_s / 2, longest_s) <= longest_s
        assert kurtosis(samples) > 6


def test_a_gas_stove_clicks_regularly() -> None:
    for samples in made(synthesis.stove, kind="igniter"):
        # The second difference leaves the sparks and takes the flame's low roar away.
        level = levels(np.diff(samples, 2), 0.005)
        clicks = np.flatnonzero(np.diff((level > 0.3 * level.max()).astype(int)) == 1) * 0.005
        gaps = np.diff(clicks)
        assert len(clicks) >= 3
        assert 1 / 9.5 < gaps.mean() < 1 / 2.4
        assert np.ptp(gaps) <= 0.011


def test_a_lid_rings_longer_than_a_pan_that_is_set_down() -> None:
    def ringing(kind: str) -> float:
        return float(
            np.median(
                [
                    (levels(s, 0.02) > 0.03 * levels(s, 0.02).max()).mean()
                    for s in made(synthesis.stove, kind=kind)
                ]
            )
        )

    assert ringing("lid") > 1.5 * ringing("pan")


def test_knuckles_on_a_pane_are_duller_than_a_nail_and_nothing_falls_after() -> None:
    def brightness(kind: str) -> float:
        return float(np.median([centroid(loudest(s)) for s in made(synthesis.tap_on_glass, kind=kind)]))

    assert brightness("knuckle") < 0.7 * brightness("nail")
    for samples in made(synthesis.tap_on_glass):
        level = levels(samples, 0.02)
        assert np.median(level) < 0.05 * level.max()


def test_a_chair_scrapes_in_pushes_of_middle_pitch() -> None:
    for samples in made(synthesis.chair_scrape):
        level = levels(samples, 0.05)
        assert 0.15 < (level > 0.1 * level.max()).mean() <= 1
        assert share(samples, 50, 9000) > 0.9
