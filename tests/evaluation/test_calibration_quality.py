"""What scores are said to be worth."""

from __future__ import annotations

import numpy as np
import pytest

from clap_evaluation.calibration.quality import calibration_quality
from clap_server.clap.model import Calibration
from clap_server.detection.calibration.fit import JudgedMargins
from clap_server.detection.scoring import sigmoid


def drawn(scale: float, bias: float, count: int = 40_000) -> JudgedMargins:
    """Margins and outcomes of a model whose true curve is known."""
    rng = np.random.default_rng(5)
    margins = rng.uniform(-0.4, 0.4, count)
    return JudgedMargins(margins, rng.random(count) < sigmoid(scale * margins + bias), np.ones(count))


def test_the_true_curve_has_no_calibration_error_and_the_least_loss() -> None:
    judged = drawn(10.0, -1.0)
    true = calibration_quality(judged, Calibration(10.0, -1.0))
    assert true.calibration_error == pytest.approx(0.0, abs=0.01)
    for other in (Calibration(30.0, -1.0), Calibration(10.0, 2.0), Calibration(2.0, 0.0)):
        worse = calibration_quality(judged, other)
        assert worse.calibration_error > 0.04
        assert worse.log_loss > true.log_loss + 0.02


def test_figures_of_a_case_that_can_be_reckoned_by_hand() -> None:
    # Scores 0.8, 0.6, 0.6 and 0.2; the second is wrong and counts three times.
    scores = np.array([0.8, 0.6, 0.6, 0.2])
    judged = JudgedMargins(
        np.log(scores / (1 - scores)), np.array([True, False, True, False]), np.array([1.0, 3.0, 1.0, 1.0])
    )
    found = calibration_quality(judged, Calibration(1.0, 0.0))
    losses = -np.log([0.8, 0.4, 0.6, 0.8])
    assert found.log_loss == pytest.approx(losses @ [1, 3, 1, 1] / 6)
    assert found.calibration_error == pytest.approx((0.2 + abs(4 * 0.6 - 1) + 0.2) / 6)
    half, strict = found.readings
    assert (half.threshold, strict.threshold) == (0.5, 0.7)
    assert half.reached_with == pytest.approx(1.0)
    assert half.reached_without == pytest.approx(3 / 4)
    assert half.right == pytest.approx(2 / 5)
    assert (strict.reached_with, strict.reached_without, strict.right) == pytest.approx((0.5, 0.0, 1.0))


def test_a_threshold_that_nothing_reaches_has_no_share_of_right_ones() -> None:
    judged = JudgedMargins(np.array([-1.0, -2.0]), np.array([True, False]), np.ones(2))
    assert [reading.right for reading in calibration_quality(judged, Calibration(5.0, 0.0)).readings] == [
        None,
        None,
    ]


def test_a_score_of_one_is_counted() -> None:
    judged = JudgedMargins(np.array([9.0, -9.0]), np.array([True, False]), np.ones(2))
    assert calibration_quality(judged, Calibration(100.0, 0.0)).calibration_error == pytest.approx(0.0)
