"""More sounds made from nothing but numbers, which only training needs; see ``clap_server.synthesis``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from clap_server import synthesis as shared
from training.synthesis.animals import BEAST_KINDS, BIRD_KINDS, animal_calls, bird_calls
from training.synthesis.blows import TAP_KINDS, chair_scrape, hammering, tap_on_glass
from training.synthesis.kitchen import CUPBOARD_KINDS, STOVE_KINDS, chopping, cupboard, dishwashing, stove
from training.synthesis.panes import PANE_KINDS, pane_break
from training.synthesis.percussion import CHIME_KINDS, CYMBAL_KINDS, chimes, cymbals
from training.synthesis.sounders import (
    HORN_KINDS,
    REVERSING_KINDS,
    SOUNDER_KINDS,
    bell_alarm,
    car_alarm,
    horn_alarm,
    reversing_beeps,
    sounder_alarm,
)
from training.synthesis.textures import CRINKLE_KINDS, applause, crinkle, frying, pouring, splash
from training.synthesis.tones import SINGING_KINDS, WHISTLE_KINDS, singing_glass, whistling

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy as np
    from numpy.typing import NDArray

__all__ = [
    "BEAST_KINDS",
    "BIRD_KINDS",
    "CHIME_KINDS",
    "CRINKLE_KINDS",
    "CUPBOARD_KINDS",
    "CYMBAL_KINDS",
    "HORN_KINDS",
    "PANE_KINDS",
    "REVERSING_KINDS",
    "SINGING_KINDS",
    "SOUNDER_KINDS",
    "STOVE_KINDS",
    "TAP_KINDS",
    "WHISTLE_KINDS",
    "animal_calls",
    "applause",
    "bell_alarm",
    "bird_calls",
    "car_alarm",
    "chair_scrape",
    "chimes",
    "chopping",
    "crinkle",
    "cupboard",
    "cymbals",
    "dishwashing",
    "frying",
    "hammering",
    "horn_alarm",
    "maker",
    "pane_break",
    "pouring",
    "reversing_beeps",
    "singing_glass",
    "sounder_alarm",
    "splash",
    "stove",
    "tap_on_glass",
    "whistling",
]


def maker(name: str) -> Callable[..., NDArray[np.float32]]:
    """The maker of that name, be it one of these or the server's."""
    found: Callable[..., NDArray[np.float32]] = globals().get(name) or getattr(shared, name)
    return found
