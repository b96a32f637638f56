"""What every maker promises: shape, level, reproducibility and kinds."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from clap_server import synthesis
from tests.server.synthesis.measures import RATE
from training import synthesis as workshop

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from tests.server.synthesis.measures import Maker


def t3_alarm(rng: np.random.Generator, rate: int, duration_s: float) -> NDArray[np.float32]:
    """The start of one, whose own length is counted in cycles."""
    return synthesis.t3_alarm(rng, rate)[: int(duration_s * rate)]


def t4_alarm(rng: np.random.Generator, rate: int, duration_s: float) -> NDArray[np.float32]:
    return synthesis.t4_alarm(rng, rate)[: int(duration_s * rate)]


MAKERS: list[Maker] = [
    workshop.animal_calls,
    workshop.applause,
    synthesis.appliance_beeps,
    synthesis.babble,
    workshop.bell_alarm,
    synthesis.buzzer_alarm,
    workshop.bird_calls,
    workshop.car_alarm,
    workshop.chair_scrape,
    workshop.chimes,
    workshop.chopping,
    synthesis.coins,
    workshop.crinkle,
    workshop.cupboard,
    synthesis.cutlery,
    workshop.cymbals,
    synthesis.dishes,
    workshop.dishwashing,
    synthesis.explosion,
    synthesis.fireworks,
    workshop.frying,
    synthesis.glass_break,
    synthesis.glass_clink,
    synthesis.gunshot,
    workshop.hammering,
    workshop.horn_alarm,
    synthesis.impact,
    synthesis.keys,
    synthesis.music,
    synthesis.noise,
    workshop.pane_break,
    workshop.pouring,
    workshop.reversing_beeps,
    synthesis.ringtone,
    workshop.singing_glass,
    synthesis.siren,
    workshop.sounder_alarm,
    workshop.splash,
    workshop.stove,
    t3_alarm,
    t4_alarm,
    workshop.tap_on_glass,
    synthesis.thud,
    workshop.whistling,
]
KINDS: list[tuple[Maker, tuple[str, ...]]] = [
    (workshop.animal_calls, workshop.BEAST_KINDS),
    (workshop.bird_calls, workshop.BIRD_KINDS),
    (workshop.chimes, workshop.CHIME_KINDS),
    (workshop.crinkle, workshop.CRINKLE_KINDS),
    (workshop.cupboard, workshop.CUPBOARD_KINDS),
    (workshop.cymbals, workshop.CYMBAL_KINDS),
    (synthesis.glass_break, synthesis.GLASS_KINDS),
    (synthesis.gunshot, synthesis.GUN_KINDS),
    (workshop.horn_alarm, workshop.HORN_KINDS),
    (synthesis.noise, synthesis.NOISE_KINDS),
    (workshop.pane_break, workshop.PANE_KINDS),
    (workshop.reversing_beeps, workshop.REVERSING_KINDS),
    (workshop.singing_glass, workshop.SINGING_KINDS),
    (synthesis.siren, synthesis.SIREN_KINDS),
    (workshop.sounder_alarm, workshop.SOUNDER_KINDS),
    (workshop.stove, workshop.STOVE_KINDS),
    (workshop.tap_on_glass, workshop.TAP_KINDS),
    (workshop.whistling, workshop.WHISTLE_KINDS),
]


@pytest.mark.parametrize("maker", MAKERS, ids=lambda maker: maker.__name__)
def test_sounds_are_mono_float32_at_a_sane_level_and_the_same_for_a_seed(maker: Maker) -> None:
    for seed in range(3):
        samples = maker(np.random.default_rng(seed), RATE, duration_s=1.5)
        assert samples.dtype == np.float32
        assert samples.shape == (72_000,)
        assert np.isfinite(samples).all()
        assert np.abs(samples).max() == pytest.approx(0.7, abs=0.001)
        assert np.array_equal(samples, maker(np.random.default_rng(seed), RATE, duration_s=1.5))
    assert not np.array_equal(samples, maker(np.random.default_rng(99), RATE, duration_s=1.5))


@pytest.mark.parametrize("maker", MAKERS, ids=lambda maker: maker.__name__)
def test_sounds_can_be_had_at_other_sample_rates(maker: Maker) -> None:
    for rate in (16_000, 44_100):
        samples = maker(np.random.default_rng(4), rate, duration_s=1.0)
        assert samples.shape == (rate,)
        assert np.abs(samples).max() == pytest.approx(0.7, abs=0.001)


@pytest.mark.parametrize(("maker", "kinds"), KINDS, ids=lambda value: getattr(value, "__name__", ""))
def test_kinds_differ_and_unknown_ones_are_refused_by_name(maker: Maker, kinds: tuple[str, ...]) -> None:
    made = [maker(np.random.default_rng(5), RATE, kind=kind, duration_s=2.0) for kind in kinds]
    assert all(np.abs(samples).max() == pytest.approx(0.7, abs=0.001) for samples in made)
    assert len({samples.tobytes() for samples in made}) == len(kinds)
    with pytest.raises(ValueError, match=rf"nonsense.*{kinds[0]}"):
        maker(np.random.default_rng(5), kind="nonsense")


@pytest.mark.parametrize("maker", MAKERS, ids=lambda maker: maker.__name__)
def test_even_a_short_stretch_is_never_silent(maker: Maker) -> None:
    for seed in range(5, 10):
        samples = maker(np.random.default_rng(seed + 1000), 16_000, duration_s=0.37)
        assert samples.shape == (5920,)
        assert np.abs(samples).max() == pytest.approx(0.7, abs=0.001)
