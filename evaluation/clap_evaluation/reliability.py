"""Whether false alarms come as often as a threshold promises.

A threshold promises false alarms a day of ``SOUNDING_HOURS_A_DAY`` hours above the gate. So they are counted
against the hours of the recordings that are above the gate and outside the label's events, whatever silence
lies between. Decoded patterns, which no threshold decides, are left out.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from clap_evaluation.detecting import detect
from clap_evaluation.events import COLLAR_S, match
from clap_server.detection.everyday.rate import SOUNDING_HOURS_A_DAY, rate_of_score
from clap_server.detection.everyday.tail import bounds
from clap_server.detection.labels import WatchedLabel

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Self

    from clap_evaluation.scored import ScoredRecording
    from clap_server.detection.labels import Label

THRESHOLDS = tuple(round(step / 100, 2) for step in range(50, 95, 5))
"""From about one false alarm an hour to one a month."""


@dataclass(frozen=True, slots=True)
class Promise:
    """What a threshold promises for a label, and what came of it.

    Attributes:
        label_id: whose.
        threshold: a score.
        promised_per_day: false alarms a day that it stands for.
        false_alarms: that were counted.
        hours: above the gate and outside the label's events, in which they could happen.
        per_day: those that were counted, for a day of ``SOUNDING_HOURS_A_DAY``; None without hours.
        per_day_low: lower end of its exact 95 % Poisson interval (Garwood, 1936).
        per_day_high: upper end.
        kept: whether the promise lies within the interval.
    """

    label_id: str
    threshold: float
    promised_per_day: float
    false_alarms: int
    hours: float
    per_day: float | None
    per_day_low: float | None
    per_day_high: float | None
    kept: bool | None

    @classmethod
    def of(cls, label_id: str, threshold: float, false_alarms: int, hours: float) -> Self:
        """Compare what was counted with what the threshold promises."""
        promised = rate_of_score(threshold)
        if hours <= 0:
            return cls(label_id, threshold, promised, false_alarms, 0.0, None, None, None, None)
        low, high = (SOUNDING_HOURS_A_DAY * rate for rate in bounds(false_alarms, hours))
        per_day = SOUNDING_HOURS_A_DAY * false_alarms / hours
        kept = low <= promised <= high
        return cls(label_id, threshold, promised, false_alarms, hours, per_day, low, high, kept)


def reliability(
    results: Sequence[ScoredRecording], labels: Sequence[Label], thresholds: Sequence[float] = THRESHOLDS
) -> tuple[Promise, ...]:
    """Run the detector over scored recordings and count what it says where a label is not heard.

    Args:
        results: scored recordings; those from which the model's bank of everyday sound was made flatter it.
        labels: to judge; all must be among the scored.
        thresholds: to try, each for all labels at once.

    Returns:
        By label, then by threshold.

    Raises:
        ValueError: a label was not scored.
        LabelError: a threshold makes detection impossible.
    """
    hours = [sum(_free_s(result, label.id) for result in results) / 3600.0 for label in labels]
    silent = [replace(result, windows=replace(result.windows, patterns=())) for result in results]
    counts = {threshold: _false_alarms(silent, labels, threshold) for threshold in thresholds}
    return tuple(
        Promise.of(label.id, threshold, counts[threshold][place], hours[place])
        for place, label in enumerate(labels)
        for threshold in thresholds
    )


def _free_s(result: ScoredRecording, label_id: str) -> float:
    """Sound above the gate in which a detection would be a false alarm, seconds."""
    ends_s = result.windows.ends_s
    free = np.ones(len(ends_s), bool)
    for event in result.events(label_id):
        free &= (ends_s < event.onset_s - COLLAR_S) | (ends_s > event.offset_s + result.windows.window_s)
    return float(result.windows.sounding_s[free].sum())


def _false_alarms(results: Sequence[ScoredRecording], labels: Sequence[Label], threshold: float) -> list[int]:
    watched = [WatchedLabel(label, threshold) for label in labels]
    counts = [0] * len(labels)
    for result in results:
        found = detect(result.windows, watched)
        for place, label in enumerate(labels):
            own = [detection for detection in found if detection.watched.label.id == label.id]
            matching = match(result.events(label.id), own, window_s=result.windows.window_s)
            counts[place] += len(matching.false_alarms)
    return counts
