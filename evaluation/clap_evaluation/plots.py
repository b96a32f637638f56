"""Pictures of an evaluation. Needs matplotlib; imported only when pictures are asked for."""

from __future__ import annotations

from math import ceil
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.figure import Figure

from clap_evaluation.conditions import CONDITIONS
from clap_evaluation.events import PER_HOUR
from clap_evaluation.report import truth_name
from clap_server.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from matplotlib.axes import Axes

    from clap_evaluation.evaluate import Evaluation

_DPI = 120
_COLUMNS = 3
_WITH, _WITHOUT, _LIMIT = "#0072b2", "#d55e00", "#666666"
# Below one false alarm in ten hours the axis is linear, so that none has a place on it.
_LINEAR_UP_TO = 0.1
_ANNOTATED_UP_TO = 0.55


def write_plots(result: Evaluation, folder: Path) -> list[Path]:
    """Draw what there is to draw.

    Args:
        result: of one model.
        folder: exists; pictures of the same names are replaced.

    Returns:
        The pictures: recall against false alarms, scores, confusion, delay, reliability, conditions. What
        there is nothing to show of is left out.

    Raises:
        ConfigurationError: a picture cannot be written.
    """
    figures = {
        "recall_false_alarms": _recall_false_alarms(result),
        "scores": _scores(result),
        "confusion": _confusion(result),
        "delay": _delay(result),
        "reliability": _reliability(result),
        "conditions": _conditions(result),
    }
    written = []
    for name, figure in figures.items():
        if figure is None:
            continue
        path = folder / f"{name}.png"
        try:
            figure.savefig(path, dpi=_DPI)
        except OSError as error:
            raise ConfigurationError(f"The picture {path} cannot be written: {error.strerror}.") from error
        written.append(path)
    return written


def _grid(label_ids: Sequence[str], title: str, *, height: float = 2.8) -> tuple[Figure, Iterator[Axes]]:
    """A figure with axes for each label."""
    columns = min(_COLUMNS, len(label_ids))
    rows = ceil(len(label_ids) / columns)
    figure = Figure(figsize=(max(5.0, 3.6 * columns), 0.8 + height * rows), layout="constrained")
    figure.suptitle(title)
    all_axes = figure.subplots(rows, columns, squeeze=False).ravel()
    for axes in all_axes[len(label_ids) :]:
        axes.set_visible(False)
    for axes, label_id in zip(all_axes, label_ids, strict=False):
        axes.set_title(label_id, fontsize="medium")
        axes.grid(alpha=0.3)
    return figure, iter(all_axes)


def _recall_false_alarms(result: Evaluation) -> Figure | None:
    curves = {
        label_id: points
        for label_id, points in result.curves.items()
        if points[0].recall is not None and points[0].false_alarms_per_hour is not None
    }
    if not curves:
        return None
    figure, all_axes = _grid(list(curves), f"{result.model}: share found and false alarms, by threshold")
    own = {metrics.label_id: metrics for metrics in result.events}
    for label_id, points in curves.items():
        axes = next(all_axes)
        rates = [point.false_alarms_per_hour or 0.0 for point in points]
        axes.plot(rates, [point.recall or 0.0 for point in points], "o-", color=_WITH, markersize=3)
        point = own[label_id]
        axes.plot(
            [point.false_alarms_per_hour or 0.0],
            [point.recall or 0.0],
            "D",
            color=_WITHOUT,
            label=f"at its threshold, {point.threshold:g}",
        )
        axes.axvline(PER_HOUR, color=_LIMIT, linestyle=":", label="1 an hour")
        axes.set_xscale("symlog", linthresh=_LINEAR_UP_TO)
        axes.set_xlim(left=-_LINEAR_UP_TO / 5, right=max(10.0, 2 * max(rates)))
        axes.set_ylim(-0.03, 1.03)
        axes.set_xlabel("false alarms an hour")
        axes.set_ylabel("share of events found")
        axes.legend(fontsize="x-small", loc="lower right")
    return figure


def _scores(result: Evaluation) -> Figure:
    figure, all_axes = _grid(
        [metrics.label_id for metrics in result.labels], f"{result.model}: highest score of each recording"
    )
    bins = np.linspace(0, 1, 21).tolist()
    for metrics in result.labels:
        axes = next(all_axes)
        best = np.array([r.windows.column(metrics.label_id).max() for r in result.results])
        present = np.array([metrics.label_id in r.label_ids for r in result.results])
        for kind, color, name in ((present, _WITH, "with"), (~present, _WITHOUT, "without")):
            if kind.any():
                axes.hist(
                    best[kind],
                    bins,
                    weights=np.full(int(kind.sum()), 1 / kind.sum()),
                    color=color,
                    alpha=0.6,
                    label=f"{name} it ({int(kind.sum())})",
                )
        axes.axvline(metrics.threshold, color=_LIMIT, linestyle=":", label=f"threshold {metrics.threshold:g}")
        auc = "" if metrics.roc_auc is None else f", ROC AUC {metrics.roc_auc:.3f}"
        axes.set_title(f"{metrics.label_id}{auc}", fontsize="medium")
        axes.set_xlabel("score")
        axes.set_ylabel("share of recordings")
        axes.legend(fontsize="x-small", loc="center")
    return figure


