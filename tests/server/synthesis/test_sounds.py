"""All makers: shape, level, reproducibility, and what makes each what it is."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from clap_server import synthesis
from clap_server.synthesis.signal import fade, normalize

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    Maker = Callable[..., NDArray[np.float32]]

RATE = 48_000
MAKERS: list[Maker] = [
    synthesis.appliance_beeps,
    synthesis.babble,
    synthesis.buzzer_alarm,
    synthesis.coins,
    synthesis.cutlery,
    synthesis.dishes,
    synthesis.explosion,
    synthesis.glass_break,
    synthesis.glass_clink,
    synthesis.impact,
    synthesis.keys,
    synthesis.music,
    synthesis.noise,
    synthesis.ringtone,
    synthesis.siren,
    synthesis.t3_alarm,
    synthesis.t4_alarm,
    synthesis.thud,
]


def flatness(samples: NDArray[np.float32]) -> float:
    """Geometric over arithmetic mean of the power between 1 and 12 kHz: 1 is noise, 0 a tone."""
    spectrum = np.abs(np.fft.rfft(samples * np.hanning(len(samples)))) ** 2
    hz = np.fft.rfftfreq(len(samples), 1 / RATE)
    kept = spectrum[(hz > 1000) & (hz < 12000)] + 1e-12
    return float(np.exp(np.log(kept).mean()) / kept.mean())


@pytest.mark.parametrize("maker", MAKERS, ids=lambda maker: maker.__name__)
def test_sounds_are_mono_float32_at_a_sane_level_and_the_same_for_a_seed(maker: Maker) -> None:
    for seed in range(3):
        samples = maker(np.random.default_rng(seed), RATE)
        assert samples.dtype == np.float32
        assert samples.ndim == 1
        assert np.isfinite(samples).all()
        assert np.abs(samples).max() == pytest.approx(0.7, abs=0.001)
        assert np.array_equal(samples, maker(np.random.default_rng(seed), RATE))
    assert not np.array_equal(samples, maker(np.random.default_rng(99), RATE))


@pytest.mark.parametrize("maker", MAKERS, ids=lambda maker: maker.__name__)
def test_sounds_can_be_had_at_other_sample_rates(maker: Maker) -> None:
    low, high = maker(np.random.default_rng(4), 16_000), maker(np.random.default_rng(4), RATE)
    assert np.abs(low).max() == pytest.approx(0.7, abs=0.001)
    assert 0 < len(low) < len(high)


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


def test_unknown_noise_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match=r"purple.*white"):
        synthesis.noise(np.random.default_rng(0), kind="purple")


def test_silence_and_the_shortest_of_sounds_pass_through() -> None:
    assert not normalize(np.zeros(10)).any()
    assert np.array_equal(fade(np.ones(1, np.float32), RATE), np.ones(1, np.float32))
