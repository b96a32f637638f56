"""Scored recordings made by hand, so that what must come out is known."""

from __future__ import annotations

import numpy as np

from clap_evaluation.manifest import Occurrence
from clap_evaluation.scored import ScoredRecording
from clap_evaluation.streaming import WindowScores
from clap_server.detection.labels import Label, LabelKind
from clap_server.detection.windows import PIECE_S

GLASS = Label("glass", {"en": "Glass"}, ("glass",), kind=LabelKind.IMPULSIVE, threshold=0.7)
ALARM = Label("alarm", {"en": "Alarm"}, ("alarm",), kind=LabelKind.SUSTAINED, threshold=0.5)
WINDOW_S = 2.0
HOP_S = 0.5
LEVEL_DBFS = -60.0


def windows(
    duration_s: float,
    peaks: dict[str, list[tuple[float, float, float]]],
    *,
    noise_dbfs: float | None = None,
) -> WindowScores:
    """Windows each half second; labels score as told (from, to, score) where windows end, else 0.

    All have a level of -60 dBFS, over nothing or over noise.
    """
    ends = np.arange(1, int(duration_s / HOP_S) + 1) * HOP_S
    labels = ("glass", "alarm")
    scores = np.zeros((len(ends), 2), np.float32)
    for label, spans in peaks.items():
        for start, end, score in spans:
            scores[(ends >= start) & (ends <= end), labels.index(label)] = score
    pieces = (ends / PIECE_S).round().astype(np.intp)
    admitted = np.ones(len(ends), bool)
    if noise_dbfs is None:
        pieces[:] = 0
    else:
        # From where the floor, which rises by 2 dB a second, is within 6 dB of the windows.
        admitted[ends > (LEVEL_DBFS - 6.0 + 70.0) / 2] = noise_dbfs + 6.0 < LEVEL_DBFS
    return WindowScores(
        labels,
        np.maximum(0, ends - WINDOW_S),
        ends,
        scores,
        np.full(len(ends), LEVEL_DBFS),
        np.full(len(ends), np.nan),
        pieces,
        np.full(pieces.max(), noise_dbfs or 0.0),
        admitted,
        HOP_S,
        WINDOW_S,
    )


def recording(
    duration_s: float,
    peaks: dict[str, list[tuple[float, float, float]]],
    *events: tuple[str | None, float | None, float | None],
    first_onset_s: float | None = None,
    group: str = "",
    name: str = "x.wav",
) -> ScoredRecording:
    rows = tuple(Occurrence(2, label, onset, offset, group) for label, onset, offset in events)
    return ScoredRecording(name, rows, duration_s, windows(duration_s, peaks), first_onset_s)
