"""What the rules of live sound make of many windows at once: the highest threshold that each could pass.

An impulsive sound is decided by one window, so a window's evidence is its own margin. A sustained one must
last: its evidence is the highest value that enough of the windows up to this one reach (an order statistic),
so ``evidence >= threshold`` exactly where ``SustainedRule`` starts an event.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from clap_server.detection.labels import LabelKind
from clap_server.detection.temporal import TOLERANCE_S, confirm_s, span_s

if TYPE_CHECKING:
    from numpy.typing import NDArray


def evidence(
    margins: NDArray[np.float64],
    ends_s: NDArray[np.float64],
    recordings: NDArray[np.intp],
    kind: LabelKind,
    *,
    hop_s: float,
) -> NDArray[np.float64]:
    """Turn each window's value into the highest threshold with which an event could start there.

    Args:
        margins: ``(n,)``, or scores: any scale on which higher means surer.
        ends_s: ``(n,)`` ends of the windows, seconds, rising within a recording.
        recordings: ``(n,)`` number of the recording that each window is of; equal ones are neighbours.
        kind: decides by which rule.
        hop_s: seconds between regular windows.

    Returns:
        ``(n,)``, at most the margins; minus infinity where not enough was heard yet.
    """
    if kind is LabelKind.IMPULSIVE or not len(margins):
        return margins
    since = np.diff(ends_s, prepend=ends_s[0] - hop_s)
    first = np.diff(recordings, prepend=recordings[0] - 1) != 0
    parts = np.where(first, hop_s, np.minimum(since, hop_s))
    lags = _most_windows(ends_s, recordings, span_s(hop_s))
    values = np.full((len(margins), lags), -np.inf)
    weights = np.zeros((len(margins), lags))
    for lag in range(lags):
        later, earlier = slice(lag, None), slice(None, len(margins) - lag)
        near = (recordings[later] == recordings[earlier]) & (ends_s[later] - ends_s[earlier] < span_s(hop_s))
        values[later, lag] = np.where(near, margins[earlier], -np.inf)
        weights[later, lag] = np.where(near, parts[earlier], 0.0)
    order = np.argsort(-values, axis=1, kind="stable")
    heard = np.cumsum(np.take_along_axis(weights, order, axis=1), axis=1)
    enough = heard >= confirm_s(hop_s) - TOLERANCE_S
    place = np.take_along_axis(order, enough.argmax(axis=1)[:, None], axis=1)
    reached = np.where(enough.any(axis=1), np.take_along_axis(values, place, axis=1)[:, 0], -np.inf)
    return np.asarray(np.minimum(reached, margins))


def _most_windows(ends_s: NDArray[np.float64], recordings: NDArray[np.intp], within_s: float) -> int:
    """How many windows of a recording end within a span at most."""
    lag = 1
    while lag < len(ends_s) and np.any(
        (recordings[lag:] == recordings[:-lag]) & (ends_s[lag:] - ends_s[:-lag] < within_s)
    ):
        lag += 1
    return lag


def maxima(
    values: NDArray[np.float64],
    ends_s: NDArray[np.float64],
    recordings: NDArray[np.intp],
    *,
    block_s: float,
) -> NDArray[np.float64]:
    """Decluster: the highest value of each ``block_s`` of each recording.

    Returns:
        ``(blocks,)``, of those in which a window ends.
    """
    blocks = np.stack([recordings, np.floor(ends_s / block_s).astype(np.intp)])
    starts = np.flatnonzero(np.any(np.diff(blocks, axis=1, prepend=-1) != 0, axis=0))
    return np.asarray(np.maximum.reduceat(values, starts)) if len(values) else values
