"""Says what scores are worth under a calibration."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from clap_server.detection.scoring import sigmoid

if TYPE_CHECKING:
    from clap_server.clap.model import Calibration
    from clap_server.detection.calibration.fit import JudgedMargins

THRESHOLDS = (0.5, 0.7)
_BINS = 10


@dataclass(frozen=True, slots=True)
class Reading:
    """What it means that a score reaches a threshold.

    Attributes:
        threshold: 0 to 1.
        reached_with: share of the windows with the sound that reach it.
        reached_without: share of the windows without it that do.
        right: share of right ones among all that reach it, by weight; None if none does.
    """

    threshold: float
    reached_with: float
    reached_without: float
    right: float | None


@dataclass(frozen=True, slots=True)
class CalibrationQuality:
    """How well scores agree with what was heard.

    Attributes:
        log_loss: mean of ``-ln`` of the score that was given to the truth.
        calibration_error: expected calibration error (Naeini et al., 2015) over ten equal bins: how far a
            score is from the share of right ones among windows with such a score, on average.
        readings: at 0.5 and 0.7, the default thresholds.
    """

    log_loss: float
    calibration_error: float
    readings: tuple[Reading, ...]


def calibration_quality(judged: JudgedMargins, calibration: Calibration) -> CalibrationQuality:
    """Compare scores with the truth, each margin with its weight.

    Args:
        judged: with at least one positive and one negative.
        calibration: turns margins into scores.
    """
    logits = calibration.scale * judged.margins + calibration.bias
    scores = sigmoid(logits)
    weights = judged.weights / judged.weights.sum()
    loss = weights @ np.logaddexp(0.0, np.where(judged.targets, -logits, logits))
    bins = np.minimum((scores * _BINS).astype(int), _BINS - 1)
    # In each bin: weight x |mean score - share of right ones|.
    gaps = np.bincount(bins, weights * (scores - judged.targets), minlength=_BINS)
    readings = []
    for threshold in THRESHOLDS:
        reached = weights * (scores >= threshold)
        with_sound, without = reached[judged.targets].sum(), reached[~judged.targets].sum()
        total = with_sound + without
        readings.append(
            Reading(
                threshold,
                float(with_sound / weights[judged.targets].sum()),
                float(without / weights[~judged.targets].sum()),
                float(with_sound / total) if total > 0 else None,
            )
        )
    return CalibrationQuality(float(loss), float(np.abs(gaps).sum()), tuple(readings))
