"""Runs the live detector over windows that were scored once, so that thresholds are cheap to try."""

from __future__ import annotations

from typing import TYPE_CHECKING

from clap_server.detection.detector import Detection, Detector
from clap_server.detection.recording import judge

if TYPE_CHECKING:
    from collections.abc import Sequence

    from clap_evaluation.streaming import WindowScores
    from clap_server.detection.labels import WatchedLabel


def detect(windows: WindowScores, labels: Sequence[WatchedLabel]) -> list[Detection]:
    """What the detector would have reported, by the order of their ends.

    Gate and detector work as in live listening; only the model was asked about all windows, also about those
    that the gate keeps from it.

    Args:
        windows: of a recording.
        labels: with distinct ids, all of them scored.

    Raises:
        ValueError: a label was not scored.
        LabelError: a threshold makes detection impossible.
    """
    columns = [windows.label_ids.index(watched.label.id) for watched in labels]
    scores = windows.scores[:, columns].astype(float)
    detector = Detector(labels, hop_s=windows.hop_s)
    # No rule starts an event without one window at its threshold.
    if not windows.patterns and not (scores.max(axis=0) >= [w.threshold for w in labels]).any():
        return []
    ids = [watched.label.id for watched in labels]
    rows = [dict(zip(ids, row, strict=True)) for row in scores.tolist()]
    seen = windows.windows()
    # Nearly all recordings report nothing at most thresholds; then the gate is the same for each of these.
    for window, row, admitted in zip(seen, rows, windows.admitted.tolist(), strict=True):
        detector.update(window, row if admitted else {})
        if detector.active:
            break
    else:
        if not windows.patterns:
            return []
    detector = Detector(labels, hop_s=windows.hop_s)
    judged = judge(seen, rows, detector, windows.patterns)
    found = [detection for judgement in judged for detection in judgement.detections]
    return [detection for detection in [*found, *detector.finish()] if detection.ended_s is not None]
