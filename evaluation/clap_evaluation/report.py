"""Results for people and for programs."""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any

from clap_evaluation.conditions import CONDITIONS, NEAR_SNR_DB, TIMED_CONDITIONS
from clap_evaluation.events import LIMITS_PER_HOUR, PER_HOUR
from clap_evaluation.reliability import THRESHOLDS
from clap_server.detection.everyday.rate import SOUNDING_HOURS_A_DAY

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from clap_evaluation.conditions import ConditionMetrics
    from clap_evaluation.confusion import ConfusionRow
    from clap_evaluation.evaluate import Evaluation
    from clap_evaluation.events import EventMetrics, OperatingPoint
    from clap_evaluation.reliability import Promise

_NOTHING = "-"
# A rate is told with two digits, or as a whole number from here on.
_WHOLE_FROM = 10
# Every second threshold, so that a line fits on a screen.
_TOLD = THRESHOLDS[::2]


def as_text(evaluations: Sequence[Evaluation]) -> str:
    """Tables for each model, the most important one first."""
    lines: list[str] = []
    for result in evaluations:
        lines += [f"{result.model}: {result.clips} recordings, {result.duration_s / 60:.1f} minutes"]
        if result.interrupted:
            lines.append("Interrupted: these are the figures of what was finished.")
        for section in (_overview, _limits, _conditions, _psds, _groups, _reliability, _confusion):
            lines += ["", *section(result)]
        if result.problems:
            lines += ["", f"Left out ({len(result.problems)}):", *(f"  {text}" for text in result.problems)]
        lines.append("")
    return "\n".join(line.rstrip() for line in lines)


