"""Runs the live detector over windows that were scored once, so that thresholds are cheap to try."""

from __future__ import annotations

from math import isnan
from typing import TYPE_CHECKING

import numpy as np

from clap_evaluation.streaming import PIECE_S
from clap_server.detection.detector import Detection, Detector
from clap_server.detection.gate import NoiseGate
from clap_server.detection.windows import Window

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from clap_evaluation.streaming import WindowScores
    from clap_server.detection.labels import WatchedLabel

_NOTHING = np.empty(0, np.float32)
# No rule starts an event below this part of its threshold.
_LEAST_RATIO = 0.5


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
    if not (scores.max(axis=0) >= [_LEAST_RATIO * watched.threshold for watched in labels]).any():
        return []
    ids = [watched.label.id for watched in labels]
    rows = [dict(zip(ids, row, strict=True)) for row in scores.tolist()]
    seen = _windows(windows)
    # Nearly all recordings report nothing at most thresholds; then the gate is the same for each of these.
    for window, row, admitted in zip(seen, rows, windows.admitted.tolist(), strict=True):
        detector.update(window, row if admitted else {})
        if detector.active:
            return _detect_with_gate(windows, seen, rows, Detector(labels, hop_s=windows.hop_s))
    return []


def _windows(windows: WindowScores) -> list[Window]:
    columns = (windows.starts_s, windows.ends_s, windows.levels_dbfs, windows.onsets_s)
    return [
        Window(start_s, end_s, _NOTHING, level_dbfs, None if isnan(onset_s) else onset_s)
        for start_s, end_s, level_dbfs, onset_s in zip(*(column.tolist() for column in columns), strict=True)
    ]


def _detect_with_gate(
    windows: WindowScores, seen: Sequence[Window], rows: Sequence[Mapping[str, float]], detector: Detector
) -> list[Detection]:
    """Run gate and detector together, as the gate heeds what is being reported."""
    gate = NoiseGate()
    levels = windows.piece_levels_dbfs.tolist()
    taken = 0
    found: list[Detection] = []
    for window, row, pieces in zip(seen, rows, windows.pieces.tolist(), strict=True):
        reporting = bool(detector.active)
        for level in levels[taken:pieces]:
            gate.update(level, PIECE_S, reporting=reporting)
        taken = pieces
        found += detector.update(window, row if gate.admits(window, reporting=reporting) else {})
    found += detector.finish()
    return [detection for detection in found if detection.ended_s is not None]
