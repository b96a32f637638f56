"""How often a room's own sound reached thresholds: counted, not promised."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from clap_server.detection.everyday.evidence import evidence, maxima
from clap_server.detection.everyday.scale import BLOCK_S
from clap_server.detection.everyday.tail import bounds

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from clap_server.clap.everyday import EverydayBank
    from clap_server.detection.labels import Label
    from clap_server.detection.scoring import LabelScorer

# So much of a bank is measured in one go, so that little memory is needed.
_ROWS_AT_ONCE = 4096


@dataclass(frozen=True, slots=True)
class Count:
    """False events in everyday sound.

    Attributes:
        events: that reach a threshold.
        per_day: of them.
        low: of the exact 95 % interval of that rate (Garwood, 1936).
        high: the same.
    """

    events: int
    per_day: float
    low: float
    high: float


@dataclass(frozen=True, slots=True, eq=False)
class Reached:
    """The thresholds that a label's events in a bank reach.

    Attributes:
        scores: ``(n,)`` rising, one for each time in which anything was heard.
        hours: of sound that they are from.
        sounding_hours: of a day.
    """

    scores: NDArray[np.float64]
    hours: float
    sounding_hours: float

    def at(self, threshold: float) -> Count:
        """What a threshold would have let through."""
        events = int(len(self.scores) - np.searchsorted(self.scores, threshold, side="left"))
        low, high = bounds(events, self.hours)
        per_day = events / self.hours * self.sounding_hours
        return Count(events, per_day, low * self.sounding_hours, high * self.sounding_hours)


def reached(
    scorer: LabelScorer, labels: Sequence[Label], bank: EverydayBank, sounding_hours: float
) -> dict[str, Reached]:
    """Run the event rules over a bank; blocks for seconds if there are many labels.

    The same sound had its part in what the scores mean, so this is no test of them on something new: it says
    what would have been in the hours that are kept.

    Args:
        scorer: of these labels.
        labels: to count.
        bank: of everyday sound, not empty.
        sounding_hours: of a day.

    Returns:
        By label id, of those that the model scores.
    """
    parts = range(0, len(bank.codes), _ROWS_AT_ONCE)
    scores = np.concatenate(
        [scorer.scores(bank.embeddings(slice(start, start + _ROWS_AT_ONCE))) for start in parts]
    ).astype(np.float64)
    column = {label_id: number for number, label_id in enumerate(scorer.label_ids)}
    found = {}
    for label in labels:
        if label.prompts and label.id in column:
            values = scores[:, column[label.id]]
            decided = evidence(values, bank.ends_s, bank.recordings, label.kind, hop_s=bank.hop_s)
            highest = maxima(decided, bank.ends_s, bank.recordings, block_s=BLOCK_S)
            found[label.id] = Reached(np.sort(highest), bank.hours, sounding_hours)
    return found
