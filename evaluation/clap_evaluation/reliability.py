"""Whether a score of 0.7 means what it says.

As in calibration, windows without the label's sound weigh ``NEGATIVES_PER_POSITIVE`` times as much as windows
with it, however many there are, and within each kind every recording weighs the same, so that a long one does
not outweigh all.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from clap_evaluation.events import COLLAR_S
from clap_server.detection.calibration.fit import NEGATIVES_PER_POSITIVE

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from clap_evaluation.scored import ScoredRecording

BINS = 10
# As much of an event must be in a window that counts as one with it.
_INSIDE_S = 0.2


@dataclass(frozen=True, slots=True)
class ReliabilityBin:
    """Windows with nearly the same score.

    Attributes:
        low: lower limit of the score.
        high: upper limit; only that of the last bin belongs to it.
        windows: how many.
        weight: their share of all weight.
        score: mean of theirs.
        frequency: share of their weight in which the label is heard.
    """

    low: float
    high: float
    windows: int
    weight: float
    score: float
    frequency: float


@dataclass(frozen=True, slots=True)
class Reliability:
    """How well a score predicts.

    Attributes:
        label_id: whose; None for all labels together.
        bins: those that hold a window, by score.
        expected_calibration_error: mean distance of score and frequency over the bins, by their weight
            (Naeini, Cooper and Hauskrecht, 2015).
    """

    label_id: str | None
    bins: tuple[ReliabilityBin, ...]
    expected_calibration_error: float


@dataclass(frozen=True, slots=True)
class _Judged:
    """Scores ``(n,)`` of a label, whether it is heard, and what each weighs; the weights sum to 1."""

    scores: NDArray[np.float64]
    present: NDArray[np.bool_]
    weights: NDArray[np.float64]


def reliability(results: Sequence[ScoredRecording], label_ids: Sequence[str]) -> tuple[Reliability, ...]:
    """Compare scores with how often they were right.

    Windows with at least 0.2 s of an event count as with the label, windows further than ``COLLAR_S`` from
    any as without. Of a recording that holds the label at times that are not told, the window with the
    highest score counts and no other.

    Args:
        results: scored recordings.
        label_ids: to judge.

    Returns:
        All labels together first, then each; a label that is never heard, or always, is left out. Empty if
        no label is left.
    """
    judged = {label_id: _judge(results, label_id) for label_id in label_ids}
    usable = {label_id: parts for label_id, parts in judged.items() if parts is not None}
    if not usable:
        return ()
    together = _Judged(
        np.concatenate([parts.scores for parts in usable.values()]),
        np.concatenate([parts.present for parts in usable.values()]),
        np.concatenate([parts.weights for parts in usable.values()]) / len(usable),
    )
    return (
        _binned(None, together),
        *(_binned(label_id, parts) for label_id, parts in usable.items()),
    )


def _judge(results: Sequence[ScoredRecording], label_id: str) -> _Judged | None:
    scores: list[NDArray[np.float64]] = []
    present: list[bool] = []
    shares: list[NDArray[np.float64]] = []
    for result in results:
        column = result.windows.column(label_id).astype(np.float64)
        heard, free = _kinds(result, label_id, column)
        for windows, is_heard in ((heard, True), (free, False)):
            count = int(windows.sum())
            if count:
                scores.append(column[windows])
                present += [is_heard] * count
                shares.append(np.full(count, 1 / count))
    if True not in present or False not in present:
        return None
    truth, weights = np.asarray(present), np.concatenate(shares)
    weights[truth] /= (1 + NEGATIVES_PER_POSITIVE) * weights[truth].sum()
    weights[~truth] *= NEGATIVES_PER_POSITIVE / (1 + NEGATIVES_PER_POSITIVE) / weights[~truth].sum()
    return _Judged(np.concatenate(scores), truth, weights)


def _kinds(
    result: ScoredRecording, label_id: str, column: NDArray[np.float64]
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Which windows of a recording are with a label, and which without; some are neither."""
    windows = result.windows
    rows = [occurrence for occurrence in result.occurrences if occurrence.label_id == label_id]
    if any(row.onset_s is None for row in rows):
        best = np.zeros(len(column), bool)
        best[column.argmax()] = True
        return best, np.zeros(len(column), bool)
    heard = np.zeros(len(column), bool)
    free = np.ones(len(column), bool)
    for event in result.events(label_id):
        shared = np.minimum(windows.ends_s, event.offset_s) - np.maximum(windows.starts_s, event.onset_s)
        heard |= shared >= min(_INSIDE_S, event.offset_s - event.onset_s)
        free &= (windows.ends_s <= event.onset_s - COLLAR_S) | (windows.starts_s >= event.offset_s + COLLAR_S)
    return heard, free & ~heard


def _binned(label_id: str | None, judged: _Judged) -> Reliability:
    number = np.minimum((judged.scores * BINS).astype(int), BINS - 1)
    bins = []
    for index in range(BINS):
        inside = number == index
        weight = float(judged.weights[inside].sum())
        if not inside.any():
            continue
        bins.append(
            ReliabilityBin(
                index / BINS,
                (index + 1) / BINS,
                int(inside.sum()),
                weight,
                float(judged.weights[inside] @ judged.scores[inside]) / weight,
                float(judged.weights[inside] @ judged.present[inside]) / weight,
            )
        )
    error = sum(part.weight * abs(part.score - part.frequency) for part in bins)
    return Reliability(label_id, tuple(bins), error)
