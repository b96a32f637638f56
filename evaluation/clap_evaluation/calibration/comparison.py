"""Says what a user's own recordings change: what was promised, what is now, and what they hold."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from clap_evaluation.events import event_metrics
from clap_evaluation.reliability import Promise, reliability
from clap_server.detection.everyday.rate import SCORE_OF_ONE_A_DAY

if TYPE_CHECKING:
    from collections.abc import Sequence

    from clap_evaluation.events import EventMetrics
    from clap_evaluation.scored import ScoredRecording
    from clap_server.clap.everyday import EverydayBank
    from clap_server.detection.everyday.scale import ScoreScale
    from clap_server.detection.labels import Label


@dataclass(frozen=True, slots=True)
class Comparison:
    """One label's default threshold on a user's recordings, before and after a calibration.

    Attributes:
        before: what it promised, and what it lets through in these recordings.
        after: the same with the new scale; these recordings are in its bank and flatter it.
        now_promised_per_day: what the new scale says of the sounds that the old one let through.
        one_a_day: the old score from which on the new scale promises one false alarm a day or less.
        events: of the label in the recordings.
        found_before: of them, at the default threshold.
        found_after: the same with the new scale.
    """

    before: Promise
    after: Promise
    now_promised_per_day: float
    one_a_day: float
    events: int
    found_before: int
    found_after: int


def compare(
    label: Label,
    scales: tuple[ScoreScale, ScoreScale],
    results: Sequence[ScoredRecording],
    bank: EverydayBank,
) -> Comparison:
    """Run the detector over the recordings with a label's scores before and after.

    Args:
        label: with its default threshold.
        scales: of the label, before and after.
        results: the recordings, with margins in the place of scores (see ``hear_own``).
        bank: of the same recordings.
    """
    before, after = scales
    # What overlaps in meaning is neither a false alarm nor an event.
    judged = [
        result
        for result, piece in zip(results, bank.pieces, strict=True)
        if label.id in result.label_ids or label.id not in piece.holds
    ]
    promises: list[Promise] = []
    metrics: list[EventMetrics] = []
    for scale in scales:
        scored = [_scored(result, label, scale) for result in judged]
        promises += reliability(scored, [label], [label.threshold])
        metrics += event_metrics(scored, [label])
    margin = np.array([before.margin(label.threshold)])
    one_a_day = np.array([after.margin(SCORE_OF_ONE_A_DAY)])
    return Comparison(
        promises[0],
        promises[1],
        float(after.per_day(margin)[0]),
        float(before.scores(one_a_day)[0]),
        metrics[0].events,
        metrics[0].hits,
        metrics[1].hits,
    )


def _scored(result: ScoredRecording, label: Label, scale: ScoreScale) -> ScoredRecording:
    margins = result.windows.column(label.id).astype(np.float64)
    scores = scale.scores(margins)[:, None].astype(np.float32)
    return replace(result, windows=replace(result.windows, label_ids=(label.id,), scores=scores))
