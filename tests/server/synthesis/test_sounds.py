"""Glass, clinks, steady noise and levels: what makes each what it is."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from clap_server import synthesis
from clap_server.synthesis.signal import chosen, fade, normalize
from tests.server.synthesis.measures import RATE, flatness

if TYPE_CHECKING:
    from numpy.typing import NDArray


@pytest.mark.parametrize("kind", synthesis.GLASS_KINDS)
def test_glass_breaks_broadband_at_once_and_dies_away(kind: str) -> None:
    for seed in range(5):
        samples = synthesis.glass_break(np.random.default_rng(seed), RATE, kind=kind, duration_s=1.5)
        assert len(samples) == 72_000
        assert flatness(samples[:2400]) > 0.12
        level = np.sqrt((samples.reshape(-1, 2400) ** 2).mean(axis=1))
        assert level.argmax() < 12
        assert level[-1] < 0.1 * level.max()


def test_clinks_are_tonal_where_breaks_are_not() -> None:
    def onset(samples: NDArray[np.float32]) -> NDArray[np.float32]:
        start = int(np.abs(samples).argmax())
        return samples[start : start + 2400]

    clinks = [onset(synthesis.glass_clink(np.random.default_rng(s), RATE)) for s in range(12)]
    breaks = [synthesis.glass_break(np.random.default_rng(s), RATE)[:2400] for s in range(12)]
    tonal = [flatness(clink) for clink in clinks if len(clink) == 2400]
    assert 5 * np.median(tonal) < np.median([flatness(crash) for crash in breaks])


@pytest.mark.parametrize("kind", synthesis.NOISE_KINDS)
def test_every_noise_goes_on_to_the_end(kind: str) -> None:
    samples = synthesis.noise(np.random.default_rng(5), RATE, kind=kind, duration_s=1.0)
    level = np.sqrt((samples.reshape(10, -1) ** 2).mean(axis=1))
    assert level.min() > 0.2 * level.max()


def test_kinds_are_drawn_as_often_as_told() -> None:
    rng = np.random.default_rng(0)
    drawn = [chosen(rng, None, ("a", "b", "c"), "letter", (0.75, 0.25, 0.0)) for _ in range(400)]
    assert 270 < drawn.count("a") < 330
    assert drawn.count("a") + drawn.count("b") == 400
    assert set(drawn) < {chosen(rng, None, ("a", "b", "c"), "letter") for _ in range(50)}


def test_a_kind_that_is_asked_for_draws_nothing() -> None:
    rng = np.random.default_rng(0)
    assert chosen(rng, "b", ("a", "b"), "letter") == "b"
    assert rng.random() == np.random.default_rng(0).random()


def test_silence_and_the_shortest_of_sounds_pass_through() -> None:
    assert not normalize(np.zeros(10)).any()
    assert np.array_equal(fade(np.ones(1, np.float32), RATE), np.ones(1, np.float32))
