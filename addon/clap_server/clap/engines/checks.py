"""Sounds on which engines are compared, and how near an engine has to come to float32."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from clap_server import synthesis

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

MIN_COSINE = 0.99
"""Of each check sound's embedding with the one in float32.

Labels are told apart by differences of cosines with texts of some 0.1. A deviation with this cosine is
0.14 long; it has no reason to point at a text, and in 512 dimensions it then moves a cosine by 0.006.
"""

MAX_DEVIATION = 0.25
"""Longest distance of an embedding from the one in float32, as a share of the median distance between two
check sounds. Some models put all sounds so near to each other that any two have a cosine over 0.99; there
the cosine alone would let through an engine that hears nothing.
"""

_CHECKS = 10
_CALIBRATION = 40
_QUIETEST_DB = -40.0
_ROOM_DBFS = -70.0


@dataclass(frozen=True, slots=True)
class Nearness:
    """How near an engine comes to float32.

    Attributes:
        cosine: the least of a check sound.
        deviation: the largest, see ``MAX_DEVIATION``.
    """

    cosine: float
    deviation: float

    @property
    def problem(self) -> str | None:
        """Why it is not near enough, in words; None if it is."""
        if self.cosine < MIN_COSINE:
            return f"its embeddings are not those of float32: cosine {self.cosine:.4f}, not {MIN_COSINE:.2f}"
        if self.deviation > MAX_DEVIATION:
            return (
                f"its embeddings lie {self.deviation:.2f} of the distance between two sounds from those of "
                f"float32, not {MAX_DEVIATION:.2f} at most"
            )
        return None


def nearness(found: NDArray[np.float32], expected: NDArray[np.float32]) -> Nearness:
    """Compare embeddings with those of float32.

    Args:
        found: ``(n, dimension)``.
        expected: the same, L2-normalised, ``n`` at least 2.
    """
    if found.shape != expected.shape or not np.isfinite(found).all():
        return Nearness(-1.0, float("inf"))
    lengths = np.linalg.norm(found, axis=1)
    cosines = (found * expected).sum(axis=1) / np.maximum(lengths, 1e-9)
    apart = np.linalg.norm(expected[:, None] - expected[None], axis=2)
    typical = float(np.median(apart[np.triu_indices(len(expected), 1)]))
    farthest = float(np.linalg.norm(found - expected, axis=1).max())
    return Nearness(float(cosines.min()), farthest / max(typical, 1e-9))


def check_sounds(sample_rate: int, window_s: float) -> list[NDArray[np.float32]]:
    """Make the windows on which engines are compared, ``(samples,)`` each, the same each time."""
    return _sounds("check", _CHECKS, sample_rate, window_s)


def calibration_sounds(sample_rate: int, window_s: float) -> list[NDArray[np.float32]]:
    """Make the windows from which a quantisation learns its ranges; none is a check sound."""
    return _sounds("calibration", _CALIBRATION, sample_rate, window_s)


_MAKERS: tuple[Callable[[np.random.Generator, int, float], NDArray[np.float32]], ...] = (
    lambda rng, rate, seconds: synthesis.noise(rng, rate, duration_s=seconds),
    lambda rng, rate, _: synthesis.glass_break(rng, rate),
    lambda rng, rate, seconds: synthesis.babble(rng, rate, duration_s=seconds),
    lambda rng, rate, _: synthesis.t3_alarm(rng, rate),
    lambda rng, rate, _: synthesis.thud(rng, rate),
    lambda rng, rate, seconds: synthesis.music(rng, rate, duration_s=seconds),
    lambda rng, rate, _: synthesis.dishes(rng, rate),
    lambda rng, rate, seconds: synthesis.siren(rng, rate, duration_s=seconds),
    lambda rng, rate, _: synthesis.explosion(rng, rate),
    lambda rng, rate, _: synthesis.keys(rng, rate),
)


def _sounds(purpose: str, count: int, sample_rate: int, window_s: float) -> list[NDArray[np.float32]]:
    """Make sounds of all kinds in turn, near and far, in a quiet room."""
    samples = round(window_s * sample_rate)
    windows = []
    for number in range(count):
        rng = np.random.default_rng([number, *purpose.encode()])
        sound = _MAKERS[number % len(_MAKERS)](rng, sample_rate, window_s)[:samples]
        window = rng.normal(0.0, 10 ** (_ROOM_DBFS / 20), samples)
        first = rng.integers(0, samples - len(sound) + 1)
        window[first : first + len(sound)] += sound * 10 ** (rng.uniform(_QUIETEST_DB, 0.0) / 20)
        windows.append(window.astype(np.float32))
    return windows
