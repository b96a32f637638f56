"""How many sounds are detected, how soon, and how often something else is.

An event is *hit* by a detection of its label that is decided between ``COLLAR_S`` before its onset and a
window after its offset, or that was decided for an earlier event and still hears this one. A detection that
is decided in no event's time is a *false alarm*, also if it goes on into an event: nobody looks up again
then. False alarms are counted against the hours outside the events' times, in which they could happen.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import takewhile
from typing import TYPE_CHECKING

import numpy as np

from clap_evaluation.detecting import detect
from clap_server.detection.labels import WatchedLabel

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from clap_evaluation.scored import Event, ScoredRecording
    from clap_server.detection.detector import Detection
    from clap_server.detection.labels import Label

COLLAR_S = 0.5
"""How much too late an annotated onset may be."""

THRESHOLDS = tuple(round(step / 100, 2) for step in (*range(5, 45, 5), *range(42, 92, 2), 95, 99))
"""Those of the curves: finer where a score stands for one false alarm an hour to one a month."""

PER_HOUR = 1.0
LIMITS_PER_HOUR = (2.0, PER_HOUR, 0.5, 3 / 24)
"""Of false alarms, at which recall is told; the last are 3 a day."""

_CONFIDENCE = 0.95
_HOUR_S = 3600.0


@dataclass(frozen=True, slots=True)
class EventMetrics:
    """How a label is detected at one threshold. Figures are None where there is nothing to measure.

    Attributes:
        label_id: whose.
        threshold: of the detector.
        events: that happen.
        hits: of them that were detected.
        recall: share of the events that were detected.
        recall_low: lower end of its 95 % interval (Clopper and Pearson, 1934).
        recall_high: upper end.
        false_alarms: detections where the label is not heard.
        hours: time outside the label's events.
        false_alarms_per_hour: of that time.
        false_alarms_per_hour_low: lower end of its exact 95 % Poisson interval (Garwood, 1936).
        false_alarms_per_hour_high: upper end.
        delays_s: from the onset to the end of the window that decided, of each hit of which the onset is
            known and that was not heard before it.
        delay_median_s: of them.
        delay_p95_s: 95th percentile of them.
    """

    label_id: str
    threshold: float
    events: int
    hits: int
    recall: float | None
    recall_low: float | None
    recall_high: float | None
    false_alarms: int
    hours: float
    false_alarms_per_hour: float | None
    false_alarms_per_hour_low: float | None
    false_alarms_per_hour_high: float | None
    delays_s: tuple[float, ...]
    delay_median_s: float | None
    delay_p95_s: float | None


@dataclass(frozen=True, slots=True)
class OperatingPoint:
    """The most that can be heard with no more false alarms than a limit.

    Attributes:
        label_id: whose.
        limit_per_hour: false alarms an hour that are allowed.
        enough: whether the recordings are so long that one false alarm is within the limit.
        threshold: with the highest recall of all from which on the limit is kept; None if there is none.
        recall: at that threshold.
        false_alarms_per_hour: at that threshold.
    """

    label_id: str
    limit_per_hour: float
    enough: bool
    threshold: float | None
    recall: float | None
    false_alarms_per_hour: float | None


@dataclass(slots=True)
class _Tally:
    """What was counted for a label so far."""

    events: int = 0
    hits: int = 0
    false_alarms: int = 0
    outside_s: float = 0.0
    delays_s: list[float] | None = None


@dataclass(frozen=True, slots=True)
class Matching:
    """What became of the events of a label in one recording.

    Attributes:
        hit: for each event, the detection that hit it first; None for a miss.
        false_alarms: detections that belong to no event.
    """

    hit: tuple[Detection | None, ...]
    false_alarms: tuple[Detection, ...]


def match(events: Sequence[Event], detections: Sequence[Detection], *, window_s: float) -> Matching:
    """Assign the detections of one label to its events; see the module for the rule.

    Args:
        events: of the label in a recording, by onset.
        detections: of the same, complete.
        window_s: of the model: so long may a sound be inside a window after it ended.
    """
    hit: list[Detection | None] = [None] * len(events)
    false_alarms = []
    for detection in sorted(detections, key=lambda d: d.detected_s):
        decided_s = detection.detected_s
        heard_until_s = decided_s if detection.ended_s is None else detection.ended_s
        at = [
            index
            for index, event in enumerate(events)
            if event.onset_s - COLLAR_S <= decided_s <= event.offset_s + window_s
        ]
        if not at:
            false_alarms.append(detection)
            continue
        for index in range(at[0], len(events)):
            if hit[index] is None and events[index].onset_s <= max(heard_until_s, decided_s + COLLAR_S):
                hit[index] = detection
    return Matching(tuple(hit), tuple(false_alarms))


def outside_s(events: Sequence[Event], duration_s: float, *, window_s: float) -> float:
    """The time of a recording in which a detection would be a false alarm, seconds."""
    inside, until = 0.0, 0.0
    for event in events:
        start = max(until, event.onset_s - COLLAR_S)
        end = min(duration_s, event.offset_s + window_s)
        if end > start:
            inside += end - start
            until = end
    return max(0.0, duration_s - inside)


def event_metrics(
    results: Sequence[ScoredRecording], labels: Sequence[Label], threshold: float | None = None
) -> tuple[EventMetrics, ...]:
    """Run the detector over scored recordings and compare with what happens in them.

    Args:
        results: of one model, or of several that each scored what they had not seen.
        labels: to detect; all must be among the scored.
        threshold: one for all labels; each label's own if None.

    Returns:
        One for each label, in their order.

    Raises:
        ValueError: a label was not scored.
        LabelError: a threshold makes detection impossible.
    """
    watched = [WatchedLabel(label, label.threshold if threshold is None else threshold) for label in labels]
    tallies = {label.id: _Tally(delays_s=[]) for label in labels}
    for result in results:
        found = detect(result.windows, watched)
        for label_id, tally in tallies.items():
            _count(tally, result, label_id, [d for d in found if d.watched.label.id == label_id])
    return tuple(_metrics(w.label.id, w.threshold, tallies[w.label.id]) for w in watched)


def _count(tally: _Tally, result: ScoredRecording, label_id: str, found: Sequence[Detection]) -> None:
    events = result.events(label_id)
    window_s = result.windows.window_s
    matching = match(events, found, window_s=window_s)
    tally.events += len(events)
    tally.hits += sum(detection is not None for detection in matching.hit)
    tally.false_alarms += len(matching.false_alarms)
    tally.outside_s += outside_s(events, result.duration_s, window_s=window_s)
    for event, detection in zip(events, matching.hit, strict=True):
        if detection is not None and event.heard_from_s is not None:
            delay_s = detection.detected_s - event.heard_from_s
            if delay_s >= 0 and tally.delays_s is not None:
                tally.delays_s.append(delay_s)


def _metrics(label_id: str, threshold: float, tally: _Tally) -> EventMetrics:
    hours = tally.outside_s / _HOUR_S
    low, high = recall_bounds(tally.hits, tally.events)
    rate_low, rate_high = rate_bounds(tally.false_alarms, hours)
    delays = tuple(tally.delays_s or ())
    return EventMetrics(
        label_id,
        threshold,
        tally.events,
        tally.hits,
        tally.hits / tally.events if tally.events else None,
        low,
        high,
        tally.false_alarms,
        hours,
        tally.false_alarms / hours if hours else None,
        rate_low,
        rate_high,
        delays,
        float(np.median(delays)) if delays else None,
        float(np.percentile(delays, 95)) if delays else None,
    )


def recall_bounds(hits: int, events: int) -> tuple[float | None, float | None]:
    """Exact 95 % interval of a share (Clopper and Pearson, 1934); None without events."""
    if not events:
        return None, None
    from scipy.stats import binomtest

    interval = binomtest(hits, events).proportion_ci(_CONFIDENCE)
    return float(interval.low), float(interval.high)


def rate_bounds(count: int, hours: float) -> tuple[float | None, float | None]:
    """Exact 95 % interval of a Poisson rate per hour (Garwood, 1936); None without time."""
    if hours <= 0:
        return None, None
    from scipy.stats import chi2

    tail = (1 - _CONFIDENCE) / 2
    low = float(chi2.ppf(tail, 2 * count)) / 2 if count else 0.0
    return low / hours, float(chi2.ppf(1 - tail, 2 * count + 2)) / 2 / hours


def event_curves(
    results: Sequence[ScoredRecording], labels: Sequence[Label], thresholds: Sequence[float] = THRESHOLDS
) -> dict[str, tuple[EventMetrics, ...]]:
    """Recall against false alarms: ``event_metrics`` with each threshold.

    Each label is watched alone: where impacts compete, what one finds would depend on which others are there.

    Returns:
        By label, in the order of the thresholds.
    """
    return {
        label.id: tuple(event_metrics(results, [label], threshold)[0] for threshold in thresholds)
        for label in labels
    }


def _keeps(point: EventMetrics, limit_per_hour: float) -> bool:
    rate = point.false_alarms_per_hour
    return rate is not None and rate <= limit_per_hour


def operating_point(curve: Sequence[EventMetrics], limit_per_hour: float) -> OperatingPoint:
    """The best point of a label's curve that keeps within a limit, as all higher thresholds do.

    Args:
        curve: of ``event_curves``, by rising threshold.
        limit_per_hour: false alarms an hour that are allowed.
    """
    within = list(takewhile(lambda point: _keeps(point, limit_per_hour), reversed(curve)))
    best = max(within, key=lambda point: (point.recall or 0.0, point.threshold), default=None)
    return OperatingPoint(
        curve[0].label_id,
        limit_per_hour,
        curve[0].hours * limit_per_hour >= 1,
        best.threshold if best else None,
        best.recall if best else None,
        best.false_alarms_per_hour if best else None,
    )


def shared_operating_point(
    curves: Mapping[str, Sequence[EventMetrics]], limit_per_hour: float
) -> tuple[EventMetrics, ...] | None:
    """Every label at the lowest one threshold from which on each keeps within the limit.

    Args:
        curves: of ``event_curves``, by rising threshold.
        limit_per_hour: false alarms an hour that each label may have.

    Returns:
        The labels' figures there; None if there is no such threshold.
    """
    thresholds = reversed(list(zip(*curves.values(), strict=True)))
    within = list(takewhile(lambda points: all(_keeps(p, limit_per_hour) for p in points), thresholds))
    return within[-1] if within else None
