"""From a label's margins to its scores: what everyday sound does to this label decides."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from clap_server.detection.everyday.evidence import evidence, maxima
from clap_server.detection.everyday.rate import SOUNDING_HOURS_A_DAY, score_of_rate
from clap_server.detection.everyday.tail import Tail, fit_tail

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from clap_server.clap.everyday import EverydayBank
    from clap_server.detection.labels import LabelKind

BLOCK_S = 5.0
"""Events nearer than this are one: the shortest time that an impulsive event lasts."""

LEAST_BLOCKS = 220
"""With fewer, some 18 minutes of sound, nothing is said of rare sounds."""

# Cosines lie between -1 and 1, and a soft maximum adds T times the logarithm of the number of texts.
_HIGHEST_MARGIN = 4.0
_HALVINGS = 60
_TABLE_SIZE = 2049

COMMON_HOURS = 4.0
"""A room's own sound counts as much as the common bank once there is so much of it."""

UNHEARD = 1.5
"""So much more often than the common bank says is a sound reached where it was not recorded: every home has
sounds that no bank holds. Counted by leaving out one source of the shipped bank at a time
(``benchmarks/promises.py``): at 0.6 the security labels came 1.55 times as often as was promised without it.
"""


@dataclass(frozen=True, slots=True)
class ScoreScale:
    """Turns margins of one label into scores.

    Attributes:
        tails: what is known of everyday sound, each with its weight (see ``trust``).
        sounding_hours: of a day.
    """

    tails: tuple[tuple[float, Tail], ...]
    sounding_hours: float = SOUNDING_HOURS_A_DAY

    def per_day(self, margins: NDArray[np.float64]) -> NDArray[np.float64]:
        """False events a day that thresholds at these margins let through."""
        per_hour = sum(weight * tail.per_hour(margins) for weight, tail in self.tails)
        return np.asarray(self.sounding_hours * per_hour)

    def scores(self, margins: NDArray[np.float64]) -> NDArray[np.float64]:
        """Scores in 0..1; they rise with the margins."""
        return score_of_rate(self.per_day(margins))

    def table(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Rising margins and their scores, to interpolate between: what each window needs must be quick.

        The margins are closer than 0.005, so that a score is right within a few thousandths at most.
        """
        lowest = min(float(tail.body[0]) for _, tail in self.tails)
        margins = np.linspace(lowest, max(self.margin(1.0), lowest + 1e-6), _TABLE_SIZE)
        return margins, self.scores(margins)

    def margin(self, score: float) -> float:
        """The margin from which on scores are at least ``score``, between 0 and 1, by bisection."""
        low, high = -_HIGHEST_MARGIN, _HIGHEST_MARGIN
        for _ in range(_HALVINGS):
            middle = (low + high) / 2
            if self.scores(np.array([middle]))[0] >= score:
                high = middle
            else:
                low = middle
        return high


GUESS = ScoreScale(((1.0, Tail(0.0, np.array([-0.2, 0.0]), np.array([8000.0, 0.25]), 0.0, 0.013)),))
"""Until a model has its bank: as if a margin of 0 came once a day."""


def tail_of(
    margins: NDArray[np.float64], bank: EverydayBank, kept: NDArray[np.bool_], kind: LabelKind
) -> Tail | None:
    """Run the event rules over a bank and see how often they would start something.

    Args:
        margins: ``(n,)`` of a label, for each window of the bank.
        bank: of everyday sound.
        kept: ``(n,)`` which windows are everyday sound for this label.
        kind: of the label.

    Returns:
        None if too little is kept.
    """
    ends_s, recordings, kept_margins = bank.ends_s[kept], bank.recordings[kept], margins[kept]
    decided = evidence(kept_margins, ends_s, recordings, kind, hop_s=bank.hop_s)
    highest = maxima(decided, ends_s, recordings, block_s=BLOCK_S)
    # Recordings that are shorter than a sustained sound must last never could hold one.
    if np.isfinite(highest).sum() < LEAST_BLOCKS:
        return None
    return fit_tail(highest, kept_margins, float(bank.seconds[kept].sum()) / 3600.0)


def trust(tails: Sequence[Tail]) -> tuple[tuple[float, Tail], ...]:
    """How much each of a microphone's banks counts: by its hours, those of the common one up to a bound.

    Args:
        tails: of the common bank, and of the room if it has one.

    Returns:
        Each with its weight: its share of the hours, that of the common one times ``UNHEARD``.
    """
    hours = [min(tails[0].hours, COMMON_HOURS), *(tail.hours for tail in tails[1:])]
    factors = [UNHEARD, *(1.0 for _ in tails[1:])]
    return tuple(
        (factor * part / sum(hours), tail) for factor, part, tail in zip(factors, hours, tails, strict=True)
    )