def _confusion(result: Evaluation) -> Figure:
    rows = [row for row in result.confusion if not row.group]
    labels = [metrics.label_id for metrics in result.labels]
    shares = np.array(
        [
            [*(row.fired[label_id] / row.recordings for label_id in labels), row.quiet / row.recordings]
            for row in rows
        ]
    )
    figure = Figure(figsize=(3.5 + 0.8 * len(labels), 2.2 + 0.45 * len(rows)), layout="constrained")
    axes = figure.subplots()
    image = axes.imshow(shares, cmap="Blues", vmin=0, vmax=1, aspect="auto")
    axes.set_xticks(range(len(labels) + 1), [*labels, "none"], rotation=40, ha="right")
    axes.set_yticks(range(len(rows)), [f"{truth_name(row)} ({row.recordings})" for row in rows])
    for (row, column), share in np.ndenumerate(shares):
        if share > 0:
            color = "white" if share > _ANNOTATED_UP_TO else "black"
            axes.text(
                column, row, f"{100 * share:.0f}", ha="center", va="center", color=color, fontsize="small"
            )
    axes.set_xlabel("what fired")
    axes.set_ylabel("what the recordings hold")
    axes.set_title(f"{result.model}: % of recordings in which a label fired", fontsize="medium")
    figure.colorbar(image, ax=axes, label="share")
    return figure


def _delay(result: Evaluation) -> Figure | None:
    timed = [metrics for metrics in result.events if metrics.delays_s]
    if not timed:
        return None
    figure = Figure(figsize=(6.5, 4.2), layout="constrained")
    axes = figure.subplots()
    for metrics in timed:
        delays = np.sort(metrics.delays_s)
        shares = np.arange(1, len(delays) + 1) / len(delays)
        # From nothing, so that a single delay is a step too.
        axes.step(
            np.concatenate(([delays[0]], delays)),
            np.concatenate(([0.0], shares)),
            where="post",
            label=f"{metrics.label_id} ({len(delays)})",
        )
    axes.axhline(0.95, color=_LIMIT, linestyle=":", label="95 %")
    axes.set_xlim(left=0)
    axes.set_ylim(0, 1.03)
    axes.grid(alpha=0.3)
    axes.set_xlabel("seconds from the onset to the decision")
    axes.set_ylabel("share of the events found")
    axes.set_title(f"{result.model}: how soon events are found", fontsize="medium")
    axes.legend(fontsize="small")
    return figure


def _reliability(result: Evaluation) -> Figure | None:
    heard = [promise for promise in result.reliability if promise.per_day is not None]
    if not heard:
        return None
    figure, all_axes = _grid(
        list(dict.fromkeys(promise.label_id for promise in heard)),
        f"{result.model}: false alarms a day, promised and counted",
        height=3.2,
    )
    promised = [promise.promised_per_day for promise in heard]
    ends = [min(promised) / 2, 2 * max(promised)]
    for label_id in dict.fromkeys(promise.label_id for promise in heard):
        axes = next(all_axes)
        points = [promise for promise in heard if promise.label_id == label_id]
        axes.plot(ends, ends, color=_LIMIT, linestyle=":", label="as promised")
        counted = np.array([point.per_day or np.nan for point in points])
        lows = np.array([point.per_day_low or 0.0 for point in points])
        highs = np.array([point.per_day_high or 0.0 for point in points])
        axes.vlines(
            [point.promised_per_day for point in points],
            np.maximum(lows, ends[0] / 10),
            highs,
            colors=[_WITH if point.kept else _WITHOUT for point in points],
            alpha=0.6,
        )
        axes.plot(
            [point.promised_per_day for point in points], counted, "o", color="black", markersize=4,
            label=f"counted in {points[0].hours:.1f} hours",
        )  # fmt: skip
        axes.set_xscale("log")
        axes.set_yscale("log")
        axes.set_xlim(*ends)
        axes.set_ylim(bottom=ends[0] / 10)
        axes.set_xlabel("promised a day")
        axes.set_ylabel("counted a day, 95 %")
        axes.legend(fontsize="x-small", loc="upper left")
    return figure


def _conditions(result: Evaluation) -> Figure | None:
    if not result.conditions:
        return None
    labels = list(dict.fromkeys(found.label_id for found in result.conditions))
    figure, all_axes = _grid(labels, f"{result.model}: share found over background sounds and from afar")
    names = [condition.name for condition in CONDITIONS]
    for label_id in labels:
        axes = next(all_axes)
        found = {entry.condition: entry for entry in result.conditions if entry.label_id == label_id}
        recalls = np.array([found[name].recall or 0.0 for name in names])
        lows = np.array([found[name].recall_low or 0.0 for name in names])
        highs = np.array([found[name].recall_high or 0.0 for name in names])
        colors = [
            _LIMIT if c.name == CONDITIONS[0].name else _WITH if c.distance_m is None else _WITHOUT
            for c in CONDITIONS
        ]
        axes.bar(names, recalls, color=colors, alpha=0.8)
        axes.errorbar(names, recalls, [recalls - lows, highs - recalls], fmt="none", color="black", capsize=3)
        axes.set_title(f"{label_id} ({found[names[0]].clips})", fontsize="medium")
        axes.set_ylim(0, 1.03)
        axes.set_ylabel("share found")
        axes.tick_params(axis="x", labelrotation=40)
    return figure
