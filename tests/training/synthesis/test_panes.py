"""Glass breaks as recordings of it do."""

from __future__ import annotations

import numpy as np
import pytest

from clap_server.synthesis import glass_clink
from tests.server.synthesis.measures import RATE, centroid, flatness, levels, loudest, share
from training import synthesis


@pytest.mark.parametrize("kind", synthesis.PANE_KINDS)
def test_a_break_is_heard_at_once_and_dies_away(kind: str) -> None:
    for seed in range(8):
        samples = synthesis.pane_break(np.random.default_rng(seed), RATE, kind=kind, duration_s=1.5)
        assert np.abs(samples[: RATE // 50]).max() > 0.005
        level = levels(samples, 0.05)
        assert level.argmax() < 20
        assert level[-1] < 0.15 * level.max()


@pytest.mark.parametrize("kind", synthesis.PANE_KINDS)
def test_a_break_is_far_more_broadband_than_glass_that_only_clinks(kind: str) -> None:
    breaks = [
        flatness(loudest(synthesis.pane_break(np.random.default_rng(s), RATE, kind=kind))) for s in range(7)
    ]
    clinks = [flatness(loudest(glass_clink(np.random.default_rng(s), RATE))) for s in range(7)]
    assert np.median(breaks) > 0.12
    assert np.median(breaks) > 5 * np.median(clinks)


def test_breaks_spread_around_what_recorded_breaks_measure() -> None:
    """Medians of 28 recorded effects of panes, bottles and glasses that break, from the onset on."""
    recorded = {"flatness": 0.31, "centroid": 5950.0, "below 500 Hz": 0.044, "time to 90 %": 0.246}
    measured: dict[str, list[float]] = {name: [] for name in recorded}
    for seed in range(40):
        samples = synthesis.pane_break(np.random.default_rng(seed), RATE)
        loud = levels(samples) ** 2
        samples = samples[int(np.argmax(loud > 0.05 * loud.max())) * RATE // 200 :]
        energy = np.cumsum(samples.astype(np.float64) ** 2)
        onset = samples[: RATE // 20]
        measured["flatness"].append(flatness(onset))
        measured["centroid"].append(centroid(onset))
        measured["below 500 Hz"].append(share(onset, 0, 500))
        measured["time to 90 %"].append(float(np.searchsorted(energy, 0.9 * energy[-1])) / RATE)
    for name, value in recorded.items():
        low, high = np.percentile(measured[name], (20, 80))
        assert low < value < high, name


def test_small_crumbs_of_tempered_glass_ring_shorter_than_a_dropped_glass() -> None:
    def tonality(kind: str) -> float:
        made = [synthesis.pane_break(np.random.default_rng(s), RATE, kind=kind) for s in range(7)]
        return float(np.median([flatness(samples[RATE // 5 : RATE // 2]) for samples in made]))

    assert tonality("tempered") > 1.5 * tonality("dropped_glass")