def as_json(evaluations: Sequence[Evaluation]) -> dict[str, Any]:
    """The same as one JSON object; docs/evaluation.md says what its fields are."""
    found = []
    for evaluation in evaluations:
        entry = asdict(replace(evaluation, results=()))
        del entry["results"]
        for curve in entry["curves"].values():
            for point in curve:
                del point["delays_s"]
        found.append(entry)
    return {"evaluations": found}


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Columns as wide as they must be; the first is flush left, figures are flush right."""
    widths = [max(len(row[column]) for row in (header, *rows)) for column in range(len(header))]
    return [
        "  ".join(
            cell.rjust(width) if column else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in (header, *rows)
    ]


def _figure(value: float | None, digits: int = 3) -> str:
    return _NOTHING if value is None else f"{value:.{digits}f}"


def _found(metrics: EventMetrics) -> str:
    if metrics.recall is None:
        return _NOTHING
    return f"{metrics.hits} of {metrics.events} ({100 * metrics.recall:.0f} %)"


def _rate(metrics: EventMetrics) -> str:
    low, high = metrics.false_alarms_per_hour_low, metrics.false_alarms_per_hour_high
    if metrics.false_alarms_per_hour is None or low is None or high is None:
        return _NOTHING
    return f"{metrics.false_alarms_per_hour:.1f} ({low:.1f} to {high:.1f})"


def _delay(metrics: EventMetrics | ConditionMetrics) -> str:
    if metrics.delay_median_s is None or metrics.delay_p95_s is None:
        return _NOTHING
    return f"{metrics.delay_median_s:.2f} s / {metrics.delay_p95_s:.2f} s"


def _overview(result: Evaluation) -> Iterator[str]:
    header = ("label", "with", "without", "ROC AUC", "AP", "threshold", "found", "false alarms/h", "delay")
    yield from _table(
        header,
        [
            (
                clips.label_id,
                str(clips.positives),
                str(clips.negatives),
                _figure(clips.roc_auc),
                _figure(clips.average_precision),
                f"{events.threshold:.2f}",
                _found(events),
                _rate(events),
                _delay(events),
            )
            for clips, events in zip(result.labels, result.events, strict=True)
        ],
    )
    yield "In brackets: 95 % intervals. Delay from onset to decision: median / 95th percentile."
    hours = max(events.hours for events in result.events)
    if hours * PER_HOUR < 1:
        yield f"Only {60 * hours:.0f} minutes are without the sounds: mind how wide the intervals are."


def _limits(result: Evaluation) -> Iterator[str]:
    yield "The most that is found within a limit of false alarms, and the threshold for it:"
    points = {(point.label_id, point.limit_per_hour): point for point in result.operating_points}
    rows = [
        (metrics.label_id, *(_within(points[metrics.label_id, limit]) for limit in LIMITS_PER_HOUR))
        for metrics in result.labels
    ]
    yield from _table(("label", *(_limit(limit) for limit in LIMITS_PER_HOUR)), rows)
    if result.shared is not None:
        recalls = ", ".join(
            f"{point.label_id} {_figure(point.recall, 2)}"
            for point in result.shared
            if point.recall is not None
        )
        enough = "" if all(point.hours * PER_HOUR >= 1 for point in result.shared) else " *"
        yield f"With one threshold for all, {result.shared[0].threshold:.2f}, at 1 an hour{enough}: {recalls}"
    if not all(point.enough for point in result.operating_points):
        yield "* too little was heard without the sound: this stands for no false alarm at all."


def _limit(per_hour: float) -> str:
    return f"{per_hour:g} an hour" if per_hour * 2 >= 1 else f"{24 * per_hour:g} a day"


def _within(point: OperatingPoint) -> str:
    if point.threshold is None:
        return _NOTHING
    recall = "" if point.recall is None else f"{point.recall:.2f} "
    return f"{recall}at {point.threshold:.2f}{'' if point.enough else ' *'}"


def _conditions(result: Evaluation) -> Iterator[str]:
    if result.conditions_left_out:
        yield f"Noise and distance: left out, {result.conditions_left_out}."
        return
    recalls = {(found.label_id, found.condition): found for found in result.conditions}
    labels = dict.fromkeys(label_id for label_id, _ in recalls)
    yield (
        "Share found over background sounds, by signal-to-noise ratio, and in a room"
        f" ({NEAR_SNR_DB:g} dB at 1 m), by distance:"
    )
    rows = [
        (
            label_id,
            str(recalls[label_id, CONDITIONS[0].name].clips),
            *(_figure(recalls[label_id, condition.name].recall, 2) for condition in CONDITIONS),
            *(_delay(recalls[label_id, condition.name]) for condition in TIMED_CONDITIONS),
        )
        for label_id in labels
    ]
    yield from _table(
        (
            "label",
            "clips",
            *(condition.name for condition in CONDITIONS),
            *(f"delay, {condition.name}" for condition in TIMED_CONDITIONS),
        ),
        rows,
    )


def _psds(result: Evaluation) -> Iterator[str]:
    if result.psds is None:
        yield f"PSDS: left out, {result.psds_left_out.rstrip('.')}."
        return
    names = ", ".join(f"{name.replace('_', ' ')}: {found.score:.3f}" for name, found in result.psds.items())
    yield f"PSDS (DCASE 2021 task 4), {names}"


def _groups(result: Evaluation) -> Iterator[str]:
    if not result.groups:
        yield "By group: no group of the manifest holds one of the labels."
        return
    yield "ROC AUC by group:"
    rows = [
        (
            groups.label_id,
            str(len(groups.roc_auc)),
            _figure(groups.mean),
            _figure(groups.deviation),
            _figure(groups.roc_auc[groups.lowest]),
            groups.lowest,
        )
        for groups in result.groups
    ]
    yield from _table(("label", "groups", "mean", "deviation", "lowest", "which"), rows)


def _reliability(result: Evaluation) -> Iterator[str]:
    yield (
        f"False alarms a day of {SOUNDING_HOURS_A_DAY:g} hours above the gate, promised and counted (in "
        "brackets: 95 % interval; ! where the promise lies outside):"
    )
    found = {(promise.label_id, promise.threshold): promise for promise in result.reliability}
    promised = [_per_day(found[result.labels[0].label_id, t].promised_per_day) for t in _TOLD]
    rows = [("promised", "", *promised)]
    for metrics in result.labels:
        promises = [found[metrics.label_id, threshold] for threshold in _TOLD]
        rows.append((metrics.label_id, f"{promises[0].hours:.2f}", *(_counted(each) for each in promises)))
    yield from _table(("label", "hours", *(f"at {threshold:.2f}" for threshold in _TOLD)), rows)
    if result.everyday:
        yield f"The promises come from: {result.everyday}. Recordings that are among these flatter them."


def _per_day(rate: float) -> str:
    return f"{rate:.0f}" if rate >= _WHOLE_FROM else f"{rate:.2g}"


def _counted(promise: Promise) -> str:
    if promise.per_day is None or promise.per_day_low is None or promise.per_day_high is None:
        return _NOTHING
    sign = "  " if promise.kept else " !"
    low, high = _per_day(promise.per_day_low), _per_day(promise.per_day_high)
    return f"{_per_day(promise.per_day)} ({low} to {high}){sign}"


def _confusion(result: Evaluation) -> Iterator[str]:
    yield "In how many recordings each label fired:"
    labels = [metrics.label_id for metrics in result.labels]
    rows = [
        (
            truth_name(row),
            str(row.recordings),
            *(str(row.fired[label_id]) if row.fired[label_id] else "." for label_id in labels),
            str(row.quiet),
        )
        for row in result.confusion
        if not row.group or row.quiet < row.recordings
    ]
    yield from _table(("what it holds", "recordings", *labels, "none"), rows)


def truth_name(row: ConfusionRow) -> str:
    """What stands before a row of the confusion table."""
    return f"{row.truth} ({row.group})" if row.group else row.truth
