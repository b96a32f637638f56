"""The scale of scores: what a score says is how often everyday sound would reach it.

``score = 0.7 - 0.14 log10(r)``, clipped to 0..1, where ``r`` is the number of false events a day that a
threshold here would let through. So 0.5 stands for 27 a day (about one an hour), 0.7 for one a day, 0.9 for
one in 27 days, for every label, every model and every text.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

SCORE_OF_ONE_A_DAY = 0.7
SCORE_PER_DECADE = 0.14

SOUNDING_HOURS_A_DAY = 4.0
"""Hours of sound above the gate that a day holds, until a microphone's own share is known."""


def score_of_rate(per_day: NDArray[np.float64]) -> NDArray[np.float64]:
    """From false events a day, 0 or more, to scores in 0..1."""
    with np.errstate(divide="ignore"):
        return np.clip(SCORE_OF_ONE_A_DAY - SCORE_PER_DECADE * np.log10(per_day), 0.0, 1.0)


def rate_of_score(score: float) -> float:
    """False events a day that a threshold of ``score`` promises."""
    return float(10.0 ** ((SCORE_OF_ONE_A_DAY - score) / SCORE_PER_DECADE))
