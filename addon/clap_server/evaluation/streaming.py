"""Plays recordings through the same windows as live sound, faster than real time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from clap_server.audio.ring import RingBuffer
from clap_server.detection.windows import WindowCutter

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from clap_server.clap.model import ClapModel
    from clap_server.detection.scoring import LabelScorer

_BLOCK_S = 0.1
_WINDOWS_AT_ONCE = 64


@dataclass(frozen=True, slots=True)
class WindowScores:
    """The scores of a recording.

    Attributes:
        starts_s: ``(w,)`` start of each window in seconds.
        ends_s: ``(w,)`` end of each window.
        scores: ``(w, labels)`` in 0..1.
    """

    starts_s: NDArray[np.float64]
    ends_s: NDArray[np.float64]
    scores: NDArray[np.float32]

    @property
    def best(self) -> NDArray[np.float32]:
        """``(labels,)`` the highest score of each label."""
        return np.asarray(self.scores.max(axis=0), np.float32)


def score_recording(
    model: ClapModel, scorer: LabelScorer, samples: NDArray[np.float32], *, hop_s: float
) -> WindowScores:
    """Score a recording as if it were live; one more window ends where the recording ends.

    Args:
        model: embeds.
        scorer: of the same model.
        samples: ``(n,)`` mono at the model's rate.
        hop_s: seconds between windows.
    """
    rate = model.sample_rate
    ring = RingBuffer(rate, model.window_s + 2 * _BLOCK_S)
    cutter = WindowCutter(ring, window_s=model.window_s, hop_s=hop_s)
    block = round(_BLOCK_S * rate)
    starts: list[float] = []
    ends: list[float] = []
    scores: list[NDArray[np.float32]] = []
    pending: list[NDArray[np.float32]] = []
    for first in range(0, len(samples), block):
        ring.append(samples[first : first + block])
        for window in cutter.advance():
            starts.append(window.start_s)
            ends.append(window.end_s)
            pending.append(window.samples)
        if len(pending) >= _WINDOWS_AT_ONCE:
            scores.append(scorer.scores(model.embed_audio(pending)))
            pending = []
    length_s = len(samples) / rate
    if not ends or ends[-1] < length_s:
        pending.append(samples[-round(model.window_s * rate) :])
        starts.append(max(0.0, length_s - model.window_s))
        ends.append(length_s)
    if pending:
        scores.append(scorer.scores(model.embed_audio(pending)))
    return WindowScores(np.asarray(starts), np.asarray(ends), np.concatenate(scores))
