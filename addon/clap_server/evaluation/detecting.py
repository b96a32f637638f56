"""Runs the live detector over windows that were scored once, so that thresholds are cheap to try."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from clap_server.detection.detector import Detection, Detector
from clap_server.detection.gate import NoiseGate
from clap_server.detection.windows import Window
from clap_server.evaluation.streaming import PIECE_S

if TYPE_CHECKING:
    from collections.abc import Sequence

    from clap_server.detection.labels import WatchedLabel
    from clap_server.evaluation.streaming import WindowScores

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
    gate = NoiseGate()
    taken = 0
    found: list[Detection] = []
    for index, row in enumerate(scores.tolist()):
        reporting = bool(detector.active)
        for level in windows.piece_levels_dbfs[taken : windows.pieces[index]]:
            gate.update(float(level), PIECE_S, reporting=reporting)
        taken = int(windows.pieces[index])
        onset_s = float(windows.onsets_s[index])
        window = Window(
            float(windows.starts_s[index]),
            float(windows.ends_s[index]),
            _NOTHING,
            float(windows.levels_dbfs[index]),
            None if np.isnan(onset_s) else onset_s,
        )
        admitted = gate.admits(window, reporting=reporting)
        found += detector.update(window, dict(zip(ids, row, strict=True)) if admitted else {})
    found += detector.finish()
    return [detection for detection in found if detection.ended_s is not None]
