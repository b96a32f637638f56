"""What false alarms cost: found at so many an hour, and promised ones against those that were counted."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from clap_evaluation.events import event_curves, event_metrics, operating_point
from clap_evaluation.reliability import reliability

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from clap_evaluation.scored import ScoredRecording
    from clap_server.detection.labels import Label

LIMITS_PER_HOUR = (2.0, 1.0, 0.5)


def rates(
    results: Sequence[ScoredRecording], labels: Sequence[Label], unsure: Mapping[str, frozenset[str]]
) -> dict[str, Any]:
    """Judge each label on its own recordings and on the negatives alone, which are what a bank is made of.

    Args:
        results: recordings by models, and banks, that never heard them.
        labels: to judge; all must be among the scored.
        unsure: for each recording's name the labels about which it says nothing; it is no negative for these.

    Returns:
        By label id: what is found with each of ``LIMITS_PER_HOUR``, the figures at its own threshold, and
        what that threshold promises.
    """
    told: dict[str, Any] = {}
    for label in labels:
        heard = [
            result
            for result in results
            if label.id in result.label_ids
            or (not result.label_ids and label.id not in unsure.get(result.name, ()))
        ]
        (own,) = event_metrics(heard, [label])
        curve = event_curves(heard, [label])[label.id]
        (promise,) = reliability(heard, [label], [label.threshold])
        told[label.id] = {
            "events": own.events,
            "threshold": own.threshold,
            "recall": own.recall,
            "false_alarms_per_hour": own.false_alarms_per_hour,
            "at_most_per_hour": {
                str(limit): {"threshold": point.threshold, "recall": point.recall}
                for limit in LIMITS_PER_HOUR
                for point in [operating_point(curve, limit)]
            },
            "promise": asdict(promise),
        }
    return told


def rates_as_markdown(told: Mapping[str, Any]) -> list[str]:
    """The table of them for people."""
    limits = " | ".join(f"found at ≤ {limit:g} an hour" for limit in LIMITS_PER_HOUR)
    lines = [
        "False alarms in the negatives alone. Promised and counted: in a day of four hours above the gate,",
        "by banks without the sources that are judged.",
        "",
        f"| label | default | found | false alarms an hour | {limits} | promised a day | counted (95 %) |",
        "|---" * (6 + len(LIMITS_PER_HOUR)) + "|",
    ]
    for name, row in told.items():
        promise = row["promise"]
        points = " | ".join(
            f"{_number(point['recall'], 2)} at {_number(point['threshold'], 2)}"
            for point in row["at_most_per_hour"].values()
        )
        lines.append(
            f"| {name} | {row['threshold']} | {_number(row['recall'], 2)}"
            f" | {_number(row['false_alarms_per_hour'], 1)} | {points}"
            f" | {_number(promise['promised_per_day'], 1)} | {_number(promise['per_day'], 1)}"
            f" ({_number(promise['per_day_low'], 1)} to {_number(promise['per_day_high'], 1)}) |"
        )
    return lines


def _number(value: float | None, digits: int) -> str:
    return "-" if value is None else f"{value:.{digits}f}"
