"""Animals: birds, which whistle and crow, and beasts, which growl, snort and bleat."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from clap_server.synthesis.grains import ragged, wander
from clap_server.synthesis.signal import (
    SAMPLE_RATE,
    add_at,
    band,
    chosen,
    fade,
    filtered,
    log_uniform,
    normalize,
    shaped_noise,
    tone,
    unit_peak,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

BIRD_KINDS = ("song", "trill", "crow", "gull")
BEAST_KINDS = ("growl", "snort", "bleat", "howl")


def _harmonics(rng: np.random.Generator, number: int, fall: float) -> tuple[float, ...]:
    """Levels of harmonics that fall off as a power of their number, unevenly."""
    levels = np.arange(1, number + 1) ** -fall * rng.lognormal(0.0, 0.5, number)
    return tuple(float(level) for level in levels)


def _swelling(count: int, rise: float) -> NDArray[np.float64]:
    """A level that goes up softly for a part ``rise`` of its time and down for the rest."""
    steps = np.linspace(0, 1, count)
    return np.minimum((steps / rise) ** 2, (1 - steps) / (1 - rise))


def _song(rng: np.random.Generator, sample_rate: int) -> NDArray[np.float32]:
    """A syllable of a songbird: a nearly pure whistle that glides.

    N. H. Fletcher, "Acoustic Systems in Biology", 1992.
    """
    count = int(float(log_uniform(rng, 0.03, 0.4)) * sample_rate)
    steps = np.linspace(0, 1, count)
    pitch = float(log_uniform(rng, 1500, 7000)) * 2 ** (
        rng.uniform(-0.8, 0.8) * steps
        + rng.uniform(-0.3, 0.3) * np.sin(2 * np.pi * rng.uniform(1, 12) * steps)
    )
    return tone(pitch, count, sample_rate, (1.0, rng.uniform(0.0, 0.2))) * _swelling(count, 0.3).astype(
        np.float32
    )


def _trill(rng: np.random.Generator, sample_rate: int) -> NDArray[np.float32]:
    """The same syllable, many times in a row."""
    one = _song(rng, sample_rate)[: int(0.12 * sample_rate)]
    gap = int(len(one) * rng.uniform(1.0, 2.0)) + 1
    times = int(rng.integers(4, 20))
    row = np.zeros(gap * times, np.float32)
    for index in range(times):
        add_at(row, index * gap, one)
    return row


def _cry(
    rng: np.random.Generator, sample_rate: int, length_s: float, hz: tuple[float, float], bend: float
) -> NDArray[np.float32]:
    """A harsh call with many harmonics, through the resonances of a throat."""
    count = int(length_s * sample_rate)
    arch = np.sin(np.pi * np.linspace(0, 1, count) ** rng.uniform(0.5, 1.5))
    pitch = (
        float(log_uniform(rng, *hz)) * 2 ** (bend * (arch - 1)) * wander(rng, count, sample_rate, 30, 0.01)
    )
    voice = tone(pitch, count, sample_rate, _harmonics(rng, 14, rng.uniform(0.2, 1.0)))
    rough = 1 + np.float32(rng.uniform(0.0, 0.6)) * tone(rng.uniform(30, 90), count, sample_rate)
    breath = shaped_noise(rng, count, sample_rate, band(1000, 7000, 1.0))
    voice = unit_peak(voice) * rough + np.float32(rng.uniform(0.01, 0.1)) * breath
    throat = ragged(rng, rng.uniform(200, 700), rng.uniform(3000, 8000), 6)
    return filtered(voice * _swelling(count, rng.uniform(0.05, 0.4)), sample_rate, throat)


def _crow(rng: np.random.Generator, sample_rate: int) -> NDArray[np.float32]:
    """A cock: two or three short syllables, then a long one."""
    parts = [
        _cry(rng, sample_rate, rng.uniform(0.1, 0.3), (400, 800), 0.3) for _ in range(int(rng.integers(1, 4)))
    ]
    parts.append(_cry(rng, sample_rate, rng.uniform(0.6, 1.3), (500, 1000), rng.uniform(0.2, 0.7)))
    return np.concatenate(parts)


def _gull(rng: np.random.Generator, sample_rate: int) -> NDArray[np.float32]:
    """A gull: falling cries in a row."""
    parts = []
    for _ in range(int(rng.integers(1, 7))):
        parts.append(_cry(rng, sample_rate, rng.uniform(0.12, 0.6), (700, 1900), rng.uniform(0.1, 0.8)))
        parts.append(np.zeros(int(rng.uniform(0.02, 0.15) * sample_rate), np.float32))
    return np.concatenate(parts)


def _growl(rng: np.random.Generator, sample_rate: int) -> NDArray[np.float32]:
    """A rough low rumble: pulses of the vocal folds, uneven in time and strength, through a long throat."""
    count = int(float(log_uniform(rng, 0.4, 2.5)) * sample_rate)
    rate = float(log_uniform(rng, 22, 110)) * wander(rng, count, sample_rate, 6, 0.15)
    pulses = np.diff(
        np.floor(np.cumsum(rate * wander(rng, count, sample_rate, 60, 0.12)) / sample_rate), prepend=0.0
    )
    pulses *= wander(rng, count, sample_rate, 60, 0.4)
    breath = rng.uniform(0.01, 0.06) * rng.standard_normal(count)
    throat = ragged(rng, rng.uniform(60, 250), float(log_uniform(rng, 700, 3500)), 6)
    return filtered((pulses + breath) * _swelling(count, rng.uniform(0.1, 0.5)), sample_rate, throat)


def _snort(rng: np.random.Generator, sample_rate: int) -> NDArray[np.float32]:
    """Air blown through the nostrils: noise that comes on softly and flutters."""
    count = int(float(log_uniform(rng, 0.15, 0.9)) * sample_rate)
    air = shaped_noise(rng, count, sample_rate, ragged(rng, rng.uniform(80, 500), rng.uniform(1500, 7000), 5))
    flutter = 1 + np.float32(rng.uniform(0.0, 0.9)) * tone(rng.uniform(15, 40), count, sample_rate)
    return air * flutter * _swelling(count, rng.uniform(0.15, 0.5)).astype(np.float32)


def _bleat(rng: np.random.Generator, sample_rate: int) -> NDArray[np.float32]:
    """Sheep, goats, cows: a voice that trembles or bends."""
    return _cry(rng, sample_rate, float(log_uniform(rng, 0.3, 1.8)), (90, 500), rng.uniform(0.0, 0.5))


def _howl(rng: np.random.Generator, sample_rate: int) -> NDArray[np.float32]:
    """Wolves, coyotes, whining dogs: a long call with few harmonics that rises and falls."""
    count = int(float(log_uniform(rng, 0.5, 3.0)) * sample_rate)
    steps = np.linspace(0, 1, count)
    pitch = float(log_uniform(rng, 300, 1000)) * 2 ** (
        rng.uniform(0.1, 0.7) * (np.sin(np.pi * steps**0.6) - 1)
    )
    pitch *= wander(rng, count, sample_rate, 8, 0.01)
    voice = tone(pitch, count, sample_rate, _harmonics(rng, 5, rng.uniform(1.0, 2.5)))
    return voice * _swelling(count, rng.uniform(0.1, 0.4)).astype(np.float32)


def _calls(
    rng: np.random.Generator,
    sample_rate: int,
    count: int,
    call: Callable[[np.random.Generator, int], NDArray[np.float32]],
    pause_s: tuple[float, float],
) -> NDArray[np.float32]:
    """Calls with pauses between them."""
    sound = np.zeros(count, np.float32)
    place = 0
    while place < count:
        one = unit_peak(call(rng, sample_rate))
        add_at(sound, place, fade(one, sample_rate, 0.004) * rng.uniform(0.4, 1.0))
        place += len(one) + int(float(log_uniform(rng, *pause_s)) * sample_rate)
    return normalize(fade(sound, sample_rate, 0.002))


def bird_calls(
    rng: np.random.Generator,
    sample_rate: int = SAMPLE_RATE,
    *,
    kind: str | None = None,
    duration_s: float = 4.0,
) -> NDArray[np.float32]:
    """Songbirds, a cock or gulls.

    The first call is at the start.
    """
    name = chosen(rng, kind, BIRD_KINDS, "bird", (0.3, 0.2, 0.2, 0.3))
    call = {"song": _song, "trill": _trill, "crow": _crow, "gull": _gull}[name]
    pause_s = (0.02, 0.6) if name == "song" else (0.2, 2.0)
    return _calls(rng, sample_rate, int(duration_s * sample_rate), call, pause_s)


def animal_calls(
    rng: np.random.Generator,
    sample_rate: int = SAMPLE_RATE,
    *,
    kind: str | None = None,
    duration_s: float = 4.0,
) -> NDArray[np.float32]:
    """Beasts that growl, snort, bleat or howl.

    The first call is at the start.
    """
    name = chosen(rng, kind, BEAST_KINDS, "beast", (0.35, 0.25, 0.2, 0.2))
    call = {"growl": _growl, "snort": _snort, "bleat": _bleat, "howl": _howl}[name]
    return _calls(rng, sample_rate, int(duration_s * sample_rate), call, (0.1, 2.0))
