"""One clear example of each sound that can be made from numbers, to test a microphone with."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from clap_server import synthesis

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    Maker = Callable[[np.random.Generator, int], NDArray[np.float32]]

# Of most smoke alarms.
_PIEZO_HZ = 3100.0
_SEED = 1


def _pane(rng: np.random.Generator, sample_rate: int) -> NDArray[np.float32]:
    return synthesis.glass_break(rng, sample_rate, kind="pane", duration_s=1.6)


def _smoke_alarm(rng: np.random.Generator, sample_rate: int) -> NDArray[np.float32]:
    return synthesis.t3_alarm(rng, sample_rate, carrier_hz=_PIEZO_HZ, cycles=2)


def _siren(rng: np.random.Generator, sample_rate: int) -> NDArray[np.float32]:
    return synthesis.siren(rng, sample_rate, kind="yelp")


# Only sounds that are near enough to real ones for the built-in model to find.
_MAKERS: dict[str, Maker] = {
    "glass_breaking": _pane,
    "alarm": _smoke_alarm,
    "smoke_alarm": _smoke_alarm,
    "siren": _siren,
    "explosion_gunshot": synthesis.explosion,
    "metal_impact": synthesis.impact,
    "music": synthesis.music,
}
TESTABLE = tuple(_MAKERS)
"""Ids of the labels for which there is an example."""


def example(label_id: str, sample_rate: int) -> NDArray[np.float32]:
    """The same sound each time, ``(n,)``, its onset at the start.

    Raises:
        KeyError: there is none for this label.
    """
    return _MAKERS[label_id](np.random.default_rng(_SEED), sample_rate)
