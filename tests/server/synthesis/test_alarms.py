"""The alarms keep to their standards, measured on the envelope."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from clap_server import synthesis
from tests.server.synthesis.measures import RATE

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from tests.server.synthesis.measures import Maker

_FRAME_S = 0.005


def pulses(samples: NDArray[np.float32]) -> tuple[list[float], list[float]]:
    """Starts and lengths in seconds of what is louder than a tenth of the loudest 5 ms."""
    size = int(_FRAME_S * RATE)
    frames = samples[: len(samples) // size * size].reshape(-1, size)
    level = np.sqrt((frames**2).mean(axis=1))
    on = np.concatenate([[0], level > 0.1 * level.max(), [0]]).astype(int)
    starts, ends = np.flatnonzero(np.diff(on) == 1), np.flatnonzero(np.diff(on) == -1)
    return list(starts * _FRAME_S), list((ends - starts) * _FRAME_S)


@pytest.mark.parametrize("carrier_hz", [400.0, 520.0, 3100.0, 4000.0])
@pytest.mark.parametrize(
    ("maker", "starts_s", "length_s", "cycle_s"),
    [
        (synthesis.t3_alarm, [0.0, 1.0, 2.0], 0.5, 4.0),
        (synthesis.t4_alarm, [0.0, 0.2, 0.4, 0.6], 0.1, 5.7),
    ],
)
def test_pulses_come_when_the_standard_says(
    maker: Maker,
    starts_s: list[float],
    length_s: float,
    cycle_s: float,
    carrier_hz: float,
) -> None:
    samples = maker(np.random.default_rng(1), RATE, carrier_hz=carrier_hz, cycles=2)
    assert len(samples) == round(2 * cycle_s * RATE)
    starts, lengths = pulses(samples)
    assert starts == pytest.approx([*starts_s, *(cycle_s + s for s in starts_s)], abs=0.011)
    assert lengths == pytest.approx([length_s] * len(starts), abs=0.016)


@pytest.mark.parametrize("carrier_hz", [400.0, 520.0, 3100.0, 4000.0])
def test_the_carrier_is_the_one_asked_for(carrier_hz: float) -> None:
    samples = synthesis.t3_alarm(np.random.default_rng(2), RATE, carrier_hz=carrier_hz)[: RATE // 2]
    spectrum = np.abs(np.fft.rfft(samples))
    assert np.argmax(spectrum) * 2.0 == pytest.approx(carrier_hz, abs=4)


def test_carriers_drawn_by_chance_lie_between_400_and_4000_hz() -> None:
    for seed in range(60):
        samples = synthesis.t4_alarm(np.random.default_rng(seed), RATE, cycles=1)[: RATE // 10]
        spectrum = np.abs(np.fft.rfft(samples))
        loud = np.flatnonzero(spectrum > 0.2 * spectrum.max())
        assert 380 <= loud[0] * 10 <= 4050


@pytest.mark.parametrize("kind", synthesis.SIREN_KINDS)
def test_sirens_sweep(kind: str) -> None:
    samples = synthesis.siren(np.random.default_rng(3), RATE, kind=kind, duration_s=4.0)
    frames = samples[: 40 * 4800].reshape(40, 4800) * np.hanning(4800)
    peaks = np.abs(np.fft.rfft(frames, axis=1))[:, 20:].argmax(axis=1)
    assert len(set(peaks.tolist())) > 1
