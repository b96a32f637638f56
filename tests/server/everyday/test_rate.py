"""What a number between 0 and 1 promises."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from clap_server.detection.everyday.rate import rate_of_score, score_of_rate


@pytest.mark.parametrize(
    ("score", "per_day"), [(0.7, 1), (0.5, 26.8), (0.9, 1 / 26.8), (0.56, 10), (0.84, 0.1)]
)
def test_the_marks_of_the_scale(score: float, per_day: float) -> None:
    assert rate_of_score(score) == pytest.approx(per_day, rel=0.01)
    assert score_of_rate(np.array([per_day]))[0] == pytest.approx(score, abs=0.001)


def test_half_is_about_one_an_hour() -> None:
    assert rate_of_score(0.5) / 24 == pytest.approx(1.1, abs=0.05)


def test_what_never_happens_has_the_highest_score_and_what_always_does_the_lowest() -> None:
    assert score_of_rate(np.array([0.0, np.inf])).tolist() == [1.0, 0.0]


@given(st.floats(0.02, 0.98))
def test_a_score_says_its_own_rate(score: float) -> None:
    assert score_of_rate(np.array([rate_of_score(score)]))[0] == pytest.approx(score)
